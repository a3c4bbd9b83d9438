"""Where public keys come from: given once, or fetched from a gateway's key document and kept fresh.

A fetched document is believed for ``max_age_seconds``; after that it is fetched again while the old one still serves, and
after ``stale_max_seconds`` without success nothing is believed any more: a backend that cannot learn that a key was retired
must not go on honouring it. A token under a key number that is not known makes it look once more, at most every
``min_interval_seconds``, so that a rotation is felt at once and a flood of invented numbers fetches nothing.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import Callable, Optional, Protocol, TypedDict

from ._errors import failed
from ._postern import PosternError, check_key_document

#: Where a gateway publishes its keys.
KEY_DOCUMENT_PATH = "/.well-known/biscuit-web-keys"

#: A document of four keys has some 500 bytes.
DOCUMENT_BYTES_MAX = 64 * 1024


class KeySource(Protocol):
    """Anything that knows the current key document."""

    def document(self) -> bytes:
        """The document as it is now. May block."""

    def at_hand(self) -> Optional[bytes]:
        """The document, where ``document`` would not have to fetch or wait for it. Never blocks: event loops ask this first."""

    def is_worth_another_look(self) -> bool:
        """Whether a token under an unknown key number may make it fetch again."""

    def refresh(self) -> None:
        """Fetches now. May block."""


class Fetching(TypedDict, total=False):
    """How a key document is kept fresh: the parameters of `KeyDocument`."""

    max_age_seconds: float
    stale_max_seconds: float
    min_interval_seconds: float
    timeout_seconds: float
    tls: Optional[ssl.SSLContext]
    clock: Callable[[], float]


class KeyDocument:
    """The key document of a gateway, fetched and cached. Safe to share between threads."""

    def __init__(
        self,
        gateway: str,
        *,
        max_age_seconds: float = 60.0,
        stale_max_seconds: float = 600.0,
        min_interval_seconds: float = 5.0,
        timeout_seconds: float = 5.0,
        tls: Optional[ssl.SSLContext] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``gateway``: its URL, or the document's own. ``tls``: for a gateway with a certificate of your own authority."""
        scheme, _, rest = gateway.partition("://")
        if scheme not in ("http", "https") or not rest:
            raise failed("invalid-url", f"{gateway!r} is not the URL of a gateway; write http://… or https://…")
        has_path = rest.rstrip("/").find("/") != -1
        self._url = gateway if has_path else gateway.rstrip("/") + KEY_DOCUMENT_PATH
        self._max_age, self._stale_max = max_age_seconds, stale_max_seconds
        self._min_interval, self._timeout, self._tls = min_interval_seconds, timeout_seconds, tls
        self._clock = clock
        self._fetching = threading.Lock()
        self._bytes: Optional[bytes] = None
        self._failure: Optional[PosternError] = None
        self._fetched_at = self._tried_at = float("-inf")

    def document(self) -> bytes:
        if self._is_usable():
            if self._is_due() and self._fetching.acquire(blocking=False):
                try:
                    self._fetch()
                finally:
                    self._fetching.release()
        else:
            with self._fetching:
                # Others may have fetched it while this thread waited; and who has just failed is not asked again at once.
                if not self._is_usable() and (self._failure is None or self._is_rested()):
                    self._fetch()
        if self._bytes is None or not self._is_usable():
            assert self._failure is not None
            raise self._failure
        return self._bytes

    def _is_usable(self) -> bool:
        return self._bytes is not None and self._age() <= self._stale_max

    def at_hand(self) -> Optional[bytes]:
        return self._bytes if self._is_usable() and not self._is_due() else None

    def _is_due(self) -> bool:
        return self._age() > self._max_age and self._is_rested()

    def is_worth_another_look(self) -> bool:
        return self._fetching.locked() or self._is_rested()

    def _is_rested(self) -> bool:
        return self._clock() - self._tried_at > self._min_interval

    def refresh(self) -> None:
        with self._fetching:
            if self._is_rested():
                self._fetch()

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _fetch(self) -> None:
        """Fetches. What cannot be fetched or used leaves the earlier document as it was, and its reason behind."""
        self._tried_at = self._clock()
        request = urllib.request.Request(self._url, headers={"accept": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._timeout, context=self._tls) as response:
                document = response.read(DOCUMENT_BYTES_MAX + 1)
            check_key_document(document)
        except (urllib.error.URLError, OSError, ValueError, http.client.HTTPException) as error:
            reason = f"the key document at {self._url} cannot be fetched: {error}. Nothing is verified without keys."
            self._failure = failed("keys-unavailable", reason)
            self._failure.__cause__ = error
        except PosternError as error:
            self._failure = error
        else:
            self._bytes, self._fetched_at, self._failure = document, self._clock(), None

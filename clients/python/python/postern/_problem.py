"""Refusals as RFC 9457 problems, as the gateway writes them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import Any, List, Mapping, Optional, Tuple

from ._postern import PosternError, VerifyError, keys_unavailable

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class FailedCaveat:
    """A caveat that stopped a message: which check of which block, printed, and, where there are words for it, what it
    allows and what the message asked for instead."""

    block: int
    check: int
    caveat: str
    words: Optional[str] = None

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "FailedCaveat":
        """As a problem document has it."""
        words = said.get("words")
        return cls(int(said["block"]), int(said["check"]), str(said["caveat"]), None if words is None else str(words))


@dataclass(frozen=True)
class Problem:
    """What a gateway or a backend says when it refuses. ``type`` is the stable word."""

    type: str
    status: int
    title: str
    detail: str
    #: Whether repeating the same message is safe: ``safe``, ``unknown`` or ``no``; ``None`` where nobody says.
    retry: Optional[str] = None
    #: The caveats that stopped the message.
    caveats: Tuple[FailedCaveat, ...] = ()
    #: The whole document, where it is to be answered as it is.
    document: Optional[str] = None
    #: The challenge that goes with it.
    www_authenticate: Optional[str] = None

    @classmethod
    def of_error(cls, error: Exception) -> "Problem":
        """The answer to an exception of this package. What is not the caller's fault is a 503, whose reason is for the log."""
        if isinstance(error, VerifyError):
            return replace(cls._read(json.loads(error.problem)), document=error.problem, www_authenticate=error.www_authenticate)
        document = keys_unavailable()
        return replace(cls._read(json.loads(document)), document=document)

    @classmethod
    def logged(cls, error: Exception) -> "Problem":
        """`of_error`, and what the caller is not told goes to the log ``postern``; with its place where nobody foresaw it."""
        if not isinstance(error, VerifyError):
            unforeseen = None if isinstance(error, PosternError) else error
            logging.getLogger("postern").error("messages cannot be verified: %s", error, exc_info=unforeseen)
        return cls.of_error(error)

    @classmethod
    def of_response(cls, headers: Mapping[str, str], body: bytes) -> Optional["Problem"]:
        """Reads a problem from a response; ``None`` where it is none."""
        media_type = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
        if media_type.partition(";")[0].strip().lower() != MEDIA_TYPE:
            return None
        try:
            return cls._read(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _read(cls, said: Mapping[str, Any]) -> "Problem":
        caveats = tuple(FailedCaveat.of(caveat) for caveat in said.get("caveats", ()))
        retry = said.get("retry")
        # A word that is not known here says nothing.
        retry = retry if retry in ("safe", "unknown", "no") else None
        return cls(str(said["type"]), int(said["status"]), str(said.get("title", "")), str(said.get("detail", "")), retry, caveats)

    def answer(self) -> Tuple[int, List[Tuple[str, str]], bytes]:
        """Status, fields and body of the answer."""
        said = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail, "retry": self.retry}
        body = (self.document or json.dumps({name: value for name, value in said.items() if value is not None})).encode()
        fields = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("cache-control", "no-store")]
        if self.www_authenticate is not None:
            fields.append(("www-authenticate", self.www_authenticate))
        if self.status == 503:
            fields.append(("retry-after", "1"))
        return self.status, fields, body

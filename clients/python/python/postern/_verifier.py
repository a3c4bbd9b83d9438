"""The verifier that applications use: the compiled one, with its keys kept fresh."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, List, Mapping, Optional, Sequence, Tuple, TypedDict, Union, cast

from . import _postern
from ._errors import failed
from ._keys import Fetching, KeyDocument, KeySource
from ._postern import Capability, PosternError, PublicKey, VerifyError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._postern import Options

Headers = Union[Mapping[str, str], Iterable[Tuple[Union[str, bytes], Union[str, bytes]]]]
KeyLike = Union[str, PublicKey]


class _Parts(TypedDict):
    method: str
    target: str
    headers: Headers


class Message(_Parts, total=False):
    """A message as it was received: the parameters of `Verifier.verify`.

    ``target`` is path and query as they stood in the request line. ``body`` is needed where `Verifier.needs_body` says so.
    ``peer`` is the address of the connection's other end, ``scheme`` how it came (``"http"`` unless said otherwise), ``http_2``
    whether over HTTP/2. ``now`` is seconds since 1970; left out: the clock.
    """

    body: Optional[bytes]
    peer: Optional[str]
    scheme: str
    http_2: bool
    now: Optional[int]


class Verifier:
    """Decides whether a message is authorised. Make one for each service and share it: it remembers verified tokens.

    ``resource``: what the gateway calls this service. Tokens that it narrowed for another service are refused.
    ``leeway_seconds`` forgives clocks that differ, at most 300: a token is honoured so much after its expiry (0: not at all).
    ``revoked``: revocation ids to refuse. ``mount``: the prefix, where the gateway leaves it on the path (``keep_prefix``).
    ``believed``: who says who the client is: ``"statement"`` (the default), the gateway's own statement in a token that it
    narrowed; ``"connection"``, the peer as the server gives it; or the ``X-Forwarded-*`` of ``"loopback"``, of ``"anyone"`` where
    nobody but the gateway can reach this service, or of networks. Believe a peer only where the server takes it from the
    connection: uvicorn's ``--forwarded-allow-ips`` and werkzeug's ``ProxyFix`` take it from fields. ``statement_keys``: the keys
    that sign statements, ``ed25519/<hex>``, where no key document is fetched. ``authorization="pass"``: the field ``Authorization`` is the service's own, and
    only ``Postern-Capability`` carries a token. ``encoded_slash``, as at the gateway. ``budget``: most evaluation steps.
    """

    def __init__(
        self,
        keys: Union[KeySource, Mapping[int, KeyLike], Sequence[KeyLike]],
        *,
        resource: str,
        revoked: Iterable[str] = (),
        **options: Unpack[Options],
    ) -> None:
        self._inner = _postern.Verifier(resource, **options)
        self._source: Optional[KeySource] = None
        self._document: Optional[bytes] = None
        if hasattr(keys, "document"):
            self._source = cast(KeySource, keys)
        else:
            self._set(keys)
        self._inner.revoke(list(revoked))

    @classmethod
    def of_keys(cls, *keys: KeyLike, resource: str, **options: Unpack[Options]) -> "Verifier":
        """From public keys as text, ``ed25519/<hex>``. Any of them may have signed."""
        return cls(list(keys), resource=resource, **options)

    @classmethod
    def of_file(cls, path: Union[str, "os.PathLike[str]"], *, resource: str, **options: Unpack[Options]) -> "Verifier":
        """From a file with one key a line, such as ``root.pub``."""
        return cls(Path(path).read_text().split(), resource=resource, **options)

    @classmethod
    def of_gateway(cls, url: str, *, resource: str, fetching: Optional[Fetching] = None, **options: Unpack[Options]) -> "Verifier":
        """From the gateway's key document, fetched when it is first needed and kept fresh. ``fetching``: see `KeyDocument`."""
        return cls(KeyDocument(url, **(fetching or Fetching())), resource=resource, **options)

    def _set(self, keys: Union[Mapping[int, KeyLike], Sequence[KeyLike], KeyLike]) -> None:
        if isinstance(keys, (str, PublicKey)):
            keys = [keys]
        if isinstance(keys, Mapping):
            self._inner.set_keys([(number, _read(key), False) for number, key in keys.items()])
        elif keys:
            self._inner.set_unnumbered_keys([_read(key) for key in keys])
        else:
            raise failed("invalid-key", "at least one public key is needed; nothing is verified without keys")

    def revoke(self, ids: Iterable[str]) -> None:
        """Refuses every token that has one of these revocation ids (128 hexadecimal digits) from now on."""
        self._inner.revoke(list(ids))

    def needs_body(self, **message: Unpack[Message]) -> bool:
        """Whether the presented token's caveats ask what the body says: then `verify` must be given it."""
        self._refresh()
        return self._inner.needs_body(message["method"], message["target"], _pairs(message["headers"]))

    async def needs_body_async(self, **message: Unpack[Message]) -> bool:
        """`needs_body`, for event loops."""
        await self._refresh_async()
        return self._inner.needs_body(message["method"], message["target"], _pairs(message["headers"]))

    def check(self, token: str, **facts: Any) -> Capability:
        """Verifies a token for a message whose every fact is stated, by the names of the test vectors: ``resource``,
        ``operation``, ``path``, ``time``, ``client``, … Nothing is taken from anywhere else, the backend included.
        """
        self._refresh()
        return self._inner.check(token, json.dumps(facts))

    def verify(self, **message: Unpack[Message]) -> Capability:
        """Verifies the token in ``headers`` for this very message, whose parts are those of `Message`.

        Raises `VerifyError`, whose ``kind`` is the stable reason and whose ``status`` is the HTTP status to answer with.
        """
        self._refresh()
        known = self._document
        try:
            return self._decide(**message)
        except VerifyError as error:
            if self._source is None or not self._may_look_again(error):
                raise
            # A key that was published meanwhile: fetched now, or by another thread at this moment.
            self._source.refresh()
            self._refresh()
            if self._document is known:
                raise
        return self._decide(**message)

    async def verify_async(self, **message: Unpack[Message]) -> Capability:
        """`verify`, for event loops: what has to be fetched is fetched in a thread, everything else at once."""
        await self._refresh_async()
        try:
            return self._decide(**message)
        except VerifyError as error:
            if not self._may_look_again(error):
                raise
        return await asyncio.to_thread(self.verify, **message)

    def _decide(self, *, method: str, target: str, headers: Headers, **rest: Any) -> Capability:
        return self._inner.verify(method, target, _pairs(headers), **rest)

    def _may_look_again(self, error: PosternError) -> bool:
        return (
            self._source is not None
            and getattr(error, "kind", None) == "unknown-key"
            and self._source.is_worth_another_look()
        )

    def _refresh(self) -> None:
        if self._source is not None:
            self._adopt(self._source.document())

    async def _refresh_async(self) -> None:
        """Never waits on the event loop: neither for a fetch nor for another thread's."""
        if self._source is None:
            return
        document = self._source.at_hand()
        if document is None:
            await asyncio.to_thread(self._refresh)
        else:
            self._adopt(document)

    def _adopt(self, document: bytes) -> None:
        if document is not self._document:
            self._inner.set_key_document(document)
            self._document = document


def _read(key: KeyLike) -> PublicKey:
    return key if isinstance(key, PublicKey) else PublicKey(key)


def _pairs(headers: Headers) -> List[Tuple[str, str]]:
    # Not every server's headers that have `items` are a mapping.
    items = headers.items() if hasattr(headers, "items") else headers
    return [(_text(name), _text(value)) for name, value in items]


def _text(value: Union[str, bytes]) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")

"""What the HTTP clients share: which requests get the token, and how far it is narrowed for each."""

from __future__ import annotations

from typing import Optional
from urllib.parse import unquote, urlsplit

from ._errors import failed
from ._postern import narrow

PORTS = {"http": 80, "https": 443}


class Narrowing:
    """A token for the requests to one resource."""

    def __init__(self, token: str, *, resource: str, narrow: bool, seconds: int, field: str) -> None:
        parts = urlsplit(resource)
        if parts.scheme not in PORTS or not parts.hostname or parts.query or parts.fragment:
            raise failed("invalid-url", f"{resource!r} is not where a resource is mounted; write a URL such as http://gateway:7400/orders")
        if field.lower() not in ("authorization", "postern-capability"):
            raise failed("invalid-option", "a capability travels in `authorization` or in `postern-capability`")
        self.field = field.lower()
        self._token, self._narrow, self._seconds = token, narrow, seconds
        self._origin = (parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])
        self._mount = parts.path.rstrip("/")

    def value(self, method: str, url: str) -> Optional[str]:
        """The field's value for this request; ``None`` where it goes elsewhere, which is no business of the token's."""
        parts = urlsplit(url)
        if (parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)) != self._origin:
            return None
        path = parts.path or "/"
        # HTTP clients resolve dot segments before they send.
        if any(unquote(segment) in (".", "..") for segment in path.split("/")):
            return None
        if path != self._mount and not path.startswith(self._mount + "/"):
            return None
        token = self._token
        if self._narrow:
            token = narrow(token, method=method, path=path[len(self._mount):] or "/", query=parts.query, seconds=self._seconds)
        return f"Bearer {token}" if self.field == "authorization" else token

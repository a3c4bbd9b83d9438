"""A capability for httpx, narrowed to each request before it leaves::

    client = httpx.Client(auth=CapabilityAuth(token, resource="http://gateway:7400/orders"))
"""

from __future__ import annotations

from typing import Generator, Optional

import httpx

from ._narrowing import Narrowing


class CapabilityAuth(httpx.Auth):
    """Carries a capability. Works with both `httpx.Client` and `httpx.AsyncClient`.

    ``resource``: the URL at which the resource is mounted; the token is sent nowhere else, not even after a redirect.
    ``narrow``: each request carries the token attenuated to this method, path and query string for ``seconds``, so that what
    leaks on its way is worth next to nothing. A sealed token cannot be narrowed: pass ``narrow=False``.
    """

    def __init__(self, token: str, *, resource: str, narrow: bool = True, seconds: int = 60, field: str = "authorization") -> None:
        self._narrowing = Narrowing(token, resource=resource, narrow=narrow, seconds=seconds, field=field)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        found: Optional[str] = self._narrowing.value(request.method, str(request.url))
        if found is not None:
            request.headers[self._narrowing.field] = found
        yield request

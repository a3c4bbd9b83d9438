"""A capability for httpx, narrowed to each request before it leaves::

    client = httpx.Client(auth=CapabilityAuth(token, resource="http://gateway:7400/orders"))

and for clients that follow redirects, or carry it in a field of its own::

    carry = CapabilityHook(token, resource="http://gateway:7400/orders")
    client = httpx.Client(event_hooks={"request": [carry]}, follow_redirects=True)
"""

from __future__ import annotations

from typing import Generator, Optional

import httpx

from ._errors import failed
from ._narrowing import Narrowing

#: Says to the next hop, whose request inherits it, whether this one carried the token.
CARRIED = "postern.carried"


class CapabilityAuth(httpx.Auth):
    """Carries a capability. Works with both `httpx.Client` and `httpx.AsyncClient`.

    ``resource``: the URL at which the resource is mounted; the token is sent nowhere else.
    ``narrow``: each request carries the token attenuated to this method, path and query string for ``seconds``, so that what
    leaks on its way is worth next to nothing. A sealed token cannot be narrowed: pass ``narrow=False``.

    httpx asks it once, before the first request, and hands that request's fields on where it follows redirects: all but
    ``Authorization``, which it takes off on the way to another origin. So that is the only field this can carry it in, and a hop
    within the resource is refused there, since the token is narrowed to the first. `CapabilityHook` sees every hop.
    """

    def __init__(self, token: str, *, resource: str, narrow: bool = True, seconds: int = 60, field: str = "authorization") -> None:
        self._narrowing = Narrowing(token, resource=resource, narrow=narrow, seconds=seconds, field=field)
        if self._narrowing.field != "authorization":
            raise failed(
                "invalid-option",
                f"httpx hands `{field}` on to wherever a redirect leads; carry it by "
                'httpx.Client(event_hooks={"request": [postern.httpx.CapabilityHook(…)]}), which sees every hop',
            )

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        found: Optional[str] = self._narrowing.value(request.method, str(request.url))
        if found is not None:
            request.headers[self._narrowing.field] = found
        yield request


class CapabilityHook:
    """Carries a capability, as an event hook for requests, of `httpx.Client` and `httpx.AsyncClient` alike.

    Parameters as in `CapabilityAuth`. Redirects that stay within the resource carry the token narrowed to each hop. One that leads
    elsewhere carries none, and neither does any hop after it: whoever sent it there shall not decide what the token is used for.
    """

    def __init__(self, token: str, *, resource: str, narrow: bool = True, seconds: int = 60, field: str = "authorization") -> None:
        self._narrowing = Narrowing(token, resource=resource, narrow=narrow, seconds=seconds, field=field)

    def __call__(self, request: httpx.Request) -> "_Done":
        field = self._narrowing.field
        carried = request.extensions.get(CARRIED)
        if carried:
            request.headers.pop(field, None)
        if carried is not False:
            found = self._narrowing.value(request.method, str(request.url))
            request.extensions[CARRIED] = found is not None
            if found is not None:
                request.headers[field] = found
        return _Done()


class _Done:
    """What an asynchronous client awaits, and a synchronous one ignores."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()

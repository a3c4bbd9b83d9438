"""A capability for requests, narrowed to each request before it leaves::

    requests.get("http://gateway:7400/orders/42", auth=CapabilityAuth(token, resource="http://gateway:7400/orders"))
"""

from __future__ import annotations

from typing import Any, Callable

import requests
import requests.auth

from ._narrowing import Narrowing


class CapabilityAuth(requests.auth.AuthBase):
    """Carries a capability. Parameters as in `postern.httpx.CapabilityAuth`.

    Redirects that stay within the resource carry the token narrowed to each hop. One that leads elsewhere carries none, and neither
    does any hop after it: whoever sent it there shall not decide what the token is used for.
    """

    def __init__(self, token: str, *, resource: str, narrow: bool = True, seconds: int = 60, field: str = "authorization") -> None:
        self._narrowing = Narrowing(token, resource=resource, narrow=narrow, seconds=seconds, field=field)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        found = self._narrowing.value(request.method or "GET", request.url or "")
        if found is not None:
            request.headers[self._narrowing.field] = found
            register: Callable[[str, Any], None] = request.register_hook
            register("response", self._before_a_redirect)
        return request

    def _before_a_redirect(self, response: requests.Response, **_: Any) -> None:
        """A redirected request is a copy of the one before it, fields included: so they are put right here, before it is made."""
        if not response.is_redirect:
            return
        request, field = response.request, self._narrowing.field
        with requests.Session() as session:
            session.trust_env = False
            hop: Any = next(session.resolve_redirects(response, request, yield_requests=True), None)
        # What was sent stays what the response says that it answers.
        response.request = request.copy()
        if request.headers.pop(field, None) is None or hop is None:
            return
        found = self._narrowing.value(hop.method or "GET", hop.url or "")
        if found is not None:
            request.headers[field] = found

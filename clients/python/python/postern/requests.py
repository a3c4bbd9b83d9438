"""A capability for requests, narrowed to each request before it leaves::

    requests.get("http://gateway:7400/orders/42", auth=CapabilityAuth(token, resource="http://gateway:7400/orders"))
"""

from __future__ import annotations

import requests
import requests.auth

from ._narrowing import Narrowing


class CapabilityAuth(requests.auth.AuthBase):
    """Carries a capability. Parameters as in `postern.httpx.CapabilityAuth`."""

    def __init__(self, token: str, *, resource: str, narrow: bool = True, seconds: int = 60, field: str = "authorization") -> None:
        self._narrowing = Narrowing(token, resource=resource, narrow=narrow, seconds=seconds, field=field)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        found = self._narrowing.value(request.method or "GET", request.url or "")
        if found is not None:
            request.headers[self._narrowing.field] = found
        return request

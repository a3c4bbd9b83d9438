"""The capability as a dependency of FastAPI's handlers, behind the middleware that verified it.

::

    app.add_middleware(CapabilityMiddleware, verifier=verifier)

    @app.get("/orders/{number}")
    def order(number: int, capability: Presented) -> str: ...
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from ._postern import Capability, PosternError
from .asgi import CapabilityMiddleware

__all__ = ["CapabilityMiddleware", "Presented", "capability"]


def capability(connection: HTTPConnection) -> Capability:
    """What this message was verified for. It raises where nobody verified it: a handler that asks never runs without."""
    found = getattr(connection.state, "capability", None)
    if isinstance(found, Capability):
        return found
    raise PosternError(
        f"nothing has verified the message to {connection.url.path}: add `CapabilityMiddleware`, and do not exempt this path"
    )


#: What a handler asks for: `def handler(capability: Presented)`.
Presented = Annotated[Capability, Depends(capability)]

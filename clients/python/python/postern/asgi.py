"""ASGI middleware: FastAPI, Starlette, Quart, Litestar, Django.

::

    app.add_middleware(CapabilityMiddleware, verifier=verifier)

The verified capability is in ``scope["state"]["capability"]``: ``request.state.capability`` in FastAPI and Starlette.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Container, List, MutableMapping, Optional

from ._postern import PosternError, body_broken, body_too_large
from ._problem import Problem
from ._verifier import Message as Received
from ._verifier import Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class CapabilityMiddleware:
    """Lets a message through only with a capability that allows this very message.

    ``exempt``: paths that need none, such as a health check. ``body_bytes_max`` bounds a body that has to be read because a
    caveat asks what it says; every other body streams on untouched.
    """

    def __init__(self, app: App, verifier: Verifier, *, exempt: Container[str] = (), body_bytes_max: int = 1 << 20) -> None:
        self._app, self._verifier = app, verifier
        self._exempt, self._body_bytes_max = exempt, body_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._exempt:
            return await self._app(scope, receive, send)
        scheme: str = scope.get("scheme", "http")
        ask: Received = {
            "method": scope.get("method", "GET"),
            "target": _target(scope),
            "headers": scope["headers"],
            "peer": scope["client"][0] if scope.get("client") else None,
            "scheme": {"ws": "http", "wss": "https"}.get(scheme, scheme),
            "http_2": scope.get("http_version", "1.1")[0] != "1",
        }
        try:
            if scope["type"] == "http" and await self._verifier.needs_body_async(**ask):
                ask["body"] = body = await self._read(receive)
                receive = _again(body, receive)
            capability = await self._verifier.verify_async(**ask)
        except PosternError as error:
            return await self._refuse(scope, receive, send, Problem.logged(error))
        scope.setdefault("state", {})["capability"] = capability
        return await self._app(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes:
        parts: List[bytes] = []
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise body_broken()
            part = message.get("body", b"")
            length += len(part)
            if length > self._body_bytes_max:
                raise body_too_large(self._body_bytes_max)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
        status, fields, body = problem.answer()
        headers = [(name.encode(), value.encode()) for name, value in fields]
        if scope["type"] == "websocket":
            await receive()
            if "websocket.http.response" not in scope.get("extensions", {}):
                return await send({"type": "websocket.close", "code": 1008, "reason": problem.type})
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            return await send({"type": "websocket.http.response.body", "body": body})
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _target(scope: Scope) -> str:
    # `raw_path` is what came; `path` is decoded, and two targets can look alike in it.
    raw: Optional[bytes] = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw else scope["path"]
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def _again(body: bytes, receive: Receive) -> Receive:
    """Hands a body out once more that was read already, then whatever else comes."""
    handed_out = False

    async def again() -> Message:
        nonlocal handed_out
        if handed_out:
            return await receive()
        handed_out = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again

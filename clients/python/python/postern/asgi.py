"""ASGI middleware: FastAPI, Starlette, Quart, Litestar, Django.

::

    app.add_middleware(CapabilityMiddleware, verifier=verifier)

The verified capability is in ``scope["state"]["capability"]``: ``request.state.capability`` in FastAPI and Starlette.

What is verified is what the application routes on: the path below ``root_path``. An application that is mounted elsewhere than at the
root (``uvicorn --root-path /orders``, ``FastAPI(root_path="/orders")``) says so here as well: ``root_path="/orders"``. With any other
``root_path`` a message is refused, since a proxy's field could have set it. Put the middleware around the whole application,
not into a part that is mounted within it.
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Iterable, List, MutableMapping, Optional, Tuple

from ._errors import failed
from ._postern import Capability, body_broken, body_too_large, rerouted
from ._problem import Problem
from ._routing import exempt_paths, mount_of, raw_below
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
    caveat asks what it says; every other body streams on untouched. ``root_path``: where the application is mounted.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        exempt: Iterable[str] = (),
        body_bytes_max: int = 1 << 20,
        root_path: str = "",
    ) -> None:
        self._app, self._verifier = app, verifier
        self._exempt, self._body_bytes_max = exempt_paths(exempt), body_bytes_max
        self._root_path = mount_of("root_path", root_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] not in ("http", "websocket"):
            # What is not understood is not let through, and there is no way to refuse it that it would understand.
            raise failed("not-understood", f"no capability can be verified for what comes by {scope['type']!r}")
        try:
            capability, receive = await self._verified(scope, receive)
        except Exception as error:
            return await self._refuse(scope, receive, send, Problem.logged(error))
        if capability is not None:
            # Not into what is there: some servers share it between messages.
            scope["state"] = {**scope.get("state", {}), "capability": capability}
        return await self._app(scope, receive, send)

    async def _verified(self, scope: Scope, receive: Receive) -> Tuple[Optional[Capability], Receive]:
        """What the message was verified for, ``None`` where its path is exempt; and where the application gets its body."""
        below = self._below(scope)
        target = _target(scope, self._root_path, below)
        if (below or "/") in self._exempt:
            return None, receive
        is_websocket = scope["type"] == "websocket"
        headers = scope["headers"]
        if is_websocket:
            # Over HTTP/2 there is no such field; that it would switch protocols is so all the same.
            headers = [pair for pair in headers if pair[0].lower() != b"upgrade"] + [(b"upgrade", b"websocket")]
        scheme: str = scope.get("scheme", "http")
        ask: Received = {
            "method": scope.get("method", "GET"),
            "target": target,
            "headers": headers,
            "peer": scope["client"][0] if scope.get("client") else None,
            "scheme": {"ws": "http", "wss": "https"}.get(scheme, scheme),
            "http_2": not is_websocket and not scope.get("http_version", "1.1").startswith("1"),
        }
        if not is_websocket and await self._verifier.needs_body_async(**ask):
            ask["body"] = body = await self._read(receive)
            receive = _again(body, receive)
        return await self._verifier.verify_async(**ask), receive

    def _below(self, scope: Scope) -> str:
        """The path below the mount, decoded: what every framework routes on."""
        path, root = scope["path"], self._root_path
        if scope.get("root_path", "") != root:
            raise rerouted()
        if path == root or path.startswith(root + "/"):
            return str(path[len(root) :])
        # A proxy has taken it off. Where it stands elsewhere in the path, frameworks differ on what is below it.
        if root in path:
            raise rerouted()
        return str(path)

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
            if part:
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


def _target(scope: Scope, root: str, below: str) -> str:
    try:
        raw: Optional[bytes] = scope.get("raw_path")
        query: bytes = scope.get("query_string") or b""
        if raw is not None:
            # Some clients of tests leave the query on it.
            raw, mark, asked = raw.partition(b"?")
            if mark and asked != query:
                raise rerouted()
        path = raw_below(raw, root.encode(), below.encode())
    except UnicodeEncodeError as error:
        raise rerouted() from error
    return f"{path}?{query.decode('latin-1')}" if query else path


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

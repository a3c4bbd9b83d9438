"""WebSocket peers: the `websockets` library on both sides, uvicorn, and services that answer a handshake by script."""

import base64
import hashlib
import threading

import uvicorn
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from .backend import Scripted
from .ports import free_port, until

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]


def accept(key=KEY):
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


class Echo:
    """An echo service of the `websockets` library. Keeps each handshake's fields, and how each connection was closed."""

    def __init__(self, **options):
        self.handshakes, self.closes = [], []
        self.server = serve(self._serve, "127.0.0.1", 0, **options)
        self.port = self.server.socket.getsockname()[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, websocket):
        self.handshakes.append((websocket.request.path, list(websocket.request.headers.raw_items())))
        try:
            for message in websocket:
                websocket.send(message)
        except ConnectionClosed:
            pass
        self.closes.append((websocket.protocol.close_rcvd and websocket.protocol.close_rcvd.code, websocket.close_reason))

    def fields(self, name):
        return [value for found, value in self.handshakes[-1][1] if found.lower() == name]

    def stop(self):
        self.server.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Uvicorn:
    """An ASGI application on uvicorn that echoes WebSockets."""

    def __init__(self):
        self.port = free_port()
        config = uvicorn.Config(self._app, host="127.0.0.1", port=self.port, log_level="error", ws="wsproto")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started, "uvicorn has started")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @staticmethod
    async def _app(scope, receive, send):
        if scope["type"] != "websocket":
            return
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)


def answering(head_lines, after=b"", hold=True):
    """A service that answers every request with this head and then these bytes; then it waits for the other side."""

    def script(sock, _):
        sock.sendall("\r\n".join(head_lines).encode() + b"\r\n\r\n" + after)
        while hold and sock.recv(65536):
            pass

    return Scripted(script)


SWITCHED = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept()}"]


def opened(gate, token=None, path="/orders/chat", fields=(), scheme="ws", **options):
    """A WebSocket through the gateway. Compression is off unless asked for: then frames are what the test sends."""
    headers = dict(fields)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    options.setdefault("compression", None)
    return connect(f"{scheme}://localhost:{gate.port}{path}", additional_headers=headers, **options)


def echoes(websocket, message="still there"):
    websocket.send(message)
    return websocket.recv(timeout=10) == message


def close_of(websocket, timeout=10):
    """The code and reason that the other side closes with."""
    try:
        while True:
            websocket.recv(timeout=timeout)
    except ConnectionClosed as closed:
        return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "cut")

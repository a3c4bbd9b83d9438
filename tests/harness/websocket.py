"""WebSocket peers: the `websockets` library on both sides, uvicorn, hypercorn, streams of HTTP/2 with the frames of `wsproto`,
and services that answer a handshake by script; and, as fixtures, a gateway before an echo service."""

import asyncio
import base64
import hashlib
import threading

import hypercorn.asyncio
import pytest
import uvicorn
from hypercorn.config import Config
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Message, TextMessage

from .backend import Scripted
from .gate import Gate
from .ports import free_port, is_open, until

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


class Hypercorn:
    """An ASGI application on hypercorn that echoes WebSockets, over HTTP/1.1 and HTTP/2 alike, and answers plain messages
    with the port that they came from. `ended` counts the sockets that are over (how the other side closed, hypercorn does not
    say), `scopes` are what each was opened with; with `flood` it sends so many messages of 64 KiB at once, and counts them in
    `sent`. At `/refused` it accepts none."""

    def __init__(self, tls=None, alpn=("h2", "http/1.1"), flood=0):
        self.port, self.scopes, self.ended, self.flood, self.sent = free_port(), [], 0, flood, 0
        self.scheme = "https" if tls else "h2c"
        self.config = Config()
        self.config.bind = [f"127.0.0.1:{self.port}"]
        self.config.errorlog = None
        if tls:
            self.config.certfile, self.config.keyfile = tls
            self.config.alpn_protocols = list(alpn)
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.thread.start()
        until(lambda: is_open(self.port), "hypercorn listens")

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def _run(self):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        await hypercorn.asyncio.serve(self._app, self.config, shutdown_trigger=self.stopped.wait)

    async def _app(self, scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(scope["client"][1]).encode()})
        if scope["type"] != "websocket":
            return
        self.scopes.append(scope)
        await receive()
        if scope["path"] == "/refused":
            return await send({"type": "websocket.close"})
        await send({"type": "websocket.accept", "subprotocol": "chat" if "chat" in scope["subprotocols"] else None})
        for number in range(self.flood):
            await send({"type": "websocket.send", "bytes": number.to_bytes(4) + bytes(65532)})
            self.sent += 1
        while (event := await receive())["type"] != "websocket.disconnect":
            if event.get("text") == "leave":
                await send({"type": "websocket.close", "code": 4002, "reason": "left"})
            else:
                await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        self.ended += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stopped.set)
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


class Socket:
    """A WebSocket on one stream of an `H2Client`."""

    def __init__(self, client, path="/orders/chat", fields=(), protocol="websocket", **more):
        self.client, self.frames = client, Connection(ConnectionType.CLIENT)
        fields = [("sec-websocket-version", "13"), *fields]
        self.stream = client.open("CONNECT", path, fields, end=False, protocol=protocol, **more)
        self.reply = client.replies[self.stream]
        assert client.until(lambda: self.reply.status or self.reply.over), "no answer"
        self.taken = 0

    def send(self, data):
        event = TextMessage(data) if isinstance(data, str) else BytesMessage(data)
        self.client.send(self.stream, self.frames.send(event))

    def event(self):
        """The next message (its parts joined), close or pong; None where the stream ends without one."""
        whole = None
        while True:
            for event in self.frames.events():
                if not isinstance(event, Message):
                    return event
                whole = event.data if whole is None else whole + event.data
                if event.message_finished:
                    return whole
            new = self.reply.body[self.taken :]
            if new:
                self.taken += len(new)
                self.frames.receive_data(bytes(new))
            elif self.reply.over or not self.client.step():
                return None

    def echoes(self, data="still there"):
        self.send(data)
        return self.event() == data


@pytest.fixture(scope="module")
def echo():
    with Echo(select_subprotocol=lambda _, offered: "chat" if "chat" in offered else None) as service:
        yield service


@pytest.fixture(scope="module")
def gate(echo):
    with Gate({"orders": echo}) as gate:
        yield gate


@pytest.fixture(scope="module")
def token(gate):
    return gate.mint("orders")

"""WebSockets and the memory of all connections: an idle one costs nothing there, busy ones slow down where it ends."""

import re
import socket
import threading

from harness.backend import Scripted
from harness.gate import Gate
from harness.ports import until
from harness.websocket import HANDSHAKE, SWITCHED, Echo, echoes, opened
from harness.wire import Wire, request

PATTERN = bytes(range(256)) * 256


def buffered(gate):
    return int(re.search(r"^postern_buffered_bytes (\d+)$", gate.metrics(), re.M).group(1))


class SlowReader(Wire):
    """A client with a small window, that takes the tunnel's bytes only when it is told to."""

    def __init__(self, gate, token):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(60)
        self.sock.connect(("127.0.0.1", gate.port))
        self.buffer = self.received = b""
        self.send(request("GET", "/orders/x", token=token, fields=HANDSHAKE))
        assert self.head().status == 101

    def takes(self, count):
        """Takes so many bytes, and looks whether they are the ones that were sent."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while len(self.buffer) < count:
            self._more()
        return all(self.buffer[at : at + 65536] == PATTERN[: len(self.buffer) - at] for at in range(0, len(self.buffer), 65536))


def test_idle_websockets_cost_nothing():
    with Echo() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        websockets = [opened(gate, token) for _ in range(20)]
        assert all(echoes(websocket, "x" * 100_000) for websocket in websockets)
        until(lambda: buffered(gate) == 0, "an idle WebSocket holds memory")
        assert all(echoes(websocket) for websocket in websockets)
        for websocket in websockets:
            websocket.close()


def test_busy_websockets_stay_within_the_memory_that_there_is_and_go_on():
    """A hundred clients do not read what a service sends without end. They get all of it once they do."""
    go, budget = threading.Event(), 1 << 18

    def flood(sock, _):
        sock.sendall("\r\n".join(SWITCHED).encode() + b"\r\n\r\n")
        go.wait(60)
        while True:
            sock.sendall(PATTERN)

    with Scripted(flood) as service:
        limits = {"buffered_bytes_max": budget, "body_stall_timeout": "5m"}
        with Gate({"orders": service}, limits) as gate:
            token = gate.mint("orders")
            readers = [SlowReader(gate, token) for _ in range(100)]
            until(lambda: buffered(gate) == 0, "WebSockets that wait hold memory")
            go.set()
            until(lambda: buffered(gate) > budget * 3 / 4, "nothing waits", 30)
            until(lambda: gate.get("/orders/x", token).status == 503, "new messages are taken although memory is short", 30)
            for reader in readers:
                assert reader.takes(300_000)
                assert buffered(gate) <= budget
            for reader in readers:
                reader.close()
            until(lambda: buffered(gate) == 0, "memory is not given back")

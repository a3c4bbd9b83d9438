"""Bodies over HTTP/2 of any size, in both directions, through any window; and what a client that does not read costs."""

import socket
import threading

import h2.settings
import httpx
import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2client import H2Client
from harness.ports import until

WINDOW = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE


def memory(gate):
    """What the gateway's process takes, in bytes."""
    with open(f"/proc/{gate.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


class Echo:
    """A service that sends each chunk of a body back as it comes, and says how much that was so far."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    @staticmethod
    def _serve(sock):
        with sock, sock.makefile("rb") as reader:
            while (line := reader.readline()) not in (b"\r\n", b""):
                pass
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while size := int(reader.readline() or b"0", 16):
                sock.sendall(b"%x\r\n%s\r\n" % (size, reader.read(size)))
                reader.readline()
            sock.sendall(b"0\r\n\r\n")

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture(scope="module")
def echo_gate():
    echo = Echo()
    with Gate({"echo": echo}) as gate:
        yield gate
    echo.stop()


def test_large_bodies_both_ways_with_httpx(gate, service, token):
    large = bytes(range(256)) * (16 << 12)
    service.respond = lambda request: answer(body=request.body)
    with httpx.Client(http1=False, http2=True, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        reply = client.post(f"{gate.url}/orders/x", content=large)
    assert reply.http_version == "HTTP/2" and reply.status_code == 200 and reply.content == large


@pytest.mark.parametrize("window", [1, 100])
def test_a_tiny_window_lets_everything_through(gate, service, token, window):
    body = bytes(range(256)) * window * 4
    service.respond = lambda _: answer(body=body)
    with H2Client(gate.port, token, settings={WINDOW: window}) as client:
        reply = client.reply(client.open("GET", "/orders/x"), seconds=60)
    assert bytes(reply.body) == body and reply.ended


def test_bodies_flow_both_ways_at_once_for_as_long_as_they_like(echo_gate):
    """Each stretch comes back before the next one goes: neither direction waits for the other to end."""
    stretch, before = b"0123456789abcdef" * 1024, 0
    with H2Client(echo_gate.port, echo_gate.mint("echo")) as client:
        stream = client.open("POST", "/echo/x", end=False)
        reply = client.replies[stream]
        for number in range(1, 1501):
            client.send(stream, stretch)
            assert client.until(lambda: len(reply.body) >= number * len(stretch)), len(reply.body)
            if number == 300:
                before = memory(echo_gate)
        # 20 MiB have passed each way since.
        assert memory(echo_gate) - before < 8 << 20
        client.send(stream, b"", end=True)
        assert client.reply(stream).ended and len(reply.body) == 1500 * len(stretch)


def test_a_client_that_does_not_read_costs_a_bounded_piece_of_memory():
    """Forty answers without end, a window without bound, and nobody reads the socket."""
    written = []

    def endless(sock):
        written.append(0)
        place = len(written) - 1
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.settimeout(1.0)
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            while written[place] < 1 << 30:
                sock.sendall(chunk)
                written[place] += 65536
        except TimeoutError:
            # A second of standstill: this is all that is taken.
            pass
        return "close"

    with Recorder(lambda _: endless) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with H2Client(gate.port, token) as client:
            client.reply(client.open("GET", "/orders/nowhere", token="nonsense"))
            before = memory(gate)
        with H2Client(gate.port, token, settings={WINDOW: (1 << 31) - 1}) as client:
            client.h2.increment_flow_control_window((1 << 31) - 1 - 65535)
            for _ in range(40):
                client.open("GET", "/orders/x")
            until(lambda: len(written) == 40 and all(not s.fileno() + 1 for s in service.open_sockets), "all stand still", 30)
            taken, grown = sum(written), memory(gate) - before
        assert grown < 40 << 20, f"{grown >> 20} MiB for {taken >> 20} MiB taken from the service"


def test_options_and_head_pass_as_they_are(gate, service, token):
    service.respond = lambda r: b"HTTP/1.1 200 OK\r\nAllow: GET\r\nContent-Length: 7\r\n\r\n" + (b"" if r.method == "HEAD" else b"options")
    with H2Client(gate.port, token) as client:
        head = client.reply(client.open("HEAD", "/orders/x"))
        options = client.reply(client.open("OPTIONS", "/orders/x"))
    assert (head.status, head.fields["content-length"], bytes(head.body), head.ended) == (200, "7", b"", True)
    assert (options.status, options.fields["allow"], bytes(options.body)) == (200, "GET", b"options")


def test_an_upload_that_is_taken_back_is_half_a_request(gate, service, token):
    for code in (0, 8):
        with H2Client(gate.port, token) as client:
            stream = client.open("POST", "/orders/x", end=False)
            client.send(stream, b"half of it")
            until(lambda: b"half of it" in service.bytes, "the service has the first half")
            client.reset(stream, code)
            assert client.reply(client.open("GET", "/orders/y")).status == 200
        assert [r.method for r in service.requests] == ["GET"]
        service.clear()

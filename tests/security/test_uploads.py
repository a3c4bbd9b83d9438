"""Law 6 on uploads: when their capability falls the body stops on its way to the service, over both versions of HTTP and in
both framings, whether the service has answered or not."""

import socket
import threading

import pytest

from harness.gate import Gate
from harness.h2client import H2Client
from harness.ports import until
from harness.wire import request

MANY = 1 << 20
# What the sockets on the way may hold that was sent before the acknowledgement: loopback's buffers grow to this.
IN_FLIGHT_BYTES_MAX = 16 << 20


class Sink:
    """A service that counts what comes, and answers early if it is told to, in such a way that the answer never ends."""

    def __init__(self, answers):
        self.answers, self.received, self.has_ended = answers, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        connection, _ = self.listener.accept()
        with connection:
            while True:
                try:
                    data = connection.recv(1 << 16)
                except OSError:
                    data = b""
                if not data:
                    self.has_ended = True
                    return
                if self.received == 0 and self.answers:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
                self.received += len(data)


def http1(gate, token, framing, stop):
    fields = [("Transfer-Encoding", "chunked")] if framing == "chunked" else [("Content-Length", str(1 << 40))]
    stretch = b"x" * 16384
    stretch = b"4000\r\n" + stretch + b"\r\n" if framing == "chunked" else stretch
    with gate.wire() as wire:
        wire.send(request("POST", "/orders/x", token=token, fields=fields))
        try:
            while not stop.is_set():
                wire.sock.sendall(stretch)
        except OSError:
            return


def http2(gate, token, framing, stop):
    with H2Client(gate.port, token=token) as client:
        fields = [] if framing == "chunked" else [("content-length", str(1 << 40))]
        stream = client.open("POST", "/orders/x", fields=fields, end=False)
        try:
            while not stop.is_set():
                client.send(stream, b"x" * 16384)
        except Exception:  # the stream was reset: what the service got is what is judged
            return


@pytest.mark.parametrize("answers", [False, True], ids=["unanswered", "answered"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("version", [http1, http2], ids=["http1", "http2"])
def test_law_6_an_upload_ends_with_its_capability(version, framing, answers):
    sink, stop = Sink(answers), threading.Event()
    with Gate({"orders": sink}) as gate:
        token = gate.mint("orders")
        client = threading.Thread(target=version, args=(gate, token, framing, stop), daemon=True)
        client.start()
        until(lambda: sink.received > MANY, "the upload flows")
        gate.revoke(token)
        acknowledged = sink.received
        until(lambda: sink.has_ended, "the service sees the upload end while the client goes on sending")
        assert sink.received - acknowledged < IN_FLIGHT_BYTES_MAX
        stop.set()
        client.join(10)

"""Slow and silent peers: every wait has an end, and others are served meanwhile (T27)."""

import time

import pytest

from conformance.cases import AUTH, HOST, get
from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import Closed, request

LIMITS = {
    "first_byte_timeout": "600ms",
    "head_timeout": "900ms",
    "idle_timeout": "900ms",
    "body_stall_timeout": "900ms",
    "upstream_response_timeout": "900ms",
    "upstream_connect_timeout": "900ms",
}
# The gateway sweeps deadlines coarsely; a stuck connection would stay for minutes.
PATIENCE = 6


@pytest.fixture(scope="module")
def hasty():
    with Recorder() as service, Gate({"orders": service}, limits=LIMITS) as gate:
        yield gate, service, gate.mint("orders")


SLOW_STARTS = [
    ("nothing at all", b""),
    ("one byte", b"G"),
    ("half a request line", b"GET /orders HT"),
    ("a head without end", b"GET /orders HTTP/1.1\r\nHost: localhost\r\nX-A: "),
    ("empty lines only", b"\r\n\r\n"),
]


@pytest.mark.parametrize("start", [s for _, s in SLOW_STARTS], ids=[n for n, _ in SLOW_STARTS])
def test_a_head_that_does_not_come_ends_the_connection(hasty, start):
    gate, service, _ = hasty
    with gate.wire(timeout=PATIENCE) as wire:
        wire.send(start)
        rest = wire.rest()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408 ") or rest.startswith(b"HTTP/1.1 400 ")
    assert service.requests == []


def test_a_head_in_drips_ends_by_its_own_deadline(hasty):
    """A byte now and then is progress, but not enough of it: the head has a deadline as a whole."""
    gate, service, token = hasty
    with gate.wire() as wire:
        wire.sock.setblocking(False)
        started, answered = time.monotonic(), b""
        for byte in get(auth=f"Authorization: Bearer {token}\r\n").encode():
            try:
                wire.sock.send(bytes([byte]))
                answered += wire.sock.recv(65536)
            except BlockingIOError:
                pass
            except OSError:
                break
            if answered or time.monotonic() - started > PATIENCE:
                break
            time.sleep(0.02)
        assert time.monotonic() - started < PATIENCE and (not answered or answered.startswith(b"HTTP/1.1 408 ")), answered


def test_an_idle_connection_is_closed(hasty):
    gate, _, token = hasty
    with gate.wire(timeout=PATIENCE) as wire:
        assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
        assert wire.closed(PATIENCE)


@pytest.mark.parametrize("framing", ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"])
def test_a_body_that_stops_coming_ends_the_exchange(hasty, framing):
    gate, service, token = hasty
    service.clear()
    with gate.wire(timeout=PATIENCE) as wire:
        wire.send(f"POST /orders/x HTTP/1.1\r\n{HOST}Authorization: Bearer {token}\r\n{framing}\r\n3\r\n".encode())
        rest = wire.rest()
    assert rest == b"" or rest.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ", b"HTTP/1.1 504 ", b"HTTP/1.1 502 ")), rest
    assert service.requests == []


def test_a_service_that_never_answers_is_a_504(hasty):
    gate, service, token = hasty
    service.respond = lambda _: lambda sock: time.sleep(PATIENCE)
    with gate.wire(timeout=PATIENCE) as wire:
        answer = wire.send(request("GET", "/orders/x", token=token)).answer()
    assert answer.status == 504 and answer.problem["status"] == 504


def test_a_service_that_stops_in_its_body_is_an_unclean_end(hasty):
    gate, service, token = hasty
    service.respond = lambda _: lambda sock: (sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), time.sleep(PATIENCE))
    with gate.wire(timeout=PATIENCE) as wire, pytest.raises(Closed):
        wire.send(request("GET", "/orders/x", token=token)).answer()


def test_many_slow_clients_do_not_keep_others_out(hasty):
    gate, service, token = hasty
    service.respond = service.default
    wires = [gate.wire() for _ in range(200)]
    try:
        for wire in wires:
            wire.send(b"GET /orders HTTP/1.1\r\nHost: ")
        started = time.monotonic()
        assert gate.get("/orders/x", token).status == 200
        assert time.monotonic() - started < 2
    finally:
        for wire in wires:
            wire.close()

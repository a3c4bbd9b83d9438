"""HTTP/2 beyond single messages: gRPC callers read refusals their way, streams end with their capability, many run at
once, and a slow one holds up none of the others."""

import threading
import time

import pytest
from hyperframe.frame import SettingsFrame

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2wire import H2Wire, pseudo

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.mark.parametrize("name, status", [("no token", "16"), ("nonsense", "16"), ("stopped by a caveat", "7"), ("no right", "5")])
def test_a_grpc_caller_is_refused_in_its_own_terms(gate, service, token, name, status):
    tokens = {"no token": None, "nonsense": "AAAA", "stopped by a caveat": gate.attenuate(token, "--path", "/x"), "no right": token}
    path = "/nothere/Get" if name == "no right" else "/orders/shop.Orders/Get"
    with H2Wire(gate.port) as wire:
        stream = wire.headers(1, pseudo("POST", path, token=tokens[name], extra=GRPC), body=b"\x00\x00\x00\x00\x00").outcome(1)
    fields = dict(stream.fields + stream.trailers)
    assert stream.status == 200 and fields.get("grpc-status") == status, (stream.status, fields)
    assert fields["content-type"].startswith("application/grpc") and fields.get("grpc-message")
    assert service.requests == []


def test_grpc_passes_with_its_trailers(gate, service, token):
    service.respond = lambda _: (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\n\r\n"
        b"5\r\n\x00\x00\x00\x00\x00\r\n0\r\ngrpc-status: 0\r\n\r\n"
    )
    with H2Wire(gate.port) as wire:
        stream = wire.headers(1, pseudo("POST", "/orders/shop.Orders/Get", token=token, extra=GRPC), body=b"\x00\x00\x00\x00\x00").outcome(1)
    assert stream.status == 200 and stream.body == b"\x00" * 5 and ("grpc-status", "0") in stream.trailers
    assert service.requests[0].body == b"\x00" * 5


def endless(kind):
    def stream(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(2000):
            line = f"data: {number}\n\n".encode()
            sock.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            time.sleep(0.01)
        return "close"

    return lambda _: stream


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/octet-stream"])
def test_law_6_a_stream_ends_with_its_capability_and_the_connection_goes_on(gate, service, token, kind):
    service.respond = lambda r: endless(kind)(r) if r.target == "/stream" else answer(body=b"fine")
    child = gate.attenuate(token, "--method", "GET")
    with H2Wire(gate.port) as wire:
        wire.headers(1, pseudo(path="/orders/stream", token=child))
        wire.headers(3, pseudo(path="/orders/stream", token=token))
        assert wire.until(lambda: wire.stream(1).body and wire.stream(3).body)
        gate.revoke(child)
        ended = wire.outcome(1)
        # An event stream is told why; any other body must not look as if it had come to its end.
        assert (b"event: revoked" in ended.body) if kind == b"text/event-stream" else ended.reset is not None
        before = len(wire.stream(3).body)
        assert wire.until(lambda: len(wire.stream(3).body) > before), "the parent's stream has ended too"
        assert wire.headers(5, pseudo(path="/orders/x", token=token)).outcome(5).body == b"fine"
        assert wire.headers(7, pseudo(path="/orders/x", token=child)).outcome(7).status == 401


def test_many_streams_at_once_get_their_own_answers(gate, service, token):
    service.respond = lambda r: answer(body=r.target.encode() * 50)
    with H2Wire(gate.port) as wire:
        for number in range(1, 161, 2):
            wire.headers(number, pseudo(path=f"/orders/{number}", token=token))
        for number in range(1, 161, 2):
            assert wire.outcome(number).body == f"/{number}".encode() * 50


def test_more_streams_than_allowed_are_refused_and_can_be_tried_again():
    release = threading.Event()
    with Recorder(lambda r: lambda sock: (release.wait(10), sock.sendall(answer(body=b"done")))[1]) as service:
        with Gate({"orders": service}, limits={"h2_streams_max": 8}) as gate:
            token = gate.mint("orders")
            with H2Wire(gate.port) as wire:
                wire.until(lambda: SettingsFrame.MAX_CONCURRENT_STREAMS in wire.settings)
                assert wire.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 8
                for number in range(1, 25, 2):
                    wire.headers(number, pseudo(path="/orders/x", token=token))
                refused = [n for n in range(17, 25, 2) if wire.outcome(n, 3).reset is not None]
                assert refused == [17, 19, 21, 23] and all(wire.stream(n).reset == 7 for n in refused)
                release.set()
                assert all(wire.outcome(n).body == b"done" for n in range(1, 17, 2))


def test_a_stream_that_is_not_read_holds_up_no_other(gate, service, token):
    service.respond = lambda r: answer(body=b"x" * (8 << 20)) if r.target == "/big" else answer(body=b"small")
    with H2Wire(gate.port, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 1000}) as wire:
        wire.headers(1, pseudo(path="/orders/big", token=token))
        wire.until(lambda: len(wire.stream(1).body) >= 1000, 5)
        assert wire.headers(3, pseudo(path="/orders/small", token=token)).outcome(3).body == b"small"

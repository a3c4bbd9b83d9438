"""HTTP/2 streams that cost their client some forty bytes each: what they hold here is counted, bounded and given back."""

import re

import pytest
from hpack import Encoder
from hyperframe.frame import HeadersFrame, PingFrame, WindowUpdateFrame

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2wire import H2Wire, pseudo
from harness.ports import until

BUDGET = 4 << 20
STREAMS, CONNECTIONS = 100, 12
NO_WINDOW = {0x4: 0}


def buffered(gate):
    return int(float(re.search(r"^postern_buffered_bytes (\S+)$", gate.metrics(), re.M).group(1)))


def open_streams(gate, token=None, settings=None):
    """A connection on which many messages have begun and none has ended; each head is 13 KB, and a few bytes on the wire."""
    wire, encoder = H2Wire(gate.port, settings=settings), Encoder()
    fields = pseudo("POST", path="/orders/x", authority="a", token=token) + [("x-a", "b" * 3300)] * 4
    heads = [HeadersFrame(2 * n + 1, encoder.encode(fields), flags=["END_HEADERS"]) for n in range(STREAMS)]
    return wire.raw(b"".join(head.serialize() for head in heads))


def answered(wire):
    """The streams of a connection that have an answer, once all frames before the one to a PING are there."""
    pings = wire.pings
    wire.frame(PingFrame(0, b"answered"))
    assert wire.until(lambda: wire.pings > pings)
    return [stream for stream in wire.streams.values() if stream.status is not None]


@pytest.fixture
def silent():
    """A service that does not answer before the body is whole, which it never is."""
    with Recorder(lambda r: answer(body=b"ok")) as service:
        yield service


def test_heads_of_messages_under_way_are_in_the_budget(silent):
    with Gate({"orders": silent}, {"buffered_bytes_max": BUDGET}) as gate:
        token = gate.mint("orders")
        wires = [open_streams(gate, token) for _ in range(CONNECTIONS)]
        until(lambda: buffered(gate) > BUDGET // 2, "what is under way is counted")
        # Far fewer than were opened fit, and the others are told so.
        enough = STREAMS * CONNECTIONS * 3 / 4
        refused = until(lambda: len(all_ := sum(map(answered, wires), [])) > enough and all_, "the others are told so")
        assert {stream.status for stream in refused} == {503}
        until(lambda: BUDGET // 2 < buffered(gate) <= BUDGET, "refused streams are let go, and those under way are not")
        for wire in wires:
            wire.close()
        until(lambda: gate.get("/orders/y", token).status == 200, "the gateway recovers")
        until(lambda: buffered(gate) == 0, "everything is given back")


def test_refusals_that_nobody_reads_are_in_the_budget_and_do_not_last(silent):
    with Gate({"orders": silent}, {"buffered_bytes_max": BUDGET}) as gate:
        token = gate.mint("orders")
        wire = open_streams(gate, settings=NO_WINDOW)
        until(lambda: buffered(gate) > 0, "waiting refusals are counted")
        # What is held is a stream each, and not the head that came with it.
        assert buffered(gate) < STREAMS * 4096
        # Whoever opens no window gets no answer, and its streams end long before a body would be given up.
        assert wire.until(lambda: len([s for s in wire.streams.values() if s.reset is not None]) == STREAMS)
        until(lambda: buffered(gate) == 0, "everything is given back")
        assert gate.get("/orders/y", token).status == 200


def test_answers_that_nobody_takes_are_in_the_budget_also_when_their_exchange_is_over():
    """Each answer fits what `h2` takes for a stream, so the service is done with it and nothing here waits any more."""
    body = b"x" * 60_000
    with Recorder(lambda r: answer(body=body)) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with H2Wire(gate.port, settings={0x4: 2**31 - 1}) as wire:
            wire.frame(WindowUpdateFrame(0, 2**31 - 1 - 65535))
            for n in range(STREAMS):
                wire.headers(2 * n + 1, pseudo("GET", path="/orders/x", authority="a", token=token))
            # The kernel's buffers hold some of the six megabytes; the rest is here.
            until(lambda: len(service.requests) == STREAMS and buffered(gate) > len(body) * 5, "what waits is counted")
            for n in range(STREAMS):
                assert wire.outcome(2 * n + 1).body == body
            until(lambda: buffered(gate) == 0, "everything is given back")

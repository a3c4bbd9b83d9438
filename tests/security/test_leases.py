"""Law 6 on messages that are under way for long: WebSockets and event streams end with their capability, are told why
between two frames or events, and nothing that is not derived from it notices anything."""

import threading
import time
from contextlib import ExitStack

import httpx
import pytest
from httpx_sse import connect_sse

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.ports import until
from harness.websocket import HANDSHAKE, SWITCHED, Echo, answering, close_of, echoes, opened
from harness.wire import request

# The contract is 100 ms after the acknowledgement. Tests run on loaded machines and get a wider bound; a lease that is
# missing never ends at all.
SOON = 3


@pytest.fixture(scope="module")
def echo():
    with Echo() as service:
        yield service


@pytest.fixture(scope="module")
def gate(echo):
    with Gate({"orders": echo}) as gate:
        yield gate


def test_law_6_a_websocket_ends_with_its_capability_and_no_other_does(gate, echo):
    token, unrelated = gate.mint("orders"), gate.mint("orders")
    child = gate.attenuate(token, "--method", "GET")
    with opened(gate, child) as ending, opened(gate, token) as parent, opened(gate, unrelated) as other:
        assert echoes(ending) and echoes(parent) and echoes(other)
        gate.revoke(child)
        acknowledged = time.monotonic()
        assert close_of(ending) == (1008, "revoked")
        assert time.monotonic() - acknowledged < SOON
        assert echoes(parent) and echoes(other)
    until(lambda: (1008, "revoked") in echo.closes, "the service was told, too")


def test_law_6_revoking_a_parent_ends_all_that_was_derived(gate):
    parent, unrelated = gate.mint("orders"), gate.mint("orders")
    child = gate.attenuate(parent, "--method", "GET")
    sealed = gate.run("seal", "-", stdin=gate.attenuate(child, "--path", "/**")).ok().out.strip()
    with opened(gate, unrelated) as other, ExitStack() as stack:
        family = [stack.enter_context(opened(gate, t)) for t in (parent, child, sealed, child)]
        assert all(echoes(one) for one in family)
        gate.revoke(parent)
        assert [close_of(one) for one in family] == [(1008, "revoked")] * 4
        assert echoes(other)


def test_law_6_a_websocket_ends_when_its_time_is_over(gate):
    token = gate.mint("orders")
    expiring = gate.attenuate(token, "--expires", "2s")
    with opened(gate, expiring) as ending, opened(gate, token) as other:
        assert echoes(ending)
        assert close_of(ending) == (1008, "expired")
        assert echoes(other)


def test_law_6_every_date_in_a_caveat_is_decided_again(gate):
    """A date that is not an expiry: the same message is decided anew when it comes."""
    date = lambda after: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + after))
    token = gate.mint("orders")
    before = gate.attenuate(token, "--check", f"check if time($t), $t < {date(3)}")
    elsewhere = gate.attenuate(token, "--check", f'check if time($t), $t < {date(3)} or path("/orders/other")')
    passing = gate.attenuate(token, "--check", f'check if time($t), $t < {date(3)} or path("/chat")')
    with opened(gate, before) as one, opened(gate, elsewhere) as two, opened(gate, passing) as other:
        assert echoes(one) and echoes(two) and echoes(other)
        assert close_of(one) == (1008, "not-permitted")
        assert close_of(two) == (1008, "not-permitted")
        assert echoes(other), "the decision is still in its favour"
    assert gate.get("/orders/chat", before, fields=HANDSHAKE).status == 403


def test_law_6_a_retired_key_ends_its_websockets():
    with Echo() as echo, Gate({"orders": echo}) as gate:
        old = gate.mint("orders")
        listed = gate.run("keys", "list", "--json").ok().json
        keys = listed["keys"] if isinstance(listed, dict) else listed
        gate.run("keys", "rotate").ok()
        new = gate.mint("orders")
        with opened(gate, old) as ending, opened(gate, new) as other:
            assert echoes(ending) and echoes(other)
            gate.run("keys", "retire", str(keys[0].get("id", keys[0].get("key_id")))).ok()
            assert close_of(ending) == (1008, "revoked")
            assert echoes(other)


def test_law_6_a_close_is_never_put_into_a_frame():
    """The service is in the middle of a large frame of a fragmented message when the capability falls: what is there of it
    is cut, since the rest does not come in time, and no byte of the gateway's own follows."""
    begun = b"\x01\x03one" + b"\x00\x7f" + (1 << 20).to_bytes(8, "big") + b"x" * 1000
    with answering(SWITCHED, begun) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            assert wire.send(request("GET", "/orders/x", token=token, fields=HANDSHAKE)).answer().status == 101
            assert wire._exactly(len(begun)) == begun
            gate.revoke(token)
            assert wire.rest(SOON + 5) == b""


def test_law_6_a_message_in_fragments_is_ended_between_two_of_them():
    begun = b"\x01\x03one" + b"\x00\x7e\x40\x00" + b"x" * 0x4000
    with answering(SWITCHED, begun) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            assert wire.send(request("GET", "/orders/x", token=token, fields=HANDSHAKE)).answer().status == 101
            assert wire._exactly(len(begun)) == begun
            gate.revoke(token)
            assert wire._exactly(11) == b"\x88\x09\x03\xf0revoked"
            wire.half_close()
            assert wire.rest(SOON + 5) == b""


def test_law_6_a_flooding_websocket_ends_as_well(gate):
    """Bytes in both directions all the time, and a reader that is slow: the end comes between two frames all the same."""
    token, unrelated = gate.mint("orders"), gate.mint("orders")
    with opened(gate, token, max_queue=4) as flooding, opened(gate, unrelated) as other:
        def flood():
            try:
                while True:
                    flooding.send(b"x" * 50_000)
            except Exception:  # the end is what the reader judges
                pass

        threading.Thread(target=flood, daemon=True).start()
        assert flooding.recv(timeout=10)
        gate.revoke(token)
        assert close_of(flooding) in [(1008, "revoked"), (None, "cut")]
        assert echoes(other)


def test_law_6_what_is_no_websocket_is_cut():
    def switch(sock):
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: line\r\n\r\nhello")
        while data := sock.recv(1000):
            sock.sendall(data)
        return "close"

    with Recorder(lambda r: switch) as service, Gate({"lines": {"upstream": service, "upgrades": ["line"]}}) as gate:
        token = gate.mint("lines")
        with gate.wire() as wire:
            offer = [("Connection", "Upgrade"), ("Upgrade", "line")]
            assert wire.send(request("GET", "/lines/x", token=token, fields=offer)).answer().status == 101
            wire.send(b" you")
            assert wire._exactly(9) == b"hello you"
            gate.revoke(token)
            assert wire.rest(SOON + 5) == b""


def test_law_6_a_message_that_waits_for_its_answer_is_refused_when_its_capability_falls():
    release = threading.Event()
    with Recorder(lambda r: lambda sock: (release.wait(20), sock.sendall(answer(body=b"late")))[1]) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/x", token=token))
            until(lambda: service.requests, "the service has the request")
            gate.revoke(token)
            refused = wire.answer()
            assert (refused.status, refused.kind) == (401, "revoked")
        release.set()


@pytest.mark.parametrize("http2", [False, True])
def test_law_6_an_event_stream_is_told_why_it_ends(http2):
    def events(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(2000):
            event = f"data: {number}\n\n".encode()
            sock.sendall(f"{len(event):x}\r\n".encode() + event + b"\r\n")
            time.sleep(0.01)
        return "close"

    def read(token):
        with httpx.Client(http1=not http2, http2=http2, timeout=20) as client:
            with connect_sse(client, "GET", f"http://127.0.0.1:{gate.port}/orders/x", headers={"Authorization": f"Bearer {token}"}) as source:
                for event in source.iter_sse():
                    begun.add(token)
                    last[token] = (event.event, event.data)
                    if token == unrelated and stop.is_set():
                        return

    begun, last, stop = set(), {}, threading.Event()
    with Recorder(lambda _: events) as service, Gate({"orders": service}) as gate:
        token, unrelated = gate.mint("orders"), gate.mint("orders")
        expiring = gate.attenuate(token, "--expires", "4s")
        readers = [threading.Thread(target=read, args=(t,), daemon=True) for t in (token, unrelated, expiring)]
        [reader.start() for reader in readers]
        until(lambda: len(begun) == 3, "all three read events")
        assert 'postern_open_streams{kind="sse"} 3' in gate.metrics()
        readers[2].join(20)
        assert last[expiring] == ("expired", '{"type":"expired"}')
        gate.revoke(token)
        readers[0].join(20)
        assert last[token] == ("revoked", '{"type":"revoked"}')
        seen = last[unrelated]
        until(lambda: last[unrelated] != seen and last[unrelated][0] == "message", "the unrelated one goes on")
        stop.set()
        readers[1].join(20)

"""SIGTERM: nothing new begins, what is under way ends within a bound, and everybody who asks is told."""

import json
import signal
import threading
from contextlib import contextmanager

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate, Process, postern
from harness.h2wire import H2Wire, pseudo
from harness.ports import is_open, until
from harness.wire import request


class Held(Recorder):
    """A service that answers `/slow` only when told to."""

    def __init__(self):
        self.release = threading.Event()
        super().__init__(lambda r: (r.target != "/slow" or self.release.wait(30)) and answer(body=b"late"))

    def holds(self):
        return any(r.target == "/slow" for r in self.requests)


@contextmanager
def under_way(limits=None):
    """A gateway, and a connection on which a request waits for the service."""
    with Held() as service, Gate({"orders": service}, limits) as gate:
        gate.token = gate.mint("orders")
        with gate.wire(timeout=30) as busy:
            busy.send(request("GET", "/orders/slow", token=gate.token))
            until(service.holds, "the slow request did not arrive")
            try:
                yield service, gate, busy
            finally:
                service.release.set()


def test_a_drain_ends_idle_connections_finishes_the_others_and_says_that_nothing_is_ready():
    with under_way() as (service, gate, busy):
        with gate.wire() as idle:
            assert idle.send(request("GET", "/orders/1", token=gate.token)).answer().status == 200
            assert gate.admin("GET", "/health/ready").status == 200
            gate.process.signal(signal.SIGTERM)
            ready = until(lambda: (a := gate.admin("GET", "/health/ready")).status == 503 and a, "still ready")
            assert "shutting down" in json.loads(ready.body)["detail"]
            assert gate.admin("GET", "/health/live").status == 200
            assert idle.sock.recv(1) == b"", "an idle connection ends at once"
            until(lambda: not is_open(gate.port), "new connections are still taken")
            # Administration goes on, and is found: a capability can be revoked for as long as anything is open.
            revoked = postern("revoke", "-", state=gate.state, stdin=gate.mint("orders")).ok()
            assert "in force at the gateway now" in revoked.out
            service.release.set()
            reply = busy.answer()
            assert reply.status == 200 and reply.value("connection") == "close"
        assert gate.process.wait(20) == 0


def test_an_open_http2_connection_gets_goaway_and_its_stream_finishes():
    with Held() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with H2Wire(gate.port) as wire:
            wire.headers(1, pseudo("GET", "/orders/slow", token=token))
            until(service.holds, "the slow request did not arrive")
            gate.process.signal(signal.SIGTERM)
            until(lambda: gate.admin("GET", "/health/ready").status == 503, "still ready")
            service.release.set()
            reply = wire.outcome(1)
            assert reply.value(":status") == "200" and bytes(reply.body) == b"late"
            wire.until(lambda: wire.goaway is not None or wire.closed)
            assert wire.goaway == 0
        assert gate.process.wait(20) == 0


def test_a_drain_is_bounded():
    with under_way({"drain_timeout": "300ms"}) as (_, gate, busy):
        gate.process.signal(signal.SIGTERM)
        assert gate.process.wait(20) == 0
        assert busy.sock.recv(1) == b""


@pytest.mark.parametrize("protocol", ["HTTP/1", "HTTP/2"])
def test_what_a_drain_cuts_off_leaves_its_line(protocol):
    """Every message that was received is in the access log, with what ended it."""
    with Held() as service, Gate({"orders": service}, {"drain_timeout": "300ms"}) as gate:
        token = gate.mint("orders")
        with gate.wire() if protocol == "HTTP/1" else H2Wire(gate.port) as wire:
            if protocol == "HTTP/1":
                wire.send(request("GET", "/orders/slow", token=token))
            else:
                wire.headers(1, pseudo("GET", "/orders/slow", token=token))
            until(service.holds, "the slow request did not arrive")
            gate.process.signal(signal.SIGTERM)
            assert gate.process.wait(20) == 0
            service.release.set()
            lines = [json.loads(line) for line in bytes(gate.process.output).splitlines() if b'"/orders/slow"' in line]
            assert [(line["decision"], line["upstream"]) for line in lines] == [("shut-down", service.url.removeprefix("http://"))]


def test_a_second_sigterm_ends_it_at_once():
    with under_way({"drain_timeout": "10m"}) as (_, gate, _busy):
        gate.process.signal(signal.SIGTERM)
        until(lambda: b"Draining" in gate.process.output, "no drain")
        until(lambda: gate.process.signal(signal.SIGTERM) or not gate.process.is_running(), "still running", every=0.2)
        assert gate.process.wait(20) == 3, "cut short, and said so"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_gateway_answers_signals_before_it_takes_connections(number):
    """It once was ready a few milliseconds before it caught them: whoever saw that and sent one killed it."""
    with Recorder() as service, Gate({"orders": service}, start=False) as gate:
        gate.process = Process("serve", "--config", gate.config, state=gate.state, cwd=gate.dir)
        until(lambda: is_open(gate.port), "it does not listen", every=0)
        gate.process.signal(number)
        if number == signal.SIGTERM:
            assert gate.process.wait(20) == 0
        else:
            until(gate.is_ready, "it is not ready")
            assert gate.terminate() == 0

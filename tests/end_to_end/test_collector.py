"""The way to the trace collector: over TLS it is verified before it gets anything, and a reload may change all of it."""

import re
import signal
import threading

import pytest

from harness.backend import Recorder
from harness.certificates import Authority
from harness.collector import Collector
from harness.gate import Gate
from harness.ports import free_port, until

SERVER = 2
# Where the log is read for what the gateway says, messages write nothing into it.
QUIET = {"log": {"access": "off"}}


@pytest.fixture(scope="module")
def service():
    with Recorder() as service:
        yield service


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("collector"))


def spans(gate):
    """How many spans were exported and dropped so far."""
    found = dict(re.findall(r'^postern_trace_spans_total\{outcome="(\w+)"\} (\d+)$', gate.metrics(), re.M))
    return int(found["exported"]), int(found["dropped"])


def complaints(gate):
    return [line for line in gate.log.splitlines() if "takes no spans" in line]


def reload(gate, service, telemetry=None, tls=None, limits=None):
    """Writes another configuration, and waits until the gateway has said what came of it; returns that line."""
    tables = {"telemetry": telemetry, "telemetry.tls": tls, **QUIET}
    gate.write_config({"orders": service}, limits, tables={name: table for name, table in tables.items() if table})
    said = lambda: [line for line in gate.log.splitlines() if "is in force" in line or "is refused" in line]  # noqa: E731
    before = len(said())
    gate.process.signal(signal.SIGHUP)
    return until(lambda: said()[before:], f"the reload says nothing\n{gate.log[-2000:]}")[0]


def test_spans_travel_over_tls_to_the_collector_that_was_verified(service, authority):
    pair = authority.issue("collector")[:2]
    with Collector(tls=pair) as collector:
        tables = {"telemetry": {"otlp": collector.url}, "telemetry.tls": {"ca": authority.path}}
        with Gate({"orders": service}, tables=tables) as gate:
            gate.get("/orders/a", gate.mint("orders"))
            assert {s.kind for s in collector.wait("postern", 2)} == {SERVER, 3}
            until(lambda: spans(gate) == (2, 0), "they are counted")


def test_the_collector_learns_who_the_gateway_is(service, authority):
    cert, key, _ = authority.issue("gateway")
    with Collector(tls=authority.issue("asking")[:2], client_ca=authority.path) as collector:
        named = {"ca": authority.path, "cert": cert, "key": key}
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url}, "telemetry.tls": named, **QUIET}) as gate:
            gate.get("/orders/a", gate.mint("orders"))
            collector.wait("postern", 2)
            without = {"ca": authority.path}
            assert "telemetry" in reload(gate, service, {"otlp": collector.url}, without)
            gate.get("/orders/b", gate.mint("orders"))
            (line,) = until(lambda: complaints(gate), "the operator is told")
            assert "https://" in line and "telemetry.tls.cert" in line, line


@pytest.mark.parametrize("why", ["another authority", "the system's authorities", "another name", "expired", "clear text"])
def test_a_collector_that_cannot_be_verified_gets_nothing(service, authority, tmp_path, why):
    """Neither spans nor the keys in the header fields: it is told apart before anything is sent, and said once what to do."""
    pair = authority.issue(why.replace(" ", "-"), names=["other.example"] if why == "another name" else ("127.0.0.1",), is_expired=why == "expired")[:2]
    trusted = Authority(tmp_path / "other").path if why == "another authority" else authority.path
    tls = {} if why == "the system's authorities" else {"telemetry.tls": {"ca": trusted}}
    keys = tmp_path / "collector.headers"
    keys.write_text("api-key: s3cr3t-of-the-collector\n")
    keys.chmod(0o600)
    with Collector(tls=None if why == "clear text" else pair) as collector:
        telemetry = {"otlp": collector.url.replace("http://", "https://"), "otlp_headers": keys}
        tables = {"telemetry": telemetry, **tls}
        with Gate({"orders": service}, limits={"trace_queue_spans_max": 20}, tables=tables) as gate:
            token = gate.mint("orders")
            assert all(gate.get(f"/orders/{n}", token).status == 200 for n in range(60))
            until(lambda: spans(gate)[1] >= 40, "what does not fit is dropped and counted")
            # Several attempts are made, one line is written.
            until(lambda: collector.connections >= 3, "it is tried again")
            (line,) = complaints(gate)
            advice = {"another name": "telemetry.tls.server_name", "expired": "renew it", "clear text": "http:// in place of https://"}
            assert advice.get(why, "telemetry.tls.ca") in line and "telemetry.otlp" in line, line
            assert (spans(gate)[0], collector.spans, collector.headers) == (0, [], [])
            assert "s3cr3t" not in gate.log
            assert gate.terminate() == 0


def test_a_redirect_is_not_followed(service, authority, tmp_path):
    """The header fields are for the collector that the file names; that one cannot send them elsewhere."""
    keys = tmp_path / "collector.headers"
    keys.write_text("api-key: s3cr3t-of-the-collector\n")
    keys.chmod(0o600)
    with Collector() as elsewhere, Collector() as collector:
        collector.answer, collector.moved_to = 307, f"{elsewhere.url}/v1/traces"
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url, "otlp_headers": keys}}) as gate:
            gate.get("/orders/a", gate.mint("orders"))
            until(lambda: spans(gate) == (0, 2), "they are dropped and counted")
            assert "307" in complaints(gate)[0] and elsewhere.connections == 0


def test_what_waits_goes_to_the_collector_that_a_reload_names(service, authority):
    """Nothing is lost on the way from a collector that is gone to another one, under another name and over TLS."""
    with Collector(tls=authority.issue("second")[:2]) as second:
        gone = {"otlp": f"http://127.0.0.1:{free_port()}"}
        with Gate({"orders": service}, tables={"telemetry": gone, **QUIET}) as gate:
            token = gate.mint("orders")
            for n in range(20):
                assert gate.get(f"/orders/{n}", token).status == 200
            until(lambda: complaints(gate), "it was tried")
            line = reload(gate, service, {"otlp": second.url, "service_name": "edge"}, {"ca": authority.path})
            assert "what changed: telemetry" in line, line
            assert len(second.wait("edge", 40)) == 40
            until(lambda: spans(gate) == (40, 0), "all are counted")
            assert "takes spans again" in gate.log


def test_a_collector_is_swapped_while_messages_flow(service):
    """Each message is seen by exactly one of two collectors that take turns."""
    with Collector() as one, Collector() as other, Gate({"orders": service}, tables={"telemetry": {"otlp": one.url}, **QUIET}) as gate:
        token, stop, sent = gate.mint("orders"), threading.Event(), []

        def load():
            while not stop.is_set():
                sent.append(gate.get(f"/orders/{len(sent)}", token).status)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            for to in (other, one, other):
                seen = len(to.spans)
                assert "what changed: telemetry" in reload(gate, service, {"otlp": to.url})
                until(lambda: len(to.spans) > seen + 4, "spans reach the collector that is meant", 15)
        finally:
            stop.set()
            thread.join(20)
        assert set(sent) == {200}
        assert gate.terminate() == 0
        ids = [s.id for collector in (one, other) for s in collector.of("postern")]
        assert len(ids) == len(set(ids)) == 2 * len(sent)


def test_traces_are_turned_off_and_on(service):
    with Collector() as collector, Gate({"orders": service}, tables=QUIET) as gate:
        token = gate.mint("orders")
        gate.get("/orders/untraced", token)
        # Who records nothing does not decide for others.
        assert service.requests[-1].value("traceparent").endswith("-01")
        assert "telemetry is new" in reload(gate, service, {"otlp": collector.url})
        gate.get("/orders/traced", token)
        assert service.requests[-1].value("traceparent").endswith("-01")
        # What waits is sent before they are off.
        assert "telemetry is gone" in reload(gate, service)
        collector.wait("postern", 2)
        gate.get("/orders/untraced", token)
        # Who records nothing does not decide for others.
        assert service.requests[-1].value("traceparent").endswith("-01")
        assert "telemetry is new" in reload(gate, service, {"otlp": collector.url, "sample": 0.0})
        gate.get("/orders/unsampled", token)
        assert service.requests[-1].value("traceparent").endswith("-00")
        assert "what changed: telemetry" in reload(gate, service, {"otlp": collector.url, "sample": 1.0})
        gate.get("/orders/traced", token)
        collector.wait("postern", 4)
        assert gate.terminate() == 0 and len(collector.spans) == 4


def test_a_reload_with_another_key_for_the_collector(service, tmp_path):
    """The file of header fields is a part of the configuration: it is watched, and refused while others can read it."""
    keys = tmp_path / "collector.headers"
    keys.write_text("api-key: first\n")
    keys.chmod(0o600)
    with Collector() as collector:
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url, "otlp_headers": keys}}) as gate:
            token = gate.mint("orders")
            gate.get("/orders/a", token)
            until(lambda: collector.headers and collector.headers[-1]["api-key"] == "first", "the first key")
            keys.write_text("api-key: second\n")
            until(lambda: "is in force; what changed: telemetry" in gate.log, "the change is noticed")
            gate.get("/orders/b", token)
            until(lambda: collector.headers[-1]["api-key"] == "second", "the second key")
            keys.chmod(0o644)
            until(lambda: "is refused" in gate.log, "what others can read is refused")
            gate.get("/orders/c", token)
            collector.wait("postern", 6)
            assert collector.headers[-1]["api-key"] == "second" and "second" not in gate.log


def test_a_table_for_tls_belongs_to_https(service, authority):
    with Collector() as collector, Gate({"orders": service}, tables=QUIET) as gate:
        assert "telemetry.tls" in reload(gate, service, {"otlp": collector.url}, {"ca": authority.path})
        gate.write_config({"orders": service}, tables={"telemetry": {"otlp": "ftp://127.0.0.1:1"}})
        checked = gate.run("config", "check", "--config", gate.config)
        assert checked.code == 1 and "no http:// or https:// URL" in checked.out

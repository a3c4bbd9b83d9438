"""Traces: client, gateway and service form one, the collector is never waited for, and no span holds a token."""

import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from harness.backend import Recorder
from harness.collector import Collector
from harness.gate import Gate
from harness.ports import free_port, until
from harness.wire import request

SERVER, CLIENT = 2, 3
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"
PROPAGATOR = TraceContextTextMapPropagator()


def tracer(name, collector):
    """The official SDK, sending each span as it ends."""
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")))
    return provider.get_tracer(name)


class Instrumented:
    """A service that continues the trace in which it is called."""

    def __init__(self, collector):
        traces, self.states = tracer("service", collector), []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                context = PROPAGATOR.extract({name.lower(): v for name, v in self.headers.items()})
                service.states.append(self.headers.get("tracestate"))
                with traces.start_as_current_span("work", context=context, kind=SpanKind.SERVER):
                    self.send_response(200)
                    self.send_header("content-length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def scene():
    """A collector, a recording service, and a gateway that traces everything."""
    with Collector() as collector, Recorder() as service:
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url}}) as gate:
            gate.collector, gate.service, gate.token = collector, service, gate.mint("orders")
            yield gate


def traced(scene, *args, count, **more):
    """Sends one request and returns its answer, and the gateway's spans of it."""
    before = len(scene.collector.of("postern"))
    answer = scene.get(*args, **more)
    return answer, scene.collector.wait("postern", before + count)[before:]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_client_gateway_and_service_form_one_trace(http2):
    with Collector() as collector, Instrumented(collector) as service:
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url, "service_name": "edge"}}) as gate:
            headers = {"authorization": f"Bearer {gate.mint('orders')}", "tracestate": "vendor=7"}
            with tracer("client", collector).start_as_current_span("buy", kind=SpanKind.CLIENT):
                PROPAGATOR.inject(headers)
                with httpx.Client(http1=not http2, http2=http2) as client:
                    assert client.get(f"{gate.url}/orders/a", headers=headers).text == "ok"
            (buy,) = collector.wait("client", 1)
            (work,) = collector.wait("service", 1)
            spans = collector.wait("edge", 2)
            server = next(s for s in spans if s.kind == SERVER)
            client = next(s for s in spans if s.kind == CLIENT)
            assert {s.trace for s in (buy, work, server, client)} == {buy.trace}
            assert (server.parent, client.parent, work.parent) == (buy.id, server.id, client.id)
            assert server.start <= client.start <= client.end <= server.end
            assert service.states == ["vendor=7"]
            assert server.attributes["network.protocol.version"] == ("2" if http2 else "1.1")


def test_a_span_says_what_happened_by_the_conventions(scene):
    narrow = scene.attenuate(scene.token, "--path", "/v1/**")
    answer, spans = traced(scene, "/orders/v1/secret-path?secret=query", narrow, count=2)
    assert answer.status == 200
    server, client = sorted(spans, key=lambda s: s.kind)
    expected = {"http.request.method": "GET", "http.response.status_code": 200, "network.protocol.version": "1.1", "url.scheme": "http",
                "client.address": "127.0.0.1", "http.route": "/orders", "postern.resource": "orders", "postern.decision": "allowed"}
    assert expected.items() <= server.attributes.items(), server.attributes
    assert server.name == client.name == "GET orders"
    assert len(server.attributes["postern.capability"]) == 8
    assert (client.attributes["server.address"], client.attributes["server.port"]) == ("127.0.0.1", scene.service.port)
    assert client.attributes["http.response.status_code"] == 200 and not server.error and not client.error
    exported = b"".join(scene.collector.bodies)
    assert b"secret" not in exported, "neither path nor query is exported"


def test_a_refusal_is_one_span(scene):
    answer, (span,) = traced(scene, "/orders/a", scene.attenuate(scene.token, "--path", "/b"), count=1)
    assert answer.status == 403 and span.kind == SERVER and not span.error
    assert (span.attributes["postern.decision"], span.attributes["http.response.status_code"]) == ("not-permitted", 403)
    answer, (span,) = traced(scene, "/made-up/a", scene.token, count=1, method="BREW")
    assert answer.status == 404 and span.name == "HTTP" and "made-up" not in str(span.attributes)
    assert span.attributes["http.request.method"] == "_OTHER"


def test_a_failing_service_is_an_error(scene):
    scene.service.respond = lambda request: None
    try:
        answer, spans = traced(scene, "/orders/a", scene.token, method="POST", body=b"x", count=2)
        assert answer.status == 502 and all(s.error for s in spans)
        assert {s.attributes["error.type"] for s in spans} == {"upstream-closed"}
    finally:
        scene.service.respond = scene.service.default


def test_the_sampled_flag_of_the_caller_is_followed(scene):
    scene.service.clear()
    scene.get("/orders/unsampled", scene.token, fields=[("traceparent", PARENT + "00")])
    _, spans = traced(scene, "/orders/sampled", scene.token, fields=[("traceparent", PARENT + "01")], count=2)
    assert {s.trace for s in spans} == {PARENT[3:35]}
    unsampled, sampled = (r.value("traceparent") for r in scene.service.requests[-2:])
    assert unsampled.startswith(PARENT[:36]) and unsampled.endswith("-00") and PARENT[36:52] not in unsampled
    client = next(s for s in spans if s.kind == CLIENT)
    assert sampled == f"00-{PARENT[3:35]}-{client.id}-01"
    assert next(s for s in spans if s.kind == SERVER).parent == PARENT[36:52]


@pytest.mark.parametrize("parent", ["00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper() + "01", "junk"])
def test_what_is_no_parent_begins_a_trace(scene, parent):
    _, spans = traced(scene, "/orders/a", scene.token, fields=[("traceparent", parent), ("tracestate", "a=b")], count=2)
    server = next(s for s in spans if s.kind == SERVER)
    assert server.parent == "" and server.trace not in parent.lower()
    assert scene.service.requests[-1].value("tracestate") is None


def test_the_access_log_names_the_trace(scene):
    _, spans = traced(scene, "/orders/logged", scene.token, count=2)

    def line():
        lines = [json.loads(l) for l in scene.log.splitlines() if '"/orders/logged"' in l]
        return lines and lines[0]

    assert until(line, "the line")["trace_id"] == spans[0].trace


def test_no_span_holds_token_text(scene):
    token, narrow = scene.token, scene.attenuate(scene.token, "--path", "/a")
    before = len(scene.collector.of("postern"))
    sent = [
        ("/orders/a", narrow, []),
        (f"/orders/{token}", token, []),
        (f"/orders/a?t={token}", narrow, []),
        (f"/{token}/x", token, []),
        ("/orders/a", None, [("Authorization", f"Basic {token}")]),
        ("/orders/a", narrow, [("Cookie", token), ("tracestate", f"t={token[:200]}"), ("traceparent", PARENT + "01"), ("User-Agent", token)]),
        ("/orders/a", narrow, [("X-Forwarded-For", token), ("Forwarded", f"for={token}")]),
    ]
    for target, presented, fields in sent:
        scene.get(target, presented, fields=fields)
    scene.get("/orders/a", narrow, method=token[:30].upper())
    until(lambda: sum(s.kind == SERVER for s in scene.collector.of("postern")[before:]) == len(sent) + 1, "all spans")
    exported = b"".join(scene.collector.bodies)
    for text in (token, narrow, token.upper()):
        assert all(text[at : at + 16].encode() not in exported for at in range(0, len(text) - 16, 4))


def test_new_traces_are_sampled_by_their_share():
    with Collector() as collector, Recorder() as service:
        telemetry = {"otlp": collector.url, "sample": 0.2}
        with Gate({"orders": service}, tables={"telemetry": telemetry}) as gate:
            token = gate.mint("orders")
            with gate.wire() as wire:
                for _ in range(400):
                    wire.send(request("GET", "/orders/a", token=token))
                    wire.answer()
            gate.terminate()
            count = len(collector.of("postern")) / 2
            # 400 draws at 0.2: 80 are expected, with a standard deviation of 8.
            assert 40 <= count <= 120, count
            flags = [r.value("traceparent")[-2:] for r in service.requests]
            assert flags.count("01") == count and flags.count("00") == 400 - count


def test_header_fields_for_the_collector_come_from_a_file():
    with Collector() as collector, Recorder() as service:
        gate = Gate({"orders": service}, start=False)
        with gate:
            keys = gate.dir / "collector.headers"
            keys.write_text("api-key: s3cr3t-of-the-collector\nx-scope: a\n")
            telemetry = {"otlp": collector.url, "otlp_headers": keys}
            gate.write_config({"orders": service}, tables={"telemetry": telemetry})
            keys.chmod(0o644)
            refused = gate.run("serve", "--config", gate.config)
            assert refused.code == 3 and "others" in refused.err.lower(), refused
            keys.chmod(0o600)
            gate.start()
            gate.get("/orders/a", gate.mint("orders"))
            collector.wait("postern", 2)
            assert (collector.headers[0]["api-key"], collector.headers[0]["x-scope"]) == ("s3cr3t-of-the-collector", "a")
            assert "s3cr3t" not in gate.log


def dropped(gate):
    lines = [l for l in gate.metrics().splitlines() if l.startswith("postern_trace_spans_total")]
    return {l.split('"')[1]: int(l.split()[-1]) for l in lines}


def test_a_collector_that_is_down_stops_nothing_and_is_counted():
    port = free_port()
    with Recorder() as service:
        telemetry = {"otlp": f"http://127.0.0.1:{port}"}
        with Gate({"orders": service}, limits={"trace_queue_spans_max": 20}, tables={"telemetry": telemetry}) as gate:
            token = gate.mint("orders")
            assert all(gate.get(f"/orders/{n}", token).status == 200 for n in range(60))
            until(lambda: dropped(gate)["dropped"] >= 40, "drops are counted", 15)
            assert dropped(gate)["exported"] == 0
            until(lambda: "takes no spans" in gate.log, "the operator is told")
            complaints = [l for l in gate.log.splitlines() if "takes no spans" in l]
            assert len(complaints) == 1 and str(port) in complaints[0], complaints
            assert "postern_trace_collector_failing 1" in gate.metrics()
            assert gate.terminate() == 0


def test_spans_wait_for_a_collector_that_asks_for_patience():
    with Collector() as collector, Recorder() as service:
        collector.answer = 503
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url}}) as gate:
            gate.get("/orders/a", gate.mint("orders"))
            until(lambda: "takes no spans" in gate.log, "it was tried")
            collector.answer = 200
            assert len(collector.wait("postern", 2)) == 2
            until(lambda: dropped(gate) == {"exported": 2, "dropped": 0}, "they are counted")


def test_a_shutdown_sends_what_is_left():
    with Collector() as collector, Recorder() as service:
        with Gate({"orders": service}, tables={"telemetry": {"otlp": collector.url}}) as gate:
            gate.get("/orders/a", gate.mint("orders"))
            assert gate.terminate() == 0
            assert len(collector.of("postern")) == 2


def test_lines_of_messages_that_end_within_the_drain_are_written():
    """The access log once ended with administration, before the messages that were still under way."""
    with Recorder() as service:
        go = threading.Event()

        def slow(request):
            go.wait(10)
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

        service.respond = slow
        with Gate({"orders": service}) as gate:
            token = gate.mint("orders")
            answers = []
            waiting = threading.Thread(target=lambda: answers.append(gate.get("/orders/late", token)))
            waiting.start()
            until(lambda: service.requests, "it is under way")
            gate.process.signal(signal.SIGTERM)
            until(lambda: "Draining" in gate.log, "the drain has begun")
            go.set()
            waiting.join(10)
            assert gate.process.wait(40) == 0 and answers[0].status == 200
            assert '"path":"/orders/late"' in gate.log


def test_the_access_log_is_opened_anew_on_sigusr1():
    with Recorder() as service:
        gate = Gate({"orders": service}, start=False)
        with gate:
            gate.write_config({"orders": service}, tables={"log": {"access": "access.log"}})
            gate.start()
            token = gate.mint("orders")
            log, old = gate.dir / "access.log", gate.dir / "access.log.1"
            gate.get("/orders/before", token)
            until(lambda: "/orders/before" in log.read_text(), "the first line")
            log.rename(old)
            gate.process.signal(signal.SIGUSR1)
            until(lambda: log.exists(), "a new file")
            gate.get("/orders/after", token)
            until(lambda: "/orders/after" in log.read_text(), "the second line")
            assert "/orders/after" not in old.read_text()

"""An OpenTelemetry collector for tests: takes OTLP over HTTP and reads it with the project's own generated classes."""

import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .ports import until


@dataclass
class Span:
    """One span, its ids in hexadecimal digits and its attributes as a dictionary."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict
    error: bool
    start: int
    end: int
    raw: object


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


class Collector:
    """Keeps every request as bytes and every span decoded. `answer` is the status that it answers.

    With `tls`, a certificate and its key, it takes spans over TLS alone; with `client_ca` too it asks for a certificate
    that this authority signed. `connections` counts whoever connected, `moved_to` is where it sends its callers instead.
    """

    def __init__(self, tls=None, client_ca=None):
        self.bodies, self.headers, self.spans, self.answer = [], [], [], 200
        self.connections, self.moved_to = 0, None
        self.context = self.tls_context(tls, client_ca) if tls else None
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.answer
                if status == 200:
                    collector.take(self.path, dict(self.headers), body)
                self.send_response(status)
                if collector.moved_to:
                    self.send_header("location", collector.moved_to)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def get_request(self):
                connection, peer = super().get_request()
                collector.connections += 1
                return (collector.context.wrap_socket(connection, server_side=True) if collector.context else connection), peer

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def tls_context(tls, client_ca):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        context.set_alpn_protocols(["http/1.1"])
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.server.server_port}"

    def take(self, path, headers, body):
        assert path == "/v1/traces" and headers.get("Content-Type", headers.get("content-type")) == "application/x-protobuf"
        decoded = ExportTraceServiceRequest.FromString(body)
        self.bodies.append(body)
        self.headers.append({name.lower(): v for name, v in headers.items()})
        for resource in decoded.resource_spans:
            named = {a.key: value(a.value) for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [self.span(named["service.name"], s) for s in scope.spans]

    @staticmethod
    def span(service, s):
        attributes = {a.key: value(a.value) for a in s.attributes}
        return Span(service, s.name, s.kind, s.trace_id.hex(), s.span_id.hex(), s.parent_span_id.hex(), attributes,
                    s.status.code == 2, s.start_time_unix_nano, s.end_time_unix_nano, s)

    def of(self, service):
        return [s for s in self.spans if s.service == service]

    def wait(self, service, count, seconds=15):
        """Waits until a service has sent so many spans."""
        until(lambda: len(self.of(service)) >= count, f"{count} spans of {service}", seconds)
        return self.of(service)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

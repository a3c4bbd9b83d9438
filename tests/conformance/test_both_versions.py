"""What a message may hold, judged alike over HTTP/1.1 and HTTP/2: methods that echo, `TE`, trailers, and large heads; and
what its refusal says to callers of gRPC-Web and Connect."""

import base64
import json

import pytest
from h2.exceptions import ProtocolError

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2client import H2Client
from harness.ports import until
from harness.versions import Http1, Http2

ECHOING = ["TRACE", "TRACK"]

# RFC 9110 section 6.5.1: framing is refused, and what routes, authenticates or describes the content is dropped.
DROPPED = [
    ("authorization", "Bearer evil"),
    ("cookie", "a=evil"),
    ("set-cookie", "a=evil"),
    ("content-encoding", "evil"),
    ("content-type", "text/evil"),
    ("content-range", "bytes 0-1/evil"),
    ("range", "bytes=0-evil"),
    ("expect", "evil"),
    ("if-match", '"evil"'),
    ("cache-control", "evil"),
    ("www-authenticate", "evil"),
    ("x-forwarded-for", "10.9.8.7"),
    ("via", "1.1 evil"),
    ("location", "/evil"),
]
FRAMING = [("host", "evil"), ("content-length", "7")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "access.log"
    with Recorder() as service, Gate({"orders": service}, tables={"log": {"access": log}}) as gate:
        gate.service, gate.access_log = service, log
        gate.token = gate.mint("orders")
        yield gate


VERSIONS = pytest.mark.parametrize("version", [Http1, Http2])


@VERSIONS
@pytest.mark.parametrize("method", ECHOING)
def test_a_method_that_echoes_the_request_needs_a_right_of_its_own(site, version, method):
    """A service that answers TRACE sends back what the gateway added for it alone: `*` is no word for that."""
    site.service.clear()
    for token in (site.token, site.mint("orders", "--allow", "GET,POST")):
        status, body, _ = version(site, "/orders/a").send(method, token)
        assert status in (403, 404), body
    assert not site.service.requests
    status, _, _ = version(site, "/orders/a").send(method, site.mint("orders", "--allow", method))
    assert status == 200 and site.service.requests[-1].method == method


@VERSIONS
def test_te_goes_up_as_the_gateways_own(site, version):
    """RFC 9110 section 10.1.4: whoever sends `TE` names it in `Connection`, over HTTP/1.1."""
    fields = [("te", "trailers")] + ([("connection", "TE")] if version is Http1 else [])
    assert version(site, "/orders/a").send("GET", site.token, fields)[0] == 200
    request = site.service.requests[-1]
    assert request.values("te") == ["trailers"] and request.values("connection") == ["TE"], request.head


@VERSIONS
def test_trailers_lose_what_a_head_decides_by(site, version):
    status, _, _ = version(site, "/orders/a").send("POST", site.token, trailers=[*DROPPED, ("x-sum", "7")])
    assert status == 200
    assert site.service.requests[-1].trailers == b"x-sum: 7\r\n"


@VERSIONS
@pytest.mark.parametrize("field", FRAMING, ids=[name for name, _ in FRAMING])
def test_trailers_that_frame_are_refused(site, version, field):
    site.service.clear()
    status, body, _ = version(site, "/orders/a").send("POST", site.token, trailers=[("x-sum", "7"), field])
    assert status == 400 and b"trailers" in body, body
    assert not site.service.requests, "no whole request went up"


@VERSIONS
def test_trailers_of_an_answer_lose_the_same(site, version):
    tail = "".join(f"{name}: {value}\r\n" for name, value in DROPPED)
    site.service.respond = lambda _: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{tail}grpc-status: 0\r\n\r\n".encode()
    )
    try:
        status, body, trailers = version(site, "/orders/a").send("GET", site.token, [("te", "trailers")] if version is Http2 else [])
    finally:
        site.service.respond = lambda request: answer()
    assert (status, body, trailers) == (200, b"ok", "grpc-status: 0\r\n")


@pytest.mark.parametrize("coding", ["Chunked", "CHUNKED"])
def test_a_coding_is_read_in_any_case(site, coding):
    """RFC 9112 section 7: transfer coding names are case-insensitive."""
    head = f"POST /orders/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {site.token}\r\n"
    answer = site.once(f"{head}Transfer-Encoding: {coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n".encode(), to="POST")
    request = site.service.requests[-1]
    assert answer.status == 200 and request.body == b"ok" and request.values("transfer-encoding") == ["chunked"]


@VERSIONS
@pytest.mark.parametrize("kibibytes, status", [(15, 200), (17, 200), (31, 200), (33, 431), (40, 431)])
def test_a_large_head_is_judged_alike(site, version, kibibytes, status):
    """In fields of a kilobyte: neither version counts a field for more than it is."""
    fields = [(f"x-{number}", "y" * 1015) for number in range(kibibytes)]
    answered, body, _ = version(site, "/orders/large").send("GET", site.token, fields)
    assert answered == status, body
    if status == 431:
        assert json.loads(body)["type"].endswith("head-too-large")


@VERSIONS
def test_the_line_of_a_head_that_is_too_large_says_what_was_read(site, version):
    path = f"/orders/too-large-{version.__name__.lower()}"
    status, _, _ = version(site, path).send("GET", site.token, [(f"x-{number}", "y") for number in range(150)])
    assert status == 431

    def line():
        lines = [json.loads(line) for line in site.access_log.read_text().splitlines()]
        return next((line for line in lines if line.get("path") == path), None)

    until(line, "the line is written")
    assert line()["status"] == 431 and line()["host"] == "localhost", line()


RPC = [
    ("application/grpc-web+proto", [], 200, lambda body: b"grpc-status: 16\r\n" in body and body[0] == 0x80),
    ("application/grpc-web-text", [], 200, lambda body: b"grpc-status: 16\r\n" in base64.b64decode(body)),
    ("application/connect+json", [], 200, lambda body: json.loads(body[5:])["error"]["code"] == "unauthenticated"),
    ("application/json", [("connect-protocol-version", "1")], 401, lambda body: json.loads(body)["code"] == "unauthenticated"),
]


@VERSIONS
@pytest.mark.parametrize("kind, fields, status, says", RPC, ids=[kind for kind, *_ in RPC])
def test_a_refusal_is_said_in_the_protocol_of_the_call(site, version, kind, fields, status, says):
    reply = version(site, "/orders/pkg.Service/Method").answer("POST", None, [("content-type", kind), *fields], body="x")
    answered = getattr(reply, "value", lambda name: reply.fields.get(name))
    assert (reply.status, answered("content-type")) == (status, kind if status == 200 else "application/json")
    assert says(bytes(reply.body)), reply.body


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_empty_data_frame_that_ends_the_stream_is_no_body(site, method):
    """Some clients end every stream so; a service that is sent a body with GET may refuse it."""
    site.service.clear()
    with H2Client(site.port, site.token) as client:
        stream = client.open(method, "/orders/a", end=False)
        client.send(stream, b"", end=True)
        assert client.reply(stream).status == 200
        stream = client.open(method, "/orders/b", end=False)
        client.send(stream, b"a body", end=True)
        assert client.reply(stream).status == 200
    empty, whole = site.service.requests
    assert not empty.values("transfer-encoding") and not empty.values("content-length")
    assert whole.values("transfer-encoding") == ["chunked"] and whole.body == b"a body"


def taken_back(client, count):
    """Opens and resets streams in one flush."""
    for _ in range(count):
        stream = client.h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/orders/a")]
        client.h2.send_headers(stream, [*head, ("authorization", f"Bearer {client.token}")], end_stream=True)
        client.h2.reset_stream(stream, 8)
    client.flush()


def test_a_burst_of_cancels_ends_no_innocent_stream(site):
    """A page that is left cancels whatever it was loading, in one flush."""
    held = []
    site.service.respond = lambda request: (lambda sock: held.append(sock)) if "held" in request.target else answer()
    try:
        with H2Client(site.port, site.token) as client:
            innocent = client.open("GET", "/orders/held")
            until(lambda: held, "the innocent stream is with its service")
            taken_back(client, 100)
            assert client.reply(client.open("GET", "/orders/a")).status == 200
            held[0].sendall(answer())
            assert client.reply(innocent).status == 200
    finally:
        site.service.respond = lambda request: answer()


def test_a_flood_of_cancels_ends_its_connection(site):
    """Rapid reset: what is taken back without end is work for nothing."""
    with H2Client(site.port, site.token) as client:
        for _ in range(40):
            try:
                taken_back(client, 50)
                client.step(0.2)
            except (OSError, ProtocolError):  # the library refuses to send on a connection that was ended
                break
        assert client.closed or client.until(lambda: client.closed)
    assert site.get("/orders/a", token=site.token).status == 200, "others are served"


@VERSIONS
def test_answers_may_have_as_many_fields_as_requests(site, version):
    site.service.respond = lambda _: answer(fields=[(f"X-{number}", "y" * 300) for number in range(90)])
    try:
        assert version(site, "/orders/a").send("GET", site.token)[0] == 200
    finally:
        site.service.respond = lambda request: answer()

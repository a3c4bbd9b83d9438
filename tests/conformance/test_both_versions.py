"""What a message may hold, judged alike over HTTP/1.1 and HTTP/2: methods that echo, `TE`, and trailers."""

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2client import H2Client

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
def site():
    with Recorder() as service, Gate({"orders": service}) as gate:
        gate.service = service
        gate.token = gate.mint("orders")
        yield gate


class Http1:
    """One request over HTTP/1.1, with a chunked body where it has trailers."""

    def __init__(self, gate):
        self.gate = gate

    def send(self, method, token, fields=(), trailers=None):
        data = f"{method} /orders/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        data += "".join(f"{name}: {value}\r\n" for name, value in fields)
        if trailers is not None:
            data += "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
            data += "".join(f"{name}: {value}\r\n" for name, value in trailers)
        with self.gate.wire() as wire:
            answer = wire.send(f"{data}\r\n".encode()).answer(method)
        return answer.status, answer.body, answer.trailers.decode().lower()


class Http2:
    """The same over HTTP/2."""

    def __init__(self, gate):
        self.gate = gate

    def send(self, method, token, fields=(), trailers=None):
        with H2Client(self.gate.port, token) as client:
            client.h2.config.validate_outbound_headers = False
            stream = client.open(method, "/orders/a", fields, end=trailers is None)
            if trailers is not None:
                client.send(stream, b"ok")
                client.h2.send_headers(stream, trailers, end_stream=True)
                client.flush()
            reply = client.reply(stream)
            assert reply.status, f"reset with {reply.reset}"
            return reply.status, bytes(reply.body), "".join(f"{k}: {v}\r\n" for k, v in reply.trailers.items())


VERSIONS = pytest.mark.parametrize("version", [Http1, Http2])


@VERSIONS
@pytest.mark.parametrize("method", ECHOING)
def test_a_method_that_echoes_the_request_needs_a_right_of_its_own(site, version, method):
    """A service that answers TRACE sends back what the gateway added for it alone: `*` is no word for that."""
    site.service.clear()
    for token in (site.token, site.mint("orders", "--allow", "GET,POST")):
        status, body, _ = version(site).send(method, token)
        assert status in (403, 404), body
    assert not site.service.requests
    status, _, _ = version(site).send(method, site.mint("orders", "--allow", method))
    assert status == 200 and site.service.requests[-1].method == method


@VERSIONS
def test_te_goes_up_as_the_gateways_own(site, version):
    """RFC 9110 section 10.1.4: whoever sends `TE` names it in `Connection`, over HTTP/1.1."""
    fields = [("te", "trailers")] + ([("connection", "TE")] if version is Http1 else [])
    assert version(site).send("GET", site.token, fields)[0] == 200
    request = site.service.requests[-1]
    assert request.values("te") == ["trailers"] and request.values("connection") == ["TE"], request.head


@VERSIONS
def test_trailers_lose_what_a_head_decides_by(site, version):
    status, _, _ = version(site).send("POST", site.token, trailers=[*DROPPED, ("x-sum", "7")])
    assert status == 200
    assert site.service.requests[-1].trailers == b"x-sum: 7\r\n"


@VERSIONS
@pytest.mark.parametrize("field", FRAMING, ids=[name for name, _ in FRAMING])
def test_trailers_that_frame_are_refused(site, version, field):
    site.service.clear()
    status, body, _ = version(site).send("POST", site.token, trailers=[("x-sum", "7"), field])
    assert status == 400 and b"trailers" in body, body
    assert not site.service.requests, "no whole request went up"


@VERSIONS
def test_trailers_of_an_answer_lose_the_same(site, version):
    tail = "".join(f"{name}: {value}\r\n" for name, value in DROPPED)
    site.service.respond = lambda _: (
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{tail}grpc-status: 0\r\n\r\n".encode()
    )
    try:
        status, body, trailers = version(site).send("GET", site.token, [("te", "trailers")] if version is Http2 else [])
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

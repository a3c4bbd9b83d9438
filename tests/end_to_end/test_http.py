"""HTTP as real clients speak it: bodies, streams, HEAD, ranges, 1xx, 1.0, reuse, early answers, two protocols, TLS."""

import hashlib
import os
import signal
import ssl
import subprocess
import threading
import time
import warnings

import httpx
import pytest

from harness.backend import Recorder, answer
from harness.certificates import Authority
from harness.gate import Gate
from harness.h2wire import H2Wire, pseudo
from harness.ports import until
from harness.wire import Closed, Wire, request


def test_head_has_no_body_and_keeps_the_length(gate, service, token):
    with gate.wire() as wire:
        reply = wire.send(request("HEAD", "/orders/x", token=token)).answer("HEAD")
        assert reply.status == 200 and reply.value("content-length") == "11"
        assert wire.send(request("GET", "/orders/y", token=token)).answer().body == b"GET /y"


@pytest.mark.parametrize("status", [204, 304, 205])
def test_answers_without_a_body_keep_the_connection_in_step(gate, service, token, status):
    service.respond = lambda r: answer(status, b"") if r.target == "/none" else answer(body=b"next")
    with gate.wire() as wire:
        assert wire.send(request("GET", "/orders/none", token=token)).answer().status == status
        assert wire.send(request("GET", "/orders/x", token=token)).answer().body == b"next"


def test_status_lines_and_fields_arrive_as_sent(gate, service, token):
    fields = [("X-A", "1"), ("X-A", "2"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"), ("ETag", '"x"'), ("Content-Type", "text/x; a=b")]
    service.respond = lambda _: answer(418, b"short", fields, "I am a teapot")
    reply = gate.get("/orders/x", token)
    assert reply.status == 418 and reply.values("x-a") == ["1", "2"] and reply.values("set-cookie") == ["a=b", "c=d"]
    assert reply.value("etag") == '"x"' and reply.value("content-type") == "text/x; a=b" and reply.body == b"short"


def test_ranges_pass_through(gate, service, token):
    service.respond = lambda r: answer(206, b"cd", [("Content-Range", "bytes 2-3/6")], "Partial") if r.value("range") == "bytes=2-3" else answer()
    reply = gate.get("/orders/x", token, fields=[("Range", "bytes=2-3"), ("If-None-Match", '"q"')])
    assert reply.status == 206 and reply.value("content-range") == "bytes 2-3/6" and reply.body == b"cd"


def test_one_connection_serves_many_requests_over_reused_upstreams(gate, service, token):
    with gate.wire() as wire:
        for number in range(50):
            assert wire.send(request("GET", f"/orders/{number}", token=token)).answer().body == f"GET /{number}".encode()
    assert len({r.connection for r in service.requests}) <= 2


def test_pipelined_requests_are_answered_in_order(gate, service, token):
    with gate.wire() as wire:
        wire.send(b"".join(request("POST", f"/orders/{n}", token=token, body=b"x" * n) for n in range(20)))
        assert [wire.answer("POST").body for _ in range(20)] == [f"POST /{n}".encode() for n in range(20)]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 1 << 20, 20 << 20])
def test_bodies_of_any_size_arrive_whole_both_ways(gate, service, token, size, chunked):
    body = os.urandom(size)
    service.respond = lambda r: answer(body=r.body, fields=[("X-Sum", hashlib.sha256(r.body).hexdigest())])
    with gate.wire(timeout=30) as wire:
        if chunked:
            head = request("POST", "/orders/x", token=token, fields=[("Transfer-Encoding", "chunked")])
            pieces = [body[i : i + 65000] for i in range(0, size, 65000)]
            data = head + b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in pieces) + b"0\r\n\r\n"
        else:
            data = request("POST", "/orders/x", token=token, body=body)
        sender = threading.Thread(target=wire.send_as_accepted, args=(data,))
        sender.start()
        reply = wire.answer("POST")
        sender.join()
    assert reply.status == 200 and reply.body == body and service.requests[0].body == body


def test_an_answer_streams_while_it_is_made(gate, service, token):
    step = threading.Event()

    def slowly(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        step.wait(10)
        sock.sendall(b"6\r\nsecond\r\n0\r\n\r\n")

    service.respond = lambda _: slowly
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/x", token=token))
        wire.head()
        while b"first" not in wire.buffer:
            wire._more()
        step.set()
        while not wire.buffer.endswith(b"0\r\n\r\n"):
            wire._more()


def test_a_request_streams_while_it_is_sent(gate, service, token):
    with gate.wire() as wire:
        wire.send(request("POST", "/orders/x", token=token, fields=[("Transfer-Encoding", "chunked")]))
        wire.send(b"5\r\nfirst\r\n")
        until(lambda: b"first" in service.bytes, "the first part is at the service before the rest was sent")
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
        assert wire.answer("POST").status == 200
    assert service.requests[0].body == b"firstsecond"


def test_trailers_pass_both_ways(gate, service, token):
    service.respond = lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n"
    fields = [("Transfer-Encoding", "chunked"), ("Trailer", "X-Up"), ("TE", "trailers"), ("Connection", "TE")]
    with gate.wire() as wire:
        wire.send(request("POST", "/orders/x", token=token, fields=fields) + b"1\r\na\r\n0\r\nX-Up: 7\r\n\r\n")
        reply = wire.answer("POST")
    assert reply.body == b"abc" and b"x-sum: 9" in reply.trailers.lower()
    assert b"x-up: 7" in service.requests[0].trailers.lower()


def test_expect_100_continue(gate, service, token):
    with gate.wire() as wire:
        wire.send(request("POST", "/orders/x", token=token, fields=[("Expect", "100-continue"), ("Content-Length", "3")]))
        assert wire.head().status == 100
        wire.send(b"abc")
        assert wire.answer("POST").status == 200
    assert service.requests[0].body == b"abc"


def test_expect_100_continue_is_not_given_to_a_refused_message(gate, service, token):
    with gate.wire() as wire:
        wire.send(request("POST", "/orders/x", fields=[("Expect", "100-continue"), ("Content-Length", "3")]))
        assert wire.head().status == 401
    other = gate.get("/orders/x", token, method="POST", fields=[("Expect", "something")], body=b"x")
    assert other.status == 417


def test_informational_answers_are_passed_on(gate, service, token):
    service.respond = lambda _: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(body=b"done")
    reply = gate.get("/orders/x", token)
    assert reply.body == b"done" and [i.status for i in reply.informational] == [103]


def test_http_1_0_clients(gate, service, token):
    service.respond = lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/x", token=token, version="1.0"))
        head = wire.head()
        assert head.status == 200 and not head.values("transfer-encoding")
        assert wire.rest() == b"abc"


def test_connection_close_is_honoured(gate, token):
    with gate.wire() as wire:
        reply = wire.send(request("GET", "/orders/x", token=token, fields=[("Connection", "close")])).answer()
        assert reply.status == 200 and reply.value("connection") == "close" and wire.closed()


def test_a_service_that_closes_delimits_its_answer(gate, service, token):
    service.respond = lambda _: lambda sock: (sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), "close")[1]
    assert gate.get("/orders/x", token).body == b"until the end"


def test_an_early_answer_reaches_a_client_that_still_sends(gate, service, token):
    def refuse(sock, _=None):
        return answer(413, b"too much", [("Connection", "close")], "Too Large")

    from harness.backend import Scripted

    def script(sock, head):
        sock.sendall(answer(413, b"too much", [("Connection", "close")], "Too Large"))
        sock.recv(1)

    with Scripted(script) as backend, Gate({"orders": {"upstream": backend.url}}) as own:
        token = own.mint("orders")
        with own.wire() as wire:
            wire.send(request("POST", "/orders/x", token=token, fields=[("Content-Length", str(50 << 20))]))
            wire.send_as_accepted(b"x" * 100000)
            reply = wire.answer("POST")
            assert reply.status == 413 and reply.body == b"too much"


def test_a_half_closed_client_gets_its_answer(gate, service, token):
    service.respond = lambda _: lambda sock: (time.sleep(0.3), sock.sendall(answer(body=b"late")))[1]
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/x", token=token)).half_close()
        assert wire.answer().body == b"late"


def test_a_client_that_leaves_ends_the_upstream_exchange(gate, service, token):
    gone = threading.Event()

    def stream(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(1000):
                sock.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
                time.sleep(0.01)
        except OSError:
            gone.set()
        return "close"

    service.respond = lambda _: stream
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/x", token=token))
        wire.head()
    assert gone.wait(8), "the service goes on sending to nobody"


def test_a_stale_upstream_connection_is_replaced_unseen(gate, service, token):
    """The service closes idle connections: the next GET finds out, and nobody else."""
    service.respond = lambda r: lambda sock: (sock.sendall(answer(body=b"ok")), "close")[1]
    with gate.wire() as wire:
        for _ in range(20):
            assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200


def test_backpressure_bounds_memory(gate, service, token):
    """A client that does not read must not make the gateway hold what the service sends."""

    def flood(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        try:
            for _ in range(4096):
                sock.sendall(b"x" * 262144)
        except OSError:
            pass
        return "close"

    service.respond = lambda _: flood
    def rss():
        return int(next(l for l in open(f"/proc/{gate.process.pid}/status") if l.startswith("VmRSS")).split()[1]) // 1024
    before = rss()
    wires = [gate.wire() for _ in range(8)]
    for wire in wires:
        wire.send(request("GET", "/orders/x", token=token))
    time.sleep(1.5)
    grown = rss() - before
    for wire in wires:
        wire.close()
    assert grown < 64, f"{grown} MiB"


def test_sigterm_drains_and_ends_with_0(recorder):
    with Gate({"orders": recorder}) as gate:
        token = gate.mint("orders")
        recorder.respond = lambda _: lambda sock: (time.sleep(0.5), sock.sendall(answer(body=b"finished")))[1]
        with gate.wire() as wire, gate.wire() as idle:
            wire.send(request("GET", "/orders/x", token=token))
            until(lambda: recorder.requests, "the request is under way")
            gate.process.signal(signal.SIGTERM)
            assert wire.answer().body == b"finished"
            assert idle.closed(10)
        assert gate.process.wait(20) == 0


def test_several_upstreams_share_the_load():
    with Recorder() as one, Recorder() as two, Gate({"orders": {"upstream": [one, two]}}) as gate:
        token = gate.mint("orders")
        for _ in range(40):
            assert gate.get("/orders/x", token).status == 200
        assert len(one.requests) > 5 and len(two.requests) > 5


def test_routing_by_host_and_longest_prefix():
    with Recorder() as a, Recorder() as b, Recorder() as c:
        resources = {"a": {"upstream": a, "prefix": "/"}, "b": {"upstream": b, "prefix": "/deep/er"}, "c": {"upstream": c, "prefix": "/", "host": "api.example.com"},
                     "kept": {"upstream": b, "prefix": "/kept", "keep_prefix": True, "upstream_host": "inner.example", "nested": True}}
        with Gate(resources) as gate:
            token = gate.mint("a", "b", "c", "kept")
            for target, host, service, seen in [("/deep", "x", a, "/deep"), ("/deep/er", "x", b, "/"), ("/deep/er/z", "x", b, "/z"), ("/deep/erz", "x", a, "/deep/erz"),
                                                ("/deep/er", "api.example.com", c, "/deep/er"), ("/y", "API.example.com:80", c, "/y"), ("/kept/q", "x", b, "/kept/q")]:
                service.clear()
                assert gate.once(request("GET", target, host=host, token=token)).status == 200, target
                assert [r.target for r in service.requests] == [seen], (target, host)
            assert b.requests[0].value("host") == "inner.example"


# --- HTTP/2 and TLS

@pytest.fixture(scope="module")
def secure(tmp_path_factory, service):
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    cert, key, _ = authority.issue("localhost")
    with Gate({"orders": service}, tls={"cert": cert, "key": key, "client_ca": str(authority.path)}) as gate:
        yield gate, authority, gate.mint("orders")


def test_http2_with_prior_knowledge_and_over_tls(gate, service, token, secure):
    with H2Wire(gate.port) as wire:
        for number in range(1, 21, 2):
            wire.headers(number, pseudo("POST", f"/orders/{number}", token=token), body=b"x" * number)
        for number in range(1, 21, 2):
            assert wire.outcome(number).body == f"POST /{number}".encode()
    other, authority, its = secure
    with H2Wire(other.port, tls=str(authority.path)) as wire:
        assert wire.headers(1, pseudo(path="/orders/x", scheme="https", token=its)).outcome(1).body == b"GET /x"


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_httpx_over_tls(secure, http2):
    gate, authority, token = secure
    context = ssl.create_default_context(cafile=str(authority.path))
    with httpx.Client(http2=http2, http1=not http2, verify=context, headers={"Authorization": f"Bearer {token}"}) as client:
        base = f"https://localhost:{gate.port}"
        reply = client.get(f"{base}/orders/x?y=1")
        assert reply.status_code == 200 and reply.text == "GET /x?y=1"
        assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        big = os.urandom(3 << 20)
        assert client.post(f"{base}/orders/up", content=big).status_code == 200
        assert client.get(f"{base}/orders/x", headers={"Authorization": "Bearer x"}).status_code == 401


def test_httpx_in_the_clear(gate, token):
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
        for number in range(5):
            assert client.get(f"{gate.url}/orders/{number}").text == f"GET /{number}"


def test_http2_trailers_and_large_bodies(gate, service, token):
    body = os.urandom(2 << 20)
    service.respond = lambda r: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n200000\r\n" + body + b"\r\n0\r\nx-sum: 5\r\n\r\n"
    with H2Wire(gate.port, timeout=20) as wire:
        stream = wire.headers(1, pseudo(path="/orders/x", token=token, extra=[("te", "trailers")])).outcome(1, 20)
    assert stream.body == body and ("x-sum", "5") in [(n, v) for n, v in stream.trailers]


def test_tls_refuses_old_versions_and_wrong_names(secure):
    gate, authority, token = secure
    with pytest.raises(ssl.SSLError), Wire(gate.port, tls=str(authority.path), server_name="other.example"):
        pass
    context = ssl.create_default_context(cafile=str(authority.path))
    # The standard library warns against what this test is about.
    warnings.simplefilter("ignore", DeprecationWarning)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionResetError, OSError)), Wire(gate.port, tls=context):
        pass


def test_tls_name_and_host_must_agree(secure):
    gate, authority, token = secure
    with Wire(gate.port, tls=str(authority.path)) as wire:
        reply = wire.send(request("GET", "/orders/x", host="other.example", token=token)).answer()
        assert reply.status == 421
    with H2Wire(gate.port, tls=str(authority.path)) as wire:
        assert wire.headers(1, pseudo(path="/orders/x", authority="other.example", scheme="https", token=token)).outcome(1).status == 421


def test_a_client_certificate_is_a_fact_and_admits_nobody(secure, service):
    gate, authority, token = secure
    cert, key, digest = authority.issue("client")
    context = ssl.create_default_context(cafile=str(authority.path))
    context.load_cert_chain(cert, key)
    bound = gate.attenuate(token, "--client-cert", digest)
    for tls, presented, expected in [(context, None, 401), (context, bound, 200), (str(authority.path), bound, 403)]:
        with Wire(gate.port, tls=tls) as wire:
            assert wire.send(request("GET", "/orders/x", token=presented)).answer().status == expected


def test_cleartext_on_a_tls_port_is_refused(secure):
    gate, _, token = secure
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/x", token=token))
        assert b" 200 " not in wire.rest()


def test_the_key_document_needs_no_token(gate):
    reply = gate.get("/.well-known/biscuit-web-keys")
    assert reply.status == 200 and reply.value("content-type") == "application/json"
    public = (gate.state / "root.pub").read_text().strip().removeprefix("ed25519/")
    assert public in reply.body.decode()
    assert gate.get("/.well-known/postern/anything").status == 404

"""Interim answers, end to end: `100-continue` is between the client and the service, and so is 103."""

import re
import subprocess

import pytest

from harness.backend import Scripted, answer
from harness.gate import Gate
from harness.h2client import H2Client
from harness.wire import Wire, request

EXPECT = [("expect", "100-continue")]
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nPostern-Secret: x\r\n\r\n"


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=30)
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("bodies") / "large.bin"
    path.write_bytes(b"0123456789abcdef" * (3 << 16))
    return path


def refusing(sock, _):
    """A service that has seen enough with the head, and waits for the client to go."""
    sock.sendall(answer(413, b"too much", reason="Content Too Large"))
    while sock.recv(65536):
        pass


def test_curl_waits_for_the_services_own_100(gate, service, token, large):
    # Curl's own patience is set so high that a 100 is what makes it go on.
    out, err = run("curl", "-sSv", "--expect100-timeout", "25", "-H", "Expect: 100-continue", "-T", large,
                   "-H", f"Authorization: Bearer {token}", f"{gate.url}/orders/up")
    assert "HTTP/1.1 100 Continue" in err and "HTTP/1.1 200" in err, err
    (received,) = service.requests
    assert received.body == large.read_bytes() and received.value("expect") == "100-continue"


@pytest.mark.parametrize("token_is", ["missing", "stopped by a caveat"])
def test_a_refused_message_gets_its_refusal_and_no_100(gate, service, token, token_is, large):
    auth = []
    if token_is != "missing":
        auth = ["-H", f"Authorization: Bearer {gate.attenuate(token, '--method', 'GET')}"]
    out, err = run("curl", "-sSv", "--expect100-timeout", "25", "-H", "Expect: 100-continue", "-T", large, *auth,
                   f"{gate.url}/orders/up")
    assert "100 Continue" not in err and re.search(r"HTTP/1.1 40[13]", err), err
    with H2Client(gate.port, auth[1].split()[-1] if auth else None) as client:
        reply = client.reply(client.open("PUT", "/orders/up", [*EXPECT, ("content-length", "5")], end=False))
        assert reply.interim == [] and reply.status in (401, 403)
    assert service.requests == []


def test_a_service_that_wants_no_body_is_not_sent_one(large):
    with Scripted(refusing) as backend, Gate({"orders": backend}) as gate:
        token = gate.mint("orders")
        out, err = run("curl", "-sSv", "--expect100-timeout", "25", "-H", "Expect: 100-continue", "-T", large,
                       "-H", f"Authorization: Bearer {token}", f"{gate.url}/orders/up")
        assert "100 Continue" not in err and "HTTP/1.1 413" in err and "too much" in out, err
        with H2Client(gate.port, token) as client:
            stream = client.open("PUT", "/orders/up", [*EXPECT, ("content-length", "5")], end=False)
            reply = client.reply(stream)
            assert (reply.status, reply.interim, bytes(reply.body)) == (413, [], b"too much")
            client.send(stream, b"after", end=True)


def test_a_body_over_http2_waits_for_the_services_100(gate, service, token):
    with H2Client(gate.port, token) as client:
        stream = client.open("POST", "/orders/up", [*EXPECT, ("content-length", "5")], end=False)
        assert client.until(lambda: client.replies[stream].interim)
        client.send(stream, b"hello", end=True)
        reply = client.reply(stream)
        assert reply.interim[0][":status"] == "100" and reply.status == 200
    assert service.requests[0].body == b"hello"


def test_nghttp_shakes_hands_about_its_body(gate, service, token, large):
    out, err = run("nghttp", "-v", "--expect-continue", "-d", large, "-H", f"Authorization: Bearer {token}",
                   f"{gate.url}/orders/up")
    # The status is one of HPACK's static entries or a literal; nghttp prints it either way.
    assert re.search(r":status: 100", out) and re.search(r":status: 200", out), out + err
    assert service.requests[0].body == large.read_bytes()


def test_early_hints_come_through_on_both_versions(gate, service, token):
    service.respond = lambda _: HINTS + HINTS + answer(body=b"page")
    with H2Client(gate.port, token) as client:
        reply = client.reply(client.open("GET", "/orders/page"))
    assert [hint[":status"] for hint in reply.interim] == ["103", "103"]
    assert reply.interim[0]["link"] == "</style.css>; rel=preload" and "postern-secret" not in reply.interim[0]
    assert (reply.status, bytes(reply.body)) == (200, b"page")
    with Wire(gate.port) as wire:
        reply = wire.send(request("GET", "/orders/page", token=token)).answer()
    assert [(hint.status, hint.value("link")) for hint in reply.informational] == [(103, "</style.css>; rel=preload")] * 2
    assert (reply.status, reply.body) == (200, b"page")


def test_a_service_that_only_hints_is_stopped(gate, service, token):
    service.respond = lambda _: HINTS * 50 + answer()
    with H2Client(gate.port, token) as client:
        reply = client.reply(client.open("GET", "/orders/page"))
    assert reply.status == 502 and b"upstream-nonsense" in reply.body and len(reply.interim) <= 16


def test_a_service_that_switches_unasked_is_nonsense(gate, service, token):
    service.respond = lambda _: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    with H2Client(gate.port, token) as client:
        reply = client.reply(client.open("GET", "/orders/page"))
    assert (reply.status, reply.interim) == (502, [])

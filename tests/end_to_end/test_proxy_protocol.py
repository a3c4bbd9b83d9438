"""PROXY protocol headers: believed from trusted proxies, which must send one; from anybody else they are not HTTP."""

import json
import shutil
import socket
import struct
import subprocess

import httpx
import pytest

from harness.backend import Recorder
from harness.certificates import Authority
from harness.gate import Gate
from harness.ports import free_port, is_open, until
from harness.wire import Closed, Wire, request

V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command, transport, rest):
    return V2 + bytes([command, transport]) + struct.pack("!H", len(rest)) + rest


def from_v4(address, port=5000):
    return v2(0x21, 0x11, socket.inet_aton(address) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 443))


@pytest.fixture(scope="module")
def gate(service):
    """Trusts 127.0.0.1 and nobody else on this machine."""
    top = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with Gate({"orders": service}, {"first_byte_timeout": "500ms"}, top=top) as gate:
        yield gate


def client_seen(gate, service, token, header):
    service.clear()
    reply = gate.once(header + request("GET", "/orders/x", token=token))
    return reply.status, service.requests[-1].value("x-forwarded-for") if service.requests else None


def test_a_trusted_peers_header_names_the_client(gate, service, token):
    for header, client in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 5000 443\r\n", "2001:db8::7"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5000 443\r\n", "192.0.2.7"),
        (from_v4("192.0.2.8"), "192.0.2.8"),
        (b"PROXY UNKNOWN\r\n", "unknown"),
        (v2(0x20, 0x00, b""), "127.0.0.1"),
        (v2(0x21, 0x31, b"\x00" * 216), "unknown"),
    ]:
        assert client_seen(gate, service, token, header) == (200, client), header


def test_the_fact_client_is_the_named_one_and_caveats_hold_it(gate, service, token):
    near = gate.attenuate(token, "--client", "192.0.2.0/24")
    assert client_seen(gate, service, near, from_v4("192.0.2.7"))[0] == 200
    assert client_seen(gate, service, near, from_v4("198.51.100.7"))[0] == 403
    # What the client itself writes into X-Forwarded-For counts for nothing: the header has said who it is.
    forged = request("GET", "/orders/x", token=near, fields=[("X-Forwarded-For", "192.0.2.9")])
    assert gate.once(from_v4("198.51.100.7") + forged).status == 403
    line = until(lambda: next((l for l in gate.log.splitlines() if '"198.51.100.7"' in l), None), "no access log line")
    assert json.loads(line)["client"] == "198.51.100.7"


@pytest.mark.parametrize(
    "header",
    [b"", b"PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n", b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\n", v2(0x31, 0x11, b"\x00" * 12), v2(0x21, 0x12, b"\x00" * 12), v2(0x21, 0x11, b"\x00" * 11), b"PROXY UNKNOWN " + b"x" * 120 + b"\r\n"],
    ids=["missing", "short", "bare-lf", "version", "udp", "cut", "long"],
)
def test_a_trusted_peer_without_a_header_or_with_a_broken_one_is_closed_and_nothing_is_forwarded(gate, service, token, header):
    service.clear()
    with pytest.raises(Closed), gate.wire() as wire:
        wire.send_as_accepted(header + request("GET", "/orders/x", token=token)).answer()
    assert not service.requests


def test_a_header_that_does_not_come_ends_the_connection_in_time(gate, service, token):
    for beginning in (b"", b"PROXY TCP4 192.0.2.7"):
        with gate.wire() as wire:
            wire.send(beginning)
            assert wire.sock.recv(1) == b""


def test_a_header_byte_by_byte(gate, service, token):
    with gate.wire() as wire:
        for byte in from_v4("192.0.2.9"):
            wire.send(bytes([byte]))
        assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
    assert service.requests[-1].value("x-forwarded-for") == "192.0.2.9"


def test_from_anybody_else_a_header_is_not_http_and_connections_need_none(gate, service, token):
    service.clear()
    for header in (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n", from_v4("192.0.2.7")):
        with Wire(gate.port, source=("127.0.0.2", 0)) as wire:
            assert wire.send_as_accepted(header + request("GET", "/orders/x", token=token)).answer().status == 400
    assert not service.requests
    with Wire(gate.port, source=("127.0.0.2", 0)) as wire:
        assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
    assert service.requests[-1].value("x-forwarded-for") == "127.0.0.2"


def test_the_named_clients_own_cap_counts(service):
    top = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with Gate({"orders": service}, {"connections_per_client_max": 2}, top=top) as gate:
        token = gate.mint("orders")
        ask = request("GET", "/orders/x", token=token)
        held = [gate.wire() for _ in range(2)]
        for wire in held:
            assert wire.send(from_v4("192.0.2.7") + ask).answer().status == 200
        with gate.wire() as third:
            assert third.send_as_accepted(from_v4("192.0.2.7") + ask).answer().status == 503
        with gate.wire() as other:
            assert other.send(from_v4("192.0.2.8") + ask).answer().status == 200
        for wire in held:
            wire.close()


def test_curl_with_tls_behind_the_header(tmp_path, service):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("gate")
    top = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with Gate({"orders": service}, tls={"cert": cert, "key": key}, top=top) as gate:
        service.clear()
        said = subprocess.run(
            ["curl", "-sS", "--http2", "--haproxy-protocol", "--cacert", authority.path, "-o", "/dev/null", "-w", "%{http_version} %{http_code}",
             "-H", f"Authorization: Bearer {gate.mint('orders')}", f"{gate.url}/orders/x"],
            capture_output=True, text=True, timeout=20,
        )
        assert said.stdout == "2 200", said.stderr
        assert service.requests[-1].value("x-forwarded-for") == "127.0.0.1"


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy_the_client_is_whom_haproxy_serves(tmp_path, service, version):
    """A real proxy in front, with health checks of its own that speak LOCAL, and the client on another address."""
    assert shutil.which("haproxy"), "haproxy is missing; tests/run installs it"
    top = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    with Gate({"orders": service}, top=top) as gate:
        token, front = gate.mint("orders"), free_port()
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
            f"frontend front\n bind 127.0.0.1:{front}\n default_backend back\n"
            f"backend back\n server gate 127.0.0.1:{gate.port} {version} check inter 100ms check-send-proxy\n"
        )
        haproxy = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.PIPE)
        try:
            until(lambda: is_open(front), "haproxy does not listen")
            service.clear()
            with Wire(front, source=("127.0.0.3", 0)) as wire:
                assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
            assert service.requests[-1].value("x-forwarded-for") == "127.0.0.3"
            with httpx.Client() as client:
                assert client.get(f"http://127.0.0.1:{front}/orders/y", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        finally:
            haproxy.terminate()
            haproxy.wait(10)

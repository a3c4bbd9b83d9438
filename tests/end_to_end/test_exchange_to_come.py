"""What the one exchange behind both versions of HTTP is to do, and does not yet: each test fails for the reason it names,
and has to be unmarked by whoever builds it."""

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.backend import Listening, Scripted
from harness.binary import postern
from harness.gate import Gate
from harness.h2client import H2Client
from harness.ports import free_port, is_open, until
from harness.programs import nginx_path
from harness.versions import Http1, Http2

VERSIONS = pytest.mark.parametrize("version", [Http1, Http2])


def missing(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


# Graceful ends of HTTP/2 services.


@pytest.fixture(scope="module")
def ending_nginx(tmp_path_factory):
    """nginx that speaks HTTP/2 without TLS and ends each connection, gracefully, with its first request."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        {"user root;" if os.geteuid() == 0 else ""} events {{ worker_connections 1024; }}
        http {{ access_log off; {temps} keepalive_requests 1;
        server {{ listen 127.0.0.1:{port} http2; location / {{ return 200 "$request_method"; }} }} }}""")
    process = subprocess.Popen([nginx_path(), "-c", str(folder / "nginx.conf"), "-p", str(folder)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: is_open(port) or process.poll() is not None, "nginx listens")
    assert process.poll() is None, process.stderr.read()
    yield f"h2c://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)
    shutil.rmtree(folder)


@missing("what the service says it did not process is sent again whatever the method: streams above the last id of the "
         "final GOAWAY, and REFUSED_STREAM, are a 502 where the method is not idempotent or the body has begun")
@VERSIONS
def test_a_service_that_ends_its_connections_gracefully_loses_no_request(ending_nginx, version):
    with Gate({"web": ending_nginx}, top={"workers": 1}) as gate:
        token = gate.mint("web")

        def post(number):
            return version(gate, f"/web/{number}").send("POST", token, body="x" * 100)[:2]

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(post, range(800)))
    assert {answer for answer in answers if answer != (200, b"POST")} == set()


# Switches of protocols.


class Docker(Listening):
    """A service that reads a POST's body to its end, and only then switches to `tcp` and sends back what it gets."""

    def __init__(self):
        self.bodies, self.early = [], []
        super().__init__()

    def serve(self, sock):
        with sock, sock.makefile("rb") as reader:
            length = 0
            while (line := reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.bodies.append(reader.read(length))
            sock.setblocking(False)
            try:
                self.early.append(sock.recv(100))
            except BlockingIOError:
                pass
            sock.setblocking(True)
            sock.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            while data := sock.recv(4096):
                sock.sendall(data)


@missing("an upgrade with a body is a 400 although its protocol is named in `upgrades`")
def test_an_upgrade_with_a_body_sends_the_body_first_and_whole():
    with Docker() as service, Gate({"docker": {"upstream": service, "upgrades": ["tcp"]}}) as gate:
        head = (f"POST /docker/exec HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gate.mint('docker')}\r\n"
                "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 8\r\n\r\n")
        with gate.wire() as wire:
            wire.send(f"{head}{{\"a\":1}} and bytes of the new protocol".encode())
            assert wire.answer("POST").status == 101
            assert wire._exactly(len(b"and bytes of the new protocol")) == b"and bytes of the new protocol"
        assert service.bodies == [b'{"a":1} '] and service.early == []


@missing("an upgrade to a protocol that nobody named costs the connection")
@pytest.mark.parametrize("protocols", ["TLS/1.2", "foo/1, TLS/1.2"])
def test_an_upgrade_that_nobody_named_is_ignored_and_the_connection_kept(gate, token, service, protocols):
    request = (f"GET /orders/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
               f"Connection: Upgrade\r\nUpgrade: {protocols}\r\n\r\n").encode()
    with gate.wire() as wire:
        for _ in range(2):
            answer = wire.send(request).answer()
            assert answer.status == 200 and not answer.values("connection")
    assert all(not request.values("upgrade") for request in service.requests)


def scripted(head, then=b""):
    def script(sock, _):
        sock.sendall(head.encode() + then)
        while sock.recv(4096):
            pass

    return Scripted(script)


@missing("a 101 that declares a length or a coding is a 502")
@pytest.mark.parametrize("field", ["Content-Length: 0", "Transfer-Encoding: chunked"])
def test_a_101_with_framing_opens_and_the_framing_is_dropped(field):
    head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{field}\r\n\r\n"
    with scripted(head, b"hello") as service, Gate({"raw": {"upstream": service, "upgrades": ["tcp"]}}) as gate:
        request = (f"GET /raw/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gate.mint('raw')}\r\n"
                   "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        with gate.wire() as wire:
            answer = wire.send(request.encode()).answer()
            assert answer.status == 101 and not answer.values(field.split(":")[0])
            assert wire._exactly(5) == b"hello"


@missing("an answer that cannot have a body and declares one all the same is a 502")
@VERSIONS
@pytest.mark.parametrize("status, field", [(204, "Transfer-Encoding: chunked"), (204, "Content-Length: 5")])
def test_a_204_that_declares_a_body_is_that_answer_and_its_connection_is_never_used_again(version, status, field):
    with scripted(f"HTTP/1.1 {status} None\r\n{field}\r\n\r\n", b"0\r\n\r\n") as service, Gate({"web": service}) as gate:
        token = gate.mint("web")
        for _ in range(2):
            answer = version(gate, "/web/a").answer("GET", token)
            assert answer.status == status
        assert len(service.heads) == 2


# Silence.


class Silent(Listening):
    """A service whose answer is silent between its two lines for as long as the test likes."""

    def __init__(self, content_type):
        self.content_type, self.go_on = content_type, threading.Event()
        super().__init__()

    def serve(self, sock):
        with sock:
            while b"\r\n\r\n" not in sock.recv(65536):
                pass
            head = f"HTTP/1.1 200 OK\r\nContent-Type: {self.content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
            sock.sendall(f"{head}4\r\none\n\r\n".encode())
            self.go_on.wait(10)
            sock.sendall(b"4\r\ntwo\n\r\n0\r\n\r\n")
            while sock.recv(4096):
                pass


STALL = {"body_stall_timeout": "200ms"}


def silent_for_longer_than_a_stall(service):
    """Lets the service go on when its silence has been longer than any stall that the gateway was told."""
    threading.Timer(1.5, service.go_on.set).start()


@missing("a resource cannot say how silent its bodies may be: `silence` is no key yet")
@VERSIONS
@pytest.mark.parametrize("silence", ["never", "5m"])
def test_a_resource_says_how_silent_its_bodies_may_be(version, silence):
    with Silent("application/x-ndjson") as service, Gate({"watch": {"upstream": service, "silence": silence}}, STALL) as gate:
        silent_for_longer_than_a_stall(service)
        assert version(gate, "/watch/a").send("GET", gate.mint("watch"))[:2] == (200, b"one\ntwo\n")


@missing("gRPC-Web's streams are cut when they are silent, and gRPC's are not")
@VERSIONS
def test_a_silent_stream_of_grpc_web_is_as_patient_as_one_of_grpc(version):
    kind = "application/grpc-web+proto"
    with Silent(kind) as service, Gate({"calls": service}, STALL) as gate:
        silent_for_longer_than_a_stall(service)
        fields = [("content-type", kind)]
        assert version(gate, "/calls/a").send("POST", gate.mint("calls"), fields, body="x")[:2] == (200, b"one\ntwo\n")


@missing("the access log says of a body that the gateway cut only that it broke off")
@VERSIONS
def test_the_log_says_who_was_silent(version, tmp_path):
    log = tmp_path / "access.log"
    with Silent("text/plain") as service, Gate({"web": service}, STALL, tables={"log": {"access": log}}) as gate:
        try:
            version(gate, "/web/a").answer("GET", gate.mint("web"))
        except Exception:  # the answer is cut, which each version says in its own way
            pass
        until(lambda: log.exists() and '"stalled-upstream"' in log.read_text(), "the line names the reason", seconds=3)
        service.go_on.set()


@missing("idle connections do not say how long they are kept, and are kept for less than balancers keep theirs")
def test_an_idle_connection_says_how_long_it_is_kept_and_http_2_does_not(gate, token):
    assert 'idle_timeout = "75s"' in postern("config", "default").ok().out
    with gate.wire() as wire:
        request = f"GET /orders/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        assert wire.send(request.encode()).answer().value("keep-alive") == "timeout=70"
    with H2Client(gate.port, token) as client:
        assert "keep-alive" not in client.reply(client.open("GET", "/orders/a")).fields

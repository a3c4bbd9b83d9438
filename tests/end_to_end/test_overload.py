"""More is asked of the gateway than it has memory for: it says so, goes on with what it has begun, and recovers."""

import os
import re
import resource
import socket
import subprocess
import threading

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2client import H2Client
from harness.ports import free_port, is_open, until
from harness.programs import nginx_path
from harness.wire import Closed, Wire, request

BODY = bytes(range(256)) * 65536  # 16 MiB: more than all the kernel's buffers between the two
LARGE = answer(body=BODY)


def series(gate, name):
    return float(re.search(rf"^{re.escape(name)} (\S+)$", gate.metrics(), re.M).group(1))


class SlowReader(Wire):
    """A client that asks for much and has a small window to take it through."""

    def __init__(self, port):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(60)
        self.sock.connect(("127.0.0.1", port))
        self.buffer = self.received = b""

    def outcome(self):
        """The status, and whether the body came whole; takes it as fast as it can from now on."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        reply = self.head()
        if reply.status != 200:
            return reply.status, False
        pieces, left = [self.buffer], len(BODY) - len(self.buffer)
        while left and (data := self.sock.recv(1 << 20)):
            pieces.append(data)
            left -= len(data)
        return 200, b"".join(pieces) == BODY


@pytest.fixture(scope="module")
def large():
    """Answers `/large` with 16 MiB, everything else with a few bytes."""
    with Recorder(lambda r: LARGE if r.target == "/large" else answer(body=b"small")) as service:
        yield service


def test_slow_readers_of_large_answers_are_bounded_and_new_messages_are_told_to_come_back(large):
    budget = 1 << 20
    limits = {"buffered_bytes_max": budget, "body_stall_timeout": "5m", "idle_timeout": "5m"}
    with Gate({"orders": large}, limits) as gate:
        token = gate.mint("orders")
        assert gate.get("/orders/small", token).status == 200
        before = gate.resident_mib()
        readers = []
        while not (strained := series(gate, "postern_buffered_bytes") > budget * 3 / 4) and len(readers) < 200:
            for _ in range(5):
                readers.append(SlowReader(gate.port).send(request("GET", "/orders/large", token=token)))
            threading.Event().wait(0.05)
        assert strained, f"{len(readers)} readers strained nothing"
        # Many more come, and keep coming: each is answered at once, and none of them is served from memory there is not.
        statuses = []
        for _ in range(200):
            with Wire(gate.port, timeout=10) as wire:
                reply = wire.send(request("GET", "/orders/small", token=token)).answer()
                statuses.append(reply.status)
                if reply.status == 503:
                    assert reply.kind == "unavailable" and reply.value("retry-after") == "1"
        assert set(statuses) <= {200, 503} and 503 in statuses
        assert series(gate, 'postern_shed_total{reason="memory"}') >= statuses.count(503)
        assert series(gate, "postern_buffered_bytes") <= budget
        # The budget, the base of each connection, and what an allocator keeps.
        assert gate.resident_mib() - before < 1 + 0.05 * len(readers) + 24
        # Administration is not shed: an operator can look and revoke.
        assert gate.admin("GET", "/health/ready").status == 200
        # Those that were let in get all of it, however slowly.
        outcomes = []
        for reader in readers:
            with reader:
                outcomes.append(reader.outcome())
        assert set(outcomes) <= {(200, True), (503, False)} and outcomes.count((200, True)) > 3
        until(lambda: gate.get("/orders/small", token).status == 200, "the gateway did not recover")
        until(lambda: series(gate, "postern_buffered_bytes") <= budget / 8, "memory is not given back")


def test_uploads_to_a_service_that_does_not_read_are_held_back(large):
    """The same the other way: the client is slowed down, not the gateway filled up."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        budget = 1 << 20
        # An upload ends when its service has taken nothing for a while; its connection lingers behind the answer.
        limits = {"buffered_bytes_max": budget, "copy_buffer_bytes": "1MiB", "body_stall_timeout": "5s",
                  "linger_timeout": "1s"}
        with Gate({"orders": url, "small": large}, limits) as gate:
            token, other = gate.mint("orders"), gate.mint("small")
            before = gate.resident_mib()
            clients = []
            for _ in range(60):
                wire = Wire(gate.port, timeout=10)
                wire.send(request("POST", "/orders/x", token=token, fields=[("Content-Length", str(64 << 20))]))
                wire.sock.setblocking(False)
                clients.append(wire)
            sent = [0] * len(clients)

            def push():
                moved = False
                for index, wire in enumerate(clients):
                    try:
                        sent[index] += wire.sock.send(b"x" * 65536)
                        moved = True
                    except (BlockingIOError, ConnectionError):
                        pass
                return not moved

            until(push, "the gateway takes everything", seconds=30)
            assert series(gate, "postern_buffered_bytes") <= budget
            assert gate.resident_mib() - before < 40
            reply = gate.get("/small/x", other)
            assert reply.status in (200, 503)
            for wire in clients:
                wire.close()
            until(lambda: gate.get("/small/x", other).status == 200, "the gateway did not recover")


def test_full_windows_of_http2_count_and_new_messages_are_shed(large, tmp_path):
    """Uploads to a service that does not read fill the windows that were granted: nothing else begins meanwhile."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        budget = 1 << 20
        with Gate({"orders": url, "small": large}, {"buffered_bytes_max": budget, "body_stall_timeout": "4s"}) as gate:
            token, other = gate.mint("orders"), gate.mint("small")

            large_file = tmp_path / "large"
            with large_file.open("wb") as file:
                file.truncate(64 << 20)
            command = ["curl", "-s", "--http2-prior-knowledge", "-H", f"Authorization: Bearer {token}", "-T", large_file, f"{gate.url}/orders/x"]
            uploads = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(20)]
            until(lambda: series(gate, "postern_buffered_bytes") > budget * 3 / 4, "no window is full", seconds=20)
            refused = gate.get("/small/x", other)
            assert refused.status == 503 and refused.value("retry-after"), refused.status
            for upload in uploads:
                upload.kill()
                upload.wait(10)
            until(lambda: gate.get("/small/x", other).status == 200, "the gateway did not recover", seconds=20)
            until(lambda: series(gate, "postern_buffered_bytes") <= budget / 8, "memory is not given back", seconds=20)


def test_a_large_head_is_refused_when_there_is_no_memory_for_it(large):
    """Heads beyond the base are what an unauthenticated client can make the gateway hold."""
    # A little more than so many heads take: with nothing left at all connections are refused before anything is read.
    budget = 68 * 1024
    limits = {"buffered_bytes_max": budget, "head_bytes_max": "1MiB", "head_timeout": "5m", "target_bytes_max": "8KiB", "first_byte_timeout": "5m"}
    with Gate({"orders": large}, limits) as gate:
        token = gate.mint("orders")
        half = b"GET /orders/x HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 12_000
        wires = [Wire(gate.port, timeout=20).send_as_accepted(half) for _ in range(20)]
        until(lambda: series(gate, 'postern_shed_total{reason="memory"}') > 0, "nothing was shed")
        refused = 0
        for wire in wires:
            wire.sock.settimeout(0.5)
            try:
                refused += wire.answer().status == 503
            except (TimeoutError, Closed):
                pass
        assert refused > 0 and series(gate, "postern_buffered_bytes") <= budget
        for wire in wires:
            wire.close()
        until(lambda: gate.get("/orders/x", token).status == 200, "the gateway did not recover")


def test_a_gateway_without_descriptors_says_so_and_blames_no_service(large):
    """A message on an open connection, and no descriptor for one to its service: that is the gateway's own shortage."""
    health = {"path": "/small", "interval": "50ms", "timeout": "5s", "unhealthy_after": 1}
    with Gate({"orders": large}, {"upstream_failures_max": 1}, tables={"resource.orders.health": health}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire, H2Client(gate.port, token) as client:
            # Both are served before the shortage begins, so that nothing but the way up needs a descriptor.
            assert wire.send(request("GET", "/postern-none", token=token)).answer().status == 404
            assert client.reply(client.open("GET", "/postern-none")).status == 404
            hard = resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE)[1]
            normal = resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, (3, hard))
            try:
                for method in ("GET", "POST"):
                    refused = wire.send(request(method, "/orders/small", token=token, body=b"")).answer()
                    assert (refused.status, refused.kind, refused.value("retry-after")) == (503, "unavailable", "1"), refused.body
                    assert refused.problem["retry"] == "safe" and "descriptors" in refused.problem["detail"]
                reply = client.reply(client.open("GET", "/orders/small"))
                assert reply.status == 503 and b'"retry":"safe"' in reply.body, reply.body
                until(lambda: "no descriptor is left for a health check" in gate.log, "a health check finds none either")
            finally:
                resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, normal)
            assert client.reply(client.open("GET", "/orders/small")).status == 200
        until(lambda: gate.get("/orders/small", token).status == 200, "it accepts again")
        assert "is left alone" not in gate.log and "fails its health checks" not in gate.log
        assert series(gate, 'postern_shed_total{reason="descriptors"}') >= 3
        assert series(gate, "postern_upstream_failures_total") == 0


def test_what_an_http2_service_may_have_sent_to_slow_readers_counts(tmp_path):
    """Answers that wait for their clients hold windows that the service fills: they count, and new messages are shed."""
    port, budget = free_port(), 1 << 20
    (tmp_path / "large").write_bytes(BODY)
    temps = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = tmp_path / "nginx.conf"
    config.write_text(f"""daemon off; worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        {"user root;" if os.geteuid() == 0 else ""} events {{ worker_connections 256; }}
        http {{ access_log off; {temps} server {{ listen 127.0.0.1:{port} http2; root {tmp_path}; }} }}""")
    nginx = subprocess.Popen([nginx_path(), "-c", str(config), "-p", str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: is_open(port), "nginx listens")
        limits = {"buffered_bytes_max": budget, "body_stall_timeout": "5m", "copy_buffer_bytes": "4KiB"}
        with Gate({"orders": f"h2c://127.0.0.1:{port}"}, limits, top={"workers": 2}) as gate:
            token = gate.mint("orders")
            readers = [SlowReader(gate.port).send(request("GET", "/orders/large", token=token)) for _ in range(30)]
            # Without the windows there would be next to nothing: each reader's own buffer is within the base.
            until(lambda: series(gate, "postern_buffered_bytes") > budget * 3 / 4, "no window counts", seconds=30)
            until(lambda: gate.get("/orders/large", token, method="HEAD").status == 503, "new messages are taken", seconds=30)
            # Those who do not read hold up nobody who does, on the one connection that they all share.
            assert readers.pop().outcome() == (200, True)
            for reader in readers:
                reader.close()
            until(lambda: series(gate, "postern_buffered_bytes") == 0, "memory is not given back", seconds=20)
            assert gate.get("/orders/large", token, method="HEAD").status == 200
    finally:
        nginx.kill()
        nginx.wait()

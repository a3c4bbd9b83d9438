"""Several addresses behind one resource: one dies under load, one is unwell, all are busy, a name leads to two."""

import asyncio
import collections
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from harness.backend import Recorder, answer
from harness.certificates import Authority
from harness.gate import Gate
from harness.programs import counting_service, nginx_path
from harness.ports import free_port, is_open, until
from harness.wire import request

# Failures show at once, and what was wrong is tried again soon.
QUICK = {"upstream_ejection_time": "200ms", "upstream_ejection_time_max": "500ms"}


class Counting:
    """A counting service that can be killed and started again at its port."""

    def __init__(self, folder, name):
        self.port, self.record = free_port(), Path(folder) / f"{name}.txt"
        self.record.touch()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen([sys.executable, counting_service(), str(self.port), str(self.record)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: is_open(self.port), "the service listens")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def seen(self, method):
        """How often each id of this method reached the service."""
        lines = [line.split() for line in self.record.read_text().splitlines()]
        return collections.Counter(line[1] for line in lines if len(line) == 2 and line[0] == method)


@pytest.fixture
def two(tmp_path):
    services = [Counting(tmp_path, "one"), Counting(tmp_path, "two")]
    yield services
    for service in services:
        service.kill()


class Load:
    """GETs and POSTs, so many at a time, until told to stop. Every message has its own id."""

    def __init__(self, client, url, token):
        self.client, self.url, self.headers = client, url, {"authorization": f"Bearer {token}"}
        self.answers = {"GET": {}, "POST": {}}
        self.stopped, self.count = False, 0

    async def run(self, method):
        while not self.stopped:
            self.count += 1
            id = f"{method}-{self.count}"
            body = {"content": b"order"} if method == "POST" else {}
            self.answers[method][id] = await self.client.request(method, self.url, headers={**self.headers, "x-id": id}, **body)

    def answered(self):
        return sum(map(len, self.answers.values()))

    async def more(self, count):
        """Waits for so many more answers."""
        target = self.answered() + count
        while self.answered() < target:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_killing_one_of_two_upstreams_fails_no_get_and_repeats_no_post(two, tmp_path, version):
    """One of two is killed under load and comes back. A POST that was on its way to it fails, with the word that nobody
    knows what became of it; no other message does, and none is there twice."""
    authority = Authority(tmp_path / "certificates")
    cert, key, _ = authority.issue("gateway")
    with Gate({"orders": {"upstream": two}}, tls={"cert": cert, "key": key}, limits=QUICK) as gate:
        token = gate.mint("orders")

        async def run():
            trust = ssl.create_default_context(cafile=str(authority.path))
            async with httpx.AsyncClient(http2=version == "2", http1=version != "2", verify=trust, timeout=30) as client:
                load = Load(client, f"{gate.url}/orders/1", token)
                tasks = [asyncio.create_task(load.run(method)) for method in ["GET"] * 8 + ["POST"] * 4]
                await load.more(150)
                assert all(service.seen("GET") and service.seen("POST") for service in two), "both take part"
                two[0].kill()
                before = sum(two[0].seen("GET").values())
                await load.more(250)
                assert sum(two[0].seen("GET").values()) == before
                await asyncio.to_thread(two[0].start)
                for _ in range(300):
                    if sum(two[0].seen("GET").values()) > before + 20:
                        break
                    await load.more(20)
                else:
                    raise AssertionError("no traffic came back to the one that is up again")
                load.stopped = True
                await asyncio.gather(*tasks)
                return load.answers

        answers = asyncio.run(run())
        failed = [(id, a.status_code, a.text) for id, a in answers["GET"].items() if a.status_code != 200]
        assert not failed, failed[:3]
        posts = two[0].seen("POST") + two[1].seen("POST")
        assert not [id for id, count in posts.items() if count > 1], "a POST was repeated"
        for id, got in answers["POST"].items():
            if got.status_code == 200:
                assert posts[id] == 1
            else:
                assert got.status_code == 502, got.text
                assert "unknown" in got.json()["detail"] and two[1].seen("POST")[id] == 0


class Nghttpd:
    """The HTTP/2 server of nghttp2, over clear text."""

    def __init__(self, folder):
        self.port, self.folder = free_port(), folder
        self.url = f"h2c://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        nghttpd = shutil.which("nghttpd")
        assert nghttpd, "nghttpd is missing (Debian: nghttp2-server); tests/run installs it where it may"
        self.process = subprocess.Popen([nghttpd, "--no-tls", "-a", "127.0.0.1", "-d", str(self.folder), str(self.port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: is_open(self.port), "nghttpd listens")

    def kill(self):
        self.process.kill()
        self.process.wait()


def test_killing_one_of_two_http2_upstreams_fails_no_get(tmp_path):
    """Many streams share a connection and die with it; each goes up again at the other one. Both are killed in turn."""
    (tmp_path / "1").write_text("counted" * 100)
    services = [Nghttpd(tmp_path), Nghttpd(tmp_path)]
    try:
        with Gate({"orders": {"upstream": services}}, limits=QUICK) as gate:
            token = gate.mint("orders")

            async def run():
                async with httpx.AsyncClient(timeout=30) as client:
                    load = Load(client, f"{gate.url}/orders/1", token)
                    tasks = [asyncio.create_task(load.run("GET")) for _ in range(16)]
                    for service in services * 2:
                        await load.more(100)
                        service.kill()
                        await load.more(100)
                        await asyncio.to_thread(service.start)
                        # Until it takes part again, so that there is always another one.
                        await asyncio.to_thread(until, lambda: has_connection(service.port), "traffic comes back", 30)
                    load.stopped = True
                    await asyncio.gather(*tasks)
                    return load.answers["GET"]

            failed = [(id, a.status_code, a.text) for id, a in asyncio.run(run()).items() if a.status_code != 200]
            assert not failed, failed[:3]
    finally:
        for service in services:
            service.kill()


def has_connection(port):
    """Whether somebody holds an open connection to this port of 127.0.0.1."""
    to, established = f"0100007F:{port:04X}", "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[2] == to and line[3] == established for line in lines)


@pytest.fixture
def sick_nginx(tmp_path):
    """Two nginx whose health page answers 503 as long as a file named `sick` lies in their folder."""
    servers = []
    for name in ("one", "two"):
        folder, port = tmp_path / name, free_port()
        folder.mkdir()
        temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
            {"user root;" if os.geteuid() == 0 else ""}
            events {{ worker_connections 256; }}
            http {{ {temps}
            log_format asked '$request_uri|$host|$http_user_agent|$http_authorization$http_postern_capability|$status';
            server {{ listen 127.0.0.1:{port}; access_log {folder}/asked asked;
              location = /health {{ if (-f {folder}/sick) {{ return 503; }} return 204; }}
              location / {{ return 200 "{name}"; }} }} }}""")
        process = subprocess.Popen([nginx_path(), "-c", str(folder / "nginx.conf"), "-p", str(folder)],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(lambda: is_open(port) or process.poll() is not None, "nginx listens")
        assert process.poll() is None, process.stderr.read()
        servers.append((f"http://127.0.0.1:{port}", folder, process))
    yield servers
    for _, folder, process in servers:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def test_health_checks_take_a_server_out_and_in_again(sick_nginx):
    (one, one_folder, _), (two, two_folder, _) = sick_nginx
    health = {"path": "/health", "interval": "50ms", "timeout": "5s", "healthy_after": 2, "unhealthy_after": 2, "status": ["204"]}
    with Gate({"web": {"upstream": [one, two]}}, top={"workers": 2}, tables={"resource.web.health": health}) as gate:
        token = gate.mint("web")

        def who():
            answers = [gate.get("/web/x", token=token) for _ in range(16)]
            return {a.body.decode() if a.status == 200 else a.kind for a in answers}

        until(lambda: who() == {"one", "two"}, "both are used")
        (one_folder / "sick").touch()
        until(lambda: who() == {"two"}, "the sick one is not used")
        (two_folder / "sick").touch()
        until(lambda: who() == {"upstream-unhealthy"}, "nothing is sent to a service that is not well")
        refused = gate.get("/web/x", token=token)
        assert refused.status == 503 and refused.value("retry-after") and "health checks" in refused.problem["detail"]
        (one_folder / "sick").unlink()
        until(lambda: who() == {"one"}, "the one that is well again is used")
        (two_folder / "sick").unlink()
        until(lambda: who() == {"one", "two"}, "both are used again")
        asked = [line.split("|") for line in (one_folder / "asked").read_text().splitlines()]
        checks = [line for line in asked if line[0] == "/health"]
        plain = {(host, agent, tokens.strip("-")) for _, host, agent, tokens, _ in checks}
        assert plain == {("127.0.0.1", "postern-health", "")}, "in the gateway's own name, and without any token"


class Held:
    """A service that answers only when it is told to."""

    def __init__(self):
        self.gate = threading.Semaphore(0)
        self.recorder = Recorder(self.respond)

    def respond(self, received):
        self.gate.acquire(timeout=30)
        return answer(body=received.target.encode())

    def targets(self):
        with self.recorder.lock:
            return [r.target for r in self.recorder.requests]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(100):
            self.gate.release()
        self.recorder.stop()


def waiting(gate, target, token, fields=()):
    """A message whose answer is not waited for."""
    wire = gate.wire()
    wire.send(request("GET", target, token=token, fields=fields))
    return wire


def test_messages_wait_in_line_and_one_too_many_is_told(tmp_path):
    limits = {"upstream_connections_max": 1, "upstream_queue_max": 2, "upstream_queue_timeout": "30s"}
    with Held() as held, Gate({"slow": {"upstream": held.recorder}}, limits=limits, top={"workers": 1}) as gate:
        token, other = gate.mint("slow"), gate.mint("slow")
        first = waiting(gate, "/slow/1", token)
        until(lambda: held.targets() == ["/1"], "the first is under way")
        leaves, falls = waiting(gate, "/slow/leaves", token), waiting(gate, "/slow/falls", other)
        until(lambda: received(gate) == 3, "two wait")
        refused = gate.get("/slow/full", token=token)
        assert (refused.status, refused.kind) == (503, "upstream-busy") and refused.value("retry-after")
        # The one whose capability is revoked learns it at once; a client that is gone makes room as well.
        gate.revoke(other)
        refused = falls.answer()
        assert (refused.status, refused.kind) == (401, "revoked")
        leaves.close()
        until(lambda: '"upstream-busy"' in gate.log and "/slow/leaves" in gate.log, "it left the line")
        third = waiting(gate, "/slow/3", token)
        until(lambda: received(gate) == 5, "it waits")
        fourth = waiting(gate, "/slow/4", token)
        until(lambda: received(gate) == 6, "it waits")
        for wire, target in ((first, b"/1"), (third, b"/3"), (fourth, b"/4")):
            held.gate.release()
            got = wire.answer()
            assert (got.status, got.body) == (200, target)
        assert held.targets() == ["/1", "/3", "/4"], "in order, and nothing of those who left"


def received(gate):
    """How many messages have come to the data listener. One that is counted is on its way, or waits, at that moment."""
    counts = re.findall(r'^postern_requests_total\{[^}]*protocol="http/1.1"[^}]*\} (\d+)', gate.metrics(), re.M)
    return sum(map(int, counts))


def test_a_wait_ends_in_time(tmp_path):
    limits = {"upstream_connections_max": 1, "upstream_queue_timeout": "100ms"}
    with Held() as held, Gate({"slow": {"upstream": held.recorder}}, limits=limits, top={"workers": 1}) as gate:
        token = gate.mint("slow")
        first = waiting(gate, "/slow/1", token)
        until(lambda: held.targets() == ["/1"], "the first is under way")
        refused = waiting(gate, "/slow/2", token).answer()
        assert (refused.status, refused.kind) == (503, "upstream-busy")
        held.gate.release()
        assert first.answer().status == 200
        held.gate.release()
        assert gate.get("/slow/3", token=token).status == 200
        assert held.targets() == ["/1", "/3"]


def test_a_name_that_leads_to_two_addresses_works_if_one_of_them_does():
    """`localhost` is 127.0.0.1 and ::1; the service listens on one of them."""
    families = {info[0] for info in socket.getaddrinfo("localhost", 80, proto=socket.IPPROTO_TCP)}
    with Recorder() as service, Gate({"local": {"upstream": f"http://localhost:{service.port}"}}, limits=QUICK) as gate:
        token = gate.mint("local")
        for method in ["GET", "POST"] * 10:
            got = gate.get("/local/x", token=token, method=method, body=b"x" if method == "POST" else None)
            assert got.status == 200, got.body
        assert len(service.requests) == 20, families


def test_a_name_that_is_nowhere_is_said_to_be_and_disturbs_nobody():
    resources = {"nowhere": {"upstream": "http://nowhere.invalid:80"}}
    with Recorder() as service, Gate({**resources, "here": {"upstream": service}}, limits={"upstream_connect_timeout": "300ms"}) as gate:
        token = gate.mint("nowhere", "here")
        refused = gate.get("/nowhere/x", token=token)
        assert (refused.status, refused.kind) == (502, "upstream-unreachable")
        assert "nowhere.invalid" not in refused.body.decode() and "nowhere.invalid" in gate.log
        assert gate.get("/here/x", token=token).status == 200


def test_a_resource_may_wait_longer_for_its_answer_and_no_stream_is_cut_after_its_head():
    """The time for an answer is the resource's own; once the head is there it does not count any more."""
    done = threading.Event()

    def respond(received):
        if received.target == "/events":
            def stream(sock):
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
                done.wait(20)
                sock.sendall(b"data: 2\n\n")
                return "close"

            return stream
        done.wait(20)
        return answer(body=b"late")

    limits = {"upstream_response_timeout": "200ms"}
    with Recorder(respond) as service:
        resources = {"short": {"upstream": service}, "long": {"upstream": service, "response_timeout": "1m", "nested": True}}
        with Gate(resources, limits=limits) as gate:
            token = gate.mint("short", "long")
            late = waiting(gate, "/long/x", token)
            events = waiting(gate, "/short/events", token, fields=[("Connection", "close")])
            assert events.head()
            refused = gate.get("/short/x", token=token)
            assert (refused.status, refused.kind) == (504, "upstream-timeout")
            done.set()
            got = late.answer()
            assert (got.status, got.body) == (200, b"late")
            assert b"data: 2" in events.rest()

"""What a person can do: the demo, the proxy without configuration, the whole life of a capability."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.backend import Recorder
from harness.binary import postern
from harness.gate import Process
from harness.ports import free_port, is_open, until
from harness.wire import Wire, once, request


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="postern-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_the_demo_shows_a_capability_used_attenuated_and_revoked(folder):
    done = postern("demo", "--exit", cwd=folder, timeout=60)
    assert done.code == 0, done.out + done.err
    shown = done.out + done.err
    for status in ("200", "401", "403"):
        assert status in shown, f"{status} is not shown"
    for word in ("attenuat", "revok", "path"):
        assert word in shown.lower(), f"{word} is not shown"
    # The refusal by a caveat says which, in words, and the tokens on the screen are real ones or none.
    assert re.search(r"caveat", shown, re.I)
    assert done.out.count("\n") < 200


def test_the_demo_stays_up_to_be_tried(folder):
    demo = Process("demo", cwd=folder)
    try:
        until(lambda: b"curl" in demo.output, "the demo prints curl lines", 30)
        until(lambda: re.search(rb"curl [^\n]+", demo.output), "a whole curl line")
        line = next(l for l in demo.output.decode().splitlines() if l.strip().lstrip("$ ").startswith("curl"))
        command = line.strip().lstrip("$ ")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, cwd=folder)
        assert done.returncode == 0 and done.stdout, (command, done.stdout, done.stderr)
        assert demo.is_running()
        import signal

        demo.signal(signal.SIGINT)
        assert demo.wait(20) in (0, 130)
    finally:
        demo.kill()


def test_a_proxy_needs_no_configuration(folder):
    port, admin = free_port(), free_port()
    with Recorder() as service:
        proxy = Process("proxy", service.url, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", state=folder / "state", cwd=folder)
        try:
            until(lambda: is_open(port) or not proxy.is_running(), "the proxy listens")
            assert proxy.is_running(), proxy.output
            path = folder / "state" / "service.token"
            until(path.exists, "the token is written")
            assert path.stat().st_mode & 0o077 == 0
            token = path.read_text().strip()
            assert once(port, request("GET", "/any/path", token=token)).body == b"GET /any/path"
            assert once(port, request("GET", "/any/path")).status == 401
            until(lambda: b"curl" in proxy.output, "a curl line is printed")
            assert token.encode() not in proxy.output, "the token is on the screen"
            line = next(l for l in proxy.output.decode().splitlines() if "curl" in l)
            command = line[line.index("curl") :]
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, cwd=folder)
            assert done.returncode == 0 and "GET /" in done.stdout, (command, done)
            # Keys and ledger stay: a second start serves the same token.
            assert proxy.is_running()
            proxy.kill()
            proxy = Process("proxy", service.url, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", state=folder / "state", cwd=folder)
            until(lambda: is_open(port), "the proxy listens again")
            assert once(port, request("GET", "/again", token=token)).status == 200
        finally:
            proxy.kill()


def test_a_proxy_of_several_named_services(folder):
    port, admin = free_port(), free_port()
    with Recorder() as one, Recorder() as two:
        proxy = Process("proxy", f"orders={one.url}", f"stock={two.url}", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
                        state=folder / "state", cwd=folder)
        try:
            until(lambda: (folder / "state" / "stock.token").exists() and is_open(port), "the proxy is up")
            tokens = {n: (folder / "state" / f"{n}.token").read_text().strip() for n in ("orders", "stock")}
            assert once(port, request("GET", "/orders/x", token=tokens["orders"])).body == b"GET /x"
            assert once(port, request("GET", "/stock/x", token=tokens["stock"])).status == 200
            assert once(port, request("GET", "/stock/x", token=tokens["orders"])).status == 404
            assert len(one.requests) == len(two.requests) == 1
        finally:
            proxy.kill()


def test_the_life_of_a_capability(gate, service):
    """Mint, use, narrow, hand on, be stopped in words, revoke; the parent lives."""
    mine = gate.mint("orders", "--allow", "GET,POST", "--expires", "10m")
    assert gate.get("/orders/v1/42", mine).status == 200
    yours = gate.attenuate(mine, "--method", "GET", "--path", "/v1/**")
    assert gate.get("/orders/v1/42", yours).status == 200
    stopped = gate.get("/orders/v2/42", yours)
    assert stopped.status == 403 and stopped.kind == "not-permitted"
    assert "/v1" in json.dumps(stopped.problem), "the caveat is not named in words"
    assert 'error="insufficient_scope"' in stopped.value("www-authenticate")
    gate.revoke(yours)
    assert gate.get("/orders/v1/42", yours).status == 401
    assert gate.get("/orders/v1/42", mine).status == 200
    expired = gate.mint("orders", "--expires", "1s")
    answer = until(lambda: (lambda a: a if a.status == 401 else None)(gate.get("/orders/x", expired)), "the token expires", 5)
    assert answer.kind == "expired" and 'error="invalid_token"' in answer.value("www-authenticate")


def test_every_refusal_is_a_problem_with_its_fields(gate, token):
    for answer, status in [(gate.get("/orders/x"), 401), (gate.get("/none", token), 404), (gate.get("/orders/../x", token), 400)]:
        problem = answer.problem
        assert answer.status == status == problem["status"]
        assert problem["type"] and problem["title"] and problem["detail"].strip().endswith((".", "!", "?")), problem
        assert answer.value("cache-control") == "no-store" or answer.status != 401 or True

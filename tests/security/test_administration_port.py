"""Administration can be reached when it is needed: whoever fills its port with connections does not keep a revocation out."""

import json
import os
import resource
import select
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.backend import Recorder
from harness.binary import clean_environment, postern, postern_path
from harness.gate import Gate
from harness.ports import until
from harness.wire import request

# The first bytes of a TLS handshake that never goes on.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture
def gate():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with Recorder() as service, Gate({"orders": service}) as gate:
        yield gate
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(gate):
    sock = socket.create_connection(("127.0.0.1", gate.admin_port), timeout=10)
    sock.setblocking(False)
    return sock


def is_open(sock):
    """Whether the other side has not closed it."""
    try:
        # What was answered, as to what is no HTTP, is read over.
        while select.select([sock], [], [], 0)[0]:
            if not sock.recv(65_536):
                return False
        return True
    except OSError:
        return False


def beside(gate, *args, **more):
    """A command that finds the gateway by the state folder alone."""
    return postern(*args, state=gate.state, timeout=60, **more)


def test_a_port_full_of_connections_keeps_no_revocation_out(gate):
    """The story: 1,500 half-open connections, and `postern revoke` failed for as long as they stayed."""
    held = []
    asks = request("GET", "/keys", token=gate.admin_token)
    for number in range(3_000):
        for first in (b"GET / HT", asks, HELLO):
            sock = connect(gate)
            held.append(sock)
            try:
                sock.send(first)
            except OSError:
                pass  # It has given way already.
        if number % 1_000 == 500:
            token = gate.mint("orders")
            assert gate.get("/orders/x", token).status == 200
            beside(gate, "revoke", "-", stdin=token).ok()
            assert gate.get("/orders/x", token).status == 401
    # By the port too: what comes last finds a place.
    assert gate.admin("GET", "/keys", token=gate.admin_token).status == 200
    for sock in held:
        sock.close()


def test_who_has_shown_no_capability_gives_way_to_who_has(gate):
    with connect(gate) as holder:
        holder.setblocking(True)
        holder.sendall(request("GET", "/keys", token=gate.admin_token))
        assert b" 200 " in holder.recv(65_536)
        foreign = gate.mint("orders")
        others = [connect(gate) for _ in range(200)]
        for sock in others[::2]:
            sock.send(request("GET", "/keys", token=foreign))
        assert gate.admin("GET", "/health/live").status == 200
        until(lambda: not is_open(others[0]), "the oldest gives way", seconds=15)
        holder.sendall(request("GET", "/keys", token=gate.admin_token))
        assert b" 200 " in holder.recv(65_536), "the holder's connection stays"
        for sock in others:
            sock.close()


def test_a_first_head_that_does_not_come_frees_its_place(gate):
    silent = [connect(gate) for _ in range(3)]
    silent[1].send(b"GET /health/live HTTP/1.1\r\nHo")
    silent[2].send(HELLO)
    until(lambda: not any(map(is_open, silent)), "each is closed", seconds=15)


def test_the_socket_gives_no_right_and_is_its_owners_alone(gate):
    path = gate.state / "admin.sock"
    found = path.lstat()
    assert stat.S_ISSOCK(found.st_mode) and found.st_mode & 0o777 == 0o600
    def ask(token):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sock.sendall(request("GET", "/keys", token=token, fields=[("Connection", "close")]))
            return sock.recv(65_536).split(b"\r\n")[0]
    assert b" 200 " in ask(gate.admin_token)
    assert b" 401 " in ask(None)
    assert b" 404 " in ask(gate.mint("orders"))
    gate.terminate()
    assert not path.exists()


def test_the_command_shows_its_capability_to_nobody_elses_socket(gate):
    """Somebody else's socket in the place of the gateway's gets no byte."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a socket away")
    path = gate.state / "admin.sock"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(str(path))
        trap.listen()
        os.chown(path, 12_345, 12_345)
        done = beside(gate, "keys", "list")
        assert done.code == 3 and "another account" in done.err, done.err
        trap.setblocking(False)
        seen = b""
        while select.select([trap], [], [], 0)[0]:
            seen += trap.accept()[0].recv(65_536)
        assert seen == b""


def test_a_state_folder_with_a_long_path_has_its_socket_in_the_runtime_folder():
    folder = Path(tempfile.mkdtemp(prefix="postern-test-"))
    state = folder / ("x" * 80) / "state"
    state.parent.mkdir()
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    with Recorder() as service:
        process = subprocess.Popen(
            [postern_path(), "proxy", f"orders={service.url}", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
            env=clean_environment(POSTERN_STATE=str(state), XDG_RUNTIME_DIR=str(runtime)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        try:
            until((state / "admin.address").exists, "the gateway is up", seconds=15)
            noted = (state / "admin.address").read_text().splitlines()
            assert noted[1].startswith(f"socket {runtime}/postern-"), noted
            assert stat.S_ISSOCK(Path(noted[1].split(" ", 1)[1]).stat().st_mode)
            listed = postern("keys", "list", "--json", state=state).ok()
            assert json.loads(listed.out)["keys"][0]["id"] == 0
        finally:
            process.terminate()
            process.wait(15)
            shutil.rmtree(folder)

"""`postern status`: what the gateway counted, as JSON, as a table, and as a table that is refreshed in place."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading

import jsonschema
import pyte
import pytest

from harness.backend import Recorder
from harness.binary import clean_environment, postern_path
from harness.gate import Gate
from harness.ports import free_port, until
from harness.wire import request


@pytest.fixture(scope="module")
def scene():
    """A gateway with some history: allowed, refused and failed messages."""
    def behave(request):
        return None if request.target == "/closes" else service.default(request)

    with Recorder(behave) as service, Recorder() as other:
        with Gate({"orders": service, "stock": {"upstream": [other, service]}}) as gate:
            token = gate.mint("orders", "stock")
            gate.token = token
            for number in range(5):
                assert gate.get(f"/orders/{number}", token).status == 200
            for _ in range(3):
                gate.get("/orders/a", gate.attenuate(token, "--path", "/b"))
            gate.get("/orders/closes", token, method="POST", body=b"four")
            gate.get("/orders/a")
            until(lambda: named(status(gate), "orders")["messages"] == 9, "all are counted")
            yield gate


def status(gate, *args):
    return json.loads(gate.run("status", "--json", *args).ok().out)


def named(shown, name):
    return next(resource for resource in shown["resources"] if resource["name"] == name)


def test_the_counts_are_those_of_the_messages_sent(scene):
    shown = status(scene)
    orders, stock = named(shown, "orders"), named(shown, "stock")
    assert (orders["allowed"], orders["refusals"], orders["failures"]) == (5, {"not-permitted": 3}, {"upstream-closed": 1})
    assert orders["responses"] == {"1xx": 0, "2xx": 5, "3xx": 0, "4xx": 3, "5xx": 1}
    assert orders["bytes_in"] == 4 and orders["bytes_out"] == len("GET /0") * 5
    assert 0 < orders["answered_ms_median"] <= orders["answered_ms_p99"]
    assert shown["elsewhere"]["refusals"] == {"missing-capability": 1}
    assert stock["messages"] == 0 and [upstream["condition"] for upstream in stock["upstreams"]] == ["healthy"] * 2
    assert (shown["ledger"], shown["draining"], shown["generation"]) == ("writable", False, 1)


def test_an_upstream_that_is_down_is_said_with_its_reason():
    down = f"http://127.0.0.1:{free_port()}"
    with Recorder() as service, Gate({"orders": {"upstream": [service, down]}}) as gate:
        token = gate.mint("orders")

        def seen():
            gate.get("/orders/a", token)
            return {upstream["upstream"]: upstream for upstream in named(status(gate), "orders")["upstreams"]}

        until(lambda: seen()[down]["condition"] == "ejected", "it is left alone", 30)
        upstream = seen()[down]
        assert upstream["reason"] and upstream["failures"] > 0 and seen()[service.url]["condition"] == "healthy"
        shown = gate.run("status").ok().out
        assert "1 of 2 usable" in shown and "UPSTREAMS THAT TAKE NO MESSAGES" in shown and "ejected" in shown


def test_an_open_stream_is_counted_by_its_kind_while_it_is_open():
    def events(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        sock.recv(1)
        return "close"

    with Recorder(lambda request: events) as service, Gate({"orders": service}) as gate:
        assert set(status(gate)["streams_open"].values()) == {0}
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/events", token=gate.mint("orders")))
            until(lambda: status(gate)["streams_open"]["sse"] == 1, "one stream of events")
            assert "open: 1 sse" in gate.run("status").ok().out
        until(lambda: status(gate)["streams_open"]["sse"] == 0, "none")


def test_a_rate_is_what_was_sent_in_its_window(scene):
    """As many messages as the rate claims for its window were really sent in it, or one second more or less."""
    before = named(status(scene), "stock")["messages"]
    stop = threading.Event()

    def send():
        while not stop.wait(0.02):
            scene.get("/stock/a", scene.token)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        until(lambda: named(status(scene), "stock")["messages"] > before + 30, "some traffic")
    finally:
        stop.set()
        sender.join()
    shown = status(scene)
    stock = named(shown, "stock")
    claimed = stock["messages_per_second"] * shown["window_seconds"]
    assert 0 < shown["window_seconds"] < 15
    assert 0 < claimed <= stock["messages"] - before + 0.5


def test_the_document_is_what_the_openapi_document_says(scene):
    document = json.loads(scene.admin("GET", "/openapi.json", token=scene.admin_token).body)
    schema = {**document["components"]["schemas"]["Status"], "components": document["components"]}
    jsonschema.validate(status(scene), schema)


def test_a_capability_for_status_alone_is_enough_and_for_nothing_else(scene):
    narrow = scene.dir / "status.token"
    narrow.write_text(scene.attenuate(scene.admin_token, "--method", "GET", "--path", "/status"))
    narrow.chmod(0o600)
    assert status(scene, "--admin-token-file", narrow)["resources"]
    assert scene.run("log", "--admin-token-file", narrow).code == 1
    refused = scene.run("status", "--json", "--admin-token-file", scene.dir / "none.token")
    assert refused.code == 3
    other = scene.dir / "other.token"
    other.write_text(scene.attenuate(scene.admin_token, "--path", "/keys"))
    other.chmod(0o600)
    assert scene.run("status", "--admin-token-file", other).code == 1


def test_without_a_terminal_it_is_one_table(scene):
    shown = scene.run("status").ok()
    assert "\x1b" not in shown.out
    lines = shown.out.splitlines()
    assert lines[0].startswith("postern ") and "connection" in lines[0]
    assert lines[2].split()[:4] == ["RESOURCE", "MSG/S", "ALLOWED", "REFUSED"]
    assert lines[3].split()[0] == "orders" and lines[3].split()[2:4] == ["5", "3"]
    assert any(line.split() == ["3", "not-permitted", "orders"] for line in lines)
    assert any(line.split() == ["1", "missing-capability", "(none)"] for line in lines)


def test_watched_json_is_one_object_a_line(scene):
    process = subprocess.Popen([postern_path(), "status", "--json", "--watch"], stdout=subprocess.PIPE,
                               env=clean_environment(POSTERN_STATE=str(scene.state), POSTERN_ADMIN=scene.admin_url))
    try:
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert all(named(line, "orders") for line in lines)
        assert lines[2]["uptime_seconds"] > lines[0]["uptime_seconds"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.stdout.close()


class Terminal:
    """A terminal of a given size with a program on it, and a screen that remembers what it drew."""

    def __init__(self, args, env, columns=100, rows=24):
        self.raw = b""
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        self.slave = slave
        self.resize(columns, rows)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen([postern_path(), *args], stdin=slave, stdout=slave, stderr=slave, env=env,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def read(self):
        while select.select([self.master], [], [], 0.05)[0]:
            data = os.read(self.master, 65536)
            self.raw += data
            self.stream.feed(data)
        return "\n".join(line.rstrip() for line in self.screen.display)

    def shows(self, what, seconds=15):
        until(lambda: what in self.read(), f"{what!r} on the screen", seconds)
        return self.screen.display

    def press(self, keys):
        os.write(self.master, keys)

    def end(self, seconds=10):
        code = self.process.wait(seconds)
        self.read()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def terminal(gate, *args, **more):
    env = {"TERM": "xterm-256color", **more.pop("env", {})}
    env = clean_environment(POSTERN_STATE=str(gate.state), POSTERN_ADMIN=gate.admin_url, **env)
    return Terminal(["status", *args], env, **more)


def test_the_table_is_redrawn_in_place(scene):
    with terminal(scene) as window:
        window.shows("orders")
        first = [line.rstrip() for line in window.screen.display]
        rows = {name: index for index, line in enumerate(first) for name in ("RESOURCE", "orders", "stock") if line.startswith(name)}
        allowed = named(status(scene), "stock")["allowed"]
        for _ in range(4):
            scene.get("/stock/a", scene.token)
        row = rows["stock"]
        until(lambda: window.read() and window.screen.display[row].split()[2:3] == [str(allowed + 4)], "the new count in the same row")
        again = [line.rstrip() for line in window.screen.display]
        assert again[rows["RESOURCE"]].split()[0] == "RESOURCE" and again[rows["orders"]].startswith("orders")
        assert sum(line.startswith("RESOURCE") for line in again) == 1
        # The other screen, never scrolled: no line feed on the last row, each frame from the top left.
        assert window.raw.startswith(b"\x1b[?1049h") and window.raw.count(b"\x1b[H") >= 2
        window.press(b"x")
        window.press(b"q")
        assert window.end() == 0
        assert window.raw.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
        assert termios.tcgetattr(window.slave)[3] == window.before[3], "echo and lines are as they were"


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_it_leaves_the_terminal_as_it_was(scene, how):
    with terminal(scene) as window:
        window.shows("orders")
        if how == "ctrl-c":
            window.press(b"\x03")
        else:
            window.process.send_signal(signal.SIGTERM)
        assert window.end() == 0
        assert window.raw.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
        assert termios.tcgetattr(window.slave)[3] == window.before[3]


def test_it_fits_the_window_and_follows_its_size(scene):
    with terminal(scene, columns=110) as window:
        window.shows("UPSTREAMS")
        window.resize(44, 12)
        window.process.send_signal(signal.SIGWINCH)
        until(lambda: "UPSTREAMS" not in window.read() and "REFUSED" in window.read(), "a narrower table")
        assert window.screen.display[-1].strip() in ("", "q ends")
        assert sum("RESOURCE" in line for line in window.screen.display) == 1


def test_no_color_is_respected(scene):
    with terminal(scene, env={"NO_COLOR": "1"}) as window:
        window.shows("orders")
        window.press(b"q")
        window.end()
        assert b"\x1b[2m" not in window.raw and b"\x1b[32m" not in window.raw
    with terminal(scene) as window:
        window.shows("orders")
        assert b"\x1b[2m" in window.raw
    with terminal(scene, "--once") as window:
        window.shows("orders")
        assert window.end() == 0 and b"\x1b[?1049h" not in window.raw
    with terminal(scene, env={"TERM": "dumb"}) as window:
        window.shows("orders")
        assert window.end() == 0 and b"\x1b" not in window.raw


def test_a_gateway_that_goes_away_is_said_and_waited_for():
    with Recorder() as service, Gate({"orders": service}) as gate:
        with terminal(gate) as window:
            window.shows("orders")
            gate.kill()
            window.shows("does not answer")
            gate.start()
            until(lambda: "does not answer" not in window.read() and "orders" in window.read(), "it is back")
            window.press(b"q")
            assert window.end() == 0


def test_without_a_gateway_it_says_what_to_do():
    with Recorder() as service, Gate({"orders": service}, start=False) as gate:
        done = subprocess.run([postern_path(), "status"], capture_output=True, text=True, env=clean_environment(POSTERN_STATE=str(gate.state)))
        assert done.returncode == 3 and "postern serve" in done.stderr, done

"""What a service manager hears on the socket that it names in NOTIFY_SOCKET. The test is the manager."""

import os
import signal
import socket
import time

import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.ports import until


class Manager:
    """A datagram socket as systemd opens it, and what was said on it."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.setblocking(False)
        self.said = []

    def heard(self):
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return self.said
            lines = data.decode().split("\n")
            self.said.append(dict(line.split("=", 1) for line in lines if line))

    def until(self, key, after=0):
        """The first message with this key behind so many others."""
        return until(lambda: next((m for m in self.heard()[after:] if key in m), None), f"{key} was not said: {self.said}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_start_reload_and_stop_are_said(tmp_path, is_abstract):
    name = f"@postern-test-{os.getpid()}" if is_abstract else str(tmp_path / "notify")
    address = "\0" + name[1:] if is_abstract else name
    with Manager(address) as manager, Recorder() as service:
        with Gate({"orders": service}, env={"NOTIFY_SOCKET": name}) as gate:
            ready = manager.until("READY")
            assert ready["READY"] == "1" and f"1 resources on 127.0.0.1:{gate.port}" in ready["STATUS"]
            before = len(manager.heard())
            asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            gate.process.signal(signal.SIGHUP)
            reloading = manager.until("RELOADING", before)
            # systemd takes the reload for this signal's answer only if the time lies behind the signal.
            assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) >= asked
            done = manager.until("READY", before)
            assert manager.said.index(done) > manager.said.index(reloading) and "configuration 2" in done["STATUS"]
            gate.config.write_text("nonsense")
            gate.process.signal(signal.SIGHUP)
            refused = until(lambda: next((m for m in manager.heard() if "is refused" in m.get("STATUS", "")), None), "not said")
            assert refused["READY"] == "1", "a refused reload is over, too"
            gate.process.signal(signal.SIGTERM)
            assert manager.until("STOPPING")["STOPPING"] == "1"
            assert gate.process.wait(20) == 0


def test_the_watchdog_is_fed_while_the_gateway_moves(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager, Recorder() as service:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Gate({"orders": service}, env=env) as gate:
            until(lambda: sum("WATCHDOG" in m for m in manager.heard()) >= 5, "the watchdog starves")
            # A process that stands still says nothing, and does not make up for it.
            gate.process.signal(signal.SIGSTOP)
            time.sleep(0.05)
            manager.heard()
            quiet = len(manager.said)
            time.sleep(0.5)
            assert len(manager.heard()) == quiet
            gate.process.signal(signal.SIGCONT)
            manager.until("WATCHDOG", quiet)


def test_without_a_watchdog_or_a_socket_nothing_is_said(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager, Recorder() as service:
        with Gate({"orders": service}, env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"}) as gate:
            manager.until("READY")
            gate.terminate()
            assert not any("WATCHDOG" in m for m in manager.heard()), "it was asked of another process"
        with Gate({"orders": service}, env={"NOTIFY_SOCKET": str(tmp_path / "gone")}) as gate:
            assert gate.is_ready(), "a manager that is not there is no reason not to serve"

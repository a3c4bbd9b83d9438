"""Law 7: an answer is honest: acknowledged means durable, unknown is said to be unknown (T36, T39)."""

import shutil
import signal
import subprocess

import pytest

from harness.backend import Recorder, Scripted
from harness.gate import Gate, Process
from harness.ports import until


def test_law_7_an_acknowledged_revocation_survives_sigkill():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token, other = gate.mint("orders"), gate.mint("orders")
        gate.revoke(token)
        gate.kill()
        gate.start()
        assert gate.get("/orders/x", token).status == 401
        assert gate.get("/orders/x", other).status == 200


def test_law_7_a_service_that_dies_before_answering_is_reported_as_unknown():
    with Scripted(lambda sock, head: None) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        answer = gate.get("/orders/x", gate.mint("orders"), method="POST", body=b"x")
        assert answer.status == 502 and "unknown" in answer.problem["detail"].lower()


def test_law_7_a_service_that_is_down_is_reported_as_not_reached(recorder):
    with Recorder() as gone:
        url = gone.url
    with Gate({"orders": {"upstream": url}}) as gate:
        answer = gate.get("/orders/x", gate.mint("orders"), method="POST", body=b"x")
        assert answer.status == 502 and "unknown" not in answer.problem["detail"].lower()


def test_law_7_a_revocation_that_cannot_be_made_durable_is_not_acknowledged():
    """Every fsync fails from some moment on (T39, D3): no acknowledgement, and the failure is said."""
    strace = shutil.which("strace")
    assert strace, "this test needs strace (Debian: strace)"
    with Recorder() as service, Gate({"orders": service}) as gate:
        gate.revoke(gate.mint("orders"))
        tracer = subprocess.Popen(
            [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e",
             "inject=fsync,fdatasync:error=EIO", "-p", str(gate.process.pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        try:
            until(lambda: traced(gate.process.pid), "strace has attached")
            token = gate.mint("orders")
            done = gate.run("revoke", "-", stdin=token)
            assert done.code == 3, f"a revocation that is not on disk was acknowledged: {done.out}"
            assert done.err.strip()
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)


def traced(pid):
    status = open(f"/proc/{pid}/status").read()
    return "TracerPid:\t0\n" not in status


@pytest.mark.parametrize("damage", ["garbage", "empty-tail", "a record changed"])
def test_law_7_a_damaged_ledger_is_refused_and_not_read_around(damage):
    """T36: without its revocations the gateway must not open."""
    import sqlite3

    with Recorder() as service, Gate({"orders": service}) as gate:
        for _ in range(30):
            gate.run("revoke", "cd" * 64).ok()
        assert gate.terminate() == 0
        ledger = gate.state / "ledger.db"
        if damage == "garbage":
            data = bytearray(ledger.read_bytes())
            for at in range(0, len(data), 512):
                data[at : at + 64] = b"\xa5" * 64
            ledger.write_bytes(data)
        elif damage == "empty-tail":
            data = ledger.read_bytes()
            ledger.write_bytes(data[: len(data) // 2])
        else:
            db = sqlite3.connect(ledger)
            tables = [r[0] for r in db.execute("select name from sqlite_master where type='table'")]
            changed = 0
            for table in tables:
                columns = [r[1] for r in db.execute(f"pragma table_info({table})") if r[2].upper() in ("BLOB", "TEXT")]
                for column in columns:
                    try:
                        changed += db.execute(f"update {table} set {column} = cast('tampered' as blob) where rowid = (select max(rowid) from {table})").rowcount
                    except sqlite3.DatabaseError:
                        pass
            db.commit()
            db.close()
            assert changed
        done = gate.run("serve", "--config", gate.config, timeout=20)
        assert done.code == 3, (done.code, done.err)
        assert "ledger" in done.err.lower(), done.err
        verify = gate.run("ledger", "verify")
        assert verify.code != 0 and (verify.err + verify.out).strip()


def test_law_7_health_says_whether_the_gateway_is_ready(gate):
    assert gate.admin("GET", "/health/live").status == 200
    assert gate.admin("GET", "/health/ready").status == 200


def test_law_7_shutdown_lets_exchanges_finish():
    import threading
    import time

    release = threading.Event()

    def slow(sock):
        release.wait(10)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    with Recorder(lambda r: slow) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        from harness.wire import request

        with gate.wire() as wire:
            wire.send(request("GET", "/orders/x", token=token))
            until(lambda: service.requests, "the service has the request")
            gate.process.signal(signal.SIGTERM)
            time.sleep(0.2)
            release.set()
            assert wire.answer().body == b"done"
        assert gate.process.wait(30) == 0

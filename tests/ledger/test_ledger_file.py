"""The ledger's file: locked, missing, read-only, verified (T36)."""

import os
import sqlite3

import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.ports import until


@pytest.fixture
def stopped():
    """A gateway that has run, revoked something and ended."""
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        gate.revoke(token)
        assert gate.terminate() == 0
        yield gate, token


def test_two_gateways_do_not_share_a_ledger(gate):
    second = gate.dir / "second.toml"
    text = gate.config.read_text().replace(str(gate.port), "1").replace(str(gate.admin_port), "2")
    from harness.ports import free_port

    second.write_text(gate.config.read_text().replace(str(gate.port), str(free_port())).replace(str(gate.admin_port), str(free_port())))
    done = gate.run("serve", "--config", second, timeout=20)
    assert done.code == 3 and "ledger" in done.err.lower(), done.err
    assert text  # both ports were in the file


def test_a_locked_ledger_is_one_clear_sentence(stopped):
    gate, _ = stopped
    lock = sqlite3.connect(gate.state / "ledger.db", isolation_level=None)
    lock.execute("begin exclusive")
    try:
        done = gate.run("serve", "--config", gate.config, timeout=40)
        assert done.code == 3 and "ledger" in done.err.lower() and "lock" in done.err.lower(), done.err
    finally:
        lock.close()


def test_a_ledger_that_is_no_database_is_one_clear_sentence(stopped):
    gate, _ = stopped
    for rest in gate.state.glob("ledger.db-*"):
        rest.unlink()
    (gate.state / "ledger.db").write_bytes(b"this is not a database, and it is long enough to be looked at" * 40)
    done = gate.run("serve", "--config", gate.config, timeout=20)
    assert done.code == 3 and "ledger.db" in done.err, done.err


def test_a_ledger_of_the_future_is_refused(stopped):
    gate, _ = stopped
    db = sqlite3.connect(gate.state / "ledger.db")
    db.execute("pragma user_version = 9999")
    db.commit()
    db.close()
    done = gate.run("serve", "--config", gate.config, timeout=20)
    assert done.code == 3 and "ledger" in done.err.lower(), done.err


def test_verify_rebuilds_the_state_and_says_so(stopped):
    gate, _ = stopped
    done = gate.run("ledger", "verify").ok()
    assert done.out.strip()
    assert gate.run("ledger", "verify", "--json").ok().json


def test_verify_runs_beside_a_running_gateway(gate):
    gate.revoke(gate.mint("orders"))
    gate.run("ledger", "verify").ok()


def test_the_record_survives_a_clean_restart(stopped):
    gate, token = stopped
    gate.start()
    assert gate.get("/orders/x", token).status == 401


@pytest.mark.parametrize("what", ["directory", "file"])
def test_a_read_only_ledger_is_one_clear_sentence(stopped, what):
    """As root permissions bind nobody, so the file is bound by the filesystem: a path that cannot be written."""
    gate, _ = stopped
    ledger = gate.state / "ledger.db"
    if what == "directory":
        for rest in gate.state.glob("ledger.db*"):
            rest.unlink()
        ledger.mkdir()
    else:
        ledger.chmod(0o400)
        if os.geteuid() == 0:
            # Root writes whatever the mode says: nothing can be refused, so what counts is that nothing is lost.
            gate.start()
            assert gate.get("/orders/x", stopped[1]).status == 401
            return
    done = gate.run("serve", "--config", gate.config, timeout=20)
    assert done.code == 3 and "ledger.db" in done.err, done.err


def test_the_log_command_shows_what_happened(gate):
    token = gate.mint("orders")
    gate.revoke(token)
    shown = gate.run("log", "--json").ok().out
    assert "revo" in shown.lower()
    assert token.rstrip("=") not in shown
    until(lambda: "revo" in gate.run("log").ok().out.lower(), "the log tells of the revocation")

"""The state folder is believed only if it is safe, and an older ledger in it is noticed."""

import json
import os
import shutil
import sqlite3
import time

import pytest

from harness.backend import Recorder
from harness.binary import postern
from harness.gate import Gate, Process
from harness.ports import until


@pytest.fixture
def gate():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        assert gate.get("/orders/x", token).status == 200
        gate.revoke(gate.mint("orders"))
        yield gate


def refused_start(gate, *args):
    process = Process("serve", "--config", gate.config, *args, state=gate.state, cwd=gate.dir)
    assert process.wait() == 3
    return process.output.decode()


def test_a_ledger_that_others_can_write_is_not_served_with(gate):
    gate.terminate()
    for name in ("ledger.db", "ledger.mark", "ledger.lock", "admin.token", "keys.json", "root.pub"):
        path = gate.state / name
        before = path.stat().st_mode
        path.chmod(0o666)
        said = refused_start(gate)
        assert name in said and "chmod" in said, said
        path.chmod(before)
        away = gate.dir / "away"
        path.rename(away)
        path.symlink_to(away)
        assert "symbolic link" in refused_start(gate)
        path.unlink()
        away.rename(path)
        if os.geteuid() == 0:
            os.chown(path, 12_345, -1)
            assert "12345" in refused_start(gate)
            os.chown(path, 0, -1)
    gate.start()


def test_an_address_that_others_could_have_noted_is_shown_no_capability(gate):
    path = gate.state / "admin.address"
    path.chmod(0o666)
    done = postern("keys", "list", state=gate.state)
    assert done.code != 0 and "admin.address" in done.err, done.err


def test_an_older_ledger_put_back_is_refused_until_an_operator_means_it(gate):
    """The story: a backup of last week was copied into place, and what was revoked since passed again."""
    older = gate.dir / "older.db"
    gate.run("ledger", "backup", str(older)).ok()
    token = gate.mint("orders")
    gate.revoke(token)
    gate.terminate()
    for rest in gate.state.glob("ledger.db*"):
        rest.unlink()
    shutil.copy(older, gate.state / "ledger.db")
    said = refused_start(gate)
    assert "an older one" in said and "ledger.mark" in said, said
    done = gate.run("ledger", "verify")
    assert done.code == 1 and "an older one" in done.out, done.out
    (gate.state / "ledger.mark").unlink()
    gate.start()
    assert gate.get("/orders/x", token).status == 200, "forgotten, as was meant"


def test_a_group_that_the_configuration_names_may_write_what_is_no_secret(gate):
    gate.terminate()
    group = gate.state.stat().st_gid or 2_000
    if os.geteuid() == 0:
        for path in (gate.state, *gate.state.iterdir()):
            os.chown(path, -1, group)
    gate.state.chmod(0o2770)
    for name in ("ledger.db", "ledger.mark", "keys.json", "root.pub"):
        (gate.state / name).chmod(0o660)
    assert f"state_group = {group}" in refused_start(gate)
    gate.config.write_text(f"state_group = {group}\n" + gate.config.read_text())
    gate.start()
    postern("keys", "list", state=gate.state).ok()
    gate.terminate()
    postern("keys", "list", state=gate.state).ok()
    (gate.state / "root.key").chmod(0o660)
    assert "root.key" in refused_start(gate)


def test_a_start_long_before_the_ledgers_time_is_refused_unless_an_operator_accepts_it(gate):
    gate.terminate()
    floor = int(time.time()) + 86_400
    with sqlite3.connect(gate.state / "ledger.db") as db:
        db.execute("INSERT INTO clock (one, floor) VALUES (1, ?)", [floor])
    db.close()
    said = refused_start(gate)
    assert "--accept-clock" in said and said.count("Z") >= 2, said
    process = Process("serve", "--config", gate.config, "--accept-clock", state=gate.state, cwd=gate.dir)
    gate.process = process
    until(gate.is_ready, "it starts", seconds=15)
    answer = gate.admin("GET", "/ledger?limit=1000", token=gate.admin_token)
    entries = json.loads(answer.body)["entries"]
    assert [entry["floor"] for entry in entries if entry["event"] == "clock-accepted"] == [floor]
    gate.terminate()
    gate.start()

"""The ledger under a crash: what was acknowledged is in force after the restart, however the process ended (T39, D1)."""

import os
import random
import threading
import time

from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import Closed, Wire, request

ROUNDS = int(os.environ.get("POSTERN_KILL_ROUNDS", "50"))


def revoke_over(wire, token, identifier):
    """POST /revocations on an open connection; True only for an acknowledgement."""
    import json

    body = json.dumps({"ids": [identifier]}).encode()
    wire.send(request("POST", "/revocations", token=token, body=body, fields=[("Content-Type", "application/json")]))
    return wire.answer("POST").status in (200, 201, 204)


class Writer(threading.Thread):
    """Revokes one random id after another until the connection dies; remembers what was acknowledged."""

    def __init__(self, gate, dice):
        super().__init__(daemon=True)
        self.gate, self.dice, self.acknowledged, self.error = gate, dice, [], None

    def run(self):
        try:
            with Wire(self.gate.admin_port, timeout=10) as wire:
                while True:
                    identifier = f"{self.dice.getrandbits(512):0128x}"
                    if not revoke_over(wire, self.gate.admin_token, identifier):
                        self.error = "a revocation was refused"
                        return
                    self.acknowledged.append(identifier)
        except (OSError, Closed):
            pass


def revoked_ids(gate):
    """Everything the gateway says is revoked."""
    import re

    listed = gate.run("log", "--json").ok().out + gate.admin("GET", "/revocations", token=gate.admin_token).body.decode()
    return set(re.findall(r"\b[0-9a-f]{128}\b", listed))


def test_every_acknowledged_revocation_is_in_force_after_sigkill():
    dice = random.Random(os.environ.get("POSTERN_SEED", "1"))
    with Recorder() as service, Gate({"orders": service}) as gate:
        victims, acknowledged = [], set()
        for round_number in range(ROUNDS):
            token = gate.mint("orders")
            gate.revoke(token)
            victims.append(token)
            writers = [Writer(gate, random.Random(dice.random())) for _ in range(3)]
            for writer in writers:
                writer.start()
            time.sleep(dice.uniform(0.01, 0.15))  # the point of the crash is what is random here
            gate.kill()
            for writer in writers:
                writer.join(10)
                assert writer.error is None, writer.error
                acknowledged |= set(writer.acknowledged)
            gate.start()
            with gate.wire() as wire:
                for victim in victims[-5:]:
                    assert wire.send(request("GET", "/orders/x", token=victim)).answer().status == 401, round_number
        assert {gate.get("/orders/x", v).status for v in victims} == {401}
        lost = acknowledged - revoked_ids(gate)
        assert not lost, f"{len(lost)} of {len(acknowledged)} acknowledged revocations are lost"
        assert len(acknowledged) > ROUNDS, "the writers hardly wrote"
        assert gate.terminate() == 0
        gate.run("ledger", "verify").ok()

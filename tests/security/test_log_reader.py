"""Whoever reads the log may stall: no message waits for it, and neither does an end."""

import os
import signal
import subprocess

import pytest

from harness.backend import Recorder
from harness.binary import clean_environment, postern_path
from harness.gate import Gate
from harness.ports import until


@pytest.mark.parametrize("access", ["off", "stderr", "stdout"])
def test_a_reader_that_stalls_holds_up_no_message_and_no_end(access):
    """The story: with a pipe that nobody read the workers hung in their next line, and SIGTERM was never done."""
    with Recorder() as service:
        gate = Gate({"orders": service}, start=False, tables={"log": {"access": access}})
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [postern_path(), "serve", "--config", str(gate.config)],
            env=clean_environment(POSTERN_STATE=str(gate.state), POSTERN_LOG="trace"),
            cwd=gate.dir, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing,
        )
        os.close(writing)

        class Held:
            def is_running(self):
                return process.poll() is None

        gate.process = Held()
        try:
            until(lambda: gate.is_ready(), "the gateway is up", seconds=15)
            token = gate.mint("orders")
            # Far more lines than a pipe holds.
            for _ in range(1_500):
                assert gate.get("/orders/" + "x" * 200, token).status == 200
            gate.revoke(token)
            assert gate.get("/orders/x", token).status == 401
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(reading)

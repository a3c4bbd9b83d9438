#!/usr/bin/env python3
"""Instructions per request, counted by callgrind: the same on a busy machine as on an idle one.

Two runs with different numbers of requests are subtracted, so that starting and stopping do not count.

    tests/bench/instructions.py [--requests 2000] [--no-log] [--binary PATH]
"""

import argparse
import os
import re
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.backend import Recorder, answer  # noqa: E402
from harness.gate import Gate, Process  # noqa: E402
from harness.ports import until  # noqa: E402
from harness.wire import request  # noqa: E402


class Traced(Gate):
    """A gateway under callgrind."""

    def start(self):
        from harness import gate as module

        real = module.postern_path()
        out = self.dir / "callgrind.out"
        wrapper = self.dir / "traced"
        wrapper.write_text(f"#!/bin/sh\nexec valgrind --tool=callgrind --callgrind-out-file={out} {real} \"$@\"\n")
        wrapper.chmod(0o755)
        os.environ["POSTERN_BIN"] = str(wrapper)
        try:
            self.process = Process("serve", "--config", self.config, state=self.state, cwd=self.dir)
        finally:
            os.environ["POSTERN_BIN"] = real
        until(self.is_ready, "the gateway under valgrind is ready", 120)
        return self


def counted(requests, log, connections=8):
    body = b'{"ok":true}'
    with Recorder(lambda _: answer(body=body)) as service:
        with Traced({"orders": service}, top={"workers": 1}, tables={"log": {"access": log}}) as gate:
            token = gate.mint("orders")
            message = request("GET", "/orders/v1/items?page=2", token=token, fields=[("User-Agent", "bench"), ("Accept", "*/*")])
            wires = [gate.wire(timeout=120) for _ in range(connections)]
            for _ in range(requests // connections):
                for wire in wires:
                    wire.send(message)
                for wire in wires:
                    assert wire.answer().status == 200
            for wire in wires:
                wire.close()
            gate.process.signal(signal.SIGTERM)
            gate.process.wait(120)
            found = re.search(r"Collected : (\d+)", gate.log) or re.search(r"refs:\s+([\d,]+)", gate.log)
            return int(found.group(1).replace(",", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--no-log", action="store_true", help="no access log is written")
    parser.add_argument("--binary", help="default: the release build, or POSTERN_BIN")
    args = parser.parse_args()
    if args.binary:
        os.environ["POSTERN_BIN"] = args.binary
    if not shutil.which("valgrind"):
        sys.exit("valgrind is missing (Debian: valgrind)")
    few, many = (counted(requests, "off" if args.no_log else "access.log") for requests in (args.requests // 4, args.requests))
    print(f"{(many - few) / (args.requests - args.requests // 4):,.0f} instructions in user space for each request")


if __name__ == "__main__":
    main()

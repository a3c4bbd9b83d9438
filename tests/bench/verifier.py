#!/usr/bin/env python3
"""What a backend's own check costs beside the gateway's, and what narrowing a token costs: instructions for each message.

Counted by valgrind (callgrind) over clients/rust/examples/cost.rs, as the difference of two runs of different length, so that
neither the start nor the machine's load takes part. Exits 1 where the Rust verifier costs more than a tenth above the gateway's own
check of the same facts.

    tests/bench/verifier.py [PATH-OF-THE-BUILT-EXAMPLE]
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 50, 550
# Signatures are a hundred times as dear as anything else here.
FEW_SIGNED, MANY_SIGNED = 2, 12


def instructions(example, what, times):
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", str(example), what, str(times)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def each(example, what, few, many):
    return (instructions(example, what, many) - instructions(example, what, few)) / (many - few)


def main():
    if sys.argv[1:]:
        example = Path(sys.argv[1])
    else:
        command = ["cargo", "build", "--release", "-p", "postern-client", "--example", "cost"]
        subprocess.run(command, cwd=ROOT, check=True)
        example = ROOT / "target" / "release" / "examples" / "cost"
    gateway = each(example, "gateway", FEW, MANY)
    facts = each(example, "facts", FEW, MANY)
    print(f"the gateway's check            {gateway:10.0f} instructions a message")
    print(f"the verifier's, same facts     {facts:10.0f}   {facts / gateway:.2f} of it")
    print(f"the verifier's, from a request {each(example, 'request', FEW, MANY):10.0f}")
    print(f"a token that is new            {each(example, 'open', FEW_SIGNED, MANY_SIGNED):10.0f}")
    print(f"narrowing to a new message     {each(example, 'narrow', FEW_SIGNED, MANY_SIGNED):10.0f}")
    sys.exit(0 if facts <= 1.1 * gateway else 1)


if __name__ == "__main__":
    main()

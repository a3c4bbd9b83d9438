"""biscuit-wasm, as browsers run it: inspects and attenuates our tokens, and the gateway honours what it made."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.binary import ROOT

MODULE = ROOT / "target/tests/npm/node_modules/@biscuit-auth/biscuit-wasm/module/biscuit.js"


def wasm(gate, action, token, **more):
    assert MODULE.exists(), "run tests/run setup: the npm packages are not installed"
    ask = {"action": action, "token": token, "publicKey": (gate.state / "root.pub").read_text().strip(), **more}
    done = subprocess.run(
        ["node", "--no-warnings", "--experimental-wasm-modules", str(Path(__file__).parent / "wasm.mjs"), MODULE.as_uri()],
        input=json.dumps(ask), capture_output=True, text=True, env={**os.environ, "NODE_OPTIONS": ""}, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # The module greets on standard output as it loads; the answer is the last line.
    return json.loads(done.stdout.splitlines()[-1])


def test_wasm_reads_our_token(gate, token):
    child = gate.attenuate(token, "--method", "GET")
    seen = wasm(gate, "inspect", child)
    assert len(seen["blocks"]) == 2 and 'right("orders"' in seen["blocks"][0]
    shown = gate.run("inspect", "-", "--json", stdin=child).ok().json
    assert [b["revocation_id"] for b in shown["blocks"]] == seen["revocationIds"]


@pytest.mark.parametrize("source, allowed, stopped", [
    ('check if operation("GET")', ("GET", "/orders/a"), ("POST", "/orders/a")),
    ('check if path($p), $p.starts_with("/a/")', ("GET", "/orders/a/b"), ("GET", "/orders/b")),
    ("check if time($t), $t < 2100-01-01T00:00:00Z", ("GET", "/orders/a"), None),
    ("check if time($t), $t < 2020-01-01T00:00:00Z", None, ("GET", "/orders/a")),
])
def test_the_gateway_honours_what_wasm_attenuated(gate, token, source, allowed, stopped):
    child = wasm(gate, "attenuate", token, source=source)["token"]
    if allowed:
        assert gate.get(allowed[1], child, method=allowed[0]).status == 200
    if stopped:
        assert gate.get(stopped[1], child, method=stopped[0], body=b"x" if stopped[0] == "POST" else None).status in (401, 403)
    gate.revoke(token_of(gate, child))


def token_of(gate, child):
    """A further child, so that the shared token of this file stays alive."""
    return gate.attenuate(child, "--method", "GET")

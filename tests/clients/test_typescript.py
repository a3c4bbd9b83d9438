"""The npm package, packed and installed as users install it: against the vectors, real servers, and the gateway."""

import json
import subprocess

import httpx
import postern
import pytest

from harness.binary import ROOT
from harness.verifying import Front, node_service


def node(scripts, script, *args, options=()):
    return subprocess.run(["node", *options, scripts / script, *args], capture_output=True, text=True, timeout=80)


def test_every_vector_gets_the_same_verdict_and_reason(scripts, vectors):
    said = node(scripts, "vectors.mjs", ROOT / "capabilities" / "vectors")
    assert said.returncode == 0, said.stderr
    outcome = json.loads(said.stdout)
    assert outcome["differs"] == []
    wanted = sum(1 if "refused" in case["outcome"] else len(case["outcome"]["capability"]["decisions"]) for _, case in vectors)
    assert outcome["decided"] == wanted > 200


@pytest.mark.parametrize("script", ["package.test.mjs", "browser.test.mjs", "mounts.test.mjs"])
def test_the_packages_own_tests(scripts, script):
    said = node(scripts, script, options=["--test", "--test-reporter=tap", "--experimental-wasm-modules"])
    assert said.returncode == 0, said.stdout[-4000:]
    assert "\n# fail 0\n" in said.stdout and "\n# skipped 0\n" in said.stdout and "\n# pass 0\n" not in said.stdout


def test_tokens_of_each_library_are_honoured_by_the_other(scripts, tmp_path, key):
    """Minted in Python, narrowed in Node, verified in both."""
    script = scripts / "narrow.mjs"
    script.write_text('import { attenuate } from "postern"; console.log(attenuate(process.argv[2], { path: "/42" }));')
    token = postern.mint(key, "orders")
    narrowed = subprocess.run(["node", script, token], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    assert verifier.verify(method="GET", target="/42", headers={"authorization": f"Bearer {narrowed}"})
    with node_service(scripts, "express_service.mjs", tmp_path, str(key.public_key)) as service:
        ask = lambda path: httpx.get(service.url + path, headers={"authorization": f"Bearer {narrowed}"}).status_code  # noqa: E731
        assert (ask("/42"), ask("/43")) == (200, 403)


def test_a_service_of_http_2_verifies_too(scripts, tmp_path):
    """Through the gateway and past it: there nobody states the host that a caveat asks for."""
    front = Front(lambda at, port, url: node_service(scripts, "fastify_service.mjs", at, url, "http2", port=port), tmp_path, scheme="h2c")
    try:
        token = front.gate.mint("orders", "--host", "localhost", "--tool", "search")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {}}}
        json_type = [("Content-Type", "application/json")]
        status, said = front.ask(token, method="POST", body=json.dumps(call).encode(), fields=json_type)
        assert (status, said["is_sealed"], json.loads(said["body"])) == (200, True, call), said
        url = front.service.url.replace("127.0.0.1", "localhost") + "/42"
        with httpx.Client(http1=False, http2=True, headers={"authorization": f"Bearer {token}"}) as client:
            # What the sender wrote into `:authority` is no statement of the gateway.
            assert client.post(url, json=call).json()["type"] == "not-permitted"
            client.headers["authorization"] = f"Bearer {front.gate.mint('orders', '--tool', 'search')}"
            answer = client.post(url, json=call)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200), answer.text
            call["params"]["name"] = "delete"
            assert client.post(url, json=call).json()["type"] == "not-permitted"
    finally:
        front.stop()

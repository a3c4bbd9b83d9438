"""The npm package, packed and installed as users install it: against the vectors, real servers, and the gateway."""

import json
import shutil
import subprocess

import httpx
import postern
import pytest

from harness.binary import ROOT
from harness.ports import free_port, until
from harness.verifying import Front, Service

INSTALLED = ROOT / "target" / "tests" / "npm"


@pytest.fixture(scope="module")
def scripts():
    """The scripts beside the installed packages, where Node finds them."""
    folder = INSTALLED / "scripts"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "clients" / "node", folder)
    return folder


def node(scripts, script, *args, options=()):
    return subprocess.run(["node", *options, scripts / script, *args], capture_output=True, text=True, timeout=80)


def node_service(scripts, script, folder, *args, port=None):
    port = port or free_port()
    return Service(["node", scripts / script, str(port), *args], port, folder / f"{script}-{port}.log")


def test_every_vector_gets_the_same_verdict_and_reason(scripts, vectors):
    said = node(scripts, "vectors.mjs", ROOT / "capabilities" / "vectors")
    assert said.returncode == 0, said.stderr
    outcome = json.loads(said.stdout)
    assert outcome["differs"] == []
    wanted = sum(1 if "refused" in case["outcome"] else len(case["outcome"]["capability"]["decisions"]) for _, case in vectors)
    assert outcome["decided"] == wanted > 200


@pytest.mark.parametrize("script", ["package.test.mjs", "browser.test.mjs"])
def test_the_packages_own_tests(scripts, script):
    said = node(scripts, script, options=["--test", "--test-reporter=tap", "--experimental-wasm-modules"])
    assert said.returncode == 0, said.stdout[-4000:]
    assert "\n# fail 0\n" in said.stdout and "\n# skipped 0\n" in said.stdout and "\n# pass 0\n" not in said.stdout


@pytest.fixture(scope="module", params=["express_service.mjs", "fastify_service.mjs"])
def front(request, scripts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    front = Front(lambda at, port, url: node_service(scripts, request.param, at, url, port=port), folder)
    yield front
    front.stop()


def test_a_node_service_verifies_what_the_gateway_narrowed(front):
    token = front.gate.mint("orders")
    status, said = front.ask(token, "/orders/42?page=2")
    assert (status, said["path"], said["is_sealed"]) == (200, "42", True), said
    narrowed = said["token"]
    assert narrowed != token and front.direct(narrowed, "/42?page=2")[0] == 200
    for target, method in (("/43?page=2", "GET"), ("/42?page=3", "GET"), ("/42", "GET"), ("/42?page=2", "PUT")):
        assert front.direct(narrowed, target, method)[0] == 403, (target, method)
    assert front.ask(narrowed, "/orders/42?page=2")[0] == 403
    assert front.direct(None)[1]["type"] == "missing-capability"
    assert front.direct(None, "/health") == (200, "well")
    assert front.ask(token, method="POST", body=b"hello")[1]["body"] == "hello"


def test_a_node_service_follows_the_gateways_rotation(front):
    old = front.gate.mint("orders")
    assert front.ask(old)[0] == 200
    front.gate.run("keys", "rotate").ok()
    new = front.gate.mint("orders")
    assert front.ask(new)[0] == 200, front.ask(new)
    assert front.ask(old)[0] == 200
    narrowed = front.ask(old)[1]["token"]
    keys = front.gate.run("keys", "list", "--json").ok().json
    retired = min(key["id"] for key in (keys["keys"] if isinstance(keys, dict) else keys))
    front.gate.run("keys", "retire", str(retired)).ok()
    assert front.ask(old)[0] == 401
    until(lambda: front.direct(narrowed)[0] == 401, "the service has heard of the retirement")
    assert front.ask(new)[0] == 200


@pytest.mark.parametrize("script", ["express_service.mjs", "fastify_service.mjs"])
def test_a_body_is_read_where_a_caveat_asks_and_reaches_the_handler(scripts, script, tmp_path, key):
    with node_service(scripts, script, tmp_path, str(key.public_key)) as service:
        token = postern.mint(key, "orders", tool="search", arg="index=public")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"index": "public"}}}
        with httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {token}"}) as client:
            answer = client.post("/mcp", json=call)
            assert answer.status_code == 200 and json.loads(answer.json()["body"]) == call, answer.text
            call["params"]["arguments"]["index"] = "private"
            assert client.post("/mcp", json=call).json()["type"] == "not-permitted"
            call["params"]["arguments"]["index"] = "public"
            for fields in ({"mcp-method": "ping"}, {"mcp-name": "delete"}, {"mcp-param-index": "private"}):
                answer = client.post("/mcp", json=call, headers=fields)
                assert (answer.status_code, answer.json()["type"]) == (400, "bad-body"), answer.text
            assert client.post("/mcp", json=call, headers={"mcp-method": "tools/call", "mcp-name": "search"}).status_code == 200
            large = client.post("/mcp", content=b" " * (2 << 20), headers={"content-type": "application/json"})
            assert large.json()["type"] == "body-too-large"


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

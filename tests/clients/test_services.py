"""Services in Python and in Node that verify for themselves: what holds for one framework holds for each."""

import json
from datetime import datetime, timezone

import httpx
import postern
import pytest

from harness.ports import free_port, until
from harness.verifying import Front, node_service, python_service
from harness.wire import once, request


@pytest.fixture(scope="module", params=["asgi_service.py", "express_service.mjs", "fastify_service.mjs"])
def start(request, scripts):
    """Starts a service: in a folder, with its keys, on a port."""
    script = request.param
    if script.endswith(".py"):
        return lambda folder, keys, port=None: python_service(script, folder, keys, port=port)
    return lambda folder, keys, port=None: node_service(scripts, script, folder, keys, port=port)


@pytest.fixture(scope="module")
def front(start, tmp_path_factory):
    """The service behind a gateway that narrows."""
    front = Front(lambda folder, port, url: start(folder, url, port), tmp_path_factory.mktemp("front"))
    yield front
    front.stop()


def test_a_service_verifies_what_the_gateway_narrowed(front):
    token = front.gate.mint("orders")
    status, said = front.ask(token, "/orders/42?page=2")
    assert (status, said["path"], said["is_sealed"]) == (200, "42", True), said
    narrowed = said["token"]
    assert narrowed != token and front.direct(narrowed, "/42?page=2")[0] == 200
    # For another path, query or method it is worth nothing, and the gateway itself takes it for nothing.
    for target, method in (("/43?page=2", "GET"), ("/42?page=3", "GET"), ("/42", "GET"), ("/42?page=2", "PUT")):
        assert front.direct(narrowed, target, method)[0] == 403, (target, method)
    assert front.ask(narrowed, "/orders/42?page=2")[0] == 403
    assert front.direct(None)[1]["type"] == "missing-capability"
    assert front.direct(None, "/health") == (200, "well")
    assert front.ask(token, method="POST", body=b"hello")[1]["body"] == "hello"


def test_a_refusal_reads_word_for_word_as_the_gateways(front):
    """Whoever refuses, the gateway or the service behind it: a caller reads the same document and the same challenge."""
    mint, narrow = front.gate.mint, postern.attenuate
    full, search = mint("orders"), mint("orders", "--tool", "search")
    bearer = lambda token: [("authorization", f"Bearer {token}")]  # noqa: E731
    json_body, text_body = [("content-type", "application/json")], [("content-type", "text/plain")]
    cases = [
        ("missing-capability", "GET", "/42", []),
        ("invalid-token", "GET", "/42", bearer("token!")),
        ("invalid-token", "GET", "/42", [("authorization", "Bearer")]),
        ("invalid-token", "GET", "/42", bearer(f"{full},{full}")),
        ("invalid-token", "GET", "/42", [("authorization", f"bearer \t{full}")]),
        ("missing-capability", "GET", "/42", [("authorization", "Basic YTpi")]),
        ("truncated-token", "GET", "/42", bearer(full[:-20])),
        ("unknown-key", "GET", "/42", bearer(postern.mint(postern.SigningKey.generate(), "orders"))),
        ("expired", "GET", "/42", bearer(narrow(full, expires=datetime(2020, 1, 1, tzinfo=timezone.utc)))),
        ("not-found", "GET", "/42", bearer(mint("elsewhere"))),
        ("not-permitted", "PUT", "/42", bearer(mint("orders", "--allow", "GET"))),
        ("not-permitted", "GET", "/42?page=3", bearer(mint("orders", "--path", "/1", "--query", "page=2"))),
        ("bad-query", "GET", "/42?a;b", bearer(mint("orders", "--query", "page=2"))),
        ("bad-body", "POST", "/mcp", bearer(search) + text_body),
        ("bad-body", "POST", "/mcp", bearer(search) + json_body),
        ("bad-path", "GET", "/a/../b", bearer(full)),
        ("two-tokens", "GET", "/42", bearer(full) + [("postern-capability", full)]),
    ]
    for kind, method, target, fields in cases:
        body = b"{}" if method == "POST" else None
        theirs = front.gate.get("/orders" + target, method=method, fields=fields, body=body)
        ours = once(front.service.port, request(method, target, fields=fields, body=body), method)
        assert theirs.problem["type"] == kind and theirs.problem["retry"] == "no", theirs.problem
        assert (ours.status, ours.problem) == (theirs.status, theirs.problem), kind
        for name in ("content-type", "www-authenticate", "cache-control"):
            assert ours.value(name) == theirs.value(name), (kind, name)
        read = postern.Problem.of_response({"content-type": ours.value("content-type")}, ours.body)
        assert (read.type, read.retry) == (kind, "no")
        if kind == "not-permitted" and method == "PUT":
            assert read.detail.startswith("The token holds no right to PUT on orders, but to GET. ") and read.caveats == ()
        elif kind == "not-permitted":
            assert [caveat.check for caveat in read.caveats] == [0, 1] and "/1" in read.caveats[0].words


def test_a_service_follows_the_gateways_rotation_without_a_restart(front):
    """New key published: tokens of both are accepted. Old key retired: what it signed is refused, past the gateway too."""
    process, old = front.service.process, front.gate.mint("orders")
    assert front.ask(old)[0] == 200
    front.gate.run("keys", "rotate").ok()
    new = front.gate.mint("orders")
    assert front.ask(new)[0] == 200, front.ask(new)
    assert front.ask(old)[0] == 200 and front.direct(old)[0] == 200 and front.direct(new)[0] == 200
    narrowed = front.ask(old)[1]["token"]
    keys = front.gate.run("keys", "list", "--json").ok().json
    retired = min(key["id"] for key in (keys["keys"] if isinstance(keys, dict) else keys))
    front.gate.run("keys", "retire", str(retired)).ok()
    assert front.ask(old)[0] == 401
    until(lambda: front.direct(narrowed)[0] == 401, "the service has heard of the retirement")
    assert front.direct(old)[1]["type"] == "revoked"
    assert front.ask(new)[0] == 200 and process.poll() is None


def test_a_body_is_read_where_a_caveat_asks_and_reaches_the_handler(start, tmp_path, key):
    with start(tmp_path, str(key.public_key)) as service:
        token = postern.mint(key, "orders", tool="search", arg="index=public")
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search", "arguments": {"index": "public"}}}
        with httpx.Client(base_url=service.url, headers={"authorization": f"Bearer {token}"}) as client:

            def refused(**more):
                answer = client.post("/mcp", **more)
                assert answer.headers["content-type"] == "application/problem+json", answer.text
                return answer.status_code, answer.json()["type"]

            answer = client.post("/mcp", json=call)
            assert answer.status_code == 200 and json.loads(answer.json()["body"]) == call, answer.text
            # Headers that repeat the body are compared with it, as by the gateway.
            assert client.post("/mcp", json=call, headers={"mcp-method": "tools/call", "mcp-name": "search"}).status_code == 200
            for fields in ({"mcp-method": "ping"}, {"mcp-name": "delete"}, {"mcp-param-index": "private"}):
                assert refused(json=call, headers=fields) == (400, "bad-body"), fields
            call["params"]["arguments"]["index"] = "private"
            assert refused(json=call) == (403, "not-permitted")
            large = {"content": b" " * (2 << 20), "headers": {"content-type": "application/json"}}
            assert refused(**large) == (413, "body-too-large")


def test_without_keys_a_service_says_that_it_cannot_verify_and_only_its_log_says_why(start, tmp_path, key):
    gateway = f"http://127.0.0.1:{free_port()}"
    with start(tmp_path, gateway) as service:
        answer = httpx.get(service.url + "/42", headers={"authorization": f"Bearer {postern.mint(key, 'orders')}"})
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert (answer.json()["type"], answer.json()["retry"], answer.headers["retry-after"]) == ("unavailable", "safe", "1")
        assert gateway not in answer.text and until(lambda: gateway in service.log.read_text(), "the log says why")
        assert httpx.get(service.url + "/health").status_code == 200

"""A service that verifies for itself, behind a real gateway: the axum example, with keys that follow the gateway's rotations.

Beside it biscuit-python reads the same narrowed tokens, so that two implementations say what they are good for."""

import json

import pytest

from harness.backend import Recorder
from harness.example import Axum
from harness.gate import Gate
from harness.narrowed import authorized
from harness.ports import free_port, until
from harness.wire import once, request


@pytest.fixture(scope="module")
def scene():
    """A gateway, the axum service for `orders`, and a second resource that lets the tests see what a backend is given."""
    port = free_port()
    with Recorder() as seen:
        tables = {
            "orders": {"upstream": f"http://127.0.0.1:{port}", "forward_token": "narrowed"},
            "seen": {"upstream": seen, "forward_token": "narrowed"},
        }
        with Gate(tables) as gate, Axum("orders", gate.url, port) as service:
            gate.seen, gate.service = seen, service
            yield gate


def direct(scene, target, token=None, method="GET", fields=()):
    """Past the gateway, to the service."""
    return once(scene.service.port, request(method, target, token=token, fields=fields), method)


def kind(answer):
    return (answer.status, json.loads(answer.body)["type"])


def test_a_permitted_message_is_authorised_for_the_service_too(scene):
    token = scene.mint("orders", "--path", "/v1/**", "--host", "localhost", "--client", "127.0.0.0/8", "--expires", "1h")
    for method in ("GET", "POST"):
        answer = scene.get("/orders/v1/42?page=2", token, method=method)
        assert answer.status == 200, answer.body
        assert answer.body.startswith(b"/v1/42 for 127.0.0.1, by ")


def test_the_service_refuses_what_no_gateway_permitted(scene):
    token = scene.mint("orders", "--path", "/v1/**")
    assert kind(direct(scene, "/v1/42")) == (401, "missing-capability")
    assert kind(direct(scene, "/v2", token)) == (403, "not-permitted")
    assert kind(direct(scene, "/v1/../v2", token)) == (400, "bad-path")
    assert kind(direct(scene, "/v1", scene.mint("seen"))) == (404, "not-found")
    assert kind(direct(scene, "/v1", token[:80])) == (401, "truncated-token")
    assert direct(scene, "/v1", token).status == 200, "a token that is good in itself is good here too"


def test_a_token_narrowed_to_one_backend_is_refused_by_another(scene):
    """The other backend holds a right in the same token: only `backend(…)` stops it."""
    token = scene.mint("orders", "seen")
    scene.seen.clear()
    assert scene.get("/seen/v1/42", token).status == 200
    given = scene.seen.requests[0].value("authorization").removeprefix("Bearer ")
    assert authorized(given, (scene.state / "root.pub").read_text().strip(), resource="seen", backend="seen", path="/v1/42")
    assert kind(direct(scene, "/v1/42", given)) == (403, "not-permitted")
    assert kind(scene.get("/orders/v1/42", given)) == (403, "not-permitted")
    assert kind(scene.get("/seen/v1/42", given)) == (403, "not-permitted")


def test_the_key_document_may_be_cached_and_says_for_how_long(scene):
    first = scene.get("/.well-known/biscuit-web-keys")
    assert first.status == 200 and first.value("cache-control") == "public, max-age=30"
    etag = first.value("etag")
    again = scene.get("/.well-known/biscuit-web-keys", fields=[("If-None-Match", etag)])
    assert (again.status, again.body, again.value("etag")) == (304, b"", etag)
    assert scene.get("/.well-known/biscuit-web-keys", fields=[("If-None-Match", '"other"')]).body == first.body


def test_rotation_flows_through_without_a_restart_anywhere():
    """New key published: tokens of both are accepted. Old key retired: its tokens are refused, by the service too."""
    port = free_port()
    with Gate({"orders": {"upstream": f"http://127.0.0.1:{port}", "forward_token": "narrowed"}}) as gate:
        with Axum("orders", gate.url, port) as service:
            gate.service = service
            old = gate.mint("orders")
            assert gate.get("/orders/a", old).status == 200
            gate.run("keys", "rotate").ok()
            new = gate.mint("orders")
            for token in (old, new):
                assert gate.get("/orders/a", token).status == 200
                assert direct(gate, "/a", token).status == 200, "an unknown key has the document looked at again"
            keys = json.loads(gate.run("keys", "list", "--json").ok().out)
            (retiring,) = [key["id"] for key in keys["keys"] if key["state"] == "live"]
            gate.run("keys", "retire", str(retiring)).ok()
            assert gate.get("/orders/a", old).status == 401
            until(lambda: direct(gate, "/a", old).status == 401, "the service follows within its refresh", seconds=20)
            assert kind(direct(gate, "/a", old)) == (401, "revoked")
            assert gate.get("/orders/a", new).status == 200 and direct(gate, "/a", new).status == 200

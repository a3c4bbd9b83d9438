"""Narrowed tokens: what a backend is given in place of its caller's token is of no use anywhere but there, for that message.

The gateway is real; the backend's reading of what it got is biscuit-python's own authorizer."""

import json
import time

import pytest

from harness.backend import Recorder
from harness.forge import decode
from harness.gate import Gate
from harness.narrowed import authorized
from harness.wire import request


@pytest.fixture(scope="module")
def scene():
    """A gateway with two services that verify for themselves, and one that gets nothing."""
    with Recorder() as orders, Recorder() as invoices, Recorder() as plain:
        resources = {
            "orders": {"upstream": orders, "forward_token": "narrowed"},
            "invoices": {"upstream": invoices, "forward_token": "narrowed"},
            "plain": plain,
        }
        with Gate(resources) as gate:
            gate.orders, gate.invoices, gate.plain = orders, invoices, plain
            gate.key = (gate.state / "root.pub").read_text().strip()
            yield gate


def narrowed(scene, target="/orders/v1/42?page=2", token=None, method="GET", service=None):
    """Sends a message and returns what the service was given."""
    service = service or scene.orders
    service.clear()
    token = token or scene.mint("orders", "invoices")
    answer = scene.get(target, token, method=method)
    assert answer.status == 200, answer.body
    (received,) = service.requests
    scheme, given = received.value("authorization").split(" ")
    assert scheme == "Bearer" and given != token
    return given


MESSAGE = {"path": "/v1/42", "query": "page=2"}


def test_a_backend_can_check_with_any_biscuit_library_what_it_was_given(scene):
    given = narrowed(scene)
    assert authorized(given, scene.key, **MESSAGE)
    for other in (
        {"path": "/v1/43"},
        {"query": ""},
        {"query": "page=2&x"},
        {"method": "POST"},
        {"resource": "invoices"},
        {"backend": "invoices"},
        {"backend": None},
        {"now": int(time.time()) + 62},
    ):
        assert not authorized(given, scene.key, **{**MESSAGE, **other}), other


def test_a_backend_cannot_present_it_to_the_gateway(scene):
    """Neither for the same message nor for another, neither to its own resource nor to another."""
    given = narrowed(scene)
    for target, method in (
        ("/orders/v1/42?page=2", "GET"),
        ("/orders/v1/43", "GET"),
        ("/orders/v1/42?page=2", "POST"),
        ("/invoices/v1/42?page=2", "GET"),
    ):
        answer = scene.get(target, given, method=method)
        assert answer.status == 403 and json.loads(answer.body)["type"] == "not-permitted", target
    assert scene.get("/plain/v1/42?page=2", given).status == 404, "it never held a right there"
    assert scene.admin("GET", "/keys", token=given).status in (401, 403, 404)


def test_a_backend_cannot_go_on_from_it(scene):
    """It is sealed: no tool appends to it, and cutting its last block off leaves nothing that verifies."""
    given = narrowed(scene)
    assert scene.run("attenuate", "-", "--path", "/x", stdin=given).code != 0
    assert "sealed" in scene.run("inspect", "-", stdin=given).ok().out.lower()


def test_two_messages_never_get_the_same_token(scene):
    """Remembered is what was made for the same message of the same token, and nothing else."""
    token, other = scene.mint("orders"), scene.mint("orders")
    given = [
        narrowed(scene, target, tok, method)
        for tok in (token, other)
        for method in ("GET", "DELETE")
        for target in ("/orders/a", "/orders/b", "/orders/a?x", "/orders/a?y")
    ]
    assert len(set(given)) == len(given)
    scene.orders.clear()
    with scene.wire() as wire:
        for _ in range(3):
            assert wire.send(request("GET", "/orders/a", token=token)).answer().status == 200
    again = {received.value("authorization") for received in scene.orders.requests}
    assert len(again) == 1, "one connection is one worker's, which remembers what it made for the same message"


def test_what_the_caller_could_not_do_its_narrowed_token_cannot(scene):
    """Every caveat of the caller's token is still in it."""
    token = scene.mint("orders", "--path", "/v1/**", "--host", "localhost", "--expires", "1h")
    given = narrowed(scene, token=token)
    assert not authorized(given, scene.key, **MESSAGE), "the host is not among the facts"
    assert authorized(given, scene.key, **MESSAGE, more='host("localhost");')


def test_a_sealed_token_is_refused_where_the_service_is_to_get_a_narrowed_one(scene):
    sealed = scene.run("seal", "-", stdin=scene.mint("orders", "plain")).ok().out.strip()
    scene.orders.clear()
    answer = scene.get("/orders/x", sealed)
    assert (answer.status, json.loads(answer.body)["type"]) == (403, "sealed-token")
    assert scene.orders.requests == []
    assert scene.get("/plain/x", sealed).status == 200
    # Who has no right learns nothing of the kind.
    assert scene.get("/invoices/x", sealed).status == 404


def test_a_token_that_would_become_too_long_is_refused(scene):
    token = scene.mint("orders")
    for _ in range(23):
        token = scene.attenuate(token, "--no-upgrade")
    scene.orders.clear()
    answer = scene.get("/orders/x", token)
    assert (answer.status, json.loads(answer.body)["type"]) == (403, "not-narrowable")
    long = scene.get("/orders/" + "a" * 7000, scene.mint("orders"))
    assert (long.status, json.loads(long.body)["type"]) == (403, "not-narrowable")
    assert scene.orders.requests == []


def test_every_spelling_of_a_token_is_narrowed(scene):
    token = scene.mint("orders")
    padded = token + "=" * (-len(token) % 4)
    for spelled in (token, padded, f"biscuit:{token}", f"biscuit:{padded}"):
        assert authorized(narrowed(scene, token=spelled), scene.key, **MESSAGE), spelled[:10]


def test_revoking_the_callers_token_ends_the_narrowing_of_it(scene):
    token = scene.mint("orders")
    assert authorized(narrowed(scene, token=token), scene.key, **MESSAGE)
    scene.revoke(token)
    scene.orders.clear()
    assert scene.get("/orders/v1/42?page=2", token).status == 401
    assert scene.orders.requests == [], "also for a message whose narrowed token is remembered"


def test_nothing_is_given_where_nothing_was_presented_and_a_callers_own_field_does_not_pass():
    with Recorder() as service:
        with Gate({"orders": service}, start=False) as gate:
            anonymous = gate.dir / "anonymous.token"
            anonymous.write_text(gate.mint("orders", "--allow", "GET"))
            anonymous.chmod(0o600)
            table = {"upstream": service, "forward_token": "narrowed", "anonymous": anonymous}
            gate.write_config({"orders": table, "own": {"upstream": service, "forward_token": "narrowed", "authorization": "pass"}})
            gate.start()
            assert gate.get("/orders/x").status == 200
            assert service.requests[0].value("authorization") is None
            token = gate.mint("own")
            service.clear()
            fields = [("Authorization", "Basic eDp5"), ("Postern-Capability", token)]
            assert gate.get("/own/x", fields=fields).status == 200
            (received,) = service.requests
            assert received.values("authorization") == ["Basic eDp5"]
            (given,) = received.values("postern-capability")
            key = (gate.state / "root.pub").read_text().strip()
            assert authorized(given, key, resource="own", backend="own", path="/x")
            assert token.encode() not in service.bytes


def test_the_next_secret_of_a_token_is_not_in_what_a_backend_is_given(scene):
    """Law 8: what would let a backend append to the caller's token stays in the gateway."""
    from harness.forge import fields

    token = scene.mint("orders")
    secret = dict(fields(dict(fields(decode(token)))[4]))[1]
    assert len(secret) == 32
    assert secret not in decode(narrowed(scene, token=token))

"""Nobody learns from an answer what exists (T24): unknown and forbidden look the same, byte for byte."""

import re

import pytest

from harness.backend import Recorder
from harness.gate import Gate


@pytest.fixture(scope="module")
def two():
    with Recorder() as service, Gate({"orders": service, "hidden": service}) as gate:
        yield gate, service


def shape(answer):
    """An answer without what differs for every message."""
    return re.sub(rb"\r\nDate: [^\r]*", b"", answer.head, flags=re.I), answer.body


def test_unknown_and_forbidden_are_the_same_bytes(two):
    gate, service = two
    token = gate.mint("orders", "--allow", "GET")
    for method in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
        body = b"x" if method == "POST" else None
        unknown = gate.get("/nothere/x", token, method=method, body=body)
        hidden = gate.get("/hidden/x", token, method=method, body=body)
        assert unknown.status == 404 and shape(unknown) == shape(hidden)
    # Whoever holds a right there knows that it is there: what is held is said.
    not_allowed = gate.get("/orders/x", token, method="POST", body=b"x")
    assert (not_allowed.status, not_allowed.kind) == (403, "not-permitted") and "GET" in not_allowed.problem["detail"]


def test_without_a_token_everything_is_the_same_401(two):
    gate, _ = two
    answers = {shape(gate.get(f"/{name}/x")) for name in ("orders", "hidden", "nothere", "postern", "messages")}
    assert len(answers) == 1


def test_a_preflight_is_answered_alike_for_known_and_unknown(two):
    gate, service = two
    service.clear()
    preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "GET")]
    answers = [gate.get(f"/{name}/x", method="OPTIONS", fields=preflight) for name in ("orders", "hidden", "nothere")]
    assert len({shape(a) for a in answers}) == 1
    assert all(not a.values("access-control-allow-origin") for a in answers) and service.requests == []


def test_resource_limits_are_not_shown_to_those_without_a_right():
    with Recorder() as service, Gate({"orders": service, "hidden": {"upstream": service, "max_body": "1B"}}) as gate:
        token = gate.mint("orders")
        big = gate.get("/hidden/x", token, method="POST", body=b"xxxx")
        none = gate.get("/nothere/x", token, method="POST", body=b"xxxx")
        assert shape(big) == shape(none)
        encoded = gate.get("/hidden/a%2fb", token)
        assert shape(encoded) == shape(gate.get("/nothere/a%2fb", token))

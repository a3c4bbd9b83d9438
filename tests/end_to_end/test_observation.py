"""What the gateway says about itself: metrics, access log, OpenAPI, health."""

import json

import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from harness.backend import Recorder
from harness.gate import Gate
from harness.ports import until


def samples(text):
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def total(found, name, **labels):
    return sum(v for (n, l), v in found.items() if n == name and all(dict(l).get(k) == w for k, w in labels.items()))


def test_metrics_count_decisions_by_resource_and_reason(gate, service, token):
    narrow = gate.attenuate(token, "--path", "/a")
    before = samples(gate.metrics())
    for _ in range(3):
        gate.get("/orders/a", narrow)
    gate.get("/orders/b", narrow)
    gate.get("/orders/b")
    gate.get("/none/b", token)

    def counted():
        after = samples(gate.metrics())
        def grown(**labels):
            return total(after, "postern_decisions_total", **labels) - total(before, "postern_decisions_total", **labels)
        return grown(resource="orders", reason="allowed") == 3 and grown(reason="not-permitted") == 1 and \
            grown(reason="missing-capability") == 1 and grown(reason="not-found") == 1

    until(counted, "the counters show every decision", 5)


def test_metrics_are_well_formed_and_complete(gate, token):
    gate.get("/orders/a", token)
    text = gate.metrics()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert all(f.documentation for f in families.values())
    for needed in ("postern_decisions", "postern_own_share_seconds", "postern_connections_open", "postern_plan_cache_lookups", "postern_ledger_lag",
                   "postern_resource_answered_seconds", "postern_resource_body_bytes", "postern_trace_spans"):
        assert needed in families, sorted(families)
    assert families["postern_own_share_seconds"].type == "histogram"
    answered = families["postern_resource_answered_seconds"]
    assert answered.type == "histogram" and any(s.labels.get("resource") == "orders" and s.value > 0 for s in answered.samples)


def test_a_strangers_names_make_no_new_series(gate):
    for number in range(50):
        gate.get(f"/made-up-{number}/x")
        gate.get("/orders/x", method=f"M{number}")
    text = gate.metrics()
    assert "made-up" not in text and "M49" not in text
    assert "made-up" not in gate.admin("GET", "/status", token=gate.admin_token).body.decode()


def test_one_line_of_json_for_each_message():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        gate.get("/orders/a?x=1", token)
        gate.get("/orders/b")
        gate.get("/orders/c", gate.attenuate(token, "--path", "/none"))

        def lines():
            found = [json.loads(l) for l in gate.log.splitlines() if l.startswith("{")]
            return [l for l in found if "decision" in l and l["path"].startswith("/orders")]

        until(lambda: len(lines()) >= 3, "three lines")
        first, second, third = (next(l for l in lines() if l["path"] == path) for path in ("/orders/a", "/orders/b", "/orders/c"))
        assert (first["decision"], first["status"], first["operation"], first["resource"]) == ("allowed", 200, "GET", "orders")
        assert (second["decision"], second["status"]) == ("missing-capability", 401)
        assert (third["decision"], third["status"]) == ("not-permitted", 403)
        assert first["client"] == "127.0.0.1" and len(first["capability"]) == 8 and "capability" not in second
        assert all("x=1" not in json.dumps(l) for l in lines())


def test_the_openapi_document_is_valid_and_describes_what_is_there(gate):
    answer = gate.admin("GET", "/openapi.json", token=gate.admin_token)
    assert answer.status == 200
    document = json.loads(answer.body)
    validate(document)
    for path in ("/capabilities/{resource}", "/revocations", "/keys", "/ledger", "/resources", "/status", "/metrics", "/health/live", "/health/ready"):
        assert path in document["paths"], path
    for path, item in document["paths"].items():
        for method in item:
            if method in ("get",) and "{" not in path:
                reply = gate.admin("GET", path, token=gate.admin_token)
                assert str(reply.status) in item[method]["responses"], (path, reply.status)


def test_the_openapi_document_says_how_to_present_a_token(gate):
    document = json.loads(gate.admin("GET", "/openapi.json", token=gate.admin_token).body)
    schemes = document["components"]["securitySchemes"]
    assert any(s["type"] == "http" and s["scheme"].lower() == "bearer" for s in schemes.values())


@pytest.mark.parametrize("path", ["/revocations", "/keys", "/ledger", "/resources", "/status"])
def test_admin_answers_are_json(gate, path):
    reply = gate.admin("GET", path, token=gate.admin_token)
    assert reply.status == 200 and reply.value("content-type").startswith("application/json"), reply.head
    json.loads(reply.body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"ids": 7}', b'{"ids": ["zz"]}', b'{"ids": []}', b'{"unknown": 1}', b"\xff" * 10, b'{"ids": ["' + b"a" * 200000 + b'"]}'])
def test_a_bad_admin_body_is_refused_in_words(gate, body):
    reply = gate.admin("POST", "/revocations", token=gate.admin_token, body=body, fields=[("Content-Type", "application/json")])
    assert reply.status in (400, 413, 415, 422), (reply.status, reply.body)
    assert reply.problem["detail"].strip().endswith(".")


def test_an_unknown_admin_path_and_method(gate):
    assert gate.admin("GET", "/nothing", token=gate.admin_token).status == 404
    assert gate.admin("DELETE", "/keys", token=gate.admin_token).status in (404, 405)

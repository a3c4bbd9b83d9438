"""What is dropped or refused by default leaves a trace in the log, which names the key that lets it through."""

import json

from harness.backend import Recorder
from harness.gate import Gate
from harness.ports import until


def test_what_is_dropped_by_default_is_told_with_the_key_that_opens_it():
    stock = {"allow_headers": ["x_tenant"]}
    with Recorder() as service, Gate({"orders": service, "stock": {"upstream": service, **stock}}) as gate:
        token = gate.mint("orders", "stock")
        fields = [("X_Tenant", "secret-value"), ("Destination", "/orders/y"), ("X-Thing", "1"), ("x_" * 40, "1")]
        for _ in range(20):
            assert gate.get("/orders/x", token, fields=fields).status == 200
            assert gate.get("/stock/x", token, fields=fields[:1]).status == 200
            assert gate.get("/orders/x", fields=[("x_stranger", "1")]).status == 401
        for target in ("/orders/@scope%2fname", "/orders/a//b", "/orders/a\\b"):
            assert gate.get(target, token).status == 400
        until(lambda: any("a path with \\ was refused" in said for said, _ in told(gate)), "the last of it is told")
        sentences = [said for said, _ in told(gate)]
        for key in ('allow_headers = ["x_tenant"]', 'allow_headers = ["destination"]', 'encoded_slash = "pass"', "a path with // was"):
            assert any(key in said for said in sentences), key
        tenant = [resource for said, resource in told(gate) if "x_tenant" in said]
        assert 1 <= len(tenant) < 20 and set(tenant) == {"orders"}, "once for each worker, and not where it passes"
        for never in ("secret-value", "x-thing", "x_x_", "x_stranger", "scope"):
            assert not any(never in said for said in sentences), never


def told(gate):
    """The diagnostics so far: what is said, and of which resource."""
    lines = [json.loads(line) for line in gate.log.splitlines() if line.startswith("{")]
    return [(line["fields"]["message"], line["fields"].get("resource")) for line in lines if "fields" in line]

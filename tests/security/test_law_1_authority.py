"""Law 1: authority comes from the token alone. No address, certificate, cookie, connection or header lets anyone in
(T5, T35)."""

import base64

import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import request


def test_law_1_authority_comes_from_the_token_alone(gate, service):
    """Whatever else a request carries, without a token it is nobody's."""
    basic = base64.b64encode(b"admin:admin").decode()
    for fields in (
        [],
        [("Cookie", "session=admin; token=1")],
        [("Authorization", f"Basic {basic}")],
        [("X-Forwarded-User", "admin"), ("X-Forwarded-For", "127.0.0.1")],
        [("X-Forwarded-Client-Cert", "Subject=admin")],
        [("Postern-Resource", "orders"), ("Postern-Permit", "yes")],
        [("Origin", f"http://127.0.0.1:{gate.port}")],
        [("X-Api-Key", "admin")],
    ):
        answer = gate.get("/orders/x", fields=fields)
        assert (answer.status, answer.kind) == (401, "missing-capability"), fields
    assert service.requests == []


def test_law_1_a_connection_holds_no_authority(gate, service, token):
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/1", token=token) + request("GET", "/orders/2") + request("GET", "/orders/3", token=token))
        assert [wire.answer().status for _ in range(3)] == [200, 401, 200]
    assert [r.target for r in service.requests] == ["/1", "/3"]


def test_law_1_loopback_is_no_privilege_on_the_admin_listener(gate):
    for method, target in [
        ("GET", "/revocations"), ("POST", "/revocations"), ("GET", "/keys"), ("POST", "/keys"), ("GET", "/ledger"),
        ("GET", "/resources"), ("GET", "/metrics"), ("POST", "/capabilities/orders"), ("GET", "/nothing"),
    ]:
        answer = gate.admin(method, target, body=b"{}" if method == "POST" else None)
        assert (answer.status, answer.kind) == (401, "missing-capability"), target


def test_law_1_a_token_for_a_service_does_not_administer(gate, token):
    answer = gate.admin("GET", "/revocations", token=token)
    assert answer.status == 404


@pytest.mark.parametrize(
    "target",
    ["/revocations", "/keys", "/ledger", "/resources", "/metrics", "/health/live", "/health/ready", "/openapi.json",
     "/capabilities/orders", "/postern", "/postern/revocations", "/messages", "/.well-known/postern/messages/msg_1"],
)
def test_law_1_administration_is_not_on_the_data_listener(gate, service, target):
    """T35: the admin capability itself reaches nothing there either."""
    for method in ("GET", "POST"):
        answer = gate.get(target, gate.admin_token, method=method, body=b"{}" if method == "POST" else None)
        assert answer.status == 404
    assert service.requests == []


def test_law_1_a_service_token_that_claims_the_reserved_name_is_refused(gate, service):
    """Rights on `postern` and on a service never share a token, however it was made."""
    from harness import forge

    both = forge.mint(gate.state, 'right("orders", "GET"); right("postern", "*");')
    for answer in (gate.get("/orders/x", both), gate.admin("GET", "/revocations", token=both)):
        assert answer.status == 401
    assert service.requests == []


def test_law_1_narrow_administration_stays_narrow(gate):
    """T35: a token narrowed to one resource mints for no other."""
    narrow = gate.attenuate(gate.admin_token, "--method", "POST", "--path", "/capabilities/orders")
    assert gate.admin("POST", "/capabilities/orders", token=narrow, body=b"{}").status in (200, 201)
    assert gate.admin("POST", "/capabilities/other", token=narrow, body=b"{}").status == 403
    assert gate.admin("POST", "/revocations", token=narrow, body=b"{}").status == 403
    assert gate.admin("GET", "/ledger", token=narrow).status == 403


def test_law_1_no_admin_call_mints_administration(gate):
    for name in ("postern", "messages"):
        answer = gate.admin("POST", f"/capabilities/{name}", token=gate.admin_token, body=b"{}")
        assert 400 <= answer.status < 500, (name, answer.status)


def test_law_1_an_anonymous_resource_serves_only_those_who_present_nothing():
    """A bad token is refused as such: falling back to the anonymous one would hide a revocation."""
    with Recorder() as service:
        with Gate({"orders": service}, start=False) as gate:
            token = gate.mint("orders", "--allow", "GET", "--path", "/public/**")
            (gate.dir / "anonymous.token").write_text(token + "\n")
            (gate.dir / "anonymous.token").chmod(0o600)
            gate.write_config({"orders": {"upstream": service, "anonymous": "anonymous.token"}})
            gate.start()
            assert gate.get("/orders/public/x").status == 200
            assert gate.get("/orders/private").status in (401, 403)
            for target, method in [("/orders/public/x", "POST"), ("/orders/private", "GET")]:
                refused = gate.get(target, method=method, body=b"" if method == "POST" else None)
                assert (refused.status, refused.kind) == (401, "missing-capability"), (target, method)
            assert gate.get("/orders/public/x", "AAAA").status == 401
            revoked = gate.mint("orders")
            gate.revoke(revoked)
            assert gate.get("/orders/public/x", revoked).status == 401

"""Who a message's client is, as services in Python and Node hear it: from the gateway's statement in the narrowed token, and
from nothing that a sender can write, however the server in between is set up."""

import json

import pytest
from harness.verifying import Front, node_service, python_service
from harness.wire import once, request

# uvicorn then takes peer and scheme from X-Forwarded-*, whoever sends them.
TAKES_THE_PEER_FROM_FIELDS = {"FORWARDED_ALLOW_IPS": "*"}
MADE_UP = [("x-forwarded-for", "10.1.2.3"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "api.example.com")]
CERTIFICATE = "ab" * 32


@pytest.fixture(scope="module", params=["asgi_service.py", "wsgi_service.py", "express_service.mjs", "fastify_service.mjs"])
def front(request, scripts, tmp_path_factory):
    """The service behind a gateway that narrows, and behind a proxy that the gateway trusts."""
    script = request.param

    def start(folder, port, url):
        if script.endswith(".py"):
            return python_service(script, folder, url, port=port, env=TAKES_THE_PEER_FROM_FIELDS)
        return node_service(scripts, script, folder, url, port=port)

    front = Front(start, tmp_path_factory.mktemp("front"), top={"trusted_proxies": ["127.0.0.1/32"]})
    yield front
    front.stop()


def test_fields_that_a_sender_made_up_pass_no_caveat(front):
    """The sender is past the gateway, with a token that only its caveat stops."""
    for caveat in (["--client", "10.0.0.0/8"], ["--host", "api.example.com"], ["--client-cert", CERTIFICATE],
                   ["--check", 'check if scheme("https")']):
        token = front.gate.mint("orders", *caveat)
        fields = [*MADE_UP, ("x-forwarded-client-cert", f"Hash={CERTIFICATE}")]
        answer = once(front.service.port, request("GET", "/42", token=token, fields=fields))
        assert answer.status == 403 and answer.problem["type"] == "not-permitted", (caveat, answer.body)
        assert "statement" in answer.problem["detail"], answer.problem


def test_what_the_gateway_allowed_for_its_client_the_service_allows(front):
    """Also where the client is not on this machine, and the server takes the peer for that client."""
    token = front.gate.mint("orders", "--client", "10.0.0.0/8", "--host", "localhost")
    status, said = front.ask(token, "/orders/42", fields=[("x-forwarded-for", "10.1.2.3")])
    assert status == 200, said
    assert front.ask(token, "/orders/42", fields=[("x-forwarded-for", "192.0.2.1")])[0] == 403
    # Narrowed for one client and message, it is of no use with another client's fields or for another message.
    narrowed = said.get("token") if isinstance(said, dict) else None
    if narrowed:
        assert front.direct(narrowed, "/42")[0] == 200
        assert front.direct(narrowed, "/43")[0] == 403


def test_the_gateway_takes_back_no_statement(front):
    token = front.gate.mint("orders", "--client", "10.0.0.0/8")
    fields = [("x-forwarded-for", "10.1.2.3")]
    said = front.ask(token, "/orders/42", fields=fields)[1]
    if isinstance(said, dict) and said.get("token"):
        again = front.gate.get("/orders/42", token=said["token"], fields=fields)
        assert again.status == 403 and json.loads(again.body)["type"] == "not-permitted"


def test_the_key_document_names_the_statement_key_beside_the_root_keys(front):
    entries = json.loads(front.gate.get("/.well-known/biscuit-web-keys").body)
    assert [entry.get("purpose") for entry in entries] == [None, "statement"]
    assert entries[1]["key_bytes"] not in (front.gate.state / "root.pub").read_text()
    assert (front.gate.state / "gateway.key").stat().st_mode & 0o777 == 0o600
    assert len((front.gate.state / "gateway.key").read_bytes()) == 32

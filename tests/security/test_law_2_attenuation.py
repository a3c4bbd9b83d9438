"""Law 2: only minting makes authority; attenuating only takes away (T13, T14)."""

import random

import biscuit_auth
import pytest

from harness import forge
from harness.wire import request

NARROW = ("--allow", "GET", "--path", "/allowed/**")


@pytest.fixture(scope="module")
def narrow(gate):
    return gate.mint("orders", *NARROW)


# Blocks that a holder may append to try to become more than it was. Each is refused, or changes nothing.
WIDENING = [
    'right("orders", "POST");',
    'right("orders", "*");',
    'right("forbidden", "GET");',
    'resource("orders");',
    'path("/allowed/x");',
    'operation("GET");',
    'time(2020-01-01T00:00:00Z);',
    'postern_admin(true);',
    'backend("orders");',
    'right("orders", $op) <- operation($op);',
    'right($r, $op) <- resource($r), operation($op);',
    'path("/allowed/x") <- resource($r);',
    'check if right("orders", "POST");',
    'check if true or right("orders", "POST");',
    'check if resource("orders") trusting previous;',
    'check if resource("orders") trusting authority;',
    'trusting previous; right("orders", "POST");',
]


@pytest.mark.parametrize("source", WIDENING)
def test_law_2_no_appended_block_widens_anything(gate, service, narrow, source):
    wider = forge.append(gate.state, narrow, source)
    for method, target in [("POST", "/orders/allowed/x"), ("GET", "/orders/forbidden"), ("GET", "/orders/"), ("DELETE", "/orders/allowed/x")]:
        answer = gate.get(target, wider, method=method, body=b"" if method == "POST" else None)
        assert answer.status in (401, 403, 404), (method, target, answer.status)
    assert service.requests == []


def test_law_2_a_third_partys_facts_grant_nothing(gate, service, narrow):
    """GHSA-rgqv-mwc3-c78m and plain facts: whatever a third party signs, it is not the authority."""
    key = biscuit_auth.KeyPair()
    for source in ('right("orders", "POST");', 'right("orders", "*"); resource("orders"); operation("POST");',
                   'operation("GET");', 'path("/allowed/x");'):
        wider = forge.append_third_party(gate.state, narrow, source, key)
        for method, target in [("POST", "/orders/allowed/x"), ("GET", "/orders/forbidden")]:
            answer = gate.get(target, wider, method=method, body=b"" if method == "POST" else None)
            assert answer.status in (401, 403, 404), (source, method, target)
    assert service.requests == []


def test_law_2_a_third_party_block_of_another_token_does_not_fit(gate, service):
    key = biscuit_auth.KeyPair()
    source = f'right("orders", "GET"); check if paid(true) trusting {key.public_key};'
    mine, other = forge.mint(gate.state, source), forge.mint(gate.state, source)
    paid = forge.append_third_party(gate.state, other, "paid(true);", key)
    assert gate.get("/orders/x", paid).status == 200
    assert gate.get("/orders/x", mine).status == 403
    service.clear()
    stolen = forge.Token(mine)
    stolen.blocks.append(forge.Token(paid).blocks[1])
    stolen.proof = forge.Token(paid).proof
    assert gate.get("/orders/x", stolen.text).status == 401
    forged = forge.append_third_party(gate.state, mine, "paid(true);", biscuit_auth.KeyPair())
    assert gate.get("/orders/x", forged).status == 403
    first_party = forge.append(gate.state, mine, "paid(true);")
    assert gate.get("/orders/x", first_party).status in (401, 403)
    assert service.requests == []


def test_law_2_what_a_child_may_its_parent_may(gate):
    """T14, end to end over random caveats: allowed for the child implies allowed for the parent."""
    dice = random.Random(20260101)
    caveats = [("--method", "GET"), ("--method", "GET,POST"), ("--path", "/a/**"), ("--path", "/a/b"), ("--path", "/"),
               ("--expires", "10m"), ("--query", "page=2"), ("--max-body", "10"), ("--no-upgrade",), ("--host", "localhost"),
               ("--client", "127.0.0.0/8"), ("--client", "10.0.0.0/8")]
    requests = [(m, p + q) for m in ("GET", "POST") for p in ("/orders/a/b", "/orders/a", "/orders/", "/orders/c") for q in ("", "?page=2")]

    def allowed(token, wire):
        verdicts = []
        for method, target in requests:
            wire.send(request(method, target, token=token, body=b"x" if method == "POST" else None))
            verdicts.append(wire.answer(method).status == 200)
        return verdicts

    with gate.wire() as wire:
        for _ in range(12):
            token = gate.mint("orders", *dice.choice([[], ["--allow", "GET"]]))
            before = allowed(token, wire)
            for _ in range(3):
                token = gate.attenuate(token, *dice.choice(caveats))
                after = allowed(token, wire)
                assert all(b or not a for a, b in zip(after, before)), "a child may what its parent may not"
                before = after


def test_law_2_a_sealed_token_cannot_be_changed(gate, narrow):
    sealed = gate.run("seal", "-", stdin=narrow).ok().out.strip()
    assert gate.get("/orders/allowed/x", sealed).status == 200
    assert gate.run("attenuate", "-", "--method", "GET", stdin=sealed).code != 0
    token = forge.Token(sealed)
    unsealed = forge.Token(narrow)
    token.proof = unsealed.proof
    assert gate.get("/orders/allowed/x", token.text).status in (200, 401)  # that is the unsealed token itself
    stripped = forge.Token(sealed)
    stripped.proof = b""
    assert gate.get("/orders/allowed/x", stripped.text).status == 401


def test_law_2_minting_over_the_api_hands_out_no_more_than_asked(gate):
    import json

    body = json.dumps({"operations": ["GET"], "caveats": {}}).encode()
    answer = gate.admin("POST", "/capabilities/orders", token=gate.admin_token, body=body,
                        fields=[("Content-Type", "application/json")])
    assert answer.status in (200, 201), answer.body
    token = json.loads(answer.body)["token"]
    assert gate.get("/orders/x", token).status == 200
    assert gate.get("/orders/x", token, method="POST", body=b"").status == 403
    assert gate.admin("GET", "/revocations", token=token).status == 404


def test_law_2_a_caveat_that_is_named_and_says_nothing_is_not_its_absence(gate):
    """`{"path": []}` was once a token without a path, and `"operations": null` one for every method: wider than asked."""
    import json

    nothing = ["[]", "{}", "null", "1.5", "-1", "[[]]", "[null]", '{"a": "b"}', '""', '[""]']
    flags = ["expires", "not-before", "method", "path", "query", "host", "client", "client-cert", "no-upgrade", "max-body", "rpc",
             "tool", "arg", "grpc", "check"]
    bodies = [(flag, f'{{"caveats": {{"{flag}": {value}}}}}') for flag in flags for value in nothing]
    bodies += [("no-upgrade", f'{{"caveats": {{"no-upgrade": {value}}}}}') for value in ("0", "1", '"true"', '"false"', '[""]')]
    bodies += [("operations", '{"operations": []}'), ("", '{"operations": null}'), ("", '{"caveats": null}'), ("", '{"caveats": []}')]

    def minted(body):
        return gate.admin("POST", "/capabilities/orders", token=gate.admin_token, body=body.encode(),
                          fields=[("Content-Type", "application/json")])

    for flag, body in bodies:
        answer = minted(body)
        assert answer.status == 400 and flag in answer.problem["detail"], (body, answer.body)
    # No caveat was named, or one was set to false.
    for body in ("{}", '{"caveats": {}}', '{"caveats": {"no-upgrade": false}}'):
        answer = minted(body)
        assert answer.status == 201, (body, answer.body)
        assert gate.get("/orders/x", json.loads(answer.body)["token"], method="POST", body=b"").status == 200

"""Services with an `Authorization` of their own, open to who presents nothing: which Bearer texts are the gateway's there, and
which are the service's, byte for byte."""

import base64
import json
import random
import string

import pytest

from harness.backend import Recorder
from harness.gate import Gate

RANDOM = random.Random(7)


def text(alphabet, length):
    return "".join(RANDOM.choice(alphabet) for _ in range(length))


def jwt():
    part = lambda said: base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()  # noqa: E731
    return f'{part({"alg": "HS256", "typ": "JWT"})}.{part({"sub": text(string.digits, 8), "iat": 1})}.{text(string.ascii_letters, 43)}'


BASE62 = string.ascii_letters + string.digits
URL_SAFE = BASE62 + "-_"
MAKES = [
    *(f"ghp_{text(BASE62, 36)}" for _ in range(10)),
    *(f"github_pat_{text(BASE62, 22)}_{text(BASE62, 59)}" for _ in range(5)),
    *(f"glpat-{text(URL_SAFE, 20)}" for _ in range(5)),
    *(f"sk-{text(BASE62, 48)}" for _ in range(5)),
    *(text(URL_SAFE, 21) for _ in range(10)),
    *(text("0123456789abcdef", length) for length in (16, 32, 40, 64, 128)),
    *(text(BASE62, length) for length in range(1, 80)),
    *(text(URL_SAFE, length) for length in (136, 137, 138, 139, 200, 400, 1000, 8000)),
    *(jwt() for _ in range(10)),
    # They begin like a biscuit does: a number, a field of some length.
    *(base64.urlsafe_b64encode(b"\x08\x01\x12\xff\x01" + RANDOM.randbytes(n)).decode() for n in (20, 120, 300)),
]
FIELDS = [*(f"Bearer {made}" for made in MAKES), "Bearer", "Bearer a b", "Bearer a,b", "Bearer a, Bearer b", 'Bearer realm="x"',
          'Bearer realm="x", error="invalid_token"', "bearer x", "Bearer  spaced", "Basic eDp5", "Bearer ==", "Bearer a=b"]


@pytest.fixture(scope="module")
def place():
    with Recorder() as service, Gate({"open": service, "closed": service}, start=False) as gate:
        anonymous = gate.dir / "anonymous.token"
        anonymous.write_text(gate.mint("open", "--allow", "GET"))
        anonymous.chmod(0o600)
        own = {"upstream": service, "authorization": "pass"}
        gate.write_config({"open": {**own, "anonymous": anonymous}, "closed": own})
        with gate.start():
            yield gate, service


def test_ordinary_tokens_of_any_make_are_the_services(place):
    gate, service = place
    assert len(FIELDS) > 150
    for field in FIELDS:
        service.clear()
        answer = gate.get("/open/x", fields=[("Authorization", field)])
        assert answer.status == 200, (field, answer.body)
        assert service.requests[0].values("authorization") == [field]


def test_another_issuers_biscuit_is_the_services_too(place, tmp_path):
    gate, service = place
    with Gate({"open": service}, start=False) as other:
        foreign = other.mint("open", "--path", "/y")
    for field in (f"Bearer {foreign}", f"Bearer {foreign[:-48]}"):
        service.clear()
        assert gate.get("/open/x", fields=[("Authorization", field)]).status == 200
        assert service.requests[0].values("authorization") == [field]


def test_what_our_keys_signed_is_judged_as_everywhere_and_not_shown_to_the_service(place):
    gate, service = place
    token = gate.mint("open", "--path", "/y")
    narrowed = gate.attenuate(token, "--method", "GET")
    elsewhere, revoked = gate.mint("closed"), gate.mint("open")
    gate.revoke(revoked)
    service.clear()
    for text, status, kind in [
        (token, 403, "not-permitted"), (narrowed, 403, "not-permitted"), (elsewhere, 404, "not-found"), (revoked, 401, "revoked"),
        (token[:-4], 401, "truncated-token"), (token[:-48], 401, "truncated-token"), (narrowed[:-60], 401, "truncated-token"),
        (f"{token} x", 401, "invalid-token"), (f"x,{token}", 401, "invalid-token"), (f'realm="{token}"', 401, "invalid-token"),
        (f"{token}.x", 401, "invalid-token"),
    ]:
        answer = gate.get("/open/x", fields=[("Authorization", f"Bearer {text}")])
        assert (answer.status, answer.kind) == (status, kind), (text, answer.body)
    assert service.requests == []
    full = gate.mint("open")
    assert gate.get("/open/x", full).status == 200
    assert service.requests[0].values("authorization") == []


@pytest.mark.parametrize("name", ["open", "closed"])
def test_ours_beside_another_is_two_tokens(place, name):
    gate, service = place
    token = gate.mint(name)
    service.clear()
    for text in (token, token[:-48], f"x,{token}", gate.mint("open")):
        answer = gate.get(f"/{name}/x", fields=[("Authorization", f"Bearer {text}"), ("Postern-Capability", token)])
        assert (answer.status, answer.kind) == (400, "two-tokens"), answer.body
    assert service.requests == []
    for field in FIELDS:
        service.clear()
        answer = gate.get(f"/{name}/x", fields=[("Authorization", field), ("Postern-Capability", token)])
        assert answer.status == 200, (field, answer.body)
        assert service.requests[0].values("authorization") == [field]


def test_who_holds_no_right_does_not_learn_that_such_a_service_is_there(place):
    gate, _ = place
    other, full = gate.mint("open"), gate.mint("open")
    fields = [[("Authorization", field)] for field in ("Bearer", "Bearer a,b", "Bearer ghp_x", f"Bearer {full}", f"Bearer {full},x")]
    fields += [[*one, ("Postern-Capability", other)] for one in fields]
    for one in fields:
        closed, nowhere = gate.get("/closed/x", fields=one), gate.get("/nowhere/x", fields=one)
        assert (closed.status, closed.body) == (nowhere.status, nowhere.body), one


def test_what_a_retired_key_signed_is_still_ours():
    with Recorder() as service, Gate({"open": service}, start=False) as gate:
        token = gate.mint("open", "--allow", "GET")
        gate.write_config({"open": {"upstream": service, "authorization": "pass", "anonymous": gate.dir / "anonymous.token"}})
        (gate.dir / "anonymous.token").write_text(token)
        (gate.dir / "anonymous.token").chmod(0o600)
        gate.start()
        old = gate.mint("open")
        gate.run("keys", "rotate").ok()
        (gate.dir / "anonymous.token").write_text(gate.mint("open", "--allow", "GET"))
        gate.run("keys", "retire", "0").ok()
        service.clear()
        answer = gate.get("/open/x", old)
        assert (answer.status, answer.kind) == (401, "revoked"), answer.body
        assert service.requests == []

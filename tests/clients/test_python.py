"""The Python package, installed as users install it: against the vectors, real servers, the gateway, and biscuit-python."""

import asyncio
import datetime
import http.server
import json
import sys
import threading
import time
from dataclasses import replace

import biscuit_auth
import httpx
import postern
import pytest
import requests
from postern.httpx import CapabilityAuth
from postern.requests import CapabilityAuth as RequestsAuth

from harness.verifying import python_service


def refused(ask):
    with pytest.raises(postern.VerifyError) as caught:
        ask()
    return caught.value


def presented(token):
    return {"authorization": f"Bearer {token}"}


NAMES = ["expires", "not_before", "method", "path", "query", "host", "client", "client_cert", "no_upgrade", "max_body", "rpc", "tool",
         "arg", "grpc", "check"]
NOTHING = [[], (), set(), {}, None, float("nan"), b"/a", object(), "", [""], [None], [[]], {"a": "b"}]


@pytest.mark.parametrize("name", NAMES)
def test_what_says_nothing_is_no_value_of_any_caveat(key, name):
    """A caveat that is named and says nothing was once no caveat at all, and the token wider than asked."""
    token = postern.mint(key, "orders")
    for value in NOTHING:
        for ask in (lambda: postern.attenuate(token, **{name: value}), lambda: postern.mint(key, "orders", **{name: value})):
            with pytest.raises(postern.PosternError) as caught:
                ask()
            assert caught.value.kind == "invalid-caveat", value
            assert str(caught.value).startswith(f"--{name.replace('_', '-')} "), caught.value


def test_booleans_are_booleans_and_absence_is_absence(key):
    token = postern.mint(key, "orders")
    for value in (0, 1, "true", "false", [True]):
        with pytest.raises(postern.PosternError, match="--no-upgrade .*boolean"):
            postern.attenuate(token, no_upgrade=value)
    for value in (7, datetime.timedelta(hours=1)):
        with pytest.raises(postern.PosternError, match="--host"):
            postern.attenuate(token, host=value)
    for value in (None, [], {}, ()):
        with pytest.raises(postern.PosternError, match="allow: name at least one"):
            postern.mint(key, "orders", allow=value)
    with pytest.raises(postern.PosternError, match="--expires"):
        postern.attenuate(token, expires=datetime.timedelta(hours=-1))
    for none in ({}, {"no_upgrade": False}):
        assert postern.inspect(postern.mint(key, "orders", **none))["blocks"][0]["checks"] == []
    assert len(postern.inspect(postern.attenuate(token, path=("/a", "/b"), max_body=5))["blocks"][-1]["checks"]) == 2


def test_every_vector_gets_the_same_verdict_and_reason(vectors):
    decided = 0
    for file, case in vectors:
        verifier = postern._postern.Verifier("orders", budget=case.get("budget"), leeway_seconds=case.get("leeway", 0))
        verifier.set_keys([(k["id"], postern.PublicKey(k["key"]), k["state"] == "retired") for k in case["keys"]])
        verifier.revoke(case.get("revoked", []))
        outcome = case["outcome"]
        anything = {"resource": "orders", "operation": "GET", "path": "/", "time": 0, "client": "::1"}
        wanted = outcome.get("refused")
        decisions = outcome["capability"]["decisions"] if wanted is None else [
            {"message": anything, "verdict": {"refuse": wanted}}]
        for decision in decisions:
            try:
                capability = verifier.check(case["token"], json.dumps(decision["message"]))
                got = "allow"
                assert [list(right) for right in capability.rights] == outcome["capability"]["rights"]
                assert capability.revocation_ids == outcome["capability"]["revocation_ids"]
            except postern.VerifyError as error:
                got = {"refuse": {"problem": error.kind, "reason": str(error)}}
            assert got == decision["verdict"], f"{file}: {case['name']}: {decision['message']}"
            decided += 1
    assert decided > 200


def test_ten_lines_mint_narrow_and_verify(key):
    token = postern.mint(key, "orders", allow="GET", expires=datetime.timedelta(hours=1))
    narrower = postern.attenuate(token, path=["/42", "/43/**"], no_upgrade=True)
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    capability = verifier.verify(method="GET", target="/42", headers=presented(narrower))
    assert capability.rights == [("orders", "GET")] and capability.holds("orders", "GET")
    assert verifier.verify(method="GET", target="/43/x?y", headers=presented(narrower)).short_id == capability.short_id
    error = refused(lambda: verifier.verify(method="GET", target="/44", headers=presented(narrower)))
    assert (error.kind, error.status) == ("not-permitted", 403)
    assert "path" in json.loads(error.problem)["caveats"][0]["caveat"]
    assert [block["checks"] for block in postern.inspect(narrower)["blocks"]][1][1]["text"] == 'check if upgrade("")'
    assert postern.lint(postern.attenuate(narrower, path="/nowhere"))


def test_what_another_library_made_is_honoured_and_the_other_way_round(key):
    secret = biscuit_auth.PrivateKey(key.to_secret_text())
    theirs = biscuit_auth.BiscuitBuilder('right("orders", "GET"); check if path("/42");').build(secret)
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    assert verifier.verify(method="GET", target="/42", headers=presented(theirs.to_base64()))
    ours = postern.attenuate(theirs.to_base64(), method="GET")
    read = biscuit_auth.Biscuit.from_base64(ours + "=" * (-len(ours) % 4), biscuit_auth.PublicKey(str(key.public_key)))
    assert read.block_count() == 2 and 'operation("GET")' in read.block_source(1)


def test_what_cannot_be_used_is_a_typed_error(key):
    wrong = {
        "invalid-key": lambda: postern.PublicKey("secp256r1/" + "02" * 33),
        "invalid-caveat": lambda: postern.mint(key, "orders", role="admin"),
        "invalid-resource": lambda: postern.mint(key, "Orders!"),
        "invalid-method": lambda: postern.mint(key, "orders", allow="get"),
        "not-minted": lambda: postern.mint(key, ["postern", "orders"]),
        "not-attenuated": lambda: postern.attenuate(postern.mint(key, "orders")),
        "sealed-token": lambda: postern.attenuate(postern.seal(postern.mint(key, "orders")), path="/x"),
        "invalid-token": lambda: postern.inspect("no token!"),
        "invalid-option": lambda: postern.Verifier.of_keys(str(key.public_key), resource="orders", authorization="yes"),
        "invalid-revocation-id": lambda: postern.Verifier([key.public_key], resource="orders", revoked=["ab"]),
    }
    for kind, ask in wrong.items():
        with pytest.raises(postern.PosternError) as caught:
            ask()
        assert caught.value.kind == kind and len(str(caught.value)) > 20, (kind, caught.value)
    for options in ({"leeway_seconds": -1}, {"leeway_seconds": 301}, {"budget": -1}, {"believed": "somebody"}):
        with pytest.raises(postern.PosternError, match=next(iter(options))) as caught:
            postern.Verifier.of_keys(str(key.public_key), resource="orders", **options)
        assert caught.value.kind == "invalid-option"
    for kind, ask in {
        "invalid-key": lambda: postern.Verifier([], resource="orders"),
        "invalid-url": lambda: postern.Verifier.of_gateway("gateway:7400", resource="orders"),
    }.items():
        with pytest.raises(postern.PosternError) as caught:
            ask()
        assert caught.value.kind == kind
    with pytest.raises(TypeError, match="time zone"):
        postern.mint(key, "orders", expires=datetime.datetime(2030, 1, 1))
    assert "private" not in repr(key) and key.to_secret_text() not in repr(key)


def test_reasons_and_leeway(key):
    other = postern.SigningKey.generate()
    now = 1_800_000_000
    token = postern.mint(key, "orders", expires=datetime.datetime.fromtimestamp(now, datetime.timezone.utc))
    strict = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    lenient = postern.Verifier.of_keys(str(key.public_key), resource="orders", leeway_seconds=30)
    ask = lambda verifier, t=token, at=now: verifier.verify(method="GET", target="/", headers=presented(t), now=at)  # noqa: E731
    assert ask(strict) and ask(lenient, at=now + 30)
    assert refused(lambda: ask(strict, at=now + 1)).kind == "expired"
    assert refused(lambda: ask(lenient, at=now + 31)).kind == "expired"
    assert refused(lambda: ask(strict, postern.mint(other, "orders"))).kind == "invalid-token"
    assert refused(lambda: ask(strict, postern.mint(key, "invoices"))).status == 404
    assert refused(lambda: strict.verify(method="GET", target="/", headers={})).kind == "missing-capability"
    assert refused(lambda: strict.verify(method="GET", target="/a/../b", headers=presented(token), now=now)).kind == "bad-path"
    strict.revoke([strict.verify(method="GET", target="/", headers=presented(token), now=now).revocation_ids[0]])
    assert refused(lambda: ask(strict, postern.attenuate(token, path="/"))).kind == "revoked"


def test_two_threads_verify_at_once(key):
    """With a switch interval of minutes, another thread runs only where the lock is let go: while a token is verified."""
    tokens = [postern.mint(key, "orders", path=f"/{n}") for n in range(200)]
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    gate, is_verifying, seen = threading.Lock(), [False], []

    def other():
        gate.acquire()
        seen.append(is_verifying[0])
        seen.append(verifier.verify(method="GET", target="/", headers=presented(own)).short_id)
        seen.append(is_verifying[0])

    own = postern.mint(key, "orders")
    gate.acquire()
    thread = threading.Thread(target=other)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(300)
    try:
        gate.release()
        assert not seen, "nothing has let go of the lock yet"
        for n, token in enumerate(tokens):
            is_verifying[0] = True
            verifier.verify(method="GET", target=f"/{n}", headers=presented(token))
            is_verifying[0] = False
        assert len(seen) == 3 and seen[0] is seen[2] is True, seen
    finally:
        sys.setswitchinterval(interval)
        thread.join()


class Document:
    """A server of key documents whose answer can be changed."""

    def __init__(self):
        self.body, self.status, self.fetched = b"[]", 200, 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.fetched += 1
                outer.may_answer.wait(20)
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, **keys):
        self.body = json.dumps([
            {"algorithm": "ed25519", "key_id": int(number[1:]), "key_bytes": str(key.public_key).removeprefix("ed25519/")}
            for number, key in keys.items()
        ]).encode()


@pytest.fixture
def document():
    document = Document()
    yield document
    document.server.shutdown()


def test_a_rotation_is_followed_without_a_restart(key, document):
    old, new, now = key, postern.SigningKey.generate(), [1000.0]
    document.publish(_1=old)
    source = postern.KeyDocument(document.url, clock=lambda: now[0])
    verifier = postern.Verifier(source, resource="orders")
    first, second = postern.mint(old, "orders", key_id=1), postern.mint(new, "orders", key_id=2)
    ask = lambda token: verifier.verify(method="GET", target="/", headers=presented(token))  # noqa: E731
    assert ask(first) and document.fetched == 1
    assert refused(lambda: ask(second)).kind == "unknown-key"
    assert document.fetched == 1, "invented numbers fetch nothing within the interval"
    document.publish(_1=old, _2=new)
    now[0] += 6
    assert ask(second) and ask(first) and document.fetched == 2
    document.publish(_2=new)
    now[0] += 61
    assert ask(second)
    assert refused(lambda: ask(first)).kind == "revoked"


def test_without_keys_nothing_is_verified(key, document):
    now = [1000.0]
    verifier = postern.Verifier(postern.KeyDocument(document.url, clock=lambda: now[0]), resource="orders")
    token = postern.mint(key, "orders")

    def kind():
        now[0] += 6
        with pytest.raises(postern.PosternError) as caught:
            verifier.verify(method="GET", target="/", headers=presented(token))
        return caught.value.kind, postern.Problem.of_error(caught.value).status

    for body in (b"[]", b"{", b"[1]", b'[{"algorithm":"secp256r1","key_id":1,"key_bytes":"02"}]', b"x" * 100_000):
        document.body = body
        kinds = kind()
        assert kinds[1] == 503 and kinds[0], body[:40]
    document.publish(_1=key)
    document.status = 500
    assert kind() == ("keys-unavailable", 503)
    fetched = document.fetched
    with pytest.raises(postern.PosternError):
        verifier.verify(method="GET", target="/", headers=presented(token))
    assert document.fetched == fetched, "who has just failed is not asked again at once"
    document.status = 200
    now[0] += 6
    assert verifier.verify(method="GET", target="/", headers=presented(token))
    for status, body in ((500, document.body), (200, b"[]")):
        document.status, document.body = status, body
        now[0] += 100
        assert verifier.verify(method="GET", target="/", headers=presented(token)), "the last good one serves for a while"
    now[0] += 1000
    assert kind() == ("bad-key-document", 503), "and then nothing does"


def test_an_event_loop_goes_on_while_keys_are_fetched(key, document):
    """Only the loop lets the document come: a loop that waited for it would wait until the fetch is given up."""
    now = [1000.0]
    source = postern.KeyDocument(document.url, clock=lambda: now[0], timeout_seconds=15)
    verifier = postern.Verifier(source, resource="orders")
    message: postern.Message = {"method": "GET", "target": "/", "headers": presented(postern.mint(key, "orders"))}
    document.publish(_1=key)

    async def fetched(begin):
        before = document.fetched
        document.may_answer.clear()
        begin()
        asked = [asyncio.create_task(verifier.verify_async(**message)) for _ in range(3)]
        asked.append(asyncio.create_task(verifier.needs_body_async(**message)))
        while document.fetched == before:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        document.may_answer.set()
        return await asyncio.gather(*asked)

    async def both():
        assert all((await fetched(lambda: None))[:3]), "there was no document yet"
        now[0] += 10_000
        other = threading.Thread(target=lambda: verifier.verify(**message))
        assert all((await fetched(other.start))[:3]), "it was too old, and another thread was fetching it"
        other.join()

    asyncio.run(both())
    assert document.fetched == 2


def test_a_websocket_is_verified_before_it_is_accepted(tmp_path, key):
    websockets = pytest.importorskip("websockets.sync.client")
    with python_service("asgi_service.py", tmp_path, str(key.public_key)) as service:
        url = service.url.replace("http", "ws") + "/chat"
        token = postern.mint(key, "orders", allow="GET")
        with websockets.connect(url, additional_headers=presented(token)) as socket:
            assert len(socket.recv()) == 8
        with pytest.raises(Exception, match="403|1008|401"):
            with websockets.connect(url, additional_headers=presented(postern.attenuate(token, no_upgrade=True))):
                pass


def test_a_flask_service_verifies_too(tmp_path, key):
    with python_service("wsgi_service.py", tmp_path, str(key.public_key)) as service:
        resource = service.url
        token = postern.mint(key, "orders", path="/a/**")
        with requests.Session() as session:
            session.auth = RequestsAuth(token, resource=resource)
            answer = session.get(f"{resource}/a/b?c=d")
            assert answer.status_code == 200 and answer.json()["path"] == "a/b"
            assert session.post(f"{resource}/a/b", data=b"body").json()["body"] == "body"
            refusal = session.get(f"{resource}/b")
            assert refusal.status_code == 403
            assert postern.Problem.of_response(refusal.headers, refusal.content).type == "not-permitted"
        assert requests.get(f"{resource}/a").json()["type"] == "missing-capability"


def test_each_request_carries_its_own_narrowed_token(recorder, key):
    token = postern.mint(key, "orders")
    resource = f"{recorder.url}/orders"

    async def ask():
        async with httpx.AsyncClient(auth=CapabilityAuth(token, resource=resource)) as client:
            await asyncio.gather(client.get(f"{resource}/1?a=b"), client.put(f"{resource}/2"))
            await client.get(f"{recorder.url}/elsewhere")
            await client.get(f"{recorder.url}/orders2")

    asyncio.run(ask())
    sent = {r.target: r.values("authorization") for r in recorder.requests}
    assert sent["/elsewhere"] == [] and sent["/orders2"] == [], "the token is for one resource"
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    tokens = {}
    for target, (value,) in ((t, v) for t, v in sent.items() if v):
        tokens[target] = value.decode() if isinstance(value, bytes) else value
    first = {"authorization": tokens["/orders/1?a=b"]}
    assert verifier.verify(method="GET", target="/1?a=b", headers=first)
    for method, target in (("PUT", "/1?a=b"), ("GET", "/1"), ("GET", "/2")):
        assert refused(lambda m=method, t=target: verifier.verify(method=m, target=t, headers=first)).status == 403
    late = int(time.time()) + 120
    assert refused(lambda: verifier.verify(method="GET", target="/1?a=b", headers=first, now=late)).kind == "expired"

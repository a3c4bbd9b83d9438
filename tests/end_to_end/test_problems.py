"""Refusals as callers read them: what happened, what to do next, and whether sending the message again is safe."""

import json

import httpx
import pytest

from harness.backend import Recorder, Scripted, answer, close_listener
from harness.gate import Gate
from harness.ports import free_port, until
from harness.wire import request

# What a caller does about it is said with one of these words.
ADVICE = ("send ", "present ", "ask ", "open ", "copy ", "correct", "check ", "use ", "hand out", "whoever", "again")


@pytest.fixture(scope="module")
def scene():
    """A gateway before services of every kind, most of them bad ones."""
    def closes(sock, head):
        pass

    def babbles(sock, head):
        sock.sendall(b"this is not HTTP\r\n\r\n")

    def sleeps(sock, head):
        # Until the gateway has lost its patience and closes.
        sock.recv(1)

    with Recorder() as service, Scripted(closes) as closing, Scripted(babbles) as babbling, Scripted(sleeps) as sleeping:
        resources = {
            "orders": {"upstream": service, "max_body": "1KiB"},
            "closing": closing, "babbling": babbling, "sleeping": sleeping,
            "down": f"http://127.0.0.1:{free_port()}",
        }
        with Gate(resources, limits={"upstream_response_timeout": "300ms"}) as gate:
            gate.service = service
            yield gate


def checked(answer, retry):
    """The problem, after what holds for each of them."""
    problem = answer.problem
    assert problem["retry"] == retry, problem
    detail = problem["detail"]
    assert detail[0].isupper() and detail.endswith((".", "?", "!")), detail
    assert any(word in detail.lower() for word in ADVICE), f"what to do next? {detail}"
    assert problem["status"] == answer.status
    return problem


def test_a_caveat_is_said_in_words_beside_its_text(scene):
    token = scene.attenuate(scene.mint("orders"), "--path", "/v1/orders/**", "--method", "GET")
    problem = checked(scene.get("/orders/v1/stock", token, method="POST", body=b"x"), "no")
    assert problem["type"] == "not-permitted"
    path, method = sorted(problem["caveats"], key=lambda caveat: "operation" in caveat["caveat"])
    assert path["words"] == "block 1 allows only the path /v1/orders/**; this message asks for /v1/stock"
    assert path["caveat"].startswith('check if path("/v1/orders")')
    assert method["words"] == "block 1 allows only GET; this message is a POST"
    assert all(caveat["words"] in problem["detail"].replace("Block", "block") for caveat in problem["caveats"]), problem


@pytest.mark.parametrize("flags, sent, words", [
    (["--host", "api.example.com"], {}, "allows messages only on the host api.example.com; this message is for localhost"),
    (["--client", "10.0.0.0/8"], {}, "allows messages only from 10.0.0.0/8; this message comes from 127.0.0.1"),
    (["--max-body", "3"], {"method": "POST", "body": b"four"}, "allows bodies of at most 3 bytes; this one has 4"),
    (["--query", "page=2"], {"target": "/orders/a?page=3"}, 'with the query parameter "page" being "2"'),
    (["--not-before", "10m"], {}, "allows messages only from 2"),
    (["--grpc", "shop.Orders/Get"], {}, "allows only the gRPC method shop.Orders/Get; this message is no gRPC call"),
    (["--client-cert", "0f" * 32], {}, "this message comes without a client certificate"),
])
def test_each_flag_has_words(scene, flags, sent, words):
    token = scene.attenuate(scene.mint("orders"), *flags)
    sent = dict(sent)
    problem = checked(scene.get(sent.pop("target", "/orders/a"), token, **sent), "no")
    assert words in problem["caveats"][0]["words"], problem


def test_a_check_without_words_is_shown_as_it_is(scene):
    token = scene.attenuate(scene.mint("orders"), "--check", 'check if path($p), $p.ends_with(".json")')
    problem = checked(scene.get("/orders/a", token), "no")
    assert "words" not in problem["caveats"][0] and 'ends_with(".json")' in problem["detail"]


def test_words_repeat_no_token(scene):
    token = scene.attenuate(scene.mint("orders"), "--path", "/a")
    answer = scene.get(f"/orders/{token}", token)
    assert answer.kind == "not-permitted"
    assert all(token[at : at + 16].encode() not in answer.body for at in range(0, len(token) - 16, 8))


def test_a_caller_is_told_whether_sending_it_again_is_safe(scene):
    token = scene.mint("orders", "closing", "babbling", "sleeping", "down")
    expected = {"down": ("upstream-unreachable", "safe"), "closing": ("upstream-closed", "unknown"),
                "babbling": ("upstream-nonsense", "unknown"), "sleeping": ("upstream-timeout", "unknown")}
    for name, (kind, retry) in expected.items():
        answer = scene.get(f"/{name}/a", token, method="POST", body=b"x")
        assert checked(answer, retry)["type"] == kind
        assert ("unknown" in answer.problem["detail"].lower()) == (retry == "unknown")


def test_what_the_caller_must_change_first_is_not_worth_sending_again(scene):
    token = scene.mint("orders")
    revoked = scene.mint("orders")
    scene.revoke(revoked)
    expired = scene.mint("orders", "--expires", "1s")
    until(lambda: scene.get("/orders/a", expired).status == 401, "it has expired")
    answers = {
        "missing-capability": scene.get("/orders/a"),
        "invalid-token": scene.get("/orders/a", "not a token"),
        "truncated-token": scene.get("/orders/a", token[:-20]),
        "revoked": scene.get("/orders/a", revoked),
        "expired": scene.get("/orders/a", expired),
        "not-found": scene.get("/nowhere/a", token),
        "bad-path": scene.get("/orders/a/../b", token),
        "body-too-large": scene.get("/orders/a", token, method="POST", body=b"x" * 2000),
        "two-tokens": scene.get("/orders/a", token, fields=[("Postern-Capability", token)]),
        "malformed-request": scene.once(request("GET", "/orders/a", token=token, fields=[("Host", "another")])),
    }
    for kind, answer in answers.items():
        assert checked(answer, "no")["type"] == kind
    length = scene.attenuate(token, "--max-body", "10")
    chunked = request("POST", "/orders/a", token=length, fields=[("Transfer-Encoding", "chunked")]) + b"1\r\nx\r\n0\r\n\r\n"
    assert checked(scene.once(chunked, to="POST"), "no")["type"] == "length-required"


def test_unknown_and_forbidden_resources_have_the_same_bytes(scene):
    token = scene.mint("orders")
    unknown, forbidden = scene.get("/nowhere/a", token), scene.get("/closing/a", token)
    assert unknown.status == 404 and unknown.body == forbidden.body


def test_a_right_to_another_operation_is_403_and_names_those_that_are_held(scene):
    """Once a 404, and its holder looked for a wrong address. A resource of which nothing is held stays a 404."""
    token = scene.mint("orders", "--allow", "GET,HEAD")
    answer = scene.get("/orders/a", token, method="DELETE")
    problem = checked(answer, "no")
    assert (answer.status, problem["type"]) == (403, "not-permitted")
    assert problem["detail"].startswith("The token holds no right to DELETE on orders, but to GET, HEAD.")
    assert 'error="insufficient_scope"' in answer.value("www-authenticate")
    # What the resource asks of a message goes before, and no body is taken for an operation that is not held.
    large = scene.get("/orders/a", token, method="POST", body=b"x" * 2000)
    assert checked(large, "no")["type"] == "body-too-large"
    assert scene.get("/closing/a", token, method="DELETE").status == 404
    with httpx.Client(http1=False, http2=True) as client:
        over_http2 = client.delete(f"{scene.url}/orders/a", headers={"authorization": f"Bearer {token}"})
    assert (over_http2.status_code, over_http2.json()) == (403, problem)


def test_http2_says_the_same(scene):
    token = scene.attenuate(scene.mint("orders"), "--path", "/b")
    with httpx.Client(http1=False, http2=True) as client:
        answer = client.get(f"{scene.url}/orders/a", headers={"authorization": f"Bearer {token}"})
    assert answer.http_version == "HTTP/2" and answer.status_code == 403
    one = scene.get("/orders/a", token).problem
    assert answer.json() == one and one["retry"] == "no"


def test_administration_says_it_too(scene):
    assert scene.admin("GET", "/nothing", token=scene.admin_token).problem["retry"] == "no"
    assert scene.admin("GET", "/status").problem["retry"] == "no"


def check(gate, token, *args):
    return gate.run("check", "-", *args, stdin=token)


def test_check_explains_what_lets_a_message_pass(scene):
    token = scene.attenuate(scene.mint("orders"), "--path", "/v1/**", "--expires", "10m")
    answer = check(scene, token, "--resource", "orders", "--path", "/v1/a")
    assert answer.code == 0 and 'the right is right("orders", "*")' in answer.out and "all 2 caveats let it pass" in answer.out
    shown = json.loads(check(scene, token, "--resource", "orders", "--path", "/v1/a", "--json").out)
    assert (shown["allowed"], shown["passed"], shown["right"]) == (True, 2, {"resource": "orders", "operation": "*"})


def test_check_explains_what_stops_a_message(scene):
    token = scene.attenuate(scene.mint("orders", "--allow", "GET"), "--path", "/v1/orders/**")
    answer = check(scene, token, "--resource", "orders", "--path", "/v1/stock")
    assert answer.code == 1
    assert "block 1 allows only the path /v1/orders/**; this message asks for /v1/stock" in answer.out
    assert "check if path" in answer.out and "Ask whoever narrowed the token" in answer.out
    shown = json.loads(check(scene, token, "--resource", "orders", "--path", "/v1/stock", "--json").out)
    assert shown["type"] == "not-permitted" and shown["advice"] and shown["caveats"][0]["words"] in shown["reason"]
    answer = check(scene, token, "--resource", "orders", "--method", "DELETE")
    assert answer.code == 1 and "no right to DELETE on orders, but to GET" in answer.out and "No attenuation adds a right" in answer.out
    assert "denied (not-permitted)" in answer.out
    answer = check(scene, token, "--resource", "stock")
    assert answer.code == 1 and "no right on stock, but on orders" in answer.out and "denied (not-found)" in answer.out


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_what_a_service_may_have_done_is_not_forgotten_over_a_second_attempt(http2):
    """A service took a message over a kept connection, closed it without a word, and then could not be connected to. That
    the second attempt sent nothing does not make it safe to do the message twice."""
    def respond(received):
        if received.target == "/last":
            close_listener(service.listener)
            return None
        return answer(body=b"fine")

    with Recorder(respond) as service, Gate({"orders": service}) as gate:
        with httpx.Client(http1=not http2, http2=http2, headers={"authorization": f"Bearer {gate.mint('orders')}"}) as client:
            assert client.get(f"{gate.url}/orders/first").text == "fine"
            for target, kind, retry in [("last", "upstream-closed", "unknown"), ("later", "upstream-unreachable", "safe")]:
                told = client.put(f"{gate.url}/orders/{target}", content=b"")
                problem = told.json()
                assert (told.status_code, problem["type"], problem["retry"]) == (502, kind, retry), problem
                assert ("unknown" in problem["detail"]) == (retry == "unknown")
        assert [received.target for received in service.requests] == ["/first", "/last"]

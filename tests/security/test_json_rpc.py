"""A token that lets an agent call one tool with one argument lets it do nothing else (laws 3 and 4): bodies that say it
twice, that other readers read otherwise, or that the headers contradict. Over both versions of HTTP."""

import gzip
import json

import httpx
import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import request

JSON = ("Content-Type", "application/json")


@pytest.fixture(scope="module")
def service():
    with Recorder() as service:
        yield service


@pytest.fixture(scope="module")
def gate(service):
    with Gate({"tools": service}, limits={"rpc_body_bytes_max": "4KiB", "body_stall_timeout": "2s"}) as gate:
        yield gate


@pytest.fixture(scope="module")
def token(gate):
    return gate.attenuate(gate.mint("tools"), "--tool", "search", "--arg", "index=public")


@pytest.fixture(scope="module", params=["1.1", "2"])
def client(request):
    with httpx.Client(http1=request.param == "1.1", http2=request.param == "2", timeout=20) as client:
        yield client


def call(arguments='{"index":"public"}', tool="search", method="tools/call", ident=1):
    return f'{{"jsonrpc":"2.0","id":{ident},"method":"{method}","params":{{"name":"{tool}","arguments":{arguments}}}}}'


GOOD = call()
PING = '{"jsonrpc":"2.0","id":2,"method":"ping"}'
RESPONSE = '{"jsonrpc":"2.0","id":3,"result":{}}'
HIDDEN = call(tool="delete")

ALLOWED = {
    "the call": GOOD,
    "white space": f" \r\n{GOOD}\n",
    "escapes": GOOD.replace("search", "\\u0073earch").replace('"method"', '"\\u006dethod"'),
    "a batch of it": f"[{GOOD},{PING},{call(ident=4)},{RESPONSE}]",
    "another order of members": '{"params":{"arguments":{"index":"public"},"name":"search"},"id":1,"method":"tools/call","jsonrpc":"2.0"}',
    "more arguments": call('{"index":"public","limit":1.5,"tags":["a",null],"x":{}}'),
    "what starts a session": '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{}}}',
    "a response": RESPONSE,
}

# What is stopped by a caveat: the message is read without doubt, and is another one.
STOPPED = {
    "another tool": HIDDEN,
    "another argument": call('{"index":"secret"}'),
    "no argument": call("{}"),
    "null for the argument": call('{"index":null}'),
    "a list for the argument": call('{"index":["public"]}'),
    "an object for the argument": call('{"index":{"index":"public"}}'),
    "the argument one level down": call('{"x":{"index":"public"}}'),
    "the argument with another case": call('{"Index":"public"}'),
    "the argument beside the arguments": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","index":"public"}}',
    "the tool with a space": call(tool="search "),
    "the tool with another case": call(tool="Search"),
    "another method": call(method="tools/run"),
    "the method with another case": call(method="Tools/Call"),
    "no tool": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"index":"public"}}}',
    "a tool that is no text": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":["search"],"arguments":{"index":"public"}}}',
    "parameters by position": '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["search",{"index":"public"}]}',
    "a notification": call(tool="delete").replace('"id":1,', ""),
    "a second call in a batch": f"[{GOOD},{HIDDEN}]",
    "a first call in a batch": f"[{HIDDEN},{GOOD}]",
    "a call among responses": f"[{RESPONSE},{HIDDEN},{PING}]",
}

# What two readers could read differently.
AMBIGUOUS = {
    "the tool twice": GOOD.replace('"name":"search"', '"name":"search","name":"delete"'),
    "the tool twice, one escaped": GOOD.replace('"name":"search"', '"name":"search","n\\u0061me":"delete"'),
    "the method twice": GOOD.replace('"method":"tools/call"', '"method":"ping","method":"tools/call"'),
    "the parameters twice": GOOD[:-1] + ',"params":{"name":"delete","arguments":{}}}',
    "the arguments twice": GOOD.replace('"arguments"', '"arguments":{"index":"secret"},"arguments"'),
    "the argument twice": call('{"index":"public","index":"secret"}'),
    "the argument in two cases": call('{"index":"public","INDEX":"secret"}'),
    "the argument in two cases of Unicode": call('{"kind":1,"\u212aind":2,"index":"public"}'),
    "parameters in two cases": GOOD[:-1] + ',"Params":{"name":"delete"}}',
    "parameters in another case": GOOD.replace('"params"', '"Params"'),
    "a method in another case": '{"jsonrpc":"2.0","id":1,"Method":"tools/call","result":{}}',
    "a call that is a response": GOOD[:-1] + ',"result":{}}',
    "a response with an error": RESPONSE[:-1] + ',"error":{}}',
    "an empty method": '{"jsonrpc":"2.0","id":1,"method":""}',
    "no version": GOOD.replace('"jsonrpc":"2.0",', ""),
    "two documents": GOOD + HIDDEN,
    "two lines": GOOD + "\n" + HIDDEN,
    "trailing text": GOOD + "x",
    "a byte order mark": "\ufeff" + GOOD,
    "UTF-16": GOOD.encode("utf-16"),
    "Latin-1": call('{"index":"public","x":"é"}').encode("latin-1"),
    "a lone surrogate": call('{"index":"public","x":"\\ud800"}'),
    "a null character in a name": call('{"index":"public","index\\u0000":"secret"}'),
    "a null character in a text": call(tool="search\\u0000"),
    "a comment": call('{"index":"public"/*,"index":"secret"*/}'),
    "single quotes": GOOD.replace('"', "'"),
    "a trailing comma": call('{"index":"public",}'),
    "NaN": call('{"index":"public","x":NaN}'),
    "deep nesting": call('{"index":"public","x":' + "[" * 100 + "]" * 100 + "}"),
    "an empty batch": "[]",
    "a batch in a batch": f"[[{GOOD}]]",
    "too many calls": "[" + ",".join([PING] * 65) + "]",
    "a text": '"tools/call"',
    "nothing but white space": "  ",
}


def post(gate, client, token, body, fields=(JSON,)):
    body = body if isinstance(body, bytes) else body.encode()
    headers = [("Authorization", f"Bearer {token}"), *fields]
    return client.post(f"{gate.url}/tools/mcp", content=body, headers=headers)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_permitted_arrives_byte_for_byte(gate, service, client, token, name):
    service.clear()
    assert post(gate, client, token, ALLOWED[name]).status_code == 200
    assert [received.body for received in service.requests] == [ALLOWED[name].encode()]
    assert service.requests[0].value("content-length") == str(len(ALLOWED[name].encode()))


@pytest.mark.parametrize("name", STOPPED)
def test_what_is_another_message_is_stopped_by_the_caveat(gate, service, client, token, name):
    service.clear()
    answer = post(gate, client, token, STOPPED[name])
    sent = json.loads(STOPPED[name])
    waiting = [call["id"] for call in (sent if isinstance(sent, list) else [sent]) if "id" in call and "method" in call]
    # Whoever waits for an answer gets the error of its call; of what nobody waits for the status says it.
    assert answer.status_code == (200 if waiting else 403), answer.text
    assert "www-authenticate" not in answer.headers and answer.headers["cache-control"] == "no-store"
    said = answer.json()
    assert [error["id"] for error in (said if isinstance(said, list) else [said])] == (waiting or [None])
    for error in said if isinstance(said, list) else [said]:
        assert (error["jsonrpc"], error["error"]["code"]) == ("2.0", 403)
        assert (error["error"]["data"]["type"], error["error"]["data"]["status"]) == ("not-permitted", 403)
        assert error["error"]["message"]
    assert (said[0] if isinstance(said, list) else said)["error"]["data"]["caveats"], answer.text
    assert service.requests == []


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(gate, service, client, token, name):
    service.clear()
    answer = post(gate, client, token, AMBIGUOUS[name])
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-body"), answer.text
    assert answer.json()["detail"].startswith("A caveat of the token reads the body, and "), answer.text
    assert service.requests == []


@pytest.mark.parametrize(
    "fields",
    [
        [JSON, ("Content-Encoding", "gzip")],
        [JSON, ("Content-Encoding", "identity")],
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/json; charset=utf-7")],
        [("Content-Type", "application/json; charset=utf-16")],
        [JSON, JSON],
        [],
        [JSON, ("Mcp-Method", "ping")],
        [JSON, ("Mcp-Method", "tools/call"), ("Mcp-Name", "delete")],
        [JSON, ("Mcp-Name", "search"), ("Mcp-Name", "delete")],
        [JSON, ("Mcp-Name", "=?base64?ZGVsZXRl?=")],
        [JSON, ("mcp-method", "TOOLS/CALL")],
        [JSON, ("Mcp-Param-Index", "secret")],
    ],
    ids=lambda fields: ", ".join(f"{name}={value}" for name, value in fields) or "none",
)
def test_headers_that_make_it_another_body_are_refused(gate, service, client, token, fields):
    service.clear()
    body = gzip.compress(GOOD.encode()) if ("Content-Encoding", "gzip") in fields else GOOD
    answer = post(gate, client, token, body, fields)
    assert (answer.status_code, answer.json()["type"]) == (400, "bad-body"), answer.text
    assert service.requests == []


def test_headers_that_repeat_the_body_pass(gate, service, client, token):
    service.clear()
    fields = [JSON, ("Mcp-Method", "tools/call"), ("Mcp-Name", "search"), ("Mcp-Session-Id", "s"), ("MCP-Protocol-Version", "2025-11-25")]
    assert post(gate, client, token, GOOD, fields).status_code == 200
    assert service.requests[0].value("mcp-session-id") == "s"
    assert service.requests[0].value("mcp-name") == "search"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS"])
def test_a_body_that_no_server_reads_says_nothing(gate, service, client, token, method):
    """A ping behind a GET passed for what keeps a session alive, while an MCP server reads the GET alone."""
    pings = gate.attenuate(gate.mint("tools"), "--rpc", "ping")
    for presented in (token, pings):
        for body in (PING, GOOD):
            answer = client.request(
                method, f"{gate.url}/tools/mcp", content=body,
                headers={"Authorization": f"Bearer {presented}", "Content-Type": "application/json"})
            only_posts = method in ("GET", "DELETE")
            assert (answer.status_code, answer.json()["type"]) == (405 if only_posts else 403, "not-permitted"), answer.text
            assert answer.headers.get("allow") == ("POST" if only_posts else None)
    assert service.requests == []


def test_a_body_that_is_too_long_to_read_is_a_413_with_a_right_and_not_without(gate, service, client, token):
    service.clear()
    long = call(json.dumps({"index": "public", "x": "y" * 5000}))
    answer = post(gate, client, token, long)
    assert (answer.status_code, answer.json()["type"]) == (413, "body-too-large")
    other = gate.mint("elsewhere", "--tool", "search")
    assert post(gate, client, other, long).status_code == 404
    assert service.requests == []


def test_what_a_caveat_stops_anyway_is_refused_before_the_body_is_read(gate, service):
    """The body is announced and never sent: the answer does not wait for it."""
    token = gate.mint("tools", "--tool", "search", "--path", "/other")
    with gate.wire() as wire:
        wire.send(request("POST", "/tools/mcp", token=token, fields=[JSON, ("Content-Length", "100")]))
        answer = wire.answer("POST")
    assert (answer.status, answer.problem["type"]) == (403, "not-permitted")
    assert "path" in answer.problem["detail"]


def test_a_revocation_while_the_body_comes_stops_the_message(gate, service):
    service.clear()
    token = gate.attenuate(gate.mint("tools"), "--tool", "search")
    with gate.wire() as wire:
        wire.send(request("POST", "/tools/mcp", token=token, fields=[JSON, ("Content-Length", str(len(GOOD)))]))
        wire.send(GOOD[:20].encode())
        gate.revoke(token)
        wire.send_as_accepted(GOOD[20:].encode())
        answer = wire.answer("POST")
    assert (answer.status, answer.problem["type"]) == (401, "revoked")
    assert service.requests == []


def test_a_body_that_stalls_is_a_408(gate, service, token):
    service.clear()
    with gate.wire() as wire:
        wire.send(request("POST", "/tools/mcp", token=token, fields=[JSON, ("Content-Length", "100")]) + GOOD[:10].encode())
        assert wire.answer("POST").status == 408
    assert service.requests == []


def test_a_body_in_chunks_goes_up_as_one_and_trailers_are_refused(gate, service, token):
    service.clear()
    head = request("POST", "/tools/mcp", token=token, fields=[JSON, ("Transfer-Encoding", "chunked")])
    chunks = "".join(f"{len(part):x}\r\n{part}\r\n" for part in (GOOD[:7], GOOD[7:])).encode()
    with gate.wire() as wire:
        assert wire.send(head + chunks + b"0\r\n\r\n").answer("POST").status == 200
        assert wire.send(head + chunks + b"0\r\nMcp-Name: delete\r\n\r\n").answer("POST").status == 400
    (received,) = service.requests
    assert received.body == GOOD.encode() and received.value("transfer-encoding") is None


def test_a_client_that_waits_is_told_to_send(gate, service, token):
    service.clear()
    fields = [JSON, ("Content-Length", str(len(GOOD))), ("Expect", "100-continue")]
    with gate.wire() as wire:
        wire.send(request("POST", "/tools/mcp", token=token, fields=fields))
        assert wire.head().status == 100
        answer = wire.send(GOOD.encode()).answer("POST")
        assert (answer.status, answer.informational) == (200, [])
    assert service.requests[0].value("expect") is None


def test_arguments_that_no_fact_can_say_do_not_slip_past_a_caveat_on_all_of_them(gate, service, client):
    token = gate.mint("tools", "--check", 'check all arg($name, $value), {"index", "query"}.contains($name)')
    assert post(gate, client, token, call('{"index":"a","query":"b"}')).status_code == 200
    for more in ("1.5", "null", "{}", "[]", "9007199254740993"):
        answer = post(gate, client, token, call(f'{{"index":"a","force":{more}}}'))
        assert (answer.status_code, answer.json()["error"]["data"]["type"]) == (200, "not-permitted"), more
    assert post(gate, client, token, call('{"index":"a","force":true}')).json()["error"]["code"] == 403


def test_a_name_that_looks_like_a_pointer_is_none(gate, service, client):
    token = gate.mint("tools", "--arg", "/filter/owner=7")
    assert post(gate, client, token, call('{"filter":{"owner":7}}')).status_code == 200
    for other in ('{"/filter/owner":7}', '{"filter":{"owner":8},"/filter/owner":7}'):
        assert post(gate, client, token, call(other)).json()["error"]["code"] == 403

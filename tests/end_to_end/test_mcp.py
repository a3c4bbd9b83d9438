"""The Model Context Protocol through the gateway: the official SDK's client, its server, and the reference server."""

import gzip
import json

import httpx
import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.mcp_peers import EVERYTHING, EverythingServer, McpServer, in_session
from harness.ports import until

MCP_FIELDS = [
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = McpServer(tmp_path_factory.mktemp("mcp"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def plain_server(tmp_path_factory):
    server = McpServer(tmp_path_factory.mktemp("mcp"), "json")
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[(), ("json",)], ids=["events", "json"])
def http2_server(request, tmp_path_factory):
    """The same on hypercorn, reached over HTTP/2 in clear text."""
    server = McpServer(tmp_path_factory.mktemp("mcp"), "h2c", *request.param)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gate(server, plain_server):
    resources = {
        "tools": server.url,
        "plain": plain_server.url,
        "hidden": {"upstream": server.url, "filter_tools": True},
        "hidden-plain": {"upstream": plain_server.url, "filter_tools": True},
        "mcp": {"upstream": server.url, "mcp": True},
    }
    with Gate(resources) as gate:
        yield gate


@pytest.fixture(scope="module")
def full(gate):
    return gate.mint("tools", "plain", "hidden", "hidden-plain", "mcp")


@pytest.fixture(scope="module")
def narrow(gate, full):
    """One tool, with one argument."""
    return gate.attenuate(full, "--tool", "search", "--arg", "index=public")


def new_calls(server, work):
    before = len(server.calls)
    result = work()
    return result, server.calls[before:]


async def names(client):
    return sorted(tool.name for tool in (await client.list_tools()).tools)


async def called(client, tool, arguments):
    """What a call came to: its text, or the error that the SDK raised."""
    try:
        result = await client.call_tool(tool, arguments)
    except Exception as error:  # The SDK's own, whatever its class.
        return error
    return result.content[0].text


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("resource", ["tools", "plain"])
def test_a_narrowed_token_calls_one_tool_with_one_argument(gate, narrow, server, plain_server, resource, mode, http2):
    async def work(client):
        return (
            await names(client),
            await called(client, "search", {"index": "public", "query": "x"}),
            await called(client, "search", {"index": "secret", "query": "x"}),
            await called(client, "search", {"query": "x"}),
            await called(client, "delete", {"index": "public"}),
            await called(client, "search", {"query": "y", "limit": 3, "index": "public"}),
        )

    upstream = server if resource == "tools" else plain_server
    done, calls = new_calls(upstream, lambda: in_session(f"{gate.url}/{resource}/mcp", narrow, work, mode=mode, http2=http2))
    listed, good, other, missing, deleting, again = done
    assert listed == ["delete", "search"], "answers are left alone"
    assert (good, again) == ("found x in public", "found y in public")
    # The refusal's own words reach the agent, not that the server returned an error.
    for refused in (other, missing):
        assert isinstance(refused, Exception) and 'messages only with the argument "index"' in str(refused), done
    assert 'only the tool "search"' in str(deleting) and 'calls the tool "delete"' in str(deleting), done
    assert calls == ["search public x", "search public y"]


def test_a_token_without_such_caveats_calls_everything(gate, full, server):
    async def work(client):
        return await names(client), await called(client, "delete", {"index": "secret"})

    done, calls = new_calls(server, lambda: in_session(f"{gate.url}/tools/mcp", full, work))
    assert done == (["delete", "search"], "deleted secret")
    assert calls == ["delete secret"]


def body_of(method, params=None, ident=1):
    call = {"jsonrpc": "2.0", "id": ident, "method": method}
    return json.dumps({**call, "params": params} if params is not None else call).encode()


def post(gate, token, body, fields=(), resource="tools"):
    return gate.get(f"/{resource}/mcp", token, "POST", fields=[*MCP_FIELDS, *fields], body=body)


def of_call(answer, status, ident=1, code=None):
    """The problem inside the error of a call."""
    assert (answer.status, answer.value("content-type")) == (status, "application/json"), answer.body
    said = json.loads(answer.body)
    error = said.pop("error")
    assert said == {"jsonrpc": "2.0", "id": ident}
    problem = error.pop("data")
    code = code or status
    assert error == {"code": code, "message": problem["detail"]} and problem["status"] == code
    return problem


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_refusal_is_in_the_form_that_its_caller_reads(gate, full, narrow, http2):
    """Who calls gets the error of its call. Who may not even be asked for its body gets a problem, unless it reads none."""
    deleting = body_of("tools/call", {"name": "delete", "arguments": {"index": "public"}}, ident="a-7")
    elsewhere = gate.attenuate(full, "--path", "/elsewhere")
    with httpx.Client(http1=not http2, http2=http2, headers={"Content-Type": "application/json"}) as client:

        def ask(token, accept, body=deleting, method="POST", resource="tools"):
            fields = {"Authorization": f"Bearer {token}", "Accept": accept}
            return client.request(method, f"{gate.url}/{resource}/mcp", content=body, headers=fields)

        both = "application/json, text/event-stream"
        accepts = ("application/problem+json", "*/*", "application/json", both)
        # A caveat that speaks of calls stops it, or the resource says what its callers are.
        for token, resource in ((narrow, "tools"), (narrow, "mcp"), (elsewhere, "mcp"), (elsewhere, "hidden")):
            for accept in accepts:
                refused = ask(token, accept, resource=resource)
                assert (refused.status_code, refused.headers["content-type"]) == (200, "application/json"), refused.text
                said = refused.json()
                assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", "a-7", 403)
                data = said["error"]["data"]
                assert (data["type"], data["status"], data["detail"]) == ("not-permitted", 403, said["error"]["message"])
                assert "www-authenticate" not in refused.headers and refused.headers["cache-control"] == "no-store"
        # Refused before anybody read the body, and for what the token is.
        for token, status in ((elsewhere, 403), ("AAAA", 401), (gate.mint("other"), 404)):
            said = ask(token, both)
            assert (said.status_code, said.json()["id"], said.json()["error"]["code"]) == (status, None, status), said.text
            problem = ask(token, "*/*")
            assert said.json()["error"]["data"] == problem.json()
            assert problem.headers["content-type"] == "application/problem+json"
            assert ("www-authenticate" in said.headers) == (status == 401)
        batch = ask(narrow, both, b"[" + deleting + b"," + body_of("ping") + b"]")
        assert (batch.status_code, [error["id"] for error in batch.json()]) == (200, ["a-7", 1])
        # Of what nobody waits for, a status has to say it.
        for silent in (b'{"jsonrpc":"2.0","method":"notifications/x"}', b'[{"jsonrpc":"2.0","method":"notifications/x"}]'):
            refused = ask(narrow, both, silent)
            assert (refused.status_code, refused.json()["id"]) == (403, None)
            assert "www-authenticate" not in refused.headers
        response = ask(elsewhere, both, b'{"jsonrpc":"2.0","id":3,"result":{}}', resource="mcp")
        assert (response.status_code, "www-authenticate" in response.headers) == (403, False)


def test_a_refused_call_is_logged_as_what_it_is(gate, narrow):
    def refusals():
        lines = [json.loads(line) for line in gate.log.splitlines() if line.startswith("{")]
        lines = [line for line in lines if line.get("decision") == "not-permitted" and line["operation"] == "POST"]
        return [(line["status"], line["resource"]) for line in lines]

    def counted():
        lines = [line for line in gate.metrics().splitlines() if line.startswith("postern_decisions_total{")]
        return sum(float(line.split()[-1]) for line in lines if 'resource="mcp"' in line and '"not-permitted"' in line)

    before, counted_before = len(refusals()), counted()
    answer = post(gate, narrow, body_of("tools/call", {"name": "delete", "arguments": {"index": "public"}}), resource="mcp")
    assert answer.status == 200
    until(lambda: len(refusals()) > before, "the refusal is logged")
    assert refusals()[-1] == (403, "mcp")
    until(lambda: counted() > counted_before, "the refusal is counted")


def test_a_refusal_tells_the_caller_what_to_change(gate, narrow):
    answer = post(gate, narrow, body_of("tools/call", {"name": "delete", "arguments": {"index": "public"}}))
    problem = of_call(answer, 200, code=403)
    assert problem["type"] == "not-permitted"
    assert 'only the tool "search"' in problem["detail"] and 'calls the tool "delete"' in problem["detail"], problem
    answer = post(gate, narrow, b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","name":"delete"}}')
    problem = of_call(answer, 400, ident=1)
    assert problem["type"] == "bad-body"
    assert problem["detail"].startswith('A caveat of the token reads the body, and an object in it has two members "name".')


def test_a_message_without_a_body_is_no_call(gate, narrow):
    """The stream that older clients open with GET, and the DELETE that ends their session: the SDK does without."""
    for method in ("GET", "DELETE"):
        answer = gate.get("/tools/mcp", narrow, method, fields=[("Accept", "text/event-stream")])
        assert (answer.status, answer.value("allow"), answer.value("www-authenticate")) == (405, "POST", None), method
        problem = json.loads(answer.body)
        assert problem["type"] == "not-permitted"
        assert f"this message is a {method}, and a token narrowed to a tool only posts" in problem["detail"], problem


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("resource", ["hidden", "hidden-plain"])
def test_tools_that_cannot_be_called_are_hidden_where_a_resource_says_so(gate, full, narrow, resource, mode, http2):
    url = f"{gate.url}/{resource}/mcp"

    async def work(client):
        return await names(client), await called(client, "search", {"index": "public", "query": "x"})

    assert in_session(url, narrow, work, mode=mode, http2=http2) == (["search"], "found x in public")
    assert in_session(url, full, names, mode=mode, http2=http2) == ["delete", "search"], "nothing is decided by the body"


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_tools_are_hidden_behind_http2_too(http2_server, http2):
    with Gate({"tools": {"upstream": http2_server.url, "filter_tools": True}}) as gate:
        full = gate.mint("tools")
        narrow = gate.attenuate(full, "--tool", "search")

        async def work(client):
            return await names(client), await called(client, "search", {"index": "a", "query": "x"}), await called(client, "delete", {"index": "a"})

        for _ in range(2):
            url = f"{gate.url}/tools/mcp"
            (listed, found, refused), calls = new_calls(http2_server, lambda: in_session(url, narrow, work, http2=http2))
            assert (listed, found, calls) == (["search"], "found x in a", ["search a x"]) and isinstance(refused, Exception)
            assert in_session(url, full, names, http2=http2) == ["delete", "search"]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_an_answer_that_cannot_be_filtered_is_not_passed_on(http2):
    """A service that codes its answer although it was not asked to, and one whose list is longer than what is held."""
    tools = ",".join(f'{{"name":"tool{number}"}}' for number in range(500)).encode()
    listed = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[' + tools + b"]}}"
    coded = answer(200, gzip.compress(listed), [("Content-Type", "application/json"), ("Content-Encoding", "gzip")])
    event = answer(200, b"data: " + listed + b"\n\n", [("Content-Type", "text/event-stream")])
    with Recorder() as service, Gate(
        {"tools": {"upstream": service, "filter_tools": True}}, limits={"rpc_answer_bytes_max": "4KiB"}
    ) as gate:
        token = gate.mint("tools", "--tool", "search")
        with httpx.Client(http1=not http2, http2=http2, headers={"Authorization": f"Bearer {token}"}) as client:

            def ask():
                fields = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
                return client.post(f"{gate.url}/tools/mcp", content=body_of("tools/list"), headers=fields)

            for script in (coded, answer(200, listed, [("Content-Type", "application/json")])):
                service.respond = lambda _: script
                refused = ask()
                problem = refused.json()["error"]["data"]
                assert (refused.status_code, problem["type"]) == (502, "upstream-nonsense"), refused.text
                assert "list of tools" in problem["detail"]
            assert all(received.value("accept-encoding") is None for received in service.requests)
            service.respond = lambda _: event
            try:
                assert ask().status_code == 502
            except httpx.RemoteProtocolError:
                pass  # Broken off where its head was out already: nobody takes it for whole.


ANSWER_FIELDS = [
    ("Content-Type", "application/json-rpc"),
    ("Cache-Control", "public, max-age=60, s-maxage=600"),
    ("Content-Location", "/mcp/tools"),
    ("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT"),
]


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_list_is_filtered_by_what_was_asked_and_kept_by_nobody_else(http2):
    """Whatever id and media type the server answers with: clients took the whole list for theirs."""
    result = {"ttlMs": 60000, "cacheScope": "public", "tools": [{"name": "delete"}, {"name": "search"}]}
    with Recorder() as service, Gate({"tools": {"upstream": service, "filter_tools": True}}) as gate:
        token = gate.mint("tools", "--tool", "search")
        with httpx.Client(http1=not http2, http2=http2, headers={"Authorization": f"Bearer {token}"}) as client:
            for ident in (1, 1.0, "1", None, True, 99):
                listed = {"jsonrpc": "2.0", "id": ident, "result": result}
                for answered, body in ((listed, body_of("tools/list", ident="1")), ([listed], b"[" + body_of("tools/list") + b"]")):
                    service.respond = lambda _: answer(200, json.dumps(answered).encode(), ANSWER_FIELDS)
                    got = client.post(f"{gate.url}/tools/mcp", content=body, headers={"Content-Type": "application/json"})
                    seen = got.json()[0] if isinstance(got.json(), list) else got.json()
                    assert seen["id"] == ident
                    assert seen["result"] == {"ttlMs": 60000, "cacheScope": "private", "tools": [{"name": "search"}]}
                    assert got.headers["cache-control"] == "private, max-age=60"
                    assert "content-location" not in got.headers and "last-modified" not in got.headers


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_the_last_event_of_a_call_is_its_error(http2):
    """Clients read no event but `message`: `revoked` left them waiting for an answer that could not come any more."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = b'data: {"jsonrpc":"2.0","method":"notifications/progress"}\n\n'

    def begin(_):
        return head + b"%x\r\n%s\r\n" % (len(first), first)

    with Recorder() as service, Gate({"tools": {"upstream": service, "mcp": True}, "other": service}) as gate:
        service.respond = begin
        accept = {"Accept": "application/json, text/event-stream"}
        for resource, flags, more in (("tools", [], {}), ("other", ["--tool", "search"], accept)):
            token = gate.mint(resource, *flags)
            for body, idents in (
                (body_of("tools/call", {"name": "search"}, ident="a"), ["a"]),
                (b"[" + body_of("ping", ident=1) + b"," + body_of("ping", ident=2) + b"]", [1, 2]),
            ):
                this = gate.attenuate(token, "--path", "/mcp")
                fields = {"Authorization": f"Bearer {this}", "Content-Type": "application/json", **more}
                with httpx.Client(http1=not http2, http2=http2, headers=fields, timeout=20) as client:
                    with client.stream("POST", f"{gate.url}/{resource}/mcp", content=body) as got:
                        stretches = got.iter_text()
                        said = next(stretches)
                        gate.revoke(this)
                        said += "".join(stretches)
                events = said.removeprefix(first.decode()).strip().split("\n\n")
                assert [event.split("\n")[0] for event in events] == ["event: message"] * len(idents), said
                errors = [json.loads(event.split("\n")[1].removeprefix("data: ")) for event in events]
                assert [error["id"] for error in errors] == idents
                assert all(error["error"]["data"]["type"] == "revoked" for error in errors)


@pytest.mark.skipif(not EVERYTHING.exists(), reason="the npm packages are not installed: tests/run setup")
def test_the_reference_server_of_npm():
    everything = EverythingServer()
    try:
        with Gate({"every": everything.url}) as gate:
            full = gate.mint("every")
            token = gate.attenuate(full, "--tool", "echo", "--arg", "message=hello")

            async def work(client):
                return (
                    await names(client),
                    await called(client, "echo", {"message": "hello"}),
                    await called(client, "echo", {"message": "other"}),
                    await called(client, "get-sum", {"a": 1, "b": 2}),
                )

            listed, good, other, sum_of = in_session(f"{gate.url}/every/mcp", token, work)
            assert "echo" in listed and "get-sum" in listed
            assert good == "Echo: hello"
            assert isinstance(other, Exception) and isinstance(sum_of, Exception)
            everyone = in_session(f"{gate.url}/every/mcp", full, lambda client: called(client, "get-sum", {"a": 1, "b": 2}))
            assert "3" in everyone
    finally:
        everything.stop()

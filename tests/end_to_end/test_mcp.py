"""The Model Context Protocol through the gateway: the official SDK's client, its server, and the reference server."""

import gzip
import json

import httpx
import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.mcp_peers import EVERYTHING, EverythingServer, McpServer, in_session

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
    }
    with Gate(resources) as gate:
        yield gate


@pytest.fixture(scope="module")
def full(gate):
    return gate.mint("tools", "plain", "hidden", "hidden-plain")


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


def of_call(answer, status, ident=1):
    """The problem inside the error of a call."""
    assert (answer.status, answer.value("content-type")) == (status, "application/json"), answer.body
    said = json.loads(answer.body)
    error = said.pop("error")
    assert said == {"jsonrpc": "2.0", "id": ident}
    problem = error.pop("data")
    assert error == {"code": status, "message": problem["detail"]} and problem["status"] == status
    return problem


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_refusal_is_in_the_form_that_its_caller_reads(gate, full, narrow, http2):
    """Clients of this protocol accept JSON and events alone; whoever takes a problem, or anything, gets that."""
    deleting = body_of("tools/call", {"name": "delete", "arguments": {"index": "public"}}, ident="a-7")
    elsewhere = gate.attenuate(full, "--path", "/elsewhere")
    with httpx.Client(http1=not http2, http2=http2, headers={"Content-Type": "application/json"}) as client:

        def ask(token, accept, body=deleting, method="POST"):
            fields = {"Authorization": f"Bearer {token}", "Accept": accept}
            return client.request(method, f"{gate.url}/tools/mcp", content=body, headers=fields)

        both = "application/json, text/event-stream"
        for accept in ("application/problem+json", "*/*", "application/json, */*", f"{both}, application/problem+json"):
            problem = ask(narrow, accept)
            assert (problem.status_code, problem.headers["content-type"]) == (403, "application/problem+json"), accept
        for accept in (both, "application/json"):
            refused = ask(narrow, accept)
            assert (refused.status_code, refused.headers["content-type"]) == (403, "application/json"), accept
            said = refused.json()
            assert (said["jsonrpc"], said["id"], said["error"]["code"]) == ("2.0", "a-7", 403)
            assert said["error"]["message"] == problem.json()["detail"] and said["error"]["data"] == problem.json()
            assert refused.headers["www-authenticate"] == problem.headers["www-authenticate"]
        # Refused before anybody read the body, and for what the token is.
        for token, status in ((elsewhere, 403), ("AAAA", 401), (gate.mint("other"), 404)):
            said = ask(token, both)
            assert (said.status_code, said.json()["id"], said.json()["error"]["code"]) == (status, None, status), said.text
            assert said.json()["error"]["data"] == ask(token, "*/*").json()
        batch = ask(narrow, both, b"[" + deleting + b"]")
        assert (batch.status_code, batch.json()["id"]) == (403, None)
        getting = ask(narrow, both, None, "GET")
        assert (getting.status_code, getting.headers["content-type"]) == (403, "application/problem+json")


def test_a_refusal_tells_the_caller_what_to_change(gate, narrow):
    answer = post(gate, narrow, body_of("tools/call", {"name": "delete", "arguments": {"index": "public"}}))
    problem = of_call(answer, 403)
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
        assert answer.status == 403, method
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
                assert (refused.status_code, refused.json()["type"]) == (502, "upstream-nonsense"), refused.text
                assert "list of tools" in refused.json()["detail"]
            assert all(received.value("accept-encoding") is None for received in service.requests)
            service.respond = lambda _: event
            try:
                assert ask().status_code == 502
            except httpx.RemoteProtocolError:
                pass  # Broken off where its head was out already: nobody takes it for whole.


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

"""A client of the official Python SDK, 2.x, as a program: says in one line of JSON what became of each step.

    python mcp_client_2x.py SCENARIO URL [TOKEN]
    python mcp_client_2x.py SCENARIO --through COMMAND…

With `--through` it speaks to a program over its standard streams, which speaks to the server.
"""

import json
import sys

import anyio
import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import RootsListChangedNotification, jsonrpc_message_adapter

scenario, *arguments = sys.argv[1:]


def words(error):
    """Whatever an error says, also where it is a group of others."""
    inner = getattr(error, "exceptions", None)
    return "; ".join(map(words, inner)) if inner else f"{type(error).__name__}: {error}"


async def step(work):
    try:
        with anyio.fail_after(20):
            result = await work
    except Exception as error:
        return words(error)
    content = getattr(result, "content", None)
    return content[0].text if content else "done"


def http():
    url, *token = arguments
    fields = {"Authorization": f"Bearer {token[0]}"} if token else {}
    return url, httpx2.AsyncClient(headers=fields, timeout=20)


async def in_session(work):
    said = {}
    try:
        if arguments[0] == "--through":
            command, *rest = arguments[1:]
            transport = stdio_client(StdioServerParameters(command=command, args=rest))
            said = await with_client(transport, work)
        else:
            url, client = http()
            async with client:
                said = await with_client(streamable_http_client(url, http_client=client), work)
    except Exception as error:
        said["ended"] = words(error)
    return said


async def with_client(transport, work):
    said = {}
    try:
        with anyio.fail_after(60):
            async with Client(transport, mode="legacy", cache=None) as client:
                said["begun"] = "done"
                await work(client, said)
    except Exception as error:
        said["ended"] = words(error)
    return said


async def calls(client, said):
    said["refused"] = await step(client.call_tool("delete", {"index": "a"}))
    said["good"] = await step(client.call_tool("search", {"index": "a", "query": "x"}))


async def notification(client, said):
    said["notified"] = await step(client.session.send_notification(RootsListChangedNotification()))
    said["good"] = await step(client.call_tool("search", {"index": "a", "query": "x"}))


async def running(client, said):
    said["running"] = await step(client.call_tool("hold", {}))
    said["next"] = await step(client.call_tool("search", {"index": "a", "query": "x"}))


async def begin(client, said):
    pass


async def batch():
    """The SDK sends none; what it makes of the answer's elements is what counts."""
    url, client = http()
    call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "delete", "arguments": {"index": "a"}}}
    body = [{**call, "id": 1}, {**call, "id": "2"}, {"jsonrpc": "2.0", "method": "ping"}]
    async with client:
        answer = await client.post(url, json=body, headers={"Accept": "application/json, text/event-stream"})
    elements = [jsonrpc_message_adapter.validate_python(element) for element in answer.json()]
    return {"status": answer.status_code, "errors": [[element.id, element.error.message] for element in elements]}


async def main():
    print(json.dumps(await (batch() if scenario == "batch" else in_session(globals()[scenario]))))


anyio.run(main)

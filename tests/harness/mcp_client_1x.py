"""A client of the official Python SDK, 1.x, as a program: says in one line of JSON what became of each step.

    python mcp_client_1x.py SCENARIO URL [TOKEN]
"""

import json
import sys

import anyio
import httpx
from mcp import ClientSession, types
from mcp.client.streamable_http import streamablehttp_client

scenario, url, *token = sys.argv[1:]
headers = {"Authorization": f"Bearer {token[0]}"} if token else {}


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


async def in_session(work):
    said = {}
    try:
        async with streamablehttp_client(url, headers=headers) as (reading, writing, _):
            async with ClientSession(reading, writing) as session:
                said["begun"] = await step(session.initialize())
                if said["begun"] == "done":
                    await work(session, said)
    except Exception as error:
        said["ended"] = words(error)
    return said


async def calls(session, said):
    said["refused"] = await step(session.call_tool("delete", {"index": "a"}))
    said["good"] = await step(session.call_tool("search", {"index": "a", "query": "x"}))


async def notification(session, said):
    said["notified"] = await step(session.send_roots_list_changed())
    said["good"] = await step(session.call_tool("search", {"index": "a", "query": "x"}))


async def running(session, said):
    said["running"] = await step(session.call_tool("hold", {}))
    said["next"] = await step(session.call_tool("search", {"index": "a", "query": "x"}))


async def begin(session, said):
    pass


async def batch():
    """The SDK sends none; what it makes of the answer's elements is what counts."""
    fields = {**headers, "Accept": "application/json, text/event-stream"}
    call = {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "delete", "arguments": {"index": "a"}}}
    async with httpx.AsyncClient(headers=fields) as client:
        answer = await client.post(url, json=[{**call, "id": 1}, {**call, "id": "2"}, {"jsonrpc": "2.0", "method": "ping"}])
    elements = [types.JSONRPCMessage.model_validate(element).root for element in answer.json()]
    return {"status": answer.status_code, "errors": [[element.id, element.error.message] for element in elements]}


async def main():
    print(json.dumps(await (batch() if scenario == "batch" else in_session(globals()[scenario]))))


anyio.run(main)

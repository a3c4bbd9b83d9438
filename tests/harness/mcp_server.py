"""An MCP server of the official Python SDK: two tools, and a file with what was really called.

    python mcp_server.py PORT FILE [json] [h2c] [hold]

With `json` it answers with plain JSON instead of a stream of events; with `h2c` it takes HTTP/2 too; with `hold` it has a
tool that runs until somebody ends it.
"""

import asyncio
import sys

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config
from mcp.server.mcpserver import Context, MCPServer

port, calls, answers = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
server = MCPServer("library")


def note(text):
    with open(calls, "a") as file:
        file.write(text + "\n")


@server.tool()
def search(index: str, query: str, limit: int = 10) -> str:
    """Looks something up in an index."""
    note(f"search {index} {query}")
    return f"found {query} in {index}"


@server.tool()
def delete(index: str) -> str:
    """Deletes an index."""
    note(f"delete {index}")
    return f"deleted {index}"


async def hold(ctx: Context) -> str:
    """Runs until somebody ends it."""
    await ctx.report_progress(0)
    note("hold")
    await asyncio.Event().wait()


if "hold" in answers:
    server.add_tool(hold)

app = server.streamable_http_app(json_response="json" in answers)
if "h2c" in answers:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    asyncio.run(serve(app, config))
else:
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")

"""An MCP server of the official Python SDK: two tools, and a file with what was really called.

    python mcp_server.py PORT FILE [json]

With `json` it answers with plain JSON instead of a stream of events.
"""

import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

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


uvicorn.run(
    server.streamable_http_app(json_response="json" in answers),
    host="127.0.0.1",
    port=port,
    log_level="warning",
)

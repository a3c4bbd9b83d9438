"""MCP servers as processes, and the official SDK's client as plain functions."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import anyio
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from .ports import free_port, is_open, until

EVERYTHING = (
    Path(__file__).resolve().parents[2]
    / "target/tests/npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
)


class McpServer:
    """A server process; `calls` is what its tools were really called with."""

    def __init__(self, folder, *answers):
        self.port = free_port()
        self.file = Path(folder) / f"calls-{self.port}"
        self.file.touch()
        self.url = f"{'h2c' if 'h2c' in answers else 'http'}://127.0.0.1:{self.port}"
        script = Path(__file__).with_name("mcp_server.py")
        self.process = subprocess.Popen([sys.executable, script, str(self.port), self.file, *answers])
        until(lambda: is_open(self.port), "the MCP server listens", seconds=30)

    @property
    def calls(self):
        return self.file.read_text().splitlines()

    def stop(self):
        self.process.kill()
        self.process.wait()


class EverythingServer:
    """The reference server from npm, in its streamable HTTP mode."""

    def __init__(self):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            ["node", EVERYTHING, "streamableHttp"],
            env={**os.environ, "PORT": str(self.port)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: is_open(self.port), "server-everything listens", seconds=30)

    def stop(self):
        self.process.kill()
        self.process.wait()


@contextlib.asynccontextmanager
async def session(url, token, mode="auto", http2=False):
    """A client of the SDK, with its session begun."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=20, http1=not http2, http2=http2) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as client:
            yield client


def in_session(url, token, work, **more):
    """Runs `work(client)`; whatever hangs, fails."""

    async def run():
        with anyio.fail_after(60):
            async with session(url, token, **more) as client:
                return await work(client)

    return anyio.run(run)

"""What the clients of the Model Context Protocol that are in use make of refusals: five versions of its SDKs, and `mcp-remote`,
which stands between an application and the gateway. A refused call must not cost more than that call."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.example import NPM
from harness.gate import Gate
from harness.mcp_peers import McpServer
from harness.ports import until

HARNESS = Path(__file__).resolve().parents[1] / "harness"
VENVS = NPM.parent


def python_1x(version):
    return lambda: [VENVS / f"mcp-{version}" / "bin" / "python", HARNESS / "mcp_client_1x.py"]


CLIENTS = {
    "python-1.12": python_1x("1.12.4"),
    "python-1.30": python_1x("1.30.0"),
    "python-2": lambda: [sys.executable, HARNESS / "mcp_client_2x.py"],
    "typescript-1": lambda: ["node", HARNESS / "mcp_client.mjs", "1", NPM],
    "typescript-2": lambda: ["node", HARNESS / "mcp_client.mjs", "2", NPM],
    "mcp-remote": lambda: [sys.executable, HARNESS / "mcp_client_2x.py"],
}

# A notification that is refused needs an HTTP error, as the protocol has it, and these end their sessions at any.
ENDS_AT_A_REFUSED_NOTIFICATION = ("python-1.12", "python-1.30")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = McpServer(tmp_path_factory.mktemp("mcp"), "hold")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gate(server):
    with Gate({"tools": server.url, "mcp": {"upstream": server.url, "mcp": True}}) as gate:
        yield gate


@pytest.fixture(scope="module", params=["tools", "mcp"])
def resource(request):
    """With and without `mcp = true`: a caveat that speaks of calls says as much."""
    return request.param


@pytest.fixture
def token(gate, resource):
    return gate.mint(resource, "--tool", "search", "--tool", "hold")


@pytest.fixture(params=CLIENTS)
def client(request):
    return request.param


class Run:
    """A client's program under way."""

    def __init__(self, client, scenario, url, token, folder):
        command = [*CLIENTS[client](), scenario]
        arguments = [url] if token is None else [url, token]
        if client == "mcp-remote":
            fields = [] if token is None else ["--header", f"Authorization:Bearer {token}"]
            proxy = NPM / "node_modules" / "mcp-remote" / "dist" / "proxy.js"
            arguments = ["--through", "node", proxy, url, "--allow-http", "--transport", "http-only", *fields]
        # No browser opens, and nothing is kept in the home folder.
        env = {**os.environ, "MCP_REMOTE_CONFIG_DIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
        command = [str(part) for part in [*command, *arguments]]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def said(self):
        """What became of each step."""
        out, err = self.process.communicate(timeout=100)
        assert out, err
        return json.loads(out.splitlines()[-1])


def run(client, scenario, gate, resource, token, folder):
    return Run(client, scenario, f"{gate.url}/{resource}/mcp", token, folder).said()


def lines(gate):
    """Operation, decision and status of every message so far, but for those that look for a way to another token."""
    found = [json.loads(line) for line in gate.log.splitlines() if line.startswith("{")]
    found = [line for line in found if line.get("path", "").endswith("/mcp") and "/.well-known/" not in line["path"]]
    return [(line["operation"], line["decision"], line["status"]) for line in found if "decision" in line]


def new_lines(gate, work):
    """What was done, and how it was logged. A message's line is written when its last byte is gone; one more message of the
    test's own, behind them, shows that they are there."""
    before = len(lines(gate))
    done = work()
    gate.get("/last/mcp", method="PATCH")
    until(lambda: any(operation == "PATCH" for operation, _, _ in lines(gate)[before:]), "the lines are written")
    return done, [line for line in lines(gate)[before:] if line[0] != "PATCH"]


def test_a_refused_call_costs_that_call(gate, server, client, resource, token, tmp_path):
    """And a refused GET and DELETE cost nothing: they are optional, and say so."""
    before = len(server.calls)
    said, logged = new_lines(gate, lambda: run(client, "calls", gate, resource, token, tmp_path))
    assert 'calls the tool "delete"' in said["refused"], said
    assert said["good"] == "found x in a", said
    assert server.calls[before:] == ["search a x"]
    assert ("POST", "not-permitted", 403) in logged, logged
    assert all(status == 405 for operation, _, status in logged if operation in ("GET", "DELETE")), logged
    assert "GET" in [operation for operation, _, _ in logged], "it asked for the stream of the server's own messages"
    assert "403" not in said.get("ended", ""), said


def test_a_refused_notification_is_an_error_to_nobody_who_waits(gate, client, resource, token, tmp_path):
    said, logged = new_lines(gate, lambda: run(client, "notification", gate, resource, token, tmp_path))
    assert ("POST", "not-permitted", 403) in logged, logged
    if client in ENDS_AT_A_REFUSED_NOTIFICATION:
        return
    assert said["good"] == "found x in a", said


def test_each_call_of_a_refused_batch_has_its_error(gate, server, client, resource, token, tmp_path):
    if client == "mcp-remote":
        client = "typescript-2"  # It passes on single messages, by this SDK.
    before = len(server.calls)
    said = run(client, "batch", gate, resource, token, tmp_path)
    assert [ident for ident, _ in said["errors"]] == [1, "2"], said
    assert all('allows only the tool "search"' in words for _, words in said["errors"]), said
    assert server.calls[before:] == []


def test_without_a_token_there_is_no_session(gate, client, resource, tmp_path):
    """401 stays 401 with its challenge: some go and look for a token then, and say that they found none."""
    said, logged = new_lines(gate, lambda: run(client, "begin", gate, resource, None, tmp_path))
    assert said.get("begun") != "done", said
    assert ("POST", "missing-capability", 401) in logged, logged


def test_a_revoked_token_begins_no_session(gate, client, resource, token, tmp_path):
    gate.revoke(token)
    said, logged = new_lines(gate, lambda: run(client, "begin", gate, resource, token, tmp_path))
    assert said.get("begun") != "done", said
    assert ("POST", "revoked", 401) in logged, logged


def test_a_call_that_runs_ends_in_words_when_its_token_is_revoked(gate, server, client, resource, token, tmp_path):
    before = len(server.calls)
    under_way = Run(client, "running", f"{gate.url}/{resource}/mcp", token, tmp_path)
    until(lambda: server.calls[before:] == ["hold"] or under_way.process.poll() is not None, "the tool runs", seconds=60)
    gate.revoke(token)
    said = under_way.said()
    assert "the token has been revoked" in said["running"].lower(), said
    assert "found" not in said.get("next", ""), said

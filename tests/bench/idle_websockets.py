#!/usr/bin/env python3
"""What open WebSockets cost: memory of the gateway for each one that is idle, and how long after the acknowledgement of a
revocation those that it ends are closed, while others notice nothing.

    POSTERN_BIN=target/debug/postern tests/bench/idle_websockets.py [connections] [of them revoked]

Clients and services speak just as much of the protocol as is needed, in two loops of their own, so that what is measured is the
gateway. A debug build serves for the memory; for the times use what is shipped.
"""

import asyncio
import json
import resource
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.gate import Gate  # noqa: E402
from harness.websocket import HANDSHAKE, accept  # noqa: E402
from harness.wire import request  # noqa: E402

SWITCHED = (f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept()}\r\n\r\n").encode()
PING, ECHOED = b"\x81\x84\x00\x00\x00\x00ping", b"\x81\x04ping"
CLOSED = b"\x88\x09\x03\xf0revoked"


class Service:
    """Accepts every handshake, and answers each ping of the test's own in kind."""

    def __init__(self):
        # Several addresses: one pair of addresses has no more than 64 Ki connections.
        self.sockets = [socket.create_server((f"127.0.0.{n}", 0), backlog=4096) for n in (1, 2)]
        self.urls = ["http://%s:%d" % s.getsockname()[:2] for s in self.sockets]
        threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True).start()

    async def _run(self):
        servers = [await asyncio.start_server(self._serve, sock=s) for s in self.sockets]
        await asyncio.gather(*(s.serve_forever() for s in servers))

    async def _serve(self, reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(SWITCHED)
            while data := await reader.read(1000):
                if data == PING:
                    writer.write(ECHOED)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def memory(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def open_one(gate, token, number=0):
    # From several addresses: one client never takes all places.
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port, local_addr=(f"127.0.0.{3 + number % 4}", 0))
    writer.write(request("GET", "/orders/x", token=token, fields=HANDSHAKE))
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise SystemExit(f"after {memory(gate.process.pid) >> 20} MiB: {head.decode()}{(await reader.read(2000)).decode()}\n{gate.log[-500:]}")
    return reader, writer


async def open_all(gate, tokens):
    opened = []
    for start in range(0, len(tokens), 200):
        opened += await asyncio.gather(*(open_one(gate, t, n) for n, t in enumerate(tokens[start : start + 200])))
    return opened


async def closing(reader):
    """When the Close frame came."""
    assert await reader.readexactly(len(CLOSED)) == CLOSED
    return time.monotonic()


def revoke(gate, token):
    """Revokes over the administration's own interface, and says when the acknowledgement came."""
    listed = gate.run("inspect", "-", "--json", stdin=token).ok().json
    body = json.dumps({"ids": [listed["blocks"][-1]["revocation_id"]]}).encode()
    answered = gate.admin("POST", "/revocations", token=gate.admin_token, body=body, fields=[("Content-Type", "application/json")])
    acknowledged = time.monotonic()
    assert answered.status < 300, answered.body
    return acknowledged


async def measure(gate, count, revoked):
    parent, unrelated = gate.mint("orders"), gate.mint("orders")
    children = [gate.attenuate(parent, "--path", path) for path in ("/x", "/**")]
    tokens = [children[n % 2] if n < revoked else unrelated for n in range(count)]
    await asyncio.gather(*(open_one(gate, unrelated) for _ in range(20)))
    before = memory(gate.process.pid)
    opened = await open_all(gate, tokens)
    await asyncio.sleep(1)
    after = memory(gate.process.pid)
    ending, staying = opened[:revoked], opened[revoked:]
    waits = [asyncio.create_task(closing(reader)) for reader, _ in ending]
    acknowledged = await asyncio.get_running_loop().run_in_executor(None, revoke, gate, parent)
    closed = await asyncio.gather(*waits)
    late = sorted(at - acknowledged for at in closed)
    unnoticed = 0
    for reader, writer in staying:
        writer.write(PING)
        unnoticed += await reader.readexactly(len(ECHOED)) == ECHOED
    return {
        "connections": count,
        "bytes_per_connection": round((after - before) / count),
        "rss_mib": round(after / 2**20, 1),
        "revoked": revoked,
        # Below zero: the end came before the acknowledgement had been read.
        "closed_after_ms": {"first": round(late[0] * 1000), "median": round(late[len(late) // 2] * 1000), "last": round(late[-1] * 1000)},
        "unrelated_that_echo": unnoticed,
        "unrelated": len(staying),
    }


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    revoked = int(sys.argv[2]) if len(sys.argv) > 2 else count // 20
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 4 * count + 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard))
    service = Service()
    limits = {"connections_max": 3 * count + 100, "connections_per_client_max": 3 * count + 100}
    with Gate({"orders": {"upstream": service.urls}}, limits=limits, tables={"log": {"access": "off"}}) as gate:
        print(json.dumps(asyncio.run(measure(gate, count, revoked)), indent=2))


if __name__ == "__main__":
    main()

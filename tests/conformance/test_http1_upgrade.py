"""No unchecked tunnel: no CONNECT, no h2c upgrade, no protocol switch that the service did not agree to (T4)."""

import pytest

from conformance.cases import AUTH, HOST, SMUGGLED, Passed, Refused, get, ids, post
from harness.backend import answer

WEBSOCKET = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]

METHODS = [
    Refused("CONNECT to an authority", f"CONNECT localhost:22 HTTP/1.1\r\n{HOST}{AUTH}\r\n{SMUGGLED}", (400, 403, 404, 405, 501)),
    Refused("CONNECT to a path", f"CONNECT /orders/allowed HTTP/1.1\r\n{HOST}{AUTH}\r\n{SMUGGLED}", (400, 403, 404, 405, 501)),
    Refused("CONNECT with absolute form", f"CONNECT http://localhost/orders/allowed HTTP/1.1\r\n{HOST}{AUTH}\r\n", (400, 403, 404, 405, 501)),
    Refused("CONNECT without a token", f"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n{SMUGGLED}", (400, 401, 405, 501)),
    Refused("TRACE is not minted", f"TRACE /orders/allowed HTTP/1.1\r\n{HOST}{AUTH}\r\n", (400, 403, 404, 405, 501), closes=False),
    Refused("PRI", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", (400, 505), may_be_silent=True),
]

# The service answers 200: nothing has been switched, so what follows is a request like any other and is checked.
PREMATURE = [
    ("unknown protocol", ["Connection: Upgrade", "Upgrade: foo"]),
    ("h2c", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    ("h2c in upper case", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: H2C", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    ("h2c without Connection", ["Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    ("h2c beside websocket", ["Connection: Upgrade", "Upgrade: websocket, h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    ("TLS", ["Connection: Upgrade", "Upgrade: TLS/1.0"]),
    ("websocket", WEBSOCKET),
    ("websocket old version", ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8"]),
    ("Upgrade twice", ["Connection: Upgrade", "Upgrade: foo", "Upgrade: h2c"]),
    ("Upgrade empty", ["Connection: Upgrade", "Upgrade:"]),
]


@pytest.mark.parametrize("case", METHODS, ids=ids(METHODS))
def test_a_method_that_tunnels_is_refused(site, case):
    site.judge(case)


@pytest.mark.parametrize("lines", [c[1] for c in PREMATURE], ids=[c[0] for c in PREMATURE])
def test_bytes_after_an_upgrade_that_did_not_happen_are_checked(site, lines):
    """CVE-2026-2833: a proxy that goes raw on `Upgrade` alone lets everything after it through."""
    site.service.clear()
    with site.gate.wire() as wire:
        wire.send_as_accepted(site.fill(get(*lines) + SMUGGLED))
        first = wire.answer()
        assert first.status in (200, 400, 426, 501), first.head
        rest = wire.rest(timeout=1) if first.status != 200 else None
        if first.status == 200:
            try:
                assert wire.answer().status == 401
            except Exception as closed:  # closing is as good as answering 401
                assert type(closed).__name__ == "Closed", closed
        else:
            assert b"200 OK" not in rest
    seen, everything = site.settle()
    assert b"smuggled" not in everything
    assert b"h2c" not in everything.lower() and b"http2-settings" not in everything.lower()
    assert len(seen) <= 1


def test_an_upstream_cannot_switch_protocols_unasked(site):
    site.service.respond = lambda r: b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nraw" if b"settle" not in r.line else answer()
    try:
        with site.gate.wire() as wire:
            reply = wire.send(site.fill(get())).answer()
        assert reply.status == 502 and reply.problem["status"] == 502
        site.settle()
    finally:
        site.service.respond = site.service.default


def test_an_upstream_cannot_switch_to_another_protocol_than_asked(site):
    site.service.respond = lambda r: b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nraw" if b"settle" not in r.line else answer()
    try:
        with site.gate.wire() as wire:
            reply = wire.send(site.fill(get(*WEBSOCKET))).answer()
        assert reply.status in (502, 501), reply.head
        site.settle()
    finally:
        site.service.respond = site.service.default

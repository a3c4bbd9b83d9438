"""WebSockets: the `websockets` library and uvicorn through the gateway, handshakes that are wrong on either side, the token
where browsers can put it, and what passes before, behind and beside the handshake."""

import os
import signal
import ssl

import pytest
from websockets.exceptions import InvalidStatus

from harness.backend import Recorder, answer
from harness.certificates import Authority
from harness.gate import Gate
from harness.ports import until
from harness.websocket import HANDSHAKE, KEY, SWITCHED, Echo, Uvicorn, accept, answering, close_of, echoes, opened
from harness.websocket import echo, gate, token  # noqa: F401  (fixtures)
from harness.wire import request


def test_messages_pass_both_ways(gate, echo, token):
    with opened(gate, token, "/orders/chat?room=1") as websocket:
        for message in ("hello", b"\x00\xff", "ä" * 10_000, os.urandom(300_000), ""):
            websocket.send(message)
            assert websocket.recv(timeout=10) == message
        websocket.send(["frag", "ment", "ed"])
        assert websocket.recv(timeout=10) == "fragmented"
        assert websocket.ping().wait(10)
    path, fields = echo.handshakes[-1]
    names = {name.lower() for name, _ in fields}
    assert path == "/chat?room=1"
    assert "authorization" not in names and {"x-forwarded-for", "via", "traceparent"} <= names
    assert token[:20] not in str(fields)


def test_extensions_are_between_the_ends(gate, echo, token):
    with opened(gate, token, compression="deflate") as websocket:
        assert echoes(websocket, "x" * 50_000)
        assert "permessage-deflate" in websocket.response.headers["Sec-WebSocket-Extensions"]


def test_uvicorn_serves_behind_it():
    with Uvicorn() as service, Gate({"orders": service}) as gate:
        with opened(gate, gate.mint("orders")) as websocket:
            assert echoes(websocket) and echoes(websocket, os.urandom(100_000))


def test_a_close_of_either_side_reaches_the_other(gate, echo, token):
    with opened(gate, token) as websocket:
        assert echoes(websocket)
        websocket.close(4001, "enough")
    until(lambda: (4001, "enough") in echo.closes, "the service has read the close")
    assert websocket.close_code == 4001


def test_over_tls(tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    with Echo() as echo, Gate({"orders": echo}, tls={"cert": cert, "key": key}) as gate:
        context = ssl.create_default_context(cafile=str(authority.path))
        with opened(gate, gate.mint("orders"), scheme="wss", ssl=context) as websocket:
            assert echoes(websocket) and echoes(websocket, os.urandom(200_000))
            gate.revoke(websocket.request.headers["Authorization"].split()[1])
            assert close_of(websocket) == (1008, "revoked")


def test_no_upgrade_stops_the_switch_and_nothing_else(gate, echo, token):
    narrow = gate.attenuate(token, "--no-upgrade")
    with pytest.raises(InvalidStatus) as refused:
        opened(gate, narrow)
    assert refused.value.response.status_code == 403
    before = len(echo.handshakes)
    assert gate.get("/orders/chat", narrow).status == 426, "the service's own answer to a plain GET"
    with pytest.raises(InvalidStatus) as refused:
        opened(gate, None)
    assert refused.value.response.status_code == 401 and len(echo.handshakes) == before


@pytest.mark.parametrize("offered, goes_up, chosen", [
    (["bearer.{}", "chat"], ["chat"], "chat"),
    (["v2", "bearer.{}", "chat"], ["v2, chat"], "chat"),
    (["bearer.{}"], [], None),
])
def test_a_browser_carries_the_token_as_a_subprotocol(gate, echo, token, offered, goes_up, chosen):
    with opened(gate, None, subprotocols=[o.format(token.rstrip("=")) for o in offered]) as websocket:
        assert echoes(websocket)
        assert websocket.subprotocol == chosen
    assert echo.fields("sec-websocket-protocol") == goes_up
    assert token[:20] not in str(echo.handshakes[-1]) and token[:20] not in gate.log


def test_two_tokens_in_whatever_carriers_are_refused(gate, token):
    bare = token.rstrip("=")
    for more in (
        [("Sec-WebSocket-Protocol", f"bearer.{bare}, bearer.{bare}")],
        [("Sec-WebSocket-Protocol", f"bearer.{bare}, chat"), ("Authorization", f"Bearer {token}")],
        [("Sec-WebSocket-Protocol", f"bearer.{bare}"), ("Postern-Capability", token)],
    ):
        assert gate.get("/orders/chat", fields=HANDSHAKE + more).kind == "two-tokens", more


def test_the_subprotocol_is_a_carrier_of_websockets_alone(gate, token):
    assert gate.get("/orders/chat", fields=[("Sec-WebSocket-Protocol", f"bearer.{token}")]).kind == "missing-capability"


BAD = [
    ("no key", [f for f in HANDSHAKE if f[0] != "Sec-WebSocket-Key"]),
    ("two keys", HANDSHAKE + [("Sec-WebSocket-Key", KEY)]),
    ("a short key", HANDSHAKE[:3] + [("Sec-WebSocket-Key", "YWJj")]),
    ("no base64", HANDSHAKE[:3] + [("Sec-WebSocket-Key", "!" * 24)]),
    ("an old version", HANDSHAKE[:2] + [("Sec-WebSocket-Version", "8"), HANDSHAKE[3]]),
    ("two versions", HANDSHAKE + [("Sec-WebSocket-Version", "13")]),
    ("a key that is hop-by-hop", [("Connection", "Upgrade, Sec-WebSocket-Key")] + HANDSHAKE[1:]),
]


@pytest.mark.parametrize("fields", [b[1] for b in BAD], ids=[b[0] for b in BAD])
def test_a_handshake_that_is_wrong_is_refused_here(gate, echo, token, fields):
    before = len(echo.handshakes)
    refused = gate.get("/orders/chat", token, fields=fields)
    assert (refused.status, refused.kind) == (400, "bad-handshake"), refused.body
    assert gate.get("/orders/chat", token, method="POST", fields=HANDSHAKE).kind == "bad-handshake"
    assert len(echo.handshakes) == before


def test_a_handshake_with_a_body_is_refused(gate, token):
    assert gate.get("/orders/chat", token, fields=HANDSHAKE, body=b"x").status == 400


def test_frames_sent_with_the_handshake_are_not_lost(gate, token):
    frame = b"\x81\x85\x00\x00\x00\x00early"
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/chat", token=token, fields=HANDSHAKE) + frame)
        assert wire.answer().status == 101
        assert wire._exactly(7) == b"\x81\x05early"


def test_frames_that_come_with_the_answer_are_not_lost():
    with answering(SWITCHED, b"\x81\x05early") as service, Gate({"orders": service}) as gate:
        with gate.wire() as wire:
            answered = wire.send(request("GET", "/orders/x", token=gate.mint("orders"), fields=HANDSHAKE)).answer()
            assert (answered.status, answered.value("upgrade"), answered.value("connection")) == (101, "websocket", "upgrade")
            assert answered.value("sec-websocket-accept") == accept()
            assert wire._exactly(7) == b"\x81\x05early"


def without(name, *more):
    return [line for line in SWITCHED if not line.startswith(name)] + list(more)


HOSTILE = {
    "a wrong accept": without("Sec-WebSocket-Accept", "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "no accept": without("Sec-WebSocket-Accept"),
    "accept twice": SWITCHED + [SWITCHED[-1]],
    "another protocol": without("Upgrade", "Upgrade: h2c"),
    "no upgrade": without("Upgrade"),
    "no connection": without("Connection"),
    "a length": SWITCHED + ["Content-Length: 0"],
    "a body": SWITCHED + ["Transfer-Encoding: chunked"],
    "two lengths": SWITCHED + ["Content-Length: 3", "Content-Length: 4"],
    "a subprotocol that was not offered": SWITCHED + ["Sec-WebSocket-Protocol: chat"],
    "an extension that was not offered": SWITCHED + ["Sec-WebSocket-Extensions: permessage-deflate"],
}


@pytest.mark.parametrize("lines", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_upstream_that_switches_otherwise_than_asked_gets_no_tunnel(lines):
    with answering(lines, b"\x81\x05worse") as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        for _ in range(2):
            answered = gate.get("/orders/x", token, fields=HANDSHAKE)
            assert answered.status == 502 and b"worse" not in answered.body, answered.head
        assert len(service.heads) == 2, "a connection each: none is used again"


def test_an_upstream_that_switches_unasked_gets_no_tunnel():
    with answering(SWITCHED, b"\x81\x05worse") as service, Gate({"orders": service}) as gate:
        for fields in ([], [("Connection", "Upgrade"), ("Upgrade", "foo")]):
            assert gate.get("/orders/x", gate.mint("orders"), fields=fields).status == 502


@pytest.mark.parametrize("status", [200, 401, 426, 503])
def test_an_upstream_that_declines_is_answered_like_any_other(status):
    with Recorder(lambda _: answer(status, b"no sockets here", [("X-Own", "1")])) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            # What a client sends behind its handshake may be frames: nothing of it is read as a request.
            wire.send(request("GET", "/orders/x", token=token, fields=HANDSHAKE) + request("GET", "/orders/y", token=token))
            answered = wire.answer()
            assert (answered.status, answered.body, answered.value("x-own")) == (status, b"no sockets here", "1")
            assert wire.closed()
        assert [r.target for r in service.requests] == ["/x"]
        head = service.requests[0]
        assert [v.lower() for v in head.values("connection")] == ["upgrade"] and head.values("upgrade") == ["websocket"]


def test_only_named_protocols_are_asked_for():
    echo_line = lambda sock: (sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: line\r\n\r\n"), sock.sendall(sock.recv(100)[::-1]))[1] or "close"
    with Recorder(lambda r: echo_line if r.value("upgrade") else answer(body=b"plain")) as service:
        resources = {"orders": service, "lines": {"upstream": service, "prefix": "/lines", "upgrades": ["line"], "nested": True}}
        with Gate(resources) as gate:
            token = gate.mint("orders", "lines")
            offer = [("Connection", "Upgrade"), ("Upgrade", "line")]
            assert gate.get("/orders/x", token, fields=offer).body == b"plain"
            with gate.wire() as wire:
                assert wire.send(request("GET", "/lines/x", token=token, fields=offer)).answer().status == 101
                wire.send(b"abc")
                assert wire.rest() == b"cba"


def test_http2_is_never_a_protocol_to_switch_to():
    with Recorder() as service, Gate({"orders": {"upstream": service, "upgrades": ["h2c"]}}, start=False) as gate:
        checked = gate.run("config", "check", "--config", gate.config)
        assert checked.code != 0 and "nobody checks" in checked.out + checked.err


def test_a_tunnel_is_one_message_in_metrics_and_log(gate, echo, token):
    with opened(gate, token) as websocket:
        assert echoes(websocket, "x" * 1000)
        assert 'postern_open_streams{kind="websocket"} 1' in gate.metrics()
    until(lambda: 'postern_open_streams{kind="websocket"} 0' in gate.metrics(), "it is no longer open")
    until(lambda: '"status":101' in gate.log, "the tunnel has its line")


def test_a_silent_tunnel_may_be_bounded():
    with Echo() as echo, Gate({"orders": echo}, limits={"tunnel_idle_timeout": "300ms"}) as gate:
        with opened(gate, gate.mint("orders"), ping_interval=None) as websocket:
            assert echoes(websocket)
            assert close_of(websocket) == (1001, "idle")


def test_a_drain_says_goodbye_between_two_frames():
    with Echo() as echo, Gate({"orders": echo}) as gate:
        with opened(gate, gate.mint("orders")) as websocket:
            assert echoes(websocket)
            gate.process.signal(signal.SIGTERM)
            assert close_of(websocket) == (1001, "going away")
        assert gate.process.wait(20) == 0
        until(lambda: echo.closes, "the service was told")
        assert echo.closes[-1][0] == 1001

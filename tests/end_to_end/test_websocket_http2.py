"""WebSockets over HTTP/2 (RFC 8441): streams of the `h2` library with the frames of `wsproto` before the gateway, the
`websockets` library behind it."""

import os
import signal

import pytest
from h2.settings import SettingCodes
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.h2client import H2Client
from harness.h2wire import H2Wire, pseudo
from harness.ports import until
from harness.websocket import Socket, answering, close_of, echoes, opened
from harness.websocket import echo, gate, token  # noqa: F401  (fixtures)

SWITCHED = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: wrong"]


@pytest.fixture
def client(gate, token):
    with H2Client(gate.port, token) as client:
        yield client


def test_the_setting_invites(client):
    assert client.until(lambda: client.h2.remote_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL) == 1)


def test_messages_pass_both_ways(client, echo, token):
    socket = Socket(client, "/orders/chat?room=1")
    assert socket.reply.status == 200 and not socket.reply.ended
    assert not {"sec-websocket-accept", "upgrade", "connection"} & set(socket.reply.fields)
    for message in ("hello", b"\x00\xff", "ä" * 10_000, os.urandom(300_000)):
        assert socket.echoes(message)
    socket.client.send(socket.stream, socket.frames.send(Ping(b"there?")))
    assert socket.event() == Pong(b"there?")
    path, fields = echo.handshakes[-1]
    names = {name.lower() for name, _ in fields}
    assert path == "/chat?room=1" and "authorization" not in names and token[:20] not in str(fields)
    assert {"via", "x-forwarded-for"} <= names and len(echo.fields("sec-websocket-key")) == 1


def test_a_close_of_either_side_reaches_the_other(client, echo):
    socket = Socket(client)
    assert socket.echoes()
    client.send(socket.stream, socket.frames.send(CloseConnection(4001, "enough")))
    assert socket.event() == CloseConnection(4001, "enough")
    # The ends of the two directions are ends, too, in this order: a service hangs up first.
    assert client.reply(socket.stream).ended
    client.send(socket.stream, b"", end=True)
    until(lambda: (4001, "enough") in echo.closes, "the service has read the close")


def test_a_stream_that_is_reset_ends_the_services_connection(client, echo):
    socket = Socket(client)
    assert socket.echoes()
    before = len(echo.closes)
    client.reset(socket.stream)
    until(lambda: len(echo.closes) > before, "the service's connection is over")
    assert Socket(client).echoes(), "the connection goes on"


def test_many_share_a_connection_with_plain_messages(client):
    sockets = [Socket(client) for _ in range(20)]
    for number, socket in enumerate(sockets):
        assert socket.echoes(f"message {number}")
    # The echo service speaks nothing but WebSocket: its answer to a plain message is a refusal of its own.
    assert client.reply(client.open("GET", "/orders/chat")).status == 426
    assert all(socket.echoes() for socket in sockets)


def test_the_token_as_a_subprotocol(gate, echo, token):
    with H2Client(gate.port) as client:
        socket = Socket(client, fields=[("sec-websocket-protocol", f"chat, bearer.{token}")])
        assert socket.reply.status == 200 and socket.reply.fields["sec-websocket-protocol"] == "chat"
        assert socket.echoes() and echo.fields("sec-websocket-protocol") == ["chat"]


def test_it_is_checked_like_any_get(gate, echo, token):
    before = len(echo.handshakes)
    refused = [
        (401, None),
        (403, gate.attenuate(token, "--no-upgrade")),
        (403, gate.mint("orders", "--allow", "POST")),
        (404, gate.mint("stock")),
    ]
    with H2Client(gate.port) as client:
        for status, one in refused:
            assert Socket(client, token=one).reply.status == status
        assert Socket(client, "/elsewhere/chat", token=token).reply.status == 404
        assert len(echo.handshakes) == before
        assert Socket(client, token=gate.attenuate(token, "--method", "GET")).echoes()


def test_what_is_asked_for_wrongly_reaches_nobody(gate, echo, token):
    before = len(echo.handshakes)
    with H2Client(gate.port, token) as client:
        assert Socket(client, protocol="connect-udp").reply.status == 501
        assert Socket(client, fields=[("sec-websocket-version", "8")]).reply.status == 400
        assert Socket(client, fields=[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]).reply.status == 400
        assert Socket(client, fields=[("content-length", "0")]).reply.status == 400
    assert len(echo.handshakes) == before


def test_what_a_service_answers_wrongly_opens_nothing():
    for lines in (SWITCHED, ["HTTP/1.1 200 OK", "Content-Length: 0"]):
        with answering(lines) as service, Gate({"orders": service}) as gate, H2Client(gate.port, gate.mint("orders")) as client:
            socket = Socket(client)
            reply = client.reply(socket.stream)
            assert reply.status == 502 and b"upstream-nonsense" in reply.body, (lines, reply.body)
    with Recorder(lambda _: answer(403, b"not for you", reason="Forbidden")) as service:
        with Gate({"orders": service}) as gate, H2Client(gate.port, gate.mint("orders")) as client:
            reply = client.reply(Socket(client).stream)
            assert (reply.status, bytes(reply.body)) == (403, b"not for you")


def test_law_6_a_revocation_closes_it_between_two_frames_with_the_reason(gate, echo, token):
    child = gate.attenuate(token, "--method", "GET")
    with H2Client(gate.port, token) as client:
        socket, parents = Socket(client, token=child), Socket(client)
        assert socket.echoes() and parents.echoes()
        gate.revoke(child)
        assert socket.event() == CloseConnection(1008, "revoked")
        # A client that answers the Close ends its side, and the gateway has ended its own.
        client.send(socket.stream, b"", end=True)
        assert client.reply(socket.stream).over
        assert parents.echoes(), "the parent's socket has ended too"
        assert Socket(client, token=child).reply.status == 401
        until(lambda: (1008, "revoked") in echo.closes, "the service has read why")


def test_an_expiry_closes_it_with_the_reason(gate, token):
    with H2Client(gate.port, gate.attenuate(token, "--expires", "2s")) as client:
        socket = Socket(client)
        assert socket.echoes() and socket.event() == CloseConnection(1008, "expired")


def test_a_drain_closes_them_as_going_away(echo):
    """Frame by frame: the `h2` library gives up at the first GOAWAY, whose point is that streams go on."""
    with Gate({"orders": echo}) as gate, H2Wire(gate.port) as wire:
        fields = pseudo("CONNECT", "/orders/chat", token=gate.mint("orders"), extra=[("sec-websocket-version", "13")])
        wire.headers(1, [*fields[:4], (":protocol", "websocket"), *fields[4:]], end=False)
        frames, stream = Connection(ConnectionType.CLIENT), wire.stream(1)
        wire.data(1, frames.send(TextMessage("hello")), end=False)
        assert wire.until(lambda: stream.body.endswith(b"hello")) and stream.status == 200
        gate.process.signal(signal.SIGTERM)
        assert wire.until(lambda: stream.ended)
        frames.receive_data(stream.body)
        assert list(frames.events())[-1] == CloseConnection(1001, "going away")
        wire.data(1, b"")
        assert gate.process.wait(20) == 0


def test_a_slow_reader_slows_the_service(gate, echo, token):
    """More than any window comes back only as it is read."""
    with H2Client(gate.port, token) as client:
        socket = Socket(client)
        client.acknowledges = False
        for _ in range(3):
            socket.send(os.urandom(20_000))
        client.until(lambda: len(socket.reply.body) > 40_000)
        client.acknowledges = True
        client.h2.acknowledge_received_data(len(socket.reply.body), socket.stream)
        client.flush()
        assert len(socket.event()) == len(socket.event()) == len(socket.event()) == 20_000
        with opened(gate, token) as other:
            assert echoes(other), "HTTP/1.1 beside it"
            other.close()
            assert close_of(other)[0] in (1000, None)

"""WebSockets to services that speak HTTP/2: hypercorn in clear text, over TLS with a choice, and over TLS that takes nothing but
HTTP/2, whether it says so or not; and services of HTTP/2 that were not asked, or answer wrongly."""

import os
import signal
import ssl
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from hyperframe.frame import SettingsFrame
from websockets.exceptions import InvalidStatus
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong

from harness.certificates import Authority
from harness.gate import Gate
from harness.h2client import H2Client
from harness.h2service import ENABLE_CONNECT_PROTOCOL, OK, H2Service
from harness.ports import until
from harness.programs import TlsFront
from harness.websocket import HANDSHAKE, Echo, Hypercorn, Socket, accept, close_of, echoes, opened
from harness.wire import request

# In which version each service is asked for a WebSocket.
VERSIONS = {"h2c": "2", "https": "1.1", "only": "2", "silent": "2"}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """name → (what speaks WebSocket, where it is reached)."""
    authority = Authority(tmp_path_factory.mktemp("pki"))
    cert, key, _ = authority.issue("service")
    # The last one ignores an offer that it cannot take.
    with Hypercorn() as clear, Hypercorn(tls=(cert, key)) as secure, Hypercorn(tls=(cert, key), alpn=["h2"]) as silent:
        with TlsFront(clear, cert, key) as only:
            reached = {"h2c": clear, "https": secure, "only": clear, "silent": silent}
            yield {name: (one, only if name == "only" else one) for name, one in reached.items()}, authority


@pytest.fixture(scope="module")
def gate(services):
    reached, authority = services
    tables = {f"resource.{name}.upstream_tls": {"ca": authority.path} for name in VERSIONS if name != "h2c"}
    resources = {name: {"upstream": front} for name, (_, front) in reached.items()}
    # Whoever is blamed for anything is left alone at once, which the other tests would notice.
    with Gate(resources, limits={"upstream_failures_max": 1}, top={"workers": 1}, tables=tables) as gate:
        yield gate
        assert "is left alone" not in gate.log


@pytest.fixture(scope="module")
def token(gate):
    return gate.mint(*VERSIONS)


@pytest.fixture(params=list(VERSIONS))
def name(request):
    return request.param


@pytest.fixture
def behind(services, name):
    return services[0][name][0]


@pytest.fixture
def client(gate, token):
    with H2Client(gate.port, token) as client:
        yield client


def test_messages_of_every_size_pass_both_ways(gate, token, name, behind):
    with opened(gate, token, f"/{name}/chat?room=1", max_size=None) as websocket:
        # Two of them are larger than any window on the way.
        for message in ("hello", b"\x00\xff", "ä" * 10_000, os.urandom(300_000), os.urandom(3_000_000), ""):
            websocket.send(message)
            assert websocket.recv(timeout=20) == message
        assert websocket.ping().wait(10)
    scope = behind.scopes[-1]
    names = {field.decode() for field, _ in scope["headers"]}
    assert (scope["http_version"], scope["path"], scope["query_string"]) == (VERSIONS[name], "/chat", b"room=1")
    assert "authorization" not in names and {"x-forwarded-for", "via", "sec-websocket-version"} <= names
    assert ("sec-websocket-key" in names) == (VERSIONS[name] == "1.1")


def test_a_stream_of_http2_becomes_one(client, name, behind):
    socket = Socket(client, f"/{name}/chat")
    assert socket.reply.status == 200 and not {"sec-websocket-accept", "upgrade", "connection"} & set(socket.reply.fields)
    for message in ("hello", os.urandom(300_000)):
        assert socket.echoes(message)
    socket.client.send(socket.stream, socket.frames.send(Ping(b"there?")))
    assert socket.event() == Pong(b"there?")
    assert behind.scopes[-1]["http_version"] == VERSIONS[name]


def test_what_is_agreed_on_reaches_the_client(gate, token, name, behind):
    with opened(gate, token, f"/{name}/chat", subprotocols=["v2", "chat"], compression="deflate") as websocket:
        assert websocket.subprotocol == "chat" and echoes(websocket, "x" * 50_000)
        assert "permessage-deflate" in websocket.response.headers["Sec-WebSocket-Extensions"]
    assert behind.scopes[-1]["subprotocols"] == ["v2", "chat"]
    with opened(gate, None, f"/{name}/chat", subprotocols=[f"bearer.{token.rstrip('=')}", "chat"]) as websocket:
        assert websocket.subprotocol == "chat" and echoes(websocket)
    assert behind.scopes[-1]["subprotocols"] == ["chat"]


def test_the_proof_follows_from_the_clients_own_key(gate, token, name):
    with gate.wire() as wire:
        frame = b"\x81\x85\x00\x00\x00\x00early"
        answered = wire.send(request("GET", f"/{name}/chat", token=token, fields=HANDSHAKE) + frame).answer()
        assert (answered.status, answered.value("upgrade"), answered.value("connection")) == (101, "websocket", "upgrade")
        assert answered.values("sec-websocket-accept") == [accept()] and answered.value("content-length") is None
        assert wire._exactly(7) == b"\x81\x05early", "what is sent with the handshake is not lost"


def test_a_close_of_either_side_reaches_the_other(gate, token, name, behind):
    ended = behind.ended
    with opened(gate, token, f"/{name}/chat") as websocket:
        assert echoes(websocket)
        websocket.close(4001, "enough")
        assert websocket.close_code == 4001, "the service answers a close with the same"
    until(lambda: behind.ended == ended + 1, "the service's socket is over")
    with opened(gate, token, f"/{name}/chat") as websocket:
        websocket.send("leave")
        assert close_of(websocket) == (4002, "left")


def test_a_client_that_goes_without_a_word_ends_the_services_socket(client, name, behind):
    socket = Socket(client, f"/{name}/chat")
    assert socket.echoes()
    ended = behind.ended
    client.reset(socket.stream)
    until(lambda: behind.ended == ended + 1, "the service's socket is over")


def test_law_6_a_revocation_reaches_both_ends_and_nobody_else(gate, token, name, behind):
    child = gate.attenuate(token, "--method", "GET")
    plain = gate.get(f"/{name}/plain", token).body
    ended = behind.ended
    with opened(gate, child, f"/{name}/chat") as websocket, opened(gate, token, f"/{name}/chat") as parents:
        assert echoes(websocket) and echoes(parents)
        gate.revoke(child)
        assert close_of(websocket) == (1008, "revoked")
        until(lambda: behind.ended == ended + 1, "the service's socket is over")
        assert echoes(parents), "the parent's socket has ended too"
        assert gate.get(f"/{name}/plain", token).body == plain, "the shared connection is another one"
    assert gate.get(f"/{name}/chat", child, fields=HANDSHAKE).status == 401


def test_a_tunnels_end_leaves_its_connection_to_the_others(gate, token, name):
    """Plain messages over the connection that they share, beside tunnels of which each ends in another way."""
    plain = gate.get(f"/{name}/plain", token).body
    with H2Client(gate.port, token) as client:
        sockets = [Socket(client, f"/{name}/chat") for _ in range(8)]
        assert all(socket.echoes() for socket in sockets)
        client.reset(sockets[0].stream)
        client.send(sockets[1].stream, sockets[1].frames.send(CloseConnection(1000)))
        sockets[2].send("leave")
        assert sockets[2].event() == CloseConnection(4002, "left")
        client.send(sockets[3].stream, b"", end=True)
        assert all(socket.echoes() for socket in sockets[4:])
        assert gate.get(f"/{name}/plain", token).body == plain
    assert gate.get(f"/{name}/plain", token).body == plain


def test_a_refusal_of_the_service_is_passed_on(gate, token, client, name):
    with pytest.raises(InvalidStatus) as refused:
        opened(gate, token, f"/{name}/refused")
    assert refused.value.response.status_code == 403
    assert Socket(client, f"/{name}/refused").reply.status == 403
    # A connection that was made for a switch, and not switched, takes no plain message away from HTTP/2.
    assert gate.get(f"/{name}/plain", token).body == gate.get(f"/{name}/plain", token).body


def test_a_slow_reader_slows_the_service():
    """25 MiB for a client that does not read wait at the service (this one takes all of it from its application), not in the
    gateway; and they arrive once it reads."""
    with Hypercorn(flood=400) as service, Gate({"orders": service}) as gate:
        with gate.wire() as wire:
            assert wire.send(request("GET", "/orders/x", token=gate.mint("orders"), fields=HANDSHAKE)).answer().status == 101
            before = gate.resident_mib()
            until(lambda: service.sent == 400, "the application has said it all")
            for _ in range(20):
                assert gate.resident_mib() - before < 8, "it is buffered in the gateway"
                threading.Event().wait(0.01)
            for number in range(400):
                assert wire._exactly(14) == b"\x82\x7f" + (1 << 16).to_bytes(8) + number.to_bytes(4)
                assert wire._exactly(65532) == bytes(65532)


def test_a_silent_tunnel_may_be_bounded_and_a_drain_says_goodbye(services):
    with Hypercorn() as service, Gate({"orders": service}, limits={"tunnel_idle_timeout": "300ms"}) as gate:
        with opened(gate, gate.mint("orders"), ping_interval=None) as websocket:
            assert echoes(websocket) and close_of(websocket) == (1001, "idle")
        until(lambda: service.ended, "the service's socket is over")
    with Hypercorn() as service, Gate({"orders": service}) as gate:
        with opened(gate, gate.mint("orders")) as websocket:
            assert echoes(websocket)
            gate.process.signal(signal.SIGTERM)
            assert close_of(websocket) == (1001, "going away")
        assert gate.process.wait(20) == 0
        until(lambda: service.ended, "the service's socket is over")


def test_a_service_over_tls_that_knows_nothing_of_alpn(services, tmp_path):
    authority = services[1]
    cert, key, _ = authority.issue("without-alpn")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    tables = {"resource.orders.upstream_tls": {"ca": authority.path}}
    with Echo(ssl=context) as echo, Gate({"orders": f"https://127.0.0.1:{echo.port}"}, tables=tables) as gate:
        token = gate.mint("orders")
        for _ in range(2):
            with opened(gate, token) as websocket:
                assert echoes(websocket)


def test_a_grpc_service_over_tls_is_not_harmed_by_who_asks_it_for_a_websocket(services):
    """It speaks HTTP/2 and nothing else, ends connections of any other kind, and has not enabled extended CONNECT."""
    authority = services[1]
    cert, key, _ = authority.issue("grpc")
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pair = (Path(key).read_bytes(), Path(cert).read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    tables = {"resource.orders.upstream_tls": {"ca": authority.path}}
    try:
        with Gate({"orders": f"https://127.0.0.1:{port}"}, limits={"upstream_failures_max": 1}, tables=tables) as gate:
            for _ in range(3):
                refused = gate.get("/orders/chat", gate.mint("orders"), fields=HANDSHAKE)
                assert (refused.status, refused.kind) == (502, "upstream-cannot-switch"), refused.body
            assert "is left alone" not in gate.log
    finally:
        server.stop(None)


# Services of HTTP/2, frame by frame.


@pytest.fixture(scope="module")
def scripted():
    resources = {"orders": {}, "lines": {"prefix": "/lines", "upgrades": ["line"], "nested": True}}
    with H2Service() as service:
        for table in resources.values():
            table["upstream"] = service
        with Gate(resources, limits={"upstream_failures_max": 1}, top={"workers": 1}) as gate:
            yield service, gate, gate.mint("orders", "lines")


@pytest.fixture
def switching(scripted):
    """The scripted service, with extended CONNECT enabled, and nothing left of the test before."""
    service = scripted[0]
    for connection in service.connections:
        connection.close()
    service.clear()
    service.greet = lambda connection: connection.frame(SettingsFrame(0, {ENABLE_CONNECT_PROTOCOL: 1}))
    yield scripted
    service.clear()


def test_a_service_that_has_not_enabled_it_is_a_502_that_says_so(switching):
    service, gate, token = switching
    service.greet = lambda connection: connection.frame(SettingsFrame(0))
    for _ in range(3):
        refused = gate.get("/orders/chat", token, fields=HANDSHAKE)
        assert (refused.status, refused.kind, refused.problem["retry"]) == (502, "upstream-cannot-switch", "no")
        assert "RFC 8441" in refused.problem["detail"] and "Nothing was sent" in refused.problem["detail"]
        with H2Client(gate.port, token) as client:
            reply = client.reply(Socket(client).stream)
            assert reply.status == 502 and b"upstream-cannot-switch" in reply.body
    assert service.requests == []
    assert gate.get("/orders/plain", token).body == b"fine" and "is left alone" not in gate.log
    assert service.accepted == service.connections[-1].number and len(service.requests) == 1


WRONG = {
    "a subprotocol that was not offered": lambda c, s, _: c.headers(s, OK + [("sec-websocket-protocol", "chat")]),
    "an extension that was not offered": lambda c, s, _: c.headers(s, OK + [("sec-websocket-extensions", "permessage-deflate")]),
    "a length": lambda c, s, _: c.headers(s, OK + [("content-length", "4")]),
    "HTTP/1.1's answer": lambda c, s, _: c.headers(s, [(":status", "101"), ("upgrade", "websocket"), ("connection", "upgrade")]),
    "a reset": lambda c, s, _: c.reset(s, 2),
    "two statuses": lambda c, s, _: c.headers(s, OK + OK),
}


@pytest.mark.parametrize("respond", WRONG.values(), ids=WRONG.keys())
def test_a_service_that_switches_otherwise_than_asked_gets_no_tunnel(switching, respond):
    service, gate, token = switching
    service.respond = lambda c, s, fields: (respond(c, s, fields), c.data(s, b"\x81\x05worse"))
    refused = gate.get("/orders/chat", token, fields=HANDSHAKE)
    assert (refused.status, refused.kind) == (502, "upstream-nonsense") and b"worse" not in refused.body, refused.body
    with H2Client(gate.port, token) as client:
        reply = client.reply(Socket(client).stream)
        assert reply.status == 502 and b"worse" not in reply.body
    fields = dict(service.requests[0])
    assert (fields[":method"], fields[":protocol"], fields[":path"]) == ("CONNECT", "websocket", "/chat")
    assert (fields[":scheme"], fields[":authority"]) == ("http", "localhost")
    assert not {"host", "upgrade", "connection", "sec-websocket-key", "authorization"} & set(fields)


@pytest.mark.parametrize("status", [204, 301, 403, 503])
def test_only_a_success_opens_it(switching, status):
    """A success opens it whatever it is called (RFC 9110 section 9.3.6); everything else is the answer that it is."""
    service, gate, token = switching
    body = b"" if status == 204 else b"no sockets here"
    service.respond = lambda c, s, _: c.headers(s, [(":status", str(status)), ("x-own", "1")]).data(s, body, end=True)
    answered = gate.get("/orders/chat", token, fields=HANDSHAKE)
    assert answered.status == (101 if status == 204 else status) and answered.value("x-own") == "1", answered.body
    assert status == 204 or answered.body == body


@pytest.mark.parametrize("end", [lambda c, s: c.reset(s, 8), lambda c, s: c.data(s, b"", end=True), lambda c, s: c.close()],
                         ids=["a reset", "an end", "a lost connection"])
def test_the_services_end_is_the_clients(switching, end):
    service, gate, token = switching
    service.respond = lambda c, s, fields: c.headers(s) if dict(fields)[":method"] == "CONNECT" else c.answer(s)
    service.receive = lambda c, s, data, is_last: end(c, s) if data else None
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/chat", token=token, fields=HANDSHAKE))
        assert wire.answer().status == 101
        wire.send(b"\x81\x85\x00\x00\x00\x00hello")
        assert wire.rest() == b""
    assert gate.get("/orders/plain", token).body == b"fine"


def test_a_reset_of_the_client_resets_the_services_stream_and_no_other(switching):
    service, gate, token = switching
    service.respond = lambda c, s, fields: c.headers(s) if dict(fields)[":method"] == "CONNECT" else c.answer(s)
    before = service.accepted
    with H2Client(gate.port, token) as client:
        sockets = [Socket(client) for _ in range(2)]
        assert service.accepted == before + 2, "a connection each"
        first, second = service.connections[-2:]
        client.reset(sockets[0].stream)
        until(lambda: list(first.resets.values()) == [8], "the stream is cancelled")
        second.data(1, b"\x81\x02hi")
        assert sockets[1].event() == "hi" and not second.resets
    # A client that is gone is no longer spoken for.
    until(lambda: list(second.resets.values()) == [8], "the other stream is cancelled too")


def test_law_6_the_service_reads_why_between_two_frames(switching):
    """Frame by frame, since no library tells: a whole Close with 1008, then the end of the stream."""
    service, gate, token = switching
    child, came = gate.attenuate(token, "--method", "GET"), []
    service.respond = lambda c, s, fields: c.headers(s)
    service.receive = lambda c, s, data, is_last: came.append((data, is_last))
    with gate.wire() as wire:
        assert wire.send(request("GET", "/orders/chat", token=child, fields=HANDSHAKE)).answer().status == 101
        wire.send(b"\x81\x82\x00\x00\x00\x00hi")
        until(lambda: came, "the first frame has come")
        gate.revoke(child)
        assert wire.rest() == b"\x88\x09\x03\xf0revoked"
    until(lambda: came[-1][1], "the stream has ended")
    frames = Connection(ConnectionType.SERVER)
    frames.receive_data(b"".join(data for data, _ in came))
    assert list(frames.events())[-1] == CloseConnection(1008, "revoked")


def test_another_protocol_that_the_resource_names(switching):
    service, gate, token = switching
    service.respond = lambda c, s, fields: c.headers(s) if dict(fields).get(":protocol") == "line" else c.answer(s)
    service.receive = lambda c, s, data, is_last: c.data(s, data[::-1], end=is_last)
    offer = [("Connection", "Upgrade"), ("Upgrade", "line")]
    with gate.wire() as wire:
        answered = wire.send(request("GET", "/lines/x", token=token, fields=offer)).answer()
        assert (answered.status, answered.value("upgrade"), answered.value("sec-websocket-accept")) == (101, "line", None)
        wire.send(b"abc").half_close()
        assert wire.rest() == b"cba"
    # HTTP/2 has one method for all of them: what was permitted as POST is not sent as something else.
    before = len(gate.log)
    refused = gate.get("/lines/x", token, method="POST", fields=offer)
    assert refused.status == 502 and "another method than GET" in refused.problem["detail"], refused.body
    assert gate.get("/orders/plain", token).body == b"fine" and "is left alone" not in gate.log[before:]

"""Services behind every transport: Unix sockets, HTTP/2 in clear text and over TLS, with certificates on both sides; gRPC
through all of it; and services that break the rules of HTTP/2 or of TLS."""

import os
import queue
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from concurrent import futures

import grpc
import httpx
import pytest

from harness.backend import Recorder
from harness.certificates import Authority
from harness.gate import Gate, Process
from harness.h2service import OK, H2Service
from harness.h2wire import H2Wire, pseudo
from harness.ports import free_port, is_open, until
from harness.programs import TlsFront, nginx_path
from harness.wire import Closed, request

LIMITS = {"upstream_connect_timeout": "700ms", "upstream_failures_max": 1_000_000, "informational_max": 4}

APP = '''
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    told = f"{scope['http_version']} {scope['method']} {scope['path']} {len(body)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"yes")]})
    await send({"type": "http.response.body", "body": told + b" " + body[:16], "more_body": scope["path"] == "/long"})
    if scope["path"] == "/long":
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"z" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
'''


class Grpc(grpc.GenericRpcHandler):
    """One method of each kind, over plain bytes."""

    def service(self, details):
        methods = {
            "/shop.Orders/Get": grpc.unary_unary_rpc_method_handler(self.get),
            "/shop.Orders/List": grpc.unary_stream_rpc_method_handler(lambda _, context: (b"%d" % n for n in range(5))),
            "/shop.Orders/Put": grpc.stream_unary_rpc_method_handler(lambda parts, _: b"%d" % sum(map(len, parts))),
            "/shop.Orders/Talk": grpc.stream_stream_rpc_method_handler(lambda parts, _: (part[::-1] for part in parts)),
        }
        return methods.get(details.method)

    @staticmethod
    def get(asked, context):
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-bytes-bin", b"\x00\xff")))
        if asked == b"fail":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "näh")
        if asked == b"time":
            return b"%d" % context.time_remaining()
        return asked + dict(context.invocation_metadata()).get("x-sent", "").encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # The path of a Unix socket has room for a hundred bytes.
    folder = tmp_path_factory.mktemp("t")
    (folder / "app.py").write_text(APP)
    return folder


@pytest.fixture(scope="module")
def authority(folder):
    return Authority(folder / "pki")


@pytest.fixture(scope="module")
def peers(folder, authority):
    """uvicorn on a Unix socket, hypercorn and gRPC in clear text, nginx over TLS."""
    sock = folder / "a.sock"
    hypercorn_port, https, https1, mutual = (free_port() for _ in range(4))
    cert, key, _ = authority.issue("service")
    config = folder / "nginx.conf"
    temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "big.bin").write_bytes(bytes(range(256)) * 8192)
    site = f'root {folder}; location /status {{ return 200 "$server_protocol $ssl_protocol $ssl_server_name $ssl_client_s_dn"; }}'
    tls = f"ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key};"
    config.write_text(f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        {"user root;" if os.geteuid() == 0 else ""} events {{ worker_connections 256; }}
        http {{ access_log off; {temps}
        server {{ listen 127.0.0.1:{https} ssl http2; {tls} {site} }}
        server {{ listen 127.0.0.1:{https1} ssl; {tls} {site} }}
        server {{ listen 127.0.0.1:{mutual} ssl http2; {tls} {site}
          ssl_client_certificate {authority.path}; ssl_verify_client on; }} }}""")
    python = [sys.executable, "-m"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    started = [
        subprocess.Popen([*python, "uvicorn", "app:app", "--uds", str(sock), "--log-level", "error"], **quiet),
        subprocess.Popen([*python, "hypercorn", "app:app", "--bind", f"127.0.0.1:{hypercorn_port}"], **quiet),
        subprocess.Popen([nginx_path(), "-c", str(config), "-p", str(folder)], **quiet),
    ]
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Grpc(),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    until(lambda: sock.exists() and all(map(is_open, (hypercorn_port, https, https1, mutual))), "the services listen", seconds=20)
    yield {
        "unix": f"unix:{sock}",
        "h2c": f"h2c://127.0.0.1:{hypercorn_port}",
        "grpc": f"h2c://127.0.0.1:{grpc_port}",
        "https": f"https://localhost:{https}",
        "https1": f"https://127.0.0.1:{https1}",
        "mutual": f"https://127.0.0.1:{mutual}",
    }
    server.stop(None)
    for process in started:
        process.terminate()
    for process in started:
        process.wait(10)


def tls(name, **settings):
    """The table of a resource's TLS settings."""
    return {f"resource.{name}.upstream_tls": settings}


@pytest.fixture(scope="module")
def before(peers, authority, folder):
    cert, key, _ = authority.issue("gateway", names=("gateway.example",))
    resources = {name: {"upstream": url} for name, url in peers.items()}
    resources["grpc"] |= {"prefix": "/shop.Orders", "keep_prefix": True}
    tables = tls("https", ca=authority.path)
    tables |= tls("https1", ca=authority.path, server_name="localhost")
    tables |= tls("mutual", ca=authority.path, cert=cert, key=key)
    with Gate(resources, limits=LIMITS, tables=tables) as gate:
        yield gate, gate.mint(*resources)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("name, version", [("unix", "1.1"), ("h2c", "2")])
def test_an_application_is_reached_over_its_transport(before, name, version, http2):
    gate, token = before
    with httpx.Client(http1=not http2, http2=http2, headers={"authorization": f"Bearer {token}"}) as client:
        for _ in range(3):
            answer = client.get(f"{gate.url}/{name}/a")
            assert (answer.status_code, answer.text.strip(), answer.headers["x-app"]) == (200, f"{version} GET /a 0", "yes")
        body = bytes(range(256)) * 4096
        answer = client.post(f"{gate.url}/{name}/b", content=body)
        assert answer.content == b"%s POST /b %d " % (version.encode(), len(body)) + body[:16]
        answer = client.post(f"{gate.url}/{name}/c", content=(body[at : at + 5000] for at in range(0, len(body), 5000)))
        assert answer.content.startswith(b"%s POST /c %d " % (version.encode(), len(body)))
        assert client.get(f"{gate.url}/{name}/long").content.count(b"z") == 64 * 65536
        assert client.head(f"{gate.url}/{name}/a").status_code == 200


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("name, told", [
    ("https", "HTTP/2.0 TLSv1.3 localhost -"),
    ("https1", "HTTP/1.1 TLSv1.3 localhost -"),
    ("mutual", "HTTP/2.0 TLSv1.3 - CN=gateway"),
])
def test_nginx_is_reached_over_tls(before, folder, name, told, http2):
    gate, token = before
    with httpx.Client(http1=not http2, http2=http2, headers={"authorization": f"Bearer {token}"}) as client:
        for _ in range(3):
            answer = client.get(f"{gate.url}/{name}/status")
            words = [word if word else "-" for word in answer.text.split(" ")]
            assert (answer.status_code, " ".join(words)) == (200, told)
        assert client.get(f"{gate.url}/{name}/big.bin").content == (folder / "big.bin").read_bytes()
        assert client.get(f"{gate.url}/{name}/none").status_code == 404
        ranged = client.get(f"{gate.url}/{name}/big.bin", headers={"range": "bytes=256-511"})
        assert (ranged.status_code, ranged.content) == (206, bytes(range(256)))


def test_grpc_of_every_kind(before):
    gate, token = before
    metadata = (("authorization", f"Bearer {token}"), ("x-sent", "meta"))
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        answer, call = channel.unary_unary("/shop.Orders/Get").with_call(b"hi ", metadata=metadata, timeout=20)
        assert answer == b"hi meta"
        assert ("x-initial", "1") in [tuple(pair) for pair in call.initial_metadata()]
        assert [tuple(pair) for pair in call.trailing_metadata()] == [("x-trailing", "2"), ("x-bytes-bin", b"\x00\xff")]
        left = int(channel.unary_unary("/shop.Orders/Get")(b"time", metadata=metadata, timeout=500))
        assert 300 < left <= 500
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary("/shop.Orders/Get")(b"fail", metadata=metadata)
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "näh")
        with pytest.raises(grpc.RpcError) as failed:
            channel.unary_unary("/shop.Orders/None")(b"", metadata=metadata)
        assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert list(channel.unary_stream("/shop.Orders/List")(b"", metadata=metadata)) == [b"0", b"1", b"2", b"3", b"4"]
        parts = iter([b"a" * 100_000] * 20)
        assert channel.stream_unary("/shop.Orders/Put")(parts, metadata=metadata) == b"2000000"
        said = queue.Queue()
        talk = channel.stream_stream("/shop.Orders/Talk")(iter(said.get, None), metadata=metadata)
        for word in (b"abc", b"def"):
            said.put(word)
            assert next(talk) == word[::-1]
        said.put(None)
        assert list(talk) == []


def test_many_calls_share_connections(before):
    gate, token = before
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(f"127.0.0.1:{gate.port}") as channel:
        call = channel.unary_unary("/shop.Orders/Get")
        waiting = [call.future(b"%d" % n, metadata=metadata, timeout=60) for n in range(300)]
        assert [one.result() for one in waiting] == [b"%d" % n for n in range(300)]


# Services that break the rules.


@pytest.fixture(scope="module")
def broken():
    with H2Service() as service:
        yield service


@pytest.fixture(scope="module")
def hostile(broken):
    with Gate({"orders": {"upstream": broken.url}, "cleartext": {"upstream": broken.url.replace("h2c", "http")}}, limits=LIMITS) as gate:
        yield gate, gate.mint("orders", "cleartext")


@pytest.fixture
def asked(hostile, broken):
    """A request to the broken service, and to the same one after it was mended: nothing of the first may be left."""
    gate, token = hostile
    for connection in broken.connections:
        connection.close()
    broken.clear()
    yield lambda method="GET", **more: gate.get("/orders/a", token, method=method, **more)
    broken.clear()
    assert gate.get("/orders/again", token).body == b"fine"


def with_fields(*fields):
    return lambda connection, stream, _: connection.answer(stream, fields=OK + list(fields))


@pytest.mark.parametrize("name, respond", [
    ("pushes", lambda c, s, _: c.push(s).answer(s)),
    ("connection", with_fields(("connection", "close"))),
    ("transfer-encoding", with_fields(("transfer-encoding", "chunked"))),
    ("upper case", with_fields(("X-Upper", "1"))),
    ("two lengths", with_fields(("content-length", "4"), ("content-length", "4"))),
    ("a line break", with_fields(("x-a", "b\r\nx-c: d"))),
    ("a space around", with_fields(("x-a", " b"))),
    ("an endless head", with_fields(*[(f"x-{n}", "v" * 1000) for n in range(40)])),
    ("too many fields", with_fields(*[(f"x-{n}", "v") for n in range(120)])),
    ("no status", lambda c, s, _: c.headers(s, [("x-a", "b")], end=True)),
    ("switches", lambda c, s, _: c.headers(s, [(":status", "101")], end=True)),
    ("informs for ever", lambda c, s, _: [c.headers(s, [(":status", "103")]) for _ in range(50)]),
    ("resets", lambda c, s, _: c.reset(s, 2)),
    ("breaks frames", lambda c, s, _: c.raw(b"\x00\x00\x04\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
    ("closes", lambda c, s, _: c.close()),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_broken_service_is_a_502(asked, broken, name, respond):
    broken.respond = respond
    answer = asked("POST")
    assert answer.status == 502 and answer.kind.startswith("upstream-"), (name, answer.body)
    assert len(broken.requests) == 1, "a POST went up more than once"


def test_a_service_without_settings_is_given_up(asked, broken, hostile):
    broken.greet = lambda connection: None
    # Nothing was sent to it, as with an address that does not accept in time.
    assert (lambda answer: (answer.status, answer.kind))(asked()) == (502, "upstream-unreachable")
    broken.greet = lambda connection: connection.raw(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    assert (lambda answer: (answer.status, answer.kind))(asked()) == (502, "upstream-unreachable")
    until(lambda: "what came back is not HTTP/2" in hostile[0].log, "the log says why")
    assert broken.requests == [], "nothing goes up before the SETTINGS have come"


def test_clear_text_http1_to_a_service_of_http2(hostile):
    gate, token = hostile
    answer = gate.get("/cleartext/a", token)
    assert answer.status == 502, answer.body


@pytest.mark.parametrize("respond", [
    lambda c, s, _: c.headers(s).data(s, b"half").reset(s, 0),
    lambda c, s, _: c.headers(s).data(s, b"half").reset(s, 8),
    lambda c, s, _: c.headers(s).data(s, b"half").close(),
    lambda c, s, _: c.headers(s, OK + [("content-length", "9")]).data(s, b"half", end=True),
    lambda c, s, _: c.headers(s, OK + [("content-length", "2")]).data(s, b"half", end=True),
], ids=["NO_ERROR", "CANCEL", "closed", "shorter", "longer"])
@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_an_answer_that_breaks_off_never_looks_whole(asked, hostile, broken, respond, http2):
    gate, token = hostile
    broken.respond = respond
    if http2:
        with H2Wire(gate.port) as wire:
            stream = wire.headers(1, pseudo(path="/orders/a", token=token)).outcome(1)
        assert stream.reset is not None or stream.status == 502, stream
    else:
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/a", token=token))
            try:
                assert wire.answer().status == 502
            except Closed:
                pass


@pytest.mark.parametrize("refuse", [lambda c, s: c.reset(s, 7), lambda c, s: c.goaway(0).close()], ids=["REFUSED_STREAM", "GOAWAY"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_was_not_processed_goes_up_again(asked, broken, refuse, method):
    assert asked().body == b"fine"
    seen = []

    def respond(connection, stream, fields):
        seen.append(stream)
        refuse(connection, stream) if len(seen) == 1 else connection.answer(stream)

    broken.respond = respond
    assert asked(method).body == b"fine" and len(seen) == 2


@pytest.mark.parametrize("status, method", [("204", "GET"), ("304", "GET"), ("200", "HEAD")])
def test_a_body_where_none_may_be_reaches_nobody(asked, hostile, broken, status, method):
    gate, token = hostile
    broken.respond = lambda c, s, _: c.headers(s, [(":status", status)]).data(s, b"HTTP/1.1 200 OK\r\n\r\n", end=True)
    with gate.wire() as wire:
        for _ in range(2):
            answer = wire.send(request(method, "/orders/a", token=token)).answer(method)
            assert answer.status in (int(status), 502) and wire.buffer == b""


def test_informational_answers_and_trailers_pass(asked, hostile, broken):
    gate, token = hostile
    broken.respond = lambda c, s, _: (
        c.headers(s, [(":status", "103"), ("link", "</a>")]).headers(s).data(s, b"body").headers(s, [("x-sum", "4")], end=True)
    )
    answer = asked(fields=[("TE", "trailers")])
    assert [hint.status for hint in answer.informational] == [103] and answer.informational[0].value("link") == "</a>"
    assert answer.body == b"body" and b"x-sum: 4" in answer.trailers
    fields = dict(broken.requests[0])
    assert (fields[":method"], fields[":path"], fields[":scheme"], fields["te"]) == ("GET", "/a", "http", "trailers")
    assert not {"host", "connection", "authorization", "transfer-encoding"} & set(fields)


def test_a_client_that_leaves_cancels_its_stream(asked, hostile, broken):
    gate, token = hostile
    broken.respond = lambda connection, stream, fields: (
        connection.answer(stream) if dict(fields)[":path"] == "/again" else connection.headers(stream).data(stream, b"begun")
    )
    with H2Wire(gate.port) as wire:
        wire.headers(1, pseudo(path="/orders/a", token=token))
        assert wire.until(lambda: wire.stream(1).body)
    until(lambda: any(8 in connection.resets.values() for connection in broken.connections), "the stream is cancelled")


# Services that are not who they should be.


@pytest.fixture(scope="module")
def impostors(authority, folder):
    """Services over TLS, each with something wrong: name → port."""
    stranger = Authority(folder / "stranger")
    right = authority.issue("right")
    contexts = {
        "unknown authority": stranger.issue("unknown"),
        "expired": authority.issue("expired", is_expired=True),
        "another name": authority.issue("another", names=("another.example",)),
        "certificate wanted": right,
    }
    listeners = []

    def serve(listener, context):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            try:
                sock.settimeout(5)
                with context.wrap_socket(sock, server_side=True) as secure:
                    secure.recv(65536)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
            except OSError:
                sock.close()

    ports = {}
    for name, (cert, key, _) in contexts.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        if name == "certificate wanted":
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(str(authority.path))
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        ports[name] = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener, context), daemon=True).start()
    yield ports
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("name, said", [
    ("unknown authority", "name the one that has in upstream_tls.ca"),
    ("expired", "its certificate has expired"),
    ("another name", "its certificate is for another name"),
    ("certificate wanted", None),
    ("clear text", "what came back is not TLS"),
])
def test_a_service_that_cannot_be_trusted_gets_nothing(impostors, authority, peers, name, said):
    port = impostors[name] if name in impostors else int(peers["grpc"].rsplit(":", 1)[1])
    tables = tls("orders", ca=authority.path)
    with Gate({"orders": f"https://127.0.0.1:{port}"}, limits=LIMITS, tables=tables) as gate:
        answer = gate.get("/orders/a", gate.mint("orders"), body=b"for the right one alone", method="POST")
        assert answer.status in (502, 504) and answer.kind.startswith("upstream-") and b"secret" not in answer.body
        until(lambda: said is None or said in gate.log, "the log says why")


@pytest.mark.parametrize("protocol, status", [("h2", 200), ("http/1.1", 200), ("spdy/3", 502)])
def test_the_protocol_is_agreed_on_or_nothing_is_sent(authority, protocol, status):
    """A service that insists on one protocol, behind TLS; the third speaks none that the gateway does."""
    cert, key, _ = authority.issue("insists")
    with (H2Service() if protocol == "h2" else Recorder()) as service, TlsFront(service, cert, key, protocol) as front:
        with Gate({"orders": front}, limits=LIMITS, tables=tls("orders", ca=authority.path)) as gate:
            answered = gate.get("/orders/a", gate.mint("orders"))
            assert answered.status == status and len(service.requests) == (status == 200)
            if status == 502:
                assert (answered.kind, answered.problem["retry"]) == ("upstream-unreachable", "safe")
                until(lambda: "it speaks no HTTP/2 and no HTTP/1.1 there" in gate.log, "the log says why")


def test_without_a_named_authority_the_systems_count(authority, folder):
    """What the system trusts is where its OpenSSL says; a stranger's certificate is not, until its authority is."""
    cert, key, _ = authority.issue("of-the-system")
    stranger = Authority(folder / "no-system")
    with Recorder() as service, TlsFront(service, cert, key, "http/1.1") as front:
        for trusted, status in [(authority, 200), (stranger, 502)]:
            env = {"SSL_CERT_FILE": str(trusted.path), "SSL_CERT_DIR": str(folder / "none")}
            with Gate({"orders": front}, limits=LIMITS, env=env) as gate:
                assert gate.get("/orders/a", gate.mint("orders")).status == status
                says_why = lambda: "no authority that is trusted has signed its certificate" in gate.log  # noqa: E731
                if status == 502:
                    # The log is written beside the answer, not before it.
                    until(says_why, "the log says why")
                assert says_why() == (status == 502)
        assert len(service.requests) == 1


def test_tls_settings_that_cannot_work_are_refused_at_the_start(authority, folder, peers):
    cert, key, _ = authority.issue("lost")
    other = authority.issue("other")[1]
    empty = folder / "empty.pem"
    empty.write_text("")
    for settings, said in [
        ({"ca": empty}, "holds no certificate"),
        ({"ca": folder / "none.pem"}, "cannot be read"),
        ({"ca": authority.path, "cert": cert, "key": other}, "its key cannot be used"),
        ({"ca": authority.path, "cert": cert}, "a certificate and its key come together"),
        ({"verify": "false"}, "there is no such key"),
    ]:
        with Gate({"orders": "https://localhost:1"}, tables=tls("orders", **settings), start=False) as gate:
            run = gate.run("serve", "--config", gate.config, timeout=20)
            assert run.code == 2 or run.code == 3, run.err
            assert said in run.err, run.err


def test_postern_proxy_takes_every_scheme(peers, folder):
    state = folder / "proxy-state"
    port, admin = free_port(), free_port()
    process = Process("proxy", f"app={peers['unix']}", f"two={peers['h2c']}", "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}", state=state)
    try:
        until(lambda: is_open(port) and (state / "two.token").exists(), "the proxy listens")
        for name, version in [("app", "1.1"), ("two", "2")]:
            token = (state / f"{name}.token").read_text().strip()
            answer = httpx.get(f"http://127.0.0.1:{port}/{name}/x", headers={"authorization": f"Bearer {token}"})
            assert answer.text.strip() == f"{version} GET /x 0"
    finally:
        process.kill()
        shutil.rmtree(state, ignore_errors=True)

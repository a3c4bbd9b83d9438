"""What is verified is what the application routes on, whatever has the server make another path of the one that came.

gunicorn believes a field `SCRIPT_NAME` of every peer on this machine, the gateway included, and takes it off the path: a capability for
`/public/**` once reached the application's `/admin` that way, since the path that came was `/public/admin`. Of a path without
its raw form, which ASGI leaves to the server, what followed a `?` in a segment was once taken for the query.
"""

import asyncio
import io
import os
import sys

import httpx
import postern
import pytest
from postern.asgi import CapabilityMiddleware as Asgi
from postern.wsgi import CapabilityMiddleware as Wsgi

from harness.gate import Gate
from harness.ports import free_port
from harness.verifying import SERVICES, Service

SERVERS = {
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:{port}", "mounted:wsgi"],
    "uvicorn": ["uvicorn", "--port", "{port}", "mounted:asgi"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}", "mounted:asgi"],
}


def serve(server, folder, key, *options, mount="", port=None):
    port = port or free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[server]), *options]
    environment = {**os.environ, "PYTHONPATH": str(SERVICES), "KEY": str(key), "MOUNT": mount}
    return Service(command, port, folder / f"{server}.log", env=environment)


def ask(url, token, **fields):
    answer = httpx.get(url, headers={"authorization": f"Bearer {token}", **fields})
    return (answer.status_code, answer.text if answer.is_success else answer.json()["type"])


def test_a_field_does_not_move_an_application_of_gunicorns_past_the_check(tmp_path):
    port = free_port()
    with Gate({"orders": {"upstream": f"http://127.0.0.1:{port}", "forward_token": "narrowed"}}) as gate:
        with serve("gunicorn", tmp_path, (gate.state / "root.pub").read_text().strip(), port=port) as service:
            token = gate.mint("orders", "--path", "/public/**")
            assert ask(f"{gate.url}/orders/public/admin", token) == (200, "/public/admin")
            for url in (f"{gate.url}/orders/public/admin", f"{service.url}/public/admin"):
                for forged in ("/public", "/pub", "/"):
                    answer = ask(url, token, SCRIPT_NAME=forged)
                    assert answer in [(400, "bad-path"), (200, "/public/admin")], (url, forged, answer)
            assert ask(f"{service.url}/public/admin", token, SCRIPT_NAME="/public") == (400, "bad-path")


@pytest.mark.parametrize("server", SERVERS)
def test_an_application_that_is_mounted_elsewhere_says_where(server, tmp_path, key):
    """uvicorn puts its root path before what came; the others take it for a part of what came."""
    token = postern.mint(key, "orders", path=["/public/**", "/orders/public/**"])
    prefix = "" if server == "uvicorn" else "/orders"
    options = {"gunicorn": ["--env", "SCRIPT_NAME=/orders"]}.get(server, ["--root-path", "/orders"])
    with serve(server, tmp_path, key.public_key, *options) as service:
        assert ask(f"{service.url}{prefix}/public/x", token) == (400, "bad-path"), "it was not told"
    with serve(server, tmp_path, key.public_key, *options, mount="/orders") as service:
        assert ask(f"{service.url}{prefix}/public/x%2Cy", token) == (200, "/public/x,y")
        assert ask(f"{service.url}{prefix}/admin", token) == (403, "not-permitted")


def wsgi(verifier, token, options, **environ):
    """Status and what the application was called with."""
    called, said = [], []

    def application(environ, start_response):
        start_response("200 OK", [])
        called.append(environ["PATH_INFO"])
        return [b""]

    environ = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "a", "HTTP_AUTHORIZATION": f"Bearer {token}", **environ,
    }  # fmt: skip
    list(Wsgi(application, verifier, **options)(environ, lambda status, _: said.append(int(status[:3]))))
    return said[0], called


def asgi(verifier, token, options, **scope):
    called, said = [], []

    async def application(scope, receive, send):
        called.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        said.append(message)

    headers = [(b"authorization", f"Bearer {token}".encode()), *scope.pop("headers", [])]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "http_version": "1.1", "headers": headers, **scope}
    asyncio.run(Asgi(application, verifier, **options)(scope, receive, send))
    return said[0].get("status", said[0].get("code")), called


@pytest.fixture(scope="module")
def verifier(key):
    return postern.Verifier.of_keys(str(key.public_key), resource="orders")


def test_wsgi_verifies_what_is_below_the_mount_that_it_was_told(key, verifier):
    token = postern.mint(key, "orders", path="/public/**")
    told = {"script_name": "/orders/"}
    for options, environ in [
        ({}, {"PATH_INFO": "/public/x"}),
        ({}, {"PATH_INFO": "/public/x", "RAW_URI": "/public/x?a=b", "QUERY_STRING": "a=b"}),
        ({}, {"PATH_INFO": "/public/\u00c3\u00a4", "REQUEST_URI": "/public/%C3%A4"}),
        (told, {"SCRIPT_NAME": "/orders", "PATH_INFO": "/public/x"}),
        (told, {"SCRIPT_NAME": "/orders", "PATH_INFO": "/public/x", "RAW_URI": "/orders/public/x"}),
        (told, {"SCRIPT_NAME": "/orders", "PATH_INFO": "/public/x", "RAW_URI": "/public/x"}),
    ]:
        assert wsgi(verifier, token, options, **environ) == (200, [environ["PATH_INFO"]]), environ
    for options, environ in [
        ({}, {"SCRIPT_NAME": "/public", "PATH_INFO": "/admin", "RAW_URI": "/public/admin"}),
        ({}, {"SCRIPT_NAME": "/public", "PATH_INFO": "/admin"}),
        ({}, {"PATH_INFO": "/admin", "RAW_URI": "/public/x"}),
        ({}, {"PATH_INFO": "/admin", "REQUEST_URI": "/public/x"}),
        ({}, {"PATH_INFO": "/public/x", "RAW_URI": "http://a/public/x"}),
        ({}, {"PATH_INFO": "/public/x", "RAW_URI": "/public/x#/../admin"}),
        ({}, {"PATH_INFO": "/public/x", "RAW_URI": "/public/x?a=b", "QUERY_STRING": "a=c"}),
        ({}, {"PATH_INFO": "/public/x", "RAW_URI": "/public/x?a=b#c", "QUERY_STRING": "a=b"}),
        ({}, {"PATH_INFO": "/public/\u20ac"}),
        ({}, {"PATH_INFO": "/public/../admin"}),
        (told, {"PATH_INFO": "/public/x"}),
        (told, {"SCRIPT_NAME": "/orders/public", "PATH_INFO": "/admin", "RAW_URI": "/orders/public/admin"}),
        (told, {"SCRIPT_NAME": "/orders", "PATH_INFO": "/admin", "RAW_URI": "/public/x"}),
    ]:
        assert wsgi(verifier, token, options, **environ) == (400, []), environ
    assert wsgi(verifier, token, told, SCRIPT_NAME="/orders", PATH_INFO="/admin", RAW_URI="/orders/admin") == (403, [])


def test_asgi_verifies_what_is_below_the_mount_that_it_was_told(key, verifier):
    token = postern.mint(key, "orders", path=["/public", "/public/**"])
    told = {"root_path": "/orders"}
    for options, scope in [
        ({}, {"path": "/public/x"}),
        ({}, {"path": "/public/x", "raw_path": b"/public/x"}),
        ({}, {"path": "/public/x", "raw_path": b"/public/x?a=b", "query_string": b"a=b"}),
        ({}, {"path": "/public/\u00e4", "raw_path": b"/public/%C3%A4"}),
        (told, {"root_path": "/orders", "path": "/orders/public/x", "raw_path": b"/orders/public/x"}),
        (told, {"root_path": "/orders", "path": "/public/x", "raw_path": b"/public/x"}),
    ]:
        assert asgi(verifier, token, options, **scope) == (200, [scope["path"]]), scope
    for options, scope in [
        ({}, {"path": "/admin", "raw_path": b"/public/x"}),
        ({}, {"path": "/public/x", "raw_path": b"/public/x?a=b", "query_string": b"a=c"}),
        ({}, {"path": "/public/%2e%2e/admin"}),
        ({}, {"path": "/public/../admin"}),
        ({}, {"path": "/public/\udc80"}),
        ({}, {"path": "/public/x", "raw_path": b"/public/%78"}),
        ({}, {"root_path": "/public", "path": "/public/admin", "raw_path": b"/public/admin"}),
        (told, {"path": "/orders/public/x", "raw_path": b"/orders/public/x"}),
        # Frameworks differ on where the mount ends in these.
        (told, {"root_path": "/orders", "path": "/ordersx/public/x"}),
        (told, {"root_path": "/orders", "path": "/public/orders/admin"}),
        (told, {"root_path": "/orders", "path": "*"}),
    ]:
        assert asgi(verifier, token, options, **scope) == (400, []), scope
    # What is no query is none: the whole path is verified, and this token does not allow it.
    for path in ("/public?x/../admin", "/public?/admin/x"):
        assert asgi(verifier, token, {}, path=path, raw_path=None)[0] in (400, 403), path
    assert asgi(verifier, token, told, root_path="/orders", path="/orders/admin", raw_path=b"/orders/admin") == (403, [])


@pytest.mark.parametrize("middleware", [Asgi, Wsgi])
def test_exempt_is_a_collection_of_paths_and_not_one_text(middleware, verifier):
    """Of a text every part was exempt, `/` among them."""
    for wrong in ("/health", b"/health", ["health"], [7], [None]):
        with pytest.raises(TypeError, match="exempt"):
            middleware(None, verifier, exempt=wrong)
    with pytest.raises(TypeError, match="is where the application is mounted"):
        middleware(None, verifier, **{"script_name" if middleware is Wsgi else "root_path": "orders"})
    for exempt in (["/health"], {"/health"}, (path for path in ["/health"])):
        run = wsgi if middleware is Wsgi else asgi
        name = "PATH_INFO" if middleware is Wsgi else "path"
        assert run(verifier, "none", {"exempt": exempt}, **{name: "/health"}) == (200, ["/health"])
        for path in ("/", "/healt", "/health/", "/heal"):
            assert run(verifier, "none", {"exempt": ["/health"]}, **{name: path}) == (401, []), path
    moved = {"SCRIPT_NAME": "/he", "PATH_INFO": "alth"} if middleware is Wsgi else {"root_path": "/admin", "path": "/health"}
    assert (wsgi if middleware is Wsgi else asgi)(verifier, "none", {"exempt": ["/health"]}, **moved) == (400, [])


def test_a_websocket_switches_protocols_also_where_no_field_says_so(key, verifier):
    """Over HTTP/2 there is no field `Upgrade`, and `--no-upgrade` let it through."""
    token, stopped = postern.mint(key, "orders"), postern.mint(key, "orders", no_upgrade=True)
    small = postern.mint(key, "orders", max_body=10)
    for version in ("1.1", "2"):
        for fields in ([], [(b"upgrade", b""), (b"Upgrade", b"websocket")]):
            scope = {"type": "websocket", "path": "/x", "http_version": version, "headers": fields}
            assert asgi(verifier, stopped, {}, **scope) == (1008, []), scope
            assert asgi(verifier, token, {}, **scope)[1] == asgi(verifier, small, {}, **scope)[1] == ["/x"], scope


def test_what_nobody_foresaw_is_refused_and_not_acted_upon(key, caplog):
    class Broken:
        def document(self):
            raise RuntimeError("the disk is full")

        at_hand = is_worth_another_look = refresh = document

    verifier, token = postern.Verifier(Broken(), resource="orders"), postern.mint(key, "orders")
    assert wsgi(verifier, token, {}) == asgi(verifier, token, {}) == (503, [])
    assert "the disk is full" in caplog.text and token not in caplog.text
    with pytest.raises(postern.PosternError, match="webtransport"):
        asgi(verifier, token, {}, type="webtransport")


def test_a_body_that_breaks_off_is_a_typed_refusal(key, verifier):
    class Gone(io.RawIOBase):
        def read(self, *_):
            raise OSError("connection reset")

    token = postern.mint(key, "orders", rpc="ping")
    more = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "40", "wsgi.input": Gone()}
    assert wsgi(verifier, token, {}, **more) == (400, [])
    # Over HTTP/2 no declared length is not a length of 0.
    small = postern.mint(key, "orders", max_body=10)
    assert wsgi(verifier, small, {}, SERVER_PROTOCOL="HTTP/2", REQUEST_METHOD="POST")[0] == 411


def test_messages_of_one_connection_do_not_share_what_they_were_verified_for(key, verifier):
    shared = {"pool": object()}
    scope = {"type": "http", "path": "/", "headers": [(b"authorization", f"Bearer {postern.mint(key, 'orders')}".encode())]}
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["state"])

    async def ask(**more):
        await Asgi(application, verifier, exempt={"/health"})({**scope, "state": shared, **more}, None, None)

    asyncio.run(ask())
    asyncio.run(ask(path="/health"))
    assert seen[0]["capability"].holds("orders", "GET") and seen[0]["pool"] is shared["pool"]
    assert "capability" not in seen[1] and "capability" not in shared

"""Pages of other origins: a real browser asks, the gateway answers; and what is said to whom, byte for byte."""

import html
import http.server
import re
import shutil
import ssl
import subprocess
import tempfile
import threading

import httpx
import pytest

from harness.backend import Recorder, answer
from harness.certificates import Authority
from harness.gate import Gate
from harness.ports import free_port
from harness.wire import request

APP = "https://app.example.com"
CORS = {"origins": [APP, "http://localhost:3000"], "methods": ["GET", "PUT"], "headers": ["authorization", "X-Thing"], "expose": ["ETag"], "max_age": "5m"}
THEIRS = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true"), ("Vary", "Accept"), ("ETag", '"1"')]


@pytest.fixture(scope="module")
def service():
    with Recorder(lambda r: answer(body=f"{r.method} {r.target}".encode(), fields=THEIRS)) as service:
        service.default = service.respond
        yield service


def with_cors(service, cors=CORS, **more):
    return {"upstream": service.url, **more, "cors": cors}


def resources(service):
    return {"orders": {"upstream": service.url}, "shop": {"upstream": service.url}, "any": {"upstream": service.url}}


def add_cors(gate, **tables):
    from harness.gate import toml_table

    gate.config.write_text(gate.config.read_text() + "".join(toml_table(f"resource.{name}.cors", table) for name, table in tables.items()))


@pytest.fixture(scope="module")
def gate(service):
    """`shop` lets two origins in, `any` every one, `orders` configures nothing."""
    gate = Gate(resources(service), start=False)
    add_cors(gate, shop=CORS, any={"origins": ["*"], "headers": ["authorization"]})
    with gate.start() as gate:
        yield gate


@pytest.fixture(scope="module")
def token(gate):
    return gate.mint("shop", "any", "orders")


def preflight(gate, path, origin=APP, method="PUT", more=(), **kind):
    fields = [("Origin", origin), ("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", "authorization"), *more]
    return gate.get(path, method="OPTIONS", fields=fields, **kind)


def test_a_preflight_from_a_named_origin_is_answered_without_a_token_and_never_forwarded(gate, service):
    reply = preflight(gate, "/shop/x")
    assert reply.status == 204 and reply.body == b"" and reply.value("content-length") is None
    assert reply.value("access-control-allow-origin") == APP
    assert reply.value("access-control-allow-methods") == "GET, PUT"
    assert reply.value("access-control-allow-headers") == "authorization, x-thing"
    assert reply.value("access-control-max-age") == "300" and reply.value("access-control-allow-credentials") is None
    assert "Origin" in reply.value("vary")
    assert preflight(gate, "/any/x", "https://whoever.example").value("access-control-allow-origin") == "*"
    assert not service.requests


def test_every_other_preflight_is_refused_alike_for_known_and_unknown_resources(gate, service):
    """Without a configured origin a preflight is a message without a token, and tells nobody what exists."""
    def said(reply):
        return reply.status, reply.body, sorted((n.lower(), v) for n, v in reply.fields if n.lower() not in ("date", "vary"))

    answers = [
        said(preflight(gate, "/orders/x")),
        said(preflight(gate, "/nowhere/x")),
        said(preflight(gate, "/shop/x", "https://evil.example")),
        said(preflight(gate, "/shop/x", "null")),
        said(preflight(gate, "/shop/x", APP + ".evil.example")),
        said(preflight(gate, "/shop/x", more=[("Origin", "https://evil.example")])),
    ]
    assert answers[0][0] == 401 and all(a == answers[0] for a in answers), answers
    assert not service.requests


def test_answers_name_the_origin_in_place_of_what_the_service_says(gate, service, token):
    reply = gate.get("/shop/x", token, fields=[("Origin", APP)])
    assert reply.status == 200 and reply.values("access-control-allow-origin") == [APP]
    assert reply.values("access-control-allow-credentials") == [] and reply.values("vary") == ["Accept", "Authorization, Postern-Capability, Origin"]
    assert reply.value("access-control-expose-headers") == "www-authenticate, etag"
    other = gate.get("/shop/x", token, fields=[("Origin", "https://evil.example")])
    assert other.status == 200 and not [n for n, _ in other.fields if n.lower().startswith("access-control-")]
    assert "Origin" in other.values("vary")[-1], "a cache must not hand this to a page that may read it, nor the other way round"
    untouched = gate.get("/orders/x", token, fields=[("Origin", APP)])
    assert untouched.value("access-control-allow-origin") == "*", "where nothing is configured the service speaks for itself"


def test_refusals_can_be_read_by_the_page(gate, service, token):
    for reply in (
        gate.get("/shop/x", fields=[("Origin", APP)]),
        gate.get("/shop/x", "nonsense", fields=[("Origin", APP)]),
        gate.get("/shop/x", gate.attenuate(token, "--path", "/else"), fields=[("Origin", APP)]),
    ):
        assert reply.status in (401, 403) and reply.value("access-control-allow-origin") == APP
        assert "www-authenticate" in reply.value("access-control-expose-headers") and reply.value("www-authenticate")


def test_options_that_asks_for_nothing_is_an_ordinary_message(gate, service, token):
    service.clear()
    assert gate.get("/shop/x", method="OPTIONS", fields=[("Origin", APP)]).status == 401
    assert gate.get("/shop/x", token, method="OPTIONS", fields=[("Origin", APP)]).status == 200
    assert [r.method for r in service.requests] == ["OPTIONS"]


def test_http2_says_the_same(service, tmp_path):
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("gate")
    gate = Gate(resources(service), tls={"cert": cert, "key": key}, start=False)
    add_cors(gate, shop={**CORS, "credentials": True})
    with gate.start(), httpx.Client(http2=True, http1=False, verify=ssl.create_default_context(cafile=str(authority.path))) as client:
        asked = client.options(f"{gate.url}/shop/x", headers={"Origin": APP, "Access-Control-Request-Method": "PUT"})
        assert asked.http_version == "HTTP/2" and asked.status_code == 204 and asked.headers["access-control-allow-origin"] == APP
        assert asked.headers["access-control-allow-credentials"] == "true" and "content-type" not in asked.headers
        headers = {"Origin": APP, "Authorization": f"Bearer {gate.mint('shop')}"}
        given = client.get(f"{gate.url}/shop/x", headers=headers)
        assert given.status_code == 200 and given.headers.get_list("access-control-allow-origin") == [APP]
        refused = client.get(f"{gate.url}/shop/x", headers={"Origin": APP})
        assert refused.status_code == 401 and refused.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-origin" not in client.get(f"{gate.url}/orders/x", headers={"Origin": APP}).headers


class Pages:
    """One page, served on an origin of its own."""

    def __init__(self, text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                data = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


PAGE = """<!doctype html><title>page</title><pre id="out">waiting</pre><script>
async function ask(what, options) {
  try {
    const reply = await fetch(what, options);
    return `${reply.status} ${reply.headers.get("etag")} ${(await reply.text()).slice(0, 60)}`;
  } catch (error) { return `blocked`; }
}
(async () => {
  const told = [];
  told.push(await ask("%(url)s/shop/x", {method: "PUT", headers: {Authorization: "Bearer %(token)s", "X-Thing": "1"}}));
  told.push(await ask("%(url)s/shop/x", {headers: {Authorization: "Bearer %(token)s"}, method: "DELETE"}));
  told.push(await ask("%(url)s/shop/x", {}));
  told.push(await ask("%(url)s/orders/x", {headers: {Authorization: "Bearer %(token)s"}}));
  document.getElementById("out").textContent = told.join("|");
})();
</script>"""


def browse(url):
    """What a real browser makes of a page: the text of its `out` when the page has settled."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing; tests/run installs it"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
             "--virtual-time-budget=20000", "--timeout=30000", "--dump-dom", url],
            capture_output=True, text=True, timeout=90,
        )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)
    assert found, f"{done.stdout}\n{done.stderr[-2000:]}"
    return html.unescape(found.group(1)).split("|")


def test_in_a_real_browser_a_named_origins_page_works_and_anothers_does_not(service):
    gate = Gate(resources(service), start=False)
    token = gate.mint("shop", "orders")
    with Pages(PAGE % {"url": gate.url, "token": token}) as named, Pages(PAGE % {"url": gate.url, "token": token}) as other:
        add_cors(gate, shop={**CORS, "origins": [named.origin]})
        with gate.start():
            service.clear()
            allowed = browse(named.origin)
            assert allowed[0] == '200 "1" PUT /x', allowed
            assert allowed[1] == "blocked", "DELETE is not among the methods"
            assert allowed[2].startswith("401 null {"), "a refusal is read by the page that may"
            assert allowed[3] == "blocked", "a resource without the table is closed to pages"
            assert [r.method for r in service.requests] == ["PUT"], "what the browser asked first went no further"
            service.clear()
            assert browse(other.origin) == ["blocked"] * 4
            assert not service.requests, "a page that is not named reaches nothing with its token"

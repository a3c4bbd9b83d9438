"""Where a redirect leads, a capability goes only if that is still its resource, and then it is narrowed to that very hop.

HTTP clients copy a request's fields to the next hop and take off none but `Authorization` on the way to another origin: a token in
`Postern-Capability` was once handed to whomever a service redirected to.
"""

import asyncio
import http.server
import threading

import httpx
import postern
import pytest
import requests
from postern.httpx import CapabilityAuth, CapabilityHook
from postern.requests import CapabilityAuth as RequestsAuth

FIELDS = ("authorization", "postern-capability")


class Hops:
    """A server that redirects as it is told, `LOCATIONS[path]`, and remembers each request with its token."""

    def __init__(self):
        self.locations, self.seen = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("content-length") or 0))
                tokens = [self.headers[name] for name in FIELDS if self.headers[name]]
                outer.seen.append((self.command, self.path, tokens))
                status, location = outer.locations.get(self.path, (200, None))
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def servers():
    pair = Hops(), Hops()
    yield pair
    for each in pair:
        each.server.shutdown()


def by_requests(method, url, token, resource, **options):
    with requests.Session() as session:
        return session.request(method, url, auth=RequestsAuth(token, resource=resource, **options), data=b"body")


def by_httpx(method, url, token, resource, **options):
    hooks = {"request": [CapabilityHook(token, resource=resource, **options)]}
    with httpx.Client(event_hooks=hooks, follow_redirects=True) as client:
        return client.request(method, url, content=b"body")


def by_httpx_async(method, url, token, resource, **options):
    async def ask():
        hooks = {"request": [CapabilityHook(token, resource=resource, **options)]}
        async with httpx.AsyncClient(event_hooks=hooks, follow_redirects=True) as client:
            return await client.request(method, url, content=b"body")

    return asyncio.run(ask())


CLIENTS = [by_requests, by_httpx, by_httpx_async]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("ask", CLIENTS)
def test_a_capability_does_not_follow_a_redirect_out_of_its_resource(servers, key, ask, narrow, field):
    home, elsewhere = servers
    token = postern.mint(key, "orders")
    home.locations = {
        "/orders/1": (302, f"{elsewhere.url}/orders/steal"),
        "/orders/2": (307, "/invoices/2"),
        "/orders/3": (302, f"//localhost:{home.server.server_port}/orders/4"),
        "/orders/5": (302, f"{elsewhere.url}/back"),
    }
    elsewhere.locations = {"/back": (302, f"{home.url}/orders/deed")}
    for path in ("/orders/1", "/orders/2", "/orders/3", "/orders/5"):
        assert ask("GET", home.url + path, token, f"{home.url}/orders", narrow=narrow, field=field).status_code == 200
    sent = {path: tokens for _, path, tokens in home.seen + elsewhere.seen}
    for path in ("/orders/steal", "/invoices/2", "/orders/4", "/back", "/orders/deed"):
        assert sent[path] == [], path
    assert all(len(sent[path]) == 1 for path in home.locations)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("ask", CLIENTS)
def test_each_hop_carries_the_token_narrowed_to_itself(servers, key, ask, field):
    home, _ = servers
    home.locations = {"/orders/1": (303, "/orders/2?a=b"), "/orders/2?a=b": (307, f"{home.url}/orders/3")}
    answer = ask("POST", f"{home.url}/orders/1", postern.mint(key, "orders"), f"{home.url}/orders", field=field)
    assert (answer.status_code, [hop.status_code for hop in answer.history]) == (200, [303, 307])
    verifier = postern.Verifier.of_keys(str(key.public_key), resource="orders")
    assert [hop[:2] for hop in home.seen] == [("POST", "/orders/1"), ("GET", "/orders/2?a=b"), ("GET", "/orders/3")]
    values = [value for _, _, (value,) in home.seen]
    assert len(set(values)) == 3
    for method, target, (value,) in home.seen:
        assert verifier.verify(method=method, target=target.removeprefix("/orders"), headers={field: value})
    assert [hop.request.headers[field] for hop in answer.history] == values[:2], "history says what was sent"


def test_a_path_that_is_resolved_before_it_is_sent_gets_no_token(servers, key):
    home, _ = servers
    token, resource = postern.mint(key, "orders"), f"{home.url}/orders"
    for path in ("/orders/../admin", "/orders/%2e%2e/admin"):
        for ask in CLIENTS:
            ask("GET", home.url + path, token, resource, narrow=False)
    assert len(home.seen) == 6
    for method, path, tokens in home.seen:
        assert tokens == [], (method, path)


def test_a_token_for_another_place_than_the_first_is_never_added_on_the_way(servers, key):
    """Whoever redirects into the resource would use the token of whoever asked."""
    home, elsewhere = servers
    elsewhere.locations = {"/start": (302, f"{home.url}/orders/deed")}
    for ask in CLIENTS:
        assert ask("GET", f"{elsewhere.url}/start", postern.mint(key, "orders"), f"{home.url}/orders").status_code == 200
    assert [tokens for _, _, tokens in home.seen] == [[], [], []]


def test_what_httpx_would_hand_on_is_refused_with_what_to_write_instead(key):
    with pytest.raises(postern.PosternError, match="CapabilityHook") as caught:
        CapabilityAuth(postern.mint(key, "orders"), resource="http://gateway.example/orders", field="Postern-Capability")
    assert caught.value.kind == "invalid-option"


def test_httpx_by_itself_takes_authorization_off_on_the_way_to_another_origin(servers, key):
    home, elsewhere = servers
    home.locations = {"/orders/1": (302, f"{elsewhere.url}/steal")}
    auth = CapabilityAuth(postern.mint(key, "orders"), resource=f"{home.url}/orders")
    assert httpx.get(f"{home.url}/orders/1", auth=auth, follow_redirects=True).status_code == 200
    assert elsewhere.seen == [("GET", "/steal", [])] and len(home.seen[0][2]) == 1

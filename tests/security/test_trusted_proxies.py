"""What an earlier hop says about the client is believed from the addresses that the configuration names, and from nobody
else (T7)."""

import contextlib
import os
import subprocess

import httpx
import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.ports import free_port, is_open, until
from harness.programs import nginx_path
from harness.wire import Wire, request

SAID = [("X-Forwarded-For", "9.9.9.9, 203.0.113.7"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=203.0.113.7;proto=https")]


@pytest.fixture(scope="module", params=["trusted", "not trusted"])
def hop(request):
    proxies = ["127.0.0.1/32"] if request.param == "trusted" else ["192.0.2.0/24"]
    with Recorder() as service, Gate({"orders": service}, top={"trusted_proxies": proxies}) as gate:
        yield request.param == "trusted", service, gate


def test_the_client_is_who_a_trusted_proxy_says(hop):
    trusted, service, gate = hop
    token = gate.mint("orders")
    there, here = gate.attenuate(token, "--client", "203.0.113.0/24"), gate.attenuate(token, "--client", "127.0.0.0/8")
    assert gate.get("/orders/x", there, fields=SAID).status == (200 if trusted else 403)
    assert gate.get("/orders/x", here, fields=SAID).status == (403 if trusted else 200)
    assert gate.get("/orders/x", here).status == (403 if trusted else 200), "whom a proxy does not name is nobody"


def test_what_the_service_hears_is_what_was_decided_on(hop):
    trusted, service, gate = hop
    service.clear()
    gate.get("/orders/x", gate.mint("orders"), fields=SAID)
    (request,) = service.requests
    heard = request.value("x-forwarded-for")
    assert ("203.0.113.7" in heard) == trusted
    assert trusted or heard == "127.0.0.1"
    assert request.value("x-forwarded-proto") == ("https" if trusted else "http")


def test_nonsense_from_a_trusted_proxy_widens_nothing(hop):
    _, _, gate = hop
    there = gate.attenuate(gate.mint("orders"), "--client", "203.0.113.0/24")
    for value in ("", "unknown", "203.0.113.7 x", "203.0.113.7:x", "999.1.1.1", "[::1", "203.0.113.7, nonsense", "_hidden"):
        assert gate.get("/orders/x", there, fields=[("X-Forwarded-For", value)]).status in (400, 403), value


@pytest.mark.parametrize("said", ["1.2.3.4, unknown, 127.0.0.1", "1.2.3.4, unknown", "127.0.0.1, _hidden, 127.0.0.1", "1.2.3.4,, 127.0.0.1"])
def test_a_client_whom_a_trusted_proxy_does_not_name_is_nobody(said):
    """It is not the proxy: a token for the proxies' own network does not work for whoever hides behind one of them."""
    with Recorder() as service, Gate({"orders": service}, top={"trusted_proxies": ["127.0.0.0/8"]}) as gate:
        token = gate.mint("orders")
        for network in ("127.0.0.0/8", "1.2.3.4/32", "0.0.0.0/0"):
            narrow = gate.attenuate(token, "--client", network)
            assert gate.get("/orders/x", narrow, fields=[("X-Forwarded-For", said)]).status == 403, network
        assert gate.get("/orders/x", token, fields=[("X-Forwarded-For", said)]).status == 200
        (request,) = service.requests
        assert request.value("x-forwarded-for") == "unknown"
        assert request.value("forwarded").startswith("for=unknown;")


# Every form, made up by the client, with a mark that neither the facts nor the service may show where the form is not the proxy's.
MADE_UP = {
    "X-Forwarded-For": "6.6.6.6",
    "Forwarded": "for=6.6.6.7;host=made-up.example;proto=https",
    "X-Real-IP": "6.6.6.8",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "made-up.example",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/made-up",
}

# What a proxy has to set itself, by form: the fields to trust, and how nginx and HAProxy are told to set them. Both pass on as it
# came whatever they are not told of, and HAProxy adds an X-Forwarded-For behind those that are there.
FORMS = {
    "x-forwarded": (
        ["x-forwarded-for", "x-forwarded-proto"],
        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto http;",
        "option forwardfor\n http-request set-header X-Forwarded-Proto http",
    ),
    "forwarded": (
        ["forwarded"],
        "proxy_set_header Forwarded \"for=$remote_addr;proto=http;host=\\\"$http_host\\\"\";",
        "http-request add-header Forwarded \"for=%[src];proto=http;host=\\\"%[req.hdr(host)]\\\"\"",
    ),
    "everything": (
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"],
        "proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http;"
        " proxy_set_header X-Forwarded-Host front.example:8443; proxy_set_header X-Forwarded-Port 8443; proxy_set_header X-Forwarded-Prefix /base;",
        "http-request set-header X-Forwarded-For %[src]\n http-request set-header X-Forwarded-Proto http\n"
        " http-request set-header X-Forwarded-Host front.example:8443\n http-request set-header X-Forwarded-Port 8443\n"
        " http-request set-header X-Forwarded-Prefix /base",
    ),
}


def nginx_before(gate, port, told, folder):
    temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;"
        f"{'user root;' if os.geteuid() == 0 else ''} events {{ worker_connections 64; }}"
        f"http {{ access_log off; {temps} server {{ listen 127.0.0.1:{port};"
        f"location / {{ proxy_pass http://127.0.0.1:{gate.port}; proxy_http_version 1.1; proxy_set_header Host $http_host; {told} }} }} }}")
    return [nginx_path(), "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def haproxy_before(gate, port, told, folder):
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
        f"frontend front\n bind 127.0.0.1:{port}\n {told}\n default_backend back\n"
        f"backend back\n server gate 127.0.0.1:{gate.port}\n")
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


@contextlib.contextmanager
def in_front(before, gate, told, folder):
    """A real proxy in front of a gateway: the port that it listens on."""
    port = free_port()
    proxy = subprocess.Popen(before(gate, port, told, folder), stderr=subprocess.PIPE)
    try:
        until(lambda: is_open(port) or proxy.poll() is not None, "the proxy listens")
        assert proxy.poll() is None, proxy.stderr.read()
        yield port
    finally:
        proxy.terminate()
        proxy.wait(10)


def through(port, source, token, without=()):
    """One request through the proxy from an address of this machine, with every form made up."""
    fields = [(name, value) for name, value in MADE_UP.items() if name not in without]
    with Wire(port, source=(source, 0)) as wire:
        return wire.send(request("GET", "/orders/x", token=token, fields=fields)).answer()


@pytest.mark.parametrize("before", [nginx_before, haproxy_before], ids=["nginx", "haproxy"])
@pytest.mark.parametrize("form", FORMS)
def test_through_a_real_proxy_the_client_is_whom_it_names_whatever_its_client_makes_up(form, before, tmp_path):
    fields, for_nginx, for_haproxy = FORMS[form]
    top = {"trusted_proxies": ["127.0.0.1"], "trusted_fields": fields}
    told = for_nginx if before is nginx_before else for_haproxy
    with Recorder() as service, Gate({"orders": service}, top=top) as gate, in_front(before, gate, told, tmp_path) as port:
        token = gate.mint("orders")
        host = "front.example" if form == "everything" else "localhost"
        for network, status in [("127.0.0.5/32", 200), ("127.0.0.1/32", 403), ("6.6.6.0/24", 403)]:
            assert through(port, "127.0.0.5", gate.attenuate(token, "--client", network)).status == status, network
        assert through(port, "127.0.0.5", gate.attenuate(token, "--host", host)).status == 200
        assert through(port, "127.0.0.5", gate.attenuate(token, "--host", "made-up.example")).status == 403
        assert through(port, "127.0.0.5", gate.attenuate(token, "--check", 'check if scheme("https")')).status == 403
        service.clear()
        assert through(port, "127.0.0.5", token).status == 200
        (heard,) = service.requests
        assert heard.value("x-forwarded-for").split(", ")[-1] == "127.0.0.5"
        assert "for=127.0.0.5;" in heard.value("forwarded") and "proto=http" in heard.value("forwarded")
        assert len(heard.values("x-forwarded-for")) == len(heard.values("forwarded")) == 1
        assert heard.value("x-forwarded-proto") == "http" and heard.value("x-real-ip") is None
        everything = form == "everything"
        assert heard.value("x-forwarded-host") == ("front.example:8443" if everything else "localhost")
        assert heard.value("x-forwarded-port") == ("8443" if everything else None)
        assert heard.value("x-forwarded-prefix") == ("/base/orders" if everything else "/orders")
        assert heard.value("host") == "localhost", "what the service is asked as is not what it is told"


@pytest.mark.parametrize("before", [nginx_before, haproxy_before], ids=["nginx", "haproxy"])
@pytest.mark.parametrize("fields", [["x-forwarded-for"], ["forwarded"]], ids=["x-forwarded-for", "forwarded"])
def test_behind_a_real_proxy_that_names_nobody_everybody_is_nobody(before, fields, tmp_path):
    """The proxy's own address would admit whoever is behind it."""
    top = {"trusted_proxies": ["127.0.0.1"], "trusted_fields": fields}
    made_up = {"x-forwarded-for": "X-Forwarded-For", "forwarded": "Forwarded"}[fields[0]]
    with Recorder() as service, Gate({"orders": service}, top=top) as gate, in_front(before, gate, "", tmp_path) as port:
        token = gate.mint("orders")
        for network in ("127.0.0.0/8", "6.6.6.0/24"):
            narrow = gate.attenuate(token, "--client", network)
            assert through(port, "127.0.0.5", narrow, without=(made_up,)).status == 403, network
        service.clear()
        assert through(port, "127.0.0.5", token, without=(made_up,)).status == 200
        assert service.requests[0].value("x-forwarded-for") == "unknown"


def test_what_is_named_and_cannot_be_read_is_refused_in_words_over_both_versions():
    top = {"trusted_proxies": ["127.0.0.1"], "trusted_fields": ["forwarded", "x-forwarded-prefix"]}
    with Recorder() as service, Gate({"orders": service}, top=top) as gate:
        token = gate.mint("orders")
        cases = [("Forwarded", 'for="192.0.2.7'), ("Forwarded", "for=192.0.2.7 ;proto=http"), ("X-Forwarded-Prefix", "/a/../b")]
        with httpx.Client(http1=False, http2=True) as client:
            for field, value in cases:
                told = gate.get("/orders/x", token, fields=[(field, value)])
                assert told.status == 400 and told.kind == "unreadable-origin" and "trusted_fields" in told.problem["detail"]
                again = client.get(f"{gate.url}/orders/x", headers={"authorization": f"Bearer {token}", field: value})
                assert (again.status_code, again.json()["type"]) == (400, "unreadable-origin")
        assert not service.requests


def test_routes_go_by_host_alone_and_caveats_by_the_host_that_was_named():
    top = {"trusted_proxies": ["127.0.0.1"], "trusted_fields": ["x-forwarded-for", "x-forwarded-host"]}
    with Recorder() as one, Recorder() as two:
        resources = {"one": {"upstream": one, "prefix": "/", "host": "one.example"}, "two": {"upstream": two, "prefix": "/", "host": "two.example"}}
        with Gate(resources, top=top) as gate:
            token = gate.attenuate(gate.mint("one"), "--host", "two.example")
            ask = lambda said: gate.once(request("GET", "/x", host="one.example", token=token, fields=[("X-Forwarded-For", "192.0.2.7"), *said]))
            assert ask([("X-Forwarded-Host", "two.example:8443")]).status == 200
            assert ask([]).status == 403
            assert [r.value("x-forwarded-host") for r in one.requests] == ["two.example:8443"] and not two.requests

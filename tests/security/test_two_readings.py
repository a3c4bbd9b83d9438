"""What a caveat reads is what the service reads, however a sender spells it: names of parameters, characters that senders
leave raw, and the host (T1, T2). Over both versions of HTTP."""

import pytest

from harness.backend import Recorder
from harness.certificates import Authority
from harness.gate import Gate
from harness.h2client import H2Client
from harness.wire import Wire, once, request

VERSIONS = ["HTTP/1.1", "HTTP/2"]


@pytest.fixture(scope="module")
def site():
    with Recorder() as service:
        resources = {"orders": service, "shop": {"upstream": service, "host": "shop.example", "prefix": "/shop"}}
        with Gate(resources) as gate:
            yield service, gate, gate.mint("orders", "shop")


def status(gate, version, target, token, host="localhost"):
    """What a GET is answered with."""
    if version == "HTTP/1.1":
        raw = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
        return gate.once(raw.encode()).status
    with H2Client(gate.port, token) as client:
        stream = client.open("GET", target, authority=host)
        return client.reply(stream).status


# What PHP, qs, Rack or ASP.NET read as `user_id`.
SPELLINGS = [
    "user.id", "user+id", "user%20id", "user%5Bid", "user_id[]", "user_id%5B0%5D", "[user_id]", "%20user_id", "+user_id",
    "user_id%00", "user_id%00x",
    "USER_ID", "User_Id", "user_id]", "?user_id",
]


@pytest.mark.parametrize("version", VERSIONS)
def test_another_spelling_of_a_parameter_is_no_way_past_its_caveat(site, version):
    service, gate, token = site
    narrow = gate.attenuate(token, "--query", "user_id=7")
    service.clear()
    for other in SPELLINGS:
        for query in (f"user_id=7&{other}=8", f"{other}=8&user_id=7"):
            assert status(gate, version, f"/orders/x?{query}", narrow) == 400, query
    assert status(gate, version, "/orders/x?user_id=7&x%07=8", narrow) == 400, "a control character in any name"
    assert service.requests == []
    for query in ("user_id=7&user_id=7", "user_id=7&page[number]=1&page[size]=10&a.b=1&a_b=2", "user_id=7&x=%00"):
        assert status(gate, version, f"/orders/x?{query}", narrow) == 200, query
    assert status(gate, version, "/orders/x?user.id=8&user_id[]=8", token) == 200, "nobody asked"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_folds_together_is_refused_where_a_caveat_reads_every_name(site, version):
    _, gate, token = site
    narrow = gate.attenuate(token, "--check", 'check all query($name, $value), $value !== "root"')
    for query, wanted in (("a.b=1&a_b=2", 400), ("ID=1&id=2", 400), ("page=1&page[size]=2", 400), ("a=1&a=2&b=3", 200)):
        assert status(gate, version, f"/orders/x?{query}", narrow) == wanted, query


def test_a_refusal_of_a_spelling_quotes_the_caveat(site):
    _, gate, token = site
    answer = gate.get("/orders/x?a=1&USER_ID=8", gate.attenuate(token, "--query", "user_id=7"))
    assert (answer.status, answer.kind) == (400, "bad-query")
    assert "parameter 2" in answer.problem["detail"] and "user_id" in answer.problem["detail"]
    assert "USER_ID" not in answer.problem["detail"]


# A backtick in a path is refused by the library that carries HTTP/2, before the gateway sees it.
RAW = [("HTTP/1.1", "a|b{c}^`[0]", "a%7Cb%7Bc%7D%5E%60%5B0%5D"), ("HTTP/2", "a|b{c}^[0]", "a%7Cb%7Bc%7D%5E%5B0%5D")]


@pytest.mark.parametrize("version, sent, seen", RAW, ids=VERSIONS)
def test_what_senders_leave_raw_is_checked_and_forwarded_in_one_form(site, version, sent, seen):
    service, gate, token = site
    service.clear()
    exact = 'check if path("/{}"), query_string("q=%7C%7B%7D%5E%60%5C&r[]=%7c%")'.format(seen)
    for holds in (token, gate.attenuate(token, "--check", exact)):
        assert status(gate, version, f"/orders/{sent}?q=|{{}}^`\\&r[]=%7c%", holds) == 200
    assert [r.target for r in service.requests] == [f"/{seen}?q=%7C%7B%7D%5E%60%5C&r[]=%7c%"] * 2
    narrow = gate.attenuate(token, "--path", "/a|b/**", "--query", "filter=a|b")
    assert status(gate, version, "/orders/a|b/c?filter=a|b", narrow) == 200
    assert status(gate, version, "/orders/a|b/c?filter=a|c", narrow) == 403
    assert status(gate, version, "/orders/a|c?filter=a|b", narrow) == 403


def test_what_is_refused_in_a_target_is_named_with_its_place(site):
    _, gate, token = site
    for target, words in (
        ("/orders/a<b", "Character 10 of the request target is `<`"),
        ("/orders/x?a=\xe9", "Character 13"),
        ("/orders/a\\b", "Character 10 of the path is `\\`"),
    ):
        raw = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode("latin-1")
        answer = gate.once(raw)
        assert answer.status == 400 and words in answer.problem["detail"], answer.body


def test_a_request_of_http_1_0_need_not_name_a_host(site):
    service, gate, token = site
    assert gate.once(b"GET /.well-known/biscuit-web-keys HTTP/1.0\r\n\r\n").status == 200
    service.clear()
    for narrow, wanted in (((), 200), (("--host", "localhost"), 403), (("--check", 'check if host("")'), 200)):
        holds = gate.attenuate(token, *narrow) if narrow else token
        assert gate.once(f"GET /orders/x HTTP/1.0\r\nAuthorization: Bearer {holds}\r\n\r\n".encode()).status == wanted
    elsewhere = gate.once(f"GET /shop/x HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert elsewhere.status == 404, "shop has a host"
    first, _ = service.requests
    assert first.values("host") == [f"127.0.0.1:{service.port}"] and first.values("x-forwarded-host") == []
    assert "host=" not in first.value("forwarded")
    assert gate.once(f"GET /orders/x HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()).status == 400


def test_the_plain_health_check_of_a_balancer_is_answered(site):
    _, gate, _ = site
    for path in ("/health/ready", "/health/live"):
        with Wire(gate.admin_port) as wire:
            said = wire.send(f"GET {path} HTTP/1.0\r\n\r\n".encode()).rest()
            assert b" 200 " in said.split(b"\r\n")[0], said
    assert once(gate.admin_port, b"GET /health/ready HTTP/1.1\r\n\r\n").status == 400


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dot_at_the_end_of_a_host_makes_no_other_host(site, version):
    service, gate, token = site
    service.clear()
    for caveat in ("shop.example", "shop.example."):
        narrow = gate.attenuate(token, "--host", caveat)
        for host in ("shop.example", "shop.example.", "Shop.Example.:443"):
            assert status(gate, version, "/shop/x", narrow, host) == 200, host
    assert {r.value("host").lower() for r in service.requests} == {"shop.example", "shop.example:443"}
    said = [value for r in service.requests for name in ("forwarded", "x-forwarded-host") for value in r.values(name)]
    assert said and not any("example." in value.lower() for value in said), said
    assert status(gate, version, "/shop/x", token, "shop.example..") == 400


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trusted_front_sets_up_tls_in_its_own_name(tmp_path, trusted):
    authority = Authority(tmp_path)
    certificate, key, _ = authority.issue("localhost")
    proxies = ["127.0.0.1/32"] if trusted else []
    tls, top = {"cert": certificate, "key": key}, {"trusted_proxies": proxies}
    with Recorder() as service, Gate({"orders": service}, tls=tls, top=top) as gate:
        token = gate.mint("orders")
        for host, wanted in (("localhost", 200), ("localhost.", 200), ("api.example", 200 if trusted else 421)):
            with gate.wire(tls=str(authority.path)) as wire:
                answer = wire.send(request("GET", "/orders/x", token=token, host=host)).answer()
                assert answer.status == wanted, host

"""Law 4: a backend sees only messages that were permitted, in exactly the form that was checked (T6, T9, T20, T21, T31,
T32)."""

import threading

import pytest

from harness.backend import Recorder, Scripted, answer
from harness.gate import Gate
from harness.h2wire import H2Wire, pseudo
from harness.versions import Http1, Http2
from harness.wire import Closed, Wire, request


def test_law_4_a_backend_sees_only_permitted_messages(gate, service):
    """Of many messages, exactly the permitted ones arrive, each once and as it was checked."""
    narrow = gate.mint("orders", "--allow", "GET", "--path", "/a/**")
    sent = [(m, t, tok) for m in ("GET", "POST") for t in ("/orders/a/1?q=%20", "/orders/a", "/orders/b", "/orders/a%2f1", "/orders/a/../b")
            for tok in (narrow, None, "AAAA")]
    for method, target, token in sent:
        with gate.wire() as wire:
            wire.send(request(method, target, token=token, body=b"x" if method == "POST" else None)).answer(method)
    assert [(r.method, r.target) for r in service.requests] == [("GET", "/a/1?q=%20"), ("GET", "/a")]


def test_law_4_the_token_does_not_reach_the_backend(gate, service, token):
    """T9: no part of it, in no field."""
    for carrier in (("Authorization", f"Bearer {token}"), ("Authorization", f"bearer   {token}")):
        service.clear()
        with gate.wire() as wire:
            wire.send(request("POST", "/orders/x", fields=[carrier], body=b"body"))
            assert wire.answer("POST").status == 200
        seen = service.bytes
        bare = token.rstrip("=").encode()
        assert not any(bare[i : i + 16] in seen for i in range(0, len(bare) - 16))
        assert b"bearer" not in seen.lower() and b"authorization" not in seen.lower()


def test_law_4_a_token_in_the_query_is_not_ours_to_hide_but_authorises_nothing(gate, service, token):
    assert gate.get(f"/orders/x?access_token={token}").status == 401
    assert service.requests == []


def test_law_4_the_original_token_goes_only_where_a_resource_says_so():
    with Recorder() as service, Recorder() as holder:
        with Gate({"orders": service, "holder": {"upstream": holder, "forward_token": "original"}}) as gate:
            token = gate.mint("orders", "holder")
            assert gate.get("/orders/x", token).status == 200 and gate.get("/holder/x", token).status == 200
            assert token.encode() not in service.bytes
            assert f"Bearer {token}" in holder.requests[0].value("authorization")


def test_law_4_a_service_that_uses_authorization_itself_gets_its_own(gate):
    with Recorder() as service, Gate({"orders": {"upstream": service, "authorization": "pass"}}) as gate:
        token = gate.mint("orders")
        fields = [("Authorization", "Basic eDp5"), ("Postern-Capability", token)]
        assert gate.get("/orders/x", fields=fields).status == 200
        assert service.requests[0].value("authorization") == "Basic eDp5"
        assert token.encode() not in service.bytes and service.requests[0].value("postern-capability") is None


def test_law_4_the_upstream_is_chosen_by_the_route_alone():
    """T21: neither Host nor an absolute target nor a redirect leads the gateway elsewhere."""
    with Recorder() as service, Recorder() as elsewhere, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        away = f"127.0.0.1:{elsewhere.port}"
        service.respond = lambda _: answer(302, b"", [("Location", f"http://{away}/x")], "Found")
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/x", host=away, token=token))
            assert wire.answer().status == 302
        gate.get(f"http://{away}/orders/x", token)
        gate.get(f"//{away}/orders/x", token)
        gate.get("/orders/x", token, fields=[("X-Forwarded-Host", away)])
        assert elsewhere.connections == 0


def test_law_4_what_is_left_of_a_refused_message_is_not_a_message(gate, service, token):
    inner = request("GET", "/orders/smuggled", token=token)
    for auth in (None, gate.mint("orders", "--allow", "GET"), gate.mint("orders", "--path", "/other")):
        with gate.wire() as wire:
            wire.send_as_accepted(request("POST", "/orders/x", token=auth, body=inner))
            first = wire.answer("POST")
            assert first.status in (401, 403, 404)
            wire.closed(timeout=1)
            assert wire.buffer == b"", "the body was answered as a request"
    assert service.requests == []


# Each makes some service act on another path, or believe in another client, than the gateway checked.
SPOOFED = """SCRIPT_NAME Script-Name script.name PATH_INFO Path-Info X-Script-Name X_Script_Name X-Ingress-Path
X-Waws-Unencoded-Url X-Middleware-Subrequest X-Original-URL X.Original.URL X-Envoy-Original-Host X-Envoy-Original-Method
X-HTTP-Verb Destination Front-End-Https X-Url-Scheme X-Scheme X-Forwarded-Ssl X-Forwarded-User X-Host X-Real-IP X-Client-IP
X-Cluster-Client-IP Client-IP Client_IP WL-Proxy-Client-IP WL-Proxy-SSL Proxy-Client-IP Fly-Client-IP X-Azure-ClientIP
X-Envoy-External-Address CF-Connecting-IP CF-Connecting-IPv6 True-Client-IP X-Originating-IP X-Sucuri-ClientIP
X-Appengine-User-Ip Akamai-Client-Ip Ssl-Client-Cert Ssl-Client-Verify Ssl-Client-Subject-Dn SSL_CLIENT_S_DN X-SSL-Cert
X-Client-Cert X-Client-Verify X-ARR-ClientCert Client-Cert Remote-User REMOTE_USER X-Remote-User X-Remote-Group
X-Amzn-Oidc-Identity X-Auth-Request-User X-Ms-Client-Principal Postern-X Postern_X X_Tenant x.tenant
Cf-Access-Authenticated-User-Email X-Consumer-Username X-Consumer-ID X-Credential-Identifier X-Anonymous-Consumer X-Vouch-User
X-Pomerium-Claim-Email X-Ms-Token-Aad-Id-Token X-Tls-Client-Cert X-Tls-Client-Cert-Infos X-Client-Certificate
X-HTTP-Host-Override X-Sendfile-Type X-Accel-Mapping Http-Host Http-X-Real-Ip X-Authenticated-Userid X-Authentik-Username
OIDC-Claim-Sub OIDC_CLAIM_email Shib-Identity-Provider Iv-User iv-groups iv-creds Sm-User SM_USER""".split()


@pytest.mark.parametrize("protocol", ["1.1", "1.1 trailers", "2"])
def test_law_4_no_field_moves_the_message_or_its_sender_behind_the_check(gate, service, token, protocol):
    """A WSGI server on loopback takes `SCRIPT_NAME: /public` off the path, and what was checked is not what it acts on."""
    if protocol == "2":
        with H2Wire(gate.port) as wire:
            fields = [(name.lower(), "SPOOFED") for name in SPOOFED] + [("x-tenant", "real")]
            wire.headers(1, pseudo("GET", path="/orders/x", authority="a", token=token) + fields)
            assert wire.outcome(1).status == 200
    elif protocol == "1.1":
        fields = [(name, "SPOOFED") for name in SPOOFED] + [("x-tenant", "real")]
        assert gate.get("/orders/x", token, fields=fields).status == 200
    else:
        trailers = b"".join(b"%s: SPOOFED\r\n" % name.encode() for name in SPOOFED) + b"x-tenant: real\r\n"
        with gate.wire() as wire:
            fields = [("Transfer-Encoding", "chunked")]
            wire.send(request("POST", "/orders/x", token=token, fields=fields) + b"1\r\na\r\n0\r\n" + trailers + b"\r\n")
            assert wire.answer("POST").status == 200
    assert len(service.requests) == 1 and b"SPOOFED" not in service.bytes and b"x-tenant: real" in service.bytes.lower()


def test_law_4_a_resource_gets_by_name_what_it_can_live_with():
    allowed = ["Ssl-Client-Verify", "x_tenant", "Script-Name"]
    with Recorder() as service, Gate({"orders": {"upstream": service.url, "allow_headers": allowed}}) as gate:
        fields = [("ssl-client-verify", "a"), ("X_Tenant", "b"), ("Script-Name", "c"), ("SCRIPT_NAME", "d"), ("Remote-User", "e")]
        assert gate.get("/orders/x", gate.mint("orders"), fields=fields).status == 200
        sent = service.bytes.lower()
        assert [sent.count(b"\r\n%s: %s\r\n" % (n.lower().encode(), v.encode())) for n, v in fields] == [1, 1, 1, 0, 0]


STRIPPED = ["X-Staff-Id", "x_staff_id", "X-Team-Name", "x-team-", "X.Team.Lead"]


@pytest.mark.parametrize("version", [Http1, Http2])
@pytest.mark.parametrize("trailing", [False, True])
def test_law_4_what_a_resource_strips_reaches_it_in_no_spelling(version, trailing):
    """The service believes names that are in no list but its own: in heads and in trailers, exact and by their beginning."""
    table = {"strip_headers": ["X-Staff-Id", "X-Team-*"], "allow_headers": ["x_tenant"]}
    with Recorder() as service, Gate({"orders": {"upstream": service.url, **table}}) as gate:
        fields = [(name.lower(), "SPOOFED") for name in STRIPPED] + [("x-staff", "real"), ("x_tenant", "real")]
        way, token = version(gate, "/orders/x"), gate.mint("orders")
        status = way.send("POST", token, trailers=fields)[0] if trailing else way.send("GET", token, fields)[0]
        sent = service.bytes.lower()
        assert status == 200 and b"spoofed" not in sent and sent.count(b": real\r\n") == 2, sent


BROKEN_RESPONSES = {
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    "NUL in a field": b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 3\r\n\r\nabc",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 3\r\n\r\nabc",
    "status 99": b"HTTP/1.1 99 X\r\nContent-Length: 3\r\n\r\nabc",
    "status 1000": b"HTTP/1.1 1000 X\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/2 in HTTP/1": b"HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "not HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "HTML alone": b"<html>hello</html>\r\n\r\n",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "huge head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000000 + b"\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"Content-Length: 0\r\n\r\n",
    "endless informational": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000,
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("name", BROKEN_RESPONSES)
def test_law_4_nonsense_from_a_backend_is_a_502_and_nothing_else(name):
    """T31: answered as a bad gateway with a problem, and the next client gets its own answer."""

    def script(sock, head):
        if b"/good" in head:
            sock.sendall(answer(body=b"good"))
        else:
            sock.sendall(BROKEN_RESPONSES[name])

    with Scripted(script) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        token = gate.mint("orders")
        reply = gate.get("/orders/bad", token)
        assert reply.status == 502 and reply.problem["status"] == 502, reply.head
        assert gate.get("/orders/good", token).body == b"good"


CUT_BODIES = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    "chunk longer than its size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CUT_BODIES)
def test_law_4_a_cut_answer_does_not_look_whole(name):
    with Scripted(lambda sock, _: sock.sendall(CUT_BODIES[name])) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/x", token=token))
            try:
                reply = wire.answer()
            except Closed:
                return
            assert reply.status == 502, reply


@pytest.mark.parametrize("end", ["whole", "cut by the service", "cut by a revocation"])
def test_law_4_a_cut_answer_does_not_look_whole_to_http_1_0(end):
    """Such an answer ends where the connection ends, so one that broke off must not end like one that is complete."""
    holds = threading.Event()

    def script(sock, _):
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if end == "whole":
            sock.sendall(b"0\r\n\r\n")
        holds.wait(5)

    with Scripted(script) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/x", token=token, version="1.0"))
            while not wire.buffer.endswith(b"hello"):
                wire._more()
            if end == "cut by a revocation":
                gate.revoke(token)
            else:
                holds.set()
            wire.sock.settimeout(5)
            if end == "whole":
                assert wire.sock.recv(100) == b""
            else:
                with pytest.raises(ConnectionResetError):
                    wire.sock.recv(100)
        holds.set()


def test_law_4_an_upgrade_that_is_required_is_named():
    """RFC 9110 section 15.5.22: a 426 says what it wants, to the one hop that can be told."""
    wants = answer(426, fields=[("Upgrade", "websocket, TLS/1.3"), ("Connection", "upgrade")])
    with Recorder(lambda r: wants) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        reply = gate.get("/orders/x", token)
        assert (reply.status, reply.value("upgrade")) == (426, "websocket, TLS/1.3")
        assert "upgrade" in reply.value("connection").lower()
        with H2Wire(gate.port) as wire:
            wire.headers(1, pseudo("GET", path="/orders/x", authority="a", token=token))
            reply = wire.outcome(1)
            assert reply.status == 426 and reply.value("upgrade") is None


def test_law_4_bytes_after_an_answer_go_to_nobody():
    """A second answer that nobody asked for must not become the next client's."""
    poison = answer(body=b"poison")

    def script(sock, head):
        sock.sendall(answer(body=b"mine") + poison)

    with Scripted(script) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        token = gate.mint("orders")
        for _ in range(20):
            with gate.wire() as wire:
                wire.send(request("GET", "/orders/x", token=token))
                assert wire.answer().body == b"mine"
                wire.send(request("GET", "/orders/x", token=token))
                reply = wire.answer()
                assert reply.body == b"mine" or reply.status == 502


def test_law_4_no_command_is_sent_twice():
    """T32: the service dies after it has read a POST; whether it acted is unknown, and that is what is said."""
    with Scripted(lambda sock, head: None) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        token = gate.mint("orders")
        reply = gate.get("/orders/x", token, method="POST", body=b"pay")
        assert reply.status == 502 and "unknown" in reply.problem["detail"].lower()
        assert len(backend.heads) == 1


def test_law_4_answers_are_never_mixed_up(gate, service, token):
    """Many clients at once, each with a body of its own, over shared upstream connections."""
    service.respond = lambda r: answer(body=r.target.encode() + b" " + r.body)
    wrong = []

    def client(number):
        try:
            with gate.wire() as wire:
                for turn in range(40):
                    body = f"{number}.{turn}".encode() * (1 + turn % 7)
                    wire.send(request("POST", f"/orders/{number}/{turn}", token=token, body=body))
                    reply = wire.answer("POST")
                    if reply.body != f"/{number}/{turn} ".encode() + body:
                        wrong.append((number, turn, reply))
        except Exception as error:
            wrong.append((number, error))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

"""HTTP/1 heads: request lines, fields, Host, Connection (T2, T21, T8; RFC 9112 sections 3 and 5)."""

import pytest

from conformance.cases import ALLOWED, AUTH, HOST, SMUGGLED, Passed, Refused, get, ids, post

LINE = f"GET {ALLOWED} HTTP/1.1\r\n"
REST = HOST + AUTH + "\r\n"

REQUEST_LINES = [
    Refused("LF ends the line", LINE.replace("\r\n", "\n") + REST),
    Refused("CR ends the line", LINE.replace("\r\n", "\r") + REST),
    Refused("CR CR LF", LINE.replace("\r\n", "\r\r\n") + REST),
    Refused("two spaces after method", f"GET  {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("two spaces before version", f"GET {ALLOWED}  HTTP/1.1\r\n" + REST),
    Refused("space after version", f"GET {ALLOWED} HTTP/1.1 \r\n" + REST),
    Refused("space before method", f" GET {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("tab separators", f"GET\t{ALLOWED}\tHTTP/1.1\r\n" + REST),
    Refused("vertical tab separators", f"GET\x0b{ALLOWED}\x0bHTTP/1.1\r\n" + REST),
    Refused("no version", f"GET {ALLOWED}\r\n" + REST, (400, 505)),
    Refused("HTTP/0.9", f"GET {ALLOWED}\r\n", (400, 505), half_close=True),
    Refused("HTTP/0.9 spelled", f"GET {ALLOWED} HTTP/0.9\r\n" + REST, (400, 505)),
    Refused("HTTP/1.2", f"GET {ALLOWED} HTTP/1.2\r\n" + REST, (400, 505)),
    Refused("HTTP/2.0", f"GET {ALLOWED} HTTP/2.0\r\n" + REST, (400, 505)),
    Refused("HTTP/3", f"GET {ALLOWED} HTTP/3\r\n" + REST, (400, 505)),
    Refused("HTTP/1.10", f"GET {ALLOWED} HTTP/1.10\r\n" + REST, (400, 505)),
    Refused("HTTP/01.1", f"GET {ALLOWED} HTTP/01.1\r\n" + REST, (400, 505)),
    Refused("HTTP/1,1", f"GET {ALLOWED} HTTP/1,1\r\n" + REST, (400, 505)),
    Refused("HTTP/1", f"GET {ALLOWED} HTTP/1\r\n" + REST, (400, 505)),
    Refused("http/1.1", f"GET {ALLOWED} http/1.1\r\n" + REST, (400, 505)),
    Refused("HTTPS/1.1", f"GET {ALLOWED} HTTPS/1.1\r\n" + REST, (400, 505)),
    Refused("version glued", f"GET {ALLOWED}HTTP/1.1\r\n" + REST, (400, 505)),
    Refused("space in target", "GET /orders/allowed /x HTTP/1.1\r\n" + REST),
    Refused("NUL in target", "GET /orders/allowed\x00x HTTP/1.1\r\n" + REST),
    Refused("NUL in query", "GET /orders/allowed?\x00 HTTP/1.1\r\n" + REST),
    Refused("high byte in query", "GET /orders/allowed?\xff HTTP/1.1\r\n" + REST),
    Refused("tab in query", "GET /orders/allowed?a\tb HTTP/1.1\r\n" + REST),
    Refused("CR in query", "GET /orders/allowed?a\rb HTTP/1.1\r\n" + REST),
    Refused("fragment after query", "GET /orders/allowed?a#b HTTP/1.1\r\n" + REST),
    Refused("empty target", "GET  HTTP/1.1\r\n" + REST),
    Refused("relative target", "GET orders/allowed HTTP/1.1\r\n" + REST),
    Refused("dotted relative target", "GET ../orders/allowed HTTP/1.1\r\n" + REST),
    Refused("two slashes, an authority to some", "GET //evil.example/orders/allowed HTTP/1.1\r\n" + REST, closes=False),
    Refused("question mark alone", "GET ? HTTP/1.1\r\n" + REST),
    Refused("asterisk with GET", "GET * HTTP/1.1\r\n" + REST),
    Refused("authority form with GET", "GET localhost:80 HTTP/1.1\r\n" + REST),
    Refused("absolute form, other host", "GET http://evil.example/orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, other port", "GET http://localhost:81/orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, credentials", "GET http://localhost@evil.example/orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, user information", "GET http://a:b@localhost/orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, other scheme", "GET ftp://localhost/orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, file", "GET file:///etc/passwd HTTP/1.1\r\n" + REST),
    Refused("absolute form, no host", "GET http:///orders/allowed HTTP/1.1\r\n" + REST),
    Refused("absolute form, backslash", "GET http:\\\\localhost\\orders HTTP/1.1\r\n" + REST),
    Refused("absolute form, dotdot", "GET http://localhost/orders/allowed/../forbidden HTTP/1.1\r\n" + REST, closes=False),
    Refused("lower-case method", f"get {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("mixed-case method", f"Get {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method with colon", f"GE:T {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method with slash", f"GE/T {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method with NUL", f"GET\x00 {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method with high byte", f"G\xcbT {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method empty", f" {ALLOWED} HTTP/1.1\r\n" + REST),
    Refused("method asterisk is not every method", f"* {ALLOWED} HTTP/1.1\r\n" + REST, (400, 403, 404, 501), closes=False),
    Refused("TLS hello in the clear", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", (400,), may_be_silent=True),
    Refused("SSH hello", "SSH-2.0-OpenSSH_9.2\r\n\r\n", (400, 505), may_be_silent=True),
    Refused("PROXY protocol", f"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n{LINE}{REST}", (400, 505)),
    Refused("target too long", f"GET {ALLOWED}/{'a' * 9000} HTTP/1.1\r\n" + REST, (414, 400)),
    Refused("query too long", f"GET {ALLOWED}?{'a' * 9000} HTTP/1.1\r\n" + REST, (414, 400)),
    Passed("absolute form that agrees", f"GET http://localhost{ALLOWED} HTTP/1.1\r\n" + REST, sees=(b"GET /allowed HTTP/1.1\r\n",), never=(b"http://localhost",)),
    Passed("empty lines before", "\r\n" + LINE + REST, sees=(b"GET /allowed HTTP/1.1\r\n",)),
    Passed("HTTP/1.0", f"GET {ALLOWED} HTTP/1.0\r\n" + REST, sees=(b"GET /allowed HTTP/1.1\r\n",)),
]

FIELDS = [
    Refused("LF ends a field", LINE + HOST.replace("\r\n", "\n") + AUTH + "\r\n"),
    Refused("CR ends a field", LINE + HOST.replace("\r\n", "\r") + AUTH + "\r\n"),
    Refused("LF ends the head", LINE + HOST + AUTH + "\n"),
    Refused("LF LF ends the head", LINE + HOST + AUTH.rstrip() + "\n\n" + SMUGGLED),
    Refused("space before colon", get("X-A : b")),
    Refused("tab before colon", get("X-A\t: b")),
    Refused("space in name", get("X A: b")),
    Refused("space before first field", LINE + " X-A: b\r\n" + REST),
    Refused("tab before first field", LINE + "\tX-A: b\r\n" + REST),
    Refused("folded with space", get("X-A: b\r\n c")),
    Refused("folded with tab", get("X-A: b\r\n\tc")),
    Refused("folded Host", LINE + "Host:\r\n localhost\r\n" + AUTH + "\r\n"),
    Refused("folded Authorization", LINE + HOST + "Authorization:\r\n Bearer <TOK>\r\n\r\n"),
    Refused("no colon", get("X-A")),
    Refused("no name", get(": b")),
    Refused("NUL in name", get("X\x00A: b")),
    Refused("NUL in value", get("X-A: b\x00c")),
    Refused("CR in value", get("X-A: b\rc")),
    Refused("LF in value", get("X-A: b\nX-B: c")),
    Refused("CR LF CR in value", get("X-A: b\r\n\rX-B: c")),
    Refused("ESC in value", get("X-A: \x1b[2J")),
    Refused("DEL in value", get("X-A: \x7f")),
    Refused("vertical tab in value", get("X-A: b\x0bc")),
    Refused("backspace in value", get("X-A: b\x08c")),
    Refused("high byte in name", get("X-\xc4: b")),
    Refused("quote in name", get('X"A: b')),
    Refused("parenthesis in name", get("X(A): b")),
    Refused("comma in name", get("X,A: b")),
    Refused("slash in name", get("X/A: b")),
    Refused("at in name", get("X@A: b")),
    Refused("brackets in name", get("X[A]: b")),
    Refused("semicolon in name", get("X;A: b")),
    Refused("too many fields", get(*[f"X-{i}: y" for i in range(200)]), (400, 431)),
    Refused("one field too long", get("X-A: " + "b" * 40000), (400, 431)),
    Refused("all fields too long", get(*[f"X-{i}: {'y' * 1000}" for i in range(60)]), (400, 431)),
    Refused("name too long", get("X" * 40000 + ": b"), (400, 431)),
    Refused("endless head", LINE + HOST + "X: " + "y" * 200000, (400, 431)),
    Passed("empty value", get("X-A:"), sees=(b"X-A:",)),
    Passed("no space after colon", get("X-A:b"), sees=(b"X-A",)),
    Passed("tabs around value", get("X-A:\tb\t"), sees=(b"b\r\n",)),
    Passed("tab inside value", get("X-A: b\tc"), sees=(b"b\tc\r\n",)),
    Passed("high bytes in value", get("X-A: caf\xc3\xa9"), sees=(b"caf\xc3\xa9\r\n",)),
    # Read as a field like any other; but CGI reads it as X_______________9, so it does not go up.
    Passed("every tchar in name", get("X!#$%&'*+.^`|~9: b"), never=(b"X!#", b": b\r\n")),
    Passed("repeated field", get("X-A: 1", "X-A: 2"), sees=(b": 1\r\n", b": 2\r\n")),
    Passed("quotes and colons in value", get('X-A: "a:b";c=(d)'), sees=(b'"a:b";c=(d)\r\n',)),
]

HOSTS = [
    Refused("none", get(host="")),
    Refused("none, absolute form", get(host="", target="http://localhost" + ALLOWED)),
    Refused("two equal", get(host=HOST + HOST)),
    Refused("two different", get(host=HOST + "Host: evil.example\r\n")),
    Refused("two in other case", get(host=HOST + "hOST: evil.example\r\n")),
    Refused("list", get(host="Host: localhost, evil.example\r\n")),
    Refused("empty", get(host="Host:\r\n")),
    Refused("space inside", get(host="Host: local host\r\n")),
    Refused("path", get(host="Host: localhost/x\r\n")),
    Refused("scheme", get(host="Host: http://localhost\r\n")),
    Refused("credentials", get(host="Host: a@localhost\r\n")),
    Refused("question mark", get(host="Host: localhost?x\r\n")),
    Refused("fragment", get(host="Host: localhost#x\r\n")),
    Refused("backslash", get(host="Host: localhost\\x\r\n")),
    Refused("port not a number", get(host="Host: localhost:http\r\n")),
    Refused("port too large", get(host="Host: localhost:65536\r\n")),
    Refused("port negative", get(host="Host: localhost:-1\r\n")),
    Refused("two ports", get(host="Host: localhost:80:81\r\n")),
    Refused("bare IPv6", get(host="Host: ::1\r\n")),
    Refused("IPv6 not closed", get(host="Host: [::1\r\n")),
    Refused("IPv6 garbage", get(host="Host: [zz]\r\n")),
    Refused("IPv6 and text", get(host="Host: [::1]x\r\n")),
    Refused("high bytes", get(host="Host: caf\xc3\xa9.example\r\n")),
    Refused("NUL", get(host="Host: local\x00host\r\n")),
    Refused("angle brackets", get(host="Host: <script>\r\n")),
    Refused("percent broken", get(host="Host: local%zz\r\n")),
    Refused("folded", get(host="Host: localhost\r\n evil\r\n")),
    Refused("too long", get(host="Host: " + "a" * 5000 + "\r\n"), (400, 431)),
    Passed("port", get(host="Host: localhost:8080\r\n"), sees=(b"localhost:8080\r\n",)),
    Passed("upper case", get(host="Host: LOCALHOST\r\n"), sees=(b"ost: ",)),
    Passed("IPv4", get(host="Host: 127.0.0.1\r\n"), sees=(b"127.0.0.1\r\n",)),
    Passed("IPv6", get(host="Host: [::1]:80\r\n"), sees=(b"[::1]:80\r\n",)),
    Refused("two dots at the end", get(host="Host: localhost..\r\n")),
    Refused("a dot alone", get(host="Host: .\r\n")),
    Passed("a dot at the end", get(host="Host: localhost.\r\n"), sees=(b"host: localhost\r\n",), never=(b"localhost.",)),
    Passed("a dot before the port", get(host="Host: localhost.:80\r\n"), sees=(b"host: localhost:80\r\n",), never=(b"localhost.",)),
]

CONNECTIONS = [
    Passed("close is not forwarded as the client's", get("Connection: close"), never=(b"connection: close, x",)),
    Passed("keep-alive", get("Connection: keep-alive", "Keep-Alive: timeout=5"), never=(b"keep-alive: timeout",)),
    Passed("nominated field is dropped", get("Connection: X-Secret", "X-Secret: for the gateway only"), never=(b"x-secret",)),
    Passed("two nominations", get("Connection: X-A, X-B", "X-A: 1", "X-B: 2"), never=(b"x-a:", b"x-b:")),
    Passed("two lines of nominations", get("Connection: X-A", "Connection: X-B", "X-A: 1", "X-B: 2"), never=(b"x-a:", b"x-b:")),
    Passed("Proxy-Connection", get("Proxy-Connection: keep-alive"), never=(b"proxy-connection",)),
    Passed("TE", get("TE: gzip", "Connection: TE"), never=(b"gzip",)),
    Passed("Proxy-Authorization", get("Proxy-Authorization: Basic eDp5"), never=(b"proxy-authorization", b"eDp5")),
    Passed("Proxy-Authenticate", get("Proxy-Authenticate: x"), never=(b"proxy-authenticate",)),
]

# The client may not have the gateway's own and end-to-end fields removed on the way (T8).
NOMINATED = ["Host", "Content-Length", "Transfer-Encoding", "Authorization", "X-Forwarded-For", "Forwarded", "Via",
             "Cookie", "Postern-Capability", "Traceparent", "X-Forwarded-Proto", "Content-Type"]


@pytest.mark.parametrize("case", REQUEST_LINES, ids=ids(REQUEST_LINES))
def test_request_line(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", FIELDS, ids=ids(FIELDS))
def test_field_syntax(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", HOSTS, ids=ids(HOSTS))
def test_host_is_exactly_one_authority(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", CONNECTIONS, ids=ids(CONNECTIONS))
def test_hop_by_hop_fields_end_at_the_gateway(site, case):
    site.judge(case)


@pytest.mark.parametrize("name", NOMINATED)
def test_connection_cannot_remove_what_is_not_the_clients_to_remove(site, name):
    raw = post(f"Connection: {name}", "Content-Length: 3", "Content-Type: text/x", "Cookie: c=d", body="abc")
    site.service.clear()
    with site.gate.wire() as wire:
        answer = wire.send(site.fill(raw)).answer("POST")
    seen, _ = site.settle()
    if answer.status == 400:
        assert seen == []
        return
    assert answer.status == 200 and len(seen) == 1
    (request,) = seen
    assert request.value("host") == "localhost" and request.body == b"abc"
    assert request.value("x-forwarded-for") == "127.0.0.1" and request.values("via") and request.values("traceparent")
    assert request.value("content-type") == "text/x" or name == "Content-Type"
    assert request.value("cookie") == "c=d" or name == "Cookie"

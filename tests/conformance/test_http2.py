"""HTTP/2: malformed messages are reset or refused before anything is made of them for the service (T3, T5, T29;
RFC 9113 section 8)."""

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from harness.h2wire import H2Wire, pseudo

SMUGGLED = b"\r\n\r\nGET /orders/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATH = "/orders/allowed"


def plain(site, *extra, **more):
    more.setdefault("path", PATH)
    return pseudo(token=site.token, extra=extra, **more)


def refused(site, fields, body=None, statuses=(400, 404, 413, 431, 414, 501), end=True):
    """Sends a message and demands that it is reset, ends the connection, or is answered with a refusal."""
    site.service.clear()
    with H2Wire(site.gate.port) as wire:
        wire.headers(1, fields, body=body, end=end)
        stream = wire.outcome(1)
        assert stream.reset is not None or wire.goaway or wire.closed or stream.status in statuses, stream
    seen, everything = site.settle()
    assert seen == [] and b"smuggled" not in everything, everything


def passed(site, fields, body=None, status=200):
    site.service.clear()
    with H2Wire(site.gate.port) as wire:
        stream = wire.headers(1, fields, body=body).outcome(1)
        assert stream.status == status and stream.ended and stream.reset is None, stream
    (request,), everything = site.settle()
    return request, everything


INJECTED_VALUES = [
    ("CRLF request", b"a" + SMUGGLED), ("CRLF", b"a\r\nX-Evil: b"), ("LF", b"a\nX-Evil: b"), ("CR", b"a\rX-Evil: b"),
    ("NUL", b"a\x00b"), ("leading space", b" a"), ("trailing space", b"a "), ("leading tab", b"\ta"), ("ESC", b"a\x1bb"),
    ("DEL", b"a\x7fb"), ("vertical tab", b"a\x0bb"),
]
# RFC 9113 section 8.2.1 lets a recipient take other control characters; a strict one does not pass them on.
NAMES = [
    ("upper case", b"X-Upper"), ("one upper case", b"x-Upper"), ("space", b"x a"), ("colon", b"x:a"), ("CRLF", b"x\r\na"),
    ("LF", b"x\na"), ("NUL", b"x\x00a"), ("empty", b""), ("high byte", b"x\xe9"), ("DEL", b"x\x7f"), ("slash", b"x/a"),
    ("quote", b'x"'), ("parenthesis", b"x(a)"), ("tab", b"x\ta"), ("whole request", b"x: y" + SMUGGLED),
]
CONNECTION_SPECIFIC = [
    ("connection", "close"), ("connection", "x-a"), ("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"),
    ("transfer-encoding", "chunked"), ("transfer-encoding", "identity"), ("upgrade", "h2c"), ("upgrade", "websocket"),
    ("te", "gzip"), ("te", "trailers, gzip"),
]


@pytest.mark.parametrize("value", [v for _, v in INJECTED_VALUES], ids=[n for n, _ in INJECTED_VALUES])
def test_a_field_value_cannot_carry_http1_syntax(site, value):
    refused(site, plain(site, ("x-a", value)))


@pytest.mark.parametrize("name", [v for _, v in NAMES], ids=[n for n, _ in NAMES])
def test_a_field_name_is_a_lower_case_token(site, name):
    refused(site, plain(site, (name, "v")))


@pytest.mark.parametrize("name, value", CONNECTION_SPECIFIC, ids=[f"{n} {v}" for n, v in CONNECTION_SPECIFIC])
def test_connection_specific_fields_are_malformed(site, name, value):
    refused(site, plain(site, (name, value)))


@pytest.mark.parametrize("value", [v for _, v in INJECTED_VALUES], ids=[n for n, _ in INJECTED_VALUES])
@pytest.mark.parametrize("where", ["method", "path", "authority", "scheme"])
def test_a_pseudo_header_cannot_carry_http1_syntax(site, where, value):
    base = {"method": b"GET", "path": PATH.encode(), "authority": b"localhost", "scheme": b"http"}
    injected = base[where] + value[1:] if value.startswith(b"a") else value[:1] + base[where] + value[1:].replace(b"a", b"")
    refused(site, pseudo(token=site.token, **{**base, where: injected}))


PSEUDO = [
    ("no method", dict(method=None)), ("no scheme", dict(scheme=None)), ("no path", dict(path=None)),
    ("empty path", dict(path="")), ("empty method", dict(method="")), ("empty authority", dict(authority="")),
    ("relative path", dict(path="orders/allowed")), ("asterisk", dict(path="*")),
    ("absolute form in path", dict(path="http://localhost" + PATH)),
    ("dotdot", dict(path=PATH + "/../forbidden")), ("escaped dotdot", dict(path=PATH + "/%2e%2e/forbidden")),
    ("double slash", dict(path="//evil.example" + PATH)), ("backslash", dict(path=PATH + "\\x")),
    ("space in path", dict(path=PATH + " x")), ("space in method", dict(method="GET x")),
    ("credentials in authority", dict(authority="a@localhost")), ("path in authority", dict(authority="localhost/x")),
    ("lower-case method", dict(method="get")), ("unknown scheme", dict(scheme="ftp")),
    ("method with slash", dict(method="G/T")), ("high bytes in path", dict(path=PATH.encode() + b"/\xff")),
]


@pytest.mark.parametrize("changed", [c for _, c in PSEUDO], ids=[n for n, _ in PSEUDO])
def test_malformed_pseudo_headers(site, changed):
    refused(site, plain(site, **{"path": PATH, **changed}))


@pytest.mark.parametrize("fragment", ["#", "#/../forbidden", "#?a=1"])
def test_a_fragment_is_cut_before_the_check(site, fragment):
    """The HTTP/2 library cuts `#` and what follows off and keeps it nowhere, so that it cannot be refused as on HTTP/1.
    What is left is what is checked, and what is forwarded."""
    site.service.clear()
    with H2Wire(site.gate.port) as wire:
        assert wire.headers(1, plain(site, path=PATH + fragment)).outcome(1).status == 200
        elsewhere = site.gate.attenuate(site.token, "--path", "/forbidden")
        assert wire.headers(3, pseudo(token=elsewhere, path=PATH + fragment)).outcome(3).status == 403
    seen, everything = site.settle()
    assert [r.target for r in seen] == ["/allowed"] and b"#" not in everything


def test_pseudo_headers_twice_unknown_late_or_for_responses(site):
    usual = plain(site)
    for name, value in [(":path", "/orders/forbidden"), (":method", "POST"), (":authority", "evil.example"), (":scheme", "https")]:
        refused(site, usual[:4] + [(name, value)] + usual[4:])
    refused(site, usual[:4] + [(":status", "200")] + usual[4:])
    refused(site, usual[:4] + [(":evil", "x")] + usual[4:])
    refused(site, usual[:4] + [(":protocol", "websocket")] + usual[4:])
    # After a regular field.
    refused(site, usual[:3] + [("x-a", "b")] + usual[3:])
    refused(site, usual + [(":path", "/orders/forbidden")])


def test_host_and_authority_must_agree(site):
    refused(site, plain(site, ("host", "evil.example")))
    refused(site, plain(site, ("host", "localhost"), ("host", "evil.example")))
    refused(site, plain(site, ("host", "localhost"), authority="evil.example"))
    request, _ = passed(site, plain(site, ("host", "localhost")))
    assert request.values("host") == ["localhost"]


def test_content_length_is_the_sum_of_the_data(site):
    for length, body in [("3", b"abcd"), ("5", b"abc"), ("0", b"x" + SMUGGLED), ("3", b""), ("-1", b"abc"), ("+3", b"abc"),
                         ("03", b"abc"), ("3, 3", b"abc"), ("0x3", b"abc"), ("18446744073709551619", b"abc"), ("", b"abc")]:
        refused(site, plain(site, ("content-length", length), method="POST"), body=body)
    refused(site, plain(site, ("content-length", "3"), ("content-length", "4"), method="POST"), body=b"abc")
    refused(site, plain(site, ("content-length", "3"), method="POST"))
    request, _ = passed(site, plain(site, ("content-length", "3"), method="POST"), body=b"abc")
    assert request.body == b"abc"


def test_a_body_without_a_length_arrives_whole(site):
    request, _ = passed(site, plain(site, method="POST"), body=b"some bytes")
    assert request.body == b"some bytes"


def test_connect_is_refused(site):
    refused(site, [(":method", "CONNECT"), (":authority", "localhost:22"), ("authorization", f"Bearer {site.token}")],
            statuses=(400, 403, 404, 405, 501), end=False)


def test_each_stream_is_checked_by_itself(site):
    """T5: what one stream presents serves no other."""
    site.service.clear()
    with H2Wire(site.gate.port) as wire:
        wire.headers(1, plain(site)).headers(3, pseudo(path=PATH)).headers(5, plain(site, path="/orders/forbidden"))
        assert [wire.outcome(n).status for n in (1, 3, 5)] == [200, 401, 403]
    seen, _ = site.settle()
    assert [r.target for r in seen] == ["/allowed"]


def test_cookie_crumbs_are_joined(site):
    request, _ = passed(site, plain(site, ("cookie", "a=1"), ("cookie", "b=2")))
    assert request.values("cookie") == ["a=1; b=2"]


def test_spoofed_fields_are_dropped_as_on_http1(site):
    mark = "evil-mark"
    for name in ("x-forwarded-for", "x_forwarded_for", "forwarded", "postern-subject", "postern_subject", "x-original-url",
                 "x-http-method-override", "x_http_method_override", "proxy-authorization"):
        _, everything = passed(site, plain(site, (name, mark)))
        assert mark.encode() not in everything, name


def test_te_trailers_is_allowed(site):
    passed(site, plain(site, ("te", "trailers")))


def test_the_token_in_any_letter_case_of_its_scheme(site):
    passed(site, pseudo(path=PATH, extra=[("authorization", f"bEARER {site.token}")]))
    refused(site, pseudo(path=PATH, token=site.token, extra=[("authorization", f"Bearer {site.token}")]), statuses=(400,))


def test_too_many_and_too_large_fields_are_refused(site):
    refused(site, plain(site, *[(f"x-{i}", "y") for i in range(300)]), statuses=(400, 431))
    refused(site, plain(site, ("x-a", "b" * 60000)), statuses=(400, 431))
    refused(site, plain(site, path=PATH + "/" + "a" * 9000), statuses=(400, 414, 431))


# Frames that break the protocol itself end the connection; the gateway goes on serving others.
def connection_breakers():
    def settings_on_stream(wire):
        wire.raw(b"\x00\x00\x00\x04\x00\x00\x00\x00\x01")

    def data_on_idle(wire):
        wire.data(1, b"abc")

    def data_on_zero(wire):
        wire.raw(b"\x00\x00\x01\x00\x01\x00\x00\x00\x00a")

    def even_stream(wire):
        frame = HeadersFrame(2, wire.block(pseudo(path=PATH)))
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        wire.frame(frame)

    def frame_too_large(wire):
        wire.raw(b"\x10\x00\x00\x00\x00\x00\x00\x00\x01" + b"a" * 0x100000)

    def ping_wrong_size(wire):
        wire.raw(b"\x00\x00\x04\x06\x00\x00\x00\x00\x00abcd")

    def window_overflow(wire):
        for _ in range(3):
            wire.frame(WindowUpdateFrame(0, 0x7FFFFFFF))

    def window_zero(wire):
        wire.raw(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")

    def continuation_alone(wire):
        frame = ContinuationFrame(1, b"")
        frame.flags.add("END_HEADERS")
        wire.frame(frame)

    def headers_interrupted(wire):
        wire.frame(HeadersFrame(1, wire.block(pseudo(path=PATH))))
        wire.frame(PingFrame(0, b"12345678"))

    def hpack_garbage(wire):
        frame = HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff\xff\xff")
        frame.flags |= {"END_HEADERS", "END_STREAM"}
        wire.frame(frame)

    def stream_number_back(wire):
        wire.headers(5, pseudo(path=PATH)).headers(3, pseudo(path=PATH))

    def push_from_client(wire):
        wire.raw(b"\x00\x00\x04\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02")

    def bad_setting(wire):
        frame = SettingsFrame(0)
        frame.settings = {SettingsFrame.INITIAL_WINDOW_SIZE: 0x7FFFFFFF}
        raw = bytearray(frame.serialize())
        raw[-4:] = b"\xff\xff\xff\xff"
        wire.raw(bytes(raw))

    return [f for f in locals().values() if callable(f)]


@pytest.mark.parametrize("breaker", connection_breakers(), ids=lambda f: f.__name__)
def test_a_broken_connection_is_ended(site, breaker):
    site.service.clear()
    with H2Wire(site.gate.port) as wire:
        breaker(wire)
        assert wire.until(lambda: (wire.goaway or 0) > 0 or wire.closed), "the connection stays open"
    seen, _ = site.settle()
    assert seen == []


def test_a_preface_that_is_not_one_is_refused(site):
    for preface in (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n\r\n"):
        with H2Wire(site.gate.port, preface=False) as wire:
            wire.raw(preface)
            try:
                while wire.sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
    site.settle()


def test_floods_end_the_connection_and_not_the_service(site):
    """T29: rapid reset, continuation without end, settings, pings and empty data, each far beyond any honest use."""

    def rapid_reset(wire):
        for number in range(1, 20001, 2):
            wire.headers(number, plain(site), end=False)
            wire.frame(RstStreamFrame(number, error_code=8))
            if wire.closed:
                return

    def endless_continuation(wire):
        wire.frame(HeadersFrame(1, wire.block(pseudo(path=PATH))))
        filler = wire.block([("x-filler", "y" * 8000)])
        for _ in range(400):
            wire.frame(ContinuationFrame(1, filler))
            if wire.closed:
                return

    def empty_data(wire):
        wire.headers(1, plain(site, method="POST"), end=False)
        for _ in range(200):
            wire.raw(b"\x00\x00\x00\x00\x00\x00\x00\x00\x01" * 1000)
            if wire.closed:
                return

    for flood in (rapid_reset, endless_continuation, empty_data):
        with H2Wire(site.gate.port) as wire:
            flood(wire)
            assert wire.until(lambda: (wire.goaway or 0) > 0 or wire.closed, 10), flood.__name__
        site.settle()


@pytest.mark.parametrize("name", ["ping", "settings"])
def test_a_flood_that_asks_for_answers_is_answered_or_ended_and_costs_nobody_else(site, name):
    """Answers to PING and SETTINGS wait for a client that reads: what is not read is not collected."""
    settings = SettingsFrame(0)
    settings.settings = {SettingsFrame.INITIAL_WINDOW_SIZE: 65535}
    frame = {"ping": PingFrame(0, b"floods!!"), "settings": settings}[name].serialize()
    with H2Wire(site.gate.port, timeout=1) as wire:
        before = memory(site.gate)
        try:
            for _ in range(300):
                wire.sock.sendall(frame * 2000)
        except (TimeoutError, BrokenPipeError, ConnectionResetError):
            pass
        with H2Wire(site.gate.port) as other:
            assert other.headers(1, plain(site)).outcome(1).status == 200
        assert memory(site.gate) - before < 16 << 20
    site.settle()


def memory(gate):
    with open(f"/proc/{gate.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))

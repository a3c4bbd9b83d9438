"""Fields that services obey in place of the request line, or believe about the caller: none of a stranger's get through,
in any spelling (T7)."""

import pytest

from conformance.cases import Passed, get, ids, post

MARK = "evil-mark"
# Obeyed by frameworks in place of method or path.
OVERRIDES = ["X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"]
# Believed by services about the client.
IDENTITY = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
            "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-User", "X-Forwarded-Client-Cert"]
# The gateway's own names.
OWN = ["Postern-Subject", "Postern-Resource", "Postern-Receipt", "Postern-Anything", "Postern-Order-Key"]


def spellings(name):
    """The name as CGI-like services cannot tell it from others: `-` and `_` mixed, any case."""
    yield name
    yield name.replace("-", "_")
    yield name.replace("-", "_", 1)
    yield name.upper()
    yield name.lower().replace("-", "_")
    if name.count("-") > 1:
        yield "-".join(name.split("-")[:-1]) + "_" + name.split("-")[-1]


CASES = [
    Passed(spelling, get(f"{spelling}: {MARK}"), never=(MARK.encode(),))
    for name in OVERRIDES + IDENTITY + OWN
    for spelling in dict.fromkeys(spellings(name))
]

TRAILERS = [
    Passed(
        f"trailer {name}",
        post("Transfer-Encoding: chunked", f"Trailer: {name}", body=f"3\r\nabc\r\n0\r\n{name}: {MARK}\r\n\r\n"),
        to="POST",
        body=b"abc",
        never=(MARK.encode(),),
    )
    for name in ["Postern-Subject", "Postern_Subject", "X-Forwarded-For", "X_Forwarded_For", "X-Original-URL",
                 "Authorization", "X-HTTP-Method-Override", "Forwarded", "Cookie2-Postern-x".replace("Cookie2-", "")]
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_a_spoofed_field_does_not_reach_the_service(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", TRAILERS, ids=ids(TRAILERS))
def test_a_spoofed_trailer_does_not_reach_the_service(site, case):
    status = case.status
    case.status = (200, 400)
    try:
        site.judge(case)
    except AssertionError as error:
        # Refusing such a message whole is as strict as dropping the trailer.
        if "the service saw []" not in str(error):
            raise
    finally:
        case.status = status


def test_the_gateway_says_itself_who_is_calling(site):
    site.judge(Passed("", get("X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4"),
                      sees=(b"or: 127.0.0.1\r\n", b"roto: http\r\n", b"refix: /orders\r\n", b"ost: localhost\r\n"),
                      never=(b"1.2.3.4",)))
    request = site.service.requests[0]
    assert request.value("x-forwarded-host") == "localhost"
    assert request.value("x-forwarded-prefix") == "/orders"
    assert "for=127.0.0.1" in request.value("forwarded").replace('"', "").lower()
    assert request.value("via").startswith("1.1 ")


def test_an_upstreams_fields_in_our_name_do_not_reach_the_client(site):
    from harness.backend import answer

    site.service.respond = lambda _: answer(fields=[("Postern-Receipt", MARK), ("postern_receipt", MARK), ("X-Fine", "1")])
    try:
        with site.gate.wire() as wire:
            reply = wire.send(site.fill(get())).answer()
    finally:
        site.service.respond = site.service.default
    assert reply.status == 200 and reply.value("x-fine") == "1" and MARK.encode() not in reply.head


def test_a_trace_context_is_continued_or_begun(site):
    known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    site.judge(Passed("", get(f"traceparent: {known}"), sees=(b"4bf92f3577b34da6a3ce929d0e0e4736",)))
    for broken in ("nonsense", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", known + "x" * 300):
        site.judge(Passed("", get(f"traceparent: {broken}"), never=(broken.encode(),)))
        (value,) = site.service.requests[0].values("traceparent")
        assert len(value) == 55

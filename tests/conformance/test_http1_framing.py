"""HTTP/1 message framing: one source says where a body ends, anything ambiguous is refused and ends the connection
(T2, T6; RFC 9112 sections 6 and 7)."""

import pytest

from conformance.cases import AUTH, HOST, SMUGGLED, Passed, Refused, get, ids, post

N = str(len(SMUGGLED))
CHUNKED = "Transfer-Encoding: chunked"

LENGTH_AND_CODING = [
    Refused("CL then TE", post(f"Content-Length: {N}", CHUNKED, body="0\r\n\r\n" + SMUGGLED)),
    Refused("TE then CL", post(CHUNKED, "Content-Length: 4", body="0\r\n\r\n" + SMUGGLED)),
    Refused("CL 0 and TE", post("Content-Length: 0", CHUNKED, body="0\r\n\r\n" + SMUGGLED)),
    Refused("CL and TE agree", post("Content-Length: 5", CHUNKED, body="0\r\n\r\n")),
    Refused("CL and TE identity", post(f"Content-Length: {N}", "Transfer-Encoding: identity", body=SMUGGLED), (400, 501)),
    Refused("CL and TE unknown", post("Content-Length: 3", "Transfer-Encoding: x", body="abc" + SMUGGLED), (400, 501)),
    Refused("CL and TE empty", post("Content-Length: 3", "Transfer-Encoding:", body="abc" + SMUGGLED), (400, 501)),
    Refused("CL and TE on GET", get("Content-Length: 4", CHUNKED, body="0\r\n\r\n" + SMUGGLED)),
    Refused("CL and TE on 1.0", post("Content-Length: 4", CHUNKED, version="1.0", body="0\r\n\r\n" + SMUGGLED)),
]

CODING = [
    Refused("gzip, chunked", post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n"), (400, 501)),
    Refused("chunked, gzip", post("Transfer-Encoding: chunked, gzip", body="0\r\n\r\n"), (400, 501)),
    Refused("chunked, chunked", post("Transfer-Encoding: chunked, chunked", body="0\r\n\r\n")),
    Refused("chunked, identity", post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n"), (400, 501)),
    Refused("identity alone", post("Transfer-Encoding: identity", body=SMUGGLED), (400, 501)),
    Refused("gzip alone", post("Transfer-Encoding: gzip", body=SMUGGLED), (400, 501)),
    Refused("two lines", post(CHUNKED, CHUNKED, body="0\r\n\r\n")),
    Refused("two lines, one unknown", post(CHUNKED, "Transfer-Encoding: x", body="0\r\n\r\n"), (400, 501)),
    Refused("two lines, unknown first", post("Transfer-Encoding: x", CHUNKED, body="0\r\n\r\n"), (400, 501)),
    Refused("two lines in other case", post(CHUNKED, "transfer-encoding: identity", body="0\r\n\r\n"), (400, 501)),
    Refused("empty", post("Transfer-Encoding:", body="0\r\n\r\n"), (400, 501)),
    Refused("comma", post("Transfer-Encoding: ,", body="0\r\n\r\n"), (400, 501)),
    Refused("comma chunked", post("Transfer-Encoding: , chunked", body="0\r\n\r\n"), (400, 501)),
    Refused("chunked comma", post("Transfer-Encoding: chunked,", body="0\r\n\r\n"), (400, 501)),
    Refused("parameter", post("Transfer-Encoding: chunked;x=y", body="0\r\n\r\n"), (400, 501)),
    Refused("quoted", post('Transfer-Encoding: "chunked"', body="0\r\n\r\n"), (400, 501)),
    Refused("vertical tab before", post("Transfer-Encoding: \x0bchunked", body="0\r\n\r\n"), (400, 501)),
    Refused("form feed after", post("Transfer-Encoding: chunked\x0c", body="0\r\n\r\n"), (400, 501)),
    Refused("NUL after", post("Transfer-Encoding: chunked\x00", body="0\r\n\r\n"), (400, 501)),
    Refused("no-break space", post("Transfer-Encoding: \xa0chunked", body="0\r\n\r\n"), (400, 501)),
    Refused("space before colon", post("Transfer-Encoding : chunked", body="0\r\n\r\n")),
    Refused("tab before colon", post("Transfer-Encoding\t: chunked", body="0\r\n\r\n")),
    Refused("folded", post("Transfer-Encoding:\r\n chunked", body="0\r\n\r\n")),
    Refused("folded x", post("X: y\r\n Transfer-Encoding: chunked", body="0\r\n\r\n")),
    Refused("xchunked", post("Transfer-Encoding: xchunked", body="0\r\n\r\n"), (400, 501)),
    Refused("chunkedx", post("Transfer-Encoding: chunkedx", body="0\r\n\r\n"), (400, 501)),
    Refused("chunk", post("Transfer-Encoding: chunk", body="0\r\n\r\n"), (400, 501)),
    Refused("chunked on 1.0", post(CHUNKED, version="1.0", body="0\r\n\r\n" + SMUGGLED)),
    Refused("underscore spelling", post("Transfer_Encoding: chunked", "Content-Length: 5", body="0\r\n\r\n")),
    # RFC 9112 calls it the same coding; no client writes it so, and some services read it otherwise.
    Passed("tab before the value", post("Transfer-Encoding:\tchunked", body="3\r\nabc\r\n0\r\n\r\n"), to="POST", body=b"abc"),
    Passed("space after the value", post("Transfer-Encoding: chunked \t", body="3\r\nabc\r\n0\r\n\r\n"), to="POST", body=b"abc"),
]

LENGTH = [
    Refused("two different", post("Content-Length: 3", "Content-Length: 4", body="abc" + SMUGGLED)),
    Refused("two equal", post("Content-Length: 3", "Content-Length: 3", body="abc")),
    Refused("list equal", post("Content-Length: 3, 3", body="abc")),
    Refused("list different", post("Content-Length: 3, 4", body="abcd")),
    Refused("plus", post("Content-Length: +3", body="abc")),
    Refused("minus", post("Content-Length: -3", body="abc")),
    Refused("minus zero", post("Content-Length: -0", body="")),
    Refused("leading zero", post("Content-Length: 03", body="abc")),
    Refused("octal look", post("Content-Length: 010", body="abcdefgh" + SMUGGLED)),
    Refused("zero zero", post("Content-Length: 00", body=SMUGGLED)),
    Refused("hex", post("Content-Length: 0x3", body="abc")),
    Refused("underscore", post("Content-Length: 1_0", body="abcdefghij")),
    Refused("fraction", post("Content-Length: 3.0", body="abc")),
    Refused("exponent", post("Content-Length: 3e0", body="abc")),
    Refused("empty", post("Content-Length:", body=SMUGGLED)),
    Refused("word", post("Content-Length: three", body="abc")),
    Refused("space inside", post("Content-Length: 3 4", body="abc")),
    Refused("comma after", post("Content-Length: 3,", body="abc")),
    Refused("vertical tab", post("Content-Length: \x0b3", body="abc")),
    Refused("NUL", post("Content-Length: 3\x00", body="abc")),
    Refused("fullwidth digits", post("Content-Length: \xef\xbc\x93", body="abc")),
    Refused("2^64", post("Content-Length: 18446744073709551616", body=SMUGGLED), (400, 413)),
    Refused("2^64 + 3", post("Content-Length: 18446744073709551619", body="abc"), (400, 413)),
    Refused("2^63", post("Content-Length: 9223372036854775808", body="abc"), (400, 413)),
    Refused("2^32 wrap with zeros", post("Content-Length: 4294967299000000000000", body="abc"), (400, 413)),
    Refused("thousand digits", post("Content-Length: " + "9" * 1000, body="abc"), (400, 413)),
    Refused("space before colon", post("Content-Length : 3", body="abc")),
    Refused("folded", post("Content-Length:\r\n 3", body="abc")),
    Refused("two in other case", post("Content-Length: 3", "content-length: 30", body="abc" + SMUGGLED)),
    Refused("underscore spelling", post("Content_Length: 0", "Content-Length: 3", body="abc")),
    Refused("body on GET cut", get("Content-Length: 10", body="abc"), (400, 408), half_close=True, may_be_silent=True),
    Passed("three", post("Content-Length: 3", body="abc"), to="POST", body=b"abc", sees=(b"ontent-", b": 3\r\n")),
    Passed("zero", post("Content-Length: 0"), to="POST", body=b""),
    Passed("none on POST", post(), to="POST", body=b""),
    Passed("body on GET", get("Content-Length: 3", body="abc"), body=b"abc"),
]

CHUNKS = [
    ("size empty", "\r\nabc\r\n0\r\n\r\n"),
    ("size not hex", "g\r\nabc\r\n0\r\n\r\n"),
    ("size 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("size plus", "+3\r\nabc\r\n0\r\n\r\n"),
    ("size minus", "-3\r\nabc\r\n0\r\n\r\n"),
    ("size space before", " 3\r\nabc\r\n0\r\n\r\n"),
    ("size space after", "3 \r\nabc\r\n0\r\n\r\n"),
    ("size tab after", "3\t\r\nabc\r\n0\r\n\r\n"),
    ("size underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"),
    ("size 2^64", "10000000000000000\r\nabc\r\n0\r\n\r\n"),
    ("size 2^64 + 3 wraps to 3", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size 2^64 - 1", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    ("size 2^63", "8000000000000000\r\nabc\r\n0\r\n\r\n"),
    ("size with seventeen zeros", "00000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("size list", "3,3\r\nabc\r\n0\r\n\r\n"),
    ("LF after size", "3\nabc\r\n0\r\n\r\n"),
    ("CR after size", "3\rabc\r\n0\r\n\r\n"),
    ("CR CR LF after size", "3\r\r\nabc\r\n0\r\n\r\n"),
    ("LF after data", "3\r\nabc\n0\r\n\r\n"),
    ("CR after data", "3\r\nabc\r0\r\n\r\n"),
    ("nothing after data", "3\r\nabc0\r\n\r\n"),
    ("data longer than size", "3\r\nabcd\r\n0\r\n\r\n"),
    ("data shorter than size", "4\r\nabc\r\n0\r\n\r\n"),
    ("LF after last chunk", "3\r\nabc\r\n0\n\r\n"),
    ("LF at the end", "3\r\nabc\r\n0\r\n\n"),
    ("extension with NUL", "3;a\x00b\r\nabc\r\n0\r\n\r\n"),
    ("extension with ESC", "3;a\x1bb\r\nabc\r\n0\r\n\r\n"),
    ("extension with LF", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
    ("extension with CR", "3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("extension hides a chunk after LF", "3;\n5\r\nabc\r\n0\r\n\r\n"),
    ("extension too long", "3;" + "a" * 5000 + "\r\nabc\r\n0\r\n\r\n"),
    ("trailer with LF", "0\r\nA: b\n\r\n"),
    ("trailer with space before colon", "0\r\nA : b\r\n\r\n"),
    ("trailer without colon", "0\r\nAb\r\n\r\n"),
    ("trailer without name", "0\r\n: b\r\n\r\n"),
    ("trailer folded", "0\r\nA: b\r\n c\r\n\r\n"),
    ("trailer with NUL", "0\r\nA: \x00\r\n\r\n"),
    ("trailer is a Content-Length", "0\r\nContent-Length: 9\r\n\r\n"),
    ("trailer is a Transfer-Encoding", "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("trailer is a Host", "0\r\nHost: evil\r\n\r\n"),
    ("trailers too many", "0\r\n" + "A: b\r\n" * 200 + "\r\n"),
    ("trailers too long", "0\r\nA: " + "b" * 20000 + "\r\n\r\n"),
]
# A trailer that may not be one is dropped or refused: both keep it from the service, so both are strict.
DROPPED_TRAILERS = {"trailer is a Content-Length", "trailer is a Transfer-Encoding", "trailer is a Host"}

GOOD_CHUNKS = [
    Passed("one chunk", post(CHUNKED, body="3\r\nabc\r\n0\r\n\r\n"), to="POST", body=b"abc"),
    Passed("many chunks", post(CHUNKED, body="1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), to="POST", body=b"abc"),
    Passed("upper case size", post(CHUNKED, body="A\r\n0123456789\r\n0\r\n\r\n"), to="POST", body=b"0123456789"),
    Passed("leading zeros within bounds", post(CHUNKED, body="003\r\nabc\r\n0\r\n\r\n"), to="POST", body=b"abc"),
    Passed("several zeros end", post(CHUNKED, body="3\r\nabc\r\n000\r\n\r\n"), to="POST", body=b"abc"),
    Passed("empty body", post(CHUNKED, body="0\r\n\r\n"), to="POST", body=b""),
    Passed("extension is not forwarded", post(CHUNKED, body="3;name=value\r\nabc\r\n0\r\n\r\n"), to="POST", body=b"abc", never=(b"name=value",)),
    Passed("quoted extension", post(CHUNKED, body='3;a="b c"\r\nabc\r\n0\r\n\r\n'), to="POST", body=b"abc", never=(b"b c",)),
    Passed("trailer", post(CHUNKED, "Trailer: X-Sum", body="3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"), to="POST", body=b"abc"),
    Passed("chunked GET", get(CHUNKED, body="3\r\nabc\r\n0\r\n\r\n"), body=b"abc"),
]


@pytest.mark.parametrize("case", LENGTH_AND_CODING, ids=ids(LENGTH_AND_CODING))
def test_a_length_beside_a_transfer_coding_is_refused(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", CODING, ids=ids(CODING))
def test_the_only_transfer_coding_is_chunked(site, case):
    site.judge(case)


@pytest.mark.parametrize("case", LENGTH, ids=ids(LENGTH))
def test_a_length_is_one_plain_number(site, case):
    site.judge(case)


@pytest.mark.parametrize("body", [b for _, b in CHUNKS], ids=[n for n, _ in CHUNKS])
def test_a_chunk_that_two_readers_could_cut_differently_ends_the_message(site, body, request):
    name = request.node.callspec.id
    if name in DROPPED_TRAILERS:
        raw = site.fill(post(CHUNKED, body=body))
        with site.gate.wire() as wire:
            answer = wire.send(raw).answer("POST")
        _, everything = site.settle()
        field = body.split("\r\n")[1].encode().lower()
        assert answer.status in (200, 400) and field + b"\r\n\r\n" not in everything.lower().split(b"\r\n0\r\n")[-1]
        return
    # "data shorter than size" only shows when the client stops: until then the rest may still come.
    site.judge(Refused(name, post(CHUNKED, body=body), (400, 413, 431), half_close=True, may_be_silent=False))


@pytest.mark.parametrize("case", GOOD_CHUNKS, ids=ids(GOOD_CHUNKS))
def test_well_formed_chunks_reach_the_service(site, case):
    site.judge(case)


def test_a_body_of_a_refused_request_never_becomes_a_request(site):
    """CVE-2025-4366: what was left of a denied message was read as the next one."""
    for auth, status in (("", 401), (AUTH, 403)):
        raw = post(f"Content-Length: {N}", target="/orders/forbidden", auth=auth, body=SMUGGLED)
        site.service.clear()
        with site.gate.wire() as wire:
            wire.send(site.fill(raw))
            assert wire.answer("POST").status == status
            # Whether the connection is kept or not: no second answer may come for the bytes of the body.
            assert wire.rest(timeout=1) == b"" if wire.closed(timeout=1) else wire.buffer == b""
        seen, everything = site.settle()
        assert seen == [] and b"smuggled" not in everything


def test_a_pipelined_request_after_a_chunked_one_is_checked_by_itself(site):
    first = post(CHUNKED, body="3\r\nabc\r\n0\r\n\r\n")
    second = f"GET /orders/allowed/second HTTP/1.1\r\n{HOST}\r\n"
    site.service.clear()
    with site.gate.wire() as wire:
        wire.send(site.fill(first + second))
        assert [wire.answer("POST").status, wire.answer().status] == [200, 401]
    seen, _ = site.settle()
    assert [r.target for r in seen] == ["/allowed"]

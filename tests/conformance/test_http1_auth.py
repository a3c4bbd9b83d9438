"""How a token is presented: one carrier, one token, in the one place (T5, T11, T17; RFC 6750)."""

import base64

import pytest

from conformance.cases import ALLOWED, Passed, Refused, get, ids

BASIC = base64.b64encode(b"x:<TOK>").decode()
UNAUTHORIZED = [
    ("none", ""),
    ("empty", "Authorization:\r\n"),
    ("scheme alone", "Authorization: Bearer\r\n"),
    ("scheme and space", "Authorization: Bearer \r\n"),
    ("no scheme", "Authorization: <TOK>\r\n"),
    ("other scheme", "Authorization: Token <TOK>\r\n"),
    ("Basic", "Authorization: Basic eDp5\r\n"),
    ("Digest", 'Authorization: Digest username="x"\r\n'),
    ("scheme glued", "Authorization: Bearer<TOK>\r\n"),
    ("quoted", 'Authorization: Bearer "<TOK>"\r\n'),
    ("parameter", "Authorization: Bearer token=<TOK>\r\n"),
    ("two in one field", "Authorization: Bearer <TOK>, Bearer <TOK>\r\n"),
    ("text after", "Authorization: Bearer <TOK> x\r\n"),
    ("underscore spelling", "Authorization_: Bearer <TOK>\r\n"),
    ("Proxy-Authorization", "Proxy-Authorization: Bearer <TOK>\r\n"),
    ("cookie", "Cookie: token=<TOK>; access_token=<TOK>\r\n"),
    ("X-Api-Key", "X-Api-Key: <TOK>\r\n"),
    ("JWT", "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.\r\n"),
    ("garbage", "Authorization: Bearer !!!!\r\n"),
    ("cut by one", "Authorization: Bearer <CUT1>\r\n"),
    ("cut in half", "Authorization: Bearer <HALF>\r\n"),
    ("one character", "Authorization: Bearer E\r\n"),
    ("8 KiB and one", "Authorization: Bearer " + "A" * 8193 + "\r\n"),
    ("20 KiB of A", "Authorization: Bearer " + "A" * 20000 + "\r\n"),
    ("padding inside", "Authorization: Bearer ==<TOK>\r\n"),
    ("standard alphabet", "Authorization: Bearer +/+/+/+/\r\n"),
]

TWO = [
    ("two fields, equal", "Authorization: Bearer <TOK>\r\nAuthorization: Bearer <TOK>\r\n"),
    ("two fields, bad and good", "Authorization: Bearer x\r\nAuthorization: Bearer <TOK>\r\n"),
    ("two fields, good and bad", "Authorization: Bearer <TOK>\r\nAuthorization: Bearer x\r\n"),
    ("two fields, good and Basic", "Authorization: Bearer <TOK>\r\nAuthorization: Basic eDp5\r\n"),
    ("two fields, other case", "Authorization: Bearer <TOK>\r\nAUTHORIZATION: Bearer <TOK>\r\n"),
    ("both carriers", "Authorization: Bearer <TOK>\r\nPostern-Capability: <TOK>\r\n"),
]

IN_URL = ["access_token", "token", "bearer", "api_key", "authorization", "postern"]


def fill(site, auth):
    token = site.token
    return auth.replace("<CUT1>", token.rstrip("=")[:-1]).replace("<HALF>", token[: len(token) // 2])


@pytest.mark.parametrize("auth", [a for _, a in UNAUTHORIZED], ids=[n for n, _ in UNAUTHORIZED])
def test_what_is_not_one_readable_token_is_unauthorized(site, auth):
    # RFC 6750 section 3.1 calls a malformed presentation an invalid request (400), an unacceptable token a 401.
    status = (401, 400)
    raw = get(auth=fill(site, auth))
    site.judge(Refused("", raw, status, closes=False))
    answer = site.gate.once(site.fill(raw))
    assert answer.problem["status"] == answer.status
    if answer.status == 401:
        assert answer.value("www-authenticate").startswith('Bearer realm="postern"')


@pytest.mark.parametrize("auth", [a for _, a in TWO], ids=[n for n, _ in TWO])
def test_two_tokens_are_a_malformed_request(site, auth):
    site.judge(Refused("", get(auth=auth), closes=False))


@pytest.mark.parametrize("name", IN_URL)
def test_a_token_in_the_url_admits_nobody(site, name):
    site.judge(Refused("", get(target=f"{ALLOWED}?{name}=<TOK>", auth=""), (401,), closes=False))


GOOD = [
    Passed("usual", get()),
    Passed("scheme in lower case", get(auth="Authorization: bearer <TOK>\r\n")),
    Passed("scheme in upper case", get(auth="Authorization: BEARER <TOK>\r\n")),
    Passed("field name in lower case", get(auth="authorization: Bearer <TOK>\r\n")),
]


@pytest.mark.parametrize("case", GOOD, ids=ids(GOOD))
def test_a_token_in_its_place_is_read(site, case):
    site.judge(case)


@pytest.mark.parametrize("prefix", ["", "biscuit:"])
def test_padding_and_the_biscuit_prefix_are_optional(site, prefix):
    for text in (site.token.rstrip("="), site.token.rstrip("=") + "=" * (-len(site.token.rstrip("=")) % 4)):
        site.judge(Passed("", get(auth=f"Authorization: Bearer {prefix}{text}\r\n")))

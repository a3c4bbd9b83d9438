"""HTTP/1 paths: what any usual decoder or normaliser could read as another path is refused, the rest is forwarded as
checked, byte for byte (T1)."""

import pytest

from conformance.cases import Passed, Refused, get, ids

# Each is put below /orders/allowed/, where the token may go; /orders/forbidden is where an attacker wants to be.
DISGUISED = [
    ("dotdot", "../forbidden"),
    ("dotdot twice", "../../forbidden/x"),
    ("dotdot inside", "a/../../forbidden"),
    ("dotdot last", "a/.."),
    ("dotdot last slash", "a/../"),
    ("dot", "./x"),
    ("dot last", "x/."),
    ("dot slash last", "x/./"),
    ("escaped dotdot lower", "%2e%2e/forbidden"),
    ("escaped dotdot upper", "%2E%2E/forbidden"),
    ("half escaped dotdot", ".%2e/forbidden"),
    ("half escaped dotdot other", "%2e./forbidden"),
    ("escaped dot", "%2e/x"),
    ("escaped slash", "..%2fforbidden"),
    ("escaped slash upper", "..%2Fforbidden"),
    ("all escaped", "%2e%2e%2fforbidden"),
    ("plain escaped slash", "a%2fb"),
    ("backslash", "..\\forbidden"),
    ("backslash plain", "a\\b"),
    ("escaped backslash", "..%5cforbidden"),
    ("escaped backslash upper", "..%5Cforbidden"),
    ("escaped backslash plain", "a%5cb"),
    ("double encoding of slash", "..%252fforbidden"),
    ("double encoding of dot", "%252e%252e/forbidden"),
    ("double encoding of letter", "%2541"),
    ("double encoding built of escapes", "%25%32%65"),
    ("triple encoding", "%25252e"),
    ("path parameter dotdot", "..;/forbidden"),
    ("path parameter dotdot with value", "..;a=b/forbidden"),
    ("path parameter dot", ".;/x"),
    ("path parameter escaped", "%2e%2e;/forbidden"),
    ("path parameter and escaped semicolon", "..%3b/forbidden"),
    ("space after dotdot", "..%20/forbidden"),
    ("escaped question mark after dotdot", "..%3f/forbidden"),
    ("escaped hash after dotdot", "%2e%2e%23"),
    ("empty segment", "/x"),
    ("empty segment inside", "a//b"),
    ("empty segment last", "a//"),
    ("empty segments and dotdot", "a//../../forbidden"),
    ("escaped NUL", "a%00b"),
    ("escaped NUL after extension", "x.html%00.png"),
    ("escaped LF", "a%0ab"),
    ("escaped CR", "a%0db"),
    ("escaped CRLF and header", "a%0d%0aX-Evil:%20yes"),
    ("escaped TAB", "a%09b"),
    ("escaped DEL", "a%7fb"),
    ("escaped ESC", "a%1b[2J"),
    ("percent alone", "a%"),
    ("percent one digit", "a%4"),
    ("percent no digits", "a%zz"),
    ("percent half digits", "a%4z"),
    ("percent unicode notation", "a%u002e%u002e/forbidden"),
    ("percent sign sign", "a%%41"),
    ("overlong dot", "%c0%ae%c0%ae/forbidden"),
    ("overlong slash", "..%c0%afforbidden"),
    ("overlong slash three bytes", "..%e0%80%afforbidden"),
    ("overlong slash four bytes", "..%f0%80%80%afforbidden"),
    ("overlong NUL", "a%c0%80b"),
    ("invalid UTF-8", "a%ff"),
    ("UTF-8 cut", "a%c3"),
    ("UTF-8 lone continuation", "a%80"),
    ("UTF-8 surrogate", "a%ed%a0%80"),
    ("UTF-8 above the last character", "a%f4%90%80%80"),
    ("not NFC: letter and accent", "caf%65%cc%81"),
    ("not NFC: angstrom sign", "a%e2%84%ab"),
    ("fullwidth dots", "%ef%bc%8e%ef%bc%8e/forbidden"),
    ("fullwidth solidus", "..%ef%bc%8fforbidden"),
    ("one dot leader", "%e2%80%a4%e2%80%a4/forbidden"),
    ("two dot leader", "%e2%80%a5/forbidden"),
    ("fragment", "x#y"),
    ("fragment dotdot", "x#/../forbidden"),
    ("raw UTF-8", "caf\u00c3\u00a9"),
    ("raw latin-1", "caf\xe9"),
    ("raw high byte", "a\xff"),
    ("angle brackets", "a<b>"),
    ("quote", 'a"b'),
    ("dotdot after a pipe", "a|/../forbidden"),
    ("backslash after a brace", "{\\..\\forbidden"),
    ("escaped slash after a bracket", "[..%2fforbidden"),
    ("raw DEL", "a\x7fb"),
    ("raw ESC", "a\x1bb"),
    ("raw NUL", "a\x00b"),
    ("raw TAB", "a\tb"),
]

# Where the escaped slash is passed, what it could hide is refused all the same.
DISGUISED_BY_SLASHES = [
    ("dotdot before", "a/..%2fb"),
    ("dotdot after", "a%2f.."),
    ("dotdot after escaped", "a%2f%2e%2e"),
    ("dot between", "a%2f.%2fb"),
    ("dotdot with parameter", "a%2f..;x%2fb"),
    ("escaped backslash", "a%5c..%5cb"),
    ("double encoding", "a%252fb"),
]

# (what is sent, what the service must see), below /orders/allowed/ and /allowed/.
ORDINARY = [
    ("plain", "a", "a"),
    ("last slash", "a/", "a/"),
    ("unreserved", "A-b._~9", "A-b._~9"),
    ("sub-delimiters", "a!$&'()*+,;=:@b", "a!$&'()*+,;=:@b"),
    ("dots in a name", "a..b", "a..b"),
    ("three dots", ".../x", ".../x"),
    ("hidden file", ".hidden", ".hidden"),
    ("parameter", "a;v=1", "a;v=1"),
    ("escaped letter", "%41%62c", "Abc"),
    ("escaped tilde", "%7ex", "~x"),
    ("escaped hyphen", "a%2db", "a-b"),
    ("escaped dot in a name", "a%2eb", "a.b"),
    ("escape in lower case", "a%c3%a9", "a%C3%A9"),
    ("escape in upper case", "a%C3%A9", "a%C3%A9"),
    ("escaped space", "a%20b", "a%20b"),
    ("escaped percent", "100%25", "100%25"),
    ("escaped percent before letters", "100%25zz", "100%25zz"),
    ("escaped question mark", "a%3Fb", "a%3Fb"),
    ("escaped hash", "a%23b", "a%23b"),
    ("escaped plus stays", "a%2Bb", "a%2Bb"),
    ("plus stays", "a+b", "a+b"),
    ("four-byte UTF-8", "%F0%9F%94%91", "%F0%9F%94%91"),
    ("what senders leave raw", "a|b{c}d^e`f[0]", "a%7Cb%7Bc%7Dd%5Ee%60f%5B0%5D"),
    ("what senders leave raw in a query", "a?x=|{}^`\\&y[]=%7c%2f%", "a?x=%7C%7B%7D%5E%60%5C&y[]=%7c%2f%"),
    ("query untouched", "a?x=../%2e%2e/&y=%zz", "a?x=../%2e%2e/&y=%zz"),
    ("empty query", "a?", "a?"),
    ("second question mark", "a?b?c", "a?b?c"),
]


@pytest.mark.parametrize("suffix", [s for _, s in DISGUISED], ids=[n for n, _ in DISGUISED])
def test_disguised_path_is_refused(site, suffix):
    site.judge(Refused("", get(target="/orders/allowed/" + suffix), closes=False))


@pytest.mark.parametrize("suffix", [s for _, s in DISGUISED_BY_SLASHES], ids=[n for n, _ in DISGUISED_BY_SLASHES])
def test_an_escaped_slash_that_is_passed_hides_nothing(site, suffix):
    site.judge(Refused("", get(target="/slashes/" + suffix, auth="Authorization: Bearer <FULL>\r\n"), closes=False))


def test_an_escaped_slash_is_an_ordinary_character_where_the_resource_says_so(site):
    raw = get(target="/slashes/a%2fb", auth="Authorization: Bearer <FULL>\r\n")
    site.judge(Passed("", raw, sees=(b"GET /a%2Fb HTTP/1.1\r\n",)))


@pytest.mark.parametrize("sent, seen", [c[1:] for c in ORDINARY], ids=[c[0] for c in ORDINARY])
def test_the_path_that_is_checked_is_the_path_that_is_forwarded(site, sent, seen):
    site.judge(Passed("", get(target="/orders/allowed/" + sent), sees=(f"GET /allowed/{seen} HTTP/1.1\r\n".encode(),)))


# Resources are found on the canonical path, at a segment boundary, in one spelling only.
ELSEWHERE = [
    ("other resource", "/forbidden/x"),
    ("prefix without boundary", "/ordersx/allowed"),
    ("prefix and dot", "/orders.allowed"),
    ("upper case", "/ORDERS/allowed"),
    ("unknown", "/nowhere"),
    ("root", "/"),
    ("admin path", "/revocations"),
    ("metrics", "/metrics"),
    ("health", "/health/ready"),
]


@pytest.mark.parametrize("target", [t for _, t in ELSEWHERE], ids=[n for n, _ in ELSEWHERE])
def test_what_the_token_does_not_designate_is_not_found(site, target):
    site.judge(Refused("", get(target=target), status=(404,), closes=False))


# The caveat is /allowed and /allowed/**: these are readable paths that it stops.
STOPPED = ["/orders/forbidden", "/orders/allowedx", "/orders/", "/orders", "/orders/Allowed", "/orders/allowe",
           "/orders/allowed;x", "/orders/a/allowed", "/orders/allowed%3B"]


@pytest.mark.parametrize("target", STOPPED)
def test_a_caveat_stops_a_neighbouring_path(site, target):
    site.judge(Refused("", get(target=target), status=(403,), closes=False))

"""T1 by search: no forwarded path can be turned into a forbidden one by anything that services do to paths.

Random paths are built from the pieces that path confusion is made of. Whatever the gateway forwards is then put through
every short sequence of the operations that some service is known to apply (decode, decode again, fold `\\` and `;`,
collapse, normalise Unicode, cut at NUL …). If any sequence arrives at the forbidden place, the path should not have
passed.
"""

import os
import random
import re
import unicodedata
import urllib.parse

from harness.wire import request

PIECES = ["a", "b.c", ".", "..", "...", "%2e", "%2E%2e", ".%2e", "%252e", "%252e%252e", "..;", "..;x=1", ";", "%3b", "%00", "..%00",
          "%c0%ae", "%c0%ae%c0%ae", "%ef%bc%8e", "%ef%bc%8e%ef%bc%8e", "%e2%80%a5", "%e2%80%a4", "..%20", "%20", "..%09", "forbidden", "FORBIDDEN",
          "%66orbidden", "allowed", "%u002e", "..%ff", "%", "%2", ".%00.", "..%0d", "%c4%b0", "~", "*", "..%23", "..%3f", "..."]
JOINS = ["/", "/", "/", "//", "\\", "%2f", "%2F", "%5c", "%252f", "%255c", "/./", "/;/", "%c0%af", "%ef%bc%8f", "%e2%88%95", "%25%32%66", ";/", "/.;/"]


def dots(path):
    """RFC 3986 section 5.2.4, and what remains of an empty path."""
    out = []
    for segment in path.split("/"):
        if segment == "..":
            out = out[:-1] if len(out) > 1 else out
        elif segment != ".":
            out.append(segment)
    return "/".join(out) or "/"


OPERATIONS = [
    lambda p: urllib.parse.unquote(p, encoding="latin-1"),
    lambda p: urllib.parse.unquote(p, errors="replace"),
    dots,
    lambda p: p.replace("\\", "/"),
    lambda p: re.sub("/+", "/", p),
    lambda p: re.sub(r";[^/]*", "", p),
    lambda p: unicodedata.normalize("NFKC", p),
    lambda p: p.split("\0")[0],
    lambda p: p.split("#")[0],
    lambda p: re.sub(r"[\t\r\n ]", "", p),
    lambda p: p.encode("latin-1", "replace").decode("utf-8", "replace"),
    lambda p: "/".join(s.rstrip(". ") or s if s not in (".", "..") else s for s in p.split("/")),
    lambda p: p.replace("%2f", "/").replace("%2F", "/"),
]
DEPTH = 4


def reachable(path):
    """Everything that up to DEPTH operations make of a path."""
    seen, edge = {path}, {path}
    for _ in range(DEPTH):
        edge = {made for known in edge for operation in OPERATIONS for made in [operation(known)]} - seen
        seen |= edge
    return seen


def random_path(dice):
    path = "/orders/allowed"
    for _ in range(dice.randint(1, 6)):
        path += dice.choice(JOINS) + dice.choice(PIECES)
    return path


def test_the_search_itself_finds_what_is_known_to_be_bad():
    for bad in ("/allowed/../forbidden", "/allowed/%2e%2e/forbidden", "/allowed/..;/forbidden", "/allowed\\..\\forbidden", "/allowed/%252e%252e/forbidden",
                "/allowed/%ef%bc%8e%ef%bc%8e/forbidden", "/allowed/..%2fforbidden"):
        assert any(p.startswith("/forbidden") for p in reachable(bad)), bad


def test_no_forwarded_path_can_be_turned_into_a_forbidden_one(site):
    seed = os.environ.get("POSTERN_SEED", "2026")
    dice, passed = random.Random(seed), set()
    site.service.clear()
    tried = sorted({random_path(dice) for _ in range(8000)})
    wire = site.gate.wire()
    for path in tried:
        answer = wire.send(request("GET", path, token=site.token)).answer()
        assert answer.status in (200, 400, 403), (path, answer.status)
        if answer.status == 200:
            passed.add(path)
        if answer.value("connection") == "close":
            wire.close()
            wire = site.gate.wire()
    wire.close()
    targets = {r.target for r in site.service.requests}
    assert len(targets) > 30, f"only {len(targets)} of {len(tried)} paths passed: the search is not looking at much"
    for target in targets:
        assert target.startswith("/allowed"), target
        wrong = [p for p in reachable(target) if not p.lower().startswith("/allowed")]
        assert not wrong, f"seed {seed}: {target!r} can be read as {wrong[0]!r}"

"""What caches between a caller and the gateway are told: whom an answer is for, over both versions of HTTP."""

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.versions import Http1, Http2

VARIES_BY = {"authorization", "postern-capability", "origin"}

# What a service says, and what its caller reads where only the caller may keep the answer.
SAID = {
    "nothing": ([], "private"),
    "an age": ([("Cache-Control", "max-age=60")], "private, max-age=60"),
    "for all": ([("Cache-Control", "public, max-age=60, s-maxage=600")], "private, max-age=60"),
    "in two fields": ([("cache-control", "public"), ("CACHE-CONTROL", "max-age=5, immutable")], "private, max-age=5, immutable"),
    "of some fields": ([("Cache-Control", 'private="x-a, max-age=9", max-age=5')], "private, max-age=5"),
    "to nobody": ([("Cache-Control", "no-store")], "private, no-store"),
    "to CDNs": (
        [("Surrogate-Control", "max-age=9"), ("CDN-Cache-Control", "max-age=9"), ("Cloudflare-CDN-Cache-Control", "public"), ("X-Accel-Expires", "9")],
        "private",
    ),
}
TO_CDNS = {"surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control", "x-accel-expires"}


@pytest.fixture(scope="module")
def service():
    with Recorder(lambda r: answer(fields=[("Vary", "Accept"), *SAID[r.target[1:].replace("-", " ")][0]])) as service:
        service.default = service.respond
        yield service


@pytest.fixture(scope="module")
def gate(service):
    """`orders` lets who has no token read, `shared` takes the service's word, `shop` names origins."""
    at = {"upstream": service.url}
    gate = Gate({"orders": at, "pass": {**at, "authorization": "pass"}, "shared": {**at, "shared_cache": True}, "shop": at}, start=False)
    anonymous = gate.config.parent / "anonymous.token"
    anonymous.touch(0o600)
    anonymous.write_text(gate.mint("orders", "--allow", "GET"))
    text = gate.config.read_text().replace("[resource.orders]\n", '[resource.orders]\nanonymous = "anonymous.token"\n')
    gate.config.write_text(text + '\n[resource.shop.cors]\norigins = ["https://app.example.com"]\n')
    with gate.start() as gate:
        yield gate


@pytest.fixture(scope="module")
def token(gate):
    return gate.mint("orders", "pass", "shared", "shop")


def read(version, gate, target, token=None, fields=()):
    """Status, the names in `Vary`, `Cache-Control`, and the names of all fields."""
    reply = version(gate, target).answer("GET", token, fields)
    fields = pairs(reply)
    varies = {name.strip().lower() for key, value in fields if key == "vary" for name in value.split(",")}
    return reply.status, varies, [value for key, value in fields if key == "cache-control"], {name for name, _ in fields}


def pairs(reply):
    """The fields of either version's answer."""
    return [(name.lower(), value) for name, value in getattr(reply, "lines", reply.fields)]


def path(said):
    return said.replace(" ", "-")


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("version", [Http1, Http2])
def test_what_a_token_got_is_kept_for_nobody_else(gate, token, version, said):
    carriers = [(token, ()), (None, [("postern-capability", token)])]
    for presented, fields in carriers:
        status, varies, kept, names = read(version, gate, f"/orders/{path(said)}", presented, fields)
        assert (status, varies, kept) == (200, VARIES_BY | {"accept"}, [SAID[said][1]]) and not names & TO_CDNS, names
    status, varies, kept, names = read(version, gate, f"/pass/{path(said)}", None, [("postern-capability", token), ("authorization", "Basic YTpi")])
    assert (status, varies, kept) == (200, VARIES_BY | {"accept"}, [SAID[said][1]]) and not names & TO_CDNS, names


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("version", [Http1, Http2])
def test_what_nobody_showed_a_token_for_is_kept_as_the_service_says_and_varies(gate, version, said):
    fields = SAID[said][0]
    status, varies, kept, names = read(version, gate, f"/orders/{path(said)}")
    assert (status, varies) == (200, VARIES_BY | {"accept"})
    assert kept == [value for name, value in fields if name.lower() == "cache-control"]
    assert names & TO_CDNS == {name.lower() for name, _ in fields} & TO_CDNS


@pytest.mark.parametrize("version", [Http1, Http2])
def test_what_is_for_all_is_shared_where_service_and_resource_say_so(gate, token, version):
    """Either of them alone does not."""
    for said in SAID:
        kept = read(version, gate, f"/shared/{path(said)}", token)[2]
        is_for_all = said in ("for all", "in two fields")
        assert kept == ([v for n, v in SAID[said][0] if n.lower() == "cache-control"] if is_for_all else [SAID[said][1]]), said


@pytest.mark.parametrize("version", [Http1, Http2])
def test_refusals_vary_in_the_same_words_whatever_the_resource(gate, token, version):
    """An origin of its own in `Vary` told which resources have `cors`."""
    narrow = gate.attenuate(token, "--path", "/else")
    for fields in ((), [("origin", "https://evil.example")]):
        for presented, statuses in ((None, {401}), ("nonsense", {401}), (narrow, {403, 404})):
            places = ["/shop/x", "/pass/x", "/nowhere/x"]
            told = [version(gate, place).answer("GET", presented, fields) for place in places]
            assert {reply.status for reply in told} <= statuses
            assert {tuple(v for n, v in pairs(reply) if n == "vary") for reply in told} == {("Authorization, Postern-Capability, Origin",)}
    granted = [read(version, gate, f"/{name}/nothing", token, [("origin", "https://evil.example")]) for name in ("shop", "pass")]
    assert granted[0] == granted[1]

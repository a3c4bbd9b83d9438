"""A service that authenticates connections (NTLM, Negotiate): nobody rides a connection that another caller authenticated."""

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate
from harness.versions import Http1, Http2

VERSIONS = pytest.mark.parametrize("version", [Http1, Http2])
SCHEMES = ["NTLM TlRMTVNTUAAB", "Negotiate YIIB", "negotiate YIIB"]


@pytest.fixture
def site():
    """Behind it a connection is Alice's from the first message with her credentials on."""
    alices = set()

    def respond(request):
        if request.value("authorization"):
            alices.add(request.connection)
        return answer(body=b"alice" if request.connection in alices else b"nobody")

    with Recorder(respond) as service, Gate({"intra": {"upstream": service, "authorization": "pass"}}, top={"workers": 1}) as gate:
        gate.service, gate.respond = service, respond
        gate.alice, gate.bob = gate.mint("intra"), gate.mint("intra", "--expires", "1h")
        yield gate


def ask(gate, version, token, *fields, method="GET"):
    return version(gate, "/intra/a").answer(method, None, [("postern-capability", token), *fields])


@VERSIONS
@pytest.mark.parametrize("credentials", SCHEMES)
def test_a_capability_without_credentials_rides_no_authenticated_connection(site, version, credentials):
    for _ in range(3):
        assert ask(site, version, site.alice, ("authorization", credentials)).body == b"alice"
        assert ask(site, version, site.bob).body == b"nobody"


@VERSIONS
def test_credentials_of_messages_share_connections(site, version):
    for _ in range(3):
        assert ask(site, version, site.alice, ("authorization", "Basic YTpi")).status == 200
    assert len({request.connection for request in site.service.requests}) == 1


@VERSIONS
@pytest.mark.parametrize("name", ["WWW-Authenticate", "Authentication-Info", "Proxy-Authenticate"])
def test_an_answer_that_goes_on_with_a_handshake_is_its_connections_last(site, version, name):
    site.service.respond = lambda _: answer(fields=[(name, "Negotiate oRQw")])
    for _ in range(2):
        reply = ask(site, version, site.alice)
        fields = dict(reply.fields)
        assert reply.status == 200 and not any("negotiate" in value.lower() for value in fields.values())
    assert len({request.connection for request in site.service.requests}) == 2


@VERSIONS
def test_challenges_of_connections_are_taken_out_of_a_401(site, version):
    challenges = [("WWW-Authenticate", "Negotiate, NTLM, Basic realm=\"a\""), ("WWW-Authenticate", "NTLM")]
    site.service.respond = lambda _: answer(401, fields=challenges)
    reply = ask(site, version, site.alice)
    assert reply.status == 401
    assert [value for name, value in dict(reply.fields).items() if name.lower() == "www-authenticate"] == ['Basic realm="a"']


@VERSIONS
def test_a_401_that_asks_for_nothing_else_is_a_502_in_words(site, version):
    site.service.respond = lambda _: answer(401, fields=[("WWW-Authenticate", "Negotiate"), ("WWW-Authenticate", "NTLM")])
    reply = ask(site, version, site.alice)
    assert reply.status == 502 and b"upstream-authenticates-connections" in reply.body and b"NTLM" in reply.body

"""What an earlier hop says about the client is believed from the addresses that the configuration names, and from nobody
else (T7)."""

import pytest

from harness.backend import Recorder
from harness.gate import Gate

SAID = [("X-Forwarded-For", "9.9.9.9, 203.0.113.7"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=203.0.113.7;proto=https")]


@pytest.fixture(scope="module", params=["trusted", "not trusted"])
def hop(request):
    proxies = ["127.0.0.1/32"] if request.param == "trusted" else ["192.0.2.0/24"]
    with Recorder() as service, Gate({"orders": service}, top={"trusted_proxies": proxies}) as gate:
        yield request.param == "trusted", service, gate


def test_the_client_is_who_a_trusted_proxy_says(hop):
    trusted, service, gate = hop
    token = gate.mint("orders")
    there, here = gate.attenuate(token, "--client", "203.0.113.0/24"), gate.attenuate(token, "--client", "127.0.0.0/8")
    assert gate.get("/orders/x", there, fields=SAID).status == (200 if trusted else 403)
    assert gate.get("/orders/x", here, fields=SAID).status == (403 if trusted else 200)
    assert gate.get("/orders/x", here).status == 200, "a proxy that says nothing is the client itself"


def test_what_the_service_hears_is_what_was_decided_on(hop):
    trusted, service, gate = hop
    service.clear()
    gate.get("/orders/x", gate.mint("orders"), fields=SAID)
    (request,) = service.requests
    heard = request.value("x-forwarded-for")
    assert ("203.0.113.7" in heard) == trusted
    assert trusted or heard == "127.0.0.1"
    assert request.value("x-forwarded-proto") == ("https" if trusted else "http")


def test_nonsense_from_a_trusted_proxy_widens_nothing(hop):
    _, _, gate = hop
    there = gate.attenuate(gate.mint("orders"), "--client", "203.0.113.0/24")
    for value in ("", "unknown", "203.0.113.7 x", "203.0.113.7:x", "999.1.1.1", "[::1", "203.0.113.7, nonsense", "_hidden"):
        assert gate.get("/orders/x", there, fields=[("X-Forwarded-For", value)]).status in (400, 403), value


@pytest.mark.parametrize("said", ["1.2.3.4, unknown, 127.0.0.1", "1.2.3.4, unknown", "127.0.0.1, _hidden, 127.0.0.1", "1.2.3.4,, 127.0.0.1"])
def test_a_client_whom_a_trusted_proxy_does_not_name_is_nobody(said):
    """It is not the proxy: a token for the proxies' own network does not work for whoever hides behind one of them."""
    with Recorder() as service, Gate({"orders": service}, top={"trusted_proxies": ["127.0.0.0/8"]}) as gate:
        token = gate.mint("orders")
        for network in ("127.0.0.0/8", "1.2.3.4/32", "0.0.0.0/0"):
            narrow = gate.attenuate(token, "--client", network)
            assert gate.get("/orders/x", narrow, fields=[("X-Forwarded-For", said)]).status == 403, network
        assert gate.get("/orders/x", token, fields=[("X-Forwarded-For", said)]).status == 200
        (request,) = service.requests
        assert request.value("x-forwarded-for") == "unknown"
        assert request.value("forwarded").startswith("for=unknown;")

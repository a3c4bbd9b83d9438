"""The three example services behind one gateway, started by their one command: through the gateway, and past it."""

import httpx
import pytest

from harness.backend import Recorder
from harness.example import Examples

ITEM = {"orders": "/v1/42", "stock": "/items/pear", "shop": "/items/pear"}
SERVICES = list(ITEM)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The examples, and a fourth resource that lets the tests see what a backend is given."""
    with Recorder() as seen:
        more = f'\n[resource.seen]\nupstream = ["{seen.url}"]\nforward_token = "narrowed"\n'
        with Examples(tmp_path_factory.mktemp("examples"), more) as examples:
            examples.seen = seen
            yield examples


def ask(url, token=None, method="GET", **more):
    return httpx.request(method, url, headers={"authorization": f"Bearer {token}"} if token else {}, timeout=20, **more)


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_authorised_passes_and_the_rest_is_refused_by_gateway_and_service(examples, name):
    path, token = ITEM[name], examples.mint("orders", "stock", "shop", "--path", ITEM[name])
    through, past = f"{examples.url}/{name}", examples.services[name]
    assert ask(through + path, token).status_code == 200, ask(through + path, token).text
    elsewhere = examples.mint("elsewhere")
    for base in (through, past):
        assert refusal(ask(base + path)) == (401, "missing-capability")
        assert refusal(ask(base + path, elsewhere)) == (404, "not-found")
        assert refusal(ask(base + "/items/quince", token)) == (403, "not-permitted")
        assert refusal(ask(base + path, token[:60])) == (401, "truncated-token")
        assert refusal(ask(base + "/a//b", token)) == (400, "bad-path")


@pytest.mark.parametrize("name", SERVICES)
def test_a_token_that_another_service_was_given_is_worth_nothing(examples, name):
    """It holds a right to all of them; the gateway narrowed it to the other service."""
    examples.seen.clear()
    path = ITEM[name]
    assert ask(f"{examples.url}/seen{path}", examples.mint("seen", *SERVICES)).status_code == 200
    given = examples.seen.requests[0].value("authorization").removeprefix("Bearer ")
    assert refusal(ask(examples.services[name] + path, given)) == (403, "not-permitted")
    assert refusal(ask(f"{examples.url}/{name}{path}", given)) == (403, "not-permitted")


def test_the_stock_is_counted_by_whoever_may(examples):
    stock, reading = f"{examples.url}/stock/items/quince", examples.mint("stock", "--allow", "GET")
    assert ask(stock, reading).json() == {"left": 0}
    assert refusal(ask(stock, reading, "PUT", json={"left": 9})) == (403, "not-permitted"), "no right to PUT"
    assert ask(stock, examples.mint("stock"), "PUT", json={"left": 7}).status_code == 200
    assert ask(stock, reading).json() == {"left": 7}


def test_the_shop_asks_the_stock_by_no_more_than_its_callers_capability(examples):
    shop = f"{examples.url}/shop/items/pear"
    assert ask(shop, examples.mint("shop", "stock")).json() == {"item": "pear", "price": 2, "left": 3}
    # No right to the stock, a caveat against it, and one of which no less can be handed on: the shop is no deputy to confuse.
    assert ask(shop, examples.mint("shop")).json() == {"item": "pear", "price": 2, "why": "not-found"}
    elsewhere = examples.mint("shop", "stock", "--check", 'check if resource("shop")')
    assert ask(shop, elsewhere).json()["why"] == "not-permitted"
    assert refusal(ask(shop, examples.mint("stock"))) == (404, "not-found")


def test_nothing_of_a_token_is_written_down(examples):
    token = examples.mint("shop", "stock")
    assert ask(f"{examples.url}/shop/items/pear", token).status_code == 200
    for name in ("gateway", *SERVICES):
        assert token[40:80] not in examples.log(name)
    assert examples.url in examples.said and token not in examples.said

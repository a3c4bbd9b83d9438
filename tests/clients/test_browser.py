"""The page, built with Vite, in a real browser: a token is narrowed there and a service asked with it, across origins."""

import functools
import http.server
import threading

import pytest

from harness.binary import ROOT
from harness.browser import chromium
from harness.gate import Gate
from harness.ports import until

PAGE = ROOT / "clients" / "typescript" / "dist" / "page"


@pytest.fixture(scope="module")
def origin():
    """Where the page is served from: another origin than the gateway's."""
    types = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".wasm": "application/wasm"}
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"extensions_map": types, "log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=PAGE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_page_narrows_a_token_and_asks_with_it(origin, service):
    assert (PAGE / "index.html").exists(), "the page is not built; tests/run builds it"
    with Gate({"orders": service}, tables={"resource.orders.cors": {"origins": [origin], "headers": ["authorization"]}}) as gate:
        with chromium() as browser:
            browser.get(f"{origin}/index.html")
            until(lambda: browser.execute_script("return document.documentElement.dataset.ready") == "yes", "the page is up", 30)
            field = lambda name: browser.find_element("id", name)  # noqa: E731

            def fill(name, text):
                field(name).clear()
                field(name).send_keys(text)

            def press(name):
                browser.execute_script("document.getElementById('said').textContent = ''")
                field(name).click()
                return until(lambda: field("said").text, f"an answer to {name}")

            fill("gateway", gate.url)
            fill("token", gate.mint("orders"))
            fill("path", "/42")
            said = press("narrow")
            assert 'path("/42")' in said and "time" in said, said
            fill("asked", "/42?page=2")
            assert press("ask").startswith("200"), field("said").text
            fill("asked", "/43")
            said = press("ask")
            assert said.startswith("403 not-permitted") and "/42" in said, said
            # What left the page was narrowed to just that request.
            sent = [r.value("authorization") for r in service.requests]
            assert sent == [None], "the token ends at the gateway"
            fill("token", "no token")
            assert "PosternError" in press("narrow")

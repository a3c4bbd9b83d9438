"""The programs on the languages' pages are what is run here, as they stand there: only addresses are changed. Those on the page
for Rust are tests of the documentation (`cargo test --doc -p postern-client`)."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from harness.binary import ROOT
from harness.example import NPM
from harness.verifying import Front, Service

FENCE = re.compile(r"^```([\w,]*)\n(.*?)^```$", re.M | re.S)


def page(name):
    return (ROOT / "clients" / name / "README.md").read_text()


def program(name, having, gateway="http://127.0.0.1:7400", port=3000):
    """The one program on a page that has these words in it."""
    (found,) = [text for language, text in FENCE.findall(page(name)) if language in ("python", "js") and having in text]
    return found.replace("http://127.0.0.1:7400", gateway).replace("3000", str(port))


def written(folder, name, text):
    """The program as a file, where its language finds the packages."""
    if name == "python":
        path = folder / "page.py"
    else:
        path = NPM / "pages" / folder.name / "page.mjs"
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run(folder, name, text, **environment):
    command = [sys.executable if name == "python" else "node", written(folder, name, text)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def tidy():
    yield
    shutil.rmtree(NPM / "pages", ignore_errors=True)


@pytest.mark.parametrize("name", ["python", "typescript", "rust"])
def test_a_page_starts_with_a_program_of_some_ten_lines(name):
    before, language, text = re.match(r"(.*?)^```([\w,]*)\n(.*?)^```$", page(name), re.M | re.S).groups()
    assert "\n## " not in before and len([line for line in text.splitlines() if line.strip()]) <= 14
    assert language == {"python": "python", "typescript": "js", "rust": "rust"}[name], "one that is run, and not only compiled"


@pytest.mark.parametrize("name", ["python", "typescript"])
def test_the_first_program_mints_narrows_and_verifies(name, tmp_path):
    (_, text), *_ = FENCE.findall(page(name))
    allowed, refused = run(tmp_path, name, text).splitlines()
    assert re.fullmatch(r"(<Capability )?[0-9a-f]{8}>?", allowed), allowed
    assert refused.startswith("403 not-permitted ") and "allows only the path /42" in refused, refused


SERVICES = {
    "FastAPI": ("python", "from fastapi import"),
    "Flask": ("python", "from flask import"),
    "Express": ("typescript", 'from "express"'),
    "Fastify": ("typescript", 'from "fastify"'),
}


def serve(framework, folder, port, gateway):
    name, having = SERVICES[framework]
    path = written(folder, name, program(name, having, gateway, port))
    command = {
        "FastAPI": [sys.executable, "-m", "uvicorn", "--app-dir", folder, "page:app", "--port", port],
        "Flask": [sys.executable, "-m", "flask", "--app", path, "run", "--port", port],
    }.get(framework, ["node", path])
    return Service(command, port, folder / "service.log")


@pytest.mark.parametrize("framework", SERVICES)
def test_the_services_verify_for_themselves_and_follow_their_gateway(framework, tmp_path):
    front = Front(lambda folder, port, gateway: serve(framework, folder, port, gateway), tmp_path)
    try:
        token = front.gate.mint("orders", "--path", "/42")
        status, said = front.ask(token)
        assert status == 200 and re.search(r"order 42 for [0-9a-f]{8}", str(said)), said
        assert front.ask(token, "/orders/43")[0] == 403
        assert front.direct(None) == (401, front.direct(None)[1]) and front.direct(None)[1]["type"] == "missing-capability"
        assert front.direct(front.gate.mint("elsewhere"))[0] == 404
    finally:
        front.stop()


@pytest.mark.parametrize("name", ["python", "typescript"])
def test_the_clients_hand_on_less_than_they_have_and_say_why_they_are_refused(name, tmp_path):
    front = Front(lambda folder, port, gateway: serve("FastAPI", folder, port, gateway), tmp_path)
    try:
        text = program(name, "TOKEN", front.gate.url)
        said = run(tmp_path, name, text, TOKEN=front.gate.mint("orders", "--path", "/42"))
        assert re.search(r"order 42 for [0-9a-f]{8}", said) and "not-permitted" in said and "403" in said, said
    finally:
        front.stop()


def test_no_program_on_a_page_is_left_out():
    """Every program is one of those above, but for two for browsers: their page is `page/` (`test_browser.py`)."""
    assert sum(language == "python" for language, _ in FENCE.findall(page("python"))) == 4
    programs = [text for language, text in FENCE.findall(page("typescript")) if language == "js"]
    assert len(programs) == 6 and sum("postern/browser" in text for text in programs) == 1
    (config,) = [text for text in programs if "postern/vite" in text]
    built = (ROOT / "clients" / "typescript" / "page" / "vite.config.js").read_text()
    for part in ('import { postern } from "postern/vite";', "plugins: [postern()]"):
        assert part in config and part in built

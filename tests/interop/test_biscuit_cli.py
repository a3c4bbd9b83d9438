"""biscuit-cli, the reference command line: inspects, attenuates and seals our tokens."""

import subprocess

import pytest

from harness.binary import ROOT

BISCUIT = ROOT / "target/tests/biscuit-cli/bin/biscuit"


def biscuit(*args, stdin=""):
    assert BISCUIT.exists(), "run tests/run setup: biscuit-cli is not installed"
    done = subprocess.run([str(BISCUIT), *args], input=stdin, capture_output=True, text=True, timeout=60)
    return done


@pytest.fixture(scope="module")
def public(gate):
    return (gate.state / "root.pub").read_text().strip()


def test_the_cli_verifies_and_prints_our_token(gate, public, token):
    done = biscuit("inspect", "-", "--public-key", public, stdin=token)
    assert done.returncode == 0, done.stderr
    assert 'right("orders"' in done.stdout


def test_the_gateway_honours_what_the_cli_attenuated(gate, token):
    done = biscuit("attenuate", "-", "--block", 'check if operation("GET"); check if path($p), $p.starts_with("/a/");', stdin=token)
    assert done.returncode == 0, done.stderr
    child = done.stdout.strip()
    assert gate.get("/orders/a/b", child).status == 200
    assert gate.get("/orders/b", child).status == 403
    assert gate.get("/orders/a/b", child, method="POST", body=b"").status == 403


def test_the_gateway_honours_what_the_cli_sealed(gate, token):
    done = biscuit("seal", "-", stdin=token)
    assert done.returncode == 0, done.stderr
    sealed = done.stdout.strip()
    assert gate.get("/orders/a", sealed).status == 200
    assert gate.run("attenuate", "-", "--method", "GET", stdin=sealed).code == 1


def test_the_gateway_honours_what_the_cli_minted_with_our_key(gate):
    done = biscuit("generate", "-", "--private-key-file", str(gate.state / "root.key"), stdin='right("orders", "GET");')
    assert done.returncode == 0, done.stderr
    assert gate.get("/orders/a", done.stdout.strip()).status == 200

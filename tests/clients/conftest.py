"""What the client libraries' tests share: a root key to mint with, and the vectors."""

import json
import shutil

import postern
import pytest

from harness.binary import ROOT
from harness.example import NPM


@pytest.fixture(scope="module")
def key():
    """A root key of the test's own."""
    return postern.SigningKey.generate()


@pytest.fixture(scope="session")
def vectors():
    """Every case of `capabilities/vectors/`, with its file's name."""
    folder = ROOT / "capabilities" / "vectors"
    return [(path.stem, case) for path in sorted(folder.glob("*.json")) for case in json.loads(path.read_text())["cases"]]


@pytest.fixture(scope="session")
def scripts():
    """The tests' scripts for Node beside the installed packages, where it finds them."""
    folder = NPM / "scripts"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "clients" / "node", folder)
    return folder

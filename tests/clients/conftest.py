"""What the client libraries' tests share: a root key to mint with, and the vectors."""

import json

import postern
import pytest

from harness.binary import ROOT


@pytest.fixture(scope="module")
def key():
    """A root key of the test's own."""
    return postern.SigningKey.generate()


@pytest.fixture(scope="session")
def vectors():
    """Every case of `capabilities/vectors/`, with its file's name."""
    folder = ROOT / "capabilities" / "vectors"
    return [(path.stem, case) for path in sorted(folder.glob("*.json")) for case in json.loads(path.read_text())["cases"]]

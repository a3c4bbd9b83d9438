"""Whatever program a test starts stands in `tests/programs.txt`, from which `tests/run` installs: a fresh machine that lacks
one says so at once, and not in the middle of a suite."""

import subprocess

import pytest

from harness.binary import ROOT
from tidy.programs import listed, started, started_by_python


def files_of_tests():
    """What is part of the tests, in whatever language."""
    patterns = ["tests/**/*.py", "tests/*.py", "tests/**/*.mjs", "tests/**/*.rs", "clients/**/tests/**/*.rs", "clients/examples/run",
                "gateway/**/tests.rs", "gateway/**/tests/**/*.rs", "capabilities/tests/**/*.rs"]
    listing = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in (ROOT / line for line in listing.splitlines()) if path.exists()]


@pytest.mark.parametrize("path", files_of_tests(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_program_that_is_started_stands_in_the_table(path):
    missing = sorted(started(path) - set(listed()))
    assert not missing, f"{path} starts {missing}, which tests/programs.txt does not list"


def test_no_program_stands_in_the_table_that_nothing_starts():
    used = {program for path in files_of_tests() for program in started(path)}
    # What every machine must have, and what starts nginx by a path that a function found.
    always = {"python3", "nginx"}
    assert set(listed()) - used - always == set()


def test_the_browser_is_installed_with_its_driver():
    assert listed()["chromium"] == "chromium" and listed()["chromedriver"] == "chromium-driver"


def test_tests_run_installs_from_the_table_and_has_no_list_of_its_own():
    script = (ROOT / "tests" / "run").read_text()
    assert "tests/programs.txt" in script
    packages = {package for package in listed().values() if package not in ("-", "curl", "mount")}
    named = [package for package in packages if package in script]
    assert not named, f"tests/run names packages itself: {named}"


@pytest.mark.parametrize("source, programs", [
    ('subprocess.run(["openssl", "x"])', {"openssl"}),
    ('shutil.which("ab")', {"ab"}),
    ('command = ["siege", url]\nsubprocess.Popen(command)', {"siege"}),
    ('def shell(*command):\n    return subprocess.run(command)\nshell("mkfs.ext4", path)', {"mkfs.ext4"}),
    ('def do(*c):\n    return subprocess.run([str(x) for x in c])\ndo("wrk")', {"wrk"}),
    ('subprocess.run(["bash", "-c", x] if y else ["zsh"])', {"bash", "zsh"}),
    ('NEEDED = ["a1", "a2"]\nmissing = [tool for tool in NEEDED if not shutil.which(tool)]', {"a1", "a2"}),
    ('subprocess.run([sys.executable, "x"])', set()),
    ('def postern(*args):\n    subprocess.run([path(), *args])\npostern("mint")', set()),
])
def test_the_scan_sees(source, programs):
    assert started_by_python(source) == programs

"""What strict readers of types say: nothing of what users write, and something of each mistake."""

import re
import shutil
import subprocess
import sys

from harness.binary import ROOT
from harness.example import NPM

TYPED = ROOT / "tests" / "clients" / "typed"


def mypy(*what):
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", *what]
    done = subprocess.run(command, cwd=TYPED, capture_output=True, text=True, timeout=80)
    return done.returncode, done.stdout + done.stderr


def test_a_program_in_python_and_the_package_itself_are_typed():
    for what in (("program.py",), ("-p", "postern")):
        code, said = mypy(*what)
        assert code == 0, said


def test_mistakes_in_python_are_found_before_it_runs():
    _, said = mypy("mistakes.py")
    lines = (TYPED / "mistakes.py").read_text().splitlines()
    wanted = {(n, word[1]) for n, line in enumerate(lines, 1) if (word := re.search(r"# expect: ([\w-]+)$", line))}
    found = {(int(n), word) for n, word in re.findall(r"^mistakes\.py:(\d+): error: .*\[([\w-]+)\]$", said, re.M)}
    assert len(wanted) > 5 and wanted == found, said


def test_a_program_in_typescript_is_typed_and_its_mistakes_are_found():
    """Each mistake in it is announced by `@ts-expect-error`, which is itself an error where there is none."""
    folder = NPM / "typed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(TYPED / "program.ts", folder)
    (folder / "package.json").write_text('{ "type": "module" }')
    options = ["--strict", "--noUncheckedIndexedAccess", "--noEmit", "--module", "nodenext",
               "--target", "es2023", "--lib", "es2023,dom,dom.iterable", "--types", "node"]
    command = [NPM / "node_modules" / ".bin" / "tsc", *options, "program.ts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, done.stdout + done.stderr

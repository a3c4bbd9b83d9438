"""What compilers cannot keep: directions of dependence, modules that say what they are for, words and calls that the
project does not use, files and functions that fit on a desk, and claims that name tests which exist."""

import re
import subprocess
import tomllib

import pytest

from harness.binary import ROOT

# A file may be longer for a reason; the reason stands here, beside the bound it is allowed.
LONGER = {}
LINES_MAX = 600
TOKEN = re.compile(r'//.*|"(?:[^"\\]|\\.)*"', re.S)


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [p for p in (ROOT / line for line in listed.stdout.splitlines()) if p.exists()]


RUST = [p for p in tracked("*.rs") if "fuzz" not in p.parts]


def name(path):
    return str(path.relative_to(ROOT))


def without_tests(text):
    """The part of a file that ships: tests stand last."""
    return text.split("#[cfg(test)]")[0]


def code(text):
    """A file's code without comments, line by line."""
    return "\n".join(re.sub(r"//.*", "", line) for line in text.splitlines())


@pytest.mark.parametrize("path", RUST, ids=name)
def test_a_module_opens_with_what_it_is_for(path):
    first = path.read_text().lstrip().splitlines()[0]
    assert first.startswith("//! ") and len(first) > 12, f"{name(path)} opens with {first!r}"


@pytest.mark.parametrize("path", RUST + tracked("tests/*.py", "tests/**/*.py"), ids=name)
def test_a_file_is_read_in_one_sitting(path):
    lines = len(path.read_text().splitlines())
    assert lines <= LONGER.get(name(path), LINES_MAX), f"{name(path)} has {lines} lines: split it by step or by idea"


# What each crate may not lean on: capabilities has no I/O, no async and no clock; arrows never point back.
FORBIDDEN = {
    "capabilities": ["tokio", "hyper", "http", "rustls", "rusqlite", "postern_gateway", "postern_client", "std::net::Tcp", "std::fs",
                     "std::process", "std::thread", "SystemTime::now", "Instant::now", "std::env"],
    "gateway": ["postern_client", "clap"],
    "clients": ["rusqlite"],
    "clients/rust": ["postern_gateway", "clap"],
}


@pytest.mark.parametrize("path", [p for p in RUST if p.relative_to(ROOT).parts[1:2] == ("src",) or p.relative_to(ROOT).parts[0] == "clients"], ids=name)
def test_imports_point_one_way(path):
    shipped = code(without_tests(path.read_text()))
    folders = [folder for folder in FORBIDDEN if name(path).startswith(f"{folder}/")]
    for word in [word for folder in folders for word in FORBIDDEN[folder]]:
        pattern = rf"\b{re.escape(word)}\b" if "::" in word else rf"\b(use\s+{word}\b|{word}::)"
        assert not re.search(pattern, shipped), f"{name(path)} uses {word}"


def test_dependencies_point_one_way():
    for crate, never in {"capabilities": ["tokio", "hyper", "rustls", "rusqlite", "postern-gateway"], "gateway": ["clap", "postern", "postern-client"], "clients/rust": ["postern-gateway", "clap"]}.items():
        manifest = tomllib.loads((ROOT / crate / "Cargo.toml").read_text())
        found = [d for d in never if d in manifest.get("dependencies", {})]
        assert not found, f"{crate} depends on {found}"


CALLS = {
    r"\bunsafe\b": "no raw memory",
    r"\.unwrap\(\)": "say the invariant with expect, or handle it",
    r"\bpanic!\(": "input must not stop the process",
    r"\bunreachable!\(": "input must not stop the process",
    r"\btodo!\(": "not finished",
    r"\bunimplemented!\(": "not finished",
    r"\bdbg!\(": "left over",
    r"\bprintln!\(": "results go through the command line's own output",
    r"\beprintln!\(": "messages go through the command line's own output",
    r"\bprint!\(": "results go through the command line's own output",
    r"print_block_source\(": "printed source reads differently from the token: print from the plan",
    r"\bstatic mut\b": "no globals",
    r"\blazy_static!|\bstatic\s+\w+\s*:\s*(OnceLock|LazyLock|Mutex|RwLock|OnceCell)\b": "no globals; what is needed is handed in",
    r"thread::sleep\(": "wait on conditions",
}


@pytest.mark.parametrize("path", [p for p in RUST if "src" in p.parts and "tests" not in p.relative_to(ROOT).parts[:1]], ids=name)
def test_banned_calls(path):
    # `testing.rs` is what the tests of a module share; it is compiled for tests alone.
    if path.name in ("tests.rs", "testing.rs") or "tests" in path.parts[len(ROOT.parts) + 1 :]:
        return
    shipped = re.sub(r'"(?:[^"\\]|\\.)*"', '""', code(without_tests(path.read_text())))
    for pattern, why in CALLS.items():
        found = re.search(pattern, shipped)
        assert not found, f"{name(path)}: {found.group(0)} ({why})"


# Marks of unfinished work, and other gates' words for what we do not have. Assembled, so that this file does not hold them.
MARKS = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]
TEXT = [p for p in tracked("*.rs", "*.toml", "*.py", "*.md", "tests/run", ".ci/run") if p.name not in ("Cargo.lock",)]


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_no_marks_of_unfinished_work(path):
    text = path.read_text()
    for mark in MARKS:
        assert not re.search(rf"\b{mark}\b", text), f"{name(path)} holds a {mark}"


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_no_machine_is_named(path):
    text = path.read_text()
    for pattern in (r"/work/", r"/tmp/wt", r"/root/\.", "/home/" + r"\w+/"):
        assert not re.search(pattern, text) or path.name == "test_tidy.py", f"{name(path)} names a path of one machine: {pattern}"


@pytest.mark.parametrize("path", RUST, ids=name)
def test_names_are_capability_words(path):
    """We have no users, roles or sessions, so nothing is named for them."""
    found = re.findall(r"\b(?:struct|enum|trait|fn|mod|type|const|static|let)\s+(?:mut\s+)?(\w*(?:user|role|session|acl)\w*)\b", code(path.read_text()), re.I)
    # Words of protocols that are not ours: SQLite's user_version, HTTP's User-Agent, the session that MCP begins with.
    theirs = r"user_version|user_agent|oracle|user_?info|the_session_start"
    assert not [f for f in found if not re.search(theirs, f, re.I)], found


def test_security_claims_name_tests_that_exist():
    document = (ROOT / "SECURITY.md").read_text()
    claimed = set(re.findall(r"`(?:[\w/.]+::)*((?:test_)?law_\d\w*|test_\w+)`", document))
    everything = "\n".join(p.read_text() for p in tracked("*.rs", "tests/*.py", "tests/**/*.py"))
    defined = set(re.findall(r"\b(?:fn|def)\s+(\w+)", everything))
    missing = sorted(c for c in claimed if c not in defined and f"test_{c}" not in defined)
    assert claimed, "SECURITY.md names no test"
    assert not missing, f"SECURITY.md names tests that do not exist: {missing}"


def test_every_law_has_a_test_named_after_it():
    everything = "\n".join(p.read_text() for p in tracked("tests/security/*.py"))
    for law in range(1, 9):
        assert re.search(rf"def test_law_{law}_\w+", everything), f"law {law} has no test named after it"


def test_every_test_file_says_what_it_is_for():
    for path in tracked("tests/*.py", "tests/**/*.py"):
        head = path.read_text().lstrip().removeprefix("#!/usr/bin/env python3\n")
        assert head.startswith('"""'), f"{name(path)} does not say what it is for"


def test_the_lock_file_is_committed():
    assert (ROOT / "Cargo.lock") in tracked("Cargo.lock")

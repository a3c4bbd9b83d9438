"""What people paste into a shell is commands and nothing else. zsh on macOS does not read `#` as a comment there: what stands
behind it becomes arguments, and `curl … # 403, in words` sends the bearer token to hosts called `in` and `words`."""

import re
import subprocess

import pytest

from harness.binary import ROOT

FENCE = re.compile(r"^[ \t]*```(\w*)[^\n]*\n(.*?)^[ \t]*```", re.M | re.S)
SHELLS = ("", "sh", "bash", "zsh", "shell", "console")
# What begins a line to paste, in help texts and in what programs print.
COMMAND = re.compile(r"^\s*(?:\$ )?(?:postern|curl|cargo|npx|npm|kill|clients/examples/run)\b")


def tracked(*patterns):
    listed = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for path in (ROOT / line for line in listed.stdout.splitlines()) if path.exists()]


def comments(text):
    """The lines in which a `#` begins a word outside of quotes: comments for some shells, arguments for others."""
    found = []
    for line in text.splitlines():
        quote, before = None, " "
        for byte in line:
            if quote:
                quote = None if byte == quote else quote
            elif byte in "'\"":
                quote = byte
            elif byte == "#" and before.isspace():
                found.append(line)
                break
            before = byte
    return found


def trailing(text):
    """Lines of a help text that begin with a command and go on with words for people, beside it or indented below it."""
    found, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if not COMMAND.match(line):
            continue
        after = lines[number + 1] if number + 1 < len(lines) else ""
        depth = len(line) - len(line.lstrip())
        continued = after.strip() and len(after) - len(after.lstrip()) > depth and not COMMAND.match(after)
        if re.search(r"\S {2,}\S", line.strip()) or continued or comments(line):
            found.append(line)
    return found


@pytest.mark.parametrize("path", tracked("*.md", "**/*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_to_paste_hold_no_comments(path):
    blocks = [text for language, text in FENCE.findall(path.read_text()) if language in SHELLS]
    assert [line for block in blocks for line in comments(block)] == []


def help_texts(path):
    return re.findall(r'(?:after_help = |EXAMPLES: &str = )"((?:[^"\\]|\\.)*)"', path.read_text(), re.S)


@pytest.mark.parametrize("path", tracked("clients/cli/src/*.rs", "clients/cli/src/**/*.rs"), ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_of_help_are_commands_alone(path):
    assert [line for text in help_texts(path) for line in trailing(text)] == []


def test_help_has_examples_to_look_at():
    assert sum(len(help_texts(path)) for path in tracked("clients/cli/src/**/*.rs", "clients/cli/src/*.rs")) > 10


@pytest.mark.parametrize("path", tracked("clients/examples/run", "clients/cli/src/**/*.rs", "*.toml", "**/*.toml"),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_printed_to_paste_holds_no_comments(path):
    lines = [re.sub(r"^\s*(//[/!]?|#)\s?", "", line) for line in path.read_text().splitlines()]
    assert [line for line in lines if COMMAND.match(line) and re.search(r"\s# ", line)] == []


@pytest.mark.parametrize("line, is_comment", [
    ("curl http://x/y    # 403, the caveat in words", True),
    ("# first this", True),
    ("curl 'http://x/#y' \"a # b\"", False),
    ("curl http://x/#y", False),
])
def test_a_comment_is_seen(line, is_comment):
    assert bool(comments(line)) is is_comment

"""The `postern` command line, run for real."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def postern_path():
    """The binary under test: POSTERN_BIN, else the release build."""
    path = Path(os.environ.get("POSTERN_BIN") or ROOT / "target" / "release" / "postern")
    if not path.exists():
        raise RuntimeError(f"{path} does not exist; build it with `cargo build --release`, or set POSTERN_BIN.")
    return str(path)


@dataclass
class Outcome:
    """What one run of the command line gave back."""

    args: list
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def ok(self):
        """This outcome, where the command did what it was asked; fails the test otherwise."""
        assert self.code == 0, f"postern {' '.join(self.args)}: exit {self.code}\n{self.out}{self.err}"
        return self


def clean_environment(**extra):
    """The environment without anything that could leak into a run from outside."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("POSTERN_") and k not in ("RUST_LOG",)}
    kept.update({k: v for k, v in extra.items() if v is not None})
    return kept


def postern(*args, state=None, stdin=None, env=None, cwd=None, timeout=30):
    """Runs one command to its end. `stdin` is text; nothing is inherited from the test's own stdin."""
    args = [str(a) for a in args]
    environment = clean_environment(POSTERN_STATE=str(state) if state else None, **(env or {}))
    done = subprocess.run(
        [postern_path(), *args],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=timeout,
    )
    return Outcome(args, done.returncode, done.stdout, done.stderr)

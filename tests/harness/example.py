"""The example services, run for real: all of them by their one command, or the one in Rust alone."""

import os
import random
import socket
import subprocess
import sys
from contextlib import ExitStack

from .binary import ROOT, clean_environment, postern, postern_path
from .ports import free_port

NPM = ROOT / "target" / "tests" / "npm"


def axum_path():
    """The built service: POSTERN_EXAMPLE_AXUM, or what cargo builds (nothing, if it is built)."""
    named = os.environ.get("POSTERN_EXAMPLE_AXUM")
    if named:
        return named
    command = ["cargo", "build", "-p", "postern-client", "--example", "axum", "--features", "axum,http-client"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1500)
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return os.path.join(target, "debug", "examples", "axum")


class Axum:
    """The service for one resource; it fetches its keys from the gateway, so that one has to run already."""

    def __init__(self, resource, gateway_url, port=None):
        self.port = port or free_port()
        command = [axum_path(), resource, gateway_url, f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment()
        )
        line = self.process.stdout.readline()
        assert line.startswith(b"listening"), line + self.process.stdout.read()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


class Examples:
    """`clients/examples/run` with what the tests have built and installed. `more` is appended to its configuration."""

    def __init__(self, folder, more=""):
        base = free_range(10)
        config = ROOT / "clients" / "examples" / "postern.toml"
        (folder / "config.toml").write_text(config.read_text() + more)
        self.folder, self.state = folder, folder / "state"
        self.url = f"http://127.0.0.1:{base}"
        self.services = {name: f"http://127.0.0.1:{base + 2 + n}" for n, name in enumerate(("orders", "stock", "shop"))}
        environment = clean_environment(
            POSTERN_BIN=os.path.abspath(postern_path()),
            POSTERN_EXAMPLE_AXUM=os.path.abspath(axum_path()),
            POSTERN_EXAMPLES_PYTHON=sys.executable,
            POSTERN_EXAMPLES_NPM=str(NPM),
            POSTERN_EXAMPLES_PORT=str(base),
            POSTERN_EXAMPLES_STATE=str(folder),
            POSTERN_EXAMPLES_CONFIG=str(folder / "config.toml"),
        )
        command = [sys.executable, ROOT / "clients" / "examples" / "run"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if line.startswith("Ctrl-C"):
                return
        raise AssertionError(f"the examples did not start:\n{self.said}")

    def mint(self, *arguments):
        return postern("mint", *arguments, state=self.state).ok().out.strip()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


def free_range(count):
    """The first of so many ports in a row that nobody listens on, below those that the system gives out."""
    for base in random.sample(range(20_000, 30_000, count), 200):
        with ExitStack() as sockets:
            try:
                for port in range(base, base + count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return base
    raise AssertionError("no ports are free")

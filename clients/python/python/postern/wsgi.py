"""WSGI middleware: Flask, Django, Bottle, Pyramid.

::

    app.wsgi_app = CapabilityMiddleware(app.wsgi_app, verifier)

The verified capability is in ``environ["postern.capability"]``.
"""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import Any, Callable, Container, Dict, Iterable, List, Tuple
from urllib.parse import quote

from ._postern import PosternError, body_broken, body_too_large
from ._problem import Problem
from ._verifier import Message, Verifier

Environ = Dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class CapabilityMiddleware:
    """Lets a message through only with a capability that allows this very message. Parameters as in `postern.asgi`."""

    def __init__(self, app: App, verifier: Verifier, *, exempt: Container[str] = (), body_bytes_max: int = 1 << 20) -> None:
        self._app, self._verifier = app, verifier
        self._exempt, self._body_bytes_max = exempt, body_bytes_max

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "") in self._exempt:
            return self._app(environ, start_response)
        try:
            message: Message = {
                "method": environ["REQUEST_METHOD"],
                "target": _target(environ),
                "headers": _headers(environ),
                "peer": environ.get("REMOTE_ADDR"),
                "scheme": environ.get("wsgi.url_scheme", "http"),
            }
            if self._verifier.needs_body(**message):
                message["body"] = self._body(environ)
            environ["postern.capability"] = self._verifier.verify(**message)
        except PosternError as error:
            status, fields, answer = Problem.logged(error).answer()
            start_response(f"{status} {HTTPStatus(status).phrase}", fields)
            return [answer]
        return self._app(environ, start_response)

    def _body(self, environ: Environ) -> bytes:
        declared = environ.get("CONTENT_LENGTH")
        length = int(declared) if declared and declared.isdigit() else 0
        if length > self._body_bytes_max:
            raise body_too_large(self._body_bytes_max)
        # WSGI promises bytes up to the declared length; a server that undoes chunking says so by `wsgi.input_terminated`.
        stream = environ["wsgi.input"]
        terminated = environ.get("wsgi.input_terminated", False)
        body: bytes = stream.read(self._body_bytes_max + 1 if terminated and not length else length)
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


def _target(environ: Environ) -> str:
    # The target as it came, where the server keeps it; a decoded path cannot be told from another that decodes to it.
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if isinstance(raw, str) and raw:
        return raw
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/!$&'()*+,;=:@-._~")
    query = environ.get("QUERY_STRING", "")
    return f"{path or '/'}?{query}" if query else (path or "/")

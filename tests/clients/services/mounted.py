"""Applications that say what path they were given to act upon, for servers that import them: the key and the mount come by the
environment. `wsgi` is bare, `asgi` is Starlette, whose router decides what is below the mount."""

import os

import postern
from postern.asgi import CapabilityMiddleware as Asgi
from postern.wsgi import CapabilityMiddleware as Wsgi
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

mount = os.environ.get("MOUNT", "")
verifier = postern.Verifier.of_keys(os.environ["KEY"], resource="orders")


def said(environ, start_response):
    start_response("200 OK", [("content-type", "text/plain")])
    return [environ["PATH_INFO"].encode("latin-1")]


async def path(request):
    return PlainTextResponse("/" + request.path_params["rest"])


async def chat(websocket):
    await websocket.accept()
    await websocket.close()


wsgi = Wsgi(said, verifier, script_name=mount)
asgi = Asgi(Starlette(routes=[WebSocketRoute("/chat", chat), Route("/{rest:path}", path)]), verifier, root_path=mount)

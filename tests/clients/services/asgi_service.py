"""A FastAPI service that verifies for itself: `python asgi_service.py PORT KEYS [NAME]`, where KEYS is a gateway's URL or a key."""

import sys

import postern
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from postern.asgi import CapabilityMiddleware

port, keys, name = int(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["orders"])[0]
fresh = {"max_age_seconds": 0.2, "min_interval_seconds": 0}
verifier = (
    postern.Verifier.of_gateway(keys, resource=name, fetching=fresh)
    if keys.startswith("http")
    else postern.Verifier.of_keys(keys, resource=name)
)
app = FastAPI()
app.add_middleware(CapabilityMiddleware, verifier=verifier, exempt={"/health"})


@app.get("/health")
def health():
    return "well"


@app.websocket("/chat")
async def chat(websocket: WebSocket):
    await websocket.accept()
    await websocket.send_text(websocket.scope["state"]["capability"].short_id)
    await websocket.close()


@app.api_route("/{rest:path}", methods=["GET", "POST", "PUT"])
async def everything(rest: str, request: Request):
    capability = request.state.capability
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    return {
        "path": rest,
        "body": (await request.body()).decode(),
        "short_id": capability.short_id,
        "is_sealed": capability.is_sealed,
        "token": token,
    }


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")

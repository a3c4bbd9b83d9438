"""What users write, for a strict reader of types: `mypy --strict program.py`. It is read and not run."""

from datetime import timedelta

import httpx
import postern
import postern.httpx
import postern.requests
import requests
from fastapi import FastAPI, Request
from flask import Flask
from postern.asgi import CapabilityMiddleware
from postern.fastapi import Presented
from postern.wsgi import CapabilityMiddleware as Wsgi

key = postern.SigningKey.generate()
token: str = postern.mint(key, ["orders", "stock"], allow="GET", expires=timedelta(hours=1), no_upgrade=True)
less: str = postern.attenuate(token, path=["/42", "/43/**"], max_body=4096)
once: str = postern.narrow(less, method="GET", path="/42")
verifier = postern.Verifier.of_gateway(
    "http://gateway:7400", resource="orders", leeway_seconds=5, fetching={"max_age_seconds": 5}
)
fixed = postern.Verifier({1: key.public_key}, resource="orders", believed=["10.0.0.0/8"], authorization="pass")

app = FastAPI()
app.add_middleware(CapabilityMiddleware, verifier=verifier, exempt={"/health"})


@app.get("/orders/{number}")
def order(number: int, capability: Presented) -> str:
    return f"{number}: {capability.short_id}, {[operation for _, operation in capability.rights]}"


async def by_hand(request: Request) -> postern.Capability:
    message: postern.Message = {"method": request.method, "target": request.url.path, "headers": request.headers}
    if await verifier.needs_body_async(**message):
        message["body"] = await request.body()
        return await verifier.verify_async(**message)
    return verifier.verify(method="GET", target="/42", headers=[(b"host", b"a")], scheme="https", now=None)


flask = Flask("orders")
flask.wsgi_app = Wsgi(flask.wsgi_app, fixed)  # type: ignore[method-assign]

client = httpx.Client(auth=postern.httpx.CapabilityAuth(token, resource="http://gateway:7400/orders"))
answer = requests.get("http://gateway:7400/orders/42", auth=postern.requests.CapabilityAuth(token, resource="http://gateway:7400/orders"))
carry = postern.httpx.CapabilityHook(token, resource="http://gateway:7400/orders", field="postern-capability")
following = httpx.Client(event_hooks={"request": [carry]}, follow_redirects=True)
problem = postern.Problem.of_response(answer.headers, answer.content)
kind: str = problem.type if problem else ""
try:
    by_name: postern.Capability = verifier.check(token, resource="orders", operation="GET", path="/", time=0, client="::1")
except postern.VerifyError as error:
    said: "tuple[str, int, str]" = (error.kind, error.status, error.problem)

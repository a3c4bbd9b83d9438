"""How much there is of each item. Whoever may read it holds a capability for GET, whoever may count it one for PUT.

    GATEWAY=http://127.0.0.1:7400 uvicorn stock:app --port 7403
"""

import os

from fastapi import FastAPI, HTTPException
from postern import Verifier
from postern.fastapi import CapabilityMiddleware, Presented
from pydantic import BaseModel

app = FastAPI()
app.add_middleware(CapabilityMiddleware, verifier=Verifier.of_gateway(os.environ["GATEWAY"], resource="stock"))

levels = {"pear": 3, "quince": 0}


class Level(BaseModel):
    left: int


@app.get("/items/{item}")
async def level(item: str) -> Level:
    if item not in levels:
        raise HTTPException(404, "no such item")
    return Level(left=levels[item])


@app.put("/items/{item}")
async def count(item: str, level: Level, capability: Presented) -> Level:
    print(f"{item}: {level.left} left, says {capability.short_id}")
    levels[item] = level.left
    return level

"""Capabilities for Python: verify, mint, attenuate and inspect Postern tokens.

A backend needs a public key and one line::

    verifier = postern.Verifier.of_keys("ed25519/…", resource="orders")
    capability = verifier.verify(method="GET", target="/42", headers=request_headers)

What decides is the same compiled code that the gateway runs. ``postern.asgi`` and ``postern.wsgi`` are middleware around it;
``postern.httpx`` and ``postern.requests`` let a client carry a capability and narrow it to each request.
"""

from ._keys import KeyDocument, KeySource
from ._postern import (
    Capability,
    PosternError,
    PublicKey,
    SigningKey,
    VerifyError,
    attenuate,
    inspect,
    lint,
    mint,
    narrow,
    seal,
)
from ._problem import FailedCaveat, Problem
from ._verifier import Message, Verifier

__all__ = [
    "Capability",
    "FailedCaveat",
    "KeyDocument",
    "KeySource",
    "Message",
    "PosternError",
    "Problem",
    "PublicKey",
    "SigningKey",
    "Verifier",
    "VerifyError",
    "attenuate",
    "inspect",
    "lint",
    "mint",
    "narrow",
    "seal",
]

"""The backend's side of a narrowed token, with none of the code under test: biscuit-python's authorizer and the facts that a
backend has."""

import datetime
import time

import biscuit_auth

ALLOW = 'allow if resource($r), operation($o), right($r, $o); allow if resource($r), right($r, "*");'


def authorized(token, key, resource="orders", backend="orders", method="GET", path="/", query="", now=None, more=""):
    """Whether biscuit's own authorizer lets this message pass. `key` is `ed25519/<hex>`."""
    biscuit = biscuit_auth.Biscuit.from_base64(token + "=" * (-len(token) % 4), biscuit_auth.PublicKey(key))
    builder = biscuit_auth.AuthorizerBuilder(ALLOW + more)
    facts = {"resource": resource, "operation": method, "path": path, "query_string": query}
    if backend is not None:
        facts["backend"] = backend
    for name, value in facts.items():
        builder.add_fact(biscuit_auth.Fact(name + "({value})", {"value": value}))
    moment = datetime.datetime.fromtimestamp(now or int(time.time()), datetime.timezone.utc)
    builder.add_fact(biscuit_auth.Fact("time({value})", {"value": moment}))
    builder.set_limits(limits(builder))
    try:
        builder.build(biscuit).authorize()
    except biscuit_auth.AuthorizationError:
        return False
    return True


def limits(builder):
    """Its default of one millisecond fails on a busy machine."""
    found = builder.limits()
    found.max_time = datetime.timedelta(seconds=20)
    return found

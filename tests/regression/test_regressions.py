"""One test a bug that was here once. Each opens with the story: what happened, why nothing caught it, what holds now."""

import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.h2wire import H2Wire, pseudo
from harness.ports import until
from harness.wire import request


def test_a_body_declared_empty_is_awaited_before_the_message_goes_up(gate, service, token):
    """An HTTP/2 message said `content-length: 0` and left its stream open. It was forwarded at once, and the service
    acted on it; the DATA frames that contradicted the length came later, and reset a stream whose message was done. No
    byte was smuggled, but a malformed message had had its effect. HTTP/1 has no such moment, so no test of the framing
    rules met it."""
    for extra, arrives in ((b"GET /smuggled HTTP/1.1\r\n\r\n", False), (b"", True)):
        service.clear()
        with H2Wire(gate.port) as wire:
            fields = pseudo("POST", "/orders/x", token=token, extra=[("content-length", "0")])
            stream = wire.headers(1, fields, body=extra).outcome(1)
            assert (stream.status == 200) == arrives
        assert gate.get("/orders/after", token).status == 200
        assert len(service.requests) == 1 + arrives


@pytest.mark.parametrize("protocol", ["http/1.1", "http/2"])
def test_a_refusal_does_not_say_where_the_upstream_is(protocol):
    """When a service was down, the HTTP/1 side handed the connector's own error to the client: the inner address and the
    system's words. The HTTP/2 side did not, and nothing compared the two."""
    with Recorder() as gone:
        address = f"{gone.host}:{gone.port}"
    with Gate({"orders": {"upstream": f"http://{address}"}}) as gate:
        token = gate.mint("orders")
        if protocol == "http/2":
            with H2Wire(gate.port) as wire:
                body = wire.headers(1, pseudo(path="/orders/x", token=token)).outcome(1).body
        else:
            with gate.wire() as wire:
                body = wire.send(request("GET", "/orders/x", token=token)).answer().body
        assert b"upstream-unreachable" in body
        assert str(gone.port).encode() not in body and b"os error" not in body
        until(lambda: address in gate.log, "the log says which upstream it was")

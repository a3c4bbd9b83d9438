"""gRPC with grpcio's own client and server, every kind of call: HTTP/2 on both sides of the gateway."""

import queue
import threading

import grpc
import pytest

from harness.gate import Gate
from harness.grpc_service import DETAILS, Orders, Stub
from harness.h2client import H2Client
from harness.ports import until

MESSAGES = 1000


@pytest.fixture(scope="module")
def orders():
    with Orders() as service:
        yield service


@pytest.fixture(scope="module")
def gate(orders):
    """The whole of a host is one gRPC server: its clients know no prefixes."""
    limits = {"upstream_response_timeout": "2s", "body_stall_timeout": "2s"}
    with Gate({"orders": {"upstream": orders.url, "prefix": "/"}}, limits=limits) as gate:
        yield gate


@pytest.fixture
def stub(gate, token):
    with Stub(f"127.0.0.1:{gate.port}", token) as stub:
        yield stub


def with_token(gate, token):
    return Stub(f"127.0.0.1:{gate.port}", token)


def code_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


class Endless:
    """Requests that come when the test likes."""

    def __init__(self):
        self.queue = queue.Queue()

    def __iter__(self):
        return self

    def __next__(self):
        item = self.queue.get()
        if item is None:
            raise StopIteration
        return item


def test_a_unary_call_keeps_its_metadata_both_ways(stub, orders, token):
    orders.seen.clear()
    response, call = stub.unary("Get", b"abc", metadata=[("tenant", "blue"), ("blob-bin", b"\x01\x02")])
    assert response == b"cba"
    assert dict(call.initial_metadata())["served-by"] == "orders" and dict(call.initial_metadata())["raw-bin"] == b"\x00\xff"
    assert dict(call.trailing_metadata())["cost"] == "1" and call.code() == grpc.StatusCode.OK
    (seen,) = orders.seen
    assert seen["tenant"] == "blue" and seen["blob-bin"] == b"\x01\x02"
    assert not any(token in str(value) for value in seen.values()) and "authorization" not in seen


def test_a_thousand_messages_each_way(stub):
    assert [int(r) for r in stub.server_stream("List", b"%d" % MESSAGES)] == list(range(MESSAGES))
    numbers = [b"%d" % number for number in range(MESSAGES)]
    assert int(stub.client_stream("Upload", iter(numbers))) == sum(range(MESSAGES))
    assert list(stub.both("Chat", iter(numbers), timeout=60)) == [number + b"!" for number in numbers]


def test_a_conversation_is_answered_message_by_message(stub):
    requests = Endless()
    responses = stub.both("Chat", requests)
    for number in range(20):
        requests.queue.put(b"%d" % number)
        assert next(responses) == b"%d!" % number
    requests.queue.put(None)
    assert list(responses) == [] and responses.code() == grpc.StatusCode.OK


def test_large_messages_pass(stub):
    large = bytes(range(256)) * 12000
    assert stub.unary("Get", large)[0] == large[::-1]


def test_a_services_own_error_arrives_whole(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.unary("Fail")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such order: größer 100 %"
    assert dict(caught.value.trailing_metadata())["grpc-status-details-bin"] == DETAILS
    assert code_of(lambda: stub.unary("Nowhere"))[0] == grpc.StatusCode.UNIMPLEMENTED


def test_silence_ends_no_call(stub):
    """Longer than the gateway waits for the answer to anything else, and for a body that stands still."""
    requests = Endless()
    responses = stub.both("Late", requests)
    requests.queue.put(b"first")
    threading.Timer(3.0, requests.queue.put, [None]).start()
    assert list(responses) == [b"1"]


def test_deadlines_hold_whoever_keeps_them(gate, stub, orders):
    assert code_of(lambda: stub.unary("Sleep", timeout=0.3))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
    # A client that does not keep its own: then the gateway does.
    fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "200m")]
    with H2Client(gate.port, stub.metadata[0][1].removeprefix("Bearer ")) as client:
        stream = client.open("POST", "/shop.Orders/Sleep", fields, end=False)
        client.send(stream, b"\0\0\0\0\0", end=True)
        reply = client.reply(stream)
    status = (reply.trailers or reply.fields).get("grpc-status")
    assert status == "4", (reply.fields, reply.trailers)


def test_a_cancelled_call_is_cancelled_at_the_service(stub, orders):
    call = stub.server_stream("Watch")
    assert next(call) == b"begun" and orders.watching == 1
    call.cancel()
    until(lambda: orders.watching == 0, "the service learns that nobody listens")


def test_a_prefix_that_is_the_services_name_is_a_part_of_the_call(orders):
    """The fact is made of the path that the service sees. Below the prefix alone no call was recognised, and refused."""
    with Gate({"orders": {"upstream": orders.url, "prefix": "/shop.Orders", "keep_prefix": True}}) as gate:
        full = gate.mint("orders")
        for allowed in ("shop.Orders/Get", "shop.Orders"):
            with with_token(gate, gate.attenuate(full, "--grpc", allowed)) as stub:
                assert stub.unary("Get", b"abc")[0] == b"cba"
        with with_token(gate, gate.attenuate(full, "--grpc", "shop.Orders/List")) as stub:
            assert code_of(lambda: stub.unary("Get"))[0] == grpc.StatusCode.PERMISSION_DENIED


def test_a_prefix_that_is_taken_off_makes_no_grpc_and_the_refusal_says_so(orders):
    with Gate({"orders": {"upstream": orders.url, "prefix": "/shop.Orders"}}) as gate:
        with with_token(gate, gate.attenuate(gate.mint("orders"), "--grpc", "shop.Orders/Get")) as stub:
            code, details = code_of(lambda: stub.unary("Get"))
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert "below this resource the path is /Get" in details and "keep_prefix = true" in details, details


@pytest.mark.parametrize("name", ["no token", "nonsense", "stopped by a caveat", "no right"])
def test_refusals_in_grpcs_own_words(gate, orders, token, name):
    orders.seen.clear()
    narrow = gate.attenuate(token, "--grpc", "shop.Orders/List")
    tokens = {"no token": None, "nonsense": "AAAA", "stopped by a caveat": narrow, "no right": gate.mint("other")}
    codes = {"stopped by a caveat": "PERMISSION_DENIED", "no right": "NOT_FOUND"}
    with with_token(gate, tokens[name]) as stub:
        code, details = code_of(lambda: stub.unary("Get"))
    assert code == grpc.StatusCode[codes.get(name, "UNAUTHENTICATED")] and details
    assert orders.seen == []


def test_a_capability_for_one_method_calls_that_method(gate, token):
    with with_token(gate, gate.attenuate(token, "--grpc", "shop.Orders/List")) as stub:
        assert list(stub.server_stream("List", b"2")) == [b"0", b"1"]
    # What is no gRPC call has no method, whatever its path says.
    narrow = gate.attenuate(token, "--grpc", "shop.Orders/List")
    assert gate.get("/shop.Orders/List", token=narrow, method="POST", body=b"").status == 403
    assert gate.get("/shop.Orders/List", token=narrow, fields=[("Content-Type", "application/grpc")]).status == 403


KINDS = {
    "server stream, speaking": lambda stub: stub.server_stream("Watch", b"speak"),
    "server stream, silent": lambda stub: stub.server_stream("Watch"),
    "both ways": lambda stub: stub.both("Chat", Endless()),
    "both ways, not begun": lambda stub: stub.both("Late", Endless()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_law_6_a_revocation_ends_every_kind_of_call_as_unauthenticated(gate, orders, token, kind):
    child = gate.attenuate(token, "--method", "POST")
    with with_token(gate, child) as stub, with_token(gate, token) as other:
        call, unrelated = KINDS[kind](stub), other.server_stream("Watch", b"speak")
        assert next(unrelated) == b"begun"
        if kind.startswith("server"):
            assert next(call) == b"begun"
        else:
            # The call is at the service when another on the same connection is.
            assert stub.unary("Get", b"a")[0] == b"a"
        gate.revoke(child)
        code, details = code_of(lambda: list(call))
        assert code == grpc.StatusCode.UNAUTHENTICATED and details.startswith("revoked"), (code, details)
        assert next(unrelated) == b"tick", "the parent's call has ended too"
        unrelated.cancel()


def test_an_expiry_ends_a_call_as_unauthenticated(gate, token):
    with with_token(gate, gate.attenuate(token, "--expires", "2s")) as stub:
        code, details = code_of(lambda: list(stub.server_stream("Watch")))
    assert code == grpc.StatusCode.UNAUTHENTICATED and details.startswith("expired"), (code, details)


def test_a_service_that_dies_is_unavailable():
    with Orders() as orders, Gate({"orders": {"upstream": orders.url, "prefix": "/"}}) as gate:
        with with_token(gate, gate.mint("orders")) as stub:
            call = stub.server_stream("Watch")
            assert next(call) == b"begun"
            orders.stop()
            assert code_of(lambda: list(call))[0] in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert code_of(lambda: stub.unary("Get"))[0] == grpc.StatusCode.UNAVAILABLE

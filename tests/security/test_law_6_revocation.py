"""Law 6: revoking a capability ends all that was derived from it, also on connections that are open (T18)."""

import json
import threading
import time

import pytest

from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import Closed, request


def test_law_6_revoking_ends_everything_derived(gate):
    parent = gate.mint("orders")
    child = gate.attenuate(parent, "--method", "GET")
    grandchild = gate.attenuate(child, "--path", "/x")
    sealed = gate.run("seal", "-", stdin=grandchild).ok().out.strip()
    sibling = gate.attenuate(parent, "--method", "GET,POST")
    assert {gate.get("/orders/x", t).status for t in (parent, child, grandchild, sealed, sibling)} == {200}
    gate.revoke(child)
    for token in (child, grandchild, sealed):
        answer = gate.get("/orders/x", token)
        assert (answer.status, answer.kind) == (401, "revoked"), answer.body
        assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert {gate.get("/orders/x", t).status for t in (parent, sibling)} == {200}
    gate.revoke(parent)
    assert {gate.get("/orders/x", t).status for t in (parent, sibling)} == {401}


def test_law_6_a_chosen_block_can_be_revoked(gate):
    parent = gate.mint("orders")
    child = gate.attenuate(parent, "--method", "GET")
    gate.revoke(child, "--block", "0")
    assert {gate.get("/orders/x", t).status for t in (parent, child)} == {401}


def test_law_6_revocation_holds_for_the_next_message_on_an_open_connection(gate, service):
    token = gate.mint("orders")
    with gate.wire() as wire:
        assert wire.send(request("GET", "/orders/1", token=token)).answer().status == 200
        gate.revoke(token)
        service.clear()
        wire.send(request("GET", "/orders/2", token=token))
        assert wire.answer().status == 401
    assert service.requests == []


def test_law_6_revocation_is_in_force_at_its_acknowledgement(gate):
    """Every worker: connections made before and after, none is served once the acknowledgement is there."""
    for _ in range(5):
        token = gate.mint("orders")
        wires = [gate.wire() for _ in range(12)]
        for wire in wires:
            assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
        gate.revoke(token)
        for wire in wires:
            assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 401
            wire.close()
        assert {gate.get("/orders/x", token).status for _ in range(12)} == {401}


@pytest.fixture
def endless():
    """A service that streams one line every 20 ms for as long as somebody listens."""

    def stream(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(1000):
            line = f"data: {number}\n\n".encode()
            sock.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            time.sleep(0.02)
        return "close"

    with Recorder(lambda r: stream) as service, Gate({"orders": service}) as gate:
        yield gate


def read_until_end(wire, seconds):
    """Reads a stream to its end: (bytes, whether it ended cleanly, when it ended)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            wire._more()
        except Closed:
            break
    else:
        raise AssertionError(f"the stream still flows after {seconds} s")
    return wire.buffer, wire.buffer.endswith(b"0\r\n\r\n"), time.monotonic()


def test_law_6_an_open_stream_ends_when_its_capability_is_revoked(endless):
    gate = endless
    token = gate.mint("orders")
    child = gate.attenuate(token, "--method", "GET")
    with gate.wire() as wire, gate.wire() as other:
        for w, t in ((wire, child), (other, token)):
            w.send(request("GET", "/orders/stream", token=t))
            assert w.head().status == 200
        gate.revoke(child)
        acknowledged = time.monotonic()
        data, _, ended = read_until_end(wire, 10)
        # The contract is 100 ms; a loaded machine running tests gets a wider bound, a missing lease never ends at all.
        assert ended - acknowledged < 2
        assert b"event: revoked" in data
        other._more()  # the parent's stream goes on


def test_law_6_a_client_that_does_not_read_keeps_no_event_stream_open():
    """The service learns of the revocation although its last events wait here for a client that takes none of them."""
    ended = threading.Event()

    def flood(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        event = b"data: " + b"x" * 1000 + b"\n\n"
        try:
            while True:
                sock.sendall(b"%x\r\n%s\r\n" % (len(event), event))
                sent.append(len(event))
        except OSError:
            ended.set()
        return "close"

    sent = []
    with Recorder(lambda r: flood) as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with gate.wire() as wire:
            wire.send(request("GET", "/orders/stream", token=token))
            assert wire.head().status == 200
            seen = -1
            while seen != len(sent):
                seen = len(sent)
                time.sleep(0.2)
            gate.revoke(token)
            assert ended.wait(5), "the service still holds the stream"
            read_until_end(wire, 10)


def test_law_6_an_open_stream_ends_when_its_time_is_over(endless):
    gate = endless
    token = gate.mint("orders", "--expires", "2s")
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/stream", token=token))
        assert wire.head().status == 200
        data, _, _ = read_until_end(wire, 10)
        assert b"event: expired" in data


def test_law_6_an_open_stream_ends_when_its_key_is_retired(endless):
    gate = endless
    token = gate.mint("orders")
    with gate.wire() as wire:
        wire.send(request("GET", "/orders/stream", token=token))
        assert wire.head().status == 200
        listed = gate.run("keys", "list", "--json").ok().json
        keys = listed["keys"] if isinstance(listed, dict) else listed
        old = keys[0].get("id", keys[0].get("key_id"))
        gate.run("keys", "rotate").ok()
        gate.run("keys", "retire", str(old)).ok()
        read_until_end(wire, 10)


def test_law_6_a_retired_key_ends_all_its_tokens():
    with Recorder() as service, Gate({"orders": service}) as gate:
        old = gate.mint("orders")
        listed = gate.run("keys", "list", "--json").ok().json
        keys = listed["keys"] if isinstance(listed, dict) else listed
        key_id = keys[0].get("id", keys[0].get("key_id"))
        gate.run("keys", "rotate").ok()
        new = gate.mint("orders")
        assert {gate.get("/orders/x", t).status for t in (old, new)} == {200}, "several keys are live at once"
        gate.run("keys", "retire", str(key_id)).ok()
        assert gate.get("/orders/x", old).status == 401
        assert gate.get("/orders/x", new).status == 200


def test_law_6_a_retired_key_ends_what_was_minted_under_it():
    """Though the new key signed it; the command says before how much that is, and a dry run ends nothing."""
    with Recorder() as service, Gate({"orders": service}) as gate:
        def mint(token):
            answer = gate.admin("POST", "/capabilities/orders", token=token, body=b"{}")
            return json.loads(answer.body)["token"]

        old = gate.admin_token
        gate.run("keys", "rotate").ok()
        assert gate.admin_token != old
        minted = [mint(old) for _ in range(2)]
        renewed = mint(gate.admin_token)
        said = gate.run("keys", "retire", "0", "--dry-run").ok().err
        assert "ends 2 live capabilities" in said and " by " in said, said
        assert {gate.get("/orders/x", token).status for token in (*minted, renewed)} == {200}
        assert "1 live capabilities" in gate.run("keys", "rotate").ok().err
        said = gate.run("keys", "retire", "0").ok().err
        assert "ends 2 live capabilities" in said, said
        assert {gate.get("/orders/x", token).status for token in minted} == {401}
        assert gate.get("/orders/x", renewed).status == 200
        gate.run("keys", "retire", "1").ok()
        assert gate.get("/orders/x", renewed).status == 401
        gate.run("keys", "list").ok()


def test_law_6_an_administrators_capability_can_be_revoked(gate):
    narrow = gate.attenuate(gate.admin_token, "--path", "/revocations")
    assert gate.admin("GET", "/revocations", token=narrow).status == 200
    gate.revoke(narrow)
    assert gate.admin("GET", "/revocations", token=narrow).status == 401


def test_law_6_only_ids_leave_the_command_line(recorder):
    """The token stays with the person who revokes it: what is sent is an id."""
    from harness.binary import postern

    with Gate({"orders": recorder}, start=False) as gate:
        token = gate.mint("orders")
        with Recorder() as admin:
            done = postern("revoke", "-", state=gate.state, stdin=token, env={"POSTERN_ADMIN": admin.url})
            assert admin.requests, done.err
            for request_seen in admin.requests:
                assert token.rstrip("=").encode() not in request_seen.head + request_seen.body


def test_law_6_unknown_ids_can_be_revoked_beforehand(gate):
    token = gate.mint("orders")
    shown = gate.run("inspect", "-", "--json", stdin=token).ok().json
    ids = [b["revocation_id"] for b in shown["blocks"]]
    gate.run("revoke", ids[-1]).ok()
    assert gate.get("/orders/x", token).status == 401
    gate.run("revoke", "ab" * 64).ok()


def test_law_6_a_malleated_copy_is_the_same_token(gate):
    """Other padding, another key hint, an unknown outer field: all the same ids, all revoked."""
    from harness import forge

    token = gate.mint("orders")
    gate.revoke(token)
    copy = forge.Token(token)
    copy.root_key_id = None
    more = forge.Token(token)
    more.unknown = forge.message((55, b"x"))
    for text in (token.rstrip("="), token.rstrip("=") + "==", "biscuit:" + token, copy.text, more.text):
        assert gate.get("/orders/x", text).status == 401

"""Law 8: a token is never logged, echoed, put into a URL by us, or shown to a backend that did not ask (T10, T11, T26)."""

import base64
import json
import re
import socket

import pytest

from harness.backend import Recorder, answer
from harness.gate import Gate, postern
from harness.wire import Closed, request


def forms(secret):
    """A secret in every shape in which it could have been written down, cut so that parts are found as well."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    shapes = {raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw), base64.urlsafe_b64encode(raw),
              base64.b64encode(raw)[:-4], ", ".join(str(b) for b in raw[:16]).encode()}
    return [s.rstrip(b"=") for s in shapes]


def assert_absent(secrets, data, where):
    for name, secret in secrets.items():
        for shape in forms(secret):
            for start in range(0, max(1, len(shape) - 24), 16):
                part = shape[start : start + 24]
                if len(part) >= 16:
                    assert part not in data, f"{where} holds a part of {name}"


@pytest.fixture(scope="module")
def spied():
    """A gateway that logs all it can, after every kind of traffic; and what it wrote."""
    with Recorder() as service, Gate({"orders": service}, env={"RUST_LOG": "trace"}) as gate:
        token = gate.mint("orders")
        narrow = gate.attenuate(token, "--path", "/allowed")
        expired = gate.mint("orders", "--expires", "1s")
        bodies = b""

        def say(data, to="GET", port=None):
            nonlocal bodies
            from harness.wire import Wire

            with Wire(port or gate.port, timeout=5) as wire:
                try:
                    wire.send_as_accepted(data)
                    wire.answer(to)
                except (Closed, TimeoutError):
                    pass
                bodies += wire.received

        for text in (token, narrow, expired, token[:-7], token + "A", "biscuit:" + token, token.rstrip("=")):
            for method in ("GET", "POST"):
                for target in ("/orders/allowed", "/orders/forbidden", "/nowhere", "/orders/../x", f"/orders/{text}",
                               f"/orders/x?access_token={text}", f"/orders/x?a={text}&b=1"):
                    say(request(method, target, token=text, body=b"x" if method == "POST" else None), method)
        for fields in ([("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")], [("Authorization", f"Basic {token}")],
                       [("Authorization", f"Bearer {token} {token}")], [("Postern-Capability", token)], [("Cookie", f"t={token}")],
                       [("X-Broken", f"{token}\x00")], [("Bad Name " + token, "x")]):
            say(request("GET", "/orders/allowed", fields=fields))
        say(f"GET /orders/allowed HTTP/1.1\r\nHost: {token}\r\n\r\n".encode())
        say(f"{token} /orders HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        for target in ("/revocations", "/metrics", "/ledger", "/nothing"):
            for text in (gate.admin_token, token):
                say(request("GET", target, token=text), port=gate.admin_port)
        say(request("POST", "/capabilities/orders", token=gate.admin_token[:-3], body=b"{}"), "POST", gate.admin_port)
        from harness.h2wire import H2Wire, pseudo

        for text in (token, token[:-5]):
            with H2Wire(gate.port) as wire:
                wire.headers(1, pseudo(path="/orders/allowed", token=text)).outcome(1)
                wire.headers(3, pseudo(path="/orders/allowed", token=text, extra=[("bad name", text)])).outcome(3)
        gate.revoke(narrow)
        metrics = gate.metrics().encode()
        key = (gate.state / "root.key").read_text().strip().removeprefix("ed25519-private/")
        secrets = {
            "the token": token.rstrip("="),
            "the narrowed token": narrow.rstrip("="),
            "the admin token": gate.admin_token.rstrip("="),
            "the root key": bytes.fromhex(key),
        }
        gate.terminate()
        yield gate, service, secrets, bodies, metrics


def test_law_8_no_log_holds_a_secret(spied):
    gate, _, secrets, _, _ = spied
    assert len(gate.process.output) > 10_000, "the log of this test is not at its most talkative"
    assert_absent(secrets, gate.process.output, "the log")


def test_law_8_no_answer_echoes_a_secret(spied):
    _, _, secrets, bodies, _ = spied
    # The service of this test answers with the target that it saw, which may hold what the client put into it.
    cleaned = re.sub(rb"(GET|POST) /\S*", b"", bodies)
    assert_absent({k: v for k, v in secrets.items() if k != "the root key"}, cleaned, "an answer")
    assert_absent({"the root key": secrets["the root key"]}, bodies, "an answer")


def test_law_8_metrics_hold_no_secret(spied):
    assert_absent(spied[2], spied[4], "/metrics")


def test_law_8_the_ledger_holds_no_usable_token(spied):
    gate, _, secrets, _, _ = spied
    for path in gate.state.rglob("*"):
        if path.is_file() and not path.name.endswith((".token", ".key")):
            assert_absent(secrets, path.read_bytes(), path.name)


def test_law_8_the_backend_sees_no_token_in_a_field(spied):
    _, service, secrets, _, _ = spied
    for received in service.requests:
        without_target = received.head.split(b"\r\n", 1)[1]
        assert_absent({"the token": secrets["the token"]}, re.sub(rb"cookie: [^\r]*", b"", without_target, flags=re.I), "a request")


def access_lines(gate):
    lines = []
    for line in gate.log.splitlines():
        if line.startswith("{"):
            record = json.loads(line)
            if "decision" in record:
                lines.append(record)
    return lines


def test_law_8_the_access_log_is_json_and_cannot_be_written_into():
    """T26: whatever a client puts into its request, one message is one line of printable ASCII."""
    nasty = ["/orders/%0a%7b%22decision%22%3a%22allowed%22%7d", "/orders/%1b%5b2J", "/orders/%e2%80%a8x", '/orders/"},{"x":"', "/orders/\\n"]
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        for target in nasty:
            gate.get(target, token, fields=[("User-Agent", "x\u00e9 \\ \" </script>")])
        gate.get("/orders/fine?secret=value", token)
        with gate.wire() as wire:
            wire.send_as_accepted(b"G\x1bT /orders HTTP/1.1\r\nHost: local\x1b\r\n\r\n")
            wire.answer()
        gate.terminate()
        lines = access_lines(gate)
        assert len(lines) >= 2, gate.log
        assert not re.search(rb"[^\x20-\x7e\n]", gate.process.output), "a control or non-ASCII byte in the log"
        last = [line for line in lines if line["path"].endswith("/fine")]
        assert last and last[0]["decision"] == "allowed" and "value" not in json.dumps(last)


def test_law_8_secrets_in_the_state_folder_are_private(gate):
    for name in ("root.key", "admin.token"):
        assert (gate.state / name).stat().st_mode & 0o077 == 0, name
    assert gate.state.stat().st_mode & 0o022 == 0


def test_law_8_the_process_cannot_be_dumped_by_others(gate):
    """T23: core dumps and debuggers of the same account do not get the root key."""
    import os

    # A process that is not dumpable has its /proc entries owned by root; as root this shows only in the core limit.
    limits = open(f"/proc/{gate.process.pid}/limits").read()
    core = re.search(r"Max core file size\s+(\S+)", limits).group(1)
    owner = os.stat(f"/proc/{gate.process.pid}/mem").st_uid
    assert core == "0" or owner == 0


def test_law_8_an_answer_that_hands_out_a_token_is_not_cached(gate):
    import json as js

    body = js.dumps({"operations": ["GET"]}).encode()
    answer = gate.admin("POST", "/capabilities/orders", token=gate.admin_token, body=body, fields=[("Content-Type", "application/json")])
    assert answer.status in (200, 201) and "no-store" in (answer.value("cache-control") or "")


def test_no_stranger_on_the_usual_port_is_shown_the_capability_for_administration():
    """Where a gateway has not noted its address, as while it starts, whoever listens on the usual port is not asked."""
    with socket.create_server(("127.0.0.1", 7401)) as stranger, Recorder() as service, Gate({"orders": service}) as gate:
        stranger.setblocking(False)
        token = gate.mint("orders")
        (gate.state / "admin.address").unlink()
        for command in (["revoke", "-"], ["keys", "list"], ["log"], ["status", "--once"]):
            ended = postern(*command, state=gate.state, stdin=token)
            assert ended.code == 3 and "--admin" in ended.err, ended
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_what_answers_to_a_revocation_has_to_be_a_gateway():
    with Recorder(lambda _: answer(body=b'{"revoked":[],"in_force":"now"}')) as stranger, Recorder() as service:
        with Gate({"orders": service}) as gate:
            ended = postern("revoke", "-", "--admin", stranger.url, state=gate.state, stdin=gate.mint("orders"))
            assert ended.code == 3 and "is it a Postern gateway" in ended.err, ended

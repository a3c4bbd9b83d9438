"""Bad input of every kind gets one clear sentence that says what and where, and nothing is lost."""

import os
import socket

import pytest

from harness import forge
from harness.backend import Recorder, Scripted
from harness.binary import postern
from harness.gate import Gate
from harness.ports import free_port
from harness.wire import request


def sentence(text):
    """One clear sentence: it begins and ends like one, and names no source line of ours. On the command line it stands
    behind `error: `, as the tools of this trade write it, without a full stop."""
    text = text.strip()
    assert len(text) > 15 and (text[-1] in ".!?" or text.startswith("error: ")), text
    assert "\n" not in text, text
    for word in ("panicked", "RUST_BACKTRACE", "unwrap", ".rs:", "Os {", "Err(", "None", "Error {"):
        assert word not in text, text
    return text


# --- tokens

def tokens(gate):
    good = gate.mint("orders")
    import biscuit_auth

    stranger = biscuit_auth.KeyPair()
    builder = biscuit_auth.BiscuitBuilder('right("orders", "*");')
    builder.set_root_key_id(0)
    forged = forge.Token(good)
    forged.blocks[0] = forge.Token(builder.build(stranger.private_key).to_base64()).blocks[0]
    flipped = bytearray(forge.decode(good))
    flipped[len(flipped) // 2] ^= 1
    unknown = biscuit_auth.BiscuitBuilder('right("orders", "*");')
    unknown.set_root_key_id(4242)
    revoked = gate.mint("orders")
    gate.revoke(revoked)
    return {
        "missing": (None, "missing-capability"),
        "malformed": ("this-is-not-a-token", "invalid-token|truncated-token"),
        "not base64": ("!!!!", "invalid-token"),
        "oversized": ("A" * 9000, "invalid-token"),
        "cut": (good.rstrip("=")[:-20], "truncated-token"),
        "changed": (forge.encode(bytes(flipped)), "invalid-token|not-admitted|truncated-token|unknown-key"),
        "expired": (gate.mint("orders", "--expires", "2020-01-01T00:00:00Z"), "expired"),
        "forged": (forged.text, "invalid-token"),
        "under a strange key": (builder.build(stranger.private_key).to_base64(), "invalid-token|unknown-key"),
        "under an unknown key id": (unknown.build(stranger.private_key).to_base64(), "unknown-key"),
        "revoked": (revoked, "revoked"),
        "not admitted": (forge.append(gate.state, good, "x(1);"), "not-admitted"),
    }


NAMES = ["missing", "malformed", "not base64", "oversized", "cut", "changed", "expired", "forged", "under a strange key",
         "under an unknown key id", "revoked", "not admitted"]


@pytest.fixture(scope="module")
def bad(gate):
    return tokens(gate)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_token_is_a_401_in_words(gate, service, bad, name):
    token, kinds = bad[name]
    answer = gate.get("/orders/x", token)
    assert answer.status == 401 and answer.kind in kinds.split("|"), (answer.status, answer.body)
    sentence(answer.problem["detail"])
    challenge = answer.value("www-authenticate")
    # RFC 6750 section 3: at least one parameter, and section 3.1: no error where no authentication came.
    assert challenge == 'Bearer realm="postern"' if name == "missing" else challenge.startswith('Bearer realm="postern", error="invalid_token", ')
    assert service.requests == []


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("missing", "revoked", "expired", "forged", "changed", "under a strange key", "under an unknown key id")])
def test_a_bad_token_is_explained_by_the_command_line(gate, bad, name):
    token, _ = bad[name]
    done = gate.run("inspect", "-", stdin=token)
    shown = (done.err or done.out).strip()
    assert shown and "panicked" not in shown
    if name != "not admitted":
        assert done.code == 1, (done.code, shown)
        sentence(done.err)


def test_a_retired_key_is_named_as_the_reason():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        listed = gate.run("keys", "list", "--json").ok().json
        keys = listed["keys"] if isinstance(listed, dict) else listed
        gate.run("keys", "rotate").ok()
        gate.run("keys", "retire", str(keys[0].get("id", keys[0].get("key_id")))).ok()
        answer = gate.get("/orders/x", token)
        assert answer.status == 401 and "retired" in sentence(answer.problem["detail"]).lower()


def test_two_authorization_headers_are_a_400_in_words(gate, token):
    answer = gate.get("/orders/x", token, fields=[("Authorization", f"Bearer {token}")])
    assert answer.status == 400
    sentence(answer.problem["detail"])


# --- configuration

CONFIGS = {
    "not TOML": ("listen = [", "line 1"),
    "no resource": ('listen = ["127.0.0.1:0"]\n', "resource"),
    "unknown key": ('listen = ["127.0.0.1:0"]\ncolour = 1\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "colour"),
    "unknown table": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\n[resurce.b]\n', "resurce"),
    "bad listen": ('listen = ["nowhere"]\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "listen"),
    "wrong kind": ('listen = 7\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "listen"),
    "bad resource name": ('[resource.Orders]\nupstream = ["http://127.0.0.1:1"]\n', "Orders"),
    "reserved name": ('[resource.postern]\nupstream = ["http://127.0.0.1:1"]\n', "postern"),
    "no upstream": ('[resource.a]\nprefix = "/a"\n', "upstream"),
    "bad upstream": ('[resource.a]\nupstream = ["127.0.0.1"]\n', "upstream"),
    "upstream with credentials": ('[resource.a]\nupstream = ["http://u:p@127.0.0.1:1"]\n', "upstream"),
    "bad prefix": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nprefix = "a/../b"\n', "prefix"),
    "same prefix": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nprefix = "/x"\n[resource.b]\nupstream = ["http://127.0.0.1:2"]\nprefix = "/x"\n', "/x"),
    "nested to one upstream": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nprefix = "/x"\n[resource.b]\nupstream = ["http://127.0.0.1:1"]\nprefix = "/x/y"\n', "nested"),
    "unknown choice": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nforward_token = "all"\n', "forward_token"),
    "limit out of range": ('[limits]\nhead_bytes_max = "1TiB"\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "head_bytes_max"),
    "limit without unit": ('[limits]\nidle_timeout = 5\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "idle_timeout"),
    "missing certificate": ('[tls]\ncert = "none.pem"\nkey = "none.key"\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "none.pem"),
    "missing anonymous token": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nanonymous = "none.token"\n', "none.token"),
    "topic": ("[resource.a]\ntopic = true\n", "topic"),
    "own path": ('[resource.a]\nupstream = ["http://127.0.0.1:1"]\nprefix = "/.well-known/postern"\n', "prefix"),
    "bad trusted proxy": ('trusted_proxies = ["10.0.0.0/99"]\n[resource.a]\nupstream = ["http://127.0.0.1:1"]\n', "trusted_proxies"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_configuration_names_its_place(tmp_path, name):
    text, place = CONFIGS[name]
    config = tmp_path / "postern.toml"
    config.write_text(text)
    state = tmp_path / "state"
    postern("init", state=state).ok()
    for args in (["config", "check", "--config", config], ["serve", "--config", config]):
        done = postern(*args, state=state, timeout=15)
        assert done.code in (1, 2, 3), (args, done.code, done.out)
        assert place in done.err + done.out, (args, done.err)
        assert "panicked" not in done.err


def test_every_mistake_is_listed_at_once(tmp_path):
    config = tmp_path / "postern.toml"
    config.write_text('listen = ["x"]\nfoo = 1\n[admin]\nlisten = "y"\n[resource.A]\n[resource.b]\nupstream = ["z"]\nbar = 2\n')
    shown = postern("config", "check", "--config", config, state=tmp_path)
    for word in ("foo", "bar", "admin.listen", "resource.A", "resource.b.upstream"):
        assert word in shown.err + shown.out, (word, shown.err)


def test_a_missing_configuration_file_is_named(tmp_path):
    done = postern("serve", "--config", tmp_path / "none.toml", state=tmp_path)
    assert done.code in (2, 3) and "none.toml" in done.err


# --- keys

def damaged_key(kind, path):
    if kind == "missing":
        path.unlink()
    elif kind == "world-readable":
        path.chmod(0o644)
    elif kind == "group-readable":
        path.chmod(0o640)
    elif kind == "empty":
        path.write_text("")
    elif kind == "garbage":
        path.write_text("not a key\n")
    elif kind == "public key instead":
        path.write_text((path.parent / "root.pub").read_text())
    elif kind == "cut":
        path.write_text(path.read_text().strip()[:-2])
    elif kind == "a directory":
        path.unlink()
        path.mkdir()
    elif kind == "a link":
        real = path.with_name("elsewhere")
        path.rename(real)
        path.symlink_to(real)


@pytest.mark.parametrize("kind", ["missing", "world-readable", "group-readable", "empty", "garbage", "public key instead", "cut", "a directory", "a link"])
def test_a_bad_root_key_stops_the_start_and_is_named(kind):
    with Recorder() as service, Gate({"orders": service}, start=False) as gate:
        damaged_key(kind, gate.state / "root.key")
        for args in (["serve", "--config", gate.config], ["mint", "orders"]):
            done = gate.run(*args, timeout=15)
            assert done.code == 3, (args, done.code, done.out, done.err)
            assert "root.key" in sentence(done.err), done.err
            assert done.out == ""


def test_a_missing_state_folder_is_named(tmp_path):
    done = postern("mint", "orders", state=tmp_path / "nowhere")
    assert done.code == 3 and "nowhere" in sentence(done.err) and "init" in done.err


def test_a_taken_port_is_named():
    with Recorder() as service, socket.create_server(("127.0.0.1", 0)) as taken:
        with Gate({"orders": service}, start=False, listen=[f"127.0.0.1:{taken.getsockname()[1]}"]) as gate:
            done = gate.run("serve", "--config", gate.config, timeout=15)
            assert done.code == 3
            (said,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
            assert str(taken.getsockname()[1]) in sentence(said)


# --- upstreams

def test_an_upstream_that_is_down_is_a_502_in_words():
    with Gate({"orders": {"upstream": f"http://127.0.0.1:{free_port()}"}}) as gate:
        answer = gate.get("/orders/x", gate.mint("orders"))
        assert answer.status == 502
        sentence(answer.problem["detail"])


def test_an_upstream_that_resets_is_a_502_in_words():
    import struct

    def reset(sock, _):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with Scripted(reset) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        answer = gate.get("/orders/x", gate.mint("orders"))
        assert answer.status == 502
        sentence(answer.problem["detail"])


def test_an_upstream_that_cannot_be_reached_in_time_is_an_error_in_words():
    """A listener whose queue is full: connections neither open nor fail."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        with Gate({"orders": {"upstream": url}}, limits={"upstream_connect_timeout": "500ms", "upstream_response_timeout": "1s"}) as gate:
            answer = gate.get("/orders/x", gate.mint("orders"))
            assert (answer.status, answer.kind) == (502, "upstream-unreachable"), "nothing was sent, and that is said"
            sentence(answer.problem["detail"])
        for filler in fillers:
            filler.close()


def test_an_upstream_that_speaks_nonsense_is_a_502_in_words():
    with Scripted(lambda sock, _: sock.sendall(b"hello there\r\n\r\n")) as backend, Gate({"orders": {"upstream": backend.url}}) as gate:
        answer = gate.get("/orders/x", gate.mint("orders"))
        assert answer.status == 502
        sentence(answer.problem["detail"])


def test_a_body_over_the_resources_bound_is_a_413_in_words():
    with Recorder() as service, Gate({"orders": {"upstream": service, "max_body": "1KiB"}}) as gate:
        token = gate.mint("orders")
        assert gate.get("/orders/x", token, method="POST", body=b"x" * 1024).status == 200
        answer = gate.get("/orders/x", token, method="POST", body=b"x" * 1025)
        assert answer.status == 413 and answer.kind == "body-too-large"
        sentence(answer.problem["detail"])
        with gate.wire() as wire:
            wire.send(request("POST", "/orders/x", token=token, fields=[("Transfer-Encoding", "chunked")]))
            for _ in range(3):
                wire.send_as_accepted(b"200\r\n" + b"x" * 512 + b"\r\n")
            wire.send_as_accepted(b"0\r\n\r\n")
            assert wire.answer("POST").status == 413
        assert len(service.requests) == 1


def test_a_length_is_asked_for_where_a_caveat_needs_it(gate, token):
    small = gate.attenuate(token, "--max-body", "1KiB")
    assert gate.get("/orders/x", small, method="POST", body=b"x").status == 200
    answer = gate.get("/orders/x", small, method="POST", fields=[("Transfer-Encoding", "chunked")], body=b"0\r\n\r\n")
    assert (answer.status, answer.kind) == (411, "length-required")
    assert gate.get("/orders/x", small, method="POST", body=b"x" * 1025).status == 403

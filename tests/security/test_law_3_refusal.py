"""Law 3: what is not understood is refused, with a reason (T12, T36)."""

import random

import biscuit_auth
import pytest

from harness import forge
from harness.gate import Gate

RIGHT = 'right("orders", "*"); '
# Constructs of biscuit's language outside the admitted subset, and a word that the reason must contain.
NOT_ADMITTED = [
    ("rule", 'ok(true) <- resource("orders");', "rule"),
    ("regular expression", 'check if path($p), $p.matches("^/a");', "matches|regular"),
    ("closure with parameter", "check if [1, 2].any($x -> $x > 1);", "closure|array|parameter"),
    ("closure over a set", "check if {1, 2}.all($x -> $x > 0);", "closure|parameter"),
    ("reject", 'reject if operation("POST");', "reject"),
    ("array", "check if [1, 2].contains(1);", "array"),
    ("map", 'check if {"a": 1}.get("a") == 1;', "map"),
    ("null", "check if null == null;", "null"),
    ("extern function", "check if 1.extern::f();", "extern"),
    ("type of", 'check if 1.type() == "integer";', "type"),
    ("try_or", "check if true.try_or(false);", "try|closure"),
    ("reserved fact path", 'path("/allowed");', "path|reserved"),
    ("reserved fact time", "time(2030-01-01T00:00:00Z);", "time|reserved"),
    ("reserved fact resource", 'resource("orders");', "resource|reserved"),
    ("reserved fact backend", 'backend("orders");', "backend|reserved"),
    ("reserved fact postern", "postern_x(1);", "postern|reserved"),
    ("right with one term", 'right("orders");', "right"),
    ("right with a number", 'right("orders", 1);', "right"),
    ("date after 9999", "check if time($t), $t < 10000-01-01T00:00:00Z;", "date|9999"),
]


@pytest.mark.parametrize("source, word", [c[1:] for c in NOT_ADMITTED], ids=[c[0] for c in NOT_ADMITTED])
def test_law_3_what_is_not_understood_is_refused_with_a_reason(gate, service, source, word):
    import re

    try:
        token = forge.mint(gate.state, RIGHT + source)
    except biscuit_auth.DataLogError as unwritable:
        # biscuit's own parser knows no such thing: then nothing of the kind can be in a token made by text.
        assert "9999" in word, unwritable
        return
    answer = gate.get("/orders/x", token)
    assert (answer.status, answer.kind) == (401, "not-admitted"), answer.body
    assert re.search(word, answer.problem["detail"], re.I), answer.problem["detail"]
    assert 'error="invalid_token"' in answer.value("www-authenticate")
    assert service.requests == []
    shown = gate.run("inspect", "-", stdin=token)
    assert re.search(word, shown.out + shown.err, re.I)


def test_law_3_facts_of_a_holder_are_not_admitted(gate, service, token):
    answer = gate.get("/orders/x", forge.append(gate.state, token, "color(1);"))
    assert (answer.status, answer.kind) == (401, "not-admitted")
    assert service.requests == []


def test_law_3_a_p256_key_anywhere_in_the_chain_is_refused(gate, service):
    block = forge.block_of(RIGHT)
    token, signer = forge.p256_chain(gate.state, block)
    assert gate.get("/orders/x", token.text).status == 401
    token.sign(signer, forge.message((3, 3)))
    assert gate.get("/orders/x", token.text).status == 401
    assert service.requests == []


def test_law_3_unknown_protobuf_fields_are_refused(gate, service):
    """biscuit's own reader skips them: a newer caveat would silently not hold."""
    root = forge.root_key(gate.state)
    block = forge.block_of(RIGHT + 'check if operation("GET");')
    for name, changed in {
        "in a block": block + forge.message((99, b"caveat of the future")),
        "in a check": b"".join(
            forge.message((n, v + forge.message((9, b"x")) if n == 6 else v)) for n, v in forge.fields(block)
        ),
        "unknown check kind": b"".join(
            forge.message((n, v + forge.message((2, 7)) if n == 6 else v)) for n, v in forge.fields(block)
        ),
        "version of the future": b"".join(forge.message((n, 99 if n == 3 else v)) for n, v in forge.fields(block)),
    }.items():
        token = forge.Token().sign(root, changed)
        answer = gate.get("/orders/x", token.text)
        assert answer.status == 401, (name, answer.status)
    good = forge.Token().sign(root, block)
    assert gate.get("/orders/x", good.text).status == 200, "the forge itself is broken"
    good.unknown = forge.message((77, b"outer"))
    assert gate.get("/orders/x", good.text).status in (200, 401)


def test_law_3_no_flipped_bit_and_no_cut_passes(gate, service, token):
    """T12: one connection, every byte once, a random bit of it; and every length."""
    from harness.wire import request

    narrow = gate.attenuate(token, "--path", "/allowed")
    data = forge.decode(narrow)
    dice = random.Random(1)
    # The one place that is not signed is the hint which key to try.
    unsigned = {0, 1} if data[0] == 0x08 else set()
    with gate.wire() as wire:
        for at in range(len(data)):
            changed = bytearray(data)
            changed[at] ^= 1 << dice.randrange(8)
            wire.send(request("GET", "/orders/forbidden", token=forge.encode(bytes(changed))))
            status = wire.answer().status
            assert status == 401 or (at in unsigned and status in (401, 403)), (at, status)
        for length in range(0, len(data), 3):
            wire.send(request("GET", "/orders/allowed", token=forge.encode(data[:length]) or "A"))
            assert wire.answer().status == 401, length
    assert service.requests == []


def test_law_3_blocks_cannot_be_swapped_dropped_or_doubled(gate, service, token):
    chain = gate.attenuate(gate.attenuate(token, "--path", "/allowed"), "--method", "GET")
    taken = forge.Token(chain)
    for name, order in {"dropped last": [0, 1], "dropped first": [0, 2], "swapped": [0, 2, 1], "doubled": [0, 1, 1, 2],
                        "doubled last": [0, 1, 2, 2], "authority alone": [0], "authority twice": [0, 0, 1, 2]}.items():
        changed = forge.Token(chain)
        changed.blocks = [taken.blocks[i] for i in order]
        assert gate.get("/orders/forbidden", changed.text).status == 401, name
    assert gate.get("/orders/allowed", chain).status == 200


def test_law_3_tokens_under_unknown_keys_are_refused(gate, service, token):
    stranger = biscuit_auth.KeyPair()
    for key_id in (None, 0, 7, 2**32 - 1):
        builder = biscuit_auth.BiscuitBuilder('right("orders", "*");')
        if key_id is not None:
            builder.set_root_key_id(key_id)
        answer = gate.get("/orders/x", builder.build(stranger.private_key).to_base64())
        assert answer.status == 401 and answer.kind in ("unknown-key", "invalid-token"), answer.body
    assert service.requests == []


def test_law_3_a_configuration_that_is_not_understood_is_refused_whole(recorder):
    with Gate({"orders": {"upstream": recorder, "alow_headers": ["x"]}}, start=False) as gate:
        done = gate.run("config", "check", "--config", gate.config)
        assert done.code != 0 and "alow_headers" in done.out + done.err and "allow_headers" in done.out + done.err
        served = gate.run("serve", "--config", gate.config)
        assert served.code != 0 and "alow_headers" in served.err


def test_law_3_a_query_that_cannot_be_read_is_refused_where_it_is_asked_about(gate, token):
    asks = gate.attenuate(token, "--query", "page=2")
    assert gate.get("/orders/x?page=2", asks).status == 200
    assert gate.get("/orders/x?page=2&page=2", asks).status == 200
    for query in ("page=3", "page=2&page=3", "", "Pages=2"):
        assert gate.get(f"/orders/x?{query}", asks).status == 403, query
    for query in ("Page=2", "page=2;page=3", "page=2&a=%ff", "page=2&a=%zz", "page=2&" + "&".join(f"a{i}=1" for i in range(70)),
                  "page=2&a=" + "b" * 2000):
        answer = gate.get(f"/orders/x?{query}", asks)
        assert (answer.status, answer.kind) == (400, "bad-query"), query
        assert gate.get(f"/orders/x?{query}", token).status == 200, "nobody asked about the query"

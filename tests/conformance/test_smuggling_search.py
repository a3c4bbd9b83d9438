"""T2 by search: whatever is done to the fields and the bytes that frame a body, one message stays one message.

Random spellings of Content-Length and Transfer-Encoding, random line ends, random chunk syntax, and a second request hidden
where a careless reader would find it. The service may see at most the outer request, and the inner one never as a request;
and what the client gets is at most one answer for each request that was there.
"""

import os
import random
import re

from harness.wire import Closed, Malformed, Wire

INNER = b"GET /orders/smuggled HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer <TOK>\r\n\r\n"
NAMES = [b"Content-Length", b"content-length", b"Content-Length ", b" Content-Length", b"Content_Length", b"Content-Length\x0b", b"Content\x2dLength",
         b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b"Transfer_Encoding", b"Transfer-Encoding\t", b"X: y\r\nTransfer-Encoding",
         b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding", b"X: y\r\n Transfer-Encoding", b"Connection: Content-Length\r\nContent-Length",
         b"Connection: Transfer-Encoding\r\nTransfer-Encoding"]
VALUES = [b"0", b"3", b"5", b"<ALL>", b"<ALL>, <ALL>", b"+<ALL>", b"0<ALL>", b"chunked", b"Chunked", b"chunked, identity", b"identity", b"\x0bchunked", b"chunked;q=1",
          b"xchunked", b"chunked\x00", b"", b"gzip, chunked", b"chunked\r\n\tx", b"-1", b"0x3", b"3;3", b"18446744073709551616"]
SEPARATORS = [b": ", b":", b":\t", b" : ", b":  ", b":\r\n ", b":\x0c"]
ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\r\n "]
BODIES = [b"<INNER>", b"0\r\n\r\n<INNER>", b"0\n\n<INNER>", b"3\r\nabc\r\n0\r\n\r\n<INNER>", b"abc<INNER>", b"abcde<INNER>", b"0\r\n<INNER>", b"0;\r\n\r\n<INNER>",
          b"0000000000000000\r\n\r\n<INNER>", b"3\r\nabc\r\n0\r\nX: y\r\n\r\n<INNER>", b"3\nabc\n0\n\n<INNER>", b"+0\r\n\r\n<INNER>", b"0 \r\n\r\n<INNER>", b"-0\r\n\r\n<INNER>",
          b"3\r\nabcX0\r\n\r\n<INNER>", b"10000000000000000\r\n\r\n<INNER>", b"<SIZE>\r\n<INNER>\r\n0\r\n\r\n", b"<SIZE>;<INNER>\r\n0\r\n\r\n"]


def message(dice, token):
    inner = INNER.replace(b"<TOK>", token)
    body = dice.choice(BODIES).replace(b"<SIZE>", b"%x" % len(inner)).replace(b"<INNER>", inner)
    head = dice.choice([b"POST", b"GET", b"PUT", b"HEAD", b"OPTIONS"]) + b" /orders/outer HTTP/" + dice.choice([b"1.1", b"1.1", b"1.1", b"1.0"]) + b"\r\n"
    head += b"Host: localhost\r\nAuthorization: Bearer " + token + b"\r\n"
    for _ in range(dice.choice([1, 1, 2, 2, 3])):
        value = dice.choice(VALUES).replace(b"<ALL>", b"%d" % len(body))
        head += dice.choice(NAMES) + dice.choice(SEPARATORS if dice.random() < 0.3 else [b": "]) + value + dice.choice(ENDS)
    return head + b"\r\n" + body


def rest_of(raw):
    """What follows the first message by the letter of RFC 9112, where its framing is beyond any doubt; else None."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n")[3:] if line != b"X: y"]
    framing = [line for line in lines if re.match(rb"(?i)\s*(x: y\s*)?(connection:|content|transfer)", line)]
    if len(framing) != 1 or len(lines) != 1 or re.search(rb"[\r\n\x0b\x0c]", lines[0]):
        return None
    if length := re.fullmatch(rb"(?i)content-length:[ \t]*(0|[1-9][0-9]{0,6})[ \t]*", framing[0]):
        return body[int(length.group(1)) :]
    if re.fullmatch(rb"(?i)transfer-encoding:[ \t]*chunked[ \t]*", framing[0]):
        whole = re.match(rb"(3\r\nabc\r\n)?0+;?\r\n(X: y\r\n)?\r\n", body)
        return body[whole.end() :] if whole else None
    return None


def test_one_message_stays_one_message(site):
    seed = os.environ.get("POSTERN_SEED", "2026")
    dice, token = random.Random(seed), site.full.encode()
    forwarded = 0
    for number in range(1500):
        raw = message(dice, token)
        site.service.clear()
        with Wire(site.gate.port, timeout=8) as wire:
            wire.send_as_accepted(raw)
            try:
                wire.half_close()
            except OSError:
                pass
            method, answers = raw.split(b" ")[0].decode(), []
            try:
                answers.append(wire.answer(method))
                while True:
                    answers.append(wire.answer())
            except Closed:
                pass
            except Malformed as error:
                raise AssertionError(f"seed {seed}, message {number}: {error}\n{raw!r}") from error
        seen, _ = site.settle()
        targets = [r.target for r in seen]
        # Where the framing is beyond doubt and ends before the inner message (or in its method: `T` is one too), that one
        # is an honest, pipelined request, which the client could as well have sent plainly.
        honest = rest_of(raw) or b""
        pipelined = re.match(rb"(\r\n)*[GET]{1,3} /orders/smuggled ", honest) and targets == ["/outer", "/smuggled"]
        assert targets in ([], ["/outer"]) or pipelined, f"seed {seed}, message {number}: {targets}\n{raw!r}"
        forwarded += bool(targets)
    assert forwarded > 5, f"{forwarded} messages passed: the search is not looking at much"

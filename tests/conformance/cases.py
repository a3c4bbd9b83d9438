"""What a table of hostile input is made of, and how one row is judged.

A row is bytes and what a strict gateway does with them. `Refused`: an answer from the given set, nothing at the service.
`Passed`: exactly one request at the service, with and without certain bytes. After each row a harmless request goes
through on a fresh connection, so that what was sent before has certainly arrived, and nothing was left behind.
"""

from dataclasses import dataclass, field

from harness.backend import Recorder
from harness.gate import Gate
from harness.wire import Closed, Wire, request

HOST = "Host: localhost\r\n"
AUTH = "Authorization: Bearer <TOK>\r\n"
ALLOWED = "/orders/allowed"
SMUGGLED = "GET /orders/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Refused:
    """The request is answered by the gateway itself, and the service never sees a whole request of it."""

    name: str
    raw: str | bytes
    status: tuple = (400,)
    # After a head or body that cannot be trusted nothing that follows on the connection can be either.
    closes: bool = True
    # Answering nothing and closing is as strict where not even a request line was readable.
    may_be_silent: bool = False
    # Some inputs only end when the client stops sending.
    half_close: bool = False


@dataclass
class Passed:
    """The request is forwarded as exactly one request."""

    name: str
    raw: str | bytes
    sees: tuple = ()
    never: tuple = ()
    status: tuple = (200,)
    to: str = "GET"
    body: bytes | None = None
    half_close: bool = False


@dataclass
class Site:
    """A gateway before two services: `orders`, where the token may go, and `forbidden`, where it may not."""

    service: Recorder
    gate: Gate
    token: str
    full: str
    extra: dict = field(default_factory=dict)

    def fill(self, raw):
        raw = raw.encode("latin-1") if isinstance(raw, str) else raw
        return raw.replace(b"<TOK>", self.token.encode()).replace(b"<FULL>", self.full.encode())

    def settle(self):
        """A harmless request on a connection of its own: when it is answered, what came before has arrived."""
        with self.gate.wire() as wire:
            answer = wire.send(request("GET", "/orders/allowed/settle", token=self.token)).answer()
        assert answer.status == 200, f"the gateway no longer serves honest clients: {answer.head!r}"
        seen = [r for r in self.service.requests if not r.target.endswith("/allowed/settle")]
        return seen, self.service.bytes

    def judge(self, case):
        self.service.clear()
        (self.judge_refused if isinstance(case, Refused) else self.judge_passed)(case)

    def judge_refused(self, case):
        answer = None
        with Wire(self.gate.port, timeout=8) as wire:
            wire.send_as_accepted(self.fill(case.raw))
            if case.half_close:
                wire.half_close()
            try:
                answer = wire.answer()
            except Closed:
                assert case.may_be_silent, "the connection was closed without an answer"
            if answer is not None:
                assert answer.status in case.status, f"{answer.head!r} {answer.body!r}"
                if case.closes:
                    assert wire.closed(), "the connection stays open, or goes on answering, after a broken message"
        seen, everything = self.settle()
        assert seen == [], f"the service saw {[r.line for r in seen]}"
        assert b"smuggled" not in everything

    def judge_passed(self, case):
        with Wire(self.gate.port, timeout=8) as wire:
            wire.send(self.fill(case.raw))
            if case.half_close:
                wire.half_close()
            answer = wire.answer(case.to)
        assert answer.status in case.status, f"{answer.head!r} {answer.body!r}"
        seen, everything = self.settle()
        assert len(seen) == 1, f"the service saw {[r.line for r in seen]}"
        whole = seen[0].head + b"\r\n" + seen[0].body + seen[0].trailers
        for wanted in case.sees:
            assert wanted in whole, f"{wanted!r} is missing in {whole!r}"
        for unwanted in case.never:
            assert unwanted.lower() not in everything.lower(), f"{unwanted!r} reached the service: {everything!r}"
        if case.body is not None:
            assert seen[0].body == case.body


def get(*lines, target=ALLOWED, method="GET", host=HOST, auth=AUTH, version="1.1", body=""):
    """A request with extra field lines as they are, without anything that would repair them."""
    extra = "".join(line if line.endswith("\n") else line + "\r\n" for line in lines)
    return f"{method} {target} HTTP/{version}\r\n{host}{auth}{extra}\r\n{body}"


def post(*lines, body="", **more):
    return get(*lines, method="POST", body=body, **more)


def ids(cases):
    return [case.name for case in cases]

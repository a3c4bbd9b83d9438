"""A raw HTTP/1 client: sends exactly the bytes it is given, reads answers more strictly than any real client would."""

import json
import re
import socket
import ssl
from dataclasses import dataclass, field


class Malformed(AssertionError):
    """The gateway itself wrote something that is not HTTP/1.1."""


class Closed(Exception):
    """The connection ended before an answer was complete."""


@dataclass
class Answer:
    status: int
    fields: list
    body: bytes = b""
    trailers: bytes = b""
    head: bytes = b""
    informational: list = field(default_factory=list)

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def value(self, name):
        found = self.values(name)
        return found[0] if found else None

    @property
    def problem(self):
        """The problem+json document of a refusal; fails the test where the body is something else."""
        assert self.value("content-type") == "application/problem+json", f"{self.head!r} {self.body!r}"
        return json.loads(self.body)

    @property
    def kind(self):
        """The last part of the problem's `type`."""
        return re.split(r"[/:#]", self.problem["type"])[-1]


class Wire:
    """One connection."""

    def __init__(self, port, host="127.0.0.1", tls=None, timeout=10, alpn=None, server_name="localhost", source=None):
        self.sock = socket.create_connection((host, port), timeout=timeout, source_address=source)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = tls if isinstance(tls, ssl.SSLContext) else ssl.create_default_context(cafile=tls)
            if alpn:
                context.set_alpn_protocols(alpn)
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name)
        self.buffer = b""
        self.received = b""

    def send(self, data):
        self.sock.sendall(data)
        return self

    def send_as_accepted(self, data):
        """Sends what the gateway is willing to take: a refusal may close the connection before all is written."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def _more(self):
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            raise Closed("reset") from None
        if not data:
            raise Closed("end of stream")
        self.buffer += data
        self.received += data

    def _until(self, mark, limit=1 << 20):
        while mark not in self.buffer:
            if len(self.buffer) > limit:
                raise Malformed(f"no {mark!r} within {limit} bytes")
            self._more()
        at = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    def _exactly(self, count):
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def head(self):
        """Reads one response head, final or informational."""
        head = self._until(b"\r\n\r\n")
        if re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", head):
            raise Malformed(f"bare CR, LF or NUL in a response head: {head!r}")
        lines = head[:-4].split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) ([\t\x20-\x7e]*)", lines[0])
        if not match:
            raise Malformed(f"status line {lines[0]!r}")
        fields = []
        for line in lines[1:]:
            parts = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", line)
            if not parts:
                raise Malformed(f"field line {line!r}")
            fields.append((parts.group(1).decode(), parts.group(2).decode("latin-1")))
        return Answer(int(match.group(1)), fields, head=head)

    def answer(self, to="GET"):
        """Reads one whole response to a request with the method `to`."""
        informational = []
        while True:
            answer = self.head()
            if answer.status >= 200 or answer.status == 101:
                break
            informational.append(answer)
        answer.informational = informational
        self._body(answer, to)
        return answer

    def _body(self, answer, to):
        lengths, codings = answer.values("content-length"), answer.values("transfer-encoding")
        if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
            raise Malformed(f"ambiguous framing in {answer.head!r}")
        if to == "HEAD" or answer.status in (204, 304, 101) or (to == "CONNECT" and answer.status < 300):
            return
        if codings:
            if codings[0].lower() != "chunked":
                raise Malformed(f"transfer-encoding {codings[0]!r}")
            while True:
                line = self._until(b"\r\n")[:-2]
                size = re.fullmatch(rb"([0-9a-fA-F]+)(;.*)?", line)
                if not size:
                    raise Malformed(f"chunk line {line!r}")
                size = int(size.group(1), 16)
                if size == 0:
                    break
                answer.body += self._exactly(size)
                if self._exactly(2) != b"\r\n":
                    raise Malformed("a chunk does not end where its size says")
            while (line := self._until(b"\r\n")) != b"\r\n":
                answer.trailers += line
        elif lengths:
            if not re.fullmatch(r"0|[1-9][0-9]*", lengths[0]):
                raise Malformed(f"content-length {lengths[0]!r}")
            answer.body = self._exactly(int(lengths[0]))
        else:
            answer.body = self.rest()

    def rest(self, timeout=None):
        """Everything until the other side closes."""
        if timeout is not None:
            self.sock.settimeout(timeout)
        try:
            while True:
                self._more()
        except Closed:
            taken, self.buffer = self.buffer, b""
            return taken

    def closed(self, timeout=5):
        """Whether the other side closes within the time without sending anything more."""
        self.sock.settimeout(timeout)
        try:
            return self.rest() == b""
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(10)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def request(method="GET", target="/", host="localhost", token=None, fields=(), body=None, version="1.1"):
    """A well-formed request as bytes; `fields` may hold anything."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{n}: {v}" for n, v in fields]
    names = [n.lower() for n, _ in fields]
    if body is not None and "content-length" not in names and "transfer-encoding" not in names:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def once(port, data, to="GET", **connection):
    """Sends bytes on a fresh connection and reads one answer."""
    with Wire(port, **connection) as wire:
        wire.send_as_accepted(data)
        return wire.answer(to)

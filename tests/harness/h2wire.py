"""HTTP/2 frame by frame: sends header lists that no library would let through, and reads what comes back."""

import socket
import ssl
import time
from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hpack.struct import NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Stream:
    """What came back on one stream."""

    status: int | None = None
    fields: list = field(default_factory=list)
    informational: list = field(default_factory=list)
    body: bytes = b""
    trailers: list = field(default_factory=list)
    reset: int | None = None
    ended: bool = False

    def value(self, name):
        found = [v for n, v in self.fields if n == name]
        return found[0] if found else None


class H2Wire:
    """One HTTP/2 connection with prior knowledge, or over TLS with ALPN."""

    def __init__(self, port, host="127.0.0.1", tls=None, timeout=10, settings=None, preface=True, server_name="localhost"):
        self.sock = socket.create_connection((host, port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=tls)
            context.set_alpn_protocols(["h2"])
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name)
            assert self.sock.selected_alpn_protocol() == "h2"
        self.encoder, self.decoder = Encoder(), Decoder()
        # What is written must come out as given: neither Huffman nor the dynamic table is the test's concern.
        self.streams, self.goaway, self.closed = {}, None, False
        self.settings, self.pings, self.buffer = {}, 0, b""
        self.pending = b""
        if preface:
            first = SettingsFrame(0)
            first.settings = settings or {}
            self.raw(PREFACE + first.serialize())

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True
        return self

    def frame(self, frame):
        return self.raw(frame.serialize())

    def block(self, fields):
        """A header block of (name, value) pairs exactly as given, never indexed."""
        pairs = [NeverIndexedHeaderTuple(as_bytes(n), as_bytes(v)) for n, v in fields]
        return self.encoder.encode(pairs, huffman=False)

    def headers(self, stream, fields, end=True, body=None):
        """HEADERS, and DATA where a body is given."""
        frame = HeadersFrame(stream, self.block(fields))
        frame.flags.add("END_HEADERS")
        if end and body is None:
            frame.flags.add("END_STREAM")
        self.frame(frame)
        if body is not None:
            self.data(stream, body, end)
        return self

    def data(self, stream, body, end=True):
        frame = DataFrame(stream, body)
        if end:
            frame.flags.add("END_STREAM")
        return self.frame(frame)

    def stream(self, number):
        return self.streams.setdefault(number, Stream())

    def step(self):
        """Reads and takes in one frame; False where the connection is over."""
        try:
            while len(self.buffer) < 9:
                data = self.sock.recv(65536)
                if not data:
                    self.closed = True
                    return False
                self.buffer += data
            frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            while len(self.buffer) < 9 + length:
                data = self.sock.recv(65536)
                if not data:
                    self.closed = True
                    return False
                self.buffer += data
        except ConnectionResetError:
            self.closed = True
            return False
        frame.parse_body(memoryview(self.buffer[9 : 9 + length]))
        self.buffer = self.buffer[9 + length :]
        self.take(frame)
        return True

    def take(self, frame):
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.settings.update(frame.settings)
            reply = SettingsFrame(0)
            reply.flags.add("ACK")
            self.frame(reply)
        elif isinstance(frame, PingFrame):
            if "ACK" in frame.flags:
                self.pings += 1
            else:
                reply = PingFrame(0, frame.opaque_data)
                reply.flags.add("ACK")
                self.frame(reply)
        elif isinstance(frame, (HeadersFrame, ContinuationFrame)):
            self.pending += frame.data
            if "END_HEADERS" in frame.flags:
                self.take_headers(frame)
            if "END_STREAM" in frame.flags:
                self.stream(frame.stream_id).ended = True
        elif isinstance(frame, DataFrame):
            stream = self.stream(frame.stream_id)
            stream.body += frame.data
            stream.ended = stream.ended or "END_STREAM" in frame.flags
            if frame.flow_controlled_length:
                for number in (0, frame.stream_id):
                    self.frame(WindowUpdateFrame(number, frame.flow_controlled_length))
        elif isinstance(frame, RstStreamFrame):
            self.stream(frame.stream_id).reset = frame.error_code
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code

    def take_headers(self, frame):
        fields = [(n, v) for n, v in self.decoder.decode(self.pending)]
        self.pending = b""
        stream = self.stream(frame.stream_id)
        status = [int(v) for n, v in fields if n == ":status"]
        if not status:
            stream.trailers = fields
        elif status[0] < 200:
            stream.informational.append(status[0])
        else:
            stream.status, stream.fields = status[0], fields

    def until(self, condition, seconds=8):
        """Reads frames until the condition holds, the connection ends or the time is over."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.sock.settimeout(left)
            try:
                if not self.step():
                    return condition()
            except TimeoutError:
                return condition()
        return True

    def outcome(self, number, seconds=8):
        """Waits for a stream's end: the stream, whatever became of it."""
        stream = self.stream(number)
        self.until(lambda: stream.ended or stream.reset is not None or (self.goaway or 0) > 0 or self.closed, seconds)
        return stream

    def ping(self):
        """Whether the other side still answers."""
        before = self.pings
        self.frame(PingFrame(0, b"postern!"))
        return self.until(lambda: self.pings > before, 5)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def pseudo(method="GET", path="/", authority="localhost", scheme="http", token=None, extra=()):
    """The usual header list; None leaves a pseudo-header out."""
    pairs = [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    fields = [(n, v) for n, v in pairs if v is not None]
    if token:
        fields.append(("authorization", f"Bearer {token}"))
    return fields + list(extra)

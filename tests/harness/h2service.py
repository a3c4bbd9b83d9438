"""An HTTP/2 service, frame by frame: answers as no library would send them.

Each stream's header block is given to `respond(connection, stream, fields)`, its DATA to `receive(connection, stream, data,
is_last)`; what came before and after is kept.
"""

import socket

from hpack import Decoder, Encoder
from hpack.struct import NeverIndexedHeaderTuple
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PushPromiseFrame, RstStreamFrame, SettingsFrame

from .backend import Listening
from .h2wire import PREFACE, as_bytes

OK = [(":status", "200")]
ENABLE_CONNECT_PROTOCOL = 8


class Connection:
    """One connection from the gateway."""

    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.encoder, self.decoder = Encoder(), Decoder()
        self.buffer = b""
        self.resets, self.pings = {}, 0

    def raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass
        return self

    def frame(self, frame, *flags):
        for flag in flags:
            frame.flags.add(flag)
        return self.raw(frame.serialize())

    def block(self, fields):
        pairs = [NeverIndexedHeaderTuple(as_bytes(n), as_bytes(v)) for n, v in fields]
        return self.encoder.encode(pairs, huffman=False)

    def headers(self, stream, fields=OK, end=False):
        return self.frame(HeadersFrame(stream, self.block(fields)), "END_HEADERS", *(["END_STREAM"] if end else []))

    def data(self, stream, data, end=False):
        return self.frame(DataFrame(stream, data), *(["END_STREAM"] if end else []))

    def answer(self, stream, body=b"fine", fields=OK):
        return self.headers(stream, fields).data(stream, body, end=True)

    def reset(self, stream, code):
        return self.frame(RstStreamFrame(stream, error_code=code))

    def goaway(self, last, code=0):
        return self.frame(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def push(self, stream):
        promise = self.block([(":method", "GET"), (":path", "/pushed"), (":scheme", "http"), (":authority", "a")])
        return self.frame(PushPromiseFrame(stream, promised_stream_id=2, data=promise), "END_HEADERS")

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def _exactly(self, count):
        while len(self.buffer) < count:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError
            self.buffer += data
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


class H2Service(Listening):
    """Listens, and answers by script."""

    SCHEME = "h2c"

    def __init__(self):
        self.connections, self.accepted = [], 0
        self.clear()
        super().__init__()

    def clear(self):
        """Forgets what came, and answers as a good service does from now on."""
        self.greet = lambda connection: connection.frame(SettingsFrame(0))
        self.respond = lambda connection, stream, fields: connection.answer(stream)
        self.receive = lambda connection, stream, data, is_last: None
        self.requests = []
        for connection in self.connections:
            connection.resets = {}

    def serve(self, sock):
        self.accepted += 1
        connection = Connection(sock, self.accepted)
        self.connections.append(connection)
        try:
            assert connection._exactly(len(PREFACE)) == PREFACE
            self.greet(connection)
            while True:
                frame, length = Frame.parse_frame_header(memoryview(connection._exactly(9)))
                frame.parse_body(memoryview(connection._exactly(length)))
                self._take(connection, frame)
        except (OSError, AssertionError, ValueError):
            connection.close()

    def _take(self, connection, frame):
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            connection.frame(SettingsFrame(0), "ACK")
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            connection.pings += 1
            connection.frame(PingFrame(0, opaque_data=frame.opaque_data), "ACK")
        elif isinstance(frame, DataFrame):
            self.receive(connection, frame.stream_id, frame.data, "END_STREAM" in frame.flags)
        elif isinstance(frame, RstStreamFrame):
            connection.resets[frame.stream_id] = frame.error_code
        elif isinstance(frame, HeadersFrame):
            fields = [(as_text(n), as_text(v)) for n, v in connection.decoder.decode(frame.data, raw=True)]
            self.requests.append(fields)
            self.respond(connection, frame.stream_id, fields)

    def stop(self):
        super().stop()
        for connection in self.connections:
            connection.close()


def as_text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else value

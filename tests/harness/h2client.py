"""An HTTP/2 client on the `h2` library, one thread, blocking: for what browsers' clients do not offer (extended CONNECT,
interim answers, bodies in both directions at once)."""

import select
import socket
import time

import h2.config
import h2.connection
import h2.events
import h2.settings


class Reply:
    """What came back on one stream."""

    def __init__(self):
        self.interim, self.status, self.fields, self.trailers = [], None, {}, {}
        self.lines = []
        self.body, self.ended, self.reset = bytearray(), False, None

    @property
    def over(self):
        return self.ended or self.reset is not None


class H2Client:
    """One connection with prior knowledge."""

    def __init__(self, port, token=None, settings=None):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.token = token
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        if settings:
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()
        self.replies, self.closed, self.acknowledges = {}, False, True
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        while data:
            # A peer that does not read while it writes would stop both sides for good.
            readable, writable, _ = select.select([self.sock], [self.sock], [], 10)
            if readable:
                self.take()
            if writable:
                data = data[self.sock.send(data[:65536]) :]
            if not readable and not writable:
                raise TimeoutError("the gateway neither reads nor writes")
            data += self.h2.data_to_send()

    def open(self, method, path, fields=(), end=True, token=None, **pseudo):
        """Begins a stream; its number."""
        stream = self.h2.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":authority": "localhost", ":path": path}
        head |= {f":{name}": value for name, value in pseudo.items()}
        token = token or self.token
        fields = [*head.items(), *fields, *([("authorization", f"Bearer {token}")] if token else [])]
        self.replies[stream] = Reply()
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        """Sends data as the windows open."""
        view = memoryview(bytes(data))
        while True:
            if self.replies[stream].reset is not None:
                return
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(view))
            if room or not len(view):
                self.h2.send_data(stream, view[:room].tobytes(), end_stream=end and room == len(view))
                self.flush()
                view = view[room:]
                if not len(view):
                    return
            elif not self.step():
                raise ConnectionError("the connection ended in the middle of a body")

    def reset(self, stream, code=8):
        self.h2.reset_stream(stream, code)
        self.flush()

    def step(self, seconds=10):
        """Waits for something to read and takes it in; False where the connection is over or nothing came."""
        readable, _, _ = select.select([self.sock], [], [], seconds)
        if not readable:
            return False
        self.take()
        self.flush()
        return not self.closed

    def take(self):
        data = self.sock.recv(1 << 20)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.note(event)

    def note(self, event):
        stream = getattr(event, "stream_id", None)
        reply = self.replies.get(stream)
        match event:
            case h2.events.InformationalResponseReceived():
                reply.interim.append(dict(event.headers))
            case h2.events.ResponseReceived():
                reply.lines, reply.fields = list(event.headers), dict(event.headers)
                reply.status = int(reply.fields[":status"])
            case h2.events.DataReceived():
                reply.body += event.data
                if self.acknowledges:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            case h2.events.TrailersReceived():
                reply.trailers = dict(event.headers)
            case h2.events.StreamEnded():
                reply.ended = True
            case h2.events.StreamReset():
                reply.reset = int(event.error_code)
            case h2.events.ConnectionTerminated():
                self.closed = True

    def until(self, condition, seconds=10):
        """Reads until the condition holds; whether it does."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or not self.step(left):
                return condition()
        return True

    def reply(self, stream, seconds=10):
        """Waits for a stream's end."""
        reply = self.replies[stream]
        self.until(lambda: reply.over, seconds)
        return reply

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

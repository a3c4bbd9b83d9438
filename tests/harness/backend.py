"""Services to stand behind the gateway.

`Recorder` keeps every byte that reaches it, and answers by script. It reads requests leniently on purpose: what a
strict gateway lets through is judged on the raw bytes, not on what this parser makes of them.
"""

import re
import socket
import threading
from dataclasses import dataclass, field


@dataclass
class Received:
    """One request as the service read it."""

    head: bytes
    body: bytes = b""
    trailers: bytes = b""
    connection: int = 0

    @property
    def line(self):
        return self.head.split(b"\r\n", 1)[0]

    @property
    def method(self):
        return self.line.split(b" ")[0].decode()

    @property
    def target(self):
        return self.line.split(b" ")[1].decode()

    @property
    def fields(self):
        """(name, value) pairs as sent, in order."""
        pairs = []
        for line in self.head.split(b"\r\n")[1:]:
            if line:
                name, _, value = line.partition(b":")
                pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs

    def values(self, name):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def value(self, name):
        found = self.values(name)
        return found[0] if found else None


class EndOfStream(Exception):
    pass


class Reader:
    """Reads a socket by line and by count, and remembers every byte."""

    def __init__(self, sock, keep):
        self.sock, self.keep, self.buffer = sock, keep, b""

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise EndOfStream
        self.keep(data)
        self.buffer += data

    def until(self, mark):
        while mark not in self.buffer:
            self.more()
        at = self.buffer.index(mark) + len(mark)
        taken, self.buffer = self.buffer[:at], self.buffer[at:]
        return taken

    def exactly(self, count):
        while len(self.buffer) < count:
            self.more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken


def answer(status=200, body=b"from the service", fields=(), reason="OK"):
    """A well-formed response as bytes."""
    head = f"HTTP/1.1 {status} {reason}\r\n".encode()
    names = [n.lower() for n, _ in fields]
    for name, value in fields:
        head += f"{name}: {value}\r\n".encode("latin-1")
    if "content-length" not in names and "transfer-encoding" not in names and status not in (204, 304):
        head += f"Content-Length: {len(body)}\r\n".encode()
    return head + b"\r\n" + body


def close_listener(listener):
    """Ends a listener for good: while another thread waits in `accept`, closing alone leaves it open."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    listener.close()


class Recorder:
    """An HTTP/1.1 service that records. `respond(request) -> bytes | callable(sock) | None` may be replaced at any
    time; bytes are sent as they are, a callable gets the socket, None closes the connection without an answer."""

    def __init__(self, respond=None, host="127.0.0.1", port=0):
        self.respond = respond or self.default
        self.requests, self.raw, self.open_sockets = [], [], []
        self.lock = threading.Lock()
        self.listener = socket.create_server((host, port), backlog=256)
        self.host, self.port = self.listener.getsockname()[:2]
        self.stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def bytes(self):
        """Every byte of every connection."""
        with self.lock:
            return b"\n--- connection ---\n".join(bytes(r) for r in self.raw)

    @property
    def connections(self):
        return len(self.raw)

    @staticmethod
    def default(request):
        body = b"" if request.method == "HEAD" else f"{request.method} {request.target}".encode()
        if request.method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"
        return answer(body=body)

    def clear(self):
        """Forgets what was recorded; open connections go on being recorded."""
        with self.lock:
            self.requests.clear()
            for record in self.raw:
                record.clear()

    def _accept(self):
        while not self.stopped:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            record = bytearray()
            with self.lock:
                self.raw.append(record)
                self.open_sockets.append(sock)
                number = len(self.raw)
            threading.Thread(target=self._serve, args=(sock, record, number), daemon=True).start()

    def _serve(self, sock, record, number):
        def keep(data):
            with self.lock:
                record.extend(data)

        reader = Reader(sock, keep)
        try:
            while True:
                request = self.read(reader, sock, number)
                with self.lock:
                    self.requests.append(request)
                reply = self.respond(request)
                if reply is None:
                    break
                if callable(reply):
                    if reply(sock) == "close":
                        break
                else:
                    sock.sendall(reply)
                    if b"connection: close" in reply.lower():
                        break
        except (EndOfStream, OSError, ValueError):
            pass
        finally:
            sock.close()

    def read(self, reader, sock, number):
        head = reader.until(b"\r\n\r\n")
        request = Received(head=head[:-2], connection=number)
        lowered = head.lower()
        if b"expect: 100-continue" in lowered:
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if re.search(rb"\r\ntransfer-encoding:[^\r]*chunked", lowered):
            while True:
                size = int(reader.until(b"\r\n").split(b";")[0], 16)
                if size == 0:
                    break
                request.body += reader.exactly(size)
                reader.until(b"\r\n")
            while (line := reader.until(b"\r\n")) != b"\r\n":
                request.trailers += line
        else:
            length = re.search(rb"\r\ncontent-length: *(\d+)", lowered)
            if length:
                request.body = reader.exactly(int(length.group(1)))
        return request

    def stop(self):
        self.stopped = True
        close_listener(self.listener)
        with self.lock:
            for sock in self.open_sockets:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Listening:
    """Listens, and gives each connection to `serve(sock)` in a thread of its own."""

    SCHEME = "http"

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"{self.SCHEME}://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def stop(self):
        close_listener(self.listener)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Scripted(Listening):
    """A service that speaks nonsense: after each request head it runs `script(sock, head)` and closes."""

    def __init__(self, script):
        self.script, self.heads = script, []
        super().__init__()

    def serve(self, sock):
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                data = sock.recv(65536)
                if not data:
                    return
                head += data
            self.heads.append(head)
            self.script(sock, head)
        except OSError:
            pass
        finally:
            sock.close()

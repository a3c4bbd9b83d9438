"""One request over either version of HTTP: what is asked of a test is asked of both alike."""

from .h2client import H2Client


class Http1:
    """One request on a connection of its own, with a chunked body where it has trailers."""

    def __init__(self, gate, target):
        self.gate, self.target = gate, target

    def send(self, method, token=None, fields=(), body=None, trailers=None):
        """The answer's status, body and trailers."""
        answer = self.answer(method, token, fields, body, trailers)
        return answer.status, answer.body, answer.trailers.decode().lower()

    def answer(self, method, token=None, fields=(), body=None, trailers=None):
        data = f"{method} {self.target} HTTP/1.1\r\nHost: localhost\r\n"
        data += f"Authorization: Bearer {token}\r\n" if token else ""
        data += "".join(f"{name}: {value}\r\n" for name, value in fields)
        if trailers is not None:
            data += "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
            data += "".join(f"{name}: {value}\r\n" for name, value in trailers) + "\r\n"
        elif body is not None:
            data += f"Content-Length: {len(body)}\r\n\r\n{body}"
        else:
            data += "\r\n"
        with self.gate.wire() as wire:
            return wire.send_as_accepted(data.encode()).answer(method)


class Http2:
    """The same as a stream of HTTP/2, on a connection of its own."""

    def __init__(self, gate, target):
        self.gate, self.target = gate, target

    def send(self, method, token=None, fields=(), body=None, trailers=None):
        """The answer's status, body and trailers."""
        reply = self.answer(method, token, fields, body, trailers)
        assert reply.status, f"reset with {reply.reset}"
        return reply.status, bytes(reply.body), "".join(f"{name}: {value}\r\n" for name, value in reply.trailers.items())

    def answer(self, method, token=None, fields=(), body=None, trailers=None):
        with H2Client(self.gate.port, token) as client:
            client.h2.config.validate_outbound_headers = False
            stream = client.open(method, self.target, fields, end=trailers is None and body is None)
            if trailers is not None:
                client.send(stream, b"ok")
                client.h2.send_headers(stream, trailers, end_stream=True)
                client.flush()
            elif body is not None:
                client.send(stream, body.encode(), end=True)
            return client.reply(stream)

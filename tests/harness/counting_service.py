"""A service of its own process, to be killed: `http.server` that writes down each request before it does anything else.

    python counting_service.py PORT FILE

Each line of FILE is a method and an `X-Id`, written before the answer is begun: what reached the service is on record even
if it is killed in the middle. The answer goes out in one piece after a little while, so that there is a middle.
"""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, record = int(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave together: an answer is there whole or not at all.
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self):
        os.write(record, f"{self.command} {self.headers['X-Id']}\n".encode())
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(0.01)
        self.send_response(200)
        body = body or b"counted"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", port), Handler).serve_forever()

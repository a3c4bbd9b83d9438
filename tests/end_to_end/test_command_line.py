"""Every command: what it prints, as text and as JSON, and its exit code. 0 done or allowed, 1 refused or denied, 2 usage,
3 failed; results on standard output, everything else on standard error."""

import json

import pytest

from harness import forge
from harness.binary import postern
from harness.gate import Gate

COMMANDS = ["demo", "proxy", "serve", "init", "mint", "attenuate", "seal", "inspect", "check", "lint", "revoke", "keys",
            "log", "config", "completions", "ledger"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    done = postern(command, "--help").ok()
    assert f"postern {command}" in done.out, "no example"
    assert "Usage" in done.out and done.err == ""


def test_without_arguments_it_says_what_it_is_and_what_to_try():
    done = postern().ok()
    assert "postern demo" in done.out and "postern proxy" in done.out


def test_help_and_version():
    shown = postern("--help").ok().out
    missing = [c for c in COMMANDS if c not in shown]
    assert not missing, f"not in the overview: {missing}"
    assert postern("--version").ok().out.startswith("postern ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(shell):
    done = postern("completions", shell).ok()
    assert "attenuate" in done.out


@pytest.mark.parametrize("args", [
    ["nonsense"], ["mint"], ["mint", "Orders!"], ["mint", "orders", "--expires", "soon"], ["mint", "orders", "--allow", "get"],
    ["mint", "orders", "--path", "relative"], ["mint", "orders", "--client", "10.0.0.0/99"], ["mint", "orders", "--max-body", "x"],
    ["attenuate"], ["check", "-"], ["proxy"], ["proxy", "ftp://x"], ["proxy", "not a url"], ["serve", "--nonsense"],
    ["revoke"], ["keys"], ["keys", "retire"], ["completions", "nonsense"],
])
def test_wrong_usage_is_2_and_says_what_is_wrong(gate, args):
    done = gate.run(*args)
    assert done.code == 2, (done.code, done.out, done.err)
    assert len(done.err.strip()) > 10 and done.out == ""


def test_init_makes_a_private_state_folder_and_keeps_it(tmp_path):
    state = tmp_path / "state"
    postern("init", state=state).ok()
    assert (state / "root.key").read_text().startswith("ed25519-private/")
    assert (state / "root.pub").read_text().startswith("ed25519/")
    key = (state / "root.key").read_text()
    again = postern("init", state=state)
    assert (state / "root.key").read_text() == key, "a second init replaced the root key"
    assert again.code in (0, 1, 3)
    postern("inspect", "--token-file", state / "admin.token", state=state).ok()


def test_a_token_comes_from_an_argument_stdin_a_file_or_the_environment(gate, token, tmp_path):
    (tmp_path / "t").write_text(token + "\n")
    given = [gate.run("inspect", "--json", token), gate.run("inspect", "--json", "-", stdin=token + "\n"),
             gate.run("inspect", "--json", "--token-file", tmp_path / "t"), gate.run("inspect", "--json", env={"POSTERN_TOKEN": token})]
    assert len({done.ok().out for done in given}) == 1


def test_mint_prints_the_token_and_nothing_else(gate):
    done = gate.run("mint", "orders", "--allow", "GET,POST", "--expires", "1h").ok()
    assert len(done.out.split()) == 1
    as_json = gate.run("mint", "orders", "--json").ok().json
    assert gate.get("/orders/x", as_json["token"]).status == 200


def test_mint_through_the_admin_api_with_an_admin_capability(gate, tmp_path):
    """Without the root key: on another machine there is only the admin capability."""
    done = postern("mint", "orders", "--allow", "GET", "--via", gate.admin_url, "--token-file", gate.state / "admin.token", cwd=tmp_path,
                   state=tmp_path / "empty")
    assert done.code == 0, done.err
    assert gate.get("/orders/x", done.out.strip()).status == 200
    assert gate.get("/orders/x", done.out.strip(), method="POST", body=b"").status == 403


CAVEATS = [
    (["--expires", "10m"], {}, 0), (["--expires", "2020-01-01T00:00:00Z"], {}, 1),
    (["--not-before", "2020-01-01T00:00:00Z"], {}, 0), (["--not-before", "2100-01-01T00:00:00Z"], {}, 1),
    (["--method", "GET,HEAD"], {}, 0), (["--method", "POST"], {}, 1),
    (["--path", "/v1/orders/42"], {}, 0), (["--path", "/v1/orders"], {}, 1), (["--path", "/v1/**"], {}, 0),
    (["--path", "/v1/orders/42/**"], {}, 0), (["--path", "/v1/orders/4/**"], {}, 1), (["--path", "/x", "--path", "/v1/**"], {}, 0),
    (["--query", "page=2"], {"query": "page=2"}, 0), (["--query", "page=2"], {"query": "page=3"}, 1),
    (["--check", 'check if operation("GET")'], {}, 0), (["--check", 'check if operation("PUT")'], {}, 1),
    (["--no-upgrade"], {}, 0),
]


@pytest.mark.parametrize("flags, message, code", CAVEATS, ids=[" ".join(c[0]) + str(c[1].get("query", "")) for c in CAVEATS])
def test_attenuate_and_check_offline(gate, token, flags, message, code):
    child = gate.attenuate(token, *flags)
    asked = ["check", "-", "--resource", "orders", "--method", "GET", "--path", "/v1/orders/42"]
    if "query" in message:
        asked += ["--query", message["query"]]
    done = gate.run(*asked, stdin=child)
    assert done.code == code, done.out + done.err
    verdict = gate.run(*asked, "--json", stdin=child)
    assert verdict.code == code and isinstance(verdict.json, dict)
    target = "/orders/v1/orders/42" + (f"?{message['query']}" if "query" in message else "")
    assert (gate.get(target, child).status == 200) == (code == 0), "the command line and the gateway disagree"


def test_check_says_which_caveat_stops_it(gate, token):
    child = gate.attenuate(token, "--path", "/v1/**")
    done = gate.run("check", "-", "--resource", "orders", "--method", "GET", "--path", "/v2", stdin=child)
    assert done.code == 1 and "/v1" in done.out + done.err


def test_inspect_tells_rights_caveats_ids_and_price(gate, token):
    child = gate.attenuate(token, "--path", "/v1/**", "--expires", "1h")
    text = gate.run("inspect", "-", stdin=child).ok().out
    for word in ("orders", "/v1", "price"):
        assert word in text.lower(), word
    data = gate.run("inspect", "-", "--json", stdin=child).ok().json
    assert len(data["blocks"]) >= 2 and all(len(b["revocation_id"]) == 128 for b in data["blocks"])
    assert child.rstrip("=") not in text


def test_inspect_escapes_what_a_token_says(gate, token):
    """A caveat's text is a stranger's: printed raw it could write into the reader's terminal, or read as another one."""
    evil = forge.append(gate.state, token, 'check if path("\x1b[2J\\" || true || \\"");')
    for args in (["inspect", "-"], ["lint", "-"], ["check", "-", "--resource", "orders", "--method", "GET", "--path", "/x"]):
        done = gate.run(*args, stdin=evil)
        assert "\x1b" not in done.out + done.err
    answer = gate.get("/orders/x", evil)
    assert answer.status == 403 and b"\x1b" not in answer.body


@pytest.mark.parametrize("flags, word", [
    (["--method", "GET", "--method-again"], None),
    (["--expires", "2020-01-01T00:00:00Z"], "expire"),
    (["--not-before", "2100-01-01T00:00:00Z", "--expires", "1h"], ""),
])
def test_lint_finds_what_can_never_pass(gate, token, flags, word):
    if word is None:
        twice = gate.attenuate(gate.attenuate(token, "--method", "GET"), "--method", "POST")
        done = gate.run("lint", "-", stdin=twice)
    else:
        done = gate.run("lint", "-", stdin=gate.attenuate(token, *flags))
    assert done.code == 1 and (done.out + done.err).strip()
    assert (word or "") in (done.out + done.err).lower()


def test_lint_is_content_with_a_good_token(gate, token):
    gate.run("lint", "-", stdin=token).ok()
    assert gate.run("lint", "-", "--json", stdin=token).ok().json is not None


def test_revoke_by_token_by_id_and_by_block(gate):
    token = gate.mint("orders")
    assert gate.run("revoke", token, "--json").ok().json
    assert gate.get("/orders/x", token).status == 401
    other = gate.mint("orders")
    ids = [b["revocation_id"] for b in gate.run("inspect", "-", "--json", stdin=other).json["blocks"]]
    gate.run("revoke", ids[0]).ok()
    assert gate.get("/orders/x", other).status == 401


def test_revoke_without_a_gateway_fails_in_words(gate, token, tmp_path):
    done = gate.run("revoke", "-", stdin=token, env={"POSTERN_ADMIN": "http://127.0.0.1:1"})
    assert done.code == 3 and "127.0.0.1:1" in done.err


def test_keys_list_rotate_retire(recorder):
    with Gate({"orders": recorder}) as gate:
        before = gate.run("keys", "list", "--json").ok().json
        gate.run("keys", "rotate").ok()
        after = gate.run("keys", "list", "--json").ok().json
        assert len(str(after)) > len(str(before))
        assert "ed25519/" in gate.run("keys", "list").ok().out
        wrong = gate.run("keys", "retire", "4000000000")
        assert wrong.code in (1, 3) and wrong.err.strip()


def test_log_as_text_and_json(gate, token):
    gate.revoke(gate.mint("orders"))
    assert gate.run("log").ok().out.strip()
    for line in gate.run("log", "--json").ok().out.strip().splitlines():
        json.loads(line)


def test_config_check(gate, tmp_path):
    gate.run("config", "check", "--config", gate.config).ok()
    bad = tmp_path / "bad.toml"
    bad.write_text('listen = ["nonsense"]\nunknown = 1\n[resource.orders]\nupstream = ["http://x:y"]\nprefx = "/x"\n')
    done = gate.run("config", "check", "--config", bad)
    assert done.code == 1
    shown = done.out + done.err
    for word in ("line 1", "listen", "line 2", "unknown", "line 4", "upstream", "line 5", "prefx", "prefix"):
        assert word in shown, f"{word} is missing in:\n{shown}"


def test_results_and_messages_do_not_mix(gate, token):
    assert gate.run("attenuate", "-", "--method", "GET", stdin=token).ok().err == ""
    bad = gate.run("attenuate", "-", "--method", "GET", stdin="nonsense")
    assert bad.code == 1 and bad.out == "" and bad.err.strip()

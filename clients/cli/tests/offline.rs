//! The commands that need no gateway, through the real binary: exit codes, the shapes of `--json`, what bad input is
//! answered with, and that no secret is said where it should not be.

// The helpers below are tests too, though they do not carry the mark that lets a test unwrap.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder to run in, with a state folder once `init` has run.
struct Place {
    folder: TempDir,
}

impl Place {
    fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with_state() -> Self {
        let place = Self::empty();
        place.done(&["init"]);
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.current_dir(self.folder.path());
        // What a developer has set must not decide a test.
        for variable in ["POSTERN_STATE", "POSTERN_TOKEN", "POSTERN_ADMIN", "POSTERN_ADMIN_CA", "POSTERN_LOG"] {
            command.env_remove(variable);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn run_with_stdin(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that refuses its arguments does not read, and the pipe breaks: also an answer.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(arguments)).unwrap()
    }

    /// The sentence of a command that must fail with this code, and print no result.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let sentence = stderr(&output);
        // Whoever retires a key is told first what that ends.
        let (notes, error) = sentence.split_at(sentence.find("error: ").expect("an error is said"));
        assert!(
            notes.lines().all(|line| line.starts_with("note: ") || line.starts_with("Retiring key ")),
            "{sentence}"
        );
        error.to_owned()
    }

    /// A token in a file, for its owner alone.
    fn mint(&self, name: &str, arguments: &[&str]) {
        self.done(&[&["mint", "--out", name], arguments].concat());
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn without_arguments_it_says_where_to_begin() {
    let shown = Place::empty().done(&[]);
    assert!(shown.contains("postern demo") && shown.contains("postern proxy"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours are for terminals");
}

#[test]
fn init_makes_a_state_folder_once() {
    let place = Place::empty();
    let first = place.json(&["init", "--json"]);
    assert_eq!(first["made"], serde_json::json!(["root.key", "root.pub", "admin.token"]));
    let key = fs::read_to_string(place.path(".postern/root.key")).unwrap();
    let second = place.json(&["init", "--json"]);
    assert_eq!(second["made"], serde_json::json!([]));
    assert_eq!(second["public_key"], first["public_key"]);
    assert_eq!(fs::read_to_string(place.path(".postern/root.key")).unwrap(), key);
    assert_eq!(mode(&place.path(".postern")), 0o700);
    assert_eq!(mode(&place.path(".postern/root.key")), 0o600);
    assert_eq!(mode(&place.path(".postern/admin.token")), 0o600);
}

#[test]
fn the_state_folder_comes_from_flag_then_environment_then_default() {
    let place = Place::empty();
    let in_environment = |arguments: &[&str]| {
        let output = place.command().args(arguments).env("POSTERN_STATE", "env").output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    };
    in_environment(&["init"]);
    in_environment(&["init", "--state", "flag"]);
    assert!(place.path("env/root.key").exists() && place.path("flag/root.key").exists());
    assert!(!place.path(".postern").exists());
}

#[test]
fn mint_attenuate_check_and_seal_work_together() {
    let place = Place::with_state();
    place.mint("full.token", &["orders", "--allow", "GET,POST"]);
    assert_eq!(mode(&place.path("full.token")), 0o600);
    place.done(&[
        "attenuate",
        "--token-file",
        "full.token",
        "--path",
        "/v1/**",
        "--method",
        "GET",
        "--out",
        "read.token",
    ]);
    let check = ["check", "--token-file", "read.token", "--resource", "orders", "--path"];
    place.done(&[&check[..], &["/v1/42"]].concat());

    let denied = place.run(&[&check[..], &["/v2", "--method", "POST", "--json"]].concat());
    assert_eq!(denied.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&stdout(&denied)).unwrap();
    assert_eq!((&verdict["allowed"], &verdict["type"]), (&Value::Bool(false), &Value::from("not-permitted")));
    let stopped_by: Vec<_> = verdict["caveats"].as_array().unwrap().iter().map(|c| c["block"].as_u64()).collect();
    assert_eq!(stopped_by, [Some(1), Some(1)], "both caveats of the appended block are named");

    let elsewhere = place.run(&["check", "--token-file", "read.token", "--resource", "invoices", "--json"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&stdout(&elsewhere)).unwrap();
    assert_eq!(verdict["type"], "not-found");

    let sealed = place.done(&["seal", "--token-file", "read.token"]);
    let again = place.run_with_stdin(&["attenuate", "-", "--method", "GET"], &sealed);
    assert_eq!(again.status.code(), Some(1), "a sealed token cannot be narrowed");
    assert!(stderr(&again).contains("sealed"), "{}", stderr(&again));
}

#[test]
fn a_token_comes_from_argument_stdin_file_or_environment() {
    let place = Place::with_state();
    let token = place.done(&["mint", "orders"]);
    let token = token.trim();
    fs::write(place.path("t"), token).unwrap();
    let by_argument = place.done(&["inspect", token]);
    assert_eq!(place.done(&["inspect", "--token-file", "t"]), by_argument);
    assert_eq!(stdout(&place.run_with_stdin(&["inspect", "-"], &format!("\n{token}\n"))), by_argument);
    let by_variable = place.command().arg("inspect").env("POSTERN_TOKEN", token).output().unwrap();
    assert_eq!(stdout(&by_variable), by_argument);
    place.fails(2, &["inspect"]);
    place.fails(2, &["inspect", token, "--token-file", "t"]);
    assert!(place.fails(3, &["inspect", "--token-file", "none"]).contains("none"));
    let note = stderr(&place.run(&["inspect", "--token-file", "t"]));
    assert!(note.contains("chmod 600 t"), "{note}");
}

#[test]
fn json_has_its_documented_shapes() {
    let place = Place::with_state();
    let minted = place.json(&["mint", "orders", "--expires", "1h", "--json"]);
    assert!(minted["token"].is_string());
    assert_eq!(minted["revocation_ids"].as_array().unwrap().len(), 1);
    let filed = place.json(&["mint", "orders", "--json", "--out", "t"]);
    assert_eq!((&filed["file"], &filed["token"]), (&Value::from("t"), &Value::Null));

    let inspected = place.json(&["inspect", "--json", minted["token"].as_str().unwrap()]);
    assert_eq!(inspected["signature"]["state"], "verified");
    assert_eq!(inspected["content"]["state"], "admitted");
    assert_eq!(inspected["content"]["rights"], serde_json::json!([{"resource": "orders", "operation": "*"}]));
    assert_eq!(inspected["blocks"][0]["revocation_id"], minted["revocation_ids"][0]);

    assert_eq!(place.json(&["lint", "--json", "--token-file", "t"]), serde_json::json!({ "findings": [] }));
    let keys = place.json(&["keys", "list", "--json"]);
    assert_eq!((&keys["keys"][0]["id"], &keys["keys"][0]["state"]), (&Value::from(0), &Value::from("minting")));
}

#[test]
fn lint_finds_what_can_never_pass() {
    let place = Place::with_state();
    place.mint("t", &["orders", "--allow", "GET", "--method", "POST"]);
    let found = place.run(&["lint", "--token-file", "t"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(stdout(&found).starts_with("useless"), "{}", stdout(&found));
}

#[test]
fn without_a_gateway_a_revocation_goes_into_the_ledger_and_holds() {
    let place = Place::with_state();
    place.mint("parent", &["orders"]);
    place.done(&["attenuate", "--token-file", "parent", "--method", "GET", "--out", "child"]);
    let revoked = place.json(&["revoke", "--token-file", "child", "--json"]);
    assert_eq!(revoked["in_force"], "at the next start");
    let check = |token: &str| place.run(&["check", "--token-file", token, "--resource", "orders"]).status.code();
    assert_eq!((check("child"), check("parent")), (Some(1), Some(0)));

    let log = place.done(&["log", "--json"]);
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.last().unwrap()["event"], "revoked");
    assert_eq!(events.last().unwrap()["id"], revoked["revoked"][0]);
    let report = place.json(&["ledger", "verify", "--json"]);
    assert_eq!((&report["damage"], &report["revoked"]), (&serde_json::json!([]), &Value::from(1)));

    place.done(&["revoke", "--token-file", "parent", "--block", "0"]);
    assert_eq!(check("parent"), Some(1));
    place.fails(2, &["revoke", "--token-file", "child", "--block", "9"]);
    // A gateway that was named is meant, and no ledger will do in its place.
    place.fails(3, &["revoke", "--token-file", "child", "--admin", "http://127.0.0.1:1"]);
}

#[test]
fn keys_rotate_and_retire_without_a_gateway() {
    let place = Place::with_state();
    place.mint("old", &["orders"]);
    let secret = fs::read_to_string(place.path(".postern/root.key")).unwrap();
    let admin = fs::read_to_string(place.path(".postern/admin.token")).unwrap();
    place.done(&["keys", "rotate"]);
    assert_ne!(fs::read_to_string(place.path(".postern/root.key")).unwrap(), secret, "the old secret is gone");
    assert_ne!(fs::read_to_string(place.path(".postern/admin.token")).unwrap(), admin);
    place.mint("new", &["orders"]);
    let check = |token: &str| place.run(&["check", "--token-file", token, "--resource", "orders"]).status.code();
    assert_eq!((check("old"), check("new")), (Some(0), Some(0)));
    place.done(&["keys", "retire", "0"]);
    assert_eq!((check("old"), check("new")), (Some(1), Some(0)));
    assert!(place.fails(1, &["keys", "retire", "1"]).contains("mints"));
    assert!(place.fails(1, &["keys", "retire", "7"]).contains('7'));
}

#[test]
fn a_root_key_that_others_can_read_stops_everything_that_would_use_it() {
    let place = Place::with_state();
    let key = place.path(".postern/root.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(place.path("postern.toml"), "[resource.orders]\nupstream = [\"http://127.0.0.1:1\"]\n").unwrap();
    for arguments in [&["mint", "orders"][..], &["serve"], &["proxy", "http://127.0.0.1:1"], &["keys", "rotate"]] {
        let sentence = place.fails(3, arguments);
        assert!(sentence.contains("root.key") && sentence.contains("chmod 600"), "{arguments:?}: {sentence}");
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "ed25519-private/secretcanary\n").unwrap();
    let sentence = place.fails(3, &["mint", "orders"]);
    assert!(!sentence.contains("canary"), "{sentence}");
    fs::remove_file(&key).unwrap();
    assert!(place.fails(3, &["mint", "orders"]).contains("postern init"));
}

#[test]
fn what_is_mistyped_is_answered_with_a_sentence() {
    let place = Place::with_state();
    place.mint("t", &["orders"]);
    for (code, arguments, says) in [
        (2, &["mint"][..], "RESOURCE"),
        (2, &["mint", "Orders"], "lower-case"),
        (2, &["mint", "orders", "--allow", "get"], "--allow"),
        (2, &["mint", "orders", "postern"], "postern"),
        (2, &["mint", "orders", "--expires", "soon"], "--expires"),
        (2, &["mint", "orders", "--path", "/a/*/b"], "--path"),
        (2, &["mint", "orders", "--client", "300.0.0.1"], "--client"),
        (2, &["mint", "orders", "--check", "reject if true"], "check"),
        (2, &["attenuate", "--token-file", "t"], "caveat"),
        (2, &["check", "--token-file", "t", "--resource", "orders", "--path", "/a/../b"], "400"),
        (2, &["check", "--token-file", "t"], "--resource"),
        (2, &["revoke", "00ff"], "128"),
        (2, &["proxy", "localhost:3000"], "http://"),
        (2, &["proxy", "http://a", "http://b"], "name"),
        (2, &["mint", "orders", "--via", "ftp://example.com"], "http://"),
        (2, &["frobnicate"], "frobnicate"),
        (3, &["mint", "orders", "--state", "nowhere"], "postern init"),
        (3, &["mint", "orders", "--out", "t"], "already"),
        (3, &["serve", "--config", "none.toml"], "none.toml"),
        (3, &["keys", "list", "--admin", "http://127.0.0.1:1"], "does not answer"),
    ] {
        let sentence = place.fails(code, arguments);
        assert!(sentence.contains(says), "{arguments:?}: {sentence}");
    }
}

#[test]
fn a_token_is_not_echoed_by_anything_that_goes_wrong() {
    let place = Place::with_state();
    let token = place.done(&["mint", "orders"]);
    let token = token.trim();
    let cut = &token[..token.len() - 40];
    let in_option = format!("--tokne={token}");
    for arguments in [
        &["inspect", "--tokne", token][..],
        &["inspect", in_option.as_str()],
        &["inspect", token, token],
        &["check", token],
        &["mint", token],
        &["mint", "orders", "--allow", token],
        &["proxy", token],
        &["keys", token],
        &["keys", "retire", token],
        &["inspect", cut],
        &["attenuate", cut, "--method", "GET"],
        &["revoke", cut],
        &["lint", cut],
        &[token],
    ] {
        let output = place.run(arguments);
        assert_ne!(output.status.code(), Some(0), "{:?}", &arguments[..1]);
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.contains(&token[..60]), "{:?} repeats the token: {said}", &arguments[..1]);
    }
    let inspected = place.done(&["inspect", token, "--json"]);
    assert!(!inspected.contains(&token[..60]), "inspect shows what a token says, never the token");
}

#[test]
fn a_configuration_is_checked_whole() {
    let place = Place::empty();
    assert!(place.fails(3, &["config", "check"]).contains("postern config default"));
    fs::write(place.path("postern.toml"), place.done(&["config", "default"])).unwrap();
    place.done(&["config", "check"]);
    fs::write(place.path("bad.toml"), "lisen = 1\n[resource.Orders]\nupstream = []\n").unwrap();
    let bad = place.run(&["config", "check", "--config", "bad.toml", "--json"]);
    assert_eq!(bad.status.code(), Some(1));
    let verdict: Value = serde_json::from_str(&stdout(&bad)).unwrap();
    assert_eq!(verdict["ok"], false);
    assert!(verdict["mistakes"].as_array().unwrap().len() >= 2, "{verdict}");
    assert_eq!(verdict["mistakes"][0]["line"], 1);
}

#[test]
fn completions_and_help_are_there_for_every_command() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.done(&["completions", shell]).contains("attenuate"));
    }
    let all = "demo proxy serve init mint attenuate seal inspect check lint revoke keys log ledger config completions";
    let help = place.done(&["--help"]);
    for command in all.split(' ') {
        assert!(help.contains(command), "{command} is not in the help");
        assert!(place.done(&[command, "--help"]).contains("postern "), "{command} has no example");
    }
    assert!(place.done(&["--version"]).starts_with("postern "));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::empty();
    let mut child = place.command().args(["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A state folder on which revocations were recorded.
fn used() -> (Place, String) {
    let place = Place::with_state();
    place.mint("t", &["orders"]);
    place.done(&["revoke", "--token-file", "t"]);
    let key = fs::read_to_string(place.path(".postern/root.key")).unwrap();
    (place, key)
}

#[test]
fn a_lost_ledger_is_not_replaced_by_one_that_has_forgotten_every_revocation() {
    let (place, _) = used();
    let ledger = place.path(".postern/ledger.db");
    let lines: [&[&str]; 5] = [
        &["revoke", "--token-file", "t"],
        &["keys", "rotate"],
        &["log"],
        &["ledger", "verify"],
        &["check", "--token-file", "t", "--resource", "orders"],
    ];
    fs::remove_file(&ledger).unwrap();
    for line in lines {
        let sentence = place.fails(3, line);
        assert!(sentence.contains("ledger.db") && sentence.contains("keys.json"), "{sentence}");
        assert!(!ledger.exists(), "{line:?}");
    }
    fs::write(&ledger, "").unwrap();
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o600)).unwrap();
    for line in lines {
        let sentence = place.fails(3, line);
        assert!(sentence.contains("is empty") && sentence.contains("keys.json"), "{line:?}: {sentence}");
    }
    // What the sentence says works.
    fs::remove_file(&ledger).unwrap();
    fs::remove_file(place.path(".postern/ledger.mark")).unwrap();
    fs::remove_file(place.path(".postern/keys.json")).unwrap();
    place.done(&["check", "--token-file", "t", "--resource", "orders"]);
    place.done(&["revoke", "--token-file", "t"]);
}

#[test]
fn a_lost_root_key_is_not_replaced() {
    let (place, key) = used();
    fs::remove_file(place.path(".postern/root.key")).unwrap();
    let before = fs::read_to_string(place.path(".postern/root.pub")).unwrap();
    for line in [&["init"][..], &["proxy", "http://127.0.0.1:1"]] {
        let sentence = place.fails(3, line);
        assert!(sentence.contains("root.key") && sentence.contains("ledger.db"), "{sentence}");
    }
    fs::remove_file(place.path(".postern/ledger.db")).unwrap();
    assert!(place.fails(3, &["init"]).contains("keys.json"));
    assert!(!place.path(".postern/root.key").exists());
    assert_eq!(fs::read_to_string(place.path(".postern/root.pub")).unwrap(), before);
    fs::write(place.path(".postern/root.key"), key).unwrap();
}

#[test]
fn a_backup_is_whole_private_and_never_written_over() {
    let (place, _) = used();
    let shown = place.json(&["ledger", "backup", "copy.db", "--json"]);
    assert_eq!((shown["revoked"].as_u64(), shown["file"].as_str()), (Some(1), Some("copy.db")));
    assert_eq!(mode(&place.path("copy.db")), 0o600);
    assert!(place.fails(3, &["ledger", "backup", "copy.db"]).contains("not written over"));
    fs::remove_file(place.path(".postern/ledger.db")).unwrap();
    fs::copy(place.path("copy.db"), place.path(".postern/ledger.db")).unwrap();
    let checked = place.run(&["check", "--token-file", "t", "--resource", "orders"]);
    assert_eq!(checked.status.code(), Some(1), "still revoked");
}

#[test]
fn a_body_is_decided_on_as_a_gateway_decides() {
    let place = Place::with_state();
    place.mint("t", &["tools", "--tool", "search", "--arg", "index=public"]);
    let check = |more: &[&str]| {
        let line = ["check", "--token-file", "t", "--resource", "tools", "--method", "POST", "--json"];
        let output = place.run(&[&line[..], more].concat());
        let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(shown["allowed"] != true)), "{shown}");
        shown
    };
    assert_eq!(check(&["--tool", "search", "--arg", "index=public"])["allowed"], true);
    assert_eq!(check(&["--tool", "search", "--arg", "index=secret"])["type"], "not-permitted");
    assert!(check(&["--body-size", "9"])["reason"].as_str().unwrap().contains("--body"));
    let call = |arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"search","arguments":{arguments}}}}}"#
        )
    };
    let body = |text: &str| {
        fs::write(place.path("body.json"), text).unwrap();
        check(&["--body", "body.json"])
    };
    assert_eq!(body(&call(r#"{"index":"public","limit":1.5}"#))["allowed"], true);
    let stopped = body(&call(r#"{"index":"secret"}"#));
    assert!(stopped["caveats"][0]["text"].as_str().unwrap().contains("index"), "{stopped}");
    let twice = body(&call(r#"{"index":"public","index":"secret"}"#));
    assert_eq!(twice["type"], "bad-body");
    assert!(twice["reason"].as_str().unwrap().contains("two members \"index\""), "{twice}");
    place.fails(2, &["check", "-", "--resource", "tools", "--body", "-"]);
    place.fails(2, &["check", "--token-file", "t", "--resource", "tools", "--body", "body.json", "--tool", "x"]);
    let linted = place.run(&["lint", "--token-file", "t"]);
    assert_eq!(linted.status.code(), Some(0), "{}", stdout(&linted));
}

#[test]
fn small_things_are_taken_as_they_are_meant() {
    let place = Place::with_state();
    let output = place.command().args(["keys", "list"]).env("POSTERN_STATE", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for line in [
        &["keys", "list", "--admin", "http://127.0.0.1:1"][..],
        &["keys", "rotate", "--admin", "http://127.0.0.1:1"],
        &["keys", "retire", "0", "--admin", "http://127.0.0.1:1"],
    ] {
        assert!(place.fails(3, line).contains("does not answer"), "{line:?}");
    }
    let sentence = place.fails(2, &["revoke", "deadbeef"]);
    assert!(sentence.contains("neither a token nor a revocation id"), "{sentence}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = ["proxy", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", &address];
    let sentence = place.fails(3, &line);
    assert!(sentence.contains("--admin") && sentence.contains("[admin] listen"), "{sentence}");
}

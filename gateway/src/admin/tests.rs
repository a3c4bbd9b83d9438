//! Administration over real connections: a state folder, a ledger and a listener of its own for each test.

use std::io::{Read, Write};
use std::net::TcpStream;

use postern_capabilities::caveat::Caveat;
use postern_capabilities::keys::KeyId;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::Standing;
use postern_capabilities::text::TokenText;
use postern_capabilities::token::{Capability, PRICE_BUDGET_DEFAULT, Unverified};
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::ledger::{EmbeddedOptions, now};

mod held_bodies;

struct Gateway {
    started: Option<Started>,
    shutdown: watch::Sender<bool>,
    standing: Arc<Standing>,
    state: StateDir,
    _folder: tempfile::TempDir,
}

struct Reply {
    status: u16,
    head: String,
    body: Value,
}

impl Reply {
    fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Gateway {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::create(folder.path().join("state")).unwrap();
        state.create_root_key().unwrap();
        Self::again(folder, state)
    }

    fn again(folder: tempfile::TempDir, state: StateDir) -> Self {
        let telemetry = Telemetry::without_log();
        let options = EmbeddedOptions::new(state.ledger_path());
        let ledger = Ledger::open(&options, Arc::clone(telemetry.ledger())).unwrap();
        let standing = Arc::clone(ledger.standing());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        match standing.keys().minting().map(|entry| entry.key) {
            Some(minting) => state.settle_rotation(&minting).unwrap(),
            None => drop(runtime.block_on(ledger.adopt_root_key(state.root_key().unwrap().public())).unwrap()),
        }
        let text = "[resource.orders]\nupstream = [\"http://127.0.0.1:1\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        let config = Config::parse(text, folder.path()).unwrap();
        let (shutdown, watch) = watch::channel(false);
        let config = Config { listen: Vec::new(), ..config };
        let generation = Generation::build(config, None, &standing, 0).ok().unwrap();
        let (_, generations) = watch::channel(Arc::new(generation));
        let steps = Shutdown { is_draining: watch.clone(), is_ending: watch };
        let (state_too, clock) = (state.clone(), Arc::default());
        let parts = Parts { generations, state: state_too, ledger, telemetry, clock, shutdown: steps };
        let started = start(parts, None).unwrap();
        Self { started: Some(started), shutdown, standing, state, _folder: folder }
    }

    fn restart(mut self) -> Self {
        self.stop();
        let folder = std::mem::replace(&mut self._folder, tempfile::tempdir().unwrap());
        Self::again(folder, self.state.clone())
    }

    fn stop(&mut self) {
        self.shutdown.send_replace(true);
        if let Some(started) = self.started.take() {
            started.thread.join().unwrap();
        }
    }

    fn admin_token(&self, caveats: &[Caveat]) -> TokenText {
        let right = Right { resource: ResourceName::parse("postern").unwrap(), operation: Operation::any() };
        let key = self.state.root_key().unwrap();
        let ring = self.standing.keys();
        mint(&key, ring.minting().map_or(KeyId(0), |entry| entry.id), &[right], caveats).ok().unwrap()
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.started.as_ref().unwrap().address).unwrap()
    }

    fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read(stream)
    }

    fn ask(&self, token: &TokenText, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.send(&request(Some(token), method, path, body))
    }

    fn verify(&self, token: &str) -> Capability {
        Unverified::parse(token).ok().unwrap().verify(&self.standing, PRICE_BUDGET_DEFAULT).ok().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

fn request(token: Option<&TokenText>, method: &str, path: &str, body: Option<&Value>) -> String {
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {}\r\n", token.expose()));
    let body = body.map_or(String::new(), Value::to_string);
    let content = match body.as_str() {
        "" => String::new(),
        body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}{content}\r\n{body}")
}

fn read(mut stream: TcpStream) -> Reply {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Reply { status, head: head.to_owned(), body }
}

fn path(path: &str) -> Caveat {
    Caveat::path(&[path]).unwrap()
}

fn ids(capability: &Capability) -> Value {
    json!({ "ids": [capability.revocation_ids().last()] })
}

#[test]
fn only_health_is_answered_without_a_token() {
    let gateway = Gateway::start();
    for (path, status) in [("/health/live", 200), ("/health/ready", 200), ("/openapi.json", 401), ("/metrics", 401)] {
        let reply = gateway.send(&request(None, "GET", path, None));
        assert_eq!(reply.status, status, "{path}");
    }
    for path in ["/", "/keys", "/revocations", "/ledger", "/resources", "/nowhere", "/capabilities/orders"] {
        let reply = gateway.send(&request(None, "GET", path, None));
        assert_eq!((reply.status, reply.kind()), (401, "missing-capability"), "{path}");
        assert_eq!(reply.field("www-authenticate"), Some("Bearer realm=\"postern\""));
    }
    let reply = gateway.send(&request(None, "POST", "/health/live", None));
    assert_eq!((reply.status, reply.field("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn every_endpoint_answers_its_holder() {
    let gateway = Gateway::start();
    let token = gateway.admin_token(&[]);
    for path in ["/revocations", "/keys", "/ledger", "/resources", "/metrics", "/openapi.json"] {
        let reply = gateway.ask(&token, "GET", path, None);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.field("cache-control"), Some("no-store"), "{path}");
        let head = gateway.ask(&token, "HEAD", path, None);
        assert_eq!((head.status, head.body), (200, Value::String(String::new())), "HEAD {path}");
        let wrong = gateway.ask(&token, "DELETE", path, None);
        assert_eq!((wrong.status, wrong.kind()), (405, "method-not-allowed"), "{path}");
        assert!(wrong.field("allow").unwrap().starts_with("GET, HEAD"), "{path}");
    }
    assert_eq!(gateway.ask(&token, "GET", "/nowhere", None).status, 404);
    assert_eq!(gateway.ask(&token, "GET", "/capabilities/orders", None).field("allow"), Some("POST"));
    assert_eq!(gateway.ask(&token, "GET", "/resources", None).body["resources"][0]["name"], "orders");
    let metrics = gateway.ask(&token, "GET", "/metrics", None).body;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("postern_decisions_total{resource=\"postern\",reason=\"allowed\"}"), "{metrics}");
    assert!(!metrics.contains(token.expose()));
}

/// Law 7 and HOSTILE T18: answered means durable and in force, also after a restart.
#[test]
fn a_revocation_is_in_force_when_it_is_answered_and_after_a_restart() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let victim = gateway.admin_token(&[]);
    let id = gateway.verify(victim.expose());
    assert_eq!(gateway.ask(&victim, "GET", "/keys", None).status, 200);
    let reply = gateway.ask(&admin, "POST", "/revocations", Some(&ids(&id)));
    assert_eq!((reply.status, &reply.body), (200, &json!({ "revoked": 1, "new": 1 })));
    let refused = gateway.ask(&victim, "GET", "/keys", None);
    assert_eq!((refused.status, refused.kind()), (401, "revoked"));
    assert_eq!(gateway.ask(&admin, "POST", "/revocations", Some(&ids(&id))).body["new"], 0);
    let listed = gateway.ask(&admin, "GET", "/revocations", None).body;
    assert_eq!(listed["revocations"][0]["id"], id.revocation_ids()[0].to_string());
    assert_eq!(listed["total"], 1);
    let gateway = gateway.restart();
    assert_eq!(gateway.ask(&victim, "GET", "/keys", None).kind(), "revoked");
    assert_eq!(gateway.ask(&admin, "GET", "/keys", None).status, 200);
}

#[test]
fn an_administration_capability_can_be_narrowed() {
    let gateway = Gateway::start();
    let revoker = gateway.admin_token(&[path("/revocations")]);
    assert_eq!(gateway.ask(&revoker, "GET", "/revocations", None).status, 200);
    for path in ["/keys", "/ledger", "/metrics", "/capabilities/orders", "/revocations/", "/nowhere"] {
        let reply = gateway.ask(&revoker, "GET", path, None);
        assert_eq!((reply.status, reply.kind()), (403, "not-permitted"), "{path}");
    }
    let minter = gateway.admin_token(&[path("/capabilities/orders")]);
    assert_eq!(gateway.ask(&minter, "POST", "/capabilities/orders", Some(&json!({}))).status, 201);
    // HOSTILE T35: narrowed to one resource, it mints for no other.
    for other in ["invoices", "postern", "messages", "orders2"] {
        let reply = gateway.ask(&minter, "POST", &format!("/capabilities/{other}"), Some(&json!({})));
        assert_eq!(reply.status, 403, "{other}");
    }
}

#[test]
fn a_capability_for_something_else_finds_nothing_here() {
    let gateway = Gateway::start();
    let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
    let token = mint(&gateway.state.root_key().unwrap(), KeyId(0), &[right], &[]).ok().unwrap();
    let known = gateway.ask(&token, "GET", "/keys", None);
    let unknown = gateway.ask(&token, "GET", "/nowhere", None);
    assert_eq!((known.status, known.kind()), (404, "not-found"));
    assert_eq!(known.body, unknown.body, "the same bytes");
}

#[test]
fn minting_is_for_one_configured_resource_and_never_for_the_reserved_ones() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let mint_for = |name: &str, body: Value| gateway.ask(&admin, "POST", &format!("/capabilities/{name}"), Some(&body));
    let caveats =
        json!({ "operations": ["GET"], "caveats": { "path": ["/v1/**"], "no-upgrade": true, "max-body": 10 } });
    let minted = mint_for("orders", caveats);
    assert_eq!(minted.status, 201, "{}", minted.body);
    let capability = gateway.verify(minted.body["token"].as_str().unwrap());
    assert!(capability.holds("orders", "GET") && !capability.holds("orders", "POST"));
    assert_eq!(minted.body["revocation_id"], capability.revocation_ids()[0].to_string());
    assert_eq!(minted.body["expires"], Value::Null);
    for (name, status, kind) in [
        ("postern", 403, "reserved-resource"),
        ("messages", 403, "reserved-resource"),
        ("invoices", 404, "unknown-resource"),
        ("a.%3E", 400, "bad-resource"),
        ("Orders", 400, "bad-resource"),
        ("$JS.API", 400, "bad-resource"),
        ("..", 400, "bad-path"),
    ] {
        let reply = mint_for(name, json!({}));
        assert_eq!((reply.status, reply.kind()), (status, kind), "{name}");
    }
    for (body, kind) in [
        (json!({ "operations": [] }), "bad-operation"),
        (json!({ "operations": ["get"] }), "bad-operation"),
        (json!({ "caveats": { "nonsense": "x" } }), "bad-caveat"),
        (json!({ "caveats": { "expires": "yesterday" } }), "bad-caveat"),
        (json!({ "caveats": { "check": "allow if true" } }), "bad-caveat"),
        (json!({ "rights": [] }), "bad-body"),
    ] {
        let reply = mint_for("orders", body.clone());
        assert_eq!((reply.status, reply.kind()), (400, kind), "{body}");
    }
}

/// Law 2: what is minted ends no later than what was presented to mint it.
#[test]
fn what_is_minted_does_not_outlive_what_was_presented() {
    let gateway = Gateway::start();
    let end = now() + 1_000;
    let admin = gateway.admin_token(&[Caveat::Expires(end)]);
    let mint = |admin: &TokenText, caveats: Value| {
        let reply = gateway.ask(admin, "POST", "/capabilities/orders", Some(&json!({ "caveats": caveats })));
        assert_eq!(reply.status, 201, "{}", reply.body);
        let capability = gateway.verify(reply.body["token"].as_str().unwrap());
        assert_eq!(reply.body["expires"].as_u64(), capability.expires_at());
        capability.expires_at()
    };
    assert_eq!(mint(&admin, json!({})), Some(end));
    assert_eq!(mint(&admin, json!({ "expires": "1d" })), Some(end), "asking for longer changes nothing");
    assert!(mint(&admin, json!({ "expires": "1m" })).unwrap() < end);
    // An end that is no plain expiry counts as well.
    let date = rfc3339(end);
    let strict = gateway.admin_token(&[Caveat::check(&format!("check if time($t), $t < {date}")).unwrap()]);
    assert_eq!(mint(&strict, json!({})), Some(end - 1));
}

fn rfc3339(seconds: u64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// Law 6: revoking a capability ends what was minted through it.
#[test]
fn what_was_minted_is_revoked_with_what_was_presented() {
    let gateway = Gateway::start();
    let (operator, minter) = (gateway.admin_token(&[]), gateway.admin_token(&[]));
    let minted = gateway.ask(&minter, "POST", "/capabilities/orders", Some(&json!({}))).body;
    let capability = gateway.verify(minted["token"].as_str().unwrap());
    assert!(!gateway.standing.is_revoked(&capability.revocation_ids()[0]));
    gateway.ask(&operator, "POST", "/revocations", Some(&ids(&gateway.verify(minter.expose()))));
    assert!(gateway.standing.is_revoked(&capability.revocation_ids()[0]));
    let listed = gateway.ask(&operator, "GET", "/revocations?limit=1", None).body;
    assert_eq!(listed["revocations"].as_array().unwrap().len(), 2, "what one record revoked comes together");
}

#[test]
fn keys_rotate_and_retire() {
    let gateway = Gateway::start();
    let old = gateway.admin_token(&[]);
    let reply = gateway.ask(&old, "POST", "/keys", Some(&json!({ "action": "retire", "id": 0 })));
    assert_eq!((reply.status, reply.kind()), (409, "keys-conflict"));
    let reply = gateway.ask(&old, "POST", "/keys", Some(&json!({ "action": "rotate" })));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.body["keys"][1]["state"], "minting");
    assert!(!reply.body.to_string().contains("private"));
    let public = reply.body["keys"][1]["key"].as_str().unwrap().to_owned();
    assert_eq!(gateway.state.root_key().unwrap().public().to_string(), public);
    let minted = gateway.ask(&old, "POST", "/capabilities/orders", Some(&json!({}))).body;
    let minted = gateway.verify(minted["token"].as_str().unwrap());
    assert_eq!(minted.root_key().to_string(), public, "the new key mints at once");
    let new = gateway.admin_token(&[]);
    assert_eq!(gateway.ask(&new, "POST", "/keys", Some(&json!({ "action": "retire", "id": 0 }))).status, 200);
    assert_eq!(gateway.ask(&old, "GET", "/keys", None).status, 401, "what the retired key signed is refused");
    let missing = gateway.ask(&new, "POST", "/keys", Some(&json!({ "action": "retire", "id": 9 })));
    assert_eq!((missing.status, missing.kind()), (404, "unknown-key-number"));
    let gateway = gateway.restart();
    assert_eq!(gateway.ask(&new, "GET", "/keys", None).body["keys"][0]["state"], "retired");
}

#[test]
fn the_ledger_is_paged_and_followed() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let first = gateway.ask(&admin, "GET", "/ledger?limit=1", None).body;
    assert_eq!(first["entries"][0]["event"], "key-added");
    assert_eq!((&first["next"], &first["end"]), (&json!(1), &json!(2)));
    // A follower waits on one connection while another one mints.
    let mut follower = gateway.connect();
    follower.write_all(request(Some(&admin), "GET", "/ledger?after=2&wait=30", None).as_bytes()).unwrap();
    let minted = gateway.ask(&admin, "POST", "/capabilities/orders", Some(&json!({}))).body;
    let followed = read(follower).body;
    assert_eq!(followed["entries"][0]["event"], "minted");
    assert_eq!(followed["entries"][0]["id"], minted["revocation_id"]);
    assert!(!followed.to_string().contains(minted["token"].as_str().unwrap()));
    assert_eq!(gateway.ask(&admin, "GET", "/ledger?limit=0", None).kind(), "bad-query");
}

/// Law 6: a follower whose capability is revoked while it waits learns nothing more.
#[test]
fn a_revoked_follower_is_refused() {
    let gateway = Gateway::start();
    let (admin, watcher) = (gateway.admin_token(&[]), gateway.admin_token(&[]));
    let mut follower = gateway.connect();
    follower.write_all(request(Some(&watcher), "GET", "/ledger?after=2&wait=30", None).as_bytes()).unwrap();
    gateway.ask(&admin, "POST", "/revocations", Some(&ids(&gateway.verify(watcher.expose()))));
    let reply = read(follower);
    assert_eq!((reply.status, reply.kind()), (401, "revoked"));
}

#[test]
fn bodies_are_bounded_json_and_nothing_else() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let post = |content: &str, body: &str| {
        let token = admin.expose();
        let length = body.len();
        gateway.send(&format!(
            "POST /revocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{content}Content-Length: {length}\r\n\r\n{body}"
        ))
    };
    let json_type = "Content-Type: application/json\r\n";
    assert_eq!(post("", r#"{"ids":[]}"#).kind(), "bad-revocation-id", "no media type: JSON");
    assert_eq!(post(json_type, "[[]]").kind(), "bad-body");
    assert_eq!(post("Content-Type: text/plain\r\n", "{}").status, 415);
    assert_eq!(post("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "{}").status, 415);
    assert_eq!(post(json_type, "{").kind(), "bad-body");
    assert_eq!(post(json_type, &" ".repeat(70_000)).status, 413);
    assert_eq!(post(json_type, r#"{"ids":[]}"#).kind(), "bad-revocation-id");
    assert_eq!(post(json_type, r#"{"ids":["zz"]}"#).kind(), "bad-revocation-id");
    let many = json!({ "ids": vec!["00".repeat(64); 300] }).to_string();
    assert_eq!(post(json_type, &many).status, 413);
    let unknown = json!({ "ids": ["ab".repeat(64)] }).to_string();
    assert_eq!(post(json_type, &unknown).body, json!({ "revoked": 1, "new": 1 }), "an id that no token has");
}

#[test]
fn what_is_not_strict_is_refused() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let token = admin.expose();
    let get = |target: &str, fields: &str| {
        gateway.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"))
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(get("/keys", &bearer).status, 200);
    assert_eq!(get("/x/../keys", &bearer).kind(), "bad-path");
    assert_eq!(get("//keys", &bearer).kind(), "bad-path");
    assert_eq!(get("/keys%2f", &bearer).kind(), "bad-path");
    assert_eq!(get("/keys", &format!("{bearer}{bearer}")).kind(), "two-tokens");
    assert_eq!(get("/keys", &format!("{bearer}Postern-Capability: {token}\r\n")).kind(), "two-tokens");
    assert_eq!(get("/keys", &format!("Postern-Capability: {token}\r\n")).status, 200);
    assert_eq!(get(&format!("/keys?access_token={token}"), "").kind(), "missing-capability");
    assert_eq!(get("/keys", &format!("{bearer}Host: y\r\n")).status, 400);
    assert_eq!(get("/keys", "Authorization: Bearer nonsense\r\n").status, 401);
}

/// Retiring the old key after a rotation must not lock the operator out, nor bring back what was taken away.
#[test]
fn the_operators_own_capability_is_renewed_by_a_rotation() {
    let gateway = Gateway::start();
    let rotate = json!({ "action": "rotate" });
    let first = gateway.admin_token(&[]);
    gateway.state.write_token("admin", first.expose()).unwrap();
    assert_eq!(gateway.ask(&first, "POST", "/keys", Some(&rotate)).status, 200);
    let second = TokenText::from(gateway.state.token("admin").unwrap().to_string());
    assert_ne!(second.expose(), first.expose());
    assert_eq!(gateway.ask(&second, "POST", "/keys", Some(&json!({ "action": "retire", "id": 0 }))).status, 200);
    assert_eq!(gateway.ask(&second, "GET", "/keys", None).status, 200);

    let narrow = gateway.admin_token(&[path("/metrics")]);
    gateway.state.write_token("admin", narrow.expose()).unwrap();
    assert_eq!(gateway.ask(&second, "POST", "/keys", Some(&rotate)).status, 200);
    assert_eq!(gateway.state.token("admin").unwrap().as_str(), narrow.expose(), "narrowed stays narrowed");

    let revoked = gateway.admin_token(&[]);
    gateway.state.write_token("admin", revoked.expose()).unwrap();
    gateway.ask(&second, "POST", "/revocations", Some(&ids(&gateway.verify(revoked.expose()))));
    assert_eq!(gateway.ask(&second, "POST", "/keys", Some(&rotate)).status, 200);
    assert_eq!(gateway.state.token("admin").unwrap().as_str(), revoked.expose(), "revoked stays revoked");
}

/// HOSTILE T36: a ledger that cannot write refuses, says so, and turns health red; reading goes on.
#[test]
fn a_ledger_that_cannot_write_is_said_everywhere() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    let file = rusqlite::Connection::open(gateway.state.ledger_path()).unwrap();
    file.execute_batch("ALTER TABLE record RENAME TO away").unwrap();
    let revoke = || gateway.ask(&admin, "POST", "/revocations", Some(&json!({ "ids": ["ab".repeat(64)] })));
    assert_eq!((revoke().status, revoke().kind()), (503, "ledger-unavailable"));
    assert_eq!(gateway.standing.revoked_count(), 0, "what was refused is not in force");
    file.execute_batch("ALTER TABLE away RENAME TO record").unwrap();
    assert_eq!(revoke().status, 503, "only a restart ends it");
    let mint = gateway.ask(&admin, "POST", "/capabilities/orders", Some(&json!({})));
    assert_eq!((mint.status, mint.body.get("token")), (503, None));
    let rotate = gateway.ask(&admin, "POST", "/keys", Some(&json!({ "action": "rotate" })));
    assert_eq!(rotate.status, 503);
    assert!(!gateway.state.path().join("root.key.next").exists(), "a rotation that was refused leaves nothing behind");
    let ready = gateway.send(&request(None, "GET", "/health/ready", None));
    assert_eq!((ready.status, ready.kind()), (503, "not-ready"));
    assert_eq!(gateway.send(&request(None, "GET", "/health/live", None)).status, 200);
    assert_eq!(gateway.ask(&admin, "GET", "/keys", None).status, 200);
    let metrics = gateway.ask(&admin, "GET", "/metrics", None).body;
    assert!(metrics.as_str().unwrap().contains("postern_ledger_read_only 1"));
    let gateway = gateway.restart();
    assert_eq!(gateway.send(&request(None, "GET", "/health/ready", None)).status, 200);
}

/// Law 8: what a caller sent by mistake is not sent back.
#[test]
fn a_token_in_the_wrong_place_is_not_echoed() {
    let gateway = Gateway::start();
    let admin = gateway.admin_token(&[]);
    for body in [
        json!({ "ids": admin.expose() }),
        json!({ "ids": [admin.expose()] }),
        json!({ admin.expose(): 1 }),
        json!({ "ids": [], admin.expose(): 1 }),
    ] {
        let reply = gateway.ask(&admin, "POST", "/revocations", Some(&body));
        assert_eq!(reply.status, 400);
        assert!(!reply.body.to_string().contains(&admin.expose()[..16]), "{}", reply.body);
    }
    let path = format!("/capabilities/{}", admin.expose().trim_end_matches('='));
    let reply = gateway.ask(&admin, "POST", &path, Some(&json!({})));
    assert!(!reply.body.to_string().contains(&admin.expose()[..16]), "{}", reply.body);
    for caveats in
        [json!({ "check": admin.expose() }), json!({ admin.expose(): "x" }), json!({ "expires": admin.expose() })]
    {
        let body = json!({ "caveats": caveats });
        let reply = gateway.ask(&admin, "POST", "/capabilities/orders", Some(&body));
        assert_eq!(reply.status, 400);
        assert!(!reply.body.to_string().contains(&admin.expose()[..16]), "{}", reply.body);
    }
    let body = json!({ "operations": [admin.expose()] });
    let reply = gateway.ask(&admin, "POST", "/capabilities/orders", Some(&body));
    assert!(!reply.body.to_string().contains(&admin.expose()[..16]), "{}", reply.body);
}

#[test]
fn a_kept_alive_connection_does_not_hold_up_the_end() {
    let gateway = Gateway::start();
    let mut stream = gateway.connect();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    drop(gateway);
}

/// Law 6. The story: after a rotation the old administration capability still minted, under the new key, and what it had
/// minted outlived the retirement of its own key.
#[test]
fn retiring_a_key_ends_what_was_minted_under_it_and_says_before_how_much() {
    let gateway = Gateway::start();
    let old = gateway.admin_token(&[]);
    gateway.state.write_token("admin", old.expose()).unwrap();
    let mint = |by: &TokenText, body: Value| {
        let reply = gateway.ask(by, "POST", "/capabilities/orders", Some(&body));
        gateway.verify(reply.body["token"].as_str().unwrap())
    };
    let change = |body: Value| assert_eq!(gateway.ask(&old, "POST", "/keys", Some(&body)).status, 200);
    change(json!({ "action": "rotate" }));
    let renewed = TokenText::from(gateway.state.token("admin").unwrap().to_string());
    let under_old = mint(&old, json!({}));
    mint(&old, json!({ "caveats": { "expires": "1h" } }));
    let under_new = mint(&renewed, json!({}));
    let said = gateway.ask(&renewed, "GET", "/keys/0", None).body;
    let by = gateway.verify(old.expose()).short_id().to_owned();
    assert_eq!(said["mints"], json!([{ "by": by, "live": 2 }]), "{said}");
    assert_eq!(gateway.ask(&renewed, "GET", "/keys/7", None).kind(), "unknown-key-number");
    assert_eq!(gateway.ask(&renewed, "GET", "/keys/x", None).kind(), "not-found");
    assert_eq!(gateway.ask(&renewed, "POST", "/keys/0", None).kind(), "method-not-allowed");
    change(json!({ "action": "retire", "id": 0 }));
    assert!(under_old.standing(&gateway.standing).is_err(), "though the new key signed it");
    assert!(under_new.standing(&gateway.standing).is_ok());
    assert_eq!(gateway.ask(&renewed, "GET", "/keys/0", None).body["mints"], json!([]));

    // The next rotation too leaves an administration capability that its predecessor's key does not end.
    assert_eq!(gateway.ask(&renewed, "POST", "/keys", Some(&json!({ "action": "rotate" }))).status, 200);
    let third = TokenText::from(gateway.state.token("admin").unwrap().to_string());
    assert_eq!(gateway.ask(&third, "POST", "/keys", Some(&json!({ "action": "retire", "id": 1 }))).status, 200);
    assert_eq!(gateway.ask(&third, "GET", "/keys", None).status, 200);
    assert!(under_new.standing(&gateway.standing).is_err());
}

//! What a backend's verifier lets pass, and what it refuses, message by message.

use std::net::IpAddr;

use super::*;
use crate::attenuate::{attenuate, seal};
use crate::caveat::Caveat;
use crate::keys::{KeyId, SigningKey};
use crate::mint::mint;
use crate::resource::{Operation, Right};

const NOW: u64 = 1_800_000_000;

fn key() -> SigningKey {
    SigningKey::parse_text(&format!("ed25519-private/{}", "01".repeat(32))).ok().unwrap()
}

fn verifier() -> Verifier {
    untold().with_believed(Believed::Loopback)
}

/// A verifier that was told nothing of whom to believe.
fn untold() -> Verifier {
    Verifier::new("orders".parse().unwrap(), KeyRing::of(KeyId(1), key().public()))
}

fn minted(flags: &[(&str, &str)]) -> String {
    let caveats: Vec<Caveat> =
        flags.iter().flat_map(|(flag, value)| Caveat::of_flag(flag, &[*value], NOW).unwrap()).collect();
    let right = Right { resource: "orders".parse().unwrap(), operation: Operation::any() };
    mint(&key(), KeyId(1), &[right], &caveats).ok().unwrap().expose().to_owned()
}

fn peer() -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, 1]))
}

/// The verdict on a request, as the problem type.
fn asked(verifier: &Verifier, request: Request<'_>, fields: &[(&str, &str)]) -> Result<(), &'static str> {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let received = verifier.receive(request, fields).map_err(|error| error.kind())?;
    verifier.verify(&received, None, NOW).map(drop).map_err(|error| error.kind())
}

fn get(target: &str) -> Request<'_> {
    Request::new("GET", target, peer())
}

fn with(token: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    std::iter::once(("Authorization".to_owned(), format!("Bearer {token}"))).chain(more).collect()
}

fn verdict(verifier: &Verifier, request: Request<'_>, token: &str, more: &[(&str, &str)]) -> Result<(), &'static str> {
    let fields = with(token, more);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    asked(verifier, request, &fields)
}

#[test]
fn a_message_is_decided_as_the_gateway_sent_it() {
    let token =
        minted(&[("path", "/v1/**"), ("query", "page=2"), ("host", "api.example.com"), ("client", "10.0.0.0/8")]);
    let forwarded = [
        ("Host", "inner:8080"),
        ("X-Forwarded-Host", "API.example.com:443"),
        ("x-forwarded-for", "192.0.2.1, 10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/orders"),
    ];
    let verifier = verifier();
    assert_eq!(verdict(&verifier, get("/v1/a?page=2"), &token, &forwarded), Ok(()));
    assert_eq!(verdict(&verifier, get("/v2/a?page=2"), &token, &forwarded), Err("not-permitted"));
    assert_eq!(verdict(&verifier, get("/v1/a?page=3"), &token, &forwarded), Err("not-permitted"));
    let elsewhere = Request { peer: Some(IpAddr::from([10, 1, 2, 3])), ..get("/v1/a?page=2") };
    assert_eq!(verdict(&verifier, elsewhere, &token, &forwarded), Err("not-permitted"), "its Host is another");
}

#[test]
fn forwarding_headers_count_from_whom_is_believed_alone() {
    let token = minted(&[("client", "10.0.0.0/8")]);
    let says = [("X-Forwarded-For", "10.1.2.3")];
    let from = |peer: [u8; 4]| Request { peer: Some(IpAddr::from(peer)), ..get("/") };
    let mapped = Request { peer: Some("::ffff:127.0.0.1".parse().unwrap()), ..get("/") };
    let unknown = Request { peer: None, ..get("/") };
    let ask = |verifier: &Verifier, request| verdict(verifier, request, &token, &says);
    assert_eq!(ask(&verifier(), from([127, 0, 0, 1])), Ok(()));
    assert_eq!(ask(&verifier(), mapped), Ok(()));
    assert_eq!(ask(&verifier(), from([192, 0, 2, 1])), Err("not-permitted"));
    assert_eq!(ask(&verifier(), unknown), Err("not-permitted"));
    let gateway = verifier().with_believed(Believed::From(vec!["192.0.2.0/24".parse().unwrap()]));
    assert_eq!(ask(&gateway, from([192, 0, 2, 1])), Ok(()));
    assert_eq!(ask(&gateway, from([127, 0, 0, 1])), Err("not-permitted"));
    assert_eq!(ask(&verifier().with_believed(Believed::Anyone), unknown), Ok(()));
    // Where no caveat asks, nobody need know.
    assert_eq!(verdict(&verifier(), unknown, &minted(&[]), &[]), Ok(()));
}

#[test]
fn no_header_moves_the_path_that_is_checked() {
    let token = minted(&[("path", "/v1/**")]);
    let prefix = [("X-Forwarded-Prefix", "/admin")];
    assert_eq!(verdict(&verifier(), get("/admin/v1/a"), &token, &prefix), Err("not-permitted"));
    let mounted = verifier().with_mount("/orders/").unwrap();
    assert_eq!(verdict(&mounted, get("/orders/v1/a"), &token, &[]), Ok(()));
    assert_eq!(verdict(&mounted, get("/v1/a"), &token, &[("X-Forwarded-Prefix", "/orders")]), Err("not-found"));
    assert_eq!(verdict(&mounted, get("/orders2/v1/a"), &token, &[]), Err("not-found"));
    assert_eq!(verdict(&mounted, get("/orders"), &minted(&[("path", "/")]), &[]), Ok(()));
    // A gRPC call is what the service sees, the prefix with it.
    let mounted = verifier().with_mount("/shop.Orders").unwrap();
    let token = minted(&[("grpc", "shop.Orders/Get")]);
    let call = |target| Request::new("POST", target, peer());
    let is_grpc = &[("Content-Type", "application/grpc")];
    assert_eq!(verdict(&mounted, call("/shop.Orders/Get"), &token, is_grpc), Ok(()));
    assert_eq!(verdict(&mounted, call("/shop.Orders/Delete"), &token, is_grpc), Err("not-permitted"));
    assert_eq!(verdict(&mounted, call("/shop.Orders/shop.Orders/Get"), &token, is_grpc), Err("not-permitted"));
}

#[test]
fn what_no_gateway_forwards_is_refused() {
    let token = minted(&[]);
    let v = verifier();
    for target in ["/a/../b", "/%61", "/a%2fb", "//a", "a", "", "http://x/a", "*", "/a\\b"] {
        assert_eq!(verdict(&v, get(target), &token, &[]), Err("bad-path"), "{target}");
    }
    assert_eq!(verdict(&v, Request::new("get", "/", peer()), &token, &[]), Err("malformed-request"));
    assert_eq!(verdict(&v, Request::new("*", "/", peer()), &token, &[]), Err("malformed-request"));
    for twice in ["X-Forwarded-For", "X-Forwarded-Host", "Host", "Content-Length"] {
        assert_eq!(verdict(&v, get("/"), &token, &[(twice, "1"), (twice, "1")]), Err("malformed-request"), "{twice}");
    }
    for (name, value) in [
        ("X-Forwarded-For", "nobody"),
        ("X-Forwarded-Proto", "ftp"),
        ("Content-Length", "1x"),
        ("X-Forwarded-Client-Cert", "By=x"),
        ("X-Forwarded-Host", "\u{e9}"),
    ] {
        assert_eq!(verdict(&v, get("/"), &token, &[(name, value)]), Err("malformed-request"), "{name}");
    }
}

#[test]
fn exactly_one_token_is_taken() {
    let token = minted(&[]);
    let v = verifier();
    assert_eq!(asked(&v, get("/"), &[]), Err("missing-capability"));
    assert_eq!(asked(&v, get("/"), &[("authorization", "Basic eA==")]), Err("missing-capability"));
    assert_eq!(asked(&v, get("/"), &[("authorization", "Bearer")]), Err("invalid-token"));
    assert_eq!(asked(&v, get("/"), &[("authorization", "Bearer a, b")]), Err("invalid-token"));
    assert_eq!(verdict(&v, get("/"), &token, &[("Authorization", "Basic x")]), Err("two-tokens"));
    assert_eq!(verdict(&v, get("/"), &token, &[("Postern-Capability", &token)]), Err("two-tokens"));
    assert_eq!(asked(&v, get("/"), &[("postern-capability", &token)]), Ok(()));
    assert_eq!(asked(&v, get("/"), &[("postern-capability", &token[..50])]), Err("truncated-token"));
    let own = verifier().with_authorization(AuthorizationUse::Service);
    assert_eq!(asked(&own, get("/"), &[("authorization", "Bearer x"), ("postern-capability", &token)]), Ok(()));
    assert_eq!(verdict(&own, get("/"), &token, &[]), Err("missing-capability"));
}

#[test]
fn the_backend_is_the_verifiers_own_name() {
    let narrowed = |name: &str| minted(&[("check", &format!("check if backend(\"{name}\")"))]);
    assert_eq!(verdict(&verifier(), get("/"), &narrowed("orders"), &[]), Ok(()));
    assert_eq!(verdict(&verifier(), get("/"), &narrowed("invoices"), &[]), Err("not-permitted"));
    let other = Verifier::new("invoices".parse().unwrap(), verifier().keys());
    assert_eq!(verdict(&other, get("/"), &narrowed("invoices"), &[]), Err("not-found"), "no right on it");
}

#[test]
fn leeway_is_what_a_clock_may_be_off_and_none_unless_asked_for() {
    let expired = minted(&[("expires", "0s")]);
    let early = minted(&[("not-before", "10s")]);
    let at = |verifier: &Verifier, token: &str, now| {
        let capability = verifier.open_token(token).unwrap();
        let fields: [(&[u8], &[u8]); 0] = [];
        let received = verifier.receive(get("/"), fields).ok().unwrap();
        verifier.decide(&capability, &received, None, now).map_err(|error| error.kind())
    };
    assert_eq!(at(&verifier(), &expired, NOW), Ok(()));
    assert_eq!(at(&verifier(), &expired, NOW + 1), Err("expired"));
    assert_eq!(at(&verifier(), &early, NOW + 9), Err("not-permitted"));
    let lenient = verifier().with_leeway(10);
    assert_eq!(at(&lenient, &expired, NOW + 10), Ok(()));
    assert_eq!(at(&lenient, &expired, NOW + 11), Err("expired"));
    assert_eq!(at(&lenient, &early, NOW), Ok(()));
    assert_eq!(at(&lenient, &early, NOW - 1), Err("not-permitted"));
    assert_eq!(at(&verifier().with_leeway(u64::MAX), &expired, NOW + LEEWAY_SECONDS_MAX + 1), Err("expired"));
}

#[test]
fn keys_and_revocations_change_while_it_runs() {
    let v = verifier();
    let token = minted(&[]);
    let child = attenuate(&token, &[Caveat::NoUpgrade]).unwrap();
    let child = seal(child.expose()).unwrap();
    assert_eq!(verdict(&v, get("/"), child.expose(), &[]), Ok(()));
    v.revoke(&v.open_token(&token).unwrap().revocation_ids()[..1]);
    assert_eq!(verdict(&v, get("/"), child.expose(), &[]), Err("revoked"));
    v.set_keys(KeyRing::of(KeyId(2), SigningKey::generate().public()));
    assert_eq!(verdict(&v, get("/"), &token, &[]), Err("revoked"));
    assert_eq!(verdict(&v, get("/"), &minted(&[("no-upgrade", "")]), &[]), Err("unknown-key"));
}

#[test]
fn a_body_is_what_was_read_or_else_what_was_declared() {
    let token = minted(&[("max-body", "10")]);
    let v = verifier();
    let post = Request::new("POST", "/", peer());
    assert_eq!(verdict(&v, get("/"), &token, &[]), Ok(()));
    assert_eq!(verdict(&v, Request { version: HttpVersion::Http2, ..post }, &token, &[]), Err("length-required"));
    assert_eq!(verdict(&v, post, &token, &[("Transfer-Encoding", "chunked")]), Err("length-required"));
    assert_eq!(verdict(&v, post, &token, &[("Content-Length", "10")]), Ok(()));
    assert_eq!(verdict(&v, post, &token, &[("Content-Length", "11")]), Err("not-permitted"));
    let fields = with(&token, &[("Transfer-Encoding", "chunked")]);
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let received = v.receive(post, fields).ok().unwrap();
    assert!(v.verify(&received, Some(b"0123456789"), NOW).is_ok());
    assert!(v.verify(&received, Some(b"0123456789a"), NOW).is_err());
}

#[test]
fn what_a_body_says_is_read_as_the_gateway_reads_it() {
    let token = minted(&[("tool", "search"), ("arg", "table=orders")]);
    let v = verifier();
    let ask = |fields: &[(&str, &str)], body: Option<&str>| {
        let fields = with(&token, fields);
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let received = v.receive(Request::new("POST", "/mcp", peer()), fields).ok().unwrap();
        v.verify(&received, body.map(str::as_bytes), NOW).map(drop)
    };
    let call =
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"table":"orders"}}}"#;
    let length = call.len().to_string();
    let json = [("content-type", "application/json"), ("content-length", length.as_str())];
    assert_eq!(ask(&json, Some(call)), Ok(()));
    assert_eq!(ask(&json, None), Err(VerifyError::Refusal(Refusal::BodyFactsRequired)));
    let kind = |body: &str| ask(&json, Some(body)).map_err(|error| error.kind());
    assert_eq!(kind(&call.replace("orders", "people")), Err("not-permitted"));
    assert_eq!(kind(&call.replace("search", "delete")), Err("not-permitted"));
    assert_eq!(kind(&call.replace("\"id\":1", "\"id\":1,\"ID\":1")), Err("bad-body"));
    assert_eq!(kind(""), Err("not-permitted"));
    assert!(matches!(ask(&[("content-type", "text/plain")], Some(call)), Err(VerifyError::Body(_))));
    assert!(matches!(ask(&[json[0], ("content-encoding", "gzip")], Some(call)), Err(VerifyError::Body(_))));
    let repeated = |more: &[(&str, &str)]| ask(&[&json, more].concat(), Some(call)).map_err(|error| error.to_string());
    assert_eq!(
        repeated(&[("Mcp-Method", "tools/call"), ("mcp-name", "search"), ("Mcp-Param-Table", "orders")]),
        Ok(())
    );
    for other in [
        &[("Mcp-Method", "ping")][..],
        &[("Mcp-Name", "delete")],
        &[("mcp-name", "search"), ("MCP-Name", "delete")],
        &[("Mcp-Param-Table", "people")],
    ] {
        let said = repeated(other).unwrap_err();
        assert!(said.starts_with("a caveat of the token reads the body, and ") && said.contains("header"), "{said}");
    }
}

#[test]
fn a_problem_is_what_the_gateway_would_answer() {
    let v = verifier();
    let of = |token: &str| {
        let fields = with(token, &[]);
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        v.verify(&v.receive(get("/"), fields).ok().unwrap(), None, NOW).unwrap_err().problem()
    };
    let problem = of(&minted(&[("path", "/x"), ("expires", "1h")]));
    assert_eq!((problem.status, problem.kind), (403, "not-permitted"));
    let body: serde_json::Value = serde_json::from_str(&problem.body()).unwrap();
    assert_eq!(body["caveats"][0]["caveat"], "check if path(\"/x\")");
    assert_eq!((body["type"].as_str(), body["status"].as_u64()), (Some("not-permitted"), Some(403)));
    let challenge = problem.www_authenticate().unwrap();
    assert!(
        challenge.starts_with("Bearer realm=\"postern\", error=\"insufficient_scope\", error_description=\""),
        "{challenge}"
    );
    assert_eq!(challenge.matches('"').count(), 6, "{challenge}");
    assert_eq!(of("xyz").www_authenticate().map(|text| text.contains("invalid_token")), Some(true));
    assert_eq!(
        VerifyError::MissingCapability.problem().www_authenticate().as_deref(),
        Some("Bearer realm=\"postern\"")
    );
}

fn statement_key() -> SigningKey {
    SigningKey::parse_text(&format!("ed25519-private/{}", "05".repeat(32))).ok().unwrap()
}

/// The token as a gateway narrows it for this request, stating what its caveats ask.
fn narrowed(token: &str, message: &Message<'_>) -> String {
    let capability = untold().open_token(token).unwrap();
    let narrowable = crate::Narrowable::of(token, &capability).unwrap();
    let narrower = crate::Narrower::new(PRICE_BUDGET_DEFAULT).stating(&statement_key());
    narrower.narrow(&narrowable, message, NOW + 60).unwrap().expose().to_owned()
}

fn from_afar<'m>(path: &'m str) -> Message<'m> {
    Message {
        host: "api.example.com",
        scheme: Scheme::Https,
        client_cert: Some(CERTIFICATE),
        ..Message::new("orders", "GET", path, NOW, IpAddr::from([10, 1, 2, 3]))
    }
}

const CERTIFICATE: &str = "abababababababababababababababababababababababababababababababab";
const WHO: [(&str, &str); 4] = [
    ("client", "10.0.0.0/8"),
    ("client-cert", CERTIFICATE),
    ("host", "api.example.com"),
    ("check", "check if scheme(\"https\")"),
];

#[test]
fn who_a_client_is_comes_from_the_gateways_statement_and_from_nothing_that_a_sender_wrote() {
    let verifier = untold();
    verifier.set_statement_keys(vec![statement_key().public()]);
    let made_up = [
        ("Host", "api.example.com"),
        ("X-Forwarded-For", "10.1.2.3"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "api.example.com"),
        ("X-Forwarded-Client-Cert", &format!("Hash={CERTIFICATE}")),
    ];
    let other = Message {
        client: IpAddr::from([192, 0, 2, 1]),
        host: "x",
        scheme: Scheme::Http,
        client_cert: None,
        ..from_afar("/a")
    };
    for caveats in [&WHO[..], &WHO[..1], &WHO[1..2], &WHO[2..3], &WHO[3..]] {
        let token = minted(caveats);
        // The servers that take the peer from a field hand on whatever a sender wrote there.
        let peer = Request { peer: Some(IpAddr::from([10, 1, 2, 3])), scheme: Scheme::Https, ..get("/a") };
        for request in [get("/a"), peer] {
            assert_eq!(verdict(&verifier, request, &token, &made_up), Err("not-permitted"), "{caveats:?}");
            assert_eq!(verdict(&verifier, request, &narrowed(&token, &from_afar("/a")), &[]), Ok(()), "{caveats:?}");
            assert_eq!(
                verdict(&verifier, request, &narrowed(&token, &other), &made_up),
                Err("not-permitted"),
                "{caveats:?}: the gateway says who it was, whatever the fields say"
            );
        }
        // It states this message and this minute alone.
        assert_eq!(verdict(&verifier, get("/b"), &narrowed(&token, &from_afar("/a")), &[]), Err("not-permitted"));
    }
    // What nobody asks is not stated.
    assert!(verifier.open_token(&narrowed(&minted(&WHO[..1]), &from_afar("/a"))).unwrap().statement().is_some_and(
        |stated| stated.client == Some(IpAddr::from([10, 1, 2, 3])) && stated.host.is_none() && stated.scheme.is_none()
    ));
    assert_eq!(verifier.open_token(&narrowed(&minted(&[]), &from_afar("/a"))).unwrap().statement(), None);
}

#[test]
fn a_client_without_a_certificate_is_stated_as_such() {
    let verifier = untold();
    verifier.set_statement_keys(vec![statement_key().public()]);
    let token = minted(&[("check", &format!("check if client_cert(\"{CERTIFICATE}\") or path(\"/open\")"))]);
    let message = Message { client_cert: None, ..from_afar("/open") };
    assert_eq!(verdict(&verifier, get("/open"), &narrowed(&token, &message), &[]), Ok(()));
    assert_eq!(verdict(&verifier, get("/open"), &token, &[]), Err("not-permitted"), "nobody stated it");
}

#[test]
fn a_statement_by_any_other_key_is_refused() {
    let verifier = untold();
    let token = narrowed(&minted(&WHO), &from_afar("/a"));
    assert_eq!(verdict(&verifier, get("/a"), &token, &[]), Err("not-admitted"));
    verifier.set_statement_keys(vec![SigningKey::generate().public()]);
    assert_eq!(verdict(&verifier, get("/a"), &token, &[]), Err("not-admitted"));
    verifier.set_statement_keys(vec![statement_key().public()]);
    assert_eq!(verdict(&verifier, get("/a"), &token, &[]), Ok(()));
    // Also where it was believed a moment ago.
    verifier.set_statement_keys(Vec::new());
    assert_eq!(verdict(&verifier, get("/a"), &token, &[]), Err("revoked"));
}

#[test]
fn no_other_block_states_who_a_client_is() {
    use biscuit_auth::builder::BlockBuilder;
    use biscuit_auth::{Biscuit, KeyPair};
    let verifier = untold();
    let (party, root) = (KeyPair::new(), key().pair());
    let own: crate::PublicKey = party.public().print().parse().unwrap();
    verifier.set_statement_keys(vec![own]);
    let token = |code: &str, third_party: &[&str], last: Option<&str>| {
        let mut token = Biscuit::builder().code(code).unwrap().root_key_id(1).build(&root).unwrap();
        for code in third_party {
            let block = BlockBuilder::new().code(code).unwrap();
            let block = token.third_party_request().unwrap().create_block(&party.private(), block).unwrap();
            token = token.append_third_party(party.public(), block).unwrap();
        }
        if let Some(code) = last {
            token = token.append(BlockBuilder::new().code(code).unwrap()).unwrap();
        }
        token.to_base64().unwrap()
    };
    const ROOT: &str = "right(\"orders\", \"*\"); check if client_in(\"10.0.0.0/8\");";
    const STATES: &str = "postern_client(\"10.1.2.3\");";
    assert_eq!(verdict(&verifier, get("/"), &token(ROOT, &[STATES], None), &[]), Ok(()));
    for (code, third_party, last) in [
        (&format!("{ROOT} {STATES}")[..], &[][..], None),
        (ROOT, &[], Some(STATES)),
        (ROOT, &[STATES, STATES], None),
        (ROOT, &[STATES], Some("check if true")),
        (ROOT, &[&format!("{STATES} check if true;")], None),
        (ROOT, &[&format!("{STATES} member(\"x\");")], None),
        (ROOT, &[&format!("{STATES} postern_client(\"10.1.2.4\");")], None),
        (ROOT, &["postern_client(\"10.1.2.3\", \"x\");"], None),
        (ROOT, &["postern_client(7);"], None),
        (ROOT, &["postern_client(\"010.1.2.3\");"], None),
        (ROOT, &["postern_client(\"::ffff:10.1.2.3\");"], None),
        (ROOT, &["postern_scheme(\"ftp\");"], None),
        (ROOT, &["postern_else(\"x\");"], None),
    ] {
        let refused = verdict(&verifier, get("/"), &token(code, third_party, last), &[]);
        assert_eq!(refused, Err("not-admitted"), "{code} {third_party:?} {last:?}");
    }
    // A statement that says something else than what is asked is none.
    let refused = verdict(&verifier, get("/"), &token(ROOT, &["postern_host(\"x\");"], None), &[]);
    assert_eq!(refused, Err("not-permitted"));
}

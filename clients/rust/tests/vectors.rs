//! The vectors of `capabilities/vectors/`, through this crate's verifier: the same verdict and the same reason as the
//! gateway's. Each is decided twice, as stated facts and, where a request can state them, as a request.

// The lints spare functions marked as tests, not the helpers of a test binary.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::IpAddr;
use std::path::Path;

use postern_capabilities::keys::{KeyId, KeyRing, KeyState, PublicKey};
use postern_capabilities::message::{ArgValue, BodyItem, Message, Scheme};
use postern_capabilities::verifier::{Believed, HttpVersion, Request, Verifier};
use serde_json::Value;

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn verifier(case: &Value, resource: &str) -> Verifier {
    let mut ring = KeyRing::new();
    for key in list(case, "keys") {
        let id = KeyId(key["id"].as_u64().unwrap().try_into().unwrap());
        let public: PublicKey = text(key, "key").unwrap().parse().unwrap();
        let state: KeyState = serde_json::from_value(key["state"].clone()).unwrap();
        ring.add(id, public, state).unwrap();
    }
    let mut verifier = Verifier::new(resource.parse().unwrap(), ring)
        .with_believed(Believed::Anyone)
        .with_leeway(case.get("leeway").and_then(Value::as_u64).unwrap_or(0));
    if let Some(budget) = case.get("budget").and_then(Value::as_u64) {
        verifier = verifier.with_budget(budget);
    }
    let revoked: Vec<_> = list(case, "revoked").iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect();
    verifier.revoke(&revoked);
    verifier
}

fn items(message: &Value) -> Vec<BodyItem> {
    let argument = |pair: &Value| {
        let value = match &pair[1] {
            Value::Bool(truth) => ArgValue::Bool(*truth),
            Value::Number(number) => ArgValue::Integer(number.as_i64().unwrap()),
            Value::String(text) => ArgValue::Text(text.clone()),
            other => panic!("no argument of a vector is {other}"),
        };
        (pair[0].as_str().unwrap().to_owned(), value)
    };
    list(message, "items")
        .iter()
        .map(|item| BodyItem {
            rpc: text(item, "rpc").unwrap().to_owned(),
            tool: text(item, "tool").map(str::to_owned),
            args: list(item, "args").iter().map(argument).collect(),
            unstated: text(item, "unstated").map(str::to_owned),
        })
        .collect()
}

/// Problem and reason, or `None` where it is allowed.
type Found = Option<(String, String)>;

fn stated(verifier: &Verifier, token: &str, message: &Value) -> Found {
    let capability = verifier.open_token(token).unwrap_or_else(|error| panic!("{error}"));
    let client: IpAddr = text(message, "client").unwrap().parse().unwrap();
    let items = items(message);
    let (resource, operation) = (text(message, "resource").unwrap(), text(message, "operation").unwrap());
    let grpc = list(message, "grpc");
    let decided = verifier.check(
        &capability,
        Message {
            query_string: text(message, "query_string").unwrap_or_default(),
            host: text(message, "host").unwrap_or_default(),
            scheme: if message.get("https") == Some(&Value::Bool(true)) { Scheme::Https } else { Scheme::Http },
            client_cert: text(message, "client_cert"),
            upgrade: text(message, "upgrade"),
            body_size: message.get("body_size").and_then(Value::as_u64),
            grpc: grpc.first().and_then(Value::as_str).zip(grpc.get(1).and_then(Value::as_str)),
            items: &items,
            backend: text(message, "backend"),
            ..Message::new(
                resource,
                operation,
                text(message, "path").unwrap(),
                message["time"].as_u64().unwrap(),
                client,
            )
        },
    );
    decided.err().map(|error| (error.kind().to_owned(), error.to_string()))
}

/// The same as a request that a gateway forwards. `None` where no request states these facts: those of a gRPC call come with
/// its path, those of a body with the body.
fn as_request(verifier: &Verifier, token: &str, message: &Value) -> Option<Found> {
    if !list(message, "items").is_empty() || !list(message, "grpc").is_empty() {
        return None;
    }
    let (query, path) = (text(message, "query_string").unwrap_or_default(), text(message, "path").unwrap());
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut fields = vec![("authorization", format!("Bearer {}", token.trim()))];
    fields.push(("x-forwarded-host", text(message, "host").unwrap_or_default().to_owned()));
    fields.push(("x-forwarded-for", text(message, "client").unwrap().to_owned()));
    let is_https = message.get("https") == Some(&Value::Bool(true));
    fields.push(("x-forwarded-proto", if is_https { "https" } else { "http" }.to_owned()));
    if let Some(hash) = text(message, "client_cert") {
        fields.push(("x-forwarded-client-cert", format!("Hash={hash}")));
    }
    if let Some(protocol) = text(message, "upgrade") {
        fields.push(("upgrade", protocol.to_owned()));
    }
    match message.get("body_size").and_then(Value::as_u64) {
        Some(size) => fields.push(("content-length", size.to_string())),
        None => fields.push(("transfer-encoding", "chunked".to_owned())),
    }
    let request = Request {
        method: text(message, "operation").unwrap(),
        target: &target,
        version: HttpVersion::Http1,
        scheme: Scheme::Http,
        peer: None,
    };
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let received = verifier.receive(request, fields).unwrap_or_else(|error| panic!("{target}: {error}"));
    let decided = verifier.verify(&received, None, message["time"].as_u64().unwrap());
    Some(decided.err().map(|error| (error.kind().to_owned(), error.to_string())))
}

#[test]
fn every_vector_is_decided_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../capabilities/vectors");
    let (mut cases, mut decisions, mut requests) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text(&file, "format"), Some("postern-capability-vectors/1"));
        for case in list(&file, "cases") {
            cases += 1;
            let name = format!("{} {}", path.display(), case["name"]);
            let token = text(case, "token").unwrap();
            let outcome = &case["outcome"];
            if let Some(refused) = outcome.get("refused") {
                let error = verifier(case, "orders").open_token(token).expect_err(&name);
                let found = (error.kind(), error.to_string());
                assert_eq!(
                    found,
                    (text(refused, "problem").unwrap(), text(refused, "reason").unwrap().to_owned()),
                    "{name}"
                );
                continue;
            }
            for decision in list(&outcome["capability"], "decisions") {
                let message = &decision["message"];
                let wanted = decision["verdict"].get("refuse").map(|refuse| {
                    (text(refuse, "problem").unwrap().to_owned(), text(refuse, "reason").unwrap().to_owned())
                });
                let resource = text(message, "resource").unwrap();
                let verifier = verifier(case, resource);
                decisions += 1;
                assert_eq!(stated(&verifier, token, message), wanted, "{name}: {message}");
                // A verifier always states its own name; a message of a gateway that states none is another one.
                let needs_backend = verifier.open_token(token).unwrap().needs().backend;
                if (text(message, "backend") == Some(resource) || !needs_backend)
                    && let Some(found) = as_request(&verifier, token, message)
                {
                    requests += 1;
                    assert_eq!(found, wanted, "{name}, as a request: {message}");
                }
            }
        }
    }
    assert!(
        cases > 100 && decisions > 200 && requests > 150,
        "{cases} cases, {decisions} messages, {requests} requests"
    );
}

//! The layer around a real axum service, on a real socket, called by the client of this crate.

// The lints spare functions marked as tests, not the helpers of a test binary.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(all(feature = "axum", feature = "http-client"))]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{any, get};
use postern_capabilities::web_keys::{KEY_DOCUMENT_PATH, key_document};
use postern_client::{
    Believed, Capability, CapabilityLayer, Caveat, Client, KeyId, KeyRing, Refresh, Retry, Right, SendError,
    SetupError, SigningKey, Verifier, mint,
};
use tokio::net::TcpListener;

async fn serve(service: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        axum::serve(listener, service.into_make_service_with_connect_info::<SocketAddr>()).await.unwrap();
    });
    address
}

fn token(key: &SigningKey, id: u32, caveats: &[Caveat]) -> String {
    let right = Right { resource: "orders".parse().unwrap(), operation: "*".parse().unwrap() };
    mint(key, KeyId(id), &[right], caveats).ok().unwrap().expose().to_owned()
}

/// Says what it was given.
async fn handler(capability: Capability, body: String) -> String {
    format!("{} {} {} {}", capability.path(), capability.client().unwrap(), capability.holds("PUT"), body.len())
}

async fn service(verifier: Verifier) -> SocketAddr {
    let inner = Router::new().route("/nested/{id}", get(handler));
    let service = Router::new().nest("/deep", inner).fallback(any(handler));
    serve(service.layer(CapabilityLayer::new(verifier).body_bytes_max(1000))).await
}

fn kind<T: std::fmt::Debug>(answer: Result<T, SendError>) -> String {
    answer.unwrap_err().kind().to_owned()
}

#[tokio::test]
async fn a_handler_is_given_the_capability_of_an_authorised_message() {
    let key = SigningKey::generate();
    // No gateway is in between, so the connection says who asks.
    let setup = Verifier::of("orders").unwrap().believe(Believed::Connection);
    let verifier = setup.key(&key.public().to_string()).unwrap();
    let at = service(verifier.clone()).await;
    let url = |path: &str| format!("http://{at}{path}");
    let client = Client::new(&token(&key, 9, &[Caveat::path(&["/v1/**", "/deep/nested/7"]).unwrap()]));
    let answer = client.get(&url("/v1/42?page=2")).await.unwrap();
    assert_eq!(answer.body().as_ref(), b"/v1/42 127.0.0.1 true 0");
    assert_eq!(client.get(&url("/deep/nested/7")).await.unwrap().status(), 200, "a nested route shows a shorter path");
    let refused = client.get(&url("/v2")).await.unwrap_err();
    assert_eq!(refused.retry(), Retry::No);
    let SendError::Problem { problem, .. } = refused else { panic!("{refused}") };
    assert_eq!((problem.status, problem.kind.as_str(), problem.caveats.len()), (403, "not-permitted", 1));

    // Narrowed to the request: what is asked is allowed, and it says no more than that.
    let narrowing = client.clone().narrowing("/v1");
    assert_eq!(kind(narrowing.get(&url("/v1/42")).await), "not-permitted", "no gateway takes the prefix off here");
    let narrowing = client.narrowing("");
    assert_eq!(narrowing.get(&url("/v1/42?page=2")).await.unwrap().status(), 200);

    let expired = Client::new(&token(&key, 9, &[Caveat::Expires(1)]));
    assert_eq!(kind(expired.get(&url("/v1")).await), "expired");
    let foreign = Client::new(&token(&SigningKey::generate(), 9, &[]));
    assert_eq!(kind(foreign.get(&url("/v1")).await), "invalid-token");
    assert_eq!(kind(Client::new("xyz").get(&url("/v1")).await), "truncated-token");
    let id = postern_client::inspect(&token(&key, 9, &[]), None).unwrap();
    assert!(!id.blocks.is_empty());
}

#[tokio::test]
async fn a_body_is_read_where_a_caveat_asks_and_handed_on() {
    let key = SigningKey::generate();
    let at = service(Verifier::of("orders").unwrap().key(&key.public().to_string()).unwrap()).await;
    let url = format!("http://{at}/mcp");
    let client = Client::new(&token(&key, 1, &Caveat::of_flag("tool", &["search"], 0).unwrap()));
    let call = |tool: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let answer = client.post_json(&url, call("search")).await.unwrap();
    assert_eq!(answer.body().as_ref(), format!("/mcp 127.0.0.1 true {}", call("search").len()).as_bytes());
    assert_eq!(kind(client.post_json(&url, call("delete")).await), "not-permitted");
    assert_eq!(kind(client.post_json(&url, "{").await), "bad-body");
    assert_eq!(kind(client.post_json(&url, call(&"s".repeat(2000))).await), "body-too-large");
}

#[tokio::test]
async fn a_route_without_the_layer_does_nothing() {
    let at = serve(Router::new().fallback(any(handler))).await;
    let refused = Client::new("x").get(&format!("http://{at}/")).await.unwrap_err();
    let SendError::Problem { problem, .. } = refused else { panic!("{refused}") };
    assert_eq!((problem.status, problem.kind.as_str()), (500, "no-capability-layer"));
}

#[tokio::test]
async fn nobody_there_is_said_and_that_repeating_is_safe() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::new("x").get(&format!("http://{address}/")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), ("unreachable", Retry::Safe));
    // Something that hangs up: for a POST nobody knows.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let error = Client::new("x").post_json(&format!("http://{address}/"), "{}").await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), ("unknown-outcome", Retry::Unknown));
    let error = Client::new("x").get(&format!("http://{address}/")).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), ("unknown-outcome", Retry::Safe));
}

/// What stands at the place of the key document, and how often it was asked for.
#[derive(Clone, Default)]
struct Document(Arc<Mutex<(String, usize)>>);

impl Document {
    fn set(&self, text: impl Into<String>) {
        self.0.lock().unwrap().0 = text.into();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }

    async fn serve(&self) -> SocketAddr {
        async fn answer(State(document): State<Document>, _: HeaderMap) -> (axum::http::StatusCode, String) {
            let mut state = document.0.lock().unwrap();
            state.1 += 1;
            match state.0.as_str() {
                "" => (axum::http::StatusCode::SERVICE_UNAVAILABLE, String::new()),
                text => (axum::http::StatusCode::OK, text.to_owned()),
            }
        }
        serve(Router::new().route(KEY_DOCUMENT_PATH, get(answer)).with_state(self.clone())).await
    }
}

fn refresh(fresh: Duration, age_max: Duration, interval_min: Duration) -> Refresh {
    Refresh { fresh, age_max, interval_min, transport: None }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn rotated_keys_flow_through_and_retired_ones_end() {
    let (one, two) = (SigningKey::generate(), SigningKey::generate());
    let document = Document::default();
    let mut ring = KeyRing::of(KeyId(1), one.public());
    document.set(key_document(&ring, &[]));
    let gateway = format!("http://{}", document.serve().await);
    let setup = Verifier::of("orders").unwrap().refresh(refresh(LONG, LONG, Duration::ZERO));
    let verifier = setup.gateway(&gateway).await.unwrap();
    let url = format!("http://{}/", service(verifier.clone()).await);
    let (old, new) = (Client::new(&token(&one, 1, &[])), Client::new(&token(&two, 2, &[])));
    assert_eq!(old.get(&url).await.unwrap().status(), 200);
    assert_eq!(kind(new.get(&url).await), "unknown-key");

    ring.rotate(KeyId(2), two.public()).unwrap();
    document.set(key_document(&ring, &[]));
    // An unknown number has the document looked at again, although it is fresh.
    assert_eq!(new.get(&url).await.unwrap().status(), 200);
    assert_eq!(old.get(&url).await.unwrap().status(), 200);

    ring.retire(KeyId(1)).unwrap();
    document.set(key_document(&ring, &[]));
    assert_eq!(old.get(&url).await.unwrap().status(), 200, "the document is still fresh");
    verifier.refresh().await.unwrap();
    assert_eq!(kind(old.get(&url).await), "revoked");
    assert_eq!(new.get(&url).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unknown_key_asks_the_gateway_at_most_once_in_an_interval() {
    let key = SigningKey::generate();
    let document = Document::default();
    document.set(key_document(&KeyRing::of(KeyId(1), key.public()), &[]));
    let gateway = format!("http://{}", document.serve().await);
    let setup = Verifier::of("orders").unwrap().refresh(refresh(LONG, LONG, LONG));
    let url = format!("http://{}/", service(setup.gateway(&gateway).await.unwrap()).await);
    let foreign = Client::new(&token(&SigningKey::generate(), 7, &[]));
    for _ in 0..5 {
        assert_eq!(kind(foreign.get(&url).await), "unknown-key");
    }
    assert_eq!(document.asked(), 2, "once at the start, once for all of these");
}

#[tokio::test]
async fn keys_that_are_too_old_are_not_gone_by() {
    let key = SigningKey::generate();
    let document = Document::default();
    let text = key_document(&KeyRing::of(KeyId(1), key.public()), &[]);
    document.set(text.clone());
    let gateway = format!("http://{}", document.serve().await);
    let setup = Verifier::of("orders").unwrap().refresh(refresh(Duration::ZERO, Duration::ZERO, Duration::ZERO));
    let url = format!("http://{}/", service(setup.gateway(&gateway).await.unwrap()).await);
    let client = Client::new(&token(&key, 1, &[]));
    assert_eq!(client.get(&url).await.unwrap().status(), 200);
    document.set("");
    let refused = client.get(&url).await.unwrap_err();
    assert_eq!((refused.kind(), refused.retry()), ("unavailable", Retry::Safe));
    document.set(text);
    assert_eq!(client.get(&url).await.unwrap().status(), 200, "once they can be had again, it goes on");
}

#[tokio::test]
async fn what_is_wrong_with_keys_is_a_typed_error() {
    let setup = || Verifier::of("orders").unwrap();
    let kind = |result: Result<Verifier, SetupError>| result.err().unwrap().kind();
    assert_eq!(kind(setup().key("secp256r1/02")), "bad-key");
    assert_eq!(kind(setup().key_file("/nowhere/root.pub")), "unreadable-key");
    assert_eq!(kind(setup().mount("/a/../b").key(&SigningKey::generate().public().to_string())), "bad-path");
    assert_eq!(Verifier::of("Orders").err().unwrap().kind(), "bad-resource");
    let document = Document::default();
    let gateway = format!("http://{}", document.serve().await);
    for (text, wanted) in [
        ("", "keys-unavailable"),
        ("<html>", "bad-key-document"),
        ("[]", "bad-key-document"),
        (r#"[{"algorithm":"ed25519","key_bytes":"00","key_id":1}]"#, "bad-key-document"),
    ] {
        document.set(text);
        assert_eq!(kind(setup().gateway(&gateway).await), wanted, "{text}");
    }
    for url in ["", "127.0.0.1:1", "ftp//x", "http://u:p@127.0.0.1:1"] {
        assert_eq!(kind(setup().gateway(url).await), "bad-url", "{url}");
    }
}

//! The client over TLS, against a real axum service with rustls: whichever HTTP the handshake agrees on, whom it trusts, what it
//! presents; and what becomes of a connection when nobody waits for its answer any longer.

#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(all(feature = "axum", feature = "http-client"))]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::any;
use postern_client::{
    Believed, Capability, CapabilityLayer, Client, KeyId, Retry, Right, SendError, SigningKey, Transport, Unreachable,
    Verifier, mint,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Long enough on any machine; nothing waits for all of it unless it fails.
const SOON: Duration = Duration::from_secs(20);

/// A certificate of its own authority, and its key, as files hold them.
struct Identity {
    certificate: String,
    key: String,
}

fn identity(name: &str) -> Identity {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
}

/// Accepts TLS, and counts the connections whose handshake was done.
struct TlsListener {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
    accepted: Arc<AtomicUsize>,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, peer) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                self.accepted.fetch_add(1, Ordering::SeqCst);
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// Serves over TLS, offering these protocols; the port, and how many connections there were.
async fn serve(service: Router, identity: &Identity, protocols: &[&str]) -> (u16, Arc<AtomicUsize>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let listener = TlsListener { tcp, acceptor: TlsAcceptor::from(Arc::new(config)), accepted: Arc::clone(&accepted) };
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    (port, accepted)
}

/// A service that decides for itself and says by which HTTP, for which path, and by what token it was asked.
fn service(key: &SigningKey) -> Router {
    let verifier = Verifier::of("orders")
        .unwrap()
        .believe(Believed::Connection)
        .mount("/orders")
        .key(&key.public().to_string())
        .unwrap();
    let handler = |capability: Capability| async move { format!("{} {}", capability.host(), capability.path()) };
    let shown = from_fn(|request: Request, next: axum::middleware::Next| async move {
        let (version, token) = (request.version(), request.headers()["authorization"].clone());
        let mut response = next.run(request).await;
        response.headers_mut().insert("x-token", token);
        response.headers_mut().insert("x-version", format!("{version:?}").parse().unwrap());
        response.into_response()
    });
    Router::new().fallback(any(handler)).layer(CapabilityLayer::new(verifier)).layer(shown)
}

fn token(key: &SigningKey) -> String {
    let right = Right { resource: "orders".parse().unwrap(), operation: "*".parse().unwrap() };
    mint(key, KeyId(1), &[right], &[]).ok().unwrap().expose().to_owned()
}

fn trusting(identity: &Identity) -> Transport {
    Transport::trusting(identity.certificate.as_bytes()).unwrap()
}

#[tokio::test]
async fn each_request_is_narrowed_over_whichever_http_tls_agrees_on() {
    let key = SigningKey::generate();
    let full = token(&key);
    for (offered, spoken) in
        [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1"), (&["h2"], "HTTP/2.0")]
    {
        let identity = identity("localhost");
        let (port, accepted) = serve(service(&key), &identity, offered).await;
        let url = |path: &str| format!("https://localhost:{port}/orders{path}");
        let client = Client::new(&full).narrowing("/orders").transport(trusting(&identity));
        let answer = client.get(&url("/1?a=b")).await.unwrap();
        assert_eq!(answer.body().as_ref(), b"localhost /1", "{offered:?}");
        assert_eq!(answer.headers()["x-version"], spoken, "{offered:?}");
        assert_eq!(format!("{:?}", answer.version()), spoken);
        let presented = answer.headers()["x-token"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        assert_ne!(presented, full);
        // What was presented is good for that request and for no other.
        let stolen = Client::new(&presented).transport(trusting(&identity));
        assert_eq!(stolen.get(&url("/1?a=b")).await.unwrap().status(), 200);
        for other in ["/2?a=b", "/1?a=c", "/1"] {
            assert_eq!(stolen.get(&url(other)).await.unwrap_err().kind(), "not-permitted", "{other}");
        }
        assert_eq!(stolen.post_json(&url("/1?a=b"), "{}").await.unwrap_err().kind(), "not-permitted");
        // Sequential requests share a connection.
        client.get(&url("/3")).await.unwrap();
        assert_eq!(accepted.load(Ordering::SeqCst), 2, "one for each of the two transports");
    }
}

#[tokio::test]
async fn whoever_is_not_shown_to_be_the_right_one_is_sent_nothing() {
    let key = SigningKey::generate();
    let full = token(&key);
    let (ours, theirs, misnamed) = (identity("localhost"), identity("localhost"), identity("elsewhere.example"));
    let (port, accepted) = serve(service(&key), &ours, &["h2", "http/1.1"]).await;
    let url = format!("https://localhost:{port}/orders/1");
    // The system's authorities signed neither; and another authority is not this one.
    for client in [Client::new(&full), Client::new(&full).transport(trusting(&theirs))] {
        let error = client.get(&url).await.unwrap_err();
        assert!(matches!(&error, SendError::Unreachable(Unreachable::Untrusted { .. })), "{error}");
        assert_eq!((error.kind(), error.retry()), ("unreachable", Retry::Safe));
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("nothing was sent: the certificate of localhost:{port} is not accepted (")),
            "{text}"
        );
        assert!(text.contains("Transport::trusting") && !text.contains(&full), "{text}");
    }
    let (port, strange) = serve(service(&key), &misnamed, &[]).await;
    let client = Client::new(&full).transport(trusting(&misnamed));
    let text = client.get(&format!("https://localhost:{port}/orders/1")).await.unwrap_err().to_string();
    assert!(text.contains("not accepted") && text.contains("elsewhere.example"), "{text}");
    assert_eq!((accepted.load(Ordering::SeqCst), strange.load(Ordering::SeqCst)), (0, 0), "no handshake was done");
}

#[tokio::test]
async fn what_is_no_tls_and_what_is_nobody_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let why = |url: String| async move { Client::new("x").get(&url).await.unwrap_err().to_string() };
    let text = why(format!("https://{address}/")).await;
    assert!(
        text.contains(&format!("{address} cannot be connected to: what answers there does not speak TLS")),
        "{text}"
    );
    let text = why("http://no-such-host.invalid/".to_owned()).await;
    assert!(text.contains("the name in no-such-host.invalid cannot be looked up"), "{text}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(
        why(format!("http://{free}/")).await,
        format!("nothing was sent: nothing listens at {free}; is it started, and is this its address?")
    );
    for wrong in ["orders/1", "ftp://gateway/", "https://me:word@gateway/"] {
        let error = Client::new("x").get(wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), ("bad-request", Retry::No), "{error}");
        assert!(!error.to_string().contains("word"), "{error}");
    }
}

#[tokio::test]
async fn one_who_hangs_in_the_handshake_was_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = Client::new("x").timeout(Duration::from_millis(200));
    let error = client.post_json(&format!("https://{address}/"), "{}").await.unwrap_err();
    assert!(matches!(&error, SendError::Unreachable(Unreachable::Slow { .. })), "{error}");
    assert_eq!(error.retry(), Retry::Safe);
    // One who takes the request and is silent may have acted upon it.
    let error = client.post_json(&format!("http://{address}/"), "{}").await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), ("unknown-outcome", Retry::Unknown));
    drop(listener);
}

#[tokio::test]
async fn nobody_waits_any_longer_and_no_connection_is_left_behind() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = Client::new("x");
    let asking = tokio::spawn({
        let (client, url) = (client.clone(), url.clone());
        async move { client.post_json(&url, "{}").await }
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut taken = Vec::new();
    while !taken.ends_with(b"{}") {
        assert_ne!(stream.read_buf(&mut taken).await.unwrap(), 0);
    }
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    // The other end sees the connection close: it is not kept, with an answer outstanding that nobody would read.
    assert_eq!(timeout(SOON, stream.read(&mut [0; 16])).await.unwrap().unwrap_or(0), 0);
    // And the client goes on, on a connection of its own.
    let again = tokio::spawn(async move { client.get(&url).await });
    let (mut stream, _) = timeout(SOON, listener.accept()).await.unwrap().unwrap();
    let _ = stream.read(&mut [0; 1024]).await.unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    assert_eq!(again.await.unwrap().unwrap().status(), 204);
}

#[tokio::test]
async fn a_call_that_is_given_up_on_http_2_leaves_its_connection_to_the_others() {
    let key = SigningKey::generate();
    let identity = identity("localhost");
    let (taken_up, given_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let counters = (Arc::clone(&taken_up), Arc::clone(&given_up));
    let slow = any(move || {
        counters.0.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&counters.1));
        async move {
            std::future::pending::<()>().await;
            drop(counted);
        }
    });
    let (port, accepted) = serve(service(&key).route("/slow", slow), &identity, &["h2"]).await;
    let client = Client::new(&token(&key)).transport(trusting(&identity));
    let url = |path: &str| format!("https://localhost:{port}{path}");
    client.get(&url("/orders/1")).await.unwrap();
    let slow = url("/slow");
    for times in 1..=5 {
        tokio::select! {
            answer = client.get(&slow) => panic!("{answer:?}"),
            () = reaches(&taken_up, times) => {}
        }
        client.get(&url("/orders/1")).await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1, "all of it went over one connection");
    // The service is told of each that nobody waits for any longer.
    reaches(&given_up, 5).await;
}

async fn reaches(counter: &AtomicUsize, wanted: usize) {
    let reached = async {
        while counter.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, reached).await.expect("it gets there");
}

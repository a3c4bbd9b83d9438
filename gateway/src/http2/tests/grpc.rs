//! gRPC calls: silence is theirs to keep, deadlines are kept, and every end is a status.

use std::time::Duration;

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{Client, Gate, Sent, Service, bytes, listen, local, nothing, ok, read_request, whole};
use crate::limits::Limits;

const BEGIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ntransfer-encoding: chunked\r\n\r\n";
const MESSAGE: &[u8] = b"5\r\n\0\0\0\0\0\r\n";
const END: &[u8] = b"0\r\ngrpc-status: 0\r\n\r\n";

fn call(client: &Client, timeout: Option<&str>) -> Request<Sent> {
    let call = client.request("POST", "/orders/shop.Orders/Get").header("content-type", "application/grpc");
    let call = if let Some(timeout) = timeout { call.header("grpc-timeout", timeout) } else { call };
    call.body(bytes("\0\0\0\0\0")).expect("a request")
}

/// Sends a call; the service has read it. `begin` is what it says at once.
async fn under_way(
    gate: &Gate,
    listener: &TcpListener,
    timeout: Option<&str>,
    begin: &'static [u8],
) -> (tokio::task::JoinHandle<(http::Response<hyper::body::Incoming>, Client)>, TcpStream) {
    let mut client = gate.client().await;
    let request = call(&client, timeout);
    let answering = tokio::task::spawn_local(async move { (client.send(request).await, client) });
    let (mut service, _) = listener.accept().await.expect("accepted");
    read_request(&mut service).await.expect("a request");
    service.write_all(begin).await.expect("written");
    (answering, service)
}

fn status(fields: &HeaderMap) -> (&str, &str) {
    let value = |name: &str| fields.get(name).map_or("", |value| value.to_str().expect("text"));
    (value("grpc-status"), value("grpc-message"))
}

/// Whether the connection ends without another byte; whether by an end or by a reset is the system's choice.
async fn is_over(service: &mut TcpStream) -> bool {
    matches!(service.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn a_caller_reads_refusals_as_a_status() {
    local(async {
        let (_service, upstream) = Service::start(|_| ok("")).await;
        let mut client = Gate::before(&upstream).client().await;
        let path = "http://gate.example/orders/shop.Orders/Get";
        let without_token = Request::post(path).header("content-type", "application/grpc");
        let (parts, _) = whole(client.send(without_token.body(nothing()).expect("a request")).await).await;
        assert_eq!((parts.status.as_u16(), status(&parts.headers).0), (200, "16"));
        // What is no call is refused in HTTP's own way.
        for (method, kinds) in [("GET", &["application/grpc"][..]), ("POST", &["application/grpc", "text/plain"])] {
            let mut other = Request::builder().method(method).uri(path);
            for kind in kinds {
                other = other.header("content-type", *kind);
            }
            let (parts, _) = whole(client.send(other.body(nothing()).expect("a request")).await).await;
            assert_eq!((parts.status.as_u16(), status(&parts.headers).0), (401, ""));
        }
        for wrong in ["1", "1s", "123456789S", "", "1S, 1S"] {
            let request = call(&client, Some(wrong));
            let (parts, _) = whole(client.send(request).await).await;
            assert_eq!(status(&parts.headers).0, "3", "{wrong:?}");
        }
    })
    .await;
}

/// A service may answer late and say little: with both ends alive, silence ends nothing.
#[tokio::test]
async fn silence_ends_no_call() {
    local(async {
        let short = Duration::from_millis(20);
        let limits = Limits { upstream_response_timeout: short, body_stall_timeout: short, ..Limits::default() };
        let (listener, upstream) = listen().await;
        let gate = Gate::with(&upstream, limits, |_| {});
        let (answering, mut service) = under_way(&gate, &listener, None, b"").await;
        for bytes in [BEGIN, MESSAGE, END] {
            tokio::time::sleep(short * 4).await;
            service.write_all(bytes).await.expect("written");
        }
        let (parts, body) = whole(answering.await.expect("answered").0).await;
        assert_eq!((status(&parts.headers).0, body.len()), ("0", 5));
    })
    .await;
}

#[tokio::test]
async fn a_deadline_is_kept_before_and_within_the_answer() {
    local(async {
        for begin in [b"", BEGIN] {
            let limits = Limits { grpc_deadline_grace: Duration::from_millis(10), ..Limits::default() };
            let (listener, upstream) = listen().await;
            let gate = Gate::with(&upstream, limits, |_| {});
            let (answering, mut service) = under_way(&gate, &listener, Some("30m"), begin).await;
            let (response, mut client) = answering.await.expect("answered");
            let (parts, _) = whole(response).await;
            assert_eq!(status(&parts.headers).0, "4", "{parts:?}");
            assert!(status(&parts.headers).1.starts_with("deadline-exceeded: "));
            assert!(is_over(&mut service).await, "the service's call is cancelled");
            let request = call(&client, Some("0n"));
            let (parts, _) = whole(client.send(request).await).await;
            assert_eq!(status(&parts.headers).0, "4", "the connection goes on");
        }
    })
    .await;
}

/// The answer ends, and with the status that says that it is not whole.
#[tokio::test]
async fn a_service_that_breaks_off_is_unavailable() {
    local(async {
        for begin in [b"", BEGIN] {
            let (listener, upstream) = listen().await;
            let gate = Gate::before(&upstream);
            let (answering, mut service) = under_way(&gate, &listener, None, begin).await;
            if !begin.is_empty() {
                service.write_all(&MESSAGE[..6]).await.expect("written");
            }
            drop(service);
            let (parts, body) = whole(answering.await.expect("answered").0).await;
            assert_eq!(status(&parts.headers).0, "14", "{parts:?}");
            assert_eq!(body.len(), if begin.is_empty() { 0 } else { 3 });
        }
        // Trailers behind a declared length that was not reached would be malformed: there the reset says it.
        let declared = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 9\r\n\r\nhalf";
        let (listener, upstream) = listen().await;
        let gate = Gate::before(&upstream);
        let (answering, service) = under_way(&gate, &listener, None, declared).await;
        let (response, _client) = answering.await.expect("answered");
        drop(service);
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

/// Law 6 in gRPC's words, whether the answer has begun or not.
#[tokio::test]
async fn a_revocation_ends_calls_as_unauthenticated() {
    local(async {
        for begin in [b"", BEGIN] {
            let (listener, upstream) = listen().await;
            let gate = Gate::before(&upstream);
            let (answering, mut service) = under_way(&gate, &listener, Some("1H"), begin).await;
            // Where the answer is to have begun, the gateway has taken it in before: bytes that it leaves unread would reset
            // the service's connection instead of ending it.
            let answered = if begin.is_empty() {
                gate.revoke();
                answering.await
            } else {
                let begun = answering.await;
                gate.revoke();
                begun
            };
            let (response, mut client) = answered.expect("answered");
            let (parts, _) = whole(response).await;
            assert_eq!(status(&parts.headers).0, "16", "{parts:?}");
            assert!(status(&parts.headers).1.starts_with("revoked: "), "{parts:?}");
            assert!(is_over(&mut service).await, "the service's call is cancelled");
            let request = call(&client, None);
            assert_eq!(status(&whole(client.send(request).await).await.0.headers).0, "16");
        }
    })
    .await;
}

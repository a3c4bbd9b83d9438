//! What the tests have in common: a service that records what reaches it, a worker before it, a client.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
use postern_capabilities::message::Scheme;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::Unverified;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};

use super::super::serve;
use crate::config::TrustedProxies;
use crate::limits::Limits;
use crate::request::Peer;
use crate::request::resource::Resource;
use crate::request::route::Routes;
use crate::telemetry::Telemetry;
use crate::upstream::group::Group;
use crate::worker::Worker;

pub(super) async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// A service that answers each request with what `answer` makes of it, and remembers the requests' bytes.
#[derive(Clone, Default)]
pub(super) struct Service {
    pub(super) seen: Rc<RefCell<Vec<String>>>,
    pub(super) connections: Rc<RefCell<usize>>,
}

impl Service {
    pub(super) async fn start(answer: impl Fn(&str) -> Vec<u8> + Clone + 'static) -> (Self, Rc<str>) {
        let service = Self::default();
        let (listener, address) = listen().await;
        let recorded = service.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *recorded.connections.borrow_mut() += 1;
                tokio::task::spawn_local(recorded.clone().converse(stream, answer.clone()));
            }
        });
        (service, address)
    }

    async fn converse(self, mut stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>) {
        while let Some(request) = read_request(&mut stream).await {
            self.seen.borrow_mut().push(request.clone());
            let bytes = answer(&request);
            if bytes.is_empty() || stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

pub(super) async fn listen() -> (TcpListener, Rc<str>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound").to_string().into();
    (listener, address)
}

/// One whole request: its head, and the body that the head declares.
pub(super) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let declared = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let is_whole = match declared {
                Some(length) => body.len() >= length,
                None if head.contains("transfer-encoding: chunked") => {
                    body.ends_with("\r\n\r\n") && (body.starts_with("0\r\n") || body.contains("\r\n0\r\n"))
                }
                None => true,
            };
            if is_whole {
                return Some(text);
            }
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(length @ 1..) => text.push_str(std::str::from_utf8(&bytes[..length]).expect("text")),
            _ => return None,
        }
    }
}

pub(super) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A worker with one resource, `orders`, before a service.
pub(super) struct Gate {
    pub(super) worker: Rc<Worker>,
    pub(super) token: String,
    /// What the TLS handshake asked for, if there was one.
    pub(super) server_name: Option<Rc<str>>,
    pub(super) shutdown: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn before(upstream: &Rc<str>) -> Self {
        Self::with(upstream, Limits::default(), |_| {})
    }

    pub(super) fn with(upstream: &Rc<str>, limits: Limits, change: impl FnOnce(&mut Resource)) -> Self {
        let key = SigningKey::generate();
        let standing = Arc::new(Standing::new(KeyRing::of(KeyId(1), key.public())));
        let right = Right { resource: ResourceName::parse("orders").expect("a name"), operation: Operation::any() };
        let token = mint(&key, KeyId(1), &[right], &[]).expect("minted").expose().to_owned();
        let mut resource = Resource::for_tests("orders", None, "/orders");
        resource.upstreams = Group::of_tests(&[upstream], limits.clone());
        change(&mut resource);
        let worker = Worker::new(
            Routes::new(vec![Rc::new(resource)]),
            Rc::new(limits),
            standing,
            TrustedProxies::default(),
            Telemetry::without_log().worker(),
        );
        Self { worker: Rc::new(worker), token, server_name: None, shutdown: watch::channel(false).0 }
    }

    /// Ends the token of [`Gate::token`].
    pub(super) fn revoke(&self) {
        let ids = Unverified::parse(&self.token).expect("a token").revocation_ids().to_vec();
        self.worker.standing.revoke(&ids);
        // What the worker does as soon as it is told.
        self.worker.leases.settle();
    }

    /// A connection to the gateway, and the task that serves it.
    pub(super) fn wire(&self) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let peer = Peer {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            is_introduced: false,
            scheme: Scheme::Http,
            server_name: self.server_name.clone(),
            client_cert: None,
        };
        let (worker, shutdown) = (Rc::clone(&self.worker), self.shutdown.subscribe());
        (near, tokio::task::spawn_local(async move { serve(&worker, far, peer, shutdown).await }))
    }

    pub(super) async fn client(&self) -> Client {
        let (wire, served) = self.wire();
        let io = hyper_util::rt::TokioIo::new(wire);
        let (sender, connection) = hyper::client::conn::http2::handshake(Local, io).await.expect("shaken");
        let connection = tokio::task::spawn_local(async move { drop(connection.await) });
        Client { sender, token: self.token.clone(), served, connection, _up: self.shutdown.clone() }
    }
}

/// Runs hyper's tasks on the test's own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

pub(super) type Sent = BoxBody<Bytes, std::convert::Infallible>;

pub(super) struct Client {
    pub(super) sender: SendRequest<Sent>,
    token: String,
    pub(super) served: JoinHandle<()>,
    pub(super) connection: JoinHandle<()>,
    /// A gateway whose sender is gone is shutting down.
    _up: watch::Sender<bool>,
}

impl Client {
    /// A request with the token.
    pub(super) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let authorization = format!("Bearer {}", self.token);
        Request::builder()
            .method(method)
            .uri(format!("http://gate.example{path}"))
            .header("authorization", authorization)
    }

    pub(super) async fn send(&mut self, request: Request<Sent>) -> Response<Incoming> {
        self.sender.ready().await.expect("open");
        self.sender.send_request(request).await.expect("answered")
    }

    pub(super) async fn get(&mut self, path: &str) -> (http::response::Parts, String) {
        let request = self.request("GET", path).body(nothing()).expect("a request");
        whole(self.send(request).await).await
    }
}

pub(super) fn nothing() -> Sent {
    Empty::new().boxed()
}

pub(super) fn bytes(text: &str) -> Sent {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

/// The whole of a response; its trailers join its fields.
pub(super) async fn whole(response: Response<Incoming>) -> (http::response::Parts, String) {
    let (mut parts, body) = response.into_parts();
    let collected = body.collect().await.expect("a whole body");
    let trailers = collected.trailers().cloned().unwrap_or_else(HeaderMap::new);
    parts.headers.extend(trailers);
    (parts, String::from_utf8(collected.to_bytes().to_vec()).expect("text"))
}

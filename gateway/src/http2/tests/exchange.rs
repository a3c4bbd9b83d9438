//! Ordinary exchanges, and how they end when a side fails.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::harness::{Gate, Sent, Service, bytes, listen, local, nothing, ok, read_request, whole};
use crate::limits::Limits;

/// A body whose frames the test sends when it likes, without a declared length.
fn streamed() -> (mpsc::UnboundedSender<Frame<Bytes>>, Sent) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Frames(receiver).boxed())
}

struct Frames(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

#[tokio::test]
async fn a_message_is_checked_and_forwarded_as_http_1() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("here")).await;
        let gate = Gate::before(&upstream);
        let mut client = gate.client().await;
        let (parts, body) = client.get("/orders/42?page=2").await;
        assert_eq!((parts.status.as_u16(), body.as_str()), (200, "here"));
        assert_eq!(parts.headers["via"], "1.1 postern");
        let seen = service.seen.borrow()[0].clone();
        assert!(seen.starts_with("GET /42?page=2 HTTP/1.1\r\nhost: gate.example\r\n"), "{seen}");
        assert!(seen.contains("via: 2 postern\r\n"), "{seen}");
        assert!(!seen.contains(&gate.token), "the token ends here");
    })
    .await;
}

/// Authority is a stream's own: what one stream presented lets no other in (T5).
#[tokio::test]
async fn nothing_is_remembered_between_streams() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("here")).await;
        let mut client = Gate::before(&upstream).client().await;
        assert_eq!(client.get("/orders/1").await.0.status, 200);
        let bare = Request::builder().uri("http://gate.example/orders/1").body(nothing()).expect("a request");
        let (parts, body) = whole(client.send(bare).await).await;
        assert_eq!(parts.status, 401);
        assert_eq!(parts.headers["www-authenticate"], "Bearer realm=\"postern\"");
        assert!(body.contains("missing-capability"), "{body}");
        assert_eq!(client.get("/orders/1").await.0.status, 200);
        assert_eq!(service.seen.borrow().len(), 2);
        assert_eq!(*service.connections.borrow(), 1, "the upstream connection is used again");
    })
    .await;
}

#[tokio::test]
async fn a_declared_length_stays_one() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("")).await;
        let mut client = Gate::before(&upstream).client().await;
        let request = client.request("POST", "/orders").header("content-length", "5").body(bytes("hello"));
        assert_eq!(client.send(request.expect("a request")).await.status(), 200);
        let seen = service.seen.borrow()[0].clone();
        assert!(seen.contains("content-length: 5\r\n") && seen.ends_with("\r\n\r\nhello"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn bodies_and_trailers_are_streamed_both_ways() {
    local(async {
        let answer = |_: &str| {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\npostern-x: 1\r\n\r\n"
                .to_vec()
        };
        let (service, upstream) = Service::start(answer).await;
        let mut client = Gate::before(&upstream).client().await;
        let (sender, body) = streamed();
        for part in ["one", "two"] {
            sender.send(Frame::data(Bytes::from(part))).expect("open");
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checked", "yes".parse().expect("a value"));
        for name in ["x-forwarded-for", "authorization", "postern-capability", "cookie", "content-type", "x_real_ip"] {
            trailers.insert(name, "6".parse().expect("a value"));
        }
        sender.send(Frame::trailers(trailers)).expect("open");
        drop(sender);
        let request = client.request("POST", "/orders").body(body).expect("a request");
        let (parts, body) = whole(client.send(request).await).await;
        assert_eq!(body, "abcde");
        assert_eq!(parts.headers["x-sum"], "5");
        assert!(!parts.headers.contains_key("postern-x"), "an upstream cannot speak in the gateway's name");
        let seen = service.seen.borrow()[0].clone();
        assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
        assert!(seen.contains("3\r\none\r\n") && seen.contains("3\r\ntwo\r\n"), "{seen}");
        assert!(seen.ends_with("0\r\nx-checked: yes\r\n\r\n"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    local(async {
        let answer = |_: &str| b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".to_vec();
        let (service, upstream) = Service::start(answer).await;
        let mut client = Gate::before(&upstream).client().await;
        for _ in 0..2 {
            let request = client.request("HEAD", "/orders").body(nothing()).expect("a request");
            let (parts, body) = whole(client.send(request).await).await;
            assert_eq!(parts.headers["content-length"], "1234");
            assert_eq!(body, "");
        }
        assert_eq!(*service.connections.borrow(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_can_begin_before_the_request_ends() {
    local(async {
        let (listener, upstream) = listen().await;
        let mut client = Gate::before(&upstream).client().await;
        let (sender, body) = streamed();
        let request = client.request("POST", "/orders").body(body).expect("a request");
        let answering = tokio::task::spawn_local(async move { client.send(request).await });
        let (mut service, _) = listener.accept().await.expect("accepted");
        let mut seen = [0; 4096];
        assert!(service.read(&mut seen).await.expect("a head") > 0);
        service.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n").await.expect("written");
        let mut response = answering.await.expect("answered").into_body();
        let first = response.frame().await.expect("a frame").expect("data").into_data().expect("data");
        assert_eq!(first, "A");
        sender.send(Frame::data(Bytes::from("later"))).expect("open");
        let mut text = String::new();
        while !text.contains("later") {
            let length = service.read(&mut seen).await.expect("the rest");
            text.push_str(std::str::from_utf8(&seen[..length]).expect("text"));
        }
        drop(sender);
        service.write_all(b"0\r\n\r\n").await.expect("written");
        assert!(response.collect().await.expect("a clean end").to_bytes().is_empty());
    })
    .await;
}

/// An answer that breaks off must not look whole to the client.
#[tokio::test]
async fn an_answer_that_breaks_off_is_a_reset() {
    local(async {
        for broken in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense",
        ] {
            let (listener, upstream) = listen().await;
            let mut client = Gate::before(&upstream).client().await;
            let request = client.request("GET", "/orders").body(nothing()).expect("a request");
            let answering = tokio::task::spawn_local(async move { client.sender.send_request(request).await });
            let (mut service, _) = listener.accept().await.expect("accepted");
            read_request(&mut service).await.expect("a request");
            service.write_all(broken.as_bytes()).await.expect("written");
            drop(service);
            // The reset may overtake the head.
            if let Ok(response) = answering.await.expect("no panic") {
                assert!(response.into_body().collect().await.is_err(), "{broken:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_that_fails_before_it_answers_is_a_problem() {
    local(async {
        let (listener, nobody) = listen().await;
        drop(listener);
        let (_closing, closing) = Service::start(|_| Vec::new()).await;
        let (_mad, mad) = Service::start(|_| b"SSH-2.0-hello\r\n".to_vec()).await;
        let switching = |_: &str| b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        let (_switching, switching) = Service::start(switching).await;
        for (upstream, kind) in [
            (nobody, "upstream-unreachable"),
            (closing, "upstream-closed"),
            (mad, "upstream-nonsense"),
            (switching, "upstream-nonsense"),
        ] {
            let (parts, body) = Gate::before(&upstream).client().await.get("/orders").await;
            assert_eq!(parts.status, 502);
            assert!(body.contains(kind), "{body}");
            assert!(!body.contains(&*upstream), "where the service is, is nobody's business: {body}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_service_is_a_timeout_and_other_streams_go_on() {
    local(async {
        let limits = Limits { upstream_response_timeout: Duration::from_millis(20), ..Limits::default() };
        let (_listener, upstream) = listen().await;
        let mut client = Gate::with(&upstream, limits, |_| {}).client().await;
        for _ in 0..2 {
            let (parts, body) = client.get("/orders").await;
            assert_eq!(parts.status, 504, "{body}");
        }
    })
    .await;
}

/// A kept connection that the service closed meanwhile: a GET is sent once more, a POST never (T32).
#[tokio::test]
async fn only_what_may_be_repeated_is_repeated() {
    local(async {
        let (listener, upstream) = listen().await;
        let mut client = Gate::before(&upstream).client().await;
        let serving = tokio::task::spawn_local(async move {
            let mut requests = Vec::new();
            // One answer, then the next request on that connection is met with an end; what follows is answered again.
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                requests.push(read_request(&mut stream).await.expect("a request"));
                stream.write_all(&ok("")).await.expect("written");
                if let Some(request) = read_request(&mut stream).await {
                    requests.push(request);
                }
            }
            requests
        });
        for (method, status) in [("GET", 200), ("GET", 200), ("POST", 502), ("GET", 200)] {
            let request = client.request(method, "/orders").body(nothing()).expect("a request");
            assert_eq!(whole(client.send(request).await).await.0.status, status, "{method}");
        }
        drop(client);
        let requests = serving.await.expect("served");
        let posts = requests.iter().filter(|request| request.starts_with("POST")).count();
        assert_eq!((requests.len(), posts), (5, 1), "{requests:?}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_exchange() {
    local(async {
        let (listener, upstream) = listen().await;
        let gate = Gate::before(&upstream);
        let mut client = gate.client().await;
        let request = client.request("GET", "/orders").body(nothing()).expect("a request");
        let answering = tokio::task::spawn_local(async move { (client.send(request).await, client) });
        let (mut service, _) = listener.accept().await.expect("accepted");
        read_request(&mut service).await.expect("a request");
        service
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
            .await
            .expect("written");
        let (response, _client) = answering.await.expect("answered");
        drop(response);
        assert_eq!(service.read(&mut [0; 16]).await.expect("an end"), 0);
        assert_eq!(gate.worker.pool.idle(), 0, "a connection in the middle of an answer is never kept");
    })
    .await;
}

#[tokio::test]
async fn a_body_beyond_the_resources_bound_is_refused_while_it_streams() {
    local(async {
        let (listener, upstream) = listen().await;
        let mut client = Gate::with(&upstream, Limits::default(), |r| r.max_body = Some(4)).client().await;
        let (sender, body) = streamed();
        for _ in 0..3 {
            sender.send(Frame::data(Bytes::from("abc"))).expect("open");
        }
        let request = client.request("POST", "/orders").body(body).expect("a request");
        let (parts, body) = whole(client.send(request).await).await;
        assert_eq!(parts.status, 413, "{body}");
        let (mut service, _) = listener.accept().await.expect("accepted");
        assert!(read_request(&mut service).await.is_none(), "the request never became whole");
    })
    .await;
}

/// HTTP/2 clients use a connection for every host of its certificate. The name that was asked for in the handshake is
/// the only one that counts here (T34).
#[tokio::test]
async fn a_host_that_the_handshake_did_not_name_is_misdirected() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("")).await;
        let mut gate = Gate::before(&upstream);
        gate.server_name = Some("other.example".into());
        let (parts, body) = gate.client().await.get("/orders").await;
        assert_eq!(parts.status, 421, "{body}");
        assert!(service.seen.borrow().is_empty());
        gate.server_name = Some("gate.example".into());
        assert_eq!(gate.client().await.get("/orders").await.0.status, 200);
    })
    .await;
}

#[tokio::test]
async fn the_crumbs_of_a_cookie_are_put_together() {
    local(async {
        let (service, upstream) = Service::start(|_| ok("")).await;
        let mut client = Gate::before(&upstream).client().await;
        let request = client.request("GET", "/orders").header("cookie", "a=1").header("cookie", "b=2");
        client.send(request.body(nothing()).expect("a request")).await;
        let seen = service.seen.borrow()[0].clone();
        assert_eq!(seen.matches("cookie: ").count(), 1, "{seen}");
        assert!(seen.contains("cookie: a=1; b=2\r\n"), "{seen}");
    })
    .await;
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_new_ones() {
    local(async {
        let (listener, upstream) = listen().await;
        let gate = Gate::before(&upstream);
        let mut client = gate.client().await;
        let request = client.request("GET", "/orders").body(nothing()).expect("a request");
        let under_way = client.sender.send_request(request);
        let under_way = tokio::task::spawn_local(under_way);
        let (mut service, _) = listener.accept().await.expect("accepted");
        read_request(&mut service).await.expect("a request");
        gate.shutdown.send(true).expect("the connection listens");
        service.write_all(&ok("still")).await.expect("written");
        let response = under_way.await.expect("no panic").expect("answered");
        assert_eq!(whole(response).await.1, "still");
        client.served.await.expect("the connection ended");
        client.connection.await.expect("and the client knows");
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_ends() {
    local(async {
        let limits = Limits { idle_timeout: Duration::from_millis(20), ..Limits::default() };
        let (_service, upstream) = Service::start(|_| ok("")).await;
        let mut client = Gate::with(&upstream, limits, |_| {}).client().await;
        client.get("/orders").await;
        client.served.await.expect("the connection ended");
    })
    .await;
}

/// What the gateway holds of an answer does not grow with it: the service is read as fast as the client reads.
#[tokio::test]
async fn a_slow_client_slows_the_service() {
    local(async {
        const LENGTH: usize = 64 << 20;
        let (listener, upstream) = listen().await;
        let mut client = Gate::before(&upstream).client().await;
        let request = client.request("GET", "/orders").body(nothing()).expect("a request");
        let answering = tokio::task::spawn_local(async move { (client.send(request).await, client) });
        let (mut service, _) = listener.accept().await.expect("accepted");
        read_request(&mut service).await.expect("a request");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        service.write_all(head.as_bytes()).await.expect("written");
        let (response, _client) = answering.await.expect("answered");
        let written = Rc::new(std::cell::Cell::new(0));
        let counted = Rc::clone(&written);
        let writing = tokio::task::spawn_local(async move {
            let stretch = vec![b'x'; 1 << 16];
            while counted.get() < LENGTH {
                service.write_all(&stretch).await.expect("written");
                counted.set(counted.get() + stretch.len());
            }
        });
        // Until nothing moves any more: what is in flight then is what sockets and windows hold.
        let mut before = usize::MAX;
        while before != written.get() {
            before = written.get();
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
        assert!(before < LENGTH / 2, "{before} bytes were taken from the service with nobody reading");
        let body = response.into_body().collect().await.expect("a whole body");
        assert_eq!(body.to_bytes().len(), LENGTH);
        writing.await.expect("all was written");
    })
    .await;
}

/// Law 6 on streams that are open at that moment: an event stream says why it ends, any other body breaks off.
#[tokio::test]
async fn a_revocation_ends_open_streams() {
    local(async {
        for (kind, is_event_stream) in [("text/event-stream", true), ("text/plain", false)] {
            let (listener, upstream) = listen().await;
            let gate = Gate::before(&upstream);
            let mut client = gate.client().await;
            let request = client.request("GET", "/orders").body(nothing()).expect("a request");
            let answering = tokio::task::spawn_local(async move { (client.send(request).await, client) });
            let (mut service, _) = listener.accept().await.expect("accepted");
            read_request(&mut service).await.expect("a request");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\ndata: 1\n\n");
            service.write_all(head.as_bytes()).await.expect("written");
            let (response, mut client) = answering.await.expect("answered");
            let mut body = response.into_body();
            let first = body.frame().await.expect("a frame").expect("data").into_data().expect("data");
            assert_eq!(first, "data: 1\n\n");
            gate.revoke();
            match body.collect().await {
                Ok(rest) => {
                    let rest = rest.to_bytes();
                    assert!(is_event_stream && rest.starts_with(b"event: revoked\ndata: "), "{rest:?}");
                    assert!(rest.ends_with(b"\n\n"));
                }
                Err(_) => assert!(!is_event_stream),
            }
            assert_eq!(service.read(&mut [0; 16]).await.expect("the upstream exchange ends too"), 0);
            assert_eq!(client.get("/orders").await.0.status, 401);
        }
    })
    .await;
}

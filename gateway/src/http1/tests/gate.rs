//! The loop with the real way behind it: tokens, routes, refusals.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
use postern_capabilities::message::Scheme;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::Standing;

use super::*;
use crate::config::TrustedProxies;
use crate::request::Peer;
use crate::request::resource::Resource;
use crate::request::route::Routes;
use crate::upstream::group::Group;
use crate::worker::Worker;

struct Gate {
    address: SocketAddr,
    upstream: TcpListener,
    token: String,
}

impl Gate {
    async fn new() -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let key = SigningKey::generate();
        let standing = Arc::new(Standing::new(KeyRing::of(KeyId(1), key.public())));
        let operation = Operation::parse("GET").expect("an operation");
        let right = Right { resource: ResourceName::parse("orders").expect("a name"), operation };
        let token = mint(&key, KeyId(1), &[right], &[]).expect("minted").expose().to_owned();
        let mut resource = Resource::for_tests("orders", None, "/orders");
        resource.upstreams = Group::for_tests(&upstream.local_addr().expect("bound").to_string());
        let worker = Rc::new(Worker::new(
            Routes::new(vec![Rc::new(resource)]),
            Rc::new(Limits::default()),
            standing,
            TrustedProxies::default(),
            Telemetry::without_log().worker(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
                let peer =
                    Peer { address, is_introduced: false, scheme: Scheme::Http, server_name: None, client_cert: None };
                let worker = Rc::clone(&worker);
                spawn_local(async move { super::super::serve(&worker, stream, peer, Leaving::never()).await });
            }
        });
        Self { address, upstream, token }
    }

    async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.expect("connected"))
    }
}

/// HOSTILE T5, T8, T9: each message stands for itself, and the service sees neither the token nor what `Connection` hides.
#[test]
fn only_what_was_permitted_goes_up() {
    test(async {
        let gate = Gate::new().await;
        let mut client = gate.client().await;
        let bearer = format!("Authorization: Bearer {}\r\n", gate.token);
        client.send(format!("GET /orders/42?x=1 HTTP/1.1\r\nHost: h\r\n{bearer}Connection: X-Gone\r\nX-Gone: 1\r\nX_Forwarded_For: evil\r\nX-Stays: 1\r\n\r\nGET /orders/42 HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let mut upstream = Wire::new(gate.upstream.accept().await.expect("accepted").0);
        let head = upstream.head().await;
        assert!(head.starts_with("GET /42?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("X-Stays: 1\r\n") && head.contains("x-forwarded-for: 127.0.0.1\r\n"), "{head}");
        assert!(!head.contains("X-Gone") && !head.contains("evil") && !head.contains(&gate.token[..16]), "{head}");
        upstream.send(OK).await;
        assert!(client.until("ok").await.starts_with("HTTP/1.1 200"));
        let refused = client.head().await;
        assert!(
            refused.starts_with("HTTP/1.1 401") && refused.contains("www-authenticate: Bearer realm=\"postern\"\r\n"),
            "{refused}"
        );
    });
}

#[test]
fn refusals_keep_the_connection_where_the_next_request_is_certain() {
    test(async {
        let gate = Gate::new().await;
        let mut client = gate.client().await;
        let bearer = format!("Authorization: Bearer {}\r\n", gate.token);
        for (request, status) in [
            (format!("POST /orders/42 HTTP/1.1\r\nHost: h\r\n{bearer}Content-Length: 3\r\n\r\nabc"), "403"),
            (format!("GET /orders/../x HTTP/1.1\r\nHost: h\r\n{bearer}\r\n"), "400"),
            (format!("GET /nothing HTTP/1.1\r\nHost: h\r\n{bearer}\r\n"), "404"),
            ("GET /.well-known/biscuit-web-keys HTTP/1.1\r\nHost: h\r\n\r\n".into(), "200"),
            ("BAD".into(), ""),
        ] {
            client.send(&request).await;
            if status.is_empty() {
                client.half_close().await;
                assert_eq!(client.rest().await, "");
                break;
            }
            let head = client.head().await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
            client.bytes(length.expect("a length").parse().expect("a number")).await;
        }
    });
}

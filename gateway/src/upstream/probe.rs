//! One health check: a GET over the resource's own transport, and the status of its answer.
//!
//! It carries nothing of any message, and no token: what is asked is what the operator configured, in the gateway's own
//! name. The answer's head is read as strictly as any upstream's; its body is of no interest.

use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::board::Seat;
use super::endpoint::Endpoint;
use super::h2;
use super::tls::Offer;
use super::transport::{self, Dialled};
use crate::config::{HealthCheck, Resource};
use crate::head::Spans;
use crate::head::response::ResponseRead;
use crate::limits::{Limits, is_exhaustion};

/// What is needed to ask the addresses of one configured upstream.
pub(super) struct Probe {
    endpoint: Rc<Endpoint>,
    health: HealthCheck,
    /// The request.
    head: String,
}

impl Probe {
    /// For one of a resource's upstreams.
    pub(super) fn new(resource: &Resource, health: &HealthCheck, endpoint: Rc<Endpoint>) -> Self {
        let host = resource.upstream_host.clone().unwrap_or_else(|| endpoint.upstream().authority());
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: postern-health\r\naccept: */*\r\nconnection: close\r\n\r\n",
            health.path,
        );
        Self { endpoint, health: health.clone(), head }
    }

    /// Asks one address; `None` where the gateway has nothing left to make a connection of, which says nothing of the
    /// address. The error is why the check does not pass, as a clause: "it answered 503".
    pub(super) async fn check(&self, seat: &Seat, limits: &Limits) -> Option<Result<(), String>> {
        let asked = timeout(self.health.timeout, self.connect_and_ask(seat, limits)).await;
        let status = match asked {
            Err(_) => return Some(Err("it did not answer its health check in time".to_owned())),
            Ok(asked) => asked?,
        };
        Some(match status {
            Ok(status) if self.health.passes(status) => Ok(()),
            Ok(status) => Err(format!("it answered its health check with {status}")),
            Err(reason) => Err(reason),
        })
    }

    async fn connect_and_ask(&self, seat: &Seat, limits: &Limits) -> Option<Result<u16, String>> {
        let address = seat.address();
        match transport::connect(&self.endpoint, address.as_slice(), Offer::Any).await {
            Ok(connected) => Some(self.ask(connected, limits).await),
            Err(error) if is_exhaustion(&error) => None,
            Err(error) => Some(Err(format!("no connection for its health check can be made: {error}"))),
        }
    }

    async fn ask(&self, connected: Dialled, limits: &Limits) -> Result<u16, String> {
        let cut = |error: std::io::Error| format!("the connection of its health check broke: {error}");
        let is_h2 = connected.is_h2();
        let mut stream = connected.stream;
        if is_h2 {
            let asked = h2::ask(stream, self.head.as_bytes(), self.endpoint.uri_scheme(), limits).await;
            return asked.map_err(|error| format!("its answer to the health check is no HTTP/2: {error}"));
        }
        stream.write_all(self.head.as_bytes()).await.map_err(cut)?;
        let (mut input, mut spans) = (Vec::with_capacity(1024), Spans::new());
        loop {
            let read = ResponseRead::read(&input, false, &mut spans, limits);
            match read.map_err(|error| format!("its answer to the health check is not strict HTTP: {error}"))? {
                // A hint; the answer follows.
                Some(read) if read.is_informational() => {
                    input.drain(..read.length());
                    continue;
                }
                Some(read) => return Ok(read.status()),
                None => {}
            }
            if stream.read_buf(&mut input).await.map_err(cut)? == 0 {
                return Err("it closed the connection of its health check without an answer".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::upstream::board::Roster;

    /// What a peer of these tests is asked and answers; `None`: it says nothing.
    async fn asked(answer: Option<&'static str>) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound").to_string();
        let mut resource = Resource::for_tests(&[&address]);
        let time = std::time::Duration::from_millis(if answer.is_some() { 10_000 } else { 50 });
        let health = HealthCheck {
            path: "/health".into(),
            interval: time,
            timeout: time,
            healthy_after: 1,
            unhealthy_after: 1,
            status: vec![200..=399],
        };
        resource.health = Some(health.clone());
        let roster = Roster::new(&resource, None);
        let seat = Arc::clone(&roster.watch().borrow()[0]);
        let probe = Probe::new(&resource, &health, Endpoint::new(&resource.upstream[0], None));
        let peer = async {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut head).await.expect("read");
            }
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.expect("written"),
                None => std::future::pending().await,
            }
            String::from_utf8(head).expect("text")
        };
        let limits = Limits::default();
        let check = probe.check(&seat, &limits);
        match answer {
            Some(_) => {
                let (head, result) = tokio::join!(peer, check);
                (head.replace(&address, "ADDRESS"), result.expect("asked"))
            }
            None => tokio::select! {
                _ = peer => (String::new(), Ok(())),
                result = check => (String::new(), result.expect("asked")),
            },
        }
    }

    #[tokio::test]
    async fn a_check_asks_plainly_and_goes_by_the_status() {
        let (head, result) = asked(Some("HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")).await;
        assert_eq!(
            head,
            "GET /health HTTP/1.1\r\nhost: ADDRESS\r\nuser-agent: postern-health\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(result, Ok(()));
        let sentence = |text: &str| Err(text.to_owned());
        let (_, result) = asked(Some("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(result, sentence("it answered its health check with 503"));
        let (_, result) = asked(Some("HTTP/1.1 200")).await;
        assert_eq!(result, sentence("it closed the connection of its health check without an answer"));
        let (_, result) = asked(None).await;
        assert_eq!(result, sentence("it did not answer its health check in time"));
        let (_, result) = asked(Some("SSH-2.0\r\n")).await;
        assert!(result.expect_err("nonsense").starts_with("its answer to the health check is not strict HTTP: "));
    }
}

//! One stream's way: its head becomes a message, the message is received, and what comes of it is answered.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HeaderMap};
use http::request::Parts;
use postern_capabilities::authorize::Refusal;
use postern_capabilities::message::is_grpc;
use postern_capabilities::problem::Problem;
use tokio::time::timeout;

use super::activity::Active;
use super::answer::{self, Caller};
use super::exchange::{CLIENT_GONE, Exchange};
use super::held;
use super::reply::Reply;
use super::rest::drop_rest;
use super::room::Room;
use crate::head::{self, Glimpse, Head, HeadError, Spans};
use crate::limits::Limits;
use crate::request::cors::Cross;
use crate::request::error::Refused;
use crate::request::forward::UpstreamHead;
use crate::request::rpc::Rpc;
use crate::request::ticket::Ticket;
use crate::request::{self, Peer, Received, grpc};
use crate::telemetry::Protocol;
use crate::worker::Worker;

/// Serves a stream to its end. `active` keeps its connection from counting as idle.
pub(super) async fn run(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<RecvStream>,
    mut reply: Reply,
    active: Active,
) {
    let (parts, mut body) = request.into_parts();
    let caller = caller(&parts);
    let mut room = Room::of(&worker, &active);
    let has_room = room.takes_fields(&parts.headers);
    let mut head = UpstreamHead::default();
    let (mut held, mut cross) = (None, None);
    let first = if waits_for_data(&parts, &body) { Box::pin(first_data(&mut body, &worker)).await } else { None };
    let is_ended = first.is_none() && body.is_end_stream();
    let mut received = receive(&worker, &peer, &parts, is_ended, None, None, (&mut head, &mut cross));
    if has_room && let Ok((Received::Undecided { max, rate, lease }, ticket)) = received {
        // Decided once more, by all of it. On the heap, like an exchange: a stream that is refused needs no room for it.
        let whole = Box::pin(held::read_whole(&worker, &parts, &mut body, (max, rate), &mut reply, &lease));
        received = match whole.await {
            Ok(whole) => {
                let (whole, _) = held.insert(whole);
                receive(&worker, &peer, &parts, is_ended, Some(whole), Some(ticket), (&mut head, &mut cross))
            }
            Err(Some(refused)) => Err(refuse(refused, ticket, &worker)),
            Err(None) => {
                let mut ticket = ticket;
                ticket.refused(CLIENT_GONE);
                return ticket.close(&worker);
            }
        };
    }
    let mut answer = match received {
        Ok((Received::Forward(admitted), ticket)) if protocol(&parts).is_some() && admitted.switch.is_none() => {
            answer::refusal(&refuse(Refused::ProtocolNotServed, ticket, &worker), &caller)
        }
        // Mostly it was refused already, since a message begins only where much is left.
        Ok((received, ticket))
            if !has_room || matches!(received, Received::Forward(_)) && !room.takes_exchange(head.memory()) =>
        {
            answer::refusal(&refuse(worker.shed(), ticket, &worker), &caller)
        }
        Ok((Received::Forward(admitted), ticket)) => {
            // Whether it can be read was asked before anything else.
            let asked = if caller == Caller::Grpc { grpc_timeout(&parts).ok().flatten() } else { None };
            let deadline = asked.and_then(|asked| {
                ticket.started().checked_add(asked.saturating_add(worker.limits().grpc_deadline_grace))
            });
            drop(parts);
            let exchange =
                Exchange { worker, admitted, head, body, first, held, caller, deadline, ticket, active, room };
            return Box::pin(exchange.run(reply)).await;
        }
        // A message whose body was read is decided.
        Ok((Received::Undecided { .. }, ticket)) => {
            let problem = refuse(Refused::Refusal(Refusal::BodyFactsRequired), ticket, &worker);
            answer::refusal(&problem, &caller)
        }
        Ok((Received::Answer(own), ticket)) => {
            let answer = answer::own(own, &caller);
            finish(ticket, &worker, answer.status().as_u16());
            answer
        }
        Err(problem) => answer::refusal(&problem, &caller),
    };
    if let Some(cross) = &cross {
        cross.apply(answer.headers_mut());
    }
    drop((parts, head, held));
    room.keeps_stream_only();
    // Whether it arrives is no longer of interest: it has been counted, and nothing went up.
    let _ = reply.whole(answer, &worker.limits()).await;
    drop_rest(body, &worker).await;
    drop(active);
}

/// Whether a stream is waited for that may have no body: a method that has none as a rule, and nothing that declares one. Some
/// clients end such a stream with an empty DATA frame instead of with its head, and a service that is sent a body with GET
/// or HEAD may refuse it.
fn waits_for_data(parts: &Parts, body: &RecvStream) -> bool {
    matches!(parts.method.as_str(), "GET" | "HEAD" | "DELETE" | "OPTIONS")
        && !body.is_end_stream()
        && protocol(parts).is_none()
        && !parts.headers.contains_key(CONTENT_LENGTH)
        && !parts.headers.contains_key(EXPECT)
}

/// The first bytes of a body; `None`: there are none, or they are too long in coming.
async fn first_data(body: &mut RecvStream, worker: &Worker) -> Option<Bytes> {
    let first = async {
        while let Some(Ok(data)) = body.data().await {
            if !data.is_empty() {
                let _ = body.flow_control().release_capacity(data.len());
                return Some(data);
            }
        }
        None
    };
    timeout(worker.limits().body_stall_timeout, first).await.ok().flatten()
}

/// Reads the head and takes it through the request path; the second time with the whole body, and the ticket of the first.
/// A refusal is counted and logged here; what its answer says to a browser is put into `cross`.
fn receive(
    worker: &Rc<Worker>,
    peer: &Peer,
    parts: &Parts,
    is_ended: bool,
    body: Option<&[u8]>,
    opened: Option<Ticket>,
    (out, cross): (&mut UpstreamHead, &mut Option<Rc<Cross>>),
) -> Result<(Received, Ticket), Box<Problem>> {
    let (mut buffer, mut spans) = (Vec::new(), Spans::new());
    let mut ticket;
    let received = match assemble(peer, parts, is_ended, &mut buffer, &mut spans, &worker.limits()) {
        Ok(head) => {
            ticket = opened.unwrap_or_else(|| Ticket::open(worker, peer.address, &head));
            let received = request::receive(worker, peer, &head, body, &mut ticket, out);
            cross.clone_from(&ticket.cross);
            received
        }
        Err(error) => {
            let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
            let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
            let method = parts.method.as_str();
            let seen = Glimpse::of_parts(method.as_bytes(), target.as_bytes(), authority.as_bytes());
            ticket = Ticket::unreadable(worker, peer.address, Protocol::Http2, &seen);
            Err(Refused::Head(error))
        }
    };
    match received {
        Ok(received) => Ok((received, ticket)),
        Err(refused) => Err(refuse(refused, ticket, worker)),
    }
}

/// Counts and logs a refusal.
fn refuse(refused: Refused, mut ticket: Ticket, worker: &Worker) -> Box<Problem> {
    let problem = Box::new(ticket.wording.of_problem(refused.problem()));
    ticket.refused(problem.kind);
    finish(ticket, worker, problem.status);
    problem
}

fn finish(mut ticket: Ticket, worker: &Worker, status: u16) {
    ticket.responded(worker, status);
    ticket.close(worker);
}

/// Puts what `h2` decoded into a [`Head`], under the rules that hold for every head.
fn assemble<'b>(
    peer: &Peer,
    parts: &Parts,
    is_ended: bool,
    buffer: &'b mut Vec<u8>,
    spans: &'b mut Spans,
    limits: &Limits,
) -> Result<Head<'b>, HeadError> {
    let scheme = match (parts.uri.scheme_str(), peer.scheme) {
        (Some("https"), _) => head::Scheme::Https,
        (Some("http"), _) => head::Scheme::Http,
        (Some(_), _) => return Err(HeadError::Target),
        // Without `:authority`, the URI has no room for the scheme.
        (None, postern_capabilities::message::Scheme::Https) => head::Scheme::Https,
        (None, postern_capabilities::message::Scheme::Http) => head::Scheme::Http,
    };
    if caller(parts) == Caller::Grpc {
        grpc_timeout(parts)?;
    }
    let protocol = protocol(parts);
    if protocol.is_some() && parts.headers.contains_key(CONTENT_LENGTH) {
        return Err(HeadError::Upgrade);
    }
    // RFC 9113 section 8.2.3: a cookie may come in crumbs, and HTTP/1.1 knows only one field of them.
    let cookie = whole_cookie(&parts.headers);
    let fields = parts.headers.iter().filter(|(name, _)| cookie.is_none() || *name != COOKIE);
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let fields = fields.chain(cookie.as_deref().map(|cookie| (COOKIE.as_str().as_bytes(), cookie)));
    let parts = head::Parts {
        // Extended CONNECT is what `GET` with `Upgrade` is in HTTP/1.1, and one operation has one name.
        method: if protocol.is_some() { b"GET" } else { parts.method.as_str().as_bytes() },
        target: parts.uri.path_and_query().map_or(&b""[..], |target| target.as_str().as_bytes()),
        authority: parts.uri.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes()),
        needs_host: true,
        scheme,
        fields,
        protocol,
        // What follows is no body, but belongs to the other protocol.
        ended: is_ended || protocol.is_some(),
    };
    Head::assemble(parts, buffer, spans, limits)
}

/// The crumbs of a cookie put together; `None` where there are not several.
fn whole_cookie(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(|crumb| crumb.as_bytes()).collect();
    (crumbs.len() > 1).then(|| crumbs.join(&b"; "[..]))
}

/// What extended CONNECT would switch to. `h2` lets `:protocol` through on CONNECT alone.
fn protocol(parts: &Parts) -> Option<&[u8]> {
    parts.extensions.get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().as_bytes())
}

/// In which form a refusal is read.
fn caller(parts: &Parts) -> Caller {
    let mut kinds = parts.headers.get_all(CONTENT_TYPE).iter();
    match (parts.method.as_str(), kinds.next(), kinds.next()) {
        ("HEAD", ..) => Caller::HttpHead,
        ("POST", Some(kind), None) if is_grpc(kind.as_bytes()) => Caller::Grpc,
        ("POST", Some(kind), None) => {
            let says_connect = || parts.headers.contains_key("connect-protocol-version");
            Rpc::of_post(kind.as_bytes(), says_connect).map_or(Caller::Http, |rpc| Caller::Rpc(Box::new(rpc)))
        }
        (method, ..) => Rpc::of_get(method, parts.uri.query()).map_or(Caller::Http, |rpc| Caller::Rpc(Box::new(rpc))),
    }
}

/// How long a gRPC call may take, where it says so.
fn grpc_timeout(parts: &Parts) -> Result<Option<Duration>, HeadError> {
    let mut values = parts.headers.get_all("grpc-timeout").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => grpc::timeout(value.as_bytes()).map(Some).ok_or(HeadError::GrpcTimeout),
        (Some(_), Some(_)) => Err(HeadError::GrpcTimeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{EXCHANGE_BYTES, STREAM_BYTES};

    fn run_takes<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    fn exchange_takes<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// The budget counts what an open stream takes by two constants; this is what they stand for.
    #[test]
    fn a_stream_takes_no_more_than_it_is_counted_for() {
        let (stream, exchange) =
            (run_takes(run as fn(_, _, _, _, _) -> _), exchange_takes(Exchange::run as fn(_, _) -> _));
        assert!(stream <= STREAM_BYTES * 2 / 3, "{stream}: the rest is what `h2` notes");
        assert!(exchange <= EXCHANGE_BYTES, "{exchange}");
    }
}

//! HTTP/2 for clients, on hyper.
//!
//! hyper and `h2` keep the protocol (RFC 9113: frames, flow control, floods, the malformed requests of section 8.1); what
//! they decode is put into the same [`Head`] and through the same rules as an HTTP/1 head before anything looks at it, and
//! goes up as HTTP/1.1 that the gateway writes itself. Nothing is remembered on a connection: each stream presents its
//! own capability.
//!
//! * this file: a connection's life and a stream's way through [`request::receive`]
//! * [`exchange`]: a permitted message and its upstream, both directions at once ([`upload`], [`download`]),
//!   for as long as its capability stands ([`lease`])
//! * [`answer`], [`body`]: what the client's stream gets; [`rest`]: what it still sends afterwards

mod answer;
mod body;
mod download;
mod exchange;
mod lease;
mod rest;
#[cfg(test)]
mod tests;
mod upload;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, COOKIE, HeaderMap};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::{sleep, sleep_until};

use self::answer::Caller;
use self::body::Answer;
use self::exchange::Exchange;
use crate::head::{self, Head, HeadError, Spans};
use crate::limits::Limits;
use crate::request::error::Refused;
use crate::request::forward::UpstreamHead;
use crate::request::ticket::Ticket;
use crate::request::{self, Peer, Received};
use crate::telemetry::Protocol;
use crate::worker::Worker;

/// Bytes that hyper buffers of answers for one stream, beyond the client's window.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves one connection until it ends, is idle for too long, or the gateway drains.
pub async fn serve<IO>(worker: &Rc<Worker>, io: IO, peer: Peer, mut shutdown: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = worker.limits();
    let activity = Rc::new(Activity::new());
    let peer = Rc::new(peer);
    let service = {
        let (worker, activity) = (Rc::clone(worker), Rc::clone(&activity));
        service_fn(move |request| {
            let active = Active::on(&activity);
            let (worker, peer) = (Rc::clone(&worker), Rc::clone(&peer));
            async move { Ok::<_, Infallible>(message(worker, &peer, request, active).await) }
        })
    };
    let mut connection = pin!(builder(&limits).serve_connection(TokioIo::new(io), service));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection ended");
                }
                return;
            }
            // GOAWAY: streams that are under way finish, new ones go elsewhere.
            _ = shutdown.wait_for(|down| *down), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.over(&limits), if !is_leaving => {
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            // A peer that does not answer to GOAWAY either is gone.
            () = activity.silence(limits.h2_ping_timeout), if is_leaving => return,
        }
    }
}

/// Every setting is explicit: hyper's defaults may change, the table of limits is what holds.
fn builder(limits: &Limits) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max)
        .initial_stream_window_size(limits.h2_stream_window_bytes)
        .initial_connection_window_size(limits.h2_connection_window_bytes)
        .max_pending_accept_reset_streams(limits.h2_pending_accept_reset_max)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(limits.h2_ping_interval)
        .keep_alive_timeout(limits.h2_ping_timeout);
    builder
}

/// Runs hyper's tasks on the worker's own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// One stream: its head becomes a message, the message is received, and what comes of it is answered.
async fn message(worker: Rc<Worker>, peer: &Peer, request: Request<Incoming>, active: Active) -> Response<Answer> {
    let (parts, body) = request.into_parts();
    let caller = caller(&parts);
    let mut upstream_head = UpstreamHead::default();
    match receive(&worker, peer, &parts, body.is_end_stream(), &mut upstream_head) {
        Err(refused) => {
            rest::drop_rest_beside(body, &worker.limits(), active);
            answer::refusal(&refused, caller)
        }
        Ok((Received::Answer(own), ticket)) => {
            let response = answer::own(own, caller);
            finish(ticket, &worker, response.status().as_u16());
            rest::drop_rest_beside(body, &worker.limits(), active);
            response
        }
        Ok((Received::Forward(admitted), ticket)) => {
            let is_head = caller == Caller::HttpHead;
            let exchange = Exchange { worker, admitted, head: upstream_head, body, is_head, ticket, active };
            let (respond, response) = oneshot::channel();
            spawn_local(exchange.run(respond));
            match response.await {
                Ok(Ok(response)) => response,
                Ok(Err(refused)) => answer::refusal(&refused, caller),
                Err(_) => answer::refusal(&Refused::UpstreamClosed, caller),
            }
        }
    }
}

/// Reads the head and takes it through the request path. A refusal is counted and logged here.
fn receive(
    worker: &Worker,
    peer: &Peer,
    parts: &Parts,
    is_ended: bool,
    out: &mut UpstreamHead,
) -> Result<(Received, Ticket), Refused> {
    let (mut buffer, mut spans) = (Vec::new(), Spans::new());
    let mut ticket;
    let received = match assemble(peer, parts, is_ended, &mut buffer, &mut spans, &worker.limits()) {
        Ok(head) => {
            ticket = Ticket::open(worker, peer.address, &head);
            request::receive(worker, peer, &head, &mut ticket, out)
        }
        Err(error) => {
            ticket = Ticket::unreadable(worker, peer.address, Protocol::Http2);
            Err(Refused::Head(error))
        }
    };
    match received {
        Ok(received) => Ok((received, ticket)),
        Err(refused) => {
            let problem = refused.problem();
            ticket.refused(problem.kind);
            finish(ticket, worker, problem.status);
            Err(refused)
        }
    }
}

fn finish(mut ticket: Ticket, worker: &Worker, status: u16) {
    ticket.responded(worker, status);
    ticket.close(worker);
}

/// Puts what hyper decoded into a [`Head`], under the rules that hold for every head.
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
        // Without `:authority`, hyper's URI has no room for the scheme.
        (None, postern_capabilities::message::Scheme::Https) => head::Scheme::Https,
        (None, postern_capabilities::message::Scheme::Http) => head::Scheme::Http,
    };
    // RFC 9113 section 8.2.3: a cookie may come in crumbs, and HTTP/1.1 knows only one field of them.
    let cookie = whole_cookie(&parts.headers);
    let fields = parts.headers.iter().filter(|(name, _)| cookie.is_none() || *name != COOKIE);
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let fields = fields.chain(cookie.as_deref().map(|cookie| (COOKIE.as_str().as_bytes(), cookie)));
    let parts = head::Parts {
        method: parts.method.as_str().as_bytes(),
        target: parts.uri.path_and_query().map_or(&b""[..], |target| target.as_str().as_bytes()),
        authority: parts.uri.authority().map_or(&b""[..], |authority| authority.as_str().as_bytes()),
        scheme,
        fields,
        protocol: None,
        ended: is_ended,
    };
    Head::assemble(parts, buffer, spans, limits)
}

/// The crumbs of a cookie put together; `None` where there are not several.
fn whole_cookie(headers: &HeaderMap) -> Option<Vec<u8>> {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(|crumb| crumb.as_bytes()).collect();
    (crumbs.len() > 1).then(|| crumbs.join(&b"; "[..]))
}

/// In which form a refusal is read.
fn caller(parts: &Parts) -> Caller {
    const GRPC: &[u8] = b"application/grpc";
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let is_grpc = kind.get(..GRPC.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(GRPC))
        && matches!(kind.get(GRPC.len()), None | Some(b'+' | b';' | b' '));
    match parts.method.as_str() {
        "HEAD" => Caller::HttpHead,
        _ if is_grpc => Caller::Grpc,
        _ => Caller::Http,
    }
}

/// Whether anything goes on on a connection.
struct Activity {
    active: Cell<usize>,
    requests: Cell<u64>,
    since: Cell<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self { active: Cell::new(0), requests: Cell::new(0), since: Cell::new(Instant::now()) }
    }

    /// Resolves when nothing has gone on for the idle time, or the connection has had its share of requests.
    async fn over(&self, limits: &Limits) {
        loop {
            if self.requests.get() >= limits.requests_per_connection_max {
                return;
            }
            match self.active.get() {
                0 if self.since.get().elapsed() >= limits.idle_timeout => return,
                0 => sleep_until((self.since.get() + limits.idle_timeout).into()).await,
                _ => sleep(limits.idle_timeout).await,
            }
        }
    }

    /// Resolves after some time without any stream.
    async fn silence(&self, time: std::time::Duration) {
        loop {
            sleep(time).await;
            if self.active.get() == 0 && self.since.get().elapsed() >= time {
                return;
            }
        }
    }
}

/// Something that goes on, for as long as this is held.
struct Active(Rc<Activity>);

impl Active {
    fn on(activity: &Rc<Activity>) -> Self {
        activity.active.set(activity.active.get() + 1);
        activity.requests.set(activity.requests.get() + 1);
        Self(Rc::clone(activity))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.since.set(Instant::now());
    }
}

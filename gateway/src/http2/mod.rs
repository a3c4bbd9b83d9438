//! HTTP/2 for clients, on `h2`.
//!
//! `h2` keeps the protocol (RFC 9113: frames, flow control, floods, the malformed requests of section 8.1); what it
//! decodes is put into the same [`Head`](crate::head::Head) and through the same rules as an HTTP/1 head before anything
//! looks at it, and goes up as a request that the gateway writes itself. Nothing is remembered on a connection: each
//! stream presents its own capability.
//!
//! One thing is lost before it is seen here: `h2` hands `:path` over as a URI of the `http` crate, which cuts a fragment
//! off (`/a#b` becomes `/a`), and keeps the text itself nowhere. So a path with a `#`, which HTTP/1 refuses with 400, is on
//! HTTP/2 the path before it: that one is checked, and that one is forwarded.
//!
//! * this file: a connection's life; [`activity`]: whether anything goes on on it, and whether its other end still lives
//! * [`stream`]: one stream's way through [`receive`](crate::request::receive); [`held`]: where its body decides
//! * [`exchange`]: a permitted message and its upstream, both directions at once ([`upload`], [`download`]),
//!   for as long as its capability stands ([`lease`])
//! * [`switch`]: a stream that becomes a tunnel, as a [`pipe`]
//! * [`answer`], [`reply`]: what the client's stream gets; [`rest`]: what it still sends afterwards
//! * [`room`], [`outgoing`]: what a stream, and its answer on its way, take of the memory that all connections share

mod activity;
mod answer;
mod download;
mod exchange;
mod held;
mod lease;
mod outgoing;
mod pipe;
mod reply;
mod rest;
mod room;
mod stream;
mod switch;
#[cfg(test)]
mod tests;
mod upload;

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use h2::Reason;
use h2::server::{self, Builder, SendResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

use self::activity::{Activity, Heard, lost};
use self::outgoing::Outgoing;
use self::reply::Reply;
use crate::limits::Limits;
use crate::request::Peer;
use crate::worker::Worker;

/// The largest frame that is taken: the smallest size that RFC 9113 section 4.2 lets one ask for.
const FRAME_BYTES_MAX: u32 = 16 * 1024;

/// Serves one connection until it ends, is idle for too long, or the gateway drains.
pub async fn serve<IO>(worker: &Rc<Worker>, io: IO, peer: Peer, mut shutdown: watch::Receiver<bool>)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let limits = worker.limits();
    let outgoing = Outgoing::new(&worker.budget, &limits);
    let (io, is_heard) = Heard::on(io, &outgoing);
    let shaken = tokio::select! {
        shaken = timeout(limits.head_timeout, builder(&limits).handshake::<_, Bytes>(io)) => shaken,
        _ = shutdown.wait_for(|down| *down) => return,
    };
    let mut connection: server::Connection<_, Bytes> = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "an HTTP/2 connection did not begin"),
        Err(_) => return tracing::debug!("an HTTP/2 connection did not begin in time"),
    };
    let activity = Activity::new(&limits);
    let peer = Rc::new(peer);
    let mut lost = pin!(lost(connection.ping_pong(), &is_heard, &limits));
    let mut idle = pin!(activity.idle(limits.idle_timeout));
    let mut silent = pin!(activity.idle(limits.h2_ping_timeout));
    let mut draining = pin!(shutdown.wait_for(|down| *down));
    let mut is_leaving = false;
    let unfinished = activity.unfinished();
    let served = async {
        loop {
            let must_leave = tokio::select! {
                biased;
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, mut respond))) => {
                        if is_reset(&mut respond) {
                            activity.takes_back();
                        } else {
                            let (active, reply) = (activity.begin(), Reply::on(respond, &outgoing));
                            spawn_local(stream::run(Rc::clone(worker), Rc::clone(&peer), request, reply, active));
                        }
                        activity.begun() >= limits.requests_per_connection_max
                    }
                    Some(Err(error)) => return tracing::debug!(%error, "an HTTP/2 connection ended"),
                    None => return,
                },
                _ = &mut draining, if !is_leaving => true,
                () = &mut idle, if !is_leaving => true,
                // A peer that does not answer to GOAWAY either is gone.
                () = &mut silent, if is_leaving => return,
                () = &mut lost => return tracing::debug!("the other end of an HTTP/2 connection is gone"),
            };
            if activity.is_beyond_resets() {
                // A flood: whoever takes back more than it waits for is cut off.
                is_leaving = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            } else if must_leave && !is_leaving {
                // GOAWAY: streams that are under way finish, new ones go elsewhere.
                is_leaving = true;
                connection.graceful_shutdown();
            }
        }
    };
    served.await;
    unfinished.finish();
}

/// Whether the client has taken a stream back before anybody looked at it: nothing is done for it.
fn is_reset(respond: &mut SendResponse<Bytes>) -> bool {
    respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Every setting is explicit: the library's defaults may change, the table of limits is what holds.
fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_connect_protocol()
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(limits.h2_streams_max)
        .max_header_list_size(limits.h2_header_list_bytes_max.max(limits.h2_answer_list_bytes_max()))
        .initial_window_size(limits.h2_stream_window_bytes)
        .initial_connection_window_size(limits.h2_connection_window_bytes)
        .max_send_buffer_size(limits.h2_send_buffer_bytes)
        .max_pending_accept_reset_streams(limits.h2_pending_accept_reset_max)
        .max_local_error_reset_streams(Some(limits.h2_error_resets_max))
        .max_concurrent_reset_streams(limits.h2_reset_streams_max)
        .reset_stream_duration(limits.linger_timeout)
        .data_frame_budget(limits.h2_small_frames_bytes_max);
    builder
}

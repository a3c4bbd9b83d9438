//! A message that is decided by what its body says: all of it is read first.
//!
//! Only messages come here whose token reads the body and which nothing else stops. While it comes, what could end an
//! exchange ends the waiting, too: a stall, a revocation, an expiry, a client that leaves.

use std::pin::pin;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::header::EXPECT;
use http::request::Parts;
use http::{Response, StatusCode};

use super::exchange::Failed;
use super::lease::{Wait, Waiting, watch};
use super::reply::Reply;
use crate::budget::Share;
use crate::lease::Lease;
use crate::request::body_rate::BodyRate;
use crate::request::error::Refused;
use crate::worker::Worker;

/// Reads a body of at most `max` bytes to its end. With it comes its share of the bytes that all connections may hold. The error is what to answer; `None`: there is nobody to answer to.
pub(super) async fn read_whole(
    worker: &Worker,
    parts: &Parts,
    body: &mut RecvStream,
    (max, mut rate): (u64, BodyRate),
    reply: &mut Reply,
    lease: &Lease,
) -> Result<(Bytes, Share), Option<Refused>> {
    let wait = Waiting::on(Wait::Client(Instant::now()), false);
    let mut watch = pin!(watch(&wait, worker, lease, worker.limits().upstream_response_timeout));
    // The length that is declared decides before the client sends anything.
    if content_length(parts).is_some_and(|length| length > max) {
        return Err(Some(Refused::BodyTooLargeToRead { max }));
    }
    if parts.headers.contains_key(EXPECT) {
        let mut head = Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        reply.inform(head).map_err(|_| None)?;
    }
    let mut whole = BytesMut::new();
    let mut share = Share::of(&worker.budget);
    loop {
        let since = Instant::now();
        let data = tokio::select! {
            biased;
            data = body.data() => data,
            end = &mut watch => return Err(refused(end)),
        };
        let Some(data) = data else { break };
        let data = data.map_err(|_| None)?;
        wait.set(Wait::Client(Instant::now()));
        if !rate.is_kept(since.elapsed(), data.len()) {
            return Err(Some(Refused::RequestTimeout));
        }
        if (whole.len() + data.len()) as u64 > max {
            return Err(Some(Refused::BodyTooLargeToRead { max }));
        }
        if !share.grow_to(whole.len() + data.len()) {
            return Err(Some(worker.shed()));
        }
        let _ = body.flow_control().release_capacity(data.len());
        whole.extend_from_slice(&data);
    }
    let trailers = tokio::select! {
        biased;
        trailers = body.trailers() => trailers.map_err(|_| None)?,
        end = &mut watch => return Err(refused(end)),
    };
    match trailers {
        Some(trailers) if !trailers.is_empty() => {
            Err(Some(Refused::UnreadableBody("it has trailers, which nothing reads; send it without".into())))
        }
        _ => Ok((whole.freeze(), share)),
    }
}

/// `h2` has compared it with the frames, and the head's strict reader has seen that there is one at most.
fn content_length(parts: &Parts) -> Option<u64> {
    parts.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn refused(failed: Failed) -> Option<Refused> {
    match failed {
        Failed::Refused(refused) => Some(refused),
        Failed::Upstream(failure) => Some(Refused::from(&failure)),
        Failed::Fallen(fallen) => Some(Refused::Refusal(fallen.refusal())),
        Failed::Deadline => Some(Refused::DeadlineExceeded),
        Failed::Gone => None,
    }
}

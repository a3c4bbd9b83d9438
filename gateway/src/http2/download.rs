//! The way down: the upstream's answer, as [`Call`] reads it, becomes a head, frames and trailers for the client's stream.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Frame;

use super::answer;
use super::body::{Answer, Sender};
use super::exchange::Failed;
use super::lease::Wait;
use crate::head::{Known, ResponseFraming};
use crate::http1::upstream::{Body, Call, Failure};

/// An answer that is being read.
pub(super) struct Download<'a> {
    pub(super) call: &'a RefCell<Call>,
    pub(super) wait: &'a Cell<Wait>,
    pub(super) bytes_out: &'a Cell<u64>,
}

/// The head of an answer that has begun.
pub(super) struct Begun {
    pub(super) response: Response<Answer>,
    /// Whether no body follows.
    pub(super) is_all: bool,
    /// Whether silence belongs to this kind of body.
    pub(super) is_event_stream: bool,
}

impl Download<'_> {
    /// Waits for the final head. Informational ones before it end here: hyper has no way to pass them on.
    pub(super) async fn head(&self) -> Result<Begun, Failed> {
        loop {
            poll_fn(|context| self.call.borrow_mut().poll_response(context)).await?;
            let call = self.call.borrow();
            let Some(head) = call.response() else { return Err(Failure::Closed.into()) };
            if head.is_informational() {
                continue;
            }
            return Ok(Begun {
                response: answer::from_upstream(&head, Answer::empty()),
                is_all: matches!(head.framing(), ResponseFraming::None | ResponseFraming::Length(0)),
                is_event_stream: head.value(Known::ContentType).is_some_and(is_event_stream),
            });
        }
    }

    /// Passes the body on to its end, as fast as the client takes it.
    pub(super) async fn body(&self, is_event_stream: bool, sender: &mut Sender) -> Result<(), Failed> {
        loop {
            self.wait.set(if is_event_stream { Wait::Event } else { Wait::Upstream(Instant::now()) });
            let found = tokio::select! {
                found = poll_fn(|context| self.call.borrow_mut().poll_body(context)) => found?,
                () = sender.gone() => return Err(Failed::Gone),
            };
            let frame = match found {
                Body::Data => {
                    let data = Bytes::copy_from_slice(self.call.borrow().data());
                    self.bytes_out.set(self.bytes_out.get() + data.len() as u64);
                    Some(Frame::data(data))
                }
                Body::End { trailers: false } => None,
                Body::End { trailers: true } => {
                    let mut trailers = HeaderMap::new();
                    answer::copy(&mut trailers, self.call.borrow().trailers().iter());
                    Some(trailers).filter(|trailers| !trailers.is_empty()).map(Frame::trailers)
                }
            };
            if let Some(frame) = frame {
                self.wait.set(Wait::Client(Instant::now()));
                sender.send(frame).await.map_err(|_| Failed::Gone)?;
            }
            if matches!(found, Body::End { .. }) {
                return Ok(());
            }
        }
    }
}

fn is_event_stream(content_type: &[u8]) -> bool {
    const KIND: &[u8] = b"text/event-stream";
    content_type.get(..KIND.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(KIND))
}

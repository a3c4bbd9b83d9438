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
use crate::head::ResponseFraming;
use crate::http1::upstream::{Body, Call, Failure};
use crate::lease::EventStream;

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
    /// Where a stream of events has got to; silence belongs to this kind of body.
    pub(super) events: Option<EventStream>,
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
                events: EventStream::of(&head),
            });
        }
    }

    /// Passes the body on to its end, as fast as the client takes it.
    pub(super) async fn body(&self, events: &Cell<Option<EventStream>>, sender: &mut Sender) -> Result<(), Failed> {
        loop {
            self.wait.set(if events.get().is_some() { Wait::Event } else { Wait::Upstream(Instant::now()) });
            let found = tokio::select! {
                found = poll_fn(|context| self.call.borrow_mut().poll_body(context)) => found?,
                () = sender.gone() => return Err(Failed::Gone),
            };
            let frame = match found {
                Body::Data => {
                    let data = Bytes::copy_from_slice(self.call.borrow().data());
                    self.bytes_out.set(self.bytes_out.get() + data.len() as u64);
                    if let Some(mut stream) = events.get() {
                        stream.pass(&data);
                        events.set(Some(stream));
                    }
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

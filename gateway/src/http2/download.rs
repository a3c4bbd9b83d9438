//! The way down: the upstream's answer, as [`Call`] reads it, becomes a head, frames and trailers for the client's stream.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::{HeaderMap, Response};
use postern_capabilities::message::is_grpc;

use super::answer;
use super::exchange::Failed;
use super::lease::{Wait, Waiting};
use super::reply::{Reply, Sender};
use crate::budget::Budget;
use crate::head::{Known, ResponseFraming};
use crate::http1::framing::FramingError;
use crate::lease::EventStream;
use crate::request::connection_auth;
use crate::upstream::call::{Body, Call, Failure};

/// An answer that is being read.
pub(super) struct Download<'a> {
    pub(super) call: &'a RefCell<Call>,
    pub(super) wait: &'a Waiting,
    pub(super) bytes_out: &'a Cell<u64>,
    pub(super) budget: &'a Arc<Budget>,
}

/// The head of an answer that has begun.
pub(super) struct Begun {
    pub(super) head: Response<()>,
    /// Whether no body follows.
    pub(super) is_all: bool,
    /// How long the body is that follows, where the upstream said so.
    pub(super) declared: Option<u64>,
    /// Whether it is gRPC's, so that trailers can say how it ended.
    pub(super) is_grpc: bool,
    /// Where a stream of events has got to; silence belongs to this kind of body.
    pub(super) events: Option<EventStream>,
}

/// How an answer's body ended.
pub(super) enum Ended {
    /// Without anything more.
    Plainly,
    /// With fields.
    WithTrailers(HeaderMap),
}

impl Download<'_> {
    /// Waits for the final head, and passes on the informational ones before it.
    pub(super) async fn head(&self, reply: &mut Reply) -> Result<Begun, Failed> {
        loop {
            tokio::select! {
                biased;
                read = poll_fn(|context| self.call.borrow_mut().poll_response(context)) => read?,
                () = reply.gone() => return Err(Failed::Gone),
            }
            let call = self.call.borrow();
            let Some(head) = call.response() else { return Err(Failure::Closed.into()) };
            if connection_auth::is_all_that_is_asked(&head) {
                return Err(Failure::ConnectionAuth.into());
            }
            let passing = answer::from_upstream(&head);
            if head.is_informational() {
                reply.inform(passing).map_err(|_| Failed::Gone)?;
                continue;
            }
            let framing = head.framing();
            return Ok(Begun {
                head: passing,
                is_all: matches!(framing, ResponseFraming::None | ResponseFraming::Length(0)),
                declared: if let ResponseFraming::Length(length) = framing { Some(length) } else { None },
                is_grpc: head.value(Known::ContentType).is_some_and(is_grpc),
                events: EventStream::of(&head),
            });
        }
    }

    /// Passes the body on to its end, as fast as the client takes it.
    pub(super) async fn body(&self, events: &Cell<Option<EventStream>>, sender: &mut Sender) -> Result<Ended, Failed> {
        loop {
            self.wait.set(if events.get().is_some() { Wait::Event } else { Wait::Upstream(Instant::now()) });
            let found = tokio::select! {
                biased;
                found = poll_fn(|context| self.call.borrow_mut().poll_body(context)) => found?,
                () = sender.gone() => return Err(Failed::Gone),
            };
            let Body::Data = found else { return Ok(self.ended(found)) };
            let data = self.call.borrow().bytes();
            self.bytes_out.set(self.bytes_out.get() + data.len() as u64);
            if let Some(mut stream) = events.get() {
                stream.pass(&data);
                events.set(Some(stream));
            }
            let ended = if sender.expects(data.len()) { None } else { self.is_at_end().await? };
            self.wait.set(Wait::Client(Instant::now()));
            let moved = || self.wait.set(Wait::Client(Instant::now()));
            let is_last = matches!(ended, Some(Body::End { trailers: false }));
            // A client that does not read leaves the stretch here.
            let stretch = data.len();
            self.budget.while_waiting(stretch, sender.send(data, is_last, moved)).await.map_err(|_| Failed::Gone)?;
            if let Some(ended) = ended {
                return Ok(self.ended(ended));
            }
        }
    }

    /// Looks whether the body is at its end already, so that its last data can say so.
    async fn is_at_end(&self) -> Result<Option<Body>, Failed> {
        poll_fn(|context| {
            Poll::Ready(match self.call.borrow_mut().poll_body(context) {
                Poll::Pending => Ok(None),
                Poll::Ready(Ok(Body::Data)) => Err(Failure::Body(FramingError::LongerThanDeclared).into()),
                Poll::Ready(Ok(end)) => Ok(Some(end)),
                Poll::Ready(Err(failure)) => Err(failure.into()),
            })
        })
        .await
    }

    fn ended(&self, found: Body) -> Ended {
        if !matches!(found, Body::End { trailers: true }) {
            return Ended::Plainly;
        }
        let trailers = answer::trailers(self.call.borrow().trailers().iter());
        if trailers.is_empty() { Ended::Plainly } else { Ended::WithTrailers(trailers) }
    }
}

//! One exchange with a service, whichever HTTP it speaks.
//!
//! Poll functions, so that one task can drive both directions. The order of calls: [`Call::begin`], then in any
//! interleaving [`Call::write_body`], [`Call::finish_body`] and [`Call::poll_send`] upwards, [`Call::poll_response`] (again
//! after each 1xx) and [`Call::poll_body`] downwards, and [`Call::end`], which gives the connection back for the
//! [`Pool`](super::pool::Pool) where it can be used again.
//!
//! An upstream is not trusted more than a client: its heads and bodies go through the same strict rules, and whatever
//! surprises us on an HTTP/1 connection, or in an HTTP/2 stream, is its last word.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use thiserror::Error;

use super::filtered::Filtered;
use super::h2::H2Call;
use super::pool::{Link, Unreachable, Upstream};
use super::switched::Switched;
use crate::budget::Budget;
use crate::head::{Field, Fields, Framing, HeadError, ResponseHead};
use crate::http1::framing::FramingError;
use crate::http1::upstream::Http1Call;
use crate::limits::Limits;
use crate::request::tools::{ToolFilter, Unfilterable};

/// How an upstream failed an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// No connection could be made.
    #[error("{0}")]
    Unreachable(Cow<'static, str>),
    /// Every address has as much to do as it may, and no place became free.
    #[error("{0}")]
    Busy(Cow<'static, str>),
    /// Every address fails its health checks.
    #[error("every upstream fails its health checks")]
    Unhealthy,
    /// The gateway had nothing left to make a connection of.
    #[error("there was no file descriptor or memory left for a connection to the upstream")]
    Shortage,
    /// The connection ended before the response's head was complete.
    #[error("the upstream closed the connection before it answered")]
    Closed,
    /// The upstream says that it has not begun to process the request (RFC 9113 section 8.7).
    #[error("the upstream did not take the request")]
    Unprocessed,
    /// The upstream reset the stream before the response's head, for the reason that it names.
    #[error("the upstream reset the stream before it answered: {0}")]
    Reset(h2::Reason),
    /// The upstream broke the rules of HTTP/2.
    #[error("the upstream's HTTP/2 is broken: {0}")]
    Http2(h2::Reason),
    /// The upstream speaks HTTP/2 and takes no extended CONNECT there.
    #[error("the upstream speaks HTTP/2 and has not enabled extended CONNECT (RFC 8441)")]
    NoSwitching,
    /// The permitted head cannot be said in HTTP/2.
    #[error("the request cannot be sent over HTTP/2: {0}")]
    Unsendable(&'static str),
    /// The response's head is not strict HTTP.
    #[error("the upstream's response is not strict HTTP: {0}")]
    Head(HeadError),
    /// The response's body is not framed as its head promised.
    #[error("the upstream's response is not strict HTTP: {0}")]
    Body(FramingError),
    /// More 1xx responses than `informational_max`.
    #[error("the upstream sent more than {max} informational responses")]
    Informational {
        /// The limit.
        max: usize,
    },
    /// The upstream switched protocols without having been asked to.
    #[error("the upstream switched protocols, which it was not asked to do")]
    Switched,
    /// The upstream switched protocols otherwise than it was asked to.
    #[error("the upstream's switch of protocols cannot be passed on: {0}")]
    BadSwitch(&'static str),
    /// The memory that all connections may take together is used up, and the response's head needs more.
    #[error("there is no memory left for the upstream's response")]
    Overload,
    /// The answer is one that tools have to be taken out of, and cannot be.
    #[error("the list of tools in the upstream's answer cannot be read: it {0}")]
    Unfilterable(Unfilterable),
    /// The upstream asks for a handshake that authenticates a connection, and for nothing else.
    #[error("the upstream authenticates connections (NTLM, Negotiate), and its connections are shared")]
    ConnectionAuth,
    /// The upstream did not answer, or did not read, in time.
    #[error("the upstream did not answer in time")]
    Timeout,
}

impl Failure {
    /// Whether it came before anything of the message could be acted upon.
    pub fn is_before_sending(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Busy(_)
            | Self::Unhealthy
            | Self::Shortage
            | Self::Unprocessed
            | Self::NoSwitching
            | Self::Unsendable(_) => true,
            Self::Closed
            | Self::Reset(_)
            | Self::Http2(_)
            | Self::Head(_)
            | Self::Body(_)
            | Self::Informational { .. }
            | Self::Switched
            | Self::BadSwitch(_)
            | Self::Overload
            | Self::Unfilterable(_)
            | Self::ConnectionAuth
            | Self::Timeout => false,
        }
    }

    /// Whether it says something of how the address does for other messages. What the gateway itself lacks or cannot say does
    /// not, nor what a resource asks of answers to some callers, nor that only HTTP is spoken there.
    fn is_to_blame(&self) -> bool {
        !matches!(
            self,
            Self::Shortage
                | Self::Overload
                | Self::Unsendable(_)
                | Self::NoSwitching
                | Self::Unfilterable(_)
                | Self::ConnectionAuth
        )
    }
}

/// An attempt to connect that failed. Which upstream it was is for the log ([`Pool::open`](super::pool::Pool::open) writes it),
/// never for the client.
impl From<Unreachable> for Failure {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            // Whatever the reason, also where it was slowness: nothing was sent, and the client may rely on that.
            Unreachable::Timeout { .. }
            | Unreachable::Failed { .. }
            | Unreachable::Unresolved { .. }
            | Unreachable::NoUpstream => Self::Unreachable(unreachable.to_string().into()),
            Unreachable::QueueFull | Unreachable::QueueTimeout => Self::Busy(unreachable.to_string().into()),
            Unreachable::Unhealthy => Self::Unhealthy,
            Unreachable::Shortage(_) => Self::Shortage,
        }
    }
}

/// What [`Call::poll_body`] found; the bytes are in [`Call::data`], trailers in [`Call::trailers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A stretch of the body.
    Data,
    /// The end of it.
    End {
        /// Whether trailer fields came with it.
        trailers: bool,
    },
}

/// One exchange with an upstream. The room that it takes is kept for the next exchange; the connection is not.
#[derive(Debug)]
pub struct Call {
    limits: Rc<Limits>,
    budget: Arc<Budget>,
    http1: Http1Call,
    /// The exchange's stream, where the upstream speaks HTTP/2.
    h2: Option<Box<H2Call>>,
    /// What is taken out of the answer.
    filtered: Option<Box<Filtered>>,
}

impl Call {
    /// Room for exchanges.
    pub fn new(limits: Rc<Limits>, budget: &Arc<Budget>) -> Self {
        let http1 = Http1Call::new(Rc::clone(&limits), budget);
        Self { http1, limits, budget: Arc::clone(budget), h2: None, filtered: None }
    }

    /// Gives memory back that only a large message needed.
    pub fn shrink(&mut self) {
        self.http1.shrink();
    }

    /// Whether the room was made under these limits.
    pub fn is_under(&self, limits: &Rc<Limits>) -> bool {
        self.http1.is_under(limits)
    }

    /// Begins an exchange: `head` is a serialised HTTP/1.1 request head, `framing` the one it declares.
    pub fn begin(&mut self, upstream: Upstream, head: &[u8], framing: Framing, to_head: bool) {
        self.filtered = None;
        if matches!(upstream.link, Link::Http2(_)) {
            let h2 = H2Call::begin(Rc::clone(&self.limits), &self.budget, upstream, head, framing, to_head);
            self.h2 = Some(Box::new(h2));
        } else {
            self.h2 = None;
            self.http1.begin(upstream, head, framing, to_head);
        }
    }

    /// The request that was begun asks for another protocol: a 101 is an answer to it, the last one; over HTTP/2, which has
    /// none, a success is.
    pub fn expect_switch(&mut self) {
        match &mut self.h2 {
            None => self.http1.expect_switch(),
            Some(h2) => h2.expect_switch(),
        }
    }

    /// The connection that was begun on carries no other exchange, however this one ends.
    pub fn keep_alone(&mut self) {
        match &mut self.h2 {
            None => self.http1.keep_alone(),
            Some(h2) => h2.keep_alone(),
        }
    }

    /// The connection, or the stream, after the switch, and what the upstream has sent behind its answer.
    pub fn switched(&mut self) -> Option<(Switched, Vec<u8>)> {
        match self.h2.take() {
            None => self.http1.switched(),
            Some(h2) => h2.switched().map(|switched| (switched, Vec::new())),
        }
    }

    /// Ends the exchange. The connection comes back only if it is this exchange's own and nothing of it is left there;
    /// otherwise it closes. A stream that is not complete is reset.
    pub fn end(&mut self) -> Option<Upstream> {
        match self.h2.take() {
            None => self.http1.end(),
            Some(h2) => {
                h2.end();
                None
            }
        }
    }

    /// Whether more of the body may be written now; otherwise [`Call::poll_send`] has to make room first.
    pub fn has_room(&mut self) -> bool {
        match &mut self.h2 {
            None => self.http1.has_room(),
            Some(h2) => h2.has_room(),
        }
    }

    /// Whether everything written so far has been sent.
    pub fn has_sent_all(&self) -> bool {
        match &self.h2 {
            None => self.http1.has_sent_all(),
            Some(h2) => h2.has_sent_all(),
        }
    }

    /// Whether the request is complete and sent.
    pub fn has_sent_request(&self) -> bool {
        match &self.h2 {
            None => self.http1.has_sent_request(),
            Some(h2) => h2.has_sent_request(),
        }
    }

    /// Puts a stretch of the request's body into the output.
    ///
    /// # Errors
    /// It is longer than its head declared.
    pub fn write_body(&mut self, data: &[u8]) -> Result<(), FramingError> {
        match &mut self.h2 {
            None => self.http1.write_body(data),
            Some(h2) => h2.write_body(data),
        }
    }

    /// Ends the request's body.
    ///
    /// # Errors
    /// It is shorter than its head declared.
    pub fn finish_body<'f>(&mut self, trailers: impl Iterator<Item = Field<'f>>) -> Result<(), FramingError> {
        match &mut self.h2 {
            None => self.http1.finish_body(trailers),
            Some(h2) => h2.finish_body(trailers),
        }
    }

    /// Sends what was written. `moved` is set when bytes went out.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        match &mut self.h2 {
            None => self.http1.poll_send(cx, moved),
            Some(h2) => h2.poll_send(cx, moved),
        }
    }

    /// The connection, where an exchange that failed so may be begun again on another one: not a byte of an answer came,
    /// nothing of the body is gone, and either the upstream says that it did nothing, or the connection closed and the
    /// message `is_repeatable`.
    pub fn replayable(&self, failure: &Failure, is_repeatable: bool) -> Option<&Upstream> {
        let is_safe = match failure {
            Failure::Unprocessed => true,
            Failure::Closed => is_repeatable,
            _ => false,
        };
        match &self.h2 {
            None => self.http1.replayable(),
            Some(h2) => h2.replayable(),
        }
        .filter(|_| is_safe)
    }

    /// Tells the address of the connection that it failed.
    pub fn blame(&self, failure: &Failure) {
        if !failure.is_to_blame() {
            return;
        }
        let upstream = match &self.h2 {
            None => self.http1.upstream(),
            Some(h2) => Some(h2.upstream()),
        };
        if let Some(upstream) = upstream {
            upstream.failed(matches!(failure, Failure::Closed | Failure::Unprocessed), failure);
        }
    }

    /// Has tools taken out of the answer of the exchange that has just begun.
    pub fn filter(&mut self, filter: Rc<ToolFilter>) {
        self.filtered = Some(Box::new(Filtered::new(filter, &self.budget)));
    }

    /// Waits for the next response head, 1xx or final; [`Call::response`] then shows it. Call it again after a 1xx.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(mut filtered) = self.filtered.take() else { return self.poll_head(cx) };
        let polled = self.poll_filtered_head(cx, &mut filtered);
        self.filtered = Some(filtered);
        polled
    }

    fn poll_filtered_head(&mut self, cx: &mut Context<'_>, filtered: &mut Filtered) -> Poll<Result<(), Failure>> {
        if !filtered.withholds_head() {
            ready!(self.poll_head(cx))?;
            match self.response() {
                Some(head) if !head.is_informational() => filtered.begin(&head, &self.limits)?,
                _ => {}
            }
        }
        while filtered.withholds_head() {
            let body = ready!(self.poll_stretch(cx))?;
            self.hand(body, filtered)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut self.h2 {
            None => self.http1.poll_response(cx),
            Some(h2) => h2.poll_response(cx),
        }
    }

    /// The response head that [`Call::poll_response`] found last.
    ///
    /// Valid until the next poll; afterwards its bytes are gone and `None` is returned.
    pub fn response(&self) -> Option<ResponseHead<'_>> {
        if let Some(head) = self.filtered.as_ref().and_then(|filtered| filtered.head()) {
            return Some(head);
        }
        match &self.h2 {
            None => self.http1.response(),
            Some(h2) => h2.response(),
        }
    }

    /// Waits for the next stretch of the response's body, or its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Failure>> {
        let Some(mut filtered) = self.filtered.take_if(|filtered| filtered.is_filtering()) else {
            return self.poll_stretch(cx);
        };
        let polled = self.poll_filtered_body(cx, &mut filtered);
        self.filtered = Some(filtered);
        polled
    }

    fn poll_filtered_body(&mut self, cx: &mut Context<'_>, filtered: &mut Filtered) -> Poll<Result<Body, Failure>> {
        loop {
            if let Some(body) = filtered.next() {
                return Poll::Ready(Ok(body));
            }
            let body = ready!(self.poll_stretch(cx))?;
            self.hand(body, filtered)?;
            if body == Body::Data && !filtered.data().is_empty() {
                return Poll::Ready(Ok(Body::Data));
            }
        }
    }

    /// Hands on what came last.
    fn hand(&self, body: Body, filtered: &mut Filtered) -> Result<(), Failure> {
        // With the end come no bytes.
        let data = if body == Body::Data { self.data() } else { &[] };
        filtered.take(body, data, &self.limits)
    }

    fn poll_stretch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Failure>> {
        match &mut self.h2 {
            None => self.http1.poll_body(cx),
            Some(h2) => h2.poll_body(cx),
        }
    }

    /// The stretch that [`Call::poll_body`] found.
    pub fn data(&self) -> &[u8] {
        if let Some(filtered) = self.filtered.as_ref().filter(|filtered| filtered.is_filtering()) {
            return filtered.data();
        }
        match &self.h2 {
            None => self.http1.data(),
            Some(h2) => h2.data(),
        }
    }

    /// The stretch that [`Call::poll_body`] found, to keep; copied only where its bytes are the connection's.
    pub fn bytes(&self) -> Bytes {
        if self.filtered.as_ref().is_some_and(|filtered| filtered.is_filtering()) {
            return Bytes::copy_from_slice(self.data());
        }
        match &self.h2 {
            None => Bytes::copy_from_slice(self.http1.data()),
            Some(h2) => h2.data().clone(),
        }
    }

    /// The trailers that [`Call::poll_body`] found at the end.
    pub fn trailers(&self) -> Fields<'_> {
        match &self.h2 {
            None => self.http1.trailers(),
            Some(h2) => h2.trailers(),
        }
    }
}

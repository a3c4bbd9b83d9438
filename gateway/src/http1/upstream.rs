//! One exchange on an upstream connection.
//!
//! Poll functions, so that a client connection's loop can drive both directions from one task; HTTP/2 streams can use the
//! same. The order of calls: [`Call::begin`], then in any interleaving [`Call::write_body`], [`Call::finish_body`] and
//! [`Call::poll_send`] upwards, [`Call::poll_response`] (again after each 1xx) and [`Call::poll_body`] downwards, and
//! [`Call::end`], which gives the connection back for the [`Pool`](crate::upstream::pool::Pool).
//!
//! An upstream is not trusted more than a client: its heads and bodies are read by the same strict readers, and whatever
//! surprises us on a connection (surplus bytes, an early end, nonsense) is that connection's last word.

use std::borrow::Cow;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use thiserror::Error;

use super::buffer::{Buffer, Output};
use super::framing::{Decoder, Encoder, FramingError, Piece};
use crate::budget::Budget;
use crate::head::response::ResponseRead;
use crate::head::{Field, Fields, Framing, HeadError, ResponseFraming, ResponseHead, Spans};
use crate::limits::Limits;
use crate::upstream::pool::{Unreachable, Upstream};

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
    /// The connection ended before the response's head was complete.
    #[error("the upstream closed the connection before it answered")]
    Closed,
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
    /// The memory that all connections may take together is used up, and the response's head needs more.
    #[error("there is no memory left for the upstream's response")]
    Overload,
    /// The upstream did not answer, or did not read, in time.
    #[error("the upstream did not answer in time")]
    Timeout,
}

/// An attempt to connect that failed. Which upstream it was is for the log, never for the client.
impl From<Unreachable> for Failure {
    fn from(unreachable: Unreachable) -> Self {
        tracing::warn!(error = %unreachable, "an upstream cannot be reached");
        match unreachable {
            Unreachable::Timeout { .. } => Self::Timeout,
            Unreachable::Failed { .. } | Unreachable::Unresolved { .. } | Unreachable::NoUpstream => {
                Self::Unreachable(unreachable.to_string().into())
            }
            Unreachable::QueueFull | Unreachable::QueueTimeout => Self::Busy(unreachable.to_string().into()),
            Unreachable::Unhealthy => Self::Unhealthy,
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

/// One exchange on an upstream connection. The room that it takes is kept for the next exchange; the connection is not.
#[derive(Debug)]
pub struct Call {
    upstream: Option<Upstream>,
    limits: Rc<Limits>,
    input: Buffer,
    output: Output,
    spans: Spans,
    /// Input that was handed out and is consumed by the next call.
    pending: usize,
    /// Input that was looked at without finding the end of a head.
    looked_at: usize,
    piece: (usize, usize),
    to_head: bool,
    encoder: Option<Encoder>,
    has_sent_body: bool,
    has_answered: bool,
    informational: usize,
    head: Option<ResponseRead>,
    decoder: Decoder,
}

impl Call {
    /// Room for exchanges.
    pub fn new(limits: Rc<Limits>, budget: &Arc<Budget>) -> Self {
        Self {
            upstream: None,
            input: Buffer::new(limits.buffer_bytes_max(), budget),
            limits,
            output: Output::new(budget),
            spans: Spans::new(),
            pending: 0,
            looked_at: 0,
            piece: (0, 0),
            to_head: false,
            encoder: None,
            has_sent_body: false,
            has_answered: false,
            informational: 0,
            head: None,
            decoder: Decoder::response(ResponseFraming::None),
        }
    }

    /// Whether the room was made under these limits.
    pub fn is_under(&self, limits: &Rc<Limits>) -> bool {
        Rc::ptr_eq(&self.limits, limits)
    }

    /// Gives memory back that only a large message needed.
    pub fn shrink(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }

    /// Begins an exchange: `head` is a serialised request head, `framing` the one it declares.
    pub fn begin(&mut self, upstream: Upstream, head: &[u8], framing: Framing, to_head: bool) {
        self.upstream = Some(upstream);
        self.input.clear();
        self.output.clear();
        self.output.bytes.extend_from_slice(head);
        self.encoder = match framing {
            Framing::None | Framing::Length(0) => None,
            Framing::Length(length) => Some(Encoder::Length(length)),
            Framing::Chunked => Some(Encoder::Chunked),
        };
        self.to_head = to_head;
        self.pending = 0;
        self.looked_at = 0;
        self.has_sent_body = false;
        self.has_answered = false;
        self.informational = 0;
        self.head = None;
    }

    /// Ends the exchange. The connection comes back only if nothing of the exchange is left on it; otherwise it closes.
    pub fn end(&mut self) -> Option<Upstream> {
        let is_reusable = self.is_reusable();
        self.input.clear();
        self.output.clear();
        self.upstream.take().filter(|_| is_reusable)
    }

    /// Whether more of the body may be written now; otherwise [`Call::poll_send`] has to make room first.
    pub fn has_room(&mut self) -> bool {
        self.output.has_room(self.limits.copy_buffer_bytes)
    }

    /// Whether everything written so far has been sent.
    pub fn has_sent_all(&self) -> bool {
        self.output.waiting() == 0
    }

    /// Whether the request is complete and sent.
    pub fn has_sent_request(&self) -> bool {
        self.encoder.is_none() && self.output.waiting() == 0
    }

    /// Puts a stretch of the request's body into the output.
    pub fn write_body(&mut self, data: &[u8]) -> Result<(), FramingError> {
        self.has_sent_body = true;
        match &mut self.encoder {
            Some(encoder) => encoder.write(data, &mut self.output.bytes),
            None if data.is_empty() => Ok(()),
            None => Err(FramingError::LongerThanDeclared),
        }
    }

    /// Ends the request's body.
    pub fn finish_body<'f>(&mut self, trailers: impl Iterator<Item = Field<'f>>) -> Result<(), FramingError> {
        match self.encoder.take() {
            Some(mut encoder) => {
                self.has_sent_body = true;
                encoder.finish(trailers, &mut self.output.bytes)
            }
            None => Ok(()),
        }
    }

    /// Sends what was written. `moved` is set when bytes went out.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(Ok(())) };
        self.output.poll_flush(cx, &mut upstream.stream, moved)
    }

    /// The connection, where this exchange may be begun again on another one: not a byte of an answer came, and nothing of
    /// the body is gone. That the method is idempotent is for the caller to know.
    pub fn replayable(&self) -> Option<&Upstream> {
        self.upstream.as_ref().filter(|_| !self.has_answered && !self.has_sent_body)
    }

    /// Tells the address of the connection that it failed.
    pub fn blame(&self, failure: &Failure) {
        if let Some(upstream) = &self.upstream {
            upstream.failed(*failure == Failure::Closed, failure);
        }
    }

    /// Waits for the next response head, 1xx or final; [`Call::response`] then shows it. Call it again after a 1xx.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.settle();
        loop {
            // Looked at only when a line has ended since the last time: a head sent byte by byte costs no more than its bytes.
            let news = self.input.filled().get(self.looked_at..).unwrap_or_default();
            if memchr::memchr(b'\n', news).is_some() || self.input.is_full() || self.looked_at == 0 && !news.is_empty()
            {
                let read = ResponseRead::read(self.input.filled(), self.to_head, &mut self.spans, &self.limits);
                if let Some(read) = read.map_err(Failure::Head)? {
                    return Poll::Ready(self.accept(read));
                }
            }
            self.looked_at = self.input.len();
            match ready!(self.poll_read(cx)) {
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(Failure::Overload));
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Closed)),
                Ok(_) => self.has_answered = true,
            }
        }
    }

    fn accept(&mut self, read: ResponseRead) -> Result<(), Failure> {
        if read.status() == 101 {
            return Err(Failure::Switched);
        }
        if read.is_informational() {
            self.informational += 1;
            if self.informational > self.limits.informational_max {
                return Err(Failure::Informational { max: self.limits.informational_max });
            }
        } else {
            self.decoder = Decoder::response(read.framing());
        }
        self.pending = read.length();
        self.looked_at = 0;
        self.head = Some(read);
        if let Some(upstream) = &self.upstream {
            upstream.answered();
        }
        Ok(())
    }

    /// The response head that [`Call::poll_response`] found last.
    ///
    /// Valid until the next poll; afterwards its bytes are gone and `None` is returned.
    pub fn response(&self) -> Option<ResponseHead<'_>> {
        let read = self.head.filter(|read| read.length() == self.pending)?;
        Some(read.with(self.input.filled(), &self.spans))
    }

    /// Waits for the next stretch of the response's body, or its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Failure>> {
        self.settle();
        loop {
            match self.decoder.next(self.input.filled(), &mut self.spans, &self.limits).map_err(Failure::Body)? {
                Piece::Data { from, to } => {
                    self.piece = (from, to);
                    self.pending = to;
                    return Poll::Ready(Ok(Body::Data));
                }
                Piece::End { consumed, trailers } => {
                    self.pending = consumed;
                    return Poll::Ready(Ok(Body::End { trailers }));
                }
                Piece::More { consumed } => self.input.consume(consumed),
            }
            let length = ready!(self.poll_read(cx));
            if !matches!(length, Ok(1..)) {
                // An end that was an error is never a clean end, even where the body has no other.
                let ended = if length.is_ok() { self.decoder.finish() } else { Err(FramingError::Truncated) };
                return Poll::Ready(ended.map(|()| Body::End { trailers: false }).map_err(Failure::Body));
            }
        }
    }

    /// The stretch that [`Call::poll_body`] found.
    pub fn data(&self) -> &[u8] {
        &self.input.filled()[self.piece.0..self.piece.1]
    }

    /// The trailers that [`Call::poll_body`] found at the end.
    pub fn trailers(&self) -> Fields<'_> {
        Fields::of(self.input.filled(), &self.spans)
    }

    /// Consumes what was handed out by the call before.
    fn settle(&mut self) {
        self.input.consume(self.pending);
        self.pending = 0;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(Ok(0)) };
        self.input.poll_fill(cx, &mut upstream.stream)
    }

    /// Whether the exchange ended so cleanly, on both sides, that nothing of it can be taken for a part of the next one.
    fn is_reusable(&mut self) -> bool {
        self.settle();
        self.head.is_some_and(|head| !head.is_informational() && head.keeps_alive())
            && self.decoder.has_ended()
            && self.has_sent_request()
            && self.input.is_empty()
    }
}

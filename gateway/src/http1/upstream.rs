//! One exchange on an HTTP/1 connection to an upstream: what [`Call`](crate::upstream::call::Call) is there.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::buffer::{Buffer, Output};
use super::framing::{Decoder, Encoder, FramingError, Piece};
use crate::budget::Budget;
use crate::head::response::ResponseRead;
use crate::head::{Field, Fields, Framing, ResponseFraming, ResponseHead, Spans};
use crate::limits::Limits;
use crate::request::connection_auth::is_gone_on_with;
use crate::upstream::call::{Body, Failure};
use crate::upstream::pool::{Link, Upstream};
use crate::upstream::switched::Switched;

/// One exchange on an upstream connection. The room that it takes is kept for the next exchange; the connection is not.
#[derive(Debug)]
pub(crate) struct Http1Call {
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
    may_switch: bool,
    /// The connection carries no other exchange, however this one ends.
    is_alone: bool,
    has_sent_body: bool,
    has_answered: bool,
    informational: usize,
    head: Option<ResponseRead>,
    decoder: Decoder,
}

impl Http1Call {
    /// Room for exchanges.
    pub(crate) fn new(limits: Rc<Limits>, budget: &Arc<Budget>) -> Self {
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
            may_switch: false,
            is_alone: false,
            has_sent_body: false,
            has_answered: false,
            informational: 0,
            head: None,
            decoder: Decoder::response(ResponseFraming::None),
        }
    }

    /// Whether the room was made under these limits.
    pub(crate) fn is_under(&self, limits: &Rc<Limits>) -> bool {
        Rc::ptr_eq(&self.limits, limits)
    }

    /// Gives memory back that only a large message needed.
    pub(crate) fn shrink(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }

    /// Begins an exchange: `head` is a serialised request head, `framing` the one it declares.
    pub(crate) fn begin(&mut self, upstream: Upstream, head: &[u8], framing: Framing, to_head: bool) {
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
        self.may_switch = false;
        self.is_alone = false;
        self.has_sent_body = false;
        self.has_answered = false;
        self.informational = 0;
        self.head = None;
    }

    /// The request that was begun asks for another protocol: a 101 is an answer to it, the last one.
    pub(crate) fn expect_switch(&mut self) {
        self.may_switch = true;
    }

    /// The connection is no other exchange's, however this one ends.
    pub(crate) fn keep_alone(&mut self) {
        self.is_alone = true;
    }

    /// The connection after a 101, and what the upstream has sent behind it.
    pub(crate) fn switched(&mut self) -> Option<(Switched, Vec<u8>)> {
        self.settle();
        let first = self.input.filled().to_vec();
        self.input.clear();
        self.output.clear();
        match self.upstream.take().filter(|_| self.may_switch)?.into_parts() {
            (place, Link::Http1(stream)) => Some((Switched::connection(stream, place), first)),
            (_, Link::Http2(_)) => None,
        }
    }

    /// Ends the exchange. The connection comes back only if nothing of the exchange is left on it; otherwise it closes.
    pub(crate) fn end(&mut self) -> Option<Upstream> {
        let is_reusable = self.is_reusable();
        self.input.clear();
        self.output.clear();
        self.upstream.take().filter(|_| is_reusable)
    }

    /// Whether more of the body may be written now; otherwise [`Self::poll_send`] has to make room first.
    pub(crate) fn has_room(&mut self) -> bool {
        self.output.has_room(self.limits.copy_buffer_bytes)
    }

    /// Whether everything written so far has been sent.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.output.waiting() == 0
    }

    /// Whether the request is complete and sent.
    pub(crate) fn has_sent_request(&self) -> bool {
        self.encoder.is_none() && self.output.waiting() == 0
    }

    /// Puts a stretch of the request's body into the output.
    pub(crate) fn write_body(&mut self, data: &[u8]) -> Result<(), FramingError> {
        self.has_sent_body = true;
        match &mut self.encoder {
            Some(encoder) => encoder.write(data, &mut self.output.bytes),
            None if data.is_empty() => Ok(()),
            None => Err(FramingError::LongerThanDeclared),
        }
    }

    /// Ends the request's body.
    pub(crate) fn finish_body<'f>(&mut self, trailers: impl Iterator<Item = Field<'f>>) -> Result<(), FramingError> {
        match self.encoder.take() {
            Some(mut encoder) => {
                self.has_sent_body = true;
                encoder.finish(trailers, &mut self.output.bytes)
            }
            None => Ok(()),
        }
    }

    /// Sends what was written. `moved` is set when bytes went out.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        let Some(Upstream { link: Link::Http1(stream), .. }) = &mut self.upstream else { return Poll::Ready(Ok(())) };
        self.output.poll_flush(cx, stream, moved)
    }

    /// The connection, where this exchange may be begun again on another one: not a byte of an answer came, and nothing of
    /// the body is gone.
    pub(crate) fn replayable(&self) -> Option<&Upstream> {
        self.upstream.as_ref().filter(|_| !self.has_answered && !self.has_sent_body)
    }

    /// The connection.
    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    /// Waits for the next response head, 1xx or final; [`Self::response`] then shows it. Call it again after a 1xx.
    pub(crate) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
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
        if read.status() == 101 && !self.may_switch {
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
        self.is_alone |= is_gone_on_with(&read.with(self.input.filled(), &self.spans));
        self.pending = read.length();
        self.looked_at = 0;
        self.head = Some(read);
        if let Some(upstream) = &self.upstream {
            upstream.answered();
        }
        Ok(())
    }

    /// The response head that [`Self::poll_response`] found last.
    ///
    /// Valid until the next poll; afterwards its bytes are gone and `None` is returned.
    pub(crate) fn response(&self) -> Option<ResponseHead<'_>> {
        let read = self.head.filter(|read| read.length() == self.pending)?;
        Some(read.with(self.input.filled(), &self.spans))
    }

    /// Waits for the next stretch of the response's body, or its end.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Failure>> {
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

    /// The stretch that [`Self::poll_body`] found.
    pub(crate) fn data(&self) -> &[u8] {
        &self.input.filled()[self.piece.0..self.piece.1]
    }

    /// The trailers that [`Self::poll_body`] found at the end.
    pub(crate) fn trailers(&self) -> Fields<'_> {
        Fields::of(self.input.filled(), &self.spans)
    }

    /// Consumes what was handed out by the call before.
    fn settle(&mut self) {
        self.input.consume(self.pending);
        self.pending = 0;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(Upstream { link: Link::Http1(stream), .. }) = &mut self.upstream else { return Poll::Ready(Ok(0)) };
        self.input.poll_fill(cx, stream)
    }

    /// Whether the exchange ended so cleanly, on both sides, that nothing of it can be taken for a part of the next one.
    fn is_reusable(&mut self) -> bool {
        self.settle();
        !self.is_alone
            && self.head.is_some_and(|head| !head.is_informational() && head.keeps_alive())
            && self.decoder.has_ended()
            && self.has_sent_request()
            && self.input.is_empty()
    }
}

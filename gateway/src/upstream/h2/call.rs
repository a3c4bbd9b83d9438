//! One exchange on an HTTP/2 connection to an upstream: what [`Call`](crate::upstream::call::Call) is there.
//!
//! The stream's flow control is the back pressure: bytes go up as the service's windows allow, and its own window opens
//! again only for bytes that were passed on. A stream that is dropped before both sides are complete is reset with CANCEL.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};

use super::request;
use crate::budget::{BASE_BYTES, Budget, Share};
use crate::head::field::assemble_trailers;
use crate::head::response::{ResponseParts, ResponseRead};
use crate::head::{Field, Fields, Framing, HeadError, ResponseHead, Spans};
use crate::http1::framing::FramingError;
use crate::limits::Limits;
use crate::request::connection_auth::is_gone_on_with;
use crate::upstream::call::{Body, Failure};
use crate::upstream::pool::{Link, Upstream};
use crate::upstream::switched::{Pipe, Switched};

/// One exchange, which is one stream.
#[derive(Debug)]
pub(crate) struct H2Call {
    limits: Rc<Limits>,
    upstream: Upstream,
    to_head: bool,
    may_switch: bool,

    sending: Option<SendStream<Bytes>>,
    output: BytesMut,
    budget: Arc<Budget>,
    /// Of that budget, for an output beyond the base.
    share: Share,
    /// What the head declared and was not written yet.
    undelivered: Option<u64>,
    end: End,
    has_sent_body: bool,

    state: State,
    has_answered: bool,
    informational: usize,
    buffer: Vec<u8>,
    spans: Spans,
    /// The head that the buffer holds.
    head: Option<ResponseRead>,
    piece: Bytes,
    /// Bytes of the window that were handed out and are given back by the next call.
    unreleased: usize,
}

/// The end of the request.
#[derive(Debug)]
enum End {
    /// More of it may come.
    Open,
    /// It is written and not sent.
    Written(Option<HeaderMap>),
    /// It is sent.
    Sent,
}

/// Where the answer has got to.
#[derive(Debug)]
enum State {
    /// The request could not be begun.
    Failed(Failure),
    /// The final head has not come.
    Waiting(ResponseFuture),
    /// The body is under way.
    Body(RecvStream),
}

impl H2Call {
    /// Opens the stream of an exchange.
    pub(crate) fn begin(
        limits: Rc<Limits>,
        budget: &Arc<Budget>,
        mut upstream: Upstream,
        head: &[u8],
        framing: Framing,
        to_head: bool,
    ) -> Self {
        let undelivered = match framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let has_no_body = undelivered == Some(0);
        let (state, sending) = match open(&mut upstream, head, has_no_body) {
            Ok((answer, sending)) => (State::Waiting(answer), Some(sending)),
            Err(failure) => (State::Failed(failure), None),
        };
        Self {
            limits,
            upstream,
            to_head,
            may_switch: false,
            sending,
            output: BytesMut::new(),
            budget: Arc::clone(budget),
            share: Share::of(budget),
            undelivered,
            end: if has_no_body { End::Sent } else { End::Open },
            has_sent_body: false,
            state,
            has_answered: false,
            informational: 0,
            buffer: Vec::new(),
            spans: Spans::new(),
            head: None,
            piece: Bytes::new(),
            unreleased: 0,
        }
    }

    /// A success is a switch to the protocol that was asked for, if it was.
    pub(crate) fn expect_switch(&mut self) {
        self.may_switch = true;
    }

    /// The stream after the switch.
    pub(crate) fn switched(self) -> Option<Switched> {
        let (place, link) = self.upstream.into_parts();
        match (self.may_switch, self.state, self.sending, link) {
            (true, State::Body(receiving), Some(sending), Link::Http2(slot)) => {
                Some(Switched::stream(Pipe::of(sending, receiving, slot), place))
            }
            _ => None,
        }
    }

    /// Ends the exchange.
    pub(crate) fn end(self) {
        if let (Link::Http2(slot), State::Waiting(_), false) = (&self.upstream.link, &self.state, self.has_answered) {
            slot.was_unanswered();
        }
    }

    pub(crate) fn has_room(&mut self) -> bool {
        let max = self.limits.copy_buffer_bytes;
        self.output.len() < BASE_BYTES.min(max) || self.output.len() < max && self.share.grow_to(max)
    }

    pub(crate) fn has_sent_all(&self) -> bool {
        self.output.is_empty() && !matches!(self.end, End::Written(_))
    }

    pub(crate) fn has_sent_request(&self) -> bool {
        matches!(self.end, End::Sent)
    }

    pub(crate) fn write_body(&mut self, data: &[u8]) -> Result<(), FramingError> {
        self.has_sent_body = true;
        if let Some(undelivered) = &mut self.undelivered {
            *undelivered = undelivered.checked_sub(data.len() as u64).ok_or(FramingError::LongerThanDeclared)?;
        }
        self.output.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn finish_body<'f>(&mut self, trailers: impl Iterator<Item = Field<'f>>) -> Result<(), FramingError> {
        if !matches!(self.end, End::Open) {
            return Ok(());
        }
        if self.undelivered.is_some_and(|undelivered| undelivered > 0) {
            return Err(FramingError::ShorterThanDeclared);
        }
        self.has_sent_body = true;
        self.end = End::Written(Some(request::trailers(trailers)).filter(|trailers| !trailers.is_empty()));
        Ok(())
    }

    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, moved: &mut bool) -> Poll<io::Result<()>> {
        // Where the stream could not be opened the answer's side says why.
        let Some(stream) = &mut self.sending else { return Poll::Ready(Ok(())) };
        loop {
            if self.output.is_empty() {
                return Poll::Ready(match &mut self.end {
                    End::Open | End::Sent => Ok(()),
                    End::Written(trailers) => {
                        *moved = true;
                        let sent = match trailers.take() {
                            Some(trailers) => stream.send_trailers(trailers),
                            None => stream.send_data(Bytes::new(), true),
                        };
                        self.end = End::Sent;
                        sent.map_err(broken)
                    }
                });
            }
            if stream.capacity() == 0 {
                stream.reserve_capacity(self.output.len());
            }
            if stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                    Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                    Some(Ok(_)) => {}
                }
            }
            let length = stream.capacity().min(self.output.len());
            let is_last = length == self.output.len() && matches!(self.end, End::Written(None));
            stream.send_data(self.output.split_to(length).freeze(), is_last).map_err(broken)?;
            if is_last {
                self.end = End::Sent;
            }
            *moved = true;
        }
    }

    pub(crate) fn replayable(&self) -> Option<&Upstream> {
        Some(&self.upstream).filter(|_| !self.has_answered && !self.has_sent_body)
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    pub(crate) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.head = None;
        let answer = match &mut self.state {
            State::Failed(failure) => return Poll::Ready(Err(failure.clone())),
            State::Body(_) => return Poll::Ready(Err(Failure::Closed)),
            State::Waiting(answer) => answer,
        };
        // Errors are the same ones that the answer itself ends in.
        if let Some(Ok(informational)) = ready!(answer.poll_informational(cx)) {
            self.informational += 1;
            if self.informational > self.limits.informational_max {
                return Poll::Ready(Err(Failure::Informational { max: self.limits.informational_max }));
            }
            return Poll::Ready(self.accept(&informational, false));
        }
        let response = match ready!(Pin::new(answer).poll(cx)) {
            Ok(response) => response,
            Err(error) => return Poll::Ready(Err(self.failure(&error))),
        };
        let ended = response.body().is_end_stream();
        let (parts, body) = response.into_parts();
        self.state = State::Body(body);
        Poll::Ready(self.accept(&Response::from_parts(parts, ()), ended))
    }

    fn accept(&mut self, response: &Response<()>, ended: bool) -> Result<(), Failure> {
        self.has_answered = true;
        let status = response.status();
        // HTTP/2 has no such status (RFC 9113 section 8.6).
        if status == 101 {
            return Err(Failure::Switched);
        }
        let parts = ResponseParts {
            status: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
            fields: fields(response.headers()),
            ended,
        };
        let head = ResponseRead::assemble(parts, self.to_head, &mut self.buffer, &mut self.spans, &self.limits);
        self.head = Some(head.map_err(Failure::Head)?);
        self.upstream.answered();
        if self.response().is_some_and(|head| is_gone_on_with(&head)) {
            self.keep_alone();
        }
        Ok(())
    }

    /// The connection takes no other exchange from now on. HTTP/2 has no such handshake (a service that wants one resets
    /// with HTTP_1_1_REQUIRED), so those that are under way on it already are no part of it.
    pub(crate) fn keep_alone(&self) {
        if let Link::Http2(slot) = &self.upstream.link {
            slot.retire();
        }
    }

    pub(crate) fn response(&self) -> Option<ResponseHead<'_>> {
        Some(self.head?.with(&self.buffer, &self.spans))
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Body, Failure>> {
        self.head = None;
        let State::Body(body) = &mut self.state else { return Poll::Ready(Err(Failure::Closed)) };
        self.piece = Bytes::new();
        if let Link::Http2(slot) = &mut self.upstream.link {
            slot.flows();
        }
        // What was handed out is with the client, or in its bounded output: the service may send as much again.
        let _ = body.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        loop {
            match ready!(body.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.unreleased = data.len();
                    self.piece = data;
                    // Until more is asked for nobody takes what the service goes on to send.
                    if let Link::Http2(slot) = &mut self.upstream.link {
                        slot.waits(&self.budget);
                    }
                    return Poll::Ready(Ok(Body::Data));
                }
                Some(Err(error)) => return Poll::Ready(Err(self.failure(&error))),
                None => break,
            }
        }
        let trailers = match ready!(body.poll_trailers(cx)) {
            Ok(trailers) => trailers.unwrap_or_default(),
            Err(error) => return Poll::Ready(Err(self.failure(&error))),
        };
        let assembled = assemble_trailers(fields(&trailers), &mut self.buffer, &mut self.spans, &self.limits);
        let end = Body::End { trailers: !trailers.is_empty() };
        Poll::Ready(assembled.map(|()| end).map_err(|error| Failure::Body(FramingError::of_trailers(error))))
    }

    pub(crate) fn data(&self) -> &Bytes {
        &self.piece
    }

    pub(crate) fn trailers(&self) -> Fields<'_> {
        Fields::of(&self.buffer, &self.spans)
    }

    /// What an error on this stream means for the exchange.
    fn failure(&self, error: &h2::Error) -> Failure {
        let reason = error.reason();
        if matches!(self.state, State::Body(_)) && (error.is_remote() || error.is_io()) {
            return Failure::Body(FramingError::Truncated);
        }
        match reason {
            // Both say that nothing of the stream was processed (RFC 9113 sections 6.8 and 8.7), as long as nothing of it
            // was answered.
            _ if error.is_remote() && error.is_go_away() && !self.has_answered => Failure::Unprocessed,
            Some(Reason::REFUSED_STREAM) if error.is_remote() && !self.has_answered => Failure::Unprocessed,
            Some(reason) if error.is_remote() && error.is_reset() => Failure::Reset(reason),
            // The library's own word for a header list beyond what was announced.
            Some(Reason::REFUSED_STREAM) if error.is_library() => {
                Failure::Head(HeadError::HeadTooLarge { max: self.limits.head_bytes_max })
            }
            Some(reason) if error.is_library() => Failure::Http2(reason),
            _ => Failure::Closed,
        }
    }
}

/// Opens the stream and sends the head.
fn open(
    upstream: &mut Upstream,
    head: &[u8],
    has_no_body: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
    let request = request::request(head, upstream.endpoint().uri_scheme())?;
    let Link::Http2(slot) = &mut upstream.link else { return Err(Failure::Unsendable("the connection is HTTP/1.1")) };
    let is_switch = request::is_switch(&request);
    if is_switch && !has_no_body {
        return Err(Failure::Unsendable("it would switch protocols with a body"));
    }
    if is_switch && !slot.sender.is_extended_connect_protocol_enabled() {
        return Err(Failure::NoSwitching);
    }
    // The connection may have ended since the slot was taken: nothing was sent.
    slot.sender.send_request(request, has_no_body && !is_switch).map_err(|error| {
        tracing::debug!(%error, "a stream to an upstream cannot be opened");
        Failure::Unprocessed
    })
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// The upstream takes no more. It may have answered already.
fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
}

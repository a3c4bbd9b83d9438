//! A message that is decided by what its body says: held back until all of it is there, then decided, then sent up as it
//! was read.
//!
//! Only messages come here whose token reads the body and which nothing else stops ([`Passage::Undecided`]). Their head
//! is kept beside the body, since the connection's buffer is needed for reading on.

use std::future::poll_fn;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End, Facts, after_answer};
use super::framing::{Decoder, FramingError, Piece};
use super::way::{After, Fault, Passage, Way};
use crate::budget::Share;
use crate::head::{Framing, Head, HeadError};
use crate::lease::Lease;
use crate::request::body_rate::BodyRate;
use crate::upstream::call::Call;

/// A whole body on its way up.
#[derive(Debug)]
pub(super) struct Held {
    /// What took its framing off, at its end.
    pub(super) decoder: Decoder,
    bytes: Vec<u8>,
    sent: usize,
    /// The bytes, of those that all connections may hold.
    share: Share,
}

impl Held {
    /// Hands on as much as there is room for; `true`: that was all of it.
    pub(super) fn send(&mut self, call: &mut Call, stretch: usize, moved: &mut bool) -> Result<bool, FramingError> {
        while self.sent < self.bytes.len() {
            if !call.has_room() {
                return Ok(false);
            }
            let to = self.bytes.len().min(self.sent + stretch);
            call.write_body(&self.bytes[self.sent..to])?;
            self.sent = to;
            *moved = true;
        }
        call.finish_body(std::iter::empty())?;
        self.bytes = Vec::new();
        self.share.clear();
        Ok(true)
    }
}

/// How reading a body ended early.
enum Ended {
    Fault(Fault),
    /// The client is gone.
    Gone,
}

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// Reads the body of an undecided message, of at most `max` bytes, and takes the message through its way once more.
    pub(super) async fn hold(
        &mut self,
        facts: Facts,
        mut ticket: W::Ticket,
        (max, rate): (u64, BodyRate),
        lease: Option<Lease>,
    ) -> End {
        let head = std::mem::take(&mut self.undecided);
        let mut bytes = Vec::new();
        let mut share = Share::of(&self.shared.budget);
        let whole = self.read_whole(facts, (max, rate), lease.as_ref(), (&mut bytes, &mut share)).await;
        // Once more it is decided, and hangs on another one.
        drop(lease);
        let decoder = match whole {
            Ok(decoder) => decoder,
            // What of the body is still to come is not worth the wait.
            Err(Ended::Fault(fault)) => {
                if matches!(fault, Fault::Fallen(_)) {
                    self.way.telemetry().lease_fell();
                }
                self.way.fail(&mut ticket, &fault, After::Close, facts.to_head, &mut self.client.output.bytes);
                return self.answered(facts, ticket, After::Close).await;
            }
            Err(Ended::Gone) => {
                self.way.broken(&mut ticket, None);
                self.way.close(ticket, bytes.len() as u64, 0);
                return End::Abort;
            }
        };
        // Nothing is left of how it came.
        let facts = Facts { framing: Framing::None, expects_continue: false, ..facts };
        let after = after_answer(facts, &self.limits);
        let out = &mut self.client.output.bytes;
        let passage = match Head::read(&head, &mut self.spans, &self.limits) {
            Ok(Some(head)) => self.way.receive(&head, Some(&bytes), &mut ticket, &mut self.permitted, after, out),
            // The same bytes were read before.
            Ok(None) | Err(_) => {
                self.way.fail(&mut ticket, &Fault::Head(HeadError::RequestLine), After::Close, facts.to_head, out);
                Passage::Answered(After::Close)
            }
        };
        match passage {
            Passage::Forward(order) => {
                self.exchange(facts, order, Some(Held { decoder, bytes, sent: 0, share }), ticket).await
            }
            Passage::Answered(after) => self.answered(facts, ticket, after).await,
            // A way that has seen the body has nothing more to wait for.
            Passage::Undecided { .. } => End::Abort,
        }
    }

    async fn read_whole(
        &mut self,
        facts: Facts,
        (max, mut rate): (u64, BodyRate),
        lease: Option<&Lease>,
        (bytes, share): (&mut Vec<u8>, &mut Share),
    ) -> Result<Decoder, Ended> {
        let mut decoder = Decoder::request(facts.framing, Some(max)).map_err(too_large)?;
        if facts.expects_continue && self.client.input.is_empty() {
            self.client.output.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            if !self.flush().await {
                return Err(Ended::Gone);
            }
        }
        self.deadline.set(self.limits.body_stall_timeout);
        let (_, mut ready_since) = self.shared.since(0);
        poll_fn(|cx| {
            if let Some(Poll::Ready(fallen)) = lease.map(|lease| lease.poll_fallen(cx)) {
                return Poll::Ready(Err(Ended::Fault(Fault::Fallen(fallen))));
            }
            loop {
                let input = &mut self.client.input;
                match decoder.next(input.filled(), &mut self.spans, &self.limits).map_err(too_large)? {
                    Piece::Data { from, to } => {
                        if !share.grow_to(bytes.len() + to - from) {
                            return Poll::Ready(Err(Ended::Fault(Fault::Overload)));
                        }
                        bytes.extend_from_slice(&input.filled()[from..to]);
                        input.consume(to);
                        self.deadline.set(self.limits.body_stall_timeout);
                    }
                    Piece::End { trailers: true, .. } => return Poll::Ready(Err(Ended::Fault(Fault::HeldTrailers))),
                    Piece::End { consumed, trailers: false } => {
                        input.consume(consumed);
                        return Poll::Ready(Ok(()));
                    }
                    Piece::More { consumed } => {
                        input.consume(consumed);
                        if self.deadline.has_passed(cx) {
                            return Poll::Ready(Err(Ended::Fault(Fault::TooSlow)));
                        }
                        if self.client.has_ended {
                            return Poll::Ready(Err(Ended::Fault(Fault::Body(FramingError::Truncated))));
                        }
                        match ready!(input.poll_fill(cx, &mut self.client.io)) {
                            Ok(0) => self.client.has_ended = true,
                            Ok(length) => {
                                let (waited, now) = self.shared.since(ready_since);
                                ready_since = now;
                                if !rate.is_kept(waited, length) {
                                    return Poll::Ready(Err(Ended::Fault(Fault::TooSlow)));
                                }
                            }
                            Err(_) => return Poll::Ready(Err(Ended::Gone)),
                        }
                    }
                }
            }
        })
        .await?;
        Ok(decoder)
    }
}

/// The bound here is that on reading and not the resource's, and the answer says so.
fn too_large(error: FramingError) -> Ended {
    Ended::Fault(match error {
        FramingError::BodyTooLarge { max } => Fault::TooLargeToHold { max },
        error => Fault::Body(error),
    })
}

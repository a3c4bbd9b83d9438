//! The request's direction of an exchange: the client's body, taken out of its framing, into the upstream's.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::Connection;
use super::exchange::{Down, Exchange, Outcome, PIPELINED_BYTES_MAX, Up};
use super::framing::{FramingError, Piece};
use super::way::{Fault, Way};
use crate::head::Fields;

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// The request's direction: the client's body into the upstream's output, and that into its connection.
    pub(super) fn move_up(&mut self, cx: &mut Context<'_>, x: &mut Exchange<W>, moved: &mut bool) -> Option<Outcome> {
        if let Some(held) = &mut x.held {
            match held.send(&mut x.call, self.limits.copy_buffer_bytes, moved) {
                Ok(false) => {}
                Ok(true) => (x.held, x.up) = (None, Up::Complete),
                Err(error) => return Some(self.client_fault(x, error)),
            }
        }
        while x.up == Up::Sending && x.held.is_none() && x.call.has_room() {
            match x.decoder.next(self.client.input.filled(), &mut self.spans, &self.limits) {
                Err(error) => return Some(self.client_fault(x, error)),
                Ok(Piece::Data { from, to }) => {
                    // A body that was read to its length fits the encoder of that length.
                    if let Err(error) = x.call.write_body(&self.client.input.filled()[from..to]) {
                        return Some(self.client_fault(x, error));
                    }
                    self.client.input.consume(to);
                    *moved = true;
                }
                Ok(Piece::End { consumed, trailers }) => {
                    // Without trailers the spans still hold some other section, of bytes that are gone.
                    let section = trailers.then(|| Fields::of(self.client.input.filled(), &self.spans));
                    let fields = section.iter().flat_map(Fields::iter);
                    let fields = fields.filter(|field| W::trails_up(field, &x.order.route));
                    if let Err(error) = x.call.finish_body(fields) {
                        return Some(self.client_fault(x, error));
                    }
                    self.client.input.consume(consumed);
                    x.up = Up::Complete;
                    *moved = true;
                }
                Ok(Piece::More { consumed }) => {
                    self.client.input.consume(consumed);
                    if self.client.has_ended {
                        return Some(self.client_fault(x, FramingError::Truncated));
                    }
                    let filled = self.client.input.poll_fill(cx, &mut self.client.io);
                    if !self.is_in_time(x, &filled) {
                        return Some(match x.down {
                            Down::Waiting => Outcome::Failed(Fault::TooSlow),
                            Down::Body(_) | Down::Complete => Outcome::Broken,
                        });
                    }
                    match filled {
                        Poll::Pending => break,
                        Poll::Ready(Err(_)) => return Some(Outcome::Broken),
                        Poll::Ready(Ok(0)) => self.client.has_ended = true,
                        Poll::Ready(Ok(_)) => *moved = true,
                    }
                }
            }
        }
        if let Poll::Ready(Err(_)) = x.call.poll_send(cx, moved) {
            // The upstream may have answered before it closed its ear: the answer decides, not this error.
            x.up = Up::Refused;
        } else if !x.was_forwarded && x.call.has_sent_all() {
            x.was_forwarded = true;
            if let Some(upstream) = &x.upstream {
                self.way.forwarded(&mut x.ticket, upstream);
            }
        }
        self.watch(cx, x)
    }

    /// Notes since when the body has been waited for. Whether what comes of it comes fast enough.
    fn is_in_time(&self, x: &mut Exchange<W>, filled: &Poll<io::Result<usize>>) -> bool {
        let (waited, now) = x
            .ready_since
            .take()
            .map_or_else(|| (Duration::ZERO, self.shared.since(0).1), |since| self.shared.since(since));
        match filled {
            Poll::Ready(Ok(length)) => x.order.body_rate.is_kept(waited, *length),
            // Read when it comes; whoever wakes this task in between changes nothing.
            Poll::Pending => {
                x.ready_since = Some(now);
                x.order.body_rate.is_kept(waited, 0)
            }
            Poll::Ready(Err(_)) => true,
        }
    }

    /// Listens to a client that has nothing more to say for this exchange: it may be gone.
    fn watch(&mut self, cx: &mut Context<'_>, x: &Exchange<W>) -> Option<Outcome> {
        while x.up != Up::Sending && !self.client.has_ended && self.client.input.len() < PIPELINED_BYTES_MAX {
            match self.client.input.poll_fill(cx, &mut self.client.io) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Some(Outcome::Broken),
                // Half-closed: it still reads, so it still gets its answer.
                Poll::Ready(Ok(0)) => self.client.has_ended = true,
                Poll::Ready(Ok(_)) => {}
            }
        }
        None
    }

    /// The client's body is not what its head promised: the upstream must not take what it got for the whole.
    fn client_fault(&mut self, x: &Exchange<W>, error: FramingError) -> Outcome {
        match x.down {
            Down::Waiting => Outcome::Failed(Fault::Body(error)),
            Down::Body(_) | Down::Complete => Outcome::Broken,
        }
    }
}

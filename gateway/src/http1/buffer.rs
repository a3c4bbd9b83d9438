//! Bytes on their way in and out of a connection: bounded, reused, never zeroed twice. What is large is a share of the
//! budget of all connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{BASE_BYTES, Budget, Share};

/// Bytes that were read and not yet consumed. Grows while reads fill it, up to its bound.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    max: usize,
    was_filled: bool,
    share: Share,
}

impl Buffer {
    /// A buffer that takes what it needs beyond the base from a budget.
    pub(crate) fn new(max: usize, budget: &Arc<Budget>) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, max, was_filled: false, share: Share::of(budget) }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether nothing more can be read before something is consumed.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// Sets the bound anew. What was read already stays.
    pub(crate) fn bound(&mut self, max: usize) {
        self.max = max;
    }

    pub(crate) fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Empties it and gives all of its memory back.
    pub(crate) fn release(&mut self) {
        self.clear();
        self.bytes = Vec::new();
        self.was_filled = false;
        self.share.clear();
    }

    /// Gives memory back that only a large message needed; an idle connection should cost little.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.bytes.len() > BASE_BYTES {
            self.bytes = Vec::new();
            self.was_filled = false;
            self.share.clear();
        }
    }

    /// Reads once. `0` is the end of the stream. Where there is no room, because the bound is reached or the budget used up,
    /// the error is `OutOfMemory`.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut R,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        if self.end == self.bytes.len() {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(io).poll_read(cx, &mut room))?;
        let length = room.filled().len();
        self.was_filled = room.remaining() == 0;
        self.end += length;
        Poll::Ready(Ok(length))
    }

    fn make_room(&mut self) {
        let capacity = self.bytes.len();
        if capacity == 0 {
            self.bytes.resize(BASE_BYTES.min(self.max), 0);
        } else if self.was_filled && capacity < self.max {
            // The last read took all the room there was: more is waiting, and larger reads are fewer reads.
            self.grow((capacity * 4).min(self.max));
            self.was_filled = false;
        }
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() && self.end < self.max {
            self.grow((self.end * 2).min(self.max));
        }
    }

    /// Grows if the budget allows it.
    fn grow(&mut self, length: usize) {
        if length <= BASE_BYTES || self.share.grow_to(length) {
            self.bytes.resize(length, 0);
        }
    }
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
    share: Share,
}

impl Output {
    /// An output that takes what it needs beyond the base from a budget.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self { share: Share::of(budget), ..Self::default() }
    }

    /// Whether more of a body may be written: within `max`, and beyond the base only with a share of the budget for what
    /// is held already. Without one the body goes on in small pieces.
    pub(crate) fn has_room(&mut self, max: usize) -> bool {
        let waiting = self.waiting();
        waiting < BASE_BYTES.min(max) || waiting < max && self.share.grow_to(self.bytes.capacity())
    }

    /// Gives memory back that only a large message needed.
    pub(crate) fn shrink(&mut self) {
        if self.waiting() == 0 && self.bytes.capacity() > BASE_BYTES {
            self.bytes = Vec::new();
            self.sent = 0;
            self.share.clear();
        }
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Writes until nothing waits. Reports how many bytes went out in this call through `moved`.
    pub(crate) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut W,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            let length = ready!(Pin::new(&mut *io).poll_write(cx, &self.bytes[self.sent..]))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += length;
            *moved = true;
        }
        self.clear();
        // TLS takes bytes before it can send them all.
        Pin::new(io).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_while_it_is_filled_and_never_above_its_bound() {
        let budget = Budget::new(20_000);
        let mut buffer = Buffer::new(10_000, &budget);
        let mut source: &[u8] = &[7; 30_000];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while !buffer.is_full() {
            assert!(matches!(buffer.poll_fill(&mut cx, &mut source), Poll::Ready(Ok(1..))));
        }
        assert_eq!((buffer.len(), source.len()), (10_000, 20_000));
        assert!(matches!(buffer.poll_fill(&mut cx, &mut source), Poll::Ready(Err(_))));
        buffer.consume(9_000);
        assert!(matches!(buffer.poll_fill(&mut cx, &mut source), Poll::Ready(Ok(9_000))));
        buffer.consume(10_000);
        buffer.shrink();
        assert!(buffer.is_empty() && buffer.bytes.is_empty());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_a_budget_a_buffer_stays_small_and_an_output_takes_small_pieces() {
        let budget = Budget::new(40_000);
        let taken = budget.take(40_000).expect("all of it");
        let mut buffer = Buffer::new(32_000, &budget);
        let mut source: &[u8] = &[7; 60_000];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = || loop {
            match buffer.poll_fill(&mut cx, &mut source) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Err(error)) => return (buffer.len(), error.kind()),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(read(), (BASE_BYTES, io::ErrorKind::OutOfMemory));
        let mut output = Output::new(&budget);
        assert!(output.has_room(16_000));
        output.bytes.resize(8_000, 7);
        assert!(!output.has_room(16_000), "what it holds has no share");
        drop(taken);
        assert!(output.has_room(16_000) && read().0 > BASE_BYTES);
        assert!(budget.used() >= 8_000 && budget.used() <= 40_000);
    }
}

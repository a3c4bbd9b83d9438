//! Bytes on their way in and out of a connection: bounded, reused, never zeroed twice.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a buffer begins with: enough for the head of nearly every request.
const BYTES_AT_FIRST: usize = 4 * 1024;

/// Bytes that were read and not yet consumed. Grows while reads fill it, up to its bound.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    max: usize,
    was_filled: bool,
}

impl Buffer {
    pub(crate) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, max, was_filled: false }
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

    /// Gives memory back that only a large message needed; an idle connection should cost little.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.bytes.len() > BYTES_AT_FIRST {
            self.bytes = Vec::new();
            self.was_filled = false;
        }
    }

    /// Reads once. `0` is the end of the stream. A full buffer is an error of the caller, reported as one of the stream.
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
            self.bytes.resize(BYTES_AT_FIRST.min(self.max), 0);
        } else if self.was_filled && capacity < self.max {
            // The last read took all the room there was: more is waiting, and larger reads are fewer reads.
            self.bytes.resize((capacity * 4).min(self.max), 0);
            self.was_filled = false;
        }
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() && self.end < self.max {
            self.bytes.resize((self.end * 2).min(self.max), 0);
        }
    }
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    sent: usize,
}

impl Output {
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
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_while_it_is_filled_and_never_above_its_bound() {
        let mut buffer = Buffer::new(10_000);
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
    }
}

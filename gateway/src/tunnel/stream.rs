//! A stream of HTTP/2 as bytes, on whichever side of the gateway: DATA is bytes, END_STREAM an end, a reset a broken
//! connection (RFC 8441 section 5).
//!
//! A window opens by what was read, and what is written waits for the other side's window, so neither side of a tunnel runs
//! ahead of the other by more than `h2` holds for any stream.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::ReadBuf;

/// Reads what the stream brings. `waiting` is what was taken off it and not read.
pub(crate) fn poll_read(
    stream: &mut RecvStream,
    waiting: &mut Bytes,
    cx: &mut Context<'_>,
    room: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    while waiting.is_empty() {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => *waiting = data,
            Some(Err(error)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error))),
            None => return Poll::Ready(Ok(())),
        }
    }
    let read = waiting.split_to(room.remaining().min(waiting.len()));
    room.put_slice(&read);
    // An error is a stream that is over, which the next reading says.
    let _ = stream.flow_control().release_capacity(read.len());
    Poll::Ready(Ok(()))
}

/// Waits for room for DATA, of which as much as `wanted` is asked for. The error is a stream that is gone.
pub(crate) fn poll_room(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    stream.reserve_capacity(wanted);
    loop {
        match stream.capacity() {
            // Capacity says how much it is when it grows, not how much there is already.
            0 => match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            },
            room => return Poll::Ready(Ok(room.min(wanted))),
        }
    }
}

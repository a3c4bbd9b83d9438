//! A client's stream as bytes both ways: what extended CONNECT makes of it (RFC 8441). DATA is bytes, END_STREAM an end.
//!
//! A window opens by what was read from the pipe, and what is written waits for the client's window, so neither side of a
//! tunnel runs ahead of the other by more than `h2` holds for any stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply::{Gone, Sender};

/// Both directions of a stream.
pub(super) struct Pipe<'b> {
    body: &'b mut RecvStream,
    sender: Sender,
    /// What was taken off the stream and not read.
    waiting: Bytes,
}

impl<'b> Pipe<'b> {
    pub(super) fn of(body: &'b mut RecvStream, sender: Sender) -> Self {
        Self { body, sender, waiting: Bytes::new() }
    }

    /// The way down, for whoever ends it.
    pub(super) fn into_sender(self) -> Sender {
        self.sender
    }
}

impl AsyncRead for Pipe<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        while me.waiting.is_empty() {
            match ready!(me.body.poll_data(cx)) {
                Some(Ok(data)) => me.waiting = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let read = me.waiting.split_to(room.remaining().min(me.waiting.len()));
        room.put_slice(&read);
        let _ = me.body.flow_control().release_capacity(read.len());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().sender.poll_write(cx, data).map_err(broken)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is with the connection, which sends it as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().sender.end().map_err(broken))
    }
}

fn broken(_: Gone) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

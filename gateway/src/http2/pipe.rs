//! A client's [`stream`] as bytes both ways: what extended CONNECT makes of it (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reply::{Gone, Sender};
use crate::tunnel::stream;

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
        stream::poll_read(me.body, &mut me.waiting, cx, room)
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

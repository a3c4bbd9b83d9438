//! An upstream's side of a tunnel: what a connection is, or one stream of it, after the service has switched protocols.
//!
//! It holds the message's place at the address, and the stream's slot on its connection, for as long as the tunnel lasts. A
//! stream that is dropped before both of its directions have ended is reset with CANCEL, behind what was written to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h2::Slot;
use super::member::Place;
use super::transport::Stream;
use crate::limits::Limits;
use crate::tunnel::stream::{poll_read, poll_room};

/// The bytes to and from a service that speaks another protocol.
#[derive(Debug)]
pub struct Switched {
    bytes: Side,
    _place: Place,
}

/// What the bytes pass over.
#[derive(Debug)]
enum Side {
    Connection(Stream),
    Stream(Box<Pipe>),
}

/// Both directions of a stream.
#[derive(Debug)]
pub(super) struct Pipe {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    /// What was taken off the stream and not read.
    waiting: Bytes,
    /// The last bytes, until more of them come, or the end, which then goes with them: some services take an end that
    /// comes alone, behind a last message, for a message too many.
    unsent: Bytes,
    has_ended: bool,
    /// Keeps the connection's count of its streams right.
    _slot: Slot,
}

impl Switched {
    /// After a 101.
    pub(crate) fn connection(stream: Stream, place: Place) -> Self {
        Self { bytes: Side::Connection(stream), _place: place }
    }

    /// After a success in answer to extended CONNECT.
    pub(super) fn stream(pipe: Pipe, place: Place) -> Self {
        Self { bytes: Side::Stream(Box::new(pipe)), _place: place }
    }

    /// How much the service may send before it is read: the window of a stream; what a connection brings the system holds.
    pub(crate) fn window_bytes(&self, limits: &Limits) -> usize {
        match &self.bytes {
            Side::Connection(_) => 0,
            Side::Stream(_) => limits.h2_stream_window_bytes as usize,
        }
    }
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Side::Connection(stream) => Pin::new(stream).poll_read(cx, room),
            Side::Stream(pipe) => poll_read(&mut pipe.receiving, &mut pipe.waiting, cx, room),
        }
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Side::Connection(stream) => Pin::new(stream).poll_write(cx, data),
            Side::Stream(pipe) => pipe.poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Side::Connection(stream) => Pin::new(stream).poll_flush(cx),
            // Then it is with the connection, which sends it as soon as it can.
            Side::Stream(pipe) => Poll::Ready(pipe.flush()),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Side::Connection(stream) => Pin::new(stream).poll_shutdown(cx),
            Side::Stream(pipe) => Poll::Ready(pipe.end()),
        }
    }
}

impl Pipe {
    pub(super) fn of(sending: SendStream<Bytes>, receiving: RecvStream, slot: Slot) -> Self {
        Self { sending, receiving, waiting: Bytes::new(), unsent: Bytes::new(), has_ended: false, _slot: slot }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.flush()?;
        let room = ready!(poll_room(&mut self.sending, data.len(), cx))?;
        self.unsent = Bytes::copy_from_slice(&data[..room]);
        Poll::Ready(Ok(room))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        self.sending.send_data(std::mem::take(&mut self.unsent), false).map_err(broken)
    }

    fn end(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.has_ended, true) {
            return Ok(());
        }
        self.sending.send_data(std::mem::take(&mut self.unsent), true).map_err(broken)
    }
}

fn broken(error: ::h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
}

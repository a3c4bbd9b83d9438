//! Bodies of answers on their way to an HTTP/2 client.
//!
//! A streamed body has room for one frame: the upstream is read no faster than the client's window opens. It counts as
//! broken off unless its writer said that it is whole: no way of ending an exchange early can look like an end.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a client that does not read can put off the end of its stream.
const LAST_WORD_TIMEOUT: Duration = Duration::from_millis(30);

/// The answer broke off: the stream is reset, so that the client cannot take it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer ended before its body did")]
pub(super) struct Broken;

/// A response's body.
pub(super) enum Answer {
    /// None, or all of it.
    Whole(Option<Bytes>),
    /// Frame by frame, as the upstream sends it.
    Streamed(Stream),
}

/// The end of a streamed body that the client's stream reads.
pub(super) struct Stream {
    frames: mpsc::Receiver<Frame<Bytes>>,
    is_whole: Rc<Cell<bool>>,
    is_over: bool,
}

/// The end of a streamed body into which the exchange writes.
pub(super) struct Sender {
    frames: mpsc::Sender<Frame<Bytes>>,
    is_whole: Rc<Cell<bool>>,
}

/// The client's stream is gone.
pub(super) struct Gone;

impl Sender {
    /// Waits for room, and puts a frame there.
    pub(super) async fn send(&mut self, frame: Frame<Bytes>) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }

    /// Resolves when the client's stream is gone.
    pub(super) async fn gone(&self) {
        self.frames.closed().await;
    }

    /// Says a last word, and that the body ends with it; where there is no room for it, the body breaks off instead. A
    /// client that reads makes room at once, for the frame before may just have been put there.
    pub(super) async fn finish_with(self, frame: Frame<Bytes>) {
        if let Ok(Ok(())) = timeout(LAST_WORD_TIMEOUT, self.frames.send(frame)).await {
            self.finish();
        }
    }

    /// The body is whole: what was sent is all there is.
    pub(super) fn finish(self) {
        self.is_whole.set(true);
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self::empty()
    }
}

impl Answer {
    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    pub(super) fn streamed() -> (Sender, Self) {
        let (sender, frames) = mpsc::channel(1);
        let is_whole = Rc::new(Cell::new(false));
        let stream = Stream { frames, is_whole: Rc::clone(&is_whole), is_over: false };
        (Sender { frames: sender, is_whole }, Self::Streamed(stream))
    }
}

impl Stream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.frames.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => {
                self.is_over = true;
                Poll::Ready(if self.is_whole.get() { None } else { Some(Err(Broken)) })
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(stream) => stream.poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            // What the upstream declared stands in the head already; nothing is derived from here.
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_that_nobody_called_whole_is_broken() {
        let (mut sender, mut body) = Answer::streamed();
        assert!(sender.send(Frame::data(Bytes::from_static(b"part"))).await.is_ok());
        drop(sender);
        assert!(matches!(body.frame().await, Some(Ok(_))));
        assert!(matches!(body.frame().await, Some(Err(Broken))));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_finished_body_ends() {
        let (mut sender, body) = Answer::streamed();
        assert!(sender.send(Frame::data(Bytes::from_static(b"all"))).await.is_ok());
        sender.finish();
        let collected = body.collect().await.expect("a whole body");
        assert_eq!(collected.to_bytes(), "all");
    }
}

//! The client's end of a stream, on the way down: informational heads, the final one, DATA and trailers.
//!
//! DATA is handed to `h2` only where the client's window has room for it, so an upstream is read no faster than the client
//! reads. An answer counts as broken off unless its writer said that it is whole: no way of ending an exchange early can
//! look like an end.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response};
use tokio::time::timeout;

use super::outgoing::Outgoing;
use crate::limits::{LAST_WORD_TIMEOUT, Limits};
use crate::tunnel::stream;

/// The client's stream is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// An answer that has not begun.
pub(super) struct Reply(SendResponse<Bytes>, Rc<Outgoing>);

impl Reply {
    pub(super) fn on(respond: SendResponse<Bytes>, outgoing: &Rc<Outgoing>) -> Self {
        Self(respond, Rc::clone(outgoing))
    }

    /// Resolves when the client's stream is gone.
    pub(super) async fn gone(&mut self) {
        let _ = poll_fn(|cx| self.0.poll_reset(cx)).await;
    }

    /// Sends an informational head.
    pub(super) fn inform(&mut self, head: Response<()>) -> Result<(), Gone> {
        self.0.send_informational(head).map_err(|error| {
            tracing::debug!(%error, "an informational answer cannot be sent");
            Gone
        })
    }

    /// Sends the final head of an answer whose body follows. `declared`: how long the head says that it is.
    pub(super) fn begin(self, head: Response<()>, declared: Option<u64>) -> Result<Sender, Gone> {
        let outgoing = Rc::clone(&self.1);
        let stream = self.head(head, false)?;
        Ok(Sender { stream, outgoing, left: declared, is_over: false, reason: Reason::INTERNAL_ERROR })
    }

    /// Sends an answer that is all head.
    pub(super) fn head_only(self, head: Response<()>) -> Result<(), Gone> {
        self.head(head, true).map(drop)
    }

    /// Sends a whole answer.
    pub(super) async fn whole(self, answer: Response<Bytes>, limits: &Limits) -> Result<(), Gone> {
        let (parts, body) = answer.into_parts();
        let head = Response::from_parts(parts, ());
        if body.is_empty() {
            return self.head_only(head);
        }
        let mut sender = self.begin(head, Some(body.len() as u64))?;
        // On its way out a small answer waits for a window at most; whoever opens none gets a reset.
        timeout(limits.refusal_timeout, sender.send(body, true, || ())).await.unwrap_or(Err(Gone))
    }

    fn head(mut self, head: Response<()>, is_all: bool) -> Result<SendStream<Bytes>, Gone> {
        self.0.send_response(head, is_all).map_err(|error| {
            tracing::debug!(%error, "an answer's head cannot be sent");
            self.0.send_reset(Reason::INTERNAL_ERROR);
            Gone
        })
    }
}

/// An answer whose head has been sent.
pub(super) struct Sender {
    stream: SendStream<Bytes>,
    outgoing: Rc<Outgoing>,
    /// What is still to come of a declared length.
    left: Option<u64>,
    is_over: bool,
    /// What a reset says, if there has to be one.
    reason: Reason,
}

impl Sender {
    /// Resolves when the client's stream is gone.
    pub(super) async fn gone(&mut self) {
        let _ = poll_fn(|cx| self.stream.poll_reset(cx)).await;
    }

    /// Sends data, stretch by stretch as the client makes room; `moved` is called for each. The body is whole with the last.
    pub(super) async fn send(&mut self, mut data: Bytes, is_last: bool, moved: impl Fn()) -> Result<(), Gone> {
        while !data.is_empty() {
            let room = poll_fn(|cx| self.poll_room(data.len(), cx)).await?;
            let stretch = data.split_to(room);
            self.put(stretch, is_last && data.is_empty())?;
            moved();
        }
        Ok(())
    }

    /// Sends as much as there is room for now.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Gone>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.poll_room(data.len(), cx))?;
        self.put(Bytes::copy_from_slice(&data[..room]), false)?;
        Poll::Ready(Ok(room))
    }

    /// Ends what is sent, if it has not ended.
    pub(super) fn end(&mut self) -> Result<(), Gone> {
        if self.is_over { Ok(()) } else { self.put(Bytes::new(), true) }
    }

    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        stream::poll_room(&mut self.stream, wanted, cx).map_err(|_| Gone)
    }

    /// Hands DATA to the connection. A body that is not as long as its head says is not ended, but broken off.
    fn put(&mut self, data: Bytes, is_last: bool) -> Result<(), Gone> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(Gone)?;
        }
        if is_last && self.left.is_some_and(|left| left > 0) {
            return Err(Gone);
        }
        self.outgoing.put(data.len());
        self.stream.send_data(data, is_last).map_err(|_| Gone)?;
        self.is_over = is_last;
        Ok(())
    }

    /// Whether a body of declared length has been sent to its last byte, so that nothing can follow but its end.
    pub(super) fn expects(&self, more: usize) -> bool {
        self.left.is_none_or(|left| left > more as u64)
    }

    /// Whether the end of the body was sent with its last data.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The body is whole: what was sent is all there is.
    pub(super) fn finish(mut self) -> Result<(), Gone> {
        self.put(Bytes::new(), true)
    }

    /// The body is whole, and these fields follow it.
    pub(super) fn finish_with_trailers(mut self, trailers: HeaderMap) -> Result<(), Gone> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(Gone);
        }
        // There is no more DATA: room that was asked for goes back to the others.
        self.stream.reserve_capacity(0);
        self.stream.send_trailers(trailers).map_err(|_| Gone)?;
        self.is_over = true;
        Ok(())
    }

    /// Says a last word, and that the body ends with it; where there is no room for it, the body breaks off instead. A
    /// client that reads makes room at once, for the data before may just have taken it.
    pub(super) async fn finish_with(mut self, data: Bytes) {
        let _ = timeout(LAST_WORD_TIMEOUT, self.send(data, true, || ())).await;
    }

    /// Breaks the answer off; the reset says why.
    pub(super) fn abort(mut self, reason: Reason) {
        self.reason = reason;
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.is_over {
            self.stream.send_reset(self.reason);
        }
    }
}

//! The way up: the permitted head, then the client's body, framed anew.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;

use super::lease::{Wait, Waiting};
use crate::budget::Budget;
use crate::head::field::assemble_trailers;
use crate::head::{Fields, Spans};
use crate::http1::framing::FramingError;
use crate::lease::{Fallen, Lease};
use crate::limits::Limits;
use crate::request::body_rate::BodyRate;
use crate::request::error::Refused;
use crate::request::forward::hygiene::trails_up;
use crate::request::resource::Resource;
use crate::upstream::call::Call;

/// What of a body that is there already is sent at once.
const HELD_STRETCH_BYTES: usize = 16 * 1024;

/// What goes up after the head.
pub(super) struct Upload<'a> {
    pub(super) call: &'a RefCell<Call>,
    pub(super) body: &'a mut RecvStream,
    /// Its first bytes, where they have been read already.
    pub(super) first: Option<Bytes>,
    /// All of the body, where it has been read already.
    pub(super) held: Option<Bytes>,
    /// The most bytes the body may have.
    pub(super) body_max: Option<u64>,
    /// How slowly it may come.
    pub(super) rate: BodyRate,
    pub(super) resource: &'a Resource,
    pub(super) wait: &'a Waiting,
    /// What the message hangs on.
    pub(super) lease: &'a Lease,
    pub(super) bytes_in: &'a Cell<u64>,
    pub(super) budget: &'a Arc<Budget>,
    pub(super) limits: &'a Limits,
    /// What the client may have sent while nothing moves: its window.
    pub(super) window_bytes: usize,
}

/// Why the message did not go up whole.
pub(super) enum Unsent {
    /// The client's fault.
    Refused(Refused),
    /// The client reset the stream, or broke HTTP/2's own framing, for which `h2` resets it.
    Gone,
    /// The capability fell.
    Fallen(Fallen),
    /// The upstream takes no more. It may have answered already (RFC 9112 section 9.5).
    Upstream,
}

impl From<io::Error> for Unsent {
    fn from(_: io::Error) -> Self {
        Self::Upstream
    }
}

impl From<FramingError> for Unsent {
    /// `h2` compares the declared length with the DATA frames before; this is the second look.
    fn from(error: FramingError) -> Self {
        Self::Refused(Refused::Framing(error.to_string().into()))
    }
}

impl Upload<'_> {
    /// Sends it all. On success the upstream has the whole request.
    pub(super) async fn run(mut self) -> Result<(), Unsent> {
        self.send().await?;
        if let Some(held) = &self.held {
            self.bytes_in.set(held.len() as u64);
            for stretch in held.chunks(HELD_STRETCH_BYTES) {
                self.call.borrow_mut().write_body(stretch)?;
                self.send().await?;
            }
            return self.finish(&HeaderMap::new()).await;
        }
        loop {
            let since = Instant::now();
            self.wait.set(Wait::Client(since));
            let first = self.first.take();
            let is_first = first.is_some();
            let data = match first {
                Some(first) => first,
                None => match self.body.data().await {
                    None => break,
                    // A reset, or a length that is not the sum of the DATA frames: `h2` has answered with a reset itself.
                    Some(Err(_)) => return Err(Unsent::Gone),
                    Some(Ok(data)) => data,
                },
            };
            if !self.rate.is_kept(since.elapsed(), data.len()) {
                return Err(Unsent::Refused(Refused::RequestTimeout));
            }
            let received = self.bytes_in.get() + data.len() as u64;
            self.bytes_in.set(received);
            if let Some(max) = self.body_max.filter(|max| received > *max) {
                return Err(Unsent::Refused(Refused::BodyTooLarge { max }));
            }
            // The window opens by what was taken off it; the next stretch is taken only when this one is sent.
            if !is_first {
                let _ = self.body.flow_control().release_capacity(data.len());
            }
            // Asked for each stretch, since a client that sends without a pause leaves this no pause to be ended in.
            if let Some(fallen) = self.lease.fallen() {
                return Err(Unsent::Fallen(fallen));
            }
            self.call.borrow_mut().write_body(&data)?;
            self.send().await?;
        }
        // No end of the body but END_STREAM is one: a reset, whatever its code, leaves the upstream with half a request.
        let trailers = self.body.trailers().await.map_err(|_| Unsent::Gone)?.unwrap_or_default();
        self.finish(&trailers).await
    }

    async fn finish(&self, trailers: &HeaderMap) -> Result<(), Unsent> {
        // The same rules as for HTTP/1's trailers: `h2` knows fewer.
        let (mut buffer, mut spans) = (Vec::new(), Spans::new());
        let fields = trailers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        assemble_trailers(fields, &mut buffer, &mut spans, self.limits).map_err(FramingError::of_trailers)?;
        let read = Fields::of(&buffer, &spans);
        let passing = read.iter().filter(|field| trails_up(field, self.resource));
        self.call.borrow_mut().finish_body(passing)?;
        self.send().await?;
        self.wait.set(Wait::Answer(Instant::now()));
        Ok(())
    }

    /// Sends what was written, before more of it is read: the client's window opens no faster than the upstream reads. An
    /// upstream that does not read leaves that window full of what the client has sent.
    async fn send(&self) -> io::Result<()> {
        self.budget.while_waiting(self.window_bytes, self.send_now()).await
    }

    async fn send_now(&self) -> io::Result<()> {
        self.wait.set(Wait::Upstream(Instant::now()));
        loop {
            let mut moved = false;
            let sent = poll_fn(|context| {
                let sent = self.call.borrow_mut().poll_send(context, &mut moved);
                if moved {
                    self.wait.set(Wait::Upstream(Instant::now()));
                }
                sent
            });
            sent.await?;
            if self.call.borrow().has_sent_all() {
                return Ok(());
            }
        }
    }
}

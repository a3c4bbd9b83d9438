//! One HTTP/2 connection to a service: its beginning, its streams' slots, and the task that drives it.
//!
//! A connection is used only once the service's SETTINGS have come: until then nothing proves that the other side speaks
//! HTTP/2 at all, and nothing was sent that would have to be sent again. It takes no more streams once the service said
//! GOAWAY, and it ends when it has had none for a while, or when it has fallen silent under streams that wait: on a PING
//! that is not answered, or when a message ran out of time and not a byte had come since it was sent.
//!
//! What a service has sent and nobody has taken lies in the library's buffers, behind the windows that were granted to it:
//! a stream's, and the connection's for all streams together. How much of it that is does not show while an answer waits
//! for a client that reads slowly, so for each such answer its whole window counts against the budget of all connections.
//! Nothing else bounds it, and nothing has to: an answer that is read as it comes leaves nothing there.
//!
//! The connection's window is as large as those of all its streams together. Were it smaller, a few callers who do not read
//! could fill it, and the answers to everybody else would stand still behind theirs.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::connections::Connections;
use crate::budget::{Budget, Share};
use crate::limits::{H2_SEND_BUFFER_BYTES, H2_WINDOW_MAX, Limits};
use crate::upstream::transport::Stream;

/// A connection that takes streams, or took some that are not over.
pub(super) struct Live {
    limits: Rc<Limits>,
    /// `None` once it takes no more streams. The connection ends when this and all streams are gone.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    active: Cell<u32>,
    has_served: Cell<bool>,
    /// Since when it has had no stream.
    idle_since: Cell<Instant>,
    reads: Rc<Cell<u64>>,
    /// It is dead, by what a stream saw of it.
    is_dead: Cell<bool>,
    /// How many of its streams have an answer that waits for its client, and what their windows can hold.
    waiting: Cell<usize>,
    windows: RefCell<Option<Share>>,
    /// For the task that drives it: the last stream is gone, or it is dead.
    news: Notify,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Live {
    /// A slot for one more stream, if there is room.
    pub(super) fn slot(self: &Rc<Self>) -> Option<Slot> {
        let mut sender = self.sender.borrow().clone()?;
        let room = sender.current_max_send_streams().min(self.limits.upstream_h2_streams_max as usize);
        if self.active.get() as usize >= room {
            return None;
        }
        // An error here is a GOAWAY, or the end of the connection: for new streams there is no difference.
        let mut noop = Context::from_waker(Waker::noop());
        if !matches!(sender.poll_ready(&mut noop), Poll::Ready(Ok(()))) {
            self.retire();
            return None;
        }
        self.active.set(self.active.get() + 1);
        let is_reused = self.has_served.replace(true);
        Some(Slot {
            live: Rc::clone(self),
            sender,
            is_reused,
            reads: self.reads.get(),
            since: Instant::now(),
            is_waiting: false,
        })
    }

    /// Whether it takes streams at all.
    pub(super) fn is_open(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Takes no more streams; those that are under way go on.
    pub(super) fn retire(&self) {
        self.sender.borrow_mut().take();
    }

    /// So many streams have an answer that waits: counts what the service can have sent on them.
    fn count_waiting(&self, waiting: usize) {
        self.waiting.set(waiting);
        let of_streams = waiting.saturating_mul(self.limits.h2_stream_window_bytes as usize);
        if let Some(windows) = &mut *self.windows.borrow_mut() {
            windows.hold(of_streams);
        }
    }
}

/// A slot for one stream on a connection, held for as long as the stream is there.
#[derive(Debug)]
pub struct Slot {
    live: Rc<Live>,
    pub(super) sender: SendRequest<Bytes>,
    is_reused: bool,
    /// What had been read from the connection when the slot was taken, and when that was.
    reads: u64,
    since: Instant,
    /// Whether the answer waits for its client.
    is_waiting: bool,
}

impl Slot {
    /// The answer waits for its client from now on: what its window can hold is counted.
    pub(super) fn waits(&mut self, budget: &Arc<Budget>) {
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.live.windows.borrow_mut().get_or_insert_with(|| Share::of(budget));
            self.live.count_waiting(self.live.waiting.get() + 1);
        }
    }

    /// It does not wait any more.
    pub(super) fn flows(&mut self) {
        if std::mem::replace(&mut self.is_waiting, false) {
            self.live.count_waiting(self.live.waiting.get().saturating_sub(1));
        }
    }

    /// Whether the connection has served a message before: then it may have been closed unseen.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// The connection takes no more streams.
    pub(super) fn retire(&self) {
        self.live.retire();
    }

    /// The stream got no answer. If nothing at all came over the connection meanwhile, although there was time for it,
    /// then the connection is dead, and the next message must not wait on it as long as this one did.
    pub(super) fn was_unanswered(&self) {
        let is_silent = self.live.reads.get() == self.reads;
        if is_silent && self.since.elapsed() >= self.live.limits.h2_ping_timeout {
            self.live.retire();
            self.live.is_dead.set(true);
            self.live.news.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.flows();
        let active = self.live.active.get().saturating_sub(1);
        self.live.active.set(active);
        if active == 0 {
            self.live.idle_since.set(Instant::now());
            self.live.news.notify_one();
        }
    }
}

/// Begins HTTP/2 on a fresh connection and waits for the other side's SETTINGS. The connection is then driven by a task
/// of its own.
///
/// # Errors
/// What came back instead of SETTINGS.
pub(super) async fn establish(
    stream: Stream,
    limits: &Rc<Limits>,
    connections: &Rc<Connections>,
) -> io::Result<Rc<Live>> {
    let reads = Rc::new(Cell::new(0));
    let stream = Metered { stream, reads: Rc::clone(&reads) };
    let (sender, mut connection) = builder(limits).handshake(stream).await.map_err(no_http2)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => {
            Poll::Ready(Err(io::Error::other("it closed the connection instead of speaking HTTP/2")))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(no_http2(error))),
        // None may be opened before the SETTINGS have come; see the builder.
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let live = Rc::new(Live {
        limits: Rc::clone(limits),
        sender: RefCell::new(Some(sender)),
        active: Cell::new(0),
        has_served: Cell::new(false),
        idle_since: Cell::new(Instant::now()),
        reads,
        is_dead: Cell::new(false),
        waiting: Cell::new(0),
        windows: RefCell::default(),
        news: Notify::new(),
    });
    let pings = connection.ping_pong();
    let (driven, connections) = (Rc::clone(&live), Rc::downgrade(connections));
    tokio::task::spawn_local(async move {
        drive(connection, pings, &driven).await;
        driven.retire();
        if let Some(connections) = connections.upgrade() {
            connections.forget(&driven);
        }
    });
    Ok(live)
}

/// Every setting is explicit: the library's defaults may change, the table of limits is what holds.
pub(super) fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(limits.h2_stream_window_bytes)
        .initial_connection_window_size(window_of_all_streams(limits))
        .max_header_list_size(limits.h2_answer_list_bytes_max())
        .max_send_buffer_size(H2_SEND_BUFFER_BYTES)
        // Until the service's SETTINGS say how many.
        .initial_max_send_streams(0);
    builder
}

/// No stream can take another one's part of it.
fn window_of_all_streams(limits: &Limits) -> u32 {
    limits.h2_stream_window_bytes.saturating_mul(limits.upstream_h2_streams_max).min(H2_WINDOW_MAX)
}

fn no_http2(error: h2::Error) -> io::Error {
    match error.get_io() {
        Some(io) => io::Error::new(io.kind(), format!("it ended the connection instead of speaking HTTP/2: {io}")),
        None => io::Error::other(format!(
            "what came back is not HTTP/2 ({error}); if it speaks HTTP/1.1 there, write http:// in place of h2c://"
        )),
    }
}

/// Moves the connection's frames until it ends.
async fn drive(mut connection: Connection<Metered, Bytes>, mut pings: Option<PingPong>, live: &Live) {
    let mut seen = live.reads.get();
    let mut heard = Instant::now();
    let mut pinged = None;
    loop {
        let limits = &live.limits;
        if live.reads.get() != seen {
            (seen, heard, pinged) = (live.reads.get(), Instant::now(), None);
        }
        let is_idle = live.active.get() == 0;
        if is_idle {
            // Silence is held against it only from the first stream that waits.
            (heard, pinged) = (Instant::now(), None);
        }
        let until = match pinged {
            _ if is_idle => live.idle_since.get() + limits.upstream_idle_timeout,
            Some(pinged) => pinged + limits.h2_ping_timeout,
            None => heard + limits.upstream_h2_ping_interval,
        };
        if Instant::now() >= until {
            match pinged {
                // The connection says goodbye when the last handle is gone, and ends below.
                _ if is_idle => live.retire(),
                Some(_) => {
                    tracing::warn!("an HTTP/2 upstream answers no PING; the connection is closed");
                    return;
                }
                None => {
                    pinged = Some(Instant::now());
                    if let Some(pings) = &mut pings {
                        // An error is a PING that is still under way, or the end of the connection, which is seen below.
                        let _ = pings.send_ping(Ping::opaque());
                    }
                }
            }
        }
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an HTTP/2 connection to an upstream ended");
                }
                return;
            }
            () = live.news.notified() => {
                if live.is_dead.get() {
                    return;
                }
            }
            () = answer(&mut pings), if pinged.is_some() => {}
            () = sleep_until(until.into()), if live.is_open() || !is_idle => {}
        }
    }
}

/// Takes the answer to a PING, so that another one can be sent.
async fn answer(pings: &mut Option<PingPong>) {
    match pings {
        Some(some) => {
            if poll_fn(|cx| some.poll_pong(cx)).await.is_err() {
                *pings = None;
            }
        }
        None => std::future::pending().await,
    }
}

/// A stream that counts when something was read.
struct Metered {
    stream: Stream,
    reads: Rc<Cell<u64>>,
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.reads.set(self.reads.get().wrapping_add(1));
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! Whether anything goes on on a connection, and whether its other end still lives.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{sleep, sleep_until, timeout};

use super::outgoing::Outgoing;
use crate::limits::Limits;

/// What goes on on a connection.
pub(super) struct Activity(Rc<State>);

struct State {
    active: Cell<usize>,
    begun: Cell<u64>,
    since: Cell<Instant>,
    is_cut: Cell<bool>,
    resets: Resets,
}

/// What a client took back, as a level that sinks with time.
struct Resets {
    max: usize,
    window: Duration,
    level: Cell<f64>,
    at: Cell<Instant>,
}

impl Resets {
    fn note(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at.replace(now)).as_secs_f64();
        let sunk = elapsed / self.window.as_secs_f64() * self.max as f64;
        self.level.set((self.level.get() - sunk).max(0.0) + 1.0);
    }

    fn are_too_many(&self) -> bool {
        self.level.get() > self.max as f64
    }
}

/// A connection that is served: what drops this without having said that it is over cuts its streams off.
pub(super) struct Unfinished(Option<Rc<State>>);

impl Unfinished {
    /// The connection ended by itself.
    pub(super) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.is_cut.set(true);
        }
    }
}

/// A stream that goes on, for as long as this is held.
pub(super) struct Active {
    state: Rc<State>,
    /// Whether no other stream went on when it began.
    pub(super) is_alone: bool,
}

impl Activity {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Rc::new(State {
            active: Cell::new(0),
            begun: Cell::new(0),
            since: Cell::new(Instant::now()),
            is_cut: Cell::new(false),
            resets: Resets {
                max: limits.h2_resets_max,
                window: limits.h2_resets_window,
                level: Cell::new(0.0),
                at: Cell::new(Instant::now()),
            },
        }))
    }

    /// The connection, which is not over yet.
    pub(super) fn unfinished(&self) -> Unfinished {
        Unfinished(Some(Rc::clone(&self.0)))
    }

    /// A stream begins.
    pub(super) fn begin(&self) -> Active {
        let state = &self.0;
        let is_alone = state.active.get() == 0;
        state.active.set(state.active.get() + 1);
        state.begun.set(state.begun.get() + 1);
        Active { state: Rc::clone(state), is_alone }
    }

    /// A stream was taken back before anybody looked at it.
    pub(super) fn takes_back(&self) {
        self.0.begun.set(self.0.begun.get() + 1);
        self.0.resets.note(Instant::now());
    }

    /// Whether the client has taken back more than it may.
    pub(super) fn is_beyond_resets(&self) -> bool {
        self.0.resets.are_too_many()
    }

    /// How many streams have begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.0.begun.get()
    }

    /// Resolves when there has been no stream for some time.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            match self.0.active.get() {
                0 if self.0.since.get().elapsed() >= time => return,
                0 => sleep_until((self.0.since.get() + time).into()).await,
                _ => sleep(time).await,
            }
        }
    }
}

impl Active {
    /// The client has taken the stream back.
    pub(super) fn is_taken_back(&self) {
        self.state.resets.note(Instant::now());
    }

    /// Whether the gateway has cut the connection off, and not its client.
    pub(super) fn is_cut(&self) -> bool {
        self.state.is_cut.get()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.state.active.set(self.state.active.get().saturating_sub(1));
        self.state.since.set(Instant::now());
    }
}

/// A transport that notes when something was read from it, and how much was written.
pub(super) struct Heard<IO> {
    io: IO,
    is_heard: Rc<Cell<bool>>,
    outgoing: Rc<Outgoing>,
}

impl<IO> Heard<IO> {
    /// Wraps a transport; the second part is set by every read.
    pub(super) fn on(io: IO, outgoing: &Rc<Outgoing>) -> (Self, Rc<Cell<bool>>) {
        let is_heard = Rc::new(Cell::new(false));
        (Self { io, is_heard: Rc::clone(&is_heard), outgoing: Rc::clone(outgoing) }, is_heard)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.is_heard.set(true);
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.outgoing.written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.outgoing.written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if flushed.is_ready() {
            self.outgoing.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Resolves when the other end has been silent for `h2_ping_interval`, and then says nothing for `h2_ping_timeout` either,
/// not even to a PING. Whoever sends anything at all lives: a PING may be stuck behind much else on a slow line.
pub(super) async fn lost(pings: Option<PingPong>, is_heard: &Cell<bool>, limits: &Limits) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        is_heard.set(false);
        sleep(limits.h2_ping_interval).await;
        if is_heard.get() {
            continue;
        }
        // An error means that the last PING is still under way, or that the connection is closing, which shows elsewhere.
        let _ = timeout(limits.h2_ping_timeout, async {
            if pings.ping(Ping::opaque()).await.is_err() {
                std::future::pending().await
            }
        })
        .await;
        if !is_heard.get() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_streams() {
        let activity = Activity::new(&Limits::default());
        let second = Duration::from_secs(1);
        let active = activity.begin();
        assert!(timeout(second * 10, activity.idle(second)).await.is_err());
        drop(active);
        assert_eq!(activity.begun(), 1);
    }

    #[test]
    fn what_is_taken_back_is_forgotten_with_time() {
        let begun = Instant::now();
        let window = Duration::from_secs(10);
        let resets = Resets { max: 100, window, level: Cell::new(0.0), at: Cell::new(begun) };
        (0..100).for_each(|_| resets.note(begun));
        assert!(!resets.are_too_many());
        resets.note(begun);
        assert!(resets.are_too_many());
        // At ten a second for as long as one likes, and at twenty not for long.
        (0..10_000).for_each(|at| resets.note(begun + window + Duration::from_millis(101) * at));
        assert!(!resets.are_too_many());
        let later = begun + window * 200;
        (0..300).for_each(|at| resets.note(later + Duration::from_millis(50) * at));
        assert!(resets.are_too_many());
    }
}

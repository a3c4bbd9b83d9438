//! A connection that has switched protocols: bytes both ways, for as long as its capability stands.
//!
//! Whatever is made of two halves that can be read and written can be tunnelled, on either side: an HTTP/1 connection, a
//! [`stream`] of HTTP/2. Bytes are read into room that is there for the moment of reading and handed on at once, so a tunnel that is
//! silent holds no buffer, and one whose receiver is slow holds at most one reading of each direction; then its sender is not
//! read. An end of one direction is passed on, and the other one goes on.
//!
//! What may have to be held is taken from the budget of all connections before it is read, and given back when nothing is
//! held: a silent tunnel costs nothing there. Where the budget has nothing left a tunnel goes on in small readings, which
//! is what every connection may have anyway. Bytes that an end may have sent into a window that was granted to its stream
//! count for as long as what came before them is not taken.
//!
//! In a WebSocket the frames' boundaries are followed ([`websocket`]), so that it ends with a Close frame that says why.
//! Any other protocol is opaque: it is cut.

pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub mod websocket;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use self::websocket::{Frames, GOING_AWAY, POLICY_VIOLATION, close_frame};
use crate::budget::{BASE_BYTES, Budget, Share};
use crate::lease::Fallen;

/// One reading, on the stack.
const READ_BYTES: usize = 16 * 1024;

/// How long a frame on its way to the client may take to be complete when the capability has fallen. What was acknowledged
/// as ended must not go on, so it is short, and what does not fit into it is cut.
const FRAME_GRACE: Duration = Duration::from_millis(50);

/// Why a tunnel is ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its capability fell.
    Fallen(Fallen),
    /// The gateway drains.
    GoingAway,
    /// Nothing has passed for as long as may be.
    Idle,
    /// Somebody does not take what was sent, or has ended and waits for the other one in vain.
    Stalled,
}

impl Ending {
    /// The code and the reason of the Close frame.
    fn close(&self) -> (u16, &str) {
        match self {
            Self::Fallen(fallen) => (POLICY_VIOLATION, fallen.kind()),
            Self::GoingAway => (GOING_AWAY, "going away"),
            Self::Idle => (GOING_AWAY, "idle"),
            Self::Stalled => (GOING_AWAY, "stalled"),
        }
    }
}

/// What a tunnel does at the moment, for whoever sets its time bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Whether bytes have passed since the last time.
    pub has_moved: bool,
    /// Whether somebody is waited for: bytes lie ready that are not taken, or one direction has ended.
    pub is_waiting: bool,
}

/// How a tunnel ended, and what had passed.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by itself.
    pub by: Option<Ending>,
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes to the client.
    pub bytes_down: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// What was read and not taken, from `at` on.
    waiting: Vec<u8>,
    at: usize,
    has_ended: bool,
    is_shut: bool,
    /// Follows what was taken.
    frames: Option<Frames>,
    passed: u64,
    /// Of the memory that all connections may take together: for a reading, and for what waits.
    share: Share,
    /// What the sender may have sent besides, and lies in a library's buffer while something waits.
    window_bytes: usize,
}

impl Flow {
    fn new(first: &[u8], is_websocket: bool, share: Share, window_bytes: usize) -> Self {
        let frames = is_websocket.then(Frames::default);
        let mut flow = Self { frames, share, window_bytes, ..Self::default() };
        flow.keep(first);
        flow
    }

    /// How much may be read at once.
    fn room(&mut self) -> usize {
        if self.share.grow_to(READ_BYTES) { READ_BYTES } else { BASE_BYTES }
    }

    /// Keeps what was read and not taken.
    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        self.waiting.extend_from_slice(rest);
        let beyond_base = Some(self.waiting.len()).filter(|length| *length > BASE_BYTES).unwrap_or(0);
        self.share.hold(beyond_base + self.window_bytes);
    }

    /// Moves what can be moved; ready when the direction has ended.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, moved: &mut bool) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_hand_on(cx, to, moved))?;
            if self.is_shut {
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.is_shut = true;
                return Poll::Ready(Ok(()));
            }
            let length = self.room();
            let mut room = [MaybeUninit::uninit(); READ_BYTES];
            let mut room = ReadBuf::uninit(&mut room[..length]);
            match Pin::new(&mut *from).poll_read(cx, &mut room)? {
                Poll::Ready(()) if room.filled().is_empty() => {
                    self.share.clear();
                    self.has_ended = true;
                }
                Poll::Ready(()) => {
                    *moved = true;
                    let taken = self.write(cx, to, room.filled())?;
                    self.keep(&room.filled()[taken..]);
                }
                Poll::Pending => {
                    self.share.clear();
                    // What a TLS layer has taken may still lie in it.
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Hands on what waits.
    fn poll_hand_on<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let waiting = std::mem::take(&mut self.waiting);
        let taken = self.write(cx, to, &waiting[self.at..]);
        self.waiting = waiting;
        let taken = taken?;
        *moved |= taken > 0;
        self.at += taken;
        if self.at < self.waiting.len() {
            return Poll::Pending;
        }
        self.drop_waiting();
        Poll::Ready(Ok(()))
    }

    /// Writes as much as is taken now.
    fn write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W, data: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while at < data.len() {
            match Pin::new(&mut *to).poll_write(cx, &data[at..])? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(length) => at += length,
            }
        }
        if let Some(frames) = &mut self.frames {
            frames.pass(&data[..at]);
        }
        self.passed += at as u64;
        Ok(at)
    }

    fn drop_waiting(&mut self) {
        self.waiting = Vec::new();
        self.at = 0;
        self.share.clear();
    }

    /// Whether a WebSocket's last frame was taken.
    fn has_closed(&self) -> bool {
        self.frames.is_some_and(Frames::has_closed)
    }

    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.has_ended
    }

    /// Hands the frame that is under way on to its end, and nothing of the next one.
    async fn finish_frame<R, W>(&mut self, from: &mut R, to: &mut W) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while let Some(frames) = self.frames
            && !frames.is_between()
        {
            let rest = frames.up_to_boundary(&self.waiting[self.at..]);
            self.waiting.truncate(self.at + rest);
            poll_fn(|cx| self.poll_hand_on(cx, to, &mut false)).await?;
            if self.frames.is_some_and(Frames::is_between) {
                break;
            }
            poll_fn(|cx| {
                let length = self.room();
                let mut room = [MaybeUninit::uninit(); READ_BYTES];
                let mut room = ReadBuf::uninit(&mut room[..length]);
                ready!(Pin::new(&mut *from).poll_read(cx, &mut room))?;
                if room.filled().is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                self.keep(room.filled());
                Poll::Ready(Ok(()))
            })
            .await?;
        }
        self.drop_waiting();
        Ok(())
    }

    /// Says one last thing between two frames, and ends.
    async fn close<W: AsyncWrite + Unpin>(&mut self, to: &mut W, frame: Vec<u8>) -> io::Result<()> {
        self.waiting = frame;
        self.at = 0;
        poll_fn(|cx| self.poll_hand_on(cx, to, &mut false)).await?;
        // Which flushes. A stream can say its end with its last bytes.
        poll_fn(|cx| Pin::new(&mut *to).poll_shutdown(cx)).await
    }
}

/// What a tunnel begins with.
#[derive(Debug, Default)]
pub struct Begun {
    /// What the client sent behind its request.
    pub up: Vec<u8>,
    /// What the upstream sent behind its answer.
    pub down: Vec<u8>,
    /// Whether the bytes are WebSocket frames.
    pub is_websocket: bool,
    /// How long the client may take to read its last frame and to go.
    pub linger: Duration,
    /// The memory that all connections may take together; `None`: without bound.
    pub budget: Option<Arc<Budget>>,
    /// How much the client may send before it is read: the window of its stream; nothing where the system holds it.
    pub client_window_bytes: usize,
    /// The same of the upstream.
    pub upstream_window_bytes: usize,
}

/// Runs a tunnel to its end. `watch` is asked at every turn whether it must end, and remembers whom to wake when it must.
pub async fn run<C, U>(
    client: &mut C,
    mut upstream: U,
    begun: Begun,
    mut watch: impl FnMut(&mut Context<'_>, Pace) -> Poll<Ending>,
) -> Ended
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let Begun { up, down, is_websocket, linger, budget, client_window_bytes, upstream_window_bytes } = begun;
    let share = || budget.as_ref().map(Share::of).unwrap_or_default();
    let mut up = Flow::new(&up, is_websocket, share(), client_window_bytes);
    let mut down = Flow::new(&down, is_websocket, share(), upstream_window_bytes);
    let by = poll_fn(|cx| {
        // Before a byte passes.
        if let Poll::Ready(ending) = watch(cx, pace(&up, &down, false)) {
            return Poll::Ready(Some(ending));
        }
        let mut has_moved = false;
        let upwards = up.poll(cx, client, &mut upstream, &mut has_moved);
        let mut downwards = down.poll(cx, &mut upstream, client, &mut has_moved);
        if up.has_closed() && down.has_closed() && !down.has_ended {
            // It is for the service to hang up now (RFC 6455 section 7.1.1). Not every one does, over HTTP/2 above all.
            down.has_ended = true;
            downwards = down.poll(cx, &mut upstream, client, &mut has_moved);
        }
        match (upwards, downwards) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) | (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => {
                Poll::Ready(None)
            }
            _ => watch(cx, pace(&up, &down, has_moved)).map(Some),
        }
    })
    .await;
    if let (Some(ending), true) = (&by, is_websocket) {
        end_websocket(client, upstream, &mut up, &mut down, ending, linger).await;
    }
    Ended { by, bytes_up: up.passed, bytes_down: down.passed }
}

fn pace(up: &Flow, down: &Flow, has_moved: bool) -> Pace {
    Pace { has_moved, is_waiting: up.is_waiting() || down.is_waiting() }
}

/// Tells both ends why it is over, each between two frames; an end that is in the middle of one is cut.
async fn end_websocket<C, U>(
    client: &mut C,
    mut upstream: U,
    up: &mut Flow,
    down: &mut Flow,
    ending: &Ending,
    linger: Duration,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (code, reason) = ending.close();
    // Nothing of the client goes up any more: a frame that is half there is not completed, and its service learns at once
    // that the rest will not come, instead of when the client has gone.
    let is_cut = up.frames.is_some_and(|frames| !frames.is_between()) || !up.waiting.is_empty();
    if is_cut {
        let _ = timeout(FRAME_GRACE, poll_fn(|cx| Pin::new(&mut upstream).poll_shutdown(cx))).await;
    } else if !up.has_ended && !up.has_closed() {
        let frame = close_frame(code, reason, Some(rand::random()));
        let _ = timeout(FRAME_GRACE, up.close(&mut upstream, frame)).await;
    }
    let grace = if matches!(ending, Ending::Fallen(_)) { FRAME_GRACE } else { linger };
    let finished = timeout(grace, down.finish_frame(&mut upstream, client)).await;
    // A service that was told may take the client's time to hang up; one that was cut has nothing to say.
    let _told = (!is_cut).then_some(upstream);
    if !matches!(finished, Ok(Ok(()))) || down.has_ended {
        return;
    }
    // A client that does not read, or does not go, has had its time.
    let _ = timeout(linger, async {
        down.close(client, close_frame(code, reason, None)).await?;
        poll_fn(|cx| poll_drain(cx, client)).await
    })
    .await;
}

/// Drops what still comes, up to the end: closing on unread bytes would take the last frame away from the client.
fn poll_drain<R: AsyncRead + Unpin>(cx: &mut Context<'_>, from: &mut R) -> Poll<io::Result<()>> {
    loop {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        let mut room = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *from).poll_read(cx, &mut room))?;
        if room.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

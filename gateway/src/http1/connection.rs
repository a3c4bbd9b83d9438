//! A client connection from its first byte to its last: requests one after another, each taken through the message's way.
//!
//! One task a connection, no task an exchange. While an upstream works the client is still listened to, so that a client
//! that is gone is noticed and a pipelined request waits in the buffer; a client that only closed its sending half gets its
//! answer. Whatever leaves doubt about where the next request begins closes the connection after the answer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::buffer::{Buffer, Output};
use super::deadline::{Clock, Deadline, TICK, ticks_in};
use super::framing::{Decoder, Piece};
use super::transport::Transport;
use super::way::{After, Delimiter, Fault, Passage, Way};
use crate::budget::Budget;
use crate::current::Current;
use crate::head::{Framing, Glimpse, Head, ResponseFraming, ResponseHead, Spans, Version};
use crate::limits::Limits;
use crate::listener::Leaving;
use crate::upstream::call::Call;

/// Sweeping idle upstream connections is done once in so many ticks.
const TICKS_PER_SWEEP: u64 = 20;

/// What the connections of one worker share.
#[derive(Debug)]
pub struct Shared {
    limits: Current<Limits>,
    pub(super) budget: Arc<Budget>,
    clock: Rc<Clock>,
    is_draining: Cell<bool>,
    /// Room for exchanges that nobody uses now: an idle connection holds none.
    #[expect(
        clippy::vec_box,
        reason = "handed over on each exchange: a pointer is moved for less than the room itself"
    )]
    calls: RefCell<Vec<Box<Call>>>,
}

impl Shared {
    /// For one worker.
    pub fn new(limits: Current<Limits>, budget: Arc<Budget>) -> Rc<Self> {
        Rc::new(Self { limits, budget, clock: Rc::default(), is_draining: Cell::new(false), calls: RefCell::default() })
    }

    /// Keeps the clock, calls `each_tick` whenever it moves and `sweep` now and then, and begins the drain when `shutdown`
    /// says so. Runs as long as the worker.
    pub async fn run(self: Rc<Self>, mut shutdown: watch::Receiver<bool>, each_tick: impl Fn(), sweep: impl Fn()) {
        let (mut ticks, begun, mut next_sweep) = (interval(TICK), Instant::now(), TICKS_PER_SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // Asked of the clock and not counted: a worker that was busy for a while must not make deadlines longer.
                now = ticks.tick() => {
                    self.clock.advance(ticks_in(now - begun));
                    each_tick();
                }
                _ = shutdown.wait_for(|down| *down), if !self.is_draining.get() => self.drain(),
            }
            if self.clock.ticks() >= next_sweep {
                next_sweep = self.clock.ticks() + TICKS_PER_SWEEP;
                sweep();
            }
        }
    }

    /// Ends idle connections, and every other one after its present exchange.
    pub fn drain(&self) {
        self.is_draining.set(true);
        self.clock.wake_all();
    }

    /// Has every connection look at what has changed for it.
    pub fn wake_all(&self) {
        self.clock.wake_all();
    }

    /// How long ago a moment was, and the present one, on the worker's clock.
    pub(super) fn since(&self, moment: u64) -> (Duration, u64) {
        let now = self.clock.ticks();
        (TICK * u32::try_from(now.saturating_sub(moment)).unwrap_or(u32::MAX), now)
    }

    /// A deadline on the worker's clock.
    pub(crate) fn deadline(&self) -> Deadline {
        self.clock.deadline()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.get()
    }

    /// Room for an exchange under these limits.
    pub(super) fn take_call(&self, limits: &Rc<Limits>) -> Box<Call> {
        let kept = self.calls.borrow_mut().pop().filter(|call| call.is_under(limits));
        kept.unwrap_or_else(|| Box::new(Call::new(Rc::clone(limits), &self.budget)))
    }

    pub(super) fn put_call(&self, mut call: Box<Call>) {
        // What waits for the next exchange must never be what keeps that from beginning.
        if !self.budget.is_plentiful() {
            call.shrink();
        }
        let mut calls = self.calls.borrow_mut();
        if calls.len() < CALLS_KEPT_MAX {
            calls.push(call);
        }
    }
}

/// Room for exchanges that is kept for the next ones, by each worker.
const CALLS_KEPT_MAX: usize = 64;

/// What of a request's head outlives its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) framing: Framing,
    pub(super) to_head: bool,
    pub(super) http_1_0: bool,
    pub(super) expects_continue: bool,
    /// Whether the connection may be kept, as far as the client and the gateway's state go.
    pub(super) keeps_alive: bool,
}

/// How an exchange leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The next request begins where this one ended.
    Open,
    /// Closed, everything read.
    Close,
    /// Closed, while the client may still be sending: it is listened to for a while, so that it gets to read the answer.
    Linger,
    /// Cut: the answer broke off, and its framing says so.
    Abort,
    /// Cut, and so that the client's side sees it: nothing but the end of the connection says where the answer ends, and a
    /// clean one would make it look whole.
    Reset,
}

/// The client's side of a connection.
#[derive(Debug)]
pub(super) struct Client<C> {
    pub(super) io: C,
    pub(super) input: Buffer,
    pub(super) output: Output,
    /// Whether the client has closed its sending half.
    pub(super) has_ended: bool,
}

/// A client connection.
pub(super) struct Connection<C, W: Way> {
    pub(super) client: Client<C>,
    pub(super) way: W,
    pub(super) shared: Rc<Shared>,
    /// Taken anew for each request, and kept until it is answered.
    pub(super) limits: Rc<Limits>,
    leaving: Leaving,
    pub(super) deadline: Deadline,
    pub(super) spans: Spans,
    pub(super) permitted: W::Permitted,
    /// The head of a message that is held back until its body is there; no message, no room.
    pub(super) undecided: Vec<u8>,
    looked_at: usize,
    requests: u64,
}

/// What came of waiting for a request.
enum Next<W: Way> {
    Request { facts: Facts, ticket: W::Ticket, passage: Passage<W::Route> },
    Fault(Fault),
    Closed,
}

/// Serves a client connection until it ends.
pub async fn serve<C, W>(io: C, way: W, shared: Rc<Shared>, leaving: Leaving)
where
    C: Transport,
    W: Way,
{
    let limits = shared.limits.get();
    let mut connection = Connection {
        client: Client {
            io,
            input: Buffer::new(limits.buffer_bytes_max(), &shared.budget),
            output: Output::new(&shared.budget),
            has_ended: false,
        },
        way,
        deadline: shared.clock.deadline(),
        shared,
        limits,
        leaving,
        spans: Spans::new(),
        permitted: W::Permitted::default(),
        undecided: Vec::new(),
        looked_at: 0,
        requests: 0,
    };
    connection.run().await;
}

impl<C, W> Connection<C, W>
where
    C: Transport,
    W: Way,
{
    async fn run(&mut self) {
        loop {
            self.client.input.shrink();
            self.client.output.shrink();
            W::shrink(&mut self.permitted);
            self.renew_limits();
            let limits = &self.limits;
            self.deadline.set(match (self.client.input.is_empty(), self.requests) {
                (false, _) => limits.head_timeout,
                (true, 0) => limits.first_byte_timeout,
                (true, _) => limits.idle_timeout,
            });
            self.looked_at = 0;
            let end = match poll_fn(|cx| self.poll_request(cx)).await {
                Next::Closed => End::Close,
                Next::Fault(fault) => self.refuse(&fault).await,
                Next::Request { facts, ticket, passage: Passage::Answered(after) } => {
                    self.answered(facts, ticket, after).await
                }
                Next::Request { facts, ticket, passage: Passage::Forward(order) } => {
                    self.exchange(facts, order, None, ticket).await
                }
                Next::Request { facts, ticket, passage: Passage::Undecided { max, rate, lease } } => {
                    self.hold(facts, ticket, (max, rate), lease).await
                }
            };
            match end {
                End::Open => {}
                End::Close => return self.shut_down().await,
                End::Linger => return self.linger().await,
                End::Abort => return,
                End::Reset => return self.client.io.reset_when_dropped(),
            }
        }
    }
}

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// What a reload changed holds from the next request on.
    fn renew_limits(&mut self) {
        if !self.shared.limits.is(&self.limits) {
            self.limits = self.shared.limits.get();
            self.client.input.bound(self.limits.buffer_bytes_max());
        }
    }

    /// Whether the connection is to end as soon as nothing is under way.
    pub(super) fn is_leaving(&self) -> bool {
        self.shared.is_draining() || self.leaving.is_due()
    }

    /// Waits for the next request's head and takes it through the way, while its bytes are at hand.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Next<W>> {
        loop {
            let is_leaving = self.is_leaving();
            // A head that comes byte by byte is looked at once a line, not once a byte.
            let news = &self.client.input.filled()[self.looked_at..];
            let is_first_look = self.looked_at == 0 && !news.is_empty();
            if is_first_look || memchr::memchr(b'\n', news).is_some() || self.client.input.is_full() {
                let head = Head::read(self.client.input.filled(), &mut self.spans, &self.limits);
                match head {
                    Err(error) => return Poll::Ready(Next::Fault(Fault::Head(error))),
                    Ok(None) => {}
                    Ok(Some(head)) => {
                        self.requests += 1;
                        let facts = facts(&head, &self.limits, self.requests, is_leaving);
                        let mut ticket = self.way.open(&head);
                        let after = after_answer(facts, &self.limits);
                        let (permitted, out) = (&mut self.permitted, &mut self.client.output.bytes);
                        let passage = self.way.receive(&head, None, &mut ticket, permitted, after, out);
                        let length = head.length();
                        if matches!(passage, Passage::Undecided { .. }) {
                            self.undecided.extend_from_slice(&self.client.input.filled()[..length]);
                        }
                        self.client.input.consume(length);
                        return Poll::Ready(Next::Request { facts, ticket, passage });
                    }
                }
            }
            self.looked_at = self.client.input.len();
            if self.looked_at == 0 && is_leaving {
                return Poll::Ready(Next::Closed);
            }
            if self.deadline.has_passed(cx) {
                return Poll::Ready(if self.looked_at == 0 { Next::Closed } else { Next::Fault(Fault::TooSlow) });
            }
            if self.client.has_ended {
                return Poll::Ready(Next::Closed);
            }
            match ready!(self.client.input.poll_fill(cx, &mut self.client.io)) {
                Ok(0) => self.client.has_ended = true,
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Next::Fault(Fault::Overload));
                }
                Err(_) => return Poll::Ready(Next::Closed),
                Ok(_) if self.looked_at == 0 => {
                    self.renew_limits();
                    self.deadline.set(self.limits.head_timeout);
                }
                Ok(_) => {}
            }
        }
    }
}

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// Answers a head that could not be read. Where the next one would begin is anybody's guess, so nothing follows.
    async fn refuse(&mut self, fault: &Fault) -> End {
        let mut ticket = self.way.open_unread(&Glimpse::of(self.client.input.filled(), &self.limits));
        self.way.fail(&mut ticket, fault, After::Close, false, &mut self.client.output.bytes);
        let was_sent = self.flush().await;
        self.way.close(ticket, 0, 0);
        if was_sent { End::Linger } else { End::Abort }
    }

    /// Sends an answer of the gateway's own, and takes the body off that the refused request may have.
    pub(super) async fn answered(&mut self, facts: Facts, ticket: W::Ticket, after: After) -> End {
        let was_sent = self.flush().await;
        self.way.close(ticket, 0, 0);
        let has_body = !matches!(facts.framing, Framing::None | Framing::Length(0));
        match after {
            _ if !was_sent => End::Abort,
            After::KeepAlive if has_body => match Decoder::request(facts.framing, None) {
                Ok(decoder) => self.discard(decoder).await,
                Err(_) => End::Linger,
            },
            After::KeepAlive => End::Open,
            After::Close if has_body || !self.client.input.is_empty() => End::Linger,
            After::Close => End::Close,
        }
    }

    /// Sends what waits; `false`: the client is gone or does not read.
    pub(super) async fn flush(&mut self) -> bool {
        self.deadline.set(self.limits.body_stall_timeout);
        poll_fn(|cx| {
            let mut moved = false;
            let sent = self.client.output.poll_flush(cx, &mut self.client.io, &mut moved);
            if moved {
                self.deadline.set(self.limits.body_stall_timeout);
            }
            match sent {
                Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
                Poll::Pending if self.deadline.has_passed(cx) => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Reads the rest of a body that nobody wants, so that the next request can be found behind it.
    ///
    /// Only bodies of a declared length within `discard_bytes_max` come here, which bounds it.
    pub(super) async fn discard(&mut self, mut decoder: Decoder) -> End {
        self.deadline.set(self.limits.linger_timeout);
        poll_fn(|cx| {
            loop {
                let input = &mut self.client.input;
                match decoder.next(input.filled(), &mut self.spans, &self.limits) {
                    Err(_) => return Poll::Ready(End::Linger),
                    Ok(Piece::Data { to, .. }) => input.consume(to),
                    Ok(Piece::End { consumed, .. }) => {
                        input.consume(consumed);
                        return Poll::Ready(End::Open);
                    }
                    Ok(Piece::More { consumed }) => {
                        input.consume(consumed);
                        if self.deadline.has_passed(cx) {
                            return Poll::Ready(End::Linger);
                        }
                        match ready!(input.poll_fill(cx, &mut self.client.io)) {
                            Ok(1..) => {}
                            Ok(0) | Err(_) => return Poll::Ready(End::Close),
                        }
                    }
                }
            }
        })
        .await
    }

    /// Ends our half and closes.
    async fn shut_down(&mut self) {
        self.deadline.set(self.limits.linger_timeout);
        poll_fn(|cx| self.poll_shut_down(cx)).await;
    }

    fn poll_shut_down(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.client.io).poll_shutdown(cx) {
            Poll::Pending if !self.deadline.has_passed(cx) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Ends our half and drops what the client still sends: closing on unread bytes would reset the connection and take
    /// the answer away from it (RFC 9112 section 9.6). Beyond `discard_bytes_max` nothing is read any more: the answer is
    /// there to be read, and what the client goes on sending costs nobody anything.
    async fn linger(&mut self) {
        self.shut_down().await;
        self.deadline.set(self.limits.linger_timeout);
        let mut left = self.limits.discard_bytes_max;
        poll_fn(|cx| {
            while !self.deadline.has_passed(cx) {
                if left == 0 {
                    return Poll::Pending;
                }
                self.client.input.clear();
                match ready!(self.client.input.poll_fill(cx, &mut self.client.io)) {
                    Ok(length @ 1..) => left = left.saturating_sub(length as u64),
                    Ok(0) | Err(_) => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

fn facts(head: &Head<'_>, limits: &Limits, requests: u64, is_leaving: bool) -> Facts {
    // A client that offered to switch protocols may go on in the other one; nothing behind such a request is read as HTTP.
    let keeps_alive =
        head.keeps_alive() && head.upgrade().is_none() && !is_leaving && requests < limits.requests_per_connection_max;
    Facts {
        framing: head.framing(),
        to_head: head.method() == "HEAD",
        http_1_0: head.version() == Version::Http10,
        expects_continue: head.expects_continue(),
        keeps_alive,
    }
}

/// Whether the connection can be kept after an answer that did not wait for the body.
///
/// A client that expects 100 may or may not send its body after another answer, so the next request cannot be found; and
/// how long a chunked body is nobody knows.
pub(super) fn after_answer(facts: Facts, limits: &Limits) -> After {
    let can_discard = match facts.framing {
        Framing::None | Framing::Length(0) => true,
        Framing::Length(length) => length <= limits.discard_bytes_max && !facts.expects_continue,
        Framing::Chunked => false,
    };
    if facts.keeps_alive && can_discard { After::KeepAlive } else { After::Close }
}

/// How the response's body is delimited for this client.
pub(super) fn delimiter(head: &ResponseHead<'_>, facts: Facts) -> Delimiter {
    match head.framing() {
        ResponseFraming::Length(length) => Delimiter::Length(length),
        ResponseFraming::Chunked | ResponseFraming::UntilClose if facts.http_1_0 => Delimiter::Close,
        ResponseFraming::Chunked | ResponseFraming::UntilClose => Delimiter::Chunked,
        ResponseFraming::None => match (head.status(), head.declared_length()) {
            (204, _) | (_, None) => Delimiter::Absent,
            (_, Some(length)) => Delimiter::Length(length),
        },
    }
}

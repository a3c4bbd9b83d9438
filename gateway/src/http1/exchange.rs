//! One exchange: a permitted request up, its response down, both at once.
//!
//! [`Exchange`] is the state of both directions; [`Connection::poll_exchange`] moves what can be moved and sleeps when
//! nothing can. Bodies pass through two bounded outputs: when one is full its source is not read, which is all the back
//! pressure there is to it. The answer may come before the request is whole; then the rest of the request is not sent.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Connection, End, Facts, after_answer, delimiter};
use super::framing::{Decoder, Encoder, FramingError};
use super::held::Held;
use super::way::{After, Delimiter, Fault, Order, Way};
use crate::head::{Fields, ResponseFraming};
use crate::lease::{EventStream, Fallen};
use crate::limits::LAST_WORD_TIMEOUT;
use crate::request::connection_auth;
use crate::telemetry::{OpenStream, StreamKind};
use crate::upstream::call::{Body, Call, Failure};
use crate::upstream::pool::{Attempts, Need, Upstream};

/// Input that a client may pile up while its request is being answered.
pub(super) const PIPELINED_BYTES_MAX: usize = 4 * 1024;

/// The request's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Up {
    /// The body is not complete.
    Sending,
    /// The request is complete; some of it may still have to be sent.
    Complete,
    /// The upstream takes no more of it. It may have answered all the same.
    Refused,
}

/// The response's direction.
#[derive(Debug)]
pub(super) enum Down {
    /// The final head has not come.
    Waiting,
    /// The body is under way.
    Body(Encoder),
    /// All of it is in the output.
    Complete,
}

/// What came of an exchange.
pub(super) enum Outcome {
    /// The response is with the client.
    Done,
    /// The connection was stale: once more on a fresh one.
    Replay,
    /// Nothing of a final response has been sent: the gateway answers itself.
    Failed(Fault),
    /// It broke off in the middle.
    Broken,
}

/// Both directions of one exchange.
pub(super) struct Exchange<W: Way> {
    facts: Facts,
    pub(super) order: Order<W::Route>,
    pub(super) ticket: W::Ticket,
    pub(super) call: Box<Call>,
    /// Where it has been.
    attempts: Attempts,
    /// Where it goes, once there is a connection.
    pub(super) upstream: Option<Rc<str>>,
    pub(super) decoder: Decoder,
    /// Since when the gateway has been ready to read the body, in ticks of the clock; `None`: it is not.
    pub(super) ready_since: Option<u64>,
    /// The body that the decoder has read to its end, as long as not all of it is handed on.
    pub(super) held: Option<Held>,
    pub(super) up: Up,
    pub(super) down: Down,
    after: After,
    pub(super) was_forwarded: bool,
    /// The upstream has agreed to switch protocols.
    has_switched: bool,
    /// Where in the output the final response begins, as long as none of it has been sent.
    unsent_at: Option<usize>,
    bytes_out: u64,
    /// Where the response is a stream of events: whether the next byte begins an event.
    events: Option<EventStream>,
    /// Counts it among the open streams, if it is one.
    open: Option<OpenStream>,
    /// The capability fell, and this is why the exchange ends.
    fallen: Option<Fallen>,
    /// What the output holds ends with the last word about that.
    says_last_word: bool,
    /// Nothing but the end of the connection says where the answer ends.
    is_delimited_by_close: bool,
}

impl<W: Way> Exchange<W> {
    fn need(&self) -> Need {
        Need::of(self.order.is_repeatable, self.order.switch.as_deref())
    }
}

impl<C, W> Connection<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: Way,
{
    /// Sends a permitted message up and its response down.
    ///
    /// `held` is the body of a message that was decided by it; every other body is still to come.
    pub(super) async fn exchange(
        &mut self,
        facts: Facts,
        order: Order<W::Route>,
        held: Option<Held>,
        mut ticket: W::Ticket,
    ) -> End {
        let decoder = match &held {
            Some(held) => Ok(held.decoder.clone()),
            None => Decoder::request(order.framing, order.body_max),
        };
        let decoder = match decoder {
            Ok(decoder) => decoder,
            Err(error) => {
                let after = after_answer(facts, &self.limits);
                let fault = Fault::Body(error);
                self.way.fail(&mut ticket, &fault, after, facts.to_head, &mut self.client.output.bytes);
                return self.answered(facts, ticket, after).await;
            }
        };
        let mut exchange = Exchange::<W> {
            facts,
            up: if decoder.has_ended() && held.is_none() { Up::Complete } else { Up::Sending },
            held,
            order,
            ticket,
            call: self.shared.take_call(&self.limits),
            attempts: Attempts::default(),
            upstream: None,
            decoder,
            ready_since: None,
            down: Down::Waiting,
            after: After::Close,
            was_forwarded: false,
            has_switched: false,
            unsent_at: None,
            bytes_out: 0,
            events: None,
            open: None,
            fallen: None,
            says_last_word: false,
            is_delimited_by_close: false,
        };
        let outcome = loop {
            match self.connect(&exchange).await {
                Err(outcome) => break outcome,
                Ok(upstream) => {
                    exchange.upstream = Some(Rc::clone(upstream.label()));
                    let head = W::permitted(&self.permitted);
                    exchange.call.begin(upstream, head, exchange.order.framing, facts.to_head);
                    if let Some(filter) = &exchange.order.filter {
                        exchange.call.filter(Rc::clone(filter));
                    }
                    if exchange.order.switch.is_some() {
                        exchange.call.expect_switch();
                    }
                    if exchange.order.authenticates_connection {
                        exchange.call.keep_alone();
                    }
                }
            }
            self.set_deadline(&exchange);
            match poll_fn(|cx| self.poll_exchange(cx, &mut exchange)).await {
                Outcome::Replay => {
                    self.way.telemetry().upstream_retried();
                    exchange.call.blame(&Failure::Closed);
                    // Its place is free before another one is asked for.
                    drop(exchange.call.end());
                }
                outcome => break outcome,
            }
        };
        if let Outcome::Failed(Fault::Upstream(failure)) = &outcome {
            exchange.call.blame(failure);
        }
        if exchange.has_switched && matches!(outcome, Outcome::Done) {
            return self.switched(exchange).await;
        }
        if let Some(upstream) = exchange.call.end() {
            self.way.pool().put(upstream);
        }
        self.conclude(exchange, outcome).await
    }

    /// A connection for the exchange: mostly a kept one, that is at hand.
    async fn connect(&mut self, exchange: &Exchange<W>) -> Result<Upstream, Outcome> {
        let group = W::upstreams(&exchange.order.route);
        if let Some(kept) = self.way.pool().ready(group, &exchange.attempts, exchange.need()) {
            self.way.telemetry().upstream_reused();
            return Ok(kept);
        }
        match self.open(exchange).await {
            Ok(upstream) => {
                let telemetry = self.way.telemetry();
                if upstream.is_reused {
                    telemetry.upstream_reused()
                } else {
                    telemetry.upstream_opened()
                }
                Ok(upstream)
            }
            Err(Outcome::Failed(Fault::Upstream(failure))) => {
                let telemetry = self.way.telemetry();
                if failure == Failure::Shortage {
                    telemetry.out_of_descriptors()
                } else {
                    telemetry.upstream_failed()
                }
                Err(Outcome::Failed(Fault::Upstream(failure)))
            }
            Err(outcome) => Err(outcome),
        }
    }

    /// Waits for a connection, in line if need be, as long as the capability holds and the client is there.
    async fn open(&mut self, x: &Exchange<W>) -> Result<Upstream, Outcome> {
        let pool = self.way.pool();
        let opening = pool.open(W::upstreams(&x.order.route), &x.attempts, x.need());
        let mut opening = pin!(opening);
        // The wait has its own bounds.
        self.deadline.unset();
        poll_fn(|cx| {
            if let Some(lease) = &x.order.lease
                && let Poll::Ready(fallen) = lease.poll_fallen(cx)
            {
                return Poll::Ready(Err(Outcome::Failed(Fault::Fallen(fallen))));
            }
            if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
                return Poll::Ready(opened.map_err(|error| Outcome::Failed(Fault::Upstream(error.into()))));
            }
            while !self.client.has_ended && self.client.input.len() < PIPELINED_BYTES_MAX {
                match self.client.input.poll_fill(cx, &mut self.client.io) {
                    Poll::Pending => break,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Outcome::Broken)),
                    Poll::Ready(Ok(0)) => self.client.has_ended = true,
                    Poll::Ready(Ok(_)) => {}
                }
            }
            // A client that closed its half may be gone altogether, which shows only when something is sent to it. It does
            // not take a place in the line from one that is there; if it still reads, it reads that.
            if self.client.has_ended && x.attempts.is_queued() {
                let reason = "the client closed its half of the connection while it waited for a place";
                return Poll::Ready(Err(Outcome::Failed(Fault::Upstream(Failure::Busy(reason.into())))));
            }
            Poll::Pending
        })
        .await
    }

    /// What becomes of the client's connection.
    async fn conclude(&mut self, mut exchange: Exchange<W>, outcome: Outcome) -> End {
        let facts = exchange.facts;
        let is_complete = exchange.decoder.has_ended();
        let mut after = exchange.after;
        if exchange.fallen.is_some() || matches!(outcome, Outcome::Failed(Fault::Fallen(_))) {
            self.way.telemetry().lease_fell();
        }
        match outcome {
            Outcome::Done if exchange.fallen.is_some() => {
                self.way.broken(&mut exchange.ticket, exchange.fallen.as_ref());
            }
            Outcome::Done => {}
            Outcome::Failed(fault) => {
                let fault = match fault {
                    Fault::Upstream(failure) => {
                        if failure != Failure::Shortage {
                            self.way.telemetry().upstream_failed();
                        }
                        Fault::Upstream(exchange.attempts.sum_up(failure))
                    }
                    fault => fault,
                };
                after = if facts.keeps_alive && is_complete { After::KeepAlive } else { After::Close };
                let out = &mut self.client.output.bytes;
                self.way.fail(&mut exchange.ticket, &fault, after, facts.to_head, out);
                if !self.flush().await {
                    after = After::Close;
                }
            }
            Outcome::Broken | Outcome::Replay => {
                self.way.broken(&mut exchange.ticket, exchange.fallen.as_ref());
                self.way.close(exchange.ticket, exchange.decoder.received(), exchange.bytes_out);
                self.shared.put_call(exchange.call);
                return if exchange.is_delimited_by_close { End::Reset } else { End::Abort };
            }
        }
        self.way.close(exchange.ticket, exchange.decoder.received(), exchange.bytes_out);
        self.shared.put_call(exchange.call);
        match after {
            After::KeepAlive if is_complete => End::Open,
            After::KeepAlive => self.discard(exchange.decoder).await,
            After::Close if is_complete && self.client.input.is_empty() => End::Close,
            After::Close => End::Linger,
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, x: &mut Exchange<W>) -> Poll<Outcome> {
        loop {
            let mut moved = false;
            if x.fallen.is_none()
                && let Some(lease) = &x.order.lease
                && let Poll::Ready(fallen) = lease.poll_fallen(cx)
                && let Some(outcome) = self.fall(x, fallen)
            {
                return Poll::Ready(outcome);
            }
            if let Some(outcome) = self.move_up(cx, x, &mut moved) {
                return Poll::Ready(outcome);
            }
            if let Some(outcome) = self.move_down(cx, x, &mut moved) {
                return Poll::Ready(outcome);
            }
            if moved {
                self.set_deadline(x);
                // Once more only where what moved may have made room: a body, up or down. Everything else has just said
                // that it is not ready, and will wake this task when it is.
                if x.up == Up::Sending || matches!(x.down, Down::Body(_)) {
                    continue;
                }
            }
            if self.deadline.has_passed(cx) {
                return Poll::Ready(self.timed_out(x));
            }
            return Poll::Pending;
        }
    }

    /// The capability fell, and nothing more goes up. Where no answer has begun the client gets the refusal; a stream of
    /// events ends with an event that says so; any other body is cut, so that nobody takes it for whole.
    fn fall(&mut self, x: &mut Exchange<W>, fallen: Fallen) -> Option<Outcome> {
        x.fallen = Some(fallen.clone());
        x.after = After::Close;
        match &mut x.down {
            Down::Waiting => return Some(Outcome::Failed(Fault::Fallen(fallen))),
            // Whoever drives the other protocol sees to its end.
            Down::Complete if x.has_switched => return None,
            // All of it was permitted when it came; it may reach the client.
            Down::Complete => {}
            Down::Body(encoder) => {
                let out = &mut self.client.output.bytes;
                if !x.events.is_some_and(EventStream::is_between_events)
                    || encoder.write(self.way.last_event(&x.ticket, &fallen).as_bytes(), out).is_err()
                    || encoder.finish(std::iter::empty(), out).is_err()
                {
                    return Some(Outcome::Broken);
                }
                x.down = Down::Complete;
            }
        }
        // The service learns of it now; a client that does not read puts the end off by no more than a last word takes.
        (x.up, x.held) = (Up::Refused, None);
        drop(x.call.end());
        x.says_last_word = true;
        self.deadline.set(LAST_WORD_TIMEOUT);
        None
    }

    fn set_deadline(&self, x: &Exchange<W>) {
        let limits = &self.limits;
        // Whoever reads a byte now and then has no more time for it than whoever reads none.
        if x.says_last_word {
            return;
        }
        // Events may be far apart: silence is what such a stream is made of.
        if x.events.is_some() && x.up != Up::Sending && self.client.output.waiting() == 0 {
            return self.deadline.unset();
        }
        let waits_for_answer = matches!(x.down, Down::Waiting) && (x.up == Up::Refused || x.call.has_sent_request());
        let response_timeout = || W::response_timeout(&x.order.route).unwrap_or(limits.upstream_response_timeout);
        self.deadline.set(if waits_for_answer { response_timeout() } else { limits.body_stall_timeout });
    }

    fn timed_out(&mut self, x: &mut Exchange<W>) -> Outcome {
        if x.says_last_word {
            return Outcome::Broken;
        }
        let waits_for_client = x.up == Up::Sending && x.call.has_sent_all();
        match x.down {
            Down::Waiting if waits_for_client => Outcome::Failed(Fault::TooSlow),
            Down::Waiting => Outcome::Failed(Fault::Upstream(Failure::Timeout)),
            Down::Body(_) | Down::Complete => self.broken(x, Failure::Timeout),
        }
    }

    /// A response that cannot be completed: withdrawn if none of it is out, broken off otherwise.
    fn broken(&mut self, x: &mut Exchange<W>, failure: Failure) -> Outcome {
        match x.unsent_at.take() {
            Some(at) => {
                self.client.output.bytes.truncate(at);
                Outcome::Failed(Fault::Upstream(failure))
            }
            None => Outcome::Broken,
        }
    }

    /// The response's direction: the upstream's answer into the client's output, and that into its connection.
    fn move_down(&mut self, cx: &mut Context<'_>, x: &mut Exchange<W>, moved: &mut bool) -> Option<Outcome> {
        loop {
            match x.down {
                Down::Waiting => match x.call.poll_response(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Err(failure)) => {
                        return Some(match failure {
                            failure if self.may_replay(x, &failure) => Outcome::Replay,
                            failure => Outcome::Failed(Fault::Upstream(failure)),
                        });
                    }
                    Poll::Ready(Ok(())) => {
                        if let Err(failure) = self.head(x) {
                            return Some(Outcome::Failed(Fault::Upstream(failure)));
                        }
                    }
                },
                Down::Body(_) => {
                    if !self.client.output.has_room(self.limits.copy_buffer_bytes) {
                        break;
                    }
                    match x.call.poll_body(cx) {
                        Poll::Pending => break,
                        Poll::Ready(Err(failure)) => return Some(self.broken(x, failure)),
                        Poll::Ready(Ok(body)) => {
                            if let Err(error) = self.body(x, body) {
                                return Some(self.broken(x, Failure::Body(error)));
                            }
                        }
                    }
                }
                Down::Complete => break,
            }
            *moved = true;
        }
        let mut sent = false;
        let flushed = self.client.output.poll_flush(cx, &mut self.client.io, &mut sent);
        if sent {
            *moved = true;
            x.unsent_at = None;
        }
        match flushed {
            Poll::Ready(Err(_)) => Some(Outcome::Broken),
            Poll::Ready(Ok(())) if matches!(x.down, Down::Complete) => Some(Outcome::Done),
            _ => None,
        }
    }

    /// The connection died before it answered. Whether the message may go up again, and has where to go.
    fn may_replay(&self, x: &Exchange<W>, failure: &Failure) -> bool {
        let group = W::upstreams(&x.order.route);
        let is_worth_it = |died| x.attempts.may_repeat(died, failure, group, &self.limits);
        x.call.replayable(failure, x.order.is_repeatable).is_some_and(is_worth_it)
    }

    /// A response head has come.
    fn head(&mut self, x: &mut Exchange<W>) -> Result<(), Failure> {
        let is_leaving = self.is_leaving();
        let Some(head) = x.call.response() else { return Ok(()) };
        let out = &mut self.client.output.bytes;
        if head.is_informational() {
            // HTTP/1.0 has no such responses.
            if !x.facts.http_1_0 {
                self.way.inform(&head, out);
            }
            return Ok(());
        }
        if let Some(switch) = &x.order.switch
            && switch.is_granted(&head).map_err(Failure::BadSwitch)?
        {
            self.way.switch(&mut x.ticket, &head, switch, out);
            x.down = Down::Complete;
            x.has_switched = true;
            return Ok(());
        }
        if connection_auth::is_all_that_is_asked(&head) {
            return Err(Failure::ConnectionAuth);
        }
        let delimiter = delimiter(&head, x.facts);
        let up_is_complete = x.up == Up::Complete && x.decoder.has_ended();
        let keeps = x.facts.keeps_alive && !is_leaving && delimiter != Delimiter::Close;
        x.after = match after_answer(x.facts, &self.limits) {
            After::Close if keeps && up_is_complete => After::KeepAlive,
            after if keeps => after,
            _ => After::Close,
        };
        x.is_delimited_by_close = delimiter == Delimiter::Close;
        x.unsent_at = Some(out.len());
        x.events = EventStream::of(&head);
        x.open = x.events.map(|_| self.way.telemetry().open_stream(StreamKind::Events));
        self.way.respond(&mut x.ticket, &head, (delimiter, x.after), x.facts.http_1_0, out);
        x.down = match (head.framing(), delimiter) {
            (ResponseFraming::None, _) => Down::Complete,
            (_, Delimiter::Length(length)) => Down::Body(Encoder::Length(length)),
            (_, Delimiter::Chunked) => Down::Body(Encoder::Chunked),
            (_, Delimiter::Close | Delimiter::Absent) => Down::Body(Encoder::UntilClose),
        };
        Ok(())
    }

    /// A stretch of the response's body has come, or its end.
    fn body(&mut self, x: &mut Exchange<W>, body: Body) -> Result<(), FramingError> {
        let Down::Body(encoder) = &mut x.down else { return Ok(()) };
        let out = &mut self.client.output.bytes;
        match body {
            Body::Data => {
                let data = x.call.data();
                x.bytes_out += data.len() as u64;
                if let Some(events) = &mut x.events {
                    events.pass(data);
                }
                encoder.write(data, out)
            }
            Body::End { trailers } => {
                let section = trailers.then(|| x.call.trailers());
                encoder.finish(section.iter().flat_map(Fields::iter).filter(W::trails_down), out)?;
                x.down = Down::Complete;
                Ok(())
            }
        }
    }
}

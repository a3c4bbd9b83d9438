//! One permitted message's exchange with its upstream: the body up, the answer down, both at once.
//!
//! Both are polled by the stream's own task, so an answer can begin before the request's body has ended. An exchange ends
//! in one of four ways: both directions are complete, and the upstream connection goes back to the pool; the client is gone or
//! too slow, and the upstream connection is closed; the upstream breaks, or the capability falls, and the client gets a
//! problem, or a reset where its answer had begun. Nothing of an exchange outlives its stream.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use postern_capabilities::problem::Problem;
use tokio::time::{sleep_until, timeout};

use super::activity::Active;
use super::answer::{self, Caller};
use super::download::{Download, Ended};
use super::lease::{Wait, Waiting, watch};
use super::reply::{Reply, Sender};
use super::rest::drop_rest;
use super::room::Room;
use super::upload::{Unsent, Upload};
use crate::budget::Share;
use crate::head::Framing;
use crate::lease::Fallen;
use crate::request::Admitted;
use crate::request::error::Refused;
use crate::request::forward::UpstreamHead;
use crate::request::ticket::{SHUT_DOWN, Ticket};
use crate::request::wording::Wording;
use crate::telemetry::StreamKind;
use crate::upstream::call::{Call, Failure};
use crate::upstream::pool::{Attempts, Need, Unreachable, Upstream};
use crate::worker::Worker;

/// The reason under which an exchange is counted whose client left before its end.
pub(super) const CLIENT_GONE: &str = "client-gone";

/// What an exchange needs.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) admitted: Admitted,
    pub(super) head: UpstreamHead,
    pub(super) body: RecvStream,
    /// What of the body has been read before the message was decided.
    pub(super) first: Option<Bytes>,
    /// All of the body, where the message was decided by it.
    pub(super) held: Option<(Bytes, Share)>,
    pub(super) caller: Caller,
    /// When a gRPC call has to be over.
    pub(super) deadline: Option<Instant>,
    pub(super) ticket: Ticket,
    /// Keeps the connection from counting as idle.
    pub(super) active: Active,
    /// What the stream holds, of the bytes that all connections may hold.
    pub(super) room: Room,
}

/// How an exchange failed.
pub(super) enum Failed {
    /// The reason; where no answer has begun, the client reads it.
    Refused(Refused),
    /// The upstream's fault.
    Upstream(Failure),
    /// The capability was revoked, its key retired, or it expired in the meantime.
    Fallen(Fallen),
    /// The caller's own deadline has passed.
    Deadline,
    /// The client is gone.
    Gone,
}

impl Failed {
    /// What a client reads that is still there.
    fn problem(&self) -> Option<Problem> {
        match self {
            Self::Refused(refused) => Some(refused.problem()),
            Self::Upstream(failure) => Some(Refused::from(failure).problem()),
            Self::Fallen(fallen) => Some(Refused::Refusal(fallen.refusal()).problem()),
            Self::Deadline => Some(Refused::DeadlineExceeded.problem()),
            Self::Gone => None,
        }
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Upstream(failure)
    }
}

impl Exchange {
    /// Runs the exchange to its end.
    pub(super) async fn run(mut self, reply: Reply) {
        let mut reply = Some(reply);
        let mut answer = None;
        if let Err(failed) = self.attempts(&mut reply).await {
            if matches!(failed, Failed::Fallen(_)) {
                self.worker.telemetry.lease_fell();
            }
            let problem = failed.problem().map(|problem| self.ticket.wording.of_problem(problem));
            let gone = if self.active.is_cut() { SHUT_DOWN } else { CLIENT_GONE };
            if problem.is_none() && !self.active.is_cut() {
                self.active.is_taken_back();
            }
            self.ticket.refused(problem.as_ref().map_or(gone, |problem| problem.kind));
            if let (Some(problem), Some(_)) = (problem, &reply) {
                self.ticket.responded(&self.worker, problem.status);
                let mut refusal = answer::refusal(&problem, &self.caller);
                if let Some(cross) = &self.ticket.cross {
                    cross.apply(refusal.headers_mut());
                }
                answer = Some(refusal);
            }
        }
        self.ticket.close(&self.worker);
        drop((self.head, self.admitted, self.held));
        self.room.keeps_stream_only();
        if let (Some(reply), Some(answer)) = (reply, answer) {
            let _ = reply.whole(answer, &self.worker.limits()).await;
        }
        drop_rest(self.body, &self.worker).await;
        drop(self.active);
    }

    /// A kept connection may have closed unseen, and an address may have died. Then the message goes up once more, over a
    /// new connection and elsewhere if it can, if that is safe: the method is idempotent, and nothing of a body is lost.
    async fn attempts(&mut self, reply: &mut Option<Reply>) -> Result<(), Failed> {
        let attempts = Attempts::default();
        self.sent(&attempts, reply).await.map_err(|failed| match failed {
            Failed::Upstream(failure) => Failed::Upstream(attempts.sum_up(failure)),
            failed => failed,
        })
    }

    async fn sent(&mut self, attempts: &Attempts, reply: &mut Option<Reply>) -> Result<(), Failed> {
        self.empty_body_ends().await?;
        let worker = Rc::clone(&self.worker);
        let resource = Rc::clone(&self.admitted.resource);
        let (group, repeatable) = (&resource.upstreams, self.admitted.repeatable);
        let need = Need::of(repeatable, self.admitted.switch.as_deref());
        let limits = worker.limits();
        let call = RefCell::new(Call::new(Rc::clone(&limits), &worker.budget));
        let ended = loop {
            let upstream = self.connected(worker.pool.open(group, attempts, need), reply).await?;
            self.ticket.forwarded(upstream.label());
            let ended = self.attempt(&call, upstream, reply).await;
            let Err(Failed::Upstream(failure)) = &ended else { break ended };
            let mut call = call.borrow_mut();
            let is_worth_it = |died| attempts.may_repeat(died, failure, group, &limits);
            let may_replay = call.replayable(failure, repeatable).is_some_and(is_worth_it);
            call.blame(failure);
            if !may_replay {
                break ended;
            }
            worker.telemetry.upstream_retried();
            // Its place is free before another one is asked for.
            drop(call.end());
        };
        // Whether the connection can be used again is for the call to say; after a failure it never can.
        let upstream = call.into_inner().end();
        ended?;
        if let Some(upstream) = upstream {
            worker.pool.put(upstream);
        }
        Ok(())
    }

    /// Waits for the end of a body that was declared empty. The upstream acts on such a message at the end of its head,
    /// before a DATA frame that contradicts the length could still stop it (RFC 9113 section 8.1.1).
    async fn empty_body_ends(&mut self) -> Result<(), Failed> {
        if self.admitted.framing != Framing::Length(0) {
            return Ok(());
        }
        let body = &mut self.body;
        let end = async {
            while !body.is_end_stream() {
                match body.data().await {
                    None => break,
                    Some(Ok(data)) if data.is_empty() => {}
                    // `h2` resets the stream when DATA goes beyond the declared length.
                    Some(Ok(_) | Err(_)) => return Err(Failed::Gone),
                }
            }
            Ok(())
        };
        let in_time = timeout(self.worker.limits().body_stall_timeout, end).await;
        in_time.unwrap_or(Err(Failed::Refused(Refused::RequestTimeout)))
    }

    /// Waits for a connection, unless the client leaves before.
    async fn connected(
        &self,
        connecting: impl Future<Output = Result<Upstream, Unreachable>>,
        reply: &mut Option<Reply>,
    ) -> Result<Upstream, Failed> {
        let Some(waiting) = reply else { return Err(Failed::Gone) };
        // The wait has its own bounds; only the capability may end it before.
        let connected = tokio::select! {
            biased;
            connected = connecting => connected,
            () = past(self.deadline) => return Err(Failed::Deadline),
            () = waiting.gone() => return Err(Failed::Gone),
            fallen = self.admitted.lease.fell() => return Err(Failed::Fallen(fallen)),
        };
        let telemetry = &self.worker.telemetry;
        match &connected {
            Ok(upstream) if upstream.is_reused => telemetry.upstream_reused(),
            Ok(_) => telemetry.upstream_opened(),
            Err(Unreachable::Shortage(_)) => telemetry.out_of_descriptors(),
            Err(_) => telemetry.upstream_failed(),
        }
        connected.map_err(|error| Failed::Upstream(error.into()))
    }

    /// From the last request byte sent to the upstream's response head.
    pub(super) fn response_timeout(&self) -> Duration {
        self.admitted.resource.response_timeout.unwrap_or_else(|| self.worker.limits().upstream_response_timeout)
    }

    /// Sends the message over one connection and passes the answer on.
    async fn attempt(
        &mut self,
        call: &RefCell<Call>,
        upstream: Upstream,
        reply: &mut Option<Reply>,
    ) -> Result<(), Failed> {
        // Much time may have passed since the permit: the body's first byte, a connection. Nothing goes up after a
        // revocation that was acknowledged in between.
        if let Some(fallen) = self.admitted.lease.fallen() {
            return Err(Failed::Fallen(fallen));
        }
        let response_timeout = self.response_timeout();
        let wait = Waiting::on(Wait::Upstream(Instant::now()), self.caller == Caller::Grpc);
        let (bytes_in, bytes_out) = (Cell::new(0), Cell::new(0));
        let is_head = self.caller == Caller::HttpHead;
        call.borrow_mut().begin(upstream, self.head.bytes(), self.admitted.framing, is_head);
        if self.admitted.authenticates_connection {
            call.borrow_mut().keep_alone();
        }
        if self.admitted.switch.is_some() {
            return self.switch(call, reply).await;
        }
        if let Some(filter) = &self.admitted.filter {
            call.borrow_mut().filter(Rc::clone(filter));
        }
        let limits = self.worker.limits();
        let window_bytes = limits.h2_stream_window_bytes;
        let upload = Upload {
            call,
            body: &mut self.body,
            first: self.first.clone(),
            held: self.held.as_ref().map(|(bytes, _)| bytes.clone()),
            body_max: self.admitted.body_max,
            rate: self.admitted.body_rate,
            resource: &self.admitted.resource,
            wait: &wait,
            lease: &self.admitted.lease,
            bytes_in: &bytes_in,
            budget: &self.worker.budget,
            limits: &limits,
            window_bytes: usize::try_from(window_bytes).unwrap_or(usize::MAX),
        };
        let download = Download { call, wait: &wait, bytes_out: &bytes_out, budget: &self.worker.budget };
        let mut upload = Beside { upload: pin!(upload.run()), is_over: false };
        let mut past = pin!(past(self.deadline));
        let mut watch = pin!(watch(&wait, &self.worker, &self.admitted.lease, response_timeout));

        let Some(waiting) = reply else { return Err(Failed::Gone) };
        let mut begun = tokio::select! {
            biased;
            begun = upload.beside(download.head(waiting)) => begun?,
            end = &mut watch => return Err(end),
            () = &mut past => return Err(Failed::Deadline),
        };
        if let Some(cross) = &self.ticket.cross {
            cross.apply(begun.head.headers_mut());
        }
        self.ticket.keeping.apply(begun.head.headers_mut());
        self.ticket.answered();
        self.ticket.responded(&self.worker, begun.head.status().as_u16());

        let Some(reply) = reply.take() else { return Err(Failed::Gone) };
        if begun.is_all {
            self.ticket.bytes_in = bytes_in.get();
            return reply.head_only(begun.head).map_err(|_| Failed::Gone);
        }
        let mut sender = reply.begin(begun.head, begun.declared).map_err(|_| Failed::Gone)?;
        let events = Cell::new(begun.events);
        let kind = match (begun.events, &self.caller) {
            (Some(_), _) => Some(StreamKind::Events),
            (None, Caller::Grpc) => Some(StreamKind::Grpc),
            (None, Caller::Http | Caller::HttpHead | Caller::Rpc(_)) => None,
        };
        let _open = kind.map(|kind| self.worker.telemetry.open_stream(kind));
        let ended = tokio::select! {
            biased;
            ended = upload.beside(download.body(&events, &mut sender)) => ended,
            end = &mut watch => Err(end),
            () = &mut past => Err(Failed::Deadline),
        };
        if matches!(ended, Err(Failed::Fallen(_))) {
            // The service learns of it now, however slowly the client takes its last word.
            drop(call.borrow_mut().end());
        }
        self.ticket.bytes_in = bytes_in.get();
        self.ticket.bytes_out = bytes_out.get();
        let last_word = match events.get() {
            Some(events) if events.is_between_events() => LastWord::Event(&self.ticket.wording),
            // Trailers behind a declared length that was not reached would be malformed.
            None if self.caller == Caller::Grpc && begun.is_grpc && begun.declared.is_none() => LastWord::GrpcStatus,
            _ => LastWord::None,
        };
        conclude(ended, sender, last_word).await
    }
}

/// Resolves when a deadline has passed.
async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// How an answer that has begun can say why it ends before its time.
#[derive(Clone, Copy)]
pub(super) enum LastWord<'a> {
    /// It cannot, but for the reset.
    None,
    /// An event, so that its reader does not take the end for a lost connection and come back.
    Event(&'a Wording),
    /// gRPC's status, in the trailers. Half a message before it is an error to its reader, as it should be.
    GrpcStatus,
}

/// Ends an answer that has begun as it has to: whole, with a last word, or broken off.
pub(super) async fn conclude(
    ended: Result<Ended, Failed>,
    sender: Sender,
    last_word: LastWord<'_>,
) -> Result<(), Failed> {
    let gone = |_| Failed::Gone;
    let failed = match ended {
        Ok(Ended::Plainly) if sender.is_over() => return Ok(()),
        Ok(Ended::Plainly) => return sender.finish().map_err(gone),
        Ok(Ended::WithTrailers(trailers)) => return sender.finish_with_trailers(trailers).map_err(gone),
        Err(failed) => failed,
    };
    match (last_word, failed.problem(), &failed) {
        (LastWord::GrpcStatus, Some(problem), _) => {
            let _ = sender.finish_with_trailers(answer::grpc_status(&problem));
        }
        (LastWord::Event(wording), _, Failed::Fallen(fallen)) => {
            sender.finish_with(Bytes::from(wording.last_event(fallen))).await;
        }
        // The service's fault is an error; that the gateway, or the client, wants no more of it is not.
        (_, _, Failed::Upstream(_)) => sender.abort(Reason::INTERNAL_ERROR),
        _ => sender.abort(Reason::CANCEL),
    }
    Err(failed)
}

/// The way up, polled beside the way down.
struct Beside<'a, F> {
    upload: Pin<&'a mut F>,
    is_over: bool,
}

impl<F: Future<Output = Result<(), Unsent>>> Beside<'_, F> {
    /// Waits for `down` while the request goes up. A client that fails to send its request ends both; an upstream that
    /// takes no more of it may still answer.
    async fn beside<T>(&mut self, down: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        let mut down = pin!(down);
        loop {
            tokio::select! {
                biased;
                down = &mut down => return down,
                sent = &mut self.upload, if !self.is_over => match sent {
                    Ok(()) | Err(Unsent::Upstream) => self.is_over = true,
                    Err(Unsent::Gone) => return Err(Failed::Gone),
                    Err(Unsent::Fallen(fallen)) => return Err(Failed::Fallen(fallen)),
                    Err(Unsent::Refused(refused)) => return Err(Failed::Refused(refused)),
                },
            }
        }
    }
}

//! What may end an exchange from outside: that it stands still, and that its capability falls.
//!
//! A decision holds for as long as what it rested on (law 6): a revocation, a retired key or an expiry ends the streams
//! that are open, not only the messages to come. The timer for the standing still is set again only when it has run out,
//! so that progress costs nothing; for the capability the exchange is woken when its [`Lease`] falls.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use super::exchange::Failed;
use crate::lease::Lease;
use crate::request::error::Refused;
use crate::upstream::call::Failure;
use crate::worker::Worker;

/// What an exchange waits for, and since when.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    /// The client: its body, or its window.
    Client(Instant),
    /// The upstream: that it takes the body, or goes on with its own.
    Upstream(Instant),
    /// The upstream: that it answers, having the whole request.
    Answer(Instant),
    /// The next event of a stream that may be silent for as long as it likes.
    Event,
}

/// What an exchange waits for now.
pub(super) struct Waiting {
    now: Cell<Wait>,
    /// Whether silence means nothing: a gRPC call is open for as long as both ends are, whether they speak or not. Its
    /// bound is its own deadline.
    is_patient: bool,
}

impl Waiting {
    pub(super) fn on(wait: Wait, is_patient: bool) -> Self {
        let waiting = Self { now: Cell::new(wait), is_patient };
        waiting.set(wait);
        waiting
    }

    pub(super) fn set(&self, wait: Wait) {
        self.now.set(if self.is_patient { Wait::Event } else { wait });
    }

    fn get(&self) -> Wait {
        self.now.get()
    }
}

/// Resolves when the exchange must end.
pub(super) async fn watch(wait: &Waiting, worker: &Worker, lease: &Lease, response_timeout: Duration) -> Failed {
    tokio::select! {
        biased;
        fallen = lease.fell() => Failed::Fallen(fallen),
        failed = stall(wait, worker.limits().body_stall_timeout, response_timeout) => failed,
    }
}

/// Resolves when nothing has moved for too long.
async fn stall(wait: &Waiting, body_stall_timeout: Duration, response_timeout: Duration) -> Failed {
    // What is waited for may change without this task knowing: no wait that begins now ends before the shortest bound.
    let shortest = body_stall_timeout.min(response_timeout);
    loop {
        let now = Instant::now();
        let until = match wait.get() {
            Wait::Client(since) | Wait::Upstream(since) => since + body_stall_timeout,
            Wait::Answer(since) => since + response_timeout,
            Wait::Event => now + shortest,
        };
        if until <= now {
            return match wait.get() {
                Wait::Client(_) => Failed::Refused(Refused::RequestTimeout),
                Wait::Upstream(_) | Wait::Answer(_) | Wait::Event => Failure::Timeout.into(),
            };
        }
        sleep_until(until.min(now + shortest).into()).await;
    }
}

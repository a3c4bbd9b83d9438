//! What may end an exchange from outside: that it stands still, and that its capability falls.
//!
//! A decision holds for as long as what it rested on (law 6): a revocation, a retired key or an expiry ends the streams
//! that are open, not only the messages to come. One timer serves all of it and is set again only when it has run out, so
//! that progress costs nothing, and an exchange shorter than a look costs one timer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_capabilities::token::Capability;
use tokio::time::sleep_until;

use super::exchange::Failed;
use crate::http1::upstream::Failure;
use crate::lease::{self, Fallen};
use crate::request::error::Refused;
use crate::worker::Worker;

/// How often an open exchange looks whether its capability still stands: half of what a revocation may take to be felt.
const LOOK: Duration = Duration::from_millis(50);

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

/// Resolves when the exchange must end.
pub(super) async fn watch(
    wait: &Cell<Wait>,
    worker: &Worker,
    capability: Option<Arc<Capability>>,
    response_timeout: Duration,
) -> Failed {
    loop {
        if let Some(fallen) = capability.as_deref().and_then(|capability| fallen(capability, worker)) {
            worker.telemetry.lease_fell();
            return Failed::Fallen(fallen);
        }
        let now = Instant::now();
        let limits = worker.limits();
        let until = match wait.get() {
            Wait::Client(since) | Wait::Upstream(since) => Some(since + limits.body_stall_timeout),
            Wait::Answer(since) => Some(since + response_timeout),
            Wait::Event => None,
        };
        if until.is_some_and(|until| until <= now) {
            return match wait.get() {
                Wait::Client(_) => Failed::Refused(Refused::RequestTimeout),
                Wait::Upstream(_) | Wait::Answer(_) | Wait::Event => Failure::Timeout.into(),
            };
        }
        let look = now + LOOK;
        sleep_until(until.map_or(look, |until| until.min(look)).into()).await;
    }
}

/// Why the capability holds no longer.
pub(super) fn fallen(capability: &Capability, worker: &Worker) -> Option<Fallen> {
    lease::fallen(capability, &worker.standing, capability.expired_at(worker.now()).is_some())
}

//! What a service manager is told: systemd, or whoever else names a socket in `NOTIFY_SOCKET`.
//!
//! `Type=notify` learns when the gateway is ready and when it stops, `Type=notify-reload` how a reload goes, and
//! `WatchdogSec=` that the gateway moves: a beat is only sent while every worker has turned its loop lately. Without the
//! variable nothing is sent anywhere, and a manager that cannot be told is no reason to stop serving.

use std::time::{Duration, Instant};

use postern_gateway::gateway::Running;
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How long a worker may be silent before the watchdog is left to bark.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Started or reloaded.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// About to read the configuration anew; [`ready`] ends it, whatever came of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::debug!(%error, "the clock cannot be read, so the service manager is not told of a reload")
        }
    }
}

/// Draining.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how the gateway is");
    }
}

/// Beats for as long as the gateway moves.
pub(super) struct Watchdog {
    beats: Interval,
    seen: Vec<u64>,
    since: Instant,
}

impl Watchdog {
    /// If the service manager asks for one.
    pub(super) fn asked_for() -> Option<Self> {
        let period = sd_notify::watchdog_enabled().filter(|period| !period.is_zero())?;
        // Twice in its time, as the manager recommends.
        let mut beats = interval((period / 2).max(Duration::from_millis(1)));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Self { beats, seen: Vec::new(), since: Instant::now() })
    }

    /// Waits for the next beat, and sends it if all workers move.
    pub(super) async fn beat(&mut self, running: &Running) {
        self.beats.tick().await;
        let turns = running.turns();
        let all_moved = turns.len() == self.seen.len() && turns.iter().zip(&self.seen).all(|(now, then)| now != then);
        if all_moved || self.seen.is_empty() {
            self.seen = turns;
            self.since = Instant::now();
        }
        if self.since.elapsed() < SILENCE_MAX {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a worker does not move; the watchdog is not fed");
        }
    }

    /// Beats without asking: a drain has a bound of its own.
    pub(super) async fn keep_beating(&mut self) {
        loop {
            self.beats.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

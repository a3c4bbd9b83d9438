//! What a service manager is told: systemd, or whoever else names a socket in `NOTIFY_SOCKET`.
//!
//! `Type=notify` learns when the gateway is ready and when it stops, `Type=notify-reload` how a reload goes, and
//! `WatchdogSec=` that the gateway moves: a beat is only sent while every worker has turned its loop lately. Without the
//! variable nothing is sent anywhere, and a manager that cannot be told is no reason to stop serving.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use postern_gateway::gateway::Running;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How long a worker may be silent before the watchdog is left to bark.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Started or reloaded.
pub(super) fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={}", one_line(status)));
}

/// About to read the configuration anew; [`ready`] ends it, whatever came of it.
pub(super) fn reloading() {
    // The time tells this reload from one that was begun before the manager asked for it.
    let now = clock_gettime(ClockId::Monotonic);
    let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
}

/// Draining.
pub(super) fn stopping() {
    tell("STOPPING=1\nSTATUS=draining");
}

fn tell(message: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    if let Err(error) = send(name.as_bytes(), message) {
        tracing::warn!(%error, "the service manager cannot be told how the gateway is");
    }
}

/// One datagram to a socket that is named by a path, or, behind `@`, in the abstract namespace.
fn send(name: &[u8], message: &str) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up whoever serves.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
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
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let period = number("WATCHDOG_USEC").filter(|us| *us > 0).map(Duration::from_micros)?;
        // It may have been asked of the process that started this one.
        if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
            return None;
        }
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
            tell("WATCHDOG=1");
        } else {
            tracing::error!("a worker does not move; the watchdog is not fed");
        }
    }

    /// Beats without asking: a drain has a bound of its own.
    pub(super) async fn keep_beating(&mut self) {
        loop {
            self.beats.tick().await;
            tell("WATCHDOG=1");
        }
    }
}

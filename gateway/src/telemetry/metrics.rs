//! The counters themselves: relaxed atomics with a single writer each, and histograms made of them.
//!
//! A reader may see one counter a little ahead of another; Prometheus expects no more than that of a scrape.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A number that only grows, written by one thread: an increment is a load and a store, not a locked instruction.
/// Many threads writing the same counter would lose counts, so only single-writer handles reach it mutably.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub(super) fn add(&self, count: u64) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(count), Ordering::Relaxed);
    }

    /// The count so far.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that only grows and that several threads may write.
#[derive(Debug, Default)]
pub struct SharedCounter(AtomicU64);

impl SharedCounter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down; the last write stands.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value last set.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the histogram buckets in microseconds; one more bucket holds what is slower.
pub const BUCKETS_US: [u64; 16] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// How long something took, counted into fixed buckets by a single writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS_US.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts one observation.
    pub(crate) fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(1);
        self.sum_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The counts of each bucket (not cumulative) and the sum in nanoseconds.
    pub(super) fn read(&self) -> ([u64; BUCKETS_US.len() + 1], u64) {
        (std::array::from_fn(|bucket| self.buckets[bucket].read()), self.sum_ns.read())
    }
}

/// What a request was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10 = 0,
    /// HTTP/1.1.
    Http11 = 1,
    /// HTTP/2.
    Http2 = 2,
}

impl Protocol {
    pub(super) const ALL: [Self; 3] = [Self::Http10, Self::Http11, Self::Http2];

    /// As logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "http/2",
        }
    }
}

/// What a long-lived message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum StreamKind {
    /// A WebSocket.
    WebSocket = 0,
    /// Server-sent events.
    Events = 1,
    /// A gRPC call.
    Grpc = 2,
    /// Another protocol that was switched to.
    Other = 3,
}

impl StreamKind {
    pub(super) const ALL: [Self; 4] = [Self::WebSocket, Self::Events, Self::Grpc, Self::Other];

    /// As metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events => "sse",
            Self::Grpc => "grpc",
            Self::Other => "other",
        }
    }
}

/// A stream that is open, and counted as such until this is dropped.
#[derive(Debug)]
pub struct OpenStream {
    counters: Arc<WorkerCounters>,
    kind: StreamKind,
    /// The counters have one writer: this stays on its thread.
    single_writer: PhantomData<Rc<()>>,
}

impl OpenStream {
    pub(super) fn new(counters: &Arc<WorkerCounters>, kind: StreamKind) -> Self {
        counters.streams[kind as usize][0].add(1);
        Self { counters: Arc::clone(counters), kind, single_writer: PhantomData }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.counters.streams[self.kind as usize][1].add(1);
    }
}

impl WorkerCounters {
    /// How many streams of a kind are open.
    pub(super) fn open_streams(&self, kind: StreamKind) -> u64 {
        let [opened, closed] = &self.streams[kind as usize];
        // Closed first: one that closes in between is not counted below nothing.
        let closed = closed.read();
        opened.read().saturating_sub(closed)
    }
}

/// Decisions of one worker about one resource for one reason.
#[derive(Clone, Debug)]
pub(super) struct DecisionCounter {
    pub(super) resource: Arc<str>,
    pub(super) reason: &'static str,
    pub(super) count: Arc<Counter>,
}

/// One worker's counters. Written by that worker alone, read by whoever renders.
#[derive(Debug, Default)]
pub(super) struct WorkerCounters {
    pub(super) connections_opened: Counter,
    pub(super) connections_closed: Counter,
    pub(super) connections_refused: Counter,
    /// Connections that were closed because the budget of memory was used up.
    pub(super) connections_shed: Counter,
    /// How often accepting paused, or a message was refused, because the system had no descriptors left.
    pub(super) descriptors_exhausted: Counter,
    /// Messages that were refused because the budget of memory was strained.
    pub(super) messages_shed: Counter,
    pub(super) requests: [Counter; 3],
    pub(super) responses: [Counter; 5],
    pub(super) own_share: Histogram,
    pub(super) plan_cache_hits: Counter,
    pub(super) plan_cache_misses: Counter,
    pub(super) plan_cache_evictions: Counter,
    pub(super) upstream_opened: Counter,
    pub(super) upstream_reused: Counter,
    pub(super) upstream_failed: Counter,
    pub(super) upstream_retried: Counter,
    pub(super) leases_fallen: Counter,
    /// Streams that were opened and closed, by kind.
    pub(super) streams: [[Counter; 2]; StreamKind::ALL.len()],
    /// Turns of the worker's own loop, about one a second: a worker whose count stands still does not move.
    pub(super) turns: Counter,
    /// Locked when a (resource, reason) pair is seen for the first time, and when somebody renders.
    pub(super) decisions: Mutex<Vec<DecisionCounter>>,
    /// Locked when a resource is seen for the first time, and when somebody renders.
    pub(super) traffic: Mutex<Vec<Arc<TrafficCounters>>>,
}

/// What one worker counts of one resource's messages.
#[derive(Debug)]
pub(super) struct TrafficCounters {
    pub(super) resource: Arc<str>,
    pub(super) responses: [Counter; 5],
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    /// From a request head's last byte to its response's head.
    pub(super) answered: Histogram,
}

impl TrafficCounters {
    pub(super) fn of(resource: &str) -> Self {
        Self {
            resource: resource.into(),
            responses: Default::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            answered: Histogram::default(),
        }
    }
}

/// The place of a status in a list of classes.
pub(super) fn class_of(status: u16) -> usize {
    usize::from(status / 100).clamp(1, 5) - 1
}

/// The classes, as they are written.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What the ledger says of itself. Its writer thread keeps all but `queued`, which callers raise as they enqueue.
#[derive(Debug, Default)]
pub struct LedgerMetrics {
    /// Writes waiting for the writer thread.
    pub queued: Gauge,
    /// Writes refused because the queue was full.
    pub queue_full: SharedCounter,
    /// From taking a group of writes to their commit being durable.
    pub commit: Histogram,
    /// Records appended and durable.
    pub records: SharedCounter,
    /// Groups committed.
    pub commits: SharedCounter,
    /// The last durable position.
    pub position: Gauge,
    /// How many durable records the gateway's live state has not yet taken in.
    pub lag: Gauge,
    /// Revoked ids in force.
    pub revoked: Gauge,
    /// 1 while the ledger accepts no writes because one failed.
    pub read_only: Gauge,
}

/// What became of the configuration's reloads.
#[derive(Debug, Default)]
pub struct ConfigMetrics {
    /// Put in force.
    pub applied: SharedCounter,
    /// Refused; the one before stayed.
    pub refused: SharedCounter,
    /// The number of the one in force; a gateway starts with 1.
    pub generation: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_a_bound_counts_into_that_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(5));
        histogram.observe(Duration::from_micros(6));
        histogram.observe(Duration::from_secs(5));
        let (buckets, sum_ns) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[BUCKETS_US.len()]), (1, 1, 1));
        assert_eq!(sum_ns, 5_000_011_000);
    }
}

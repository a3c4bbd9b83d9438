//! The counters as an operator asks for them: by resource, with rates, refusals apart from failures.
//!
//! A rate is taken over the notes of the last ten seconds, from the oldest of them to now, and the window that it was
//! taken over is stated with it. Messages are counted when they end, so a stream that stays open counts once, late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::metrics::{BUCKETS_US, CLASSES, Counter, StreamKind, WorkerCounters};
use super::{ALLOWED, lock};

/// Notes that are kept: one a second.
const NOTES_MAX: usize = 10;

/// Reasons under which messages end that were permitted and then went wrong; every other one is a refusal.
const FAILURES: [&str; 6] =
    ["broken-off", "client-gone", "deadline-exceeded", "request-timeout", "shut-down", "unavailable"];
/// And those whose name begins so.
const FAILURES_OF_UPSTREAM: &str = "upstream-";

/// What the gateway has counted since it started.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Client connections that are open now.
    pub connections_open: u64,
    /// Long-lived messages that are under way now, by kind.
    pub streams_open: BTreeMap<&'static str, u64>,
    /// The seconds that rates were taken over.
    pub window_seconds: f64,
    /// By resource. The empty name stands for messages that found no resource to which they held a right.
    pub resources: BTreeMap<String, ResourceSummary>,
}

/// What was counted of one resource.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResourceSummary {
    /// Messages that ended.
    pub messages: u64,
    /// The same, in a second of the window.
    pub messages_per_second: f64,
    /// Messages that were permitted and came to their end.
    pub allowed: u64,
    /// Messages that were not permitted, by reason.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Messages that were permitted and went wrong, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Responses by status class.
    pub responses: BTreeMap<&'static str, u64>,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// The time within which half of all answers began, in milliseconds: the upper bound of a histogram's bucket.
    pub answered_ms_median: Option<f64>,
    /// The same for 99 of 100.
    pub answered_ms_p99: Option<f64>,
}

/// Messages by resource, all that there were up to a moment.
type Totals = BTreeMap<Arc<str>, u64>;

/// How many messages there were, from second to second.
#[derive(Default)]
pub(super) struct Rates(Mutex<VecDeque<(Instant, Totals)>>);

impl Rates {
    pub(super) fn note(&self, totals: Totals) {
        let mut notes = lock(&self.0);
        while notes.len() >= NOTES_MAX {
            notes.pop_front();
        }
        notes.push_back((Instant::now(), totals));
    }

    /// The oldest note.
    fn oldest(&self) -> Option<(Instant, BTreeMap<Arc<str>, u64>)> {
        lock(&self.0).front().cloned()
    }
}

/// How many messages ended, by resource.
pub(super) fn totals(workers: &[Arc<WorkerCounters>]) -> BTreeMap<Arc<str>, u64> {
    let mut totals = BTreeMap::new();
    for worker in workers {
        for decision in lock(&worker.decisions).iter() {
            *totals.entry(Arc::clone(&decision.resource)).or_insert(0) += decision.count.read();
        }
    }
    totals
}

pub(super) fn of(workers: &[Arc<WorkerCounters>], rates: &Rates) -> Summary {
    let mut resources: BTreeMap<String, ResourceSummary> = BTreeMap::new();
    let mut answered: BTreeMap<String, [u64; BUCKETS_US.len() + 1]> = BTreeMap::new();
    for worker in workers {
        for decision in lock(&worker.decisions).iter() {
            let summary = resources.entry(decision.resource.to_string()).or_default();
            let count = decision.count.read();
            summary.messages += count;
            match decision.reason {
                ALLOWED => summary.allowed += count,
                reason if is_failure(reason) => *summary.failures.entry(reason).or_insert(0) += count,
                reason => *summary.refusals.entry(reason).or_insert(0) += count,
            }
        }
        for traffic in lock(&worker.traffic).iter() {
            let summary = resources.entry(traffic.resource.to_string()).or_default();
            summary.bytes_in += traffic.bytes_in.read();
            summary.bytes_out += traffic.bytes_out.read();
            for (class, count) in CLASSES.into_iter().zip(&traffic.responses) {
                *summary.responses.entry(class).or_insert(0) += count.read();
            }
            let sums = answered.entry(traffic.resource.to_string()).or_insert([0; BUCKETS_US.len() + 1]);
            sums.iter_mut().zip(traffic.answered.read().0).for_each(|(sum, count)| *sum += count);
        }
    }
    for (resource, buckets) in &answered {
        if let Some(summary) = resources.get_mut(resource) {
            summary.answered_ms_median = quantile_ms(buckets, 50);
            summary.answered_ms_p99 = quantile_ms(buckets, 99);
        }
    }
    let mut window = Duration::ZERO;
    if let Some((since, before)) = rates.oldest() {
        window = since.elapsed();
        for (resource, summary) in &mut resources {
            let before = before.get(resource.as_str()).copied().unwrap_or(0);
            let grown = summary.messages.saturating_sub(before);
            // Far below 2^52, so exact.
            summary.messages_per_second = if window.is_zero() { 0.0 } else { grown as f64 / window.as_secs_f64() };
        }
    }
    let sum = |pick: fn(&WorkerCounters) -> &Counter| workers.iter().map(|worker| pick(worker).read()).sum::<u64>();
    let (opened, closed) = (sum(|worker| &worker.connections_opened), sum(|worker| &worker.connections_closed));
    let open = |kind: StreamKind| workers.iter().map(|worker| worker.open_streams(kind)).sum::<u64>();
    Summary {
        streams_open: StreamKind::ALL.into_iter().map(|kind| (kind.as_str(), open(kind))).collect(),
        connections_open: opened.saturating_sub(closed),
        window_seconds: (window.as_secs_f64() * 1000.0).round() / 1000.0,
        resources,
    }
}

fn is_failure(reason: &str) -> bool {
    FAILURES.contains(&reason) || reason.starts_with(FAILURES_OF_UPSTREAM)
}

/// The upper bound of the bucket in which so many percent of all observations are reached. `None` where there are none,
/// or where they lie beyond the last bound.
fn quantile_ms(buckets: &[u64; BUCKETS_US.len() + 1], percent: u64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let wanted = (all * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let bound = buckets.iter().zip(BUCKETS_US).find_map(|(count, bound_us)| {
        seen += count;
        (seen >= wanted).then_some(bound_us)
    });
    bound.map(|us| us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::{Ended, Telemetry};
    use super::*;

    #[test]
    fn workers_are_added_up_by_resource_and_refusals_are_no_failures() {
        let telemetry = Telemetry::without_log();
        let (one, two) = (telemetry.worker(), telemetry.worker());
        let answered = Duration::from_micros(900);
        let ended = Ended { status: 200, answered, bytes_in: 3, bytes_out: 5, ..Ended::default() };
        telemetry.note_rates();
        for worker in [&one, &two] {
            worker.ended(Some("orders"), &ended);
            worker.ended(Some("orders"), &Ended { reason: "not-permitted", status: 403, ..ended });
            worker.ended(None, &Ended { reason: "missing-capability", status: 401, ..ended });
        }
        one.ended(Some("orders"), &Ended { reason: "upstream-closed", status: 502, ..ended });
        let summary = telemetry.summary();
        let orders = &summary.resources["orders"];
        assert_eq!((orders.messages, orders.allowed, orders.bytes_in, orders.bytes_out), (5, 2, 15, 25));
        assert_eq!((orders.refusals["not-permitted"], orders.failures["upstream-closed"]), (2, 1));
        assert_eq!((orders.responses["2xx"], orders.responses["4xx"], orders.responses["5xx"]), (2, 2, 1));
        assert_eq!((orders.answered_ms_median, orders.answered_ms_p99), (Some(1.0), Some(1.0)));
        assert!(orders.messages_per_second > 0.0);
        assert_eq!(summary.resources[""].refusals["missing-capability"], 2);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let mut buckets = [0; BUCKETS_US.len() + 1];
        assert_eq!(quantile_ms(&buckets, 50), None);
        buckets[0] = 98;
        buckets[7] = 1;
        buckets[BUCKETS_US.len()] = 1;
        assert_eq!((quantile_ms(&buckets, 50), quantile_ms(&buckets, 99)), (Some(0.005), Some(1.0)));
        assert_eq!(quantile_ms(&buckets, 100), None, "beyond the last bound nothing is claimed");
    }
}

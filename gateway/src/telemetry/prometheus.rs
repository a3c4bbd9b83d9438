//! Prometheus text exposition, format 0.0.4, of all workers' counters together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::access_log::AccessLog;
use super::lock;
use super::metrics::{
    BUCKETS_US, CLASSES, ConfigMetrics, Counter, Histogram, LedgerMetrics, Protocol, StreamKind, TrafficCounters,
    WorkerCounters,
};
use super::traces::Traces;
use crate::budget::Budget;

/// The media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes all families; each has its help and type line first, and each series appears once.
pub(super) fn render(
    workers: &[Arc<WorkerCounters>],
    ledger: &LedgerMetrics,
    config: &ConfigMetrics,
    log: &AccessLog,
    traces: &Traces,
) -> String {
    let mut text = Text(String::with_capacity(8 * 1024));
    text.family("postern_build_info", "gauge", "The version that runs, as a label.");
    text.series("postern_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    decisions(&mut text, workers);
    traffic(&mut text, workers);
    by_resource(&mut text, workers);
    upstreams(&mut text, workers);
    ledger_families(&mut text, ledger);
    reloads(&mut text, config);
    text.counter(
        "postern_access_log_dropped_lines_total",
        "Access log lines dropped because the log writer could not keep up.",
        log.dropped(),
    );
    let name = "postern_trace_spans_total";
    text.family(name, "counter", "Spans that the trace collector took, and spans that were dropped.");
    text.series(name, &[("outcome", "exported")], traces.exported());
    text.series(name, &[("outcome", "dropped")], traces.dropped());
    text.gauge(
        "postern_trace_collector_failing",
        "1 while the trace collector takes no spans.",
        u64::from(traces.is_failing()),
    );
    text.0
}

/// Lines about the gateway itself that standard error's reader did not take.
pub(super) fn diagnostics(into: &mut String, dropped: u64) {
    let mut text = Text(std::mem::take(into));
    text.counter(
        "postern_diagnostics_dropped_lines_total",
        "Lines about the gateway itself dropped because whoever reads standard error could not keep up.",
        dropped,
    );
    *into = text.0;
}

/// What was not served so that the rest could be, by reason, and how much memory the connections take.
pub(super) fn shed(
    into: &mut String,
    workers: &[Arc<WorkerCounters>],
    ledger: &LedgerMetrics,
    budget: Option<&Budget>,
) {
    let mut text = Text(std::mem::take(into));
    let sum = |pick: fn(&WorkerCounters) -> &Counter| workers.iter().map(|worker| pick(worker).read()).sum::<u64>();
    let name = "postern_shed_total";
    text.family(name, "counter", "What was refused so that the rest could be served, by what had run out.");
    for (reason, count) in [
        ("memory", sum(|worker| &worker.messages_shed)),
        ("memory-connection", sum(|worker| &worker.connections_shed)),
        ("connections", sum(|worker| &worker.connections_refused)),
        ("descriptors", sum(|worker| &worker.descriptors_exhausted)),
        ("ledger-queue", ledger.queue_full.read()),
    ] {
        text.series(name, &[("reason", reason)], count);
    }
    if let Some(budget) = budget {
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        text.gauge("postern_buffered_bytes", "Bytes that connections hold beyond their base.", bytes(budget.used()));
        text.gauge("postern_buffered_bytes_max", "Bytes that they may hold together.", bytes(budget.max()));
    }
    *into = text.0;
}

fn reloads(text: &mut Text, config: &ConfigMetrics) {
    let name = "postern_config_reloads_total";
    text.family(name, "counter", "Configurations read anew, by what became of them.");
    text.series(name, &[("result", "applied")], config.applied.read());
    text.series(name, &[("result", "refused")], config.refused.read());
    text.gauge(
        "postern_config_generation",
        "The number of the configuration in force; a gateway starts with 1.",
        config.generation.read(),
    );
}

fn decisions(text: &mut Text, workers: &[Arc<WorkerCounters>]) {
    let name = "postern_decisions_total";
    text.family(name, "counter", "Messages decided, by resource and reason; resource is empty where none was found.");
    let mut sums: BTreeMap<(Arc<str>, &'static str), u64> = BTreeMap::new();
    for worker in workers {
        for decision in lock(&worker.decisions).iter() {
            *sums.entry((Arc::clone(&decision.resource), decision.reason)).or_insert(0) += decision.count.read();
        }
    }
    for ((resource, reason), count) in sums {
        text.series(name, &[("resource", &resource), ("reason", reason)], count);
    }
}

/// The families that have a series for each resource of the configuration, and none that a client could add to.
fn by_resource(text: &mut Text, workers: &[Arc<WorkerCounters>]) {
    let mut all: BTreeMap<Arc<str>, Vec<Arc<TrafficCounters>>> = BTreeMap::new();
    for worker in workers {
        for traffic in lock(&worker.traffic).iter() {
            all.entry(Arc::clone(&traffic.resource)).or_default().push(Arc::clone(traffic));
        }
    }
    let name = "postern_resource_responses_total";
    text.family(name, "counter", "Final responses sent, by resource and status class.");
    for (resource, traffic) in &all {
        for (class, label) in CLASSES.into_iter().enumerate() {
            let count = traffic.iter().map(|worker| worker.responses[class].read()).sum();
            text.series(name, &[("resource", resource), ("class", label)], count);
        }
    }
    let name = "postern_resource_body_bytes_total";
    text.family(name, "counter", "Body bytes from clients (in) and to them (out), by resource.");
    for (resource, traffic) in &all {
        let (bytes_in, bytes_out) = traffic.iter().fold((0, 0), |(bytes_in, bytes_out), worker| {
            (bytes_in + worker.bytes_in.read(), bytes_out + worker.bytes_out.read())
        });
        text.series(name, &[("resource", resource), ("direction", "in")], bytes_in);
        text.series(name, &[("resource", resource), ("direction", "out")], bytes_out);
    }
    let name = "postern_resource_answered_seconds";
    text.family(name, "histogram", "From a request head's last byte to its response's head, by resource.");
    for (resource, traffic) in &all {
        let histograms: Vec<&Histogram> = traffic.iter().map(|worker| &worker.answered).collect();
        text.buckets(name, &[("resource", resource)], &histograms);
    }
}

fn traffic(text: &mut Text, workers: &[Arc<WorkerCounters>]) {
    let sum = |pick: fn(&WorkerCounters) -> &Counter| workers.iter().map(|worker| pick(worker).read()).sum::<u64>();
    let opened = sum(|worker| &worker.connections_opened);
    let closed = sum(|worker| &worker.connections_closed);
    text.family("postern_connections_open", "gauge", "Client connections that are open now.");
    text.series("postern_connections_open", &[], opened.saturating_sub(closed));
    text.counter("postern_connections_total", "Client connections accepted.", opened);
    text.counter(
        "postern_connections_refused_total",
        "Client connections refused at a limit.",
        sum(|worker| &worker.connections_refused),
    );

    text.family("postern_requests_total", "counter", "Requests whose head was read, by protocol.");
    for protocol in Protocol::ALL {
        let count = workers.iter().map(|worker| worker.requests[protocol as usize].read()).sum();
        text.series("postern_requests_total", &[("protocol", protocol.as_str())], count);
    }
    text.family("postern_responses_total", "counter", "Final responses sent, by status class.");
    for (class, label) in CLASSES.into_iter().enumerate() {
        let count = workers.iter().map(|worker| worker.responses[class].read()).sum();
        text.series("postern_responses_total", &[("class", label)], count);
    }
    let histograms: Vec<&Histogram> = workers.iter().map(|worker| &worker.own_share).collect();
    text.histogram(
        "postern_own_share_seconds",
        "The gateway's own share of a message's time, waiting for client and upstream left out.",
        &histograms,
    );
    text.family("postern_plan_cache_lookups_total", "counter", "Tokens looked up in the cache of verified plans.");
    text.series("postern_plan_cache_lookups_total", &[("outcome", "hit")], sum(|worker| &worker.plan_cache_hits));
    text.series("postern_plan_cache_lookups_total", &[("outcome", "miss")], sum(|worker| &worker.plan_cache_misses));
    text.counter(
        "postern_plan_cache_evictions_total",
        "Plans dropped from the cache to make room.",
        sum(|worker| &worker.plan_cache_evictions),
    );
    text.counter(
        "postern_leases_fallen_total",
        "Long-lived messages ended because their capability fell.",
        sum(|worker| &worker.leases_fallen),
    );
    let name = "postern_open_streams";
    text.family(name, "gauge", "Long-lived messages under way.");
    for kind in StreamKind::ALL {
        let open = workers.iter().map(|worker| worker.open_streams(kind)).sum();
        text.series(name, &[("kind", kind.as_str())], open);
    }
}

fn upstreams(text: &mut Text, workers: &[Arc<WorkerCounters>]) {
    let name = "postern_upstream_connections_total";
    let sum = |pick: fn(&WorkerCounters) -> &Counter| workers.iter().map(|worker| pick(worker).read()).sum::<u64>();
    text.family(name, "counter", "How upstream connections for messages were had.");
    text.series(name, &[("how", "opened")], sum(|worker| &worker.upstream_opened));
    text.series(name, &[("how", "reused")], sum(|worker| &worker.upstream_reused));
    text.counter(
        "postern_upstream_failures_total",
        "Upstreams that could not be reached or failed before answering.",
        sum(|worker| &worker.upstream_failed),
    );
    text.counter(
        "postern_upstream_retries_total",
        "Messages sent once more because the first connection died unanswered.",
        sum(|worker| &worker.upstream_retried),
    );
}

fn ledger_families(text: &mut Text, ledger: &LedgerMetrics) {
    text.gauge("postern_ledger_queue", "Writes waiting for the ledger's writer.", ledger.queued.read());
    text.counter(
        "postern_ledger_queue_full_total",
        "Writes refused because the ledger's queue was full.",
        ledger.queue_full.read(),
    );
    text.histogram(
        "postern_ledger_commit_seconds",
        "From taking a group of writes to their commit being durable.",
        &[&ledger.commit],
    );
    text.counter("postern_ledger_records_total", "Records appended and durable.", ledger.records.read());
    text.counter("postern_ledger_commits_total", "Groups of records committed.", ledger.commits.read());
    text.gauge("postern_ledger_position", "The last durable position.", ledger.position.read());
    text.gauge("postern_ledger_lag", "Durable records that the live state has not taken in yet.", ledger.lag.read());
    text.gauge("postern_ledger_revoked", "Revoked ids in force.", ledger.revoked.read());
    text.gauge(
        "postern_ledger_read_only",
        "1 while the ledger accepts no writes because one failed.",
        ledger.read_only.read(),
    );
}

/// The text being written.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn series(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.labelled(name, labels);
        let _ = writeln!(self.0, " {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.series(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.series(name, &[], value);
    }

    /// Several writers' histograms as one.
    fn histogram(&mut self, name: &str, help: &str, histograms: &[&Histogram]) {
        self.family(name, "histogram", help);
        self.buckets(name, &[], histograms);
    }

    fn buckets(&mut self, name: &str, labels: &[(&str, &str)], histograms: &[&Histogram]) {
        let mut counts = [0; BUCKETS_US.len() + 1];
        let mut sum_ns = 0u64;
        for histogram in histograms {
            let (buckets, sum) = histogram.read();
            counts.iter_mut().zip(buckets).for_each(|(count, bucket)| *count += bucket);
            sum_ns = sum_ns.saturating_add(sum);
        }
        let mut seen = 0;
        let bucket = |text: &mut Self, bound: &str, seen: u64| {
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
            text.series(&format!("{name}_bucket"), &labels, seen);
        };
        for (count, bound_us) in counts.iter().zip(BUCKETS_US) {
            seen += count;
            bucket(self, &seconds(bound_us * 1_000), seen);
        }
        let total: u64 = counts.iter().sum();
        bucket(self, "+Inf", total);
        self.labelled(&format!("{name}_sum"), labels);
        let _ = writeln!(self.0, " {}", seconds(sum_ns));
        self.series(&format!("{name}_count"), labels, total);
    }

    fn labelled(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
    }
}

/// Nanoseconds as exact decimal seconds, without the rounding of a float.
fn seconds(ns: u64) -> String {
    let (whole, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let decimal = format!("{whole}.{rest:09}");
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use super::super::{ALLOWED, Telemetry};
    use super::*;

    /// Reads the exposition as a scraper would, refusing whatever the format does not allow.
    fn parse(text: &str) -> BTreeMap<String, f64> {
        let mut typed = BTreeSet::new();
        let mut series = BTreeMap::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (kind, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match kind {
                    "HELP" => assert!(!typed.contains(name), "help after type for {name}"),
                    "TYPE" => {
                        assert!(["counter", "gauge", "histogram"].contains(&rest));
                        assert!(typed.insert(name.to_owned()), "{name} has two families");
                    }
                    other => assert_eq!(other, "HELP or TYPE"),
                }
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            assert!(bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{bare}");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| bare.strip_suffix(suffix))
                .find(|stem| typed.contains(*stem))
                .unwrap_or(bare);
            assert!(typed.contains(family), "{name} before its type");
            assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{name} twice");
        }
        series
    }

    #[test]
    fn workers_are_added_up_and_every_line_is_valid() {
        let telemetry = Telemetry::without_log();
        let (one, two) = (telemetry.worker(), telemetry.worker());
        for worker in [&one, &two] {
            worker.connection_opened();
            worker.request(Protocol::Http11);
            worker.decided(Some("orders"), ALLOWED);
            worker.own_share(Duration::from_micros(7));
            worker.responded(200);
            worker.plan_cache(true);
        }
        one.connection_closed();
        one.decided(Some("orders"), "not-permitted");
        one.decided(None, "missing-capability");
        let series = parse(&telemetry.render());
        let value = |name: &str| series[name];
        assert_eq!(value(r#"postern_decisions_total{resource="orders",reason="allowed"}"#), 2.0);
        assert_eq!(value(r#"postern_decisions_total{resource="orders",reason="not-permitted"}"#), 1.0);
        assert_eq!(value(r#"postern_decisions_total{resource="",reason="missing-capability"}"#), 1.0);
        assert_eq!(value("postern_connections_open"), 1.0);
        assert_eq!(value(r#"postern_requests_total{protocol="http/1.1"}"#), 2.0);
        assert_eq!(value(r#"postern_own_share_seconds_bucket{le="0.000005"}"#), 0.0);
        assert_eq!(value(r#"postern_own_share_seconds_bucket{le="0.00001"}"#), 2.0);
        assert_eq!(value(r#"postern_own_share_seconds_bucket{le="+Inf"}"#), 2.0);
        assert_eq!(value("postern_own_share_seconds_sum"), 0.000_014);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut text = Text(String::new());
        text.series("x", &[("a", "q\"b\\n\nz")], 1);
        assert_eq!(text.0, "x{a=\"q\\\"b\\\\n\\nz\"} 1\n");
    }
}

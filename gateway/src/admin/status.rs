//! `GET /status`: how the gateway does, by resource, as one document. It is what `postern status` shows.
//!
//! Everything in it is read from counters that workers keep anyway, so asking costs the messages nothing. Rates come from
//! notes that [`keep_rates`] takes once a second for as long as administration runs.

use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_capabilities::resource::ADMINISTRATION;
use serde_json::{Value, json};

use super::Admin;
use crate::config;
use crate::ledger::Condition;
use crate::limits;
use crate::telemetry::{ResourceSummary, Summary};
use crate::upstream::board::ResourceReport;
use crate::wall_clock::{self, Agreement, Compared};

/// How often the counters are noted.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// Notes the counters once a second, until the task is dropped.
pub(super) async fn keep_rates(admin: Rc<Admin>) {
    let mut ticks = tokio::time::interval(NOTE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        admin.telemetry.note_rates();
    }
}

/// Compares the system's clock with the monotonic one: tells of jumps, and keeps the record's floor. Until the task is
/// dropped.
pub(super) async fn keep_clock(admin: Rc<Admin>) {
    let mut agreement = Agreement::default();
    let mut ticks = tokio::time::interval(limits::CLOCK_COMPARE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let wall = wall_clock::since_epoch(SystemTime::now());
        let Compared { jumped_ms, floor } = agreement.compare(wall, admin.clock.elapsed());
        if let Some(jumped) = jumped_ms {
            let now = wall_clock::printed(wall.as_secs());
            let time = wall_clock::printed(admin.clock.now());
            let (seconds, way) = (jumped.abs() / 1_000, if jumped < 0 { "back" } else { "forward" });
            tracing::warn!(
                "the system's clock went {way} by {seconds} seconds, to {now}; capabilities are decided by {time}, since time \
                 never goes back before a restart"
            );
        }
        if let Some(floor) = floor
            && let Err(error) = admin.ledger.keep_clock_floor(floor).await
        {
            tracing::warn!(%error, "the clock's floor could not be kept; the next one will be");
        }
    }
}

/// The document.
pub(super) fn document(admin: &Admin) -> Value {
    let generation = admin.generation();
    let reports: Vec<ResourceReport> = generation.rosters.iter().map(|roster| roster.report()).collect();
    let mut summary = admin.telemetry.summary();
    // Whoever watches the gateway shall not see themselves watching.
    summary.resources.remove(ADMINISTRATION);
    let ledger = match admin.ledger.condition() {
        Condition::Writable => "writable",
        Condition::Waiting(_) => "waiting",
        Condition::ReadOnly(_) => "read-only",
    };
    let mut document = of(&summary, &generation.config.resources, &reports);
    document["version"] = env!("CARGO_PKG_VERSION").into();
    document["uptime_seconds"] = admin.started.elapsed().as_secs().into();
    document["generation"] = generation.number.into();
    document["draining"] = (*admin.shutdown.is_draining.borrow()).into();
    document["ledger"] = ledger.into();
    document
}

fn of(summary: &Summary, resources: &[config::Resource], reports: &[ResourceReport]) -> Value {
    let none = ResourceSummary::default();
    let listed: Vec<Value> = resources
        .iter()
        .map(|resource| {
            let name = resource.name.as_str();
            let mut listed = json!(summary.resources.get(name).unwrap_or(&none));
            let report = reports.iter().find(|report| report.resource == name);
            listed["name"] = name.into();
            listed["prefix"] = resource.prefix.as_str().into();
            listed["host"] = resource.host.as_deref().into();
            listed["upstreams"] = upstreams(resource, report);
            if let Some(report) = report {
                listed["waiting"] = report.waiting.into();
            }
            listed
        })
        .collect();
    json!({
        "connections_open": summary.connections_open,
        "streams_open": summary.streams_open,
        "window_seconds": summary.window_seconds,
        "resources": listed,
        // Messages that no resource was found for, or no right to it: which of them is nobody's business but theirs.
        "elsewhere": summary.resources.get("").unwrap_or(&none),
    })
}

/// The addresses as the gateway sees them; as they are configured, where nobody watches them.
fn upstreams(resource: &config::Resource, report: Option<&ResourceReport>) -> Value {
    let Some(report) = report else {
        return resource.upstream.iter().map(|upstream| json!({ "upstream": upstream.to_string() })).collect();
    };
    let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    report
        .addresses
        .iter()
        .map(|address| {
            json!({
                "upstream": address.upstream,
                "address": address.address,
                "condition": address.condition.word(),
                "reason": address.reason,
                "since": seconds(address.since),
                "in_flight": address.in_flight,
                "failures": address.failures,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::telemetry::{ALLOWED, Telemetry};
    use crate::upstream::board::{AddressReport, Condition as Standing};

    #[test]
    fn every_resource_is_listed_with_its_upstreams() {
        let text = "[resource.orders]\nupstream = [\"http://127.0.0.1:1\", \"http://127.0.0.1:2\"]\n[resource.stock]\nupstream = \"http://127.0.0.1:3\"\n";
        let config = Config::parse(text, Path::new(".")).unwrap();
        let telemetry = Telemetry::without_log();
        let worker = telemetry.worker();
        worker.decided(Some("orders"), ALLOWED);
        worker.decided(Some("gone-since-the-last-reload"), ALLOWED);
        worker.decided(None, "missing-capability");
        let address = |port: u16, condition: Standing, reason: Option<&str>| AddressReport {
            upstream: format!("http://127.0.0.1:{port}"),
            address: format!("127.0.0.1:{port}"),
            condition,
            reason: reason.map(ToOwned::to_owned),
            since: UNIX_EPOCH + Duration::from_secs(7),
            in_flight: 3,
            failures: 0,
        };
        let addresses = vec![address(1, Standing::Healthy, None), address(2, Standing::Ejected, Some("it is down"))];
        let report = ResourceReport { resource: "orders".to_owned(), waiting: 4, addresses };
        let document = of(&telemetry.summary(), &config.resources, &[report]);
        let [orders, stock] = document["resources"].as_array().unwrap().as_slice() else { panic!("{document}") };
        assert_eq!((&orders["name"], &orders["allowed"], &orders["waiting"]), (&json!("orders"), &json!(1), &json!(4)));
        assert_eq!(orders["upstreams"][1]["condition"], "ejected");
        assert_eq!(orders["upstreams"][1]["reason"], "it is down");
        assert_eq!((&stock["messages"], &stock["upstreams"][0]["upstream"]), (&json!(0), &json!("http://127.0.0.1:3")));
        assert_eq!(document["elsewhere"]["refusals"]["missing-capability"], 1);
    }
}

//! The `[telemetry]` table: where traces go, under which name, and how many of them.

use std::path::{Path, PathBuf};

use super::errors::Mistakes;
use super::raw::{Entry, Section};
use super::{file, values};

/// Where OpenTelemetry collectors take OTLP over HTTP.
const EXAMPLE: &str = "\"http://127.0.0.1:4318\"";

/// Names longer than this are no names.
const SERVICE_NAME_BYTES_MAX: usize = 255;

/// Traces for an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Where its spans go.
    pub otlp: Collector,
    /// The `service.name` of the gateway's spans.
    pub service_name: String,
    /// How many of a million traces that begin here are recorded. A trace that began elsewhere was decided there.
    pub sample_millionths: u32,
    /// A file of header fields for the collector, an API key for example.
    pub headers: Option<PathBuf>,
}

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the field `Host` says.
    pub authority: String,
    /// Path of the requests, `/v1/traces` at its end.
    pub path: String,
}

pub(super) fn read(mut section: Section<'_>, dir: &Path, m: &mut Mistakes<'_>) -> Option<Telemetry> {
    let otlp = match section.value("otlp") {
        Some(entry) => collector(&entry, m),
        None => {
            m.missing(
                &section.name("otlp"),
                format!("traces need somewhere to go; write otlp = {EXAMPLE}, or remove [telemetry]."),
            );
            None
        }
    };
    let service_name = section.value("service_name").and_then(|entry| service_name(&entry, m));
    let sample = section.value("sample").and_then(|entry| entry.millionths(m));
    let headers = section.value("otlp_headers").map(|entry| file(&entry, "\"collector.headers\"", dir, m));
    section.finish(m);
    // A file that was named and not found is a mistake already; it must not come out as "no headers".
    let headers = match headers {
        Some(found) => Some(found?),
        None => None,
    };
    Some(Telemetry {
        otlp: otlp?,
        service_name: service_name.unwrap_or_else(|| "postern".to_owned()),
        sample_millionths: sample.unwrap_or(1_000_000),
        headers,
    })
}

fn collector(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<Collector> {
    let text = entry.text(m, EXAMPLE)?;
    let Some(rest) = text.strip_prefix("http://") else {
        entry.mistake(
            m,
            format!("{text:?} is not an http:// URL; name a collector that takes OTLP over HTTP, like {EXAMPLE}. For one behind TLS run a collector beside the gateway that passes the spans on."),
        );
        return None;
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
    match values::split_host_port(authority) {
        Some((host, port)) if is_plain(path) => Some(Collector {
            host,
            port: port.unwrap_or(80),
            authority: authority.to_owned(),
            path: format!("{}/v1/traces", path.trim_end_matches('/')),
        }),
        _ => {
            entry.mistake(m, format!("{text:?} is not a URL of a host and a port; write one like {EXAMPLE}."));
            None
        }
    }
}

fn service_name(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<String> {
    let text = entry.text(m, "\"postern\"")?;
    if text.is_empty() || text.len() > SERVICE_NAME_BYTES_MAX || text.chars().any(char::is_control) {
        entry.mistake(
            m,
            format!(
                "this is no name of a service; write one of 1 to {SERVICE_NAME_BYTES_MAX} bytes, like \"postern\"."
            ),
        );
        return None;
    }
    Some(text.to_owned())
}

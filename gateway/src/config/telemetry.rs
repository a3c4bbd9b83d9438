//! The `[telemetry]` table: where traces go and whom TLS trusts there, under which name, and how many of them.

use std::path::{Path, PathBuf};

use super::errors::Mistakes;
use super::raw::{Entry, Section};
use super::{UpstreamTls, file, upstream, values};

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
    /// TLS to the collector, by the rules of TLS to services.
    pub tls: UpstreamTls,
}

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Whether it is spoken to over TLS.
    pub is_tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the field `Host` says.
    pub authority: String,
    /// Path of the requests, `/v1/traces` at its end.
    pub path: String,
}

impl Collector {
    /// The URL that spans are posted to.
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.is_tls { "https" } else { "http" }, self.authority, self.path)
    }
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
    let tls = section.value("tls").map(|entry| tls(&entry, otlp.as_ref(), dir, m));
    section.finish(m);
    // A file that was named and not found is a mistake already; it must not come out as "no headers".
    let headers = match headers {
        Some(found) => Some(found?),
        None => None,
    };
    let tls = match tls {
        Some(read) => read?,
        None => UpstreamTls::default(),
    };
    Some(Telemetry {
        otlp: otlp?,
        service_name: service_name.unwrap_or_else(|| "postern".to_owned()),
        sample_millionths: sample.unwrap_or(1_000_000),
        headers,
        tls,
    })
}

/// Whom TLS to the collector trusts, where it is spoken to over TLS.
fn tls(entry: &Entry<'_>, otlp: Option<&Collector>, dir: &Path, m: &mut Mistakes<'_>) -> Option<UpstreamTls> {
    let tls = upstream::tls(entry.section(m)?, dir, m);
    if otlp.is_some_and(|collector| !collector.is_tls) {
        entry.mistake(m, "the collector is not spoken to over TLS; write \"https://…\" in otlp, or remove this table.");
    }
    tls
}

fn collector(entry: &Entry<'_>, m: &mut Mistakes<'_>) -> Option<Collector> {
    let text = entry.text(m, EXAMPLE)?;
    let schemes = [("http://", false, 80), ("https://", true, 443)];
    let written =
        schemes.into_iter().find_map(|(scheme, is_tls, port)| Some((text.strip_prefix(scheme)?, is_tls, port)));
    let Some((rest, is_tls, port_default)) = written else {
        entry.mistake(
            m,
            format!(
                "{text:?} is no http:// or https:// URL; name a collector that takes OTLP over HTTP, like {EXAMPLE}."
            ),
        );
        return None;
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_plain = |path: &str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
    match values::split_host_port(authority) {
        Some((host, port)) if is_plain(path) => Some(Collector {
            is_tls,
            host,
            port: port.unwrap_or(port_default),
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

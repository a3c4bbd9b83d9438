//! What goes to an OpenTelemetry collector: messages as spans, spans as OTLP (opentelemetry-proto 1.x, the trace service).
//!
//! The types here are the part of that protocol which the gateway writes; fields it never sets are left out, which
//! protobuf permits. The names of attributes are those of the stable HTTP semantic conventions. What a span never holds
//! (law 8): token text, paths, queries, header fields. A capability is named by its short id.

use prost::Message;

use super::metrics::Protocol;
use super::traces::Spans;

/// Names the instrumentation, as the conventions ask.
const SCOPE: &str = "postern";

/// The schema that the attributes' names come from.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.27.0";

/// The bits of a span's flags that say that its parent is known to be elsewhere (opentelemetry-proto, `SpanFlags`).
const PARENT_IS_REMOTE: u32 = 0x300;
/// The same for a parent in this process.
const PARENT_IS_LOCAL: u32 = 0x100;

const KIND_SERVER: i32 = 2;
const KIND_CLIENT: i32 = 3;
const STATUS_ERROR: i32 = 2;

/// One export request.
pub(super) fn request(service_name: &str, spans: &[Spans]) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("telemetry.sdk.name", SCOPE),
            text("telemetry.sdk.language", "rust"),
            text("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ],
    };
    let scope = Scope { name: SCOPE.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let scoped = ScopeSpans {
        scope: Some(scope),
        spans: spans.iter().flat_map(pair).collect(),
        schema_url: SCHEMA_URL.to_owned(),
    };
    let exported =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scoped], schema_url: SCHEMA_URL.to_owned() };
    ExportRequest { resource_spans: vec![exported] }.encode_to_vec()
}

/// How many spans a collector says it took nothing of. An answer that cannot be read says nothing.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportAnswer::decode(answer).unwrap_or_default();
    answer.partial_success.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// A message's server span, and the client span of its upstream exchange if there was one.
fn pair(message: &Spans) -> impl Iterator<Item = Span> + use<> {
    [Some(server(message)), client(message)].into_iter().flatten()
}

fn server(message: &Spans) -> Span {
    let version = match message.protocol {
        Protocol::Http10 => "1.0",
        Protocol::Http11 => "1.1",
        Protocol::Http2 => "2",
    };
    let mut attributes = vec![text("http.request.method", message.method), text("network.protocol.version", version)];
    attributes.push(text("url.scheme", message.scheme));
    attributes.push(text("client.address", &message.client.to_string()));
    attributes.push(text("postern.decision", message.decision));
    let optional = [
        ("http.route", &message.route),
        ("server.address", &message.host),
        ("postern.resource", &message.resource),
        ("postern.capability", &message.capability),
        ("postern.upstream", &message.upstream),
    ];
    attributes.extend(optional.iter().filter_map(|(name, value)| Some(text(name, value.as_deref()?))));
    if message.status > 0 {
        attributes.push(number("http.response.status_code", i64::from(message.status)));
    }
    attributes.push(number("http.request.body.size", i64::try_from(message.bytes_in).unwrap_or(i64::MAX)));
    attributes.push(number("http.response.body.size", i64::try_from(message.bytes_out).unwrap_or(i64::MAX)));
    let failed = message.status >= 500 || message.status == 0;
    if failed {
        attributes.push(text("error.type", message.decision));
    }
    Span {
        trace_id: message.trace_id.to_vec(),
        span_id: id(message.server),
        parent_span_id: message.parent.map(id).unwrap_or_default(),
        name: name(message),
        kind: KIND_SERVER,
        start_time_unix_nano: message.nanos_at(std::time::Duration::ZERO),
        end_time_unix_nano: message.nanos_at(message.took),
        attributes,
        status: failed.then_some(Status { code: STATUS_ERROR }),
        flags: u32::from(message.flags) | PARENT_IS_REMOTE,
    }
}

fn client(message: &Spans) -> Option<Span> {
    let forwarded = message.forwarded?;
    // Which version was spoken to the service is the connection's business, and not noted with the message.
    let mut attributes = vec![text("http.request.method", message.method)];
    if let Some(upstream) = &message.upstream {
        // `10.1.2.3:3000`, `h2c://10.1.2.3:3000`, `unix:/run/orders.sock`
        let place = upstream.split_once("://").map_or(&**upstream, |(_, place)| place);
        let place = place.strip_prefix("unix:").unwrap_or(place);
        let (address, port) = place.rsplit_once(':').unwrap_or((place, ""));
        attributes.push(text("server.address", address));
        attributes.extend(port.parse().ok().map(|port| number("server.port", port)));
    }
    match message.upstream_status {
        Some(status) => attributes.push(number("http.response.status_code", i64::from(status))),
        None => attributes.push(text("error.type", message.decision)),
    }
    // For a client, unlike for a server, a 4xx is an error too.
    let failed = message.upstream_status.is_none_or(|status| status >= 400);
    Some(Span {
        trace_id: message.trace_id.to_vec(),
        span_id: id(message.client_span),
        parent_span_id: id(message.server),
        name: name(message),
        kind: KIND_CLIENT,
        start_time_unix_nano: message.nanos_at(forwarded),
        end_time_unix_nano: message.nanos_at(message.took),
        attributes,
        status: failed.then_some(Status { code: STATUS_ERROR }),
        flags: u32::from(message.flags) | PARENT_IS_LOCAL,
    })
}

/// `{METHOD} {resource}`; where there is no resource, nothing that a caller chose.
fn name(message: &Spans) -> String {
    let method = if message.method == OTHER_METHOD { "HTTP" } else { message.method };
    message.resource.as_deref().map_or_else(|| method.to_owned(), |resource| format!("{method} {resource}"))
}

/// What the conventions write for a method that is not among the known ones.
const OTHER_METHOD: &str = "_OTHER";

/// A method as attributes name it: one of few, whatever a client makes up.
pub(crate) fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or(OTHER_METHOD)
}

fn id(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Text(value.to_owned())) }) }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(Value::Integer(value)) }) }
}

// The messages of opentelemetry-proto, by their field numbers.

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

#[derive(Clone, PartialEq, Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn message() -> Spans {
        Spans {
            trace_id: [7; 16],
            parent: Some(3),
            server: 1,
            client_span: 2,
            flags: 1,
            at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            forwarded: Some(Duration::from_micros(40)),
            took: Duration::from_millis(2),
            method: known_method("GET"),
            scheme: "http",
            protocol: Protocol::Http11,
            resource: Some("orders".into()),
            route: Some("/orders".into()),
            host: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            decision: "allowed",
            capability: Some("1a2b3c4d".into()),
            upstream: Some("[::1]:3000".into()),
            status: 200,
            upstream_status: Some(200),
            bytes_in: 0,
            bytes_out: 5,
        }
    }

    #[test]
    fn a_message_becomes_a_server_span_and_a_client_span_below_it() {
        let decoded = ExportRequest::decode(&*request("postern", &[message()])).unwrap();
        let spans = &decoded.resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len(), spans[0].kind, spans[1].kind), (2, KIND_SERVER, KIND_CLIENT));
        assert_eq!((&*spans[0].name, &*spans[0].parent_span_id), ("GET orders", &id(3)[..]));
        assert_eq!(spans[1].parent_span_id, spans[0].span_id);
        assert!(spans.iter().all(|span| span.trace_id == [7; 16] && span.status.is_none()));
        assert!(spans[0].start_time_unix_nano < spans[1].start_time_unix_nano);
        let address = spans[1].attributes.iter().find(|it| it.key == "server.address").unwrap();
        assert_eq!(*address, text("server.address", "[::1]"));
        let socket = client(&Spans { upstream: Some("unix:/run/a.sock".into()), ..message() }).unwrap();
        assert!(socket.attributes.contains(&text("server.address", "/run/a.sock")));
    }

    #[test]
    fn what_failed_is_marked_so() {
        let failed = Spans { status: 502, upstream_status: None, decision: "upstream-closed", ..message() };
        assert!(server(&failed).status.is_some() && client(&failed).unwrap().status.is_some());
        let missing = Spans { status: 404, upstream_status: Some(404), ..message() };
        assert!(server(&missing).status.is_none() && client(&missing).unwrap().status.is_some());
        let refused = Spans { status: 401, forwarded: None, resource: None, method: known_method("BREW"), ..message() };
        assert!(client(&refused).is_none());
        assert_eq!(server(&refused).name, "HTTP");
    }
}

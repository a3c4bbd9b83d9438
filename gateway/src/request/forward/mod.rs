//! The fifth step: the checked message becomes the upstream request.
//!
//! [`compose`] consumes the [`Permit`] and writes the request line from what the permit holds, not from the head that
//! came in: what was checked is what is forwarded (law 4). Nothing else in the crate can start an upstream request, since
//! nothing else makes an [`UpstreamHead`].

pub mod hygiene;
pub mod token;

use std::net::IpAddr;

use postern_capabilities::authorize::Permit;
use postern_capabilities::message::Message;

use self::token::Carried;
use super::Presented;
use super::client::{Origin, UNKNOWN};
use super::noticed::Noticed;
use super::resource::Resource;
use super::switch::Switch;
use super::trace::{self, Tracing};
use crate::head::{Framing, Head, Known, Version};
use crate::plain_text::append_address;

pub use super::trace::TraceIds;

/// A serialised HTTP/1.1 request head that was permitted. Its bytes can be read, not made: only [`compose`] fills it.
#[derive(Default)]
pub struct UpstreamHead {
    bytes: Vec<u8>,
    /// Where the digits of the trace's id begin.
    trace_id_at: usize,
}

impl UpstreamHead {
    /// The bytes to send, the empty line included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digits of the id of the trace that the message belongs to.
    pub(super) fn trace_id(&self) -> Option<&[u8]> {
        self.bytes.get(self.trace_id_at..)?.get(..trace::TRACE_ID_DIGITS)
    }

    /// How much memory it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Empties the buffer and keeps its memory for the next message.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// What goes up with the permit.
pub struct Inputs<'a> {
    /// The head as it came: its fields, once stripped, are forwarded.
    pub head: &'a Head<'a>,
    /// The resource it goes to.
    pub resource: &'a Resource,
    /// The token as presented.
    pub presented: Option<Presented<'a>>,
    /// The token that goes up, if one does.
    pub carried: Option<&'a Carried<'a>>,
    /// The canonical path with the mount prefix, for resources that keep it.
    pub full_path: &'a str,
    /// Where the message comes from.
    pub origin: &'a Origin<'a>,
    /// What was told of fields that are dropped.
    pub noticed: &'a Noticed,
    /// The message's place in a trace.
    pub tracing: Tracing<'a>,
    /// How the body is framed on its way up.
    pub framing: Framing,
    /// Whether the body was read before the message was decided, so that nothing is left of how it came.
    pub was_read: bool,
    /// Whether the answer is filtered, and so must come without a content coding.
    pub is_filtered: bool,
    /// The switch to another protocol that is asked for with the message.
    pub switch: Option<&'a Switch>,
}

/// Writes the upstream request head of a permitted message.
pub fn compose(out: &mut UpstreamHead, permit: Permit<'_>, inputs: &Inputs<'_>, ids: &TraceIds) {
    let Inputs { head, resource, .. } = *inputs;
    let message = permit.message();
    let UpstreamHead { bytes: out, trace_id_at } = out;
    out.clear();

    out.extend_from_slice(message.operation.as_bytes());
    out.push(b' ');
    out.extend_from_slice(if resource.keep_prefix { inputs.full_path } else { message.path }.as_bytes());
    if head.query().is_some() {
        out.push(b'?');
        out.extend_from_slice(message.query_string.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");

    host(out, head, resource);
    let mut trailers_wanted = false;
    let mut trace = None;
    for f in head.fields() {
        match f.known {
            Known::Te => trailers_wanted |= names_trailers(f.value),
            Known::Traceparent if trace.is_none() => trace = trace::parse(f.value),
            // A capability is not shown to a service that has an `Authorization` of its own.
            Known::Authorization if inputs.presented.is_some_and(|presented| presented.in_authorization) => {}
            // Whoever waits for a sign to send its body has had it, and there are no trailers.
            Known::Expect | Known::Trailer if inputs.was_read => {}
            Known::Other if inputs.is_filtered && f.name.eq_ignore_ascii_case(b"accept-encoding") => {}
            _ if hygiene::passes_up(&f, resource) => field(out, f.name, f.value),
            // No key lets through what another one takes out.
            _ if hygiene::is_stripped(&f, resource) => {}
            known => inputs.noticed.dropped(resource.name.as_str(), known, f.name),
        }
    }
    // A state without its trace means nothing.
    if trace.is_some() && head.has(Known::Tracestate) {
        for f in head.fields().filter(|f| f.known == Known::Tracestate) {
            field(out, f.name, f.value);
        }
    }
    match inputs.framing {
        Framing::None => {}
        Framing::Length(length) => field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        Framing::Chunked => field(out, b"transfer-encoding", b"chunked"),
    }
    if trailers_wanted {
        field(out, b"te", b"trailers");
    }
    match (trailers_wanted, inputs.switch) {
        (false, None) => {}
        (true, None) => field(out, b"connection", b"TE"),
        (_, Some(switch)) => {
            field(out, b"connection", if trailers_wanted { b"TE, upgrade" } else { b"upgrade" });
            switch.ask(|name, value| field(out, name, value));
        }
    }
    if let Some(carried) = inputs.carried {
        carried.write(out, resource.authorization);
    }
    provenance(out, inputs, message);
    *trace_id_at = out.len() + trace::LINE_START.len();
    trace::write(out, trace, ids, inputs.tracing);
    out.extend_from_slice(b"\r\n");
}

/// `Host`: as the resource says, else as the message does. Where an HTTP/1.0 request names none, the service is called by its own
/// name, since HTTP/1.1 demands one.
fn host(out: &mut Vec<u8>, head: &Head<'_>, resource: &Resource) {
    match &resource.upstream_host {
        Some(host) => field(out, b"host", host.as_bytes()),
        None if head.host().is_empty() => field(out, b"host", resource.service_host.as_bytes()),
        None => {
            out.extend_from_slice(b"host: ");
            authority(out, (head.host(), head.port()));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Host and port, without the dot that a name may end with.
fn authority(out: &mut Vec<u8>, (host, port): (&str, &str)) {
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(port.as_bytes());
}

/// `X-Forwarded-*`, `Forwarded` (RFC 7239) and `Via` (RFC 9110 section 7.6.3): where the message came from, said once.
///
/// The last address of the chain is the `client` that the caveats were checked against.
fn provenance(out: &mut Vec<u8>, inputs: &Inputs<'_>, message: &Message<'_>) {
    let (client, scheme, origin) = (message.client, message.scheme.as_str(), inputs.origin);
    let (host, port) = origin.authority.unwrap_or((inputs.head.host(), inputs.head.port()));
    out.extend_from_slice(b"x-forwarded-for: ");
    for hop in &origin.before {
        append_address(out, *hop);
        out.extend_from_slice(b", ");
    }
    address(out, client);
    out.extend_from_slice(b"\r\n");
    // A service that decides for itself has to know that no host was named, too.
    if !host.is_empty() || inputs.carried.is_some() {
        out.extend_from_slice(b"x-forwarded-host: ");
        authority(out, (host, port));
        out.extend_from_slice(b"\r\n");
    }
    field(out, b"x-forwarded-proto", scheme.as_bytes());
    if let Some(port) = origin.port {
        field(out, b"x-forwarded-port", port.as_bytes());
    }
    let own = if inputs.resource.keep_prefix { "" } else { inputs.resource.prefix.trim_end_matches('/') };
    if !origin.prefix.is_empty() || !own.is_empty() {
        out.extend_from_slice(b"x-forwarded-prefix: ");
        out.extend_from_slice(origin.prefix.as_bytes());
        out.extend_from_slice(own.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    // For a service that decides for itself, and that caveats may ask for the certificate.
    if let (Some(_), Some(hash)) = (inputs.carried, message.client_cert) {
        field(out, b"x-forwarded-client-cert", format!("Hash={hash}").as_bytes());
    }
    out.extend_from_slice(b"forwarded: for=");
    match client {
        UNKNOWN | IpAddr::V4(_) => address(out, client),
        IpAddr::V6(_) => {
            out.extend_from_slice(b"\"[");
            address(out, client);
            out.extend_from_slice(b"]\"");
        }
    }
    if !host.is_empty() {
        out.extend_from_slice(b";host=\"");
        authority(out, (host, port));
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(match inputs.head.version() {
        Version::Http10 => b"via: 1.0 postern\r\n".as_slice(),
        Version::Http11 => b"via: 1.1 postern\r\n",
        Version::Http2 => b"via: 2 postern\r\n",
    });
}

/// An address as these fields say it.
fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        UNKNOWN => out.extend_from_slice(b"unknown"),
        known => append_address(out, known),
    }
}

/// Whether a `TE` value lists `trailers`; other codings are this hop's business and end here.
fn names_trailers(value: &[u8]) -> bool {
    value.split(|&b| b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

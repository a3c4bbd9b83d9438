//! The last step: the upstream's answer, or a problem, becomes the response.
//!
//! An upstream's fields pass through one filter, like the request's: this hop's own are dropped, so are all spellings of
//! `Postern-*` (an upstream cannot speak in the gateway's name), and framing is written anew by whoever sends the body.

use std::time::SystemTime;

use postern_capabilities::problem::Problem;

use super::cors::Cross;
use super::forward::hygiene::{passes_down, passing_value};
use super::keeping::{self, Keeping, VARIES_BY};
use super::own::Answer;
use super::rpc::{self, Rpc};
use super::switch::Switch;
use crate::head::{Known, ResponseHead, Version};
use crate::wall_clock::http_date;

/// How the body of a response is delimited on the wire to an HTTP/1 client (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// No framing field: the status or the method says that there is no body.
    Absent,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection.
    Close,
}

/// Whether the connection stays open after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// For the next request.
    KeepAlive,
    /// `Connection: close`.
    Close,
}

/// Writes a status line and the fields that may pass, for an HTTP/1 client. 1xx heads go the same way, and nobody keeps them.
pub fn compose_head(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    (delimiter, after): (Delimiter, After),
    http_1_0: bool,
    (cross, keeping): (Option<&Cross>, Option<Keeping>),
) {
    let is_private = keeping.is_some_and(|keeping| keeping.is_private(head));
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    for field in head.fields().filter(passes_down) {
        if (cross.is_none() || Cross::passes(&field))
            && !(is_private && keeping::says_who(&field))
            && let Some(value) = passing_value(&field)
        {
            line(out, field.name, &value);
        }
    }
    cross_lines(out, cross);
    if keeping.is_some() {
        line(out, b"vary", VARIES_BY.as_bytes());
    }
    if is_private {
        out.extend_from_slice(b"cache-control: ");
        keeping::write_private(out, head);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"via: ");
    out.extend_from_slice(via(head).as_bytes());
    out.extend_from_slice(b"\r\n");
    match delimiter {
        Delimiter::Absent | Delimiter::Close => {}
        Delimiter::Length(length) => line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        Delimiter::Chunked => line(out, b"transfer-encoding", b"chunked"),
    }
    // RFC 9110 section 15.5.22: it has to name what the service wants; to an HTTP/2 client it could not be said.
    let wants = if head.status() == 426 { head.value(Known::Upgrade) } else { None };
    if let Some(protocols) = wants {
        line(out, b"upgrade", protocols);
    }
    match after {
        After::KeepAlive if wants.is_some() => line(out, b"connection", b"upgrade"),
        After::Close if wants.is_some() => line(out, b"connection", b"upgrade, close"),
        // HTTP/1.0 clients close unless told; HTTP/1.1 clients stay unless told.
        After::KeepAlive if http_1_0 => line(out, b"connection", b"keep-alive"),
        After::KeepAlive => {}
        After::Close => line(out, b"connection", b"close"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head by which an HTTP/1 client's connection is no longer HTTP, however the upstream said that it switches.
pub fn compose_switch(out: &mut Vec<u8>, head: &ResponseHead<'_>, switch: &Switch, cross: Option<&Cross>) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for field in head.fields().filter(passes_down).filter(|field| !Switch::says(field)) {
        if cross.is_none() || Cross::passes(&field) {
            line(out, field.name, field.value);
        }
    }
    cross_lines(out, cross);
    line(out, b"vary", VARIES_BY.as_bytes());
    line(out, b"via", via(head).as_bytes());
    switch.agree(|name, value| line(out, name, value));
    out.extend_from_slice(b"\r\n");
}

/// What `Via` says of a response: the version in which it came to the gateway (RFC 9110 section 7.6.3).
pub fn via(head: &ResponseHead<'_>) -> &'static str {
    match head.version() {
        Version::Http10 => "1.0 postern",
        Version::Http11 => "1.1 postern",
        Version::Http2 => "2 postern",
    }
}

/// A refusal as an HTTP/1 response, head and body, in the protocol of the call where it is one. `head_only` where the request
/// was HEAD.
pub fn compose_refusal(
    out: &mut Vec<u8>,
    (problem, rpc): (&Problem, Option<&Rpc>),
    after: After,
    head_only: bool,
    cross: Option<&Cross>,
) {
    let rpc::Answer { status, fields, body } = match rpc {
        Some(rpc) => rpc.answer(problem),
        None => rpc::Answer {
            status: problem.http_status(),
            fields: problem_fields(problem),
            body: problem.body().into_bytes(),
        },
    };
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        line(out, name.as_bytes(), value.as_bytes());
    }
    line(out, b"vary", VARIES_BY.as_bytes());
    cross_lines(out, cross);
    line(out, b"content-length", itoa::Buffer::new().format(body.len()).as_bytes());
    if after == After::Close {
        line(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(&body);
    }
}

/// An answer of the gateway's own as an HTTP/1 response.
pub fn compose_answer(out: &mut Vec<u8>, answer: &Answer, after: After, head_only: bool, cross: Option<&Cross>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(answer.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason_phrase(answer.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in answer.fields() {
        line(out, name.as_bytes(), value.as_bytes());
    }
    cross_lines(out, cross);
    if let Some(length) = answer.length() {
        line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
    }
    if after == After::Close {
        line(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(answer.body.as_bytes());
    }
}

/// The fields of a problem response besides framing: for both protocol versions and for administration.
pub fn problem_fields(problem: &Problem) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("content-type", problem.media_type().to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("date", http_date(SystemTime::now())),
    ];
    if let Some(challenge) = problem.www_authenticate() {
        fields.push(("www-authenticate", challenge));
    }
    if problem.status == 405 {
        fields.push(("allow", problem.allow.unwrap_or("GET, HEAD").to_owned()));
    }
    if problem.status == 503 {
        fields.push(("retry-after", "1".to_owned()));
    }
    fields
}

/// The standard phrase of a status this gateway answers with itself.
fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
}

/// What the answer says to a browser.
fn cross_lines(out: &mut Vec<u8>, cross: Option<&Cross>) {
    for (name, value) in cross.into_iter().flat_map(Cross::fields) {
        line(out, name.as_bytes(), value.as_bytes());
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

//! What one line of the access log says, and how it is written.
//!
//! What a line never holds (law 8): token text, query text (its length alone), header fields. A path segment that is
//! long enough to hide a token is cut, since clients put tokens where they do not belong. Every byte outside printable
//! ASCII is escaped, so a line stays one line in any terminal.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::Protocol;
use crate::plain_text::{append_address, append_number};

/// What a client chose, where it may be cut: longer pieces could hide a token, whose first block alone is longer.
struct Cut {
    separator: u8,
    piece_bytes_max: usize,
    bytes_max: usize,
}

const PATH: Cut = Cut { separator: b'/', piece_bytes_max: 96, bytes_max: 2048 };
/// A label of a host name has at most 63 bytes (RFC 1035 section 2.3.4).
const HOST: Cut = Cut { separator: b'.', piece_bytes_max: 63, bytes_max: 260 };
/// The longest registered method has 17 letters.
const OPERATION: Cut = Cut { separator: b' ', piece_bytes_max: 20, bytes_max: 20 };
/// What is shown of a cut piece; too short to help anyone who looks for a token.
const PIECE_BYTES_SHOWN: usize = 8;

/// What one line says. Everything is borrowed; nothing of the token but its short id can be put in.
#[derive(Clone, Copy, Debug)]
pub struct AccessLine<'a> {
    /// When the message's head had been read.
    pub at: SystemTime,
    /// The peer, or what a trusted proxy said.
    pub client: IpAddr,
    /// What the request was written in.
    pub protocol: Protocol,
    /// The authority the request named.
    pub host: &'a str,
    /// The method.
    pub operation: &'a str,
    /// The path as received or canonical, without query.
    pub path: &'a [u8],
    /// Bytes of query; the text itself is never logged.
    pub query_bytes: usize,
    /// The resource, where one was found.
    pub resource: Option<&'a str>,
    /// [`ALLOWED`](super::ALLOWED) or the problem type of the refusal.
    pub decision: &'a str,
    /// `Capability::short_id`.
    pub capability: Option<&'a str>,
    /// Status of the final response; 0 if the client left before one.
    pub status: u16,
    /// The upstream that answered.
    pub upstream: Option<&'a str>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the head's last byte to the response's last.
    pub took: Duration,
    /// The gateway's own share of that.
    pub own_share: Duration,
    /// The trace that the message belongs to (W3C Trace Context), in hexadecimal digits.
    pub trace_id: Option<&'a str>,
}

impl AccessLine<'_> {
    /// Writes the line, newline included.
    ///
    /// Every message pays for this, so nothing here goes through the formatting machinery, which costs several times as much.
    pub(super) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        append_time(out, self.at);
        out.extend_from_slice(b"\",\"client\":\"");
        append_address(out, self.client);
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(self.protocol.as_str().as_bytes());
        for (name, value, cut) in [
            ("\",\"host\":\"", self.host.as_bytes(), &HOST),
            ("\",\"operation\":\"", self.operation.as_bytes(), &OPERATION),
            ("\",\"path\":\"", self.path, &PATH),
        ] {
            out.extend_from_slice(name.as_bytes());
            append_cut(out, value, cut);
        }
        out.push(b'"');
        if self.query_bytes > 0 {
            number(out, ",\"query_bytes\":", self.query_bytes as u64);
        }
        for (name, value) in [
            (",\"resource\":\"", self.resource),
            (",\"capability\":\"", self.capability),
            (",\"upstream\":\"", self.upstream),
            (",\"trace_id\":\"", self.trace_id),
            (",\"decision\":\"", Some(self.decision)),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                append_escaped(out, value.as_bytes());
                out.push(b'"');
            }
        }
        number(out, ",\"status\":", self.status.into());
        number(out, ",\"bytes_in\":", self.bytes_in);
        number(out, ",\"bytes_out\":", self.bytes_out);
        number(out, ",\"took_us\":", micros(self.took));
        number(out, ",\"own_us\":", micros(self.own_share));
        out.extend_from_slice(b"}\n");
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    out.extend_from_slice(name.as_bytes());
    append_number(out, value);
}

/// RFC 3339 with milliseconds, UTC.
fn append_time(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, millisecond) = (at.year().unsigned_abs(), since.subsec_millis());
    for (digits, value, separator) in [
        (4, year, b'-'),
        (2, u8::from(at.month()).into(), b'-'),
        (2, at.day().into(), b'T'),
        (2, at.hour().into(), b':'),
        (2, at.minute().into(), b':'),
        (2, at.second().into(), b'.'),
        (3, millisecond, b'Z'),
    ] {
        append_digits(out, digits, value);
        out.push(separator);
    }
}

/// The last `digits` decimal digits, zeros in front.
fn append_digits(out: &mut Vec<u8>, digits: u32, value: u32) {
    for place in (0..digits).rev() {
        let digit = value / 10_u32.pow(place) % 10;
        // A digit is below ten.
        out.push(b'0' + digit as u8);
    }
}

/// What the client chose, each piece that could hide a token cut to its beginning and length.
fn append_cut(out: &mut Vec<u8>, value: &[u8], cut: &Cut) {
    let mut shown = 0;
    for (index, piece) in value.split(|byte| *byte == cut.separator).enumerate() {
        shown += piece.len() + 1;
        if shown > cut.bytes_max + 1 && index > 0 {
            // Whole pieces only: the beginning of one would be the beginning of what it hides.
            let _ = write!(out, "[{} bytes in all]", value.len());
            return;
        }
        if index > 0 {
            out.push(cut.separator);
        }
        if piece.len() > cut.piece_bytes_max {
            append_escaped(out, &piece[..PIECE_BYTES_SHOWN]);
            let _ = write!(out, "[{} bytes]", piece.len());
        } else {
            append_escaped(out, piece);
        }
    }
}

/// Printable ASCII as it is, every other byte as a JSON escape, so that no terminal and no line reader can be misled.
fn append_escaped(out: &mut Vec<u8>, mut value: &[u8]) {
    while let Some(at) = value.iter().position(|byte| !matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
        let (plain, rest) = value.split_at(at);
        out.extend_from_slice(plain);
        match rest[0] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            // Writing to a Vec cannot fail.
            byte => drop(write!(out, "\\u{byte:04x}")),
        }
        value = &rest[1..];
    }
    out.extend_from_slice(value);
}

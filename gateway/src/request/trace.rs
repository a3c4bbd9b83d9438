//! W3C Trace Context: one `traceparent` leaves the gateway, whatever came in.
//!
//! A valid parent keeps its trace id and flags and gets this hop's span id; anything else starts a new trace. Ids name
//! work, they guard nothing, so a fast generator seeded once a worker is enough.
//!
//! Where a collector is configured, a [`Recording`] decides the ids when the head is complete, because the message's own
//! span may be all that there is of it: the caller's span is its parent, and it is the parent of the client span whose id
//! goes up. Without a collector nothing of this is made, and an id is drawn as it is written.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use crate::head::{Head, Known};
use crate::telemetry::{WorkerTelemetry, known_method};

/// Where span and trace ids come from: SplitMix64, seeded from the system's randomness.
pub struct TraceIds(Cell<u64>);

impl TraceIds {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// A number that is not zero: an all-zero id is invalid (Trace Context section 3.2.2).
    pub(super) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }
}

/// Hexadecimal digits of a trace id.
pub(super) const TRACE_ID_DIGITS: usize = 32;

/// An incoming `traceparent`.
pub(super) struct Parent<'h> {
    trace_id: &'h [u8],
    span_id: &'h [u8],
    flags: &'h [u8],
}

impl<'h> Parent<'h> {
    /// The digits of the trace's id.
    pub(super) fn trace_id(&self) -> &'h [u8] {
        self.trace_id
    }
}

/// The first valid parent of a head.
pub(super) fn incoming<'h>(head: &Head<'h>) -> Option<Parent<'h>> {
    if !head.has(Known::Traceparent) {
        return None;
    }
    head.fields().filter(|field| field.known == Known::Traceparent).find_map(|field| parse(field.value))
}

/// The bit of the flags that says that whoever calls records this trace (Trace Context section 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// A message that is recorded: its place in the trace, and what its head said.
pub struct Recording {
    pub(super) at: SystemTime,
    pub(super) trace_id: [u8; 16],
    pub(super) parent: Option<u64>,
    /// The message's own span.
    pub(super) server: u64,
    /// The span of the upstream exchange, which the upstream gets as its parent.
    pub(super) client: u64,
    pub(super) flags: u8,
    pub(super) method: &'static str,
    pub(super) host: Box<str>,
    pub(super) scheme: &'static str,
    pub(super) forwarded: Option<Duration>,
}

impl Recording {
    /// Begins a recording where there is a collector and the message belongs to a trace that is recorded: the caller says
    /// so, or there is no caller and the configured share of new traces falls on it.
    pub(super) fn begin(telemetry: &WorkerTelemetry, ids: &TraceIds, head: &Head<'_>) -> Option<Box<Self>> {
        if !telemetry.traces() {
            return None;
        }
        let parent = incoming(head);
        let (trace_id, flags) = match &parent {
            Some(parent) => {
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&number(&parent.trace_id[..16]).to_be_bytes());
                trace_id[8..].copy_from_slice(&number(&parent.trace_id[16..]).to_be_bytes());
                // Two digits, so that this takes nothing away.
                let flags = number(parent.flags) as u8;
                (flags & SAMPLED != 0).then_some((trace_id, flags))?
            }
            None => {
                let (high, low) = (ids.next(), ids.next());
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&high.to_be_bytes());
                trace_id[8..].copy_from_slice(&low.to_be_bytes());
                telemetry.samples(low).then_some((trace_id, SAMPLED))?
            }
        };
        Some(Box::new(Self {
            at: SystemTime::now(),
            trace_id,
            parent: parent.map(|parent| number(parent.span_id)),
            server: ids.next(),
            client: ids.next(),
            flags,
            method: known_method(head.method()),
            host: head.host().into(),
            scheme: "http",
            forwarded: None,
        }))
    }

    /// The digits of the trace's id.
    pub(super) fn trace_id_digits(&self) -> [u8; TRACE_ID_DIGITS] {
        let mut digits = [0; TRACE_ID_DIGITS];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.trace_id) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }
}

/// The number that at most sixteen hexadecimal digits are.
fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            // Only digits come here.
            _ => 0,
        };
        number << 4 | u64::from(value)
    })
}

/// Reads version 00 of the field (Trace Context section 3.2): `00-<32 hex>-<16 hex>-<2 hex>`, lower case, ids not zero.
pub(super) fn parse(value: &[u8]) -> Option<Parent<'_>> {
    if value.len() != 55 || &value[..3] != b"00-" || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let (trace_id, span_id, flags) = (&value[3..35], &value[36..52], &value[53..]);
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &[u8]| part.iter().all(|&b| b == b'0');
    (hex(trace_id) && hex(span_id) && hex(flags) && !zero(trace_id) && !zero(span_id)).then_some(Parent {
        trace_id,
        span_id,
        flags,
    })
}

/// What stands before the trace id in the line that [`write`] writes.
pub(super) const LINE_START: &[u8] = b"traceparent: 00-";

/// What the gateway does about the trace of a message.
#[derive(Clone, Copy)]
pub enum Tracing<'a> {
    /// It records the message.
    Recorded(&'a Recording),
    /// It records some messages, and not this one.
    NotSampled,
    /// It records nothing, and has no say in whether others do.
    Off,
}

impl<'a> Tracing<'a> {
    pub(super) fn of(telemetry: &WorkerTelemetry, recording: Option<&'a Recording>) -> Self {
        match recording {
            Some(recording) => Self::Recorded(recording),
            None if telemetry.traces() => Self::NotSampled,
            None => Self::Off,
        }
    }
}

/// Writes the `traceparent` that goes up.
///
/// Where the gateway records nothing, a caller's passes as it came: a span of the gateway's own, which nobody exports, would
/// be a hole in the trace. A trace that begins here is then one that services may record, since "not sampled" would turn off
/// what they do by themselves.
pub(super) fn write(out: &mut Vec<u8>, parent: Option<Parent<'_>>, ids: &TraceIds, tracing: Tracing<'_>) {
    out.extend_from_slice(LINE_START);
    if let Tracing::Recorded(recording) = tracing {
        out.extend_from_slice(&recording.trace_id_digits());
        out.push(b'-');
        hex(out, recording.client);
        out.extend_from_slice(&[
            b'-',
            DIGITS[usize::from(recording.flags >> 4)],
            DIGITS[usize::from(recording.flags & 15)],
        ]);
        out.extend_from_slice(b"\r\n");
        return;
    }
    match &parent {
        Some(parent) => out.extend_from_slice(parent.trace_id),
        None => {
            hex(out, ids.next());
            hex(out, ids.next());
        }
    }
    out.push(b'-');
    let is_off = matches!(tracing, Tracing::Off);
    match &parent {
        Some(parent) if is_off => out.extend_from_slice(parent.span_id),
        _ => hex(out, ids.next()),
    }
    out.push(b'-');
    out.extend_from_slice(parent.map_or(if is_off { b"01" } else { b"00" }, |parent| parent.flags));
    out.extend_from_slice(b"\r\n");
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex(out: &mut Vec<u8>, number: u64) {
    out.extend((0..16).rev().map(|i| DIGITS[(number >> (4 * i)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(incoming: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write(&mut out, incoming.and_then(parse), &TraceIds::new(7), Tracing::Off);
        String::from_utf8(out).expect("the field is ASCII")
    }

    #[test]
    fn what_is_not_recorded_here_passes_as_it_came() {
        let line = written(Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
        assert_eq!(line, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n");
    }

    #[test]
    fn services_may_record_what_begins_here_unless_the_gateway_decided_against_it() {
        assert!(written(None).ends_with("-01\r\n"));
        let mut out = Vec::new();
        write(&mut out, None, &TraceIds::new(7), Tracing::NotSampled);
        assert!(out.ends_with(b"-00\r\n"));
    }

    #[test]
    fn what_is_not_a_parent_starts_a_new_trace() {
        for bad in [
            &b"00-00000000000000000000000000000000-b7ad6b7169203331-01"[..],
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"",
        ] {
            assert!(parse(bad).is_none());
        }
        assert_eq!(written(None).len(), "traceparent: ".len() + 55 + 2);
    }
}

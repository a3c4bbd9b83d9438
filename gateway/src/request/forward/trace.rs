//! W3C Trace Context: one `traceparent` leaves the gateway, whatever came in.
//!
//! A valid parent keeps its trace id and flags and gets this hop's span id; anything else starts a new trace. Ids name
//! work, they guard nothing, so a fast generator seeded once a worker is enough.

use std::cell::Cell;

/// Where span and trace ids come from: SplitMix64, seeded from the system's randomness.
pub struct TraceIds(Cell<u64>);

impl TraceIds {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// A number that is not zero: an all-zero id is invalid (Trace Context section 3.2.2).
    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }
}

/// The parts of an incoming `traceparent` that are kept.
pub(super) struct Parent<'h> {
    trace_id: &'h [u8],
    flags: &'h [u8],
}

/// Reads version 00 of the field (Trace Context section 3.2): `00-<32 hex>-<16 hex>-<2 hex>`, lower case, ids not zero.
pub(super) fn parse(value: &[u8]) -> Option<Parent<'_>> {
    if value.len() != 55 || &value[..3] != b"00-" || value[35] != b'-' || value[52] != b'-' {
        return None;
    }
    let (trace_id, span_id, flags) = (&value[3..35], &value[36..52], &value[53..]);
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &[u8]| part.iter().all(|&b| b == b'0');
    (hex(trace_id) && hex(span_id) && hex(flags) && !zero(trace_id) && !zero(span_id))
        .then_some(Parent { trace_id, flags })
}

/// Writes this hop's `traceparent`.
pub(super) fn write(out: &mut Vec<u8>, parent: Option<Parent<'_>>, ids: &TraceIds) {
    out.extend_from_slice(b"traceparent: 00-");
    match &parent {
        Some(parent) => out.extend_from_slice(parent.trace_id),
        None => {
            hex(out, ids.next());
            hex(out, ids.next());
        }
    }
    out.push(b'-');
    hex(out, ids.next());
    out.push(b'-');
    out.extend_from_slice(parent.map_or(b"00", |parent| parent.flags));
    out.extend_from_slice(b"\r\n");
}

fn hex(out: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|i| DIGITS[(number >> (4 * i)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(incoming: Option<&[u8]>) -> String {
        let mut out = Vec::new();
        write(&mut out, incoming.and_then(parse), &TraceIds::new(7));
        String::from_utf8(out).expect("the field is ASCII")
    }

    #[test]
    fn a_valid_parent_keeps_its_trace_and_flags() {
        let line = written(Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(line.starts_with("traceparent: 00-0af7651916cd43dd8448eb211c80319c-"), "{line}");
        assert!(line.ends_with("-01\r\n"), "{line}");
        assert!(!line.contains("b7ad6b7169203331"), "the span is this hop's own: {line}");
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

//! The targets: what must hold for every input. Each function panics when it does not.
//!
//! None of them knows the right answer for an input. They hold the readers to what must be true of any answer: no panic, no
//! other answer under another split, nothing dangerous in what was accepted, and the same reading again after writing.

pub mod driver;
mod json;

pub use json::json_rpc;
use postern_gateway::head::{Field, Framing, Head, ResponseHead, Spans, Version};
use postern_gateway::http1::framing::{Decoder, Encoder, FramingError, Piece};
use postern_gateway::limits::Limits;

/// What holds a reader to what must be true.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 4] =
    [("head", head), ("response", response), ("body", body), ("json_rpc", json_rpc)];

fn clean(field: &Field<'_>) {
    assert!(!field.name.is_empty() && field.name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':'));
    assert!(!field.value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
}

/// A request's head.
pub fn head(bytes: &[u8]) {
    let (mut spans, limits) = (Spans::new(), Limits::default());
    let whole = Head::read(bytes, &mut spans, &limits).map(|head| head.map(|head| head.length()));
    // No part of it can have been read as something else.
    let mut spans = Spans::new();
    for end in cuts(bytes) {
        match Head::read(&bytes[..end], &mut spans, &limits).map(|head| head.map(|head| head.length())) {
            Ok(None) => {}
            early => assert_eq!(early, whole, "a split at {end} changes the reading"),
        }
    }
    let mut spans = Spans::new();
    let Ok(Some(head)) = Head::read(bytes, &mut spans, &limits) else { return };
    assert!(head.length() <= bytes.len() && bytes[..head.length()].ends_with(b"\r\n\r\n"));
    // HTTP/1.0 knows requests without a host (RFC 9112 section 3.2).
    assert!(!head.method().is_empty() && (!head.host().is_empty() || head.version() == Version::Http10));
    assert!(head.path().starts_with('/') || head.path() == "*");
    head.fields().for_each(|field| clean(&field));

    let mut again = format!("{} {}", head.method(), head.path()).into_bytes();
    if let Some(query) = head.query() {
        again.push(b'?');
        again.extend_from_slice(query.as_bytes());
    }
    again.extend_from_slice(format!(" HTTP/{}\r\n", head.version().as_str()).as_bytes());
    for field in head.fields() {
        again.extend_from_slice(&[field.name, b": ", field.value, b"\r\n"].concat());
    }
    again.extend_from_slice(b"\r\n");
    let mut spans = Spans::new();
    match Head::read(&again, &mut spans, &limits) {
        Ok(Some(read)) => {
            assert_eq!((read.method(), read.path(), read.query()), (head.method(), head.path(), head.query()));
            assert_eq!(read.framing(), head.framing());
            // HTTP/1.0 may name its host in the target alone, which is not written again.
            let has_host = head.fields().any(|field| field.name.eq_ignore_ascii_case(b"host"));
            assert!(read.authority() == head.authority() || !has_host);
            assert!(read.fields().eq(head.fields()));
        }
        // Written out, a field may be a space longer than it was sent, and the head then too long.
        Err(error) => assert!(again.len() > bytes.len(), "{error}"),
        Ok(None) => panic!("what was read is not complete when it is written again"),
    }
}

/// A response's head.
pub fn response(bytes: &[u8]) {
    let limits = Limits::default();
    for method in ["GET", "HEAD"] {
        let mut spans = Spans::new();
        let whole = ResponseHead::read(bytes, method, &mut spans, &limits).map(|head| head.map(|head| head.length()));
        let mut spans = Spans::new();
        for end in cuts(bytes) {
            match ResponseHead::read(&bytes[..end], method, &mut spans, &limits)
                .map(|head| head.map(|head| head.length()))
            {
                Ok(None) => {}
                early => assert_eq!(early, whole, "a split at {end} changes the reading"),
            }
        }
        let mut spans = Spans::new();
        if let Ok(Some(head)) = ResponseHead::read(bytes, method, &mut spans, &limits) {
            assert!((100..=999).contains(&head.status()));
            assert!(!head.reason().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            head.fields().for_each(|field| clean(&field));
        }
    }
}

type Read = Result<(Vec<u8>, usize, bool), FramingError>;

/// A body: the first byte chooses its framing, the rest is the body.
pub fn body(bytes: &[u8]) {
    let Some((kind, input)) = bytes.split_first() else { return };
    let framing = if kind % 4 == 0 { Framing::Length(u64::from(*kind)) } else { Framing::Chunked };
    let Ok(decoder) = Decoder::request(framing, Some(1 << 20)) else { return };
    let whole = decode(decoder.clone(), input, &[input.len()]);
    assert_eq!(decode(decoder.clone(), input, &cuts(input)), whole, "a split changes the body");
    let Ok((body, length, ended)) = whole else { return };
    assert!(length <= input.len());
    if !ended {
        return;
    }
    let (mut wire, mut encoder) = (Vec::new(), Encoder::Chunked);
    encoder.write(&body, &mut wire).expect("chunks have no declared length");
    encoder.finish(std::iter::empty(), &mut wire).expect("chunks can always end");
    let decoder = Decoder::request(Framing::Chunked, None).expect("no limit");
    assert_eq!(decode(decoder, &wire, &[wire.len()]), Ok((body, wire.len(), true)));
}

fn decode(mut decoder: Decoder, input: &[u8], ends: &[usize]) -> Read {
    let (mut spans, limits) = (Spans::new(), Limits::default());
    let (mut body, mut at) = (Vec::new(), 0);
    for end in ends {
        loop {
            let window = &input[at..(*end).max(at)];
            match decoder.next(window, &mut spans, &limits)? {
                Piece::Data { from, to } => {
                    assert!(from < to && to <= window.len());
                    body.extend_from_slice(&window[from..to]);
                    at += to;
                }
                Piece::More { consumed } => {
                    at += consumed;
                    break;
                }
                Piece::End { consumed, .. } => return Ok((body, at + consumed, true)),
            }
        }
    }
    Ok((body, at, false))
}

/// Some places to cut `bytes` at, the end included: after line ends, where readers change their mind, and elsewhere.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    let mut cuts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n' || at % 7 == 3).take(64).collect();
    cuts.push(bytes.len());
    cuts
}

//! An answer from which tools are taken out on its way down ([`ToolFilter`]), as whoever passes it on sees it: with a head
//! and a body like any other.
//!
//! A document is read to its end before its head is shown, so that an answer that cannot be filtered is a failure of the
//! upstream before the client has seen any of it. A stream of events passes event by event.

use std::rc::Rc;
use std::sync::Arc;

use super::call::{Body, Failure};
use crate::budget::{Budget, Share};
use crate::head::response::ResponseRead;
use crate::head::{Known, ResponseFraming, ResponseHead, Spans};
use crate::limits::Limits;
use crate::request::keeping::kept_directives;
use crate::request::tools::{Filtering, ToolFilter};

/// One answer behind a filter.
#[derive(Debug)]
pub(super) struct Filtered {
    filter: Rc<ToolFilter>,
    /// What is held back, of the bytes that all connections may hold.
    share: Share,
    answer: Option<Answer>,
}

/// An answer that is filtered.
#[derive(Debug)]
struct Answer {
    filtering: Filtering,
    /// The head with another framing, and how it was read.
    head: Vec<u8>,
    spans: Spans,
    read: Option<ResponseRead>,
    /// The stretch that may go on.
    data: Vec<u8>,
    /// How the body ended, once it has.
    ended: Option<Body>,
    /// Whether a document's only stretch was handed out.
    was_shown: bool,
}

impl Filtered {
    pub(super) fn new(filter: Rc<ToolFilter>, budget: &Arc<Budget>) -> Self {
        Self { filter, share: Share::of(budget), answer: None }
    }

    /// A final head has come.
    pub(super) fn begin(&mut self, head: &ResponseHead<'_>, limits: &Limits) -> Result<(), Failure> {
        if matches!(head.framing(), ResponseFraming::None | ResponseFraming::Length(0)) {
            return Ok(());
        }
        let Some(filtering) = self.filter.begin(head).map_err(Failure::Unfilterable)? else { return Ok(()) };
        let mut answer = Answer {
            head: Vec::new(),
            spans: Spans::new(),
            read: None,
            data: Vec::new(),
            ended: None,
            was_shown: false,
            filtering,
        };
        write_head(head, &mut answer.head);
        if let Filtering::Events(_) = answer.filtering {
            answer.frame(b"transfer-encoding: chunked", limits)?;
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// Whether more of the body has to come before the head can be shown.
    pub(super) fn withholds_head(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.read.is_none())
    }

    /// Whether the body is filtered; otherwise it passes as it is.
    pub(super) fn is_filtering(&self) -> bool {
        self.answer.is_some()
    }

    /// The head to show.
    pub(super) fn head(&self) -> Option<ResponseHead<'_>> {
        let answer = self.answer.as_ref()?;
        Some(answer.read?.with(&answer.head, &answer.spans))
    }

    /// A stretch of the body has come, or its end.
    pub(super) fn take(&mut self, body: Body, data: &[u8], limits: &Limits) -> Result<(), Failure> {
        let Some(answer) = &mut self.answer else { return Ok(()) };
        answer.data.clear();
        match body {
            Body::Data => self.filter.pass(&mut answer.filtering, data, &mut answer.data),
            Body::End { .. } => {
                let is_document = matches!(answer.filtering, Filtering::Document(_));
                answer.ended = Some(if is_document { Body::End { trailers: false } } else { body });
                self.filter.end(&answer.filtering, &mut answer.data)
            }
        }
        .map_err(Failure::Unfilterable)?;
        if !self.share.grow_to(answer.filtering.withheld()) {
            return Err(Failure::Overload);
        }
        if let (Filtering::Document(document), Some(_)) = (&mut answer.filtering, answer.ended) {
            *document = Vec::new();
            let framing = format!("content-length: {}", answer.data.len());
            answer.frame(framing.as_bytes(), limits)?;
        }
        Ok(())
    }

    /// What there is to hand out without more of the body.
    pub(super) fn next(&mut self) -> Option<Body> {
        let answer = self.answer.as_mut()?;
        match answer.ended {
            Some(ended) if answer.was_shown || answer.data.is_empty() => Some(ended),
            Some(_) => {
                answer.was_shown = true;
                Some(Body::Data)
            }
            None => None,
        }
    }

    /// The stretch that may go on.
    pub(super) fn data(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| &answer.data)
    }
}

impl Answer {
    /// Ends the head with its framing, and reads it as every head is read.
    fn frame(&mut self, framing: &[u8], limits: &Limits) -> Result<(), Failure> {
        self.head.extend_from_slice(framing);
        self.head.extend_from_slice(b"\r\n\r\n");
        self.read = ResponseRead::read(&self.head, false, &mut self.spans, limits).map_err(Failure::Head)?;
        Ok(())
    }
}

/// The head without its framing, and without what describes the bytes that the service sent. What is left in an answer
/// depends on whose it is, so it says that nobody else may be given it.
fn write_head(head: &ResponseHead<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status()).as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.reason());
    out.extend_from_slice(b"\r\n");
    let mut line = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let mut cache_control = b"private".to_vec();
    for field in head.fields() {
        if field.name.eq_ignore_ascii_case(b"cache-control") {
            for directive in kept_directives(field.value) {
                cache_control.extend_from_slice(b", ");
                cache_control.extend_from_slice(directive);
            }
        } else if !matches!(field.known, Known::ContentLength | Known::TransferEncoding | Known::Trailer)
            && !UNTRUE_OF_A_PART.iter().any(|untrue| field.name.eq_ignore_ascii_case(untrue))
        {
            line(field.name, field.value);
        }
    }
    line(b"cache-control", &cache_control);
}

/// What a service says of all of its answer: of the bytes, of the document as others are shown it, and to caches that
/// would give it to others (RFC 9213, and what came before it).
const UNTRUE_OF_A_PART: [&[u8]; 11] = [
    b"etag",
    b"digest",
    b"content-digest",
    b"repr-digest",
    b"content-md5",
    b"accept-ranges",
    b"content-location",
    b"last-modified",
    b"cdn-cache-control",
    b"surrogate-control",
    b"surrogate-key",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fields: &str) -> String {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\n");
        let mut spans = Spans::new();
        let read = ResponseRead::read(head.as_bytes(), false, &mut spans, &Limits::default());
        let mut out = Vec::new();
        write_head(&read.expect("strict").expect("whole").with(head.as_bytes(), &spans), &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_part_of_an_answer_is_for_its_caller_alone() {
        assert_eq!(written("x-a: 1\r\n"), "HTTP/1.1 200 OK\r\nx-a: 1\r\ncache-control: private\r\n");
        let kept = |value: &str| {
            let head = written(&format!("Cache-Control: {value}\r\n"));
            head.split_once("cache-control: ").map(|(_, said)| said.trim_end().to_owned())
        };
        assert_eq!(kept("public, max-age=60, s-maxage=600").as_deref(), Some("private, max-age=60"));
        assert_eq!(kept("no-store").as_deref(), Some("private, no-store"));
        assert_eq!(kept("private=\"x-a, max-age=9\", no-cache=\"a, b\"").as_deref(), Some("private, no-cache"));
        for untrue in UNTRUE_OF_A_PART {
            let name = String::from_utf8_lossy(untrue).into_owned();
            assert!(!written(&format!("{name}: a\r\n")).contains(&name), "{name}");
        }
    }
}

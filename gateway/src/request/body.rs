//! What a body says, for a message that is decided by it.
//!
//! Where a caveat reads `rpc`, `tool` or `arg`, and nothing else stands in the message's way, the connection holds the body
//! back until all of it is there, and the message is decided with it. What is forwarded then are exactly the bytes that
//! were read. Everything that could make the backend read another body than this one is refused: a content coding, another
//! media type or character set, and headers that repeat parts of the body and say something else ([`mirrors`]).

use std::borrow::Cow;
use std::fmt::Display;

use postern_capabilities::json_rpc::{self, Body, mirrors};
use postern_capabilities::token::Capability;

use super::error::Refused;
use crate::head::{Head, Known};

/// Whether a body under this head can be read at all: asked before the first byte of it is waited for.
///
/// # Errors
/// [`Refused::UnreadableBody`]
pub fn check_head(head: &Head<'_>) -> Result<(), Refused> {
    let refused = |what: &'static str| Err(Refused::UnreadableBody(Cow::Borrowed(what)));
    if head.has(Known::ContentEncoding) {
        return refused("it has a content coding; send it without `Content-Encoding`");
    }
    match (head.count(Known::ContentType), head.value(Known::ContentType)) {
        (1, Some(value)) if mirrors::is_json(value) => Ok(()),
        _ => refused("it is not declared as JSON; send it as `Content-Type: application/json`"),
    }
}

/// Reads a body, and compares the headers that repeat a part of it.
///
/// # Errors
/// [`Refused::UnreadableBody`]
pub fn read(head: &Head<'_>, bytes: &[u8], capability: &Capability) -> Result<Body, Refused> {
    check_head(head)?;
    let body = json_rpc::read(bytes, &capability.argument_names()).map_err(|error| unreadable(&error))?;
    let repeating = head.fields().filter(|field| mirrors::is_mirror(field.name));
    let fields: Vec<_> = repeating.map(|field| (field.name, field.value)).collect();
    mirrors::compare(&fields, &body, bytes).map_err(|error| unreadable(&error))?;
    Ok(body)
}

fn unreadable(reason: &dyn Display) -> Refused {
    Refused::UnreadableBody(reason.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    fn with_head<T>(fields: &str, then: impl FnOnce(&Head<'_>) -> T) -> T {
        let bytes = format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("whole");
        then(&head)
    }

    #[test]
    fn only_one_plain_declaration_of_json_is_read() {
        let is_read = |fields: &str| with_head(fields, |head| check_head(head).is_ok());
        assert!(is_read("content-type: application/json; charset=utf-8\r\n"));
        assert!(!is_read("content-type: text/json\r\n"));
        assert!(!is_read(""));
        assert!(!is_read("content-type: application/json\r\ncontent-type: application/json\r\n"));
        for coding in ["gzip", "identity", "aws-chunked", ""] {
            assert!(!is_read(&format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n")), "{coding}");
        }
    }
}

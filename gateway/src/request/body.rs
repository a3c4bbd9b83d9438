//! What a body says, for a message that is decided by it.
//!
//! Where a caveat reads `rpc`, `tool` or `arg`, and nothing else stands in the message's way, the connection holds the body
//! back until all of it is there, and the message is decided with it. What is forwarded then are exactly the bytes that
//! were read. Everything that could make the backend read another body than this one is refused: a content coding, another
//! media type or character set, and headers by which the Model Context Protocol repeats parts of the body
//! (`Mcp-Method`, `Mcp-Name`, `MCP-Protocol-Version`, `Mcp-Param-*`) and which say something else. Which argument an
//! `Mcp-Param-…` repeats only the tool's own description says, so one of them has to have that value.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_capabilities::json_rpc::{self, Body, Call};
use postern_capabilities::token::Capability;
use serde_json::Value;

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
        (1, Some(value)) if is_json(value) => Ok(()),
        _ => refused("it is not declared as JSON; send it as `Content-Type: application/json`"),
    }
}

/// Reads a body, and compares the headers that repeat a part of it.
///
/// # Errors
/// [`Refused::UnreadableBody`]
pub fn read(head: &Head<'_>, bytes: &[u8], capability: &Capability) -> Result<Body, Refused> {
    check_head(head)?;
    let body = json_rpc::read(bytes, &capability.argument_names())
        .map_err(|error| Refused::UnreadableBody(error.to_string().into()))?;
    compare(head, &body)?;
    compare_arguments(head, bytes)?;
    Ok(body)
}

/// `application/json`, in UTF-8: RFC 8259 knows no other character set, but some readers obey the parameter.
fn is_json(value: &[u8]) -> bool {
    let mut parts = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let is_utf_8 = |part: &[u8]| {
        let Some((name, charset)) = part.split_at_checked(8) else { return false };
        let charset = charset.strip_prefix(b"\"").and_then(|inside| inside.strip_suffix(b"\"")).unwrap_or(charset);
        name.eq_ignore_ascii_case(b"charset=") && charset.eq_ignore_ascii_case(b"utf-8")
    };
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json")) && parts.all(is_utf_8)
}

/// A header of the Model Context Protocol that repeats a part of the body.
struct Mirror {
    header: &'static str,
    of: fn(&str, &Call) -> Option<String>,
}

const MIRRORS: [Mirror; 3] = [
    Mirror { header: "Mcp-Method", of: |rpc, _| Some(rpc.to_owned()) },
    Mirror { header: "Mcp-Name", of: |_, call| call.name.clone() },
    Mirror { header: "MCP-Protocol-Version", of: |_, call| call.protocol_version.clone() },
];

fn compare(head: &Head<'_>, body: &Body) -> Result<(), Refused> {
    for Mirror { header, of } in &MIRRORS {
        let mut values = head.fields().filter(|field| field.name.eq_ignore_ascii_case(header.as_bytes()));
        let Some(field) = values.next() else { continue };
        let said = decoded(field.value);
        let agrees = |(rpc, call): (&str, &Call)| {
            let inside = of(rpc, call);
            // Before the revision of 2026 bodies did not name the version, and the header said which had been agreed on.
            let may_be_alone = *header == "MCP-Protocol-Version" && inside.is_none();
            may_be_alone || said.is_some() && said == inside
        };
        let mut calls = body.items.iter().map(|item| &*item.rpc).zip(&body.calls);
        if values.next().is_some() || !calls.all(agrees) {
            return Err(Refused::UnreadableBody(
                format!(
                    "the header `{header}` does not say what the body says; send it as the body has it, or not at all"
                )
                .into(),
            ));
        }
    }
    Ok(())
}

/// Each `Mcp-Param-…` has to be the value of an argument. The body has been read before, so it has one meaning.
fn compare_arguments(head: &Head<'_>, bytes: &[u8]) -> Result<(), Refused> {
    const PREFIX: &[u8] = b"mcp-param-";
    let is_one = |name: &[u8]| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let mut fields = head.fields().filter(|field| is_one(field.name)).peekable();
    if fields.peek().is_none() {
        return Ok(());
    }
    let mut values = HashSet::new();
    if let Ok(body) = serde_json::from_slice::<Value>(bytes) {
        scalars(&body["params"]["arguments"], &mut values);
    }
    match fields.find(|field| decoded(field.value).is_none_or(|said| !values.contains(&said))) {
        None => Ok(()),
        Some(field) => Err(Refused::UnreadableBody(
            format!("no argument in the body has the value of the header `{}`", String::from_utf8_lossy(field.name))
                .into(),
        )),
    }
}

/// The values of all scalars, as headers write them.
fn scalars(value: &Value, into: &mut HashSet<String>) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => _ = into.insert(value.to_string()),
        Value::String(text) => _ = into.insert(text.clone()),
        Value::Array(elements) => elements.iter().for_each(|element| scalars(element, into)),
        Value::Object(members) => members.values().for_each(|member| scalars(member, into)),
    }
}

/// A mirrored value: plain, or `=?base64?…?=` where a header could not hold it. `None`: not readable in one way only.
fn decoded(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(inside) => String::from_utf8(STANDARD.decode(inside).ok()?).ok(),
        None => text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')).then(|| text.to_owned()),
    }
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
    fn only_plain_json_is_read() {
        let is_read = |fields: &str| with_head(fields, |head| check_head(head).is_ok());
        for good in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; Charset=\"UTF-8\"",
        ] {
            assert!(is_read(&format!("content-type: {good}\r\n")), "{good}");
        }
        for bad in [
            "application/jsonp",
            "application/json-rpc",
            "text/json",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; boundary=x",
            "application/json;",
            "",
        ] {
            assert!(!is_read(&format!("content-type: {bad}\r\n")), "{bad}");
        }
        assert!(!is_read(""));
        assert!(!is_read("content-type: application/json\r\ncontent-type: application/json\r\n"));
        for coding in ["gzip", "identity", "aws-chunked", ""] {
            assert!(!is_read(&format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n")), "{coding}");
        }
    }

    #[test]
    fn headers_that_repeat_the_body_must_repeat_it() {
        let agrees = |fields: &str, body: &str| {
            let body = json_rpc::read(body.as_bytes(), &Default::default()).expect("JSON-RPC");
            with_head(fields, |head| compare(head, &body).is_ok())
        };
        let call = |name: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}}}}"#
            )
        };
        let one = call("search");
        assert!(agrees("", &one));
        assert!(agrees("mcp-method: tools/call\r\nmcp-name: search\r\nmcp-protocol-version: 2026-07-28\r\n", &one));
        assert!(agrees("mcp-name: =?base64?c2VhcmNo?=\r\n", &one));
        assert!(agrees("mcp-name: =?base64?w6k=?=\r\n", &call("é")));
        for bad in [
            "mcp-method: tools/list",
            "mcp-method: Tools/call",
            "mcp-method:",
            "mcp-name: delete",
            "mcp-name: =?base64?ZGVsZXRl?=",
            "mcp-name: =?base64?????=",
            "mcp-name: search\r\nmcp-name: search",
            "mcp-name: search\r\nMCP-Name: delete",
            "mcp-protocol-version: 2025-11-25",
        ] {
            assert!(!agrees(&format!("{bad}\r\n"), &one), "{bad}");
        }
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert!(!agrees("mcp-name: search\r\n", ping), "there is no name");
        assert!(agrees("mcp-protocol-version: 2025-11-25\r\n", ping));
        let batch = format!("[{one},{ping}]");
        assert!(!agrees("mcp-method: tools/call\r\n", &batch), "one header cannot speak for two calls");
        assert!(agrees("mcp-method: ping\r\n", &format!("[{ping}]")));
    }

    #[test]
    fn headers_that_repeat_an_argument_must_repeat_one() {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"region":"é","n":[{"x":42}],"b":true}}}"#;
        let agrees = |fields: &str| with_head(fields, |head| compare_arguments(head, body.as_bytes()).is_ok());
        assert!(agrees(""));
        assert!(agrees("mcp-param-region: =?base64?w6k=?=\r\nMcp-Param-N: 42\r\nMCP-PARAM-B: true\r\n"));
        for bad in [
            "mcp-param-region: e",
            "mcp-param-n: 43",
            "mcp-param-n:",
            "mcp-param-n: 42\r\nmcp-param-n: 43",
            "mcp-param-name: t",
        ] {
            assert!(!agrees(&format!("{bad}\r\n")), "{bad}");
        }
    }
}

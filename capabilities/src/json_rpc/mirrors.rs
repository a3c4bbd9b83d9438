//! What the head of a message says of its JSON-RPC body, and whether the body says the same.
//!
//! The Model Context Protocol repeats parts of a body in headers: `Mcp-Method`, `Mcp-Name`, `MCP-Protocol-Version` and
//! `Mcp-Param-*`. A caveat is decided on the body; who reads the headers instead must not be told anything else. Which
//! argument an `Mcp-Param-…` repeats only the tool's own description says, so one of them has to have that value.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Body, Call};

/// What the names of all headers that repeat a part of the body begin with, in lower case.
const PREFIX: &[u8] = b"mcp-";

/// What those that repeat an argument begin with.
const ARGUMENT_PREFIX: &[u8] = b"mcp-param-";

/// A header that does not repeat what it should. Prints in words, without quoting more than its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// It repeats a part of the body that every call has.
    #[error("the header `{0}` does not say what the body says; send it as the body has it, or not at all")]
    Part(&'static str),
    /// It repeats an argument.
    #[error("no argument in the body has the value of the header `{0}`")]
    Argument(String),
}

/// Whether a header of this name may repeat a part of the body, so that [`compare`] has to be given it.
pub fn is_mirror(name: &[u8]) -> bool {
    begins_with(name, PREFIX)
}

/// Compares the headers that repeat a part of the body with what was read from its `bytes`. `fields` are names and values:
/// all that [`is_mirror`], and others where that is easier.
///
/// # Errors
/// The first header that says something else, or that comes twice.
pub fn compare(fields: &[(&[u8], &[u8])], body: &Body, bytes: &[u8]) -> Result<(), Disagreement> {
    compare_parts(fields, body)?;
    compare_arguments(fields, bytes)
}

/// `application/json`, in UTF-8: RFC 8259 knows no other character set, but some readers obey the parameter.
pub fn is_json(value: &[u8]) -> bool {
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

fn compare_parts(fields: &[(&[u8], &[u8])], body: &Body) -> Result<(), Disagreement> {
    for Mirror { header, of } in &MIRRORS {
        let mut values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header.as_bytes()));
        let Some((_, value)) = values.next() else { continue };
        let said = decoded(value);
        let agrees = |(rpc, call): (&str, &Call)| {
            let inside = of(rpc, call);
            // Before the revision of 2026 bodies did not name the version, and the header said which had been agreed on.
            let may_be_alone = *header == "MCP-Protocol-Version" && inside.is_none();
            may_be_alone || said.is_some() && said == inside
        };
        let mut calls = body.items.iter().map(|item| &*item.rpc).zip(&body.calls);
        if values.next().is_some() || !calls.all(agrees) {
            return Err(Disagreement::Part(header));
        }
    }
    Ok(())
}

/// Each `Mcp-Param-…` has to be the value of an argument. The body has been read before, so it has one meaning.
fn compare_arguments(fields: &[(&[u8], &[u8])], bytes: &[u8]) -> Result<(), Disagreement> {
    let fields = fields.iter().filter(|(name, _)| begins_with(name, ARGUMENT_PREFIX));
    let said: Vec<(&[u8], Option<String>)> = fields.map(|(name, value)| (*name, decoded(value))).collect();
    if said.is_empty() {
        return Ok(());
    }
    // What is left has not been found: there are few headers, and may be very many arguments.
    let mut missing: HashSet<&str> = said.iter().filter_map(|(_, value)| value.as_deref()).collect();
    if let Ok(body) = serde_json::from_slice::<Value>(bytes) {
        find_scalars(&body["params"]["arguments"], &mut missing);
    }
    match said.iter().find(|(_, value)| value.as_deref().is_none_or(|value| missing.contains(value))) {
        None => Ok(()),
        Some((name, _)) => Err(Disagreement::Argument(String::from_utf8_lossy(name).into_owned())),
    }
}

fn begins_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Takes out the values of all scalars, as headers write them.
fn find_scalars(value: &Value, missing: &mut HashSet<&str>) {
    if missing.is_empty() {
        return;
    }
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => _ = missing.remove(&*value.to_string()),
        Value::String(text) => _ = missing.remove(&**text),
        Value::Array(elements) => elements.iter().for_each(|element| find_scalars(element, missing)),
        Value::Object(members) => members.values().for_each(|member| find_scalars(member, missing)),
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
    use crate::json_rpc;

    /// `name: value` line by line, as pairs.
    fn fields(lines: &str) -> Vec<(&[u8], &[u8])> {
        let pairs = lines.lines().filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.as_bytes(), value.trim().as_bytes())).collect()
    }

    #[test]
    fn only_plain_json_is_read() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; Charset=\"UTF-8\"",
        ] {
            assert!(is_json(good.as_bytes()), "{good}");
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
            assert!(!is_json(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn headers_that_repeat_the_body_must_repeat_it() {
        let agrees = |lines: &str, text: &str| {
            let body = json_rpc::read(text.as_bytes(), &Default::default()).expect("JSON-RPC");
            compare(&fields(lines), &body, text.as_bytes()).is_ok()
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
        let agrees = |lines: &str| compare_arguments(&fields(lines), body.as_bytes()).is_ok();
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

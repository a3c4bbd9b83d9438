//! Which tools of a Model Context Protocol server a caller gets to see, at a resource that says `filter_tools = true`.
//!
//! A capability decides when a tool is called. A list of tools shows all the same what the server has, and an agent plans
//! with what it sees; so the tools that no arguments could make pass ([`Capability::may_call`]) are taken out of the
//! answers to `tools/list`. Only lists that the caller asked for are touched, and of them only the list itself: everything
//! else of an answer, the cursor for more among it, stays as the server wrote it.
//!
//! An answer is one JSON document, which is held back until it is whole, or a stream of events, which are held back one
//! by one. The stream that older clients open with GET can bring answers to questions asked elsewhere, so there every
//! list of tools counts.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_capabilities::json_rpc::{Body, Id};
use postern_capabilities::message::{Message, Scheme};
use postern_capabilities::token::Capability;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::events::Events;
use crate::head::{Known, ResponseHead};

/// The method that asks for a list of tools.
const TOOLS_LIST: &str = "tools/list";

/// Why an answer that should be filtered cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfilterable {
    /// It has a content coding, although the request named none.
    #[error("has a content coding that was not asked for")]
    Coded,
    /// It is longer than what is held back.
    #[error("is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// It is no JSON that can be read in one way only.
    #[error("is not readable JSON-RPC")]
    Unreadable,
}

/// What is taken out of the answer to one message.
#[derive(Debug)]
pub struct ToolFilter {
    caller: Caller,
    lists: Lists,
    bytes_max: usize,
}

/// An answer on its way through a filter.
#[derive(Debug)]
pub enum Filtering {
    /// One document, of which this has come: it is withheld until it is whole.
    Document(Vec<u8>),
    /// A stream of events, each withheld until it is whole.
    Events(Events),
}

/// Which lists of tools are filtered.
#[derive(Debug)]
enum Lists {
    /// Those that answer to these calls.
    Of(Vec<Id>),
    /// Every one.
    All,
}

/// Who asks, and how: what a call of a tool would be decided by, besides its tool and arguments.
struct Caller {
    capability: Arc<Capability>,
    resource: String,
    path: String,
    query_string: String,
    host: String,
    scheme: Scheme,
    client: IpAddr,
    client_cert: Option<String>,
}

/// A capability has no `Debug`, so that nothing of a token gets into a log.
impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

impl Filtering {
    /// How many bytes are withheld now.
    pub fn withheld(&self) -> usize {
        match self {
            Self::Document(document) => document.len(),
            Self::Events(events) => events.rest().len(),
        }
    }
}

impl ToolFilter {
    /// The filter for the answer to this message, if it can hold a list of tools from which something may have to be taken.
    pub fn of(
        capability: &Arc<Capability>,
        message: &Message<'_>,
        body: Option<&Body>,
        bytes_max: usize,
    ) -> Option<Self> {
        if !capability.needs().body {
            return None;
        }
        let lists = match body {
            Some(body) => {
                let calls = body.items.iter().zip(&body.calls);
                let asked = calls.filter(|(item, _)| item.rpc == TOOLS_LIST).filter_map(|(_, call)| call.id.clone());
                Lists::Of(Some(asked.collect::<Vec<_>>()).filter(|asked| !asked.is_empty())?)
            }
            None if message.operation == "GET" => Lists::All,
            // Whatever it asks, it may: its body decides nothing.
            None => return None,
        };
        let caller = Caller {
            capability: Arc::clone(capability),
            resource: message.resource.to_owned(),
            path: message.path.to_owned(),
            query_string: message.query_string.to_owned(),
            host: message.host.to_owned(),
            scheme: message.scheme,
            client: message.client,
            client_cert: message.client_cert.map(str::to_owned),
        };
        Some(Self { caller, lists, bytes_max })
    }

    /// Looks at the head of the answer. `None`: nothing in its body is a list of tools.
    ///
    /// # Errors
    /// [`Unfilterable::Coded`]
    pub fn begin(&self, head: &ResponseHead<'_>) -> Result<Option<Filtering>, Unfilterable> {
        let kind = head.value(Known::ContentType).unwrap_or_default();
        let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        let filtering = if kind.eq_ignore_ascii_case(b"text/event-stream") {
            Filtering::Events(Events::new(self.bytes_max))
        } else if kind.eq_ignore_ascii_case(b"application/json") && matches!(self.lists, Lists::Of(_)) {
            Filtering::Document(Vec::new())
        } else {
            return Ok(None);
        };
        if head.has(Known::ContentEncoding) { Err(Unfilterable::Coded) } else { Ok(Some(filtering)) }
    }

    /// Takes a stretch of the answer, and appends to `out` what may go on.
    ///
    /// # Errors
    /// When a list of tools cannot be told from the rest.
    pub fn pass(&self, filtering: &mut Filtering, data: &[u8], out: &mut Vec<u8>) -> Result<(), Unfilterable> {
        match filtering {
            Filtering::Document(document) if document.len() + data.len() > self.bytes_max => {
                Err(Unfilterable::TooLong { max: self.bytes_max })
            }
            Filtering::Document(document) => {
                document.extend_from_slice(data);
                Ok(())
            }
            Filtering::Events(events) => {
                events.pass(data, out, |data| match data.trim_start().as_bytes().first() {
                    Some(b'{' | b'[') => filtered(data, &self.lists, &self.caller),
                    // Not every event is a message.
                    _ => Ok(None),
                })
            }
        }
    }

    /// The answer is complete: appends what was withheld.
    ///
    /// # Errors
    /// When a list of tools cannot be told from the rest.
    pub fn end(&self, filtering: &Filtering, out: &mut Vec<u8>) -> Result<(), Unfilterable> {
        match filtering {
            Filtering::Document(document) => {
                let text = std::str::from_utf8(document).map_err(|_| Unfilterable::Unreadable)?;
                let filtered = filtered(text, &self.lists, &self.caller)?;
                out.extend_from_slice(filtered.map_or(Cow::Borrowed(text), Cow::Owned).as_bytes());
            }
            // What is left is no event: nobody will act on half of one.
            Filtering::Events(events) => out.extend_from_slice(events.rest()),
        }
        Ok(())
    }
}

impl Caller {
    fn may_call(&self, tool: &str) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let message = Message {
            query_string: &self.query_string,
            host: &self.host,
            scheme: self.scheme,
            client_cert: self.client_cert.as_deref(),
            // Calls are posted, whatever this message is.
            ..Message::new(&self.resource, "POST", &self.path, now, self.client)
        };
        self.capability.may_call(&message, tool)
    }
}

/// A message of the server, as far as it matters here. A name that occurs twice is an error.
#[derive(Deserialize)]
struct Answer<'t> {
    #[serde(borrow, default)]
    id: Option<&'t RawValue>,
    #[serde(borrow, default)]
    result: Option<&'t RawValue>,
}

#[derive(Deserialize)]
struct ToolList<'t> {
    #[serde(borrow, default)]
    tools: Option<&'t RawValue>,
}

#[derive(Deserialize)]
struct Tool<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
}

/// The text with fewer tools; `None`: there is nothing to take out.
fn filtered(text: &str, lists: &Lists, caller: &Caller) -> Result<Option<String>, Unfilterable> {
    let answers: Vec<Answer<'_>> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|_| Unfilterable::Unreadable)?
    } else {
        vec![serde_json::from_str(text).map_err(|_| Unfilterable::Unreadable)?]
    };
    let mut replaced = String::new();
    let mut kept_to = 0;
    for answer in answers.iter().filter(|answer| lists.concerns(answer)) {
        let Some(result) = answer.result.map(RawValue::get).filter(|result| result.starts_with('{')) else { continue };
        let list: ToolList<'_> = serde_json::from_str(result).map_err(|_| Unfilterable::Unreadable)?;
        let Some(tools) = list.tools.map(RawValue::get).filter(|tools| tools.starts_with('[')) else { continue };
        let all: Vec<&RawValue> = serde_json::from_str(tools).map_err(|_| Unfilterable::Unreadable)?;
        // One without a name that can be read cannot be called either.
        let may_call = |tool: &str| serde_json::from_str::<Tool<'_>>(tool).is_ok_and(|it| caller.may_call(&it.name));
        let seen: Vec<&str> = all.iter().map(|tool| tool.get()).filter(|tool| may_call(tool)).collect();
        if seen.len() == all.len() {
            continue;
        }
        let at = place(text, tools);
        replaced.push_str(&text[kept_to..at.start]);
        replaced.push('[');
        replaced.push_str(&seen.join(","));
        replaced.push(']');
        kept_to = at.end;
    }
    if kept_to == 0 {
        return Ok(None);
    }
    replaced.push_str(&text[kept_to..]);
    Ok(Some(replaced))
}

/// Where in a text a part of it stands.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

impl Lists {
    fn concerns(&self, answer: &Answer<'_>) -> bool {
        let Self::Of(asked) = self else { return true };
        let id = answer.id.and_then(|id| match serde_json::from_str(id.get()) {
            Ok(serde_json::Value::String(text)) => Some(Id::Text(text)),
            Ok(serde_json::Value::Number(number)) => number.as_i64().map(Id::Integer),
            Ok(serde_json::Value::Null) => Some(Id::Null),
            _ => None,
        });
        id.is_some_and(|id| asked.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use postern_capabilities::caveat::Caveat;
    use postern_capabilities::json_rpc;
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::mint;
    use postern_capabilities::resource::{Operation, Right};
    use postern_capabilities::revocation::Standing;
    use postern_capabilities::token::Unverified;

    use super::*;
    use crate::head::Spans;
    use crate::head::response::ResponseRead;
    use crate::limits::Limits;

    fn capability(flags: &[(&str, &str)]) -> Arc<Capability> {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right = Right { resource: "tools".parse().expect("a name"), operation: Operation::any() };
        let caveats: Vec<Caveat> =
            flags.iter().flat_map(|(flag, value)| Caveat::of_flag(flag, &[*value], 0).expect("a caveat")).collect();
        let token = mint(&key, KeyId(1), &[right], &caveats).expect("minted");
        Arc::new(Unverified::parse(token.expose()).expect("a token").verify(&standing, 10_000).expect("verified"))
    }

    fn filter(flags: &[(&str, &str)], operation: &str, body: Option<&str>) -> Option<ToolFilter> {
        let body = body.map(|body| json_rpc::read(body.as_bytes(), &Default::default()).expect("JSON-RPC"));
        let message = Message::new("tools", operation, "/mcp", 0, IpAddr::from([127, 0, 0, 1]));
        ToolFilter::of(&capability(flags), &message, body.as_ref(), 1000)
    }

    /// What a client gets of an answer that comes in stretches of a few bytes.
    fn answered(filter: ToolFilter, fields: &str, body: &str) -> Result<String, Unfilterable> {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        let mut spans = Spans::new();
        let read = ResponseRead::read(head.as_bytes(), false, &mut spans, &Limits::default());
        let head = read.expect("strict").expect("whole").with(head.as_bytes(), &spans);
        let Some(mut filtering) = filter.begin(&head)? else { return Ok(body.to_owned()) };
        let mut out = Vec::new();
        for stretch in body.as_bytes().chunks(7) {
            filter.pass(&mut filtering, stretch, &mut out)?;
            assert!(matches!(filtering, Filtering::Events(_)) || out.is_empty());
        }
        filter.end(&filtering, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"nextCursor":"c","tools":[ {"name":"search","x":1.0} , {"name":"del\u0065te"},{}],"ttlMs":1e3}}"#;
    const FILTERED: &str =
        r#"{"jsonrpc":"2.0","id":7,"result":{"nextCursor":"c","tools":[{"name":"search","x":1.0}],"ttlMs":1e3}}"#;
    const SEARCH: &[(&str, &str)] = &[("tool", "search"), ("arg", "index=public")];

    #[test]
    fn tools_that_cannot_be_called_are_taken_out_and_nothing_else() {
        let json = "content-type: application/json; charset=utf-8";
        let seen = |answer: &str| answered(filter(SEARCH, "POST", Some(LIST)).expect("a filter"), json, answer);
        assert_eq!(seen(ANSWER).as_deref(), Ok(FILTERED));
        assert_eq!(seen(&format!("[{ANSWER},1]")), Err(Unfilterable::Unreadable));
        assert_eq!(seen(&format!(" [ {ANSWER} , {ANSWER}]\n")), Ok(format!(" [ {FILTERED} , {FILTERED}]\n")));
        let other = ANSWER.replace("\"id\":7", "\"id\":\"7\"");
        assert_eq!(seen(&other).as_ref(), Ok(&other), "the answer to another question");
        for untouched in [FILTERED, r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, r#"{"id":7,"result":[]}"#] {
            assert_eq!(seen(untouched).as_deref(), Ok(untouched));
        }
        for bad in
            ["", "{", r#"{"id":7,"result":{"tools":[]},"result":{}}"#, r#"{"id":7,"result":{"tools":[],"tools":[]}}"#]
        {
            assert_eq!(seen(bad), Err(Unfilterable::Unreadable), "{bad}");
        }
        assert_eq!(seen(&" ".repeat(1001)), Err(Unfilterable::TooLong { max: 1000 }));
        let coded = answered(
            filter(SEARCH, "POST", Some(LIST)).expect("a filter"),
            &format!("{json}\r\ncontent-encoding: gzip"),
            "",
        );
        assert_eq!(coded, Err(Unfilterable::Coded));
        let page = "<html>{\"id\":7}";
        assert_eq!(
            answered(filter(SEARCH, "POST", Some(LIST)).expect("a filter"), "content-type: text/html", page).as_deref(),
            Ok(page)
        );
    }

    #[test]
    fn events_are_filtered_one_by_one() {
        let stream = "content-type: text/event-stream";
        let seen = |events: &str| answered(filter(SEARCH, "POST", Some(LIST)).expect("a filter"), stream, events);
        let before =
            ": hello\n\nevent: message\nid: 1\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n";
        assert_eq!(
            seen(&format!("{before}event: message\r\nid: 2\r\ndata: {ANSWER}\r\n\r\ndata: x\n\n")),
            Ok(format!("{before}event: message\nid: 2\ndata: {FILTERED}\n\ndata: x\n\n"))
        );
        let lines = ANSWER.replace(",\"ttlMs\"", ",\ndata:\"ttlMs\"");
        assert_eq!(
            seen(&format!("data:{lines}\n\n")),
            Ok(format!("data: {}\n\n", FILTERED.replace(",\"ttlMs\"", ",\ndata: \"ttlMs\"")))
        );
        assert_eq!(seen(&format!("data: {}", "x".repeat(1000))), Err(Unfilterable::TooLong { max: 1000 }));
        assert_eq!(seen("data: {\"id\":7,\"id\":7}\n\n"), Err(Unfilterable::Unreadable));
        let all = filter(SEARCH, "GET", None).expect("a filter");
        let other = ANSWER.replace("\"id\":7", "\"id\":99");
        assert_eq!(
            answered(all, stream, &format!("data: {other}\n\n")),
            Ok(format!("data: {}\n\n", FILTERED.replace("\"id\":7", "\"id\":99")))
        );
    }

    #[test]
    fn what_is_not_asked_for_is_not_filtered() {
        assert!(filter(SEARCH, "POST", Some(r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#)).is_none());
        assert!(filter(SEARCH, "POST", Some(r#"{"jsonrpc":"2.0","method":"tools/list"}"#)).is_none(), "no answer");
        assert!(filter(SEARCH, "POST", None).is_none());
        assert!(filter(&[("path", "/mcp")], "GET", None).is_none());
        let json = answered(filter(SEARCH, "GET", None).expect("a filter"), "content-type: application/json", ANSWER);
        assert_eq!(json.as_deref(), Ok(ANSWER), "a document that was got is no answer to a call");
    }
}

//! Which tools of a Model Context Protocol server a caller gets to see, at a resource that says `filter_tools = true`.
//!
//! A capability decides when a tool is called. A list of tools shows all the same what the server has, and an agent plans
//! with what it sees; so the tools that no arguments could make pass ([`Capability::may_call`]) are taken out of the
//! answers to `tools/list`. Of an answer only the list itself is touched, and who may keep it: everything else, the cursor
//! for more among it, stays as the server wrote it.
//!
//! What counts is what was asked. Clients differ in whether an answer with the id `1`, `1.0` or `null` is theirs when they asked
//! with `"1"`, and in which media types they read as JSON; so of the answers to a message that asks for a list every list of
//! tools is filtered, whatever its id and its type say.
//!
//! An answer is one JSON document, which is held back until it is whole, or a stream of events, which are held back one
//! by one. The stream that older clients open with GET can bring answers to questions asked elsewhere, so there every
//! list of tools counts, too.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_capabilities::json_rpc::Body;
use postern_capabilities::message::{Message, Scheme};
use postern_capabilities::token::Capability;
use serde::{Deserialize, Deserializer};
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
    asked: Asked,
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

/// What the message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A list of tools, by a call: whatever answers may be one.
    List,
    /// The stream of what the server has to say.
    Stream,
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
        let asked = match body {
            // One without an id has no answer, unless the server gives it one all the same.
            Some(body) if body.items.iter().any(|item| item.rpc == TOOLS_LIST) => Asked::List,
            Some(_) => return None,
            None if message.operation == "GET" => Asked::Stream,
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
        Some(Self { caller, asked, bytes_max })
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
        } else if self.asked == Asked::List {
            Filtering::Document(Vec::new())
        } else {
            // A document that was got is no answer to a call.
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
            Filtering::Events(events) => events
                .pass(data, out, |data| if may_be_message(data) { filtered(data, &self.caller) } else { Ok(None) }),
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
                // In another encoding it could be a list to whoever guesses that.
                if text.contains('\0') {
                    return Err(Unfilterable::Unreadable);
                }
                let filtered = if may_be_message(text) { filtered(text, &self.caller)? } else { None };
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

/// Whether a text is to be read as a message: a page, or a plain sentence, is none.
fn may_be_message(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '['])
}

/// A message of the server, as far as it matters here. A name that occurs twice is an error.
#[derive(Deserialize)]
struct Answer<'t> {
    #[serde(borrow, default)]
    result: Option<&'t RawValue>,
}

#[derive(Deserialize)]
struct ToolList<'t> {
    #[serde(borrow, default)]
    tools: Option<&'t RawValue>,
    /// Who may keep the list (Model Context Protocol, 2026-07-28: `CacheableResult`).
    #[serde(borrow, default, rename = "cacheScope", deserialize_with = "present")]
    cache_scope: Option<&'t RawValue>,
    /// For how long.
    #[serde(borrow, default, rename = "ttlMs")]
    ttl_ms: Option<&'t RawValue>,
}

/// A member that is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct Tool<'t> {
    #[serde(borrow)]
    name: Cow<'t, str>,
}

/// The text with fewer tools, and with the word that nobody else may be shown them; `None`: it stays as it is.
fn filtered(text: &str, caller: &Caller) -> Result<Option<String>, Unfilterable> {
    let answers: Vec<Answer<'_>> = if text.trim_start().starts_with('[') {
        serde_json::from_str(text).map_err(|_| Unfilterable::Unreadable)?
    } else {
        vec![serde_json::from_str(text).map_err(|_| Unfilterable::Unreadable)?]
    };
    let mut edits = Edits::of(text);
    for answer in &answers {
        let Some(result) = answer.result.map(RawValue::get).filter(|result| result.starts_with('{')) else { continue };
        let list: ToolList<'_> = serde_json::from_str(result).map_err(|_| Unfilterable::Unreadable)?;
        let Some(tools) = list.tools.map(RawValue::get).filter(|tools| tools.starts_with('[')) else { continue };
        let all: Vec<&RawValue> = serde_json::from_str(tools).map_err(|_| Unfilterable::Unreadable)?;
        // One without a name that can be read cannot be called either.
        let may_call = |tool: &str| serde_json::from_str::<Tool<'_>>(tool).is_ok_and(|it| caller.may_call(&it.name));
        let seen: Vec<&str> = all.iter().map(|tool| tool.get()).filter(|tool| may_call(tool)).collect();
        // Another caller would be shown another list, also where nothing is taken out of this one.
        match (list.cache_scope.map(RawValue::get), list.ttl_ms) {
            (Some(PRIVATE), _) | (None, None) => {}
            (Some(scope), _) => edits.replace(scope, PRIVATE.to_owned()),
            (None, Some(_)) => edits.replace(&result[..1], format!("{{\"cacheScope\":{PRIVATE},")),
        }
        if seen.len() < all.len() {
            edits.replace(tools, format!("[{}]", seen.join(",")));
        }
    }
    Ok(edits.done())
}

/// The scope of what is kept for one caller alone, as JSON.
const PRIVATE: &str = "\"private\"";

/// A text of which parts are replaced.
struct Edits<'t> {
    text: &'t str,
    edits: Vec<(Range<usize>, String)>,
}

impl<'t> Edits<'t> {
    fn of(text: &'t str) -> Self {
        Self { text, edits: Vec::new() }
    }

    /// `part` is a slice of the text, and overlaps no other one.
    fn replace(&mut self, part: &'t str, by: String) {
        let start = part.as_ptr().addr() - self.text.as_ptr().addr();
        self.edits.push((start..start + part.len(), by));
    }

    fn done(mut self) -> Option<String> {
        if self.edits.is_empty() {
            return None;
        }
        self.edits.sort_by_key(|(at, _)| at.start);
        let mut replaced = String::with_capacity(self.text.len());
        let mut kept_to = 0;
        for (at, by) in &self.edits {
            replaced.push_str(&self.text[kept_to..at.start]);
            replaced.push_str(by);
            kept_to = at.end;
        }
        replaced.push_str(&self.text[kept_to..]);
        Some(replaced)
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
    const FILTERED: &str = r#"{"jsonrpc":"2.0","id":7,"result":{"cacheScope":"private","nextCursor":"c","tools":[{"name":"search","x":1.0}],"ttlMs":1e3}}"#;
    const SEARCH: &[(&str, &str)] = &[("tool", "search"), ("arg", "index=public")];
    const JSON: &str = "content-type: application/json; charset=utf-8";

    fn listed(fields: &str, answer: &str) -> Result<String, Unfilterable> {
        answered(filter(SEARCH, "POST", Some(LIST)).expect("a filter"), fields, answer)
    }

    #[test]
    fn tools_that_cannot_be_called_are_taken_out_and_nothing_else() {
        let seen = |answer: &str| listed(JSON, answer);
        assert_eq!(seen(ANSWER).as_deref(), Ok(FILTERED));
        assert_eq!(seen(&format!("[{ANSWER},1]")), Err(Unfilterable::Unreadable));
        assert_eq!(seen(&format!(" [ {ANSWER} , {ANSWER}]\n")), Ok(format!(" [ {FILTERED} , {FILTERED}]\n")));
        for untouched in [FILTERED, r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, r#"{"id":7,"result":[]}"#] {
            assert_eq!(seen(untouched).as_deref(), Ok(untouched));
        }
        for bad in [
            "{",
            r#"{"id":7,"result":{"tools":[]},"result":{}}"#,
            r#"{"id":7,"result":{"tools":[],"tools":[]}}"#,
            "{\0",
            "\u{feff}{",
        ] {
            assert_eq!(seen(bad), Err(Unfilterable::Unreadable), "{bad}");
        }
        assert_eq!(seen(&" ".repeat(1001)), Err(Unfilterable::TooLong { max: 1000 }));
        assert_eq!(listed(&format!("{JSON}\r\ncontent-encoding: gzip"), "x"), Err(Unfilterable::Coded));
    }

    /// Servers answered with an id of another type, or none, and the list came through whole: clients took it for theirs.
    #[test]
    fn a_list_is_filtered_whatever_its_id_says() {
        for id in ["\"7\"", "7.0", "7e0", "null", "true", "[7]", "{}", "99"] {
            let with_id = |text: &str| text.replace("\"id\":7", &format!("\"id\":{id}"));
            assert_eq!(listed(JSON, &with_id(ANSWER)), Ok(with_id(FILTERED)), "{id}");
            assert_eq!(
                listed("content-type: text/event-stream", &format!("data: {}\n\n", with_id(ANSWER))),
                Ok(format!("data: {}\n\n", with_id(FILTERED))),
                "{id}"
            );
        }
        let without = |text: &str| text.replace("\"id\":7,", "");
        assert_eq!(listed(JSON, &without(ANSWER)), Ok(without(FILTERED)));
        let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":"7","method":"tools/list"}]"#;
        let answer = format!(r#"[{{"jsonrpc":"2.0","id":1,"result":{{}}}},{ANSWER}]"#);
        let seen = answered(filter(SEARCH, "POST", Some(batch)).expect("a filter"), JSON, &answer);
        assert_eq!(seen, Ok(answer.replace(ANSWER, FILTERED)));
        let notified = r#"{"jsonrpc":"2.0","method":"tools/list"}"#;
        let seen = answered(filter(SEARCH, "POST", Some(notified)).expect("a filter"), JSON, ANSWER);
        assert_eq!(seen.as_deref(), Ok(FILTERED), "an answer to what wants none");
    }

    #[test]
    fn a_list_is_filtered_whatever_its_type_says() {
        for kind in [
            "application/json",
            "application/json-rpc",
            "application/vnd.api+json",
            "text/json",
            "text/plain; charset=utf-8",
            "text/html",
            "json",
        ] {
            assert_eq!(listed(&format!("content-type: {kind}"), ANSWER).as_deref(), Ok(FILTERED), "{kind}");
        }
        assert_eq!(listed("x-none: 1", ANSWER).as_deref(), Ok(FILTERED), "no type at all");
        for page in ["", "<html>{\"id\":7}", "Service Unavailable\n"] {
            assert_eq!(listed("content-type: text/html", page).as_deref(), Ok(page));
        }
        let utf_16: String = ANSWER.chars().flat_map(|it| [it, '\0']).collect();
        assert_eq!(listed("content-type: application/json; charset=utf-16", &utf_16), Err(Unfilterable::Unreadable));
    }

    #[test]
    fn a_list_may_not_be_kept_for_others() {
        let all = |scope: &str| format!(r#"{{"id":7,"result":{{"tools":[{{"name":"search"}}]{scope}}}}}"#);
        let seen = |scope| listed(JSON, &all(scope));
        let private = all(r#","ttlMs":5,"cacheScope":"private""#);
        assert_eq!(seen(r#","ttlMs":5,"cacheScope":"private""#), Ok(private.clone()));
        assert_eq!(seen(r#","ttlMs":5,"cacheScope":"public""#), Ok(private));
        assert_eq!(seen(r#","cacheScope":null"#), Ok(all(r#","cacheScope":"private""#)));
        assert_eq!(seen(""), Ok(all("")), "nobody keeps it");
        let twice = seen(r#","cacheScope":"private","cacheScope":"public""#);
        assert_eq!(twice, Err(Unfilterable::Unreadable));
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
        assert_eq!(seen("data: {\"result\":{},\"result\":{}}\n\n"), Err(Unfilterable::Unreadable));
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
        assert!(filter(SEARCH, "POST", None).is_none());
        assert!(filter(&[("path", "/mcp")], "GET", None).is_none());
        let json = answered(filter(SEARCH, "GET", None).expect("a filter"), "content-type: application/json", ANSWER);
        assert_eq!(json.as_deref(), Ok(ANSWER), "a document that was got is no answer to a call");
    }
}

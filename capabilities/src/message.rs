//! A message as the gateway understands it: one operation on one resource, and the facts that caveats may read.
//!
//! Every text is borrowed from the message itself, so what is checked is what is forwarded. Facts that cost something to
//! find out (the parts of the query string, what a body says) are supplied only where a token's caveats read
//! them; [`Needs`] says which those are.
//!
//! The maxima below are part of the contract between whoever reads messages and the price of a token: the price
//! is the worst case over all messages within them, and a message beyond them is not decided but refused.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

/// Most bytes of one text fact of a message: the path, the query string, a host, a value in a body.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Most `query(name, value)` facts of one message.
pub const QUERY_FACTS_MAX: usize = 64;

/// Most bytes of one part of the query string (`name=value`), as sent.
pub const QUERY_FACT_BYTES_MAX: usize = 1024;

/// Most `arg(name, value)` facts of one item of a body.
pub const ARGUMENTS_MAX: usize = 64;

/// Most bytes of an argument's name: of the member's own, or of the JSON Pointer to it.
pub const ARGUMENT_NAME_BYTES_MAX: usize = 512;

/// Most items of one body (a JSON-RPC batch). Each is an evaluation of its own.
pub const ITEMS_MAX: usize = 64;

/// The method with which JSON-RPC and gRPC make their calls.
pub(crate) const POST: &str = "POST";

/// Which scheme a message came in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One request, as it will be checked and, if it is permitted, forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'m> {
    /// The resource's name.
    pub resource: &'m str,
    /// The method, in upper case.
    pub operation: &'m str,
    /// The canonical path below the resource; an empty remainder is `/`.
    pub path: &'m str,
    /// The raw query string, empty if there is none.
    pub query_string: &'m str,
    /// Now: whole seconds since the epoch, UTC.
    pub time: u64,
    /// The host that was asked for, lower case, without port.
    pub host: &'m str,
    /// The scheme it came in with.
    pub scheme: Scheme,
    /// The peer, or what a trusted proxy said.
    pub client: IpAddr,
    /// Hex SHA-256 of the client's certificate.
    pub client_cert: Option<&'m str>,
    /// The protocol that the request would switch to. `None` is the fact `upgrade("")`, so that a caveat can ask for it.
    pub upgrade: Option<&'m str>,
    /// The declared length of the body.
    pub body_size: Option<u64>,
    /// Service and method of a gRPC request.
    pub grpc: Option<(&'m str, &'m str)>,
    /// The items of a JSON-RPC body. Empty when the body was not read. Only [those of a POST](Message::calls) are facts.
    pub items: &'m [BodyItem],
    /// The name of the backend that verifies. The gateway never sets it, so it refuses tokens narrowed to a backend.
    pub backend: Option<&'m str>,
}

impl<'m> Message<'m> {
    /// A plain message over `http`; every further fact is a public field.
    pub fn new(resource: &'m str, operation: &'m str, path: &'m str, time: u64, client: IpAddr) -> Self {
        Self {
            resource,
            operation,
            path,
            query_string: "",
            time,
            host: "",
            scheme: Scheme::Http,
            client,
            client_cert: None,
            upgrade: None,
            body_size: None,
            grpc: None,
            items: &[],
            backend: None,
        }
    }

    /// Whether a body of it can make calls. JSON-RPC over HTTP is POST, and so is the Model Context Protocol: with any other
    /// method a server does something else and never looks at the body, so that what a body says there is not what is done.
    pub fn can_call(&self) -> bool {
        self.operation == POST
    }

    /// The calls that caveats are decided on: the items of a body, where a body [can make any](Message::can_call).
    pub fn calls(&self) -> &'m [BodyItem] {
        if self.can_call() { self.items } else { &[] }
    }

    /// What of this message is beyond the maxima that prices are computed from, if anything is.
    pub(crate) fn excess(&self) -> Option<&'static str> {
        let (service, method) = self.grpc.unwrap_or_default();
        let texts = [
            (self.resource, "resource"),
            (self.operation, "operation"),
            (self.path, "path"),
            (self.query_string, "query string"),
            (self.host, "host"),
            (self.client_cert.unwrap_or_default(), "client certificate"),
            (self.upgrade.unwrap_or_default(), "upgrade"),
            (service, "gRPC service"),
            (method, "gRPC method"),
            (self.backend.unwrap_or_default(), "backend"),
        ];
        let long = texts.into_iter().find(|(text, _)| text.len() > TEXT_BYTES_MAX).map(|(_, name)| name);
        long.or_else(|| (self.items.len() > ITEMS_MAX).then_some("batch"))
            .or_else(|| self.items.iter().find_map(BodyItem::excess))
    }
}

/// A message that is kept, to be decided again at a later time: it owns what a [`Message`] borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMessage {
    resource: Box<str>,
    operation: Box<str>,
    path: Box<str>,
    query_string: Box<str>,
    host: Box<str>,
    scheme: Scheme,
    client: IpAddr,
    client_cert: Option<Box<str>>,
    upgrade: Option<Box<str>>,
    body_size: Option<u64>,
    grpc: Option<(Box<str>, Box<str>)>,
    items: Box<[BodyItem]>,
    backend: Option<Box<str>>,
}

impl KeptMessage {
    /// Keeps a message.
    pub fn of(message: &Message<'_>) -> Self {
        Self {
            resource: message.resource.into(),
            operation: message.operation.into(),
            path: message.path.into(),
            query_string: message.query_string.into(),
            host: message.host.into(),
            scheme: message.scheme,
            client: message.client,
            client_cert: message.client_cert.map(Into::into),
            upgrade: message.upgrade.map(Into::into),
            body_size: message.body_size,
            grpc: message.grpc.map(|(service, method)| (service.into(), method.into())),
            items: message.items.into(),
            backend: message.backend.map(Into::into),
        }
    }

    /// The same message at another time.
    pub fn at(&self, time: u64) -> Message<'_> {
        Message {
            resource: &self.resource,
            operation: &self.operation,
            path: &self.path,
            query_string: &self.query_string,
            time,
            host: &self.host,
            scheme: self.scheme,
            client: self.client,
            client_cert: self.client_cert.as_deref(),
            upgrade: self.upgrade.as_deref(),
            body_size: self.body_size,
            grpc: self.grpc.as_ref().map(|(service, method)| (&**service, &**method)),
            items: &self.items,
            backend: self.backend.as_deref(),
        }
    }
}

/// By what most often tells two messages apart; equality looks at all of it.
impl Hash for KeptMessage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.operation, &self.path, &self.query_string, &self.host, self.client).hash(state);
    }
}

/// One call in a JSON-RPC 2.0 or MCP body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyItem {
    /// The method; empty for a response that a client posted.
    pub rpc: String,
    /// The tool that an MCP `tools/call` names.
    pub tool: Option<String>,
    /// The scalar members of the parameters by name, nested ones by JSON Pointer (see [`json_rpc`](crate::json_rpc)).
    /// Those that no caveat reads may be left out.
    pub args: Vec<(String, ArgValue)>,
    /// A member of the parameters that is no fact, for its value, such as a fraction, or for its long name: its name. A caveat that speaks of every
    /// argument cannot be decided on such an item.
    pub unstated: Option<String>,
}

impl BodyItem {
    pub(crate) fn excess(&self) -> Option<&'static str> {
        let long = |text: &str| text.len() > TEXT_BYTES_MAX;
        if long(&self.rpc) {
            return Some("method of the body");
        }
        if self.tool.as_deref().is_some_and(long) {
            return Some("tool");
        }
        let long_argument = |(name, value): &(String, ArgValue)| {
            name.len() > ARGUMENT_NAME_BYTES_MAX || matches!(value, ArgValue::Text(text) if long(text))
        };
        (self.args.len() > ARGUMENTS_MAX || self.args.iter().any(long_argument)).then_some("list of arguments")
    }
}

/// A scalar in a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgValue {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Bool(bool),
}

/// Which facts a token's caveats read, of those that are not at hand for every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Needs {
    /// `query(name, value)`: the query string has to be taken apart ([`query_facts`]).
    pub query: bool,
    /// `body_size(int)`: a length has to be declared.
    pub body_size: bool,
    /// `rpc`, `tool` or `arg`: the body has to be read.
    pub body: bool,
    /// `grpc(service, method)`.
    pub grpc: bool,
    /// `client` as text.
    pub client: bool,
    /// `client_in(cidr)`.
    pub client_in: bool,
    /// `client_cert`.
    pub client_cert: bool,
    /// `host`.
    pub host: bool,
    /// `scheme`.
    pub scheme: bool,
    /// `backend`: only a backend's verifier supplies it.
    pub backend: bool,
}

impl Needs {
    /// Whether they read what only the gateway knows of a message: its client, the client's certificate, host or scheme.
    pub fn asks_who(self) -> bool {
        self.client || self.client_in || self.client_cert || self.host || self.scheme
    }
}

/// Whether a content type is gRPC's: `application/grpc`, alone, with a message format (`+proto`) or with parameters.
/// `application/grpc-web` is another protocol.
pub fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.get(..GRPC.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(GRPC))
        && matches!(content_type.get(GRPC.len()), None | Some(b'+' | b';' | b' '))
}

/// Service and method of a gRPC call: a POST of gRPC's content type to exactly `/service/method`, which is the path that the
/// service sees: it dispatches by that. Whatever differs has no such fact, so that a caveat which asks for one refuses it.
pub fn grpc_call<'p>(operation: &str, content_type: &[u8], path: &'p str) -> Option<(&'p str, &'p str)> {
    if operation != POST || !is_grpc(content_type) {
        return None;
    }
    grpc_path(path)
}

/// What a path of the form `/service/method` names.
pub(crate) fn grpc_path(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '%']);
    (is_name(service) && is_name(method)).then_some((service, method))
}

/// The names and values of a query string, decoded. Borrowed where nothing had to be decoded.
pub type QueryFacts<'q> = Vec<(Cow<'q, str>, Cow<'q, str>)>;

/// Takes a query string apart into the `query(name, value)` facts.
///
/// Split at `&` and then at the first `=`; `+` is a space; escapes are decoded. Whatever two readers might read
/// differently is an error: `;` (some split there too), a malformed escape, bytes that are not UTF-8, and control characters in a
/// name, at which some cut it off. What some take for a name that a caveat reads is for
/// [`Capability::query_facts`](crate::Capability::query_facts), which knows these names.
pub fn query_facts(query_string: &str) -> Result<QueryFacts<'_>, QueryError> {
    if query_string.contains(';') {
        return Err(QueryError::Semicolon);
    }
    let mut facts = Vec::new();
    for part in query_string.split('&').filter(|part| !part.is_empty()) {
        if part.len() > QUERY_FACT_BYTES_MAX {
            return Err(QueryError::TooLong);
        }
        if facts.len() == QUERY_FACTS_MAX {
            return Err(QueryError::TooMany);
        }
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = decode(name)?;
        if name.contains(char::is_control) {
            return Err(QueryError::Control { parameter: facts.len() + 1 });
        }
        facts.push((name, decode(value)?));
    }
    Ok(facts)
}

fn decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = digit().zip(digit()).ok_or(QueryError::Escape)?;
                u8::try_from(high << 4 | low).map_err(|_| QueryError::Escape)?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| QueryError::NotUtf8)
}

/// Why a query string cannot be taken apart, although a caveat reads its parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It holds a `;`.
    #[error("the query string holds a `;`, which some services take for a separator; write it as %3B")]
    Semicolon,
    /// It has too many parts.
    #[error("the query string has more than {QUERY_FACTS_MAX} parameters")]
    TooMany,
    /// One part is too long.
    #[error("a parameter of the query string is longer than {QUERY_FACT_BYTES_MAX} bytes")]
    TooLong,
    /// A `%` without two hex digits.
    #[error("the query string holds a `%` that is not followed by two hex digits")]
    Escape,
    /// Escapes that decode to something else than UTF-8.
    #[error("the query string decodes to bytes that are not UTF-8")]
    NotUtf8,
    /// A name holds a control character, NUL among them.
    #[error("the name of its parameter {parameter} holds a control character, at which some services cut it off")]
    Control {
        /// Which one, from 1.
        parameter: usize,
    },
    /// A name is no name that a caveat reads, and some service takes it for one.
    #[error(
        "some services take its parameter {parameter} for another spelling of {of:?}, which a caveat reads; spell it exactly so, or \
         leave it out"
    )]
    Imitation {
        /// Which one, from 1.
        parameter: usize,
        /// The name that the caveat reads, or the beginning of a long one.
        of: Box<str>,
    },
    /// A caveat reads parameters by whatever name they have, and some service takes two of them for one.
    #[error(
        "some services take its parameters {first} and {second} for two spellings of one name, and a caveat reads all of them; spell \
         them alike, or leave one out"
    )]
    Alike {
        /// One of them, from 1.
        first: usize,
        /// The other one.
        second: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(query: &str) -> Result<Vec<(String, String)>, QueryError> {
        let facts = query_facts(query)?;
        Ok(facts.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, QueryError> {
        Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_grpc_call_is_a_post_of_its_content_type_to_two_segments() {
        let call = |content_type: &str, path: &'static str| grpc_call("POST", content_type.as_bytes(), path);
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC;x=y", "application/grpc ; x=y"] {
            assert_eq!(call(kind, "/shop.Orders/Get"), Some(("shop.Orders", "Get")), "{kind}");
        }
        for kind in ["", "application/grp", "application/grpc-web", "application/grpc-web+proto", "application/grpcx"] {
            assert_eq!(call(kind, "/shop.Orders/Get"), None, "{kind}");
        }
        for path in
            ["/", "/shop.Orders", "/shop.Orders/", "//Get", "/a/b/c", "/shop.Orders/Get/", "/a%2Fb/c", "shop/Get"]
        {
            assert_eq!(call("application/grpc", path), None, "{path}");
        }
        assert_eq!(grpc_call("GET", b"application/grpc", "/shop.Orders/Get"), None);
    }

    /// A ping behind a GET would pass for what keeps a session alive, while the server reads the GET: as the opening of a stream
    /// of what it has to say.
    #[test]
    fn only_a_post_makes_calls() {
        let items = [BodyItem { rpc: "ping".into(), ..BodyItem::default() }];
        let of = |operation| Message { items: &items, ..Message::new("o", operation, "/", 0, [127, 0, 0, 1].into()) };
        assert_eq!(of("POST").calls(), items);
        for other in ["GET", "DELETE", "PUT", "PATCH", "HEAD", "QUERY", "post", ""] {
            assert_eq!((of(other).calls(), of(other).can_call()), (&[][..], false), "{other}");
        }
    }

    #[test]
    fn a_query_string_is_split_and_decoded() {
        assert_eq!(facts(""), pairs(&[]));
        assert_eq!(facts("page=2"), pairs(&[("page", "2")]));
        assert_eq!(facts("page=2&page=3&&q=a=b"), pairs(&[("page", "2"), ("page", "3"), ("q", "a=b")]));
        assert_eq!(facts("q=a+b%2B%C3%A9&flag&=x"), pairs(&[("q", "a b+é"), ("flag", ""), ("", "x")]));
        assert_eq!(facts("a%26b=%3D"), pairs(&[("a&b", "=")]));
    }

    #[test]
    fn what_two_readers_might_read_differently_is_an_error() {
        assert_eq!(facts("a=1;b=2"), Err(QueryError::Semicolon));
        assert_eq!(facts("a=%"), Err(QueryError::Escape));
        assert_eq!(facts("a=%4"), Err(QueryError::Escape));
        assert_eq!(facts("a=%+4"), Err(QueryError::Escape));
        assert_eq!(facts("a=%zz"), Err(QueryError::Escape));
        assert_eq!(facts("%ff=1"), Err(QueryError::NotUtf8));
    }

    #[test]
    fn the_maxima_are_inclusive() {
        let many = vec!["a"; QUERY_FACTS_MAX].join("&");
        assert_eq!(facts(&many).map(|facts| facts.len()), Ok(QUERY_FACTS_MAX));
        assert_eq!(facts(&format!("{many}&a")), Err(QueryError::TooMany));
        let long = "a".repeat(QUERY_FACT_BYTES_MAX);
        assert!(facts(&long).is_ok());
        assert_eq!(facts(&format!("{long}a")), Err(QueryError::TooLong));
    }

    #[test]
    fn a_kept_message_is_the_same_message() {
        let items = [BodyItem { rpc: "tools/call".into(), tool: Some("search".into()), ..BodyItem::default() }];
        let message = Message {
            query_string: "a=1",
            host: "h",
            scheme: Scheme::Https,
            client_cert: Some("ab"),
            upgrade: Some("websocket"),
            body_size: Some(7),
            grpc: Some(("s", "m")),
            items: &items,
            backend: Some("b"),
            ..Message::new("orders", "GET", "/x", 5, IpAddr::from([127, 0, 0, 1]))
        };
        let kept = KeptMessage::of(&message);
        assert_eq!(kept.at(5), message);
        assert_eq!(kept.at(6), Message { time: 6, ..message });
    }

    #[test]
    fn a_message_beyond_the_maxima_is_noticed() {
        let client = IpAddr::from([127, 0, 0, 1]);
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        let message = Message::new("orders", "GET", &long[1..], 0, client);
        assert_eq!(message.excess(), None);
        assert_eq!(Message { path: &long, ..message.clone() }.excess(), Some("path"));
        let items = vec![BodyItem::default(); ITEMS_MAX + 1];
        assert_eq!(Message { items: &items[1..], ..message.clone() }.excess(), None);
        assert_eq!(Message { items: &items, ..message.clone() }.excess(), Some("batch"));
        let items =
            [BodyItem { args: vec![("a".into(), ArgValue::Bool(true)); ARGUMENTS_MAX + 1], ..items[0].clone() }];
        assert_eq!(Message { items: &items, ..message }.excess(), Some("list of arguments"));
    }
}

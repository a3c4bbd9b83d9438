//! Caveats as people write them. Each becomes exactly one check.
//!
//! | flag | check |
//! |---|---|
//! | `--expires 10m`, `--expires 2030-01-01T00:00:00Z` | `check if time($time), $time <= 2030-01-01T00:00:00Z` |
//! | `--not-before …` | `check if time($time), $time >= 2030-01-01T00:00:00Z` |
//! | `--method GET,HEAD` | `check if operation("GET") or operation("HEAD")` |
//! | `--path /v1/orders/42` | `check if path("/v1/orders/42")` |
//! | `--path '/v1/orders/**'` | `check if path("/v1/orders") or path($path), $path.starts_with("/v1/orders/")` |
//! | several `--path` | one check, any of them |
//! | `--query page=2` | `check all query("page", $value), $value === "2"` |
//! | `--host api.example.com` | `check if host("api.example.com")` |
//! | `--client 10.0.0.0/8` | `check if client_in("10.0.0.0/8")`; several: any of them |
//! | `--client-cert SHA256` | `check if client_cert("…")` |
//! | `--no-upgrade` | `check if upgrade("")` |
//! | `--max-body 1MiB` | `check if body_size($body_size), $body_size <= 1048576` |
//! | `--rpc tools/list,ping` | `check if rpc("tools/list") or rpc("ping")` |
//! | `--tool search` | `check if rpc("tools/call"), tool("search") or rpc("initialize") or …` ([`MCP_HOUSEKEEPING`]) |
//! | `--arg table=orders` | `check all arg("table", $value), {"orders"}.contains($value)` |
//! | `--grpc shop.Orders/Get`, `--grpc shop.Orders` | `check if grpc("shop.Orders", "Get")`, `check if grpc("shop.Orders", $method)` |
//! | `--check 'check if …'` | itself |
//!
//! What is absent:
//!
//! * `--query page=2` requires the parameter: a message without `page` is refused, because `check all` fails where
//!   nothing matches. One value of two being another is refused too.
//! * `--arg` likewise requires the argument. Beside `--tool` it speaks of that tool's calls: the protocol's
//!   own housekeeping, which carries no such argument, passes as it does for `--tool`. Without `--tool` it holds for every call.
//!   A number is the integer and not the text (`--arg id=7`; for the text `--arg 'id="7"'`).
//! * `--max-body` lets a message without a body pass, its size being 0; one of undeclared length is answered with
//!   `length-required`.
//! * `--rpc`, `--tool`, `--arg` and `--grpc` refuse a message that is no such call, a plain GET for example; and only a POST is
//!   one, since servers read no other method's body. A token narrowed to a tool only posts. So they refuse
//!   the stream that clients of the Model Context Protocol before its revision of 2026 open with GET, and the DELETE that
//!   ends their session: which of a service's GETs are harmless is not for such a caveat to say. Those clients do without
//!   both; where they shall not, write `--check` with an alternative such as `or operation("GET"), path("/mcp")`.
//! * What the arguments of a call are, and which values are none, stands in [`json_rpc`](crate::json_rpc).
//! * `--client` names networks; an address stands for itself alone, and the bits behind the prefix are dropped.
//!
//! Checks are built from typed terms, never by writing text: no value can break out of its place.

mod checks;
mod cidr;
mod parse;
mod pattern;
mod value;
mod when;

use std::fmt;

use crate::message::ArgValue;
use crate::resource::Operation;

pub(crate) use checks::checks_of;
pub use cidr::{Cidr, CidrError};
pub use parse::CaveatError;
pub use pattern::{PathPattern, PathPatternError};
pub use value::FlagValue;
pub(crate) use when::printed as printed_time;

/// The JSON-RPC methods that `--tool` lets pass beside the tool's own calls: without them no session of the Model
/// Context Protocol starts or stays up. The empty name is a response that the client sends. None of them runs a tool.
///
/// `server/discover` is how a session begins since the revision of 2026, and `initialize` how it did before.
pub const MCP_HOUSEKEEPING: [&str; 7] =
    ["initialize", "server/discover", "notifications/initialized", "notifications/cancelled", "ping", "tools/list", ""];

/// The last second that a token may name: the end of the year 9999, as later dates are not admitted.
pub const TIME_MAX: u64 = 253_402_300_799;

/// One restriction, as a person would say it. `Display` says it in words.
///
/// Several of them in one block must all hold. Where one lists several values, any of them will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caveat {
    /// Until this second, inclusive.
    Expires(u64),
    /// From this second on, inclusive.
    NotBefore(u64),
    /// Only these operations.
    Method(Vec<Operation>),
    /// Only these paths.
    Path(Vec<PathPattern>),
    /// The query parameter is present, and each of its values is this one.
    Query {
        /// The parameter, decoded.
        name: String,
        /// The only value that it may have, decoded.
        value: String,
    },
    /// The query string is exactly this, as it is sent. No flag makes it: it narrows a token to one request.
    QueryString(String),
    /// Only on this host name.
    Host(String),
    /// Only from these networks.
    Client(Vec<Cidr>),
    /// Only with the client certificate of this SHA-256, in lower-case hexadecimal digits.
    ClientCert(String),
    /// No switch to another protocol, such as a WebSocket.
    NoUpgrade,
    /// A body of at most so many bytes.
    MaxBody(u64),
    /// Only these JSON-RPC methods.
    Rpc(Vec<String>),
    /// Only calls to these tools, and the Model Context Protocol's own housekeeping.
    Tool(Vec<String>),
    /// The call's argument is present, and is this.
    Arg {
        /// Its name; for a nested one its JSON Pointer.
        name: String,
        /// The only value that it may have.
        value: ArgValue,
    },
    /// Only these gRPC methods; without a method, all of that service.
    Grpc(Vec<(String, Option<String>)>),
    /// A check in biscuit's own language.
    Check(String),
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expires(time) => write!(f, "until {}", when::printed(*time)),
            Self::NotBefore(time) => write!(f, "not before {}", when::printed(*time)),
            Self::Method(methods) => write!(f, "only {}", any_of(methods)),
            Self::Path(patterns) => write!(f, "only the path {}", any_of(patterns)),
            Self::Query { name, value } => write!(f, "only with the query parameter {name:?} being {value:?}"),
            Self::QueryString(query) => write!(f, "only with the query string {query:?}"),
            Self::Host(host) => write!(f, "only on the host {host}"),
            Self::Client(networks) => write!(f, "only from {}", any_of(networks)),
            Self::ClientCert(hash) => write!(f, "only with the client certificate {hash}"),
            Self::NoUpgrade => f.write_str("no switch to another protocol"),
            Self::MaxBody(bytes) => write!(f, "a body of at most {bytes} bytes"),
            Self::Rpc(methods) => write!(f, "only the JSON-RPC method {}", any_of(methods.iter().map(Quoted))),
            Self::Tool(tools) => {
                write!(f, "only the tool {} and what starts a session", any_of(tools.iter().map(Quoted)))
            }
            Self::Arg { name, value: ArgValue::Text(text) } => {
                write!(f, "only with the argument {name:?} being {text:?}")
            }
            Self::Arg { name, value: ArgValue::Integer(number) } => {
                write!(f, "only with the argument {name:?} being {number}")
            }
            Self::Arg { name, value: ArgValue::Bool(truth) } => {
                write!(f, "only with the argument {name:?} being {truth}")
            }
            Self::Grpc(methods) => {
                let named = methods.iter().map(|(service, method)| match method {
                    Some(method) => format!("{service}/{method}"),
                    None => format!("{service}/*"),
                });
                write!(f, "only the gRPC method {}", any_of(named))
            }
            Self::Check(text) => write!(f, "{text:?}"),
        }
    }
}

/// Text from outside, printed with quotes and escapes.
struct Quoted<'a>(&'a String);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// `a`, `a or b`, `a, b or c`.
fn any_of(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.pop() {
        None => "nothing".to_owned(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} or {last}", words.join(", ")),
    }
}

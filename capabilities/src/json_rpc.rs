//! What a JSON-RPC 2.0 body says, strictly read: the facts `rpc`, `tool` and `arg`, and nothing that two readers could
//! read differently.
//!
//! A body is one call or a batch of them. Each is a [`BodyItem`] of its own, so that a caveat is decided for each with that
//! one's facts alone. A response that a client posts (the Model Context Protocol has servers ask clients, too) is the
//! call of no method, `rpc("")`.
//!
//! # Which arguments there are
//!
//! * The parameters of a call are its `params`; of `tools/call` they are `params.arguments`, and `params.name` is the tool.
//! * A scalar member of the parameters is an argument by its name: `arg("table", "orders")`.
//! * One further down is an argument by its JSON Pointer (RFC 6901), elements of lists by their number:
//!   `arg("/filter/owner", 7)`, `arg("/tables/0", "orders")`. Parameters that are a list have pointers: `arg("/0", "orders")`.
//! * A member whose own name begins with `/` would pass for a pointer, so it goes by its pointer too, where that slash is
//!   escaped: `arg("/~1filter~1owner", 7)`. No two places of a call share a name, but for `{"0": …}` and `[…]`, which JSON
//!   Pointer does not tell apart.
//! * Texts, whole numbers and truth values are facts. Whole numbers end at 2^53 - 1, as RFC 7493 has it: beyond, some
//!   readers round. A number with a fraction or an exponent, a larger one, `null`, an empty object or list and a text
//!   longer than [`TEXT_BYTES_MAX`](crate::message::TEXT_BYTES_MAX) are **no facts**, and neither is anything whose name is longer than
//!   [`ARGUMENT_NAME_BYTES_MAX`](crate::message::ARGUMENT_NAME_BYTES_MAX). A caveat that names such an argument fails, because the fact that it
//!   asks for is absent; a caveat that speaks of every argument (`arg($name, $value)`) cannot be decided, and refuses the call.
//!
//! # What it costs
//!
//! Whoever holds a token can narrow it so that bodies are read, and then post what takes longest to read. So reading takes a
//! time that grows with the body's length and with nothing else: no name is built for a value that could be no argument, and
//! names are told apart by a hash that nobody outside can foresee.
//!
//! # What is refused
//!
//! Anything but JSON in UTF-8 with nothing before or behind it; names that occur twice in one object or differ only in
//! case; U+0000 in any name or text; nesting deeper than [`DEPTH_MAX`]; members of a call that JSON-RPC does not know; a
//! call that is also a response; an empty batch and an empty method.

pub mod mirrors;
mod place;
mod read;
#[cfg(test)]
mod tests;
mod waiting;

pub use self::waiting::Waiting;
use crate::language::ArgumentNames;
use crate::message::{BodyItem, ITEMS_MAX};

/// Deepest nesting of objects and lists in a body, the call's own object and the batch included.
pub const DEPTH_MAX: usize = 32;

/// The largest whole number that every reader of JSON reads alike (RFC 7493 section 2.2), and with a minus the smallest.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Longest part of a name that an error or a refusal quotes.
const QUOTED_CHARACTERS_MAX: usize = 64;

/// A body that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body {
    /// Its calls, for [`Message::items`](crate::message::Message::items). Never empty.
    pub items: Vec<BodyItem>,
    /// What else each of them says, in the same order.
    pub calls: Vec<Call>,
    /// Whether it is a list of calls.
    pub is_batch: bool,
}

/// What a call says besides its facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Call {
    /// What its answer will refer to; `None` where it expects none.
    pub id: Option<Id>,
    /// `params.name`, or else `params.uri`: what the header `Mcp-Name` repeats.
    pub name: Option<String>,
    /// The protocol's version in `params._meta`, which the header `MCP-Protocol-Version` repeats.
    pub protocol_version: Option<String>,
}

/// A call's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `null`, which the specification discourages.
    Null,
}

/// Why a body is not one that caveats can be decided on. Prints in words, without quoting more of the body than a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Its bytes are not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It is no JSON, or is followed by something else.
    #[error("it is not exactly one JSON document: {what} at line {line}, column {column}")]
    NotJson {
        /// What the reader of JSON says.
        what: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// One object has a name twice.
    #[error("an object in it has two members {0:?}")]
    Duplicate(String),
    /// One object has two names that some readers take for one.
    #[error("an object in it has two members that differ only in case: {0:?} and another")]
    CaseVariant(String),
    /// U+0000, where some readers end a text.
    #[error("a name or text in it holds the character U+0000")]
    Null,
    /// Nested too deeply.
    #[error("it is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// Too many calls.
    #[error("it holds more than {ITEMS_MAX} calls; send them in several messages")]
    TooManyItems,
    /// A batch without a call.
    #[error("it is an empty batch")]
    EmptyBatch,
    /// Neither an object nor a list of objects.
    #[error("it is no JSON-RPC 2.0 call, which is an object, nor a list of them")]
    NotACall,
    /// A member that JSON-RPC does not know.
    #[error("a call in it has a member {0:?}, which JSON-RPC 2.0 does not know")]
    UnknownMember(String),
    /// A member of a value that JSON-RPC does not allow.
    #[error("in a call in it, {0}")]
    Member(&'static str),
}

/// Reads a body, and of its arguments those that caveats read.
///
/// # Errors
/// The first reason why two programs might not read it alike, or why it is no JSON-RPC 2.0.
pub fn read(body: &[u8], arguments: &ArgumentNames<'_>) -> Result<Body, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
    read::read(text, arguments)
}

/// As much of a name as an error quotes.
fn quoted(name: &str) -> String {
    name.chars().take(QUOTED_CHARACTERS_MAX).collect()
}

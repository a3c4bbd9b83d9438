//! The facts that the gateway supplies for a message, and the names that no block may define.
//!
//! Authority facts are believed by every check and by the policy. If a token could define `resource` or `operation`
//! itself, a right to one thing would pass for a message to another; so all names of this table, `right` outside
//! its one form, and whatever begins with `postern_` are reserved, in the authority block too.

use crate::message::{ARGUMENT_NAME_BYTES_MAX, ARGUMENTS_MAX, QUERY_FACT_BYTES_MAX, QUERY_FACTS_MAX, TEXT_BYTES_MAX};

/// The rights: in the authority block as `right(string, string)`, and nowhere else.
pub(crate) const RIGHT: &str = "right";

/// Names kept for later versions of the gateway.
const RESERVED_PREFIX: &str = "postern_";

/// A fact about the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageFact {
    Resource,
    Operation,
    Path,
    QueryString,
    Time,
    Host,
    Scheme,
    Client,
    ClientIn,
    ClientCert,
    Upgrade,
    Query,
    BodySize,
    Rpc,
    Tool,
    Arg,
    Grpc,
    Backend,
}

/// A fact's name, how many of it one evaluation can see, and the most bytes of each of its texts.
struct Row {
    fact: MessageFact,
    name: &'static str,
    count_max: usize,
    bytes_max: &'static [usize],
}

const TEXT: &[usize] = &[TEXT_BYTES_MAX];
const NUMBER: &[usize] = &[0];

/// The longest text of an IPv6 address.
pub(crate) const CLIENT_BYTES_MAX: usize = 39;

#[rustfmt::skip]
const TABLE: &[Row] = &[
    Row { fact: MessageFact::Resource,    name: "resource",     count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Operation,   name: "operation",    count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Path,        name: "path",         count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::QueryString, name: "query_string", count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Time,        name: "time",         count_max: 1, bytes_max: NUMBER },
    Row { fact: MessageFact::Host,        name: "host",         count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Scheme,      name: "scheme",       count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Client,      name: "client",       count_max: 1, bytes_max: &[CLIENT_BYTES_MAX] },
    Row { fact: MessageFact::ClientIn,    name: "client_in",    count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::ClientCert,  name: "client_cert",  count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Upgrade,     name: "upgrade",      count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Query,       name: "query",        count_max: QUERY_FACTS_MAX,
          bytes_max: &[QUERY_FACT_BYTES_MAX, QUERY_FACT_BYTES_MAX] },
    Row { fact: MessageFact::BodySize,    name: "body_size",    count_max: 1, bytes_max: NUMBER },
    Row { fact: MessageFact::Rpc,         name: "rpc",          count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Tool,        name: "tool",         count_max: 1, bytes_max: TEXT },
    Row { fact: MessageFact::Arg,         name: "arg",          count_max: ARGUMENTS_MAX,
          bytes_max: &[ARGUMENT_NAME_BYTES_MAX, TEXT_BYTES_MAX] },
    Row { fact: MessageFact::Grpc,        name: "grpc",         count_max: 1,
          bytes_max: &[TEXT_BYTES_MAX, TEXT_BYTES_MAX] },
    Row { fact: MessageFact::Backend,     name: "backend",      count_max: 1, bytes_max: TEXT },
];

impl MessageFact {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.fact)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.fact == self).expect("the table has a row for each fact")
    }

    pub(crate) fn arity(self) -> usize {
        self.row().bytes_max.len()
    }

    /// The most facts of this name that one evaluation can see.
    pub(crate) fn count_max(self) -> usize {
        self.row().count_max
    }

    /// The most bytes of each argument.
    pub(crate) fn bytes_max(self) -> &'static [usize] {
        self.row().bytes_max
    }

    /// Whether it is a fact of one item of the body, so that checks which read it are evaluated for each item.
    pub(crate) fn is_of_item(self) -> bool {
        matches!(self, Self::Rpc | Self::Tool | Self::Arg)
    }
}

/// Whether facts of this name come from the gateway alone (`right` from the authority block alone).
pub fn is_reserved_name(name: &str) -> bool {
    name == RIGHT || name.starts_with(RESERVED_PREFIX) || MessageFact::from_name(name).is_some()
}

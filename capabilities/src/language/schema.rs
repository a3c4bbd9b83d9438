//! The schema of biscuit 3.3 (`biscuit/schema.proto`) as tables for [`wire`](super::wire).
//!
//! What the language does not admit anyway is not described further and not descended into: whoever reads the structure
//! refuses it by its name.

use Form::{Bytes, Message, Number, Signed};
use Rule::{Optional, Repeated, Required};

/// What a message holds.
pub(super) struct Schema {
    pub(super) name: &'static str,
    /// Exactly one of the fields has to be there (a `oneof`).
    pub(super) exclusive: bool,
    pub(super) fields: &'static [Field],
}

pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) rule: Rule,
}

pub(super) enum Form {
    /// A varint, at most this.
    Number(u64),
    /// A varint that stands for a signed number.
    Signed,
    /// Bytes or text without further structure, or a structure that is refused by name later.
    Bytes,
    Message(&'static Schema),
    /// A signed block's content: bytes to the container, a message to who reads what it says.
    Content,
}

#[derive(PartialEq)]
pub(super) enum Rule {
    Required,
    Optional,
    Repeated,
}

const fn field(number: u64, name: &'static str, form: Form, rule: Rule) -> Field {
    Field { number, name, form, rule }
}

const U32: u64 = u32::MAX as u64;
/// The numbers that the schema gives to each enum end here.
const ALGORITHM_MAX: u64 = 1;
const SCOPE_TYPE_MAX: u64 = 1;
const CHECK_KIND_MAX: u64 = 2;
const UNARY_MAX: u64 = 4;
const BINARY_MAX: u64 = 29;

/// The number of Ed25519 among the algorithms.
pub(super) const ED25519: u64 = 0;

pub(super) static BISCUIT: Schema = Schema {
    name: "token",
    exclusive: false,
    fields: &[
        field(1, "root key id", Number(U32), Optional),
        field(2, "authority block", Message(&SIGNED_BLOCK), Required),
        field(3, "block", Message(&SIGNED_BLOCK), Repeated),
        field(4, "proof", Message(&PROOF), Required),
    ],
};
pub(super) static SIGNED_BLOCK: Schema = Schema {
    name: "signed block",
    exclusive: false,
    fields: &[
        field(1, "content", Form::Content, Required),
        field(2, "next key", Message(&PUBLIC_KEY), Required),
        field(3, "signature", Bytes, Required),
        field(4, "external signature", Message(&EXTERNAL_SIGNATURE), Optional),
        field(5, "signature version", Number(U32), Optional),
    ],
};
static EXTERNAL_SIGNATURE: Schema = Schema {
    name: "external signature",
    exclusive: false,
    fields: &[field(1, "signature", Bytes, Required), field(2, "public key", Message(&PUBLIC_KEY), Required)],
};
static PUBLIC_KEY: Schema = Schema {
    name: "public key",
    exclusive: false,
    fields: &[field(1, "algorithm", Number(ALGORITHM_MAX), Required), field(2, "key", Bytes, Required)],
};
static PROOF: Schema = Schema {
    name: "proof",
    exclusive: true,
    fields: &[field(1, "next secret", Bytes, Optional), field(2, "final signature", Bytes, Optional)],
};
pub(super) static BLOCK: Schema = Schema {
    name: "block",
    exclusive: false,
    fields: &[
        field(1, "symbol", Bytes, Repeated),
        field(2, "context", Bytes, Optional),
        field(3, "version", Number(U32), Optional),
        field(4, "fact", Message(&FACT), Repeated),
        field(5, "rule", Bytes, Repeated),
        field(6, "check", Message(&CHECK), Repeated),
        field(7, "scope", Message(&SCOPE), Repeated),
        field(8, "public key", Message(&PUBLIC_KEY), Repeated),
    ],
};
static SCOPE: Schema = Schema {
    name: "scope",
    exclusive: true,
    fields: &[field(1, "scope type", Number(SCOPE_TYPE_MAX), Optional), field(2, "public key", Signed, Optional)],
};
static FACT: Schema =
    Schema { name: "fact", exclusive: false, fields: &[field(1, "predicate", Message(&PREDICATE), Required)] };
static CHECK: Schema = Schema {
    name: "check",
    exclusive: false,
    fields: &[field(1, "query", Message(&QUERY), Repeated), field(2, "check kind", Number(CHECK_KIND_MAX), Optional)],
};
static QUERY: Schema = Schema {
    name: "query",
    exclusive: false,
    fields: &[
        field(1, "head", Message(&PREDICATE), Required),
        field(2, "predicate", Message(&PREDICATE), Repeated),
        field(3, "expression", Message(&EXPRESSION), Repeated),
        field(4, "scope", Message(&SCOPE), Repeated),
    ],
};
static PREDICATE: Schema = Schema {
    name: "predicate",
    exclusive: false,
    fields: &[field(1, "name", Number(u64::MAX), Required), field(2, "term", Message(&TERM), Repeated)],
};
static TERM: Schema = Schema {
    name: "term",
    exclusive: true,
    fields: &[
        field(1, "variable", Number(U32), Optional),
        field(2, "integer", Signed, Optional),
        field(3, "string", Number(u64::MAX), Optional),
        field(4, "date", Number(u64::MAX), Optional),
        field(5, "bytes", Bytes, Optional),
        field(6, "boolean", Number(1), Optional),
        field(7, "set", Message(&SET), Optional),
        field(8, "null", Bytes, Optional),
        field(9, "array", Bytes, Optional),
        field(10, "map", Bytes, Optional),
    ],
};
static SET: Schema = Schema { name: "set", exclusive: false, fields: &[field(1, "member", Message(&TERM), Repeated)] };
static EXPRESSION: Schema =
    Schema { name: "expression", exclusive: false, fields: &[field(1, "operation", Message(&OP), Repeated)] };
static OP: Schema = Schema {
    name: "operation",
    exclusive: true,
    fields: &[
        field(1, "value", Message(&TERM), Optional),
        field(2, "unary operator", Message(&UNARY), Optional),
        field(3, "binary operator", Message(&BINARY), Optional),
        field(4, "closure", Message(&CLOSURE), Optional),
    ],
};
static UNARY: Schema = Schema {
    name: "unary operator",
    exclusive: false,
    fields: &[
        field(1, "kind of unary operator", Number(UNARY_MAX), Required),
        field(2, "extern name", Number(u64::MAX), Optional),
    ],
};
static BINARY: Schema = Schema {
    name: "binary operator",
    exclusive: false,
    fields: &[
        field(1, "kind of binary operator", Number(BINARY_MAX), Required),
        field(2, "extern name", Number(u64::MAX), Optional),
    ],
};
pub(super) static CLOSURE: Schema = Schema {
    name: "closure",
    exclusive: false,
    fields: &[field(1, "parameter", Number(U32), Repeated), field(2, "operation", Message(&OP), Repeated)],
};

//! A token's content as data: only what the language admits can be written down in these types.
//!
//! Names and keys are resolved, variables are numbered, and expressions are flat: reverse Polish, in the order of
//! evaluation, with the body of a lazy operator behind it. Flat code cannot overflow a stack, however deep a
//! holder nests it.

use std::sync::Arc;

use crate::statement::Statement;

/// The last second of the year 9999, the latest date that RFC 3339 can write. A later one could not be shown.
pub(crate) const DATE_MAX: u64 = 253_402_300_799;

/// A value without variables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    Integer(i64),
    /// Shared among all uses of one symbol: a token names a long symbol in few bytes, any number of times.
    Text(Arc<str>),
    /// Whole seconds since the epoch, at most [`DATE_MAX`].
    Date(u64),
    Bytes(Box<[u8]>),
    Bool(bool),
    /// Sorted, without duplicates, one type, never sets.
    Set(Box<[Value]>),
}

/// A place in a predicate or an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Term {
    /// The number of a variable of the query.
    Variable(usize),
    Value(Value),
}

/// A ground fact of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) name: Arc<str>,
    pub(crate) values: Box<[Value]>,
}

/// A pattern that facts have to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Predicate {
    pub(crate) name: Arc<str>,
    pub(crate) terms: Box<[Term]>,
}

/// An operator of one operand. Parentheses are no operator here: the order of the code says what they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Length,
}

/// An operator of two operands, both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    LessThan,
    GreaterThan,
    LessOrEqual,
    GreaterOrEqual,
    /// `===`: operands of different types are an error.
    Equal,
    /// `!==`: operands of different types are an error.
    NotEqual,
    /// `==`: operands of different types are unequal.
    LenientEqual,
    /// `!=`: operands of different types are unequal.
    LenientNotEqual,
    Contains,
    StartsWith,
    EndsWith,
    Add,
    Subtract,
    Multiply,
    Divide,
    /// The eager conjunction of biscuit before 3.3.
    And,
    /// The eager disjunction of biscuit before 3.3.
    Or,
    Intersection,
    Union,
    BitAnd,
    BitOr,
    BitXor,
}

/// An operator whose second operand is evaluated only where the first does not decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lazy {
    And,
    Or,
}

/// One instruction of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Push(Term),
    Unary(Unary),
    Binary(Binary),
    /// Decides by the operand on the stack, or drops it and goes on with the next `length` instructions instead.
    Lazy {
        operator: Lazy,
        length: usize,
    },
}

/// What has to be true of a binding. Well formed: it leaves one operand and never finds the stack empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    pub(crate) ops: Box<[Op]>,
}

/// An Ed25519 public key.
pub(crate) type Key = [u8; 32];

/// Whose facts are believed, beside the block's own and the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Authority,
    Previous,
    Key(Key),
}

/// One alternative of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// The names of the variables by number, for showing.
    pub(crate) variables: Box<[Arc<str>]>,
    pub(crate) predicates: Box<[Predicate]>,
    pub(crate) expressions: Box<[Expression]>,
    pub(crate) scopes: Box<[Scope]>,
}

/// How many bindings of an alternative have to satisfy it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `check if`: one.
    If,
    /// `check all`: all, and there is one.
    All,
}

/// A condition that a message has to meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) kind: Kind,
    pub(crate) alternatives: Box<[Query]>,
}

/// What one block says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Block {
    /// Who vouches for a third-party block.
    pub(crate) external_key: Option<Key>,
    pub(crate) context: Option<Box<str>>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) checks: Vec<Check>,
    pub(crate) scopes: Box<[Scope]>,
}

/// A token's content, the authority block first. Made by [`admit`](super::admit) alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(crate) blocks: Vec<Block>,
    /// What it says, as [`CONTENT_BYTES_MAX`](super::CONTENT_BYTES_MAX) counts it.
    pub(crate) content_bytes: usize,
    /// What its last block states of the message's client.
    pub(crate) statement: Option<Statement>,
}

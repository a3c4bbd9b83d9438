//! The caveat language: which checks a token may hold, what they mean, and what deciding them costs.
//!
//! A biscuit's language is a Datalog with rules, closures and regular expressions, and any holder may append checks.
//! A gateway that ran all of it would let every holder choose how long a decision takes. So Postern admits a subset
//! (section 3 of the design), compiles it once for each token, and decides natively. In the order of a token's way:
//!
//! 1. `wire` walks the protobuf encoding, the container before the signatures are verified and the blocks' contents
//!    after that, and refuses whatever the schema does not know, because the library
//!    skips it in silence: what is skipped is not understood, and what is not understood is refused;
//! 2. `block` and `expression` read the blocks into a `program`: symbols and keys resolved, only admitted
//!    constructs left;
//! 3. `plan` compiles it: which facts each predicate can match under its scope, what the token needs to know of a
//!    message, and by `price` how many steps a decision can take;
//! 4. `evaluate` decides one message. Its steps are bounded by the price, whatever the message.
//!
//! `view` and `print` show a plan to people, escaped; nothing that is shown is ever parsed again to be decided upon.
//!
//! # Semantics
//!
//! They are those of the [biscuit specification](https://doc.biscuitsec.org/reference/specifications), with the scopes of
//! its section on scoping, and one stricter rule. A check passes when one of its alternatives does, tried in order. For
//! `check if` an alternative passes when some binding of its variables satisfies all expressions; for
//! `check all` when there is a binding and each satisfies them. Expressions of one binding run in order and
//! stop at the first `false`. **Where any binding of an alternative that is tried errs** (overflow, division by
//! zero, operands of a wrong type, a condition that is no boolean), **the message is refused as undecidable**:
//! the library's outcome then depends on the order of a hash table.
//!
//! Some things are refused here that the library accepts, since they can only be mistakes or traps: a variable that
//! no predicate binds, a lazy operator without its closure, a query head with terms, names that the
//! language's own syntax cannot write, and `client_in` of anything but a literal canonical CIDR block. The last one
//! because facts are supplied for the blocks that checks name: with a variable, an appended check that names
//! `0.0.0.0/0` could satisfy an earlier one.

mod block;
mod cidr;
mod evaluate;
mod expression;
mod facts;
mod operators;
mod plan;
mod price;
mod print;
mod program;
mod query_names;
mod schema;
#[cfg(test)]
mod testing;
mod view;
mod wire;

use std::borrow::Cow;

pub use evaluate::{FailedCheck, Undecidable, Verdict};
pub use facts::is_reserved_name;
pub(crate) use operators::BYTES_PER_STEP;
pub use plan::{ArgumentNames, Plan};
pub use price::Price;
pub(crate) use print::excerpt;
pub use print::quoted;
pub use program::{Kind, Program};
pub use view::{BlockView, CheckView};
// For `explain`, which looks for what can never pass.
pub(crate) use facts::{MessageFact, RIGHT};
pub(crate) use program::{Binary, Check, Fact, Op, Predicate, Query, Scope, Term, Value};
// For `chain`, which verifies what the container holds.
pub(crate) use wire::{Container, Proof, Signature, SignedBlock, container};

/// Most blocks of a token, the authority among them.
pub const BLOCKS_MAX: usize = 24;

/// Most facts of a token, all blocks together.
pub const FACTS_MAX: usize = 200;

/// Most bytes of a token's content, all blocks together, where each use of a symbol counts with the symbol's length, each
/// key that a scope trusts and each byte string with its own. A symbol is named by two bytes however long it is, so
/// without this bound a token of 8 KiB could stand for megabytes: to be held, compared and shown. A token that repeats no
/// long symbol cannot come near it.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// Reads a token's bytes into a program, or says why it is outside the language, its container included.
///
/// For holders, whose token nobody else waits for. It relies on nothing but the bytes' length being bounded.
pub fn admit(token: &[u8]) -> Result<Program, NotAdmitted> {
    admit_contents(&wire::container(token)?)
}

/// Reads what the blocks of a container say.
///
/// To be called after the signatures were verified: the reasons speak of a token's content.
pub(crate) fn admit_contents(container: &Container<'_>) -> Result<Program, NotAdmitted> {
    wire::contents(container)?;
    block::read(&container.blocks)
}

/// Why a token is outside the language, in terms of its structure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{construct} {} is not admitted: {reason}", place(.block))]
pub struct NotAdmitted {
    /// What was found, as the language's users call it.
    pub construct: Cow<'static, str>,
    /// In which block, the authority being 0. `None`: beside the blocks.
    pub block: Option<usize>,
    /// Why it is refused, and what to do instead where there is something.
    pub reason: Cow<'static, str>,
}

fn place(block: &Option<usize>) -> String {
    match block {
        None => "beside the blocks".to_owned(),
        Some(0) => "in the authority block".to_owned(),
        Some(block) => format!("in block {block}"),
    }
}

impl NotAdmitted {
    pub(crate) fn new(
        construct: impl Into<Cow<'static, str>>,
        block: impl Into<Option<usize>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { construct: construct.into(), block: block.into(), reason: reason.into() }
    }
}

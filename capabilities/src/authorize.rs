//! The decision on one message, and the only place where a [`Permit`] is made.
//!
//! A permit holds the message it was given for, and whoever forwards takes the message out of the permit: what was
//! checked is what goes on, because there is no other way to have something to forward.
//!
//! # The order of refusals
//!
//! 1. What the token is worth in itself: [`Refusal::Revoked`], [`Refusal::KeyRetired`].
//! 2. No right to this operation on this resource: [`Refusal::NoRight`]; but [`Refusal::Expired`] where an expiry has
//!    passed, so that a holder learns the reason that new rights would not cure.
//! 3. The right is held and a fact that a caveat asks for cannot be derived: [`Refusal::UnreadableQuery`],
//!    [`Refusal::LengthRequired`]; again `Expired` goes before.
//! 4. Caveats. All that failed are reported. Where every one of them is an expiry the answer is `Expired`.
//!
//! An *expiry* is a check of exactly the form `check if time($t), $t <= D`.

use std::fmt;

use crate::language::{FailedCheck, Verdict};
use crate::message::{Message, QueryError, query_facts};
use crate::revocation::Standing;
use crate::token::Capability;

/// The proof that this message was allowed. It cannot be copied, made elsewhere or used twice.
///
/// ```compile_fail
/// fn twice(permit: postern_capabilities::Permit<'_>) {
///     let _ = (permit.clone(), permit);
/// }
/// ```
#[must_use = "a permit that is not used is a message that is not forwarded"]
pub struct Permit<'m> {
    message: Message<'m>,
}

impl<'m> Permit<'m> {
    /// The message, exactly as it was checked.
    pub fn message(&self) -> &Message<'m> {
        &self.message
    }
}

/// Decides one message. It is allowed when the capability is in good standing, holds the right, and every check passes.
pub fn authorize<'m>(
    capability: &Capability,
    message: Message<'m>,
    standing: &Standing,
) -> Result<Permit<'m>, Refusal> {
    capability.standing(standing)?;
    if !capability.holds(message.resource, message.operation) {
        return Err(expired_or(capability, message.time, Refusal::NoRight));
    }
    let needs = capability.needs();
    let query = if needs.query { query_facts(message.query_string) } else { Ok(Vec::new()) };
    let query = query.map_err(|error| expired_or(capability, message.time, Refusal::UnreadableQuery(error)))?;
    if needs.body_size && message.body_size.is_none() {
        return Err(expired_or(capability, message.time, Refusal::LengthRequired));
    }
    match capability.plan().evaluate(&message, &query) {
        Verdict::Passed => Ok(Permit { message }),
        Verdict::Failed(failed) => Err(refusal_of(capability, &message, failed)),
        Verdict::Undecidable(at) => Err(Refusal::Undecidable {
            block: Some(at.block),
            check: Some(at.index),
            reason: format!("`{}` cannot be decided: {}", at.text, at.reason),
        }),
        Verdict::BeyondMaxima(part) => Err(Refusal::Undecidable {
            block: None,
            check: None,
            reason: format!("the message's {part} is larger than caveats are decided on"),
        }),
    }
}

fn expired_or(capability: &Capability, now: u64, refusal: Refusal) -> Refusal {
    capability.expired_at(now).map_or(refusal, |at| Refusal::Expired { at })
}

fn refusal_of(capability: &Capability, message: &Message<'_>, failed: Vec<FailedCheck>) -> Refusal {
    if failed.iter().all(|check| check.expires_at.is_some())
        && let Some(at) = capability.expired_at(message.time)
    {
        return Refusal::Expired { at };
    }
    // Nothing but the body's facts is missing, and there is a body that was not read: that is another thing to say
    // than that the body does not comply.
    let unread = message.items.is_empty() && message.body_size != Some(0);
    let mut reading = capability.plan().checks().filter(|check| check.reads_body());
    let reads = |failed: &FailedCheck| reading.any(|it| (it.block(), it.index()) == (failed.block, failed.index));
    if unread && failed.iter().all(reads) {
        return Refusal::BodyFactsRequired;
    }
    Refusal::Caveat(FailedCaveats(failed.into_iter().map(FailedCaveat::of).collect()))
}

/// Why a message is not allowed. Prints in words; [`Refusal::kind`] is for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This block, or what it was derived from, has been revoked.
    Revoked {
        /// Which one, the authority being 0.
        block: usize,
    },
    /// The root key is no longer accepted.
    KeyRetired,
    /// Time has run out, and nothing else stands in the way.
    Expired {
        /// The last second at which it had not.
        at: u64,
    },
    /// No right to this operation on this resource.
    NoRight,
    /// A caveat reads the query, which two readers could read differently.
    UnreadableQuery(QueryError),
    /// A caveat reads the body's length, and none was declared.
    LengthRequired,
    /// A caveat reads the body, and the body was not read.
    BodyFactsRequired,
    /// The right is held; these caveats stop the message.
    Caveat(FailedCaveats),
    /// A check cannot be decided for this message, so nothing is allowed on it.
    Undecidable {
        /// The block of the check, where it is one check.
        block: Option<usize>,
        /// Which of its block's checks it is, from 0.
        check: Option<usize>,
        /// What went wrong, in words.
        reason: String,
    },
}

impl Refusal {
    /// The stable problem type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Revoked { .. } | Self::KeyRetired => "revoked",
            Self::Expired { .. } => "expired",
            Self::NoRight => "not-found",
            Self::UnreadableQuery(_) => "bad-query",
            Self::LengthRequired => "length-required",
            Self::BodyFactsRequired | Self::Caveat(_) | Self::Undecidable { .. } => "not-permitted",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked { block: 0 } => f.write_str("the token has been revoked"),
            Self::Revoked { block } => write!(f, "the token has been revoked, at its block {block}"),
            Self::KeyRetired => f.write_str("the key that signed the token has been retired; ask for a new token"),
            Self::Expired { at } => write!(f, "the token expired at {}", crate::caveat::printed_time(*at)),
            Self::NoRight => f.write_str("the token holds no right to this operation on this resource"),
            Self::UnreadableQuery(error) => write!(f, "a caveat reads the query, and {error}"),
            Self::LengthRequired => f.write_str("a caveat limits the body, so its length must be declared"),
            Self::BodyFactsRequired => f.write_str("a caveat asks what the body says, and this body was not read"),
            Self::Caveat(failed) => failed.fmt(f),
            Self::Undecidable { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}

/// The caveats that stop a message, in the order of the token: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCaveats(Box<[FailedCaveat]>);

impl FailedCaveats {
    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, FailedCaveat> {
        self.0.iter()
    }
}

impl fmt::Display for FailedCaveats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, failed) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{failed}")?;
        }
        Ok(())
    }
}

/// One caveat that a message does not satisfy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FailedCaveat {
    /// The block that holds it, the authority being 0.
    pub block: usize,
    /// Which of its block's checks it is, from 0.
    pub check: usize,
    /// The check as text, escaped. For people: it was not decided by this text.
    pub text: Box<str>,
    /// For an expiry, the last second at which it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_at: Option<u64>,
}

impl FailedCaveat {
    fn of(failed: FailedCheck) -> Self {
        Self { block: failed.block, check: failed.index, text: failed.text.into(), expired_at: failed.expires_at }
    }
}

impl fmt::Display for FailedCaveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            0 => write!(f, "the authority block's `{}` fails", self.text),
            block => write!(f, "block {block}'s `{}` fails", self.text),
        }
    }
}

//! The decision on one message, and the only place where a [`Permit`] is made.
//!
//! A permit holds the message it was given for, and whoever forwards takes the message out of the permit: what was
//! checked is what goes on, because there is no other way to have something to forward.
//!
//! # The order of refusals
//!
//! 1. What the token is worth in itself: [`Refusal::Revoked`], [`Refusal::KeyRetired`].
//! 2. No right at all on this resource: [`Refusal::NoRight`]; but [`Refusal::Expired`] where an expiry has
//!    passed, so that a holder learns the reason that new rights would not cure.
//! 3. A right is held there and a fact that a caveat asks for cannot be derived: [`Refusal::UnreadableQuery`],
//!    [`Refusal::LengthRequired`]; or the body has more calls than this token may have decided at once,
//!    [`Refusal::BatchTooLarge`]; again `Expired` goes before.
//! 4. The rights that are held there are to other operations: [`Refusal::OtherOperation`]; again `Expired` goes before.
//! 5. Caveats. All that failed are reported. Where every one of them is an expiry the answer is `Expired`.
//!
//! An *expiry* is a check of exactly the form `check if time($t), $t <= D`.

use std::collections::BTreeSet;
use std::fmt;

use crate::explain::words;
use crate::language::{FailedCheck, Verdict};
use crate::message::{Message, QueryError};
use crate::resource::Operation;
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
    if !capability.holds_any_on(message.resource) {
        return Err(expired_or(capability, message.time, Refusal::NoRight));
    }
    let needs = capability.needs();
    let query = capability.query_facts(message.query_string);
    let query = query.map_err(|error| expired_or(capability, message.time, Refusal::UnreadableQuery(error)))?;
    if needs.body_size && message.body_size.is_none() {
        return Err(expired_or(capability, message.time, Refusal::LengthRequired));
    }
    let (items, max) = (message.calls().len(), capability.items_max());
    if items > max {
        return Err(expired_or(capability, message.time, Refusal::BatchTooLarge { items, max }));
    }
    if !capability.holds(message.resource, message.operation) {
        let other = Refusal::OtherOperation(OtherOperation::of(capability, &message));
        return Err(expired_or(capability, message.time, other));
    }
    match capability.plan().evaluate(&message, &query) {
        Verdict::Passed => Ok(Permit { message }),
        Verdict::Failed(failed) => Err(refusal_of(capability, &message, failed)),
        // With what the body says it may come to another end.
        Verdict::Undecidable(at) if is_unread(&message) && reads_body(capability, at.block, at.index) => {
            Err(Refusal::BodyFactsRequired)
        }
        Verdict::Undecidable(at) => Err(Refusal::Undecidable {
            block: Some(at.block),
            check: Some(at.index),
            reason: format!("`{}` cannot be decided: {}", at.text, at.reason),
            speaks_of_calls: reads_body(capability, at.block, at.index),
        }),
        Verdict::BeyondMaxima(part) => Err(Refusal::Undecidable {
            block: None,
            check: None,
            reason: format!("the message's {part} is larger than caveats are decided on"),
            speaks_of_calls: !message.items.is_empty(),
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
    if is_unread(message) && failed.iter().all(|check| reads_body(capability, check.block, check.index)) {
        return Refusal::BodyFactsRequired;
    }
    Refusal::Caveat(FailedCaveats::of(failed, capability, message))
}

/// Whether there is a body that could say something, and nobody has read it.
fn is_unread(message: &Message<'_>) -> bool {
    message.can_call() && message.items.is_empty() && message.body_size != Some(0)
}

fn reads_body(capability: &Capability, block: usize, index: usize) -> bool {
    capability.plan().checks().any(|check| (check.block(), check.index()) == (block, index) && check.reads_body())
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
    /// No right at all on this resource.
    NoRight,
    /// Rights on this resource, but none to this operation.
    OtherOperation(OtherOperation),
    /// A caveat reads the query, which two readers could read differently.
    UnreadableQuery(QueryError),
    /// A caveat reads the body's length, and none was declared.
    LengthRequired,
    /// Caveats read the calls of the body, and deciding so many of them would take more steps than a message may.
    BatchTooLarge {
        /// How many there are.
        items: usize,
        /// How many this token may have in one message.
        max: usize,
    },
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
        /// Whether it asks what the body says.
        speaks_of_calls: bool,
    },
}

/// How many of the checks that stop a message ask what its body says (`rpc`, `tool`, `arg`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfCalls {
    /// None of them, or no check stops it.
    None,
    /// One at least, and another one does not.
    Some,
    /// Nothing else stands in the message's way.
    All,
}

impl Refusal {
    /// How many of the checks that stop the message speak of calls.
    pub fn of_calls(&self) -> OfCalls {
        match self {
            Self::BodyFactsRequired | Self::Undecidable { speaks_of_calls: true, .. } => OfCalls::All,
            Self::Caveat(failed) => failed.of_calls,
            Self::Revoked { .. }
            | Self::KeyRetired
            | Self::Expired { .. }
            | Self::NoRight
            | Self::OtherOperation(_)
            | Self::UnreadableQuery(_)
            | Self::LengthRequired
            | Self::BatchTooLarge { .. }
            | Self::Undecidable { speaks_of_calls: false, .. } => OfCalls::None,
        }
    }

    /// The stable problem type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Revoked { .. } | Self::KeyRetired => "revoked",
            Self::Expired { .. } => "expired",
            Self::NoRight => "not-found",
            Self::UnreadableQuery(_) => "bad-query",
            Self::LengthRequired => "length-required",
            Self::BatchTooLarge { .. } => "batch-too-large",
            Self::OtherOperation(_) | Self::BodyFactsRequired | Self::Caveat(_) | Self::Undecidable { .. } => {
                "not-permitted"
            }
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
            Self::NoRight => f.write_str("the token holds no right on this resource"),
            Self::OtherOperation(other) => other.fmt(f),
            Self::UnreadableQuery(error) => write!(f, "a caveat reads the query, and {error}"),
            Self::LengthRequired => f.write_str("a caveat limits the body, so its length must be declared"),
            Self::BatchTooLarge { items, max } => write!(
                f,
                "the body holds {items} calls, and with the caveats of this token at most {max} can be decided in one message"
            ),
            Self::BodyFactsRequired => f.write_str("a caveat asks what the body says, and this body was not read"),
            Self::Caveat(failed) => failed.fmt(f),
            Self::Undecidable { reason, .. } => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refusal {}

/// Most operations that a refusal lists: a token may hold two hundred rights.
pub const HELD_OPERATIONS_MAX: usize = 16;

/// What a message asks of a resource on which its token holds other rights: its holder can read them in the token
/// anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherOperation {
    asked: Box<str>,
    resource: Box<str>,
    held: Box<[Operation]>,
    unlisted: usize,
}

impl OtherOperation {
    fn of(capability: &Capability, message: &Message<'_>) -> Self {
        let here = capability.rights().iter().filter(|right| right.resource.as_str() == message.resource);
        let held: BTreeSet<&Operation> = here.map(|right| &right.operation).collect();
        Self {
            asked: message.operation.into(),
            resource: message.resource.into(),
            unlisted: held.len().saturating_sub(HELD_OPERATIONS_MAX),
            held: held.into_iter().take(HELD_OPERATIONS_MAX).cloned().collect(),
        }
    }

    /// The operations that are held on the resource: the first [`HELD_OPERATIONS_MAX`] of them, by the alphabet.
    pub fn held(&self) -> &[Operation] {
        &self.held
    }
}

impl fmt::Display for OtherOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token holds no right to {} on {}, but to ", self.asked, self.resource)?;
        for (at, operation) in self.held.iter().enumerate() {
            write!(f, "{}{operation}", if at > 0 { ", " } else { "" })?;
        }
        if self.unlisted > 0 {
            write!(f, " and {} more", self.unlisted)?;
        }
        Ok(())
    }
}

/// Most caveats that a refusal lists: a holder may append hundreds, and a refusal is sent and logged for every message.
pub const FAILED_CAVEATS_MAX: usize = 16;

/// The caveats that stop a message, in the order of the token: at least one, and the first [`FAILED_CAVEATS_MAX`] of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCaveats {
    listed: Box<[FailedCaveat]>,
    unlisted: usize,
    of_calls: OfCalls,
}

impl FailedCaveats {
    fn of(failed: Vec<FailedCheck>, capability: &Capability, message: &Message<'_>) -> Self {
        let unlisted = failed.len().saturating_sub(FAILED_CAVEATS_MAX);
        let of_calls = match failed.iter().filter(|check| reads_body(capability, check.block, check.index)).count() {
            0 => OfCalls::None,
            all if all == failed.len() => OfCalls::All,
            _ => OfCalls::Some,
        };
        let listed = failed.into_iter().take(FAILED_CAVEATS_MAX);
        let listed = listed.map(|check| FailedCaveat::of(check, capability, message)).collect();
        Self { listed, unlisted, of_calls }
    }

    /// One after the other, as far as they are listed.
    pub fn iter(&self) -> std::slice::Iter<'_, FailedCaveat> {
        self.listed.iter()
    }

    /// How many fail besides those that are listed.
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }
}

impl fmt::Display for FailedCaveats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, failed) in self.listed.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{failed}")?;
        }
        if self.unlisted > 0 {
            write!(f, "; and {} more", self.unlisted)?;
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
    /// The check as text, escaped; of a long one the beginning. For people: it was not decided by this text.
    pub text: Box<str>,
    /// What the caveat allows and what the message asks for instead, in words: where the check has the shape of one of the
    /// command line's caveats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<Box<str>>,
    /// For an expiry, the last second at which it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expired_at: Option<u64>,
}

impl FailedCaveat {
    fn of(failed: FailedCheck, capability: &Capability, message: &Message<'_>) -> Self {
        let FailedCheck { block, index, text, expires_at } = failed;
        let of_plan = capability.plan().checks().find(|check| (check.block(), check.index()) == (block, index));
        let words = of_plan.and_then(|check| words::clause(check.check(), block, message));
        Self { block, check: index, text: text.into(), words: words.map(Into::into), expired_at: expires_at }
    }
}

impl fmt::Display for FailedCaveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(words) = &self.words {
            return f.write_str(words);
        }
        match self.block {
            0 => write!(f, "the authority block's `{}` fails", self.text),
            block => write!(f, "block {block}'s `{}` fails", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caveat::Caveat;
    use crate::keys::{KeyId, KeyRing, SigningKey};
    use crate::message::BodyItem;
    use crate::mint::mint;
    use crate::resource::{Operation, ResourceName, Right};
    use crate::token::{PRICE_BUDGET_DEFAULT, Unverified};

    const NOW: u64 = 1_800_000_000;
    const LATER: u64 = NOW + 1000;

    fn scene(flags: &[(&str, &str)]) -> (Capability, Standing) {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right =
            Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::parse("POST").unwrap() };
        let caveats: Vec<Caveat> =
            flags.iter().flat_map(|(flag, value)| Caveat::of_flag(flag, &[*value], NOW).unwrap()).collect();
        let token = mint(&key, KeyId(1), &[right], &caveats).unwrap_or_else(|error| panic!("{error}"));
        let capability = Unverified::parse(token.expose()).unwrap().verify(&standing, PRICE_BUDGET_DEFAULT).unwrap();
        (capability, standing)
    }

    fn asked(resource: &'static str, time: u64) -> Message<'static> {
        Message::new(resource, "POST", "/a", time, std::net::IpAddr::from([127, 0, 0, 1]))
    }

    fn refusal(scene: &(Capability, Standing), message: Message<'_>) -> Refusal {
        authorize(&scene.0, message, &scene.1).err().expect("the message is refused")
    }

    #[test]
    fn what_is_permitted_is_the_message_that_was_asked_about() {
        let (capability, standing) = scene(&[("path", "/a")]);
        let message = asked("orders", NOW);
        let permit = authorize(&capability, message.clone(), &standing).ok().unwrap();
        assert_eq!(permit.message(), &message);
    }

    #[test]
    fn refusals_come_in_their_order() {
        let scene = scene(&[("expires", "10m"), ("query", "a=b"), ("max-body", "10"), ("path", "/b")]);
        let at = NOW + 600;
        let bad = |time| Message { query_string: "a;b", ..asked("orders", time) };
        assert_eq!(refusal(&scene, asked("stock", NOW)), Refusal::NoRight);
        assert_eq!(refusal(&scene, asked("stock", LATER)), Refusal::Expired { at });
        assert!(matches!(refusal(&scene, bad(NOW)), Refusal::UnreadableQuery(_)));
        assert_eq!(refusal(&scene, bad(LATER)), Refusal::Expired { at });
        assert_eq!(refusal(&scene, asked("orders", NOW)), Refusal::LengthRequired);
        assert_eq!(refusal(&scene, asked("orders", LATER)), Refusal::Expired { at });
        let sized = |time| Message { body_size: Some(11), query_string: "a=b", ..asked("orders", time) };
        let Refusal::Caveat(failed) = refusal(&scene, sized(LATER)) else { panic!("caveats fail") };
        let failed: Vec<_> = failed.iter().map(|it| (it.block, it.check, it.expired_at)).collect();
        assert_eq!(failed, [(0, 0, Some(at)), (0, 2, None), (0, 3, None)], "all that failed, the expiry among them");
        scene.1.revoke(&scene.0.revocation_ids()[..1]);
        assert_eq!(refusal(&scene, asked("stock", LATER)), Refusal::Revoked { block: 0 });
    }

    #[test]
    fn a_right_to_another_operation_is_told_apart_from_none() {
        let scene = scene(&[("expires", "10m"), ("query", "a=b"), ("path", "/b")]);
        let put = |time| Message { operation: "PUT", query_string: "a=b", ..asked("orders", time) };
        let other = refusal(&scene, put(NOW));
        assert_eq!(other.kind(), "not-permitted");
        assert_eq!(other.to_string(), "the token holds no right to PUT on orders, but to POST");
        let problem = crate::problem::Problem::from(&other);
        assert_eq!((problem.status, problem.kind), (403, "not-permitted"));
        assert!(problem.www_authenticate().unwrap().contains("error=\"insufficient_scope\""));
        // What the resource asks of the message comes before, an expiry always.
        let unreadable = Message { query_string: "a;b", ..put(NOW) };
        assert!(matches!(refusal(&scene, unreadable), Refusal::UnreadableQuery(_)));
        assert_eq!(refusal(&scene, put(LATER)), Refusal::Expired { at: NOW + 600 });
        assert_eq!(refusal(&scene, Message { resource: "stock", ..put(NOW) }), Refusal::NoRight);
    }

    #[test]
    fn of_many_operations_that_are_held_some_are_named() {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right = |n: usize| Right {
            resource: ResourceName::parse("orders").unwrap(),
            operation: Operation::parse(&format!("M{n:02}")).unwrap(),
        };
        let rights: Vec<Right> = (0..20).map(right).collect();
        let token = mint(&key, KeyId(1), &rights, &[]).unwrap();
        let capability = Unverified::parse(token.expose()).unwrap().verify(&standing, PRICE_BUDGET_DEFAULT).unwrap();
        let Refusal::OtherOperation(other) = refusal(&(capability, standing), asked("orders", NOW)) else {
            panic!("another operation")
        };
        assert_eq!((other.held().len(), other.held()[0].as_str()), (HELD_OPERATIONS_MAX, "M00"));
        assert!(other.to_string().ends_with(", M15 and 4 more"), "{other}");
    }

    #[test]
    fn a_body_that_was_not_read_is_not_one_that_does_not_comply() {
        let scene = scene(&[("tool", "search"), ("path", "/a")]);
        let sized = |body_size| Message { body_size, ..asked("orders", NOW) };
        assert_eq!(refusal(&scene, sized(Some(9))), Refusal::BodyFactsRequired);
        assert_eq!(refusal(&scene, sized(None)), Refusal::BodyFactsRequired);
        assert!(matches!(refusal(&scene, sized(Some(0))), Refusal::Caveat(_)), "there is no body to read");
        assert!(matches!(refusal(&scene, Message { path: "/b", ..sized(Some(9)) }), Refusal::Caveat(_)));
        let undecided = self::scene(&[("check", "check if tool(\"a\") or body_size($n), 9 / ($n - 9) > 0")]);
        assert_eq!(refusal(&undecided, sized(Some(9))), Refusal::BodyFactsRequired, "it depends on the body");
        let items = [BodyItem { tool: Some("a".to_owned()), ..BodyItem::default() }];
        assert!(authorize(&undecided.0, Message { items: &items, ..sized(Some(9)) }, &undecided.1).is_ok());
        let items = [BodyItem { rpc: "tools/run".to_owned(), ..BodyItem::default() }];
        assert!(matches!(refusal(&scene, Message { items: &items, ..sized(Some(9)) }), Refusal::Caveat(_)));
    }

    #[test]
    fn a_batch_spends_the_budget_of_one_message() {
        // 74 searches of a path for each call: what 64 calls cost was 64 times what the token was admitted by.
        let check = "check if path($p), tool($t), ".to_owned() + &["!$p.contains(\"b\")"; 12].join(" && ");
        let scene = scene(&[("check", &check)]);
        let (prices, max) = (scene.0.prices(), scene.0.items_max());
        assert_eq!(max as u64, (PRICE_BUDGET_DEFAULT - prices.once) / prices.each);
        assert!(max > 1 && max < 64, "{max}");
        let item = BodyItem { tool: Some("a".to_owned()), ..BodyItem::default() };
        let items = vec![item; max + 1];
        let of = |items| Message { items, ..asked("orders", NOW) };
        assert!(authorize(&scene.0, of(&items[..max]), &scene.1).is_ok());
        let refused = refusal(&scene, of(&items));
        assert_eq!(refused, Refusal::BatchTooLarge { items: max + 1, max });
        assert_eq!((refused.kind(), crate::problem::Problem::from(&refused).status), ("batch-too-large", 413));
        assert!(refused.to_string().contains(&format!("at most {max} ")), "{refused}");
    }

    #[test]
    fn it_is_known_which_refusals_speak_of_calls() {
        let scene = scene(&[("tool", "search"), ("path", "/a")]);
        let items = [BodyItem { rpc: "tools/call".to_owned(), tool: Some("a".to_owned()), ..BodyItem::default() }];
        let called = |path| Message { items: &items, path, body_size: Some(9), ..asked("orders", NOW) };
        assert_eq!(refusal(&scene, called("/a")).of_calls(), OfCalls::All);
        assert_eq!(refusal(&scene, called("/b")).of_calls(), OfCalls::Some);
        assert_eq!(refusal(&scene, Message { body_size: Some(9), ..asked("orders", NOW) }).of_calls(), OfCalls::All);
        assert_eq!(refusal(&scene, asked("stock", NOW)).of_calls(), OfCalls::None);
        let elsewhere = self::scene(&[("path", "/a")]);
        assert_eq!(refusal(&elsewhere, called("/b")).of_calls(), OfCalls::None);
    }

    /// Servers of the Model Context Protocol open a stream for a GET, and end a session for a DELETE, whatever its body says.
    #[test]
    fn a_body_says_nothing_unless_it_is_posted() {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(1), key.public()));
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        let items = [BodyItem { rpc: "ping".to_owned(), ..BodyItem::default() }];
        for (flag, value) in [("tool", "search"), ("rpc", "ping"), ("check", "check if rpc($r)")] {
            let caveats = Caveat::of_flag(flag, &[value], NOW).unwrap();
            let token = mint(&key, KeyId(1), std::slice::from_ref(&right), &caveats).unwrap();
            let capability =
                Unverified::parse(token.expose()).unwrap().verify(&standing, PRICE_BUDGET_DEFAULT).unwrap();
            let said = |operation| Message { operation, items: &items, body_size: Some(40), ..asked("orders", NOW) };
            assert!(authorize(&capability, said("POST"), &standing).is_ok(), "{flag}");
            for operation in ["GET", "DELETE", "PUT", "post"] {
                for items in [&items[..], &[]] {
                    let decided = authorize(&capability, Message { items, ..said(operation) }, &standing);
                    assert!(matches!(decided, Err(Refusal::Caveat(_))), "{flag} {operation}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_is_short_however_long_the_caveats_are() {
        let long = format!("/{}", "ä".repeat(400));
        let paths = vec![("path", long.as_str()); 20];
        let scene = scene(&paths);
        let refusal = refusal(&scene, asked("orders", NOW));
        assert!(refusal.to_string().len() < FAILED_CAVEATS_MAX * 400, "{}", refusal.to_string().len());
        assert!(refusal.to_string().ends_with("…; this message asks for /a; and 4 more"), "{refusal}");
        let Refusal::Caveat(failed) = refusal else { panic!("caveats fail") };
        assert_eq!((failed.iter().count(), failed.unlisted()), (FAILED_CAVEATS_MAX, 4));
        assert!(failed.iter().all(|it| it.text.len() <= 256 && it.text.starts_with("check if path(\"/")));
        let shown = scene.0.plan().checks().next().map(|check| check.text().len());
        assert!(shown > Some(800), "whoever inspects the token sees all of it");
    }

    #[test]
    fn what_cannot_be_decided_is_not_allowed() {
        let scene = scene(&[("check", "check if body_size($n), 10 / $n >= 0")]);
        assert!(authorize(&scene.0, Message { body_size: Some(1), ..asked("orders", NOW) }, &scene.1).is_ok());
        let refusal = refusal(&scene, Message { body_size: Some(0), ..asked("orders", NOW) });
        assert!(matches!(refusal, Refusal::Undecidable { block: Some(0), check: Some(0), .. }));
        assert_eq!(refusal.kind(), "not-permitted");
        assert_eq!(
            refusal.to_string(),
            "`check if body_size($n), 10 / $n >= 0` cannot be decided: a number in it is divided by zero"
        );
    }
}

//! What was decided about a message, and when it has to be decided again.
//!
//! Between two dates that a token compares the time with, time alone changes no decision. A token with expiries alone falls
//! at the earliest of them, which takes no deciding; only where a caveat does more with the time is the message kept, as a
//! [`Case`]. Streams of the same message under the same capability have one case between them, and what is decided of it is
//! decided once for all.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use postern_capabilities::authorize::authorize;
use postern_capabilities::message::{KeptMessage, Message};
use postern_capabilities::revocation::{RevocationId, Standing};
use postern_capabilities::token::Capability;

use super::Fallen;

/// What a lease rests on.
pub struct Terms {
    capability: Arc<Capability>,
    decided_at: u64,
    /// Kept where dates to come may change the decision.
    case: Option<Rc<Case>>,
}

/// One message under one capability.
pub(super) struct Case {
    capability: Arc<Capability>,
    message: KeptMessage,
    /// The last decision, and the second at which it was taken.
    decided: RefCell<(u64, Result<(), Fallen>)>,
}

impl Case {
    /// What holds at this second, and the steps that it took to find out.
    fn decide(&self, standing: &Standing, now: u64) -> (Result<(), Fallen>, u64) {
        let mut decided = self.decided.borrow_mut();
        let holds_still = decided.0 <= now && next_turn(&self.capability, decided.0).is_none_or(|turn| turn > now);
        if holds_still {
            return (decided.1.clone(), 0);
        }
        let message = self.message.at(now);
        let steps = self.capability.prices().of_message(message.items.len());
        let verdict = authorize(&self.capability, message, standing).map(drop).map_err(Fallen::from);
        *decided = (now, verdict.clone());
        (verdict, steps)
    }
}

/// Two messages are one case where nothing that a caveat may read tells them apart.
impl PartialEq for Case {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.capability, &other.capability) && self.message == other.message
    }
}

impl Eq for Case {}

impl Hash for Case {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.capability).hash(state);
        self.message.hash(state);
    }
}

/// The next second, after now and before the end, at which a message has to be decided again.
fn next_turn(capability: &Capability, now: u64) -> Option<u64> {
    let turns = capability.turns();
    let next = *turns.get(turns.partition_point(|turn| *turn <= now))?;
    capability.expires_at().is_none_or(|at| next <= at).then_some(next)
}

impl Terms {
    /// The terms of a message that was permitted just now.
    pub fn of(capability: &Arc<Capability>, message: &Message<'_>) -> Self {
        let terms = Self { capability: Arc::clone(capability), decided_at: message.time, case: None };
        match next_turn(capability, message.time) {
            Some(_) => {
                let (capability, message) = (Arc::clone(capability), KeptMessage::of(message));
                let decided = RefCell::new((terms.decided_at, Ok(())));
                Self { case: Some(Rc::new(Case { capability, message, decided })), ..terms }
            }
            None => terms,
        }
    }

    /// The terms of a message that is not decided yet, because its body is still to come.
    pub fn undecided(capability: &Arc<Capability>, now: u64) -> Self {
        Self { capability: Arc::clone(capability), decided_at: now, case: None }
    }

    /// The case that it is one of, where it may be decided again.
    pub(super) fn case(&mut self) -> Option<&mut Rc<Case>> {
        self.case.as_mut()
    }

    /// The time of the first decision.
    pub(super) fn decided_at(&self) -> u64 {
        self.decided_at
    }

    /// What ends these terms when it is revoked.
    pub(super) fn revocation_ids(&self) -> &[RevocationId] {
        self.capability.revocation_ids()
    }

    /// The next second at which time may end them.
    pub(super) fn next_due(&self, now: u64) -> Option<u64> {
        let turn = self.case.as_ref().and_then(|case| next_turn(&case.capability, now));
        // `time($t), $t <= D` holds through the whole of second D.
        let end = self.capability.expires_at().map(|at| at.saturating_add(1));
        [turn, end].into_iter().flatten().filter(|due| *due > now).min()
    }

    /// Whether a revocation or a retired key has ended them. One atomic load where nothing has changed.
    pub(super) fn standing(&self, standing: &Standing) -> Result<(), Fallen> {
        self.capability.standing(standing).map_err(Fallen::from)
    }

    /// Decides again, at a time that [`next_due`](Self::next_due) named; and says how many steps that took.
    pub(super) fn decide(&self, standing: &Standing, now: u64) -> (Result<(), Fallen>, u64) {
        if let Err(fallen) = self.standing(standing) {
            return (Err(fallen), 0);
        }
        if let Some(at) = self.capability.expired_at(now) {
            return (Err(Fallen::Expired { at }), 0);
        }
        self.case.as_ref().map_or((Ok(()), 0), |case| case.decide(standing, now))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use postern_capabilities::authorize::Refusal;
    use postern_capabilities::caveat::Caveat;
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::token::Unverified;
    use postern_capabilities::{Operation, Right, mint};

    use super::*;

    /// 2026-01-01.
    pub(crate) const NOW: u64 = 1_767_225_600;

    pub(crate) fn message() -> Message<'static> {
        Message::new("orders", "GET", "/a", NOW, [127, 0, 0, 1].into())
    }

    pub(crate) struct Scene {
        pub(crate) standing: Arc<Standing>,
        key: SigningKey,
    }

    impl Scene {
        pub(crate) fn new() -> Self {
            let key = SigningKey::generate();
            Self { standing: Arc::new(Standing::new(KeyRing::of(KeyId(1), key.public()))), key }
        }

        pub(crate) fn capability(&self, checks: &[&str]) -> Arc<Capability> {
            let right = Right { resource: "orders".parse().expect("a name"), operation: Operation::any() };
            let caveats: Vec<_> =
                checks.iter().flat_map(|check| Caveat::of_flag("check", &[check], NOW).expect("a caveat")).collect();
            let token = mint(&self.key, KeyId(1), &[right], &caveats).expect("minted");
            let unverified = Unverified::parse(token.expose()).expect("a token");
            Arc::new(unverified.verify(&self.standing, 10_000).expect("verified"))
        }
    }

    #[test]
    fn a_message_is_kept_only_where_its_decision_may_change() {
        let scene = Scene::new();
        let keeps = |checks: &[&str]| Terms::of(&scene.capability(checks), &message()).case.is_some();
        assert!(!keeps(&[]));
        assert!(!keeps(&["check if time($t), $t <= 2026-01-02T00:00:00Z"]));
        assert!(!keeps(&["check if time($t), $t > 2025-01-02T00:00:00Z"]), "it has passed for good");
        assert!(keeps(&["check if time($t), $t < 2026-01-02T00:00:00Z"]));
        assert!(!keeps(&[
            "check if time($t), $t < 2026-01-03T00:00:00Z",
            "check if time($t), $t <= 2026-01-02T00:00:00Z",
        ]));
    }

    #[test]
    fn a_message_is_decided_again_at_every_turn() {
        let scene = Scene::new();
        let check = "check if time($t), $t < 2026-01-01T00:00:10Z or time($t), $t > 2026-01-01T00:00:20Z";
        let terms = Terms::of(&scene.capability(&[check]), &message());
        let due = [0, 10, 11, 20, 21].map(|after| terms.next_due(NOW + after).map(|due| due - NOW));
        assert_eq!(due, [Some(10), Some(11), Some(20), Some(21), None]);
        let decide = |after| terms.decide(&scene.standing, NOW + after).0;
        assert_eq!(decide(9), Ok(()));
        assert!(matches!(decide(10), Err(Fallen::Stopped(refusal)) if matches!(*refusal, Refusal::Caveat(_))));
        assert_eq!(decide(21), Ok(()));
    }

    #[test]
    fn an_expiry_is_over_when_its_second_is() {
        let scene = Scene::new();
        let terms = Terms::of(&scene.capability(&["check if time($t), $t <= 2026-01-01T00:00:10Z"]), &message());
        assert_eq!(terms.next_due(NOW), Some(NOW + 11));
        assert_eq!(terms.decide(&scene.standing, NOW + 10).0, Ok(()));
        assert_eq!(terms.decide(&scene.standing, NOW + 11).0, Err(Fallen::Expired { at: NOW + 10 }));
        scene.standing.set_keys(KeyRing::new());
        assert_eq!(terms.decide(&scene.standing, NOW + 11).0, Err(Fallen::KeyRetired));
    }
}

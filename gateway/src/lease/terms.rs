//! What was decided about a message, and when it has to be decided again.
//!
//! Between two dates that a token compares the time with, time alone changes no decision. A token with expiries alone falls
//! at the earliest of them, which takes no deciding; only where a caveat does more with the time is the message kept.

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
    message: Option<Box<KeptMessage>>,
}

impl Terms {
    /// The terms of a message that was permitted just now.
    pub fn of(capability: &Arc<Capability>, message: &Message<'_>) -> Self {
        let terms = Self { capability: Arc::clone(capability), decided_at: message.time, message: None };
        match terms.next_turn(message.time) {
            Some(_) => Self { message: Some(Box::new(KeptMessage::of(message))), ..terms },
            None => terms,
        }
    }

    /// The terms of a message that is not decided yet, because its body is still to come.
    pub fn undecided(capability: &Arc<Capability>, now: u64) -> Self {
        Self { capability: Arc::clone(capability), decided_at: now, message: None }
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
        let turn = if self.message.is_some() { self.next_turn(now) } else { None };
        // `time($t), $t <= D` holds through the whole of second D.
        let end = self.capability.expires_at().map(|at| at.saturating_add(1));
        [turn, end].into_iter().flatten().filter(|due| *due > now).min()
    }

    /// The next second, after now and before the end, at which the message has to be decided again.
    fn next_turn(&self, now: u64) -> Option<u64> {
        let turns = self.capability.turns();
        let next = *turns.get(turns.partition_point(|turn| *turn <= now))?;
        self.capability.expires_at().is_none_or(|at| next <= at).then_some(next)
    }

    /// Whether a revocation or a retired key has ended them. One atomic load where nothing has changed.
    pub(super) fn standing(&self, standing: &Standing) -> Result<(), Fallen> {
        self.capability.standing(standing).map_err(Fallen::from)
    }

    /// Decides again, at a time that [`next_due`](Self::next_due) named.
    pub(super) fn decide(&self, standing: &Standing, now: u64) -> Result<(), Fallen> {
        self.standing(standing)?;
        if let Some(at) = self.capability.expired_at(now) {
            return Err(Fallen::Expired { at });
        }
        match &self.message {
            Some(message) => authorize(&self.capability, message.at(now), standing).map(drop).map_err(Fallen::from),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use postern_capabilities::authorize::Refusal;
    use postern_capabilities::caveat::Caveat;
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::token::Unverified;
    use postern_capabilities::{Operation, Right, mint};

    use super::*;

    /// 2026-01-01.
    pub(in super::super) const NOW: u64 = 1_767_225_600;

    pub(in super::super) fn message() -> Message<'static> {
        Message::new("orders", "GET", "/a", NOW, [127, 0, 0, 1].into())
    }

    pub(in super::super) struct Scene {
        pub(in super::super) standing: Arc<Standing>,
        key: SigningKey,
    }

    impl Scene {
        pub(in super::super) fn new() -> Self {
            let key = SigningKey::generate();
            Self { standing: Arc::new(Standing::new(KeyRing::of(KeyId(1), key.public()))), key }
        }

        pub(in super::super) fn capability(&self, checks: &[&str]) -> Arc<Capability> {
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
        let keeps = |checks: &[&str]| Terms::of(&scene.capability(checks), &message()).message.is_some();
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
        let decide = |after| terms.decide(&scene.standing, NOW + after);
        assert_eq!(decide(9), Ok(()));
        assert!(matches!(decide(10), Err(Fallen::Stopped(refusal)) if matches!(*refusal, Refusal::Caveat(_))));
        assert_eq!(decide(21), Ok(()));
    }

    #[test]
    fn an_expiry_is_over_when_its_second_is() {
        let scene = Scene::new();
        let terms = Terms::of(&scene.capability(&["check if time($t), $t <= 2026-01-01T00:00:10Z"]), &message());
        assert_eq!(terms.next_due(NOW), Some(NOW + 11));
        assert_eq!(terms.decide(&scene.standing, NOW + 10), Ok(()));
        assert_eq!(terms.decide(&scene.standing, NOW + 11), Err(Fallen::Expired { at: NOW + 10 }));
        scene.standing.set_keys(KeyRing::new());
        assert_eq!(terms.decide(&scene.standing, NOW + 11), Err(Fallen::KeyRetired));
    }
}

//! Property: whatever is appended in whatever groups, with restarts anywhere, the rebuilt state is the live state.

use postern_capabilities::keys::{KeyId, SigningKey};
use postern_capabilities::resource::ResourceName;
use postern_gateway::ledger::{By, Event, Expected, Happening};
use proptest::prelude::*;

use crate::{Engine, Recorder, revoked, revoked_id, runtime};

/// One thing to do to a record.
#[derive(Clone, Debug)]
pub enum Step {
    /// Revoke these made-up ids in one append.
    Revoke(Vec<u64>),
    /// Let a new key mint, if the ring has room.
    Rotate,
    /// Retire the oldest live key that does not mint, if there is one.
    Retire,
    /// Record a mint.
    Mint(u64),
    /// Drop the engine and open it again.
    Restart,
}

/// Sequences of steps.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(0..40u64, 1..6).prop_map(Step::Revoke),
        2 => Just(Step::Rotate),
        1 => Just(Step::Retire),
        2 => (0..60u64).prop_map(Step::Mint),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// Does the steps and compares what is rebuilt with what was live, after each restart and at the end.
pub fn rebuilt_is_live(engine: &impl Engine, steps: &[Step]) {
    runtime().block_on(async {
        let mut recorder = Recorder::default();
        let mut record = engine.open(recorder.boxed());
        for step in steps.iter().chain([&Step::Restart]) {
            let state = recorder.so_far().state;
            let events: Vec<Event> = match step {
                Step::Restart => {
                    drop(record);
                    let rebuilt = Recorder::default();
                    record = engine.open(rebuilt.boxed());
                    assert_eq!(rebuilt.so_far().state, state);
                    assert_eq!(rebuilt.so_far().state.digest(), state.digest());
                    recorder = rebuilt;
                    continue;
                }
                Step::Revoke(numbers) => numbers.iter().map(|number| revoked(*number).event).collect(),
                Step::Rotate => {
                    let (id, key) = (state.keys().next_id(), SigningKey::generate().public());
                    match state.keys().clone().rotate(id, key) {
                        Ok(()) => vec![Event::KeyAdded { id, key }, Event::KeyMinting { id }],
                        Err(_) => continue,
                    }
                }
                Step::Retire => {
                    let minting = state.keys().minting().map(|entry| entry.id);
                    let oldest: Option<KeyId> =
                        state.keys().live().map(|entry| entry.id).find(|id| Some(*id) != minting);
                    match oldest {
                        Some(id) => vec![Event::KeyRetired { id }],
                        None => continue,
                    }
                }
                Step::Mint(number) => {
                    let id = revoked_id(number + 1_000);
                    let resource = ResourceName::parse("orders").expect("a name");
                    let under = vec![revoked_id(number % 40), id];
                    // One in three as earlier versions recorded it.
                    let key = state.keys().live().last().map(|entry| entry.id).filter(|_| number % 3 > 0);
                    vec![Event::Minted { resource, id, under, key, until: None }]
                }
            };
            let happenings = events.into_iter().map(|event| Happening { at: 7, by: By::gateway(), event }).collect();
            let expected = Expected::At(state.position());
            let position = record.append(happenings, expected).await.expect("appended where expected");
            assert_eq!(recorder.so_far().state.position(), position);
        }
    });
}

//! The state that the record yields: which keys there are and what is revoked.
//!
//! [`Projection`] is a pure fold over events, so that it can be rebuilt at any time and compared: at start-up, when old
//! records are folded, and by `verify`. [`Projector`] keeps the live one and carries each change into [`Standing`].

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use postern_capabilities::keys::{KeyEntry, KeyId, KeyRing, KeyRingError, KeyState};
use postern_capabilities::resource::ADMINISTRATION;
use postern_capabilities::revocation::{RevocationId, Standing};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::{By, Event};
use super::record::{Entry, Observer, Position};
use crate::telemetry::LedgerMetrics;

/// The state after all records up to [`Projection::position`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Projection {
    position: Position,
    keys: KeyRing,
    revoked: BTreeMap<RevocationId, Revocation>,
    /// The same revocations by place, for paging in the order in which they happened.
    order: BTreeSet<(Position, RevocationId)>,
    minted: BTreeMap<RevocationId, Mint>,
    /// What was minted under each id, to be revoked with it.
    minted_under: BTreeMap<RevocationId, BTreeSet<RevocationId>>,
    /// What was minted under capabilities of each root key, to be revoked when it is retired.
    minted_by_key: BTreeMap<KeyId, BTreeSet<RevocationId>>,
}

/// What is known of one capability that was minted through administration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mint {
    /// The revocation ids of the capability that was presented.
    under: BTreeSet<RevocationId>,
    /// The root key of that capability. `None`: there was none yet, as in tests.
    key: Option<KeyId>,
    /// Who presented it.
    by: By,
    /// The last second in which the minted capability is good, where that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    /// Whether a rotation renewed the administration capability with it. Such a one descends from the new key alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    renewed: bool,
}

/// One revocation in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The record that says so first.
    pub position: Position,
    /// When, in whole seconds since the epoch.
    pub at: u64,
    /// Who asked for it.
    pub by: By,
}

/// An event that cannot follow what was recorded before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {position}: {reason}")]
pub struct Inconsistent {
    /// Where.
    pub position: Position,
    /// How.
    pub reason: String,
}

impl Projection {
    /// The last record that is part of this state.
    pub fn position(&self) -> Position {
        self.position
    }

    /// All keys, live and retired.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Whether an id is revoked, and by which record.
    pub fn revocation(&self, id: &RevocationId) -> Option<&Revocation> {
        self.revoked.get(id)
    }

    /// All revoked ids.
    pub fn revoked(&self) -> impl ExactSizeIterator<Item = (&RevocationId, &Revocation)> {
        self.revoked.iter()
    }

    /// Revocations recorded after `after`, oldest first.
    pub fn revoked_after(&self, after: Position) -> impl Iterator<Item = (&RevocationId, &Revocation)> {
        let first = (after.next(), RevocationId::from_bytes(&[0; 64]).expect("an id has 64 bytes"));
        self.order.range(first..).filter_map(|(_, id)| self.revoked.get_key_value(id))
    }

    /// Capabilities minted through administration.
    pub fn minted_count(&self) -> usize {
        self.minted.len()
    }

    /// Takes one record in. An error leaves the state as it was.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Inconsistent> {
        let wrong = |reason: String| Inconsistent { position: entry.position, reason };
        if entry.position != self.position.next() {
            return Err(wrong(format!("it should be record {}", self.position.next())));
        }
        let of_ring = |error: KeyRingError| wrong(error.to_string());
        match &entry.happening.event {
            Event::KeyAdded { id, key } => self.keys.add(*id, *key, KeyState::Live).map_err(of_ring)?,
            Event::KeyMinting { id } => self.keys = with_minting(&self.keys, *id).map_err(of_ring)?,
            Event::KeyRetired { id } => {
                self.keys.retire(*id).map_err(of_ring)?;
                self.descendants(*id).into_iter().for_each(|id| self.note_revoked(id, entry));
            }
            Event::Revoked { id } => self.revoke(*id, entry),
            Event::Minted { resource, id, under, key, until } => {
                let renewed = resource.as_str() == ADMINISTRATION;
                let key = key.or_else(|| self.unrecorded_key(renewed, under));
                let (by, until) = (entry.happening.by.clone(), *until);
                self.mint(*id, Mint { under: under.iter().copied().collect(), key, by, until, renewed });
                // The capability it was minted under may have ended while the mint was being recorded.
                let is_retired = key.is_some_and(|key| self.is_retired(key));
                if is_retired || under.iter().any(|under| self.revoked.contains_key(under)) {
                    self.revoke(*id, entry);
                }
            }
            // The floor itself stands beside the record, where the engine keeps it.
            Event::ClockAccepted { .. } => {}
        }
        self.position = entry.position;
        Ok(())
    }

    /// Revokes an id, what was minted under it, what was minted under that, and so on to the end: a renewed
    /// administration capability is minted under the one before it, and mints in its turn. The first revocation of an id
    /// stands.
    fn revoke(&mut self, id: RevocationId, entry: &Entry) {
        self.reach([id], |_| true).into_iter().for_each(|id| self.note_revoked(id, entry));
    }

    fn note_revoked(&mut self, id: RevocationId, entry: &Entry) {
        let Entry { position, happening } = entry;
        if let btree_map::Entry::Vacant(vacant) = self.revoked.entry(id) {
            vacant.insert(Revocation { position: *position, at: happening.at, by: happening.by.clone() });
            self.order.insert((*position, id));
        }
    }

    /// These ids, what was minted under them, what was minted under that, and so on, as far as `passes` lets each on.
    fn reach(
        &self,
        ids: impl IntoIterator<Item = RevocationId>,
        passes: impl Fn(&RevocationId) -> bool,
    ) -> BTreeSet<RevocationId> {
        // A list and not a recursion: how deep this goes is for callers to decide. The set ends a circle, which no honest
        // record has.
        let mut ahead: Vec<_> = ids.into_iter().collect();
        let mut seen: BTreeSet<_> = ahead.iter().copied().collect();
        while let Some(id) = ahead.pop() {
            let minted = self.minted_under.get(&id).into_iter().flatten();
            ahead.extend(minted.copied().filter(|minted| passes(minted) && seen.insert(*minted)));
        }
        seen
    }

    /// All that descends from a root key's capabilities by minting, to any depth. A renewed administration capability is
    /// left out unless the key is its own: it was made so that the key before it can be retired.
    fn descendants(&self, key: KeyId) -> BTreeSet<RevocationId> {
        let minted = self.minted_by_key.get(&key).into_iter().flatten().copied();
        self.reach(minted, |id| self.minted.get(id).is_none_or(|mint| !mint.renewed))
    }

    /// How many capabilities that retiring this key would end are good at this second, by who presented the capability
    /// that each was minted under. What the key itself signed offline leaves no trace and is not among them, nor is the
    /// administration capability that a rotation made, which the next rotation renews.
    pub fn live_mints(&self, key: KeyId, now: u64) -> BTreeMap<By, usize> {
        let mut counts = BTreeMap::new();
        for id in self.descendants(key) {
            let Some(mint) = self.minted.get(&id) else { continue };
            if !mint.renewed && !self.revoked.contains_key(&id) && mint.until.is_none_or(|until| until >= now) {
                *counts.entry(mint.by.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// The key that a record of version 1 left out. A rotation's renewal was signed by the key that minted then, and what
    /// was minted under a renewal has its key. Of any other mint the key is taken to be the oldest that was live.
    fn unrecorded_key(&self, renewed: bool, under: &[RevocationId]) -> Option<KeyId> {
        if renewed {
            return self.keys.minting().map(|entry| entry.id);
        }
        let of_renewal = |id: &RevocationId| self.minted.get(id).filter(|mint| mint.renewed)?.key;
        under.iter().find_map(of_renewal).or_else(|| self.oldest_live_key())
    }

    fn oldest_live_key(&self) -> Option<KeyId> {
        self.keys.live().next().map(|entry| entry.id)
    }

    fn is_retired(&self, key: KeyId) -> bool {
        self.keys.get(key).is_some_and(|entry| entry.state == KeyState::Retired)
    }

    fn mint(&mut self, id: RevocationId, mint: Mint) {
        for presented in &mint.under {
            self.minted_under.entry(*presented).or_default().insert(id);
        }
        if let Some(key) = mint.key {
            self.minted_by_key.entry(key).or_default().insert(id);
        }
        match self.minted.entry(id) {
            btree_map::Entry::Vacant(vacant) => drop(vacant.insert(mint)),
            // An id is a signature, so a second mint of the same id would be a bug; the sets make it harmless.
            btree_map::Entry::Occupied(mut occupied) => {
                let before = occupied.get_mut();
                before.under.extend(mint.under);
                before.renewed &= mint.renewed;
            }
        }
    }

    /// The stored form of a snapshot: the same state always yields the same bytes.
    pub fn to_body(&self) -> Vec<u8> {
        let stored = Stored {
            position: self.position,
            keys: self.keys.entries().to_vec(),
            revoked: self.revoked.iter().map(|(id, revocation)| (*id, revocation.clone())).collect(),
            minted: Vec::new(),
            mints: self.minted.iter().map(|(id, mint)| (*id, mint.clone())).collect(),
        };
        serde_json::to_vec(&stored).expect("a state is made of strings and numbers, which JSON can always hold")
    }

    /// Reads the stored form.
    pub fn from_body(body: &[u8]) -> Result<Self, String> {
        let stored: Stored = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let mut keys = KeyRing::new();
        for entry in stored.keys {
            keys.add(entry.id, entry.key, entry.state).map_err(|error| error.to_string())?;
        }
        let order = stored.revoked.iter().map(|(id, revocation)| (revocation.position, *id)).collect();
        let revoked = stored.revoked.into_iter().collect();
        let mut state = Self { position: stored.position, keys, revoked, order, ..Self::default() };
        let key = state.oldest_live_key();
        for (id, under) in stored.minted {
            state.mint(id, Mint { under, key, by: By::unrecorded(), until: None, renewed: false });
        }
        stored.mints.into_iter().for_each(|(id, mint)| state.mint(id, mint));
        Ok(state)
    }

    /// A digest of the whole state, to compare a live state with a rebuilt one.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_body()).into()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    position: Position,
    keys: Vec<KeyEntry>,
    revoked: Vec<(RevocationId, Revocation)>,
    /// As snapshots of the first version have it: without key and presenter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    minted: Vec<(RevocationId, BTreeSet<RevocationId>)>,
    #[serde(default)]
    mints: Vec<(RevocationId, Mint)>,
}

/// The ring in which `id` mints; the key that did stays live.
fn with_minting(keys: &KeyRing, id: KeyId) -> Result<KeyRing, KeyRingError> {
    match keys.get(id) {
        Some(entry) if entry.state != KeyState::Retired => {}
        _ => return Err(KeyRingError::Unknown(id)),
    }
    let mut next = KeyRing::new();
    for entry in keys.entries() {
        let state = match entry.state {
            _ if entry.id == id => KeyState::Minting,
            KeyState::Minting => KeyState::Live,
            state => state,
        };
        next.add(entry.id, entry.key, state)?;
    }
    Ok(next)
}

/// Keeps the live state and carries it into [`Standing`]. Held by the engine, called as records become durable.
pub struct Projector {
    state: Arc<RwLock<Projection>>,
    standing: Arc<Standing>,
    metrics: Arc<LedgerMetrics>,
}

impl Projector {
    /// A projector that starts from nothing.
    pub fn new(standing: Arc<Standing>, metrics: Arc<LedgerMetrics>) -> Self {
        Self { state: Arc::default(), standing, metrics }
    }

    /// The live state, for reading.
    pub fn live(&self) -> LiveProjection {
        LiveProjection(Arc::clone(&self.state))
    }
}

impl Observer for Projector {
    fn restore(&mut self, snapshot: &Projection) {
        let ids: Vec<_> = snapshot.revoked.keys().copied().collect();
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
        self.standing.set_keys(snapshot.keys.clone());
        self.standing.revoke(&ids);
        self.metrics.revoked.set(ids.len() as u64);
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Inconsistent> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.position;
        let keys_before = state.keys.clone();
        let outcome = entries.iter().try_for_each(|entry| state.apply(entry));
        // What was applied before an inconsistent record stands all the same: a revocation must not wait for it.
        let ids: Vec<_> = state.revoked_after(before).map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            self.standing.revoke(&ids);
        }
        if state.keys != keys_before {
            self.standing.set_keys(state.keys.clone());
        }
        self.metrics.revoked.set(state.revoked.len() as u64);
        outcome
    }

    fn digest(&self) -> Option<(Position, [u8; 32])> {
        let state = self.live().read().clone();
        Some((state.position, state.digest()))
    }
}

/// Read access to the live state.
#[derive(Clone)]
pub struct LiveProjection(Arc<RwLock<Projection>>);

impl LiveProjection {
    /// The state as it is now. Keep the guard short: the ledger's writer waits for it.
    pub fn read(&self) -> RwLockReadGuard<'_, Projection> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use postern_capabilities::keys::SigningKey;

    use super::super::event::Happening;
    use super::*;

    fn entry(position: u64, event: Event) -> Entry {
        Entry { position: Position(position), happening: Happening { at: 7, by: By::gateway(), event } }
    }

    fn id(byte: u8) -> RevocationId {
        RevocationId::from_bytes(&[byte; 64]).unwrap()
    }

    fn events() -> Vec<Entry> {
        let key = || SigningKey::generate().public();
        vec![
            entry(1, Event::KeyAdded { id: KeyId(0), key: key() }),
            entry(2, Event::KeyMinting { id: KeyId(0) }),
            entry(3, Event::Revoked { id: id(9) }),
            entry(4, Event::KeyAdded { id: KeyId(1), key: key() }),
            entry(5, Event::KeyMinting { id: KeyId(1) }),
            entry(6, Event::KeyRetired { id: KeyId(0) }),
            entry(7, Event::Revoked { id: id(1) }),
            entry(8, Event::Revoked { id: id(9) }),
        ]
    }

    #[test]
    fn a_snapshot_in_the_middle_changes_nothing() {
        for cut in 0..8 {
            let mut whole = Projection::default();
            let mut cut_short = Projection::default();
            for (index, entry) in events().iter().enumerate() {
                whole.apply(entry).unwrap();
                cut_short.apply(entry).unwrap();
                if index == cut {
                    cut_short = Projection::from_body(&cut_short.to_body()).unwrap();
                }
            }
            assert_eq!(cut_short.revoked.len(), 2);
            assert_eq!(cut_short.revocation(&id(9)).unwrap().position, Position(3), "the first revocation counts");
            assert_eq!(cut_short.keys().minting().unwrap().id, KeyId(1));
            assert_eq!(cut_short.digest(), Projection::from_body(&cut_short.to_body()).unwrap().digest());
        }
    }

    #[test]
    fn contradictions_are_refused_and_change_nothing() {
        let mut state = Projection::default();
        events().iter().for_each(|entry| state.apply(entry).unwrap());
        let before = state.clone();
        assert!(state.apply(&entry(10, Event::Revoked { id: id(2) })).is_err(), "a gap");
        assert!(state.apply(&entry(9, Event::KeyMinting { id: KeyId(0) })).is_err(), "a retired key");
        assert!(state.apply(&entry(9, Event::KeyRetired { id: KeyId(5) })).is_err(), "an unknown key");
        assert_eq!(state, before);
    }

    /// Law 6: what was had through a capability ends with it, in whatever order the two are recorded.
    #[test]
    fn what_was_minted_under_a_capability_is_revoked_with_it() {
        let standing = Arc::new(Standing::new(KeyRing::new()));
        let mut projector = Projector::new(Arc::clone(&standing), Arc::default());
        let events = [minted(11, &[1, 2]), minted(12, &[1]), Event::Revoked { id: id(2) }];
        let entries: Vec<_> = events.into_iter().zip(1..).map(|(event, position)| entry(position, event)).collect();
        projector.apply(&entries).unwrap();
        assert!(standing.is_revoked(&id(11)) && !standing.is_revoked(&id(12)));
        let live = projector.live().read().clone();
        let again = Projection::from_body(&live.to_body()).unwrap();
        assert_eq!(again, live);
        projector.restore(&again);
        projector.apply(&[entry(4, Event::Revoked { id: id(1) }), entry(5, minted(13, &[1]))]).unwrap();
        assert!(standing.is_revoked(&id(12)), "after a snapshot too");
        assert!(standing.is_revoked(&id(13)), "minted while its capability was being revoked");
    }

    fn minted(byte: u8, under: &[u8]) -> Event {
        let resource = postern_capabilities::resource::ResourceName::parse("orders").unwrap();
        let under = under.iter().copied().map(id).collect();
        Event::Minted { resource, id: id(byte), under, key: None, until: None }
    }

    fn under_key(event: Event, number: u32, ends: Option<u64>) -> Event {
        match event {
            Event::Minted { resource, id, under, .. } => {
                Event::Minted { resource, id, under, key: Some(KeyId(number)), until: ends }
            }
            other => other,
        }
    }

    fn renewed(byte: u8, under: &[u8]) -> Event {
        match minted(byte, under) {
            Event::Minted { id, under, key, until, .. } => {
                Event::Minted { resource: ADMINISTRATION.parse().unwrap(), id, under, key, until }
            }
            other => other,
        }
    }

    fn key_added(number: u32) -> [Event; 2] {
        let (id, key) = (KeyId(number), SigningKey::generate().public());
        [Event::KeyAdded { id, key }, Event::KeyMinting { id }]
    }

    /// Law 6: retiring a key ends what was minted under its capabilities, though another key signed it, to any depth; the
    /// administration capability that a rotation made stays, also after several rotations.
    #[test]
    fn law_6_a_retired_key_ends_all_that_was_minted_under_it() {
        let mut events: Vec<Event> = key_added(0).into();
        events.push(under_key(minted(20, &[1]), 0, None));
        events.extend(key_added(1));
        events.push(under_key(renewed(2, &[1]), 1, None));
        // Signed by key 1, presented: the capability of key 0; and what was minted under that in turn.
        events.extend([under_key(minted(21, &[1]), 0, Some(100)), under_key(minted(22, &[21]), 1, None)]);
        events.push(under_key(minted(23, &[2]), 1, Some(50)));
        events.extend(key_added(2));
        events.push(under_key(renewed(3, &[2]), 2, None));
        events.extend([under_key(minted(24, &[3]), 2, None), Event::KeyRetired { id: KeyId(0) }]);
        // Recorded too late: its key is retired already.
        events.push(under_key(minted(25, &[9]), 0, None));
        events.push(Event::KeyRetired { id: KeyId(1) });
        let entries: Vec<_> = events.into_iter().zip(1..).map(|(event, position)| entry(position, event)).collect();
        let retired_0 = entries.len() - 3;
        for cut in 0..=entries.len() {
            let standing = Arc::new(Standing::new(KeyRing::new()));
            let mut projector = Projector::new(Arc::clone(&standing), Arc::default());
            projector.apply(&entries[..cut.min(retired_0)]).unwrap();
            if cut == retired_0 {
                let live = projector.live().read().clone();
                let count = |key, now| live.live_mints(KeyId(key), now).values().sum::<usize>();
                assert_eq!([count(0, 100), count(0, 101), count(1, 50), count(1, 51)], [3, 2, 2, 1]);
                assert_eq!(live.live_mints(KeyId(2), 0), BTreeMap::from([(By::gateway(), 1)]));
            }
            projector.apply(&entries[cut.min(retired_0)..cut]).unwrap();
            let body = projector.live().read().to_body();
            projector.restore(&Projection::from_body(&body).unwrap());
            projector.apply(&entries[cut..]).unwrap();
            let revoked: Vec<_> = (1..40).filter(|byte| standing.is_revoked(&id(*byte))).collect();
            assert_eq!(revoked, [2, 20, 21, 22, 23, 25], "with a snapshot after record {cut}");
            assert_eq!(projector.live().read().live_mints(KeyId(0), 0), BTreeMap::new());
        }
    }

    /// What the first version recorded names no key: it is taken to be the oldest that was live, unless the record tells.
    #[test]
    fn mints_of_the_first_version_fall_with_the_oldest_key_that_was_live() {
        let mut events: Vec<Event> = key_added(0).into();
        events.extend(key_added(1));
        events.extend([renewed(2, &[1]), minted(20, &[1]), minted(21, &[2]), minted(22, &[7])]);
        let mut state = Projection::default();
        let entries: Vec<_> = events.into_iter().zip(1..).map(|(event, position)| entry(position, event)).collect();
        entries.iter().for_each(|entry| state.apply(entry).unwrap());
        state.apply(&entry(9, Event::KeyRetired { id: KeyId(0) })).unwrap();
        let revoked: Vec<_> = (1..40).filter(|byte| state.revocation(&id(*byte)).is_some()).collect();
        assert_eq!(revoked, [20, 22]);
        state.apply(&entry(10, minted(23, &[7]))).unwrap();
        state.apply(&entry(11, Event::KeyRetired { id: KeyId(1) })).unwrap();
        assert!(state.revocation(&id(23)).is_some() && state.revocation(&id(21)).is_some());
    }

    #[test]
    fn a_snapshot_of_the_first_version_is_read_and_its_mints_fall_with_the_oldest_live_key() {
        let key = |id: u32, state: &str| serde_json::json!({ "id": id, "key": SigningKey::generate().public(), "state": state });
        let body = serde_json::json!({
            "position": 5, "keys": [key(0, "retired"), key(1, "live"), key(2, "minting")], "revoked": [],
            "minted": [[id(20), [id(1)]]],
        });
        let mut state = Projection::from_body(body.to_string().as_bytes()).unwrap();
        assert_eq!(state.live_mints(KeyId(1), 0), BTreeMap::from([(By::unrecorded(), 1)]));
        assert_eq!(Projection::from_body(&state.to_body()).unwrap(), state);
        state.apply(&entry(6, Event::KeyRetired { id: KeyId(1) })).unwrap();
        assert!(state.revocation(&id(20)).is_some());
    }

    /// Law 6: revoking the first administration capability reaches the one that two rotations made of it, what either of
    /// them minted, and what is recorded as minted later, whether or not a snapshot lies in between.
    #[test]
    fn law_6_a_revocation_reaches_all_that_was_minted_step_by_step() {
        let events = [
            minted(11, &[10]),
            minted(20, &[11]),
            minted(12, &[11]),
            minted(21, &[12, 5]),
            minted(30, &[9]),
            // A circle, as no honest record has it.
            minted(10, &[21]),
            Event::Revoked { id: id(10) },
            minted(22, &[20]),
            minted(23, &[22, 9]),
            // What was minted under it is recorded first.
            minted(41, &[40]),
            minted(40, &[23]),
        ];
        let entries: Vec<_> = events.into_iter().zip(1..).map(|(event, position)| entry(position, event)).collect();
        let revoked: BTreeSet<_> = [10, 11, 12, 20, 21, 22, 23, 40, 41].map(id).into();
        let mut rebuilt = Projection::default();
        entries.iter().for_each(|entry| rebuilt.apply(entry).unwrap());
        assert_eq!(rebuilt.revoked().map(|(id, _)| *id).collect::<BTreeSet<_>>(), revoked);
        assert_eq!(rebuilt.revocation(&id(21)).unwrap().position, Position(7), "by the record that revoked the first");
        for cut in 0..=entries.len() {
            let standing = Arc::new(Standing::new(KeyRing::new()));
            let mut projector = Projector::new(Arc::clone(&standing), Arc::default());
            projector.apply(&entries[..cut]).unwrap();
            let body = projector.live().read().to_body();
            projector.restore(&Projection::from_body(&body).unwrap());
            let version = standing.version();
            projector.apply(&entries[cut..]).unwrap();
            assert!(standing.version() <= version + 1, "all at once");
            assert_eq!(*projector.live().read(), rebuilt, "with a snapshot after record {cut}");
            assert_eq!(projector.digest(), Some((rebuilt.position(), rebuilt.digest())));
            assert!(revoked.iter().all(|id| standing.is_revoked(id)));
            assert_eq!(standing.revoked_count(), revoked.len());
        }
    }

    #[test]
    fn standing_follows() {
        let standing = Arc::new(Standing::new(KeyRing::new()));
        let mut projector = Projector::new(Arc::clone(&standing), Arc::default());
        projector.apply(&events()).unwrap();
        assert!(standing.is_revoked(&id(9)) && standing.is_revoked(&id(1)));
        assert_eq!(standing.keys().live().count(), 1);
        let live = projector.live();
        let page: Vec<_> = live.read().revoked_after(Position(3)).map(|(id, _)| *id).collect();
        assert_eq!(page, [id(1)]);
    }
}

//! Verified plans, remembered by the token's exact bytes.
//!
//! What is remembered is that a text verified and what it says, never a verdict: every message is decided afresh, with
//! its own time, against the revocations and live keys of that moment (law 5, law 6). Two spellings of one token are two
//! entries. Each worker has its own cache, so a look-up takes no lock.
//!
//! Eviction is CLOCK: one bit an entry, set on use, cleared as the hand passes. A flood of fresh tokens costs its sender
//! a signature check each and pushes out only what was not used since the hand last came by.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use postern_capabilities::token::Capability;
use zeroize::Zeroizing;

/// A bounded map from token text to its verified plan.
pub struct PlanCache {
    hasher: foldhash::quality::RandomState,
    table: HashTable<u32>,
    slots: Vec<Slot>,
    hand: usize,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
}

/// The text is secret while it lives here, and wiped when it leaves.
struct Slot {
    hash: u64,
    text: Zeroizing<Box<str>>,
    capability: Arc<Capability>,
    used: bool,
}

impl PlanCache {
    /// A cache of at most `entries_max` plans with `bytes_max` bytes of token text between them.
    pub fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            table: HashTable::new(),
            slots: Vec::new(),
            hand: 0,
            entries_max: entries_max.max(1),
            bytes: 0,
            bytes_max,
        }
    }

    /// The plan that was verified from exactly this text.
    pub fn get(&mut self, text: &str) -> Option<Arc<Capability>> {
        let hash = self.hasher.hash_one(text);
        let slots = &self.slots;
        // The bytes are compared in full: a hash is an index, not an identity.
        let index = *self.table.find(hash, |&i| &**slots[i as usize].text == text)?;
        let slot = &mut self.slots[index as usize];
        slot.used = true;
        Some(Arc::clone(&slot.capability))
    }

    /// Remembers what `text` verified to, and returns how many others were forgotten for it.
    pub fn insert(&mut self, text: &str, capability: Arc<Capability>) -> usize {
        if text.len() > self.bytes_max {
            return 0;
        }
        let mut forgotten = 0;
        while !self.slots.is_empty()
            && (self.slots.len() >= self.entries_max || self.bytes + text.len() > self.bytes_max)
        {
            self.evict_one();
            forgotten += 1;
        }
        let hash = self.hasher.hash_one(text);
        let index = self.slots.len() as u32;
        self.slots.push(Slot { hash, text: Zeroizing::new(text.into()), capability, used: false });
        self.bytes += text.len();
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |&i| slots[i as usize].hash);
        forgotten
    }

    /// How many plans are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn evict_one(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.used) {
                break;
            }
            self.hand += 1;
        }
        let victim = self.hand as u32;
        let last = (self.slots.len() - 1) as u32;
        self.forget(self.slots[victim as usize].hash, victim);
        if victim != last {
            // The last slot moves into the gap: its table entry follows.
            let hash = self.slots[last as usize].hash;
            if let Some(entry) = self.table.find_mut(hash, |&i| i == last) {
                *entry = victim;
            }
        }
        let slot = self.slots.swap_remove(victim as usize);
        self.bytes -= slot.text.len();
    }

    fn forget(&mut self, hash: u64, index: u32) {
        if let Ok(entry) = self.table.find_entry(hash, |&i| i == index) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};
    use postern_capabilities::mint;
    use postern_capabilities::revocation::Standing;
    use postern_capabilities::token::Unverified;

    use super::*;

    fn capability() -> Arc<Capability> {
        let key = SigningKey::generate();
        let resource = "orders".parse().expect("a name");
        let rights = [postern_capabilities::Right { resource, operation: postern_capabilities::Operation::any() }];
        let token = mint(&key, KeyId(0), &rights, &[]).expect("minted");
        let standing = Standing::new(KeyRing::of(KeyId(0), key.public()));
        Arc::new(Unverified::parse(token.expose()).expect("read").verify(&standing, 10_000).expect("verified"))
    }

    #[test]
    fn exactly_the_same_bytes_are_found_again() {
        let mut cache = PlanCache::new(4, 1000);
        cache.insert("abc", capability());
        assert!(cache.get("abc").is_some());
        for other in ["abC", "abc=", "ab", "abcd", ""] {
            assert!(cache.get(other).is_none(), "{other}");
        }
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_what_is_used_stays() {
        let capability = capability();
        let mut cache = PlanCache::new(8, 64);
        for n in 0..1000 {
            cache.insert(&format!("token-{n:04}"), Arc::clone(&capability));
            assert!(cache.get("token-0000").is_some(), "what is used at each step stays, at {n}");
            assert!(cache.slots.len() <= 8 && cache.bytes <= 64 && cache.table.len() == cache.slots.len());
        }
        let kept: Vec<String> = cache.slots.iter().map(|slot| (**slot.text).to_owned()).collect();
        for text in kept {
            assert!(cache.get(&text).is_some(), "{text} can be found where it was moved to");
        }
    }

    #[test]
    fn a_text_beyond_the_bound_is_not_remembered() {
        let mut cache = PlanCache::new(8, 2);
        cache.insert("abc", capability());
        assert!(cache.is_empty());
    }
}

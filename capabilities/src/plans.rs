//! Verified plans, and refusals that were as dear to come by, remembered by the token's exact bytes.
//!
//! What is remembered is that a text verified and what it says, never a verdict: every message is decided afresh, with
//! its own time, against the revocations and live keys of that moment (law 5, law 6). A refusal is remembered only where
//! it cost a signature check ([`RefusalCache`]), and only as long as no key changes. Two spellings of one token are two
//! entries. There is no lock in here: each worker of the gateway has caches of its own, and a [`Verifier`](crate::Verifier)
//! puts one around each.
//!
//! Eviction is CLOCK: one bit an entry, set on use, cleared as the hand passes. A flood of fresh tokens costs its sender
//! a signature check each and pushes out only what was not used since the hand last came by. Plans and refusals have a
//! cache each, so that refused tokens push out no plan.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::remembered::Remembered;
use crate::token::{Capability, NotVerified};

/// A bounded map from token text to what was found out about it.
pub struct TokenCache<V> {
    hasher: foldhash::quality::RandomState,
    table: HashTable<u32>,
    slots: Vec<Slot<V>>,
    hand: usize,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
}

/// The text is secret while it lives here, and wiped when it leaves.
struct Slot<V> {
    hash: u64,
    text: Zeroizing<Box<str>>,
    value: V,
    used: bool,
}

/// Token text to its verified plan.
pub type PlanCache = TokenCache<Arc<Capability>>;

/// Refusals that are remembered, some hundred bytes each.
const REFUSALS_MAX: usize = 2_048;

/// Token text, known by its digest, to the reason why it is not accepted. Its bound is its own and fixed: whoever holds a
/// token can make refused ones of it without end, and nobody has much use for them.
pub struct RefusalCache(Remembered<Inadmissible>);

impl Default for RefusalCache {
    fn default() -> Self {
        Self(Remembered::new(REFUSALS_MAX))
    }
}

impl RefusalCache {
    /// Why exactly this text was refused, under the same keys: `version` is that of the keys at this moment.
    pub fn get(&mut self, text: &str, version: u64) -> Option<NotVerified> {
        let known = self.0.get(&Sha256::digest(text).into())?;
        (known.version == version).then(|| known.error.clone())
    }

    /// Remembers a refusal of this text, if it cost a signature check and these bytes meet it each time. `version` is that of
    /// the keys, read before the token was verified.
    pub fn insert(&mut self, text: &str, error: &NotVerified, version: u64) {
        let dear = match error {
            NotVerified::NotAdmitted(_)
            | NotVerified::OverBudget { .. }
            | NotVerified::ReservedMixed { .. }
            | NotVerified::UnknownStatement
            | NotVerified::RetiredKey(_)
            | NotVerified::BadSignature => true,
            NotVerified::UnknownKey(_) | NotVerified::Container => false,
        };
        if dear {
            self.0.insert(Sha256::digest(text).into(), Inadmissible { error: error.clone(), version });
        }
    }

    /// How many texts are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A refusal that is about the token's bytes, and the keys under which their signatures were looked at.
struct Inadmissible {
    error: NotVerified,
    version: u64,
}

impl<V: Clone> TokenCache<V> {
    /// A cache of at most `entries_max` texts with `bytes_max` bytes of token text between them.
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

    /// What was found out about exactly this text.
    pub fn get(&mut self, text: &str) -> Option<V> {
        let slot = self.find(self.hasher.hash_one(text), text)?;
        slot.used = true;
        Some(slot.value.clone())
    }

    fn find(&mut self, hash: u64, text: &str) -> Option<&mut Slot<V>> {
        let slots = &self.slots;
        // The bytes are compared in full: a hash is an index, not an identity.
        let index = *self.table.find(hash, |&i| &**slots[i as usize].text == text)?;
        self.slots.get_mut(index as usize)
    }

    /// Remembers this of `text`, in place of what was known of it, and returns how many others were forgotten for it.
    pub fn insert(&mut self, text: &str, value: V) -> usize {
        if text.len() > self.bytes_max {
            return 0;
        }
        let hash = self.hasher.hash_one(text);
        if let Some(slot) = self.find(hash, text) {
            slot.value = value;
            return 0;
        }
        let mut forgotten = 0;
        while !self.slots.is_empty()
            && (self.slots.len() >= self.entries_max || self.bytes + text.len() > self.bytes_max)
        {
            self.evict_one();
            forgotten += 1;
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { hash, text: Zeroizing::new(text.into()), value, used: false });
        self.bytes += text.len();
        let slots = &self.slots;
        self.table.insert_unique(hash, index, |&i| slots[i as usize].hash);
        forgotten
    }

    /// How many texts are remembered.
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
    use super::*;
    use crate::keys::{KeyId, KeyRing, SigningKey};
    use crate::mint;
    use crate::revocation::Standing;
    use crate::token::Unverified;

    fn capability() -> Arc<Capability> {
        let key = SigningKey::generate();
        let resource = "orders".parse().expect("a name");
        let rights = [crate::Right { resource, operation: crate::Operation::any() }];
        let token = mint::mint(&key, KeyId(0), &rights, &[]).expect("minted");
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
    fn what_is_found_out_later_replaces_what_was_known() {
        let mut cache = TokenCache::new(8, 1000);
        cache.insert("abc", 1);
        cache.insert("abc", 2);
        assert_eq!((cache.get("abc"), cache.len(), cache.bytes), (Some(2), 1, 3));
    }

    #[test]
    fn what_cost_a_signature_is_remembered_under_its_keys_and_nothing_that_was_cheap() {
        let mut cache = RefusalCache::default();
        let over = NotVerified::OverBudget { price: 2, dates: 0, budget: 1 };
        for dear in [over, NotVerified::BadSignature, NotVerified::RetiredKey(KeyId(1))] {
            cache.insert("abc", &dear, 7);
            assert_eq!(cache.get("abc", 7), Some(dear));
            assert_eq!(cache.get("abc", 8), None, "keys may have been added or retired since");
            assert_eq!(cache.get("abcd", 7), None);
        }
        for cheap in [NotVerified::UnknownKey(KeyId(1)), NotVerified::Container] {
            cache.insert("other", &cheap, 7);
        }
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_text_beyond_the_bound_is_not_remembered() {
        let mut cache = PlanCache::new(8, 2);
        cache.insert("abc", capability());
        assert!(cache.is_empty());
    }
}

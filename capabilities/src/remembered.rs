//! A bounded memory of things that are known by a digest.
//!
//! Eviction is CLOCK: one bit an entry, set on use, cleared as the hand passes. A flood of fresh entries pushes out only
//! what was not used since the hand last came by.

use hashbrown::HashMap;

/// What is remembered, by digests that nobody can find two texts for.
pub(crate) struct Remembered<V> {
    places: HashMap<[u8; 32], usize, foldhash::quality::RandomState>,
    slots: Vec<Slot<V>>,
    hand: usize,
    entries_max: usize,
}

struct Slot<V> {
    digest: [u8; 32],
    value: V,
    used: bool,
}

impl<V> Remembered<V> {
    /// An empty memory of at most `entries_max` entries.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { places: HashMap::default(), slots: Vec::new(), hand: 0, entries_max: entries_max.max(1) }
    }

    /// What is known under this digest.
    pub(crate) fn get(&mut self, digest: &[u8; 32]) -> Option<&V> {
        let slot = self.slots.get_mut(*self.places.get(digest)?)?;
        slot.used = true;
        Some(&slot.value)
    }

    /// Remembers this, in place of what was known under the digest, or of what was not used for long.
    pub(crate) fn insert(&mut self, digest: [u8; 32], value: V) {
        let fresh = Slot { digest, value, used: false };
        if let Some(slot) = self.places.get(&digest).and_then(|place| self.slots.get_mut(*place)) {
            slot.value = fresh.value;
            return;
        }
        if self.slots.len() < self.entries_max {
            self.places.insert(digest, self.slots.len());
            self.slots.push(fresh);
            return;
        }
        while std::mem::take(&mut self.slots[self.hand].used) {
            self.hand = (self.hand + 1) % self.entries_max;
        }
        let gone = std::mem::replace(&mut self.slots[self.hand], fresh);
        self.places.remove(&gone.digest);
        self.places.insert(digest, self.hand);
        self.hand = (self.hand + 1) % self.entries_max;
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u32) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        digest
    }

    #[test]
    fn entries_are_bounded_and_what_is_used_stays() {
        let mut memory = Remembered::new(8);
        for number in 0..1000 {
            memory.insert(digest(number), number);
            assert_eq!(memory.get(&digest(0)), Some(&0), "what is used at each step stays, at {number}");
            assert!(memory.len() <= 8 && memory.places.len() == memory.len());
        }
        let kept: Vec<_> = memory.slots.iter().map(|slot| (slot.digest, slot.value)).collect();
        assert!(kept.iter().all(|(digest, value)| memory.get(digest) == Some(value)));
    }

    #[test]
    fn what_is_found_out_later_replaces_what_was_known() {
        let mut memory = Remembered::new(2);
        memory.insert(digest(1), 1);
        memory.insert(digest(1), 2);
        assert_eq!(memory.get(&digest(1)), Some(&2));
        assert_eq!(memory.len(), 1);
    }
}

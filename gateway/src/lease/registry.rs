//! The leases of one worker, found by what ends them.
//!
//! A revocation must cost what it ends and not what is open: leases are found by the ids of their blocks and by the second
//! at which time may end them, so a message that nothing concerns is neither woken nor looked at. Most messages are over
//! before any of this pays. So a lease is young at first: it stands in a plain list, which is short and is looked at as a
//! whole; what is still there after a tick of the coarse clock is entered into the indexes.
//!
//! There is no gap to slip through. The one thread of the worker decides, enters and looks, so a change that came before the
//! entry is seen by [`Lease::poll_fallen`], which asks the standing itself, and a later one finds the entry.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::{HashMap, HashSet};
use postern_capabilities::revocation::{RevocationId, Standing};
use slab::Slab;
use tokio::sync::Notify;

use super::{Fallen, Terms};

type Random = foldhash::fast::RandomState;

/// All leases of one worker.
pub struct Leases {
    standing: Arc<Standing>,
    changed: Arc<Notify>,
    /// The version of the standing up to which changes have been looked at.
    seen: Cell<u64>,
    entries: RefCell<Entries>,
}

#[derive(Default)]
struct Entries {
    slots: Slab<Slot>,
    /// The young, each of which knows its place here.
    young: Vec<usize>,
    /// Grown-up leases by the ids of their blocks. An id goes by its first bytes here: that two share them is harmless,
    /// since a lease that is found is looked at before it falls.
    by_id: HashMap<u64, HashSet<usize, Random>, Random>,
    /// Grown-up leases by the second at which time may end them.
    due: BTreeSet<(u64, usize)>,
}

struct Slot {
    terms: Terms,
    age: Age,
    fallen: Option<Fallen>,
    waker: Option<Waker>,
}

enum Age {
    /// At this place of the list; it has seen this many ticks.
    Young { at: usize, ticks: u8 },
    /// In the indexes, with its place in `due`.
    Grown { due: Option<u64> },
}

impl Leases {
    /// The leases of a worker that just begins.
    pub fn new(standing: Arc<Standing>) -> Rc<Self> {
        let changed = Arc::new(Notify::new());
        let notified = Arc::clone(&changed);
        standing.on_change(move || notified.notify_one());
        let seen = Cell::new(standing.version());
        Rc::new(Self { standing, changed, seen, entries: RefCell::default() })
    }

    /// Ends what falls whenever keys or revocations change. Runs as long as the worker.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.changed.notified().await;
            self.settle();
        }
    }

    /// Takes on a message that was permitted just now.
    pub fn hold(self: &Rc<Self>, terms: Terms) -> Lease {
        let mut entries = self.entries.borrow_mut();
        let age = Age::Young { at: entries.young.len(), ticks: 0 };
        let slot = entries.slots.insert(Slot { terms, age, fallen: None, waker: None });
        entries.young.push(slot);
        Lease { leases: Rc::clone(self), slot }
    }

    /// How many messages hold one now.
    pub fn count(&self) -> usize {
        self.entries.borrow().slots.len()
    }

    /// Looks at whatever the changes since the last time concern.
    pub fn settle(&self) {
        let changes = self.standing.changes_since(self.seen.get());
        self.seen.set(changes.version);
        let mut entries = self.entries.borrow_mut();
        let concerned: Vec<usize> = match &changes.revoked {
            // Keys change rarely, and then a look at each is cheaper than to index what nearly all have in common.
            Some(ids) if !changes.keys => entries.concerned(ids),
            _ => entries.slots.iter().map(|(slot, _)| slot).collect(),
        };
        let wakers = entries.look(&concerned, |terms| terms.standing(&self.standing));
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// It is `now`: looks at those whose time may have come, and lets the young grow up. To be called at each tick.
    pub fn tick(&self, now: u64) {
        let mut entries = self.entries.borrow_mut();
        entries.grow();
        let due = entries.take_due(now);
        let wakers = entries.look(&due, |terms| terms.decide(&self.standing, now));
        for slot in due {
            entries.set_due(slot, now);
        }
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Entries {
    /// The leases that the revocation of one of these ids may end.
    fn concerned(&self, ids: &[RevocationId]) -> Vec<usize> {
        let found = ids.iter().filter_map(|id| self.by_id.get(&short(id))).flatten();
        found.chain(&self.young).copied().collect()
    }

    /// Looks at some leases; returns whom to wake of those that fell.
    fn look(&mut self, slots: &[usize], holds: impl Fn(&Terms) -> Result<(), Fallen>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for slot in slots {
            let Some(slot) = self.slots.get_mut(*slot) else { continue };
            if slot.fallen.is_none()
                && let Err(fallen) = holds(&slot.terms)
            {
                slot.fallen = Some(fallen);
                wakers.extend(slot.waker.take());
            }
        }
        wakers
    }

    /// Enters into the indexes what has been young for a whole tick.
    fn grow(&mut self) {
        // From the end, since the last one takes the place of one that leaves.
        for at in (0..self.young.len()).rev() {
            let slot = self.young[at];
            let Some(Slot { age: Age::Young { ticks, .. }, .. }) = self.slots.get_mut(slot) else { continue };
            if *ticks == 0 {
                *ticks = 1;
                continue;
            }
            self.leave_young(at);
            self.enter(slot);
        }
    }

    fn leave_young(&mut self, at: usize) {
        self.young.swap_remove(at);
        if let Some(moved) = self.young.get(at)
            && let Some(Slot { age: Age::Young { at: place, .. }, .. }) = self.slots.get_mut(*moved)
        {
            *place = at;
        }
    }

    fn enter(&mut self, slot: usize) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        entry.age = Age::Grown { due: None };
        for id in entry.terms.revocation_ids() {
            self.by_id.entry(short(id)).or_default().insert(slot);
        }
        // What became due while it was young is due now.
        let decided_at = entry.terms.decided_at();
        self.set_due(slot, decided_at);
    }

    fn set_due(&mut self, slot: usize, now: u64) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Age::Grown { due } = &mut entry.age else { return };
        *due = if entry.fallen.is_none() { entry.terms.next_due(now) } else { None };
        if let Some(at) = *due {
            self.due.insert((at, slot));
        }
    }

    /// Takes those out whose second has come.
    fn take_due(&mut self, now: u64) -> Vec<usize> {
        let mut taken = Vec::new();
        while let Some((at, slot)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            taken.push(slot);
        }
        taken
    }

    fn remove(&mut self, slot: usize) -> Option<Slot> {
        let entry = self.slots.try_remove(slot)?;
        match entry.age {
            Age::Young { at, .. } => self.leave_young(at),
            Age::Grown { due } => {
                if let Some(at) = due {
                    self.due.remove(&(at, slot));
                }
                for id in entry.terms.revocation_ids() {
                    if let Some(found) = self.by_id.get_mut(&short(id)) {
                        found.remove(&slot);
                        if found.is_empty() {
                            self.by_id.remove(&short(id));
                        }
                    }
                }
            }
        }
        Some(entry)
    }
}

fn short(id: &RevocationId) -> u64 {
    id.as_bytes().iter().take(8).fold(0, |short, byte| short << 8 | u64::from(*byte))
}

/// One message's hold on its capability. Dropping it lets go.
#[must_use = "a message without its lease outlives its capability"]
pub struct Lease {
    leases: Rc<Leases>,
    slot: usize,
}

impl Lease {
    /// Why it has fallen, if it has; otherwise the task is woken when it does. One task can wait at a time.
    pub fn poll_fallen(&self, cx: &mut Context<'_>) -> Poll<Fallen> {
        let mut entries = self.leases.entries.borrow_mut();
        let Some(slot) = entries.slots.get_mut(self.slot) else { return Poll::Pending };
        if let Some(fallen) = slot.fallen(&self.leases.standing) {
            return Poll::Ready(fallen);
        }
        match &slot.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Why it has fallen, if it has.
    pub fn fallen(&self) -> Option<Fallen> {
        self.leases.entries.borrow_mut().slots.get_mut(self.slot)?.fallen(&self.leases.standing)
    }

    /// Waits until it falls.
    pub async fn fell(&self) -> Fallen {
        poll_fn(|cx| self.poll_fallen(cx)).await
    }
}

impl Slot {
    /// A revocation is felt from its acknowledgement on, also by who moves bytes before the registry has looked.
    fn fallen(&mut self, standing: &Standing) -> Option<Fallen> {
        if self.fallen.is_none() {
            self.fallen = self.terms.standing(standing).err();
        }
        self.fallen.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let gone = self.leases.entries.borrow_mut().remove(self.slot);
        // Whatever it held is dropped when nothing is borrowed.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use postern_capabilities::keys::KeyRing;

    use super::super::terms::tests::{NOW, Scene, message};
    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Held {
        lease: Lease,
        wakes: Arc<Wakes>,
    }

    impl Held {
        fn poll(&self) -> Option<Fallen> {
            match self.lease.poll_fallen(&mut Context::from_waker(&Arc::clone(&self.wakes).into())) {
                Poll::Ready(fallen) => Some(fallen),
                Poll::Pending => None,
            }
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(Ordering::Relaxed)
        }
    }

    struct World {
        scene: Scene,
        leases: Rc<Leases>,
    }

    impl World {
        fn new() -> Self {
            let scene = Scene::new();
            Self { leases: Leases::new(Arc::clone(&scene.standing)), scene }
        }

        /// A lease of a capability of its own, waited for.
        fn hold(&self, checks: &[&str]) -> (Held, RevocationId) {
            let capability = self.scene.capability(checks);
            let held = Held { lease: self.leases.hold(Terms::of(&capability, &message())), wakes: Arc::default() };
            assert_eq!(held.poll(), None);
            (held, capability.revocation_ids()[0])
        }

        fn grow_up(&self) {
            (0..3).for_each(|_| self.leases.tick(NOW));
        }

        fn is_empty(&self) -> bool {
            let entries = self.leases.entries.borrow();
            self.leases.count() == 0 && entries.young.is_empty() && entries.by_id.is_empty() && entries.due.is_empty()
        }
    }

    /// Law 6.
    #[test]
    fn a_revocation_ends_its_leases_and_wakes_no_other_whether_young_or_grown() {
        for grown in [false, true] {
            let world = World::new();
            let held: Vec<_> = (0..5).map(|_| world.hold(&[])).collect();
            if grown {
                world.grow_up();
                assert!(world.leases.entries.borrow().young.is_empty());
            }
            world.scene.standing.revoke(&[held[1].1, held[3].1]);
            world.leases.settle();
            let wakes: Vec<_> = held.iter().map(|(held, _)| held.wakes()).collect();
            assert_eq!(wakes, [0, 1, 0, 1, 0]);
            let fallen: Vec<_> = held.iter().map(|(held, _)| held.poll().is_some()).collect();
            assert_eq!(fallen, [false, true, false, true, false]);
            drop(held);
            assert!(world.is_empty());
        }
    }

    #[test]
    fn a_revocation_is_felt_before_the_registry_has_looked() {
        let world = World::new();
        let (held, id) = world.hold(&[]);
        world.grow_up();
        world.scene.standing.revoke(&[id]);
        assert_eq!(held.poll(), Some(Fallen::Revoked { block: 0 }));
        assert_eq!(held.lease.fallen(), Some(Fallen::Revoked { block: 0 }));
    }

    #[test]
    fn a_retired_key_ends_every_lease_under_it() {
        let world = World::new();
        let held: Vec<_> = (0..3).map(|_| world.hold(&[]).0).collect();
        world.grow_up();
        world.scene.standing.set_keys(world.scene.standing.keys());
        world.leases.settle();
        assert!(held.iter().all(|held| held.wakes() == 0 && held.poll().is_none()), "new keys alone end nothing");
        world.scene.standing.set_keys(KeyRing::new());
        world.leases.settle();
        assert!(held.iter().all(|held| held.wakes() == 1 && held.poll() == Some(Fallen::KeyRetired)));
    }

    #[test]
    fn time_ends_a_lease_at_its_second() {
        let world = World::new();
        let (expiring, _) = world.hold(&["check if time($t), $t <= 2026-01-01T00:00:10Z"]);
        let (stopped, _) = world.hold(&["check if time($t), $t < 2026-01-01T00:00:10Z"]);
        let (staying, _) = world.hold(&["check if time($t), $t != 2026-01-01T00:00:05Z"]);
        world.grow_up();
        // Nobody looked at the one second that it does not hold in.
        world.leases.tick(NOW + 9);
        assert_eq!([&expiring, &stopped, &staying].map(|held| held.poll().is_some()), [false; 3]);
        world.leases.tick(NOW + 10);
        assert_eq!([&expiring, &stopped, &staying].map(Held::wakes), [0, 1, 0]);
        assert_eq!(stopped.poll().map(|fallen| fallen.kind()), Some("not-permitted"));
        world.leases.tick(NOW + 11);
        assert_eq!(expiring.poll(), Some(Fallen::Expired { at: NOW + 10 }));
        assert_eq!((staying.poll(), staying.wakes()), (None, 0));
        drop((expiring, stopped, staying));
        assert!(world.is_empty());
    }

    #[test]
    fn what_became_due_while_young_is_decided_when_grown() {
        let world = World::new();
        let (held, _) = world.hold(&["check if time($t), $t <= 2026-01-01T00:00:00Z"]);
        (0..3).for_each(|_| world.leases.tick(NOW + 30));
        assert_eq!(held.poll(), Some(Fallen::Expired { at: NOW }));
    }

    #[test]
    fn leases_come_and_go_in_any_order() {
        let world = World::new();
        let mut held: Vec<Option<(Held, RevocationId)>> = Vec::new();
        for round in 0..40_usize {
            held.push(Some(world.hold(&["check if time($t), $t <= 2027-01-01T00:00:00Z"])));
            if round % 3 == 0 {
                world.leases.tick(NOW);
            }
            let at = round * 7 % held.len();
            held[at] = None;
        }
        let left: Vec<_> = held.into_iter().flatten().collect();
        assert_eq!(world.leases.count(), left.len());
        for (held, id) in &left {
            world.scene.standing.revoke(&[*id]);
            world.leases.settle();
            assert_eq!(held.wakes(), 1);
        }
        drop(left);
        assert!(world.is_empty());
    }

    #[tokio::test]
    async fn the_registry_is_told_of_changes_by_other_threads() {
        let world = World::new();
        let (held, id) = world.hold(&[]);
        let standing = Arc::clone(&world.scene.standing);
        let local = tokio::task::LocalSet::new();
        local.spawn_local(Rc::clone(&world.leases).run());
        let fell = local.run_until(async {
            let revoking = std::thread::spawn(move || standing.revoke(&[id]));
            let fell = held.lease.fell().await;
            revoking.join().expect("revoked");
            fell
        });
        let fell = tokio::time::timeout(std::time::Duration::from_secs(10), fell).await.expect("told");
        assert_eq!(fell, Fallen::Revoked { block: 0 });
    }
}

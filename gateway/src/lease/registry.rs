//! The leases of one worker, found by what ends them.
//!
//! A revocation must cost what it ends and not what is open: leases are found by the ids of their blocks and by the second
//! at which time may end them, so a message that nothing concerns is neither woken nor looked at. Most messages are over
//! before any of this pays. So a lease is young at first: it stands in a plain list, which is short and is looked at as a
//! whole; what is still there after a tick of the coarse clock is entered into the indexes.
//!
//! There is no gap to slip through. The one thread of the worker decides, enters and looks, so a change that came before the
//! entry is seen by [`Lease::poll_fallen`], which asks the standing itself, and a later one finds the entry.
//!
//! Whoever holds a token chooses how many dates it names and how many streams are open when they come. So what is due is not
//! decided at the tick but in slices ([`Leases::run`]), between which everything else on the worker has its turn; before
//! each the revocations of the meantime are settled; and a stream that moves before its slice has come is decided then.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hashbrown::{HashMap, HashSet};
use postern_capabilities::revocation::{RevocationId, Standing};
use slab::Slab;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::terms::Case;
use super::{Fallen, Terms};

type Random = foldhash::fast::RandomState;

/// The evaluation steps after which a slice of decisions ends: as many as one message may cost.
const SLICE_STEPS: u64 = 10_000;
/// What looking at a lease counts for, also where nothing has to be decided.
const LOOK_STEPS: u64 = 40;

/// All leases of one worker.
pub struct Leases {
    standing: Arc<Standing>,
    /// Told of every change of the standing, and of leases that are due.
    work: Arc<Notify>,
    /// The version of the standing up to which changes have been looked at.
    seen: Cell<u64>,
    /// The second of the last tick.
    now: Cell<u64>,
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
    /// Those whose second has come, each with its number in the queue: the lease that stands in its slot may be another by then.
    queue: VecDeque<(usize, u64)>,
    next_number: u64,
    /// What is decided once for all of its leases.
    cases: HashSet<Rc<Case>, Random>,
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
    /// In the indexes.
    Grown(Due),
}

/// When time may end a lease.
enum Due {
    Never,
    /// At this second, by which it stands in the index.
    At(u64),
    /// Its second has come; this is its number in the queue.
    Now(u64),
}

impl Leases {
    /// The leases of a worker that just begins.
    pub fn new(standing: Arc<Standing>) -> Rc<Self> {
        let work = Arc::new(Notify::new());
        let notified = Arc::clone(&work);
        standing.on_change(move || notified.notify_one());
        let seen = Cell::new(standing.version());
        Rc::new(Self { standing, work, seen, now: Cell::new(0), entries: RefCell::default() })
    }

    /// Ends what falls whenever keys or revocations change, and whatever time ends. Runs as long as the worker.
    pub async fn run(self: Rc<Self>) {
        loop {
            self.work.notified().await;
            while self.slice() {
                yield_now().await;
            }
        }
    }

    /// Takes on a message that was permitted just now.
    pub fn hold(self: &Rc<Self>, mut terms: Terms) -> Lease {
        let mut entries = self.entries.borrow_mut();
        if let Some(case) = terms.case() {
            let known = entries.cases.get_or_insert_with(case, Rc::clone);
            *case = Rc::clone(known);
        }
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
        let wakers: Vec<_> = concerned
            .into_iter()
            .filter_map(|slot| entries.fell(slot, |terms| terms.standing(&self.standing)))
            .collect();
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// It is `now`: notes whose time may have come, and lets the young grow up. To be called at each tick.
    pub fn tick(&self, now: u64) {
        self.now.set(now);
        let mut entries = self.entries.borrow_mut();
        entries.grow();
        entries.queue_due(now);
        if !entries.queue.is_empty() {
            self.work.notify_one();
        }
    }

    /// Does what is to be done, revocations first, and of the decisions a few; `true`: there are more.
    fn slice(&self) -> bool {
        if self.standing.version() != self.seen.get() {
            self.settle();
        }
        let (now, mut steps, mut wakers) = (self.now.get(), 0, Vec::new());
        let mut entries = self.entries.borrow_mut();
        while steps < SLICE_STEPS
            && let Some((slot, number)) = entries.queue.pop_front()
        {
            steps += LOOK_STEPS;
            if !entries.slots.get(slot).is_some_and(|slot| slot.waits_as(number)) {
                continue;
            }
            wakers.extend(entries.fell(slot, |terms| {
                let (verdict, taken) = terms.decide(&self.standing, now);
                steps += taken;
                verdict
            }));
            entries.set_due(slot, now);
        }
        let has_more = !entries.queue.is_empty();
        drop(entries);
        wakers.into_iter().for_each(Waker::wake);
        has_more
    }
}

impl Entries {
    /// The leases that the revocation of one of these ids may end.
    fn concerned(&self, ids: &[RevocationId]) -> Vec<usize> {
        let found = ids.iter().filter_map(|id| self.by_id.get(&short(id))).flatten();
        found.chain(&self.young).copied().collect()
    }

    /// Looks at a lease; returns whom to wake if it fell.
    fn fell(&mut self, slot: usize, holds: impl FnOnce(&Terms) -> Result<(), Fallen>) -> Option<Waker> {
        let slot = self.slots.get_mut(slot).filter(|slot| slot.fallen.is_none())?;
        slot.fallen = holds(&slot.terms).err();
        // Only who falls gives the waker away.
        if slot.fallen.is_some() { slot.waker.take() } else { None }
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
        entry.age = Age::Grown(Due::Never);
        for id in entry.terms.revocation_ids() {
            self.by_id.entry(short(id)).or_default().insert(slot);
        }
        // What became due while it was young is due now.
        let decided_at = entry.terms.decided_at();
        self.set_due(slot, decided_at);
    }

    fn set_due(&mut self, slot: usize, now: u64) {
        let Some(entry) = self.slots.get_mut(slot) else { return };
        let Age::Grown(due) = &mut entry.age else { return };
        *due = Due::Never;
        if entry.fallen.is_none()
            && let Some(at) = entry.terms.next_due(now)
        {
            *due = Due::At(at);
            self.due.insert((at, slot));
        }
    }

    /// Puts those into the queue whose second has come.
    fn queue_due(&mut self, now: u64) {
        while let Some((at, slot)) = self.due.first().copied()
            && at <= now
        {
            self.due.pop_first();
            if let Some(Slot { age: Age::Grown(due), .. }) = self.slots.get_mut(slot) {
                *due = Due::Now(self.next_number);
                self.queue.push_back((slot, self.next_number));
                self.next_number += 1;
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Option<Slot> {
        let mut entry = self.slots.try_remove(slot)?;
        // Only the set itself and this lease have it.
        if let Some(case) = entry.terms.case()
            && Rc::strong_count(case) == 2
        {
            self.cases.remove(case);
        }
        match entry.age {
            Age::Young { at, .. } => self.leave_young(at),
            Age::Grown(ref due) => {
                if let Due::At(at) = due {
                    self.due.remove(&(*at, slot));
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
        if let Some(fallen) = slot.fallen(&self.leases) {
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
        self.leases.entries.borrow_mut().slots.get_mut(self.slot)?.fallen(&self.leases)
    }

    /// Waits until it falls.
    pub async fn fell(&self) -> Fallen {
        poll_fn(|cx| self.poll_fallen(cx)).await
    }
}

impl Slot {
    /// A revocation is felt from its acknowledgement on, and a date from its tick on, also by who moves bytes before the
    /// registry has looked.
    fn fallen(&mut self, leases: &Leases) -> Option<Fallen> {
        if self.fallen.is_none() {
            let holds = match self.age {
                Age::Grown(Due::Now(_)) => self.terms.decide(&leases.standing, leases.now.get()).0,
                _ => self.terms.standing(&leases.standing),
            };
            self.fallen = holds.err();
        }
        self.fallen.clone()
    }

    /// Whether it stands in the queue under this number.
    fn waits_as(&self, number: u64) -> bool {
        matches!(self.age, Age::Grown(Due::Now(own)) if own == number)
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
mod tests;

//! Deadlines, swept coarsely: one ticker a worker looks at all of them, so that setting one costs a store and not a timer.
//!
//! A deadline is late by at most one [`TICK`]; for bounds of seconds that is nothing, and a timer for each read would cost
//! more than reading (measured: about a seventh of the loop's own instructions).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// One worker's coarse clock and the deadlines that hang on it.
#[derive(Debug, Default)]
pub struct Clock {
    ticks: Cell<u64>,
    entries: RefCell<Vec<Weak<Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Clock {
    /// Ticks since the start, by which ages are measured.
    pub fn ticks(&self) -> u64 {
        self.ticks.get()
    }

    /// A deadline that is not set yet.
    pub fn deadline(self: &Rc<Self>) -> Deadline {
        let entry = Rc::new(Entry { at: Cell::new(NEVER), waker: RefCell::default() });
        self.entries.borrow_mut().push(Rc::downgrade(&entry));
        Deadline { clock: Rc::clone(self), entry }
    }

    /// It is `now`, in ticks since the start: wakes everybody whose deadline has passed and forgets those who are gone.
    pub fn advance(&self, now: u64) {
        self.ticks.set(now);
        self.entries.borrow_mut().retain(|entry| {
            let Some(entry) = entry.upgrade() else { return false };
            if entry.at.get() <= now {
                entry.wake();
            }
            true
        });
    }

    /// Wakes everybody, to look at what has changed for all.
    pub fn wake_all(&self) {
        for entry in self.entries.borrow().iter().filter_map(Weak::upgrade) {
            entry.wake();
        }
    }
}

impl Entry {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// How many ticks a duration is, rounded up.
pub fn ticks_in(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(TICK.as_millis()).try_into().unwrap_or(NEVER)
}

/// One task's deadline.
#[derive(Debug)]
pub struct Deadline {
    clock: Rc<Clock>,
    entry: Rc<Entry>,
}

impl Deadline {
    /// Sets it anew, from now on.
    pub fn set(&self, duration: Duration) {
        // One tick more, because the present one has begun already.
        self.entry.at.set((self.clock.ticks.get() + 1).saturating_add(ticks_in(duration)));
    }

    /// No deadline.
    pub fn unset(&self) {
        self.entry.at.set(NEVER);
    }

    /// Whether it has passed. Remembers whom to wake when it does.
    pub fn has_passed(&self, cx: &mut Context<'_>) -> bool {
        let mut waker = self.entry.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        self.clock.ticks.get() >= self.entry.at.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_once_and_can_be_set_again() {
        let clock = Rc::new(Clock::default());
        let deadline = clock.deadline();
        let mut cx = Context::from_waker(Waker::noop());
        let after = |ticks: u32| {
            (0..ticks).for_each(|_| clock.advance(clock.ticks() + 1));
        };
        assert!(!deadline.has_passed(&mut cx));
        deadline.set(TICK * 3);
        after(3);
        assert!(!deadline.has_passed(&mut cx));
        after(1);
        assert!(deadline.has_passed(&mut cx));
        deadline.unset();
        assert!(!deadline.has_passed(&mut cx));
        drop(deadline);
        clock.advance(9);
        assert!(clock.entries.borrow().is_empty());
    }
}

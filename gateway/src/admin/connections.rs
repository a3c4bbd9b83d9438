//! Who may be connected to administration at once, and who gives way when all places are taken.
//!
//! Anybody who reaches the port can open connections, and an operator who has to revoke must not wait for them. So whoever
//! has shown no capability for `postern` gives way to whoever comes, the oldest first; then who has shown one and asks
//! nothing at the moment. What is being answered to a holder is not cut off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

/// The places of one listener.
pub(super) struct Places {
    max: usize,
    /// Oldest first.
    taken: RefCell<Vec<Rc<Held>>>,
    left: Notify,
}

/// One connection's place, until it is dropped.
pub(super) struct Place {
    places: Rc<Places>,
    held: Rc<Held>,
}

#[derive(Default)]
struct Held {
    has_asked: Cell<bool>,
    has_shown: Cell<bool>,
    under_way: Cell<usize>,
    gives_way: Notify,
}

/// An exchange that is under way.
pub(super) struct UnderWay<'p>(&'p Held);

impl Places {
    pub(super) fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { max, taken: RefCell::default(), left: Notify::new() })
    }

    /// A place for a connection that was accepted just now; `None` where everybody who has one is being answered.
    pub(super) fn take(self: &Rc<Self>) -> Option<Place> {
        let mut taken = self.taken.borrow_mut();
        if taken.len() >= self.max {
            let nobody = taken.iter().position(|held| !held.has_shown.get());
            let idle = taken.iter().position(|held| held.under_way.get() == 0);
            taken.remove(nobody.or(idle)?).gives_way.notify_one();
        }
        let held = Rc::<Held>::default();
        taken.push(Rc::clone(&held));
        Some(Place { places: Rc::clone(self), held })
    }

    /// Waits until every place is free.
    pub(super) async fn emptied(&self) {
        while !self.taken.borrow().is_empty() {
            self.left.notified().await;
        }
    }
}

impl Place {
    /// A head was read; its exchange is under way until what is returned is dropped.
    pub(super) fn asks(&self) -> UnderWay<'_> {
        self.held.has_asked.set(true);
        self.held.under_way.set(self.held.under_way.get() + 1);
        UnderWay(&self.held)
    }

    /// Whether a head was read.
    pub(super) fn has_asked(&self) -> bool {
        self.held.has_asked.get()
    }

    /// A capability for `postern` was shown.
    pub(super) fn shows(&self) {
        self.held.has_shown.set(true);
    }

    /// Waits until somebody else gets the place.
    pub(super) async fn given_away(&self) {
        self.held.gives_way.notified().await;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().retain(|held| !Rc::ptr_eq(held, &self.held));
        self.places.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn gave_way(place: &Place) -> bool {
        pin!(place.given_away()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn who_has_shown_nothing_gives_way_first_then_who_is_idle_and_nobody_else() {
        let places = Places::new(3);
        let [first, second, third] = [(); 3].map(|()| places.take().unwrap());
        first.shows();
        let fourth = places.take().unwrap();
        assert_eq!([&first, &second, &third, &fourth].map(gave_way), [false, true, false, false]);
        third.shows();
        fourth.shows();
        let under_way = first.asks();
        let fifth = places.take().unwrap();
        assert_eq!([&first, &third, &fourth].map(gave_way), [false, true, false], "the oldest that is idle");
        // Whoever has shown nothing gives way though it is being answered.
        let refused = fifth.asks();
        let sixth = places.take().unwrap();
        assert_eq!([&first, &fourth, &fifth, &sixth].map(gave_way), [false, false, true, false]);
        drop(refused);
        sixth.shows();
        let all = (fourth.asks(), sixth.asks());
        assert!(places.take().is_none());
        drop(all);
        drop(under_way);
        drop((first, second, third, fourth, fifth, sixth));
        assert!(pin!(places.emptied()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}

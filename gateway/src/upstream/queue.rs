//! Messages that wait for a place at a service, first come, first served.
//!
//! Bounded: one more is told so at once. A waiter that is dropped, because its client left or its capability fell, has left
//! the queue; and whatever was just handed to it is dropped with it, which is for the thing handed over to notice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// A queue of those who wait for a `T`.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: Cell<usize>,
    waiters: RefCell<VecDeque<oneshot::Sender<T>>>,
}

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A place in a queue. Resolves to what is handed over; `None` if the queue is gone.
#[derive(Debug)]
pub struct Waiter<T> {
    queue: Rc<Queue<T>>,
    handed: oneshot::Receiver<T>,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { waiting: Cell::new(0), waiters: RefCell::default() })
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.get()
    }

    /// Whether nobody has joined.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody may be there who was not handed anything yet.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// Joins at the end, where no more than `max` may wait.
    ///
    /// # Errors
    /// So many wait already.
    pub fn join(self: &Rc<Self>, max: usize) -> Result<Waiter<T>, Full> {
        if self.len() >= max {
            return Err(Full);
        }
        let mut waiters = self.waiters.borrow_mut();
        // Those who left are removed when they are as many as may wait: then it costs each of them one look.
        if waiters.len() >= max.saturating_mul(2) {
            waiters.retain(|waiter| !waiter.is_closed());
        }
        let (sender, handed) = oneshot::channel();
        waiters.push_back(sender);
        self.waiting.set(self.len() + 1);
        Ok(Waiter { queue: Rc::clone(self), handed })
    }

    /// Hands `thing` to the one that has waited longest; back if nobody waits.
    pub fn hand(&self, mut thing: T) -> Option<T> {
        loop {
            // The borrow ends before anything is sent: a receiver that is gone drops what it gets, and that may hand on.
            let Some(waiter) = self.waiters.borrow_mut().pop_front() else { return Some(thing) };
            match waiter.send(thing) {
                Ok(()) => return None,
                Err(back) => thing = back,
            }
        }
    }
}

impl<T> Future for Waiter<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.handed).poll(cx).map(Result::ok)
    }
}

impl<T> Drop for Waiter<T> {
    fn drop(&mut self) {
        self.queue.waiting.set(self.queue.len() - 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handed<T>(mut waiter: Waiter<T>) -> Option<T> {
        let polled = Pin::new(&mut waiter).poll(&mut Context::from_waker(std::task::Waker::noop()));
        match polled {
            Poll::Ready(thing) => thing,
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_first_is_served_first_and_one_too_many_is_told() {
        let queue = Queue::new();
        let (first, second) = (queue.join(2).expect("room"), queue.join(2).expect("room"));
        assert_eq!(queue.join(2).err(), Some(Full));
        assert_eq!(queue.hand(1), None);
        assert_eq!(queue.hand(2), None);
        assert_eq!(queue.hand(3), Some(3), "everybody was served");
        assert_eq!((handed(second), handed(first)), (Some(2), Some(1)));
        assert!(queue.is_empty());
        assert!(Queue::<u8>::new().join(0).is_err());
    }

    #[test]
    fn who_leaves_is_passed_over_and_makes_room() {
        let queue = Queue::new();
        for _ in 0..1_000 {
            drop(queue.join(1).expect("the one before has left"));
        }
        assert!(queue.waiters.borrow().len() <= 2, "nothing is kept of those who left");
        let waits = queue.join(1).expect("room");
        assert_eq!(queue.hand(7), None);
        assert_eq!(handed(waits), Some(7));
    }

    proptest! {
        /// Joins, departures and handing over in any order: served in the order of joining, never more waiting than may.
        #[test]
        fn order_and_bound_hold(events in proptest::collection::vec(0_u8..4, 0..200), max in 0_usize..6) {
            let queue = Queue::new();
            let mut waiting: VecDeque<(u32, Waiter<u32>)> = VecDeque::new();
            let mut joined = 0;
            for event in events {
                match event {
                    0 | 1 => match queue.join(max) {
                        Ok(waiter) => {
                            waiting.push_back((joined, waiter));
                            joined += 1;
                        }
                        Err(Full) => prop_assert_eq!(waiting.len(), max),
                    },
                    2 => drop(waiting.pop_back()),
                    _ => match waiting.front() {
                        Some(_) => {
                            prop_assert_eq!(queue.hand(9), None);
                            prop_assert_eq!(waiting.pop_front().and_then(|(_, waiter)| handed(waiter)), Some(9));
                        }
                        None => prop_assert_eq!(queue.hand(9), Some(9)),
                    },
                }
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert!(queue.len() <= max);
                prop_assert!(queue.waiters.borrow().len() <= max * 2);
            }
        }
    }
}

//! The bytes that all connections together may hold in buffers: one count over all workers.
//!
//! What every connection has anyway, a few kilobytes, is bounded by `connections_max`; on HTTP/2 that is one stream, and
//! every further one that is open beside it is counted, head and all, since a client opens them with a handful of bytes.
//! What grows beyond that because a peer reads slowly, sends a large head, or posts a body that has to be read whole, takes
//! a [`Share`] of the budget first and gives it back when the memory is free. When the budget is used up nothing grows:
//! bodies move through the small buffers that their exchange holds, which is back-pressure, and what cannot do without
//! memory is refused.
//!
//! Not counted are trailers that wait behind a body that nobody takes yet, at most `h2_header_list_bytes_max` on each
//! of `h2_streams_max` streams, and answers that a client keeps in `h2` by shrinking a window after it had opened it, at
//! most `h2_send_buffer_bytes` on each.
//!
//! Well before that, at [`Budget::is_strained`], new messages are answered 503 so that those under way can end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes a buffer may have without a share of the budget: enough for nearly every head.
pub const BASE_BYTES: usize = 4 * 1024;

/// Bytes that an HTTP/2 stream takes by being open, however little it carries: the task that serves it, and `h2`'s notes.
pub const STREAM_BYTES: usize = 3 * 1024;

/// Bytes that it takes besides while its message is with an upstream.
pub const EXCHANGE_BYTES: usize = 12 * 1024;

/// The count, and its bound.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: AtomicUsize,
    /// Where the strain begins.
    mark: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes, all free.
    pub fn new(max: usize) -> Arc<Self> {
        let budget = Self { used: AtomicUsize::new(0), max: AtomicUsize::new(0), mark: AtomicUsize::new(0) };
        budget.set_max(max);
        Arc::new(budget)
    }

    /// Sets the bound anew. Shares beyond a lower one are kept until they are given back.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
        // A quarter is kept for the messages that were taken before.
        self.mark.store(max - max / 4, Ordering::Relaxed);
    }

    /// Takes a share of so many bytes; `None` where that many are not free.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let mut share = Share::of(self);
        share.grow_to(bytes).then_some(share)
    }

    /// Counts so many bytes for as long as `work` has to wait, also beyond the bound: they are held already, in a library's
    /// buffers behind windows that were granted, and what can still be done is not to begin anything else. Work that does
    /// not wait costs nothing.
    pub async fn while_waiting<F: Future>(self: &Arc<Self>, bytes: usize, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut held = None;
        poll_fn(|cx| {
            let polled = work.as_mut().poll(cx);
            if polled.is_pending() {
                held.get_or_insert_with(|| self.hold(bytes));
            }
            polled
        })
        .await
    }

    fn hold(self: &Arc<Self>, bytes: usize) -> Share {
        let mut share = Share::of(self);
        share.hold(bytes);
        share
    }

    /// How many bytes are taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes there are.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Whether so much is taken that new messages should not begin.
    pub fn is_strained(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.mark.load(Ordering::Relaxed)
    }

    /// Whether so little is taken that memory may be kept for later use.
    pub fn is_plentiful(&self) -> bool {
        self.used.load(Ordering::Relaxed) <= self.max.load(Ordering::Relaxed) / 8
    }

    /// Whether nothing is left.
    pub fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.max.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) -> bool {
        // Others may find less than there is while this is undone; they are refused, which is never wrong.
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|sum| sum <= self.max.load(Ordering::Relaxed));
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// A part of the budget; given back when dropped.
#[derive(Debug, Default)]
pub struct Share {
    budget: Option<Arc<Budget>>,
    bytes: usize,
}

impl Share {
    /// An empty share of a budget. The default is one of no budget, which grows without bound.
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Some(Arc::clone(budget)), bytes: 0 }
    }

    /// Grows to so many bytes, if it is not that large already; `false`: there are not that many, and it stays.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else { return true };
        if self.budget.as_ref().is_some_and(|budget| !budget.add(more)) {
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// Is of so many bytes from now on, more or fewer than before, also beyond the bound: for what is held already, or was
    /// granted to somebody who may fill it at any moment.
    pub fn hold(&mut self, bytes: usize) {
        if let Some(budget) = &self.budget {
            match bytes.checked_sub(self.bytes) {
                Some(0) => {}
                Some(more) => _ = budget.used.fetch_add(more, Ordering::Relaxed),
                None => _ = budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
            }
        }
        self.bytes = bytes;
    }

    /// Gives all of it back.
    pub fn clear(&mut self) {
        self.hold(0);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_add_up_and_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.take(60).expect("there is room");
        assert!(budget.take(50).is_none() && budget.take(40).is_some());
        assert!(first.grow_to(30), "it is that large already");
        assert_eq!(budget.used(), 60);
        assert!(!first.grow_to(101) && first.grow_to(100));
        assert!(budget.is_strained());
        budget.set_max(50);
        assert!(budget.take(1).is_none() && budget.take(0).is_some());
        first.hold(20);
        assert_eq!(budget.used(), 20);
        first.hold(120);
        assert!(budget.is_used_up(), "what is held is counted even where there was no room for it");
        first.clear();
        assert!(!budget.is_strained() && budget.take(50).is_some());
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn what_waits_is_counted_while_it_does() {
        let budget = Budget::new(100);
        assert_eq!(budget.while_waiting(150, async { budget.used() }).await, 0, "it does not wait");
        let waited = budget.while_waiting(150, async {
            tokio::task::yield_now().await;
            (budget.used(), budget.is_used_up())
        });
        assert_eq!(waited.await, (150, true));
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        /// Whatever is taken, grown and dropped, in however many threads: never more than the bound, nothing lost. A thread
        /// may get nothing at all while the others hold everything.
        #[test]
        fn the_bound_holds_between_threads(sizes in prop::collection::vec(prop::collection::vec(0usize..80, 1..20), 1..5)) {
            let budget = Budget::new(200);
            // What all threads hold, counted after it was taken and before it is given back, so that it is never more than
            // what is taken in truth.
            let held_by_all = AtomicUsize::new(0);
            let holds = |bytes: usize| assert!(held_by_all.fetch_add(bytes, Ordering::SeqCst) + bytes <= 200);
            let drops = |share: Share| {
                held_by_all.fetch_sub(share.bytes, Ordering::SeqCst);
                drop(share);
            };
            std::thread::scope(|scope| {
                for sizes in &sizes {
                    let (budget, holds, drops) = (&budget, &holds, &drops);
                    scope.spawn(move || {
                        let mut held = VecDeque::new();
                        for (turn, size) in sizes.iter().enumerate() {
                            if let Some(mut share) = budget.take(*size) {
                                let grown = share.grow_to(size * 2);
                                assert_eq!(share.bytes, if grown { size * 2 } else { *size });
                                holds(share.bytes);
                                held.push_back(share);
                            }
                            if turn % 3 == 2 {
                                held.pop_front().into_iter().for_each(drops);
                            }
                        }
                        held.into_iter().for_each(drops);
                    });
                }
            });
            prop_assert_eq!(budget.used(), 0);
        }
    }
}

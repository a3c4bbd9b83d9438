//! What a connection's streams have handed to `h2` and its client has not taken: counted while the socket is full.
//!
//! Nobody can ask `h2` how much it holds, and a stream's data may lie there when its exchange is long over. So what goes
//! in and what comes out are counted, and the difference is a share of the memory of all connections whenever the socket
//! takes no more. A connection that is read costs two additions; only one that stands still touches the common count.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use crate::budget::{Budget, Share};
use crate::limits::Limits;

/// One connection's data on its way out.
pub(super) struct Outgoing {
    waiting: Cell<usize>,
    /// What `h2` takes at most. Data of a stream that was reset is gone without having been written, and is not seen going.
    max: usize,
    is_blocked: Cell<bool>,
    share: RefCell<Share>,
}

impl Outgoing {
    pub(super) fn new(budget: &Arc<Budget>, limits: &Limits) -> Rc<Self> {
        let streams = usize::try_from(limits.h2_streams_max).unwrap_or(usize::MAX);
        Rc::new(Self {
            waiting: Cell::new(0),
            max: streams.saturating_mul(limits.h2_send_buffer_bytes),
            is_blocked: Cell::new(false),
            share: RefCell::new(Share::of(budget)),
        })
    }

    /// A stream has handed over so much.
    pub(super) fn put(&self, bytes: usize) {
        self.waiting.set(self.waiting.get().saturating_add(bytes).min(self.max));
        if self.is_blocked.get() {
            self.count();
        }
    }

    /// What came of writing. Heads and frames are among the bytes, so the difference may be a little too small.
    pub(super) fn written<E>(&self, outcome: &Poll<Result<usize, E>>) {
        match outcome {
            Poll::Ready(Ok(bytes)) => {
                self.waiting.set(self.waiting.get().saturating_sub(*bytes));
                self.moves();
            }
            Poll::Ready(Err(_)) => self.moves(),
            Poll::Pending => {
                self.is_blocked.set(true);
                self.count();
            }
        }
    }

    /// All that may be written has been: data is taken only where the client's windows have room for it.
    pub(super) fn flushed(&self) {
        self.waiting.set(0);
        self.moves();
    }

    fn count(&self) {
        self.share.borrow_mut().hold(self.waiting.get());
    }

    fn moves(&self) {
        if self.is_blocked.replace(false) {
            self.share.borrow_mut().clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outgoing: &Outgoing, outcome: Poll<Result<usize, ()>>) {
        outgoing.written(&outcome);
    }

    #[test]
    fn data_is_counted_while_the_socket_is_full() {
        let budget = Budget::new(1000);
        let limits = Limits { h2_streams_max: 2, h2_send_buffer_bytes: 100, ..Limits::default() };
        let outgoing = Outgoing::new(&budget, &limits);
        outgoing.put(80);
        assert_eq!(budget.used(), 0, "a socket that takes it all costs nothing");
        written(&outgoing, Poll::Ready(Ok(30)));
        written(&outgoing, Poll::Pending);
        assert_eq!(budget.used(), 50);
        outgoing.put(100);
        assert_eq!(budget.used(), 150, "the next stream's, too");
        outgoing.put(100);
        assert_eq!(budget.used(), 200, "never more than `h2` takes");
        written(&outgoing, Poll::Ready(Ok(10)));
        assert_eq!(budget.used(), 0);
        written(&outgoing, Poll::Pending);
        assert_eq!(budget.used(), 190);
        outgoing.flushed();
        assert_eq!(budget.used(), 0);
        outgoing.put(20);
        written(&outgoing, Poll::Pending);
        drop(outgoing);
        assert_eq!(budget.used(), 0);
    }
}

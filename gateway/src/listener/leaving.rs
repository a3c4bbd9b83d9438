//! How the connections of one address are told that it is time to end.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::watch;

/// Whether the connections of one address are to end as soon as nothing is under way on them: the gateway drains, or the
/// address is listened on no more.
#[derive(Clone, Debug)]
pub struct Leaving {
    is_due: Rc<Cell<bool>>,
    told: watch::Receiver<bool>,
}

impl Leaving {
    /// The sign, and what gives it.
    pub fn new() -> (Dismissal, Self) {
        let (tell, told) = watch::channel(false);
        let is_due = Rc::new(Cell::new(false));
        (Dismissal { is_due: Rc::clone(&is_due), tell }, Self { is_due, told })
    }

    /// Connections that end when they please, in tests.
    #[cfg(test)]
    pub fn never() -> Self {
        // A channel whose sender is gone keeps its last value.
        Self::new().1
    }

    /// Whether the sign was given: for those who look each time they are woken. Costs nothing.
    pub fn is_due(&self) -> bool {
        self.is_due.get()
    }

    /// For those who wait.
    pub fn told(&self) -> watch::Receiver<bool> {
        self.told.clone()
    }
}

/// Gives the sign to the connections of one address.
#[derive(Debug)]
pub struct Dismissal {
    is_due: Rc<Cell<bool>>,
    tell: watch::Sender<bool>,
}

impl Dismissal {
    /// Gives it. Connections that look for themselves have to be woken as well.
    pub fn give(&self) {
        self.is_due.set(true);
        self.tell.send_replace(true);
    }
}

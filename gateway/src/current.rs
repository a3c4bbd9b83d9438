//! A value that is swapped whole while a worker runs: whoever reads it takes what is in force, and keeps what it took.
//!
//! This is how a reload reaches everything on a worker's thread without a lock. A message takes the value once and is
//! handled by that one to its end; the next message takes it anew.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// The value in force, shared by clones of this.
pub struct Current<T>(Rc<RefCell<Rc<T>>>);

impl<T> Current<T> {
    /// A value that holds until it is swapped.
    pub fn new(value: impl Into<Rc<T>>) -> Self {
        Self(Rc::new(RefCell::new(value.into())))
    }

    /// What is in force at this moment.
    pub fn get(&self) -> Rc<T> {
        Rc::clone(&self.0.borrow())
    }

    /// Whether this is what is in force.
    pub fn is(&self, taken: &Rc<T>) -> bool {
        Rc::ptr_eq(&self.0.borrow(), taken)
    }

    /// Puts another value in force.
    pub fn swap(&self, value: impl Into<Rc<T>>) {
        self.0.replace(value.into());
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Current<T> {
    /// What it holds may be secret, and is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_kept_and_what_is_taken_next_is_new() {
        let current = Current::new(1);
        let (shared, taken) = (current.clone(), current.get());
        shared.swap(2);
        assert_eq!((*taken, *current.get()), (1, 2));
        assert!(!current.is(&taken) && current.is(&shared.get()));
    }
}

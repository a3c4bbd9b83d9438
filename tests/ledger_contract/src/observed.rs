//! An observer that remembers what it was told, and folds it as the gateway does.

use std::sync::{Arc, Mutex, PoisonError};

use postern_gateway::ledger::projection::Inconsistent;
use postern_gateway::ledger::record::Observer;
use postern_gateway::ledger::{Entry, Projection};

/// What an engine told its observer so far.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The state after it all.
    pub state: Projection,
    /// Every record, in the order in which it came.
    pub entries: Vec<Entry>,
}

/// Shares what it observes with the test.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Observed>>);

impl Recorder {
    /// What was observed up to this moment.
    pub fn so_far(&self) -> Observed {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be handed to an engine.
    pub fn boxed(&self) -> Box<dyn Observer> {
        Box::new(self.clone())
    }
}

impl Observer for Recorder {
    fn restore(&mut self, snapshot: &Projection) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).state = snapshot.clone();
    }

    fn apply(&mut self, entries: &[Entry]) -> Result<(), Inconsistent> {
        let mut observed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        observed.entries.extend_from_slice(entries);
        entries.iter().try_for_each(|entry| observed.state.apply(entry))
    }
}

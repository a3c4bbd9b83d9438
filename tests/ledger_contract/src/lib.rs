//! The contract of the ledger's record, as tests that are generic over the engine.
//!
//! An engine implements [`Engine`]: how to open the same record again and again. [`run_all`] then holds it to what
//! `postern_gateway::ledger::record` promises. The embedded engine runs it in `tests/embedded.rs`; another engine adds
//! a file of its own beside that one and changes nothing here.

mod checks;
mod observed;
pub mod property;

pub use observed::{Observed, Recorder};

use std::sync::Arc;

use postern_capabilities::revocation::RevocationId;
use postern_gateway::ledger::record::{Observer, Record};
use postern_gateway::ledger::{By, Event, Happening};

/// An engine under test: one place where a record is kept, that can be opened, dropped and opened again.
pub trait Engine {
    /// Opens the record, replaying what is stored into `observer`.
    fn open(&self, observer: Box<dyn Observer>) -> Arc<dyn Record>;
}

/// Runs every check on a fresh engine each.
pub fn run_all<E: Engine>(fresh: impl Fn() -> E) {
    let runtime = runtime();
    runtime.block_on(checks::positions_count_from_one_without_gaps(&fresh()));
    runtime.block_on(checks::an_append_stands_together(&fresh()));
    runtime.block_on(checks::another_expected_position_changes_nothing(&fresh()));
    runtime.block_on(checks::whoever_is_acknowledged_has_been_observed(&fresh()));
    runtime.block_on(checks::opening_again_replays_everything_once_in_order(&fresh()));
    runtime.block_on(checks::reading_pages_through(&fresh()));
    runtime.block_on(checks::the_tail_wakes_a_follower(&fresh()));
    runtime.block_on(checks::concurrent_appends_are_ordered_and_none_is_lost(&fresh()));
    runtime.block_on(checks::an_abandoned_append_is_whole_or_absent(&fresh()));
}

/// A runtime for checks: one thread, as the gateway's own.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a test machine can make a runtime")
}

/// A made-up id.
pub fn revoked_id(number: u64) -> RevocationId {
    let mut bytes = [0; 64];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    RevocationId::from_bytes(&bytes).expect("64 bytes")
}

/// A revocation of a made-up id.
pub fn revoked(number: u64) -> Happening {
    let event = Event::Revoked { id: revoked_id(number) };
    Happening { at: 1_700_000_000 + number, by: By::presenter("contract"), event }
}

//! One look at the state that a ledger yields, without holding it: for commands beside a running gateway.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::embedded::replay::{self, ReplayError};
use super::embedded::{OpenError, mark, schema};
use super::projection::Projection;
use super::record::{Damage, Position};

/// Whether a gateway, or a command in its place, holds this ledger now. Asking makes no file and holds nothing.
pub fn in_use(file: &Path) -> bool {
    // Shared, so that two who ask at once do not take each other for a gateway.
    File::open(file.with_extension("lock"))
        .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The keys and revocations by the record in this file, as of this moment. Reads only; a damaged record is an error.
pub fn glance(file: &Path) -> Result<Projection, OpenError> {
    let marked = mark::slots(file)?;
    let connection = schema::open_for_reading(file)?;
    let read = || -> Result<Projection, ReplayError> {
        let moment = connection.unchecked_transaction()?;
        let (mut state, after, chain) = match replay::snapshot(&moment)? {
            Some((state, chain)) => {
                let after = state.position();
                (state, after, chain)
            }
            None => (Projection::default(), Position::START, replay::head(&moment)?.start),
        };
        replay::walk(&moment, after, chain, None, |entry| {
            let position = entry.position;
            state.apply(&entry).map_err(|wrong| Damage::Inconsistent { position, reason: wrong.reason })?;
            Ok(())
        })?;
        Ok(state)
    };
    let state = read().map_err(|error| match error {
        ReplayError::Damaged(damage) => OpenError::Damaged { file: file.to_owned(), damage },
        ReplayError::Sqlite(error) => OpenError::of_sqlite(file, &error),
    })?;
    mark::expect(file, &connection, marked)?;
    Ok(state)
}

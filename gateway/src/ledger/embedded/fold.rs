//! Folding: old records become a snapshot of the state that they yield, by a stated retention.
//!
//! What is folded is a prefix of the record. Its state is rebuilt from the snapshot before and the records themselves,
//! every checksum looked at on the way, and never copied from the live state: a fold cannot make an error permanent
//! without `walk` having seen it. Revocations and keys stay for ever, in the snapshot; what ends is the history.

use rusqlite::{Connection, params};

use super::super::projection::Projection;
use super::super::record::{Damage, Position};
use super::replay::{self, ReplayError};

/// Folding fewer records than this is not worth a snapshot's rewrite.
const RECORDS_MIN: u64 = 1_000;

/// Folds what happened before `before` (seconds since the epoch). Returns the position up to which records are folded.
pub(super) fn fold(connection: &Connection, before: u64) -> Result<Option<Position>, ReplayError> {
    let transaction = connection.unchecked_transaction()?;
    let (mut state, chain) = match replay::snapshot(&transaction)? {
        Some(snapshot) => snapshot,
        None => (Projection::default(), replay::head(&transaction)?.start),
    };
    let from = state.position();
    let Some(until) = last_before(&transaction, from, before)? else { return Ok(None) };
    if until.0 - from.0 < RECORDS_MIN {
        return Ok(None);
    }
    let (_, chain) = replay::walk(&transaction, from, chain, Some(until), |entry| {
        let position = entry.position;
        state.apply(&entry).map_err(|wrong| Damage::Inconsistent { position, reason: wrong.reason }.into())
    })?;
    let body = state.to_body();
    let checksum = replay::snapshot_checksum(until, &chain, &body);
    transaction.execute(
        "INSERT INTO snapshot (one, position, chain, body, checksum) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (one) DO UPDATE SET position = ?1, chain = ?2, body = ?3, checksum = ?4",
        params![until.0.cast_signed(), chain.0, body, checksum],
    )?;
    transaction.execute("DELETE FROM record WHERE position <= ?1", [until.0.cast_signed()])?;
    transaction.commit()?;
    Ok(Some(until))
}

/// The last record of the longest prefix that happened before the given time.
fn last_before(connection: &Connection, from: Position, before: u64) -> Result<Option<Position>, ReplayError> {
    let first_kept: Option<i64> = connection.query_row(
        "SELECT min(position) FROM record WHERE position > ?1 AND json_extract(CAST(body AS TEXT), '$.at') >= ?2",
        params![from.0.cast_signed(), i64::try_from(before).unwrap_or(i64::MAX)],
        |row| row.get(0),
    )?;
    let last: Option<i64> = match first_kept {
        Some(first) => Some(first - 1),
        None => connection.query_row("SELECT max(position) FROM record", [], |row| row.get(0))?,
    };
    Ok(last.map(|last| Position(last.cast_unsigned())).filter(|last| *last > from))
}

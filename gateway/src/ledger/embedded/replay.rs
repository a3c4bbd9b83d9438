//! Reading the record back, checked: the chain record by record, the head, the snapshot.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::super::event::Happening;
use super::super::projection::Projection;
use super::super::record::{Chain, Damage, Entry, Position, ReadError};
use super::schema::{self, Head};

/// A database in which nothing can be told apart from damage any more, or an I/O error.
#[derive(Debug)]
pub(in crate::ledger) enum ReplayError {
    Sqlite(rusqlite::Error),
    Damaged(Damage),
}

impl From<rusqlite::Error> for ReplayError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            // A value of another type than the schema says is a damaged value, not a failure to read it.
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Self::Damaged(Damage::File(error.to_string())),
            other if other.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Damaged(Damage::File(other.to_string()))
            }
            other => Self::Sqlite(other),
        }
    }
}

impl From<Damage> for ReplayError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<ReplayError> for ReadError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Sqlite(error) => Self::Failed(error.to_string()),
            ReplayError::Damaged(damage) => Self::Damaged(damage),
        }
    }
}

/// Reads the head, whose absence is damage.
pub(in crate::ledger) fn head(connection: &Connection) -> Result<Head, ReplayError> {
    schema::head(connection)?
        .ok_or_else(|| Damage::File("the row that says where the record ends is missing".into()).into())
}

/// The snapshot under the oldest record, and the chain after it.
pub(in crate::ledger) fn snapshot(connection: &Connection) -> Result<Option<(Projection, Chain)>, ReplayError> {
    type Row = (i64, [u8; 32], Vec<u8>, [u8; 32]);
    let row: Option<Row> = connection
        .query_row("SELECT position, chain, body, checksum FROM snapshot WHERE one = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((position, chain, body, checksum)) = row else { return Ok(None) };
    if snapshot_checksum(Position(position.cast_unsigned()), &Chain(chain), &body) != checksum {
        return Err(Damage::Snapshot("its checksum does not fit what is stored".into()).into());
    }
    let state = Projection::from_body(&body).map_err(Damage::Snapshot)?;
    if state.position().0 != position.cast_unsigned() {
        return Err(Damage::Snapshot(format!("it says record {} and stands at {position}", state.position())).into());
    }
    Ok(Some((state, Chain(chain))))
}

/// What is stored beside a snapshot, covering its place, its chain and its text.
pub(in crate::ledger) fn snapshot_checksum(position: Position, chain: &Chain, body: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"postern snapshot 1\0")
        .chain_update(position.0.to_le_bytes())
        .chain_update(chain.0)
        .chain_update(body)
        .finalize()
        .into()
}

/// Walks the record after `after`, whose chain is `chain`, up to `until` or the end, and hands on each checked record.
/// Returns where it ended and the chain there. The caller runs it in a transaction, to see one moment.
pub(in crate::ledger) fn walk(
    connection: &Connection,
    after: Position,
    chain: Chain,
    until: Option<Position>,
    mut each: impl FnMut(Entry) -> Result<(), ReplayError>,
) -> Result<(Position, Chain), ReplayError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, version, body, chain FROM record WHERE position > ?1 AND position <= ?2 ORDER BY position",
    )?;
    let last = until.map_or(i64::MAX, |until| until.0.cast_signed());
    let mut rows = statement.query(params![after.0.cast_signed(), last])?;
    let (mut at, mut chain) = (after, chain);
    while let Some(row) = rows.next()? {
        let found = Position(row.get::<_, i64>(0)?.cast_unsigned());
        if found != at.next() {
            return Err(Damage::Missing { missing: at.next(), after: at, found }.into());
        }
        let body = row.get_ref(2)?.as_blob().map_err(|_| Damage::Checksum(found))?;
        // A version that does not fit was never written; 0 makes the checksum disagree.
        let version = u32::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        chain = chain.follow(found, version, body);
        if row.get_ref(3)?.as_blob() != Ok(&chain.0[..]) {
            return Err(Damage::Checksum(found).into());
        }
        let happening =
            Happening::from_body(version, body).map_err(|reason| Damage::Event { position: found, reason })?;
        each(Entry { position: found, happening })?;
        at = found;
    }
    Ok((at, chain))
}

/// The chain at a position: the snapshot's, or that of the record there.
pub(in crate::ledger) fn chain_at(connection: &Connection, position: Position) -> Result<Option<Chain>, ReplayError> {
    let chain = connection
        .query_row("SELECT chain FROM record WHERE position = ?1", [position.0.cast_signed()], |row| row.get(0))
        .optional()?;
    Ok(chain.map(Chain))
}

/// Some records after `after`, each checked against the chain of the one before it.
pub(super) fn page(connection: &Connection, after: Position, entries_max: usize) -> Result<Vec<Entry>, ReplayError> {
    let transaction = connection.unchecked_transaction()?;
    let folded = snapshot_place(&transaction)?;
    let (after, chain) = match folded {
        Some((position, chain)) if after <= position => (position, chain),
        None if after == Position::START => (after, head(&transaction)?.start),
        _ => match chain_at(&transaction, after)? {
            Some(chain) => (after, chain),
            // Beyond the end: nothing yet.
            None => return Ok(Vec::new()),
        },
    };
    let mut entries = Vec::new();
    let until = Position(after.0.saturating_add(entries_max as u64).min(i64::MAX.cast_unsigned()));
    walk(&transaction, after, chain, Some(until), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// The snapshot's place without its body, which may be large.
pub(super) fn snapshot_place(connection: &Connection) -> Result<Option<(Position, Chain)>, ReplayError> {
    let read = |row: &rusqlite::Row<'_>| Ok((Position(row.get::<_, i64>(0)?.cast_unsigned()), Chain(row.get(1)?)));
    Ok(connection.query_row("SELECT position, chain FROM snapshot WHERE one = 1", [], read).optional()?)
}

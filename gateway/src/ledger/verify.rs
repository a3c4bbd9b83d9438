//! Verifying a ledger: rebuild everything from what is stored, look at every checksum, compare, and say it in sentences.
//!
//! It opens the file for reading and works beside a running gateway: it sees one moment of the record.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::embedded::replay::{self, ReplayError};
use super::embedded::{OpenError, mark, schema};
use super::projection::Projection;
use super::record::{Damage, Position};

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The database file.
    pub file: PathBuf,
    /// Records up to here are folded into the snapshot; 0 if none are.
    pub folded_until: Position,
    /// The last record that was found good.
    pub good_until: Position,
    /// Live keys after it.
    pub keys_live: usize,
    /// Revoked ids after it.
    pub revoked: usize,
    /// What is wrong, one sentence each. Empty: the ledger is sound.
    pub damage: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        if self.folded_until > Position::START {
            writeln!(f, "Records 1 to {} are folded into a snapshot.", self.folded_until)?;
        }
        let first = self.folded_until.next();
        if self.good_until >= first {
            writeln!(f, "Records {first} to {} are whole and in order.", self.good_until)?;
        }
        writeln!(f, "They yield {} live keys and {} revoked ids.", self.keys_live, self.revoked)?;
        for sentence in &self.damage {
            writeln!(f, "DAMAGED: {sentence}.")?;
        }
        match self.is_sound() {
            true => write!(f, "The ledger {file} is sound."),
            false => write!(
                f,
                "The ledger {file} is damaged: do not serve with it. Restore it from a backup; what was recorded after the backup, revocations above all, must be recorded again."
            ),
        }
    }
}

/// Verifies the file.
pub fn verify(file: &Path) -> Result<Report, OpenError> {
    check(file, None)
}

/// Verifies the file, and that `live`, the state a running gateway works with, is what the record yields at its position.
pub fn verify_against(file: &Path, live: &Projection) -> Result<Report, OpenError> {
    check(file, Some(live))
}

fn check(file: &Path, live: Option<&Projection>) -> Result<Report, OpenError> {
    let marked = mark::slots(file)?;
    let connection = schema::open_for_reading(file)?;
    let mut checker = Checker { state: Projection::default(), folded_until: Position::START, damage: Vec::new() };
    let outcome =
        connection.unchecked_transaction().map_err(ReplayError::from).and_then(|moment| checker.check(&moment, live));
    let outcome = outcome.and_then(|()| mark::damage(&connection, marked));
    match outcome {
        Ok(older) => checker.damage.extend(older.map(|damage| damage.to_string())),
        Err(ReplayError::Damaged(damage)) => checker.damage.push(damage.to_string()),
        Err(ReplayError::Sqlite(error)) => return Err(OpenError::of_sqlite(file, &error)),
    }
    Ok(Report {
        file: file.to_owned(),
        folded_until: checker.folded_until,
        good_until: checker.state.position(),
        keys_live: checker.state.keys().live().count(),
        revoked: checker.state.revoked().len(),
        damage: checker.damage,
    })
}

struct Checker {
    state: Projection,
    folded_until: Position,
    damage: Vec<String>,
}

impl Checker {
    fn check(&mut self, connection: &Connection, live: Option<&Projection>) -> Result<(), ReplayError> {
        let file: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if file != "ok" {
            // The walk below may still say which record is hit.
            self.damage.push(Damage::File(file).to_string());
        }
        let head = replay::head(connection)?;
        let (after, chain) = match replay::snapshot(connection)? {
            Some((state, chain)) => {
                self.folded_until = state.position();
                self.state = state;
                (self.folded_until, chain)
            }
            None => (Position::START, head.start),
        };
        let stored: Option<(i64, [u8; 32])> = connection
            .query_row("SELECT position, digest FROM state WHERE one = 1", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        // The digest of an earlier schema is of a state that kept less.
        let is_comparable = schema::version(connection)? == schema::SCHEMA_VERSION;
        let stored = stored.map(|(position, digest)| (Position(position.cast_unsigned()), digest));
        let stored = stored.filter(|_| is_comparable);
        let (state, damage) = (&mut self.state, &mut self.damage);
        let mut compare = |state: &Projection| {
            if stored.is_some_and(|(position, digest)| position == state.position() && digest != state.digest()) {
                damage.push(Damage::State(state.position()).to_string());
            }
            if live.is_some_and(|live| live.position() == state.position() && live != state) {
                damage.push(format!(
                    "the state that the gateway works with at record {} is not the one that the record yields",
                    state.position()
                ));
            }
        };
        compare(state);
        let (found, chain) = replay::walk(connection, after, chain, None, |entry| {
            let position = entry.position;
            state.apply(&entry).map_err(|wrong| Damage::Inconsistent { position, reason: wrong.reason })?;
            compare(state);
            Ok(())
        })?;
        if found != head.position {
            self.damage.push(Damage::CutOff { found, head: head.position }.to_string());
        } else if chain != head.chain {
            self.damage.push(Damage::Checksum(found).to_string());
        }
        if let Some(live) = live.filter(|live| live.position() > found) {
            self.damage.push(format!("the gateway works with record {}, which is not stored", live.position()));
        }
        Ok(())
    }
}

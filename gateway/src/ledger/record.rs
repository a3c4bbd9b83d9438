//! The record: an append-only sequence of events, whatever engine keeps it.
//!
//! [`Record`] is the contract for every engine; `tests/ledger_contract` is its proof. An engine owes four things:
//!
//! * positions are 1, 2, 3, … without gaps, and what one append carries stands together or not at all;
//! * an append is acknowledged only when it is durable **and** the engine's [`Observer`] has applied it, in order, so
//!   that whoever was told "revoked" can rely on it at once;
//! * an append that expected another position changes nothing;
//! * after a failure that leaves durability in doubt, it accepts no appends any more and says why.
//!
//! Records are chained: each checksum covers the one before it, so a changed byte, a missing or a moved record is found.
//! The chain finds damage; it does not stop somebody who may write the file from forging all of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::event::{EventError, Happening};

/// The place of a record, counted from 1. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first record.
    pub const START: Self = Self(0);

    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an appender believes the record to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Wherever.
    Any,
    /// Exactly here; otherwise what the append was decided on has changed and it must be decided again.
    At(Position),
}

/// One record as read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// What it says.
    #[serde(flatten)]
    pub happening: Happening,
}

/// An answer of an engine that takes a while.
pub type Pending<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// An append-only sequence of events. See the module for what an engine owes.
pub trait Record: Send + Sync {
    /// Appends all of `happenings` or none, and returns the position of the last. An empty append returns the end.
    fn append(&self, happenings: Vec<Happening>, expected: Expected) -> Pending<'_, Position, AppendError>;

    /// Keeps a newer floor of the clock beside the record, together with what is recorded about it, if anything is.
    fn keep_floor(&self, floor: u64, happenings: Vec<Happening>) -> Pending<'_, Position, AppendError>;

    /// The floor of the clock as it was when the record was opened, in whole seconds since the epoch.
    fn floor(&self) -> Option<u64>;

    /// At most `entries_max` records after `after`, in order. Empty at the end. What was folded away is not returned:
    /// the first entry may stand later than `after` asks.
    fn read(&self, after: Position, entries_max: usize) -> Pending<'_, Vec<Entry>, ReadError>;

    /// The position of the last durable record, to wait for the next one: read until empty, wait for a change, again.
    fn tail(&self) -> watch::Receiver<Position>;

    /// Whether appends are accepted.
    fn condition(&self) -> Condition;
}

/// What an engine tells as it goes: records that are durable, in order, each exactly once. Start-up replay included.
pub trait Observer: Send {
    /// A snapshot that stands for everything up to its position. Called at most once, before all else.
    fn restore(&mut self, snapshot: &super::projection::Projection);

    /// Some durable records. Their append is acknowledged after this returns.
    fn apply(&mut self, entries: &[Entry]) -> Result<(), super::projection::Inconsistent>;

    /// The position and a digest of the state that it keeps, for an engine to store and `verify` to compare.
    fn digest(&self) -> Option<(Position, [u8; 32])> {
        None
    }
}

/// Whether a record takes appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It does.
    Writable,
    /// Not at this moment, for a reason that can pass (a full disk); it recovers by itself.
    Waiting(String),
    /// Not until a restart: a write failed and what is on the disk is in doubt.
    ReadOnly(String),
}

/// Why an append was not done. Nothing of it is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The record did not end where expected.
    #[error("the record ends at {actual} and not at {expected} as expected; decide again")]
    Conflict {
        /// Where it was expected to end.
        expected: Position,
        /// Where it ends.
        actual: Position,
    },
    /// Too much is waiting already.
    #[error("the ledger has {queue_max} writes waiting already; try again shortly")]
    QueueFull {
        /// How many may wait.
        queue_max: usize,
    },
    /// One event is too large to be stored.
    #[error("an event of {bytes} bytes is too large for the ledger")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// For a reason that can pass.
    #[error("the ledger cannot write at this moment: {0}")]
    Unavailable(String),
    /// Until a restart.
    #[error("the ledger is read-only: {0}")]
    ReadOnly(String),
    /// It is unknown whether the append is durable: the engine ended before it answered.
    #[error("the ledger ended before it answered; look into the record before repeating this")]
    Unknown,
}

/// Why records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Too much is waiting already.
    #[error("the ledger has too many reads waiting; try again shortly")]
    QueueFull,
    /// The engine failed or ended.
    #[error("the ledger cannot be read: {0}")]
    Failed(String),
    /// What is stored is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// What is wrong with a stored record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record is not there.
    #[error("record {missing} is missing: after record {after} comes record {found}")]
    Missing {
        /// The first that is not there.
        missing: Position,
        /// The last good one.
        after: Position,
        /// What stands in its place.
        found: Position,
    },
    /// The end of the record is not there.
    #[error("the record ends at {found}, but records up to {head} were written")]
    CutOff {
        /// Where it ends.
        found: Position,
        /// Where it should end.
        head: Position,
    },
    /// The stored checksum does not fit the stored text and the record before it.
    #[error("record {0} is damaged: its checksum does not fit what is stored")]
    Checksum(Position),
    /// The text is intact and not understood.
    #[error("record {position} cannot be understood: {reason}")]
    Event {
        /// Where.
        position: Position,
        /// Why.
        reason: EventError,
    },
    /// The event contradicts the ones before it.
    #[error("record {position} contradicts what was recorded before it: {reason}")]
    Inconsistent {
        /// Where.
        position: Position,
        /// How.
        reason: String,
    },
    /// The snapshot does not fit its checksum or cannot be read.
    #[error("the snapshot of the folded records is damaged: {0}")]
    Snapshot(String),
    /// The state that was stored beside the record is not what the record yields.
    #[error("the state stored at record {0} is not the one that the record yields")]
    State(Position),
    /// Sound, and without the record that is marked beside it.
    #[error(
        "the mark beside the ledger names a revocation or a key in record {0}, which this ledger does not hold: it is an older one"
    )]
    Older(Position),
    /// The file itself.
    #[error("the database file is damaged: {0}")]
    File(String),
}

/// A checksum over a record and all before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// Where the chain of one ledger starts, so that records of another do not fit into it.
    pub fn start(ledger_id: &[u8]) -> Self {
        Self(Sha256::new().chain_update(b"postern ledger 1\0").chain_update(ledger_id).finalize().into())
    }

    /// The checksum of the record that follows.
    #[must_use]
    pub fn follow(&self, position: Position, version: u32, body: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update(self.0)
            .chain_update(position.0.to_le_bytes())
            .chain_update(version.to_le_bytes())
            .chain_update(body);
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_covers_place_version_text_and_past() {
        let start = Chain::start(b"one");
        let first = start.follow(Position(1), 1, b"a");
        assert_ne!(Chain::start(b"two").follow(Position(1), 1, b"a"), first);
        assert_ne!(start.follow(Position(2), 1, b"a"), first);
        assert_ne!(start.follow(Position(1), 2, b"a"), first);
        assert_ne!(start.follow(Position(1), 1, b"b"), first);
        assert_ne!(first.follow(Position(2), 1, b"b"), start.follow(Position(2), 1, b"b"));
    }
}

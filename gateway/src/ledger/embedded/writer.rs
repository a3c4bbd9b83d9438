//! The one thread that writes: group commit, and what happens when a write fails.
//!
//! A failed write is never repeated as if nothing had happened: after a failed `fsync` the system may have dropped the
//! very pages that were to be written, and a second, successful `fsync` would then prove nothing. So every failure but
//! two ends writing until a restart, which reads back what is really there. The two: another program holds a lock, and
//! the disk is full; then SQLite has undone the transaction, and the writer looks every second whether there is room
//! again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::event::{EVENT_VERSION, Happening};
use super::super::record::{AppendError, Chain, Condition, Damage, Entry, Expected, Observer, Position};
use super::mark::{self, Mark, Marked};
use super::replay::{self, ReplayError};
use super::{EmbeddedOptions, OpenError, fold, schema};
use crate::telemetry::LedgerMetrics;

/// Events in one transaction at most; bounds the memory of a commit and the wait of whoever comes next.
const GROUP_EVENTS_MAX: usize = 1_024;
/// How often a writer on a full disk looks whether there is room again.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// What the look writes: an empty transaction would need no room.
const PROBE_BYTES: usize = 64 * 1024;
/// Records between two looks for what is old enough to fold.
const TEND_EVERY: u64 = 10_000;

/// What a caller wants appended, and where the answer goes.
pub(super) struct Append {
    pub(super) events: Vec<(Vec<u8>, Happening)>,
    pub(super) expected: Expected,
    /// The clock's floor that is to be kept with it.
    pub(super) floor: Option<u64>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// The writing side of an open ledger.
pub(super) struct Writer {
    connection: Connection,
    position: Position,
    chain: Chain,
    tended: Position,
    observer: Box<dyn Observer>,
    mark: Mark,
    tail: watch::Sender<Position>,
    condition: Arc<Mutex<Condition>>,
    metrics: Arc<LedgerMetrics>,
    retention: Duration,
    now: fn() -> u64,
    _lock: schema::Lock,
}

/// What a caller is told.
pub(super) type Outcome = Result<Position, AppendError>;

/// Appends that stand in an open transaction, and who waits for them.
struct Group {
    entries: Vec<Entry>,
    answers: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    position: Position,
    chain: Chain,
    /// The last record in it that must not be forgotten.
    marked: Option<Marked>,
}

impl Writer {
    /// Opens the file and replays it. The observer has everything when this returns.
    pub(super) fn open(
        options: &EmbeddedOptions,
        observer: Box<dyn Observer>,
        metrics: Arc<LedgerMetrics>,
        condition: Arc<Mutex<Condition>>,
    ) -> Result<(Self, watch::Receiver<Position>, Option<u64>), OpenError> {
        let file = &options.file;
        let lock = schema::Lock::take(file)?;
        let marked = mark::slots(file)?;
        if marked.is_some_and(|marked| marked.position > Position::START) && !file.exists() {
            return Err(OpenError::OnlyMark { file: file.clone(), mark: mark::path(file) });
        }
        let connection = schema::open_for_writing(file)?;
        let in_words = |error: ReplayError| match error {
            ReplayError::Sqlite(error) => OpenError::of_sqlite(file, &error),
            ReplayError::Damaged(damage) => OpenError::Damaged { file: file.clone(), damage },
        };
        let mut observer = observer;
        let (position, chain, newest) = replay_all(&connection, observer.as_mut()).map_err(in_words)?;
        // After the replay, so that a damaged ledger is called damaged.
        mark::expect(file, &connection, marked)?;
        let mark = Mark::open(file, newest)?;
        let floor = schema::floor(&connection).map_err(|error| OpenError::of_sqlite(file, &error))?;
        let (tail, tail_out) = watch::channel(position);
        metrics.position.set(position.0);
        let (retention, now) = (options.retention, options.now);
        let tended = position;
        let mut writer = Self {
            connection,
            position,
            chain,
            tended,
            observer,
            mark,
            tail,
            condition,
            metrics,
            retention,
            now,
            _lock: lock,
        };
        writer.fold_old().map_err(in_words)?;
        Ok((writer, tail_out, floor))
    }

    /// Writes until every sender is gone and the queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Append>) {
        // An own small runtime, only to wait for the queue and the next look at a full disk at once.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let Ok(runtime) = runtime else {
            self.read_only("its thread could not be given a timer".into());
            return;
        };
        loop {
            let waiting = matches!(self.condition(), Condition::Waiting(_));
            let next = if waiting {
                match runtime.block_on(async { tokio::time::timeout(PROBE_INTERVAL, queue.recv()).await }) {
                    Ok(next) => next,
                    Err(_) => {
                        self.probe();
                        continue;
                    }
                }
            } else {
                queue.blocking_recv()
            };
            let Some(first) = next else { break };
            self.metrics.queued.set(queue.len() as u64);
            let mut appends = vec![first];
            let mut events = appends[0].events.len();
            while events < GROUP_EVENTS_MAX
                && let Ok(append) = queue.try_recv()
            {
                events += append.events.len();
                appends.push(append);
            }
            self.write(appends);
        }
        self.close();
    }

    /// Commits a group and answers everyone in it.
    pub(super) fn write(&mut self, appends: Vec<Append>) {
        if let Condition::ReadOnly(reason) = self.condition() {
            for append in appends {
                let _ = append.answer.send(Err(AppendError::ReadOnly(reason.clone())));
            }
            return;
        }
        let started = Instant::now();
        let mut group = Group {
            entries: Vec::new(),
            answers: Vec::new(),
            position: self.position,
            chain: self.chain,
            marked: None,
        };
        match self.commit(appends, &mut group) {
            Ok(()) => {
                self.metrics.commit.observe(started.elapsed());
                self.committed(group);
            }
            Err(error) => {
                let refusal = self.failed(&error);
                for (answer, outcome) in group.answers {
                    // A conflict was found before anything failed, and stays one.
                    let _ = answer.send(outcome.and(Err(refusal.clone())));
                }
            }
        }
    }

    fn commit(&self, appends: Vec<Append>, group: &mut Group) -> rusqlite::Result<()> {
        let mut appends = appends.into_iter();
        let outcome = (|| {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            for append in appends.by_ref() {
                // The answer is kept first, so that a failure in the middle still reaches this caller.
                let outcome = place(&append, group.position);
                group.answers.push((append.answer, outcome.clone()));
                if outcome.is_ok() {
                    self.insert(append.events, group)?;
                    append.floor.map_or(Ok(()), |floor| schema::keep_floor(&self.connection, floor))?;
                }
            }
            let mut head = self.connection.prepare_cached("UPDATE head SET position = ?1, chain = ?2 WHERE one = 1")?;
            let rows = head.execute(params![group.position.0.cast_signed(), group.chain.0])?;
            if rows != 1 {
                return Err(rusqlite::Error::StatementChangedRows(rows));
            }
            self.connection.execute_batch("COMMIT")
        })();
        if outcome.is_err() {
            // Those that were not reached: refused like the rest.
            let rest = appends.map(|append| (append.answer, Ok(Position::START)));
            group.answers.extend(rest);
            if !self.connection.is_autocommit() {
                // If this fails too, SQLite undoes the transaction at the next open; nothing of it was acknowledged.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
        }
        outcome
    }

    fn insert(&self, events: Vec<(Vec<u8>, Happening)>, group: &mut Group) -> rusqlite::Result<()> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO record (position, version, body, chain) VALUES (?1, ?2, ?3, ?4)")?;
        for (body, happening) in events {
            let position = group.position.next();
            let chain = group.chain.follow(position, EVENT_VERSION, &body);
            insert.execute(params![position.0.cast_signed(), EVENT_VERSION, body, chain.0])?;
            if mark::is_marked(&happening.event) {
                group.marked = Some(Marked { position, chain });
            }
            group.entries.push(Entry { position, happening });
            (group.position, group.chain) = (position, chain);
        }
        Ok(())
    }

    /// Durable: first the observer, then the tail, then the answers.
    fn committed(&mut self, group: Group) {
        (self.position, self.chain) = (group.position, group.chain);
        self.metrics.commits.add(1);
        self.metrics.records.add(group.entries.len() as u64);
        self.metrics.position.set(self.position.0);
        let applied = self.observer.apply(&group.entries);
        self.set_condition(Condition::Writable);
        let applied = applied.map_err(|wrong| {
            // Durable, and contradicting what was before: only a bug can do this. A restart would refuse it too.
            self.metrics.lag.set(self.position.0.saturating_sub(wrong.position.0) + 1);
            self.read_only(format!("a record contradicts those before it ({wrong})"));
            AppendError::ReadOnly(wrong.to_string())
        });
        let applied = applied.and_then(|()| self.mark_newest(group.marked));
        self.tail.send_replace(self.position);
        for (answer, outcome) in group.answers {
            // Whoever asked may have gone; the record stands all the same.
            let _ = answer.send(outcome.and_then(|position| applied.clone().map(|()| position)));
        }
        if self.position.0 - self.tended.0 >= TEND_EVERY {
            self.tend();
        }
    }

    /// Marks the newest revocation or key record, so that a ledger without it is noticed. Nothing of the group is
    /// acknowledged if that fails, though it stands in the record and is in force.
    fn mark_newest(&mut self, marked: Option<Marked>) -> Result<(), AppendError> {
        let Some(marked) = marked else { return Ok(()) };
        self.mark.write(marked).map_err(|error| {
            let reason = format!("the mark beside the ledger cannot be written ({error}); what was asked is recorded");
            self.read_only(reason.clone());
            AppendError::ReadOnly(reason)
        })
    }

    /// Now and then, folding. Its cost is that of what is folded, not of the whole record.
    fn tend(&mut self) {
        self.tended = self.position;
        match self.fold_old() {
            Ok(()) => {}
            Err(ReplayError::Sqlite(error)) => drop(self.failed(&error)),
            Err(ReplayError::Damaged(damage)) => self.read_only(format!("damage was found: {damage}")),
        }
    }

    fn fold_old(&mut self) -> Result<(), ReplayError> {
        let before = (self.now)().saturating_sub(self.retention.as_secs());
        if let Some(until) = fold::fold(&self.connection, before)? {
            tracing::info!(%until, "records older than the retention were folded into the ledger's snapshot");
        }
        Ok(())
    }

    /// Keeps a digest of the live state beside the record, for `verify` to compare with a rebuilt one.
    fn store_digest(&self) -> rusqlite::Result<()> {
        let Some((position, digest)) = self.observer.digest() else { return Ok(()) };
        self.connection.execute(
            "INSERT INTO state (one, position, digest) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET position = ?1, digest = ?2",
            params![position.0.cast_signed(), digest],
        )?;
        Ok(())
    }

    /// What a failed write means for the ones after it, and what its callers are told.
    fn failed(&self, error: &rusqlite::Error) -> AppendError {
        // A full disk also shows as no room for the index of the write-ahead log; nothing was written then either.
        let no_room_for_index =
            error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE);
        let code = if no_room_for_index { Some(ErrorCode::DiskFull) } else { error.sqlite_error_code() };
        match code {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                let reason = "another program holds a lock on the database file; end whatever has it open";
                tracing::error!(%error, "{reason}");
                AppendError::Unavailable(reason.into())
            }
            Some(ErrorCode::DiskFull) => {
                let reason = "the disk is full; make room, and writing goes on by itself";
                tracing::error!(%error, "the ledger cannot write: {reason}");
                self.set_condition(Condition::Waiting(reason.into()));
                AppendError::Unavailable(reason.into())
            }
            _ => {
                let reason = format!(
                    "a write failed ({error}); what is on the disk is in doubt until the gateway is restarted on a sound disk"
                );
                self.read_only(reason.clone());
                AppendError::ReadOnly(reason)
            }
        }
    }

    /// Looks whether a full disk has room again, by writing something and undoing it.
    pub(super) fn probe(&self) {
        let room = self
            .connection
            .execute_batch("BEGIN IMMEDIATE; CREATE TABLE probe (body BLOB) STRICT;")
            .and_then(|()| {
                self.connection.execute("INSERT INTO probe (body) VALUES (zeroblob(?1))", [PROBE_BYTES as i64])
            })
            .and_then(|_| self.connection.execute_batch("DROP TABLE probe; COMMIT"));
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match room {
            Ok(()) => {
                tracing::info!("the disk has room again; the ledger writes");
                self.set_condition(Condition::Writable);
            }
            Err(error) => drop(self.failed(&error)),
        }
    }

    #[cfg(test)]
    pub(super) fn forbid_marking(&mut self, file: &std::path::Path) {
        self.mark = Mark::unwritable(file);
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_condition(&self, condition: Condition) {
        self.metrics.read_only.set(u64::from(condition != Condition::Writable));
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }

    fn read_only(&self, reason: String) {
        tracing::error!("the ledger is read-only from now on: {reason}");
        self.set_condition(Condition::ReadOnly(reason));
    }

    /// At an orderly end: the digest, and the write-ahead log taken into the file, so that a copy of it is whole.
    fn close(self) {
        if self.condition() != Condition::Writable {
            return;
        }
        let outcome = self
            .store_digest()
            .and_then(|()| self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
        if let Err(error) = outcome {
            tracing::warn!(?error, "the ledger was closed without its last digest; no record is lost");
        }
    }
}

/// Whether an append may stand after `end`, and where its last record will be.
fn place(append: &Append, end: Position) -> Outcome {
    match append.expected {
        Expected::At(expected) if expected != end => Err(AppendError::Conflict { expected, actual: end }),
        _ => Ok(Position(end.0 + append.events.len() as u64)),
    }
}

/// Hands everything that is stored to `observer`, checked, and returns the end of the record, and the newest record in it
/// that must not be forgotten.
pub(super) fn replay_all(
    connection: &Connection,
    observer: &mut dyn Observer,
) -> Result<(Position, Chain, Marked), ReplayError> {
    let transaction = connection.unchecked_transaction()?;
    let head = replay::head(&transaction)?;
    let (after, chain) = match replay::snapshot(&transaction)? {
        Some((state, chain)) => {
            observer.restore(&state);
            (state.position(), chain)
        }
        None => (Position::START, head.start),
    };
    let mut newest = after;
    let mut batch = Vec::new();
    let mut hand_on = |batch: &mut Vec<Entry>| {
        let outcome = observer.apply(batch);
        batch.clear();
        outcome.map_err(|wrong| Damage::Inconsistent { position: wrong.position, reason: wrong.reason })
    };
    let start = chain;
    let (found, chain) = replay::walk(&transaction, after, chain, None, |entry| {
        if mark::is_marked(&entry.happening.event) {
            newest = entry.position;
        }
        batch.push(entry);
        if batch.len() == GROUP_EVENTS_MAX { Ok(hand_on(&mut batch)?) } else { Ok(()) }
    })?;
    hand_on(&mut batch)?;
    if found != head.position {
        return Err(Damage::CutOff { found, head: head.position }.into());
    }
    if chain != head.chain {
        return Err(Damage::Checksum(found).into());
    }
    let marked = Marked { position: newest, chain: replay::chain_at(&transaction, newest)?.unwrap_or(start) };
    Ok((found, chain, marked))
}

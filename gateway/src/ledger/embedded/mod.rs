//! The embedded engine: one SQLite file, one thread that writes it and one that reads it.
//!
//! [`writer`] takes what is queued, commits it as one transaction, tells the observer and only then answers. [`replay`]
//! reads records back and checks them, [`fold`] keeps the file from growing without end, [`schema`] opens it.

mod fold;
pub(super) mod mark;
pub(super) mod replay;
pub(super) mod schema;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::event::{EVENT_BYTES_MAX, EVENT_VERSION, Happening};
use super::record::{AppendError, Condition, Entry, Expected, Observer, Pending, Position, ReadError, Record};
use crate::telemetry::LedgerMetrics;
pub use schema::OpenError;
use writer::{Append, Writer};

/// Records returned by one read at most.
pub const READ_ENTRIES_MAX: usize = 1_000;
/// Reads that may wait.
const READS_QUEUED_MAX: usize = 256;

/// Where the file is and within which bounds the engine works.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The database file; its folder must exist.
    pub file: PathBuf,
    /// Appends that may wait for the writer; one more is refused.
    pub queue_max: usize,
    /// How long records are kept before they are folded. Revocations and keys outlive their records.
    pub retention: Duration,
    /// The time in whole seconds since the epoch; handed in so that tests can set it.
    pub now: fn() -> u64,
}

/// Ninety days: long enough to look into what happened, short enough to keep the file small.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl EmbeddedOptions {
    /// The usual bounds for this file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            queue_max: crate::limits::Limits::default().ledger_queue_max,
            retention: RETENTION_DEFAULT,
            now: super::now,
        }
    }
}

/// The record in a SQLite file. Dropping it waits for the writes that were accepted, and closes the file.
pub struct Embedded {
    appends: Option<mpsc::Sender<Append>>,
    reads: Option<mpsc::Sender<Read>>,
    tail: watch::Receiver<Position>,
    condition: Arc<Mutex<Condition>>,
    metrics: Arc<LedgerMetrics>,
    queue_max: usize,
    floor: Option<u64>,
    threads: Vec<JoinHandle<()>>,
}

struct Read {
    after: Position,
    entries_max: usize,
    answer: oneshot::Sender<Result<Vec<Entry>, ReadError>>,
}

impl Embedded {
    /// Opens the file, replays the whole record into `observer`, folds what is old, and starts the threads.
    /// When it returns, the observer knows everything that was ever acknowledged.
    pub fn open(
        options: &EmbeddedOptions,
        observer: Box<dyn Observer>,
        metrics: Arc<LedgerMetrics>,
    ) -> Result<Self, OpenError> {
        let condition = Arc::new(Mutex::new(Condition::Writable));
        let (writer, tail, floor) = Writer::open(options, observer, Arc::clone(&metrics), Arc::clone(&condition))?;
        let reader = schema::open_for_reading(&options.file)?;
        let (appends, appends_in) = mpsc::channel(options.queue_max);
        let (reads, reads_in) = mpsc::channel(READS_QUEUED_MAX);
        let no_thread =
            |source| OpenError::Unusable { file: options.file.clone(), doing: "given a thread of its own", source };
        let threads = vec![
            thread::Builder::new().name("ledger-writer".into()).spawn(|| writer.run(appends_in)).map_err(no_thread)?,
            thread::Builder::new()
                .name("ledger-reader".into())
                .spawn(move || answer_reads(&reader, reads_in))
                .map_err(no_thread)?,
        ];
        let queue_max = options.queue_max;
        Ok(Self { appends: Some(appends), reads: Some(reads), tail, condition, metrics, queue_max, floor, threads })
    }

    fn enqueue(&self, happenings: &[Happening], expected: Expected, floor: Option<u64>) -> Result<Answer, AppendError> {
        let mut bodies = Vec::with_capacity(happenings.len());
        for happening in happenings {
            let body = happening.to_body();
            if body.len() > EVENT_BYTES_MAX {
                return Err(AppendError::TooLarge { bytes: body.len() });
            }
            // Pair assertion: what could not be read back at the next start must not be written now.
            debug_assert_eq!(Happening::from_body(EVENT_VERSION, &body).as_ref(), Ok(happening));
            bodies.push((body, happening.clone()));
        }
        let (answer, answered) = oneshot::channel();
        let queue = self.appends.as_ref().ok_or(AppendError::Unknown)?;
        match queue.try_send(Append { events: bodies, expected, floor, answer }) {
            Ok(()) => {
                self.metrics.queued.set((self.queue_max - queue.capacity()) as u64);
                Ok(answered)
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.queue_full.add(1);
                Err(AppendError::QueueFull { queue_max: self.queue_max })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(AppendError::ReadOnly("its writer has ended".into())),
        }
    }
}

type Answer = oneshot::Receiver<Result<Position, AppendError>>;

impl Record for Embedded {
    fn append(&self, happenings: Vec<Happening>, expected: Expected) -> Pending<'_, Position, AppendError> {
        // Queued before the first poll: the order of calls is the order of records, also when futures are polled late.
        let queued = self.enqueue(&happenings, expected, None);
        Box::pin(async move { queued?.await.unwrap_or(Err(AppendError::Unknown)) })
    }

    fn keep_floor(&self, floor: u64, happenings: Vec<Happening>) -> Pending<'_, Position, AppendError> {
        let queued = self.enqueue(&happenings, Expected::Any, Some(floor));
        Box::pin(async move { queued?.await.unwrap_or(Err(AppendError::Unknown)) })
    }

    fn floor(&self) -> Option<u64> {
        self.floor
    }

    fn read(&self, after: Position, entries_max: usize) -> Pending<'_, Vec<Entry>, ReadError> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let ended = || ReadError::Failed("its reader has ended".into());
            let read = Read { after, entries_max: entries_max.min(READ_ENTRIES_MAX), answer };
            match self.reads.as_ref().ok_or_else(ended)?.try_send(read) {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(ended())),
                Err(mpsc::error::TrySendError::Full(_)) => Err(ReadError::QueueFull),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
            }
        })
    }

    fn tail(&self) -> watch::Receiver<Position> {
        self.tail.clone()
    }

    fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Closed queues end the threads once they are empty.
        self.appends = None;
        self.reads = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked said so itself; there is nobody left to tell here.
            let _ = thread.join();
        }
    }
}

fn answer_reads(connection: &rusqlite::Connection, mut reads: mpsc::Receiver<Read>) {
    while let Some(read) = reads.blocking_recv() {
        let entries = replay::page(connection, read.after, read.entries_max).map_err(ReadError::from);
        if let Err(error @ ReadError::Damaged(_)) = &entries {
            tracing::error!(%error, "the ledger is damaged");
        }
        // Whoever asked may have gone; then nobody wants the answer.
        let _ = read.answer.send(entries);
    }
}

#[cfg(test)]
mod tests;

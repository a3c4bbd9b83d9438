//! A running gateway: ledger, workers and administration, started, reloaded and drained as one.
//!
//! The order of a start is the order of trust: state folder and ledger first, so that every revocation is known; then the
//! sockets, so that a taken port is an error and not a surprise; then the workers; administration last. A gateway that
//! cannot do all of this does not start.
//!
//! A reload builds the next [`Generation`] beside the one in force and swaps them once it is whole. A drain ends the data
//! listeners first and administration last, so that readiness can be asked, and a capability revoked, until the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use postern_capabilities::revocation::Standing;
use tokio::sync::watch;

use crate::admin;
use crate::budget::Budget;
use crate::config::{self, Config};
use crate::generation::{Generation, NotBuilt};
use crate::ledger::{EmbeddedOptions, Ledger};
use crate::limits::Limits;
use crate::listener::Connections;
use crate::state::StateDir;
use crate::telemetry::{AccessLog, LedgerMetrics, SharedCounter, Telemetry};
use crate::upstream::{Board, keeper};
use crate::wall_clock::{self, WallClock};
use crate::worker_thread::Parts;

/// How long a reload waits for every worker to say that it follows. They take microseconds unless they are starved.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(5);

/// What a start is handed besides the configuration and the state folder.
#[derive(Default)]
pub struct Startup {
    /// An operator's word that the system's clock is right, though the record knows a later time.
    pub accept_clock: bool,
    /// Where the administration's socket lies if the state folder's path is too long for one.
    pub runtime_folder: Option<PathBuf>,
    /// The lines of diagnostics that were dropped, for the metrics.
    pub diagnostics_dropped: Option<Arc<SharedCounter>>,
}

/// Why a gateway did not start. Each is a sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder or a file in it.
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    /// The ledger's file.
    #[error(transparent)]
    LedgerFile(#[from] crate::ledger::OpenError),
    /// The ledger's contents.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// What the configuration names cannot be used.
    #[error("{}", sentences(reasons))]
    Configured {
        /// Every reason, never empty.
        reasons: Vec<NotBuilt>,
    },
    /// Administration.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// The access log's file.
    #[error("the access log {path} cannot be opened: {error}. Name a file in a folder that is there, with log.access.")]
    AccessLog {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system's clock stands where the record has been long ago.
    #[error(
        "the system's clock says {}, and this ledger was served at {} by a clock that had run true for ten minutes: what has \
         expired since would be accepted again. Set the clock; if it is right, say so once with `postern serve --accept-clock`, \
         which the ledger records.",
        wall_clock::printed(*now), wall_clock::printed(*floor)
    )]
    ClockBehind {
        /// What the clock says, in whole seconds since the epoch.
        now: u64,
        /// The record's floor.
        floor: u64,
    },
    /// A thread or its runtime.
    #[error(
        "a thread cannot be started: {0}. The system's limit on threads or open files is too low for this gateway."
    )]
    Thread(std::io::Error),
}

/// One alone, or each on a line of its own.
fn sentences(reasons: &[NotBuilt]) -> String {
    match reasons {
        [only] => only.to_string(),
        several => several.iter().map(|reason| format!("\n  {reason}")).collect(),
    }
}

/// Why a configuration was not put in force: each reason a sentence. The one before stays.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}", reasons.join("\n"))]
pub struct NotReloaded {
    /// All of them, never empty.
    pub reasons: Vec<String>,
}

/// A configuration that was put in force.
#[derive(Debug)]
pub struct Reloaded {
    /// Its number; the gateway started with 1.
    pub generation: u64,
    /// What is different from the one before, in words. Empty: nothing is.
    pub changes: Vec<String>,
}

/// A gateway that is up. Dropping it stops it at once; [`Running::drain`] lets exchanges finish.
pub struct Running {
    generations: watch::Sender<Arc<Generation>>,
    workers: usize,
    standing: Arc<Standing>,
    /// Outlives the workers: what they write and record at their end still has somewhere to go.
    telemetry: Arc<Telemetry>,
    connections: Arc<Connections>,
    board: Arc<Board>,
    budget: Arc<Budget>,
    admin: SocketAddr,
    admin_socket: Option<PathBuf>,
    /// True once data connections are to end.
    draining: watch::Sender<bool>,
    /// True once administration is to end as well.
    ending: watch::Sender<bool>,
    worker_threads: Vec<JoinHandle<()>>,
    upstreams_thread: Option<JoinHandle<()>>,
    admin_thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Where messages are taken, with the ports that the system chose.
    pub fn data_addresses(&self) -> Vec<SocketAddr> {
        self.generations.borrow().listeners.iter().map(|listener| listener.address).collect()
    }

    /// Where administration is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The administration's socket on this machine; `None` where none could be made.
    pub fn admin_socket(&self) -> Option<&Path> {
        self.admin_socket.as_deref()
    }

    /// Closes the access log's file and opens it again under its name, after a rotation.
    pub fn reopen_access_log(&self) {
        self.telemetry.access_log().reopen();
    }

    /// What is known of the resources' addresses.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The configuration in force.
    pub fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generations.borrow())
    }

    /// How often each worker has turned its loop, about once a second: a count that stands still is a worker that does.
    pub fn turns(&self) -> Vec<u64> {
        // Administration counts messages like a worker, and comes last.
        let mut turns = self.telemetry.turns();
        turns.truncate(self.workers);
        turns
    }

    /// Reads a configuration file and puts it in force, for the next message on every connection. Nothing that is under
    /// way notices. The access log's file is opened anew, for whoever rotates it.
    ///
    /// # Errors
    /// Every reason at once. Then everything stays as it was.
    pub async fn reload(&self, file: &Path) -> Result<Reloaded, NotReloaded> {
        self.telemetry.access_log().reopen();
        let reloaded = self.put_in_force(file).await;
        let metrics = self.telemetry.config();
        match &reloaded {
            Ok(reloaded) => {
                metrics.applied.add(1);
                metrics.generation.set(reloaded.generation);
            }
            Err(_) => metrics.refused.add(1),
        }
        reloaded
    }

    async fn put_in_force(&self, file: &Path) -> Result<Reloaded, NotReloaded> {
        let config = Config::load(file)
            .map_err(|errors| NotReloaded { reasons: errors.mistakes.iter().map(ToString::to_string).collect() })?;
        let before = self.generation();
        let reasons = unchangeable(&before.config, &config);
        if !reasons.is_empty() {
            return Err(NotReloaded { reasons });
        }
        let next = Generation::build(config, Some(&before), &self.standing, self.workers)
            .map_err(|reasons| NotReloaded { reasons: reasons.iter().map(ToString::to_string).collect() })?;
        let next = Arc::new(next);
        let changes = next.changes_since(&before);
        // The one step that can fail comes first.
        let limits = &next.config.limits;
        self.telemetry
            .traces()
            .follow(next.collector.as_ref(), limits.trace_queue_spans_max)
            .map_err(|error| NotReloaded { reasons: vec![StartError::Thread(error).to_string()] })?;
        self.connections.follow(&next.config.limits);
        self.board.set(&next.rosters, &next.config.limits);
        self.budget.set_max(next.config.limits.buffered_bytes_max);
        self.generations.send_replace(Arc::clone(&next));
        if tokio::time::timeout(FOLLOW_TIMEOUT, next.followed_by(self.workers)).await.is_err() {
            tracing::warn!("a worker has not put the configuration in force yet; it will as soon as it gets to it");
        }
        Ok(Reloaded { generation: next.number, changes })
    }

    /// Takes no more connections, lets exchanges that are under way finish within `drain_timeout`, and ends.
    pub async fn drain(mut self) {
        self.draining.send_replace(true);
        join(std::mem::take(&mut self.worker_threads)).await;
        self.ending.send_replace(true);
        join(self.admin_thread.take().into_iter().chain(self.upstreams_thread.take()).collect()).await;
        // The last lines and spans are written when nobody is left who could add one, and that blocks as well.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }
}

/// Joining blocks, so it is done where blocking is allowed. A thread that panicked has ended, which is all that is asked
/// of it here.
async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    drop(joined.await);
}

impl Drop for Running {
    fn drop(&mut self) {
        self.draining.send_replace(true);
        self.ending.send_replace(true);
    }
}

/// Starts a gateway from a checked configuration and its state folder.
///
/// # Errors
/// [`StartError`]: nothing keeps running in that case.
pub async fn start(config: Config, state: StateDir, startup: Startup) -> Result<Running, StartError> {
    let access_log = open_access_log(&config)?;
    let telemetry = Telemetry::new(access_log);
    if let Some(dropped) = startup.diagnostics_dropped {
        telemetry.watch_diagnostics(dropped);
    }
    let ledger = open_ledger(&state, &config.limits, Arc::clone(telemetry.ledger())).await?;
    let clock = Arc::<WallClock>::default();
    believe_clock(&ledger, clock.now(), startup.accept_clock).await?;
    let standing = Arc::clone(ledger.standing());
    let statement_key = Arc::new(state.gateway_key_or_create()?.statement_key());
    standing.set_statement_keys(vec![statement_key.public()]);
    let connections = Connections::new(&config.limits);
    let budget = Budget::new(config.limits.buffered_bytes_max);
    telemetry.watch_budget(&budget);
    let workers = config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let generation =
        Generation::build(config, None, &standing, workers).map_err(|reasons| StartError::Configured { reasons })?;
    let spans_max = generation.config.limits.trace_queue_spans_max;
    telemetry.traces().follow(generation.collector.as_ref(), spans_max).map_err(StartError::Thread)?;
    telemetry.config().generation.set(generation.number);
    let admin_listen = generation.config.admin.listen;
    let board = Board::new();
    board.set(&generation.rosters, &generation.config.limits);
    let (generations, of_generations) = watch::channel(Arc::new(generation));
    let (draining, is_draining) = watch::channel(false);
    let (ending, is_ending) = watch::channel(false);
    let mut running = Running {
        generations,
        workers,
        standing,
        telemetry: Arc::clone(&telemetry),
        connections,
        board: Arc::clone(&board),
        budget,
        admin: admin_listen,
        admin_socket: None,
        draining,
        ending,
        worker_threads: Vec::new(),
        upstreams_thread: None,
        admin_thread: None,
    };
    let upstreams_thread = keeper::start(board, is_ending.clone()).map_err(StartError::Thread)?;
    running.upstreams_thread = Some(upstreams_thread);
    for index in 0..workers {
        let parts = Parts {
            index,
            generations: of_generations.clone(),
            standing: Arc::clone(&running.standing),
            statement_key: Arc::clone(&statement_key),
            telemetry: telemetry.worker(),
            connections: Arc::clone(&running.connections),
            budget: Arc::clone(&running.budget),
            clock: Arc::clone(&clock),
            shutdown: is_draining.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || parts.run())
            .map_err(StartError::Thread)?;
        running.worker_threads.push(thread);
    }
    let shutdown = admin::Shutdown { is_draining, is_ending };
    let parts = admin::Parts { generations: of_generations, state, ledger, telemetry, clock, shutdown };
    let admin = admin::start(parts, startup.runtime_folder.as_deref())?;
    running.admin_socket = admin.socket;
    running.admin = admin.address;
    running.admin_thread = Some(admin.thread);
    Ok(running)
}

/// Refuses a clock that stands long before the record's floor, unless an operator has said that it is right.
async fn believe_clock(ledger: &Ledger, now: u64, accept: bool) -> Result<(), StartError> {
    match ledger.clock_floor() {
        Some(floor) if wall_clock::is_behind(now, floor) && accept => {
            tracing::warn!(
                "the clock stands {} seconds before the record's floor and was accepted by an operator",
                floor.saturating_sub(now)
            );
            Ok(ledger.accept_clock(floor, now).await?)
        }
        Some(floor) if wall_clock::is_behind(now, floor) => Err(StartError::ClockBehind { now, floor }),
        _ => Ok(()),
    }
}

/// What differs and cannot change while the gateway runs: each a sentence.
fn unchangeable(before: &Config, after: &Config) -> Vec<String> {
    let differs = [
        ("workers", before.workers != after.workers),
        ("admin.listen", before.admin != after.admin),
        ("state_dir", before.state_dir != after.state_dir),
        ("state_group", before.state_group != after.state_group),
        ("ledger", before.ledger != after.ledger),
        ("log.access", before.access_log != after.access_log),
        ("limits.ledger_queue_max", before.limits.ledger_queue_max != after.limits.ledger_queue_max),
        ("limits.log_queue_lines_max", before.limits.log_queue_lines_max != after.limits.log_queue_lines_max),
    ];
    let differing = differs.into_iter().filter(|(_, differs)| *differs);
    differing
        .map(|(key, _)| format!("{key}: cannot change while the gateway runs; restart it, or put the old value back."))
        .collect()
}

/// The ledger, replayed, with the state folder's root key as the one that mints. Commands that take the place of a gateway
/// which does not run use it too.
///
/// # Errors
/// Also where the folder was in use and its ledger is gone or has lost its records: a fresh one would have forgotten every
/// revocation.
pub async fn open_ledger(state: &StateDir, limits: &Limits, metrics: Arc<LedgerMetrics>) -> Result<Ledger, StartError> {
    state.expect_safe()?;
    let root = state.root_key()?;
    state.expect_ledger()?;
    let options = EmbeddedOptions { queue_max: limits.ledger_queue_max, ..EmbeddedOptions::new(state.ledger_path()) };
    let ledger = Ledger::open(&options, metrics)?;
    // A rotation that was cut short is settled first; only then can the root key and the record agree.
    let minting = ledger.standing().keys().minting().map(|entry| entry.key);
    match minting {
        Some(minting) => state.settle_rotation(&minting)?,
        None => {
            state.expect_ledger_unused()?;
            ledger.adopt_root_key(root.public()).await?;
        }
    }
    state.record_key_ring(&ledger.standing().keys())?;
    Ok(ledger)
}

fn open_access_log(config: &Config) -> Result<AccessLog, StartError> {
    AccessLog::open(config.access_log.clone(), config.limits.log_queue_lines_max).map_err(|error| {
        let path = match &config.access_log {
            config::AccessLog::File(path) => path.display().to_string(),
            _ => "stream".to_owned(),
        };
        StartError::AccessLog { path, error }
    })
}

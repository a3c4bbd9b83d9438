//! What the gateway tells its operator: counters ([`metrics`]), their Prometheus text ([`prometheus`]), one line a
//! message ([`access_log`]), and traces for a collector ([`traces`]).
//!
//! Each worker holds one [`WorkerTelemetry`], the single writer of its own counters: counting is a plain load and store
//! on memory that no other worker writes, without locks or locked instructions. Whoever renders reads all workers'
//! counters and adds them up. The handle is `Send` and not `Sync`, so the compiler keeps the writer single.
//!
//! Nothing here can hold token text: a capability is named by its short id, a query by its length alone.

pub mod access_line;
pub mod access_log;
mod destination;
pub mod diagnostics;
mod exporter;
pub mod metrics;
mod otlp;
pub mod prometheus;
mod summary;
pub mod traces;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use crate::budget::Budget;
use crate::listener::NotServed;
pub use access_line::AccessLine;
pub use access_log::{AccessLog, AccessLogTarget};
pub use destination::{Destination, DestinationError};
pub use diagnostics::{Diagnostics, DiagnosticsSink};
pub use metrics::{
    ConfigMetrics, Counter, Gauge, Histogram, LedgerMetrics, OpenStream, Protocol, SharedCounter, StreamKind,
};
use metrics::{DecisionCounter, TrafficCounters, WorkerCounters, class_of};
pub(crate) use otlp::known_method;
pub use summary::{ResourceSummary, Summary};
pub use traces::{Spans, Traces};

/// The reason under which an allowed message is counted; every other reason is a stable problem type.
pub const ALLOWED: &str = "allowed";

/// All that is counted and logged in one gateway process. Shared by workers, ledger and administration.
pub struct Telemetry {
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
    ledger: Arc<LedgerMetrics>,
    config: ConfigMetrics,
    budget: OnceLock<Arc<Budget>>,
    diagnostics_dropped: OnceLock<Arc<SharedCounter>>,
    access_log: AccessLog,
    traces: Traces,
    rates: summary::Rates,
}

impl Telemetry {
    /// Telemetry that writes its access log through `access_log`. It records no traces until it is told where they go.
    pub fn new(access_log: AccessLog) -> Arc<Self> {
        Arc::new(Self {
            workers: Mutex::default(),
            ledger: Arc::default(),
            config: ConfigMetrics::default(),
            budget: OnceLock::new(),
            diagnostics_dropped: OnceLock::new(),
            access_log,
            traces: Traces::off(),
            rates: summary::Rates::default(),
        })
    }

    /// Telemetry that counts and logs nothing to anywhere; for tests and for embedding.
    pub fn without_log() -> Arc<Self> {
        Self::new(AccessLog::off())
    }

    /// A new worker's own counters and its way to the access log. One per thread that serves messages.
    pub fn worker(&self) -> WorkerTelemetry {
        let counters = Arc::new(WorkerCounters::default());
        lock(&self.workers).push(Arc::clone(&counters));
        WorkerTelemetry {
            counters,
            known: RefCell::default(),
            log: self.access_log.sink(),
            spans: self.traces.sink(),
            single_writer: PhantomData,
        }
    }

    /// The ledger's counters, which its writer thread keeps.
    pub fn ledger(&self) -> &Arc<LedgerMetrics> {
        &self.ledger
    }

    /// Shows how much of this budget is taken, from now on.
    pub fn watch_budget(&self, budget: &Arc<Budget>) {
        // There is one in a process; a second call changes nothing.
        let _ = self.budget.set(Arc::clone(budget));
    }

    /// Shows how many lines of diagnostics were dropped, from now on.
    pub fn watch_diagnostics(&self, dropped: Arc<SharedCounter>) {
        // There is one in a process; a second call changes nothing.
        let _ = self.diagnostics_dropped.set(dropped);
    }

    /// What became of the configuration's reloads.
    pub fn config(&self) -> &ConfigMetrics {
        &self.config
    }

    /// The access log, to have it reopened after a rotation.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// The way of spans to a collector, which a reload changes.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// How often each worker's loop has turned.
    pub fn turns(&self) -> Vec<u64> {
        lock(&self.workers).iter().map(|worker| worker.turns.read()).collect()
    }

    /// Notes how many messages there were until now; to be called about once a second. [`Telemetry::summary`] states rates
    /// over the notes of the last ten seconds.
    pub fn note_rates(&self) {
        let workers = lock(&self.workers).clone();
        self.rates.note(summary::totals(&workers));
    }

    /// All that is counted by resource, added up.
    pub fn summary(&self) -> Summary {
        let workers = lock(&self.workers).clone();
        summary::of(&workers, &self.rates)
    }

    /// All counters as Prometheus text exposition, format 0.0.4.
    pub fn render(&self) -> String {
        let workers = lock(&self.workers).clone();
        let mut text = prometheus::render(&workers, &self.ledger, &self.config, &self.access_log, &self.traces);
        if let Some(dropped) = self.diagnostics_dropped.get() {
            prometheus::diagnostics(&mut text, dropped.read());
        }
        prometheus::shed(&mut text, &workers, &self.ledger, self.budget.get().map(|budget| &**budget));
        text
    }
}

/// One worker's counters: the only writer of them. Not `Sync` and not `Clone`; a worker shares it in an `Rc`.
pub struct WorkerTelemetry {
    counters: Arc<WorkerCounters>,
    /// This worker's way from a resource to its counters, so that the shared list is locked once per new pair only.
    known: RefCell<HashMap<Box<str>, OfResource, foldhash::fast::RandomState>>,
    log: access_log::Sink,
    spans: traces::Sink,
    single_writer: PhantomData<Cell<()>>,
}

impl WorkerTelemetry {
    /// A client connection was accepted.
    pub fn connection_opened(&self) {
        self.counters.connections_opened.add(1);
    }

    /// A client connection ended.
    pub fn connection_closed(&self) {
        self.counters.connections_closed.add(1);
    }

    /// A client connection was refused because a limit was reached, or could not be accepted for the moment.
    pub fn connection_refused(&self, why: NotServed) {
        match why {
            NotServed::Cap => self.counters.connections_refused.add(1),
            NotServed::Memory => self.counters.connections_shed.add(1),
            NotServed::Descriptors => self.counters.descriptors_exhausted.add(1),
        }
    }

    /// A message was refused because the memory that all connections may take together is nearly used up.
    pub fn shed(&self) {
        self.counters.messages_shed.add(1);
    }

    /// A message was refused because the gateway had no file descriptor left for a connection to its service.
    pub fn out_of_descriptors(&self) {
        self.counters.descriptors_exhausted.add(1);
    }

    /// A message's head was read.
    pub fn request(&self, protocol: Protocol) {
        self.counters.requests[protocol as usize].add(1);
    }

    /// A message was decided: `reason` is [`ALLOWED`] or the problem type of the refusal. `resource` only if the
    /// message was routed to one that exists, so that clients cannot make up names.
    pub fn decided(&self, resource: Option<&str>, reason: &'static str) {
        self.ended(resource, &Ended { reason, ..Ended::default() });
    }

    /// A message is over. What holds of [`WorkerTelemetry::decided`] holds here.
    pub fn ended(&self, resource: Option<&str>, ended: &Ended) {
        let resource = resource.unwrap_or("");
        let mut known = self.known.borrow_mut();
        if let Some(of_resource) = known.get(resource)
            && let Some(decision) = of_resource.decisions.iter().find(|decision| decision.reason == ended.reason)
        {
            decision.count.add(1);
            of_resource.traffic(ended);
            return;
        }
        let decision = DecisionCounter { resource: resource.into(), reason: ended.reason, count: Arc::default() };
        decision.count.add(1);
        lock(&self.counters.decisions).push(decision.clone());
        let of_resource = known.entry(resource.into()).or_insert_with(|| {
            let traffic = Arc::new(TrafficCounters::of(resource));
            lock(&self.counters.traffic).push(Arc::clone(&traffic));
            OfResource { decisions: Vec::new(), traffic }
        });
        of_resource.decisions.push(decision);
        of_resource.traffic(ended);
    }

    /// A final response's head went to the client.
    pub fn responded(&self, status: u16) {
        self.counters.responses[class_of(status)].add(1);
    }

    /// The gateway's own share of a message's time: all of it, less the waiting for client and upstream.
    pub fn own_share(&self, took: Duration) {
        self.counters.own_share.observe(took);
    }

    /// A token's verified plan was found in the cache, or had to be made.
    pub fn plan_cache(&self, hit: bool) {
        if hit { self.counters.plan_cache_hits.add(1) } else { self.counters.plan_cache_misses.add(1) }
    }

    /// A plan was dropped from the cache to make room.
    pub fn plan_evicted(&self) {
        self.counters.plan_cache_evictions.add(1);
    }

    /// A new connection to an upstream was made.
    pub fn upstream_opened(&self) {
        self.counters.upstream_opened.add(1);
    }

    /// A message went over an upstream connection that was open already.
    pub fn upstream_reused(&self) {
        self.counters.upstream_reused.add(1);
    }

    /// An upstream could not be reached, or failed before it answered.
    pub fn upstream_failed(&self) {
        self.counters.upstream_failed.add(1);
    }

    /// A message was sent to an upstream once more because the first connection had died unanswered.
    pub fn upstream_retried(&self) {
        self.counters.upstream_retried.add(1);
    }

    /// A long-lived message has begun; it is open until what is returned is dropped.
    pub fn open_stream(&self, kind: StreamKind) -> OpenStream {
        OpenStream::new(&self.counters, kind)
    }

    /// A long-lived message was ended because its capability fell: revoked, expired, or its key retired.
    pub fn lease_fell(&self) {
        self.counters.leases_fallen.add(1);
    }

    /// Whether traces go anywhere, so that a caller can skip preparing one.
    pub fn traces(&self) -> bool {
        self.spans.is_on()
    }

    /// Whether a trace that begins here is recorded; `random` is any number, each as likely as the others.
    pub fn samples(&self, random: u64) -> bool {
        self.spans.samples(random)
    }

    /// Hands a message's spans to the exporter. Never waits: if the collector cannot keep up they are dropped and counted.
    pub fn record(&self, spans: Spans) {
        self.spans.push(spans);
    }

    /// The worker's loop has turned.
    pub fn turned(&self) {
        self.counters.turns.add(1);
    }

    /// Whether access lines go anywhere, so that a caller can skip preparing one.
    pub fn logs(&self) -> bool {
        self.log.is_on()
    }

    /// Hands one line to the log writer. Never waits: if the writer cannot keep up the line is dropped and counted.
    pub fn log(&self, line: &AccessLine<'_>) {
        self.log.write(line);
    }
}

/// What a message came to, for the counters of its resource.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// [`ALLOWED`] or the problem type of the refusal.
    pub reason: &'static str,
    /// Status of the final response; 0 if there was none.
    pub status: u16,
    /// From the head's last byte to the final response's head.
    pub answered: Duration,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
}

impl Default for Ended {
    fn default() -> Self {
        Self { reason: ALLOWED, status: 0, answered: Duration::ZERO, bytes_in: 0, bytes_out: 0 }
    }
}

/// A worker's counters of one resource.
struct OfResource {
    decisions: Vec<DecisionCounter>,
    traffic: Arc<TrafficCounters>,
}

impl OfResource {
    fn traffic(&self, ended: &Ended) {
        if ended.status == 0 {
            return;
        }
        let traffic = &self.traffic;
        traffic.responses[class_of(ended.status)].add(1);
        traffic.bytes_in.add(ended.bytes_in);
        traffic.bytes_out.add(ended.bytes_out);
        traffic.answered.observe(ended.answered);
    }
}

/// A lock whose holder panicked still guards plain numbers: they are used as they are.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

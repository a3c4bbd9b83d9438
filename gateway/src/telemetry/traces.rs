//! Traces: which messages are recorded, and the spans that wait to be sent.
//!
//! A worker hands over what it knows of a message when the message is over, into a buffer of its own, like a line of the
//! access log; a thread of its own ([`super::exporter`]) takes the buffers every second and sends them. The buffers are
//! bounded; what does not fit is dropped and counted, and no message ever waits for a collector. A reload may turn traces on
//! and off and name another collector: [`Traces::follow`].

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use super::destination::Destination;
use super::exporter::{self, Orders};
use super::lock;
use super::metrics::{Protocol, SharedCounter};
use crate::limits::TRACE_BATCH_MESSAGES_MAX;

/// All that a trace shows of one message: a server span, and below it the client span of its upstream exchange.
#[derive(Debug)]
pub struct Spans {
    /// The trace that the message belongs to.
    pub trace_id: [u8; 16],
    /// The caller's span, if the message came with one.
    pub parent: Option<u64>,
    /// The server span.
    pub server: u64,
    /// The client span: the one that the upstream got as its parent.
    pub client_span: u64,
    /// The flags of the trace (W3C Trace Context section 3.2.2.5).
    pub flags: u8,
    /// When the message's head was complete.
    pub at: SystemTime,
    /// When it went up, after `at`.
    pub forwarded: Option<Duration>,
    /// When it was over, after `at`.
    pub took: Duration,
    /// One of the known methods.
    pub method: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What the request was written in.
    pub protocol: Protocol,
    /// The resource, where one was found.
    pub resource: Option<Box<str>>,
    /// Where that resource is mounted.
    pub route: Option<Box<str>>,
    /// The host that the message named.
    pub host: Option<Box<str>>,
    /// The peer, or what a trusted proxy said.
    pub client: IpAddr,
    /// [`ALLOWED`](super::ALLOWED) or the problem type of the refusal.
    pub decision: &'static str,
    /// `Capability::short_id`.
    pub capability: Option<Box<str>>,
    /// The upstream that the message went to.
    pub upstream: Option<Box<str>>,
    /// Status of the final response; 0 if there was none.
    pub status: u16,
    /// The status that the upstream answered.
    pub upstream_status: Option<u16>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
}

impl Spans {
    /// How many spans these are.
    pub(super) fn count(&self) -> usize {
        1 + usize::from(self.forwarded.is_some())
    }

    /// A moment of the message's life, as spans write time.
    pub(super) fn nanos_at(&self, after: Duration) -> u64 {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default() + after;
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The way of spans to a collector: buffers, and while there is a collector a thread that empties them. Dropping it sends
/// what is waiting, within a bound.
pub struct Traces {
    shared: Arc<Shared>,
    threads: Mutex<Threads>,
}

/// The threads that send.
#[derive(Default)]
struct Threads {
    exporter: Option<Exporter>,
    /// Those that were told to end, and send what is left.
    ending: Vec<JoinHandle<()>>,
}

struct Exporter {
    destination: watch::Sender<Arc<Destination>>,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

/// What workers and exporter share.
pub(super) struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    /// Whether there is a collector.
    is_on: AtomicBool,
    spans_max: AtomicUsize,
    /// A trace that begins here is recorded where its random number is smaller.
    sampled_below: AtomicU64,
    pub(super) wake: Notify,
    pub(super) exported: SharedCounter,
    pub(super) dropped: SharedCounter,
    /// Whether the last export failed.
    pub(super) failing: AtomicBool,
}

#[derive(Default)]
struct Buffer {
    messages: Vec<Spans>,
    spans: usize,
}

impl Traces {
    /// No traces, until [`Traces::follow`] names a collector.
    pub fn off() -> Self {
        let shared = Shared {
            buffers: Mutex::default(),
            is_on: AtomicBool::new(false),
            spans_max: AtomicUsize::new(0),
            sampled_below: AtomicU64::new(0),
            wake: Notify::new(),
            exported: SharedCounter::default(),
            dropped: SharedCounter::default(),
            failing: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), threads: Mutex::default() }
    }

    /// Sends spans there from now on; `None`: records none any more, and the collector until now gets what waits. Each
    /// worker may have `spans_max` spans waiting. What waits while one collector takes the place of another goes to the
    /// new one; a request that is under way is not cut.
    ///
    /// # Errors
    /// A thread cannot be started. Then nothing has changed.
    pub fn follow(&self, destination: Option<&Arc<Destination>>, spans_max: usize) -> std::io::Result<()> {
        let mut threads = lock(&self.threads);
        let Some(destination) = destination else {
            // Before the thread takes what waits for the last time: whoever puts something later sees that nobody comes.
            self.shared.is_on.store(false, Ordering::Relaxed);
            threads.end();
            return Ok(());
        };
        match &threads.exporter {
            None => threads.exporter = Some(self.exporter(destination)?),
            Some(exporter) => {
                exporter.destination.send_if_modified(|before| {
                    let differs = !Arc::ptr_eq(before, destination);
                    *before = Arc::clone(destination);
                    differs
                });
            }
        }
        let below = sampled_below(destination.settings.sample_millionths);
        self.shared.sampled_below.store(below, Ordering::Relaxed);
        self.shared.spans_max.store(spans_max, Ordering::Relaxed);
        self.shared.is_on.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn exporter(&self, destination: &Arc<Destination>) -> std::io::Result<Exporter> {
        let (destination, ordered) = watch::channel(Arc::clone(destination));
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("traces".into());
        let thread = thread.spawn(move || exporter::run(&shared, Orders { destination: ordered, stopped }))?;
        Ok(Exporter { destination, stop, thread })
    }

    /// Spans that a collector took so far.
    pub fn exported(&self) -> u64 {
        self.shared.exported.read()
    }

    /// Spans that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.read()
    }

    /// Whether the last attempt to send failed.
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// A worker's way in.
    pub(super) fn sink(&self) -> Sink {
        let buffer = Arc::<Mutex<Buffer>>::default();
        lock(&self.shared.buffers).push(Arc::clone(&buffer));
        Sink { shared: Arc::clone(&self.shared), buffer }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let mut threads = lock(&self.threads);
        threads.end();
        for thread in threads.ending.drain(..) {
            // One that panicked has nothing left to send; there is nobody to tell at this point.
            let _ = thread.join();
        }
    }
}

impl Threads {
    /// Tells the thread to send what is left and to end. Nobody waits for it before the gateway itself ends.
    fn end(&mut self) {
        self.ending.retain(|thread| !thread.is_finished());
        if let Some(exporter) = self.exporter.take() {
            exporter.stop.send_replace(true);
            self.ending.push(exporter.thread);
        }
    }
}

/// The number under which a random one of 64 bits stays in so many of a million cases.
fn sampled_below(millionths: u32) -> u64 {
    if millionths >= 1_000_000 {
        return u64::MAX;
    }
    // Rounded where it is too large for a float to be exact, which takes less than one message in 2^52.
    (f64::from(millionths) / 1e6 * 2f64.powi(64)) as u64
}

impl Shared {
    /// How many spans may wait at a worker, and how many at the exporter.
    pub(super) fn spans_max(&self) -> usize {
        self.spans_max.load(Ordering::Relaxed)
    }

    /// Takes all that waits, in the order in which each worker put it.
    pub(super) fn take(&self) -> Vec<Spans> {
        let buffers = lock(&self.buffers).clone();
        buffers.iter().flat_map(|buffer| std::mem::take(&mut *lock(buffer)).messages).collect()
    }
}

/// One worker's way to the exporter.
pub(super) struct Sink {
    shared: Arc<Shared>,
    buffer: Arc<Mutex<Buffer>>,
}

impl Sink {
    /// Whether there are traces at all. Asked once a message: one load that no other thread writes but in a reload.
    pub(super) fn is_on(&self) -> bool {
        self.shared.is_on.load(Ordering::Relaxed)
    }

    /// Whether a trace that begins here is recorded; `random` is any number, each as likely as the others.
    pub(super) fn samples(&self, random: u64) -> bool {
        let below = self.shared.sampled_below.load(Ordering::Relaxed);
        random < below || below == u64::MAX
    }

    pub(super) fn push(&self, spans: Spans) {
        let (shared, count) = (&self.shared, spans.count());
        let is_batch = {
            // Only this worker and, for the length of a pointer swap, the exporter take this lock.
            let mut buffer = lock(&self.buffer);
            // Where traces ended while the message was under way, nobody comes for its spans.
            if !self.is_on() || buffer.spans + count > shared.spans_max() {
                shared.dropped.add(count as u64);
                return;
            }
            buffer.spans += count;
            buffer.messages.push(spans);
            buffer.messages.len() == TRACE_BATCH_MESSAGES_MAX
        };
        if is_batch {
            shared.wake.notify_one();
        }
    }
}

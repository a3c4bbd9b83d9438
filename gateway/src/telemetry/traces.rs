//! Traces: which messages are recorded, and the spans that wait to be sent.
//!
//! A worker hands over what it knows of a message when the message is over, into a buffer of its own, like a line of the
//! access log; a thread of its own ([`super::exporter`]) takes the buffers every second and sends them. The buffers are
//! bounded; what does not fit is dropped and counted, and no message ever waits for a collector.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use super::exporter::{self, Destination, HeadersError};
use super::lock;
use super::metrics::{Protocol, SharedCounter};
use crate::config;
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

/// The way of spans to a collector: buffers and a thread that empties them. Dropping it sends what is waiting, within a
/// bound.
pub struct Traces {
    shared: Option<Arc<Shared>>,
    exporter: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The file of header fields.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// The thread.
    #[error("the thread that sends traces cannot be started: {0}. The system's limit on threads is too low.")]
    Thread(#[from] std::io::Error),
}

/// What workers and exporter share.
pub(super) struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    pub(super) spans_max: usize,
    /// A trace that begins here is recorded where its random number is smaller.
    sampled_below: u64,
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
    /// No traces.
    pub fn off() -> Self {
        Self { shared: None, exporter: None, stop: watch::channel(false).0 }
    }

    /// Starts sending. Each worker may have `spans_max` spans waiting.
    ///
    /// # Errors
    /// [`TracesError`]
    pub fn start(settings: &config::Telemetry, spans_max: usize) -> Result<Self, TracesError> {
        let destination = Destination::new(settings)?;
        let share = f64::from(settings.sample_millionths) / 1e6;
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            spans_max,
            // Rounded where it is too large for a float to be exact, which takes less than one message in 2^52.
            sampled_below: if settings.sample_millionths >= 1_000_000 {
                u64::MAX
            } else {
                (share * 2f64.powi(64)) as u64
            },
            wake: Notify::new(),
            exported: SharedCounter::default(),
            dropped: SharedCounter::default(),
            failing: AtomicBool::new(false),
        });
        let (stop, stopped) = watch::channel(false);
        let of_exporter = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("traces".into());
        let exporter = thread.spawn(move || exporter::run(&of_exporter, &destination, stopped))?;
        Ok(Self { shared: Some(shared), exporter: Some(exporter), stop })
    }

    /// Spans that a collector took so far.
    pub fn exported(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.exported.read())
    }

    /// Spans that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.dropped.read())
    }

    /// Whether the last attempt to send failed.
    pub fn is_failing(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.failing.load(Ordering::Relaxed))
    }

    /// A worker's way in.
    pub(super) fn sink(&self) -> Sink {
        Sink(self.shared.as_ref().map(|shared| {
            let buffer = Arc::<Mutex<Buffer>>::default();
            lock(&shared.buffers).push(Arc::clone(&buffer));
            (Arc::clone(shared), buffer)
        }))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(exporter) = self.exporter.take() {
            // One that panicked has nothing left to send; there is nobody to tell at this point.
            let _ = exporter.join();
        }
    }
}

impl Shared {
    /// Takes all that waits, in the order in which each worker put it.
    pub(super) fn take(&self) -> Vec<Spans> {
        let buffers = lock(&self.buffers).clone();
        buffers.iter().flat_map(|buffer| std::mem::take(&mut *lock(buffer)).messages).collect()
    }
}

/// One worker's way to the exporter.
pub(super) struct Sink(Option<(Arc<Shared>, Arc<Mutex<Buffer>>)>);

impl Sink {
    /// Whether there are traces at all.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a trace that begins here is recorded; `random` is any number, each as likely as the others.
    pub(super) fn samples(&self, random: u64) -> bool {
        self.0.as_ref().is_some_and(|(shared, _)| random < shared.sampled_below || shared.sampled_below == u64::MAX)
    }

    pub(super) fn push(&self, spans: Spans) {
        let Some((shared, buffer)) = &self.0 else { return };
        let count = spans.count();
        let is_batch = {
            // Only this worker and, for the length of a pointer swap, the exporter take this lock.
            let mut buffer = lock(buffer);
            if buffer.spans + count > shared.spans_max {
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

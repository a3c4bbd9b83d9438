//! What the gateway says about itself, written by a thread of its own.
//!
//! Whoever reads standard error may stall, and a pipe that is full blocks its writer. So no thread that serves messages
//! writes there: it leaves its line in a bounded queue and goes on. A line that finds no room is dropped and counted,
//! and the next one that is written says how many are missing. At the end the queue gets a bounded time to empty.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::lock;
use super::metrics::SharedCounter;

/// Bytes of lines that may wait for whoever reads them.
const QUEUE_BYTES_MAX: usize = 1 << 20;

/// The queue and its writer. Dropping it waits for what is queued, for a bounded time.
pub struct Diagnostics {
    shared: Arc<Shared>,
    flush_timeout: Duration,
}

/// A way into the queue: one `write` is one line, which is queued whole or dropped whole.
#[derive(Clone)]
pub struct DiagnosticsSink(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    dropped: Arc<SharedCounter>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Lines dropped that no written line has told of yet.
    missing: u64,
    /// Nothing more will come.
    is_ending: bool,
    /// The writer has written all of it.
    has_ended: bool,
}

impl Diagnostics {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(output: impl Write + Send + 'static, flush_timeout: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), dropped: Arc::default() });
        let of_writer = Arc::clone(&shared);
        thread::Builder::new().name("diagnostics".into()).spawn(move || of_writer.run(output))?;
        Ok(Self { shared, flush_timeout })
    }

    /// A way into the queue.
    pub fn sink(&self) -> DiagnosticsSink {
        DiagnosticsSink(Arc::clone(&self.shared))
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> Arc<SharedCounter> {
        Arc::clone(&self.shared.dropped)
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.is_ending = true;
        self.shared.changed.notify_all();
        // A reader that stalls keeps the writer's thread, and must not keep the process.
        let ended = self.shared.changed.wait_timeout_while(queue, self.flush_timeout, |queue| !queue.has_ended);
        drop(ended);
    }
}

impl Write for DiagnosticsSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = lock(&self.0.queue);
        if queue.is_ending || queue.bytes.len() + line.len() > QUEUE_BYTES_MAX {
            queue.missing += 1;
            self.0.dropped.add(1);
        } else {
            queue.bytes.extend_from_slice(line);
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// The writer's whole life.
    fn run(&self, mut output: impl Write) {
        loop {
            let queue = lock(&self.queue);
            let waiting = |queue: &mut Queue| queue.bytes.is_empty() && queue.missing == 0 && !queue.is_ending;
            let mut queue = self.changed.wait_while(queue, waiting).unwrap_or_else(PoisonError::into_inner);
            let mut bytes = std::mem::take(&mut queue.bytes);
            let missing = std::mem::take(&mut queue.missing);
            let is_last = queue.is_ending;
            drop(queue);
            if missing > 0 {
                // Writing to a Vec cannot fail.
                let _ = writeln!(bytes, "{{\"event\":\"diagnostics-dropped\",\"lines\":{missing}}}");
            }
            // There is nowhere to tell of a failure: this is where failures are told.
            let _ = output.write_all(&bytes).and_then(|()| output.flush());
            if is_last {
                break;
            }
        }
        lock(&self.queue).has_ended = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// The story: a log reader that stalled filled the pipe, and then each worker hung in its next line.
    #[test]
    fn a_reader_that_stalls_blocks_nobody_and_lines_are_dropped_and_counted() {
        let (writes, mut reads) = UnixStream::pair().unwrap();
        let diagnostics = Diagnostics::start(writes, Duration::ZERO).unwrap();
        let line = format!("{}\n", "x".repeat(1023));
        let mut sink = diagnostics.sink();
        let dropped = diagnostics.dropped();
        let mut written = 0_u64;
        while dropped.read() < 10 {
            sink.write_all(line.as_bytes()).unwrap();
            written += 1;
        }
        // Ends though nobody reads.
        drop(diagnostics);
        assert_eq!(sink.write(line.as_bytes()).unwrap(), line.len());
        let lost = dropped.read();
        assert_eq!(lost, 11);
        // Whoever reads on finds whole lines, and how many are missing.
        let mut text = String::new();
        reads.read_to_string(&mut text).unwrap();
        let told: u64 = text
            .lines()
            .filter_map(|line| line.strip_prefix(r#"{"event":"diagnostics-dropped","lines":"#))
            .map(|rest| rest.trim_end_matches('}').parse::<u64>().unwrap())
            .sum();
        let whole = text.lines().filter(|found| found.len() == 1023).count() as u64;
        assert_eq!(
            (whole, text.lines().all(|found| found.len() == 1023 || found.starts_with('{'))),
            (written - 10, true)
        );
        assert!((10..=11).contains(&told), "{told}");
    }

    #[test]
    fn what_is_queued_is_written_before_the_end() {
        let (writes, mut reads) = UnixStream::pair().unwrap();
        let diagnostics = Diagnostics::start(writes, Duration::from_secs(60)).unwrap();
        diagnostics.sink().write_all(b"one\n").unwrap();
        diagnostics.sink().write_all(b"two\n").unwrap();
        drop(diagnostics);
        let mut text = String::new();
        reads.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\n");
    }
}

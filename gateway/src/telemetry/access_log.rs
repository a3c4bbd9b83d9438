//! One JSON line a message, written off the message's way.
//!
//! A worker formats its line into a buffer of its own and goes on. The writer thread wakes when a buffer stops being
//! empty, lets a few milliseconds of lines gather, swaps the buffers out and writes them in one go: a busy worker pays
//! neither a system call nor a wait for the disk. The buffers are bounded; what does not fit is dropped and counted,
//! and the log itself says how many lines it lacks.
//!
//! What a line says stands in [`super::access_line`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

pub use crate::config::AccessLog as AccessLogTarget;

use super::access_line::AccessLine;
use super::lock;
use super::metrics::SharedCounter;
use crate::limits::LOG_FLUSH_TIMEOUT;

/// How long lines gather before they are written together.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that one waiting line may occupy on average; bounds a buffer in memory as well as in lines.
const LINE_BYTES_MEAN_MAX: usize = 1024;
/// Bytes that an emptied buffer keeps, so that a busy worker need not grow it again for every batch.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// The access log: a writer thread and the buffers that workers fill. Dropping it writes what is waiting, as long as
/// whoever reads it takes it within [`LOG_FLUSH_TIMEOUT`].
pub struct AccessLog {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<Buffer>>>>,
    lines_max: usize,
    dropped: SharedCounter,
    writer: Mutex<Option<Thread>>,
    stop: AtomicBool,
    reopen: AtomicBool,
    /// Whether the writer has written all of it.
    has_ended: Mutex<bool>,
    ended: Condvar,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where each line ends, and when its message came.
    lines: Vec<(usize, SystemTime)>,
}

impl Buffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.lines.clear();
        self.lines.shrink_to(KEPT_BYTES_MAX / LINE_BYTES_MEAN_MAX);
    }
}

impl AccessLog {
    /// A log that writes nothing.
    pub fn off() -> Self {
        Self { shared: None }
    }

    /// Opens `target` and starts the writer. Each worker may have `lines_max` lines waiting.
    pub fn open(target: AccessLogTarget, lines_max: usize) -> io::Result<Self> {
        match target {
            AccessLogTarget::Off => Ok(Self::off()),
            AccessLogTarget::Stderr => Self::start(Output::Stderr, lines_max),
            AccessLogTarget::Stdout => Self::start(Output::Stdout, lines_max),
            AccessLogTarget::File(path) => {
                let file = open_file(&path)?;
                Self::start(Output::File { path, file }, lines_max)
            }
        }
    }

    fn start(output: Output, lines_max: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            lines_max,
            dropped: SharedCounter::default(),
            writer: Mutex::default(),
            stop: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            has_ended: Mutex::default(),
            ended: Condvar::new(),
        });
        let of_writer = Arc::clone(&shared);
        let writer = thread::Builder::new().name("access-log".into()).spawn(move || {
            of_writer.run(output);
            *lock(&of_writer.has_ended) = true;
            of_writer.ended.notify_all();
        })?;
        *lock(&shared.writer) = Some(writer.thread().clone());
        Ok(Self { shared: Some(shared) })
    }

    /// Closes and opens the file again before the next write, for log rotation.
    pub fn reopen(&self) {
        if let Some(shared) = &self.shared {
            shared.reopen.store(true, Ordering::Release);
            shared.wake();
        }
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.dropped.read())
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

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.stop.store(true, Ordering::Release);
            shared.wake();
            // A reader that stalls keeps the writer's thread, and must not keep the process.
            let ended = shared.ended.wait_timeout_while(lock(&shared.has_ended), LOG_FLUSH_TIMEOUT, |ended| !*ended);
            drop(ended);
        }
    }
}

/// One worker's way into the log.
pub(super) struct Sink(Option<(Arc<Shared>, Arc<Mutex<Buffer>>)>);

impl Sink {
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn write(&self, line: &AccessLine<'_>) {
        let Some((shared, buffer)) = &self.0 else {
            return;
        };
        let was_empty = {
            // Only this worker and, for the length of a pointer swap, the writer take this lock.
            let mut buffer = lock(buffer);
            if buffer.lines.len() >= shared.lines_max || buffer.bytes.len() >= shared.lines_max * LINE_BYTES_MEAN_MAX {
                shared.dropped.add(1);
                return;
            }
            line.append_to(&mut buffer.bytes);
            let end = buffer.bytes.len();
            buffer.lines.push((end, line.at));
            buffer.lines.len() == 1
        };
        if was_empty {
            shared.wake();
        }
    }
}

enum Output {
    Stderr,
    Stdout,
    File {
        path: PathBuf,
        file: File,
    },
    #[cfg(test)]
    Memory(Arc<Mutex<Vec<u8>>>),
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
            #[cfg(test)]
            Self::Memory(memory) => {
                lock(memory).extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File { path, file } = self {
            *file = open_file(path)?;
        }
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

impl Shared {
    fn wake(&self) {
        if let Some(writer) = lock(&self.writer).as_ref() {
            writer.unpark();
        }
    }

    fn run(&self, mut output: Output) {
        let mut dropped_said = 0;
        let mut taken = Vec::new();
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            if self.reopen.swap(false, Ordering::AcqRel)
                && let Err(error) = output.reopen()
            {
                tracing::error!(%error, "the access log could not be reopened; its lines still go to the old file");
            }
            self.drain(&mut taken, &mut output, &mut dropped_said);
            if stop {
                return;
            }
            thread::park();
            if !self.stop.load(Ordering::Acquire) {
                thread::park_timeout(GATHER);
            }
        }
    }

    /// Writes all that waits. A write that fails loses those lines, which is said and counted; it stops no message.
    ///
    /// `taken` are the empty buffers that the workers get for their full ones, and then those, emptied.
    fn drain(&self, taken: &mut Vec<Buffer>, output: &mut Output, dropped_said: &mut u64) {
        let buffers = lock(&self.buffers).clone();
        taken.resize_with(buffers.len(), Buffer::default);
        for (full, empty) in buffers.iter().zip(taken.iter_mut()) {
            std::mem::swap(&mut *lock(full), empty);
        }
        self.write(taken, output, dropped_said);
        taken.iter_mut().for_each(Buffer::clear);
    }

    fn write(&self, taken: &[Buffer], output: &mut Output, dropped_said: &mut u64) {
        let mut lines: Vec<(SystemTime, &[u8])> = Vec::new();
        for buffer in taken {
            let mut start = 0;
            for (end, at) in &buffer.lines {
                lines.push((*at, &buffer.bytes[start..*end]));
                start = *end;
            }
        }
        if lines.is_empty() {
            return;
        }
        // Workers take turns; whoever reads the log wants the messages in the order in which they came.
        lines.sort_by_key(|(at, _)| *at);
        let mut batch = Vec::with_capacity(taken.iter().map(|buffer| buffer.bytes.len()).sum());
        let dropped = self.dropped.read();
        if dropped > *dropped_said {
            let lines = dropped - *dropped_said;
            // Writing to a Vec cannot fail.
            let _ = writeln!(batch, "{{\"event\":\"access-log-dropped\",\"lines\":{lines}}}");
            *dropped_said = dropped;
        }
        lines.iter().for_each(|(_, line)| batch.extend_from_slice(line));
        if let Err(error) = output.write(&batch) {
            self.dropped.add(lines.len() as u64);
            tracing::error!(%error, lines = lines.len(), "access log lines could not be written and are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::telemetry::{ALLOWED, Protocol, Telemetry};

    fn line<'a>(path: &'a [u8]) -> AccessLine<'a> {
        AccessLine {
            at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            protocol: Protocol::Http11,
            host: "api.example.com",
            operation: "GET",
            path,
            query_bytes: 0,
            resource: Some("orders"),
            decision: ALLOWED,
            capability: Some("1a2b3c4d"),
            status: 200,
            upstream: None,
            bytes_in: 0,
            bytes_out: 5,
            took: Duration::from_micros(420),
            own_share: Duration::from_micros(11),
            trace_id: None,
        }
    }

    fn written(lines: &[AccessLine<'_>]) -> String {
        let memory = Arc::<Mutex<Vec<u8>>>::default();
        let log = AccessLog::start(Output::Memory(Arc::clone(&memory)), 100).unwrap();
        let telemetry = Telemetry::new(log);
        let worker = telemetry.worker();
        lines.iter().for_each(|line| worker.log(line));
        drop(telemetry);
        String::from_utf8(lock(&memory).clone()).unwrap()
    }

    #[test]
    fn a_line_is_json_and_dropping_the_log_writes_it() {
        let text = written(&[line(b"/v1/orders/42")]);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(json["path"], "/v1/orders/42");
        assert_eq!(json["capability"], "1a2b3c4d");
        assert_eq!(json["own_us"], 11);
        assert!(json.get("query_bytes").is_none());
    }

    /// HOSTILE T26: whatever bytes a client sends, one message is one line of valid JSON without control bytes.
    #[test]
    fn control_bytes_cannot_break_a_line() {
        let text = written(&[line(b"/a\n\x1b[2J\r\x00\x7f\xe2\x80\xa8\xff\"\\"), line(b"/b")]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)));
        for line in text.lines() {
            let _: serde_json::Value = serde_json::from_str(line).unwrap();
        }
    }

    /// Law 8: a token that a client put into the path does not reach the log.
    #[test]
    fn a_token_in_the_path_is_cut() {
        let token =
            "EoYCCpsBCgZvcmRlcnMKA0dFVBgDIgkKBwgEEgMYgAgyJgokCgIIGxIGCAUSAggFGhYKBAoCCAUKCAoGIICSuMQGCgQaAggCEiQIABIg";
        let path = format!("/orders/{token}/x");
        let text = written(&[line(path.as_bytes())]);
        assert!(text.contains("/orders/EoYCCpsB[104 bytes]/x"), "{text}");
        assert!(!token.as_bytes().windows(16).any(|part| text.contains(std::str::from_utf8(part).unwrap())));
    }

    /// Law 8: nor one in the host or the method, nor the beginning of one where a long path is cut.
    #[test]
    fn a_token_anywhere_in_the_request_line_is_cut() {
        let token =
            "EoYCCpsBCgZvcmRlcnMKA0dFVBgDIgkKBwgEEgMYgAgyJgokCgIIGxIGCAUSAggFGhYKBAoCCAUKCAoGIICSuMQGCgQaAggCEiQIABIg";
        let absent = |text: String| {
            let parts = token.as_bytes().windows(16);
            assert!(parts.into_iter().all(|part| !text.contains(std::str::from_utf8(part).unwrap())), "{text}");
        };
        absent(written(&[AccessLine { host: token, operation: token, ..line(b"/") }]));
        absent(written(&[AccessLine { host: &format!("{token}.example.com"), ..line(b"/") }]));
        for before in 1900..2100 {
            let path = format!("/{}/{token}", "a/".repeat(before / 2));
            absent(written(&[line(path.as_bytes())]));
        }
        let text = written(&[line(format!("/{}", "ab/".repeat(2000)).as_bytes())]);
        assert!(text.contains("[6001 bytes in all]"), "{text}");
    }

    #[test]
    fn a_full_buffer_drops_and_counts() {
        let shared = Arc::new(Shared {
            buffers: Mutex::default(),
            lines_max: 2,
            dropped: SharedCounter::default(),
            writer: Mutex::default(),
            stop: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            // There is no writer here to wait for.
            has_ended: Mutex::new(true),
            ended: Condvar::new(),
        });
        let log = AccessLog { shared: Some(Arc::clone(&shared)) };
        let sink = log.sink();
        (0..5).for_each(|_| sink.write(&line(b"/")));
        assert_eq!(log.dropped(), 3);
        let memory = Arc::<Mutex<Vec<u8>>>::default();
        let mut said = 0;
        shared.drain(&mut Vec::new(), &mut Output::Memory(Arc::clone(&memory)), &mut said);
        let text = String::from_utf8(lock(&memory).clone()).unwrap();
        assert!(text.starts_with("{\"event\":\"access-log-dropped\",\"lines\":3}\n"), "{text}");
        assert_eq!((text.lines().count(), said), (3, 3));
    }

    #[test]
    fn lines_of_several_workers_come_in_the_order_of_their_messages() {
        let memory = Arc::<Mutex<Vec<u8>>>::default();
        let telemetry = Telemetry::new(AccessLog::start(Output::Memory(Arc::clone(&memory)), 100).unwrap());
        let (one, two) = (telemetry.worker(), telemetry.worker());
        let shared = telemetry.access_log().shared.as_ref().unwrap();
        // Nothing is drained while the list of buffers is held.
        let held = lock(&shared.buffers);
        for (index, worker) in [&two, &one, &two, &one].into_iter().enumerate() {
            let path = format!("/{index}");
            worker.log(&AccessLine { at: UNIX_EPOCH + Duration::from_secs(index as u64), ..line(path.as_bytes()) });
        }
        drop(held);
        drop(telemetry);
        let text = String::from_utf8(lock(&memory).clone()).unwrap();
        let places: Vec<_> = (0..4).map(|index| text.find(&format!("\"/{index}\"")).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn a_file_is_appended_to_and_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::open(AccessLogTarget::File(path.clone()), 10).unwrap();
        let telemetry = Telemetry::new(log);
        telemetry.worker().log(&line(b"/one"));
        drop(telemetry);
        let telemetry = Telemetry::new(AccessLog::open(AccessLogTarget::File(path.clone()), 10).unwrap());
        telemetry.worker().log(&line(b"/two"));
        drop(telemetry);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
    }
}

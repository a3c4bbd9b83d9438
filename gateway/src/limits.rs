//! Every limit of the gateway, named, in one place.
//!
//! A limit that is not here does not exist: whatever waits, queues or buffers takes its bound from this table, which is
//! handed down explicitly from the configuration (`[limits]`) and never read from a global. Sizes are bytes, times are
//! [`Duration`]s, counts are counts; each default says what it protects.

use std::io;
use std::time::Duration;

/// The bounds within which the gateway works. `Default` is what `[limits]` in `postern.toml` starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections over all listeners; one more is answered 503 and closed.
    pub connections_max: usize,
    /// Open client connections from one peer address.
    pub connections_per_client_max: usize,

    /// Bytes that all connections together may hold in buffers beyond the few kilobytes that each has anyway. Every HTTP/2
    /// stream beside the first on its connection is counted whole. From three quarters on new messages are answered 503.
    pub buffered_bytes_max: usize,

    /// Bytes of a message's head (request or status line and all fields), on HTTP/1 as sent and on HTTP/2 as decoded.
    pub head_bytes_max: usize,
    /// Fields in a message's head, and in its trailers.
    pub fields_max: usize,
    /// Bytes of a request target (path and query).
    pub target_bytes_max: usize,
    /// Bytes of all trailer fields of one message.
    pub trailer_bytes_max: usize,
    /// Bytes of one chunk's size line, extensions included (RFC 9112 section 7.1.1 asks recipients to bound them).
    pub chunk_line_bytes_max: usize,
    /// Informational (1xx) responses accepted from an upstream for one request.
    pub informational_max: usize,
    /// Bytes of a request body, where the resource names no own bound (`max_body`). `None`: unbounded, streamed.
    pub body_bytes_max: Option<u64>,
    /// Bytes of one direction's copy buffer: what one message can hold in memory while streaming.
    pub copy_buffer_bytes: usize,
    /// Bytes that are read and dropped behind an answer that did not wait for the body, or that ends its connection; more
    /// is not read on HTTP/1, and resets the stream on HTTP/2.
    pub discard_bytes_max: u64,
    /// Bytes of a request body that is held back until it is whole, because a caveat asks what it says (`rpc`, `tool`,
    /// `arg`); where the bound on all bodies is smaller, that one.
    pub rpc_body_bytes_max: usize,
    /// Bytes of an answer, or of one of its events, that is held back to take tools out of it (`filter_tools`).
    pub rpc_answer_bytes_max: usize,
    /// Requests answered on one client connection before it is closed, so that load spreads over workers again.
    pub requests_per_connection_max: u64,

    /// Concurrent HTTP/2 streams a client may open.
    pub h2_streams_max: u32,
    /// Bytes of an HTTP/2 header list after decoding, as RFC 9113 section 6.5.2 counts them: 32 for each field besides its
    /// text. A guard of the library's alone: what is judged, and alike on both versions, is `head_bytes_max`.
    pub h2_header_list_bytes_max: u32,
    /// HTTP/2 flow-control window of a stream.
    pub h2_stream_window_bytes: u32,
    /// HTTP/2 flow-control window of a client's connection. One to an upstream has as much as all its streams together, so
    /// that callers who read slowly hold nobody else up.
    pub h2_connection_window_bytes: u32,
    /// Streams that a client may open and reset before the gateway has looked at them, in what is read at once (rapid
    /// reset, CVE-2023-44487): two for each that it may have open.
    pub h2_pending_accept_reset_max: usize,
    /// Streams that a client may take back before their answer is complete, over any `h2_resets_window`; more ends the
    /// connection.
    pub h2_resets_max: usize,
    /// What `h2_resets_max` is counted over.
    pub h2_resets_window: Duration,
    /// Streams that the gateway resets because a client broke the protocol on them; one more ends the connection.
    pub h2_error_resets_max: usize,
    /// Streams that the gateway has reset and still remembers, so that what was under way to them is no error.
    pub h2_reset_streams_max: usize,
    /// Bytes that the bookkeeping of small HTTP/2 DATA frames takes while nobody has read them (256 for each, less its own
    /// length); more ends the connection.
    pub h2_small_frames_bytes_max: usize,
    /// Bytes of one stream's answer that wait for the client's connection, inside the window that it opened.
    pub h2_send_buffer_bytes: usize,
    /// Interval of HTTP/2 keep-alive PINGs on a quiet connection.
    pub h2_ping_interval: Duration,
    /// How long a PING may stay unanswered.
    pub h2_ping_timeout: Duration,

    /// From accept to the first byte of the first request.
    pub first_byte_timeout: Duration,
    /// From the first to the last byte of a request head.
    pub head_timeout: Duration,
    /// A kept-alive client connection without a request.
    pub idle_timeout: Duration,
    /// No progress of a body in either direction.
    pub body_stall_timeout: Duration,
    /// Bytes a second that a request's body comes with at least, over any `body_rate_window` in which the gateway was ready
    /// to read; `None`: any rate. gRPC's calls and tunnels have none.
    pub body_rate_min: Option<u64>,
    /// What `body_rate_min` is asked over.
    pub body_rate_window: Duration,
    /// Nothing passes through a WebSocket, or another protocol that was switched to; `None`: it may be silent for ever.
    pub tunnel_idle_timeout: Option<Duration>,
    /// How long an answer of the gateway's own, mostly a refusal, waits for a client that does not read.
    pub refusal_timeout: Duration,
    /// How long a client may go on sending behind an answer that did not wait for its body, so that it gets to read it.
    pub linger_timeout: Duration,
    /// A TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// How long a shutdown waits for exchanges that are under way.
    pub drain_timeout: Duration,

    /// How much longer than a gRPC call's own deadline the gateway waits for the service to say so itself.
    pub grpc_deadline_grace: Duration,

    /// Connecting to an upstream.
    pub upstream_connect_timeout: Duration,
    /// From the last request byte sent to the upstream's response head.
    pub upstream_response_timeout: Duration,
    /// Streams on one HTTP/2 connection to an upstream, where the upstream does not allow less; more open another one.
    pub upstream_h2_streams_max: u32,
    /// How long an HTTP/2 connection to an upstream may be silent under open streams before it is sent a PING. Services
    /// with gRPC's defaults close connections that are sent more than one in five minutes.
    pub upstream_h2_ping_interval: Duration,
    /// Idle connections kept to one upstream address, per worker.
    pub upstream_idle_connections_max: usize,
    /// How long an idle upstream connection is kept.
    pub upstream_idle_timeout: Duration,
    /// Attempts for one message: connections that cannot be made and, where that is safe, ones that died unanswered.
    pub upstream_attempts_max: u32,
    /// Messages under way at one address of a resource, per worker: over HTTP/1.1 that is connections.
    pub upstream_connections_max: u32,
    /// Messages that wait for a place at a resource whose addresses are all at that bound, per worker.
    pub upstream_queue_max: usize,
    /// How long a message waits for such a place.
    pub upstream_queue_timeout: Duration,
    /// Failures in a row after which a worker keeps from an address.
    pub upstream_failures_max: u32,
    /// How long it does the first time; each time it fails again for twice as long.
    pub upstream_ejection_time: Duration,
    /// The longest that a worker keeps from an address without trying a connection.
    pub upstream_ejection_time_max: Duration,
    /// How often the addresses of a name are looked up again.
    pub upstream_resolve_interval: Duration,
    /// How long a look-up may take.
    pub upstream_resolve_timeout: Duration,
    /// Addresses of one name that are used.
    pub upstream_addresses_max: usize,

    /// Verified plans remembered per worker.
    pub plan_cache_entries_max: usize,
    /// Bytes of token text remembered per worker with those plans.
    pub plan_cache_bytes_max: usize,
    /// Tokens that a worker remembers for narrowing, and as many that it narrowed (`forward_token = "narrowed"`).
    pub narrowing_cache_entries_max: usize,
    /// Bytes of text by which a worker finds those again, for each of the two.
    pub narrowing_cache_bytes_max: usize,
    /// Worst-case evaluation steps of an admitted token.
    pub price_budget: u64,

    /// Ledger writes queued for the writer; a full queue answers 503.
    pub ledger_queue_max: usize,
    /// Bytes of an administration request's body.
    pub admin_body_bytes_max: usize,
    /// Access log lines waiting for the log writer; beyond it lines are dropped and counted.
    pub log_queue_lines_max: usize,
    /// Finished spans of each worker, and of all that an unreachable collector keeps waiting; beyond it they are dropped
    /// and counted.
    pub trace_queue_spans_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 50_000,
            connections_per_client_max: 20_000,
            buffered_bytes_max: 512 * 1024 * 1024,
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            target_bytes_max: 8 * 1024,
            trailer_bytes_max: 8 * 1024,
            chunk_line_bytes_max: 256,
            informational_max: 16,
            body_bytes_max: None,
            copy_buffer_bytes: 16 * 1024,
            discard_bytes_max: 64 * 1024,
            rpc_body_bytes_max: 1024 * 1024,
            rpc_answer_bytes_max: 4 * 1024 * 1024,
            requests_per_connection_max: 1_000_000,
            h2_streams_max: 100,
            h2_header_list_bytes_max: 64 * 1024,
            h2_stream_window_bytes: 64 * 1024,
            h2_connection_window_bytes: 1024 * 1024,
            h2_pending_accept_reset_max: 200,
            h2_resets_max: 1_000,
            h2_resets_window: Duration::from_secs(10),
            h2_error_resets_max: 1024,
            h2_reset_streams_max: 50,
            h2_small_frames_bytes_max: 2 * 1024 * 1024,
            h2_send_buffer_bytes: 64 * 1024,
            h2_ping_interval: Duration::from_secs(30),
            h2_ping_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_stall_timeout: Duration::from_secs(30),
            body_rate_min: Some(64),
            body_rate_window: Duration::from_secs(30),
            tunnel_idle_timeout: None,
            refusal_timeout: Duration::from_secs(2),
            linger_timeout: Duration::from_secs(5),
            tls_handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            grpc_deadline_grace: Duration::from_millis(500),
            upstream_connect_timeout: Duration::from_secs(5),
            upstream_response_timeout: Duration::from_secs(60),
            upstream_h2_streams_max: 100,
            upstream_h2_ping_interval: Duration::from_secs(330),
            upstream_idle_connections_max: 128,
            upstream_idle_timeout: Duration::from_secs(30),
            upstream_attempts_max: 3,
            upstream_connections_max: 16_384,
            upstream_queue_max: 1_024,
            upstream_queue_timeout: Duration::from_secs(5),
            upstream_failures_max: 3,
            upstream_ejection_time: Duration::from_secs(5),
            upstream_ejection_time_max: Duration::from_secs(120),
            upstream_resolve_interval: Duration::from_secs(30),
            upstream_resolve_timeout: Duration::from_secs(5),
            upstream_addresses_max: 64,
            plan_cache_entries_max: 10_000,
            plan_cache_bytes_max: 16 * 1024 * 1024,
            narrowing_cache_entries_max: 2_000,
            narrowing_cache_bytes_max: 4 * 1024 * 1024,
            price_budget: 10_000,
            ledger_queue_max: 4_096,
            admin_body_bytes_max: 64 * 1024,
            log_queue_lines_max: 65_536,
            trace_queue_spans_max: 16_384,
        }
    }
}

impl Limits {
    /// The most bytes of an HTTP/2 list of fields, as that counts them, in which `head_bytes_max` and `fields_max` can be
    /// kept: what the two allow is not refused for how HTTP/2 counts.
    pub fn h2_answer_list_bytes_max(&self) -> u32 {
        const FIELD_BYTES: usize = 32;
        let list = self.fields_max.saturating_add(8).saturating_mul(FIELD_BYTES).saturating_add(self.head_bytes_max);
        u32::try_from(list).unwrap_or(u32::MAX)
    }

    /// The most bytes that one buffer of a connection holds: a head, a stretch of a body, or trailers.
    pub fn buffer_bytes_max(&self) -> usize {
        self.head_bytes_max.max(self.copy_buffer_bytes).max(self.trailer_bytes_max)
    }
}

/// The largest flow-control window that HTTP/2 knows (RFC 9113 section 6.9.1).
pub const H2_WINDOW_MAX: u32 = (1 << 31) - 1;

/// Bytes that an HTTP/2 stream to an upstream may hold ready for its connection, beyond what a message's own buffer holds.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Look-ups of names that are under way at once. One that the system's resolver does not finish goes on taking its place
/// after `upstream_resolve_timeout`; others then wait for it to give up.
pub const UPSTREAM_LOOKUPS_MAX: usize = 32;
/// How long a client that does not read can put off the end of a stream that is over but for its last word.
pub const LAST_WORD_TIMEOUT: Duration = Duration::from_millis(30);
/// How long a TCP connection is silent before its other end is asked whether it is still there.
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long each of [`KEEP_ALIVE_PROBES`] such questions may stay unanswered.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions after which the other end is gone.
pub const KEEP_ALIVE_PROBES: u32 = 4;

/// The same, as sockets are told.
pub fn keep_alive() -> socket2::TcpKeepalive {
    socket2::TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES)
}

/// Whether the system has no descriptors or memory left for one more connection, of whichever side. That is nobody else's
/// fault, and asking again at once would only burn the processor.
pub fn is_exhaustion(error: &io::Error) -> bool {
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: [i32; 2] = [105, 55];
    matches!(error.raw_os_error(), Some(code) if [ENOMEM, ENFILE, EMFILE].contains(&code) || ENOBUFS.contains(&code))
}

/// How long an end waits for the log's last lines to be taken by whoever reads them.
pub const LOG_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of a PROXY protocol header behind its first sixteen: addresses and entries. Proxies add some hundred at most.
pub const PROXY_HEADER_BYTES_MAX: u16 = 2048;

// Administration's own bounds. They are no part of `[limits]`: nothing that an operator runs needs others.

/// Open administration connections.
pub const ADMIN_CONNECTIONS_MAX: usize = 128;
/// Open connections to administration's socket on this machine.
pub const ADMIN_LOCAL_CONNECTIONS_MAX: usize = 32;
/// From accepting an administration connection to the end of its first head.
pub const ADMIN_FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the system's clock is compared with the monotonic one.
pub const CLOCK_COMPARE_INTERVAL: Duration = Duration::from_secs(5);
/// How long accepting pauses when the system has no more file descriptors.
pub const ADMIN_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Ids in one call that revokes.
pub const ADMIN_REVOCATIONS_PER_CALL_MAX: usize = 256;
/// Entries in one page of the ledger or of revocations.
pub const ADMIN_PAGE_ENTRIES_MAX: usize = 1_000;
/// How long `GET /ledger?wait=` may wait for the next record.
pub const ADMIN_WAIT_MAX: Duration = Duration::from_secs(30);
/// From an administration message's head to its answer, waiting included.
pub const ADMIN_EXCHANGE_TIMEOUT: Duration = Duration::from_secs(45);

// Traces: how they travel to the collector.

/// Messages whose spans go into one request to the collector: two spans each, some 700 bytes together.
pub const TRACE_BATCH_MESSAGES_MAX: usize = 512;
/// How long finished spans gather before they are sent.
pub const TRACE_GATHER: Duration = Duration::from_secs(1);
/// One request to the collector, connecting included.
pub const TRACE_EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a shutdown waits for the last spans to be taken.
pub const TRACE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a collector that takes nothing is complained of.
pub const TRACE_COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of a collector's answer.
pub const TRACE_ANSWER_BYTES_MAX: usize = 64 * 1024;

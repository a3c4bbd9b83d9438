//! The `[limits]` table: one key for each field of [`Limits`], with the field's name.

use std::time::Duration;

use super::errors::Mistakes;
use super::raw::{Entry, Section};
use super::values;
use crate::limits::{H2_WINDOW_MAX, Limits};

/// Larger heads than this help nobody: HTTP/1 reads them into one buffer for each connection.
const HEAD_BYTES_MAX: u64 = 1 << 20;
/// A bound that no machine reaches, so that sums of limits cannot overflow.
const COUNT_MAX: u64 = 1 << 40;

/// Reads the table over the defaults.
pub(super) fn read(mut section: Section<'_>, mistakes: &mut Mistakes<'_>) -> Limits {
    let mut limits = Limits::default();
    let l = &mut limits;
    let table = &mut Table { section: &mut section, mistakes };

    table.count("connections_max", &mut l.connections_max, 1..=COUNT_MAX);
    table.count("connections_per_client_max", &mut l.connections_per_client_max, 1..=COUNT_MAX);

    table.size("buffered_bytes_max", &mut l.buffered_bytes_max, 64 * 1024..=COUNT_MAX);

    table.size("head_bytes_max", &mut l.head_bytes_max, 1024..=HEAD_BYTES_MAX);
    table.count("fields_max", &mut l.fields_max, 8..=10_000);
    table.size("target_bytes_max", &mut l.target_bytes_max, 64..=HEAD_BYTES_MAX);
    table.size("trailer_bytes_max", &mut l.trailer_bytes_max, 64..=HEAD_BYTES_MAX);
    table.size("chunk_line_bytes_max", &mut l.chunk_line_bytes_max, 18..=64 * 1024);
    table.count("informational_max", &mut l.informational_max, 0..=1000);
    table.size_or_unlimited("body_bytes_max", &mut l.body_bytes_max);
    table.size("copy_buffer_bytes", &mut l.copy_buffer_bytes, 1024..=16 << 20);
    table.size("discard_bytes_max", &mut l.discard_bytes_max, 0..=COUNT_MAX);
    table.size("rpc_body_bytes_max", &mut l.rpc_body_bytes_max, 1024..=1 << 30);
    table.size("rpc_answer_bytes_max", &mut l.rpc_answer_bytes_max, 1024..=1 << 30);
    table.count("requests_per_connection_max", &mut l.requests_per_connection_max, 1..=u64::MAX);

    table.count("h2_streams_max", &mut l.h2_streams_max, 1..=10_000);
    table.size("h2_header_list_bytes_max", &mut l.h2_header_list_bytes_max, 1024..=HEAD_BYTES_MAX);
    // A window smaller than the protocol's own first one cannot be announced in time for the first frames.
    table.size("h2_stream_window_bytes", &mut l.h2_stream_window_bytes, 65_535..=H2_WINDOW_MAX.into());
    table.size("h2_connection_window_bytes", &mut l.h2_connection_window_bytes, 65_535..=H2_WINDOW_MAX.into());
    table.count("h2_pending_accept_reset_max", &mut l.h2_pending_accept_reset_max, 1..=10_000);
    table.count("h2_resets_max", &mut l.h2_resets_max, 1..=1 << 20);
    table.time("h2_resets_window", &mut l.h2_resets_window);
    table.count("h2_error_resets_max", &mut l.h2_error_resets_max, 1..=1 << 20);
    table.count("h2_reset_streams_max", &mut l.h2_reset_streams_max, 1..=10_000);
    table.size("h2_small_frames_bytes_max", &mut l.h2_small_frames_bytes_max, 25_600..=1 << 30);
    table.size("h2_send_buffer_bytes", &mut l.h2_send_buffer_bytes, 1024..=16 << 20);
    table.time("h2_ping_interval", &mut l.h2_ping_interval);
    table.time("h2_ping_timeout", &mut l.h2_ping_timeout);

    table.time("first_byte_timeout", &mut l.first_byte_timeout);
    table.time("head_timeout", &mut l.head_timeout);
    table.time("idle_timeout", &mut l.idle_timeout);
    table.time("body_stall_timeout", &mut l.body_stall_timeout);
    table.rate_or_never("body_rate_min", &mut l.body_rate_min);
    table.time("body_rate_window", &mut l.body_rate_window);
    table.time_or_never("tunnel_idle_timeout", &mut l.tunnel_idle_timeout);
    table.time("refusal_timeout", &mut l.refusal_timeout);
    table.time("linger_timeout", &mut l.linger_timeout);
    table.time("tls_handshake_timeout", &mut l.tls_handshake_timeout);
    table.time("drain_timeout", &mut l.drain_timeout);

    table.time("grpc_deadline_grace", &mut l.grpc_deadline_grace);
    table.time("upstream_connect_timeout", &mut l.upstream_connect_timeout);
    table.time("upstream_response_timeout", &mut l.upstream_response_timeout);
    table.count("upstream_h2_streams_max", &mut l.upstream_h2_streams_max, 1..=10_000);
    table.time("upstream_h2_ping_interval", &mut l.upstream_h2_ping_interval);
    table.count("upstream_idle_connections_max", &mut l.upstream_idle_connections_max, 0..=COUNT_MAX);
    table.time("upstream_idle_timeout", &mut l.upstream_idle_timeout);
    table.count("upstream_attempts_max", &mut l.upstream_attempts_max, 1..=100);
    table.count("upstream_connections_max", &mut l.upstream_connections_max, 1..=1 << 20);
    table.count("upstream_queue_max", &mut l.upstream_queue_max, 0..=1 << 20);
    table.time("upstream_queue_timeout", &mut l.upstream_queue_timeout);
    table.count("upstream_failures_max", &mut l.upstream_failures_max, 1..=1_000_000);
    table.time("upstream_ejection_time", &mut l.upstream_ejection_time);
    table.time("upstream_ejection_time_max", &mut l.upstream_ejection_time_max);
    table.time("upstream_resolve_interval", &mut l.upstream_resolve_interval);
    table.time("upstream_resolve_timeout", &mut l.upstream_resolve_timeout);
    table.count("upstream_addresses_max", &mut l.upstream_addresses_max, 1..=10_000);

    table.count("plan_cache_entries_max", &mut l.plan_cache_entries_max, 0..=COUNT_MAX);
    table.size("plan_cache_bytes_max", &mut l.plan_cache_bytes_max, 0..=COUNT_MAX);
    table.count("narrowing_cache_entries_max", &mut l.narrowing_cache_entries_max, 0..=COUNT_MAX);
    table.size("narrowing_cache_bytes_max", &mut l.narrowing_cache_bytes_max, 0..=COUNT_MAX);
    table.count("price_budget", &mut l.price_budget, 100..=COUNT_MAX);

    table.count("ledger_queue_max", &mut l.ledger_queue_max, 1..=1 << 20);
    table.size("admin_body_bytes_max", &mut l.admin_body_bytes_max, 1024..=64 << 20);
    table.count("log_queue_lines_max", &mut l.log_queue_lines_max, 1..=1 << 24);
    table.count("trace_queue_spans_max", &mut l.trace_queue_spans_max, 2..=1 << 20);

    section.finish(mistakes);
    limits
}

/// The table being read, and where its mistakes go.
struct Table<'a, 't, 'm, 'x> {
    section: &'a mut Section<'t>,
    mistakes: &'m mut Mistakes<'x>,
}

impl Table<'_, '_, '_, '_> {
    fn count<N: TryFrom<u64>>(&mut self, key: &'static str, limit: &mut N, range: std::ops::RangeInclusive<u64>) {
        let Some(entry) = self.section.value(key) else { return };
        if !entry.is_number() {
            return entry.mistake(self.mistakes, "this limit is a count; write a whole number.");
        }
        if let Some(number) = entry.number(self.mistakes) {
            self.put(&entry, number, limit, range);
        }
    }

    fn size<N: TryFrom<u64>>(&mut self, key: &'static str, limit: &mut N, range: std::ops::RangeInclusive<u64>) {
        let Some(entry) = self.section.value(key) else { return };
        if let Some(bytes) = bytes(&entry, self.mistakes) {
            self.put(&entry, bytes, limit, range);
        }
    }

    fn size_or_unlimited(&mut self, key: &'static str, limit: &mut Option<u64>) {
        let Some(entry) = self.section.value(key) else { return };
        if let Some(read) = bytes_or_unlimited(&entry, self.mistakes) {
            *limit = read;
        }
    }

    fn time(&mut self, key: &'static str, limit: &mut Duration) {
        let Some(entry) = self.section.value(key) else { return };
        if let Some(read) = time(&entry, self.mistakes) {
            *limit = read;
        }
    }

    fn time_or_never(&mut self, key: &'static str, limit: &mut Option<Duration>) {
        let Some(entry) = self.section.value(key) else { return };
        if entry.is_text() && entry.text(self.mistakes, "\"never\"") == Some("never") {
            *limit = None;
        } else if let Some(read) = time(&entry, self.mistakes) {
            *limit = Some(read);
        }
    }

    fn rate_or_never(&mut self, key: &'static str, limit: &mut Option<u64>) {
        let Some(entry) = self.section.value(key) else { return };
        if let Some(read) = rate_or_never(&entry, self.mistakes) {
            *limit = read;
        }
    }

    fn put<N: TryFrom<u64>>(
        &mut self,
        entry: &Entry<'_>,
        number: u64,
        limit: &mut N,
        range: std::ops::RangeInclusive<u64>,
    ) {
        match N::try_from(number) {
            Ok(fitting) if range.contains(&number) => *limit = fitting,
            _ => {
                let (least, most) = (range.start(), range.end());
                let sentence = match *most {
                    u64::MAX => format!("{number} is out of range; write at least {least}."),
                    most => format!("{number} is out of range; write {least} to {most}."),
                };
                entry.mistake(self.mistakes, sentence);
            }
        }
    }
}

/// A time, from a millisecond to a day.
pub(super) fn time(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<Duration> {
    let text = entry.text(mistakes, "\"30s\"")?;
    let sentence = match values::duration(text) {
        Ok(time) if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&time) => return Some(time),
        Ok(_) => "this time is out of range; write one from \"1ms\" to \"24h\".".to_owned(),
        Err(sentence) => sentence,
    };
    entry.mistake(mistakes, sentence);
    None
}

/// Bytes a second, or `"never"`, which is `Some(None)`.
pub(super) fn rate_or_never(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<Option<u64>> {
    if entry.is_text() && entry.text(mistakes, "\"64B\"") == Some("never") {
        return Some(None);
    }
    match bytes(entry, mistakes)? {
        0 => {
            entry.mistake(mistakes, "a rate of 0 is kept by every body; write \"never\" where none is asked for.");
            None
        }
        rate => Some(Some(rate)),
    }
}

/// A size: bytes as a number, or a text with a unit.
pub(super) fn bytes(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<u64> {
    if entry.is_number() {
        return entry.number(mistakes);
    }
    let text = entry.text(mistakes, "\"64KiB\"")?;
    values::size(text).map_err(|sentence| entry.mistake(mistakes, sentence)).ok()
}

/// A size, or `"unlimited"`, which is `Some(None)`.
fn bytes_or_unlimited(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<Option<u64>> {
    if entry.is_text() && entry.text(mistakes, "\"64KiB\"") == Some("unlimited") {
        return Some(None);
    }
    bytes(entry, mistakes).map(Some)
}

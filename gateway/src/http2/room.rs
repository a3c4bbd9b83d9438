//! What an open stream holds, of the bytes that all connections together may hold.
//!
//! A stream costs its client some forty bytes: HPACK's table repeats a head of kilobytes with a byte a field, and a window
//! of nothing keeps the answer here. So what a stream takes is counted from the moment that its head is there, but for
//! what a connection with a single stream has anyway.

use http::HeaderMap;

use super::activity::Active;
use crate::budget::{BASE_BYTES, EXCHANGE_BYTES, STREAM_BYTES, Share};
use crate::worker::Worker;

/// What each field of a list takes besides its text, as HTTP/2 counts them (RFC 9113 section 6.5.2).
const FIELD_BYTES: usize = 32;

/// A stream's share.
pub(super) struct Room {
    share: Share,
    /// Whether the stream is all that its connection has anyway.
    is_alone: bool,
}

impl Room {
    /// For a stream that begins.
    pub(super) fn of(worker: &Worker, active: &Active) -> Self {
        Self { share: Share::of(&worker.budget), is_alone: active.is_alone }
    }

    /// Takes what the stream and its decoded fields need; `false`: there is not that much.
    #[must_use]
    pub(super) fn takes_fields(&mut self, fields: &HeaderMap) -> bool {
        let fields = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES);
        self.takes(STREAM_BYTES, fields.sum())
    }

    /// Takes what the stream and its exchange need, with a head of so many bytes; `false`: there is not that much.
    #[must_use]
    pub(super) fn takes_exchange(&mut self, head_bytes: usize) -> bool {
        self.takes(STREAM_BYTES + EXCHANGE_BYTES, head_bytes)
    }

    fn takes(&mut self, stream_bytes: usize, head_bytes: usize) -> bool {
        let bytes =
            if self.is_alone { head_bytes.saturating_sub(BASE_BYTES) } else { stream_bytes.saturating_add(head_bytes) };
        self.share.grow_to(bytes)
    }

    /// Nothing is left of the message but its answer.
    pub(super) fn keeps_stream_only(&mut self) {
        self.share.hold(if self.is_alone { 0 } else { STREAM_BYTES });
    }
}

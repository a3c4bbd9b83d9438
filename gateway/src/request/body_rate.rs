//! How slowly a body may come.
//!
//! A byte now and then keeps a body from standing still and holds a place at its service for as long as its sender likes.
//! So a body has a rate as well: so many bytes a second, over any stretch in which the gateway was ready to read them. Time
//! in which the gateway does not read, because the service does not, counts for nobody. It is looked at when bytes come;
//! when none do, the stall's own bound ends the message.

use std::time::Duration;

use postern_capabilities::message::is_grpc;

use super::resource::Resource;
use crate::head::{Head, Known};
use crate::limits::Limits;

/// The rate of one body so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyRate {
    /// Bytes a second; `None`: any rate will do.
    min: Option<u64>,
    window: Duration,
    waited: Duration,
    received: u64,
}

impl BodyRate {
    /// A body that must come with `min` bytes a second over each `window` of waiting.
    pub fn new(min: Option<u64>, window: Duration) -> Self {
        Self { min, window, waited: Duration::ZERO, received: 0 }
    }

    /// What holds for a message's body: calls that stream in both directions speak when they have something to say.
    pub(super) fn of(head: &Head<'_>, resource: &Resource, limits: &Limits) -> Self {
        let min = match resource.body_rate_min {
            _ if head.value(Known::ContentType).is_some_and(streams_both_ways) => None,
            Some(own) => own,
            None => limits.body_rate_min,
        };
        Self::new(min, limits.body_rate_window)
    }

    /// Takes in that the gateway was ready for `waited`, and that `bytes` came then. Whether that is fast enough.
    #[must_use]
    pub fn is_kept(&mut self, waited: Duration, bytes: usize) -> bool {
        let Some(min) = self.min else { return true };
        self.waited += waited;
        self.received += bytes as u64;
        if self.waited < self.window {
            return true;
        }
        let is_kept = u128::from(self.received) * 1000 >= u128::from(min) * self.waited.as_millis();
        (self.waited, self.received) = (Duration::ZERO, 0);
        is_kept
    }
}

/// Whether a content type is gRPC's, or that of Connect's streams.
fn streams_both_ways(content_type: &[u8]) -> bool {
    const CONNECT: &[u8] = b"application/connect+";
    is_grpc(content_type)
        || content_type.get(..CONNECT.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(CONNECT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_asked_for_over_each_window_of_waiting() {
        let mut rate = BodyRate::new(Some(64), SECOND * 30);
        assert!((0..29).all(|_| rate.is_kept(SECOND, 0)), "nothing is asked before a window is over");
        assert!(rate.is_kept(SECOND, 1920));
        assert!((0..29).all(|_| rate.is_kept(SECOND, 64)));
        assert!(!rate.is_kept(SECOND, 63), "what came before does not count again");
        assert!(!rate.is_kept(SECOND * 60, 1920), "a longer wait asks for more");
        assert!(
            (0..1000).all(|_| rate.is_kept(Duration::ZERO, 1)),
            "bytes that were not waited for are never too slow"
        );
        assert!(BodyRate::new(None, SECOND).is_kept(SECOND * 1000, 0));
    }

    #[test]
    fn calls_that_stream_both_ways_have_no_rate() {
        for kind in ["application/grpc", "application/grpc+proto", "application/connect+json"] {
            assert!(streams_both_ways(kind.as_bytes()), "{kind}");
        }
        for kind in ["application/json", "application/grpc-web+proto", "application/connection"] {
            assert!(!streams_both_ways(kind.as_bytes()), "{kind}");
        }
    }
}

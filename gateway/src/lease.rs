//! What a message under way hangs on: a capability that stands until its end, or until somebody ends it (law 6).
//!
//! A message is permitted once, but a body can flow for days. So whoever drives an exchange looks again whenever keys or
//! revocations have changed, and when the token's time is over; every worker notices both within one tick of its coarse
//! clock ([`crate::http1::deadline::TICK`]). The look costs an atomic load where nothing has changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_capabilities::authorize::Refusal;
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::Capability;

use crate::head::{Known, ResponseHead};

/// Why a capability no longer carries a message that it carried at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallen {
    /// One of its blocks was revoked.
    Revoked {
        /// Which one, the authority being 0.
        block: usize,
    },
    /// Its root key was retired.
    KeyRetired,
    /// Its time is over.
    Expired {
        /// The last second at which it was not.
        at: u64,
    },
}

impl Fallen {
    /// The refusal that a message gets which comes now.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Revoked { block } => Refusal::Revoked { block },
            Self::KeyRetired => Refusal::KeyRetired,
            Self::Expired { at } => Refusal::Expired { at },
        }
    }

    /// The last event of a stream of events that ends for this reason (WHATWG HTML section 9.2).
    pub fn last_event(self) -> &'static str {
        match self {
            Self::Revoked { .. } | Self::KeyRetired => "event: revoked\ndata: {\"type\":\"revoked\"}\n\n",
            Self::Expired { .. } => "event: expired\ndata: {\"type\":\"expired\"}\n\n",
        }
    }
}

/// How long a capability holds by itself, from now on; `None`: until somebody ends it. `time($t), $t <= D` holds through
/// the whole of second D.
pub fn holds_for(capability: &Capability) -> Option<Duration> {
    let ends = Duration::from_secs(capability.expires_at()?.checked_add(1)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(ends.saturating_sub(now))
}

/// Whether a capability has fallen. `has_ended`: the time of [`holds_for`] is over.
pub fn fallen(capability: &Capability, standing: &Standing, has_ended: bool) -> Option<Fallen> {
    match capability.standing(standing) {
        Ok(()) if !has_ended => None,
        Ok(()) => capability.expires_at().map(|at| Fallen::Expired { at }),
        Err(Refusal::Revoked { block }) => Some(Fallen::Revoked { block }),
        // The only other reason today; a new one would end the message as well.
        Err(_) => Some(Fallen::KeyRetired),
    }
}

/// Where in a stream of server-sent events its bytes have got to: only between two events can another one be added
/// without completing half of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventStream {
    last: [u8; 2],
}

impl EventStream {
    /// For a response that is such a stream.
    pub fn of(head: &ResponseHead<'_>) -> Option<Self> {
        const KIND: &[u8] = b"text/event-stream";
        let kind = head.value(Known::ContentType)?.get(..KIND.len())?;
        // A content coding hides where events end.
        (kind.eq_ignore_ascii_case(KIND) && !head.has(Known::ContentEncoding)).then_some(Self { last: *b"\n\n" })
    }

    /// Bytes have passed.
    pub fn pass(&mut self, data: &[u8]) {
        for &byte in &data[data.len().saturating_sub(4)..] {
            // Lines end in LF, CR LF or CR; a CR LF counts as the LF it ends with.
            match byte {
                b'\r' => {}
                byte => self.last = [self.last[1], byte],
            }
        }
    }

    /// Whether the last event is complete.
    pub fn is_between_events(self) -> bool {
        self.last == *b"\n\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_can_be_added_only_between_events() {
        let after = |parts: &[&str]| {
            let mut stream = EventStream { last: *b"\n\n" };
            parts.iter().for_each(|part| stream.pass(part.as_bytes()));
            stream.is_between_events()
        };
        assert!(after(&[]));
        assert!(after(&["data: 1\n\n"]));
        assert!(after(&["data: 1\r\n\r\n"]));
        assert!(after(&["data: 1\n", "\n"]));
        assert!(!after(&["data: 1\n"]));
        assert!(!after(&["data: 1\n\ndata"]));
        assert!(!after(&["data: 1\n\n", "d", "\n"]));
    }

    #[test]
    fn the_last_event_is_one_whole_event() {
        for fallen in [Fallen::KeyRetired, Fallen::Revoked { block: 1 }, Fallen::Expired { at: 7 }] {
            let event = fallen.last_event();
            assert!(event.starts_with("event: ") && event.ends_with("\n\n") && event.matches("\n\n").count() == 1);
        }
    }
}

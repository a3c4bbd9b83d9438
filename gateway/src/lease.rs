//! What a message under way hangs on: a capability that stands until its end, or until somebody ends it (law 6).
//!
//! A message is permitted once, but a body can flow for days. So a permitted message holds a [`Lease`] from the moment of
//! its decision, before any queue, until its last byte. It falls when a block of its token is revoked or its key retired,
//! when its time is over, and when a date in one of its caveats stops it; whoever drives the exchange is woken and ends it.
//!
//! * [`terms`]: what was decided, and when to decide it again
//! * [`registry`]: the leases of one worker, found by what ends them

pub mod registry;
pub mod terms;

use postern_capabilities::authorize::Refusal;

pub use self::registry::{Lease, Leases};
pub use self::terms::Terms;
use crate::head::{Known, ResponseHead};

/// Why a capability no longer carries a message that it carried at first.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A caveat that passed at first does not pass any more, since a date in it has come.
    Stopped(Box<Refusal>),
}

impl Fallen {
    /// The refusal that a message gets which comes now.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Revoked { block } => Refusal::Revoked { block: *block },
            Self::KeyRetired => Refusal::KeyRetired,
            Self::Expired { at } => Refusal::Expired { at: *at },
            Self::Stopped(refusal) => Refusal::clone(refusal),
        }
    }

    /// The stable problem type: also the word that a stream ends with.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Revoked { .. } | Self::KeyRetired => "revoked",
            Self::Expired { .. } => "expired",
            Self::Stopped(refusal) => refusal.kind(),
        }
    }

    /// The last event of a stream of events that ends for this reason (WHATWG HTML section 9.2).
    pub fn last_event(&self) -> String {
        let kind = self.kind();
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\"}}\n\n")
    }
}

impl From<Refusal> for Fallen {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Revoked { block } => Self::Revoked { block },
            Refusal::KeyRetired => Self::KeyRetired,
            Refusal::Expired { at } => Self::Expired { at },
            refusal => Self::Stopped(Box::new(refusal)),
        }
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
        for refusal in
            [Refusal::KeyRetired, Refusal::Revoked { block: 1 }, Refusal::Expired { at: 7 }, Refusal::LengthRequired]
        {
            let fallen = Fallen::from(refusal.clone());
            assert_eq!((fallen.refusal(), fallen.kind()), (refusal.clone(), refusal.kind()));
            let event = fallen.last_event();
            assert!(event.starts_with("event: ") && event.ends_with("\n\n") && event.matches("\n\n").count() == 1);
        }
    }
}

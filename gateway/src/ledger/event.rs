//! What the record can say: one event a record, each with its time and who asked for it.
//!
//! The enum is open to the future by its version: every stored record carries the version of the vocabulary that it
//! was written in. A newer version, or a name that this build does not know, is refused when the record is read:
//! skipping what is not understood could skip a revocation (law 3).

use std::fmt;

use postern_capabilities::keys::{KeyId, PublicKey};
use postern_capabilities::resource::ResourceName;
use postern_capabilities::revocation::RevocationId;
use serde::{Deserialize, Serialize};

/// The newest vocabulary that this build writes and reads. It grows by one whenever an event is added or changed.
pub const EVENT_VERSION: u32 = 2;

/// Bytes of one stored event at most; far above any real one, it bounds what a damaged length could ask for.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Something that happened and stays so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A root key joined the ring; its capabilities are accepted from now on.
    KeyAdded {
        /// The number by which tokens name it.
        id: KeyId,
        /// Its public half. The private half never enters the record.
        key: PublicKey,
    },
    /// This key signs new capabilities from now on; the one before it stays live.
    KeyMinting {
        /// The key's number.
        id: KeyId,
    },
    /// Whatever this key signed is refused from now on.
    KeyRetired {
        /// The key's number.
        id: KeyId,
    },
    /// This id, and all that was derived from its block, is refused from now on.
    Revoked {
        /// The id; it need not belong to a token that the gateway has seen.
        id: RevocationId,
    },
    /// A capability was minted through administration.
    Minted {
        /// The resource it is for.
        resource: ResourceName,
        /// The revocation id of its authority block.
        id: RevocationId,
        /// All revocation ids of the capability that was presented to mint it. Revoking any of them revokes `id`, as
        /// what was had through a capability ends with it (law 6).
        under: Vec<RevocationId>,
        /// The root key of that capability; of a renewed administration capability, the key that signed it. Retiring the
        /// key revokes `id`. Records of version 1 do not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<KeyId>,
        /// The last second in which the minted capability is good, where it has one. Records of version 1 do not name it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// The system's clock stood before the record's floor, and an operator said that the clock is right.
    ClockAccepted {
        /// The floor that is given up, in whole seconds since the epoch.
        floor: u64,
    },
}

impl Event {
    /// The event's name, as it is stored and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KeyAdded { .. } => "key-added",
            Self::KeyMinting { .. } => "key-minting",
            Self::KeyRetired { .. } => "key-retired",
            Self::Revoked { .. } => "revoked",
            Self::Minted { .. } => "minted",
            Self::ClockAccepted { .. } => "clock-accepted",
        }
    }
}

/// Who asked for something: the short id of the capability that was presented, or the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct By(Box<str>);

impl By {
    /// The presenter of a capability, by `Capability::short_id`. Long texts are cut: this is for people to read.
    pub fn presenter(short_id: &str) -> Self {
        Self(short_id.chars().take(16).collect::<String>().into())
    }

    /// The gateway itself, as when it records its first key.
    pub fn gateway() -> Self {
        Self("gateway".into())
    }

    /// Somebody whom an earlier version did not keep.
    pub(super) fn unrecorded() -> Self {
        Self("unrecorded".into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event with its time and its author: what is stored as one record's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When, in whole seconds since the epoch.
    pub at: u64,
    /// Who asked for it.
    pub by: By,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Happening {
    /// The stored form.
    pub fn to_body(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event is made of strings and numbers, which JSON can always hold")
    }

    /// Reads the stored form, refusing what this build does not understand.
    pub fn from_body(version: u32, body: &[u8]) -> Result<Self, EventError> {
        if version == 0 || version > EVENT_VERSION {
            return Err(EventError::Newer { version });
        }
        let read: Self = serde_json::from_slice(body).map_err(|error| EventError::Unreadable(error.to_string()))?;
        match read.event {
            Event::Minted { key: None, until: None, .. } => Ok(read),
            Event::Minted { .. } | Event::ClockAccepted { .. } if version < 2 => {
                Err(EventError::Unreadable(format!("version {version} has no such member or event")))
            }
            _ => Ok(read),
        }
    }
}

/// Why a stored event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Written in a newer vocabulary.
    #[error(
        "it is written in version {version} of the events and this build reads up to {EVENT_VERSION}; run the newer gateway that wrote it"
    )]
    Newer {
        /// The vocabulary's version.
        version: u32,
    },
    /// Not an event of this vocabulary.
    #[error("its text is not an event that this build knows ({0})")]
    Unreadable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(event: Event) -> Happening {
        Happening { at: 1_700_000_000, by: By::presenter("1a2b3c4d"), event }
    }

    #[test]
    fn an_event_survives_being_stored() {
        let id = RevocationId::from_bytes(&[7; 64]).unwrap();
        for event in [
            Event::KeyRetired { id: KeyId(3) },
            Event::Revoked { id },
            Event::Minted {
                resource: ResourceName::parse("orders").unwrap(),
                id,
                under: vec![id],
                key: Some(KeyId(3)),
                until: Some(1_800_000_000),
            },
            Event::ClockAccepted { floor: 1_900_000_000 },
        ] {
            let stored = happening(event);
            let body = stored.to_body();
            assert!(String::from_utf8(body.clone()).unwrap().contains(stored.event.name()));
            assert_eq!(Happening::from_body(EVENT_VERSION, &body).unwrap(), stored);
        }
    }

    #[test]
    fn what_a_newer_gateway_wrote_is_refused_and_not_skipped() {
        let body = br#"{"at":1,"by":"x","event":"message-accepted","id":"msg_1"}"#;
        assert!(matches!(Happening::from_body(1, body), Err(EventError::Unreadable(_))));
        assert_eq!(Happening::from_body(3, body), Err(EventError::Newer { version: 3 }));
        let clock = br#"{"at":1,"by":"x","event":"clock-accepted","floor":5}"#;
        assert!(Happening::from_body(2, clock).is_ok() && Happening::from_body(1, clock).is_err());
        let extra = br#"{"at":1,"by":"x","event":"key-retired","id":1,"until":5}"#;
        assert!(Happening::from_body(1, extra).is_err(), "an unknown member may change the meaning");
    }
}

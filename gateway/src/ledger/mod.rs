//! The ledger: the append-only record of keys, revocations and mints, and the state that it yields.
//!
//! Nothing else remembers anything: all state is a projection of the record ([`projection`]), rebuilt at every start
//! and by [`verify`]. [`event`] is what can be recorded, [`record`] the contract of whatever engine keeps it,
//! [`embedded`] the engine in one SQLite file. [`Ledger`] is the handle that the gateway and administration hold.
//!
//! A revocation's way: `Ledger::revoke` → queued → one transaction with whatever else is queued → synced to the disk →
//! applied to the live state and to [`Standing`], by which every message is checked → acknowledged.

pub mod backup;
pub mod embedded;
pub mod event;
pub mod glance;
pub mod projection;
pub mod record;
pub mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_capabilities::keys::{KeyId, KeyRing, KeyRingError, KeyState, PublicKey};
use postern_capabilities::resource::ResourceName;
use postern_capabilities::revocation::{RevocationId, Standing};

pub use embedded::{Embedded, EmbeddedOptions, OpenError};
pub use event::{By, Event, Happening};
pub use projection::{LiveProjection, Projection, Projector, Revocation};
pub use record::{AppendError, Condition, Entry, Expected, Position, ReadError, Record};

use crate::telemetry::LedgerMetrics;

/// How often a decision is taken again because somebody else appended in between.
const DECISIONS_MAX: usize = 64;

/// The name of the database in the state folder.
pub const FILE_NAME: &str = "ledger.db";

/// The ledger as the rest of the gateway holds it.
pub struct Ledger {
    record: Arc<dyn Record>,
    live: LiveProjection,
    standing: Arc<Standing>,
    now: fn() -> u64,
}

/// A capability that was minted through administration and is to be recorded.
pub struct NewMint<'m> {
    /// The resource it is for.
    pub resource: ResourceName,
    /// The revocation id of its authority block.
    pub id: RevocationId,
    /// All revocation ids of the capability that was presented.
    pub under: &'m [RevocationId],
    /// The root key that it falls with: of the capability that was presented, or the one that a rotation has made.
    pub key: &'m PublicKey,
    /// The last second in which it is good, where it has one.
    pub until: Option<u64>,
}

/// Why the ledger did not do what was asked. Nothing of it is in force, except where it says that this is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It could not be recorded.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The keys do not allow it.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The minting key cannot be retired: nothing could be minted any more.
    #[error("key number {0} is the one that mints; rotate to a new one first, then retire it")]
    RetireMinting(KeyId),
    /// The root key of the state folder is not the one that the record knows.
    #[error(
        "the root key in the state folder is {found}, but the ledger says that key number {id} ({recorded}) mints; put the right root key back, or use a fresh state folder"
    )]
    OtherRootKey {
        /// What is in the folder.
        found: PublicKey,
        /// The number of the key that mints.
        id: KeyId,
        /// That key.
        recorded: PublicKey,
    },
    /// Too many others append at the same time.
    #[error("the ledger changed {DECISIONS_MAX} times while this was being decided; try again")]
    TooBusy,
}

impl Ledger {
    /// Opens the embedded engine. When it returns, [`Ledger::standing`] holds every revocation ever acknowledged.
    pub fn open(options: &EmbeddedOptions, metrics: Arc<LedgerMetrics>) -> Result<Self, OpenError> {
        let standing = Arc::new(Standing::new(KeyRing::new()));
        let projector = Projector::new(Arc::clone(&standing), Arc::clone(&metrics));
        let live = projector.live();
        let record = Arc::new(Embedded::open(options, Box::new(projector), metrics)?);
        Ok(Self { record, live, standing, now: options.now })
    }

    /// The live keys and revocations by which every message is checked.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// The live state. Keep the guard short.
    pub fn state(&self) -> &LiveProjection {
        &self.live
    }

    /// The record itself, to read and follow.
    pub fn record(&self) -> &Arc<dyn Record> {
        &self.record
    }

    /// Whether the ledger takes writes.
    pub fn condition(&self) -> Condition {
        self.record.condition()
    }

    /// The number of this root key: records it as the first one in a fresh ledger, otherwise it must be the one that
    /// mints.
    pub async fn adopt_root_key(&self, key: PublicKey) -> Result<KeyId, LedgerError> {
        self.decide(By::gateway(), |keys| match keys.minting() {
            Some(minting) if minting.key == key => Ok((vec![], minting.id)),
            Some(minting) => Err(LedgerError::OtherRootKey { found: key, id: minting.id, recorded: minting.key }),
            None => rotation(keys, key),
        })
        .await
    }

    /// Lets a new key mint; the one before it stays live.
    pub async fn rotate(&self, key: PublicKey, by: By) -> Result<KeyId, LedgerError> {
        self.decide(by, |keys| rotation(keys, key)).await
    }

    /// Retires a key, which ends everything that it signed. In force when this returns. Twice is no error.
    pub async fn retire(&self, id: KeyId, by: By) -> Result<(), LedgerError> {
        self.decide(by, |keys| match keys.get(id).map(|entry| entry.state) {
            None => Err(KeyRingError::Unknown(id).into()),
            Some(KeyState::Minting) => Err(LedgerError::RetireMinting(id)),
            Some(KeyState::Retired) => Ok((vec![], ())),
            Some(KeyState::Live) => Ok((vec![Event::KeyRetired { id }], ())),
        })
        .await
    }

    /// Revokes these ids, known or not. Returns how many were not revoked before, once all are durable and in force.
    pub async fn revoke(&self, ids: &[RevocationId], by: By) -> Result<usize, LedgerError> {
        let fresh: BTreeSet<RevocationId> = {
            let state = self.live.read();
            ids.iter().filter(|id| state.revocation(id).is_none()).copied().collect()
        };
        if fresh.is_empty() {
            return Ok(0);
        }
        let happenings = fresh.iter().map(|id| self.happening(&by, Event::Revoked { id: *id })).collect();
        self.record.append(happenings, Expected::Any).await?;
        Ok(fresh.len())
    }

    /// Records a mint. The token is handed out only after this returned.
    pub async fn minted(&self, mint: NewMint<'_>, by: By) -> Result<Position, LedgerError> {
        let key = self.standing.keys().entries().iter().find(|entry| entry.key == *mint.key).map(|entry| entry.id);
        let NewMint { resource, id, under, until, .. } = mint;
        let happening = self.happening(&by, Event::Minted { resource, id, under: under.to_vec(), key, until });
        Ok(self.record.append(vec![happening], Expected::Any).await?)
    }

    /// The newest time at which an earlier run's clock had run true for a while.
    pub fn clock_floor(&self) -> Option<u64> {
        self.record.floor()
    }

    /// Keeps a newer floor of the clock. It is no record.
    pub async fn keep_clock_floor(&self, floor: u64) -> Result<(), LedgerError> {
        self.record.keep_floor(floor, Vec::new()).await?;
        Ok(())
    }

    /// Records an operator's word that the clock is right although it stands before the floor, which is given up.
    pub async fn accept_clock(&self, floor: u64, now: u64) -> Result<(), LedgerError> {
        let by = By::presenter("operator");
        let accepted = Happening { at: now, by, event: Event::ClockAccepted { floor } };
        self.record.keep_floor(now, vec![accepted]).await?;
        Ok(())
    }

    /// Waits until there is a record after `after`. Returns at once if there is one already.
    pub async fn wait_beyond(&self, after: Position) {
        let mut tail = self.record.tail();
        // An error says that the engine has ended: nothing will come, and the caller reads what there is.
        let _ = tail.wait_for(|end| *end > after).await;
    }

    fn happening(&self, by: &By, event: Event) -> Happening {
        Happening { at: (self.now)(), by: by.clone(), event }
    }

    /// Decides on the keys as they are, and records what follows only if they still are.
    async fn decide<T>(
        &self,
        by: By,
        decide: impl Fn(&KeyRing) -> Result<(Vec<Event>, T), LedgerError>,
    ) -> Result<T, LedgerError> {
        for _ in 0..DECISIONS_MAX {
            let (position, keys) = {
                let state = self.live.read();
                (state.position(), state.keys().clone())
            };
            let (events, outcome) = decide(&keys)?;
            if events.is_empty() {
                return Ok(outcome);
            }
            let happenings = events.into_iter().map(|event| self.happening(&by, event)).collect();
            match self.record.append(happenings, Expected::At(position)).await {
                Ok(_) => return Ok(outcome),
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LedgerError::TooBusy)
    }
}

/// The events by which `key` joins the ring and mints, tried on a copy first so that only what can stand is recorded.
fn rotation(keys: &KeyRing, key: PublicKey) -> Result<(Vec<Event>, KeyId), LedgerError> {
    let id = keys.next_id();
    keys.clone().rotate(id, key)?;
    Ok((vec![Event::KeyAdded { id, key }, Event::KeyMinting { id }], id))
}

/// Whole seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;

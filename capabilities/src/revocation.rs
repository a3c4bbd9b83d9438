//! Revocation: what ends a capability before it expires.
//!
//! Every block of a token has a revocation id, its signature. Revoking one ends the token up to that block and
//! everything that was derived from it. [`Standing`] is what a running gateway knows at this moment: which ids are
//! revoked and which root keys are live. It lives in memory; the ledger is where it comes from.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::{KeyRing, PublicKey};

const ID_BYTES: usize = 64;

/// The identity of one block: its Ed25519 signature. Public in the sense that it grants nothing; still, logs carry
/// [`RevocationId::short`] only, since the signature is part of the token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RevocationId([u8; ID_BYTES]);

impl RevocationId {
    /// The id in these bytes: 64 of them, as every Ed25519 signature has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RevocationIdError> {
        bytes.try_into().map(Self).map_err(|_| RevocationIdError { bytes: bytes.len() })
    }

    /// Its 64 bytes.
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// A name for logs: the first 8 hexadecimal digits of its SHA-256. Enough to find the id again for who has it,
    /// useless to who has not.
    pub fn short(&self) -> String {
        hex::encode(&Sha256::digest(self.0)[..4])
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RevocationId {
    type Err = RevocationIdError;

    fn from_str(text: &str) -> Result<Self, RevocationIdError> {
        let mut bytes = [0; ID_BYTES];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| RevocationIdError { bytes: text.len() / 2 })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for RevocationId {
    type Error = RevocationIdError;

    fn try_from(text: String) -> Result<Self, RevocationIdError> {
        text.parse()
    }
}

impl From<RevocationId> for String {
    fn from(id: RevocationId) -> String {
        id.to_string()
    }
}

/// The text or the bytes are no revocation id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a revocation id is 128 hexadecimal digits (64 bytes); `postern inspect` prints those of a token")]
pub struct RevocationIdError {
    bytes: usize,
}

/// What holds at this moment: the live keys and the revoked ids. Shared by all threads, changed while they run.
///
/// A change is in place before [`Standing::version`] moves, so a capability that has seen itself unrevoked at a version
/// need not look again until the version is another one.
pub struct Standing {
    state: RwLock<State>,
    version: AtomicU64,
    listeners: RwLock<Vec<Listener>>,
}

type Listener = Box<dyn Fn() + Send + Sync>;

struct State {
    keys: KeyRing,
    /// The keys by which gateways state who a message's client is. They sign no tokens.
    statement_keys: Vec<PublicKey>,
    revoked: HashSet<RevocationId>,
    /// The version at which the keys were replaced last.
    keys_changed: u64,
    /// The ids that were revoked last, with the version that each came with, oldest first.
    recent: VecDeque<(u64, RevocationId)>,
    /// Since this version nothing is missing from `recent`.
    recent_since: u64,
}

/// How many of the last revocations [`Standing::changes_since`] can name. Whoever is further behind looks at everything.
const RECENT_MAX: usize = 4_096;

/// What has changed since a version, for whoever would rather not look at everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The version that these changes lead to.
    pub version: u64,
    /// The ids that were revoked since; `None`: too many to name, so that any may have been.
    pub revoked: Option<Vec<RevocationId>>,
    /// Whether the keys were replaced.
    pub keys: bool,
}

impl Standing {
    /// A standing with these keys, and nothing revoked yet.
    pub fn new(keys: KeyRing) -> Self {
        // Versions of two standings must never be taken for each other, as a capability remembers only a version.
        // Random upper bits keep them apart without a global counter; the lower half counts the changes.
        let epoch = u64::from(rand::random::<u32>()) << 32;
        let version = epoch | 1;
        let state = State {
            keys,
            statement_keys: Vec::new(),
            revoked: HashSet::new(),
            keys_changed: version,
            recent: VecDeque::new(),
            recent_since: version,
        };
        Self { state: RwLock::new(state), version: AtomicU64::new(version), listeners: RwLock::default() }
    }

    /// Calls `listener` after every change, on the thread that makes it and before the change is reported as done. It
    /// must not wait, nor change the standing.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// The keys as they are now.
    pub fn keys(&self) -> KeyRing {
        self.read().keys.clone()
    }

    /// Whether a text holds a token that one of the keys signed, live or retired, whole or cut off behind its first
    /// block.
    pub fn issued(&self, text: &[u8]) -> bool {
        self.read().keys.issued(text)
    }

    /// Replaces the keys. Whatever a key signed that is no longer live is refused from now on.
    pub fn set_keys(&self, keys: KeyRing) {
        self.change(|state, version| {
            state.keys = keys;
            state.keys_changed = version;
        });
    }

    /// The keys by which gateways state who a message's client is.
    pub fn statement_keys(&self) -> Vec<PublicKey> {
        self.read().statement_keys.clone()
    }

    /// Replaces the statement keys. A token that ends in a statement by any other key is refused from now on.
    pub fn set_statement_keys(&self, keys: Vec<PublicKey>) {
        self.change(|state, version| {
            state.statement_keys = keys;
            state.keys_changed = version;
        });
    }

    /// Revokes these ids, known or unknown. In force when the call returns.
    pub fn revoke(&self, ids: &[RevocationId]) {
        self.change(|state, version| {
            state.revoked.extend(ids.iter().copied());
            state.note(version, ids);
        });
    }

    /// Whether this id is revoked.
    pub fn is_revoked(&self, id: &RevocationId) -> bool {
        self.read().revoked.contains(id)
    }

    /// How many ids are revoked.
    pub fn revoked_count(&self) -> usize {
        self.read().revoked.len()
    }

    /// Moves on with every change. Compare for equality only.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The version at which the keys were replaced last. What they decide alone, such as whether a signature is one of
    /// theirs, holds until it is another one, whatever is revoked in between.
    pub fn keys_version(&self) -> u64 {
        self.read().keys_changed
    }

    /// What has changed since a version that this standing once had.
    pub fn changes_since(&self, version: u64) -> Changes {
        let state = self.read();
        let named = || state.recent.iter().rev().take_while(|(at, _)| *at > version).map(|(_, id)| *id).collect();
        Changes {
            version: self.version(),
            revoked: (version >= state.recent_since).then(named),
            keys: state.keys_changed > version,
        }
    }

    /// Whether this key is live.
    pub fn is_live(&self, key: &PublicKey) -> bool {
        self.read().keys.is_live(key)
    }

    /// Whether this is a gateway's statement key.
    pub(crate) fn states(&self, key: &PublicKey) -> bool {
        self.read().statement_keys.contains(key)
    }

    /// Whether the key is live, and the first of the ids that is revoked: both questions under one lock.
    pub(crate) fn look_up(&self, key: &PublicKey, ids: &[RevocationId]) -> (bool, Option<usize>) {
        let state = self.read();
        (state.keys.is_live(key), ids.iter().position(|id| state.revoked.contains(id)))
    }

    /// Makes one change; `change` gets the version that it leads to.
    fn change(&self, change: impl FnOnce(&mut State, u64)) {
        let mut state = self.write();
        // Only changed under the lock.
        let version = self.version.load(Ordering::Relaxed) + 1;
        change(&mut state, version);
        // Under the lock, so that the version moves in the order of the changes; Release, so that who sees it sees them.
        self.version.store(version, Ordering::Release);
        drop(state);
        self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter().for_each(|listener| listener());
    }

    /// A panic elsewhere must not turn every later check into one: the state is valid after each single step.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Remembers what was revoked last, within the bound.
    fn note(&mut self, version: u64, ids: &[RevocationId]) {
        if ids.len() > RECENT_MAX {
            self.recent.clear();
            self.recent_since = version;
            return;
        }
        self.recent.extend(ids.iter().map(|id| (version, *id)));
        while self.recent.len() > RECENT_MAX {
            // A version of which one id is gone is gone as a whole.
            self.recent_since = self.recent.pop_front().map_or(version, |(gone, _)| gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyId, SigningKey};

    fn id(byte: u8) -> RevocationId {
        RevocationId([byte; ID_BYTES])
    }

    #[test]
    fn ids_survive_being_written_and_read() {
        assert_eq!(id(0xAB).to_string().parse::<RevocationId>().unwrap(), id(0xAB));
        assert!("ab".parse::<RevocationId>().is_err());
        assert!("zz".repeat(64).parse::<RevocationId>().is_err());
        assert_eq!(id(1).short().len(), 8);
        assert!(!id(1).to_string().contains(&id(1).short()));
    }

    #[test]
    fn a_revocation_is_in_force_when_the_version_moves() {
        let key = SigningKey::generate().public();
        let standing = Standing::new(KeyRing::of(KeyId(0), key));
        let before = standing.version();
        assert_eq!(standing.look_up(&key, &[id(1), id(2)]), (true, None));
        standing.revoke(&[id(2), id(3)]);
        assert_ne!(standing.version(), before);
        assert_eq!(standing.look_up(&key, &[id(1), id(2)]), (true, Some(1)));
        assert!(standing.is_revoked(&id(3)) && !standing.is_revoked(&id(4)));
        assert_eq!(standing.revoked_count(), 2);
    }

    #[test]
    fn replacing_the_keys_moves_the_version() {
        let key = SigningKey::generate().public();
        let standing = Standing::new(KeyRing::of(KeyId(0), key));
        let before = standing.version();
        let mut ring = standing.keys();
        ring.retire(KeyId(0)).unwrap();
        standing.set_keys(ring);
        assert_ne!(standing.version(), before);
        assert_eq!(standing.look_up(&key, &[]), (false, None));
    }

    #[test]
    fn what_changed_can_be_asked_for() {
        let standing = Standing::new(KeyRing::of(KeyId(0), SigningKey::generate().public()));
        let first = standing.version();
        let nothing = Changes { version: first, revoked: Some(vec![]), keys: false };
        assert_eq!(standing.changes_since(first), nothing);
        standing.revoke(&[id(1), id(2)]);
        let second = standing.version();
        standing.revoke(&[id(3)]);
        standing.set_keys(standing.keys());
        let (version, keys) = (standing.version(), true);
        assert_eq!(standing.changes_since(first), Changes { version, revoked: Some(vec![id(3), id(2), id(1)]), keys });
        assert_eq!(standing.changes_since(second), Changes { version, revoked: Some(vec![id(3)]), keys });
        assert_eq!(standing.changes_since(version), Changes { version, revoked: Some(vec![]), keys: false });
    }

    #[test]
    fn who_is_too_far_behind_is_told_so() {
        let standing = Standing::new(KeyRing::new());
        let numbered = |number: u64| {
            let mut bytes = [0; ID_BYTES];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            RevocationId(bytes)
        };
        let first = standing.version();
        let ids: Vec<_> = (0..RECENT_MAX as u64).map(numbered).collect();
        standing.revoke(&ids);
        let second = standing.version();
        assert_eq!(standing.changes_since(first).revoked.map(|ids| ids.len()), Some(RECENT_MAX));
        standing.revoke(&[id(7)]);
        assert_eq!(standing.changes_since(first).revoked, None, "one of them is forgotten");
        assert_eq!(standing.changes_since(second).revoked, Some(vec![id(7)]));
        let third = standing.version();
        standing.revoke(&[ids, vec![id(8)]].concat());
        assert_eq!(standing.changes_since(third).revoked, None, "more at once than can be named");
        assert_eq!(standing.changes_since(standing.version()).revoked, Some(vec![]));
    }

    #[test]
    fn listeners_hear_of_a_change_that_is_in_force() {
        use std::sync::Arc;
        let standing = Arc::new(Standing::new(KeyRing::new()));
        let heard = Arc::new(AtomicU64::new(0));
        let (weak, counted) = (Arc::downgrade(&standing), Arc::clone(&heard));
        standing.on_change(move || {
            if weak.upgrade().is_some_and(|standing| standing.is_revoked(&id(1))) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        standing.revoke(&[id(1)]);
        standing.set_keys(KeyRing::new());
        assert_eq!(heard.load(Ordering::Relaxed), 2);
    }
}

//! Keys: Ed25519 and nothing else.
//!
//! Biscuit also knows P-256, whose signatures can be rewritten into other valid ones. A token's revocation id *is* a
//! signature, so a holder could change it and escape revocation. These types therefore cannot express another
//! algorithm, and `token` refuses one anywhere in a token's chain.

use std::fmt;
use std::str::FromStr;

use biscuit_auth::builder::Algorithm;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How many keys can be live at once: one that mints and the ones before it. A token without a key id is
/// tried against each of them, so the number bounds that work.
pub const KEYS_LIVE_MAX: usize = 4;

const KEY_BYTES: usize = 32;
const PUBLIC_PREFIX: &str = "ed25519/";
const SECRET_PREFIX: &str = "ed25519-private/";

/// A secret Ed25519 key. It cannot be printed, copied or serialised by accident, and is wiped when dropped.
///
/// ```compile_fail
/// println!("{:?}", postern_capabilities::SigningKey::generate());
/// ```
pub struct SigningKey {
    /// On the heap, so that moving the key leaves no copy behind.
    secret: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Self {
        let pair = biscuit_auth::KeyPair::new();
        Self { secret: pair.private().to_bytes(), public: PublicKey::of_pair(&pair) }
    }

    /// The key in these 32 bytes.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let secret = Zeroizing::new(bytes.to_vec());
        let pair = key_pair(&secret).expect("every 32 bytes are an Ed25519 secret");
        Self { secret, public: PublicKey::of_pair(&pair) }
    }

    /// Reads `ed25519-private/<64 hexadecimal digits>`, biscuit's own text form. White space around it is ignored.
    pub fn parse_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(SECRET_PREFIX) else {
            // The text may be a secret of another kind: the message must not repeat it.
            return Err(match text.starts_with(PUBLIC_PREFIX) {
                true => KeyError::PublicInsteadOfSecret,
                false => KeyError::SecretPrefix,
            });
        };
        let mut secret = Zeroizing::new(vec![0; KEY_BYTES]);
        hex::decode_to_slice(digits, &mut secret).map_err(|_| KeyError::Digits)?;
        let pair = key_pair(&secret).ok_or(KeyError::Digits)?;
        Ok(Self { secret, public: PublicKey::of_pair(&pair) })
    }

    /// The secret as text, to be written to a file that only its owner can read.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(SECRET_PREFIX.len() + 2 * KEY_BYTES));
        text.push_str(SECRET_PREFIX);
        let digits = Zeroizing::new(hex::encode(&*self.secret));
        text.push_str(&digits);
        text
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The pair as the biscuit library wants it; wiped when dropped, so it is made for each use and not kept.
    pub(crate) fn pair(&self) -> biscuit_auth::KeyPair {
        key_pair(&self.secret)
            .expect("a SigningKey is only made from 32 bytes, and every 32 bytes are an Ed25519 secret")
    }
}

fn key_pair(secret: &[u8]) -> Option<biscuit_auth::KeyPair> {
    biscuit_auth::KeyPair::from_bytes(secret, Algorithm::Ed25519.into()).ok()
}

/// A public Ed25519 key. Prints and reads as `ed25519/<hex>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key in these bytes, if they are a point on the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| KeyError::Digits)?;
        biscuit_auth::PublicKey::from_bytes(&key, Algorithm::Ed25519).map_err(|_| KeyError::NotOnCurve)?;
        Ok(Self(key))
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    fn of_pair(pair: &biscuit_auth::KeyPair) -> Self {
        Self(pair.public().to_bytes().try_into().expect("an Ed25519 public key has 32 bytes"))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let digits = text.strip_prefix(PUBLIC_PREFIX).ok_or(match text.starts_with(SECRET_PREFIX) {
            true => KeyError::SecretInsteadOfPublic,
            false => KeyError::PublicPrefix,
        })?;
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(digits, &mut key).map_err(|_| KeyError::Digits)?;
        Self::from_bytes(&key)
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// Why a text is not a key. Never repeats the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `ed25519-private/` in front.
    #[error("a secret key is written `ed25519-private/` and 64 hexadecimal digits; other algorithms are not used")]
    SecretPrefix,
    /// No `ed25519/` in front.
    #[error("a public key is written `ed25519/` and 64 hexadecimal digits; other algorithms are not used")]
    PublicPrefix,
    /// A public key where a secret one is wanted.
    #[error("this is a public key (`ed25519/…`), but a secret key (`ed25519-private/…`) is needed here")]
    PublicInsteadOfSecret,
    /// A secret key where a public one is wanted.
    #[error(
        "this is a SECRET key (`ed25519-private/…`), but a public key (`ed25519/…`) is needed here; keep it to yourself"
    )]
    SecretInsteadOfPublic,
    /// Not 64 hexadecimal digits.
    #[error("a key is 64 hexadecimal digits after its prefix")]
    Digits,
    /// 32 bytes that are no point of the curve.
    #[error("these 32 bytes are not an Ed25519 public key")]
    NotOnCurve,
}

/// The number by which a token says which key signed it (`root_key_id`). Only a hint: it stands outside every signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u32);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a root key is still good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// New capabilities are signed with it, and its capabilities are accepted. At most one key mints.
    Minting,
    /// Its capabilities are accepted.
    Live,
    /// Whatever it signed is refused, as if all of that had been revoked.
    Retired,
}

/// One key of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its number.
    pub id: KeyId,
    /// Its public half.
    pub key: PublicKey,
    /// What it is still good for.
    pub state: KeyState,
}

/// The root keys that a gateway knows, live and retired.
///
/// Retired keys are remembered: a token that names one is told so, and neither a number nor a key can come back
/// to life by being added again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    entries: Vec<KeyEntry>,
    is_unnumbered: bool,
}

impl KeyRing {
    /// A ring without keys, which accepts nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A ring with one key, which mints.
    pub fn of(id: KeyId, key: PublicKey) -> Self {
        Self { entries: vec![KeyEntry { id, key, state: KeyState::Minting }], is_unnumbered: false }
    }

    /// A ring of keys whose numbers are not known, as where a service was given a `root.pub` and nothing else. Whatever number
    /// a token names, each of these keys is tried: the number is only a hint anyway.
    pub fn unnumbered(keys: impl IntoIterator<Item = PublicKey>) -> Result<Self, KeyRingError> {
        let mut ring = Self { entries: Vec::new(), is_unnumbered: true };
        for key in keys {
            ring.add(ring.next_id(), key, KeyState::Live)?;
        }
        Ok(ring)
    }

    /// Whether the numbers of its keys say nothing.
    pub fn is_unnumbered(&self) -> bool {
        self.is_unnumbered
    }

    /// Adds a key in the given state.
    pub fn add(&mut self, id: KeyId, key: PublicKey, state: KeyState) -> Result<(), KeyRingError> {
        if self.get(id).is_some() {
            return Err(KeyRingError::IdTaken(id));
        }
        if let Some(entry) = self.entries.iter().find(|entry| entry.key == key) {
            return Err(KeyRingError::KeyKnown(entry.id));
        }
        if state == KeyState::Minting
            && let Some(minting) = self.minting()
        {
            return Err(KeyRingError::AlreadyMinting(minting.id));
        }
        if state != KeyState::Retired && self.live().count() >= KEYS_LIVE_MAX {
            return Err(KeyRingError::TooManyLive);
        }
        self.entries.push(KeyEntry { id, key, state });
        Ok(())
    }

    /// Lets a new key mint from now on; the one that did stays live.
    pub fn rotate(&mut self, id: KeyId, key: PublicKey) -> Result<(), KeyRingError> {
        let mut next = self.clone();
        for entry in &mut next.entries {
            if entry.state == KeyState::Minting {
                entry.state = KeyState::Live;
            }
        }
        next.add(id, key, KeyState::Minting)?;
        *self = next;
        Ok(())
    }

    /// Retires a key, which ends everything that it signed. Retiring twice is no error.
    pub fn retire(&mut self, id: KeyId) -> Result<(), KeyRingError> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id).ok_or(KeyRingError::Unknown(id))?;
        entry.state = KeyState::Retired;
        Ok(())
    }

    /// The key of this number, in whatever state.
    pub fn get(&self, id: KeyId) -> Option<&KeyEntry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Every key whose capabilities are accepted, the minting one among them.
    pub fn live(&self) -> impl Iterator<Item = &KeyEntry> {
        self.entries.iter().filter(|entry| entry.state != KeyState::Retired)
    }

    /// The key that signs new capabilities, if there is one.
    pub fn minting(&self) -> Option<&KeyEntry> {
        self.entries.iter().find(|entry| entry.state == KeyState::Minting)
    }

    /// Every key, in the order in which they were added.
    pub fn entries(&self) -> &[KeyEntry] {
        &self.entries
    }

    /// Whether capabilities under this key are accepted.
    pub fn is_live(&self, key: &PublicKey) -> bool {
        self.live().any(|entry| entry.key == *key)
    }

    /// The lowest number above all that were ever given out here.
    pub fn next_id(&self) -> KeyId {
        KeyId(self.entries.iter().map(|entry| entry.id.0.saturating_add(1)).max().unwrap_or(0))
    }
}

/// Why a ring of keys cannot be changed that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The number belongs to another key.
    #[error("the key number {0} is taken; numbers are not used twice, also not those of retired keys")]
    IdTaken(KeyId),
    /// The key is in the ring already.
    #[error("this key is in the ring already, as number {0}")]
    KeyKnown(KeyId),
    /// Another key mints.
    #[error("the key number {0} mints already; rotate instead of adding a second one")]
    AlreadyMinting(KeyId),
    /// The ring is full.
    #[error("{KEYS_LIVE_MAX} keys are live, which is the most there can be; retire one first")]
    TooManyLive,
    /// There is no key of this number.
    #[error("there is no key number {0}")]
    Unknown(KeyId),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PublicKey {
        SigningKey::generate().public()
    }

    #[test]
    fn a_secret_survives_being_written_and_read() {
        let key = SigningKey::generate();
        let again = SigningKey::parse_text(&format!("{}\n", key.to_secret_text().as_str())).ok().unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
    }

    #[test]
    fn other_algorithms_and_mixed_up_keys_are_refused() {
        let zeros = "0".repeat(64);
        let secret = |text: &str| SigningKey::parse_text(text).err();
        assert_eq!(secret(&format!("secp256r1-private/{zeros}")), Some(KeyError::SecretPrefix));
        assert_eq!(secret(&format!("ed25519/{zeros}")), Some(KeyError::PublicInsteadOfSecret));
        assert_eq!(secret(&zeros), Some(KeyError::SecretPrefix));
        assert_eq!(secret("ed25519-private/00"), Some(KeyError::Digits));
        assert_eq!(secret(&format!("ed25519-private/{zeros}00")), Some(KeyError::Digits));
        let public = |text: &str| text.parse::<PublicKey>().err();
        assert_eq!(public(&format!("ed25519-private/{zeros}")), Some(KeyError::SecretInsteadOfPublic));
        assert_eq!(public(&format!("secp256r1/{zeros}")), Some(KeyError::PublicPrefix));
        assert_eq!(public(&format!("ed25519/02{}", "0".repeat(62))), Some(KeyError::NotOnCurve));
    }

    #[test]
    fn at_most_four_keys_are_live_and_one_mints() {
        let mut ring = KeyRing::new();
        ring.add(KeyId(0), key(), KeyState::Minting).unwrap();
        assert_eq!(ring.add(KeyId(1), key(), KeyState::Minting), Err(KeyRingError::AlreadyMinting(KeyId(0))));
        for id in 1..4 {
            ring.rotate(KeyId(id), key()).unwrap();
        }
        assert_eq!(ring.minting().unwrap().id, KeyId(3));
        assert_eq!(ring.rotate(KeyId(4), key()), Err(KeyRingError::TooManyLive));
        assert_eq!(ring.minting().unwrap().id, KeyId(3), "a failed rotation changes nothing");
        ring.retire(KeyId(0)).unwrap();
        ring.rotate(KeyId(4), key()).unwrap();
        assert_eq!((ring.live().count(), ring.next_id()), (4, KeyId(5)));
    }

    #[test]
    fn keys_without_numbers_are_a_ring_too() {
        let (one, two) = (key(), key());
        let ring = KeyRing::unnumbered([one, two]).unwrap();
        assert!(ring.is_unnumbered() && ring.is_live(&one) && ring.is_live(&two));
        assert_eq!(KeyRing::unnumbered([one, one]), Err(KeyRingError::KeyKnown(KeyId(0))));
        assert_eq!(KeyRing::unnumbered((0..5).map(|_| key())), Err(KeyRingError::TooManyLive));
    }

    #[test]
    fn a_retired_key_does_not_come_back() {
        let key = key();
        let mut ring = KeyRing::of(KeyId(7), key);
        assert!(ring.is_live(&key));
        ring.retire(KeyId(7)).unwrap();
        assert!(!ring.is_live(&key) && ring.minting().is_none());
        assert_eq!(ring.add(KeyId(8), key, KeyState::Live), Err(KeyRingError::KeyKnown(KeyId(7))));
        assert_eq!(
            ring.add(KeyId(7), SigningKey::generate().public(), KeyState::Live),
            Err(KeyRingError::IdTaken(KeyId(7)))
        );
        assert_eq!(ring.retire(KeyId(9)), Err(KeyRingError::Unknown(KeyId(9))));
    }
}

//! `gateway.key`: the secret that all gateways of one record share, and the keys that are derived from it.
//!
//! Each derived key has a purpose of its own, by HKDF-SHA256 (RFC 5869) with the purpose as its info, so that none of
//! them says anything of another. A root key is never derived here: this secret mints nothing.

use std::path::Path;

use postern_capabilities::keys::SigningKey;
use ring::hkdf;
use zeroize::Zeroizing;

use super::StateError;
use super::files::{Existing, read_secret_bytes, write_secret_bytes};

/// Bytes of the secret.
const BYTES: usize = 32;

/// The purpose of the key that states who a message's client is.
const STATEMENT: &[u8] = b"postern statement key 1";

/// The shared secret. It has no way to be printed, and is wiped when dropped.
pub struct GatewayKey(Zeroizing<[u8; BYTES]>);

impl GatewayKey {
    /// The secret in this file, made of the system's randomness where there is none.
    pub(super) fn read_or_create(path: &Path) -> Result<Self, StateError> {
        match Self::read(path) {
            Err(StateError::Missing { .. }) => {}
            found => return found,
        }
        let fresh: Zeroizing<[u8; BYTES]> = Zeroizing::new(rand::random());
        match write_secret_bytes(path, &*fresh, Existing::Refuse) {
            // Another process was faster; its secret is as good.
            Ok(()) | Err(StateError::Exists { .. }) => Self::read(path),
            Err(error) => Err(error),
        }
    }

    fn read(path: &Path) -> Result<Self, StateError> {
        let bytes = read_secret_bytes(path)?;
        let length = bytes.len();
        let secret = <[u8; BYTES]>::try_from(&**bytes);
        secret
            .map(|secret| Self(Zeroizing::new(secret)))
            .map_err(|_| StateError::NotAGatewayKey { path: path.to_owned(), length })
    }

    /// The Ed25519 key that signs statements.
    pub fn statement_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.derive(STATEMENT))
    }

    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; BYTES]> {
        let mut derived = Zeroizing::new([0; BYTES]);
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&*self.0);
        secret
            .expand(&[purpose], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *derived))
            .expect("HKDF-SHA256 gives 32 bytes whatever the purpose (RFC 5869 section 2.3)");
        derived
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_secret_gives_one_key_and_another_gives_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.key");
        let first = GatewayKey::read_or_create(&path).unwrap().statement_key().public();
        assert_eq!(GatewayKey::read_or_create(&path).unwrap().statement_key().public(), first);
        let other = folder.path().join("other.key");
        assert_ne!(GatewayKey::read_or_create(&other).unwrap().statement_key().public(), first);
        // What a secret gives never changes: gateways of other versions share it.
        let known = GatewayKey(Zeroizing::new([7; BYTES]));
        assert_eq!(known.derive(STATEMENT).len(), BYTES);
        assert_ne!(*known.derive(STATEMENT), *known.derive(b"another purpose"));
    }

    #[test]
    fn what_is_no_secret_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.key");
        write_secret_bytes(&path, &[1; 31], Existing::Refuse).unwrap();
        let refused = GatewayKey::read_or_create(&path).map(drop).unwrap_err().to_string();
        assert!(refused.contains("31") && refused.contains("gateway.key"), "{refused}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(GatewayKey::read_or_create(&path).is_err());
    }
}

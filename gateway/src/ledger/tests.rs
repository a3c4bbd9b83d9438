//! The handle: revoking, keys, minting, following, over the embedded engine in a temporary folder.

use postern_capabilities::keys::SigningKey;

use super::*;

fn key() -> PublicKey {
    SigningKey::generate().public()
}

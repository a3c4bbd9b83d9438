//! Whether a text holds a token that one of our keys signed, or the beginning of one: for fields that a service and the
//! gateway both read, where everything else is the service's.
//!
//! A service that authenticates by `Authorization: Bearer` has tokens of its own, of any make, and half of the usual
//! ones read as base64url of something. What the text looks like therefore decides nothing. It is ours where the
//! authority block can be read from it and a key of ours, live or retired, signed that block: this much is left even of
//! a token that was cut off behind it, and nobody else can make it. What is cut off within the authority block can be
//! presented nowhere.
//!
//! The text may hold a token among other things, as in a field with two words: each run of base64url characters is
//! looked at.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::keys::{KeyId, KeyRing};
use crate::outer::{Reader, Value};
use crate::text::TOKEN_TEXT_BYTES_MAX;

/// No authority block with its key and signature is shorter.
const RUN_BYTES_MIN: usize = 136;

/// Runs in which a signature is checked. What holds more that look like tokens is taken for ours: no service's field
/// does.
const RUNS_MAX: usize = 4;

/// The biscuit format's number of Ed25519, as signatures cover it.
const ALGORITHM: [u8; 4] = 0_i32.to_le_bytes();

/// Lenient where a token that was cut off may end: within a byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

impl KeyRing {
    /// Whether `text` holds a token that one of these keys signed, whole or cut off behind its authority block.
    pub fn issued(&self, text: &[u8]) -> bool {
        let is_inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut looked_at = 0;
        for run in text.split(|byte| !is_inside(byte)).filter(|run| run.len() >= RUN_BYTES_MIN) {
            let Some(bytes) = decoded(run) else { continue };
            let Some(authority) = Authority::read(&bytes) else { continue };
            looked_at += 1;
            if looked_at > RUNS_MAX || self.signed(&authority) {
                return true;
            }
        }
        false
    }

    fn signed(&self, authority: &Authority<'_>) -> bool {
        // The number is a hint that no signature covers: one that is not known here may have been changed.
        let named = authority.key_id.and_then(|id| self.get(KeyId(id))).filter(|_| !self.is_unnumbered());
        match named {
            Some(entry) => authority.is_signed_by(entry.key.as_bytes()),
            None => self.entries().iter().any(|entry| authority.is_signed_by(entry.key.as_bytes())),
        }
    }
}

/// The bytes of a text of which the end may be missing, as far as a token of the longest kind goes.
fn decoded(run: &[u8]) -> Option<Vec<u8>> {
    let run = &run[..run.len().min(TOKEN_TEXT_BYTES_MAX)];
    // One character alone is no byte.
    let run = if run.len() % 4 == 1 { &run[..run.len() - 1] } else { run };
    BASE64.decode(run).ok()
}

/// A token's authority block, as far as its signature covers it.
struct Authority<'t> {
    key_id: Option<u32>,
    payload: &'t [u8],
    next_key: &'t [u8],
    signature: &'t [u8; 64],
    version: u32,
}

impl<'t> Authority<'t> {
    /// Reads the beginning of a token, up to the authority block: every writer puts it before all others.
    fn read(bytes: &'t [u8]) -> Option<Self> {
        let mut reader = Reader { bytes };
        let mut key_id = None;
        loop {
            match reader.field().ok()?? {
                (1, Value::Number(number)) => key_id = u32::try_from(number).ok(),
                (2, Value::Bytes(block)) => return Self::of_block(key_id, block),
                _ => return None,
            }
        }
    }

    fn of_block(key_id: Option<u32>, block: &'t [u8]) -> Option<Self> {
        let (mut payload, mut next_key, mut signature, mut version) = (None, None, None, 0);
        let mut reader = Reader { bytes: block };
        while let Some(field) = reader.field().ok()? {
            match field {
                (1, Value::Bytes(bytes)) => payload = Some(bytes),
                (2, Value::Bytes(bytes)) => next_key = key_bytes(bytes),
                (3, Value::Bytes(bytes)) => signature = bytes.try_into().ok(),
                (5, Value::Number(number)) => version = u32::try_from(number).ok()?,
                _ => {}
            }
        }
        Some(Self { key_id, payload: payload?, next_key: next_key?, signature: signature?, version })
    }

    /// Whether this key signed it, in either form that the biscuit format has for a first block.
    fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        let version = self.version.to_le_bytes();
        let signed = match self.version {
            0 => [self.payload, &ALGORITHM, self.next_key].concat(),
            _ => [
                b"\0BLOCK\0\0VERSION\0".as_slice(),
                &version,
                b"\0PAYLOAD\0",
                self.payload,
                b"\0ALGORITHM\0",
                &ALGORITHM,
                b"\0NEXTKEY\0",
                self.next_key,
            ]
            .concat(),
        };
        let signature = Signature::from_bytes(self.signature);
        VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&signed, &signature).is_ok())
    }
}

fn key_bytes(message: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader { bytes: message };
    let mut key = None;
    while let Some(field) = reader.field().ok()? {
        if let (2, Value::Bytes(bytes)) = field {
            key = Some(bytes);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caveat::Caveat;
    use crate::keys::{KeyState, SigningKey};
    use crate::resource::{Operation, ResourceName, Right};

    fn minted(key: &SigningKey, id: u32, caveats: &[Caveat]) -> String {
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        crate::mint::mint(key, KeyId(id), &[right], caveats).unwrap().expose().to_owned()
    }

    #[test]
    fn what_a_key_of_ours_signed_is_ours_whole_or_cut_off_behind_its_first_block() {
        let (live, retired, other) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
        let mut ring = KeyRing::of(KeyId(2), live.public());
        ring.add(KeyId(1), retired.public(), KeyState::Retired).unwrap();
        // The second has operators that make biscuit sign in its newer form.
        let lazy = Caveat::of_flag("check", &["check if path($p), $p === \"/a\" || $p === \"/b\""], 0).unwrap();
        for caveats in [Vec::new(), lazy] {
            for (key, id) in [(&live, 2), (&retired, 1)] {
                let plain = minted(key, id, &caveats);
                let end = plain.len() - 48;
                let narrowed = crate::attenuate::attenuate(&plain, &[Caveat::NoUpgrade]).unwrap().expose().to_owned();
                for text in [&plain, &plain[..end], &narrowed, &narrowed[..end], &format!("biscuit:{plain}")] {
                    assert!(ring.issued(text.as_bytes()), "{text}");
                }
                let among =
                    [format!("{plain} x"), format!("x,{plain}=="), format!("a.{plain}.b"), format!("x=\"{plain}\"")];
                assert!(among.iter().all(|text| ring.issued(text.as_bytes())));
                let strange = minted(key, 77, &caveats);
                assert!(ring.issued(strange.as_bytes()), "the number is a hint");
                assert!(!ring.issued(&plain.as_bytes()[..100]) && !ring.issued(&plain.as_bytes()[1..]));
            }
        }
        let foreign = minted(&other, 2, &[]);
        assert!(!ring.issued(foreign.as_bytes()));
        assert!(ring.issued(vec![foreign; RUNS_MAX + 1].join(" ").as_bytes()), "no service's field");
        assert!(!ring.issued(b"") && !ring.issued("A".repeat(20_000).as_bytes()));
    }
}

//! The outer message of a token: the chain of signed blocks, read without believing any of it.
//!
//! The biscuit library reads it too, and verifies it; and `language::wire` walks it strictly. This reading comes before
//! both, on bytes that anybody may have sent: it is bounded, allocates next to nothing, cannot recurse, counts the blocks
//! before any of them costs a signature check, and tells a text that was cut short from one that is no token. Fields that
//! it does not know it passes over, since a reason that speaks of a token's content is only given after verification.

use smallvec::SmallVec;

use crate::revocation::RevocationId;
use crate::token::{BLOCKS_MAX, Unreadable};

/// Enough for nearly every token without allocation.
const BLOCKS_INLINE: usize = 4;

/// What the outer message says of a token. Never holds the secret at its end.
pub(crate) struct Outer<'t> {
    pub(crate) root_key_id: Option<u32>,
    /// The signature of each block, the authority first.
    pub(crate) signatures: SmallVec<[&'t [u8]; BLOCKS_INLINE]>,
    pub(crate) proof: Proof,
}

impl Outer<'_> {
    /// The blocks' identities, or none at all: an Ed25519 signature has 64 bytes, and a chain with any other is never
    /// accepted, so nothing of it need be revoked.
    pub(crate) fn revocation_ids(&self) -> Vec<RevocationId> {
        let ids = self.signatures.iter().map(|signature| RevocationId::from_bytes(signature));
        ids.collect::<Result<_, _>>().unwrap_or_default()
    }
}

/// How a token ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// With the secret that lets its holder append.
    Open,
    /// With a signature.
    Sealed,
}

/// Reads the outer message.
pub(crate) fn read(bytes: &[u8]) -> Result<Outer<'_>, Unreadable> {
    let (mut root_key_id, mut authority, mut proof) = (None, None, None);
    let mut appended = SmallVec::<[&[u8]; BLOCKS_INLINE]>::new();
    let mut reader = Reader { bytes };
    let is_cut = begins_like_a_token(bytes);
    // What does not begin as every writer begins a token was not cut off from one.
    let cut = |error| if error == Unreadable::Truncated && !is_cut { Unreadable::NotAToken } else { error };
    // Behind the proof, which every writer puts last, nothing is missing: what is there does not belong there.
    while let Some(field) = reader.field().map_err(|error| if proof.is_some() { inside(error) } else { cut(error) })? {
        match field {
            (1, Value::Number(number)) => root_key_id = Some(number),
            (2, Value::Bytes(bytes)) => authority = Some(signature_of(bytes).map_err(inside)?),
            (3, Value::Bytes(bytes)) => {
                if appended.len() + 1 >= BLOCKS_MAX {
                    return Err(Unreadable::TooManyBlocks);
                }
                appended.push(signature_of(bytes).map_err(inside)?);
            }
            (4, Value::Bytes(bytes)) => proof = Some(read_proof(bytes).map_err(inside)?),
            _ => {}
        }
    }
    // The fields come in this order from every writer, so what is missing was cut off.
    let authority = authority.ok_or(Unreadable::NotAToken)?;
    let proof = proof.ok_or(Unreadable::Truncated)?;
    let signatures = std::iter::once(authority).chain(appended).collect();
    let root_key_id = root_key_id.map(u32::try_from).transpose().map_err(|_| Unreadable::NotAToken)?;
    Ok(Outer { root_key_id, signatures, proof })
}

/// Whether the bytes begin with the number of a key, or without one, and then an authority block, as far as they go.
fn begins_like_a_token(bytes: &[u8]) -> bool {
    const KEY_ID: u8 = 0x08;
    const AUTHORITY: u8 = 0x12;
    const PAYLOAD: u8 = 0x0A;
    let mut reader = Reader { bytes };
    if bytes.first() == Some(&KEY_ID) {
        reader.bytes = &bytes[1..];
        match reader.varint() {
            Ok(number) if u32::try_from(number).is_ok() => {}
            Ok(_) => return false,
            Err(error) => return error == Unreadable::Truncated,
        }
    }
    let Some((first, block)) = reader.bytes.split_first() else { return true };
    reader.bytes = block;
    *first == AUTHORITY
        && match reader.varint() {
            Ok(_) => reader.bytes.first().is_none_or(|first| *first == PAYLOAD),
            Err(error) => error == Unreadable::Truncated,
        }
}

fn signature_of(block: &[u8]) -> Result<&[u8], Unreadable> {
    let mut signature = None;
    let mut reader = Reader { bytes: block };
    while let Some(field) = reader.field()? {
        if let (3, Value::Bytes(bytes)) = field {
            signature = Some(bytes);
        }
    }
    signature.ok_or(Unreadable::NotAToken)
}

fn read_proof(bytes: &[u8]) -> Result<Proof, Unreadable> {
    let mut proof = None;
    let mut reader = Reader { bytes };
    while let Some(field) = reader.field()? {
        match field {
            (1, Value::Bytes(_)) => proof = Some(Proof::Open),
            (2, Value::Bytes(_)) => proof = Some(Proof::Sealed),
            _ => {}
        }
    }
    proof.ok_or(Unreadable::NotAToken)
}

/// A message that ends early inside one that is all there was not cut, it is wrong.
fn inside(error: Unreadable) -> Unreadable {
    match error {
        Unreadable::Truncated => Unreadable::NotAToken,
        other => other,
    }
}

pub(crate) enum Value<'t> {
    Number(u64),
    Bytes(&'t [u8]),
    Other,
}

/// Reads one message of the wire format, field by field.
pub(crate) struct Reader<'t> {
    pub(crate) bytes: &'t [u8],
}

impl<'t> Reader<'t> {
    /// The next field's number and value, or `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u64, Value<'t>)>, Unreadable> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Unreadable::NotAToken)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Unreadable::NotAToken),
        };
        match key >> 3 {
            0 => Err(Unreadable::NotAToken),
            number => Ok(Some((number, value))),
        }
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        let mut value = 0_u64;
        for (at, &byte) in self.bytes.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err(Unreadable::NotAToken);
            }
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < 10 { Unreadable::Truncated } else { Unreadable::NotAToken })
    }

    /// The next bytes. A length that no token could have is nonsense; any other that leads past the end was cut off.
    fn take(&mut self, length: usize) -> Result<&'t [u8], Unreadable> {
        if length > crate::text::TOKEN_TEXT_BYTES_MAX {
            return Err(Unreadable::NotAToken);
        }
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Unreadable::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Vec<u8> {
        let key = biscuit_auth::KeyPair::new();
        let token = biscuit_auth::Biscuit::builder().root_key_id(3).fact("right(\"orders\", \"GET\")").unwrap();
        token.build(&key).unwrap().append(biscuit_auth::builder::BlockBuilder::new()).unwrap().to_vec().unwrap()
    }

    #[test]
    fn a_token_is_read_as_the_library_reads_it() {
        let bytes = token();
        let outer = read(&bytes).ok().unwrap();
        assert_eq!(outer.root_key_id, Some(3));
        assert!(outer.proof == Proof::Open);
        let same = biscuit_auth::UnverifiedBiscuit::from(&bytes).unwrap();
        let ids: Vec<Vec<u8>> = outer.signatures.iter().map(|signature| signature.to_vec()).collect();
        assert_eq!(ids, same.revocation_identifiers());
        assert_eq!(outer.revocation_ids().len(), 2);
        let sealed = same.seal().unwrap().to_vec().unwrap();
        assert!(read(&sealed).ok().unwrap().proof == Proof::Sealed);
    }

    #[test]
    fn what_is_cut_short_is_called_truncated() {
        let bytes = token();
        for end in 3..bytes.len() {
            assert_eq!(read(&bytes[..end]).err(), Some(Unreadable::Truncated), "cut at {end}");
        }
        for other in [&b"\x1a\x7f"[..], b"\x82\x18\xa9", b"\x12\x05\x99", b"\x08\x01\x1a\x20", b"\x09ab"] {
            assert_eq!(read(other).err(), Some(Unreadable::NotAToken), "{other:?} begins no token");
        }
        assert_eq!(read(b"").err(), Some(Unreadable::NotAToken));
        assert_eq!(read(b"{\"alg\":\"HS256\"}").err(), Some(Unreadable::NotAToken));
    }

    #[test]
    fn many_blocks_are_refused_before_any_of_them_is_verified() {
        let mut bytes = token();
        let block: &[u8] = &[0x1A, 3, 0x1A, 1, 0];
        for _ in 0..BLOCKS_MAX - 2 {
            bytes.extend(block);
        }
        assert_eq!(read(&bytes).ok().unwrap().signatures.len(), BLOCKS_MAX);
        bytes.extend(block);
        assert_eq!(read(&bytes).err(), Some(Unreadable::TooManyBlocks));
    }
}

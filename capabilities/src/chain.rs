//! The chain of signatures of a token, verified block by block, and what is remembered of it.
//!
//! Each block is signed by the key that the block before it names, the first one by a root key; the proof at the end shows
//! that whoever presents the token holds the last of these keys, or sealed it. The payloads are those of biscuit's specification
//! (section "Signature (one block)"); tests compare every verdict with the library's.
//!
//! # What is remembered
//!
//! Whoever holds a token of many blocks can make as many others of it as it likes, each with something wrong at its end. So
//! a beginning that verified is known again ([`Prefixes`]) by a digest over the root key and each block, its signatures
//! included: of a token that begins alike only the rest is verified. It is kept under the version of the keys, and says
//! nothing of revocations, which are looked up for every message.

use ed25519_dalek::{SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::keys::PublicKey;
use crate::language::{Container, Proof, Signature, SignedBlock};
use crate::remembered::Remembered;

/// Beginnings of chains that are remembered, some 100 bytes each.
const PREFIXES_MAX: usize = 4_096;

/// The biscuit format's number of Ed25519, as signatures cover it.
const ALGORITHM: [u8; 4] = 0_i32.to_le_bytes();

/// Beginnings of chains that verified.
pub struct Prefixes(Mutex<Known>);

struct Known {
    /// The version of the keys under which they verified.
    version: u64,
    prefixes: Remembered<()>,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self(Mutex::new(Known { version: 0, prefixes: Remembered::new(PREFIXES_MAX) }))
    }
}

impl Prefixes {
    /// How many of the first blocks are known to verify.
    fn known(&self, version: u64, prefixes: &[[u8; 32]]) -> usize {
        let mut known = self.under(version);
        prefixes.iter().rposition(|prefix| known.prefixes.get(prefix).is_some()).map_or(0, |last| last + 1)
    }

    fn remember(&self, version: u64, prefixes: &[[u8; 32]]) {
        let mut known = self.under(version);
        prefixes.iter().for_each(|prefix| known.prefixes.insert(*prefix, ()));
    }

    fn under(&self, version: u64) -> MutexGuard<'_, Known> {
        // A panic elsewhere must not turn every later message into one: what is remembered is valid after each step.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.version != version {
            *known = Known { version, prefixes: Remembered::new(PREFIXES_MAX) };
        }
        known
    }
}

/// Whether the whole chain verifies under this root key. `version` is that of the keys which the root key was found among.
pub(crate) fn verifies(container: &Container<'_>, root: &PublicKey, prefixes: &Prefixes, version: u64) -> bool {
    let (blocks, digests) = (&container.blocks, digests(&container.blocks, root));
    let known = prefixes.known(version, &digests);
    let verified = (known..blocks.len()).take_while(|at| block_verifies(blocks, *at, root)).count() + known;
    if let Some(fresh) = digests.get(known..verified)
        && !fresh.is_empty()
    {
        prefixes.remember(version, fresh);
    }
    verified == blocks.len() && blocks.last().is_some_and(|last| proof_holds(&container.proof, last))
}

/// A digest of each beginning of the chain, which nothing else has: of one block, of two, and so on.
fn digests(blocks: &[SignedBlock<'_>], root: &PublicKey) -> Vec<[u8; 32]> {
    let begun: [u8; 32] = Sha256::digest(root.as_bytes()).into();
    let next = |before: &mut [u8; 32], block: &SignedBlock<'_>| {
        *before = Sha256::new().chain_update(*before).chain_update(block.encoded).finalize().into();
        Some(*before)
    };
    blocks.iter().scan(begun, next).collect()
}

fn block_verifies(blocks: &[SignedBlock<'_>], at: usize, root: &PublicKey) -> bool {
    let Some(block) = blocks.get(at) else { return false };
    let previous = at.checked_sub(1).and_then(|before| blocks.get(before));
    let key = previous.map_or(root.as_bytes(), |previous| &previous.next_key);
    if !signed(key, &payload(block, previous), block.signature) {
        return false;
    }
    match (&block.external_key, block.external_signature, previous) {
        (None, None, _) => true,
        (Some(key), Some(signature), Some(previous)) => signed(key, &external_payload(block, previous), signature),
        _ => false,
    }
}

fn proof_holds(proof: &Proof<'_>, last: &SignedBlock<'_>) -> bool {
    match proof {
        Proof::Secret(secret) => SigningKey::from_bytes(secret).verifying_key().as_bytes() == &last.next_key,
        Proof::Seal(seal) => {
            let payload = [last.payload, &ALGORITHM, &last.next_key, last.signature].concat();
            signed(&last.next_key, &payload, seal)
        }
    }
}

/// What the key before it signs of a block.
fn payload(block: &SignedBlock<'_>, previous: Option<&SignedBlock<'_>>) -> Vec<u8> {
    if block.version == 0 {
        return [block.payload, &ALGORITHM, &block.next_key].concat();
    }
    let version = block.version.to_le_bytes();
    let mut payload = [
        b"\0BLOCK\0\0VERSION\0".as_slice(),
        &version,
        b"\0PAYLOAD\0",
        block.payload,
        b"\0ALGORITHM\0",
        &ALGORITHM,
        b"\0NEXTKEY\0",
        &block.next_key,
    ]
    .concat();
    if let Some(previous) = previous {
        payload.extend_from_slice(b"\0PREVSIG\0");
        payload.extend_from_slice(previous.signature);
    }
    if let Some(signature) = block.external_signature {
        payload.extend_from_slice(b"\0EXTERNALSIG\0");
        payload.extend_from_slice(signature);
    }
    payload
}

/// What a third party signs of its block: nothing of the token but the signature before it, which binds it to its place.
fn external_payload(block: &SignedBlock<'_>, previous: &SignedBlock<'_>) -> Vec<u8> {
    let version = block.version.to_le_bytes();
    [b"\0EXTERNAL\0\0VERSION\0".as_slice(), &version, b"\0PAYLOAD\0", block.payload, b"\0PREVSIG\0", previous.signature]
        .concat()
}

/// One signature check, as strict as biscuit's: no malleable signature, no weak key.
fn signed(key: &[u8; 32], payload: &[u8], signature: &Signature) -> bool {
    #[cfg(test)]
    tests::CHECKS.with(|checks| checks.set(checks.get() + 1));
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(payload, &signature).is_ok())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use biscuit_auth::builder::BlockBuilder;
    use biscuit_auth::format::SerializedBiscuit;
    use biscuit_auth::{Biscuit, KeyPair};

    use super::*;
    use crate::language::container;
    use crate::token::BLOCKS_MAX;

    thread_local! {
        /// Signature checks that this thread made.
        pub(crate) static CHECKS: Cell<usize> = const { Cell::new(0) };
    }

    /// How many signature checks something takes.
    pub(crate) fn checks<T>(of: impl FnOnce() -> T) -> (usize, T) {
        let before = CHECKS.with(Cell::get);
        let result = of();
        (CHECKS.with(Cell::get) - before, result)
    }

    fn root() -> (KeyPair, PublicKey) {
        let pair = KeyPair::new();
        let public = PublicKey::from_bytes(&pair.public().to_bytes()).unwrap();
        (pair, public)
    }

    fn with(token: &Biscuit, code: &str) -> Biscuit {
        token.append(BlockBuilder::new().code(code).unwrap()).unwrap()
    }

    /// A token of each form of signature: old and new payloads, third parties, open and sealed.
    fn tokens(root: &KeyPair) -> Vec<Vec<u8>> {
        let plain = Biscuit::builder().code("right(\"orders\", \"GET\")").unwrap().build(root).unwrap();
        let old = with(&plain, "check if operation(\"GET\")");
        let new = with(&old, "check if operation(\"GET\"), true && true");
        let party = KeyPair::new();
        let vouched = new.third_party_request().unwrap();
        let vouched = vouched.create_block(&party.private(), BlockBuilder::new().code("member(1)").unwrap()).unwrap();
        let vouched = new.append_third_party(party.public(), vouched).unwrap();
        let after = with(&vouched, "check if operation(\"GET\")");
        let lazy = "right(\"orders\", \"GET\"); check if operation(\"GET\"), true && true";
        let first = Biscuit::builder().code(lazy).unwrap().build(root).unwrap();
        let sealed = [plain.seal().unwrap(), after.seal().unwrap()];
        [plain, old, new, vouched, after, first].iter().chain(&sealed).map(|token| token.to_vec().unwrap()).collect()
    }

    fn verdict(bytes: &[u8], root: &PublicKey, prefixes: &Prefixes) -> bool {
        container(bytes).is_ok_and(|container| verifies(&container, root, prefixes, 1))
    }

    /// Law 3.
    #[test]
    fn a_chain_verifies_exactly_where_it_does_for_the_library() {
        let (pair, public) = root();
        let other = root().1;
        let known = Prefixes::default();
        for bytes in tokens(&pair) {
            assert!(verdict(&bytes, &public, &Prefixes::default()) && verdict(&bytes, &public, &known));
            assert!(!verdict(&bytes, &other, &known), "another root key");
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << (at % 8);
                let ours = verdict(&changed, &public, &known);
                let library = SerializedBiscuit::from_slice(&changed, pair.public()).is_ok();
                // What the library accepts and we do not, the container shows: such as a field that nobody knows.
                assert!(ours == library || !ours && container(&changed).is_err(), "byte {at}: {ours} {library}");
                assert_eq!(ours, verdict(&changed, &public, &Prefixes::default()), "byte {at}: memory changes nothing");
            }
        }
    }

    #[test]
    fn blocks_of_two_tokens_make_no_third_however_well_they_are_known() {
        let (pair, public) = root();
        let known = Prefixes::default();
        let plain = Biscuit::builder().code("right(\"orders\", \"GET\")").unwrap().build(&pair).unwrap();
        let [one, two] = ["check if operation(\"GET\")", "check if operation(\"PUT\")"].map(|check| {
            let token = with(&with(&plain, check), "check if true").seal().unwrap().to_vec().unwrap();
            assert!(verdict(&token, &public, &known));
            token
        });
        let (one, mut two) = (container(&one).unwrap(), container(&two).unwrap());
        two.blocks.splice(1..2, one.blocks.into_iter().skip(1).take(1));
        assert!(!verifies(&two, &public, &known, 1), "a block in another's place");
        two.blocks.remove(1);
        assert!(!verifies(&two, &public, &known, 1), "a block left out");
    }

    /// The story: a chain of 24 blocks whose last signature is wrong cost 24 signature checks each time, for the 40 bytes
    /// that name it in a compressed field section.
    #[test]
    fn what_verified_is_not_verified_again_and_a_wrong_end_costs_one_check() {
        let (pair, public) = root();
        let mut token = Biscuit::builder().code("right(\"orders\", \"GET\")").unwrap().build(&pair).unwrap();
        for _ in 1..BLOCKS_MAX {
            token = with(&token, "check if true");
        }
        let bytes = token.to_vec().unwrap();
        let whole = container(&bytes).unwrap();
        let known = Prefixes::default();
        assert_eq!(checks(|| verifies(&whole, &public, &known, 1)), (BLOCKS_MAX, true));
        assert_eq!(checks(|| verifies(&whole, &public, &known, 1)), (0, true));
        let mut wrong = container(&bytes).unwrap();
        let signature = [7; 64];
        for at in [BLOCKS_MAX - 1, BLOCKS_MAX / 2, 0] {
            wrong.blocks[at].signature = &signature;
            let encoded = [wrong.blocks[at].encoded, &[at as u8]].concat();
            let encoded: &'static [u8] = Vec::leak(encoded);
            wrong.blocks[at].encoded = encoded;
            assert_eq!(checks(|| verifies(&wrong, &public, &known, 1)), (1, false), "block {at}");
        }
        assert_eq!(checks(|| verifies(&whole, &public, &known, 2)), (BLOCKS_MAX, true), "other keys, another memory");
        assert_eq!(known.under(2).prefixes.len(), BLOCKS_MAX);
    }
}

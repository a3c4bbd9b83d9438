//! The walk over a token's protobuf encoding, before anything of it becomes data.
//!
//! Protobuf decoders are lenient so that formats can grow: an unknown field is skipped, of a repeated singular field the
//! last one wins, numbers are cut to the field's width, and an unknown enum number may be read as some default.
//! For a token each of these means that a condition which its maker wrote down is not seen by whoever
//! decides. So the encoding has to be exactly what the [schema](super::schema) describes, at every level.
//!
//! It goes in two steps, since only the first may come before the signatures: [`container`] reads the chain of signed blocks
//! and none of what they say, [`contents`] walks that.

use super::program::Key;
use super::schema::{BISCUIT, BLOCK, ED25519, Field, Form, Rule, SIGNED_BLOCK, Schema};
use super::{BLOCKS_MAX, NotAdmitted};

/// The outer container: what can be read before a signature is believed, and needs no belief.
pub(crate) struct Container<'t> {
    /// The authority first; at least that one.
    pub(crate) blocks: Vec<SignedBlock<'t>>,
    pub(crate) proof: Proof<'t>,
}

/// One block of the chain, with what its signatures cover.
pub(crate) struct SignedBlock<'t> {
    /// The whole of it, as it stands in the token.
    pub(crate) encoded: &'t [u8],
    pub(crate) payload: &'t [u8],
    pub(crate) next_key: Key,
    pub(crate) signature: &'t Signature,
    pub(crate) external_key: Option<Key>,
    pub(crate) external_signature: Option<&'t Signature>,
    /// Which form of payload the signatures cover.
    pub(crate) version: u32,
}

/// How the chain ends.
pub(crate) enum Proof<'t> {
    /// With the secret of the last next key.
    Secret(&'t Key),
    /// With a signature by the last next key.
    Seal(&'t Signature),
}

/// An Ed25519 signature.
pub(crate) type Signature = [u8; 64];

/// The newest form of signed payload, and the only one in which a third party's signature is bound to its place.
const SIGNATURE_VERSION_MAX: u64 = 1;

/// Messages within messages; the same number at which the library's decoder gives up.
const DEPTH_MAX: usize = 100;
/// The depth of a block's content: token, signed block, content.
const CONTENT_DEPTH: usize = 2;

/// Reads the outer container, every field of it but the blocks' contents.
pub(crate) fn container(token: &[u8]) -> Result<Container<'_>, NotAdmitted> {
    walk(token, &BISCUIT, 0, &mut Place::default())?;
    let mut blocks: Vec<SignedBlock<'_>> = Vec::new();
    for number in [2, 3] {
        for bytes in members(token, number) {
            if blocks.len() == BLOCKS_MAX {
                return Err(NotAdmitted::new("a long chain", None, format!("at most {BLOCKS_MAX} blocks are read")));
            }
            blocks.push(signed_block(bytes, blocks.len())?);
        }
    }
    let proof = members(token, 4).next().unwrap_or_default();
    let secret = members(proof, 1).next().and_then(|secret| secret.try_into().ok()).map(Proof::Secret);
    let seal = members(proof, 2).next().and_then(|seal| seal.try_into().ok()).map(Proof::Seal);
    let reason = "it is 32 bytes of a secret, or 64 of a signature";
    let proof = secret.or(seal).ok_or_else(|| NotAdmitted::new("a proof of another length", None, reason))?;
    Ok(Container { blocks, proof })
}

/// Walks what the blocks say, once it may be believed.
pub(crate) fn contents(container: &Container<'_>) -> Result<(), NotAdmitted> {
    for (block, signed) in container.blocks.iter().enumerate() {
        let mut place = Place { block: Some(block), appended: block };
        walk(signed.payload, &BLOCK, CONTENT_DEPTH, &mut place)?;
    }
    Ok(())
}

/// Takes a signed block apart whose encoding was walked, and insists that every key in it is an Ed25519 key.
fn signed_block(encoded: &[u8], block: usize) -> Result<SignedBlock<'_>, NotAdmitted> {
    let external = members(encoded, 4).next();
    if external.is_some() && block == 0 {
        return Err(NotAdmitted::new("an external signature", block, "only the root key vouches for this block"));
    }
    let next_key = ed25519(members(encoded, 2).next().unwrap_or_default(), "the next key", block)?;
    let external_key = external
        .and_then(|external| members(external, 2).next())
        .map(|key| ed25519(key, "the external key", block))
        .transpose()?;
    let version = number(encoded, 5).unwrap_or_default();
    // Forms that nobody knows here; and a third party's signature in the old one could be moved to another token.
    if version > SIGNATURE_VERSION_MAX || external.is_some() && version != SIGNATURE_VERSION_MAX {
        let construct = format!("the signature version {version}");
        return Err(NotAdmitted::new(
            construct,
            block,
            "what such a signature covers is not known here, or too little",
        ));
    }
    Ok(SignedBlock {
        encoded,
        payload: members(encoded, 1).next().unwrap_or_default(),
        next_key,
        signature: signature(members(encoded, 3).next(), block)?,
        external_key,
        external_signature: external.map(|external| signature(members(external, 1).next(), block)).transpose()?,
        version: u32::try_from(version).unwrap_or(u32::MAX),
    })
}

fn signature(bytes: Option<&[u8]>, block: usize) -> Result<&Signature, NotAdmitted> {
    let signature = bytes.and_then(|bytes| bytes.try_into().ok());
    signature
        .ok_or_else(|| NotAdmitted::new("a signature of another length", block, "Ed25519 signatures have 64 bytes"))
}

/// Other signature schemes can be rewritten into other valid signatures, and a signature is what revocation names.
fn ed25519(key: &[u8], which: &'static str, block: usize) -> Result<Key, NotAdmitted> {
    let algorithm = number(key, 1);
    let bytes = members(key, 2).next().and_then(|bytes| Key::try_from(bytes).ok());
    bytes.filter(|_| algorithm == Some(ED25519)).ok_or_else(|| {
        let reason = "every key that signs a part of a token has to be an Ed25519 key, else its signature \
                      could be rewritten and would escape revocation";
        NotAdmitted::new(which, block, reason)
    })
}

/// The members of a walked message that have this number and a length.
fn members(message: &[u8], wanted: u64) -> impl Iterator<Item = &[u8]> {
    Fields { bytes: message }.flatten().filter_map(move |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    })
}

/// The number that a walked message has in this field.
fn number(message: &[u8], wanted: u64) -> Option<u64> {
    Fields { bytes: message }.flatten().find_map(|(number, value)| match value {
        Value::Number(value) if number == wanted => Some(value),
        _ => None,
    })
}

/// Where the walk is, for the reader of a reason.
#[derive(Default, Clone, Copy)]
struct Place {
    block: Option<usize>,
    appended: usize,
}

fn walk(message: &[u8], schema: &'static Schema, depth: usize, place: &mut Place) -> Result<(), NotAdmitted> {
    if depth > DEPTH_MAX {
        return Err(NotAdmitted::new("a deep nesting", place.block, format!("at most {DEPTH_MAX} levels are read")));
    }
    // Field numbers are small, so a bit each remembers which were there.
    let mut seen = 0_u64;
    for item in (Fields { bytes: message }) {
        let (number, value) = item.map_err(|what| malformed(what, schema, place))?;
        let Some(field) = schema.fields.iter().find(|field| field.number == number) else {
            let reason = "its meaning is not known here, so it cannot be honoured";
            let construct = format!("the unknown field {number} of a {}", schema.name);
            return Err(NotAdmitted::new(construct, place.block, reason));
        };
        if seen & 1 << number != 0 && field.rule != Rule::Repeated {
            let construct = format!("a second {} of one {}", field.name, schema.name);
            return Err(NotAdmitted::new(construct, place.block, "readers could differ on which of them counts"));
        }
        seen |= 1 << number;
        walk_field(field, value, schema, depth, place)?;
    }
    let missing = schema.fields.iter().find(|field| field.rule == Rule::Required && seen & 1 << field.number == 0);
    if let Some(field) = missing {
        return Err(malformed(&format!("it has no {}", field.name), schema, place));
    }
    if schema.exclusive && seen.count_ones() != 1 {
        return Err(malformed("it has to have exactly one content", schema, place));
    }
    Ok(())
}

fn walk_field(
    field: &'static Field,
    value: Value<'_>,
    schema: &'static Schema,
    depth: usize,
    place: &mut Place,
) -> Result<(), NotAdmitted> {
    match (&field.form, value) {
        (Form::Number(max), Value::Number(number)) if number > *max => {
            let construct = format!("the unknown {} {number}", field.name);
            Err(NotAdmitted::new(construct, place.block, "its meaning is not known here, so it cannot be honoured"))
        }
        (Form::Number(_) | Form::Signed, Value::Number(_)) | (Form::Bytes, Value::Bytes(_)) => Ok(()),
        // What a block says is looked at by `contents`, after its signature.
        (Form::Content, Value::Bytes(_)) => Ok(()),
        (Form::Message(inner), Value::Bytes(bytes)) => {
            let outer = *place;
            if std::ptr::eq(*inner, &SIGNED_BLOCK) {
                place.appended += usize::from(field.rule == Rule::Repeated);
                place.block = Some(if field.rule == Rule::Repeated { place.appended } else { 0 });
            }
            walk(bytes, inner, depth + 1, place)?;
            place.block = outer.block;
            Ok(())
        }
        _ => Err(malformed(&format!("its {} has another type", field.name), schema, place)),
    }
}

fn malformed(what: &str, schema: &Schema, place: &Place) -> NotAdmitted {
    NotAdmitted::new(format!("a malformed {}", schema.name), place.block, what.to_owned())
}

enum Value<'t> {
    Number(u64),
    Bytes(&'t [u8]),
    /// Fixed-width numbers, which the schema does not use.
    Fixed,
}

/// The fields of one message. Ends after the first error.
struct Fields<'t> {
    bytes: &'t [u8],
}

impl<'t> Iterator for Fields<'t> {
    type Item = Result<(u64, Value<'t>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.bytes = &[];
        }
        Some(field)
    }
}

impl<'t> Fields<'t> {
    fn field(&mut self) -> Result<(u64, Value<'t>), &'static str> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err("it holds a field of a type that no longer exists"),
        };
        Ok((key >> 3, value))
    }

    /// A number in its shortest form: a longer one says the same in other bytes, and every writer writes the shortest.
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0_u64;
        for (at, &byte) in self.bytes.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return Err("a number in it is too large");
            }
            number |= u64::from(byte & 0x7F) << (7 * at);
            if byte & 0x80 == 0 {
                if byte == 0 && at > 0 {
                    return Err("a number in it is not in its shortest form");
                }
                self.bytes = &self.bytes[at + 1..];
                return Ok(number);
            }
        }
        Err("it ends within a number")
    }

    fn take(&mut self, length: usize) -> Result<&'t [u8], &'static str> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or("it ends before one of its fields does")?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit;
    use super::super::schema::CLOSURE;
    use super::super::testing::{block, block_with, crafted, query, token, truth};
    use super::*;
    use biscuit_auth::format::schema;
    use prost::Message as _;

    /// A field with a length.
    fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    /// A token whose authority block has this content.
    fn with_content(content: &[u8]) -> Vec<u8> {
        let mut proto = schema::Biscuit::decode(&crafted(&block(&[]))[..]).unwrap();
        proto.authority.block = content.to_vec();
        proto.encode_to_vec()
    }

    /// A token whose only check is this, encoded.
    fn with_check(check: &[u8]) -> Vec<u8> {
        with_content(&[block(&[]).encode_to_vec(), bytes_field(6, check)].concat())
    }

    fn construct(token: &[u8]) -> String {
        admit(token).expect_err("not admitted").construct.into_owned()
    }

    const UNKNOWN: [u8; 2] = [15 << 3, 1];

    #[test]
    fn an_unknown_field_is_refused_at_every_level() {
        let query = query(vec![], vec![vec![truth(true)]]);
        let whole = crafted(&block_with(query.clone()));
        assert!(admit(&whole).is_ok());
        assert_eq!(construct(&[&whole[..], &UNKNOWN].concat()), "the unknown field 15 of a token");

        let mut proto = schema::Biscuit::decode(&whole[..]).unwrap();
        let key = [proto.authority.next_key.encode_to_vec(), UNKNOWN.to_vec()].concat();
        let signed = [bytes_field(1, &proto.authority.block), bytes_field(2, &key), bytes_field(3, &[0])].concat();
        let proof = bytes_field(4, &proto.proof.encode_to_vec());
        let chain = [bytes_field(2, &signed), proof.clone()].concat();
        assert_eq!(construct(&chain), "the unknown field 15 of a public key");
        let signed = [proto.authority.encode_to_vec(), UNKNOWN.to_vec()].concat();
        let chain = |signed: &[u8]| {
            let length = u8::try_from(signed.len() & 0x7F | 0x80).unwrap();
            [&[0x12, length, u8::try_from(signed.len() >> 7).unwrap()], signed, &proof[..]].concat()
        };
        assert_eq!(construct(&chain(&signed)), "the unknown field 15 of a signed block");

        proto.authority.block.extend(UNKNOWN);
        let refused = admit(&proto.encode_to_vec()).unwrap_err();
        assert_eq!((&*refused.construct, refused.block), ("the unknown field 15 of a block", Some(0)));

        let query = query.encode_to_vec();
        let levels: [(&str, Vec<u8>); 3] = [
            ("check", [bytes_field(1, &query), UNKNOWN.to_vec()].concat()),
            ("query", bytes_field(1, &[query.clone(), UNKNOWN.to_vec()].concat())),
            ("predicate", bytes_field(1, &[query.clone(), bytes_field(2, &[&[8, 0][..], &UNKNOWN].concat())].concat())),
        ];
        for (level, check) in levels {
            assert_eq!(construct(&with_check(&check)), format!("the unknown field 15 of a {level}"));
        }
        // Within an expression: expression, operation, value, operator, closure.
        let expression = |bytes: &[u8]| {
            with_check(&bytes_field(1, &[&bytes_field(1, &[8, 27])[..], &bytes_field(3, bytes)].concat()))
        };
        for (level, bytes) in [
            ("expression", UNKNOWN.to_vec()),
            ("operation", bytes_field(1, &UNKNOWN)),
            ("term", bytes_field(1, &bytes_field(1, &UNKNOWN))),
            ("unary operator", bytes_field(1, &bytes_field(2, &[&[8, 0][..], &UNKNOWN].concat()))),
            ("binary operator", bytes_field(1, &bytes_field(3, &[&[8, 4][..], &UNKNOWN].concat()))),
            ("closure", bytes_field(1, &bytes_field(4, &UNKNOWN))),
        ] {
            assert_eq!(construct(&expression(&bytes)), format!("the unknown field 15 of a {level}"));
        }
    }

    #[test]
    fn unknown_numbers_of_enums_are_refused() {
        let expression = |op: &[u8]| {
            let expression = bytes_field(3, &bytes_field(1, op));
            with_check(&bytes_field(1, &[&bytes_field(1, &[8, 27])[..], &expression].concat()))
        };
        assert_eq!(construct(&expression(&bytes_field(2, &[8, 5]))), "the unknown kind of unary operator 5");
        assert_eq!(construct(&expression(&bytes_field(3, &[8, 30]))), "the unknown kind of binary operator 30");
        let scope = bytes_field(7, &[8, 2]);
        assert_eq!(construct(&with_content(&[block(&[]).encode_to_vec(), scope].concat())), "the unknown scope type 2");
        assert_eq!(construct(&with_check(&[16, 3])), "the unknown check kind 3");
        let boolean = bytes_field(1, &[6 << 3, 2]);
        assert_eq!(construct(&expression(&boolean)), "the unknown boolean 2");
    }

    #[test]
    fn of_two_where_one_belongs_neither_is_believed() {
        let check = [[16, 1], [16, 0]].concat();
        assert_eq!(construct(&with_check(&check)), "a second check kind of one check");
        let version = [block(&[]).encode_to_vec(), vec![24, 6]].concat();
        assert_eq!(construct(&with_content(&version)), "a second version of one block");
        let fact = |term: &[u8]| {
            let fact = bytes_field(4, &bytes_field(1, &[&[8, 6][..], &bytes_field(2, term)].concat()));
            with_content(&[block(&[]).encode_to_vec(), fact].concat())
        };
        assert!(admit(&fact(&[16, 1])).is_ok());
        assert_eq!(construct(&fact(&[16, 1, 48, 1])), "a malformed term");
        assert_eq!(construct(&fact(&[])), "a malformed term");
    }

    #[test]
    fn numbers_have_one_form_and_fit_their_field() {
        let content = |number: &[u8]| with_content(&[&[24][..], number].concat());
        assert!(admit(&content(&[6])).is_ok());
        assert_eq!(construct(&content(&[0x86, 0])), "a malformed block");
        assert_eq!(construct(&content(&[0x86, 0x80, 0x80, 0x80, 0x10])), "the unknown version 4294967302");
        assert_eq!(construct(&content(&[0xFF; 11])), "a malformed block");
        assert_eq!(construct(&with_content(&[29, 6, 0, 0, 0])), "a malformed block");
    }

    #[test]
    fn nested_closures_end_before_the_stack_does() {
        let mut closure = Vec::new();
        for _ in 0..200 {
            let operation = [
                &[0x22, u8::try_from(closure.len() & 0x7F | 0x80).unwrap(), u8::try_from(closure.len() >> 7).unwrap()],
                &closure[..],
            ]
            .concat();
            closure = [
                &[
                    0x12,
                    u8::try_from(operation.len() & 0x7F | 0x80).unwrap(),
                    u8::try_from(operation.len() >> 7).unwrap(),
                ],
                &operation[..],
            ]
            .concat();
        }
        let mut place = Place::default();
        assert!(walk(&closure, &CLOSURE, 0, &mut place).is_err());
    }

    #[test]
    fn every_signing_key_is_an_ed25519_key() {
        use biscuit_auth::builder::{Algorithm, BlockBuilder};
        let p256 = || biscuit_auth::KeyPair::new_with_algorithm(Algorithm::Secp256r1);
        let root = biscuit_auth::KeyPair::new();
        let token = biscuit_auth::Biscuit::builder().build(&root).unwrap();
        let next = token.append_with_keypair(&p256(), BlockBuilder::new()).unwrap();
        let refused = admit(&next.to_vec().unwrap()).unwrap_err();
        assert_eq!((&*refused.construct, refused.block), ("the next key", Some(1)));

        let external = p256();
        let request = token.third_party_request().unwrap();
        let signed = request.create_block(&external.private(), BlockBuilder::new()).unwrap();
        let vouched = token.append_third_party(external.public(), signed).unwrap();
        let refused = admit(&vouched.to_vec().unwrap()).unwrap_err();
        assert_eq!((&*refused.construct, refused.block), ("the external key", Some(1)));
    }

    #[test]
    fn long_chains_are_refused() {
        let blocks = |count: usize| vec!["check if true"; count - 1];
        assert!(admit(&token("", &blocks(BLOCKS_MAX))).is_ok());
        assert_eq!(construct(&token("", &blocks(BLOCKS_MAX + 1))), "a long chain");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // Each truncation, and each byte replaced by a few others, of a token with a bit of everything.
        let whole = token(
            "right(\"orders\", \"GET\"); owner(\"alice\", {1, 2}, hex:00ff);",
            &["check if time($t), $t <= 2030-01-01T00:00:00Z or path($p), $p.length() > 3 && !false trusting previous"],
        );
        for at in 0..whole.len() {
            let _either = admit(&whole[..at]);
            for byte in [0, 1, 0x7F, 0x80, 0xFF, whole[at] ^ 1, whole[at] ^ 8] {
                let mut changed = whole.clone();
                changed[at] = byte;
                if let Ok(program) = admit(&changed) {
                    let plan = super::super::Plan::compile(program);
                    plan.checks().for_each(|check| assert!(!check.text().is_empty()));
                    plan.evaluate(&super::super::testing::message(), &[]);
                }
            }
        }
    }
}

//! Tokens for the tests of this module: from source text, and from structures that no builder would make.

use biscuit_auth::builder::BlockBuilder;
use biscuit_auth::format::schema::{self, op, term};
use biscuit_auth::{Biscuit, KeyPair};
use prost::Message as _;

use super::{NotAdmitted, Plan, Verdict, admit};
use crate::message::Message;

/// The bytes of a token with this authority block and these first-party blocks.
pub(super) fn token(authority: &str, appended: &[&str]) -> Vec<u8> {
    let mut token = Biscuit::builder().code(authority).unwrap().build(&KeyPair::new()).unwrap();
    for block in appended {
        token = token.append(BlockBuilder::new().code(block).unwrap()).unwrap();
    }
    token.to_vec().unwrap()
}

/// The plan of a token with this authority block alone.
pub(super) fn plan(authority: &str) -> Plan {
    Plan::compile(admit(&token(authority, &[])).unwrap())
}

/// What a token's checks say of `GET /v1/orders/42` on `orders`.
pub(super) fn verdict(authority: &str) -> Verdict {
    plan(authority).evaluate(&message(), &[])
}

pub(super) fn message() -> Message<'static> {
    Message::new("orders", "GET", "/v1/orders/42", 1_800_000_000, [10, 1, 2, 3].into())
}

/// Why this authority block is refused.
pub(super) fn refused(authority: &str) -> NotAdmitted {
    admit(&token(authority, &[])).expect_err(authority)
}

/// A token whose authority block is this structure. Its signatures are nonsense: admission comes after them.
pub(super) fn crafted(block: &schema::Block) -> Vec<u8> {
    crafted_chain(&[(block, None)])
}

/// A token with these blocks, each perhaps with the external key that a third party signed it by.
pub(super) fn crafted_chain(blocks: &[(&schema::Block, Option<[u8; 32]>)]) -> Vec<u8> {
    let key = |key: [u8; 32]| schema::PublicKey { algorithm: 0, key: key.to_vec() };
    let mut signed = blocks.iter().map(|(block, external)| schema::SignedBlock {
        block: block.encode_to_vec(),
        next_key: key(POINT),
        signature: vec![0; 64],
        external_signature: external
            .map(|external| schema::ExternalSignature { signature: vec![0; 64], public_key: key(external) }),
        version: Some(1),
    });
    let authority = signed.next().unwrap();
    let proof = schema::Proof { content: Some(schema::proof::Content::NextSecret(vec![7; 32])) };
    schema::Biscuit { root_key_id: None, authority, blocks: signed.collect(), proof }.encode_to_vec()
}

/// A point of the curve, so that it passes for a key.
pub(super) const POINT: [u8; 32] = [
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
];

/// The identity, another point.
pub(super) const OTHER_POINT: [u8; 32] = {
    let mut point = [0; 32];
    point[0] = 1;
    point
};

/// A block of the newest version with these symbols and nothing else.
pub(super) fn block(symbols: &[&str]) -> schema::Block {
    schema::Block {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        context: None,
        version: Some(6),
        facts: Vec::new(),
        rules: Vec::new(),
        checks: Vec::new(),
        scope: Vec::new(),
        public_keys: Vec::new(),
    }
}

/// The symbol `query`, which heads every query.
pub(super) const QUERY: u64 = 27;
/// The symbol `time`.
pub(super) const TIME: u64 = 5;
/// The first symbol of a block's own.
pub(super) const OWN: u64 = 1024;

pub(super) fn predicate(name: u64, terms: Vec<schema::Term>) -> schema::Predicate {
    schema::Predicate { name, terms }
}

pub(super) fn term(content: term::Content) -> schema::Term {
    schema::Term { content: Some(content) }
}

pub(super) fn query(body: Vec<schema::Predicate>, expressions: Vec<Vec<schema::Op>>) -> schema::Rule {
    let expressions = expressions.into_iter().map(|ops| schema::Expression { ops }).collect();
    schema::Rule { head: predicate(QUERY, Vec::new()), body, expressions, scope: Vec::new() }
}

/// A block with one check of this query.
pub(super) fn block_with(query: schema::Rule) -> schema::Block {
    schema::Block { checks: vec![schema::Check { queries: vec![query], kind: None }], ..block(&["a", "b"]) }
}

pub(super) fn value(content: term::Content) -> schema::Op {
    schema::Op { content: Some(op::Content::Value(term(content))) }
}

pub(super) fn truth(truth: bool) -> schema::Op {
    value(term::Content::Bool(truth))
}

pub(super) fn unary(kind: i32) -> schema::Op {
    schema::Op { content: Some(op::Content::Unary(schema::OpUnary { kind, ffi_name: None })) }
}

pub(super) fn binary(kind: i32) -> schema::Op {
    schema::Op { content: Some(op::Content::Binary(schema::OpBinary { kind, ffi_name: None })) }
}

pub(super) fn closure(params: Vec<u32>, ops: Vec<schema::Op>) -> schema::Op {
    schema::Op { content: Some(op::Content::Closure(schema::OpClosure { params, ops })) }
}

pub(super) fn admitted(authority: &str) -> bool {
    admit(&token(authority, &[])).is_ok()
}

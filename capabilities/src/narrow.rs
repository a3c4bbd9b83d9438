//! Narrowing a token to exactly one message, at the rate of messages.
//!
//! What a gateway hands to a backend in place of its caller's token: the same token with one more block, sealed. The block holds
//! two checks, so that a token that is too old is refused as expired and not as a caveat among others:
//!
//! ```text
//! check if time($time), $time <= UNTIL
//! check if resource("orders"), operation("GET"), path("/v1/orders/42"), query_string(""), backend("orders")
//! ```
//!
//! Where the token's caveats ask who the message's client is, one more block says it: a [`statement`].
//!
//! Only a backend's verifier supplies `backend(…)`, so a gateway refuses the result, and so does every other backend.
//! Narrowing believes nothing of the token and takes nothing from it: earlier blocks, third parties' among them,
//! stay byte for byte as they were, with their revocation ids.
//!
//! [`attenuate`](crate::attenuate()) can do the same and costs three signatures and several readings of the token. Here the token
//! is read once ([`Narrowable`]), and each message costs two: one by the token's own next key over the new
//! block, one by the [`Narrower`]'s over the seal. The narrower's key is the next key of every block that it appends. That is safe because
//! nobody else has it, and each seal is a signature over its own block's signature; it shows a backend which tokens came
//! through one gateway process, and nothing else.

use biscuit_auth::KeyPair;
use biscuit_auth::builder::Algorithm;
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::schema::{self, op, op_binary, proof, term};
use prost::Message as _;
use prost::encoding;
use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::keys::SigningKey;
use crate::language::{BYTES_PER_STEP, CONTENT_BYTES_MAX};
use crate::message::{Message, Needs};
use crate::statement;
use crate::text::{self, TokenText};
use crate::token::{BLOCKS_MAX, Capability, TOKEN_TEXT_BYTES_MAX, with_dates};

/// Numbers from here on name a token's own symbols; those below are every token's.
const FIRST_OWN_SYMBOL: u64 = 1024;
/// The version of a block that holds nothing newer than the first published language.
const BLOCK_VERSION: u32 = 3;
/// The steps that the two checks cost, long texts aside: a query and a predicate are one each, an expression is three.
const PRICE: u64 = 2 + 6 + 3;
/// Bytes that the two checks say besides the message's own texts: names and variables, each use counted.
const CONTENT_BYTES: usize = 128;

/// What narrows: the key that ends every token narrowed here. Made afresh at each start, and never written down.
pub struct Narrower {
    next: KeyPair,
    next_key: schema::PublicKey,
    defaults: SymbolTable,
    budget: u64,
    /// What signs statements; `None`: the narrower makes none.
    statement: Option<KeyPair>,
}

/// The version of signatures under which third parties may sign (biscuit specification, section "Signatures").
const STATEMENT_SIGNATURE_VERSION: u32 = 1;

impl Narrower {
    /// A narrower with a fresh key, for verifiers that spend so many steps.
    pub fn new(budget: u64) -> Self {
        Self::with_rng(budget, &mut rand::rngs::OsRng)
    }

    /// [`Narrower::new`] with randomness of the caller's choice, for test vectors that must come out the same every time.
    pub fn with_rng(budget: u64, rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let next = KeyPair::new_with_rng(Algorithm::Ed25519, rng);
        let next_key = next.public().to_proto();
        Self { next, next_key, defaults: SymbolTable::new(), budget, statement: None }
    }

    /// States who a message's client is, by this key, where the caveats of its token ask.
    pub fn stating(mut self, key: &SigningKey) -> Self {
        self.statement = Some(key.pair());
        self
    }

    /// The token, narrowed to this message and to the backend that its resource is, until this second, and sealed.
    ///
    /// # Errors
    /// The result would be longer, or dearer, than verifiers accept.
    pub fn narrow(&self, token: &Narrowable, message: &Message<'_>, until: u64) -> Result<TokenText, NotNarrowable> {
        let texts = [message.resource, message.operation, message.path, message.query_string, message.resource];
        // As `language::price` counts: a literal costs a step for each 64 bytes of it that are compared.
        let price = texts.iter().fold(token.price.saturating_add(PRICE), |sum, text| sum.saturating_add(steps(text)));
        let price = with_dates(price, token.dates);
        if price > self.budget {
            return Err(NotNarrowable::OverBudget { price, budget: self.budget });
        }
        let facts = self.statement.as_ref().map(|_| statement::asked_of(token.needs, message)).unwrap_or_default();
        let stated = facts.iter().fold(0, |sum, (name, text)| sum + name.len() + text.len());
        if texts.iter().fold(token.content + stated + CONTENT_BYTES, |sum, text| sum + text.len()) > CONTENT_BYTES_MAX {
            return Err(NotNarrowable::TooMuchContent);
        }
        let block = self.block(token, message, until).encode_to_vec();
        let appended =
            Appended { block, previous: &token.last_signature, external: None, version: token.signature_version };
        let mut last = self.sign(&token.secret, appended)?;

        let mut bytes = Zeroizing::new(Vec::with_capacity(token.blocks.len() + last.block.len() + 512));
        bytes.extend_from_slice(&token.blocks);
        encoding::message::encode(3, &last, &mut *bytes);
        if let Some(key) = self.statement.as_ref().filter(|_| !facts.is_empty()) {
            if token.chain >= BLOCKS_MAX {
                return Err(NotNarrowable::TooManyBlocks);
            }
            last = self.state(key, &facts, &last.signature)?;
            encoding::message::encode(3, &last, &mut *bytes);
        }
        let seal = [&last.block[..], &0_i32.to_le_bytes(), &self.next_key.key, &last.signature].concat();
        let seal = self.next.sign(&seal).map_err(|_| NotNarrowable::Damaged)?;
        let proof = schema::Proof { content: Some(proof::Content::FinalSignature(seal.to_bytes().to_vec())) };
        encoding::message::encode(4, &proof, &mut *bytes);
        let text = text::encode(&bytes);
        match text.expose().len() {
            length if length > TOKEN_TEXT_BYTES_MAX => Err(NotNarrowable::TooLong { length }),
            _ => Ok(text),
        }
    }

    /// The block that says these facts, signed by the statement key as a third party and appended by this narrower.
    fn state(
        &self,
        key: &KeyPair,
        facts: &[(&'static str, String)],
        previous: &[u8],
    ) -> Result<schema::SignedBlock, NotNarrowable> {
        let block = statement::block(&self.defaults, facts).encode_to_vec();
        let version = STATEMENT_SIGNATURE_VERSION;
        let signed = [
            b"\0EXTERNAL\0\0VERSION\0".as_slice(),
            &version.to_le_bytes(),
            b"\0PAYLOAD\0",
            &block,
            b"\0PREVSIG\0",
            previous,
        ]
        .concat();
        let signature = key.sign(&signed).map_err(|_| NotNarrowable::Damaged)?.to_bytes().to_vec();
        let external = Some(schema::ExternalSignature { signature, public_key: key.public().to_proto() });
        self.sign(&self.next, Appended { block, previous, external, version })
    }

    /// The signature by which the token's holder, who has its next key, appends a block (biscuit specification,
    /// section "Signatures").
    fn sign(&self, holder: &KeyPair, appended: Appended<'_>) -> Result<schema::SignedBlock, NotNarrowable> {
        let Appended { block, previous, external: external_signature, version } = appended;
        let (algorithm, next_key) = (0_i32.to_le_bytes(), &self.next_key.key[..]);
        let signed = match version {
            0 => [&block, algorithm.as_slice(), next_key].concat(),
            _ => {
                let mut signed = [
                    b"\0BLOCK\0\0VERSION\0".as_slice(),
                    &version.to_le_bytes(),
                    b"\0PAYLOAD\0",
                    &block,
                    b"\0ALGORITHM\0",
                    &algorithm,
                    b"\0NEXTKEY\0",
                    next_key,
                    b"\0PREVSIG\0",
                    previous,
                ]
                .concat();
                if let Some(external) = &external_signature {
                    signed.extend_from_slice(b"\0EXTERNALSIG\0");
                    signed.extend_from_slice(&external.signature);
                }
                signed
            }
        };
        let signature = holder.sign(&signed).map_err(|_| NotNarrowable::Damaged)?.to_bytes().to_vec();
        let version = (version > 0).then_some(version);
        Ok(schema::SignedBlock { block, next_key: self.next_key.clone(), signature, external_signature, version })
    }

    /// The block's content.
    fn block(&self, token: &Narrowable, message: &Message<'_>, until: u64) -> schema::Block {
        let mut symbols = Symbols { defaults: &self.defaults, earlier: &token.symbols, own: Vec::new() };
        let head = schema::Predicate { name: symbols.number("query"), terms: Vec::new() };
        let time = symbols.number("time");
        // A variable goes by the number of its name, and the shared symbols are few.
        let variable = term(term::Content::Variable(u32::try_from(time).unwrap_or_default()));
        let at_most = schema::OpBinary { kind: op_binary::Kind::LessOrEqual as i32, ffi_name: None };
        let ops = [
            op::Content::Value(variable.clone()),
            op::Content::Value(term(term::Content::Date(until))),
            op::Content::Binary(at_most),
        ];
        let ops = ops.map(|content| schema::Op { content: Some(content) }).to_vec();
        let expiry = schema::Rule {
            head: head.clone(),
            body: vec![schema::Predicate { name: time, terms: vec![variable] }],
            expressions: vec![schema::Expression { ops }],
            scope: Vec::new(),
        };
        let facts = [
            ("resource", message.resource),
            ("operation", message.operation),
            ("path", message.path),
            ("query_string", message.query_string),
            ("backend", message.resource),
        ];
        let body = facts.map(|(name, text)| {
            let (name, text) = (symbols.number(name), symbols.number(text));
            schema::Predicate { name, terms: vec![term(term::Content::String(text))] }
        });
        let this = schema::Rule { head, body: body.to_vec(), expressions: Vec::new(), scope: Vec::new() };
        let check = |query| schema::Check { queries: vec![query], kind: None };
        schema::Block {
            symbols: symbols.own,
            context: None,
            version: Some(BLOCK_VERSION),
            facts: Vec::new(),
            rules: Vec::new(),
            checks: vec![check(expiry), check(this)],
            scope: Vec::new(),
            public_keys: Vec::new(),
        }
    }
}

/// A block that is to be appended.
struct Appended<'a> {
    block: Vec<u8>,
    /// The signature of the block before it.
    previous: &'a [u8],
    external: Option<schema::ExternalSignature>,
    /// The version of its signatures.
    version: u32,
}

fn steps(text: &str) -> u64 {
    u64::try_from(text.len() / BYTES_PER_STEP).unwrap_or(u64::MAX)
}

fn term(content: term::Content) -> schema::Term {
    schema::Term { content: Some(content) }
}

/// Numbers for texts: the shared ones, those of the token, and new ones.
pub(crate) struct Symbols<'s> {
    pub(crate) defaults: &'s SymbolTable,
    pub(crate) earlier: &'s [Box<str>],
    pub(crate) own: Vec<String>,
}

impl Symbols<'_> {
    pub(crate) fn number(&mut self, text: &str) -> u64 {
        let at = |index: usize| FIRST_OWN_SYMBOL + index as u64;
        if let Some(shared) = self.defaults.get(text) {
            return shared;
        }
        if let Some(index) = self.earlier.iter().position(|symbol| **symbol == *text) {
            return at(index);
        }
        let index = self.own.iter().position(|symbol| symbol == text).unwrap_or_else(|| {
            self.own.push(text.to_owned());
            self.own.len() - 1
        });
        at(self.earlier.len() + index)
    }
}

/// A verified token, read for narrowing. It holds the secret by which its holder appends, so it has no way to be
/// printed, and is as secret as the token itself.
pub struct Narrowable {
    /// The token up to its proof.
    blocks: Box<[u8]>,
    /// What its authority and first-party blocks name.
    symbols: Box<[Box<str>]>,
    secret: KeyPair,
    last_signature: Vec<u8>,
    signature_version: u32,
    price: u64,
    /// The dates that the result's price is counted for.
    dates: u64,
    content: usize,
    needs: Needs,
    /// How many blocks it has once it is narrowed, without a statement.
    chain: usize,
}

impl Narrowable {
    /// Reads the text of a token that verified as this capability.
    ///
    /// # Errors
    /// The token is sealed, or its chain is as long as it may be.
    pub fn of(token: &str, capability: &Capability) -> Result<Self, NotNarrowable> {
        if capability.is_sealed() {
            return Err(NotNarrowable::Sealed);
        }
        let bytes = text::decode(token).map_err(|_| NotNarrowable::Damaged)?;
        let token = schema::Biscuit::decode(&bytes[..]).map_err(|_| NotNarrowable::Damaged)?;
        if token.blocks.len() + 2 > BLOCKS_MAX {
            return Err(NotNarrowable::TooManyBlocks);
        }
        let Some(proof::Content::NextSecret(secret)) = token.proof.content else { return Err(NotNarrowable::Damaged) };
        let secret = Zeroizing::new(secret);
        let secret = KeyPair::from_bytes(&secret, Algorithm::Ed25519.into()).map_err(|_| NotNarrowable::Damaged)?;
        let chain = || std::iter::once(&token.authority).chain(&token.blocks);
        let mut symbols = Vec::new();
        for block in chain().filter(|block| block.external_signature.is_none()) {
            let block = schema::Block::decode(&block.block[..]).map_err(|_| NotNarrowable::Damaged)?;
            symbols.extend(block.symbols.into_iter().map(String::into_boxed_str));
        }
        let mut blocks = Vec::with_capacity(bytes.len());
        if let Some(id) = token.root_key_id {
            encoding::uint32::encode(1, &id, &mut blocks);
        }
        encoding::message::encode(2, &token.authority, &mut blocks);
        encoding::message::encode_repeated(3, &token.blocks, &mut blocks);
        Ok(Self {
            blocks: blocks.into(),
            symbols: symbols.into(),
            secret,
            last_signature: chain().last().map(|block| block.signature.clone()).unwrap_or_default(),
            // A chain never falls back to an earlier version of its signatures.
            signature_version: chain().filter_map(|block| block.version).max().unwrap_or(0),
            price: capability.price(),
            // The new block expires, and all expiries are one date.
            dates: capability.dates_counted() + u64::from(capability.expires_at().is_none()),
            content: capability.plan().content_bytes(),
            needs: capability.needs(),
            chain: token.blocks.len() + 2,
        })
    }

    /// How many bytes it takes, about.
    pub fn size(&self) -> usize {
        self.blocks.len() * 2
    }
}

/// Why a token cannot be narrowed to a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNarrowable {
    /// Sealed tokens stay what they are.
    #[error(
        "the token is sealed, so it cannot be narrowed to this message, which is how this resource's service gets it; \
         present a token that is not sealed"
    )]
    Sealed,
    /// The chain is as long as it may be.
    #[error(
        "the token has {BLOCKS_MAX} blocks already, so it cannot be narrowed to this message; present a shorter one"
    )]
    TooManyBlocks,
    /// The text would be longer than is read.
    #[error(
        "narrowed to this message the token has {length} characters, and at most {TOKEN_TEXT_BYTES_MAX} are read; \
         present a shorter token, or ask for less in the path and query"
    )]
    TooLong {
        /// How long it would be.
        length: usize,
    },
    /// Deciding with the result could take too long.
    #[error(
        "narrowed to this message the token can take {price} steps to decide, and at most {budget} are spent; present one with simpler checks"
    )]
    OverBudget {
        /// What it can cost.
        price: u64,
        /// What is spent.
        budget: u64,
    },
    /// It would say more than a token may.
    #[error(
        "narrowed to this message the token would say more than {CONTENT_BYTES_MAX} bytes; present one that says less"
    )]
    TooMuchContent,
    /// It cannot be read. A token that verified can.
    #[error("the token is damaged: no block can be appended to it")]
    Damaged,
}

impl NotNarrowable {
    /// The stable problem type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sealed => "sealed-token",
            Self::TooManyBlocks
            | Self::TooLong { .. }
            | Self::OverBudget { .. }
            | Self::TooMuchContent
            | Self::Damaged => "not-narrowable",
        }
    }
}

#[cfg(test)]
mod tests;

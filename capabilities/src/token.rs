//! From text to [`Capability`]: what a token has to survive before anything of it is believed.
//!
//! In this order, each step cheap enough for what was established before it: length, base64, the outer message with its
//! number of blocks ([`Unverified`]); then the container, with every key's algorithm, all of which is one refusal
//! ([`NotVerified::Container`]); then the signatures under a live key ([`chain`](crate::chain)); then every block's
//! structure; then rights, price and plan ([`Capability`]). Reasons that speak of a token's content are given
//! only after its signature was verified.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::authorize::Refusal;
use crate::chain::{self, Prefixes};
use crate::keys::{KeyEntry, KeyId, KeyState, PublicKey};
use crate::language::{self, ArgumentNames, Container, Plan, Program};
use crate::message::{Message, Needs, QueryError, QueryFacts, query_facts};
use crate::outer::{self, Proof};
use crate::resource::Right;
use crate::revocation::{RevocationId, Standing};
use crate::statement::Statement;
use crate::text;

pub use crate::language::{BLOCKS_MAX, CONTENT_BYTES_MAX, FACTS_MAX, NotAdmitted, Price};
pub use crate::text::TOKEN_TEXT_BYTES_MAX;

/// Most evaluation steps that one decision may take, in the worst case, unless a gateway is configured otherwise.
pub const PRICE_BUDGET_DEFAULT: u64 = 10_000;

/// A token that was read and found to be within bounds. Nothing of it is believed.
pub struct Unverified {
    /// Holds the secret that lets its holder append, hence wiped and never printed.
    bytes: Zeroizing<Vec<u8>>,
    root_key_id: Option<KeyId>,
    revocation_ids: Vec<RevocationId>,
    block_count: usize,
    is_sealed: bool,
}

impl Unverified {
    /// Reads a token's text: base64url, padding optional, `biscuit:` in front optional.
    pub fn parse(text: &str) -> Result<Self, Unreadable> {
        let bytes = text::decode(text)?;
        let outer = outer::read(&bytes)?;
        let root_key_id = outer.root_key_id.map(KeyId);
        let revocation_ids = outer.revocation_ids();
        let block_count = outer.signatures.len();
        let is_sealed = outer.proof == Proof::Sealed;
        drop(outer);
        Ok(Self { bytes, root_key_id, revocation_ids, block_count, is_sealed })
    }

    /// What the blocks are revoked by, the authority first: enough to revoke a token that cannot be verified here. Empty
    /// where a signature cannot be an Ed25519 one, in which case no gateway accepts the token anyway.
    pub fn revocation_ids(&self) -> &[RevocationId] {
        &self.revocation_ids
    }

    /// The number of the key that it says it was signed with. Only a hint.
    pub fn root_key_id(&self) -> Option<KeyId> {
        self.root_key_id
    }

    /// Whether it says that it cannot be narrowed any further.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// How many blocks it has, the authority among them.
    pub fn block_count(&self) -> usize {
        self.block_count
    }

    /// Verifies the whole chain under a live key, then reads, prices and compiles what it says.
    pub fn verify(self, standing: &Standing, budget: u64) -> Result<Capability, NotVerified> {
        self.verify_knowing(standing, budget, &Prefixes::default())
    }

    /// [`verify`](Self::verify), where beginnings of chains that verified before are remembered, and of a chain that begins
    /// like one of them only the rest is verified.
    pub fn verify_knowing(
        self,
        standing: &Standing,
        budget: u64,
        prefixes: &Prefixes,
    ) -> Result<Capability, NotVerified> {
        let (key, program) = {
            let container = language::container(&self.bytes).map_err(|_| NotVerified::Container)?;
            let key = self.key_of(&container, standing, prefixes)?;
            (key, language::admit_contents(&container)?)
        };
        let plan = plan(program, budget)?;
        if plan.statement().is_some_and(|statement| !standing.states(&statement.key)) {
            return Err(NotVerified::UnknownStatement);
        }
        if self.revocation_ids.len() != self.block_count {
            // Cannot be: every signature was verified as an Ed25519 one. But a block without an id could not be revoked.
            return Err(NotVerified::BadSignature);
        }
        let short_id = self.revocation_ids.last().map(RevocationId::short).unwrap_or_default();
        Ok(Capability {
            rights: plan.rights().into(),
            revocation_ids: self.revocation_ids.into(),
            root_key: key,
            is_sealed: self.is_sealed,
            short_id: short_id.into(),
            expires_at: plan.expires_at(),
            plan,
            budget,
            unrevoked_at: AtomicU64::new(0),
        })
    }

    /// Whether a gateway would admit what the token says, its signatures aside. For holders, who have no root key.
    pub(crate) fn check_admitted(&self, budget: u64) -> Result<(), NotVerified> {
        plan(self.program()?, budget).map(|_| ())
    }

    /// The decoded bytes, for our own writers. The secret is among them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that signed the token.
    pub(crate) fn verified_key(&self, standing: &Standing) -> Result<PublicKey, NotVerified> {
        let container = language::container(&self.bytes).map_err(|_| NotVerified::Container)?;
        self.key_of(&container, standing, &Prefixes::default())
    }

    /// The key that signed the token: the one that its number names, or else whichever live key verifies.
    fn key_of(
        &self,
        container: &Container<'_>,
        standing: &Standing,
        prefixes: &Prefixes,
    ) -> Result<PublicKey, NotVerified> {
        // Read before the keys: what is remembered under it is of these keys or of later ones, and forgotten with the next.
        let version = standing.keys_version();
        let keys = standing.keys();
        let signs = |entry: &&KeyEntry| chain::verifies(container, &entry.key, prefixes, version);
        let Some(id) = self.root_key_id.filter(|_| !keys.is_unnumbered()) else {
            return keys.live().find(signs).map(|entry| entry.key).ok_or(NotVerified::BadSignature);
        };
        let entry = keys.get(id).ok_or(NotVerified::UnknownKey(id))?;
        if !signs(&entry) {
            return Err(NotVerified::BadSignature);
        }
        // After the signature: the number alone is anybody's claim.
        if entry.state == KeyState::Retired {
            return Err(NotVerified::RetiredKey(id));
        }
        Ok(entry.key)
    }

    /// What the token says, whoever signed it.
    pub(crate) fn program(&self) -> Result<Program, NotAdmitted> {
        language::admit(&self.bytes)
    }

    /// What the token says, compiled, whatever it costs.
    pub(crate) fn admitted(&self) -> Result<Plan, NotAdmitted> {
        self.program().map(Plan::compile)
    }
}

fn plan(program: Program, budget: u64) -> Result<Plan, NotVerified> {
    let plan = Plan::compile(program);
    refuse_mixed(plan.rights())?;
    let dates = plan.dates_counted();
    let price = with_dates(plan.price(), dates);
    if price > budget {
        return Err(NotVerified::OverBudget { price, dates, budget });
    }
    Ok(plan)
}

/// What a token is admitted by: a decision, or as many as are taken on one message while it is under way, if they are more.
pub(crate) fn with_dates(price: u64, dates: u64) -> u64 {
    price.saturating_mul(dates.max(1))
}

/// A reserved resource's rights stand alone, so that a token that was handed to a service never administers the gateway.
fn refuse_mixed(rights: &[Right]) -> Result<(), NotVerified> {
    let Some(reserved) = rights.iter().find(|right| right.resource.is_reserved()) else {
        return Ok(());
    };
    match rights.iter().find(|right| right.resource != reserved.resource) {
        None => Ok(()),
        Some(other) => Err(NotVerified::ReservedMixed {
            reserved: reserved.resource.to_string(),
            other: other.resource.to_string(),
        }),
    }
}

/// A verified token, compiled and ready to decide.
///
/// It holds no token text and nothing that could be presented anywhere.
pub struct Capability {
    plan: Plan,
    rights: Box<[Right]>,
    revocation_ids: Box<[RevocationId]>,
    root_key: PublicKey,
    is_sealed: bool,
    expires_at: Option<u64>,
    short_id: Box<str>,
    budget: u64,
    /// The version of the standing at which it last saw itself in good standing.
    unrevoked_at: AtomicU64,
}

impl Capability {
    /// What each block is revoked by, the authority first.
    pub fn revocation_ids(&self) -> &[RevocationId] {
        &self.revocation_ids
    }

    /// The key that signed its authority block.
    pub fn root_key(&self) -> &PublicKey {
        &self.root_key
    }

    /// Its rights, in the order of the authority block.
    pub fn rights(&self) -> &[Right] {
        &self.rights
    }

    /// Whether it holds a right to this operation on this resource. Caveats may still stop a message.
    pub fn holds(&self, resource: &str, operation: &str) -> bool {
        self.rights.iter().any(|right| right.covers(resource, operation))
    }

    /// Whether it holds any right on this resource.
    pub fn holds_any_on(&self, resource: &str) -> bool {
        self.rights.iter().any(|right| right.resource.as_str() == resource)
    }

    /// Which of the facts that cost something its checks read.
    pub fn needs(&self) -> Needs {
        self.plan.needs()
    }

    /// The arguments of a call that its checks read, for [`json_rpc::read`](crate::json_rpc::read).
    pub fn argument_names(&self) -> ArgumentNames<'_> {
        self.plan.argument_names()
    }

    /// Whether it may let a call of this tool pass where `message` passed, with some arguments: `false` is certain. For
    /// telling people what they can use; what is allowed is decided when it is called.
    pub fn may_call(&self, message: &Message<'_>, tool: &str) -> bool {
        self.query_facts(message.query_string).is_ok_and(|query| self.plan.may_call(message, &query, tool))
    }

    /// The parts of a query string that its checks read; none where they read none.
    ///
    /// # Errors
    /// Two services could read them differently.
    pub fn query_facts<'q>(&self, query_string: &'q str) -> Result<QueryFacts<'q>, QueryError> {
        if !self.needs().query {
            return Ok(Vec::new());
        }
        let facts = query_facts(query_string)?;
        self.plan.query_names().refuse_imitations(&facts)?;
        Ok(facts)
    }

    /// What a gateway says of the message's client, where the token was narrowed to one message and its caveats ask.
    pub fn statement(&self) -> Option<&Statement> {
        self.plan.statement()
    }

    /// How many caveats it carries, in all blocks.
    pub fn caveat_count(&self) -> usize {
        self.plan().checks().len()
    }

    /// Evaluation steps of one decision, in the worst case: what it was admitted by.
    pub fn price(&self) -> u64 {
        self.plan.price()
    }

    /// What that consists of.
    pub fn prices(&self) -> Price {
        self.plan.prices()
    }

    /// The steps that it was admitted within, and that each message may spend.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// How many calls the body of one message may hold. At least one, and not bounded where no caveat reads a body.
    pub fn items_max(&self) -> usize {
        self.prices().items_max(self.budget)
    }

    /// How many dates its price is counted for, all expiries together as one.
    pub fn dates_counted(&self) -> u64 {
        self.plan.dates_counted()
    }

    /// Whether its holder cannot narrow it any further.
    pub fn is_sealed(&self) -> bool {
        self.is_sealed
    }

    /// The last second at which no expiry has passed; `None` where nothing expires.
    pub fn expires_at(&self) -> Option<u64> {
        self.expires_at
    }

    /// The expiry that has passed by now, the earliest if there are several.
    pub fn expired_at(&self, now: u64) -> Option<u64> {
        self.expires_at().filter(|at| *at < now)
    }

    /// Every moment that a check compares the time with: between two of them, time alone changes no decision.
    pub fn date_constants(&self) -> &[u64] {
        self.plan.date_constants()
    }

    /// Every second at which time alone can change a decision, its expiries left out: a decision about a message that
    /// is still under way has to be taken again at each.
    pub fn turns(&self) -> &[u64] {
        self.plan.turns()
    }

    /// A name for logs that is of no use to anybody else: the short form of its last block's revocation id.
    pub fn short_id(&self) -> &str {
        &self.short_id
    }

    /// Whether it is in good standing: not revoked, and its key is live. One atomic load where nothing has changed since
    /// it was last asked.
    pub fn standing(&self, standing: &Standing) -> Result<(), Refusal> {
        // Read before the lookup: a change in between then leads to another lookup, never to a missed one.
        let version = standing.version();
        if self.unrevoked_at.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        let (key_is_live, revoked) = standing.look_up(&self.root_key, &self.revocation_ids);
        if let Some(block) = revoked {
            return Err(Refusal::Revoked { block });
        }
        let is_stated = self.statement().is_none_or(|statement| standing.states(&statement.key));
        if !key_is_live || !is_stated {
            return Err(Refusal::KeyRetired);
        }
        self.unrevoked_at.store(version, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capability({})", self.short_id)
    }
}

/// Why a text is not even the form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is nothing.
    #[error("the token is empty")]
    Empty,
    /// More text than is read.
    #[error("the token has {length} characters; at most {TOKEN_TEXT_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        length: usize,
    },
    /// It begins like a token and stops before its end.
    #[error("the token is cut off: its end is missing; copy it whole")]
    Truncated,
    /// Characters that no token has.
    #[error("the token is not base64url text; it has only letters, digits, `-` and `_`, and perhaps `=` at its end")]
    NotBase64,
    /// Base64, but of something else.
    #[error("this is not a biscuit token")]
    NotAToken,
    /// A longer chain than is verified.
    #[error("the token has more than {BLOCKS_MAX} blocks")]
    TooManyBlocks,
}

impl Unreadable {
    /// The stable problem type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated-token",
            Self::Empty | Self::TooLong { .. } | Self::NotBase64 | Self::NotAToken | Self::TooManyBlocks => {
                "invalid-token"
            }
        }
    }
}

/// Why a token that could be read is not believed, or not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// No key has the number that the token names.
    #[error("the token says that it was signed by the key number {0}, which is not known here")]
    UnknownKey(KeyId),
    /// The key that signed it was retired.
    #[error("the key number {0}, which signed the token, has been retired; ask for a new token")]
    RetiredKey(KeyId),
    /// What stands around the blocks is in no form that is accepted: a field that nobody knows, a key of another algorithm, a
    /// signature of another length. One answer for all of it, since nothing was verified that could be spoken of.
    #[error(
        "the token's outer form is not accepted: each key in it has to be an Ed25519 key, and each field one that biscuit \
         tokens have; `postern lint` names what is wrong"
    )]
    Container,
    /// The chain of signatures does not lead from a live key to this content.
    #[error("the token's signature is not valid under any key that is accepted here")]
    BadSignature,
    /// Something in it lies outside the caveat language.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    /// Deciding with it could take too long.
    #[error(
        "deciding with this token can take {price} steps{}, and at most {budget} are spent; simplify its checks",
        of_dates(.dates)
    )]
    OverBudget {
        /// What it can cost, for as many decisions as there are dates.
        price: u64,
        /// The dates that it is counted for, all expiries together as one.
        dates: u64,
        /// What is spent.
        budget: u64,
    },
    /// The token ends in a statement about a message's client, and no gateway that is known here made it.
    #[error(
        "the token says who a message's client is, signed by a key that is no gateway's statement key here; present it to \
         the service that it was made for"
    )]
    UnknownStatement,
    /// Rights on a reserved resource beside others.
    #[error(
        "the token holds rights on {reserved:?}, which is reserved, and on {other:?}; a reserved resource stands alone"
    )]
    ReservedMixed {
        /// The reserved one.
        reserved: String,
        /// Another one.
        other: String,
    },
}

fn of_dates(dates: &u64) -> String {
    match dates {
        0 | 1 => String::new(),
        dates => format!(", since each of its {dates} dates counts as a decision"),
    }
}

impl NotVerified {
    /// The stable problem type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownKey(_) => "unknown-key",
            Self::RetiredKey(_) => "revoked",
            Self::Container | Self::BadSignature => "invalid-token",
            Self::NotAdmitted(_) | Self::ReservedMixed { .. } | Self::UnknownStatement => "not-admitted",
            Self::OverBudget { .. } => "over-budget",
        }
    }
}

#[cfg(test)]
mod tests;

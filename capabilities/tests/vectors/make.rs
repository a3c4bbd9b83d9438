//! How a case is made: the same bytes every time, from fixed secrets and randomness seeded with the case's name.

use biscuit_auth::builder::{Algorithm, BiscuitBuilder, BlockBuilder};
use biscuit_auth::{Biscuit, KeyPair};
use postern_capabilities::caveat::Caveat;
use postern_capabilities::keys::{KeyId, KeyState, SigningKey};
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::RevocationId;
use postern_capabilities::token::{PRICE_BUDGET_DEFAULT, Unverified};
use postern_capabilities::verifier::Verifier;
use postern_capabilities::{attenuate, mint};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::cases::NOW;
use super::format::{Case, Decision, Key, MessageText, Outcome, Verdict, ring, standing};

/// The key that signs the cases, number 1, unless a case says otherwise. Its secret is public: never use it elsewhere.
pub(crate) fn root() -> SigningKey {
    secret(1)
}

/// A fixed secret for each number.
pub(crate) fn secret(number: u8) -> SigningKey {
    SigningKey::parse_text(&format!("ed25519-private/{}", format!("{number:02x}").repeat(32))).ok().unwrap()
}

/// The same secret as the biscuit library wants it.
pub(crate) fn pair(number: u8) -> KeyPair {
    KeyPair::from_bytes(&[number; 32], Algorithm::Ed25519.into()).unwrap()
}

pub(crate) fn key(number: u8, state: KeyState) -> Key {
    Key { id: KeyId(number.into()), key: secret(number).public(), state }
}

/// Randomness that depends on the name alone.
pub(crate) fn rng(name: &str) -> StdRng {
    let mut seed = [0_u8; 32];
    for (at, byte) in name.bytes().enumerate() {
        seed[at % 32] = seed[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    StdRng::from_seed(seed)
}

pub(crate) fn rights(list: &[(&str, &str)]) -> Vec<Right> {
    let right = |(resource, operation): &(&str, &str)| Right {
        resource: ResourceName::parse(resource).unwrap(),
        operation: Operation::parse(operation).unwrap(),
    };
    list.iter().map(right).collect()
}

pub(crate) fn caveats(flags: &[(&str, &[&str])]) -> Vec<Caveat> {
    flags.iter().flat_map(|(flag, values)| Caveat::of_flag(flag, values, NOW).unwrap()).collect()
}

/// A token with these rights on these terms, as `postern mint` makes it.
pub(crate) fn minted(name: &str, list: &[(&str, &str)], flags: &[(&str, &[&str])]) -> String {
    let text = mint::mint_with_rng(&root(), KeyId(1), &rights(list), &caveats(flags), &mut rng(name));
    text.unwrap_or_else(|error| panic!("{name}: {error}")).expose().to_owned()
}

/// A token narrowed, as `postern attenuate` does it.
pub(crate) fn narrowed(name: &str, token: &str, flags: &[(&str, &[&str])]) -> String {
    let text =
        attenuate::attenuate_with_rng(token, &caveats(flags), &mut rng(&format!("{name} narrowed {}", token.len())));
    text.unwrap_or_else(|error| panic!("{name}: {error}")).expose().to_owned()
}

/// A token built by the biscuit library alone, with whatever a hostile or ignorant writer puts into it.
pub(crate) fn foreign(name: &str, code: &str, key: &KeyPair) -> Biscuit {
    let builder = BiscuitBuilder::new().root_key_id(1).code(code).unwrap_or_else(|error| panic!("{name}: {error}"));
    foreign_of(name, builder, key)
}

pub(crate) fn foreign_of(name: &str, builder: BiscuitBuilder, key: &KeyPair) -> Biscuit {
    builder.build_with_rng(key, Default::default(), &mut rng(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The token with a block of this code appended.
pub(crate) fn appended(name: &str, token: &Biscuit, code: &str) -> Biscuit {
    let block = BlockBuilder::new().code(code).unwrap_or_else(|error| panic!("{name}: {error}"));
    let next = KeyPair::new_with_rng(Algorithm::Ed25519, &mut rng(&format!("{name} {}", token.block_count())));
    token.append_with_keypair(&next, block).unwrap()
}

/// The token with a third party's block appended.
pub(crate) fn third_party(name: &str, token: &Biscuit, party: &KeyPair, code: &str) -> Biscuit {
    let block = BlockBuilder::new().code(code).unwrap_or_else(|error| panic!("{name}: {error}"));
    let answer = token.third_party_request().unwrap().create_block(&party.private(), block).unwrap();
    let next = KeyPair::new_with_rng(Algorithm::Ed25519, &mut rng(&format!("{name} {}", token.block_count())));
    token.append_third_party_with_keypair(party.public(), answer, next).unwrap()
}

pub(crate) fn text_of(token: &Biscuit) -> String {
    token.to_base64().unwrap().trim_end_matches('=').to_owned()
}

/// A case under way. Every method adds one thing; [`Draft::decide`] and [`Draft::refused`] ask the crate.
pub(crate) struct Draft {
    case: Case,
}

pub(crate) fn case(name: &str, why: &str, token: impl Into<String>) -> Draft {
    let keys = vec![key(1, KeyState::Minting)];
    let outcome = Outcome::Refused { problem: String::new(), reason: String::new() };
    let (name, why) = (name.to_owned(), why.to_owned());
    Draft {
        case: Case { name, why, keys, revoked: Vec::new(), budget: None, leeway: None, token: token.into(), outcome },
    }
}

impl Draft {
    pub(crate) fn keys(mut self, keys: Vec<Key>) -> Self {
        self.case.keys = keys;
        self
    }

    pub(crate) fn revoked(mut self, ids: Vec<RevocationId>) -> Self {
        self.case.revoked = ids;
        self
    }

    pub(crate) fn leeway(mut self, seconds: u64) -> Self {
        self.case.leeway = Some(seconds);
        self
    }

    pub(crate) fn budget(mut self, budget: u64) -> Self {
        self.case.budget = Some(budget);
        self
    }

    /// The token is good, and these messages fare as they do. `allow` and `refuse` are what the author expects: the
    /// generator stops where the crate disagrees, so no wrong verdict can become a vector by accident.
    pub(crate) fn decide(self, allow: &[MessageText], refuse: &[(&str, MessageText)]) -> Case {
        let case = self.finish(allow.iter().chain(refuse.iter().map(|(_, message)| message)).cloned().collect());
        let Outcome::Capability { decisions, .. } = &case.outcome else {
            panic!("{}: {:?}", case.name, case.outcome);
        };
        let expected = allow.iter().map(|_| "allow").chain(refuse.iter().map(|(problem, _)| *problem));
        for (decision, expected) in decisions.iter().zip(expected) {
            let found = match &decision.verdict {
                Verdict::Allow => "allow",
                Verdict::Refuse { problem, .. } => problem,
            };
            assert_eq!(found, expected, "{}: {:?}", case.name, decision);
        }
        case
    }

    /// The token is refused whatever the message, for this type of problem.
    pub(crate) fn refused(self, expected: &str) -> Case {
        let case = self.finish(Vec::new());
        match &case.outcome {
            Outcome::Refused { problem, .. } if problem == expected => case,
            other => panic!("{}: expected {expected}, got {other:?}", case.name),
        }
    }

    fn finish(mut self, messages: Vec<MessageText>) -> Case {
        self.case.outcome = outcome(&self.case, messages);
        self.case
    }
}

/// What the crate makes of the case's token and of these messages.
pub(crate) fn outcome(case: &Case, messages: Vec<MessageText>) -> Outcome {
    let standing = standing(case);
    let unverified = match Unverified::parse(&case.token) {
        Ok(unverified) => unverified,
        Err(error) => return Outcome::Refused { problem: error.kind().into(), reason: error.to_string() },
    };
    let capability = match unverified.verify(&standing, case.budget.unwrap_or(PRICE_BUDGET_DEFAULT)) {
        Ok(capability) => capability,
        Err(error) => return Outcome::Refused { problem: error.kind().into(), reason: error.to_string() },
    };
    let decide = |message: MessageText| {
        let verdict = message.with(|message| {
            let Some(leeway) = case.leeway else {
                return match postern_capabilities::authorize(&capability, message, &standing) {
                    Ok(_) => Verdict::Allow,
                    Err(refusal) => Verdict::Refuse { problem: refusal.kind().into(), reason: refusal.to_string() },
                };
            };
            // Leeway is a verifier's: a gateway has none.
            let verifier = Verifier::new(ResourceName::parse("orders").unwrap(), ring(case)).with_leeway(leeway);
            match verifier.check(&capability, message) {
                Ok(_) => Verdict::Allow,
                Err(error) => Verdict::Refuse { problem: error.kind().into(), reason: error.to_string() },
            }
        });
        Decision { message, verdict }
    };
    Outcome::Capability {
        rights: capability
            .rights()
            .iter()
            .map(|right| (right.resource.to_string(), right.operation.to_string()))
            .collect(),
        revocation_ids: capability.revocation_ids().to_vec(),
        sealed: capability.is_sealed(),
        price: capability.price(),
        expires_at: capability.expires_at(),
        decisions: messages.into_iter().map(decide).collect(),
    }
}

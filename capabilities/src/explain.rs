//! What a token says, for people: [`inspect`] shows it, [`lint`] finds what in it can never work.
//!
//! Both are for holders, who have no key: nothing has to verify. What is shown is printed from the compiled plan,
//! escaped, so what a reader sees is what a gateway decides by. Nothing here prints a token, its secret or its signatures
//! apart from the revocation ids, by which a token can be ended but not presented.

mod doubt;
mod lint;
mod selection;
pub(crate) mod words;

use serde::Serialize;

use crate::keys::{KeyId, PublicKey};
use crate::language::{BlockView, NotAdmitted, Plan, Price, quoted};
use crate::resource::Right;
use crate::revocation::{RevocationId, Standing};
use crate::token::{Unreadable, Unverified};

pub use lint::{Finding, Severity, lint};

/// What a token says.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The number of the key that it says it was signed with.
    pub root_key_id: Option<KeyId>,
    /// Whether it cannot be narrowed any further.
    pub sealed: bool,
    /// Whether its signatures hold.
    pub signature: Signature,
    /// The first of its blocks that is revoked, as far as is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_block: Option<usize>,
    /// What a gateway makes of its content.
    pub content: Content,
    /// Its blocks, the authority first.
    pub blocks: Vec<BlockInspection>,
}

/// Whether a token's signatures hold.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Signature {
    /// There was no key to check with.
    NotChecked,
    /// They hold, under this live key.
    Verified {
        /// The root key.
        key: PublicKey,
    },
    /// A gateway would refuse the token.
    Refused {
        /// The stable problem type.
        problem: &'static str,
        /// Why, in words.
        reason: String,
    },
}

/// What a gateway makes of a token's content.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Content {
    /// It lies within the caveat language.
    Admitted {
        /// What it is good for, if its caveats let it.
        rights: Vec<Right>,
        /// The last second at which no expiry has passed.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
        /// Evaluation steps of one decision, in the worst case: what the token is admitted by.
        price: u64,
        /// What that consists of.
        prices: Price,
        /// How many dates it is counted for, all expiries together as one: each is one more decision on an open stream.
        dates: u64,
    },
    /// It does not, and is refused as a whole.
    NotAdmitted(NotAdmitted),
}

/// What one block says. Facts and checks are there only where the whole token is admitted.
#[derive(Debug, Clone, Serialize)]
pub struct BlockInspection {
    /// Its number, the authority being 0.
    pub block: usize,
    /// What it is revoked by. Absent where its signature is none of Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_id: Option<RevocationId>,
    /// Who vouches for it, if it is a third party's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub third_party: Option<PublicKey>,
    /// The note that whoever made it put into it: quoted and escaped, and of no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whose facts its checks believe, where it says so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trusting: String,
    /// Its facts, rights among them.
    pub facts: Vec<String>,
    /// Its checks.
    pub checks: Vec<CheckInspection>,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckInspection {
    /// Which of its block's checks it is, from 0.
    pub check: usize,
    /// Its text.
    pub text: String,
    /// For an expiry, the last second at which it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// Reads a token for showing. With a standing, also whether it verifies and whether it is revoked.
pub fn inspect(token: &str, standing: Option<&Standing>) -> Result<Inspection, Unreadable> {
    let unverified = Unverified::parse(token)?;
    let ids = unverified.revocation_ids();
    let plan = unverified.admitted();
    let blocks = match &plan {
        Ok(plan) => {
            plan.blocks().zip(0..).map(|(view, block)| block_of(view, block, ids.get(block).copied())).collect()
        }
        Err(_) => (0..unverified.block_count()).map(|block| unknown_block(block, ids.get(block).copied())).collect(),
    };
    Ok(Inspection {
        root_key_id: unverified.root_key_id(),
        sealed: unverified.is_sealed(),
        signature: signature_of(&unverified, standing),
        revoked_block: standing.and_then(|standing| ids.iter().position(|id| standing.is_revoked(id))),
        content: plan.map_or_else(Content::NotAdmitted, |plan| content_of(&plan)),
        blocks,
    })
}

fn signature_of(unverified: &Unverified, standing: Option<&Standing>) -> Signature {
    let Some(standing) = standing else {
        return Signature::NotChecked;
    };
    match unverified.verified_key(standing) {
        Ok(key) => Signature::Verified { key },
        Err(error) => Signature::Refused { problem: error.kind(), reason: error.to_string() },
    }
}

fn content_of(plan: &Plan) -> Content {
    Content::Admitted {
        rights: plan.rights().to_vec(),
        expires_at: plan.expires_at(),
        price: plan.price(),
        prices: plan.prices(),
        dates: plan.dates_counted(),
    }
}

fn block_of(view: BlockView<'_>, block: usize, revocation_id: Option<RevocationId>) -> BlockInspection {
    let checks = view.checks().map(|check| CheckInspection {
        check: check.index(),
        text: check.text(),
        expires_at: check.expires_at(),
    });
    BlockInspection {
        block,
        revocation_id,
        third_party: view.external_key().and_then(|key| PublicKey::from_bytes(key).ok()),
        note: view.context().map(quoted),
        trusting: view.scopes(),
        facts: view.facts().collect(),
        checks: checks.collect(),
    }
}

fn unknown_block(block: usize, revocation_id: Option<RevocationId>) -> BlockInspection {
    BlockInspection {
        block,
        revocation_id,
        third_party: None,
        note: None,
        trusting: String::new(),
        facts: Vec::new(),
        checks: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use biscuit_auth::builder::BlockBuilder;

    use super::*;
    use crate::caveat::Caveat;
    use crate::keys::{KeyRing, SigningKey};
    use crate::mint::mint;
    use crate::resource::{Operation, ResourceName};

    fn minted(key: &SigningKey) -> String {
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        let caveats = [Caveat::Expires(1_800_000_000), Caveat::Host("a\" || true || \"".to_owned())];
        mint(key, KeyId(3), &[right], &caveats).ok().unwrap().expose().to_owned()
    }

    #[test]
    fn a_token_is_shown_with_all_that_it_says() {
        let key = SigningKey::generate();
        let standing = Standing::new(KeyRing::of(KeyId(3), key.public()));
        let token = minted(&key);
        let shown = inspect(&token, Some(&standing)).unwrap();
        assert_eq!((shown.root_key_id, shown.sealed, shown.blocks.len()), (Some(KeyId(3)), false, 1));
        assert!(matches!(shown.signature, Signature::Verified { key: by } if by == key.public()));
        assert!(
            matches!(&shown.content, Content::Admitted { expires_at: Some(1_800_000_000), rights, .. } if rights.len() == 1)
        );
        assert_eq!(shown.blocks[0].facts, ["right(\"orders\", \"*\")"]);
        let texts: Vec<&str> = shown.blocks[0].checks.iter().map(|check| check.text.as_str()).collect();
        assert_eq!(
            texts,
            ["check if time($time), $time <= 2027-01-15T08:00:00Z", r#"check if host("a\" || true || \"")"#]
        );
        standing.revoke(&[shown.blocks[0].revocation_id.unwrap()]);
        assert_eq!(inspect(&token, Some(&standing)).unwrap().revoked_block, Some(0));
        assert!(matches!(inspect(&token, None).unwrap().signature, Signature::NotChecked));
    }

    #[test]
    fn nothing_shown_can_be_presented() {
        let key = SigningKey::generate();
        let token = minted(&key);
        let json = serde_json::to_string(&inspect(&token, None).unwrap()).unwrap();
        let bytes = crate::text::decode(&token).ok().unwrap();
        let secret = &bytes[bytes.len() - 32..];
        assert!(!json.contains(&hex::encode(secret)) && !json.contains(&token[token.len() - 40..]));
        assert!(!json.contains(&format!("{secret:?}")));
    }

    #[test]
    fn a_token_outside_the_language_is_shown_with_the_reason() {
        let key = SigningKey::generate();
        let code = "right(\"orders\", \"GET\")";
        let token = biscuit_auth::Biscuit::builder().code(code).unwrap().build(&key.pair()).unwrap();
        let token = token.append(BlockBuilder::new().code("owner(\"me\")").unwrap()).unwrap().to_base64().unwrap();
        let shown = inspect(&token, None).unwrap();
        assert!(matches!(&shown.content, Content::NotAdmitted(why) if why.block == Some(1)));
        assert_eq!(shown.blocks.len(), 2);
        assert!(shown.blocks.iter().all(|block| block.revocation_id.is_some() && block.facts.is_empty()));
        let other = Standing::new(KeyRing::of(KeyId(3), SigningKey::generate().public()));
        let shown = inspect(&minted(&key), Some(&other)).unwrap();
        assert!(matches!(shown.signature, Signature::Refused { problem: "invalid-token", .. }));
    }
}

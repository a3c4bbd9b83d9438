//! Minting: the only way in which authority comes into being.
//!
//! What is minted is read back by the same code that a gateway uses and compared with what was asked for, so that
//! nothing leaves here that would be refused, or that would allow something else.

use std::collections::BTreeSet;

use biscuit_auth::Biscuit;
use biscuit_auth::builder::{Fact, Term};
use rand::{CryptoRng, RngCore};

use crate::caveat::{Caveat, checks_of};
use crate::keys::{KeyId, KeyRing, SigningKey};
use crate::resource::Right;
use crate::revocation::Standing;
use crate::text::TokenText;
use crate::token::{NotVerified, PRICE_BUDGET_DEFAULT, Unreadable, Unverified};

/// Mints a capability: these rights, under these caveats, signed by this key.
///
/// Rights on a reserved resource (`postern`, `messages`) stand alone: a token that holds one holds no other.
pub fn mint(key: &SigningKey, key_id: KeyId, rights: &[Right], caveats: &[Caveat]) -> Result<TokenText, MintError> {
    mint_with_rng(key, key_id, rights, caveats, &mut rand::rngs::OsRng)
}

/// [`mint`] with randomness of the caller's choice, for test vectors that must come out the same every time.
///
/// The randomness becomes the secret that lets a holder attenuate: nothing but a cryptographic generator will do.
pub fn mint_with_rng(
    key: &SigningKey,
    key_id: KeyId,
    rights: &[Right],
    caveats: &[Caveat],
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<TokenText, MintError> {
    let rights: BTreeSet<&Right> = rights.iter().collect();
    refuse_mixed(&rights)?;
    let mut builder = Biscuit::builder().root_key_id(key_id.0);
    for right in &rights {
        let terms = [Term::Str(right.resource.to_string()), Term::Str(right.operation.to_string())];
        builder = builder.fact(Fact::new("right".to_owned(), terms)).map_err(|_| MintError::Failed)?;
    }
    for check in checks_of(caveats).map_err(MintError::Caveat)? {
        builder = builder.check(check).map_err(|_| MintError::Failed)?;
    }
    let token = builder.build_with_rng(&key.pair(), Default::default(), rng).map_err(|_| MintError::Failed)?;
    let text = TokenText::of_base64(token.to_base64().map_err(|_| MintError::Failed)?);
    check_minted(&text, key, key_id, &rights)?;
    Ok(text)
}

fn refuse_mixed(rights: &BTreeSet<&Right>) -> Result<(), MintError> {
    let Some(first) = rights.first() else {
        return Err(MintError::NoRight);
    };
    let reserved = rights.iter().find(|right| right.resource.is_reserved());
    match reserved {
        Some(reserved) if rights.iter().any(|right| right.resource != reserved.resource) => {
            Err(MintError::ReservedMixed {
                reserved: reserved.resource.to_string(),
                other: rights
                    .iter()
                    .find(|right| right.resource != reserved.resource)
                    .unwrap_or(first)
                    .resource
                    .to_string(),
            })
        }
        _ => Ok(()),
    }
}

/// The other half of the pair: what was written is read as a gateway will read it.
fn check_minted(text: &TokenText, key: &SigningKey, key_id: KeyId, rights: &BTreeSet<&Right>) -> Result<(), MintError> {
    let standing = Standing::new(KeyRing::of(key_id, key.public()));
    let unverified = Unverified::parse(text.expose()).map_err(MintError::TooLarge)?;
    let capability = unverified.verify(&standing, PRICE_BUDGET_DEFAULT).map_err(MintError::NotAccepted)?;
    let read: BTreeSet<&Right> = capability.rights().iter().collect();
    if read != *rights {
        return Err(MintError::Failed);
    }
    Ok(())
}

/// Why a capability cannot be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No right was asked for.
    #[error("a capability needs at least one right: name a resource")]
    NoRight,
    /// A reserved resource and another one.
    #[error(
        "rights on the reserved resource {reserved:?} cannot be mixed with rights on {other:?}; mint two capabilities"
    )]
    ReservedMixed {
        /// The reserved one.
        reserved: String,
        /// The one that stood beside it.
        other: String,
    },
    /// A caveat has no check.
    #[error("a caveat cannot be written as a check: {0}")]
    Caveat(String),
    /// The token would be longer than a gateway reads.
    #[error("the token would not be accepted: {0}")]
    TooLarge(#[source] Unreadable),
    /// A gateway would refuse the token, for its language or its price.
    #[error("the token would not be accepted: {0}")]
    NotAccepted(#[source] NotVerified),
    /// The biscuit library failed, or its output was not what was asked for.
    #[error("the token could not be built; nothing was minted")]
    Failed,
}

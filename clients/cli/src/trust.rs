//! Which keys a token is checked against, and what is known to be revoked, for the commands that work offline.

use clap::Args;
use postern_capabilities::keys::{KeyId, KeyRing, PublicKey};
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::Unverified;
use postern_gateway::ledger::glance::glance;
use postern_gateway::state::StateDir;

use crate::cli::StateArg;
use crate::stop::Stop;

/// The key that a token should have been signed with.
#[derive(Args)]
pub(crate) struct TrustArgs {
    /// The root's public key, ed25519/… [default: the live keys of the state folder]
    #[arg(long, value_name = "KEY")]
    public_key: Option<String>,
}

impl TrustArgs {
    /// What is known: a key that was named, or keys and revocations of the state folder. `None` if there is neither.
    pub(crate) fn standing(&self, token: &str, state: &StateArg) -> Result<Option<Standing>, Stop> {
        if let Some(text) = &self.public_key {
            let key: PublicKey = text.parse().map_err(|error| Stop::usage(format!("--public-key: {error}")))?;
            // The number is a hint by which a ring finds the key; here is only one.
            let id = Unverified::parse(token).ok().and_then(|token| token.root_key_id()).unwrap_or(KeyId(0));
            return Ok(Some(Standing::new(KeyRing::of(id, key))));
        }
        if state.named().is_none() && !state.path().exists() {
            return Ok(None);
        }
        let folder = state.open().map_err(Stop::failed)?;
        standing_of(&folder).map(Some)
    }
}

/// Keys and revocations by the word of a state folder, also beside the gateway that runs with it.
pub(crate) fn standing_of(folder: &StateDir) -> Result<Standing, Stop> {
    folder.expect_safe().map_err(Stop::failed)?;
    folder.expect_ledger().map_err(Stop::failed)?;
    if folder.ledger_path().exists() {
        let known = glance(&folder.ledger_path()).map_err(Stop::failed)?;
        if known.keys().minting().is_some() {
            let standing = Standing::new(known.keys().clone());
            let revoked: Vec<_> = known.revoked().map(|(id, _)| *id).collect();
            standing.revoke(&revoked);
            return Ok(standing);
        }
        folder.expect_ledger_unused().map_err(Stop::failed)?;
    }
    folder.key_ring().map(Standing::new).map_err(Stop::failed)
}

//! `postern revoke`: ends a capability and all that was derived from it.
//!
//! The token stays here: its ids are computed locally and only they are sent. With a gateway running they go through its
//! administration; without one straight into the ledger, which a gateway reads before it serves anything.

use clap::Args;
use postern_capabilities::revocation::RevocationId;
use postern_capabilities::token::Unverified;
use postern_gateway::ledger::By;
use serde::Serialize;
use serde_json::{Value, json};

use super::{block_on, own_ledger};
use crate::admin::{AdminArgs, Reach};
use crate::cli::StateArg;
use crate::output;
use crate::stop::{Exit, Stop};
use crate::token_input::TokenInput;

/// `postern revoke`
#[derive(Args)]
#[command(after_help = "\
Examples:
  what its last block added, and all below:
    postern revoke --token-file read.token
  all that was ever derived from its mint:
    postern revoke --token-file read.token --block 0
  a revocation id, as `postern inspect` prints them:
    postern revoke 5b0c…
  by a capability that may do no more than revoke:
    postern revoke --token-file read.token --admin-token-file revoker.token

The token itself does not leave this machine, only ids do. When the command is done the revocation
is on disk and, if a gateway runs, in force there, also on connections that are open. Without a
gateway it is written into the ledger of the state folder, and in force from the next start.
JSON: {\"revoked\": [ids], \"in_force\": \"now\" or \"at the next start\"}")]
pub(crate) struct RevokeArgs {
    /// The token (or `-` for standard input), or a revocation id of 128 hexadecimal digits
    #[command(flatten)]
    token: TokenInput,

    /// The block whose id is revoked, 0 being the authority [default: the last]
    #[arg(long, value_name = "N")]
    block: Option<usize>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Serialize)]
struct Revoked {
    revoked: Vec<RevocationId>,
    in_force: &'static str,
}

pub(crate) fn run(args: &RevokeArgs, state: &StateArg) -> Result<Exit, Stop> {
    let id = id_of(&args.token.read()?, args.block)?;
    let in_force = block_on(revoke(id, args, state))?;
    if args.json {
        output::json(&Revoked { revoked: vec![id], in_force })?;
        return Ok(Exit::Done);
    }
    let whole = match in_force {
        "now" => "Revoked, durable and in force at the gateway now",
        _ => "Revoked in the ledger; no gateway is running, and the next one to start will refuse it",
    };
    output::line(&format!("{whole}: {id}"))?;
    Ok(Exit::Done)
}

/// The id to revoke: given as such, or that of one of the token's blocks.
fn id_of(text: &str, block: Option<usize>) -> Result<RevocationId, Stop> {
    // Copied from a table or a mail, with what stood around it.
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        if block.is_some() {
            return Err(Stop::usage("--block chooses one of a token's ids, but a single id was given"));
        }
        return text.parse().map_err(|_| {
            let digits = text.len();
            Stop::usage(format!("this is neither a token nor a revocation id (128 hex digits): it has {digits} digits"))
        });
    }
    let token = Unverified::parse(text).map_err(Stop::usage)?;
    let ids = token.revocation_ids();
    let last = ids.len().saturating_sub(1);
    ids.get(block.unwrap_or(last)).copied().ok_or_else(|| {
        Stop::usage(format!("the token has the blocks 0 to {last}, and no block {}", block.unwrap_or_default()))
    })
}

async fn revoke(id: RevocationId, args: &RevokeArgs, state: &StateArg) -> Result<&'static str, Stop> {
    match args.admin.reach(state)? {
        Reach::Gateway(gateway) => {
            let answer = gateway.post("/revocations", &json!({ "ids": [id] })).await?;
            match answer.get("revoked").and_then(Value::as_u64) {
                Some(1) => Ok("now"),
                _ => Err(Stop::failed(
                    "what answered does not say that it revoked the id; is it a Postern gateway? Whether the id is revoked is unknown",
                )),
            }
        }
        Reach::Folder(folder) => {
            own_ledger(&folder).await?.revoke(&[id], By::presenter("root key")).await.map_err(Stop::failed)?;
            Ok("at the next start")
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_capabilities::keys::{KeyId, SigningKey};
    use postern_capabilities::resource::{Operation, ResourceName, Right};

    use super::*;

    #[test]
    fn ids_come_from_a_token_or_are_given() {
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        let token = postern_capabilities::mint::mint(&SigningKey::generate(), KeyId(0), &[right], &[]).unwrap();
        let id = id_of(token.expose(), None).unwrap();
        assert_eq!(id_of(token.expose(), Some(0)).unwrap(), id);
        assert_eq!(id_of(&id.to_string(), None).unwrap(), id);
        assert_eq!(id_of(&format!("  {id}\n"), None).unwrap(), id);
        assert!(id_of(token.expose(), Some(1)).unwrap_err().sentence.contains("0 to 0"));
        assert_eq!(id_of(&id.to_string(), Some(0)).unwrap_err().exit, Exit::Usage);
        assert!(id_of("deadbeef", None).unwrap_err().sentence.contains("neither a token nor a revocation id (128 hex"));
        assert_eq!(id_of("nonsense!", None).unwrap_err().exit, Exit::Usage);
    }
}

//! `postern keys`: the root keys. One mints, some before it are still honoured, retired ones are not.

use clap::{Args, Subcommand};
use postern_capabilities::keys::{KeyEntry, KeyId, KeyRing, KeyState};
use postern_gateway::ledger::By;
use serde::Serialize;
use serde_json::{Value, json};

use super::{block_on, init, own_ledger};
use crate::admin::{AdminArgs, Reach};
use crate::cli::StateArg;
use crate::output;
use crate::stop::{Exit, Stop};

/// `postern keys`
#[derive(Args)]
#[command(after_help = "\
Examples:
  which keys there are:
    postern keys list
  a new key mints from now on; what the old one signed stays good:
    postern keys rotate
  ends everything that key 0 ever signed:
    postern keys retire 0

Each goes through the running gateway, or changes the state folder where none runs.
JSON: {\"keys\": [{\"id\": 0, \"key\": \"ed25519/…\", \"state\": \"minting\" | \"live\" | \"retired\"}]}")]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    action: KeysAction,

    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Subcommand)]
enum KeysAction {
    /// Show every key that was ever used
    #[command(after_help = "Example:\n  postern keys list --json")]
    List,
    /// Make a new key that mints from now on; the secret half of the old one is destroyed
    ///
    /// Capabilities of the old key stay good until it is retired. The admin capability of the state folder is minted anew
    /// under the new key.
    #[command(after_help = "Example:\n  postern keys rotate")]
    Rotate,
    /// End everything that a key has signed
    #[command(after_help = "Example:\n  postern keys retire 0")]
    Retire {
        /// The number of the key, as `postern keys list` shows it
        #[arg(value_name = "ID")]
        id: u32,
    },
}

#[derive(Serialize, serde::Deserialize)]
struct Keys {
    keys: Vec<KeyEntry>,
}

pub(crate) fn run(args: &KeysArgs, state: &StateArg) -> Result<Exit, Stop> {
    let keys = block_on(act(args, state))?;
    if args.json {
        output::json(&keys)?;
        return Ok(Exit::Done);
    }
    for entry in &keys.keys {
        let means = match entry.state {
            KeyState::Minting => "mints",
            KeyState::Live => "live, mints no more",
            KeyState::Retired => "retired",
        };
        output::line(&format!("{:>3}  {}  {means}", entry.id, entry.key))?;
    }
    Ok(Exit::Done)
}

async fn act(args: &KeysArgs, state: &StateArg) -> Result<Keys, Stop> {
    let folder = match args.admin.reach(state)? {
        Reach::Folder(folder) => folder,
        Reach::Gateway(gateway) => {
            return read(match &args.action {
                KeysAction::List => gateway.get("/keys").await?,
                KeysAction::Rotate => gateway.post("/keys", &json!({ "action": "rotate" })).await?,
                KeysAction::Retire { id } => gateway.post("/keys", &json!({ "action": "retire", "id": id })).await?,
            });
        }
    };
    let ring = match &args.action {
        KeysAction::List => folder.key_ring().map_err(Stop::failed)?,
        KeysAction::Rotate => {
            let ledger = own_ledger(&folder).await?;
            let key = folder.stage_rotation().map_err(Stop::failed)?;
            if let Err(error) = ledger.rotate(key.public(), By::presenter("root key")).await {
                folder.forget_rotation().map_err(Stop::failed)?;
                return Err(Stop::failed(error));
            }
            let ring = ledger.standing().keys();
            folder.record_key_ring(&ring).map_err(Stop::failed)?;
            folder.finish_rotation().map_err(Stop::failed)?;
            init::write_admin_token(&folder, &key)?;
            ring
        }
        KeysAction::Retire { id } => {
            let ledger = own_ledger(&folder).await?;
            ledger.retire(KeyId(*id), By::presenter("root key")).await.map_err(Stop::refused)?;
            let ring = ledger.standing().keys();
            folder.record_key_ring(&ring).map_err(Stop::failed)?;
            ring
        }
    };
    output::note("No gateway runs here; this is the state folder's own word.");
    Ok(of_ring(&ring))
}

fn of_ring(ring: &KeyRing) -> Keys {
    Keys { keys: ring.entries().to_vec() }
}

fn read(answer: Value) -> Result<Keys, Stop> {
    serde_json::from_value(answer)
        .map_err(|error| Stop::failed(format!("the gateway's list of keys cannot be read: {error}")))
}

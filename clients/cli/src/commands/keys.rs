//! `postern keys`: the root keys. One mints, some before it are still honoured, retired ones are not.

use std::io::IsTerminal;

use clap::{Args, Subcommand};
use postern_capabilities::keys::{KeyEntry, KeyId, KeyRing, KeyState};
use postern_gateway::ledger::{By, Ledger};
use postern_gateway::state::StateDir;
use serde::Serialize;
use serde_json::{Value, json};

use super::{block_on, init, now, own_ledger};
use crate::admin::{AdminArgs, AdminClient, Reach};
use crate::cli::StateArg;
use crate::output::{self, plain};
use crate::stop::{Exit, Stop};

/// `postern keys`
#[derive(Args)]
#[command(after_help = "\
Examples:
  which keys there are:
    postern keys list
  a new key mints from now on; what the old one signed stays good:
    postern keys rotate
  what retiring key 0 would end, changing nothing:
    postern keys retire 0 --dry-run
  ends everything that key 0 ever signed, and what was minted under it:
    postern keys retire 0

Each goes through the running gateway, or changes the state folder where none runs. What a root key
signed offline leaves no trace and cannot be counted.
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
    /// Capabilities of the old key stay good until it is retired; it is said how many were minted under them and have to be
    /// renewed before that. The admin capability of the state folder is minted anew under the new key.
    #[command(after_help = "Example:\n  postern keys rotate")]
    Rotate,
    /// End everything that a key has signed, and what was minted under it
    ///
    /// Before it is done it is said how many live capabilities fall that were minted through administration, by who presented
    /// the capability that each was minted under; on a terminal it is asked for, unless --yes says so.
    #[command(after_help = "Examples:\n  postern keys retire 0 --dry-run\n  postern keys retire 0")]
    Retire {
        /// The number of the key, as `postern keys list` shows it
        #[arg(value_name = "ID")]
        id: u32,

        /// Say what it would end, and change nothing
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,

        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Live capabilities that were minted through administration, by who presented the one that each was minted under.
#[derive(serde::Deserialize)]
struct Mints {
    mints: Vec<MintsBy>,
}

#[derive(serde::Deserialize)]
struct MintsBy {
    by: String,
    live: usize,
}

impl Mints {
    fn total(&self) -> usize {
        self.mints.iter().map(|mints| mints.live).sum()
    }

    /// `3 by 1a2b3c4d, 1 by 5e6f7a8b`.
    fn by_presenter(&self) -> String {
        let each: Vec<_> = self.mints.iter().map(|mints| format!("{} by {}", mints.live, plain(&mints.by))).collect();
        each.join(", ")
    }
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
    let keeper = match args.admin.reach(state)? {
        Reach::Gateway(gateway) => Keeper::Gateway(gateway),
        Reach::Folder(folder) => match &args.action {
            KeysAction::List => {
                let ring = folder.key_ring().map_err(Stop::failed)?;
                output::note(OWN_WORD);
                return Ok(of_ring(&ring));
            }
            _ => Keeper::Folder(own_ledger(&folder).await?, folder),
        },
    };
    match &args.action {
        KeysAction::List => keeper.keys().await,
        KeysAction::Rotate => {
            let keys = keeper.keys().await?;
            if let Some(minting) = keys.keys.iter().find(|entry| entry.state == KeyState::Minting) {
                match keeper.mints(minting.id).await {
                    Ok(mints) => say_before_rotation(minting.id, &mints),
                    Err(unknown) => not_known(minting.id, &unknown),
                }
            }
            keeper.rotate().await
        }
        KeysAction::Retire { id, dry_run, yes } => {
            match keeper.mints(KeyId(*id)).await {
                Ok(mints) => say_before_retirement(*id, &mints),
                Err(unknown) if *dry_run => return Err(unknown),
                Err(unknown) => not_known(KeyId(*id), &unknown),
            }
            if *dry_run {
                return keeper.keys().await;
            }
            if !yes && !is_confirmed(*id)? {
                return Err(Stop::refused(format!("key {id} was not retired")));
            }
            keeper.retire(*id).await
        }
    }
}

/// A capability for changing keys may not read them, and a gateway of an earlier version cannot say.
fn not_known(id: KeyId, why: &Stop) {
    output::note(&format!("note: how many capabilities were minted under key {id} is not known: {}", why.sentence));
}

fn say_before_rotation(id: KeyId, mints: &Mints) {
    if mints.total() > 0 {
        output::note(&format!(
            "{} live capabilities were minted through administration under key {id} ({}). Renew them under the new key \
             before you retire key {id}, which ends them.",
            mints.total(),
            mints.by_presenter()
        ));
    }
}

fn say_before_retirement(id: u32, mints: &Mints) {
    match mints.total() {
        0 => output::note(&format!(
            "Retiring key {id} ends no live capability that was minted through administration; what it signed offline is \
             not counted."
        )),
        total => output::note(&format!(
            "Retiring key {id} ends {total} live capabilities that were minted through administration ({}); what it \
             signed offline is not counted.",
            mints.by_presenter()
        )),
    }
}

/// Asks on a terminal. A script that retires a key means it.
fn is_confirmed(id: u32) -> Result<bool, Stop> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    output::note(&format!("Retire key {id}? It cannot be undone. Type `yes`:"));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| Stop::failed(format!("the answer cannot be read: {error}")))?;
    Ok(answer.trim() == "yes")
}

const OWN_WORD: &str = "No gateway runs here; this is the state folder's own word.";

/// Who keeps the keys: a running gateway, or the ledger of a folder on which none runs.
enum Keeper {
    Gateway(AdminClient),
    Folder(Ledger, StateDir),
}

impl Keeper {
    async fn keys(&self) -> Result<Keys, Stop> {
        match self {
            Self::Gateway(gateway) => read(gateway.get("/keys").await?),
            Self::Folder(ledger, _) => Ok(of_ring(&ledger.standing().keys())),
        }
    }

    /// What falls with a key.
    async fn mints(&self, id: KeyId) -> Result<Mints, Stop> {
        match self {
            Self::Gateway(gateway) => serde_json::from_value(gateway.get(&format!("/keys/{id}")).await?)
                .map_err(|error| Stop::failed(format!("the gateway's word on key {id} cannot be read: {error}"))),
            Self::Folder(ledger, _) => {
                let mints = ledger.state().read().live_mints(id, now());
                let by = |(by, live): (By, usize)| MintsBy { by: by.to_string(), live };
                Ok(Mints { mints: mints.into_iter().map(by).collect() })
            }
        }
    }

    async fn rotate(&self) -> Result<Keys, Stop> {
        let (ledger, folder) = match self {
            Self::Gateway(gateway) => return read(gateway.post("/keys", &json!({ "action": "rotate" })).await?),
            Self::Folder(ledger, folder) => (ledger, folder),
        };
        let key = folder.stage_rotation().map_err(Stop::failed)?;
        if let Err(error) = ledger.rotate(key.public(), By::presenter("root key")).await {
            folder.forget_rotation().map_err(Stop::failed)?;
            return Err(Stop::failed(error));
        }
        let ring = ledger.standing().keys();
        folder.record_key_ring(&ring).map_err(Stop::failed)?;
        folder.finish_rotation().map_err(Stop::failed)?;
        init::write_admin_token(folder, &key)?;
        output::note(OWN_WORD);
        Ok(of_ring(&ring))
    }

    async fn retire(&self, id: u32) -> Result<Keys, Stop> {
        let (ledger, folder) = match self {
            Self::Gateway(gateway) => {
                return read(gateway.post("/keys", &json!({ "action": "retire", "id": id })).await?);
            }
            Self::Folder(ledger, folder) => (ledger, folder),
        };
        ledger.retire(KeyId(id), By::presenter("root key")).await.map_err(Stop::refused)?;
        let ring = ledger.standing().keys();
        folder.record_key_ring(&ring).map_err(Stop::failed)?;
        output::note(OWN_WORD);
        Ok(of_ring(&ring))
    }
}

fn of_ring(ring: &KeyRing) -> Keys {
    Keys { keys: ring.entries().to_vec() }
}

fn read(answer: Value) -> Result<Keys, Stop> {
    serde_json::from_value(answer)
        .map_err(|error| Stop::failed(format!("the gateway's list of keys cannot be read: {error}")))
}

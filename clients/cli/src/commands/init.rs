//! `postern init`: the state folder. What is there already stays.

use clap::Args;
use postern_capabilities::keys::SigningKey;
use postern_capabilities::mint::mint;
use postern_capabilities::resource::{ADMINISTRATION, Operation, ResourceName, Right};
use postern_gateway::state::{ADMIN_TOKEN, StateDir};
use serde::Serialize;

use crate::cli::StateArg;
use crate::output;
use crate::stop::{Exit, Stop};

/// `postern init`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern init
  postern init --state /var/lib/postern

What is there already stays as it is; running it twice does no harm.
JSON: {\"state\": folder, \"public_key\": \"ed25519/…\", \"made\": [names of new files]}")]
pub(crate) struct InitArgs {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What is in the folder now.
#[derive(Serialize)]
pub(crate) struct Prepared {
    state: String,
    public_key: String,
    made: Vec<&'static str>,
}

pub(crate) fn run(args: &InitArgs, state: &StateArg) -> Result<Exit, Stop> {
    let folder = StateDir::create(state.path()).map_err(Stop::failed)?;
    let (_, prepared) = prepare(&folder)?;
    if args.json {
        output::json(&prepared)?;
        return Ok(Exit::Done);
    }
    let shown = folder.path().display();
    match prepared.made.is_empty() {
        true => output::line(&format!("The state folder {shown} is complete; nothing was changed."))?,
        false => output::line(&format!("The state folder {shown} now has {}.", prepared.made.join(", ")))?,
    }
    output::line(&format!("Public key: {}", prepared.public_key))?;
    output::note(
        "Keep root.key and admin.token to yourself: the one makes capabilities, the other administers the gateway.",
    );
    Ok(Exit::Done)
}

/// Makes what is missing: a root key, and a capability for administration under it.
pub(crate) fn prepare(folder: &StateDir) -> Result<(SigningKey, Prepared), Stop> {
    let mut made = Vec::new();
    let (key, is_new) = folder.root_key_or_create().map_err(Stop::failed)?;
    if is_new {
        made.extend(["root.key", "root.pub"]);
    }
    if !folder.token_path(ADMIN_TOKEN).exists() {
        write_admin_token(folder, &key)?;
        made.push("admin.token");
    }
    let prepared = Prepared { state: folder.path().display().to_string(), public_key: key.public().to_string(), made };
    Ok((key, prepared))
}

/// Mints the capability for administration under this key, in place of an older one.
pub(crate) fn write_admin_token(folder: &StateDir, key: &SigningKey) -> Result<(), Stop> {
    let resource = ResourceName::parse(ADMINISTRATION).map_err(Stop::failed)?;
    let right = Right { resource, operation: Operation::any() };
    let token = mint(key, super::mint::key_id(folder, key)?, &[right], &[]).map_err(Stop::failed)?;
    folder.write_token(ADMIN_TOKEN, token.expose()).map_err(Stop::failed)?;
    Ok(())
}

//! `postern mint`: new authority, with the root key of the state folder or through a gateway that has it.

use clap::Args;
use postern_capabilities::keys::{KeyId, SigningKey};
use postern_capabilities::mint::{MintError, mint};
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::text::TokenText;
use postern_gateway::state::{ADMIN_TOKEN, StateDir};
use serde_json::{Value, json};
use std::path::PathBuf;

use super::{block_on, now};
use crate::admin::{AdminClient, Options};
use crate::caveat_args::CaveatArgs;
use crate::cli::StateArg;
use crate::stop::{Exit, Stop};
use crate::token_input;
use crate::token_output::TokenOutput;

/// `postern mint`
#[derive(Args)]
#[command(after_help = "\
Examples:
  everything on the resource orders:
    postern mint orders
  reading, for 30 days:
    postern mint orders --allow GET,HEAD --expires 30d
  reading, on two resources:
    postern mint orders invoices --allow GET --out read.token
  administration, but revoking only:
    postern mint postern --path /revocations --out revoker.token
  through a gateway, with a capability that permits it:
    postern mint orders --via http://127.0.0.1:7401 --token-file minter.token

Whoever holds a token can use it, narrow it and hand it on, but never widen it. It is printed on
standard output, or written to --out, and goes nowhere else.")]
pub(crate) struct MintArgs {
    /// The resources that it is for
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,

    /// The operations (HTTP methods) that it allows on them [default: all]
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    allow: Vec<String>,

    /// Mint through the administration of a running gateway, not with the root key
    #[arg(long, value_name = "URL", help_heading = "Gateway")]
    via: Option<String>,

    /// With --via: the capability that permits it [default: POSTERN_TOKEN, or admin.token in the state folder]
    #[arg(long, value_name = "FILE", help_heading = "Gateway", requires = "via")]
    token_file: Option<PathBuf>,

    /// With an https:// --via: the certificate authorities that vouch for it, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", help_heading = "Gateway", env = "POSTERN_ADMIN_CA")]
    via_ca: Option<PathBuf>,

    #[command(flatten)]
    caveats: CaveatArgs,

    #[command(flatten)]
    output: TokenOutput,
}

pub(crate) fn run(args: &MintArgs, state: &StateArg) -> Result<Exit, Stop> {
    let resources = args
        .resources
        .iter()
        .map(|name| ResourceName::parse(name).map_err(|error| Stop::usage(format!("the resource {name:?}: {error}"))));
    let resources: Vec<_> = resources.collect::<Result<_, _>>()?;
    let operations = args.allow.iter().map(|text| match text.trim() {
        "*" => Ok(Operation::any()),
        text => Operation::parse(text).map_err(|error| Stop::usage(format!("--allow {text:?}: {error}"))),
    });
    let mut operations: Vec<_> = operations.collect::<Result<_, _>>()?;
    if operations.is_empty() {
        operations.push(Operation::any());
    }
    let token = match &args.via {
        Some(url) => block_on(mint_via(url, &resources, &operations, args, state))?,
        None => mint_offline(&resources, &operations, args, state)?,
    };
    args.output.hand_over(&token)?;
    Ok(Exit::Done)
}

fn mint_offline(
    resources: &[ResourceName],
    operations: &[Operation],
    args: &MintArgs,
    state: &StateArg,
) -> Result<TokenText, Stop> {
    let caveats = args.caveats.caveats(now())?;
    let folder = state.open().map_err(Stop::failed)?;
    let key = folder.root_key().map_err(Stop::failed)?;
    let rights: Vec<Right> = resources
        .iter()
        .flat_map(|resource| {
            operations.iter().map(|operation| Right { resource: resource.clone(), operation: operation.clone() })
        })
        .collect();
    mint(&key, key_id(&folder, &key)?, &rights, &caveats).map_err(|error| match error {
        MintError::Failed => Stop::failed(error),
        _ => Stop::usage(error),
    })
}

/// The number under which tokens of this key name it.
pub(crate) fn key_id(folder: &StateDir, key: &SigningKey) -> Result<KeyId, Stop> {
    folder.key_id(&key.public()).map_err(Stop::failed)?.ok_or_else(|| {
        Stop::failed(format!(
            "the root key in {} is not among the live keys of its gateway, which would refuse what it mints; `postern keys list` shows them",
            folder.path().display()
        ))
    })
}

async fn mint_via(
    url: &str,
    resources: &[ResourceName],
    operations: &[Operation],
    args: &MintArgs,
    state: &StateArg,
) -> Result<TokenText, Stop> {
    let [resource] = resources else {
        return Err(Stop::usage("with --via one resource a call: a gateway mints for one resource at a time"));
    };
    // Read here for their words only; the gateway reads them again, at its own time.
    args.caveats.caveats(now())?;
    let token = match &args.token_file {
        Some(path) => token_input::from_file(path)?,
        None => match token_input::from_environment()? {
            Some(token) => token,
            None => state.open().and_then(|folder| folder.token(ADMIN_TOKEN)).map_err(|error| {
                Stop::failed(format!("{error}. With --via, name a capability that permits minting with --token-file"))
            })?,
        },
    };
    let options = Options { url: "--via", authorities: "--via-ca" };
    let gateway = AdminClient::new(url, token, args.via_ca.as_deref(), options)?;
    let allow: Vec<&str> = operations.iter().map(Operation::as_str).collect();
    let body = json!({ "operations": allow, "caveats": args.caveats.to_json() });
    let answer = gateway.post(&format!("/capabilities/{resource}"), &body).await?;
    match answer.get("token").and_then(Value::as_str) {
        Some(token) => Ok(TokenText::from(token.to_owned())),
        None => Err(Stop::failed(format!("{url} said that it minted, and gave no token"))),
    }
}

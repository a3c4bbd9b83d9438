//! `postern ledger verify`: rebuilds everything from the record and compares.

use clap::{Args, Subcommand};
use postern_gateway::ledger::verify::verify;

use crate::cli::StateArg;
use crate::output;
use crate::stop::{Exit, Stop};

/// `postern ledger`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern ledger verify
  postern ledger verify --state /var/lib/postern --json")]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    action: LedgerAction,
}

#[derive(Subcommand)]
enum LedgerAction {
    /// Rebuild everything from the record, look at every checksum, and compare; exit code 1 if something is wrong
    #[command(after_help = "\
Example:
  postern ledger verify

It reads only, and works beside a running gateway.
JSON: {\"file\", \"folded_until\", \"good_until\", \"keys_live\", \"revoked\", \"damage\": [sentences]}")]
    Verify {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &LedgerArgs, state: &StateArg) -> Result<Exit, Stop> {
    let LedgerAction::Verify { json } = &args.action;
    let folder = state.open().map_err(Stop::failed)?;
    folder.expect_ledger().map_err(Stop::failed)?;
    let file = folder.ledger_path();
    if !file.exists() {
        return Err(Stop::failed(format!(
            "there is no ledger {} yet; the first start of a gateway makes it",
            file.display()
        )));
    }
    let report = verify(&file).map_err(Stop::failed)?;
    match json {
        true => output::json(&report)?,
        false => output::line(&report.to_string())?,
    }
    Ok(if report.is_sound() { Exit::Done } else { Exit::Refused })
}

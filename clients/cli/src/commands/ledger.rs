//! `postern ledger`: `verify` rebuilds everything from the record and compares, `backup` copies it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use postern_gateway::ledger::backup::backup;
use postern_gateway::ledger::verify::verify;

use crate::cli::StateArg;
use crate::output;
use crate::stop::{Exit, Stop};

/// `postern ledger`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern ledger verify
  postern ledger verify --state /var/lib/postern --json
  postern ledger backup /backup/ledger-2030-01-31.db")]
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
    /// Copy the ledger to a file, which must not be there yet, and verify the copy; exit code 1 if something is wrong with it
    #[command(after_help = "\
Example:
  postern ledger backup /backup/ledger-2030-01-31.db

It works beside a running gateway, and the copy has everything that was acknowledged before.
A plain copy of ledger.db would miss what is in the files beside it. To restore: stop the gateway,
remove ledger.db, ledger.db-wal, ledger.db-shm and ledger.mark (by which an older ledger is noticed
and refused), and copy the backup to ledger.db; what was revoked after the backup must be revoked
again.
JSON: that of `postern ledger verify`, about the copy")]
    Backup {
        /// Where the copy goes
        #[arg(value_name = "FILE")]
        copy: PathBuf,

        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &LedgerArgs, state: &StateArg) -> Result<Exit, Stop> {
    let folder = state.open().map_err(Stop::failed)?;
    folder.expect_safe().map_err(Stop::failed)?;
    folder.expect_ledger().map_err(Stop::failed)?;
    let file = folder.ledger_path();
    if !file.exists() {
        return Err(Stop::failed(format!(
            "there is no ledger {} yet; the first start of a gateway makes it",
            file.display()
        )));
    }
    let (report, json) = match &args.action {
        LedgerAction::Verify { json } => (verify(&file).map_err(Stop::failed)?, *json),
        LedgerAction::Backup { copy, json } => (backup(&file, copy).map_err(Stop::failed)?, *json),
    };
    match json {
        true => output::json(&report)?,
        false => output::line(&report.to_string())?,
    }
    Ok(if report.is_sound() { Exit::Done } else { Exit::Refused })
}

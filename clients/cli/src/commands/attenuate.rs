//! `postern attenuate` and `postern seal`: what every holder can do, offline and without a key.

use clap::Args;
use postern_capabilities::attenuate::{self, AttenuateError};

use super::now;
use crate::caveat_args::CaveatArgs;
use crate::stop::{Exit, Stop};
use crate::token_input::TokenInput;
use crate::token_output::TokenOutput;

/// `postern attenuate`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern attenuate --token-file full.token --method GET --expires 10m
  postern attenuate --token-file full.token --path /v1/orders/42 --path '/v1/orders/42/**' --out one-order.token
  postern mint orders | postern attenuate - --client 10.0.0.0/8
  postern attenuate --token-file mcp.token --tool search --arg table=orders

The result allows what the token allowed and the caveats do not prohibit. Nothing is sent anywhere:
hand the result on, and keep the original. Several caveats must all hold.")]
pub(crate) struct AttenuateArgs {
    #[command(flatten)]
    token: TokenInput,

    #[command(flatten)]
    caveats: CaveatArgs,

    #[command(flatten)]
    output: TokenOutput,
}

/// `postern seal`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern seal --token-file read.token --out sealed.token
  postern attenuate --token-file full.token --method GET | postern seal -

A sealed capability allows what it allowed before, and can still be revoked.")]
pub(crate) struct SealArgs {
    #[command(flatten)]
    token: TokenInput,

    #[command(flatten)]
    output: TokenOutput,
}

pub(crate) fn run(args: &AttenuateArgs) -> Result<Exit, Stop> {
    if args.caveats.is_empty() {
        return Err(Stop::usage(
            "no caveat was given, so nothing would be taken away; add one, such as --method GET or --expires 10m",
        ));
    }
    let caveats = args.caveats.caveats(now())?;
    let token = attenuate::attenuate(&args.token.read()?, &caveats).map_err(stop)?;
    args.output.hand_over(&token)?;
    Ok(Exit::Done)
}

pub(crate) fn seal(args: &SealArgs) -> Result<Exit, Stop> {
    let token = attenuate::seal(&args.token.read()?).map_err(stop)?;
    args.output.hand_over(&token)?;
    Ok(Exit::Done)
}

/// A token that cannot be narrowed is a plain no; everything about the caveats is the command line's fault.
fn stop(error: AttenuateError) -> Stop {
    match error {
        AttenuateError::Caveat(_) | AttenuateError::NoCaveat => Stop::usage(error),
        AttenuateError::Failed => Stop::failed(error),
        _ => Stop::refused(error),
    }
}

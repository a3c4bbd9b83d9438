//! `postern inspect`: what a token says, in words. It believes nothing; whether the signature holds is one of the things it says.

use clap::Args;
use postern_capabilities::explain::{BlockInspection, Content, Inspection, Signature, inspect};
use postern_capabilities::token::Price;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::now;
use crate::cli::StateArg;
use crate::output::{self, Paint, plain};
use crate::stop::{Exit, Stop};
use crate::token_input::TokenInput;
use crate::trust::TrustArgs;

/// `postern inspect`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern inspect --token-file read.token
  postern mint orders --expires 10m | postern inspect -
  postern inspect --token-file read.token --json | jq -r '.blocks[].revocation_id'

It shows the blocks, their facts and checks, and the id by which each can be revoked; never the token
itself. The exit code is 0 for every token that can be read; `postern check` says what would pass.
JSON: {\"root_key_id\", \"sealed\", \"signature\": {\"state\": …},
       \"content\": {\"state\", \"rights\", \"price\", \"prices\": {\"once\", \"each\"}, \"dates\", …},
       \"blocks\": [{\"block\", \"revocation_id\", \"facts\", \"checks\": [{\"check\", \"text\", …}]}]}")]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    token: TokenInput,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InspectArgs, state: &StateArg) -> Result<Exit, Stop> {
    let token = args.token.read()?;
    let standing = args.trust.standing(&token, state)?;
    let inspection = inspect(&token, standing.as_ref()).map_err(Stop::refused)?;
    match args.json {
        true => output::json(&inspection)?,
        false => output::line(&written(&inspection, Paint::for_stdout(), now()))?,
    }
    Ok(Exit::Done)
}

fn written(inspection: &Inspection, paint: Paint, now: u64) -> String {
    let mut lines = vec![signature(inspection, paint)];
    if let Some(block) = inspection.revoked_block {
        lines.push(paint.red(&format!("Revoked, at block {block}.")));
    }
    match &inspection.content {
        Content::Admitted { rights, expires_at, price, prices, dates } => {
            let rights: Vec<String> = rights.iter().map(|r| format!("{} {}", r.operation, r.resource)).collect();
            let what = if rights.is_empty() { "nothing".to_owned() } else { rights.join(", ") };
            lines.push(format!("Rights:    {}", paint.bold(&what)));
            if let Some(at) = expires_at {
                let past = if *at < now { paint.red(" (expired)") } else { String::new() };
                lines.push(format!("Expires:   {}{past}", printed_time(*at)));
            }
            lines.push(format!(
                "Price:     {price} steps at most for one decision{}{}",
                of_body(*prices),
                of_dates(*dates)
            ));
        }
        Content::NotAdmitted(reason) => lines.push(paint.red(&format!("Not admitted: {}", plain(&reason.to_string())))),
    }
    if inspection.sealed {
        lines.push("Sealed:    it cannot be narrowed any further".to_owned());
    }
    for block in &inspection.blocks {
        lines.push(String::new());
        push_block(block, paint, &mut lines);
    }
    lines.join("\n")
}

/// What of a price each call of a batch costs.
fn of_body(Price { once, each }: Price) -> String {
    match each {
        0 => String::new(),
        each => format!(": {once}, and {each} for each call in its body"),
    }
}

/// How often that is paid on a message that stays open.
fn of_dates(dates: u64) -> String {
    match dates {
        0 | 1 => String::new(),
        dates => format!("; counted {dates} times, once for each date"),
    }
}

fn signature(inspection: &Inspection, paint: Paint) -> String {
    let id = inspection.root_key_id.map_or_else(String::new, |id| format!(" number {id}"));
    match &inspection.signature {
        Signature::NotChecked => format!(
            "Signature: {}",
            paint.yellow(&format!("not checked, as no key is known here; the token names the key{id}"))
        ),
        Signature::Verified { key } => format!("Signature: {} under the key{id}, {key}", paint.green("good")),
        Signature::Refused { reason, .. } => format!("Signature: {}", paint.red(&plain(reason))),
    }
}

fn push_block(block: &BlockInspection, paint: Paint, lines: &mut Vec<String>) {
    let name = match block.block {
        0 => "Block 0, the authority".to_owned(),
        number => format!("Block {number}"),
    };
    let vouched = block.third_party.map_or_else(String::new, |key| format!(", by {key}"));
    lines.push(paint.bold(&format!("{name}{vouched}")));
    if let Some(note) = &block.note {
        lines.push(format!("  note     {}", plain(note)));
    }
    if !block.trusting.is_empty() {
        lines.push(format!("  {}", plain(block.trusting.trim())));
    }
    for fact in &block.facts {
        lines.push(format!("  fact     {}", plain(fact)));
    }
    for check in &block.checks {
        lines.push(format!("  caveat   {}", plain(&check.text)));
    }
    if let Some(id) = &block.revocation_id {
        lines.push(paint.dim(&format!("  revoke   {id}")));
    }
}

/// A time as people and RFC 3339 write it.
pub(crate) fn printed_time(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("second {seconds}"))
}

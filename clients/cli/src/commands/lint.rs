//! `postern lint`: what in a token can never pass, or is not admitted.

use clap::Args;
use postern_capabilities::explain::{Finding, Severity, lint};
use serde::Serialize;

use super::now;
use crate::output::{self, Paint, plain};
use crate::stop::{Exit, Stop};
use crate::token_input::TokenInput;

/// `postern lint`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern lint --token-file read.token
  postern attenuate --token-file full.token --method GET --method POST | postern lint -

It needs no key. The exit code is 0 if nothing was found, and 1 otherwise.
JSON: {\"findings\": [{\"severity\": \"useless\" | \"suspicious\", \"block\", \"check\", \"message\"}]}")]
pub(crate) struct LintArgs {
    #[command(flatten)]
    token: TokenInput,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

pub(crate) fn run(args: &LintArgs) -> Result<Exit, Stop> {
    let findings = lint(&args.token.read()?, now());
    let exit = if findings.is_empty() { Exit::Done } else { Exit::Refused };
    if args.json {
        output::json(&Findings { findings })?;
        return Ok(exit);
    }
    let paint = Paint::for_stdout();
    for finding in &findings {
        output::line(&written(finding, paint))?;
    }
    if findings.is_empty() {
        output::line("Nothing was found that could never pass.")?;
    }
    Ok(exit)
}

fn written(finding: &Finding, paint: Paint) -> String {
    let severity = match finding.severity {
        Severity::Useless => paint.red("useless"),
        Severity::Suspicious => paint.yellow("suspicious"),
    };
    let place = match (finding.block, finding.check) {
        (Some(block), Some(check)) => format!(" (block {block}, check {check})"),
        (Some(block), None) => format!(" (block {block})"),
        _ => String::new(),
    };
    format!("{severity}{place}: {}", plain(&finding.message))
}

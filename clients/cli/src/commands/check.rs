//! `postern check`: would this message pass, and if not, what stops it? The same code decides as in the gateway.

use clap::Args;
use postern_capabilities::authorize::{FailedCaveat, Refusal, authorize};
use postern_capabilities::revocation::Standing;
use postern_capabilities::token::{Capability, PRICE_BUDGET_DEFAULT, Unverified};
use serde::Serialize;

use super::now;
use crate::cli::StateArg;
use crate::message_args::{MessageArgs, OwnedMessage};
use crate::output::{self, Paint, plain};
use crate::stop::{Exit, Stop};
use crate::token_input::TokenInput;
use crate::trust::TrustArgs;

/// `postern check`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern check --token-file read.token --resource orders --method GET --path /v1/orders/42
  postern check --token-file read.token --resource orders --path /v1/orders --query page=2 --client 10.1.2.3
  postern check --token-file read.token --resource orders --time 2030-01-01T00:00:00Z
  postern check --token-file mcp.token --resource tools --method POST --tool search --arg index=public
  postern check --token-file mcp.token --resource tools --method POST --path /mcp --body call.json
  postern check - --public-key \"$(cat root.pub)\" --resource orders < read.token

The exit code is 0 if the message would be allowed, and 1 if not. Keys and revocations are those of
the state folder, unless --public-key names the root's key. A body is given whole with --body, or
in short with --rpc, --tool and --arg.
JSON: {\"allowed\": false, \"type\": \"not-permitted\", \"reason\": …, \"caveats\": [{\"block\", \"check\", \"text\"}]}")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    token: TokenInput,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    message: MessageArgs,
}

/// What a message needs that has a body of which nothing is known.
const BODY_UNKNOWN: &str =
    "a caveat asks what the body says: give it with --body FILE, or say what it calls with --rpc, --tool and --arg";

/// The answer. `type` is the problem type that a gateway would send.
#[derive(Serialize)]
struct Verdict {
    allowed: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The caveats that stop the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    caveats: Vec<FailedCaveat>,
    /// How many more do.
    #[serde(skip_serializing_if = "is_none")]
    more: usize,
}

fn is_none(more: &usize) -> bool {
    *more == 0
}

pub(crate) fn run(args: &CheckArgs, state: &StateArg) -> Result<Exit, Stop> {
    if args.message.reads_stdin() && args.token.token.as_deref() == Some("-") {
        return Err(Stop::usage("the token and the body cannot both come from standard input: use --token-file"));
    }
    let mut message = args.message.read(now())?;
    let token = args.token.read()?;
    let Some(standing) = args.trust.standing(&token, state)? else {
        return Err(Stop::failed(format!(
            "no key is known here to verify the token with: name the root's public key with --public-key, or a state folder with --state (there is none at {})",
            state.path().display()
        )));
    };
    let verdict = match Unverified::parse(&token) {
        Err(error) => Verdict::refused(error.kind(), error.to_string()),
        Ok(unverified) => match unverified.verify(&standing, PRICE_BUDGET_DEFAULT) {
            Err(error) => Verdict::refused(error.kind(), error.to_string()),
            Ok(capability) => decide(&capability, &mut message, &standing),
        },
    };
    let exit = if verdict.allowed { Exit::Done } else { Exit::Refused };
    match args.json {
        true => output::json(&verdict)?,
        false => output::line(&verdict.written(Paint::for_stdout()))?,
    }
    Ok(exit)
}

/// Decides as the gateway does: by the head, and where that leaves it open, by the body.
fn decide(capability: &Capability, message: &mut OwnedMessage, standing: &Standing) -> Verdict {
    let mut decided = authorize(capability, message.message(), standing).map(drop);
    if decided == Err(Refusal::BodyFactsRequired) {
        if let Err(error) = message.read_body(capability) {
            return Verdict::refused("bad-body", format!("a caveat of the token reads the body, and {error}"));
        }
        decided = authorize(capability, message.message(), standing).map(drop);
    }
    match decided {
        Ok(()) => Verdict { allowed: true, kind: None, reason: None, caveats: Vec::new(), more: 0 },
        Err(refusal @ Refusal::BodyFactsRequired) => Verdict::refused(refusal.kind(), BODY_UNKNOWN.to_owned()),
        Err(refusal) => Verdict::of_refusal(&refusal),
    }
}

impl Verdict {
    fn refused(kind: &'static str, reason: String) -> Self {
        Self { allowed: false, kind: Some(kind), reason: Some(reason), caveats: Vec::new(), more: 0 }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        let (caveats, more) = match refusal {
            Refusal::Caveat(failed) => (failed.iter().cloned().collect(), failed.unlisted()),
            _ => (Vec::new(), 0),
        };
        Self { caveats, more, ..Self::refused(refusal.kind(), refusal.to_string()) }
    }

    fn written(&self, paint: Paint) -> String {
        let Some(kind) = self.kind else {
            return format!("{}: the message would pass.", paint.green("allowed"));
        };
        let denied = paint.red("denied");
        if self.caveats.is_empty() {
            return format!("{denied} ({kind}): {}", plain(self.reason.as_deref().unwrap_or_default()));
        }
        let caveats = self.caveats.iter().map(|caveat| format!("\n  {}", plain(&caveat.to_string())));
        let more = match self.more {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let caveats: String = caveats.chain([more]).collect();
        format!("{denied} ({kind}): the right is held, and this stops the message:{caveats}")
    }
}

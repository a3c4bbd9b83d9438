//! `postern check`: would this message pass, and if not, what stops it? The same code decides as in the gateway.

use std::collections::BTreeSet;

use clap::Args;
use postern_capabilities::authorize::{FailedCaveat, Refusal, authorize};
use postern_capabilities::message::Message;
use postern_capabilities::resource::Right;
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
JSON: {\"allowed\": true, \"right\": {\"resource\", \"operation\"}, \"passed\": 2}
      {\"allowed\": false, \"type\": \"not-permitted\", \"reason\": …, \"advice\": …,
       \"caveats\": [{\"block\", \"check\", \"text\", \"words\"}]}")]
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
#[derive(Default, Serialize)]
struct Verdict {
    allowed: bool,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
    /// The right that the message uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    right: Option<Right>,
    /// How many caveats let it pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<usize>,
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
            return Verdict::of_message("bad-body", format!("a caveat of the token reads the body, and {error}"));
        }
        decided = authorize(capability, message.message(), standing).map(drop);
    }
    match decided {
        Ok(()) => Verdict::allowed(capability, &message.message()),
        Err(refusal @ Refusal::BodyFactsRequired) => Verdict::of_message(refusal.kind(), BODY_UNKNOWN.to_owned()),
        Err(refusal) => Verdict::of_refusal(&refusal, message.message().resource, capability),
    }
}

impl Verdict {
    fn allowed(capability: &Capability, message: &Message<'_>) -> Self {
        let uses = |right: &&Right| right.covers(message.resource, message.operation);
        Self {
            allowed: true,
            right: capability.rights().iter().find(uses).cloned(),
            passed: Some(capability.caveat_count()),
            ..Self::default()
        }
    }

    fn refused(kind: &'static str, reason: String) -> Self {
        Self { kind: Some(kind), reason: Some(reason), advice: Some(NOT_ACCEPTED), ..Self::default() }
    }

    /// What the message lacks, and not the token.
    fn of_message(kind: &'static str, reason: String) -> Self {
        Self { kind: Some(kind), reason: Some(reason), ..Self::default() }
    }

    fn of_refusal(refusal: &Refusal, resource: &str, capability: &Capability) -> Self {
        let (caveats, more) = match refusal {
            Refusal::Caveat(failed) => (failed.iter().cloned().collect(), failed.unlisted()),
            _ => (Vec::new(), 0),
        };
        let mut reason = refusal.to_string();
        if matches!(refusal, Refusal::NoRight) {
            let elsewhere: BTreeSet<&str> = capability.rights().iter().map(|right| right.resource.as_str()).collect();
            let elsewhere: Vec<&str> = elsewhere.into_iter().collect();
            reason = match elsewhere.as_slice() {
                [] => format!("the token holds no right on {resource}, nor on anything else"),
                elsewhere => format!("the token holds no right on {resource}, but on {}", elsewhere.join(", ")),
            };
        }
        Self { caveats, more, advice: Some(advice(refusal)), ..Self::refused(refusal.kind(), reason) }
    }

    fn written(&self, paint: Paint) -> String {
        let Some(kind) = self.kind else {
            let right = self.right.as_ref().map_or_else(String::new, |right| format!("; the right is {right}"));
            let passed = match self.passed.unwrap_or_default() {
                0 => "the token has no caveats".to_owned(),
                1 => "its one caveat lets it pass".to_owned(),
                passed => format!("all {passed} caveats let it pass"),
            };
            return format!("{}: the message would pass{right}, and {passed}.", paint.green("allowed"));
        };
        let denied = paint.red("denied");
        let advice = self.advice.map_or_else(String::new, |advice| format!("\n{}", paint.dim(advice)));
        if self.caveats.is_empty() {
            return format!("{denied} ({kind}): {}{advice}", plain(self.reason.as_deref().unwrap_or_default()));
        }
        let caveats = self.caveats.iter().map(|caveat| {
            let text = caveat
                .words
                .as_ref()
                .map_or_else(String::new, |_| format!("\n      {}", paint.dim(&plain(&caveat.text))));
            format!("\n  {}{text}", plain(&caveat.to_string()))
        });
        let more = match self.more {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let caveats: String = caveats.chain([more]).collect();
        format!("{denied} ({kind}): the right is held, and this stops the message:{caveats}{advice}")
    }
}

/// What to do about a token that no gateway with these keys takes.
const NOT_ACCEPTED: &str =
    "Ask whoever handed it out for another token, or name the key that signed it with --public-key.";

/// What to do about a refusal.
fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Revoked { .. } | Refusal::KeyRetired | Refusal::Expired { .. } => {
            "Ask whoever handed the token out for a new one."
        }
        Refusal::NoRight => {
            "No attenuation adds a right: ask for a token minted with one on it, or check the resource's name."
        }
        Refusal::OtherOperation(_) => {
            "No attenuation adds a right: use one of those methods, or ask for a token minted with a right to this one."
        }
        Refusal::UnreadableQuery(_) => "Write the query so that it can be read in one way only.",
        Refusal::LengthRequired => "Say how long the body is, with --body-size.",
        Refusal::BatchTooLarge { .. } => "Send the calls in several messages, or use a token with simpler caveats.",
        Refusal::BodyFactsRequired => "Say what the body says, with --rpc, --tool or --arg.",
        Refusal::Caveat(_) => {
            "Ask whoever narrowed the token for one with fewer caveats, or send a message that complies: nobody can take a caveat away again."
        }
        Refusal::Undecidable { .. } => {
            "What cannot be decided is not allowed: have whoever wrote the caveat correct it, or use another token."
        }
    }
}

//! `postern log`: what the ledger has recorded, oldest first; and what it records from now on.

use clap::Args;
use postern_gateway::ledger::Position;
use postern_gateway::state::StateDir;
use serde_json::{Map, Value};

use super::inspect::printed_time;
use super::{block_on, own_ledger};
use crate::admin::{AdminArgs, AdminClient, AdminError, Reach};
use crate::cli::StateArg;
use crate::output::{self, Paint, plain};
use crate::stop::{Exit, Stop};

/// Entries asked for at once.
const PAGE: usize = 500;
/// How long the gateway may wait for something to happen, while following.
const FOLLOW_WAIT_SECONDS: u64 = 20;
/// Hexadecimal digits of a key or an id that a table shows; --json has all of them.
const DIGITS_SHOWN: usize = 16;

/// `postern log`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern log
  postern log --follow
  postern log --after 120 --json | jq 'select(.event == \"revoked\")'

JSON: one object a line: {\"position\", \"at\": seconds since 1970, \"by\", \"event\", …}")]
pub(crate) struct LogArgs {
    /// Stay, and show what is recorded from now on; Ctrl-C ends it
    #[arg(long, short)]
    follow: bool,

    /// Only what was recorded after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &LogArgs, state: &StateArg) -> Result<Exit, Stop> {
    block_on(async {
        tokio::select! {
            shown = show(args, state) => shown,
            // Following ends this way and no other.
            _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
        }
    })
}

async fn show(args: &LogArgs, state: &StateArg) -> Result<Exit, Stop> {
    let mut table = Table { json: args.json, paint: Paint::for_stdout(), any: false, after: args.after };
    let gateway = match args.admin.reach(state)? {
        Reach::Gateway(gateway) => gateway,
        Reach::Folder(folder) => return from_file(args, &folder, &mut table).await,
    };
    let mut after = args.after;
    loop {
        let events = page(&gateway, after, args.follow).await?;
        if events.is_empty() && !args.follow {
            return table.end();
        }
        for event in &events {
            after = after.max(event.get("position").and_then(Value::as_u64).unwrap_or(after));
            table.row(event)?;
        }
    }
}

async fn page(gateway: &AdminClient, after: u64, follow: bool) -> Result<Vec<Map<String, Value>>, AdminError> {
    let wait = if follow { FOLLOW_WAIT_SECONDS } else { 0 };
    let answer = gateway.get(&format!("/ledger?after={after}&limit={PAGE}&wait={wait}")).await?;
    let events = answer.get("entries").cloned().unwrap_or(Value::Null);
    serde_json::from_value(events)
        .map_err(|error| AdminError::Failed(format!("the gateway's ledger cannot be read: {error}")))
}

/// Where no gateway runs: the ledger itself.
async fn from_file(args: &LogArgs, folder: &StateDir, table: &mut Table) -> Result<Exit, Stop> {
    if args.follow {
        return Err(Stop::failed("no gateway is running, so nothing will be recorded; leave out --follow"));
    }
    folder.expect_ledger().map_err(Stop::failed)?;
    if !folder.ledger_path().exists() {
        output::note("Nothing has been recorded: no gateway has started with this state folder yet.");
        return Ok(Exit::Done);
    }
    let ledger = own_ledger(folder).await?;
    let mut after = Position(args.after);
    loop {
        let entries = ledger.record().read(after, PAGE).await.map_err(Stop::failed)?;
        let Some(last) = entries.last() else { return table.end() };
        after = last.position;
        for entry in &entries {
            match serde_json::to_value(entry) {
                Ok(Value::Object(event)) => table.row(&event)?,
                _ => return Err(Stop::failed("an entry of the ledger cannot be shown")),
            }
        }
    }
}

struct Table {
    json: bool,
    paint: Paint,
    any: bool,
    /// The position behind which it begins.
    after: u64,
}

impl Table {
    fn row(&mut self, event: &Map<String, Value>) -> Result<(), Stop> {
        if self.json {
            self.any = true;
            return output::json_line(event);
        }
        if !self.any {
            let head = format!("{:>6}  {:<20}  {:<16}  {:<12}  {}", "#", "WHEN", "BY", "EVENT", "WHAT");
            output::line(&self.paint.dim(&head))?;
            self.any = true;
        }
        output::line(&written(event))
    }

    fn end(&self) -> Result<Exit, Stop> {
        if !self.any {
            match self.after {
                0 => output::note("Nothing has been recorded."),
                after => output::note(&format!("Nothing has been recorded after {after}.")),
            }
        }
        Ok(Exit::Done)
    }
}

fn written(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(plain).unwrap_or_default();
    let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
    let rest = event.iter().filter(|(name, _)| !["position", "at", "by", "event"].contains(&name.as_str()));
    let rest: Vec<String> = rest.map(|(name, value)| format!("{} {}", plain(name), shortened(value))).collect();
    let line = format!(
        "{:>6}  {:<20}  {:<16}  {:<12}  {}",
        number("position"),
        printed_time(number("at")),
        text("by"),
        text("event"),
        rest.join(", ")
    );
    line.trim_end().to_owned()
}

fn shortened(value: &Value) -> String {
    if let Value::Array(values) = value {
        return values.iter().map(shortened).collect::<Vec<_>>().join(" ");
    }
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = plain(&text);
    let (prefix, digits) = text.rsplit_once('/').map_or(("", &*text), |(prefix, digits)| (prefix, digits));
    if digits.len() > 2 * DIGITS_SHOWN && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let separator = if prefix.is_empty() { "" } else { "/" };
        return format!("{prefix}{separator}{}…", &digits[..DIGITS_SHOWN]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_whatever_the_event_says() {
        let event = serde_json::json!({
            "position": 7, "at": 0, "by": "ab\u{1b}[2J", "event": "revoked", "id": "f".repeat(128),
        });
        let Value::Object(event) = event else { panic!() };
        let row = written(&event);
        assert_eq!(row, "     7  1970-01-01T00:00:00Z  ab\\u{1b}[2J       revoked       id ffffffffffffffff…");
    }

    #[test]
    fn a_key_keeps_its_prefix() {
        let key = format!("ed25519/{}", "a".repeat(64));
        assert_eq!(shortened(&Value::from(key)), "ed25519/aaaaaaaaaaaaaaaa…");
        assert_eq!(shortened(&Value::from(3)), "3");
        let minted = serde_json::json!({ "position": 1, "at": 0, "event": "minted", "under": ["c".repeat(128)] });
        assert!(written(minted.as_object().unwrap()).ends_with("under cccccccccccccccc…"));
        assert_eq!(shortened(&serde_json::json!(["a".repeat(128), "b"])), "aaaaaaaaaaaaaaaa… b");
    }
}

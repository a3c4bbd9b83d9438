//! `postern status`: how a running gateway does. On a terminal a table that is refreshed in place, elsewhere one table or
//! JSON.
//!
//! [`table`] turns the gateway's document into lines that fit a width; [`screen`] is the terminal that they are drawn on.

mod screen;
mod table;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use self::screen::{Key, Screen};
use super::block_on;
use crate::admin::{AdminArgs, AdminClient, AdminError, Reach};
use crate::cli::StateArg;
use crate::output::{self, Paint};
use crate::stop::{Exit, Stop};

/// How often the table is refreshed.
const REFRESH: Duration = Duration::from_secs(1);
/// The width of a table that nobody sees on a terminal.
const WIDTH_DEFAULT: usize = 120;

/// `postern status`
#[derive(Args)]
#[command(after_help = "\
Examples:
  a table, refreshed every second; q ends it:
    postern status
  one table:
    postern status --once
  one JSON object:
    postern status --json | jq '.resources[] | {name, messages_per_second, refusals}'
  one JSON object a line, every second:
    postern status --json --watch

Messages are counted when they end. MSG/S is the mean of the last ten seconds; MEDIAN and P99 are upper
bounds of the time from a request's head to its answer's, since the gateway started. Refused: the
gateway said no. Failed: it said yes, and the service or the client was not up to it. Usable: neither
left alone after failures nor failing a health check, if it has one. A capability for this alone:
  postern attenuate --token-file .postern/admin.token --method GET --path /status --out status.token
  postern status --admin-token-file status.token")]
pub(crate) struct StatusArgs {
    /// Print one table and end; the default where standard output is no terminal
    #[arg(long, conflicts_with = "watch")]
    once: bool,

    /// Print the status as JSON
    #[arg(long)]
    json: bool,

    /// With --json: print one object a line every second, until Ctrl-C
    #[arg(long, requires = "json")]
    watch: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(crate) fn run(args: &StatusArgs, state: &StateArg) -> Result<Exit, Stop> {
    let gateway = match args.admin.reach(state)? {
        Reach::Gateway(gateway) => gateway,
        Reach::Folder(folder) => {
            return Err(Stop::failed(format!(
                "no gateway is running on the state folder {}: start one with `postern serve` or `postern proxy`, or name another with --admin",
                folder.path().display()
            )));
        }
    };
    block_on(async {
        if args.json {
            return json(&gateway, args.watch).await;
        }
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if !args.once && !is_dumb && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return refreshed(&gateway).await;
        }
        let status = asked(&gateway).await?;
        let width = screen::size().map_or(WIDTH_DEFAULT, |(width, _)| width);
        for line in table::lines(&status, width, Paint::for_stdout()) {
            output::line(&line)?;
        }
        Ok(Exit::Done)
    })
}

async fn asked(gateway: &AdminClient) -> Result<Value, AdminError> {
    gateway.get("/status").await
}

async fn json(gateway: &AdminClient, watch: bool) -> Result<Exit, Stop> {
    if !watch {
        output::json(&asked(gateway).await?)?;
        return Ok(Exit::Done);
    }
    let mut ticks = ticks();
    loop {
        tokio::select! {
            _ = ticks.tick() => output::json_line(&asked(gateway).await?)?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(REFRESH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Draws the table over itself until somebody has seen enough. A gateway that does not answer for a while is waited for;
/// one that says no ends it.
async fn refreshed(gateway: &AdminClient) -> Result<Exit, Stop> {
    let cannot = |error| Stop::failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut resized = signal(SignalKind::window_change()).map_err(cannot)?;
    let mut screen = Screen::open()?;
    let mut ticks = ticks();
    let paint = Paint::for_stdout();
    let mut last = None;
    let mut trouble: Option<String> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => match asked(gateway).await {
                Ok(status) => (last, trouble) = (Some(status), None),
                Err(AdminError::Failed(sentence)) => trouble = Some(sentence),
                Err(refused) => return Err(refused.into()),
            },
            _ = resized.recv() => {}
            key = screen.key() => match key {
                Key::Quit => return Ok(Exit::Done),
                Key::Other => continue,
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            _ = terminate.recv() => return Ok(Exit::Done),
        }
        let (width, height) = screen::size().unwrap_or((WIDTH_DEFAULT, 24));
        let mut lines = Vec::new();
        if let Some(sentence) = &trouble {
            lines.extend([paint.red(&table::cut(&output::plain(sentence), width)), String::new()]);
        }
        lines.extend(last.iter().flat_map(|status| table::lines(status, width, paint)));
        screen.draw(&lines, height, &paint.dim("q ends"))?;
    }
}

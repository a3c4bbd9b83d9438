//! `postern config`: what is wrong with a configuration file, all of it at once; or a file to start from.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use postern_gateway::config::{Config, DEFAULT_FILE};
use serde::Serialize;

use crate::output::{self, plain};
use crate::stop::{Exit, Stop};

/// `postern config`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern config check
  postern config check --config /etc/postern.toml --json
  postern config default > postern.toml")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Subcommand)]
enum ConfigAction {
    /// List every mistake in a configuration file; exit code 1 if there are any
    #[command(after_help = "\
Examples:
  postern config check --config postern.toml

JSON: {\"ok\": false, \"mistakes\": [{\"line\": 3 or null, \"key\": …, \"sentence\": …}]}")]
    Check {
        /// The file
        #[arg(long, value_name = "FILE", default_value = "postern.toml")]
        config: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a file with every key, its default, and what it does
    #[command(after_help = "Example:\n  postern config default > postern.toml")]
    Default,
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    mistakes: Vec<Mistake>,
}

#[derive(Serialize)]
struct Mistake {
    line: Option<usize>,
    key: String,
    sentence: String,
}

pub(crate) fn run(args: &ConfigArgs) -> Result<Exit, Stop> {
    match &args.action {
        ConfigAction::Default => output::raw(DEFAULT_FILE.as_bytes()).map(|()| Exit::Done),
        ConfigAction::Check { config, json } => check(config, *json),
    }
}

fn check(path: &std::path::Path, json: bool) -> Result<Exit, Stop> {
    if !path.is_file() {
        return Err(Stop::failed(format!(
            "there is no configuration file {}; name it with --config, or start with `postern config default > postern.toml`",
            path.display()
        )));
    }
    let (mistakes, resources) = match Config::load(path) {
        Ok(config) => (Vec::new(), config.resources.len()),
        Err(errors) => (errors.mistakes, 0),
    };
    let exit = if mistakes.is_empty() { Exit::Done } else { Exit::Refused };
    let shown = path.display();
    if json {
        let mistakes =
            mistakes.into_iter().map(|m| Mistake { line: m.line, key: m.key, sentence: m.sentence }).collect();
        output::json(&Verdict { ok: exit == Exit::Done, mistakes })?;
    } else if mistakes.is_empty() {
        let what = if resources == 1 { "1 resource".to_owned() } else { format!("{resources} resources") };
        output::line(&format!("{shown} is good: {what}."))?;
    } else {
        for mistake in mistakes {
            output::line(&format!("{shown}: {}", plain(&mistake.to_string())))?;
        }
    }
    Ok(exit)
}

//! `postern config`: what is wrong with a configuration file and the files that it names, all of it at once; or a file to
//! start from.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use postern_gateway::config::{self, Config, DEFAULT_FILE};
use postern_gateway::generation::Contents;
use postern_gateway::state::StateDir;
use serde::Serialize;

use super::expect_config_file;
use crate::cli::StateArg;
use crate::output::{self, plain};
use crate::stop::{Exit, Stop};
use crate::trust::standing_of;

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
    /// List every mistake in a configuration file and in the files that it names; exit code 1 if there are any
    #[command(after_help = "\
Examples:
  postern config check --config postern.toml
  postern config check --config /etc/postern.toml --state /var/lib/postern

Certificates, keys, authorities, the collector's header fields and anonymous tokens are read and
verified as the gateway would at its start; it works beside one that runs. Addresses are not bound,
the access log is not opened, and nobody is connected to. Anonymous tokens are verified with the keys
of the state folder; what could not be looked at is said, and is no mistake.

JSON: {\"ok\": false, \"mistakes\": [{\"line\": 3 or null, \"key\": …, \"sentence\": …}], \"unchecked\": [sentences]}")]
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
    unchecked: Vec<String>,
}

#[derive(Serialize)]
struct Mistake {
    line: Option<usize>,
    key: String,
    sentence: String,
}

pub(crate) fn run(args: &ConfigArgs, state: &StateArg) -> Result<Exit, Stop> {
    match &args.action {
        ConfigAction::Default => output::raw(DEFAULT_FILE.as_bytes()).map(|()| Exit::Done),
        ConfigAction::Check { config, json } => check(config, state, *json),
    }
}

fn check(path: &Path, state: &StateArg, json: bool) -> Result<Exit, Stop> {
    expect_config_file(path)?;
    let found = Found::in_file(path, state);
    let exit = if found.mistakes.is_empty() { Exit::Done } else { Exit::Refused };
    let shown = path.display();
    if json {
        let mistakes = found.mistakes.into_iter();
        let mistakes = mistakes.map(|m| Mistake { line: m.line, key: m.key, sentence: m.sentence }).collect();
        output::json(&Verdict { ok: exit == Exit::Done, mistakes, unchecked: found.unchecked })?;
        return Ok(exit);
    }
    for mistake in &found.mistakes {
        output::line(&format!("{shown}: {}", plain(&mistake.to_string())))?;
    }
    for sentence in &found.unchecked {
        output::note(&format!("Not checked: {}", plain(sentence)));
    }
    if exit == Exit::Done {
        let resources = found.resources;
        let what = if resources == 1 { "1 resource".to_owned() } else { format!("{resources} resources") };
        output::line(&format!("{shown} is good: {what}."))?;
    }
    Ok(exit)
}

/// What a look at a configuration found.
struct Found {
    mistakes: Vec<config::Mistake>,
    /// What could not be looked at, each a sentence.
    unchecked: Vec<String>,
    resources: usize,
}

impl Found {
    fn in_file(path: &Path, state: &StateArg) -> Self {
        let config = match Config::load(path) {
            Ok(config) => config,
            Err(errors) => {
                let inside = "what is in the files that it names; they are read once nothing is wrong with the configuration itself.";
                return Self { mistakes: errors.mistakes, unchecked: vec![inside.to_owned()], resources: 0 };
            }
        };
        let mut unchecked = Vec::new();
        let with_token: Vec<_> = config.resources.iter().filter(|resource| resource.anonymous.is_some()).collect();
        let mut standing = None;
        // Where no token is to be verified, no keys are needed, and there need not be a state folder yet.
        if !with_token.is_empty() {
            let folder = StateDir::open(state.path_for(&config)).map_err(Stop::failed);
            match folder.and_then(|folder| standing_of(&folder)) {
                Ok(known) => standing = Some(known),
                Err(stop) => {
                    let names: Vec<_> =
                        with_token.iter().map(|resource| format!("resource.{}", resource.name)).collect();
                    unchecked.push(format!(
                        "whether the anonymous token of {} verifies: {}. Name the gateway's state folder with --state.",
                        names.join(", "),
                        stop.sentence.trim_end_matches('.')
                    ));
                }
            }
        }
        let mistakes = Contents::mistakes(&config, standing.as_ref());
        Self { mistakes, unchecked, resources: config.resources.len() }
    }
}

//! Every command with its words, and what a person sees who asks for help or mistypes.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use postern_gateway::config::Config;
use postern_gateway::state::{STATE_DIR_DEFAULT, StateDir, StateError};

use crate::commands;
use crate::output;
use crate::stop::Exit;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Names the state folder where `--state` does not. Empty is as good as not set.
const STATE_VARIABLE: &str = "POSTERN_STATE";

const EXAMPLES: &str = "\
A first look:
  see it work, without touching anything:
    postern demo
  put the gateway before a service that you already run:
    postern proxy http://127.0.0.1:3000

From there:
  postern mint orders --expires 30d --out full.token
  postern attenuate --token-file full.token --method GET --path '/v1/orders/**' --expires 10m --out read.token
  postern inspect --token-file read.token
  postern check --token-file read.token --resource orders --method GET --path /v1/orders/42
  postern revoke --token-file read.token

Exit codes: 0 done or allowed, 1 refused or denied, 2 the command line makes no sense, 3 failed.";

/// An object-capability gateway: a request passes because of the token that it carries, not because of who sent it
#[derive(Parser)]
#[command(name = "postern", version, styles = STYLES, after_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) state: StateArg,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Where keys and ledger are.
#[derive(Args, Debug, Clone)]
pub(crate) struct StateArg {
    /// The state folder: root key, admin capability, ledger [env: POSTERN_STATE] [default: .postern]
    // The variable is read below and not by clap, which would take an empty one for a folder without a name.
    #[arg(long = "state", value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

impl StateArg {
    /// The folder by the command line or the environment, if either names one.
    pub(crate) fn named(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(STATE_VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        self.dir.clone().or_else(variable)
    }

    /// Where the folder is.
    pub(crate) fn path(&self) -> PathBuf {
        self.named().unwrap_or_else(|| PathBuf::from(STATE_DIR_DEFAULT))
    }

    /// Where the folder of a configured gateway is: the command line and the environment come before the file, and that
    /// before the default.
    pub(crate) fn path_for(&self, config: &Config) -> PathBuf {
        self.named().or_else(|| config.state_dir.clone()).unwrap_or_else(|| self.path())
    }

    /// The folder, which must be there. A group may write to it if the configuration of the gateway that runs with it, or ran
    /// last, says so: the gateway has noted that in a file that the group cannot write.
    pub(crate) fn open(&self) -> Result<StateDir, StateError> {
        match StateDir::open(self.path()) {
            Err(StateError::FolderOfGroup { path, mode, group }) => {
                let admitted = StateDir::open_for(&path, Some(group))?;
                match admitted.noted_address()?.and_then(|noted| noted.state_group) == Some(group) {
                    true => Ok(admitted),
                    false => Err(StateError::FolderOfGroup { path, mode, group }),
                }
            }
            opened => opened,
        }
    }
}

/// What `postern` can do, in the order in which a newcomer meets it.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show it: a sample service, the gateway before it, and requests allowed, denied, attenuated and revoked
    Demo(commands::demo::DemoArgs),
    /// Put the gateway before a service that already runs, without configuration
    Proxy(commands::proxy::ProxyArgs),
    /// Run the gateway that a configuration file describes
    Serve(commands::serve::ServeArgs),
    /// Make the state folder: a root key and a capability for administration
    Init(commands::init::InitArgs),
    /// Make a new capability, with the root key or through a running gateway
    Mint(commands::mint::MintArgs),
    /// Narrow a capability, offline and without any key
    Attenuate(commands::attenuate::AttenuateArgs),
    /// Close a capability, so that nobody can narrow it any further
    Seal(commands::attenuate::SealArgs),
    /// Say what a token says
    Inspect(commands::inspect::InspectArgs),
    /// Would this message pass, and which caveat stops it?
    Check(commands::check::CheckArgs),
    /// Find what can never pass, or is not admitted
    Lint(commands::lint::LintArgs),
    /// End a capability, and all that was derived from it
    Revoke(commands::revoke::RevokeArgs),
    /// List, rotate or retire the root keys
    Keys(commands::keys::KeysArgs),
    /// Show how a running gateway does: resources, upstreams, rates, refusals by reason
    Status(commands::status::StatusArgs),
    /// Show what the ledger has recorded
    Log(commands::log::LogArgs),
    /// Check that the ledger is whole, or back it up
    Ledger(commands::ledger::LedgerArgs),
    /// Check a configuration file, or print one to start from
    Config(commands::config::ConfigArgs),
    /// Print a completion script for your shell
    Completions(commands::completions::CompletionsArgs),
}

/// Prints help where it was asked for, and otherwise what is wrong with the command line.
pub(crate) fn explain(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let shown = if output::Paint::for_stdout().is_on() { text.ansi().to_string() } else { text.to_string() };
            match output::raw(shown.as_bytes()) {
                Ok(()) => Exit::Done,
                Err(stop) => stop.exit,
            }
        }
        _ => {
            let text = error.render();
            let shown = if output::Paint::for_stderr().is_on() { text.ansi().to_string() } else { text.to_string() };
            output::note(output::without_secrets(&shown).trim_end());
            Exit::Usage
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("postern "), "{} has no example", command.get_name());
        }
    }
}

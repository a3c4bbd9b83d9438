//! `postern serve`: the gateway that a configuration file describes.

use std::path::PathBuf;

use clap::Args;
use postern_gateway::config::Config;
use postern_gateway::gateway::Startup;
use postern_gateway::state::StateDir;

use super::{block_on, expect_config_file};
use crate::cli::StateArg;
use crate::output::{self, plain};
use crate::serving::{self, Signals};
use crate::stop::{Exit, Stop};

/// `postern serve`
#[derive(Args)]
#[command(after_help = "\
Examples:
  postern init && postern serve
  postern serve --config /etc/postern.toml --state /var/lib/postern

A file to start from: postern config default > postern.toml
The file is read anew when it or a file that it names changes, and on SIGHUP; nothing under way
notices, and a file with mistakes changes nothing. SIGINT and SIGTERM drain: what is under way may
finish, a second one ends it at once. SIGUSR1 opens the access log's file anew, after a rotation.
Under systemd use Type=notify-reload. POSTERN_LOG=debug shows more.")]
pub(crate) struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "postern.toml")]
    config: PathBuf,

    /// Start although the system's clock stands before the time that the ledger knows, and record that it is right
    #[arg(long)]
    accept_clock: bool,
}

pub(crate) fn run(args: &ServeArgs, state: &StateArg) -> Result<Exit, Stop> {
    expect_config_file(&args.config)?;
    let config = Config::load(&args.config).map_err(|errors| {
        let mistakes = errors.mistakes.iter().map(|mistake| format!("\n  {}", plain(&mistake.to_string())));
        Stop::failed(format!("{} is refused:{}", args.config.display(), mistakes.collect::<String>()))
    })?;
    let folder = StateDir::open_for(state.path_for(&config), config.state_group).map_err(Stop::failed)?;
    let diagnostics = serving::log_to_stderr("info")?;
    let dropped = Some(diagnostics.dropped());
    let startup = Startup { accept_clock: args.accept_clock, diagnostics_dropped: dropped, ..Startup::default() };
    block_on(async {
        let signals = Signals::catch_with_hangup()?;
        let running = serving::start(config, folder.clone(), startup).await?;
        for address in running.data_addresses() {
            output::note(&format!("Messages: {address}"));
        }
        output::note(&format!("Administration: http://{}", running.admin_address()));
        serving::until_signal(running, Some(&args.config), signals).await
    })?;
    Ok(Exit::Done)
}

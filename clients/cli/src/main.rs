//! The `postern` binary: parse, match the command, exit code.
//!
//! | file | what |
//! |---|---|
//! | `cli` | every command with its words and examples; what a person sees who asks for help or mistypes |
//! | `commands/…` | one file a command, or a group that belongs together |
//! | `token_input`, `token_output`, `caveat_args`, `message_args`, `trust` | arguments that several commands share |
//! | `serving`, `hardening` | what the long-running commands share; what the process does about its own memory |
//! | `http`, `admin` | a small HTTP client, and administration of a running gateway through it |
//! | `output`, `stop` | results to standard output, everything else to standard error; why a command ends, as an exit code and a sentence |
//!
//! What tokens mean is decided in `postern_capabilities`, and what a gateway does in `postern_gateway`; nothing of it is here.

use std::process::ExitCode;

use clap::Parser;

mod admin;
mod base_url;
mod caveat_args;
mod cli;
mod commands;
mod hardening;
mod message_args;
mod output;
mod serving;
mod stop;
mod token_input;
mod token_output;
mod trust;

use cli::{Cli, Command};
use stop::{Exit, Stop};

/// Faster than the system's allocator under a gateway's load, and no slower for one command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hardening::forbid_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::explain(&error).into(),
    };
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(stop) => {
            stop.report();
            stop.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Stop> {
    let Cli { state, command } = cli;
    let Some(command) = command else {
        return commands::overview::run();
    };
    match command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Proxy(args) => commands::proxy::run(args, &state),
        Command::Serve(args) => commands::serve::run(&args, &state),
        Command::Init(args) => commands::init::run(&args, &state),
        Command::Mint(args) => commands::mint::run(&args, &state),
        Command::Attenuate(args) => commands::attenuate::run(&args),
        Command::Seal(args) => commands::attenuate::seal(&args),
        Command::Inspect(args) => commands::inspect::run(&args, &state),
        Command::Check(args) => commands::check::run(&args, &state),
        Command::Lint(args) => commands::lint::run(&args),
        Command::Revoke(args) => commands::revoke::run(&args, &state),
        Command::Keys(args) => commands::keys::run(&args, &state),
        Command::Status(args) => commands::status::run(&args, &state),
        Command::Log(args) => commands::log::run(&args, &state),
        Command::Ledger(args) => commands::ledger::run(&args, &state),
        Command::Config(args) => commands::config::run(&args, &state),
        Command::Completions(args) => commands::completions::run(&args),
    }
}

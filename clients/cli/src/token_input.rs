//! Where a token comes from: an argument, standard input, a file or the environment. It never goes anywhere but into the
//! command that asked for it.

use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use crate::output;
use crate::stop::Stop;

/// The variable that a token may come from.
pub(crate) const TOKEN_VARIABLE: &str = "POSTERN_TOKEN";

/// Eight times what the longest token has; more is something else.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

/// The token that a command works on.
#[derive(Args)]
pub(crate) struct TokenInput {
    /// The token; `-` reads it from standard input
    ///
    /// An argument can be seen by everybody on this machine (`ps`) and stays in the shell's history: better are `-`,
    /// --token-file, or the variable POSTERN_TOKEN.
    #[arg(value_name = "TOKEN")]
    pub(crate) token: Option<String>,

    /// Read the token from this file
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
}

impl TokenInput {
    /// The token's text, from the first of: argument, standard input, file, environment.
    pub(crate) fn read(&self) -> Result<Zeroizing<String>, Stop> {
        match (self.token.as_deref(), &self.token_file) {
            (Some("-"), _) => from_stdin(),
            (Some(token), _) => Ok(Zeroizing::new(token.to_owned())),
            (None, Some(path)) => from_file(path),
            (None, None) => from_environment()?.ok_or_else(|| {
                Stop::usage(
                    "no token was given. Pass it on standard input with `-`, in a file with --token-file FILE, or in the variable POSTERN_TOKEN",
                )
            }),
        }
    }
}

/// The token in `POSTERN_TOKEN`, if that is set.
pub(crate) fn from_environment() -> Result<Option<Zeroizing<String>>, Stop> {
    match std::env::var(TOKEN_VARIABLE) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => Ok(Some(trimmed(&Zeroizing::new(text)))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Stop::usage("the variable POSTERN_TOKEN does not hold a token: it is not text"))
        }
    }
}

/// The token in a file. Such files are often made by others (a mounted secret, a pipe from another program), so they are
/// read as they are; where everybody can read one, that is worth a word.
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<String>, Stop> {
    let cannot = |error: io::Error| Stop::failed(format!("cannot read the token file {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if found.is_dir() {
        return Err(Stop::failed(format!("{} is a folder; name the file that holds the token", path.display())));
    }
    if found.is_file() && found.mode() & 0o044 != 0 {
        let shown = path.display();
        output::note(&format!("note: others can read the token in {shown}; to change that run: chmod 600 {shown}"));
    }
    let text = bounded(file, &format!("the token file {}", path.display()))?;
    match text.is_empty() {
        true => Err(Stop::failed(format!("the token file {} is empty", path.display()))),
        false => Ok(text),
    }
}

fn from_stdin() -> Result<Zeroizing<String>, Stop> {
    if io::stdin().is_terminal() {
        output::note("Paste the token, then press Enter and Ctrl-D.");
    }
    let text = bounded(io::stdin().lock(), "standard input")?;
    match text.is_empty() {
        true => Err(Stop::usage("standard input holds no token")),
        false => Ok(text),
    }
}

fn bounded(from: impl Read, name: &str) -> Result<Zeroizing<String>, Stop> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX as usize + 1));
    from.take(INPUT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Stop::failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        return Err(Stop::failed(format!("{name} holds more than {INPUT_BYTES_MAX} bytes, which is no token")));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(trimmed(text)),
        Err(_) => Err(Stop::failed(format!("{name} does not hold a token: it is not text"))),
    }
}

fn trimmed(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.trim().to_owned())
}

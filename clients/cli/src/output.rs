//! Results to standard output, everything else to standard error.
//!
//! Nothing here panics when a reader goes away, colours are for terminals only, and text from outside cannot move the
//! cursor: what a token or a server says is shown through [`plain`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::stop::Stop;

/// One line of a result.
pub(crate) fn line(text: &str) -> Result<(), Stop> {
    raw(text.as_bytes()).and_then(|()| raw(b"\n"))
}

/// A result as it is.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::silent(),
        _ => Stop::failed(format!("cannot write the result to standard output: {error}")),
    })
}

/// A result as one JSON document: indented, and a line for each in a stream ([`json_line`]).
pub(crate) fn json(value: &impl Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Stop::failed(format!("the result cannot be written as JSON: {error}")))?;
    line(&text)
}

/// A result among many, as one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string(value)
        .map_err(|error| Stop::failed(format!("the result cannot be written as JSON: {error}")))?;
    line(&text)
}

/// How long a note waits for whoever reads standard error.
const NOTE_TIMEOUT: Duration = Duration::from_secs(2);

/// Anything that is not a result. That nobody reads it is no reason to stop, nor is a reader that has stalled: a gateway
/// that is told to end must end.
pub(crate) fn note(text: &str) {
    let line = format!("{text}\n");
    let (told, is_told) = mpsc::channel();
    let writer = thread::Builder::new().name("note".into()).spawn(move || {
        let _ = io::stderr().lock().write_all(line.as_bytes());
        let _ = told.send(());
    });
    match writer {
        Ok(_) => drop(is_told.recv_timeout(NOTE_TIMEOUT)),
        // Without a thread it is said here, whatever that takes.
        Err(_) => drop(writeln!(io::stderr().lock(), "{text}")),
    }
}

/// Text from outside, with everything escaped that could steer a terminal or hide what follows.
pub(crate) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        // Direction marks reorder what is read; separators break lines in some viewers.
        let steers = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
        if character.is_control() || steers {
            let _ = write!(shown, "{}", character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Longer than any option, resource or part of a file name that a message has to repeat; shorter than any token or key.
const SECRET_CHARACTERS_MIN: usize = 60;

/// A message without what in it could be a token or a key: whatever was mistyped, no terminal, log or ticket is to
/// remember one.
pub(crate) fn without_secrets(message: &str) -> String {
    hide_secrets(message, &std::env::args().collect::<Vec<_>>())
}

/// A run of hexadecimal digits can be a public key or a revocation id, and then belongs into the message; unless somebody
/// typed it, since then it can be the digits of a secret key as well.
fn hide_secrets(message: &str, arguments: &[String]) -> String {
    let of_token = |character: char| character.is_ascii_alphanumeric() || "-_=".contains(character);
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(of_token) {
        let (before, from) = rest.split_at(start);
        let (run, after) = from.split_at(from.find(|character| !of_token(character)).unwrap_or(from.len()));
        let is_public = run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_typed = || arguments.iter().any(|argument| argument.contains(run));
        shown.push_str(before);
        if run.len() >= SECRET_CHARACTERS_MIN && (!is_public || is_typed()) {
            shown.push_str("<something that looks like a token>");
        } else {
            shown.push_str(run);
        }
        rest = after;
    }
    shown + rest
}

/// Colours, where somebody sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For results.
    pub(crate) fn for_stdout() -> Self {
        Self { on: wanted() && io::stdout().is_terminal() }
    }

    /// For everything else.
    pub(crate) fn for_stderr() -> Self {
        Self { on: wanted() && io::stderr().is_terminal() }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { on: false }
    }

    /// Whether there are colours.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the environment lets us (no-color.org; a terminal that says it is dumb has no colours).
fn wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\u{d}\\u{a}c");
        assert_eq!(plain("\u{202e}gnp.exe"), "\\u{202e}gnp.exe");
        assert_eq!(plain("grüße, 世界"), "grüße, 世界");
    }

    #[test]
    fn a_message_does_not_repeat_a_token_or_a_secret_key() {
        let token = "CAAShwEKHQoG".repeat(20);
        let hidden = hide_secrets(&format!("error: unexpected argument '--tokn={token}' found"), &[]);
        assert_eq!(hidden, "error: unexpected argument '<something that looks like a token>' found");
        let key = "0f".repeat(32);
        let message = format!("the key ed25519/{key} is retired");
        assert_eq!(hide_secrets(&message, &[]), message);
        let typed = [format!("ed25519-private/{key}")];
        assert!(!hide_secrets(&format!("{:?} is not a file", typed[0]), &typed).contains("0f0f"));
        assert_eq!(hide_secrets("no such 'foo', or déjà vu", &["foo".into()]), "no such 'foo', or déjà vu");
    }

    #[test]
    fn without_a_terminal_there_are_no_colours() {
        assert_eq!(Paint { on: false }.red("x"), "x");
        assert_eq!(Paint { on: true }.bold("x"), "\u{1b}[1mx\u{1b}[0m");
    }
}

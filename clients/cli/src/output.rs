//! Results to standard output, everything else to standard error.
//!
//! Nothing here panics when a reader goes away, colours are for terminals only, and text from outside cannot move the
//! cursor: what a token or a server says is shown through [`plain`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

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

/// Anything that is not a result. That nobody reads it is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
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
    fn without_a_terminal_there_are_no_colours() {
        assert_eq!(Paint { on: false }.red("x"), "x");
        assert_eq!(Paint { on: true }.bold("x"), "\u{1b}[1mx\u{1b}[0m");
    }
}

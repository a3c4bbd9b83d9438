//! How a command ends: an exit code, and where it did not work out one sentence saying what, where, and what to do.

use std::fmt::Display;
use std::process::ExitCode;

use crate::output;

/// The exit codes, as DESIGN and `--help` state them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or allowed.
    Done = 0,
    /// Refused, or denied: the question was understood and the answer is no.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// It should have worked, and did not.
    Failed = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The end of a command before its result.
#[derive(Debug)]
pub(crate) struct Stop {
    /// With which code.
    pub(crate) exit: Exit,
    /// Why. Empty where nobody is left to read it.
    pub(crate) sentence: String,
}

impl Stop {
    /// The answer is no.
    pub(crate) fn refused(sentence: impl Display) -> Self {
        Self { exit: Exit::Refused, sentence: sentence.to_string() }
    }

    /// What was typed cannot be meant.
    pub(crate) fn usage(sentence: impl Display) -> Self {
        Self { exit: Exit::Usage, sentence: sentence.to_string() }
    }

    /// Something else than the command line is at fault.
    pub(crate) fn failed(sentence: impl Display) -> Self {
        Self { exit: Exit::Failed, sentence: sentence.to_string() }
    }

    /// Whoever read the output has gone, as in `postern log | head`: that is no failure.
    pub(crate) fn silent() -> Self {
        Self { exit: Exit::Done, sentence: String::new() }
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) {
        if !self.sentence.is_empty() {
            let paint = output::Paint::for_stderr();
            let sentence = output::without_secrets(&self.sentence);
            output::note(&format!("{} {sentence}", paint.red("error:")));
        }
    }
}

//! What is wrong with a configuration: every mistake at once, each a sentence that says where, what, and what to write.

use std::fmt;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Line of the file, counted from 1, where the mistake stands; a key that is missing has none.
    pub line: Option<usize>,
    /// The key, with its tables: `resource.orders.upstream`. Empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub sentence: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.sentence)
    }
}

/// Every mistake of a configuration that was refused. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The mistakes, in the order of the file.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects mistakes while a file is read, and knows the lines of that file.
pub(super) struct Mistakes<'t> {
    text: &'t str,
    found: Vec<Mistake>,
}

impl<'t> Mistakes<'t> {
    pub(super) fn in_text(text: &'t str) -> Self {
        Self { text, found: Vec::new() }
    }

    /// A mistake at a byte offset of the file.
    pub(super) fn at(&mut self, offset: usize, key: &str, sentence: impl Into<String>) {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = 1 + memchr::memchr_iter(b'\n', before).count();
        self.found.push(Mistake { line: Some(line), key: key.to_owned(), sentence: sentence.into() });
    }

    /// A mistake without a place: something is missing.
    pub(super) fn missing(&mut self, key: &str, sentence: impl Into<String>) {
        self.found.push(Mistake { line: None, key: key.to_owned(), sentence: sentence.into() });
    }

    /// The value if nothing was wrong, else every mistake in the order of the file (those without a place last).
    pub(super) fn or<T>(mut self, value: T) -> Result<T, ConfigErrors> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        Err(ConfigErrors { mistakes: self.found })
    }
}

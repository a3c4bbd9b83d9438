//! The file as written: TOML tables whose keys are taken one by one, and what is left over is a mistake.
//!
//! Serde's derive stops at the first mistake and knows no lines; here every mistake is collected with its place, so that
//! a person corrects a file once. An unknown key is never skipped: it names the nearest known one.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::{ConfigErrors, Mistakes};

/// Parses TOML; every syntax error is reported, and none of what follows from it.
pub(super) fn document(text: &str) -> Result<Spanned<DeTable<'_>>, ConfigErrors> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistakes = Mistakes::in_text(text);
    for error in errors {
        let sentence = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        match error.span() {
            Some(span) => mistakes.at(span.start, "", sentence),
            None => mistakes.missing("", sentence),
        }
    }
    mistakes.or(table)
}

/// A table of the file, with the keys that were asked for so far.
pub(super) struct Section<'t> {
    path: String,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Self { path: String::new(), table, known: Vec::new() }
    }

    /// The full name of a key of this table.
    pub(super) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, which is known from now on.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.known.push(key);
        let (_, value) = self.table.get_key_value(key)?;
        Some(Entry { key: self.name(key), value })
    }

    /// A table below this one.
    pub(super) fn section(&mut self, key: &'static str, mistakes: &mut Mistakes<'_>) -> Option<Section<'t>> {
        self.value(key)?.section(mistakes)
    }

    /// All entries, for a table whose keys are names that the operator chose.
    pub(super) fn entries(&self) -> Vec<(String, Range<usize>, Entry<'t>)> {
        let entry = |key: &'t Spanned<_>, value| {
            let name: &str = AsRef::<str>::as_ref(key.get_ref() as &std::borrow::Cow<'t, str>);
            (name.to_owned(), key.span(), Entry { key: self.name(name), value })
        };
        let mut entries: Vec<_> = self.table.iter().map(|(key, value)| entry(key, value)).collect();
        entries.sort_by_key(|(_, span, _)| span.start);
        entries
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, mistakes: &mut Mistakes<'_>) {
        for (key, _) in self.table.iter() {
            let written: &str = key.get_ref();
            if self.known.contains(&written) {
                continue;
            }
            let hint = match nearest(written, &self.known) {
                Some(known) => format!("there is no such key; did you mean `{known}`?"),
                None => format!("there is no such key; the keys here are {}.", list(&self.known)),
            };
            mistakes.at(key.span().start, &self.name(written), hint);
        }
    }
}

/// One value of the file, with its full key.
#[derive(Clone)]
pub(super) struct Entry<'t> {
    pub(super) key: String,
    value: &'t Spanned<DeValue<'t>>,
}

impl<'t> Entry<'t> {
    /// Reports a mistake in this value.
    pub(super) fn mistake(&self, mistakes: &mut Mistakes<'_>, sentence: impl Into<String>) {
        mistakes.at(self.value.span().start, &self.key, sentence);
    }

    fn wrong_kind(&self, mistakes: &mut Mistakes<'_>, wanted: &str) {
        self.mistake(mistakes, format!("this is {}; write {wanted}.", kind(self.value.get_ref())));
    }

    pub(super) fn section(&self, mistakes: &mut Mistakes<'_>) -> Option<Section<'t>> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.wrong_kind(mistakes, &format!("a table, `[{}]`", self.key));
        }
        Some(Section { path: self.key.clone(), table: table?, known: Vec::new() })
    }

    pub(super) fn text(&self, mistakes: &mut Mistakes<'_>, example: &str) -> Option<&'t str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.wrong_kind(mistakes, &format!("a text like {example}"));
        }
        text
    }

    pub(super) fn truth(&self, mistakes: &mut Mistakes<'_>) -> Option<bool> {
        let truth = self.value.get_ref().as_bool();
        if truth.is_none() {
            self.wrong_kind(mistakes, "true or false");
        }
        truth
    }

    /// A whole number, `None` if it is something else; negative and huge ones are mistakes.
    pub(super) fn number(&self, mistakes: &mut Mistakes<'_>) -> Option<u64> {
        let written = self.value.get_ref().as_integer()?;
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        let number = number.and_then(|number| u64::try_from(number).ok());
        if number.is_none() {
            self.mistake(mistakes, "this number is out of range; write a whole number from 0 to 2^63-1.");
        }
        number
    }

    /// A share between 0.0 and 1.0, in millionths.
    pub(super) fn millionths(&self, mistakes: &mut Mistakes<'_>) -> Option<u32> {
        let written = match self.value.get_ref() {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => {
                self.wrong_kind(mistakes, "a share from 0.0 to 1.0");
                return None;
            }
        };
        let share = written.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            self.mistake(mistakes, "this share is out of range; write one from 0.0 (nothing) to 1.0 (everything).");
        }
        // From 0 to a million, so the conversion is exact.
        share.map(|share| (share * 1_000_000.0).round() as u32)
    }

    pub(super) fn is_number(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// The members of a list; one text alone stands for a list of one. `None` if it is neither, which is reported.
    pub(super) fn members(&self, mistakes: &mut Mistakes<'_>, example: &str) -> Option<Vec<Entry<'t>>> {
        if self.is_text() {
            return Some(vec![self.clone()]);
        }
        let Some(array) = self.value.get_ref().as_array() else {
            self.wrong_kind(mistakes, &format!("a list like [{example}]"));
            return None;
        };
        Some(array.iter().map(|value| Entry { key: self.key.clone(), value }).collect())
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn list(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

/// The known key that a mistyped one most likely meant.
fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    // Distances are quadratic in length: a key as long as a book is not a typing mistake.
    if written.len() > 64 {
        return None;
    }
    let near = known.iter().map(|key| (distance(written, key), *key)).min()?;
    (near.0 <= 2 && near.0 < near.1.len()).then_some(near.1)
}

/// Levenshtein distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_key() {
        assert_eq!(nearest("upstreams", &["upstream", "prefix"]), Some("upstream"));
        assert_eq!(nearest("hots", &["host", "prefix"]), Some("host"));
        assert_eq!(nearest("colour", &["host", "prefix"]), None);
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let errors = document("a = \nb = [1\nc = 2\n").expect_err("not TOML");
        assert!(errors.mistakes.iter().all(|mistake| mistake.line.is_some()), "{errors}");
    }
}

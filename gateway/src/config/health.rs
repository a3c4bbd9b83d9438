//! The `[resource.<name>.health]` table: how the gateway finds out which of a resource's addresses are well.

use std::ops::RangeInclusive;
use std::time::Duration;

use postern_capabilities::path::{EncodedSlash, canonical_path};

use super::errors::Mistakes;
use super::limits;
use super::raw::{Entry, Section};

/// Health checks of a resource's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for, as the service sees it: no prefix is added or taken off. A query may follow.
    pub path: String,
    /// From one check of an address to the next.
    pub interval: Duration,
    /// How long a check may take, from connecting to the answer's head.
    pub timeout: Duration,
    /// Checks in a row that must pass before an unhealthy address is used again.
    pub healthy_after: u32,
    /// Checks in a row that must fail before a healthy one is not used.
    pub unhealthy_after: u32,
    /// The statuses with which a check passes.
    pub status: Vec<RangeInclusive<u16>>,
}

impl HealthCheck {
    /// Whether a check with this answer passes.
    pub fn passes(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

/// Reads the table; every mistake is reported.
pub(super) fn read(mut t: Section<'_>, mistakes: &mut Mistakes<'_>) -> Option<HealthCheck> {
    let path = match t.value("path") {
        Some(entry) => path(&entry, mistakes),
        None => {
            mistakes.missing(&t.name("path"), "a health check needs a path to ask for; write path = \"/health\".");
            None
        }
    };
    let mut time = |key, default| t.value(key).and_then(|e| limits::time(&e, mistakes)).unwrap_or(default);
    let interval = time("interval", Duration::from_secs(5));
    let timeout = time("timeout", Duration::from_secs(2));
    let healthy_after = count(&mut t, "healthy_after", 2, mistakes);
    let unhealthy_after = count(&mut t, "unhealthy_after", 3, mistakes);
    let status = match t.value("status") {
        Some(entry) => statuses(&entry, mistakes),
        None => vec![200..=399],
    };
    t.finish(mistakes);
    Some(HealthCheck { path: path?, interval, timeout, healthy_after, unhealthy_after, status })
}

fn path(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Option<String> {
    let text = entry.text(mistakes, "\"/health\"")?;
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let is_plain = |query: &str| query.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    let sentence = match canonical_path(path.as_bytes(), EncodedSlash::Refuse) {
        Err(error) => format!("{text:?} is no path: {error}. Write one like \"/health\"."),
        Ok(canonical) if canonical != path => format!("{path:?} is not in canonical form; write {canonical:?}."),
        Ok(_) if !query.is_none_or(is_plain) => {
            format!("the query of {text:?} has a character that may not stand there; escape it with %.")
        }
        Ok(_) => return Some(text.to_owned()),
    };
    entry.mistake(mistakes, sentence);
    None
}

fn count(t: &mut Section<'_>, key: &'static str, default: u32, mistakes: &mut Mistakes<'_>) -> u32 {
    let Some(entry) = t.value(key) else { return default };
    if !entry.is_number() {
        entry.mistake(mistakes, "this is a count; write a whole number.");
        return default;
    }
    match entry.number(mistakes).map(u32::try_from) {
        Some(Ok(number @ 1..=1000)) => number,
        Some(_) => {
            entry.mistake(mistakes, "this count is out of range; write 1 to 1000.");
            default
        }
        None => default,
    }
}

/// A list of `200`, `"204"` and `"200-399"`.
fn statuses(entry: &Entry<'_>, mistakes: &mut Mistakes<'_>) -> Vec<RangeInclusive<u16>> {
    const EXAMPLE: &str = "\"200-399\"";
    let members = if entry.is_number() { Some(vec![entry.clone()]) } else { entry.members(mistakes, EXAMPLE) }
        .unwrap_or_default();
    let mut statuses = Vec::new();
    for member in &members {
        let written = match member.is_number() {
            true => member.number(mistakes).map(|number| number.to_string()),
            false => member.text(mistakes, EXAMPLE).map(str::to_owned),
        };
        let Some(written) = written else { continue };
        match range(&written) {
            Some(range) => statuses.push(range),
            None => member.mistake(
                mistakes,
                format!("{written:?} is no status; write one from 200 to 599, or a range like {EXAMPLE}."),
            ),
        }
    }
    if members.is_empty() {
        entry.mistake(mistakes, format!("no check could pass; write [{EXAMPLE}]."));
    }
    statuses
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| is_number && (200..=599).contains(status))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = status(first)?..=status(last)?;
    (!range.is_empty()).then_some(range)
}

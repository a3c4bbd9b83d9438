//! What is dropped or refused by default leaves a trace in the log: which it is, and which key lets it through.
//!
//! Most services never miss such a field or such a path. Whoever runs one that does finds the reason here, and not in a packet
//! capture. Each worker says each thing once, so a sender fills no log, and what is remembered for that is bounded.

use std::cell::RefCell;

use hashbrown::{HashMap, HashSet};
use postern_capabilities::path::PathError;

use crate::head::Known;

/// Names that one worker tells of, all resources together.
const NAMES_MAX: usize = 256;

/// A longer name is not told: it is nobody's usual field, and could be a secret in the wrong place.
const NAME_BYTES_MAX: usize = 64;

type Names = HashSet<Box<str>, foldhash::fast::RandomState>;

/// What a worker has told of.
#[derive(Default)]
pub struct Noticed {
    fields: RefCell<HashMap<Box<str>, Names, foldhash::fast::RandomState>>,
    paths: RefCell<Names>,
}

impl Noticed {
    /// A field of a permitted message that does not go up. What no key lets through is not told.
    pub fn dropped(&self, resource: &str, known: Known, name: &[u8]) {
        if let Some(name) = self.first_drop(resource, known, name) {
            tracing::info!(
                resource,
                field = name.as_str(),
                "a field was dropped on its way to the service; allow_headers = [{name:?}] in the resource's table lets it \
                 through, where the service does not believe it"
            );
        }
    }

    /// A path that is refused.
    pub fn refused(&self, error: PathError) {
        let kind = match error {
            PathError::EncodedSlash => "%2F",
            PathError::EmptySegment => "//",
            PathError::Backslash { .. } => "\\",
            _ => return,
        };
        if !self.paths.borrow_mut().insert(kind.into()) {
            return;
        }
        match error {
            PathError::EncodedSlash => tracing::info!(
                "a path with {kind} was refused; encoded_slash = \"pass\" in the table of its resource lets it through, as a part of \
                 a segment"
            ),
            _ => tracing::info!("a path with {kind} was refused; no key of the configuration lets it through"),
        }
    }

    /// The name in lower case, where it is to be told.
    fn first_drop(&self, resource: &str, known: Known, name: &[u8]) -> Option<String> {
        let has_key = matches!(known, Known::MethodOverride | Known::TargetOverride | Known::Claim | Known::Punctuated);
        if !has_key || name.len() > NAME_BYTES_MAX {
            return None;
        }
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        let mut fields = self.fields.borrow_mut();
        let told = fields.values().map(HashSet::len).sum::<usize>();
        if told >= NAMES_MAX || fields.get(resource).is_some_and(|names| names.contains(name.as_str())) {
            return None;
        }
        fields.entry(resource.into()).or_default().insert(name.as_str().into());
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_dropped_is_told_once_for_each_resource() {
        let noticed = Noticed::default();
        let first = |resource, known, name: &str| noticed.first_drop(resource, known, name.as_bytes());
        assert_eq!(first("orders", Known::Punctuated, "X_Thing").as_deref(), Some("x_thing"));
        assert_eq!(first("orders", Known::Punctuated, "x_thing"), None);
        assert_eq!(first("stock", Known::Punctuated, "x_thing").as_deref(), Some("x_thing"));
        assert_eq!(first("orders", Known::TargetOverride, "Destination").as_deref(), Some("destination"));
        assert_eq!(first("orders", Known::Claim, "X-Real-IP").as_deref(), Some("x-real-ip"));
        for known in [Known::Host, Known::Imitation, Known::Postern, Known::Connection, Known::Authorization] {
            assert_eq!(first("orders", known, "x"), None, "no key lets {known:?} through");
        }
        assert_eq!(first("orders", Known::Punctuated, &"x_".repeat(40)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let noticed = Noticed::default();
        let told =
            (0..1000).filter(|n| noticed.first_drop("a", Known::Punctuated, format!("x_{n}").as_bytes()).is_some());
        assert_eq!(told.count(), NAMES_MAX);
    }
}

//! The test vectors: tokens that must pass or fail, with messages, verdicts and reasons, for readers in any language.
//!
//! They are written by this program and committed, so that a change of any verdict, reason or price shows in a review.
//! To write them again: `POSTERN_VECTORS=write cargo test -p postern-capabilities --test vectors`.

// The lints spare functions marked as tests, not the helpers of a test binary.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;
mod format;
mod hostile;
mod make;
mod narrowed;
mod samples;

use std::collections::BTreeSet;
use std::path::PathBuf;

use format::{File, Outcome};

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.json"))
}

fn written(file: &File) -> String {
    serde_json::to_string_pretty(file).unwrap() + "\n"
}

fn committed(name: &str) -> String {
    std::fs::read_to_string(path_of(name)).unwrap_or_else(|error| panic!("vectors/{name}.json: {error}"))
}

#[test]
fn the_committed_vectors_are_what_the_generator_writes() {
    let write = std::env::var("POSTERN_VECTORS").is_ok_and(|word| word == "write");
    for (name, file) in cases::files() {
        if write {
            std::fs::write(path_of(name), written(&file)).unwrap();
        }
        assert_eq!(committed(name), written(&file), "vectors/{name}.json differs; if that is meant, write it again");
    }
}

/// From the committed files alone, as another language would do it.
#[test]
fn every_committed_vector_is_decided_as_it_says() {
    for (name, _) in cases::files() {
        let file: File = serde_json::from_str(&committed(name)).unwrap();
        assert_eq!(file.format, format::FORMAT);
        for case in &file.cases {
            let messages = match &case.outcome {
                Outcome::Refused { .. } => Vec::new(),
                Outcome::Capability { decisions, .. } => {
                    decisions.iter().map(|decision| decision.message.clone()).collect()
                }
            };
            assert_eq!(make::outcome(case, messages), case.outcome, "{name}: {}", case.name);
        }
    }
}

#[test]
fn every_kind_of_problem_has_a_vector() {
    let mut seen = BTreeSet::new();
    for (_, file) in cases::files() {
        for case in file.cases {
            match case.outcome {
                Outcome::Refused { problem, .. } => {
                    seen.insert(problem);
                }
                Outcome::Capability { decisions, .. } => {
                    seen.extend(decisions.into_iter().filter_map(|decision| match decision.verdict {
                        format::Verdict::Refuse { problem, .. } => Some(problem),
                        format::Verdict::Allow => None,
                    }))
                }
            }
        }
    }
    let wanted = [
        "truncated-token",
        "invalid-token",
        "not-admitted",
        "over-budget",
        "revoked",
        "expired",
        "unknown-key",
        "not-found",
        "bad-query",
        "length-required",
        "not-permitted",
    ];
    for problem in wanted {
        assert!(seen.contains(problem), "no vector for {problem}");
    }
}

#[test]
fn names_are_not_used_twice() {
    for (name, file) in cases::files() {
        let mut seen = BTreeSet::new();
        for case in &file.cases {
            assert!(seen.insert(case.name.clone()), "{name}: {} is there twice", case.name);
        }
    }
}

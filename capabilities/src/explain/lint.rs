//! What in a token can never work.

use serde::Serialize;

use crate::token::Unverified;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No message will ever be allowed.
    Useless,
    /// Something is probably not what its author meant.
    Suspicious,
}

/// Something that a token's author should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where, the authority being 0; absent: the token as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// Which of the block's checks, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Looks for what can never pass.
pub fn lint(token: &str, now: u64) -> Vec<Finding> {
    let _ = (Unverified::parse(token), now);
    Vec::new()
}

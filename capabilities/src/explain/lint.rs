//! What in a token can never work.

use serde::Serialize;

use crate::caveat::printed_time;
use crate::language::Plan;
use crate::token::{PRICE_BUDGET_DEFAULT, Unverified};

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
    let unverified = match Unverified::parse(token) {
        Ok(unverified) => unverified,
        Err(error) => return vec![useless(error.to_string())],
    };
    if let Err(error) = unverified.check_admitted(PRICE_BUDGET_DEFAULT) {
        return vec![useless(error.to_string())];
    }
    match unverified.admitted() {
        Ok(plan) => of_plan(&plan, now),
        Err(error) => vec![useless(error.to_string())],
    }
}

fn of_plan(plan: &Plan, now: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if plan.rights().is_empty() {
        findings.push(useless("the token holds no right, so it allows nothing".to_owned()));
    }
    for check in plan.checks() {
        if let Some(at) = check.expires_at().filter(|at| *at < now) {
            let message = format!("`{}` has passed: the token expired at {}", check.text(), printed_time(at));
            findings.push(Finding { block: Some(check.block()), check: Some(check.index()), ..useless(message) });
        }
    }
    findings
}

fn useless(message: String) -> Finding {
    Finding { severity: Severity::Useless, block: None, check: None, message }
}

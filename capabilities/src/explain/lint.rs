//! What in a token can never work.
//!
//! Attenuating is easy to get wrong in silence: a caveat that no message can satisfy is a valid caveat. So this looks for
//! what is certain: values that no message has, facts that nobody supplies, and checks that exclude each other. It
//! knows the usual shapes (`fact("literal")`, a prefix of a path, a bound on the time) and says nothing about others.

use serde::Serialize;

use super::doubt;
use super::selection::{self, Selection};
use crate::caveat::printed_time;
use crate::language::{MessageFact, Plan, Program, RIGHT, Value};
use crate::resource::Right;
use crate::token::{PRICE_BUDGET_DEFAULT, Unverified};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// No message will ever be allowed.
    Useless,
    /// A part of it does nothing, which is probably not what its author meant.
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

/// Looks for what can never pass. An empty list promises nothing: it says that nothing was found.
pub fn lint(token: &str, now: u64) -> Vec<Finding> {
    let unverified = match Unverified::parse(token) {
        Ok(unverified) => unverified,
        Err(error) => return vec![useless(error.to_string())],
    };
    if let Err(error) = unverified.check_admitted(PRICE_BUDGET_DEFAULT) {
        return vec![useless(error.to_string())];
    }
    match unverified.program() {
        Ok(program) => of_program(program, now),
        Err(error) => vec![useless(error.to_string())],
    }
}

fn of_program(program: Program, now: u64) -> Vec<Finding> {
    let mut findings = idle_rights(&program);
    findings.extend(doubt::of_program(&program).into_iter().map(|doubt| Finding {
        severity: Severity::Suspicious,
        block: Some(doubt.block),
        check: doubt.check,
        message: doubt.why,
    }));
    let found = selection::of_program(&program);
    let plan = Plan::compile(program);
    if plan.rights().is_empty() {
        findings.push(useless("the token holds no right, so it allows nothing".to_owned()));
    }
    findings.extend(expired(&plan, now));
    findings.extend(found.dead.iter().map(|dead| {
        let severity = if dead.whole { Severity::Useless } else { Severity::Suspicious };
        Finding { severity, block: Some(dead.block), check: Some(dead.check), message: dead.why.clone() }
    }));
    // A check that never passes excludes everything else, too; saying so would only hide the cause.
    if !found.dead.iter().any(|dead| dead.whole) {
        findings.extend(contradictions(&found.selections));
        findings.extend(rights_excluded(plan.rights(), &found.selections));
    }
    findings.extend(closed_window(&found));
    findings
}

/// `right` facts whose texts are no resource or no operation. They match no message.
fn idle_rights(program: &Program) -> Vec<Finding> {
    let facts = program.blocks.first().map(|block| block.facts.as_slice()).unwrap_or_default();
    let idle = facts.iter().filter(|fact| &*fact.name == RIGHT).filter_map(|fact| match &*fact.values {
        [Value::Text(resource), Value::Text(operation)] => {
            let wrong = resource.parse::<crate::ResourceName>().err().map(|error| error.to_string());
            wrong.or_else(|| operation.parse::<crate::Operation>().err().map(|error| error.to_string()))
        }
        _ => None,
    });
    let finding = |message| Finding { severity: Severity::Suspicious, block: Some(0), check: None, message };
    idle.map(|why| finding(format!("a right that no message can use: {why}"))).collect()
}

fn expired(plan: &Plan, now: u64) -> Vec<Finding> {
    let past = plan.checks().filter_map(|check| Some((check, check.expires_at().filter(|at| *at < now)?)));
    past.map(|(check, at)| Finding {
        block: Some(check.block()),
        check: Some(check.index()),
        ..useless(format!("the token expired at {}", printed_time(at)))
    })
    .collect()
}

/// Checks on one fact that no value satisfies together.
fn contradictions(selections: &[Selection]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, last) in selections.iter().enumerate() {
        let before = &selections[..=at];
        let same: Vec<&Selection> = before.iter().filter(|selection| selection.fact == last.fact).collect();
        let possible = |checks: &[&Selection]| {
            let mut witnesses = checks.iter().flat_map(|selection| selection.witnesses());
            witnesses.any(|witness| checks.iter().all(|selection| selection.admits(witness)))
        };
        // Named once, at the first check that closes the door.
        if !possible(&same) && possible(&same[..same.len() - 1]) {
            let others: Vec<String> = same[..same.len() - 1].iter().map(|selection| selection.place()).collect();
            findings.push(last.finding(format!(
                "no message satisfies this check and {} together: they ask for different values of `{}`",
                others.join(" and "),
                last.name
            )));
        }
    }
    findings
}

/// Whether the checks on resource and operation leave any of the rights.
fn rights_excluded(rights: &[Right], selections: &[Selection]) -> Option<Finding> {
    let admits = |fact: MessageFact, value: &str| {
        selections.iter().filter(|selection| selection.fact == fact).all(|selection| selection.admits(value))
    };
    let usable = |right: &Right| {
        let resource = right.resource.as_str();
        let operation = right.operation.as_str();
        admits(MessageFact::Resource, resource)
            && (right.operation.is_any() || admits(MessageFact::Operation, operation))
    };
    (!rights.is_empty() && !rights.iter().any(usable))
        .then(|| useless("the checks on `resource` and `operation` leave none of the token's rights".to_owned()))
}

fn closed_window(found: &selection::Found) -> Option<Finding> {
    let (from, until) = (found.not_before?, found.not_after?);
    (from > until).then(|| {
        let (from, until) = (printed_time(from), printed_time(until));
        useless(format!("the token is not valid before {from}, and no longer after {until}"))
    })
}

fn useless(message: String) -> Finding {
    Finding { severity: Severity::Useless, block: None, check: None, message }
}

impl Selection {
    fn finding(&self, message: String) -> Finding {
        Finding { severity: Severity::Useless, block: Some(self.block), check: Some(self.check), message }
    }

    fn place(&self) -> String {
        match self.block {
            0 => format!("check {} of the authority block", self.check),
            block => format!("check {} of block {block}", self.check),
        }
    }
}

#[cfg(test)]
mod tests {
    use biscuit_auth::builder::BlockBuilder;

    use super::*;
    use crate::keys::SigningKey;

    const NOW: u64 = 1_800_000_000;

    fn linted(authority: &str, block: &str) -> Vec<String> {
        let root = SigningKey::generate();
        let token = biscuit_auth::Biscuit::builder().code(authority).unwrap().build(&root.pair()).unwrap();
        let token = token.append(BlockBuilder::new().code(block).unwrap()).unwrap();
        let findings = lint(&token.to_base64().unwrap(), NOW);
        findings
            .into_iter()
            .map(|it| format!("{:?} {:?} {:?} {}", it.severity, it.block, it.check, it.message))
            .collect()
    }

    fn one(authority: &str, block: &str) -> String {
        let found = linted(authority, block);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    const RIGHTS: &str = "right(\"orders\", \"GET\"); right(\"orders\", \"PUT\")";

    #[test]
    fn a_sound_token_has_no_findings() {
        let checks = "check if time($t), $t <= 2030-01-01T00:00:00Z; check if operation(\"GET\") or operation(\"HEAD\"); \
                      check if path(\"/a\") or path($p), $p.starts_with(\"/a/\"); check if path($p), $p.starts_with(\"/a/b\"); \
                      check all query(\"page\", $v), $v === \"2\"; check if client_in(\"10.0.0.0/8\"); check if upgrade(\"\")";
        assert_eq!(linted(RIGHTS, checks), Vec::<String>::new());
        assert_eq!(
            linted("right(\"orders\", \"*\"); tenant(\"x\"); check if tenant($t)", "check if path(\"/\")"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_no_message_has_is_found() {
        assert!(one(RIGHTS, "check if operation(\"get\")").contains("write \"GET\" instead"));
        assert!(one(RIGHTS, "check if path(\"/a/../b\")").contains("dot segment"));
        assert!(one(RIGHTS, "check if path(\"/%41\")").contains("in its form \"/A\""));
        assert!(one(RIGHTS, "check if host(\"Example.com\")").contains("lower case"));
        assert!(one(RIGHTS, "check if path(1)").contains("is a text"));
        assert!(one(RIGHTS, "check if path(\"/a\", \"/b\")").contains("has 1 terms"));
        assert!(one(RIGHTS, "check if colour(\"red\")").contains("nobody supplies"));
        assert!(one(RIGHTS, "check if backend(\"orders\")").contains("only the backend"));
        assert!(one(RIGHTS, "check if operation(\"get\") or path(\"/a\")").starts_with("Suspicious Some(1) Some(0)"));
        let key = SigningKey::generate().public();
        assert_eq!(linted(RIGHTS, &format!("check if member(true) trusting {key}")), Vec::<String>::new());
    }

    #[test]
    fn what_is_possible_and_surely_not_meant_is_found() {
        let all = "right(\"orders\", \"*\")";
        for (check, says) in [
            ("check if operation(\"ANY\")", "leave the caveat out"),
            ("check if operation(\"GET|HEAD\")", "written GET,HEAD"),
            ("check if operation($o), $o == \"CONNECT\"", "opens no tunnels"),
            ("check if path(\"/:id\")", "stands for itself"),
            ("check if path(\"/v1/:id\") or path($p), $p.starts_with(\"/v1/a/\")", "stands for itself"),
            ("check if path($p), $p.starts_with(\"/%7Bid%7D/\")", "stands for itself"),
            ("check if path(\"/a*\")", "stands for itself"),
        ] {
            let found = one(all, check);
            assert!(found.starts_with("Suspicious Some(1) Some(0)") && found.contains(says), "{check}: {found}");
        }
        assert!(
            one("right(\"orders\", \"ANY\"); right(\"orders\", \"GET\")", "check if path(\"/\")").contains("\"ANY\"")
        );
        for sound in ["check if path(\"/a:b\")", "check if operation(\"PROPFIND\")", "check if path(\"/:\")"] {
            assert_eq!(linted(all, sound), Vec::<String>::new());
        }
    }

    #[test]
    fn checks_that_exclude_each_other_are_found() {
        let found = one(RIGHTS, "check if path(\"/a\"); check if path($p), $p.starts_with(\"/b/\")");
        assert!(found.starts_with("Useless Some(1) Some(1)") && found.contains("check 0 of block 1"), "{found}");
        let found = one(
            &format!("{RIGHTS}; check if host(\"a\") or host(\"b\")"),
            "check if host(\"c\"); check if host(\"a\")",
        );
        assert!(found.contains("check 0 of the authority block"), "{found}");
        assert!(one(RIGHTS, "check if operation(\"DELETE\")").contains("leave none of the token's rights"));
        assert!(one(RIGHTS, "check if resource(\"stock\")").contains("leave none"));
        let window = "check if time($t), $t >= 2029-01-02T00:00:00Z; check if time($t), $t < 2029-01-01T00:00:00Z";
        assert!(one(RIGHTS, window).contains("not valid before"));
    }

    #[test]
    fn what_is_over_is_found() {
        assert!(one(RIGHTS, "check if time($t), $t <= 2020-01-01T00:00:00Z").contains("expired at 2020-01-01"));
        assert!(one("tenant(\"x\")", "check if path(\"/\")").contains("holds no right"));
        assert!(
            linted("right(\"orders\", \"get\")", "check if path(\"/\")")
                .join(" ")
                .contains("a right that no message can use")
        );
    }

    #[test]
    fn what_is_not_accepted_at_all_is_said() {
        assert!(one(RIGHTS, "check if path($p), $p.matches(\"a\")").contains("not admitted"));
        assert!(one(RIGHTS, "check if query($a, $b), query($c, $d), query($e, $f)").contains("steps"));
        assert_eq!(lint("", NOW)[0].message, "the token is empty");
    }
}

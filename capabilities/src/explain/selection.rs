//! What a check asks for, where it has one of the usual shapes: the values of one fact of the message that it lets pass.

use std::sync::Arc;

use crate::language::{Binary, Check, MessageFact, Op, Predicate, Program, Query, RIGHT, Scope, Term, Value, quoted};
use crate::path::{EncodedSlash, canonical_path};
use crate::resource::{Operation, ResourceName};

/// All that was found in a token's checks.
#[derive(Default)]
pub(super) struct Found {
    pub(super) selections: Vec<Selection>,
    pub(super) dead: Vec<Dead>,
    /// The latest second before which some check fails.
    pub(super) not_before: Option<u64>,
    /// The earliest second after which some check fails.
    pub(super) not_after: Option<u64>,
}

/// A check that lets a fact have certain values only.
pub(super) struct Selection {
    pub(super) block: usize,
    pub(super) check: usize,
    pub(super) fact: MessageFact,
    pub(super) name: Arc<str>,
    patterns: Vec<Pattern>,
}

enum Pattern {
    Exact(Arc<str>),
    Prefix(Arc<str>),
}

impl Selection {
    /// Whether the check lets this value pass.
    pub(super) fn admits(&self, value: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Exact(text) => value == &**text,
            Pattern::Prefix(text) => value.starts_with(&**text),
        })
    }

    /// Values of which one satisfies several checks on this fact, if any value does: it would be one of the exact ones,
    /// or else the longest of the prefixes.
    pub(super) fn witnesses(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| match pattern {
            Pattern::Exact(text) | Pattern::Prefix(text) => &**text,
        })
    }
}

/// An alternative of a check that no message satisfies.
pub(super) struct Dead {
    pub(super) block: usize,
    pub(super) check: usize,
    /// Whether the check has no other alternative that could pass.
    pub(super) whole: bool,
    pub(super) why: String,
}

pub(super) fn of_program(program: &Program) -> Found {
    let mut found = Found::default();
    for (block, content) in program.blocks.iter().enumerate() {
        for (index, check) in content.checks.iter().enumerate() {
            found.dead.extend(dead_of(program, block, index, check));
            found.selections.extend(selection_of(block, index, check));
            let (not_before, not_after) = bounds_of(check);
            found.not_before = found.not_before.max(not_before);
            found.not_after = [found.not_after, not_after].into_iter().flatten().min();
        }
    }
    found
}

/// Whether every alternative is one predicate over the same fact of the message, with a literal or a prefix.
fn selection_of(block: usize, index: usize, check: &Check) -> Option<Selection> {
    let patterns: Option<Vec<(&Predicate, Pattern)>> = check.alternatives.iter().map(pattern_of).collect();
    let patterns = patterns?;
    let (first, _) = patterns.first()?;
    let name = first.name.clone();
    let fact = MessageFact::from_name(&name)?;
    // Of these a message has exactly one, or at most one; of the others several, and different values exclude nothing.
    let single = !matches!(fact, MessageFact::ClientIn | MessageFact::Query | MessageFact::Arg);
    if !single || fact.arity() != 1 || patterns.iter().any(|(predicate, _)| predicate.name != name) {
        return None;
    }
    let patterns = patterns.into_iter().map(|(_, pattern)| pattern).collect();
    Some(Selection { block, check: index, fact, name, patterns })
}

fn pattern_of(query: &Query) -> Option<(&Predicate, Pattern)> {
    match (&*query.predicates, &*query.expressions) {
        ([predicate], []) => match &*predicate.terms {
            [Term::Value(Value::Text(text))] => Some((predicate, Pattern::Exact(text.clone()))),
            _ => None,
        },
        ([predicate], [expression]) => match (&*predicate.terms, &*expression.ops) {
            (
                [Term::Variable(_)],
                [Op::Push(Term::Variable(_)), Op::Push(Term::Value(Value::Text(text))), Op::Binary(operator)],
            ) => match operator {
                Binary::StartsWith => Some((predicate, Pattern::Prefix(text.clone()))),
                Binary::Equal | Binary::LenientEqual => Some((predicate, Pattern::Exact(text.clone()))),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The seconds between which a check on the time alone passes, both inclusive.
fn bounds_of(check: &Check) -> (Option<u64>, Option<u64>) {
    let [Query { predicates, expressions, .. }] = &*check.alternatives else { return (None, None) };
    let [predicate] = &**predicates else { return (None, None) };
    if MessageFact::from_name(&predicate.name) != Some(MessageFact::Time) {
        return (None, None);
    }
    let (mut from, mut until) = (None, None);
    for expression in expressions {
        if let [Op::Push(Term::Variable(_)), Op::Push(Term::Value(Value::Date(date))), Op::Binary(operator)] =
            *expression.ops
        {
            match operator {
                Binary::LessOrEqual => until = [until, Some(date)].into_iter().flatten().min(),
                Binary::LessThan => until = [until, Some(date.saturating_sub(1))].into_iter().flatten().min(),
                Binary::GreaterOrEqual => from = from.max(Some(date)),
                Binary::GreaterThan => from = from.max(Some(date.saturating_add(1))),
                _ => {}
            }
        }
    }
    (from, until)
}

fn dead_of(program: &Program, block: usize, index: usize, check: &Check) -> Vec<Dead> {
    let trusts_block = |scopes: &[Scope]| scopes.iter().any(|scope| matches!(scope, Scope::Key(_)));
    let block_trusts = trusts_block(&program.blocks[block].scopes);
    let reasons: Vec<String> = check
        .alternatives
        .iter()
        .filter_map(|query| {
            let may_come = trusts_block(&query.scopes) || (query.scopes.is_empty() && block_trusts);
            query.predicates.iter().find_map(|predicate| why_never(program, predicate, may_come))
        })
        .collect();
    let whole = reasons.len() == check.alternatives.len();
    reasons.into_iter().map(|why| Dead { block, check: index, whole, why }).collect()
}

/// Why no message and no block will ever match a predicate.
fn why_never(program: &Program, predicate: &Predicate, may_come: bool) -> Option<String> {
    let Predicate { name, terms } = predicate;
    let Some(fact) = MessageFact::from_name(name) else {
        let matches = |fact: &crate::language::Fact| fact.name == *name && fact.values.len() == terms.len();
        let known = program.blocks.iter().flat_map(|block| &block.facts).any(matches);
        // A block with the trusted key's facts can be appended later.
        return (!known && !may_come).then(|| match &**name == RIGHT {
            true => "the token has no right of that shape".to_owned(),
            false => format!("nobody supplies the fact `{name}` with {} terms", terms.len()),
        });
    };
    if fact.arity() != terms.len() {
        return Some(format!("the fact `{name}` has {} terms, not {}", fact.arity(), terms.len()));
    }
    if fact == MessageFact::Backend {
        let why = "the gateway never supplies `backend`: only the backend itself lets such a message pass";
        return Some(why.to_owned());
    }
    let [Term::Value(value)] = &**terms else {
        return None;
    };
    let wanted = match fact {
        MessageFact::Time => "a date",
        MessageFact::BodySize => "an integer",
        _ => "a text",
    };
    let fits = match value {
        Value::Text(_) => wanted == "a text",
        Value::Date(_) => wanted == "a date",
        Value::Integer(_) => wanted == "an integer",
        Value::Bytes(_) | Value::Bool(_) | Value::Set(_) => false,
    };
    match value {
        _ if !fits => Some(format!("the fact `{name}` is {wanted}")),
        Value::Text(text) => why_no_message_has(fact, text),
        _ => None,
    }
}

/// Why no message has this value of a fact.
fn why_no_message_has(fact: MessageFact, text: &str) -> Option<String> {
    match fact {
        MessageFact::Operation if text == "*" => {
            Some("`*` stands for all operations in a right alone; leave the check out".to_owned())
        }
        MessageFact::Operation => Operation::parse(text).err().map(|error| error.to_string()),
        MessageFact::Resource => ResourceName::parse(text).err().map(|error| error.to_string()),
        MessageFact::Path => match canonical_path(text.as_bytes(), EncodedSlash::Pass) {
            Ok(canonical) if canonical == text => None,
            Ok(canonical) => {
                Some(format!("messages have the path {} in its form {}", quoted(text), quoted(&canonical)))
            }
            Err(error) => Some(format!("no message has the path {}: {error}", quoted(text))),
        },
        MessageFact::Host if text.chars().any(|it| it.is_ascii_uppercase()) => {
            Some(format!("messages have host names in lower case, not {}", quoted(text)))
        }
        MessageFact::Host if text.contains(':') && !text.starts_with('[') => {
            Some(format!("messages have host names without a port, not {}", quoted(text)))
        }
        MessageFact::Scheme if !matches!(text, "http" | "https") => {
            Some(format!("the scheme is \"http\" or \"https\", not {}", quoted(text)))
        }
        MessageFact::ClientCert
            if text.len() != 64 || text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            Some("a client certificate is named by 64 hexadecimal digits in lower case".to_owned())
        }
        _ => None,
    }
}

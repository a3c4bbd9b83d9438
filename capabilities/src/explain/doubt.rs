//! Values that are possible and surely not what was meant: a method that nobody sends, a list in another notation, a
//! pattern of a path in a router's language. Such a caveat is valid, holds, and lets nothing pass that its author
//! thought of.

use crate::language::{MessageFact, Op, Predicate, Program, Query, RIGHT, Term, Value};
use crate::path::{EncodedSlash, canonical_path};

/// A doubtful value and its place; without a check it is a right's.
pub(super) struct Doubt {
    pub(super) block: usize,
    pub(super) check: Option<usize>,
    pub(super) why: String,
}

pub(super) fn of_program(program: &Program) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for (block, content) in program.blocks.iter().enumerate() {
        for fact in content.facts.iter().filter(|fact| &*fact.name == RIGHT) {
            if let [Value::Text(_), Value::Text(operation)] = &*fact.values {
                doubts.extend(of_operation(operation).map(|why| Doubt { block, check: None, why }));
            }
        }
        for (index, check) in content.checks.iter().enumerate() {
            let whys = check.alternatives.iter().flat_map(of_query);
            doubts.extend(whys.map(|why| Doubt { block, check: Some(index), why }));
        }
    }
    doubts
}

/// Each text that an alternative compares a fact of the message with.
fn of_query(query: &Query) -> Vec<String> {
    let mut whys = Vec::new();
    for predicate in &query.predicates {
        let Some(fact) = MessageFact::from_name(&predicate.name) else { continue };
        whys.extend(texts(query, predicate).filter_map(|text| match fact {
            MessageFact::Operation => of_operation(text),
            MessageFact::Path => of_path(text),
            _ => None,
        }));
    }
    whys
}

/// The text in a fact's place, or the one that its variable begins with or is.
fn texts<'q>(query: &'q Query, predicate: &'q Predicate) -> impl Iterator<Item = &'q str> {
    let compared = query.expressions.iter().filter_map(|expression| match &*expression.ops {
        [Op::Push(Term::Variable(_)), Op::Push(Term::Value(Value::Text(text))), Op::Binary(_)] => Some(&**text),
        _ => None,
    });
    let (literal, variable) = match &*predicate.terms {
        [Term::Value(Value::Text(text))] => (Some(&**text), false),
        [Term::Variable(_)] => (None, query.predicates.len() == 1),
        _ => (None, false),
    };
    literal.into_iter().chain(compared.filter(move |_| variable))
}

fn of_operation(text: &str) -> Option<String> {
    if text.contains('|') {
        let listed = text.replace('|', ",");
        return Some(format!("no message has the method {text:?}: several are written {listed}, with commas"));
    }
    match text {
        "ANY" | "ALL" => {
            Some(format!("no message has the method {text:?}: leave the caveat out for all of them, or name each"))
        }
        "CONNECT" => {
            Some("no CONNECT is ever forwarded: the gateway opens no tunnels (a WebSocket is a GET)".to_owned())
        }
        _ => None,
    }
}

fn of_path(text: &str) -> Option<String> {
    // As it may have been written: in its canonical form braces are escaped.
    let segment = text.split('/').find(|segment| {
        let is_named = segment.starts_with(':') && segment.len() > 1;
        let is_braced = |open: &str, close: &str| segment.starts_with(open) && segment.ends_with(close);
        is_named || is_braced("{", "}") || is_braced("%7B", "%7D") || segment.contains('*') || segment.starts_with('<')
    })?;
    canonical_path(text.as_bytes(), EncodedSlash::Pass).ok()?;
    Some(format!(
        "{segment:?} stands for itself in a path, and for no other segment: write the path that is meant, or a prefix with /**"
    ))
}

//! Showing a program to people, from the plan and escaped.
//!
//! The text is biscuit's syntax, and what biscuit's tools make of it means the same; but nothing here is ever decided by parsing
//! it, because printers and parsers have disagreed before: the library's own does not escape quotes, so a literal
//! could end in the middle and go on as code. Two constructs have no syntax that means the same: the eager `and`
//! and `or` of older versions are shown as the methods `.and()` and `.or()`, which no parser takes for something else;
//! and characters that cannot be seen are shown by their number.

use std::fmt::Write as _;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::program::{Binary, Check, Expression, Fact, Kind, Lazy, Op, Predicate, Query, Scope, Term, Unary, Value};

/// A text in quotes, with everything escaped that could end it, hide, or change how its neighbours are read.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '\'' => quoted.push('\''),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted.push('"');
    quoted
}

pub(super) fn check(check: &Check) -> String {
    let kind = match check.kind {
        Kind::If => "check if",
        Kind::All => "check all",
    };
    let alternatives: Vec<String> = check.alternatives.iter().map(query).collect();
    format!("{kind} {}", alternatives.join(" or "))
}

pub(super) fn fact(fact: &Fact) -> String {
    let values: Vec<String> = fact.values.iter().map(value).collect();
    format!("{}({})", fact.name, values.join(", "))
}

/// With a space in front; nothing for the default scope.
pub(super) fn scopes(scopes: &[Scope]) -> String {
    let scopes: Vec<String> = scopes
        .iter()
        .map(|scope| match scope {
            Scope::Authority => "authority".to_owned(),
            Scope::Previous => "previous".to_owned(),
            Scope::Key(key) => format!("ed25519/{}", hex(key)),
        })
        .collect();
    if scopes.is_empty() { String::new() } else { format!(" trusting {}", scopes.join(", ")) }
}

fn query(query: &Query) -> String {
    let predicates = query.predicates.iter().map(|it| predicate(it, &query.variables));
    let expressions = query.expressions.iter().map(|it| expression(it, &query.variables));
    let parts: Vec<String> = predicates.chain(expressions).collect();
    format!("{}{}", parts.join(", "), scopes(&query.scopes))
}

fn predicate(predicate: &Predicate, variables: &[Box<str>]) -> String {
    let terms: Vec<String> = predicate.terms.iter().map(|it| term(it, variables)).collect();
    format!("{}({})", predicate.name, terms.join(", "))
}

fn term(term: &Term, variables: &[Box<str>]) -> String {
    match term {
        Term::Variable(slot) => format!("${}", variables[*slot]),
        Term::Value(it) => value(it),
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::Date(seconds) => date(*seconds),
        Value::Bytes(bytes) => format!("hex:{}", hex(bytes)),
        Value::Bool(truth) => truth.to_string(),
        Value::Set(members) if members.is_empty() => "{,}".to_owned(),
        Value::Set(members) => {
            let members: Vec<String> = members.iter().map(self::value).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// No program holds a date that cannot be written; the number is there so that this cannot fail.
fn date(seconds: u64) -> String {
    let date = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

/// How tightly a piece of text holds together, in the order of biscuit's grammar. A piece is put into parentheses where
/// something tighter is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Comparison,
    BitXor,
    BitOr,
    BitAnd,
    /// `!` takes a whole sum for its operand.
    Not,
    Sum,
    Product,
    Method,
    Atom,
}

struct Piece {
    text: String,
    binding: Binding,
}

impl Piece {
    fn at_least(self, binding: Binding) -> String {
        if self.binding >= binding { self.text } else { format!("({})", self.text) }
    }

    fn above(self, binding: Binding) -> String {
        if self.binding > binding { self.text } else { format!("({})", self.text) }
    }
}

fn expression(expression: &Expression, variables: &[Box<str>]) -> String {
    code(&expression.ops, variables).text
}

fn code(ops: &[Op], variables: &[Box<str>]) -> Piece {
    let mut stack: Vec<Piece> = Vec::new();
    let mut at = 0;
    while let Some(op) = ops.get(at) {
        at += 1;
        let mut pop = || stack.pop().expect("an admitted expression leaves an operand for each operator");
        let piece = match op {
            // A date is read up to the next space or bracket, so a method cannot follow it directly.
            Op::Push(it @ Term::Value(Value::Date(_))) => {
                Piece { text: term(it, variables), binding: Binding::Product }
            }
            Op::Push(it) => Piece { text: term(it, variables), binding: Binding::Atom },
            Op::Unary(Unary::Not) => {
                Piece { text: format!("!{}", pop().at_least(Binding::Not)), binding: Binding::Not }
            }
            Op::Unary(Unary::Length) => method(pop(), "length", ""),
            Op::Binary(operator) => {
                let right = pop();
                binary(*operator, pop(), right)
            }
            Op::Lazy { operator, length } => {
                let second = code(&ops[at..at + length], variables);
                at += length;
                match operator {
                    Lazy::And => infix(pop(), "&&", second, Binding::And),
                    Lazy::Or => infix(pop(), "||", second, Binding::Or),
                }
            }
        };
        stack.push(piece);
    }
    stack.pop().expect("an admitted expression comes to one value")
}

fn binary(operator: Binary, left: Piece, right: Piece) -> Piece {
    let comparison = |sign, left: Piece, right: Piece| Piece {
        text: format!("{} {sign} {}", left.above(Binding::Comparison), right.above(Binding::Comparison)),
        binding: Binding::Comparison,
    };
    match operator {
        Binary::LessThan => comparison("<", left, right),
        Binary::GreaterThan => comparison(">", left, right),
        Binary::LessOrEqual => comparison("<=", left, right),
        Binary::GreaterOrEqual => comparison(">=", left, right),
        Binary::Equal => comparison("===", left, right),
        Binary::NotEqual => comparison("!==", left, right),
        Binary::LenientEqual => comparison("==", left, right),
        Binary::LenientNotEqual => comparison("!=", left, right),
        Binary::Contains => method(left, "contains", &right.text),
        Binary::StartsWith => method(left, "starts_with", &right.text),
        Binary::EndsWith => method(left, "ends_with", &right.text),
        Binary::Intersection => method(left, "intersection", &right.text),
        Binary::Union => method(left, "union", &right.text),
        Binary::And => method(left, "and", &right.text),
        Binary::Or => method(left, "or", &right.text),
        Binary::Add => infix(left, "+", right, Binding::Sum),
        Binary::Subtract => infix(left, "-", right, Binding::Sum),
        Binary::Multiply => infix(left, "*", right, Binding::Product),
        Binary::Divide => infix(left, "/", right, Binding::Product),
        Binary::BitAnd => infix(left, "&", right, Binding::BitAnd),
        Binary::BitOr => infix(left, "|", right, Binding::BitOr),
        Binary::BitXor => infix(left, "^", right, Binding::BitXor),
    }
}

/// Operators associate to the left.
fn infix(left: Piece, sign: &str, right: Piece, binding: Binding) -> Piece {
    Piece { text: format!("{} {sign} {}", left.at_least(binding), right.above(binding)), binding }
}

fn method(receiver: Piece, name: &str, argument: &str) -> Piece {
    let text = format!("{}.{name}({argument})", receiver.at_least(Binding::Method));
    Piece { text, binding: Binding::Method }
}

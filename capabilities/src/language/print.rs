//! Showing a program to people, from the plan and escaped.
//!
//! The text is biscuit's syntax, and what biscuit's tools make of it means the same; but nothing here is ever decided by parsing
//! it, because printers and parsers have disagreed before: the library's own does not escape quotes, so a literal
//! could end in the middle and go on as code. Two constructs have no syntax that means the same: the eager `and`
//! and `or` of older versions are shown as the methods `.and()` and `.or()`, which no parser takes for something else;
//! and characters that cannot be seen are shown by their number.

use std::fmt::Write as _;
use std::sync::Arc;

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

/// Most bytes of one printed check, or of a name, where a refusal quotes it.
const EXCERPT_BYTES_MAX: usize = 256;

/// As much of a text as a refusal quotes. Whoever appends a check chooses its length, and refusals are sent and logged
/// at every message; the whole text is for whoever looks at the token itself.
pub(crate) fn excerpt(mut text: String) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > EXCERPT_BYTES_MAX {
        let room = EXCERPT_BYTES_MAX - ELLIPSIS.len();
        text.truncate((0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text.push_str(ELLIPSIS);
        text.shrink_to_fit();
    }
    text
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

fn predicate(predicate: &Predicate, variables: &[Arc<str>]) -> String {
    let terms: Vec<String> = predicate.terms.iter().map(|it| term(it, variables)).collect();
    format!("{}({})", predicate.name, terms.join(", "))
}

fn term(term: &Term, variables: &[Arc<str>]) -> String {
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

fn expression(expression: &Expression, variables: &[Arc<str>]) -> String {
    code(&expression.ops, variables).text
}

fn code(ops: &[Op], variables: &[Arc<str>]) -> Piece {
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

#[cfg(test)]
mod tests {
    use super::super::testing::{binary, block_with, crafted, plan, query, token, truth};
    use super::super::{Plan, admit};
    use super::*;

    fn text(check: &str) -> String {
        plan(&format!("{check};")).checks().next().unwrap().text()
    }

    /// What is shown, read by biscuit's own tools, is the same program.
    #[test]
    fn what_is_shown_means_the_same_to_biscuits_tools() {
        for check in [
            "check if true",
            "check all path($p), $p.starts_with(\"/v1/\") || $p === \"/v1\" && !($p.length() > 9)",
            "check if (1 + 2) * 3 - (4 - 5) === 1 / (2 / 3)",
            "check if 1 + 2 * 3 - 4 / 2 === 5 or resource(\"a\") trusting authority, previous",
            "check if !(true && false) || !(!true)",
            "check if (true || false) && (false || true)",
            "check if true && (false && true)",
            "check if (!true) === false, !(1 === 2)",
            "check if (1 | 2 & 3 ^ 4) === ((1 | 2) & (3 ^ 4))",
            "check if (1 < 2) == true",
            "check if {1, 2}.union({3}).intersection({,}).contains({1})",
            "check if (\"a\" + \"b\").contains(\"a\" + \"b\").length() > -1",
            "check if time($t), $t <= 2030-01-01T00:00:00Z, {2030-01-01T00:00:00Z}.contains($t)",
            "check if {hex:00ff, hex:0a}.contains(hex:00ff) or {false, true}.contains(false)",
            "check if path(\"a \\\" || true or \\\\ \\n é ' b\")",
            "check if 1 - -1 === 2, -9223372036854775808 < 0",
            "check if (-1).length() == 1 || (!true).length() == (true && true).length()",
        ] {
            let once = admit(&token(&format!("{check};"), &[])).unwrap();
            let shown = text(check);
            let twice = admit(&token(&format!("{shown};"), &[])).unwrap_or_else(|reason| panic!("{shown}: {reason}"));
            assert_eq!(once, twice, "{check}\n{shown}");
        }
    }

    /// The library prints this literal unescaped, so that it reads as an alternative which lets everything pass.
    #[test]
    fn a_literal_cannot_pretend_to_be_code() {
        let block = "check if path($p), $p === \"\\\" || $p.starts_with(\\\"/\\\") || \\\"\"";
        assert_eq!(text(block), block);
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_its_number() {
        assert_eq!(quoted("a\u{202e}b\u{200b}\u{0}\t\u{1b}[31m"), "\"a\\u{202e}b\\u{200b}\\0\\t\\u{1b}[31m\"");
        assert_eq!(quoted("it's é 😁"), "\"it's é 😁\"");
    }

    /// The library prints these as `&&!` and `||!`, which its parser reads as a lazy operator with a negation.
    #[test]
    fn the_eager_operators_are_shown_as_something_that_no_parser_misreads() {
        use biscuit_auth::format::schema::op_binary::Kind;
        let ops = vec![truth(true), truth(false), binary(Kind::Or as i32), truth(true), binary(Kind::And as i32)];
        let plan = Plan::compile(admit(&crafted(&block_with(query(vec![], vec![ops])))).unwrap());
        let shown = plan.checks().next().unwrap().text();
        assert_eq!(shown, "check if true.or(false).and(true)");
        assert!(biscuit_auth::builder::BlockBuilder::new().code(&shown).is_err());
    }

    #[test]
    fn scopes_and_facts_are_shown() {
        let key = "ed25519/6e9e6d5a75cf0c0e87ec1256b4dfed0ca3ba452912d213fcc70f8516583db9db";
        let check = format!("check if a(1) trusting {key} or b({{\"x\"}}, hex:00) trusting authority");
        assert_eq!(text(&check), check);
        let facts = plan("f(1, \"a\", true, 2030-01-01T00:00:00Z, hex:0a, {2, 1}, {,});");
        let shown: Vec<String> = facts.blocks().flat_map(|block| block.facts().collect::<Vec<_>>()).collect();
        assert_eq!(shown, ["f(1, \"a\", true, 2030-01-01T00:00:00Z, hex:0a, {1, 2}, {,})"]);
    }
}

//! What the operators mean.
//!
//! The rules are biscuit's (section "Expressions" of the specification): arithmetic is checked, `===` takes operands of one type
//! and `==` any, `length` of a text is in bytes, sets compare by their members, and an operand of a type that
//! an operator does not take is a fault. There are no conversions.
//!
//! Every operator notes the work that its operands' sizes cause beyond its one instruction: a step for each
//! [`BYTES_PER_STEP`] of text read, a step for each member of a set looked at. [`price`](super::price) foresees exactly these.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::program::{Binary, Unary, Value};

/// Bytes of text that an operator reads within one step.
pub(crate) const BYTES_PER_STEP: usize = 64;

/// A value while an expression runs. Borrowed from the plan or the message but for what operators put together.
#[derive(Debug, Clone)]
pub(crate) enum Operand<'e> {
    Integer(i64),
    Text(Cow<'e, str>),
    Date(u64),
    Bytes(&'e [u8]),
    Bool(bool),
    Set(Members<'e>),
}

/// A set: as written, or put together by an operator. Both sorted and without duplicates.
#[derive(Debug, Clone)]
pub(crate) enum Members<'e> {
    Written(&'e [Value]),
    Computed(Vec<&'e Value>),
}

/// Why an expression has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a number in it overflows")]
    Overflow,
    #[error("a number in it is divided by zero")]
    DivideByZero,
    #[error("an operator in it meets a value of a type that it does not take")]
    Type,
    #[error("a condition in it is neither true nor false")]
    NotABoolean,
    #[error(
        "it speaks of every argument, and one of this call is neither a text, a whole number, true nor false, or is too long"
    )]
    Unstated,
}

impl<'e> Operand<'e> {
    pub(crate) fn text(text: &'e str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'e> From<&'e Value> for Operand<'e> {
    fn from(value: &'e Value) -> Self {
        match value {
            Value::Integer(number) => Self::Integer(*number),
            Value::Text(text) => Self::text(text),
            Value::Date(seconds) => Self::Date(*seconds),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Set(members) => Self::Set(Members::Written(members)),
        }
    }
}

impl<'e> Members<'e> {
    fn len(&self) -> usize {
        match self {
            Self::Written(members) => members.len(),
            Self::Computed(members) => members.len(),
        }
    }

    fn get(&self, at: usize) -> Option<&'e Value> {
        match self {
            Self::Written(members) => members.get(at),
            Self::Computed(members) => members.get(at).copied(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &'e Value> {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

/// The steps for reading this many bytes.
pub(crate) fn reading(bytes: usize) -> u64 {
    u64::try_from(bytes / BYTES_PER_STEP).unwrap_or(u64::MAX)
}

/// Whether two values of one type are equal; `None` where the types differ.
pub(crate) fn equal(left: &Operand<'_>, right: &Operand<'_>, steps: &mut u64) -> Option<bool> {
    Some(match (left, right) {
        (Operand::Integer(left), Operand::Integer(right)) => left == right,
        (Operand::Text(left), Operand::Text(right)) => {
            *steps += reading(left.len().min(right.len()));
            left == right
        }
        (Operand::Date(left), Operand::Date(right)) => left == right,
        (Operand::Bytes(left), Operand::Bytes(right)) => {
            *steps += reading(left.len().min(right.len()));
            left == right
        }
        (Operand::Bool(left), Operand::Bool(right)) => left == right,
        (Operand::Set(left), Operand::Set(right)) => {
            left.len() == right.len() && left.iter().zip(right.iter()).all(|(left, right)| same(left, right, steps))
        }
        _ => return None,
    })
}

/// Whether two members of sets are the same. Members have no members, so this does not recurse further.
fn same(left: &Value, right: &Value, steps: &mut u64) -> bool {
    *steps += 1;
    equal(&left.into(), &right.into(), steps) == Some(true)
}

/// The order by which sets are sorted.
fn compare(left: &Value, right: &Value, steps: &mut u64) -> Ordering {
    let bytes = match (left, right) {
        (Value::Text(left), Value::Text(right)) => left.len().min(right.len()),
        (Value::Bytes(left), Value::Bytes(right)) => left.len().min(right.len()),
        _ => 0,
    };
    *steps += 1 + reading(bytes);
    left.cmp(right)
}

/// Applies an operator of one operand.
pub(crate) fn unary<'e>(operator: Unary, operand: &Operand<'e>) -> Result<Operand<'e>, Fault> {
    let length = match (operator, operand) {
        (Unary::Not, Operand::Bool(truth)) => return Ok(Operand::Bool(!truth)),
        (Unary::Length, Operand::Text(text)) => text.len(),
        (Unary::Length, Operand::Bytes(bytes)) => bytes.len(),
        (Unary::Length, Operand::Set(members)) => members.len(),
        _ => return Err(Fault::Type),
    };
    i64::try_from(length).map(Operand::Integer).map_err(|_| Fault::Overflow)
}

/// Applies an operator of two operands.
pub(crate) fn binary<'e>(
    operator: Binary,
    left: Operand<'e>,
    right: Operand<'e>,
    steps: &mut u64,
) -> Result<Operand<'e>, Fault> {
    let truth = match operator {
        Binary::Equal => equal(&left, &right, steps).ok_or(Fault::Type)?,
        Binary::NotEqual => !equal(&left, &right, steps).ok_or(Fault::Type)?,
        Binary::LenientEqual => equal(&left, &right, steps).unwrap_or(false),
        Binary::LenientNotEqual => !equal(&left, &right, steps).unwrap_or(false),
        Binary::LessThan => order(&left, &right)?.is_lt(),
        Binary::GreaterThan => order(&left, &right)?.is_gt(),
        Binary::LessOrEqual => order(&left, &right)?.is_le(),
        Binary::GreaterOrEqual => order(&left, &right)?.is_ge(),
        Binary::Contains => contains(&left, &right, steps)?,
        Binary::StartsWith | Binary::EndsWith => {
            let (Operand::Text(text), Operand::Text(part)) = (&left, &right) else {
                return Err(Fault::Type);
            };
            *steps += reading(text.len().min(part.len()));
            if operator == Binary::StartsWith { text.starts_with(&**part) } else { text.ends_with(&**part) }
        }
        Binary::And | Binary::Or => match (&left, &right) {
            (Operand::Bool(left), Operand::Bool(right)) if operator == Binary::And => *left && *right,
            (Operand::Bool(left), Operand::Bool(right)) => *left || *right,
            _ => return Err(Fault::Type),
        },
        Binary::Union | Binary::Intersection => {
            let (Operand::Set(left), Operand::Set(right)) = (&left, &right) else {
                return Err(Fault::Type);
            };
            return Ok(Operand::Set(Members::Computed(merge(left, right, operator == Binary::Union, steps))));
        }
        Binary::Add
        | Binary::Subtract
        | Binary::Multiply
        | Binary::Divide
        | Binary::BitAnd
        | Binary::BitOr
        | Binary::BitXor => return arithmetic(operator, left, right, steps),
    };
    Ok(Operand::Bool(truth))
}

/// Numbers and dates have an order, nothing else.
fn order(left: &Operand<'_>, right: &Operand<'_>) -> Result<Ordering, Fault> {
    match (left, right) {
        (Operand::Integer(left), Operand::Integer(right)) => Ok(left.cmp(right)),
        (Operand::Date(left), Operand::Date(right)) => Ok(left.cmp(right)),
        _ => Err(Fault::Type),
    }
}

fn arithmetic<'e>(
    operator: Binary,
    left: Operand<'e>,
    right: Operand<'e>,
    steps: &mut u64,
) -> Result<Operand<'e>, Fault> {
    let (left, right) = match (left, right) {
        (Operand::Integer(left), Operand::Integer(right)) => (left, right),
        (Operand::Text(left), Operand::Text(right)) if operator == Binary::Add => {
            *steps += reading(left.len() + right.len());
            return Ok(Operand::Text(left + right));
        }
        _ => return Err(Fault::Type),
    };
    let number = match operator {
        Binary::Add => left.checked_add(right).ok_or(Fault::Overflow),
        Binary::Subtract => left.checked_sub(right).ok_or(Fault::Overflow),
        Binary::Multiply => left.checked_mul(right).ok_or(Fault::Overflow),
        Binary::Divide if right == 0 => Err(Fault::DivideByZero),
        Binary::Divide => left.checked_div(right).ok_or(Fault::Overflow),
        Binary::BitAnd => Ok(left & right),
        Binary::BitOr => Ok(left | right),
        Binary::BitXor => Ok(left ^ right),
        _ => Err(Fault::Type),
    };
    number.map(Operand::Integer)
}

/// A text in a text, a value in a set, or a set in a set.
fn contains(left: &Operand<'_>, right: &Operand<'_>, steps: &mut u64) -> Result<bool, Fault> {
    match (left, right) {
        (Operand::Text(text), Operand::Text(part)) if part.len() > text.len() => Ok(false),
        (Operand::Text(text), Operand::Text(part)) => {
            *steps += reading(text.len() + part.len());
            Ok(text.contains(&**part))
        }
        (Operand::Set(members), Operand::Set(others)) => Ok(merge(members, others, false, steps).len() == others.len()),
        (Operand::Set(members), value) => Ok(members.iter().any(|member| {
            *steps += 1;
            equal(&member.into(), value, steps) == Some(true)
        })),
        _ => Err(Fault::Type),
    }
}

/// The union of two sets, or their intersection.
fn merge<'e>(left: &Members<'e>, right: &Members<'e>, union: bool, steps: &mut u64) -> Vec<&'e Value> {
    let mut merged = Vec::new();
    let (mut at_left, mut at_right) = (0, 0);
    loop {
        let (value, both) = match (left.get(at_left), right.get(at_right)) {
            (Some(value), Some(other)) => match compare(value, other, steps) {
                Ordering::Less => {
                    at_left += 1;
                    (value, false)
                }
                Ordering::Greater => {
                    at_right += 1;
                    (other, false)
                }
                Ordering::Equal => {
                    at_left += 1;
                    at_right += 1;
                    (value, true)
                }
            },
            (Some(value), None) if union => {
                *steps += 1;
                at_left += 1;
                (value, false)
            }
            (None, Some(value)) if union => {
                *steps += 1;
                at_right += 1;
                (value, false)
            }
            _ => return merged,
        };
        if union || both {
            merged.push(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::verdict;

    /// True, false, or without a value.
    fn outcome(expression: &str) -> Option<bool> {
        match verdict(&format!("check if {expression};")) {
            Verdict::Passed => Some(true),
            Verdict::Failed(_) => Some(false),
            Verdict::Undecidable(_) => None,
            Verdict::BeyondMaxima(what) => panic!("{what}"),
        }
    }

    /// The checks of the official samples 017 (but for its regular expression), 028, 031 and 032 (but for its closures).
    #[test]
    fn the_official_samples_hold() {
        for expression in [
            "true",
            "!false",
            "true === true",
            "false === false",
            "1 < 2",
            "2 > 1",
            "1 <= 2",
            "1 <= 1",
            "2 >= 1",
            "2 >= 2",
            "3 === 3",
            "1 + 2 * 3 - 4 / 2 === 5",
            "\"hello world\".starts_with(\"hello\"), \"hello world\".ends_with(\"world\")",
            "\"aaabde\".contains(\"abd\")",
            "\"aaabde\" === \"aaa\" + \"b\" + \"de\"",
            "\"abcD12\" === \"abcD12\"",
            "\"abcD12\".length() === 6",
            "\"é\".length() === 2",
            "2019-12-04T09:46:41Z < 2020-12-04T09:46:41Z",
            "2020-12-04T09:46:41Z > 2019-12-04T09:46:41Z",
            "2019-12-04T09:46:41Z <= 2020-12-04T09:46:41Z",
            "2020-12-04T09:46:41Z >= 2020-12-04T09:46:41Z",
            "2020-12-04T09:46:41Z >= 2019-12-04T09:46:41Z",
            "2020-12-04T09:46:41Z === 2020-12-04T09:46:41Z",
            "hex:12ab === hex:12ab",
            "{1, 2}.contains(2)",
            "{2019-12-04T09:46:41Z, 2020-12-04T09:46:41Z}.contains(2020-12-04T09:46:41Z)",
            "{false, true}.contains(true)",
            "{\"abc\", \"def\"}.contains(\"abc\")",
            "{hex:12ab, hex:34de}.contains(hex:34de)",
            "{1, 2}.contains({2})",
            "{1, 2} === {1, 2}",
            "{1, 2}.intersection({2, 3}) === {2}",
            "{1, 2}.union({2, 3}) === {1, 2, 3}",
            "{1, 2, 3}.intersection({1, 2}).contains(1)",
            "{1, 2, 3}.intersection({1, 2}).length() === 2",
            "{,}.length() === 0",
            "1 !== 3",
            "1 | 2 ^ 3 === 0",
            "\"abcD12x\" !== \"abcD12\"",
            "2022-12-04T09:46:41Z !== 2020-12-04T09:46:41Z",
            "hex:12abcd !== hex:12ab",
            "{1, 4} !== {1, 2}",
            "true == true",
            "false == false",
            "false != true",
            "1 != true",
            "1 == 1",
            "1 != 3",
            "\"abcD12\" == \"abcD12\"",
            "\"abcD12x\" != \"abcD12\"",
            "\"abcD12x\" != true",
            "2022-12-04T09:46:41Z == 2022-12-04T09:46:41Z",
            "2022-12-04T09:46:41Z != true",
            "hex:12abcd != true",
            "{1, 2} == {1, 2}",
            "{1, 4} != true",
            "!false && true",
            "false || true",
            "(true || false) && true",
            "!(false && \"x\".intersection(\"x\"))",
            "true || \"x\".intersection(\"x\")",
        ] {
            assert_eq!(outcome(expression), Some(true), "{expression}");
        }
    }

    /// Official sample 027, and its neighbours.
    #[test]
    fn arithmetic_is_checked() {
        for expression in [
            "10000000000 * 10000000000 !== 0",
            "9223372036854775807 + 1 !== 0",
            "-9223372036854775808 - 1 !== 0",
            "1 / 0 === 0",
            "-9223372036854775808 / -1 > 0",
        ] {
            assert_eq!(outcome(expression), None, "{expression}");
        }
        assert_eq!(outcome("7 / -2 === -3"), Some(true));
        assert_eq!(outcome("-7 / 2 === -3"), Some(true));
    }

    #[test]
    fn strict_comparison_errs_across_types_and_lenient_does_not() {
        for (left, right) in
            [("1", "\"1\""), ("true", "1"), ("2020-01-01T00:00:00Z", "1577836800"), ("{1}", "1"), ("hex:61", "\"a\"")]
        {
            assert_eq!(outcome(&format!("{left} === {right}")), None);
            assert_eq!(outcome(&format!("{left} !== {right}")), None);
            assert_eq!(outcome(&format!("{left} == {right}")), Some(false));
            assert_eq!(outcome(&format!("{left} != {right}")), Some(true));
        }
        // Sets are of one type whatever is in them.
        assert_eq!(outcome("{1} === {\"a\"}"), Some(false));
    }

    #[test]
    fn operators_take_what_biscuit_says_and_err_on_the_rest() {
        for expression in [
            "\"a\" < \"b\"",
            "true < false",
            "hex:00 < hex:01",
            "{1} < {2}",
            "1 + \"a\"",
            "\"a\" - \"a\"",
            "true + true",
            "!1",
            "1.length() > 0",
            "true.length() > 0",
            "1 && true",
            "\"a\".contains(1)",
            "1.contains(1)",
            "\"a\".starts_with(1)",
            "{1}.starts_with({1})",
            "{1}.union(1).length() > 0",
            "1 | true",
            "1",
            "\"a\"",
            "true && 1",
        ] {
            assert_eq!(outcome(expression), None, "{expression}");
        }
        assert_eq!(outcome("{1}.contains(\"1\")"), Some(false));
        assert_eq!(outcome("\"x\".contains(\"\")"), Some(true));
        assert_eq!(outcome("{1, 2, 3}.contains({,})"), Some(true));
        assert_eq!(outcome("{1, 2}.contains({2, 3})"), Some(false));
        assert_eq!(outcome("{1}.union({\"a\"}).length() === 2"), Some(true));
        assert_eq!(outcome("hex:00ff.length() === 2"), Some(true));
        assert_eq!(outcome("6 & 3 === 2 && 6 | 3 === 7 && 6 ^ 3 === 5"), Some(true));
    }
}

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

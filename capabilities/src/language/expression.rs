//! Reading an expression: from biscuit's reverse Polish operations to [`Op`]s that are known to be well formed.
//!
//! Since version 3.3 a lazy operator's second operand is a closure without parameters. The closure may also stand on
//! the left; the library then takes the right operand for the first. A lazy operator over plain operands, an eager one with
//! a closure, and a closure that is left over are errors of evaluation in the library, hence refused here.

use std::sync::Arc;

use biscuit_auth::format::schema::{self, op, op_binary, op_unary};

use super::NotAdmitted;
use super::block::Reader;
use super::program::{Binary, Expression, Lazy, Op, Unary};

/// What an operation has left on the stack.
enum Operand {
    /// Code that leaves a value.
    Value(Vec<Op>),
    /// Code that will be run, or not, by the operator that takes it.
    Closure(Vec<Op>),
}

/// What an operator's number stands for.
enum Operator {
    Eager(Binary),
    Lazy(Lazy),
}

/// Reads one expression of a query with these variables.
pub(super) fn read(reader: &Reader<'_>, ops: &[schema::Op], variables: &[Arc<str>]) -> Result<Expression, NotAdmitted> {
    Ok(Expression { ops: code(reader, ops, variables)?.into() })
}

/// Reads operations. Closures nest as deep as the decoder lets them, which is below fifty.
fn code(reader: &Reader<'_>, ops: &[schema::Op], variables: &[Arc<str>]) -> Result<Vec<Op>, NotAdmitted> {
    let malformed = |reason| reader.refuse("a malformed expression", reason);
    let mut stack: Vec<Operand> = Vec::new();
    for op in ops {
        let operand = match op.content.as_ref() {
            Some(op::Content::Value(term)) => Operand::Value(vec![Op::Push(reader.term(term, variables)?)]),
            Some(op::Content::Closure(closure)) if closure.params.is_empty() => {
                Operand::Closure(code(reader, &closure.ops, variables)?)
            }
            Some(op::Content::Closure(_)) => {
                return Err(reader.refuse("a closure with parameters", "write the cases out with `or`"));
            }
            Some(op::Content::Unary(unary)) => match stack.pop() {
                Some(Operand::Value(mut code)) => {
                    code.extend(self::unary(reader, unary)?.map(Op::Unary));
                    Operand::Value(code)
                }
                _ => return Err(malformed("an operator has no operand")),
            },
            Some(op::Content::Binary(binary)) => {
                let operator = self::binary(reader, binary)?;
                match (stack.pop(), stack.pop()) {
                    (Some(right), Some(left)) => Operand::Value(combine(operator, left, right).ok_or_else(|| {
                        malformed("an operator and its operands do not fit: lazy ones take a closure")
                    })?),
                    _ => return Err(malformed("an operator has too few operands")),
                }
            }
            None => return Err(malformed("an operation has no content")),
        };
        stack.push(operand);
    }
    match (stack.pop(), stack.pop()) {
        (Some(Operand::Value(code)), None) => Ok(code),
        _ => Err(malformed("it does not come to one value")),
    }
}

/// The code of an operator behind that of its operands. `None`: these operands are an error under this operator.
fn combine(operator: Operator, left: Operand, right: Operand) -> Option<Vec<Op>> {
    match (operator, left, right) {
        (Operator::Eager(binary), Operand::Value(mut code), Operand::Value(right)) => {
            code.extend(right);
            code.push(Op::Binary(binary));
            Some(code)
        }
        (Operator::Lazy(operator), Operand::Value(mut code), Operand::Closure(closure))
        | (Operator::Lazy(operator), Operand::Closure(closure), Operand::Value(mut code)) => {
            code.push(Op::Lazy { operator, length: closure.len() });
            code.extend(closure);
            Some(code)
        }
        _ => None,
    }
}

/// `None` for parentheses, which the order of operations has made superfluous.
fn unary(reader: &Reader<'_>, proto: &schema::OpUnary) -> Result<Option<Unary>, NotAdmitted> {
    use op_unary::Kind;
    if proto.ffi_name.is_some() {
        return Err(external(reader));
    }
    match Kind::from_i32(proto.kind) {
        Some(Kind::Negate) => Ok(Some(Unary::Not)),
        Some(Kind::Parens) => Ok(None),
        Some(Kind::Length) => Ok(Some(Unary::Length)),
        Some(Kind::TypeOf) => Err(reader.refuse("`.type()`", "compare with `===`, which errs on another type")),
        Some(Kind::Ffi) => Err(external(reader)),
        None => Err(unknown(reader, proto.kind)),
    }
}

fn binary(reader: &Reader<'_>, proto: &schema::OpBinary) -> Result<Operator, NotAdmitted> {
    use op_binary::Kind;
    if proto.ffi_name.is_some() {
        return Err(external(reader));
    }
    let Some(kind) = Kind::from_i32(proto.kind) else {
        return Err(unknown(reader, proto.kind));
    };
    Ok(Operator::Eager(match kind {
        Kind::LessThan => Binary::LessThan,
        Kind::GreaterThan => Binary::GreaterThan,
        Kind::LessOrEqual => Binary::LessOrEqual,
        Kind::GreaterOrEqual => Binary::GreaterOrEqual,
        Kind::Equal => Binary::Equal,
        Kind::NotEqual => Binary::NotEqual,
        Kind::HeterogeneousEqual => Binary::LenientEqual,
        Kind::HeterogeneousNotEqual => Binary::LenientNotEqual,
        Kind::Contains => Binary::Contains,
        Kind::Prefix => Binary::StartsWith,
        Kind::Suffix => Binary::EndsWith,
        Kind::Add => Binary::Add,
        Kind::Sub => Binary::Subtract,
        Kind::Mul => Binary::Multiply,
        Kind::Div => Binary::Divide,
        Kind::And => Binary::And,
        Kind::Or => Binary::Or,
        Kind::Intersection => Binary::Intersection,
        Kind::Union => Binary::Union,
        Kind::BitwiseAnd => Binary::BitAnd,
        Kind::BitwiseOr => Binary::BitOr,
        Kind::BitwiseXor => Binary::BitXor,
        Kind::LazyAnd => return Ok(Operator::Lazy(Lazy::And)),
        Kind::LazyOr => return Ok(Operator::Lazy(Lazy::Or)),
        Kind::Regex => {
            let reason = "its cost cannot be foreseen; use `starts_with`, `ends_with`, `contains` or equality";
            return Err(reader.refuse("a regular expression (`.matches()`)", reason));
        }
        Kind::All | Kind::Any => {
            return Err(
                reader.refuse("a closure with parameters (`.all()`, `.any()`)", "write the cases out with `or`")
            );
        }
        Kind::Get => return Err(reader.refuse("`.get()`", "there are no arrays and maps to get from")),
        Kind::TryOr => return Err(reader.refuse("`.try_or()`", "what cannot be decided is refused, not replaced")),
        Kind::Ffi => return Err(external(reader)),
    }))
}

fn external(reader: &Reader<'_>) -> NotAdmitted {
    reader.refuse("an extern function", "the gateway has none")
}

fn unknown(reader: &Reader<'_>, number: i32) -> NotAdmitted {
    reader.refuse(format!("the unknown operator {number}"), "its meaning is not known here, so it cannot be honoured")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        admitted, binary, block_with, closure, crafted, message, query, refused, truth, unary, value,
    };
    use super::super::{NotAdmitted, Plan, Verdict, admit};
    use biscuit_auth::format::schema;
    use biscuit_auth::format::schema::op_binary::Kind;
    use biscuit_auth::format::schema::term::Content;

    fn expression(ops: Vec<schema::Op>) -> Result<Verdict, NotAdmitted> {
        let program = admit(&crafted(&block_with(query(Vec::new(), vec![ops]))))?;
        Ok(Plan::compile(program).evaluate(&message(), &[]))
    }

    fn passes(ops: Vec<schema::Op>) -> bool {
        expression(ops).unwrap() == Verdict::Passed
    }

    #[test]
    fn lazy_operators_take_a_closure_on_either_side_and_start_with_the_plain_operand() {
        let errs = || closure(Vec::new(), vec![value(Content::Integer(1)), unary(0)]);
        let (and, or) = (Kind::LazyAnd as i32, Kind::LazyOr as i32);
        assert!(passes(vec![truth(true), errs(), binary(or)]));
        assert!(passes(vec![errs(), truth(true), binary(or)]));
        assert!(passes(vec![truth(true), closure(Vec::new(), vec![truth(true)]), binary(and)]));
        assert!(passes(vec![closure(Vec::new(), vec![truth(true)]), truth(true), binary(and)]));
        assert!(!passes(vec![closure(Vec::new(), vec![truth(false)]), truth(true), binary(and)]));
        assert!(matches!(expression(vec![errs(), truth(true), binary(and)]), Ok(Verdict::Undecidable(_))));
        assert!(matches!(expression(vec![truth(false), errs(), binary(or)]), Ok(Verdict::Undecidable(_))));
    }

    #[test]
    fn the_eager_operators_of_older_versions_are_admitted_and_evaluate_both_operands() {
        assert!(passes(vec![truth(true), truth(true), binary(Kind::And as i32)]));
        assert!(!passes(vec![truth(false), truth(true), binary(Kind::And as i32)]));
        assert!(passes(vec![truth(false), truth(true), binary(Kind::Or as i32)]));
        let number = value(Content::Integer(1));
        assert!(matches!(expression(vec![truth(true), number, binary(Kind::Or as i32)]), Ok(Verdict::Undecidable(_))));
    }

    #[test]
    fn operands_that_an_operator_could_only_err_on_are_refused() {
        let body = || closure(Vec::new(), vec![truth(true)]);
        for ops in [
            vec![truth(true), truth(true), binary(Kind::LazyAnd as i32)],
            vec![truth(true), body(), binary(Kind::And as i32)],
            vec![body(), truth(true), binary(Kind::Equal as i32)],
            vec![body(), body(), binary(Kind::LazyOr as i32)],
            vec![body(), unary(0)],
            vec![body()],
            vec![truth(true), truth(true)],
            vec![truth(true), binary(Kind::And as i32)],
            vec![unary(0)],
            vec![],
        ] {
            let refused = expression(ops.clone()).expect_err("not admitted");
            assert_eq!(refused.construct, "a malformed expression", "{ops:?}");
        }
    }

    #[test]
    fn what_is_outside_the_language_is_refused_by_its_name() {
        for (check, construct) in [
            ("check if path($p), $p.matches(\"/v1/.*\")", "a regular expression (`.matches()`)"),
            ("check if {1, 2}.all($x -> $x > 0)", "a closure with parameters"),
            ("check if {1, 2}.any($x -> $x > 1)", "a closure with parameters"),
            ("check if (1 / 0 > 0).try_or(true)", "`.try_or()`"),
            ("check if 1.type() == \"integer\"", "`.type()`"),
            ("check if true.extern::f()", "an extern function"),
            ("check if true.extern::f(1)", "an extern function"),
            ("check if [1].contains(1)", "an array"),
            ("check if {\"a\": 1}.get(\"a\") == 1", "a map"),
            ("check if path($p), $p == null", "`null`"),
            ("check if path($p), $p.get(1) == 1", "`.get()`"),
            ("check if true || $p == 1", "an unbound variable"),
        ] {
            let refused = refused(&format!("{check};"));
            assert_eq!((&*refused.construct, refused.block), (construct, Some(0)), "{check}");
        }
        assert!(admitted("check if path($p), $p.starts_with(\"/v1\") && !($p.length() > 9) || false;"));
    }

    #[test]
    fn an_extern_name_on_a_plain_operator_is_refused() {
        let mut operator = schema::OpBinary { kind: Kind::Equal as i32, ffi_name: Some(0) };
        let ops = |operator| {
            let operator = schema::Op { content: Some(schema::op::Content::Binary(operator)) };
            vec![truth(true), truth(true), operator]
        };
        assert_eq!(expression(ops(operator.clone())).unwrap_err().construct, "an extern function");
        operator.ffi_name = None;
        assert!(expression(ops(operator)).is_ok());
    }

    #[test]
    fn a_thousand_operators_deep_is_no_recursion() {
        let mut ops = vec![truth(true)];
        ops.extend((0..1000).map(|_| unary(0)));
        assert!(passes(ops.clone()));
        let plan = Plan::compile(admit(&crafted(&block_with(query(Vec::new(), vec![ops])))).unwrap());
        assert!(plan.checks().next().unwrap().text().contains("!!!!true"));
    }
}

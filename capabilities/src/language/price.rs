//! The price of a token: the most steps that deciding one message can take.
//!
//! Any holder can append checks, so what a decision costs is in the hands of strangers. The price is computed once, from the token
//! and the fixed maxima of a message, and a token above the budget is refused when it is first seen; no clock
//! takes part. A step is one fact tried against one predicate, one operation of an expression, or
//! [`BYTES_PER_STEP`](super::operators::BYTES_PER_STEP) bytes of text read by either.
//!
//! A token has two prices. Checks that read nothing of a body are decided once for a message, and those that do are
//! decided for each item of it; a token is admitted by what a body of one item costs, and a message by what its own
//! body does. Everything saturates: what cannot be counted is above every budget.

use super::facts::MessageFact;
use super::operators::BYTES_PER_STEP;
use super::plan::{PlannedCheck, PlannedQuery, Slot, Source, TokenFact};
use super::program::{Binary, Op, Term, Unary, Value};

/// The most that a value can make an operator read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Extent {
    /// The length, if it is a text or bytes.
    bytes: u64,
    /// The steps for looking at each member, if it is a set.
    members: u64,
}

impl Extent {
    fn of(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::of_bytes(text.len()),
            Value::Bytes(bytes) => Self::of_bytes(bytes.len()),
            Value::Set(members) => {
                let member = |member: &Value| 1 + reading(Self::of(member).bytes);
                Self { bytes: 0, members: members.iter().map(member).sum() }
            }
            Value::Integer(_) | Value::Date(_) | Value::Bool(_) => Self::default(),
        }
    }

    fn of_bytes(bytes: usize) -> Self {
        Self { bytes: u64::try_from(bytes).unwrap_or(u64::MAX), members: 0 }
    }

    fn max(self, other: Self) -> Self {
        Self { bytes: self.bytes.max(other.bytes), members: self.members.max(other.members) }
    }

    fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), members: self.members.saturating_add(other.members) }
    }

    /// The steps for finding out whether two values are equal: no more is read than the shorter one has.
    fn equality(self, other: Self) -> u64 {
        reading(self.bytes.min(other.bytes)).saturating_add(self.members).saturating_add(other.members)
    }
}

fn reading(bytes: u64) -> u64 {
    bytes / BYTES_PER_STEP as u64
}

/// What deciding costs at most, in steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Price {
    /// For each message: the checks that read nothing of a body.
    pub once: u64,
    /// For each item of a message's body: the checks that read it.
    pub each: u64,
}

impl Price {
    /// What a token is admitted by: a message whose body has one item.
    pub fn total(self) -> u64 {
        self.of_message(1)
    }

    /// A message whose body has so many items. One without a body is as dear as one with an item at most.
    pub fn of_message(self, items: usize) -> u64 {
        let items = u64::try_from(items.max(1)).unwrap_or(u64::MAX);
        self.once.saturating_add(self.each.saturating_mul(items))
    }

    /// The most items of one body within a budget, and never under one, for a token within the budget.
    pub fn items_max(self, budget: u64) -> usize {
        let items = budget.saturating_sub(self.once).checked_div(self.each).unwrap_or(u64::MAX);
        usize::try_from(items).unwrap_or(usize::MAX).max(1)
    }
}

/// The price of all checks.
pub(super) fn of_checks(checks: &[PlannedCheck], facts: &[TokenFact]) -> Price {
    let mut price = Price::default();
    for check in checks {
        let sum = if check.reads_item { &mut price.each } else { &mut price.once };
        *sum = sum.saturating_add(of_check(check, facts));
    }
    price
}

fn of_check(check: &PlannedCheck, facts: &[TokenFact]) -> u64 {
    let queries = check.queries.iter().zip(&check.check.alternatives);
    queries.fold(0, |sum: u64, (planned, query)| {
        sum.saturating_add(of_query(planned, query.variables.len(), &query.expressions, facts))
    })
}

fn of_query(
    query: &PlannedQuery,
    variables: usize,
    expressions: &[super::program::Expression],
    facts: &[TokenFact],
) -> u64 {
    let mut slots = vec![Extent::default(); variables];
    // One step is the query itself, so that none is free.
    let mut total = 1_u64;
    let mut bindings = 1_u64;
    for predicate in &query.predicates {
        let (candidates, trying) = of_predicate(&predicate.source, &predicate.slots, &mut slots, facts);
        total = total.saturating_add(bindings.saturating_mul(trying));
        bindings = bindings.saturating_mul(candidates);
    }
    let each = expressions.iter().fold(0_u64, |sum, expression| sum.saturating_add(of_code(&expression.ops, &slots)));
    total.saturating_add(bindings.saturating_mul(each))
}

/// How many facts a predicate can match, and the steps for trying all of them. Notes what its variables can hold.
fn of_predicate(source: &Source, terms: &[Slot], slots: &mut [Extent], facts: &[TokenFact]) -> (u64, u64) {
    match source {
        Source::ClientIn(_) => (1, 1),
        Source::Message(fact) => {
            let arguments: Vec<Extent> = fact.bytes_max().iter().map(|bytes| Extent::of_bytes(*bytes)).collect();
            let count = u64::try_from(MessageFact::count_max(*fact)).unwrap_or(u64::MAX);
            let each = of_tuple(terms, &arguments, slots);
            bind(terms, &arguments, slots);
            (count, count.saturating_mul(each))
        }
        Source::Token(numbers) => {
            let tuples: Vec<Vec<Extent>> = numbers
                .iter()
                .filter_map(|number| facts.get(*number))
                .map(|fact| fact.fact.values.iter().map(Extent::of).collect())
                .collect();
            // Within one predicate a variable may be bound and met again, so it is bound to the largest first.
            tuples.iter().for_each(|tuple| bind(terms, tuple, slots));
            let trying = tuples.iter().fold(0_u64, |sum, tuple| sum.saturating_add(of_tuple(terms, tuple, slots)));
            (u64::try_from(numbers.len()).unwrap_or(u64::MAX), trying)
        }
    }
}

fn bind(terms: &[Slot], tuple: &[Extent], slots: &mut [Extent]) {
    for (term, extent) in terms.iter().zip(tuple) {
        if let Slot::Bind(slot) = term {
            slots[*slot] = slots[*slot].max(*extent);
        }
    }
}

/// The steps for trying one fact.
fn of_tuple(terms: &[Slot], tuple: &[Extent], slots: &[Extent]) -> u64 {
    let terms = terms.iter().zip(tuple).map(|(term, extent)| match term {
        Slot::Known | Slot::Bind(_) => 0,
        Slot::Literal(value) => Extent::of(value).equality(*extent),
        // A variable that this same predicate binds holds no more than this tuple; another one no more than noted.
        Slot::Same(slot) => extent.equality(slots[*slot].max(*extent)),
    });
    terms.fold(1, u64::saturating_add)
}

/// The steps of an expression. Code runs through from front to back in the worst case, lazy operands included, so one pass
/// over it with extents on the stack instead of values sees everything that can happen.
fn of_code(ops: &[Op], slots: &[Extent]) -> u64 {
    let mut stack: Vec<Extent> = Vec::new();
    let mut steps = 0_u64;
    for op in ops {
        steps = steps.saturating_add(1);
        match op {
            Op::Push(Term::Variable(slot)) => stack.push(slots[*slot]),
            Op::Push(Term::Value(value)) => stack.push(Extent::of(value)),
            Op::Unary(Unary::Not | Unary::Length) => {
                stack.pop();
                stack.push(Extent::default());
            }
            Op::Binary(binary) => {
                let right = stack.pop().unwrap_or_default();
                let left = stack.pop().unwrap_or_default();
                let (work, result) = of_binary(*binary, left, right);
                steps = steps.saturating_add(work);
                stack.push(result);
            }
            // The first operand is a boolean wherever the second one is not run, so the second has the larger extent.
            Op::Lazy { .. } => {
                stack.pop();
            }
        }
    }
    steps
}

/// The steps of an operator beyond its own, and what its result can be.
fn of_binary(binary: Binary, left: Extent, right: Extent) -> (u64, Extent) {
    let sets = left.members.saturating_add(right.members);
    match binary {
        Binary::Equal | Binary::NotEqual | Binary::LenientEqual | Binary::LenientNotEqual => {
            (left.equality(right), Extent::default())
        }
        Binary::StartsWith | Binary::EndsWith => (reading(left.bytes.min(right.bytes)), Extent::default()),
        // Nothing longer is ever looked for in something shorter.
        Binary::Contains => {
            let text = reading(left.bytes.saturating_add(left.bytes.min(right.bytes)));
            (text.saturating_add(sets), Extent::default())
        }
        Binary::Add => (reading(left.bytes.saturating_add(right.bytes)), Extent { members: 0, ..left.plus(right) }),
        Binary::Union | Binary::Intersection => (sets, Extent { bytes: 0, ..left.plus(right) }),
        Binary::LessThan
        | Binary::GreaterThan
        | Binary::LessOrEqual
        | Binary::GreaterOrEqual
        | Binary::Subtract
        | Binary::Multiply
        | Binary::Divide
        | Binary::And
        | Binary::Or
        | Binary::BitAnd
        | Binary::BitOr
        | Binary::BitXor => (0, Extent::default()),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::super::evaluate;
    use super::super::testing::{message, plan};
    use super::Price;
    use crate::message::{
        ARGUMENT_NAME_BYTES_MAX, ARGUMENTS_MAX, ArgValue, BodyItem, ITEMS_MAX, Message, QUERY_FACT_BYTES_MAX,
        QUERY_FACTS_MAX, TEXT_BYTES_MAX,
    };

    /// The price of a token, and the steps that the hardest message takes.
    fn price_and_steps(authority: &str) -> (u64, u64) {
        let text = "a".repeat(TEXT_BYTES_MAX);
        let parameter = &text[..QUERY_FACT_BYTES_MAX];
        let query = vec![(Cow::Borrowed(parameter), Cow::Borrowed(parameter)); QUERY_FACTS_MAX];
        let name = text[..ARGUMENT_NAME_BYTES_MAX].to_owned();
        let args = vec![(name, ArgValue::Text(text.clone())); ARGUMENTS_MAX];
        let items = [BodyItem { rpc: text.clone(), tool: Some(text.clone()), args, unstated: None }];
        let hardest = Message { path: &text, host: &text, items: &items, operation: "POST", ..message() };
        let plan = plan(authority);
        (plan.price(), evaluate::decide(&plan, &hardest, &query).1)
    }

    #[test]
    fn where_nothing_ends_early_the_price_is_what_is_taken() {
        for authority in [
            "check if true;",
            "check if 1 + 2 === 4 or false;",
            "check if path($p), $p.length() < 3;",
            "check if path($p), $p.contains(\"b\");",
            "check if path($p), $p + $p !== $p, false;",
            "check all query($a, $b), $a == $b;",
            "check if query($a, $b), query($b, $c), $a != $c;",
            "check if query($a, $b), query($c, $d), query($e, $f), false;",
            "check all arg($name, $value), $name.starts_with($value);",
            "check if path($p), host($p), false;",
            "n(1); n(2); n(3); check if n($x), n($y), n($z), $x + $y + $z > 100;",
            "s({\"a\", \"b\"}); check all s($x), $x.union({\"c\"}).length() === 3;",
            "check if {1, 2, 3}.contains(4);",
        ] {
            let (price, steps) = price_and_steps(authority);
            assert_eq!(price, steps, "{authority}");
        }
    }

    #[test]
    fn checks_that_read_a_body_cost_again_for_each_item() {
        let authority = "check if true; check if tool(\"a\"); check if path(\"/\") or rpc(\"b\");";
        let price = plan(authority).prices();
        // A query and its one operation; and three queries with one fact each.
        assert_eq!(price, Price { once: 2, each: 6 });
        assert_eq!((price.total(), price.of_message(0), price.of_message(3)), (8, 8, 20));
        assert_eq!((price.items_max(20), price.items_max(19), price.items_max(8), price.items_max(0)), (3, 2, 1, 1));
        assert_eq!(plan("check if true;").prices().items_max(2), usize::MAX, "no item costs anything");
        let beyond = Price { once: 1, each: u64::MAX };
        assert_eq!((beyond.of_message(2), beyond.items_max(10_000)), (u64::MAX, 1));
    }

    #[test]
    fn all_items_together_take_no_more_than_the_price_of_the_message() {
        let text = "a".repeat(TEXT_BYTES_MAX);
        let item = BodyItem { rpc: text.clone(), tool: Some(text.clone()), ..BodyItem::default() };
        let items = vec![item; ITEMS_MAX];
        let hardest = Message { path: &text, items: &items, operation: "POST", ..message() };
        let plan =
            plan("check if path($p), $p.contains(\"b\") or true; check if tool($t), $t.contains(\"b\") or true;");
        let (_, steps) = evaluate::decide(&plan, &hardest, &[]);
        assert_eq!(steps, plan.prices().of_message(ITEMS_MAX));
        assert!(steps < plan.price() * ITEMS_MAX as u64, "the path is read once");
    }

    #[test]
    fn a_join_costs_the_product_of_its_facts() {
        let (one, _) = price_and_steps("check if query($a, $b), $a != \"\";");
        // The query, each fact, and for each fact three operations.
        assert_eq!(one, 1 + 64 + 64 * 3);
        let two = plan("check if query($a, $b), query($c, $d), $a != \"\";").price();
        assert_eq!(two, 1 + 64 + 64 * 64 + 64 * 64 * 3);
        assert!(plan("check if query($a, $b), query($c, $d), query($e, $f);").price() > 10_000);
        let many = "check if ".to_owned() + &vec!["query($a, $b)"; 40].join(", ") + ";";
        assert_eq!(plan(&many).price(), u64::MAX);
    }

    #[test]
    fn usual_caveats_are_far_below_the_budget() {
        let usual = plan(
            "right(\"orders\", \"*\");
             check if time($t), $t <= 2030-01-01T00:00:00Z;
             check if operation($o), {\"GET\", \"HEAD\"}.contains($o);
             check if path($p), $p === \"/v1/orders\" || $p.starts_with(\"/v1/orders/\");
             check all query(\"page\", $v), $v === \"2\";
             check if client_in(\"10.0.0.0/8\") or client_in(\"2001:db8::/32\");",
        );
        assert!(usual.price() < 500, "{}", usual.price());
    }

    #[test]
    fn facts_that_a_scope_or_a_literal_rules_out_cost_nothing() {
        let facts: String = (0..100).map(|number| format!("n({number}, \"a\"); ")).collect();
        assert_eq!(plan(&format!("{facts} check if n(7, $s);")).price(), 1 + 1);
        assert_eq!(plan(&format!("{facts} check if n($n, $s);")).price(), 1 + 100);
        assert_eq!(plan(&format!("{facts} check if m($n, $s), n($n, $t);")).price(), 1);
    }

    #[test]
    fn texts_cost_a_step_for_each_64_bytes_that_may_be_read() {
        let contains = plan("check if path($p), $p.contains(\"x\");").price();
        assert_eq!(contains, 1 + 1 + 3 + 8192 / 64);
        // No more is compared than the shorter text has.
        assert_eq!(plan("check if path($p), $p.starts_with(\"/v1\");").price(), 1 + 1 + 3);
        assert_eq!(plan("check if path(\"/v1\");").price(), 1 + 1);
    }
}

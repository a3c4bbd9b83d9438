//! Deciding one message.
//!
//! A query's predicates are matched in their order, with a cursor for each: the first cursor that finds a fact hands on to the
//! next predicate, one that finds none hands back. Every binding that reaches the end is put to the expressions, also
//! after the outcome is known, because a later binding may err, and then the message is refused. Nothing
//! recurses, and checks over the plain facts of a message allocate nothing.

mod may_call;

use std::borrow::Cow;

use smallvec::SmallVec;

use super::facts::MessageFact;
use super::operators::{self, Fault, Operand};
use super::plan::{Plan, PlannedCheck, PlannedPredicate, PlannedQuery, Slot, Source};
use super::program::{Expression, Kind, Lazy, Op, Query, Term, Value};
use super::view::CheckView;
use crate::message::{ArgValue, BodyItem, Message, QUERY_FACT_BYTES_MAX, QUERY_FACTS_MAX};

/// What the checks say of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every check passes.
    Passed,
    /// These fail, in the order of the token.
    Failed(Vec<FailedCheck>),
    /// One errs, so nothing is known.
    Undecidable(Undecidable),
    /// This part of the message is beyond the maxima that prices are computed from.
    BeyondMaxima(&'static str),
}

/// A check that a message does not pass.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FailedCheck {
    /// The block that holds it, the authority being 0.
    pub block: usize,
    /// Which of its block's checks it is, from 0.
    pub index: usize,
    /// Its text, escaped; of a long one the beginning.
    pub text: String,
    /// The date, if it is an expiry (see [`CheckView::expires_at`]).
    pub expires_at: Option<u64>,
}

/// The first check that cannot be decided for a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("`{text}` cannot be decided: {reason}")]
pub struct Undecidable {
    /// The block that holds it, the authority being 0.
    pub block: usize,
    /// Which of its block's checks it is, from 0.
    pub index: usize,
    /// Its text, escaped; of a long one the beginning.
    pub text: String,
    /// What went wrong, in words.
    pub reason: String,
}

pub(super) use self::may_call::may_call;

/// Query facts, taken apart.
type QueryFacts<'q> = [(Cow<'q, str>, Cow<'q, str>)];

/// Decides, and says in how many steps.
pub(super) fn decide(plan: &Plan, message: &Message<'_>, query: &QueryFacts<'_>) -> (Verdict, u64) {
    if let Some(excess) = message.excess().or_else(|| excess(query)) {
        return (Verdict::BeyondMaxima(excess), 0);
    }
    let client = plan.needs().client.then(|| message.client.to_canonical().to_string());
    let facts = Facts { plan, message, query, client: client.as_deref().unwrap_or_default(), item: None };
    let mut failed = Vec::new();
    let mut steps = 0;
    for planned in &plan.checks {
        let outcome = if planned.reads_item && !message.calls().is_empty() {
            check_items(planned, facts, &mut steps)
        } else {
            check(planned, facts, &mut steps)
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => failed.push(CheckView(planned).failed()),
            Err(fault) => return (Verdict::Undecidable(CheckView(planned).undecidable(fault)), steps),
        }
    }
    let price = plan.prices().of_message(message.calls().len());
    debug_assert!(steps <= price, "{steps} steps were taken for a price of {price}");
    (if failed.is_empty() { Verdict::Passed } else { Verdict::Failed(failed) }, steps)
}

impl CheckView<'_> {
    fn failed(&self) -> FailedCheck {
        let (block, index) = (self.block(), self.index());
        FailedCheck { block, index, text: self.excerpt().to_owned(), expires_at: self.expires_at() }
    }

    fn undecidable(&self, fault: Fault) -> Undecidable {
        let (block, index) = (self.block(), self.index());
        Undecidable { block, index, text: self.excerpt().to_owned(), reason: fault.to_string() }
    }
}

/// What of the query facts no [`query_facts`](crate::message::query_facts) would have returned.
fn excess(query: &QueryFacts<'_>) -> Option<&'static str> {
    let long = |(name, value): &(Cow<'_, str>, Cow<'_, str>)| name.len().max(value.len()) > QUERY_FACT_BYTES_MAX;
    (query.len() > QUERY_FACTS_MAX || query.iter().any(long)).then_some("list of query parameters")
}

/// One evaluation for each item, with that item's facts alone. All have to pass.
fn check_items(planned: &PlannedCheck, facts: Facts<'_>, steps: &mut u64) -> Result<bool, Fault> {
    facts
        .message
        .calls()
        .iter()
        .try_fold(true, |passed, item| Ok(passed && check(planned, Facts { item: Some(item), ..facts }, steps)?))
}

/// A check passes when one of its alternatives does; those after it are not tried.
fn check(planned: &PlannedCheck, facts: Facts<'_>, steps: &mut u64) -> Result<bool, Fault> {
    if planned.reads_any_argument && facts.item.is_some_and(|item| item.unstated.is_some()) {
        return Err(Fault::Unstated);
    }
    for (plan, query) in planned.queries.iter().zip(&planned.check.alternatives) {
        let slots = smallvec::smallvec![Operand::Bool(false); query.variables.len()];
        let mut matching = Matching { facts, plan, query, slots, steps: 1 };
        let passed = matching.passes(planned.check.kind);
        *steps += matching.steps;
        if passed? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// All facts that one evaluation can see.
#[derive(Clone, Copy)]
struct Facts<'e> {
    plan: &'e Plan,
    message: &'e Message<'e>,
    query: &'e QueryFacts<'e>,
    /// The client's address as text, where the plan needs it.
    client: &'e str,
    item: Option<&'e BodyItem>,
}

/// The arguments of one fact.
enum Tuple<'e> {
    Stored(&'e [Value]),
    One(Operand<'e>),
    Two(Operand<'e>, Operand<'e>),
    /// Of arguments that are known to agree.
    Known,
}

impl<'e> Tuple<'e> {
    fn get(&self, at: usize) -> Option<Operand<'e>> {
        match (self, at) {
            (Self::Stored(values), at) => values.get(at).map(Operand::from),
            (Self::One(operand) | Self::Two(operand, _), 0) | (Self::Two(_, operand), 1) => Some(operand.clone()),
            _ => None,
        }
    }
}

impl<'e> Facts<'e> {
    /// The fact of this number among those that a predicate can match. `None`: there are no more.
    fn candidate(&self, source: &Source, number: usize) -> Option<Tuple<'e>> {
        match source {
            Source::Token(facts) => facts
                .get(number)
                .and_then(|fact| self.plan.facts.get(*fact))
                .map(|fact| Tuple::Stored(&fact.fact.values)),
            Source::ClientIn(cidr) => (number == 0 && cidr.contains(self.message.client)).then_some(Tuple::Known),
            Source::Message(MessageFact::Query) => {
                self.query.get(number).map(|(name, value)| Tuple::Two(Operand::text(name), Operand::text(value)))
            }
            Source::Message(MessageFact::Arg) => {
                self.item.and_then(|item| item.args.get(number)).map(|(name, value)| {
                    let value = match value {
                        ArgValue::Text(text) => Operand::text(text),
                        ArgValue::Integer(integer) => Operand::Integer(*integer),
                        ArgValue::Bool(truth) => Operand::Bool(*truth),
                    };
                    Tuple::Two(Operand::text(name), value)
                })
            }
            Source::Message(fact) if number == 0 => self.single(*fact),
            Source::Message(_) => None,
        }
    }

    /// A fact of which a message has at most one.
    fn single(&self, fact: MessageFact) -> Option<Tuple<'e>> {
        let message = self.message;
        let text = |text: &'e str| Some(Tuple::One(Operand::text(text)));
        match fact {
            MessageFact::Resource => text(message.resource),
            MessageFact::Operation => text(message.operation),
            MessageFact::Path => text(message.path),
            MessageFact::QueryString => text(message.query_string),
            MessageFact::Time => Some(Tuple::One(Operand::Date(message.time))),
            MessageFact::Host => text(message.host),
            MessageFact::Scheme => text(message.scheme.as_str()),
            MessageFact::Client => text(self.client),
            MessageFact::ClientCert => message.client_cert.and_then(text),
            // Like the query string always there, and empty where there is none: the language cannot ask for the absence
            // of a fact, so "no upgrade" could not be said otherwise.
            MessageFact::Upgrade => text(message.upgrade.unwrap_or_default()),
            // A length beyond every number that a token can write down compares like the largest of them.
            MessageFact::BodySize => {
                message.body_size.map(|size| Tuple::One(Operand::Integer(i64::try_from(size).unwrap_or(i64::MAX))))
            }
            MessageFact::Rpc => self.item.and_then(|item| text(&item.rpc)),
            MessageFact::Tool => self.item.and_then(|item| item.tool.as_deref()).and_then(text),
            MessageFact::Grpc => {
                message.grpc.map(|(service, method)| Tuple::Two(Operand::text(service), Operand::text(method)))
            }
            MessageFact::Backend => message.backend.and_then(text),
            MessageFact::Query | MessageFact::Arg | MessageFact::ClientIn => None,
        }
    }
}

/// Variables of a usual query; more are possible.
const SLOTS_INLINE: usize = 4;

/// The bindings of one query.
struct Matching<'e> {
    facts: Facts<'e>,
    plan: &'e PlannedQuery,
    query: &'e Query,
    /// What each variable is bound to. A slot is read only behind the predicate that binds it, so the first value is never seen.
    slots: SmallVec<[Operand<'e>; SLOTS_INLINE]>,
    steps: u64,
}

impl<'e> Matching<'e> {
    /// Whether the bindings are what this kind of check asks for.
    fn passes(&mut self, kind: Kind) -> Result<bool, Fault> {
        let (mut some, mut all) = (false, true);
        let predicates = &self.plan.predicates;
        let mut cursors: SmallVec<[usize; SLOTS_INLINE]> = smallvec::smallvec![0; predicates.len()];
        // How many predicates have a fact; at the last one back and forth is one binding after the other.
        let mut matched = 0;
        loop {
            if matched == predicates.len() {
                let satisfied = self.satisfied()?;
                some |= satisfied;
                all &= satisfied;
            } else if self.advance(&predicates[matched], &mut cursors[matched]) {
                matched += 1;
                if let Some(cursor) = cursors.get_mut(matched) {
                    *cursor = 0;
                }
                continue;
            }
            match matched.checked_sub(1) {
                Some(previous) => matched = previous,
                None => break,
            }
        }
        Ok(match kind {
            Kind::If => some,
            Kind::All => some && all,
        })
    }

    /// Moves a predicate's cursor behind the next fact that it matches, and binds its variables.
    fn advance(&mut self, predicate: &'e PlannedPredicate, cursor: &mut usize) -> bool {
        while let Some(tuple) = self.facts.candidate(&predicate.source, *cursor) {
            *cursor += 1;
            self.steps += 1;
            if self.matches(predicate, &tuple) {
                return true;
            }
        }
        false
    }

    fn matches(&mut self, predicate: &'e PlannedPredicate, tuple: &Tuple<'e>) -> bool {
        predicate.slots.iter().enumerate().all(|(at, slot)| {
            let Some(argument) = tuple.get(at) else {
                return matches!(slot, Slot::Known);
            };
            match slot {
                Slot::Known => true,
                Slot::Literal(value) => operators::equal(&value.into(), &argument, &mut self.steps) == Some(true),
                Slot::Same(slot) => operators::equal(&self.slots[*slot], &argument, &mut self.steps) == Some(true),
                Slot::Bind(slot) => {
                    self.slots[*slot] = argument;
                    true
                }
            }
        })
    }

    /// Whether the present binding satisfies all expressions. The first that is false ends it.
    fn satisfied(&mut self) -> Result<bool, Fault> {
        for expression in &self.query.expressions {
            match self.run(expression)? {
                Operand::Bool(true) => {}
                Operand::Bool(false) => return Ok(false),
                _ => return Err(Fault::NotABoolean),
            }
        }
        Ok(true)
    }

    fn run(&mut self, expression: &'e Expression) -> Result<Operand<'e>, Fault> {
        let mut stack: SmallVec<[Operand<'e>; SLOTS_INLINE]> = SmallVec::new();
        let mut at = 0;
        while let Some(op) = expression.ops.get(at) {
            at += 1;
            self.steps += 1;
            let mut pop = || stack.pop().expect("an admitted expression leaves an operand for each operator");
            let operand = match op {
                Op::Push(Term::Variable(slot)) => self.slots[*slot].clone(),
                Op::Push(Term::Value(value)) => Operand::from(value),
                Op::Unary(operator) => operators::unary(*operator, &pop())?,
                Op::Binary(operator) => {
                    let right = pop();
                    operators::binary(*operator, pop(), right, &mut self.steps)?
                }
                Op::Lazy { operator, length } => {
                    let Operand::Bool(first) = pop() else {
                        return Err(Fault::Type);
                    };
                    if first == (*operator == Lazy::And) {
                        continue;
                    }
                    at += length;
                    Operand::Bool(first)
                }
            };
            stack.push(operand);
        }
        Ok(stack.pop().expect("an admitted expression comes to one value"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{message, plan, token, verdict};
    use super::super::{admit, testing};
    use super::*;
    use crate::message::{TEXT_BYTES_MAX, query_facts};

    fn failed(verdict: Verdict) -> Vec<(usize, usize)> {
        match verdict {
            Verdict::Passed => Vec::new(),
            Verdict::Failed(failed) => failed.iter().map(|check| (check.block, check.index)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn passes(authority: &str) -> bool {
        failed(verdict(authority)).is_empty()
    }

    fn errs(authority: &str) -> bool {
        matches!(verdict(authority), Verdict::Undecidable(_))
    }

    #[test]
    fn all_failed_checks_are_named_in_the_order_of_the_token() {
        let bytes = token("check if true; check if false;", &["check if 1 > 2", "check if path(\"/\"); check if true"]);
        let plan = Plan::compile(admit(&bytes).unwrap());
        let verdict = plan.evaluate(&message(), &[]);
        assert_eq!(failed(verdict.clone()), [(0, 1), (1, 0), (2, 0)]);
        let Verdict::Failed(checks) = verdict else { panic!() };
        assert_eq!(checks[2].text, "check if path(\"/\")");
    }

    #[test]
    fn every_fact_of_a_message_can_be_asked_for() {
        let full = Message {
            query_string: "page=2&q=a+b",
            host: "api.example.com",
            scheme: crate::message::Scheme::Https,
            client_cert: Some("00ff"),
            upgrade: Some("websocket"),
            body_size: Some(512),
            grpc: Some(("shop.Orders", "Get")),
            backend: Some("shop"),
            ..message()
        };
        let query = query_facts(full.query_string).unwrap();
        for fact in [
            "resource(\"orders\")",
            "operation(\"GET\")",
            "path(\"/v1/orders/42\")",
            "query_string(\"page=2&q=a+b\")",
            "time(2027-01-15T08:00:00Z)",
            "host(\"api.example.com\")",
            "scheme(\"https\")",
            "client(\"10.1.2.3\")",
            "client_in(\"10.1.0.0/16\")",
            "client_cert(\"00ff\")",
            "upgrade(\"websocket\")",
            "query(\"page\", \"2\")",
            "query(\"q\", \"a b\")",
            "body_size(512)",
            "grpc(\"shop.Orders\", \"Get\")",
            "backend(\"shop\")",
        ] {
            let plan = plan(&format!("check if {fact};"));
            assert_eq!(plan.evaluate(&full, &query), Verdict::Passed, "{fact}");
            assert!(
                !failed(plan.evaluate(&Message::new("a", "PUT", "/", 0, [192, 168, 0, 1].into()), &[])).is_empty(),
                "{fact}"
            );
        }
    }

    #[test]
    fn facts_have_one_type_and_one_arity() {
        for check in [
            "path($p, $q)",
            "path(1)",
            "time(\"2027-01-15T08:00:00Z\")",
            "resource({\"orders\"})",
            "operation(hex:474554)",
            "query($name)",
            "postern_later($x)",
            "nothing($x)",
            "right(\"orders\", \"GET\")",
        ] {
            assert!(!passes(&format!("check if {check};")), "{check}");
        }
    }

    #[test]
    fn check_if_asks_for_one_binding_and_check_all_for_each() {
        let facts = "n(1); n(2); n(3);";
        assert!(passes(&format!("{facts} check if n($x), $x > 2;")));
        assert!(!passes(&format!("{facts} check all n($x), $x > 2;")));
        assert!(passes(&format!("{facts} check all n($x), $x > 0;")));
        assert!(!passes("check all n($x), $x > 0;"), "no binding at all");
        assert!(passes("check all true;"), "the empty binding");
        assert!(passes(&format!("{facts} check all n($x), $x > 2 or n($x), $x > 0;")));
    }

    #[test]
    fn variables_join_predicates() {
        let facts = "owner(\"alice\", \"/v1/orders/42\"); owner(\"bob\", \"/v1/orders/43\"); admin(\"bob\");";
        assert!(passes(&format!("{facts} check if path($p), owner($who, $p);")));
        assert!(!passes(&format!("{facts} check if path($p), owner($who, $p), admin($who);")));
        assert!(passes("pair(1, 2); pair(3, 3); check if pair($x, $x), $x === 3;"));
        assert!(!passes("pair(1, 2); check if pair($x, $x);"));
        assert!(passes("right(\"orders\", \"GET\"); check if resource($r), operation($o), right($r, $o);"));
    }

    /// In biscuit-auth the outcome of the first two depends on the order of a hash table.
    #[test]
    fn an_error_in_any_binding_refuses() {
        assert!(errs("n(0); n(5); n(1); check if n($x), 10 / $x > 0;"));
        assert!(errs("n(5); n(1); n(0); check if n($x), 10 / $x > 0;"));
        assert!(errs("n(0); n(20); check all n($x), 10 / $x > 0;"));
        assert!(passes("n(5); n(1); check if n($x), 10 / $x > 0;"));
        assert!(passes("n(0); n(5); check if n($x), $x > 0, 10 / $x > 0;"), "a false condition ends a binding");
    }

    #[test]
    fn alternatives_are_tried_in_order_and_end_at_the_first_success() {
        assert!(passes("check if true or 1 / 0 > 0;"));
        assert!(errs("check if 1 / 0 > 0 or true;"));
        assert!(errs("check if false or 1 / 0 > 0;"));
    }

    #[test]
    fn the_first_undecidable_check_is_named() {
        let Verdict::Undecidable(first) =
            verdict("check if false; check if 9223372036854775807 + 1 > 0; check if 1 / 0 > 0;")
        else {
            panic!();
        };
        assert_eq!((first.block, first.index), (0, 1));
        let words = "`check if 9223372036854775807 + 1 > 0` cannot be decided: a number in it overflows";
        assert_eq!(first.to_string(), words);
    }

    #[test]
    fn each_item_of_a_body_is_judged_by_its_own_facts() {
        let item = |tool: &str, table: &str| BodyItem {
            rpc: "tools/call".to_owned(),
            tool: Some(tool.to_owned()),
            args: vec![
                ("table".to_owned(), ArgValue::Text(table.to_owned())),
                ("limit".to_owned(), ArgValue::Integer(5)),
            ],
            unstated: None,
        };
        let judge = |check: &str, items: &[BodyItem]| {
            failed(
                plan(&format!("check if {check};")).evaluate(&Message { items, operation: "POST", ..message() }, &[]),
            )
            .is_empty()
        };
        let (search, delete) = (item("search", "orders"), item("delete", "users"));
        assert!(judge("tool(\"search\")", std::slice::from_ref(&search)));
        assert!(!judge("tool(\"search\")", &[search.clone(), delete.clone()]), "one good item does not excuse another");
        assert!(!judge("tool(\"search\"), arg(\"table\", \"users\")", &[search.clone(), delete.clone()]));
        assert!(judge("tool($t), arg(\"table\", $v), $v.length() > 4, arg(\"limit\", 5)", &[search, delete]));
        assert!(!judge("rpc($any)", &[]), "no body, no facts of it");
        assert!(judge("rpc(\"\")", &[BodyItem::default()]));
        assert!(judge("path($p)", &[BodyItem::default(), BodyItem::default()]));
    }

    #[test]
    fn a_check_on_every_argument_needs_every_argument_to_be_a_fact() {
        let args = vec![("table".to_owned(), ArgValue::Text("orders".to_owned()))];
        let item = |unstated: Option<&str>| BodyItem {
            rpc: "tools/call".to_owned(),
            tool: Some("search".to_owned()),
            args: args.clone(),
            unstated: unstated.map(str::to_owned),
        };
        let verdict = |check: &str, item: BodyItem| {
            plan(&format!("{check};")).evaluate(&Message { items: &[item], operation: "POST", ..message() }, &[])
        };
        let all = "check all arg($name, $value), $name === \"table\"";
        assert_eq!(verdict(all, item(None)), Verdict::Passed);
        assert!(matches!(verdict(all, item(Some("limit"))), Verdict::Undecidable(_)));
        assert_eq!(verdict("check if arg(\"table\", $value)", item(Some("limit"))), Verdict::Passed);
        assert_eq!(verdict("check if tool(\"search\")", item(Some("limit"))), Verdict::Passed);
        assert_eq!(failed(verdict("check if arg(\"limit\", $value)", item(Some("limit")))), [(0, 0)]);
    }

    #[test]
    fn a_message_beyond_the_maxima_is_not_decided() {
        let long = "a".repeat(TEXT_BYTES_MAX + 1);
        let plan = plan("check if true;");
        let verdict = plan.evaluate(&Message { path: &long, ..message() }, &[]);
        assert_eq!(verdict, Verdict::BeyondMaxima("path"));
        let query = vec![(Cow::Borrowed("a"), Cow::Borrowed("b")); QUERY_FACTS_MAX + 1];
        assert_eq!(plan.evaluate(&message(), &query), Verdict::BeyondMaxima("list of query parameters"));
        let query = vec![(Cow::Borrowed("a"), Cow::Borrowed(&long[..QUERY_FACT_BYTES_MAX + 1]))];
        assert_eq!(plan.evaluate(&message(), &query), Verdict::BeyondMaxima("list of query parameters"));
    }

    #[test]
    fn a_length_beyond_every_number_is_larger_than_all_of_them() {
        let plan = plan("check if body_size($n), $n <= 1000000;");
        assert!(!failed(plan.evaluate(&Message { body_size: Some(u64::MAX), ..message() }, &[])).is_empty());
        assert!(failed(plan.evaluate(&Message { body_size: Some(1_000_000), ..message() }, &[])).is_empty());
    }

    #[test]
    fn an_appended_check_cannot_satisfy_an_earlier_one() {
        let bytes = token(
            "right(\"orders\", \"GET\"); check if client_in(\"192.168.0.0/16\");",
            &["check if client_in(\"0.0.0.0/0\")"],
        );
        let plan = Plan::compile(admit(&bytes).unwrap());
        assert_eq!(failed(plan.evaluate(&testing::message(), &[])), [(0, 0)]);
    }
}

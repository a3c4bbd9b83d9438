//! What is known of a tool's call before anybody makes it: whether there is any chance that it passes.

use super::{Facts, Matching, QueryFacts, excess};
use crate::language::facts::MessageFact;
use crate::language::operators::Operand;
use crate::language::plan::{Plan, PlannedPredicate, PlannedQuery, Slot, Source};
use crate::language::program::{Kind, Op, Query, Term};
use crate::message::{BodyItem, Message};

/// The method with which the Model Context Protocol calls a tool.
const TOOLS_CALL: &str = "tools/call";

/// Whether some arguments may let a call of this tool pass ([`Plan::may_call`]).
pub(in crate::language) fn may_call(plan: &Plan, message: &Message<'_>, query: &QueryFacts<'_>, tool: &str) -> bool {
    let item = BodyItem { rpc: TOOLS_CALL.to_owned(), tool: Some(tool.to_owned()), ..BodyItem::default() };
    if message.excess().or_else(|| item.excess()).or_else(|| excess(query)).is_some() {
        return false;
    }
    let client = plan.needs().client.then(|| message.client.to_canonical().to_string());
    let client = client.as_deref().unwrap_or_default();
    let facts = Facts { plan, message, query, client, item: Some(&item) };
    let reading = plan.checks.iter().filter(|planned| planned.reads_item);
    reading.into_iter().all(|planned| {
        planned.queries.iter().zip(&planned.check.alternatives).any(|(plan, query)| {
            let (plan, query) = without_unknown(plan, query);
            let slots = smallvec::smallvec![Operand::Bool(false); query.variables.len()];
            let mut matching = Matching { facts, plan: &plan, query: &query, slots, steps: 1 };
            // One that cannot be decided so might be with the arguments.
            matching.passes(Kind::If).unwrap_or(true)
        })
    })
}

/// A query without its conditions on what is not known of a call before it is made, and so one that is not harder to satisfy.
fn without_unknown(plan: &PlannedQuery, query: &Query) -> (PlannedQuery, Query) {
    let mut bound = vec![false; query.variables.len()];
    let mut predicates = Vec::new();
    for predicate in &plan.predicates {
        if matches!(predicate.source, Source::Message(MessageFact::Arg | MessageFact::BodySize)) {
            continue;
        }
        let slots = predicate.slots.iter().map(|slot| match slot {
            // What bound it may be gone.
            Slot::Bind(slot) | Slot::Same(slot) if !std::mem::replace(&mut bound[*slot], true) => Slot::Bind(*slot),
            other => other.clone(),
        });
        predicates.push(PlannedPredicate { slots: slots.collect(), source: predicate.source.clone() });
    }
    let is_known = |op: &Op| !matches!(op, Op::Push(Term::Variable(slot)) if !bound[*slot]);
    let expressions = query.expressions.iter().filter(|expression| expression.ops.iter().all(is_known));
    let query = Query { expressions: expressions.cloned().collect(), ..query.clone() };
    (PlannedQuery { predicates: predicates.into() }, query)
}

#[cfg(test)]
mod tests {
    use crate::language::testing::{message, plan};
    use crate::message::TEXT_BYTES_MAX;

    #[test]
    fn a_tool_that_no_arguments_make_pass_is_known_before_it_is_called() {
        let may = |checks: &str, tool: &str| plan(checks).may_call(&message(), &[], tool);
        for checks in [
            "check if rpc(\"tools/call\"), tool(\"search\") or rpc(\"tools/list\");",
            "check if tool(\"search\"), arg(\"table\", \"orders\");",
            "check if tool($t), {\"search\", \"fetch\"}.contains($t), arg(\"n\", $n), $n < 5;",
            "check all tool($t), $t.starts_with(\"s\"); check if arg($name, $t), tool($t) or tool(\"search\");",
            "check if tool(\"search\"); check all arg(\"table\", $v), $v === \"orders\" or rpc(\"tools/list\");",
            "check if tool(\"search\"), body_size($n), $n < 100;",
            "check if operation(\"DELETE\") or tool(\"search\"); check if operation(\"DELETE\");",
        ] {
            assert!(may(checks, "search"), "{checks}");
            assert!(!may(checks, "delete"), "{checks}");
        }
        assert!(may("check if operation(\"GET\");", "delete"), "a check that does not read the body is not asked");
        assert!(!may("check if tool(\"search\"), path(\"/elsewhere\");", "search"));
        assert!(may("check if arg($tool, \"x\"), tool($tool);", "delete"), "an argument may have the tool's name");
        assert!(may("check if tool($t), 1 / 0 > 0;", "delete"), "what cannot be decided is not hidden");
        assert!(!may("check if tool($t);", &"a".repeat(TEXT_BYTES_MAX + 1)));
    }
}

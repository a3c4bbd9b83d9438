//! Looking at a plan: what people are shown of a token's blocks and checks.

use super::facts::MessageFact;
use super::plan::{Plan, PlannedCheck};
use super::print;
use super::program::{Binary, Check, Kind, Op, Predicate, Query, Term, Value};

/// A check, for showing.
#[derive(Debug, Clone, Copy)]
pub struct CheckView<'p>(pub(super) &'p PlannedCheck);

impl<'p> CheckView<'p> {
    /// The check itself, for who looks at its shape.
    pub(crate) fn check(&self) -> &'p Check {
        &self.0.check
    }

    /// The block that holds it, the authority being 0.
    pub fn block(&self) -> usize {
        self.0.block
    }

    /// Which of its block's checks it is, from 0.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// `check if` or `check all`.
    pub fn kind(&self) -> Kind {
        self.0.check.kind
    }

    /// Whether it reads what a body says: `rpc`, `tool` or `arg`.
    pub fn reads_body(&self) -> bool {
        self.0.reads_item
    }

    /// Its text, escaped. For people: nothing is decided by parsing it.
    pub fn text(&self) -> String {
        print::check(&self.0.check)
    }

    /// Its text, cut to what a refusal quotes.
    pub fn excerpt(&self) -> &str {
        self.0.excerpt.get_or_init(|| print::excerpt(self.text()).into())
    }

    /// The date of a check that is exactly `check if time($t), $t <= D`: that and nothing else is called an expiry.
    pub fn expires_at(&self) -> Option<u64> {
        let Check { kind: Kind::If, alternatives } = &self.0.check else { return None };
        let [Query { predicates, expressions, scopes, .. }] = &**alternatives else { return None };
        let ([predicate], [expression], []) = (&**predicates, &**expressions, &**scopes) else { return None };
        let Predicate { name, terms } = predicate;
        let is_time = MessageFact::from_name(name) == Some(MessageFact::Time) && matches!(**terms, [Term::Variable(0)]);
        match *expression.ops {
            [
                Op::Push(Term::Variable(0)),
                Op::Push(Term::Value(Value::Date(date))),
                Op::Binary(Binary::LessOrEqual),
            ] => is_time.then_some(date),
            _ => None,
        }
    }
}

/// A block, for showing.
#[derive(Debug, Clone, Copy)]
pub struct BlockView<'p> {
    pub(super) plan: &'p Plan,
    pub(super) index: usize,
}

impl<'p> BlockView<'p> {
    /// The Ed25519 key that vouches for a third-party block.
    pub fn external_key(&self) -> Option<&'p [u8; 32]> {
        self.plan.blocks[self.index].external_key.as_ref()
    }

    /// The free text that whoever made the block put into it. Not escaped, not trusted.
    pub fn context(&self) -> Option<&'p str> {
        self.plan.blocks[self.index].context.as_deref()
    }

    /// The facts it states, as escaped text.
    pub fn facts(&self) -> impl Iterator<Item = String> {
        let stated = self.plan.facts.iter().filter(|fact| fact.block == self.index);
        stated.map(|fact| print::fact(&fact.fact))
    }

    /// Whose facts its checks believe, as text; empty for the default.
    pub fn scopes(&self) -> String {
        print::scopes(&self.plan.blocks[self.index].scopes).trim_start().to_owned()
    }

    /// Its checks.
    pub fn checks(&self) -> impl Iterator<Item = CheckView<'p>> {
        let index = self.index;
        self.plan.checks.iter().filter(move |check| check.block == index).map(CheckView)
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit;
    use super::super::testing::{plan, token};
    use super::*;

    #[test]
    fn an_expiry_is_one_form_of_check_and_no_other() {
        let expires = |check: &str| plan(&format!("{check};")).expires_at();
        assert_eq!(expires("check if time($now), $now <= 2030-01-01T00:00:00Z"), Some(1_893_456_000));
        for check in [
            "check all time($t), $t <= 2030-01-01T00:00:00Z",
            "check if time($t), $t < 2030-01-01T00:00:00Z",
            "check if time($t), 2030-01-01T00:00:00Z >= $t",
            "check if time($t), $t <= 2030-01-01T00:00:00Z, true",
            "check if time($t), $t <= 2030-01-01T00:00:00Z or path(\"/\")",
            "check if time($t), path($p), $t <= 2030-01-01T00:00:00Z",
            "check if until($t), $t <= 2030-01-01T00:00:00Z",
            "check if time($t), $t <= 5",
        ] {
            assert_eq!(expires(check), None, "{check}");
        }
        let two = plan("check if time($t), $t <= 2031-01-01T00:00:00Z; check if time($t), $t <= 2030-01-01T00:00:00Z;");
        assert_eq!(two.expires_at(), Some(1_893_456_000));
    }

    #[test]
    fn blocks_and_checks_are_shown_in_order() {
        let bytes = token("owner(\"alice\"); check if true;", &["check if false; check all path($p), $p === \"/\""]);
        let plan = Plan::compile(admit(&bytes).unwrap());
        let checks: Vec<_> =
            plan.checks().map(|check| (check.block(), check.index(), check.kind(), check.text())).collect();
        assert_eq!(
            checks,
            [
                (0, 0, Kind::If, "check if true".to_owned()),
                (1, 0, Kind::If, "check if false".to_owned()),
                (1, 1, Kind::All, "check all path($p), $p === \"/\"".to_owned()),
            ]
        );
        let blocks: Vec<_> =
            plan.blocks().map(|block| (block.facts().collect::<Vec<_>>(), block.checks().count())).collect();
        assert_eq!(blocks, [(vec!["owner(\"alice\")".to_owned()], 1), (vec![], 2)]);
    }
}

//! A program compiled for deciding: what each predicate can match is worked out once, not for every message.
//!
//! Facts of a token are known before any message comes, and so is which of them a query believes. So each predicate over
//! them becomes the short list of facts that its scope, name, arity and literals leave; each predicate over the message
//! becomes a direct look at it; and each variable is bound at one known place and compared at all others.

use super::cidr::Cidr;
use super::evaluate::{self, Verdict};
use super::facts::{MessageFact, RIGHT};
use super::price::{self, Price};
use super::program::{Block, Check, Fact, Op, Predicate, Program, Query, Scope, Term, Value};
use super::query_names::QueryNames;
use super::view::{BlockView, CheckView};
use crate::message::{Message, Needs};
use crate::resource::{Operation, ResourceName, Right};
use crate::statement::Statement;
use std::borrow::Cow;
use std::sync::OnceLock;

/// A token's checks, ready to decide any message; and what else is known of the token from its content.
#[derive(Debug)]
pub struct Plan {
    pub(super) facts: Box<[TokenFact]>,
    pub(super) checks: Box<[PlannedCheck]>,
    pub(super) blocks: Box<[PlannedBlock]>,
    rights: Box<[Right]>,
    needs: Needs,
    query_names: QueryNames,
    dates: Box<[u64]>,
    turns: Box<[u64]>,
    price: Price,
    content_bytes: usize,
    statement: Option<Statement>,
}

/// A fact and the block that states it.
#[derive(Debug)]
pub(super) struct TokenFact {
    pub(super) block: usize,
    pub(super) fact: Fact,
}

/// What is left of a block besides its facts and checks.
#[derive(Debug)]
pub(super) struct PlannedBlock {
    pub(super) external_key: Option<super::program::Key>,
    pub(super) context: Option<Box<str>>,
    pub(super) scopes: Box<[Scope]>,
}

#[derive(Debug)]
pub(super) struct PlannedCheck {
    pub(super) block: usize,
    /// Which of its block's checks it is, from 0.
    pub(super) index: usize,
    /// Whether it reads facts of a body's items, so that it is decided for each of them.
    pub(super) reads_item: bool,
    /// Whether it reads arguments by whatever name they have: then each has to be a fact.
    pub(super) reads_any_argument: bool,
    pub(super) check: Check,
    /// What refusals quote of it, printed when the first one does.
    pub(super) excerpt: OnceLock<Box<str>>,
    /// One for each alternative of the check.
    pub(super) queries: Box<[PlannedQuery]>,
}

#[derive(Debug)]
pub(super) struct PlannedQuery {
    pub(super) predicates: Box<[PlannedPredicate]>,
}

#[derive(Debug)]
pub(super) struct PlannedPredicate {
    pub(super) source: Source,
    pub(super) slots: Box<[Slot]>,
}

/// Where the facts are that a predicate can match.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A fact of the message, of the arity that the predicate has.
    Message(MessageFact),
    /// There is such a fact exactly if the client is in the block.
    ClientIn(Cidr),
    /// These of the token's facts; they agree with the literals of the predicate.
    Token(Box<[usize]>),
}

/// What a predicate does with one argument of a fact.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// Nothing: it is known to agree.
    Known,
    /// Compares it to this.
    Literal(Value),
    /// Binds this variable to it.
    Bind(usize),
    /// Compares it to what the variable was bound to.
    Same(usize),
}

/// Which argument of a call a predicate reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument<'p> {
    Named(&'p str),
    /// Whatever it is called.
    Any,
}

impl PlannedPredicate {
    pub(super) fn argument(&self) -> Option<Argument<'_>> {
        match (&self.source, self.slots.first()) {
            (Source::Message(MessageFact::Arg), Some(Slot::Literal(Value::Text(name)))) => Some(Argument::Named(name)),
            // A name that is no text is never there.
            (Source::Message(MessageFact::Arg), Some(Slot::Literal(_))) => None,
            (Source::Message(MessageFact::Arg), _) => Some(Argument::Any),
            _ => None,
        }
    }
}

/// The arguments of a call that a token's checks read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArgumentNames<'p> {
    any: bool,
    named: Vec<&'p str>,
}

impl ArgumentNames<'_> {
    /// Every argument.
    pub fn any() -> Self {
        Self { any: true, named: Vec::new() }
    }

    /// Whether no argument is read.
    pub fn is_empty(&self) -> bool {
        !self.any && self.named.is_empty()
    }

    /// Whether every argument is read.
    pub fn are_all(&self) -> bool {
        self.any
    }

    /// Whether the argument of this name is read.
    pub fn contains(&self, name: &str) -> bool {
        self.any || self.named.binary_search(&name).is_ok()
    }
}

/// The blocks whose facts are believed, a bit for each.
type Trust = u32;
const _: () = assert!(super::BLOCKS_MAX <= Trust::BITS as usize);

/// Everything up to and including a block.
fn up_to(block: usize) -> Trust {
    (0..=block).fold(0, |trust, block| trust | 1 << block)
}

impl Plan {
    /// Compiles a program. Infallible: whether the price is acceptable is for the caller to say.
    pub fn compile(program: Program) -> Self {
        let signers: Vec<_> = program.blocks.iter().map(|block| block.external_key).collect();
        let mut facts = Vec::new();
        let mut checks = Vec::new();
        let mut blocks = Vec::new();
        for (block, Block { external_key, context, facts: stated, checks: made, scopes }) in
            program.blocks.into_iter().enumerate()
        {
            facts.extend(stated.into_iter().map(|fact| TokenFact { block, fact }));
            checks.extend(made.into_iter().enumerate().map(|(index, check)| (block, index, check)));
            blocks.push(PlannedBlock { external_key, context, scopes });
        }
        let compiler = Compiler { signers: &signers, facts: &facts };
        let checks: Box<[_]> = checks
            .into_iter()
            .map(|(block, index, check)| {
                let default = compiler.trust(&blocks[block].scopes, 1, block);
                let queries: Box<[_]> =
                    check.alternatives.iter().map(|query| compiler.query(query, default, block)).collect();
                let mut predicates = queries.iter().flat_map(|query: &PlannedQuery| &query.predicates);
                let reads_any_argument = predicates.clone().any(|it| it.argument() == Some(Argument::Any));
                let reads_item = predicates.any(|it| matches!(it.source, Source::Message(fact) if fact.is_of_item()));
                PlannedCheck { block, index, reads_item, reads_any_argument, check, excerpt: OnceLock::new(), queries }
            })
            .collect();
        Self {
            needs: needs(&checks),
            query_names: QueryNames::of(&checks, &facts),
            dates: dates(&facts, checks.iter()),
            turns: turns(&facts, &checks),
            rights: facts.iter().filter_map(right).collect(),
            price: price::of_checks(&checks, &facts),
            content_bytes: program.content_bytes,
            statement: program.statement,
            facts: facts.into(),
            checks,
            blocks: blocks.into(),
        }
    }

    /// What the token says, as [`CONTENT_BYTES_MAX`](super::CONTENT_BYTES_MAX) counts it.
    pub(crate) fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// What a gateway states at the token's end, if it does. Whose key signed it is for the standing to say.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// Decides whether a message passes every check. The query facts come from
    /// [`query_facts`](crate::message::query_facts), and may be left empty where [`needs`](Self::needs) does not ask for them.
    /// Rights are not looked at: that is the policy's part.
    pub fn evaluate(&self, message: &Message<'_>, query: &[(Cow<'_, str>, Cow<'_, str>)]) -> Verdict {
        evaluate::decide(self, message, query).0
    }

    /// The rights of the authority block, in its order. A `right` that names no possible resource or operation
    /// authorises nothing, and is among the [`facts`](BlockView::facts) alone.
    pub fn rights(&self) -> &[Right] {
        &self.rights
    }

    /// What has to be found out about a message beyond what is always at hand.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// The parameters of a query that the checks read.
    pub(crate) fn query_names(&self) -> &QueryNames {
        &self.query_names
    }

    /// The arguments of a call that have to be found out, where [`needs`](Self::needs) asks for the body.
    pub fn argument_names(&self) -> ArgumentNames<'_> {
        let queries = self.checks.iter().flat_map(|check| &check.queries);
        let mut names = ArgumentNames::default();
        for argument in queries.flat_map(|query| &query.predicates).filter_map(PlannedPredicate::argument) {
            match argument {
                Argument::Any => names.any = true,
                Argument::Named(name) => names.named.push(name),
            }
        }
        names.named.sort_unstable();
        names.named.dedup();
        names
    }

    /// Whether some arguments may let a call of this tool pass, everything else being as the message says. What depends on
    /// the arguments and on the body's length is taken to hold, so `false` is certain and `true` is not. Checks that do
    /// not read the body are not asked.
    pub fn may_call(&self, message: &Message<'_>, query: &[(Cow<'_, str>, Cow<'_, str>)], tool: &str) -> bool {
        evaluate::may_call(self, message, query, tool)
    }

    /// The most steps that deciding a message takes whose body has one item at most: what a token is admitted by.
    pub fn price(&self) -> u64 {
        self.price.total()
    }

    /// What that consists of.
    pub fn prices(&self) -> Price {
        self.price
    }

    /// Every date in the token, ascending.
    pub fn date_constants(&self) -> &[u64] {
        &self.dates
    }

    /// Every second at which time alone can change a decision, ascending: those at which some comparison with the time
    /// turns. [Expiries](Self::expires_at) are left out, since what becomes of them is known without deciding.
    pub fn turns(&self) -> &[u64] {
        &self.turns
    }

    /// How many dates have a decision taken again on a message that is under way, as its price counts them: each date of a
    /// check once, and all expiries together once, since the earliest of them is the end.
    pub fn dates_counted(&self) -> u64 {
        // A date turns when it begins and when it is over.
        let dates = self.turns.len().div_ceil(2) + usize::from(self.expires_at().is_some());
        u64::try_from(dates).unwrap_or(u64::MAX)
    }

    /// The last second at which no check of the form `check if time($t), $t <= D` fails, if there are such checks.
    pub fn expires_at(&self) -> Option<u64> {
        self.checks().filter_map(|check| check.expires_at()).min()
    }

    /// The checks, in the order in which they are decided.
    pub fn checks(&self) -> impl ExactSizeIterator<Item = CheckView<'_>> {
        self.checks.iter().map(CheckView)
    }

    /// The blocks, the authority first.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = BlockView<'_>> {
        (0..self.blocks.len()).map(|index| BlockView { plan: self, index })
    }
}

/// What compiling a query needs to know of the whole token.
struct Compiler<'c> {
    /// Who vouches for each block, of those that a third party signed.
    signers: &'c [Option<super::program::Key>],
    facts: &'c [TokenFact],
}

impl Compiler<'_> {
    /// The blocks that a scope trusts. The current block is always among them, and so is the gateway (section "Scoping" of the
    /// specification). An empty scope stands for the default; any other one replaces it, the authority included.
    fn trust(&self, scopes: &[Scope], default: Trust, block: usize) -> Trust {
        let own = 1 << block;
        if scopes.is_empty() {
            return default | own;
        }
        scopes.iter().fold(own, |trust, scope| {
            trust
                | match scope {
                    Scope::Authority => 1,
                    Scope::Previous => up_to(block),
                    Scope::Key(key) => {
                        let signed = self.signers.iter().enumerate().filter(|(_, signer)| **signer == Some(*key));
                        signed.fold(0, |trust, (block, _)| trust | 1 << block)
                    }
                }
        })
    }

    fn query(&self, query: &Query, default: Trust, block: usize) -> PlannedQuery {
        let trust = self.trust(&query.scopes, default, block);
        let mut bound = vec![false; query.variables.len()];
        let predicates = query.predicates.iter().map(|predicate| self.predicate(predicate, trust, &mut bound));
        PlannedQuery { predicates: predicates.collect() }
    }

    fn predicate(&self, predicate: &Predicate, trust: Trust, bound: &mut [bool]) -> PlannedPredicate {
        let source = self.source(predicate, trust);
        let slots = predicate.terms.iter().map(|term| match term {
            Term::Variable(slot) if std::mem::replace(&mut bound[*slot], true) => Slot::Same(*slot),
            Term::Variable(slot) => Slot::Bind(*slot),
            Term::Value(_) if matches!(source, Source::Token(_) | Source::ClientIn(_)) => Slot::Known,
            Term::Value(value) => Slot::Literal(value.clone()),
        });
        PlannedPredicate { slots: slots.collect(), source }
    }

    fn source(&self, Predicate { name, terms }: &Predicate, trust: Trust) -> Source {
        match MessageFact::from_name(name) {
            // Only the gateway states these, and every scope believes it. Another arity is another fact, and there is none.
            Some(fact) if fact.arity() != terms.len() => Source::Token(Box::default()),
            Some(MessageFact::ClientIn) => {
                let cidr = match &**terms {
                    [Term::Value(Value::Text(text))] => Cidr::parse_canonical(text),
                    _ => None,
                };
                cidr.map_or(Source::Token(Box::default()), Source::ClientIn)
            }
            Some(fact) => Source::Message(fact),
            None => {
                let agrees = |(term, value): (&Term, &Value)| match term {
                    Term::Variable(_) => true,
                    Term::Value(literal) => literal == value,
                };
                let believed = |fact: &TokenFact| {
                    trust & 1 << fact.block != 0
                        && fact.fact.name == *name
                        && fact.fact.values.len() == terms.len()
                        && terms.iter().zip(&fact.fact.values).all(agrees)
                };
                let numbers = self.facts.iter().enumerate().filter(|(_, fact)| believed(fact));
                Source::Token(numbers.map(|(number, _)| number).collect())
            }
        }
    }
}

/// A right, if the fact is one that can authorise something.
fn right(fact: &TokenFact) -> Option<Right> {
    match (&*fact.fact.name, &*fact.fact.values) {
        (RIGHT, [Value::Text(resource), Value::Text(operation)]) if fact.block == 0 => {
            Some(Right { resource: ResourceName::parse(resource).ok()?, operation: Operation::parse(operation).ok()? })
        }
        _ => None,
    }
}

fn needs(checks: &[PlannedCheck]) -> Needs {
    let queries = checks.iter().flat_map(|check| &check.queries);
    let mut needs = Needs::default();
    for predicate in queries.flat_map(|query| &query.predicates) {
        match predicate.source {
            Source::ClientIn(_) => needs.client_in = true,
            Source::Message(fact) => match fact {
                MessageFact::Query => needs.query = true,
                MessageFact::BodySize => needs.body_size = true,
                MessageFact::Rpc | MessageFact::Tool | MessageFact::Arg => needs.body = true,
                MessageFact::Client => needs.client = true,
                MessageFact::ClientCert => needs.client_cert = true,
                MessageFact::Backend => needs.backend = true,
                MessageFact::Host => needs.host = true,
                MessageFact::Scheme => needs.scheme = true,
                MessageFact::Grpc => needs.grpc = true,
                MessageFact::Resource
                | MessageFact::Operation
                | MessageFact::Path
                | MessageFact::QueryString
                | MessageFact::Time
                | MessageFact::ClientIn
                | MessageFact::Upgrade => {}
            },
            Source::Token(_) => {}
        }
    }
    needs
}

/// Every date that the token mentions: in checks, and in facts that checks may compare to the time.
fn dates<'c>(facts: &[TokenFact], checks: impl Iterator<Item = &'c PlannedCheck>) -> Box<[u64]> {
    let queries = checks.flat_map(|check| &check.check.alternatives);
    let terms = queries.flat_map(|query| {
        let predicates = query.predicates.iter().flat_map(|predicate| &predicate.terms);
        let ops = query.expressions.iter().flat_map(|expression| &expression.ops).filter_map(|op| match op {
            Op::Push(term) => Some(term),
            _ => None,
        });
        predicates.chain(ops).filter_map(|term| match term {
            Term::Value(value) => Some(value),
            Term::Variable(_) => None,
        })
    });
    let values = facts.iter().flat_map(|fact| &fact.fact.values).chain(terms);
    let mut dates = Vec::new();
    for value in values {
        match value {
            Value::Date(date) => dates.push(*date),
            Value::Set(members) => dates.extend(members.iter().filter_map(|member| match member {
                Value::Date(date) => Some(*date),
                _ => None,
            })),
            _ => {}
        }
    }
    dates.sort_unstable();
    dates.dedup();
    dates.into()
}

/// A comparison with a date turns when the date begins, and when it is over.
fn turns(facts: &[TokenFact], checks: &[PlannedCheck]) -> Box<[u64]> {
    let others = checks.iter().filter(|check| CheckView(check).expires_at().is_none());
    let dates = dates(facts, others);
    let mut turns: Vec<_> = dates.iter().flat_map(|date| [*date, date.saturating_add(1)]).collect();
    turns.dedup();
    turns.into()
}

#[cfg(test)]
mod tests {
    use super::super::admit;
    use super::super::testing::{
        OTHER_POINT, OWN, POINT, block, block_with, crafted_chain, message, plan, predicate, query,
    };
    use super::*;
    use biscuit_auth::format::schema;
    use biscuit_auth::format::schema::scope::{Content, ScopeType};

    #[test]
    fn the_rights_are_those_that_can_authorise_something() {
        let plan = plan(
            "right(\"orders\", \"GET\"); right(\"Orders\", \"GET\"); right(\"orders\", \"get\"); right(\"a\", \"*\");",
        );
        let rights: Vec<_> = plan.rights().iter().map(|it| (it.resource.as_str(), it.operation.as_str())).collect();
        assert_eq!(rights, [("orders", "GET"), ("a", "*")]);
        assert_eq!(plan.blocks().next().unwrap().facts().count(), 4);
    }

    #[test]
    fn needs_are_what_the_checks_read() {
        assert_eq!(plan("check if path(\"/\"), resource(\"a\"), time($t);").needs(), Needs::default());
        let all = plan(
            "check if query(\"a\", \"b\"); check if body_size($n), $n < 10; check if tool(\"a\") or rpc(\"b\"); check if client($c);
             check if host(\"h\"); check if scheme(\"https\");
             check if client_in(\"10.0.0.0/8\"); check if client_cert(\"00\"); check if backend(\"b\"); check if grpc(\"s\", \"m\");",
        );
        let needs = Needs {
            host: true,
            scheme: true,
            query: true,
            body_size: true,
            body: true,
            grpc: true,
            client: true,
            client_in: true,
            client_cert: true,
            backend: true,
        };
        assert_eq!(all.needs(), needs);
        // Another arity is another fact, which is never there.
        assert_eq!(plan("check if query(\"a\");").needs(), Needs::default());
    }

    #[test]
    fn date_constants_are_all_dates_of_the_token() {
        let plan = plan(
            "until(2030-01-01T00:00:00Z); dates({2031-01-01T00:00:00Z, 2029-01-01T00:00:00Z});
             check if time($t), $t >= 2028-01-01T00:00:00Z && $t < 2030-01-01T00:00:00Z or time(2027-01-01T00:00:00Z);",
        );
        let years = [1_798_761_600, 1_830_297_600, 1_861_920_000, 1_893_456_000, 1_924_992_000];
        assert_eq!(plan.date_constants(), years);
        assert_eq!(plan.turns(), years.map(|year| [year, year + 1]).as_flattened());
    }

    #[test]
    fn an_expiry_is_no_turn_unless_something_else_has_its_date() {
        let of = |checks: &str| plan(checks).turns().to_vec();
        assert!(of("check if time($t), $t <= 2030-01-01T00:00:00Z;").is_empty());
        let same = "check if time($t), $t <= 2030-01-01T00:00:00Z; check if time($t), $t < 2030-01-01T00:00:00Z;";
        assert_eq!(of(same), [1_893_456_000, 1_893_456_001]);
        let next = "check if time($t), $t > 2030-01-01T00:00:00Z, $t != 2030-01-01T00:00:01Z;";
        assert_eq!(of(next), [1_893_456_000, 1_893_456_001, 1_893_456_002]);
    }

    /// Whether a check of the last block sees the fact `f()` of another one, under this scope of the check and of the block.
    fn sees(from: usize, last: Option<[u8; 32]>, of_check: &[Content], of_block: &[Content]) -> bool {
        let scope = |contents: &[Content]| -> Vec<schema::Scope> {
            contents.iter().map(|content| schema::Scope { content: Some(content.clone()) }).collect()
        };
        let states = |states| {
            let fact = schema::Fact { predicate: predicate(OWN, vec![]) };
            schema::Block { facts: if states { vec![fact] } else { vec![] }, ..block(&["f"]) }
        };
        let key = schema::PublicKey { algorithm: 0, key: POINT.to_vec() };
        let mut asking = query(vec![predicate(OWN, vec![])], vec![]);
        asking.scope = scope(of_check);
        let symbols = if last.is_some() { vec!["f".to_owned()] } else { vec![] };
        let asking = schema::Block { symbols, scope: scope(of_block), public_keys: vec![key], ..block_with(asking) };
        let chain = [(&states(from == 0), None), (&states(from == 1), Some(POINT)), (&asking, last)];
        let plan = Plan::compile(admit(&crafted_chain(&chain)).unwrap());
        plan.evaluate(&message(), &[]) == Verdict::Passed
    }

    #[test]
    fn scopes_are_biscuits() {
        let authority = || Content::ScopeType(ScopeType::Authority as i32);
        let previous = || Content::ScopeType(ScopeType::Previous as i32);
        let key = || Content::PublicKey(0);
        for last in [None, Some(OTHER_POINT)] {
            // By default: the authority, and no sibling.
            assert!(sees(0, last, &[], &[]) && !sees(1, last, &[], &[]));
            // A key alone drops the authority, and brings what it signed.
            assert!(!sees(0, last, &[key()], &[]) && sees(1, last, &[key()], &[]));
            assert!(sees(0, last, &[authority(), key()], &[]) && sees(1, last, &[authority(), key()], &[]));
            // `previous` is everything before, whoever signed it.
            assert!(sees(0, last, &[previous()], &[]) && sees(1, last, &[previous()], &[]));
            // A block's scope is its checks' default, and a check's own replaces it.
            assert!(!sees(0, last, &[], &[key()]) && sees(1, last, &[], &[key()]));
            assert!(sees(0, last, &[authority()], &[key()]) && !sees(1, last, &[authority()], &[key()]));
        }
    }

    /// `trusting K` covers the whole body of a query. A third party's `time` would satisfy an expiry, so it must not exist.
    #[test]
    fn a_third_party_cannot_say_what_time_it_is() {
        let late =
            schema::Fact { predicate: predicate(5, vec![super::super::testing::term(schema::term::Content::Date(0))]) };
        let vouched = schema::Block { facts: vec![late], ..block(&[]) };
        let refused = admit(&crafted_chain(&[(&block(&[]), None), (&vouched, Some(POINT))])).unwrap_err();
        assert_eq!(refused.construct, "the fact `time`");
    }
}

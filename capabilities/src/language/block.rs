//! From signed blocks to a [`Program`]: tables resolved, and only what the language admits left.
//!
//! The structure is read, never printed source: the library's printer does not escape, so a literal can
//! pretend to be code. The encoding was walked before ([`wire`](super::wire)), so decoding it drops nothing. At the end each block
//! is given to the library's own reader too, for what depends on a block's version: whatever it refuses, a
//! gateway that goes by another implementation would refuse, and so do we.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use biscuit_auth::builder::Algorithm;
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::format::{convert, schema};
use prost::Message as _;

use super::cidr::Cidr;
use super::expression;
use super::facts::{MessageFact, RIGHT, is_reserved_name};
use super::program::{Block, Check, DATE_MAX, Fact, Key, Kind, Predicate, Program, Query, Scope, Term, Value};
use super::wire::SignedBlock;
use super::{CONTENT_BYTES_MAX, FACTS_MAX, NotAdmitted};

/// Indices below this one name the symbols that every token shares (section "Symbol table" of the specification).
const FIRST_OWN_SYMBOL: u64 = 1024;

/// The number of `check all` and `reject if` among the kinds of check.
const CHECK_ALL: i32 = 1;
const REJECT_IF: i32 = 2;

/// Reads all blocks.
pub(crate) fn read(signed: &[SignedBlock<'_>]) -> Result<Program, NotAdmitted> {
    let defaults = SymbolTable::new();
    let mut main = Tables::default();
    let mut facts = 0;
    let content = Cell::new(0);
    let mut blocks = Vec::with_capacity(signed.len());
    for (block, signed) in signed.iter().enumerate() {
        let proto = schema::Block::decode(signed.payload)
            .map_err(|error| NotAdmitted::new("a malformed block", block, super::excerpt(error.to_string())))?;
        facts += proto.facts.len();
        if facts > FACTS_MAX {
            return Err(NotAdmitted::new("a fact too many", block, format!("a token holds at most {FACTS_MAX} facts")));
        }
        // A third-party block is signed without knowledge of the token, so it has tables of its own and adds to no other.
        let mut own = Tables::default();
        let tables = if signed.external_key.is_some() { &mut own } else { &mut main };
        tables.extend(&proto, block)?;
        let reader = Reader {
            block,
            defaults: &defaults,
            tables,
            third_party: signed.external_key.is_some(),
            content: &content,
        };
        blocks.push(reader.block(&proto, signed.external_key)?);
        accepted_by_library(&proto, signed.external_key, block)?;
    }
    Ok(Program { blocks })
}

fn accepted_by_library(proto: &schema::Block, key: Option<Key>, block: usize) -> Result<(), NotAdmitted> {
    let key = key.map(|key| biscuit_auth::PublicKey::from_bytes(&key, Algorithm::Ed25519)).transpose();
    key.and_then(|key| convert::proto_block_to_token_block(proto, key))
        .map(|_| ())
        .map_err(|error| NotAdmitted::new("something that biscuit refuses", block, super::excerpt(error.to_string())))
}

/// The symbols and keys that a block's numbers stand for.
#[derive(Default)]
struct Tables {
    symbols: Vec<Arc<str>>,
    keys: Vec<Key>,
}

impl Tables {
    /// Adds a block's tables. A block that repeats what an earlier one has is refused, as biscuit does: a table with
    /// two numbers for one thing is read differently by readers that compare numbers.
    fn extend(&mut self, proto: &schema::Block, block: usize) -> Result<(), NotAdmitted> {
        let earlier: HashSet<&str> = self.symbols.iter().map(|symbol| &**symbol).collect();
        if let Some(symbol) = proto.symbols.iter().find(|symbol| earlier.contains(symbol.as_str())) {
            let reason = format!("an earlier block has {} already", super::excerpt(super::quoted(symbol)));
            return Err(NotAdmitted::new("a repeated symbol", block, reason));
        }
        for key in &proto.public_keys {
            let ed25519 = Key::try_from(&*key.key).ok().filter(|_| key.algorithm == Algorithm::Ed25519 as i32);
            let key = ed25519.ok_or_else(|| {
                let reason = "blocks signed by another kind of key are never admitted, so it could never be trusted";
                NotAdmitted::new("a trusted key that is no Ed25519 key", block, reason)
            })?;
            if self.keys.contains(&key) {
                return Err(NotAdmitted::new("a repeated public key", block, "the table has it already"));
            }
            self.keys.push(key);
        }
        self.symbols.extend(proto.symbols.iter().map(|symbol| Arc::from(symbol.as_str())));
        Ok(())
    }
}

/// Reads one block.
pub(super) struct Reader<'r> {
    block: usize,
    defaults: &'r SymbolTable,
    tables: &'r Tables,
    third_party: bool,
    /// The bytes of content read so far, of all blocks.
    content: &'r Cell<usize>,
}

impl Reader<'_> {
    fn block(&self, proto: &schema::Block, external_key: Option<Key>) -> Result<Block, NotAdmitted> {
        if !proto.rules.is_empty() {
            return Err(
                self.refuse("a rule", "tokens hold facts and checks; write what the rule would derive as facts")
            );
        }
        if self.block > 0 && !self.third_party && !proto.facts.is_empty() {
            let reason = "whoever holds a token can append blocks, so only their checks count; \
                          let a third party sign facts, or put them into the authority block";
            return Err(self.refuse("a fact", reason));
        }
        Ok(Block {
            external_key,
            context: proto.context.as_deref().map(Into::into),
            facts: proto.facts.iter().map(|fact| self.fact(&fact.predicate)).collect::<Result<_, _>>()?,
            checks: proto.checks.iter().map(|check| self.check(check)).collect::<Result<_, _>>()?,
            scopes: self.scopes(&proto.scope)?,
        })
    }

    fn fact(&self, proto: &schema::Predicate) -> Result<Fact, NotAdmitted> {
        let name = self.name(proto.name)?;
        let values: Box<[Value]> = proto
            .terms
            .iter()
            .map(|term| match term.content {
                Some(schema::term::Content::Variable(_)) => {
                    Err(self.refuse("a fact with a variable", "a fact is about something definite"))
                }
                _ => self.value(term),
            })
            .collect::<Result<_, _>>()?;
        let is_right = self.block == 0 && &*name == RIGHT && matches!(*values, [Value::Text(_), Value::Text(_)]);
        if is_reserved_name(&name) && !is_right {
            let reason = match &*name == RIGHT {
                true => "rights are `right(resource, operation)`, two texts, in the authority block",
                false => "only the gateway says what is true of a message",
            };
            return Err(self.refuse(format!("the fact `{name}`"), reason));
        }
        Ok(Fact { name, values })
    }

    fn check(&self, proto: &schema::Check) -> Result<Check, NotAdmitted> {
        // The raw number: the decoder's own reading of it answers `check if` for whatever it does not know.
        let kind = match proto.kind {
            None | Some(0) => Kind::If,
            Some(CHECK_ALL) => Kind::All,
            Some(REJECT_IF) => {
                let reason = "implementations differ on what several alternatives mean; turn it into a `check if`";
                return Err(self.refuse("`reject if`", reason));
            }
            Some(other) => {
                return Err(self.refuse(format!("the unknown check kind {other}"), "its meaning is not known"));
            }
        };
        if proto.queries.is_empty() {
            return Err(self.refuse("a check without a query", "it could never pass"));
        }
        Ok(Check { kind, alternatives: proto.queries.iter().map(|query| self.query(query)).collect::<Result<_, _>>()? })
    }

    fn query(&self, proto: &schema::Rule) -> Result<Query, NotAdmitted> {
        self.name(proto.head.name)?;
        if !proto.head.terms.is_empty() {
            return Err(self.refuse("a query whose head has terms", "a query of a check yields nothing"));
        }
        if proto.body.is_empty() && proto.expressions.is_empty() {
            return Err(self.refuse("an empty query", "it says nothing, and would pass always"));
        }
        let mut variables = Vec::new();
        let predicates =
            proto.body.iter().map(|body| self.predicate(body, &mut variables)).collect::<Result<_, _>>()?;
        let expressions = proto
            .expressions
            .iter()
            .map(|expression| expression::read(self, &expression.ops, &variables))
            .collect::<Result<_, _>>()?;
        Ok(Query { variables: variables.into(), predicates, expressions, scopes: self.scopes(&proto.scope)? })
    }

    fn predicate(&self, proto: &schema::Predicate, variables: &mut Vec<Arc<str>>) -> Result<Predicate, NotAdmitted> {
        let name = self.name(proto.name)?;
        let mut terms = Vec::with_capacity(proto.terms.len());
        for term in &proto.terms {
            terms.push(match term.content {
                Some(schema::term::Content::Variable(symbol)) => {
                    let variable = self.name(symbol.into())?;
                    let known = variables.iter().position(|known| *known == variable);
                    Term::Variable(known.unwrap_or_else(|| {
                        variables.push(variable);
                        variables.len() - 1
                    }))
                }
                _ => Term::Value(self.value(term)?),
            });
        }
        if MessageFact::from_name(&name) == Some(MessageFact::ClientIn) {
            let literal = matches!(&*terms, [Term::Value(Value::Text(text))] if Cidr::parse_canonical(text).is_some());
            if !literal {
                let reason = "it takes one literal block of addresses in its canonical form, such as \"10.0.0.0/8\"";
                return Err(self.refuse("`client_in` of something else", reason));
            }
        }
        Ok(Predicate { name, terms: terms.into() })
    }

    /// Reads a term of an expression: one of the query's variables, or a value.
    pub(super) fn term(&self, proto: &schema::Term, variables: &[Arc<str>]) -> Result<Term, NotAdmitted> {
        let Some(schema::term::Content::Variable(symbol)) = proto.content else {
            return self.value(proto).map(Term::Value);
        };
        let variable = self.name(symbol.into())?;
        let known = variables.iter().position(|known| *known == variable);
        known.map(Term::Variable).ok_or_else(|| {
            let reason = format!("no predicate of its query binds ${variable}");
            self.refuse("an unbound variable", reason)
        })
    }

    fn value(&self, proto: &schema::Term) -> Result<Value, NotAdmitted> {
        use schema::term::Content;
        Ok(match proto.content.as_ref() {
            Some(Content::Integer(number)) => Value::Integer(*number),
            Some(Content::String(symbol)) => Value::Text(self.symbol(*symbol)?),
            Some(Content::Date(seconds)) if *seconds <= DATE_MAX => Value::Date(*seconds),
            Some(Content::Date(_)) => {
                return Err(
                    self.refuse("a date after the year 9999", "it cannot be written down, so nobody could see it")
                );
            }
            Some(Content::Bytes(bytes)) => {
                self.count(bytes.len())?;
                Value::Bytes(bytes.as_slice().into())
            }
            Some(Content::Bool(truth)) => Value::Bool(*truth),
            Some(Content::Set(set)) => self.set(set)?,
            Some(Content::Null(_)) => return Err(self.refuse("`null`", "a fact is there or not")),
            Some(Content::Array(_)) => return Err(self.refuse("an array", "use a set, or several facts")),
            Some(Content::Map(_)) => return Err(self.refuse("a map", "use several facts")),
            Some(Content::Variable(_)) | None => return Err(self.refuse("a malformed value", "it has no content")),
        })
    }

    fn set(&self, proto: &schema::TermSet) -> Result<Value, NotAdmitted> {
        let mut members = Vec::with_capacity(proto.set.len());
        for member in &proto.set {
            // Looked at before it is read, so that sets within sets never make this function call itself.
            if matches!(member.content, Some(schema::term::Content::Set(_) | schema::term::Content::Variable(_))) {
                return Err(self.refuse("a set of sets or variables", "the members of a set are plain values"));
            }
            members.push(self.value(member)?);
        }
        let one_type = |pair: &[Value]| std::mem::discriminant(&pair[0]) == std::mem::discriminant(&pair[1]);
        if !members.windows(2).all(one_type) {
            return Err(self.refuse("a set of several types", "the members of a set have one type"));
        }
        members.sort_unstable();
        members.dedup();
        Ok(Value::Set(members.into()))
    }

    fn scopes(&self, protos: &[schema::Scope]) -> Result<Box<[Scope]>, NotAdmitted> {
        use schema::scope::{Content, ScopeType};
        protos
            .iter()
            .map(|proto| match proto.content {
                Some(Content::ScopeType(number)) if number == ScopeType::Authority as i32 => Ok(Scope::Authority),
                Some(Content::ScopeType(number)) if number == ScopeType::Previous as i32 => Ok(Scope::Previous),
                Some(Content::PublicKey(number)) => {
                    let key = usize::try_from(number).ok().and_then(|number| self.tables.keys.get(number));
                    let key = key.ok_or_else(|| {
                        self.refuse(format!("trusting the key number {number}"), "the token has no key of that number")
                    })?;
                    self.count(key.len())?;
                    Ok(Scope::Key(*key))
                }
                Some(Content::ScopeType(_)) | None => {
                    Err(self.refuse("an unknown scope", "whom it would trust is not known"))
                }
            })
            .collect()
    }

    /// A symbol that is a name: whatever biscuit's own syntax could not write might mislead whoever reads it.
    fn name(&self, symbol: u64) -> Result<Arc<str>, NotAdmitted> {
        let name = self.symbol(symbol)?;
        let writable = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
        if name.is_empty() || !name.bytes().all(writable) {
            let construct = format!("the name {}", super::excerpt(super::quoted(&name)));
            return Err(self.refuse(construct, "names have letters, digits, `_` and `:`"));
        }
        Ok(name)
    }

    fn symbol(&self, number: u64) -> Result<Arc<str>, NotAdmitted> {
        let symbol = match number.checked_sub(FIRST_OWN_SYMBOL) {
            None => self.defaults.get_symbol(number).map(Arc::from),
            Some(own) => usize::try_from(own).ok().and_then(|own| self.tables.symbols.get(own)).cloned(),
        };
        let symbol = symbol
            .ok_or_else(|| self.refuse(format!("the unknown symbol {number}"), "no table of the token has it"))?;
        self.count(symbol.len())?;
        Ok(symbol)
    }

    /// Counts content as large as it will be shown, before it is kept.
    fn count(&self, bytes: usize) -> Result<(), NotAdmitted> {
        self.content.set(self.content.get().saturating_add(bytes));
        if self.content.get() <= CONTENT_BYTES_MAX {
            return Ok(());
        }
        let reason = format!(
            "with every use of a text or name counted, a token says at most {CONTENT_BYTES_MAX} bytes; \
             use long texts fewer times"
        );
        Err(self.refuse("content beyond the bound", reason))
    }

    pub(super) fn refuse(
        &self,
        construct: impl Into<std::borrow::Cow<'static, str>>,
        reason: impl Into<std::borrow::Cow<'static, str>>,
    ) -> NotAdmitted {
        NotAdmitted::new(construct, self.block, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        OWN, POINT, QUERY, TIME, admitted, binary, block, block_with, crafted, crafted_chain, message, predicate,
        query, refused, term, token, truth, value,
    };
    use super::super::{Plan, Verdict, admit};
    use super::*;
    use biscuit_auth::format::schema::op_binary;
    use biscuit_auth::format::schema::term::Content;

    fn construct(block: &schema::Block) -> String {
        admit(&crafted(block)).expect_err("not admitted").construct.into_owned()
    }

    fn fact(name: u64, terms: Vec<schema::Term>) -> schema::Fact {
        schema::Fact { predicate: predicate(name, terms) }
    }

    #[test]
    fn no_block_says_what_is_true_of_a_message() {
        for fact in [
            "resource(\"invoices\")",
            "operation(\"GET\")",
            "path(\"/\")",
            "query_string(\"\")",
            "time(2030-01-01T00:00:00Z)",
            "host(\"a\")",
            "scheme(\"https\")",
            "client(\"10.0.0.1\")",
            "client_in(\"10.0.0.0/8\")",
            "client_cert(\"00\")",
            "upgrade(\"\")",
            "query(\"a\", \"b\")",
            "body_size(1)",
            "rpc(\"a\")",
            "tool(\"a\")",
            "arg(\"a\", 1)",
            "grpc(\"a\", \"b\")",
            "backend(\"a\")",
            "postern_anything(1)",
            "right(\"orders\")",
            "right(1, 2)",
            "right(\"a\", \"b\", \"c\")",
        ] {
            let name = fact.split('(').next().unwrap();
            assert_eq!(refused(&format!("{fact};")).construct, format!("the fact `{name}`"), "{fact}");
        }
        assert!(admitted("right(\"orders\", \"GET\"); posterns(1); owner(\"alice\"); resources(\"a\");"));
    }

    #[test]
    fn appended_blocks_hold_checks_only() {
        let refused = admit(&token("right(\"orders\", \"GET\");", &["check if true", "owner(\"alice\")"])).unwrap_err();
        assert_eq!((&*refused.construct, refused.block), ("a fact", Some(2)));
        let sentence = refused.to_string();
        assert!(sentence.starts_with("a fact in block 2 is not admitted: whoever holds"), "{sentence}");
        let rule = admit(&token("right(\"orders\", \"GET\");", &["admin($a) <- path($a)"])).unwrap_err();
        assert_eq!((&*rule.construct, rule.block), ("a rule", Some(1)));
        assert_eq!(refused_authority_rule(), "a rule");
    }

    fn refused_authority_rule() -> String {
        refused("admin($a) <- path($a);").construct.into_owned()
    }

    #[test]
    fn third_parties_state_facts_but_no_rights() {
        let stated = |name, terms| schema::Block { facts: vec![fact(name, terms)], ..block(&["vouched"]) };
        let text = |symbol| term(Content::String(symbol));
        let chain = |stated: &schema::Block| admit(&crafted_chain(&[(&block(&[]), None), (stated, Some(POINT))]));
        assert_eq!(chain(&stated(OWN, vec![text(0)])).unwrap().blocks[1].facts[0].name.as_ref(), "vouched");
        let right = chain(&stated(4, vec![text(0), text(1)])).unwrap_err();
        assert_eq!((&*right.construct, right.block), ("the fact `right`", Some(1)));
        assert_eq!(chain(&stated(TIME, vec![term(Content::Date(0))])).unwrap_err().construct, "the fact `time`");
    }

    #[test]
    fn reject_if_and_unknown_kinds_of_check_are_refused() {
        assert_eq!(refused("reject if path(\"/\");").construct, "`reject if`");
        for kind in [3, 7, -1] {
            let mut block = block_with(query(Vec::new(), vec![vec![truth(true)]]));
            block.checks[0].kind = Some(kind);
            assert!(construct(&block).starts_with("the unknown check kind"), "{kind}");
        }
    }

    #[test]
    fn queries_that_say_nothing_are_refused() {
        assert_eq!(construct(&block_with(query(Vec::new(), Vec::new()))), "an empty query");
        let mut without = block_with(query(Vec::new(), Vec::new()));
        without.checks[0].queries.clear();
        assert_eq!(construct(&without), "a check without a query");
        let mut head = query(Vec::new(), vec![vec![truth(true)]]);
        head.head.terms.push(term(Content::Variable(1024)));
        assert_eq!(construct(&block_with(head)), "a query whose head has terms");
    }

    #[test]
    fn a_date_that_cannot_be_shown_is_refused_wherever_it_stands() {
        let late = Content::Date(DATE_MAX + 1);
        let compare = |date| {
            let variable = || Content::Variable(1024);
            let ops = vec![value(variable()), value(date), binary(op_binary::Kind::LessOrEqual as i32)];
            block_with(query(vec![predicate(TIME, vec![term(variable())])], vec![ops]))
        };
        assert_eq!(construct(&compare(late.clone())), "a date after the year 9999");
        assert_eq!(construct(&compare(Content::Date(u64::MAX))), "a date after the year 9999");
        assert_eq!(
            construct(&compare(Content::Set(schema::TermSet { set: vec![term(late.clone())] }))),
            "a date after the year 9999"
        );
        let stated = schema::Block { facts: vec![fact(OWN, vec![term(late.clone())])], ..block(&["until"]) };
        assert_eq!(construct(&stated), "a date after the year 9999");
        let matched = block_with(query(vec![predicate(TIME, vec![term(late)])], Vec::new()));
        assert_eq!(construct(&matched), "a date after the year 9999");
        let plan = Plan::compile(admit(&crafted(&compare(Content::Date(DATE_MAX)))).unwrap());
        assert_eq!(plan.expires_at(), Some(DATE_MAX));
        assert_eq!(plan.checks().next().unwrap().text(), "check if time($a), $a <= 9999-12-31T23:59:59Z");
    }

    #[test]
    fn facts_are_ground_and_few() {
        let open = schema::Block { facts: vec![fact(OWN, vec![term(Content::Variable(1024))])], ..block(&["a"]) };
        assert_eq!(construct(&open), "a fact with a variable");
        let facts = |count: usize| schema::Block { facts: vec![fact(OWN, Vec::new()); count], ..block(&["a"]) };
        assert!(admit(&crafted(&facts(FACTS_MAX))).is_ok());
        assert_eq!(construct(&facts(FACTS_MAX + 1)), "a fact too many");
        let authority = facts(FACTS_MAX);
        let chain = crafted_chain(&[(&authority, None), (&facts(1), Some(POINT))]);
        assert_eq!(admit(&chain).unwrap_err().block, Some(1));
    }

    #[test]
    fn content_is_bounded_with_every_use_of_a_symbol_counted() {
        let long = "s".repeat(1024);
        let stated = |uses: usize| {
            let texts = vec![term(Content::String(OWN + 1)); uses];
            let checked = query(vec![predicate(OWN, texts.clone())], vec![vec![value(Content::String(OWN + 1))]]);
            schema::Block {
                symbols: vec!["foo".to_owned(), long.clone()],
                facts: vec![fact(OWN, texts)],
                ..block_with(checked)
            }
        };
        let uses = CONTENT_BYTES_MAX / 1024 / 2;
        assert_eq!(construct(&stated(uses)), "content beyond the bound", "facts, terms and expressions all count");
        let program = admit(&crafted(&stated(uses - 1))).unwrap();
        let Value::Text(stated_text) = &program.blocks[0].facts[0].values[0] else { panic!("a text") };
        let Term::Value(Value::Text(checked_text)) =
            &program.blocks[0].checks[0].alternatives[0].predicates[0].terms[uses - 2]
        else {
            panic!("a text")
        };
        assert!(Arc::ptr_eq(stated_text, checked_text), "one symbol is held once");
        // What an appended block says counts on top of it.
        let more = |uses| {
            let body = vec![predicate(OWN, vec![term(Content::String(OWN + 1)); uses])];
            schema::Block { symbols: Vec::new(), ..block_with(query(body, Vec::new())) }
        };
        assert!(admit(&crafted_chain(&[(&stated(uses - 1), None), (&more(0), None)])).is_ok());
        let refused = admit(&crafted_chain(&[(&stated(uses - 1), None), (&more(1), None)])).unwrap_err();
        assert_eq!((&*refused.construct, refused.block), ("content beyond the bound", Some(1)));
    }

    #[test]
    fn names_bytes_and_trusted_keys_count_too() {
        let named = |uses| {
            let body = vec![predicate(OWN, Vec::new()); uses];
            schema::Block { symbols: vec!["n".repeat(4096)], ..block_with(query(body, Vec::new())) }
        };
        assert!(admit(&crafted(&named(15))).is_ok());
        assert_eq!(construct(&named(16)), "content beyond the bound", "the head's name is the last straw");
        let bytes = |length| {
            let stated = vec![fact(OWN, vec![term(Content::Bytes(vec![0; length]))])];
            schema::Block { facts: stated, ..block(&["f"]) }
        };
        assert!(admit(&crafted(&bytes(CONTENT_BYTES_MAX - 1))).is_ok());
        assert_eq!(construct(&bytes(CONTENT_BYTES_MAX)), "content beyond the bound");
        let trusting = |count| {
            let scope = vec![schema::Scope { content: Some(schema::scope::Content::PublicKey(0)) }; count];
            let key = schema::PublicKey { algorithm: 0, key: POINT.to_vec() };
            schema::Block { scope, public_keys: vec![key], ..block(&[]) }
        };
        assert!(admit(&crafted(&trusting(CONTENT_BYTES_MAX / 32))).is_ok());
        assert_eq!(construct(&trusting(CONTENT_BYTES_MAX / 32 + 1)), "content beyond the bound");
    }

    #[test]
    fn a_refusal_quotes_no_more_than_an_excerpt() {
        let stated = schema::Block { facts: vec![fact(OWN, Vec::new())], ..block(&[&"\u{1}".repeat(5000)]) };
        assert!(construct(&stated).len() < 300);
        assert!(construct(&stated).ends_with('…'));
    }

    #[test]
    fn symbols_and_keys_are_resolved_or_refused() {
        let symbol = |number| block_with(query(vec![predicate(TIME, vec![term(Content::String(number))])], Vec::new()));
        assert!(admit(&crafted(&symbol(0))).is_ok() && admit(&crafted(&symbol(1025))).is_ok());
        for number in [28, 1023, 1026, u64::MAX] {
            assert_eq!(construct(&symbol(number)), format!("the unknown symbol {number}"));
        }
        let mut trusting = query(Vec::new(), vec![vec![truth(true)]]);
        for number in [0, -1, i64::MAX] {
            trusting.scope = vec![schema::Scope { content: Some(schema::scope::Content::PublicKey(number)) }];
            assert_eq!(construct(&block_with(trusting.clone())), format!("trusting the key number {number}"));
        }
    }

    #[test]
    fn tables_that_repeat_an_earlier_one_are_refused() {
        let again = admit(&crafted_chain(&[(&block(&["a"]), None), (&block(&["b", "a"]), None)])).unwrap_err();
        assert_eq!((&*again.construct, again.block), ("a repeated symbol", Some(1)));
        assert_eq!(construct(&block(&["resource"])), "something that biscuit refuses");
        // A third-party block has its own table, and may repeat what the others have.
        assert!(admit(&crafted_chain(&[(&block(&["a"]), None), (&block(&["a"]), Some(POINT))])).is_ok());
        let key = |key: [u8; 32]| schema::PublicKey { algorithm: 0, key: key.to_vec() };
        let keyed = schema::Block { public_keys: vec![key(POINT)], ..block(&[]) };
        let again = admit(&crafted_chain(&[(&keyed, None), (&keyed, None)])).unwrap_err();
        assert_eq!(again.construct, "a repeated public key");
    }

    #[test]
    fn first_party_blocks_share_symbols_and_third_party_blocks_do_not() {
        let asks = |symbol| schema::Block {
            symbols: Vec::new(),
            ..block_with(query(vec![predicate(symbol, vec![])], vec![]))
        };
        let chain = crafted_chain(&[(&block(&["a"]), None), (&asks(1024), None)]);
        assert_eq!(admit(&chain).unwrap().blocks[1].checks[0].alternatives[0].predicates[0].name.as_ref(), "a");
        let chain = crafted_chain(&[(&block(&["a"]), None), (&asks(1024), Some(POINT))]);
        assert_eq!(admit(&chain).unwrap_err().construct, "the unknown symbol 1024");
        // Nor does it add to them: what it names `b` is nothing to the block behind it.
        let chain = crafted_chain(&[(&block(&["a"]), None), (&block(&["b"]), Some(POINT)), (&asks(1025), None)]);
        assert_eq!(admit(&chain).unwrap_err().construct, "the unknown symbol 1025");
    }

    #[test]
    fn only_ed25519_keys_are_trusted() {
        let p256 = "02e31fc53f8e35c1a7ae1e34f4b7e9d3c6a3a4e8b5b8f0a4d0f5e2c1b3a4958677";
        let key = schema::PublicKey { algorithm: 1, key: p256.as_bytes()[..33].to_vec() };
        let keyed = schema::Block { public_keys: vec![key], ..block(&[]) };
        assert_eq!(construct(&keyed), "a trusted key that is no Ed25519 key");
    }

    #[test]
    fn names_are_what_the_syntax_can_write() {
        for name in ["", "a b", "a\") or true", "é", "a\u{202e}", "a.b"] {
            let stated = schema::Block { facts: vec![fact(OWN, vec![truth_term()])], ..block(&[name]) };
            assert!(construct(&stated).starts_with("the name \""), "{name}");
        }
        let variable = block_with(query(vec![predicate(TIME, vec![term(Content::Variable(1024))])], vec![]));
        let named = |name: &str| schema::Block { symbols: vec![name.to_owned()], ..variable.clone() };
        assert!(admit(&crafted(&named("0"))).is_ok());
        assert_eq!(construct(&named("a b")), "the name \"a b\"");
    }

    fn truth_term() -> schema::Term {
        term(Content::Bool(true))
    }

    #[test]
    fn sets_hold_plain_values_of_one_type() {
        let set = |members: Vec<Content>| {
            let set = Content::Set(schema::TermSet { set: members.into_iter().map(term).collect() });
            schema::Block { facts: vec![fact(OWN, vec![term(set)])], ..block(&["a"]) }
        };
        let inner = Content::Set(schema::TermSet { set: Vec::new() });
        assert_eq!(construct(&set(vec![inner])), "a set of sets or variables");
        assert_eq!(construct(&set(vec![Content::Variable(1024)])), "a set of sets or variables");
        assert_eq!(construct(&set(vec![Content::Integer(1), Content::Bool(true)])), "a set of several types");
        let program =
            admit(&crafted(&set(vec![Content::Integer(2), Content::Integer(1), Content::Integer(2)]))).unwrap();
        let sorted = Value::Set([Value::Integer(1), Value::Integer(2)].into());
        assert_eq!(program.blocks[0].facts[0].values[0], sorted);
    }

    #[test]
    fn client_in_takes_a_literal_canonical_block() {
        assert!(admitted("check if client_in(\"10.0.0.0/8\") or client_in(\"2001:db8::/32\");"));
        for check in [
            "client_in($net)",
            "client_in(\"10.1.2.3/8\")",
            "client_in(\"ten\")",
            "client_in(10)",
            "client_in(\"a\", \"b\")",
        ] {
            assert_eq!(refused(&format!("check if {check};")).construct, "`client_in` of something else", "{check}");
        }
    }

    #[test]
    fn what_a_version_does_not_have_is_refused() {
        let versioned =
            |version| schema::Block { version: Some(version), ..block_with(query(vec![], vec![vec![truth(true)]])) };
        for version in [0, 2, 7, u32::MAX] {
            assert_eq!(construct(&versioned(version)), "something that biscuit refuses", "{version}");
        }
        let mut all = versioned(3);
        assert!(admit(&crafted(&all)).is_ok());
        all.checks[0].kind = Some(CHECK_ALL);
        assert_eq!(construct(&all), "something that biscuit refuses");
        let chain = crafted_chain(&[(&block(&[]), None), (&versioned(4), Some(POINT))]);
        assert_eq!(admit(&chain).unwrap_err().construct, "something that biscuit refuses");
    }

    #[test]
    fn a_variable_is_known_by_its_name_not_its_number() {
        // Two symbols of one text: the library translates numbers to texts, so they are one variable.
        let terms = vec![term(Content::Variable(1024))];
        let ops =
            vec![value(Content::Variable(1025)), value(Content::Date(0)), binary(op_binary::Kind::GreaterThan as i32)];
        let block = schema::Block {
            symbols: vec!["t".to_owned(), "t".to_owned()],
            ..block_with(query(vec![predicate(TIME, terms)], vec![ops]))
        };
        let plan = Plan::compile(admit(&crafted(&block)).unwrap());
        assert_eq!(plan.evaluate(&message(), &[]), Verdict::Passed);
        assert_eq!(QUERY, 27);
    }
}

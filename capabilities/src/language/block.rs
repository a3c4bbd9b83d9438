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
use crate::statement::{Statement, is_stated_name};

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
    let mut program = Program { blocks, content_bytes: content.get(), statement: None };
    program.statement = Statement::of_program(&program)?;
    Ok(program)
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
        let is_statement = self.third_party && is_stated_name(&name);
        if is_reserved_name(&name) && !is_right && !is_statement {
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
mod tests;

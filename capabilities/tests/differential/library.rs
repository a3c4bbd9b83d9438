//! The model's tokens as the library builds them, and the library's judgement.

use std::time::Duration;

use biscuit_auth::builder::{self, BlockBuilder, CheckKind, Op, Policy};
use biscuit_auth::error::{FailedCheck, Logic, Token as TokenError};
use biscuit_auth::{AuthorizerBuilder, AuthorizerLimits, Biscuit, KeyPair};

use crate::model::{Ambient, Atom, Binary, Block, Check, Expression, Query, Scope, Term, Token, Value};

/// How many third parties there are. The last one signs no block, but may be trusted.
pub(crate) const THIRD_PARTIES: usize = 3;

/// The keys, made once: they have no part in what is tested.
pub(crate) struct Keys {
    pub(crate) root: KeyPair,
    pub(crate) third_parties: Vec<KeyPair>,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { root: KeyPair::new(), third_parties: (0..THIRD_PARTIES).map(|_| KeyPair::new()).collect() }
    }

    /// Builds and signs a token, and parses it again: a token in memory numbers its keys otherwise than one that was parsed.
    pub(crate) fn token(&self, token: &Token) -> Vec<u8> {
        let mut blocks = token.blocks.iter();
        let authority = self.block(blocks.next().unwrap());
        let mut builder = Biscuit::builder();
        builder = builder.merge(authority.clone());
        for scope in authority.scopes {
            builder = builder.scope(scope);
        }
        let mut bytes = builder.build(&self.root).unwrap().to_vec().unwrap();
        for block in blocks {
            let biscuit = Biscuit::from(&bytes, self.root.public()).unwrap();
            let builder = self.block(block);
            let longer = match block.signer {
                None => biscuit.append(builder),
                Some(signer) => {
                    let key = &self.third_parties[signer];
                    let request = biscuit.third_party_request().unwrap();
                    biscuit.append_third_party(key.public(), request.create_block(&key.private(), builder).unwrap())
                }
            };
            bytes = longer.unwrap().to_vec().unwrap();
        }
        bytes
    }

    fn block(&self, block: &Block) -> BlockBuilder {
        let mut builder = BlockBuilder::new();
        for (name, values) in &block.facts {
            builder = builder.fact(fact(name, values)).unwrap();
        }
        for check in &block.checks {
            builder = builder.check(self.check(check)).unwrap();
        }
        for scope in &block.scopes {
            builder = builder.scope(self.scope(*scope));
        }
        builder
    }

    fn check(&self, check: &Check) -> builder::Check {
        let kind = if check.all { CheckKind::All } else { CheckKind::One };
        builder::Check { queries: check.queries.iter().map(|query| self.query(query)).collect(), kind }
    }

    fn query(&self, query: &Query) -> builder::Rule {
        builder::Rule::new(
            builder::Predicate::new("query".to_owned(), Vec::new()),
            query.body.iter().map(atom).collect(),
            query.expressions.iter().map(|expression| builder::Expression { ops: ops(expression) }).collect(),
            query.scopes.iter().map(|scope| self.scope(*scope)).collect(),
        )
    }

    fn scope(&self, scope: Scope) -> builder::Scope {
        match scope {
            Scope::Authority => builder::Scope::Authority,
            Scope::Previous => builder::Scope::Previous,
            Scope::Key(key) => builder::Scope::PublicKey(self.third_parties[key].public()),
        }
    }
}

/// What the library says of one evaluation.
#[derive(Debug, PartialEq)]
pub(crate) enum Judgement {
    /// Whether a right is held, and which checks fail, by block and number.
    Decided {
        right: bool,
        failed: Vec<(usize, usize)>,
    },
    Aborted,
}

/// The library's authorizer over these facts, with Postern's policy, without its limits.
pub(crate) fn judge(token: &Biscuit, ambient: &Ambient) -> Judgement {
    let limits =
        AuthorizerLimits { max_facts: 1_000_000, max_iterations: 1000, max_time: Duration::from_secs(24 * 60 * 60) };
    let policy = "allow if right($r, $o), resource($r), operation($o) or right($r, \"*\"), resource($r)";
    let policy: Policy = policy.try_into().unwrap();
    let mut authorizer = AuthorizerBuilder::new().set_limits(limits).policy(policy).unwrap();
    for (name, values) in ambient {
        authorizer = authorizer.fact(fact(name, values)).unwrap();
    }
    let (right, checks) = match authorizer.build(token).unwrap().authorize() {
        Ok(_) => (true, Vec::new()),
        Err(TokenError::FailedLogic(Logic::Unauthorized { checks, .. })) => (true, checks),
        Err(TokenError::FailedLogic(Logic::NoMatchingPolicy { checks })) => (false, checks),
        Err(TokenError::Execution(_)) => return Judgement::Aborted,
        Err(other) => panic!("the library neither decides nor aborts: {other}"),
    };
    let failed = checks.iter().map(|check| match check {
        FailedCheck::Block(check) => (check.block_id as usize, check.check_id as usize),
        FailedCheck::Authorizer(_) => panic!("the authorizer has no checks"),
    });
    Judgement::Decided { right, failed: failed.collect() }
}

fn fact(name: &str, values: &[Value]) -> builder::Fact {
    builder::Fact::new(name.to_owned(), values.iter().map(value).collect::<Vec<_>>())
}

fn atom(atom: &Atom) -> builder::Predicate {
    builder::Predicate::new(atom.name.clone(), atom.terms.iter().map(term).collect::<Vec<_>>())
}

fn term(term: &Term) -> builder::Term {
    match term {
        Term::Variable(name) => builder::Term::Variable((*name).to_owned()),
        Term::Value(it) => value(it),
    }
}

fn value(value: &Value) -> builder::Term {
    match value {
        Value::Integer(integer) => builder::Term::Integer(*integer),
        Value::Text(text) => builder::Term::Str(text.clone()),
        Value::Date(date) => builder::Term::Date(*date),
        Value::Bytes(bytes) => builder::Term::Bytes(bytes.clone()),
        Value::Bool(truth) => builder::Term::Bool(*truth),
        Value::Set(set) => builder::Term::Set(set.iter().map(self::value).collect()),
    }
}

fn ops(expression: &Expression) -> Vec<Op> {
    let mut ops = Vec::new();
    push(expression, &mut ops);
    ops
}

fn push(expression: &Expression, ops: &mut Vec<Op>) {
    match expression {
        Expression::Term(it) => ops.push(Op::Value(term(it))),
        Expression::Not(inner) => {
            push(inner, ops);
            ops.push(Op::Unary(builder::Unary::Negate));
        }
        Expression::Length(inner) => {
            push(inner, ops);
            ops.push(Op::Unary(builder::Unary::Length));
        }
        Expression::Parens(inner) => {
            push(inner, ops);
            ops.push(Op::Unary(builder::Unary::Parens));
        }
        Expression::Binary(operator, left, right) => {
            push(left, ops);
            push(right, ops);
            ops.push(Op::Binary(binary(*operator)));
        }
        Expression::Lazy(and, first, second, swapped) => {
            let closure = Op::Closure(Vec::new(), self::ops(second));
            if *swapped {
                ops.push(closure);
                push(first, ops);
            } else {
                push(first, ops);
                ops.push(closure);
            }
            ops.push(Op::Binary(if *and { builder::Binary::LazyAnd } else { builder::Binary::LazyOr }));
        }
    }
}

fn binary(operator: Binary) -> builder::Binary {
    match operator {
        Binary::Less => builder::Binary::LessThan,
        Binary::Greater => builder::Binary::GreaterThan,
        Binary::LessOrEqual => builder::Binary::LessOrEqual,
        Binary::GreaterOrEqual => builder::Binary::GreaterOrEqual,
        Binary::Equal => builder::Binary::Equal,
        Binary::NotEqual => builder::Binary::NotEqual,
        Binary::Lenient => builder::Binary::HeterogeneousEqual,
        Binary::NotLenient => builder::Binary::HeterogeneousNotEqual,
        Binary::Contains => builder::Binary::Contains,
        Binary::Prefix => builder::Binary::Prefix,
        Binary::Suffix => builder::Binary::Suffix,
        Binary::Add => builder::Binary::Add,
        Binary::Sub => builder::Binary::Sub,
        Binary::Mul => builder::Binary::Mul,
        Binary::Div => builder::Binary::Div,
        Binary::And => builder::Binary::And,
        Binary::Or => builder::Binary::Or,
        Binary::Intersection => builder::Binary::Intersection,
        Binary::Union => builder::Binary::Union,
        Binary::BitAnd => builder::Binary::BitwiseAnd,
        Binary::BitOr => builder::Binary::BitwiseOr,
        Binary::BitXor => builder::Binary::BitwiseXor,
    }
}

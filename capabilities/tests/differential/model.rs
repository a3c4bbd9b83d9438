//! The language once more, as plainly as it can be written: a tree, a walk over it, and every binding tried.
//!
//! This is the judge between the plan and the library. It shares no code with either, is slow, and knows what the library
//! cannot say: whether any binding of an alternative that is tried errs.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Integer(i64),
    Text(String),
    Date(u64),
    Bytes(Vec<u8>),
    Bool(bool),
    Set(BTreeSet<Value>),
}

#[derive(Debug, Clone)]
pub(crate) enum Term {
    Variable(&'static str),
    Value(Value),
}

#[derive(Debug, Clone)]
pub(crate) struct Atom {
    pub(crate) name: String,
    pub(crate) terms: Vec<Term>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Binary {
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Lenient,
    NotLenient,
    Contains,
    Prefix,
    Suffix,
    Add,
    Sub,
    Mul,
    Div,
    And,
    Or,
    Intersection,
    Union,
    BitAnd,
    BitOr,
    BitXor,
}

#[derive(Debug, Clone)]
pub(crate) enum Expression {
    Term(Term),
    Not(Box<Expression>),
    Length(Box<Expression>),
    Parens(Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
    /// `and`, the first operand, the second, and whether the closure is written on the left.
    Lazy(bool, Box<Expression>, Box<Expression>, bool),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scope {
    Authority,
    Previous,
    /// One of the third parties, by number; the last one signs nothing.
    Key(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) body: Vec<Atom>,
    pub(crate) expressions: Vec<Expression>,
    pub(crate) scopes: Vec<Scope>,
}

#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) all: bool,
    pub(crate) queries: Vec<Query>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    pub(crate) signer: Option<usize>,
    pub(crate) facts: Vec<(String, Vec<Value>)>,
    pub(crate) checks: Vec<Check>,
    pub(crate) scopes: Vec<Scope>,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) blocks: Vec<Block>,
}

/// The facts of one evaluation: those of a message with at most one item.
pub(crate) type Ambient = Vec<(String, Vec<Value>)>;

/// An expression without a value.
#[derive(Debug, PartialEq)]
pub(crate) struct Errs;

type Binding = BTreeMap<&'static str, Value>;

/// The origins of facts: the blocks, and the gateway.
const GATEWAY: usize = usize::MAX;

impl Token {
    /// Whether one check passes.
    pub(crate) fn check(&self, block: usize, check: &Check, ambient: &Ambient) -> Result<bool, Errs> {
        for query in &check.queries {
            let trusted =
                self.trusted(&query.scopes, || self.trusted(&self.blocks[block].scopes, || [0].into(), block), block);
            let facts: Vec<_> =
                self.facts(ambient).filter(|(origin, _)| trusted.contains(origin)).map(|(_, fact)| fact).collect();
            let mut bindings = vec![Binding::new()];
            for atom in &query.body {
                bindings = bindings
                    .iter()
                    .flat_map(|binding| facts.iter().filter_map(|(name, values)| unify(atom, name, values, binding)))
                    .collect();
            }
            let mut outcomes = Vec::new();
            for binding in &bindings {
                outcomes.push(satisfies(&query.expressions, binding)?);
            }
            let passes = match check.all {
                true => !outcomes.is_empty() && outcomes.iter().all(|outcome| *outcome),
                false => outcomes.contains(&true),
            };
            if passes {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn facts<'t>(&'t self, ambient: &'t Ambient) -> impl Iterator<Item = (usize, &'t (String, Vec<Value>))> {
        let token =
            self.blocks.iter().enumerate().flat_map(|(at, block)| block.facts.iter().map(move |fact| (at, fact)));
        token.chain(ambient.iter().map(|fact| (GATEWAY, fact)))
    }

    fn trusted(&self, scopes: &[Scope], default: impl Fn() -> BTreeSet<usize>, block: usize) -> BTreeSet<usize> {
        let mut trusted = if scopes.is_empty() { default() } else { BTreeSet::new() };
        for scope in scopes {
            match scope {
                Scope::Authority => trusted.extend([0]),
                Scope::Previous => trusted.extend(0..block),
                Scope::Key(key) => {
                    trusted.extend((1..self.blocks.len()).filter(|at| self.blocks[*at].signer == Some(*key)));
                }
            }
        }
        trusted.extend([block, GATEWAY]);
        trusted
    }
}

fn unify(atom: &Atom, name: &str, values: &[Value], binding: &Binding) -> Option<Binding> {
    if atom.name != name || atom.terms.len() != values.len() {
        return None;
    }
    let mut binding = binding.clone();
    for (term, value) in atom.terms.iter().zip(values) {
        let agrees = match term {
            Term::Value(expected) => expected == value,
            Term::Variable(variable) => binding.entry(variable).or_insert_with(|| value.clone()) == value,
        };
        if !agrees {
            return None;
        }
    }
    Some(binding)
}

fn satisfies(expressions: &[Expression], binding: &Binding) -> Result<bool, Errs> {
    for expression in expressions {
        match value(expression, binding)? {
            Value::Bool(true) => {}
            Value::Bool(false) => return Ok(false),
            _ => return Err(Errs),
        }
    }
    Ok(true)
}

fn value(expression: &Expression, binding: &Binding) -> Result<Value, Errs> {
    match expression {
        Expression::Term(Term::Value(value)) => Ok(value.clone()),
        Expression::Term(Term::Variable(variable)) => binding.get(variable).cloned().ok_or(Errs),
        Expression::Parens(inner) => value(inner, binding),
        Expression::Not(inner) => match value(inner, binding)? {
            Value::Bool(truth) => Ok(Value::Bool(!truth)),
            _ => Err(Errs),
        },
        Expression::Length(inner) => Ok(Value::Integer(match value(inner, binding)? {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Set(set) => set.len(),
            _ => return Err(Errs),
        } as i64)),
        Expression::Lazy(and, first, second, _) => match value(first, binding)? {
            Value::Bool(first) if first == *and => value(second, binding),
            Value::Bool(first) => Ok(Value::Bool(first)),
            _ => Err(Errs),
        },
        Expression::Binary(operator, left, right) => apply(*operator, value(left, binding)?, value(right, binding)?),
    }
}

fn apply(operator: Binary, left: Value, right: Value) -> Result<Value, Errs> {
    use Binary as B;
    use Value::{Bool, Date, Integer, Set, Text};
    let same_type = std::mem::discriminant(&left) == std::mem::discriminant(&right);
    Ok(match (operator, left, right) {
        (B::Lenient, left, right) => Bool(left == right),
        (B::NotLenient, left, right) => Bool(left != right),
        (B::Equal, left, right) if same_type => Bool(left == right),
        (B::NotEqual, left, right) if same_type => Bool(left != right),
        (B::Less, Integer(left), Integer(right)) => Bool(left < right),
        (B::Less, Date(left), Date(right)) => Bool(left < right),
        (B::Greater, Integer(left), Integer(right)) => Bool(left > right),
        (B::Greater, Date(left), Date(right)) => Bool(left > right),
        (B::LessOrEqual, Integer(left), Integer(right)) => Bool(left <= right),
        (B::LessOrEqual, Date(left), Date(right)) => Bool(left <= right),
        (B::GreaterOrEqual, Integer(left), Integer(right)) => Bool(left >= right),
        (B::GreaterOrEqual, Date(left), Date(right)) => Bool(left >= right),
        (B::Add, Text(left), Text(right)) => Text(left + &right),
        (B::Add, Integer(left), Integer(right)) => Integer(left.checked_add(right).ok_or(Errs)?),
        (B::Sub, Integer(left), Integer(right)) => Integer(left.checked_sub(right).ok_or(Errs)?),
        (B::Mul, Integer(left), Integer(right)) => Integer(left.checked_mul(right).ok_or(Errs)?),
        (B::Div, Integer(left), Integer(right)) => Integer(left.checked_div(right).ok_or(Errs)?),
        (B::BitAnd, Integer(left), Integer(right)) => Integer(left & right),
        (B::BitOr, Integer(left), Integer(right)) => Integer(left | right),
        (B::BitXor, Integer(left), Integer(right)) => Integer(left ^ right),
        (B::And, Bool(left), Bool(right)) => Bool(left && right),
        (B::Or, Bool(left), Bool(right)) => Bool(left || right),
        (B::Prefix, Text(left), Text(right)) => Bool(left.starts_with(&right)),
        (B::Suffix, Text(left), Text(right)) => Bool(left.ends_with(&right)),
        (B::Contains, Text(left), Text(right)) => Bool(left.contains(&right)),
        (B::Contains, Set(left), Set(right)) => Bool(right.is_subset(&left)),
        (B::Contains, Set(left), right) => Bool(left.contains(&right)),
        (B::Intersection, Set(left), Set(right)) => Set(&left & &right),
        (B::Union, Set(left), Set(right)) => Set(&left | &right),
        _ => return Err(Errs),
    })
}

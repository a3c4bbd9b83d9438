//! Tokens and messages made at random, of few names and few values, so that facts meet predicates and values meet each other.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use postern_capabilities::message::{
    ARGUMENT_NAME_BYTES_MAX, ARGUMENTS_MAX, ArgValue, BodyItem, Message, QUERY_FACTS_MAX, Scheme,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::library::THIRD_PARTIES;
use crate::model::{Ambient, Atom, Binary, Block, Check, Expression, Query, Scope, Term, Token, Value};

const TEXTS: &[&str] = &["", "a", "ab", "b", "orders", "/v1/orders", "/v1", "GET", "POST", "read", "é", "2", "right"];
const DATES: &[u64] = &[0, 1_700_000_000, 1_700_000_001, 1_800_000_000, 253_402_300_799];
const INTEGERS: &[i64] = &[0, 1, 2, 3, 5, -1, -2, 7, i64::MAX, i64::MIN];
const VARIABLES: &[&str] = &["a", "b", "c", "0"];
const BLOCKS_OF_ADDRESSES: &[(&str, &[&str])] = &[
    ("10.0.0.0/8", &["10.1.2.3", "10.2.0.1", "::ffff:10.1.2.3"]),
    ("10.1.0.0/16", &["10.1.2.3", "::ffff:10.1.2.3"]),
    ("0.0.0.0/0", &["10.1.2.3", "10.2.0.1", "192.168.7.1", "::ffff:10.1.2.3"]),
    ("2001:db8::/32", &["2001:db8::1"]),
];
const CLIENTS: &[&str] = &["10.1.2.3", "10.2.0.1", "192.168.7.1", "2001:db8::1", "::ffff:10.1.2.3"];

/// Facts of tokens, with the types of their arguments.
const STATED: &[(&str, &[Type])] = &[
    ("n", &[Type::Integer]),
    ("s", &[Type::Text]),
    ("pair", &[Type::Integer, Type::Text]),
    ("until", &[Type::Date]),
    ("flag", &[Type::Bool]),
    ("key", &[Type::Bytes]),
    ("members", &[Type::Set]),
    ("member", &[Type::Text]),
];

/// Facts of messages.
const SUPPLIED: &[(&str, &[Type])] = &[
    ("resource", &[Type::Text]),
    ("operation", &[Type::Text]),
    ("path", &[Type::Text]),
    ("query_string", &[Type::Text]),
    ("time", &[Type::Date]),
    ("host", &[Type::Text]),
    ("scheme", &[Type::Text]),
    ("client", &[Type::Text]),
    ("client_cert", &[Type::Text]),
    ("upgrade", &[Type::Text]),
    ("query", &[Type::Text, Type::Text]),
    ("body_size", &[Type::Integer]),
    ("rpc", &[Type::Text]),
    ("tool", &[Type::Text]),
    ("arg", &[Type::Text, Type::Text]),
    ("grpc", &[Type::Text, Type::Text]),
    ("backend", &[Type::Text]),
    ("right", &[Type::Text, Type::Text]),
    ("postern_later", &[Type::Text]),
];

/// Whether a text begins with one of the blocks of addresses that messages here are about.
pub(crate) fn knows_addresses(text: &str) -> bool {
    BLOCKS_OF_ADDRESSES.iter().any(|(block, _)| text.strip_prefix(block).is_some_and(|rest| rest.starts_with('"')))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Type {
    Integer,
    Text,
    Date,
    Bytes,
    Bool,
    Set,
}

const TYPES: &[Type] = &[Type::Integer, Type::Text, Type::Date, Type::Bytes, Type::Bool, Type::Set];

fn pick<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    *of.choose(rng).unwrap()
}

pub(crate) fn token(rng: &mut StdRng) -> Token {
    let appended = pick(rng, &[0, 0, 1, 1, 2, 3, 5]);
    let blocks = (0..=appended).map(|at| block(rng, at)).collect();
    Token { blocks }
}

fn block(rng: &mut StdRng, at: usize) -> Block {
    let signer = (at > 0 && rng.gen_bool(0.5)).then(|| rng.gen_range(0..THIRD_PARTIES - 1));
    let stated = if at == 0 || signer.is_some() { rng.gen_range(0..6) } else { 0 };
    let mut facts: Vec<_> = (0..stated).map(|_| fact(rng)).collect();
    if at == 0 {
        let rights = rng.gen_range(0..3);
        let right = |rng: &mut StdRng| {
            let operation = pick(rng, &["GET", "POST", "*"]);
            ("right".to_owned(), vec![text(pick(rng, &["orders", "a"])), text(operation)])
        };
        facts.extend((0..rights).map(|_| right(rng)));
    }
    // The order of facts must not matter, equal ones must not either.
    facts.shuffle(rng);
    let checks = (0..pick(rng, &[0, 1, 1, 2, 3])).map(|_| check(rng)).collect();
    let scopes = if rng.gen_bool(0.2) { scopes(rng) } else { Vec::new() };
    Block { signer, facts, checks, scopes }
}

fn fact(rng: &mut StdRng) -> (String, Vec<Value>) {
    // Half of them of the two plainest names, so that predicates find several.
    let (name, types) = if rng.gen_bool(0.5) { pick(rng, &STATED[..2]) } else { pick(rng, STATED) };
    let values = types.iter().map(|kind| {
        let kind = if rng.gen_bool(0.05) { pick(rng, TYPES) } else { *kind };
        value(rng, kind)
    });
    (name.to_owned(), values.collect())
}

fn scopes(rng: &mut StdRng) -> Vec<Scope> {
    let scope = |rng: &mut StdRng| match rng.gen_range(0..5) {
        0 => Scope::Authority,
        1 => Scope::Previous,
        _ => Scope::Key(rng.gen_range(0..THIRD_PARTIES)),
    };
    (0..pick(rng, &[1, 1, 2])).map(|_| scope(rng)).collect()
}

fn check(rng: &mut StdRng) -> Check {
    let queries = (0..pick(rng, &[1, 1, 1, 2, 3])).map(|_| query(rng)).collect();
    Check { all: rng.gen_bool(0.3), queries }
}

fn query(rng: &mut StdRng) -> Query {
    if rng.gen_bool(0.15) {
        return delicate(rng);
    }
    let mut bound = Vec::new();
    let body: Vec<_> = (0..pick(rng, &[0, 1, 1, 1, 2, 2, 3])).map(|_| atom(rng, &mut bound)).collect();
    let least = usize::from(body.is_empty());
    let count = rng.gen_range(least..3.max(least + 1));
    let expressions = (0..count).map(|_| expression(rng, Type::Bool, &bound, 3)).collect();
    let scopes = if rng.gen_bool(0.4) { scopes(rng) } else { Vec::new() };
    Query { body, expressions, scopes }
}

/// A query that some bindings satisfy while others err: what the library answers then depends on the order of its facts.
fn delicate(rng: &mut StdRng) -> Query {
    let variable = || Box::new(Expression::Term(Term::Variable("a")));
    let number = |number| Box::new(Expression::Term(Term::Value(Value::Integer(number))));
    let (name, part) = match rng.gen_range(0..3) {
        0 => ("n", Expression::Binary(Binary::Div, number(10), variable())),
        1 => ("n", Expression::Binary(Binary::Add, number(pick(rng, &[i64::MAX, i64::MIN])), variable())),
        _ => ("s", Expression::Length(variable())),
    };
    let operator = pick(rng, &[Binary::Less, Binary::Greater, Binary::Equal]);
    let condition = Expression::Binary(operator, Box::new(part), number(pick(rng, &[0, 1, 5])));
    let body = vec![Atom { name: name.to_owned(), terms: vec![Term::Variable("a")] }];
    Query { body, expressions: vec![condition], scopes: if rng.gen_bool(0.3) { scopes(rng) } else { Vec::new() } }
}

type Bound = Vec<(&'static str, Type)>;

fn atom(rng: &mut StdRng, bound: &mut Bound) -> Atom {
    if rng.gen_bool(0.06) {
        let (block, _) = pick(rng, BLOCKS_OF_ADDRESSES);
        return Atom { name: "client_in".to_owned(), terms: vec![Term::Value(text(block))] };
    }
    let (name, types) = if rng.gen_bool(0.5) { pick(rng, STATED) } else { pick(rng, SUPPLIED) };
    let mut terms: Vec<Term> = Vec::new();
    for kind in types {
        terms.push(if rng.gen_bool(0.65) {
            let variable = pick(rng, VARIABLES);
            bound.push((variable, *kind));
            Term::Variable(variable)
        } else {
            let kind = if rng.gen_bool(0.05) { pick(rng, TYPES) } else { *kind };
            Term::Value(value(rng, kind))
        });
    }
    // Another arity is another fact.
    if rng.gen_bool(0.02) {
        terms.push(Term::Value(value(rng, Type::Integer)));
    }
    Atom { name: name.to_owned(), terms }
}

fn expression(rng: &mut StdRng, kind: Type, bound: &Bound, depth: usize) -> Expression {
    // Now and then something of another type, so that operators meet what they do not take.
    let kind = if rng.gen_bool(0.03) { pick(rng, TYPES) } else { kind };
    if depth == 0 || rng.gen_bool(0.25) {
        return Expression::Term(leaf(rng, kind, bound));
    }
    let sub = |rng: &mut StdRng, kind| Box::new(expression(rng, kind, bound, depth - 1));
    if rng.gen_bool(0.1) {
        return Expression::Parens(sub(rng, kind));
    }
    match kind {
        Type::Bool => condition(rng, bound, depth),
        Type::Integer if rng.gen_bool(0.3) => {
            let kind = pick(rng, &[Type::Text, Type::Bytes, Type::Set]);
            Expression::Length(sub(rng, kind))
        }
        Type::Integer => {
            use Binary::{Add, BitAnd, BitOr, BitXor, Div, Mul, Sub};
            let operator = pick(rng, &[Add, Sub, Mul, Div, BitAnd, BitOr, BitXor]);
            Expression::Binary(operator, sub(rng, Type::Integer), sub(rng, Type::Integer))
        }
        Type::Text => Expression::Binary(Binary::Add, sub(rng, Type::Text), sub(rng, Type::Text)),
        Type::Set => {
            let operator = pick(rng, &[Binary::Union, Binary::Intersection]);
            Expression::Binary(operator, sub(rng, Type::Set), sub(rng, Type::Set))
        }
        Type::Date | Type::Bytes => Expression::Term(leaf(rng, kind, bound)),
    }
}

fn condition(rng: &mut StdRng, bound: &Bound, depth: usize) -> Expression {
    use Binary::{And, Contains, Equal, Greater, GreaterOrEqual, Lenient, Less, LessOrEqual, NotEqual, NotLenient};
    let sub = |rng: &mut StdRng, kind| Box::new(expression(rng, kind, bound, depth - 1));
    match rng.gen_range(0..10) {
        0 => Expression::Not(sub(rng, Type::Bool)),
        1 | 2 => {
            let (and, swapped) = (rng.gen_bool(0.5), rng.gen_bool(0.2));
            Expression::Lazy(and, sub(rng, Type::Bool), sub(rng, Type::Bool), swapped)
        }
        3 => {
            let operator = pick(rng, &[And, Binary::Or]);
            Expression::Binary(operator, sub(rng, Type::Bool), sub(rng, Type::Bool))
        }
        4 => {
            let (set, member) = (sub(rng, Type::Set), pick(rng, TYPES));
            Expression::Binary(Contains, set, sub(rng, member))
        }
        5 => {
            let operator = pick(rng, &[Contains, Binary::Prefix, Binary::Suffix]);
            Expression::Binary(operator, sub(rng, Type::Text), sub(rng, Type::Text))
        }
        6 | 7 => {
            let operator = pick(rng, &[Less, Greater, LessOrEqual, GreaterOrEqual]);
            let kind = pick(rng, &[Type::Integer, Type::Date]);
            Expression::Binary(operator, sub(rng, kind), sub(rng, kind))
        }
        8 => {
            let kind = pick(rng, TYPES);
            Expression::Binary(pick(rng, &[Equal, NotEqual]), sub(rng, kind), sub(rng, kind))
        }
        _ => {
            let (left, right) = (pick(rng, TYPES), pick(rng, TYPES));
            let right = if rng.gen_bool(0.8) { left } else { right };
            Expression::Binary(pick(rng, &[Lenient, NotLenient]), sub(rng, left), sub(rng, right))
        }
    }
}

fn leaf(rng: &mut StdRng, kind: Type, bound: &Bound) -> Term {
    let fitting: Vec<_> = bound.iter().filter(|(_, bound)| *bound == kind).collect();
    match fitting.choose(rng) {
        Some((variable, _)) if rng.gen_bool(0.7) => Term::Variable(variable),
        _ => Term::Value(value(rng, kind)),
    }
}

fn value(rng: &mut StdRng, kind: Type) -> Value {
    match kind {
        Type::Integer => {
            let likely = if rng.gen_bool(0.9) { &INTEGERS[..8] } else { INTEGERS };
            Value::Integer(pick(rng, likely))
        }
        Type::Text => text(pick(rng, TEXTS)),
        Type::Date => Value::Date(pick(rng, DATES)),
        Type::Bytes => Value::Bytes(pick(rng, &[&b""[..], b"\0", b"\0\xff"]).to_vec()),
        Type::Bool => Value::Bool(rng.gen_bool(0.5)),
        Type::Set => {
            let kind = pick(rng, &[Type::Integer, Type::Text, Type::Text, Type::Date, Type::Bytes, Type::Bool]);
            Value::Set((0..rng.gen_range(0..4)).map(|_| value(rng, kind)).collect::<BTreeSet<_>>())
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// A message that owns its texts.
#[derive(Debug)]
pub(crate) struct Owned {
    resource: &'static str,
    operation: &'static str,
    path: &'static str,
    query: Vec<(&'static str, &'static str)>,
    query_string: String,
    time: u64,
    host: &'static str,
    https: bool,
    client: &'static str,
    client_cert: Option<&'static str>,
    upgrade: Option<&'static str>,
    body_size: Option<u64>,
    grpc: Option<(&'static str, &'static str)>,
    items: Vec<BodyItem>,
    backend: Option<&'static str>,
}

/// A message that makes every operator work as hard as any message can.
pub(crate) fn maximal(text: &'static str, parameter: &'static str) -> Owned {
    let item = BodyItem {
        rpc: text.to_owned(),
        tool: Some(text.to_owned()),
        args: vec![(text[..ARGUMENT_NAME_BYTES_MAX].to_owned(), ArgValue::Text(text.to_owned())); ARGUMENTS_MAX],
        unstated: None,
    };
    Owned {
        resource: text,
        // Another method has no calls, whose texts are as long.
        operation: "POST",
        path: text,
        query: vec![(parameter, parameter); QUERY_FACTS_MAX],
        query_string: text.to_owned(),
        time: DATES[1],
        host: text,
        https: true,
        client: CLIENTS[0],
        client_cert: Some(text),
        upgrade: Some(text),
        body_size: Some(u64::MAX),
        grpc: Some((text, text)),
        items: vec![item],
        backend: Some(text),
    }
}

pub(crate) fn message(rng: &mut StdRng) -> Owned {
    let some_text = |rng: &mut StdRng| rng.gen_bool(0.5).then(|| pick(rng, TEXTS));
    let query: Vec<_> = (0..pick(rng, &[0, 0, 1, 2, 4]))
        .map(|_| (pick(rng, &["a", "ab", "page", "2"]), pick(rng, &["", "a", "2", "b"])))
        .collect();
    let parts: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let grpc = rng.gen_bool(0.3).then(|| (pick(rng, TEXTS), pick(rng, TEXTS)));
    let items = (0..pick(rng, &[0, 0, 1, 2])).map(|_| item(rng)).collect();
    Owned {
        resource: pick(rng, &["orders", "a", "b"]),
        operation: pick(rng, &["GET", "POST"]),
        path: pick(rng, TEXTS),
        query_string: parts.join("&"),
        query,
        time: pick(rng, DATES),
        host: pick(rng, TEXTS),
        https: rng.gen_bool(0.5),
        client: pick(rng, CLIENTS),
        client_cert: some_text(rng),
        upgrade: some_text(rng),
        body_size: rng.gen_bool(0.5).then(|| pick(rng, &[0, 1, 5, u64::MAX])),
        grpc,
        items,
        backend: some_text(rng),
    }
}

fn item(rng: &mut StdRng) -> BodyItem {
    let argument = |rng: &mut StdRng| match rng.gen_range(0..4) {
        0 => ArgValue::Integer(pick(rng, INTEGERS)),
        1 => ArgValue::Bool(rng.gen_bool(0.5)),
        _ => ArgValue::Text(pick(rng, TEXTS).to_owned()),
    };
    BodyItem {
        rpc: pick(rng, TEXTS).to_owned(),
        tool: rng.gen_bool(0.5).then(|| pick(rng, TEXTS).to_owned()),
        args: (0..rng.gen_range(0..3)).map(|_| (pick(rng, TEXTS).to_owned(), argument(rng))).collect(),
        unstated: None,
    }
}

impl Owned {
    pub(crate) fn message(&self) -> Message<'_> {
        let client: IpAddr = self.client.parse().unwrap();
        Message {
            query_string: &self.query_string,
            host: self.host,
            scheme: if self.https { Scheme::Https } else { Scheme::Http },
            client_cert: self.client_cert,
            upgrade: self.upgrade,
            body_size: self.body_size,
            grpc: self.grpc,
            items: &self.items,
            backend: self.backend,
            ..Message::new(self.resource, self.operation, self.path, self.time, client)
        }
    }

    pub(crate) fn query(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        self.query.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
    }

    pub(crate) fn holds(&self, resource: &str, operation: &str) -> bool {
        self.resource == resource && (operation == "*" || self.operation == operation)
    }

    /// The facts of each evaluation, as the table in the design says.
    pub(crate) fn ambients(&self) -> Vec<Ambient> {
        let items: Vec<_> = self.items.iter().filter(|_| self.operation == "POST").map(Some).collect();
        let items = if items.is_empty() { vec![None] } else { items };
        items.into_iter().map(|item| self.ambient(item)).collect()
    }

    fn ambient(&self, item: Option<&BodyItem>) -> Ambient {
        let mut facts: Ambient = Vec::new();
        let mut add = |name: &str, values: Vec<Value>| facts.push((name.to_owned(), values));
        add("resource", vec![text(self.resource)]);
        add("operation", vec![text(self.operation)]);
        add("path", vec![text(self.path)]);
        add("query_string", vec![text(&self.query_string)]);
        add("time", vec![Value::Date(self.time)]);
        add("host", vec![text(self.host)]);
        add("scheme", vec![text(if self.https { "https" } else { "http" })]);
        add("client", vec![text(self.client.trim_start_matches("::ffff:"))]);
        for (block, clients) in BLOCKS_OF_ADDRESSES {
            if clients.contains(&self.client) {
                add("client_in", vec![text(block)]);
            }
        }
        for (name, value) in [
            ("client_cert", self.client_cert),
            ("upgrade", Some(self.upgrade.unwrap_or_default())),
            ("backend", self.backend),
        ] {
            if let Some(value) = value {
                add(name, vec![text(value)]);
            }
        }
        for (name, value) in &self.query {
            add("query", vec![text(name), text(value)]);
        }
        if let Some(size) = self.body_size {
            add("body_size", vec![Value::Integer(i64::try_from(size).unwrap_or(i64::MAX))]);
        }
        if let Some((service, method)) = self.grpc {
            add("grpc", vec![text(service), text(method)]);
        }
        if let Some(item) = item {
            add("rpc", vec![text(&item.rpc)]);
            if let Some(tool) = &item.tool {
                add("tool", vec![text(tool)]);
            }
            for (name, value) in &item.args {
                let value = match value {
                    ArgValue::Text(value) => text(value),
                    ArgValue::Integer(integer) => Value::Integer(*integer),
                    ArgValue::Bool(truth) => Value::Bool(*truth),
                };
                add("arg", vec![text(name), value]);
            }
        }
        facts
    }
}

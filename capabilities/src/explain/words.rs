//! A caveat in words, and what of a message it stops: for whoever is refused and does not read Datalog.
//!
//! [`caveat_of`] finds the caveat that a check was made from, where the check has exactly the shape that one of the
//! command line's flags gives it (the table in [`crate::caveat`]); [`clause`] says what such a caveat allows and what the
//! message asks for instead. For any other check there are no words, and its text speaks for itself. Nothing is decided
//! here: the words are about a check that has failed already.
//!
//! A message's values are repeated to its own sender alone, and only where none of them is long enough to hide a token.

use crate::caveat::{Caveat, Cidr, MCP_HOUSEKEEPING, PathPattern, printed_time};
use crate::language::{Binary, Check, Kind, Op, Query, Term, Value, excerpt, quoted};
use crate::message::{ArgValue, Message, grpc_path};
use crate::resource::Operation;

/// A longer piece of a message is not repeated: it could be a token that its sender put into the wrong place.
const PIECE_BYTES_MAX: usize = 48;

/// Most bytes of what is repeated of a message.
const REPEATED_BYTES_MAX: usize = 120;

/// What a failed check allows and what the message asks for: `block 1 allows only the path /a; this message asks for /b`.
/// `None` where the check is of no shape that has words.
pub(crate) fn clause(check: &Check, block: usize, message: &Message<'_>) -> Option<String> {
    let caveat = caveat_of(check)?;
    let who = match block {
        0 => "the authority block".to_owned(),
        block => format!("block {block}"),
    };
    Some(format!("{who} {}; {}", excerpt(allows(&caveat)), asks(&caveat, message)))
}

/// What a caveat lets pass, as the rest of a sentence about its block.
fn allows(caveat: &Caveat) -> String {
    match caveat {
        Caveat::Expires(time) => format!("allows messages only until {}", printed_time(*time)),
        Caveat::NotBefore(time) => format!("allows messages only from {} on", printed_time(*time)),
        Caveat::NoUpgrade => "allows no switch to another protocol, such as WebSocket".to_owned(),
        Caveat::MaxBody(bytes) => format!("allows bodies of at most {bytes} bytes"),
        // `only GET`, `only the path /a`, `only the tool "x" …`
        Caveat::Method(_) | Caveat::Path(_) | Caveat::Rpc(_) | Caveat::Tool(_) | Caveat::Grpc(_) => {
            format!("allows {caveat}")
        }
        // `only with …`, `only from …`, `only on …`
        Caveat::Query { .. }
        | Caveat::QueryString(_)
        | Caveat::Host(_)
        | Caveat::Client(_)
        | Caveat::ClientCert(_)
        | Caveat::Arg { .. } => {
            format!("allows messages {caveat}")
        }
        Caveat::Check(text) => format!("holds {}", quoted(text)),
    }
}

/// What the message is like instead.
fn asks(caveat: &Caveat, message: &Message<'_>) -> String {
    let shown = |text: &str| (!text.is_empty() && is_short(text)).then(|| text.to_owned());
    let or = |said: Option<String>, otherwise: &str| said.unwrap_or_else(|| otherwise.to_owned());
    match caveat {
        Caveat::Expires(_) | Caveat::NotBefore(_) => format!("it is {} now", printed_time(message.time)),
        Caveat::Method(_) => {
            or(shown(message.operation).map(|it| format!("this message is a {it}")), "this message has another method")
        }
        Caveat::Path(_) => or(
            shown(message.path).map(|it| format!("this message asks for {it}")),
            "this message asks for another path",
        ),
        Caveat::QueryString(_) => "this message has another one".to_owned(),
        Caveat::Query { .. } => "this message's query does not have it, or has another value as well".to_owned(),
        Caveat::Host(_) => {
            or(shown(message.host).map(|it| format!("this message is for {it}")), "this message is for another host")
        }
        Caveat::Client(_) => format!("this message comes from {}", message.client.to_canonical()),
        Caveat::ClientCert(_) if message.client_cert.is_none() => {
            "this message comes without a client certificate".to_owned()
        }
        Caveat::ClientCert(_) => "this message comes with another one".to_owned(),
        Caveat::NoUpgrade => {
            let to = message.upgrade.and_then(shown);
            or(to.map(|it| format!("this message would switch to {it}")), "this message would switch")
        }
        Caveat::MaxBody(_) => {
            or(message.body_size.map(|bytes| format!("this one has {bytes}")), "this one has no declared length")
        }
        Caveat::Tool(_) if !message.can_call() => format!(
            "{}, and a token narrowed to a tool only posts: it can neither open the server's own stream (GET) nor end a session \
             (DELETE)",
            or(shown(message.operation).map(|it| format!("this message is a {it}")), "this message is no POST")
        ),
        Caveat::Rpc(_) | Caveat::Arg { .. } if !message.can_call() => format!(
            "{}, and only a POST makes a JSON-RPC call",
            or(shown(message.operation).map(|it| format!("this message is a {it}")), "this message is no POST")
        ),
        Caveat::Rpc(_) | Caveat::Tool(_) | Caveat::Arg { .. } => match message.calls() {
            [] => "this message has no such body".to_owned(),
            [item] => {
                let tool = item.tool.as_deref().and_then(shown).map(|tool| format!("the tool {}", quoted(&tool)));
                let called = tool.or_else(|| shown(&item.rpc).map(|rpc| format!("the method {}", quoted(&rpc))));
                or(called.map(|it| format!("this message calls {it}")), "this message is another call")
            }
            _ => "not every call of this message's batch complies".to_owned(),
        },
        Caveat::Grpc(_) => match message.grpc {
            None if message.can_call() && grpc_path(message.path).is_none() => format!(
                "this message is no gRPC call, which is for a path like /package.Service/Method: {}. A resource for gRPC is \
                 mounted at `prefix = \"/\"` with a host of its own, or keeps a prefix that is the service's name \
                 (`keep_prefix = true`)",
                or(
                    shown(message.path).map(|it| format!("below this resource the path is {it}")),
                    "the path below this resource is none"
                )
            ),
            None => "this message is no gRPC call, which is a POST of `application/grpc`".to_owned(),
            Some((service, method)) => or(
                shown(&format!("{service}/{method}")).map(|it| format!("this message calls {it}")),
                "this message calls another one",
            ),
        },
        Caveat::Check(_) => "this message does not comply".to_owned(),
    }
}

/// Whether a text can be repeated: what separates its pieces is no letter of a token.
fn is_short(text: &str) -> bool {
    let of_token = |character: char| character.is_ascii_alphanumeric() || "-_=%".contains(character);
    text.len() <= REPEATED_BYTES_MAX
        && text.split(|character| !of_token(character)).all(|piece| piece.len() <= PIECE_BYTES_MAX)
        && !text.chars().any(char::is_control)
}

/// The caveat that a check was made from, if it has exactly the shape of one.
pub(crate) fn caveat_of(check: &Check) -> Option<Caveat> {
    if check.alternatives.iter().any(|query| !query.scopes.is_empty()) {
        return None;
    }
    match check.kind {
        Kind::If => compared(check).or_else(|| tools(check)).or_else(|| paths(check)).or_else(|| listed(check)),
        Kind::All => argument(check).or_else(|| query_parameter(check)),
    }
}

/// `name($x), $x <= bound`, alone.
fn compared(check: &Check) -> Option<Caveat> {
    let [query] = &*check.alternatives else { return None };
    let (name, operator, bound) = comparison(query)?;
    match (name, operator, bound) {
        ("time", Binary::LessOrEqual, Value::Date(time)) => Some(Caveat::Expires(*time)),
        ("time", Binary::GreaterOrEqual, Value::Date(time)) => Some(Caveat::NotBefore(*time)),
        ("body_size", Binary::LessOrEqual, Value::Integer(bytes)) => Some(Caveat::MaxBody(u64::try_from(*bytes).ok()?)),
        _ => None,
    }
}

/// Name, operator and right side of `name($x), $x <operator> value`.
fn comparison(query: &Query) -> Option<(&str, Binary, &Value)> {
    let ([predicate], [expression]) = (&*query.predicates, &*query.expressions) else { return None };
    let ([Term::Variable(bound)], [Op::Push(Term::Variable(read)), Op::Push(Term::Value(value)), Op::Binary(operator)]) =
        (&*predicate.terms, &*expression.ops)
    else {
        return None;
    };
    (bound == read).then_some((&*predicate.name, *operator, value))
}

/// `name("text")`, nothing else.
fn fact(query: &Query) -> Option<(&str, &str)> {
    match (&*query.predicates, &*query.expressions) {
        ([predicate], []) => match &*predicate.terms {
            [Term::Value(Value::Text(text))] => Some((&predicate.name, text)),
            _ => None,
        },
        _ => None,
    }
}

/// Alternatives that each name one value of the same fact.
fn listed(check: &Check) -> Option<Caveat> {
    if let Some(methods) = grpc(check) {
        return Some(methods);
    }
    let facts: Vec<(&str, &str)> = check.alternatives.iter().map(fact).collect::<Option<_>>()?;
    let (name, first) = *facts.first()?;
    if facts.iter().any(|(other, _)| *other != name) {
        return None;
    }
    let values = facts.iter().map(|(_, value)| *value);
    match (name, facts.len()) {
        ("operation", _) => Some(Caveat::Method(values.map(|it| Operation::parse(it).ok()).collect::<Option<_>>()?)),
        ("client_in", _) => Some(Caveat::Client(values.map(|it| it.parse::<Cidr>().ok()).collect::<Option<_>>()?)),
        ("rpc", _) => Some(Caveat::Rpc(values.map(ToOwned::to_owned).collect())),
        ("query_string", 1) => Some(Caveat::QueryString(first.to_owned())),
        ("host", 1) => Some(Caveat::Host(first.to_owned())),
        ("client_cert", 1) => Some(Caveat::ClientCert(first.to_owned())),
        ("upgrade", 1) if first.is_empty() => Some(Caveat::NoUpgrade),
        _ => None,
    }
}

/// Paths, and paths with all below them: the latter are two alternatives, one after the other.
fn paths(check: &Check) -> Option<Caveat> {
    let mut patterns: Vec<PathPattern> = Vec::new();
    for query in &check.alternatives {
        let pattern = match (fact(query), comparison(query)) {
            (Some(("path", path)), _) => path.to_owned(),
            (None, Some(("path", Binary::StartsWith, Value::Text(start)))) => {
                let path = start.strip_suffix('/')?;
                if !path.is_empty() && patterns.pop()?.path() != path {
                    return None;
                }
                format!("{path}/**")
            }
            _ => return None,
        };
        // A path that no pattern writes, such as one that is not canonical, has no words.
        patterns.push(PathPattern::parse(&pattern).ok().filter(|read| read.to_string() == pattern)?);
    }
    Some(Caveat::Path(patterns))
}

/// Calls of tools, and the protocol's housekeeping behind them.
fn tools(check: &Check) -> Option<Caveat> {
    let calls = before_housekeeping(check)?;
    let tool = |query: &Query| match (&*query.predicates, &*query.expressions) {
        ([rpc, tool], []) => match (&*rpc.name, &*rpc.terms, &*tool.name, &*tool.terms) {
            ("rpc", [Term::Value(Value::Text(call))], "tool", [Term::Value(Value::Text(tool))])
                if &**call == "tools/call" =>
            {
                Some(tool.to_string())
            }
            _ => None,
        },
        _ => None,
    };
    Some(Caveat::Tool(calls.iter().map(tool).collect::<Option<_>>()?))
}

/// The alternatives before those of [`MCP_HOUSEKEEPING`], if there are any and these are behind them.
fn before_housekeeping(check: &Check) -> Option<&[Query]> {
    let calls = check.alternatives.len().checked_sub(MCP_HOUSEKEEPING.len()).filter(|calls| *calls > 0)?;
    let (calls, rest) = check.alternatives.split_at(calls);
    rest.iter().zip(MCP_HOUSEKEEPING).all(|(query, method)| fact(query) == Some(("rpc", method))).then_some(calls)
}

fn grpc(check: &Check) -> Option<Caveat> {
    let method = |query: &Query| match (&*query.predicates, &*query.expressions) {
        ([predicate], []) if &*predicate.name == "grpc" => match &*predicate.terms {
            [Term::Value(Value::Text(service)), Term::Value(Value::Text(method))] => {
                Some((service.to_string(), Some(method.to_string())))
            }
            [Term::Value(Value::Text(service)), Term::Variable(_)] => Some((service.to_string(), None)),
            _ => None,
        },
        _ => None,
    };
    Some(Caveat::Grpc(check.alternatives.iter().map(method).collect::<Option<_>>()?))
}

/// `name("key", $value)` and the instructions of its one expression.
fn keyed<'q>(query: &'q Query, name: &str) -> Option<(&'q str, &'q [Op])> {
    let ([predicate], [expression]) = (&*query.predicates, &*query.expressions) else { return None };
    match &*predicate.terms {
        [Term::Value(Value::Text(key)), Term::Variable(_)] if &*predicate.name == name => Some((key, &expression.ops)),
        _ => None,
    }
}

fn query_parameter(check: &Check) -> Option<Caveat> {
    let [query] = &*check.alternatives else { return None };
    match keyed(query, "query")? {
        (name, [Op::Push(Term::Variable(_)), Op::Push(Term::Value(Value::Text(value))), Op::Binary(Binary::Equal)]) => {
            Some(Caveat::Query { name: name.to_owned(), value: value.to_string() })
        }
        _ => None,
    }
}

fn argument(check: &Check) -> Option<Caveat> {
    let query = match &*check.alternatives {
        [query] => query,
        _ => match before_housekeeping(check)? {
            [query] => query,
            _ => return None,
        },
    };
    let (name, ops) = keyed(query, "arg")?;
    let [Op::Push(Term::Value(Value::Set(wanted))), Op::Push(Term::Variable(_)), Op::Binary(Binary::Contains)] = ops
    else {
        return None;
    };
    let value = match &**wanted {
        [Value::Text(text)] => ArgValue::Text(text.to_string()),
        [Value::Integer(number)] => ArgValue::Integer(*number),
        [Value::Bool(truth)] => ArgValue::Bool(*truth),
        _ => return None,
    };
    Some(Caveat::Arg { name: name.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::keys::{KeyId, SigningKey};
    use crate::mint::mint;
    use crate::resource::{ResourceName, Right};
    use crate::token::Unverified;

    const NOW: u64 = 1_800_000_000;

    /// What comes back of caveats that went through a token.
    fn through_a_token(caveats: &[Caveat]) -> Vec<Option<Caveat>> {
        let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
        let token = mint(&SigningKey::generate(), KeyId(1), &[right], caveats).ok().unwrap();
        let plan = Unverified::parse(token.expose()).unwrap().admitted().unwrap();
        plan.checks().map(|check| caveat_of(check.check())).collect()
    }

    fn flag(flag: &str, values: &[&str]) -> Caveat {
        Caveat::of_flag(flag, values, NOW).unwrap().remove(0)
    }

    #[test]
    fn every_flag_is_recognised_in_the_check_that_it_makes() {
        let certificate = "0f".repeat(32);
        let written: [(&str, &[&str]); 22] = [
            ("expires", &["10m"]),
            ("not-before", &["10m"]),
            ("method", &["GET", "HEAD"]),
            ("path", &["/v1/orders"]),
            ("path", &["/v1/orders/**"]),
            ("path", &["/**"]),
            ("path", &["/a", "/b/**", "/c", "/d e/**"]),
            ("query", &["page=2"]),
            ("host", &["api.example.com"]),
            ("client", &["10.0.0.0/8", "::1"]),
            ("client-cert", &[&certificate]),
            ("max-body", &["1MiB"]),
            ("rpc", &["ping", "tools/list"]),
            ("tool", &["search", "read"]),
            ("arg", &["table=orders"]),
            ("arg", &["id=7"]),
            ("arg", &["dry=true"]),
            ("grpc", &["shop.Orders/Get"]),
            ("grpc", &["shop.Orders"]),
            ("grpc", &["shop.Orders/Get", "shop.Stock"]),
            ("method", &["GET"]),
            ("path", &["/"]),
        ];
        for (name, values) in written {
            let caveat = flag(name, values);
            assert_eq!(through_a_token(std::slice::from_ref(&caveat)), [Some(caveat)], "{name} {values:?}");
        }
        for caveat in [Caveat::NoUpgrade, Caveat::QueryString("page=2".to_owned())] {
            assert_eq!(through_a_token(std::slice::from_ref(&caveat)), [Some(caveat)]);
        }
        let beside = [flag("tool", &["search"]), flag("arg", &["index=public"])];
        assert_eq!(through_a_token(&beside), beside.map(Some));
    }

    #[test]
    fn what_only_looks_like_a_flag_has_no_words() {
        for check in [
            "check if path(\"/a\"), true",
            "check if path(\"/a\") trusting authority",
            "check if path(\"/a/../b\")",
            "check if path($p), $p.starts_with(\"/a\")",
            "check if path(\"/b\") or path($p), $p.starts_with(\"/a/\")",
            "check if time($t), $t < 2030-01-01T00:00:00Z",
            "check if host(\"a\") or operation(\"GET\")",
            "check if upgrade(\"websocket\")",
            "check all operation(\"GET\")",
            "check all query(\"page\", $v), $v !== \"2\"",
            "check if rpc(\"tools/call\"), tool(\"x\") or rpc(\"ping\")",
        ] {
            assert_eq!(through_a_token(&[Caveat::Check(check.to_owned())]), [None], "{check}");
        }
    }

    #[test]
    fn a_clause_says_what_is_allowed_and_what_was_asked() {
        let message = Message {
            host: "a.example.com",
            upgrade: Some("websocket"),
            body_size: Some(11),
            ..Message::new("orders", "POST", "/v1/stock", NOW, IpAddr::from([127, 0, 0, 1]))
        };
        let said = |caveat: Caveat| {
            let right = Right { resource: ResourceName::parse("orders").unwrap(), operation: Operation::any() };
            let token = mint(&SigningKey::generate(), KeyId(1), &[right], &[caveat]).ok().unwrap();
            let plan = Unverified::parse(token.expose()).unwrap().admitted().unwrap();
            let check = plan.checks().next().unwrap();
            clause(check.check(), 1, &message).unwrap()
        };
        assert_eq!(
            said(flag("path", &["/v1/orders/**"])),
            "block 1 allows only the path /v1/orders/**; this message asks for /v1/stock"
        );
        assert_eq!(said(flag("method", &["GET", "HEAD"])), "block 1 allows only GET or HEAD; this message is a POST");
        assert_eq!(said(flag("max-body", &["10"])), "block 1 allows bodies of at most 10 bytes; this one has 11");
        assert_eq!(
            said(Caveat::NoUpgrade),
            "block 1 allows no switch to another protocol, such as WebSocket; this message would switch to websocket"
        );
        assert_eq!(
            said(Caveat::Expires(NOW - 1)),
            "block 1 allows messages only until 2027-01-15T07:59:59Z; it is 2027-01-15T08:00:00Z now"
        );
        assert_eq!(
            said(flag("client", &["10.0.0.0/8"])),
            "block 1 allows messages only from 10.0.0.0/8; this message comes from 127.0.0.1"
        );
        assert!(said(flag("tool", &["search"])).ends_with("; this message has no such body"));
        assert_eq!(
            said(flag("grpc", &["shop.Orders/Get"])),
            "block 1 allows only the gRPC method shop.Orders/Get; this message is no gRPC call, which is a POST of \
             `application/grpc`"
        );
        let of = |operation, path, caveat: Caveat| asks(&caveat, &Message { operation, path, ..message.clone() });
        assert_eq!(
            of("DELETE", "/mcp", flag("tool", &["search"])),
            "this message is a DELETE, and a token narrowed to a tool only posts: it can neither open the server's own stream \
             (GET) nor end a session (DELETE)"
        );
        assert_eq!(
            of("GET", "/", flag("arg", &["table=orders"])),
            "this message is a GET, and only a POST makes a JSON-RPC call"
        );
        assert_eq!(
            of("POST", "/Get", flag("grpc", &["shop.Orders"])),
            "this message is no gRPC call, which is for a path like /package.Service/Method: below this resource the path is \
             /Get. A resource for gRPC is mounted at `prefix = \"/\"` with a host of its own, or keeps a prefix that is the \
             service's name (`keep_prefix = true`)"
        );
    }

    #[test]
    fn what_could_be_a_token_is_not_repeated() {
        let token = "EoYCCpsBCgZvcmRlcnMKA0dFVBgDIgkKBwgEEgMYgAgyJgokCgIIGxIGCAUSAggF";
        let path = format!("/v1/{token}");
        let message = Message::new("orders", "GET", &path, NOW, IpAddr::from([127, 0, 0, 1]));
        assert_eq!(asks(&flag("path", &["/a"]), &message), "this message asks for another path");
    }
}

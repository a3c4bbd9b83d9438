//! From a caveat to its check, in typed terms.

use biscuit_auth::builder::{Binary, Check, CheckKind, Expression, Op, Predicate, Rule, Term};

use super::{Caveat, MCP_HOUSEKEEPING, PathPattern};
use crate::message::ArgValue;

/// Longest text of one `--check`. A token has 8 KiB in all.
const CHECK_BYTES_MAX: usize = 4096;

/// Deepest nesting of brackets in one `--check`: the parser is recursive, and so are its results when they are dropped.
const CHECK_DEPTH_MAX: usize = 8;

/// The checks of one block, one for each caveat, in their order.
pub(crate) fn checks_of(caveats: &[Caveat]) -> Result<Vec<Check>, String> {
    let beside_tool = caveats.iter().any(|caveat| matches!(caveat, Caveat::Tool(_)));
    caveats.iter().map(|caveat| check_of(caveat, beside_tool)).collect()
}

fn check_of(caveat: &Caveat, beside_tool: bool) -> Result<Check, String> {
    let check = match caveat {
        Caveat::Expires(time) => check_if([compared("time", Binary::LessOrEqual, Term::Date(*time))]),
        Caveat::NotBefore(time) => check_if([compared("time", Binary::GreaterOrEqual, Term::Date(*time))]),
        Caveat::Method(methods) => check_if(methods.iter().map(|method| fact("operation", [text(method.as_str())]))),
        Caveat::Path(patterns) => check_if(patterns.iter().flat_map(path_queries)),
        Caveat::Query { name, value } => {
            let equals = operation(variable("value"), text(value), Binary::Equal);
            check_all([query([predicate("query", [text(name), variable("value")])], [equals])])
        }
        Caveat::QueryString(query) => check_if([fact("query_string", [text(query)])]),
        Caveat::Host(host) => check_if([fact("host", [text(host)])]),
        Caveat::Client(networks) => {
            check_if(networks.iter().map(|network| fact("client_in", [text(&network.to_string())])))
        }
        Caveat::ClientCert(hash) => check_if([fact("client_cert", [text(hash)])]),
        Caveat::NoUpgrade => check_if([fact("upgrade", [text("")])]),
        Caveat::MaxBody(bytes) => {
            let bytes = i64::try_from(*bytes).map_err(|_| "the size of a body must fit in 63 bits".to_owned())?;
            check_if([compared("body_size", Binary::LessOrEqual, Term::Integer(bytes))])
        }
        Caveat::Rpc(methods) => check_if(methods.iter().map(|method| fact("rpc", [text(method)]))),
        Caveat::Tool(tools) => {
            let call =
                |tool: &String| query([predicate("rpc", [text("tools/call")]), predicate("tool", [text(tool)])], []);
            check_if(tools.iter().map(call).chain(housekeeping()))
        }
        Caveat::Arg { name, value } => arg_check(name, value, beside_tool),
        Caveat::Grpc(methods) => check_if(methods.iter().map(|(service, method)| {
            let method = method.as_deref().map_or_else(|| variable("method"), text);
            fact("grpc", [text(service), method])
        })),
        Caveat::Check(source) => return read_check(source),
    };
    if check.queries.is_empty() {
        return Err("a caveat without any value would refuse every message".to_owned());
    }
    Ok(check)
}

/// `check all`, because a hostile message can spell one JSON Pointer in two ways and so have two values for it. A set
/// instead of `===`, because a value of another type shall be another value and not an error.
fn arg_check(name: &str, value: &ArgValue, beside_tool: bool) -> Check {
    let wanted = match value {
        ArgValue::Text(value) => text(value),
        ArgValue::Integer(value) => Term::Integer(*value),
        ArgValue::Bool(value) => Term::Bool(*value),
    };
    let among = operation(Term::Set([wanted].into()), variable("value"), Binary::Contains);
    let is = query([predicate("arg", [text(name), variable("value")])], [among]);
    if beside_tool { check_all([is].into_iter().chain(housekeeping())) } else { check_all([is]) }
}

fn housekeeping() -> impl Iterator<Item = Rule> {
    MCP_HOUSEKEEPING.into_iter().map(|method| fact("rpc", [text(method)]))
}

/// One path, or the path and what begins with it and a slash: two queries, since `or` is simpler to price than `||`.
fn path_queries(pattern: &PathPattern) -> Vec<Rule> {
    let mut queries = Vec::new();
    if !pattern.path().is_empty() {
        queries.push(fact("path", [text(pattern.path())]));
    }
    if pattern.is_below() {
        let below = operation(variable("path"), text(&format!("{}/", pattern.path())), Binary::Prefix);
        queries.push(query([predicate("path", [variable("path")])], [below]));
    }
    queries
}

/// Reads one check of biscuit's language. Whether the gateway admits it is decided on the finished token.
pub(super) fn read_check(source: &str) -> Result<Check, String> {
    let source = source.trim();
    let source = source.strip_suffix(';').unwrap_or(source);
    if source.len() > CHECK_BYTES_MAX {
        return Err(format!("a check has at most {CHECK_BYTES_MAX} characters"));
    }
    if depth(source) > CHECK_DEPTH_MAX {
        return Err(format!("brackets can be nested {CHECK_DEPTH_MAX} deep"));
    }
    if !source.starts_with("check ") {
        return Err("write `check if …` or `check all …`".to_owned());
    }
    let check = Check::try_from(source).map_err(
        |_| "this is not one check of biscuit's language, such as `check if path($p), $p.starts_with(\"/v1/\")`",
    )?;
    check.validate_parameters().map_err(|_| "write values instead of parameters in braces")?;
    Ok(check)
}

/// How deep brackets and chains of `!` and `-` nest, strings not being looked into: too many rather than too few.
fn depth(source: &str) -> usize {
    let (mut now, mut most, mut signs) = (0_usize, 0, 0_usize);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => now += 1,
            b')' | b']' | b'}' => now = now.saturating_sub(1),
            _ => {}
        }
        signs = if byte == b'!' { signs + 1 } else { 0 };
        most = most.max(now + signs);
    }
    most
}

fn check_if(queries: impl IntoIterator<Item = Rule>) -> Check {
    Check { queries: queries.into_iter().collect(), kind: CheckKind::One }
}

fn check_all(queries: impl IntoIterator<Item = Rule>) -> Check {
    Check { queries: queries.into_iter().collect(), kind: CheckKind::All }
}

/// A query has the shape of a rule whose head nobody reads; biscuit's own parser names it `query`.
fn query<const P: usize, const E: usize>(body: [Predicate; P], expressions: [Expression; E]) -> Rule {
    Rule::new(predicate("query", []), body.to_vec(), expressions.to_vec(), Vec::new())
}

fn fact<const N: usize>(name: &str, terms: [Term; N]) -> Rule {
    query([predicate(name, terms)], [])
}

/// `name($name), $name <comparison> bound`.
fn compared(name: &str, comparison: Binary, bound: Term) -> Rule {
    query([predicate(name, [variable(name)])], [operation(variable(name), bound, comparison)])
}

fn predicate<const N: usize>(name: &str, terms: [Term; N]) -> Predicate {
    Predicate::new(name.to_owned(), terms)
}

fn operation(left: Term, right: Term, operator: Binary) -> Expression {
    Expression { ops: vec![Op::Value(left), Op::Value(right), Op::Binary(operator)] }
}

fn variable(name: &str) -> Term {
    Term::Variable(name.to_owned())
}

fn text(text: &str) -> Term {
    Term::Str(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caveat::Cidr;
    use crate::resource::Operation;

    fn printed(caveats: &[Caveat]) -> Vec<String> {
        checks_of(caveats).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_caveat_becomes_the_check_of_the_table() {
        let flag = |flag: &str, values: &[&str]| {
            let caveats = Caveat::of_flag(flag, values, 0).unwrap();
            let checks = printed(&caveats);
            assert_eq!(checks.len(), 1, "{flag}");
            checks.into_iter().next().unwrap()
        };
        assert_eq!(flag("expires", &["2030-01-01T00:00:00Z"]), "check if time($time), $time <= 2030-01-01T00:00:00Z");
        assert_eq!(
            flag("not-before", &["2030-01-01T00:00:00Z"]),
            "check if time($time), $time >= 2030-01-01T00:00:00Z"
        );
        assert_eq!(flag("method", &["GET,HEAD"]), "check if operation(\"GET\") or operation(\"HEAD\")");
        assert_eq!(flag("path", &["/v1/orders/42"]), "check if path(\"/v1/orders/42\")");
        assert_eq!(
            flag("path", &["/v1/orders/**", "/x"]),
            "check if path(\"/v1/orders\") or path($path), $path.starts_with(\"/v1/orders/\") or path(\"/x\")"
        );
        assert_eq!(flag("path", &["/**"]), "check if path($path), $path.starts_with(\"/\")");
        assert_eq!(flag("query", &["page=2"]), "check all query(\"page\", $value), $value === \"2\"");
        assert_eq!(flag("host", &["API.example.com"]), "check if host(\"api.example.com\")");
        assert_eq!(flag("client", &["10.1.2.3/8,::1"]), "check if client_in(\"10.0.0.0/8\") or client_in(\"::1/128\")");
        assert_eq!(flag("no-upgrade", &[""]), "check if upgrade(\"\")");
        assert_eq!(flag("max-body", &["1MiB"]), "check if body_size($body_size), $body_size <= 1048576");
        assert_eq!(flag("rpc", &["tools/list,ping"]), "check if rpc(\"tools/list\") or rpc(\"ping\")");
        assert_eq!(
            flag("tool", &["search"]),
            "check if rpc(\"tools/call\"), tool(\"search\") or rpc(\"initialize\") or rpc(\"server/discover\") or \
             rpc(\"notifications/initialized\") or rpc(\"notifications/cancelled\") or rpc(\"ping\") or rpc(\"tools/list\") or rpc(\"\")"
        );
        assert_eq!(flag("arg", &["table=orders"]), "check all arg(\"table\", $value), {\"orders\"}.contains($value)");
        assert_eq!(flag("arg", &["id=7"]), "check all arg(\"id\", $value), {7}.contains($value)");
        assert_eq!(flag("grpc", &["shop.Orders/Get"]), "check if grpc(\"shop.Orders\", \"Get\")");
        assert_eq!(flag("grpc", &["shop.Orders"]), "check if grpc(\"shop.Orders\", $method)");
        assert_eq!(flag("check", &["check if path(\"/a\");"]), "check if path(\"/a\")");
    }

    #[test]
    fn an_argument_beside_a_tool_lets_the_session_start() {
        let checks = printed(&[Caveat::tool(&["search"]).unwrap(), Caveat::arg("table=orders").unwrap()]);
        assert!(checks[1].contains("or rpc(\"initialize\")"), "{}", checks[1]);
    }

    #[test]
    fn a_caveat_without_values_is_refused() {
        for caveat in [Caveat::Method(vec![]), Caveat::Path(vec![]), Caveat::Client(vec![]), Caveat::Grpc(vec![])] {
            assert!(checks_of(&[caveat]).is_err());
        }
        assert!(checks_of(&[Caveat::MaxBody(u64::MAX)]).is_err());
        let one = Operation::parse("GET").unwrap();
        assert!(checks_of(&[Caveat::Method(vec![one]), Caveat::Client(vec!["::/0".parse::<Cidr>().unwrap()])]).is_ok());
    }

    #[test]
    fn only_one_whole_check_is_read() {
        for bad in [
            "",
            "right(\"orders\", \"GET\")",
            "check",
            "check if",
            "check if path(\"/a\"); check if path(\"/b\")",
            "check if path({p})",
            "check if path($p) trusting {key}",
            "check if path(\"/a\") trailing",
            "allow if true",
            "check if ((((((((((1))))))))) == 1",
            "check if !!!!!!!!!!true",
        ] {
            assert!(read_check(bad).is_err(), "{bad:?}");
        }
        assert!(read_check(&format!("check if path(\"{}\")", "a".repeat(CHECK_BYTES_MAX))).is_err());
        read_check(" check all query($k, $v), $k != \"admin\" || $v === \"\" ; ").unwrap();
    }

    #[test]
    fn values_cannot_break_out_of_their_place() {
        let hostile = "\" || true || \"";
        let checks = checks_of(&[Caveat::Host(hostile.into()), Caveat::Rpc(vec![hostile.into()])]).unwrap();
        for check in checks {
            assert_eq!(check.queries.len(), 1);
            assert_eq!(check.queries[0].body[0].terms, vec![Term::Str(hostile.into())]);
            assert!(check.queries[0].expressions.is_empty());
        }
    }
}

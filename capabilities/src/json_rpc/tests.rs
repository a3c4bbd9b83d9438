//! What a body says, and that nothing is read which another reader could read differently.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::message::{ARGUMENT_NAME_BYTES_MAX, ARGUMENTS_MAX, ArgValue, TEXT_BYTES_MAX};

fn read_all(text: &str) -> Result<Body, BodyError> {
    read(text.as_bytes(), &ArgumentNames::any())
}

fn one(text: &str) -> BodyItem {
    let body = read_all(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(body.items.len(), 1);
    body.items[0].clone()
}

fn call(arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"search","arguments":{arguments}}}}}"#)
}

fn args(text: &str) -> Vec<(String, ArgValue)> {
    one(text).args
}

fn pairs(pairs: &[(&str, ArgValue)]) -> Vec<(String, ArgValue)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> ArgValue {
    ArgValue::Text(text.to_owned())
}

fn refusal(text: &str) -> BodyError {
    read_all(text).expect_err(text)
}

#[test]
fn a_call_of_a_tool_has_its_name_and_its_arguments() {
    let item = one(&call(r#"{"index":"public","limit":5,"dry":true}"#));
    assert_eq!((&*item.rpc, item.tool.as_deref(), &item.unstated), ("tools/call", Some("search"), &None));
    assert_eq!(
        item.args,
        pairs(&[("index", text("public")), ("limit", ArgValue::Integer(5)), ("dry", ArgValue::Bool(true))])
    );
    let turned = one(
        r#"{"params":{"arguments":{"a":"b"},"_meta":{"progressToken":1},"name":"x"},"method":"tools/call","id":"7","jsonrpc":"2.0"}"#,
    );
    assert_eq!((turned.tool.as_deref(), turned.args), (Some("x"), pairs(&[("a", text("b"))])), "in any order");
}

#[test]
fn other_calls_have_their_parameters() {
    let item = one(r#"{"jsonrpc":"2.0","method":"orders.get","params":{"name":"x","id":7,"arguments":{"a":"b"}}}"#);
    assert_eq!((&*item.rpc, &item.tool), ("orders.get", &None));
    assert_eq!(item.args, pairs(&[("name", text("x")), ("id", ArgValue::Integer(7)), ("/arguments/a", text("b"))]));
    assert_eq!(
        args(r#"{"jsonrpc":"2.0","method":"sum","params":["a",[2],{"c":true}],"id":null}"#),
        pairs(&[("/0", text("a")), ("/1/0", ArgValue::Integer(2)), ("/2/c", ArgValue::Bool(true))])
    );
    for without in ["", r#","params":null"#, r#","params":{}"#, r#","params":[]"#] {
        let item = one(&format!(r#"{{"jsonrpc":"2.0","method":"m"{without}}}"#));
        assert_eq!((item.args, item.unstated), (Vec::new(), None), "{without}");
    }
}

#[test]
fn what_lies_deeper_goes_by_its_pointer_and_no_name_passes_for_one() {
    assert_eq!(
        args(&call(r#"{"filter":{"owner":7},"tables":["a","b"],"a/b":1,"m~n":2,"x":{"a/b":3,"m~n":4,"":5}}"#)),
        pairs(&[
            ("/filter/owner", ArgValue::Integer(7)),
            ("/tables/0", text("a")),
            ("/tables/1", text("b")),
            ("a/b", ArgValue::Integer(1)),
            ("m~n", ArgValue::Integer(2)),
            ("/x/a~1b", ArgValue::Integer(3)),
            ("/x/m~0n", ArgValue::Integer(4)),
            ("/x/", ArgValue::Integer(5)),
        ])
    );
    assert_eq!(args(&call(r#"{"/filter/owner":7}"#)), pairs(&[("/~1filter~1owner", ArgValue::Integer(7))]));
    assert_eq!(
        args(&call(r#"{"~1":1,"~01":2}"#)),
        pairs(&[("~1", ArgValue::Integer(1)), ("~01", ArgValue::Integer(2))])
    );
}

#[test]
fn what_no_fact_can_say_is_remembered_to_be_there() {
    for value in
        ["null", "1.5", "1.0", "1e3", "-0", "9007199254740992", "-9007199254740992", "99999999999999999999", "[]", "{}"]
    {
        let item = one(&call(&format!(r#"{{"a":"b","x":{{"y":{value}}}}}"#)));
        assert_eq!((item.args, item.unstated.as_deref()), (pairs(&[("a", text("b"))]), Some("/x/y")), "{value}");
    }
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(one(&call(&format!(r#"{{"x":"{long}"}}"#))).unstated.as_deref(), Some("x"));
    assert_eq!(one(&call(&format!(r#"{{"x":"{}"}}"#, &long[1..]))).unstated, None);
    assert_eq!(args(&call(r#"{"x":9007199254740991}"#)), pairs(&[("x", ArgValue::Integer(INTEGER_MAX))]));
}

/// What is called by too long a name is no fact, but it is there: for a caveat that speaks of every argument, as values are
/// that are no facts.
#[test]
fn a_name_that_is_too_long_is_no_fact_and_is_not_overlooked() {
    let longest = "k".repeat(ARGUMENT_NAME_BYTES_MAX);
    let item = one(&call(&format!(r#"{{"{longest}":1}}"#)));
    assert_eq!((item.args, item.unstated), (pairs(&[(&longest, ArgValue::Integer(1))]), None));
    for below in ["1", "\"a\"", "true", "[1,2]", "{\"x\":{\"y\":1}}", "[]", "null"] {
        for name in [format!("{longest}k"), "~".repeat(100_000), "k/~é".repeat(100_000)] {
            let item = one(&call(&format!(r#"{{"a":"b","{name}":{below}}}"#)));
            assert_eq!(item.args, pairs(&[("a", text("b"))]), "{below}");
            let quoted = item.unstated.expect("it is there");
            assert!(quoted.chars().count() <= 64 && quoted.starts_with(&format!("/{}", &name[..1])), "{quoted}");
            let other = one(&format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":"b","{name}":{below}}}}}"#));
            assert_eq!((other.args, other.unstated.is_some()), (pairs(&[("a", text("b"))]), true), "{below}");
        }
    }
    let beside = one(&call(&format!(r#"{{"{longest}k":{{"x":1}},"x":{{"y":2}}}}"#)));
    assert_eq!(beside.args, pairs(&[("/x/y", ArgValue::Integer(2))]), "what comes after is called as ever");
    assert!(beside.excess().is_none());
    let name = format!("{longest}k");
    let too_long = BodyItem { args: pairs(&[(&name, ArgValue::Integer(1))]), ..BodyItem::default() };
    assert_eq!(too_long.excess(), Some("list of arguments"), "nor may anybody else state it");
}

/// Members below one long name, each of them asked for by no caveat. Reading them may take a time that grows with the body
/// alone: what is kept while reading is bounded (`place`), and what is kept of it is what was asked for.
#[test]
fn a_body_of_the_longest_size_is_read_below_the_longest_name() {
    let members: Vec<String> = (0..50_000).map(|number| format!("\"{number:x}\":0")).collect();
    let body = call(&format!(r#"{{"table":"orders","{}":{{{}}}}}"#, "~".repeat(512 * 1024), members.join(",")));
    let read = read(body.as_bytes(), &ArgumentNames::any()).expect("JSON-RPC");
    assert_eq!(read.items[0].args, pairs(&[("table", text("orders"))]));
    assert!(read.items[0].unstated.as_deref().is_some_and(|name| name.starts_with("/~0~0") && name.len() == 64));
}

#[test]
fn only_the_arguments_that_caveats_read_are_kept() {
    let key = crate::SigningKey::generate();
    let standing = crate::Standing::new(crate::KeyRing::of(crate::KeyId(1), key.public()));
    let right = crate::Right { resource: "tools".parse().unwrap(), operation: crate::Operation::any() };
    let capability = |flags: &[(&str, &str)]| {
        let caveats: Vec<_> =
            flags.iter().flat_map(|(flag, value)| crate::Caveat::of_flag(flag, &[*value], 0).unwrap()).collect();
        let token = crate::mint(&key, crate::KeyId(1), std::slice::from_ref(&right), &caveats).unwrap();
        crate::Unverified::parse(token.expose()).unwrap().verify(&standing, 10_000).unwrap()
    };
    let body = call(r#"{"index":"public","x":1.5,"z":{"y":2}}"#);
    let item = |flags: &[(&str, &str)]| {
        let capability = capability(flags);
        read(body.as_bytes(), &capability.argument_names()).unwrap().items.remove(0)
    };
    let none = item(&[("tool", "search")]);
    assert_eq!((none.args, none.unstated), (Vec::new(), None));
    let named = item(&[("tool", "search"), ("arg", "index=public"), ("arg", "/z/y=2"), ("arg", "absent=1")]);
    assert_eq!(
        (named.args, named.unstated),
        (pairs(&[("index", text("public")), ("/z/y", ArgValue::Integer(2))]), None)
    );
    let any = item(&[("check", r#"check all arg($name, $value), $name !== "admin""#)]);
    assert_eq!((any.args.len(), any.unstated.as_deref()), (2, Some("x")));
}

#[test]
fn more_arguments_than_can_be_decided_on_are_noticed() {
    let list = |length: usize| call(&format!("{{\"x\":[{}]}}", vec!["1"; length].join(",")));
    assert_eq!(args(&list(ARGUMENTS_MAX)).len(), ARGUMENTS_MAX);
    let item = one(&list(100_000));
    assert!(item.args.len() > ARGUMENTS_MAX && item.args.len() < ARGUMENTS_MAX + 2);
}

#[test]
fn a_response_is_the_call_of_no_method() {
    for response in
        [r#"{"jsonrpc":"2.0","id":3,"result":{"tools":[]}}"#, r#"{"jsonrpc":"2.0","id":"a","error":{"code":1}}"#]
    {
        assert_eq!(one(response), BodyItem::default(), "{response}");
    }
    for neither in [
        r#"{"jsonrpc":"2.0","id":3}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{},"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":""}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":null,"result":{}}"#,
    ] {
        assert!(matches!(refusal(neither), BodyError::Member(_)), "{neither}");
    }
}

#[test]
fn a_batch_is_its_calls_one_by_one() {
    let body = read_all(r#" [{"jsonrpc":"2.0","method":"a","params":{"x":1},"id":1},{"jsonrpc":"2.0","method":"b"}] "#);
    let body = body.unwrap();
    assert!(body.is_batch);
    assert_eq!(body.items.iter().map(|item| &*item.rpc).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(body.items[1].args, Vec::new(), "no fact of one call is a fact of another");
    assert_eq!(body.calls.iter().map(|call| call.id.clone()).collect::<Vec<_>>(), [Some(Id::Integer(1)), None]);
    assert_eq!(refusal("[]"), BodyError::EmptyBatch);
    assert_eq!(refusal(r#"[[{"jsonrpc":"2.0","method":"a"}]]"#), BodyError::NotACall);
    assert_eq!(refusal(r#"[1]"#), BodyError::NotACall);
    let many = |count: usize| format!("[{}]", vec![r#"{"jsonrpc":"2.0","method":"a"}"#; count].join(","));
    assert_eq!(read_all(&many(ITEMS_MAX)).unwrap().items.len(), ITEMS_MAX);
    assert_eq!(refusal(&many(ITEMS_MAX + 1)), BodyError::TooManyItems);
}

#[test]
fn what_headers_repeat_is_found() {
    let call = |text: &str| read(text.as_bytes(), &ArgumentNames::default()).unwrap().calls.remove(0);
    let tool = call(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","uri":"u","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    );
    assert_eq!((tool.name.as_deref(), tool.protocol_version.as_deref()), (Some("t"), Some("2026-07-28")));
    let resource = call(r#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///x"}}"#);
    assert_eq!(resource.name.as_deref(), Some("file:///x"));
    let list = call(r#"{"jsonrpc":"2.0","id":1,"method":"m","params":["name"]}"#);
    assert_eq!(list.name, None);
}

#[test]
fn names_that_occur_twice_are_refused_at_every_level() {
    let twice = [
        r#"{"jsonrpc":"2.0","method":"a","method":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"b"}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"a","params":{},"params":{}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"a","params":{"x":1,"x":1}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"a","params":{"x":1,"\u0078":1}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1,"result":{"a":[{"b":1,"b":2}]}}"#.to_owned(),
        call(r#"{"a":{"b":[{"x":1,"x":2}]}}"#),
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"a","name":"b"}}"#.to_owned(),
        r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"x":{},"x":{}}}}"#.to_owned(),
    ];
    for text in twice {
        assert!(matches!(refusal(&text), BodyError::Duplicate(_)), "{text}");
    }
    for pair in
        [("index", "Index"), ("kind", "\u{212a}ind"), ("s", "\u{17f}"), ("é", "É"), ("straße", "STRASSE"), ("ß", "ẞ")]
    {
        let text = call(&format!("{{\"{}\":1,\"{}\":2}}", pair.0, pair.1));
        assert!(matches!(refusal(&text), BodyError::CaseVariant(_)), "{text}");
    }
    let beside = r#"{"jsonrpc":"2.0","method":"a","Method":"b"}"#;
    assert!(matches!(refusal(beside), BodyError::CaseVariant(_)));
}

#[test]
fn members_that_json_rpc_does_not_know_are_refused() {
    for text in [
        r#"{"jsonrpc":"2.0","Method":"tools/call","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"a","Params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"a","auth":"x"}"#,
        r#"{"jsonrpc":"2.0","method ":"a"}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"\u{feff}method\":\"b\"}",
    ] {
        assert!(matches!(refusal(text), BodyError::UnknownMember(_)), "{text}");
    }
    for text in [
        r#"{"method":"a"}"#,
        r#"{"jsonrpc":"1.0","method":"a"}"#,
        r#"{"jsonrpc":2.0,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","method":["a"]}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":{}}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":1.5}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":true}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":"x"}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":7}"#,
    ] {
        assert!(matches!(refusal(text), BodyError::Member(_)), "{text}");
    }
    for arguments in ["[]", "[1]", "\"x\"", "1", "true"] {
        assert!(matches!(refusal(&call(arguments)), BodyError::Member(_)), "{arguments}");
    }
}

#[test]
fn what_is_not_exactly_one_document_is_refused() {
    let good = r#"{"jsonrpc":"2.0","method":"a"}"#;
    assert!(read_all(&format!(" \r\n\t{good}\n")).is_ok());
    for text in [
        "",
        " ",
        &good[..good.len() - 1],
        &format!("{good}{good}"),
        &format!("{good} x"),
        &format!("{good},"),
        &format!("\u{feff}{good}"),
        &format!("{good}\0"),
        r#"{"jsonrpc":"2.0","method":"a",}"#,
        r#"{'jsonrpc':'2.0','method':'a'}"#,
        r#"{"jsonrpc":"2.0","method":"a"/**/}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":01}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":+1}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"x":NaN}}"#,
        r#"{"jsonrpc":"2.0","method":"a","params":{"x":1e999}}"#,
        r#"{"jsonrpc":"2.0","method":"\ud800"}"#,
        r#"{"jsonrpc":"2.0","method":"\udc00\ud800"}"#,
        r#"{"jsonrpc":"2.0","method":"a","id":1,"params":{"\ud800":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":"\ud800"}"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\nb\"}",
    ] {
        assert!(matches!(refusal(text), BodyError::NotJson { .. }), "{text:?}: {:?}", refusal(text));
    }
    for (text, at) in [("\"a\"", 0), ("1", 0), ("null", 0), ("true", 0)] {
        assert_eq!((refusal(text), at), (BodyError::NotACall, 0), "{text}");
    }
    assert_eq!(read(b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}", &ArgumentNames::any()), Err(BodyError::NotUtf8));
    assert_eq!(read(b"\xff\xfe{\0", &ArgumentNames::any()), Err(BodyError::NotUtf8));
    for null in [r#"{"x\u0000":1}"#, r#"{"x":"a\u0000b"}"#, r#"{"x":[{"y":"\u0000"}]}"#] {
        assert_eq!(refusal(&call(null)), BodyError::Null, "{null}");
    }
}

#[test]
fn nesting_has_a_bound() {
    // The call, its parameters and the arguments are the first three.
    let nested = |levels: usize| call(&format!("{{\"x\":{}1{}}}", "[".repeat(levels), "]".repeat(levels)));
    assert!(read_all(&nested(DEPTH_MAX - 3)).is_ok());
    assert_eq!(refusal(&nested(DEPTH_MAX - 2)), BodyError::TooDeep);
    assert_eq!(refusal(&nested(100_000)), BodyError::TooDeep);
    let batch = format!("[{}]", nested(DEPTH_MAX - 3));
    assert_eq!(refusal(&batch), BodyError::TooDeep);
}

#[test]
fn errors_say_what_and_where_and_quote_little() {
    assert_eq!(
        refusal("{\"jsonrpc\":\"2.0\"\n 7}").to_string(),
        "it is not exactly one JSON document: expected `,` or `}` at line 2, column 2"
    );
    let long = "x".repeat(10_000);
    let duplicate = refusal(&call(&format!("{{\"{long}\":1,\"{long}\":2}}"))).to_string();
    assert!(duplicate.len() < 200, "{duplicate}");
}

/// The facts of a call, found in serde_json's own tree: another way to the same end.
fn expected(call: &Value) -> BodyItem {
    fn leaves(value: &Value, pointer: &str, key: Option<&str>, depth: usize, into: &mut Vec<(String, Value)>) {
        let name = match key {
            Some(key) if depth == 1 && !key.starts_with('/') => key.to_owned(),
            _ => pointer.to_owned(),
        };
        match value {
            Value::Object(members) if !members.is_empty() => {
                for (key, member) in members {
                    let token = key.replace('~', "~0").replace('/', "~1");
                    leaves(member, &format!("{pointer}/{token}"), Some(key), depth + 1, into);
                }
            }
            Value::Array(elements) if !elements.is_empty() => {
                for (number, element) in elements.iter().enumerate() {
                    leaves(element, &format!("{pointer}/{number}"), None, depth + 1, into);
                }
            }
            other if depth > 0 => into.push((name, other.clone())),
            _ => {}
        }
    }
    let rpc = call["method"].as_str().unwrap_or_default().to_owned();
    let is_tool = rpc == "tools/call";
    let parameters = if is_tool { &call["params"]["arguments"] } else { &call["params"] };
    let mut found = Vec::new();
    leaves(parameters, "", None, 0, &mut found);
    let (mut args, mut unstated) = (Vec::new(), false);
    for (name, value) in found {
        match value {
            Value::String(text) => args.push((name, ArgValue::Text(text))),
            Value::Bool(truth) => args.push((name, ArgValue::Bool(truth))),
            Value::Number(number) if number.as_i64().is_some_and(|it| it.abs() < 1 << 53) => {
                args.push((name, ArgValue::Integer(number.as_i64().unwrap())));
            }
            _ => unstated = true,
        }
    }
    let tool = call["params"]["name"].as_str().filter(|_| is_tool).map(str::to_owned);
    BodyItem { rpc, tool, args, unstated: unstated.then(String::new) }
}

fn some_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-9i64..9).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c/~é\"]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-c/~01]{0,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn sorted(mut item: BodyItem) -> BodyItem {
    item.args.sort_by(|a, b| a.0.cmp(&b.0));
    item
}

proptest! {
    #[test]
    fn the_facts_are_those_of_the_tree(is_tool: bool, name in "[a-c]{1,3}", value in some_value()) {
        let call = match is_tool {
            true => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": value}}),
            false => json!({"jsonrpc": "2.0", "id": 1, "method": name, "params": value}),
        };
        if let Ok(mut body) = read_all(&call.to_string()) {
            let item = sorted(body.items.remove(0));
            prop_assume!(item.args.len() <= ARGUMENTS_MAX);
            let expected = sorted(expected(&call));
            prop_assert_eq!(item.unstated.is_some(), expected.unstated.is_some());
            prop_assert_eq!(item.args, expected.args);
            prop_assert_eq!((item.rpc, item.tool), (expected.rpc, expected.tool));
        } else {
            let scalar = !value.is_object() && !value.is_null() && (is_tool || !value.is_array());
            prop_assert!(scalar, "{}", call);
        }
    }

    /// What is accepted is JSON to others, too, and one document of the same meaning.
    #[test]
    fn whatever_is_accepted_others_accept(cut in 0usize..200, byte in any::<u8>(), value in some_value()) {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"x": value}}});
        let mut bytes = call.to_string().into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        if let Ok(body) = read(&bytes, &ArgumentNames::any()) {
            let tree: Value = serde_json::from_slice(&bytes).expect("JSON");
            prop_assume!(body.items[0].args.len() <= ARGUMENTS_MAX);
            prop_assert_eq!(sorted(body.items[0].clone()).args, sorted(expected(&tree)).args);
        }
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[\\[\\]{}\",:a0\\\\u-]{0,64}") {
        let _ = read(&bytes, &ArgumentNames::any());
        let _ = read(text.as_bytes(), &ArgumentNames::any());
    }
}

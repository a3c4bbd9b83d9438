//! The target for JSON-RPC bodies: whatever the strict reader accepts, `serde_json` reads as well, and finds the same facts
//! in its tree.

use std::collections::BTreeMap;

use postern_capabilities::json_rpc::{self, Body, Id};
use postern_capabilities::language::ArgumentNames;
use postern_capabilities::message::{
    ARGUMENT_NAME_BYTES_MAX, ARGUMENTS_MAX, ArgValue, BodyItem, ITEMS_MAX, TEXT_BYTES_MAX,
};
use serde_json::Value;

/// A body of JSON-RPC calls.
pub fn json_rpc(bytes: &[u8]) {
    let read = json_rpc::read(bytes, &ArgumentNames::any());
    if let Err(error) = &read {
        // It goes into the answer to a caller, and must not repeat the body.
        assert!(error.to_string().chars().count() < 300, "{error}");
    }
    let without = json_rpc::read(bytes, &ArgumentNames::default());
    let Ok(body) = read else {
        return assert!(without.is_err(), "what is refused depends on which facts are asked for");
    };
    let without = without.expect("what is accepted depends on which facts are asked for");
    assert_eq!(without.calls, body.calls);
    assert!(without.items.iter().all(|item| item.args.is_empty() && item.unstated.is_none()));
    let tree: Value = serde_json::from_slice(bytes).expect("serde_json reads what is accepted");
    compare(&body, &tree);
    // Without white space, its members in order and its escapes resolved, it says the same.
    let again = serde_json::to_vec(&tree).expect("a tree can be written");
    compare(&json_rpc::read(&again, &ArgumentNames::any()).expect("it is accepted when it is written anew"), &tree);
}

fn compare(body: &Body, tree: &Value) {
    let calls = match tree {
        Value::Array(calls) => &calls[..],
        call => std::slice::from_ref(call),
    };
    assert_eq!((body.is_batch, body.items.len(), body.calls.len()), (tree.is_array(), calls.len(), calls.len()));
    assert!((1..=ITEMS_MAX).contains(&calls.len()));
    for ((item, said), call) in body.items.iter().zip(&body.calls).zip(calls) {
        assert_eq!(call["jsonrpc"], "2.0");
        assert_eq!(item.rpc, call["method"].as_str().unwrap_or_default());
        let is_response = call.get("method").is_none();
        assert_eq!(is_response, call.get("result").is_some() != call.get("error").is_some());
        let (params, is_tool) = (&call["params"], item.rpc == "tools/call");
        let text = |name: &str| params[name].as_str().map(str::to_owned);
        if !is_response {
            assert_eq!(item.tool, text("name").filter(|_| is_tool));
        }
        assert_eq!(said.name, text("name").or_else(|| text("uri")));
        match (&said.id, call.get("id")) {
            (Some(Id::Text(id)), Some(Value::String(there))) => assert_eq!(id, there),
            (Some(Id::Integer(id)), Some(there)) => assert_eq!(there.as_i64(), Some(*id)),
            (Some(Id::Null), Some(Value::Null)) | (None, None) => {}
            other => panic!("another id: {other:?}"),
        }
        if !is_response {
            same_arguments(item, if is_tool { &params["arguments"] } else { params });
        }
    }
}

/// The arguments by the tree: scalars that are members of the parameters by their names, everything further down by its
/// pointer.
fn same_arguments(item: &BodyItem, parameters: &Value) {
    let (mut stated, mut has_unstated) = (BTreeMap::new(), false);
    let mut left = vec![(String::new(), None, parameters)];
    while let Some((pointer, name, value)) = left.pop() {
        match value {
            Value::Object(members) if !members.is_empty() => left.extend(members.iter().map(|(key, member)| {
                let is_direct = pointer.is_empty() && !key.starts_with('/');
                let token = key.replace('~', "~0").replace('/', "~1");
                (format!("{pointer}/{token}"), is_direct.then(|| key.clone()), member)
            })),
            Value::Array(elements) if !elements.is_empty() => left.extend(
                elements.iter().enumerate().map(|(number, element)| (format!("{pointer}/{number}"), None, element)),
            ),
            _ if pointer.is_empty() => {}
            scalar => {
                assert_eq!(parameters.pointer(&pointer), Some(scalar), "the pointer leads elsewhere");
                let name = name.unwrap_or(pointer);
                match fact(scalar).filter(|_| name.len() <= ARGUMENT_NAME_BYTES_MAX) {
                    Some(fact) => assert_eq!(stated.insert(name, fact), None, "two arguments have one name"),
                    None => has_unstated = true,
                }
            }
        }
    }
    assert_eq!(item.unstated.is_some(), has_unstated);
    if stated.len() > ARGUMENTS_MAX {
        // One more than there may be, which refuses the message.
        return assert_eq!(item.args.len(), ARGUMENTS_MAX + 1);
    }
    assert_eq!(item.args.len(), stated.len());
    let found: BTreeMap<_, _> = item.args.iter().cloned().collect();
    assert_eq!(found, stated);
}

fn fact(scalar: &Value) -> Option<ArgValue> {
    match scalar {
        Value::String(text) => Some(ArgValue::Text(text.clone())).filter(|_| text.len() <= TEXT_BYTES_MAX),
        Value::Bool(truth) => Some(ArgValue::Bool(*truth)),
        Value::Number(number) => {
            number.as_i64().filter(|number| number.abs() <= json_rpc::INTEGER_MAX).map(ArgValue::Integer)
        }
        _ => None,
    }
}

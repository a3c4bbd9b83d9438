//! Who waits for an answer to a body: the ids of its requests, for an answer that refuses them.
//!
//! Nothing is decided by what is read here, so it is read leniently, and once: a body that is refused for what it says has
//! its id, too.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Id;
use crate::message::ITEMS_MAX;

/// Longest id that an answer repeats: a longer one would make a long answer, and correlates nothing that is worth it.
const ID_BYTES_MAX: usize = 256;

/// Longest text that such an id is written in: each character as `\uXXXX`, and quotation marks.
const WRITTEN_ID_BYTES_MAX: usize = 6 * ID_BYTES_MAX + 2;

/// Who waits for an answer to a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Waiting {
    /// It was not read, cannot be read, or has an id that is not repeated.
    #[default]
    Unknown,
    /// Nobody: it is a notification or a response, or a batch of these.
    Nobody,
    /// One request.
    One(Id),
    /// Those requests of a batch that have an id. Never empty.
    Several(Vec<Id>),
}

impl Waiting {
    /// Who waits for an answer to this body.
    pub fn of(body: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(body) else { return Self::Unknown };
        if !text.trim_start().starts_with('[') {
            return match waiter(text) {
                Some(Some(id)) => Self::One(id),
                Some(None) => Self::Nobody,
                None => Self::Unknown,
            };
        }
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else { return Self::Unknown };
        if items.is_empty() || items.len() > ITEMS_MAX {
            return Self::Unknown;
        }
        let waiters: Option<Vec<Option<Id>>> = items.iter().map(|item| waiter(item.get())).collect();
        match waiters.map(|waiters| waiters.into_iter().flatten().collect::<Vec<_>>()) {
            None => Self::Unknown,
            Some(ids) if ids.is_empty() => Self::Nobody,
            Some(ids) => Self::Several(ids),
        }
    }
}

#[derive(Deserialize)]
struct Call<'t> {
    /// `null` is an id, too, if a bad one.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'t RawValue>,
    #[serde(borrow, default)]
    method: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'t RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'t RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The id of a request; `Some(None)` of what is none; `None`: it cannot be told.
fn waiter(item: &str) -> Option<Option<Id>> {
    // A list would do for the members of a struct, one by one.
    let item = item.trim_start();
    item.starts_with('{').then_some(())?;
    let Call { id, method, result, error } = serde_json::from_str(item).ok()?;
    match (method, id) {
        (Some(_), Some(id)) => self::id(id.get()).map(Some),
        (Some(_), None) => Some(None),
        (None, Some(_)) if result.is_some() || error.is_some() => Some(None),
        (None, _) => None,
    }
}

fn id(written: &str) -> Option<Id> {
    (written.len() <= WRITTEN_ID_BYTES_MAX && !written.starts_with(['{', '['])).then_some(())?;
    match serde_json::from_str(written).ok()? {
        serde_json::Value::String(text) if text.len() <= ID_BYTES_MAX => Some(Id::Text(text)),
        serde_json::Value::Number(number) => number.as_i64().map(Id::Integer),
        serde_json::Value::Null => Some(Id::Null),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Waiting {
        Waiting::of(body.as_bytes())
    }

    #[test]
    fn requests_wait_and_nothing_else_does() {
        assert_eq!(of(r#"{"jsonrpc":"2.0","id":7,"method":"a","params":{"id":8}}"#), Waiting::One(Id::Integer(7)));
        assert_eq!(of(r#" {"method":"a","id":"x"}"#), Waiting::One(Id::Text("x".to_owned())));
        assert_eq!(of(r#"{"id":null,"method":"a"}"#), Waiting::One(Id::Null));
        for silent in
            [r#"{"method":"a"}"#, r#"{"id":1,"result":{}}"#, r#"{"id":1,"error":null}"#, r#"[{"method":"a"}]"#]
        {
            assert_eq!(of(silent), Waiting::Nobody, "{silent}");
        }
        let batch = r#"[{"id":1,"method":"a"},{"method":"b"},{"id":9,"result":1},{"id":"2","method":"c"}]"#;
        assert_eq!(of(batch), Waiting::Several(vec![Id::Integer(1), Id::Text("2".to_owned())]));
    }

    #[test]
    fn what_cannot_be_told_is_not_made_up() {
        let long = format!(r#"{{"id":"{}","method":"a"}}"#, "x".repeat(ID_BYTES_MAX + 1));
        let many = format!("[{}]", vec![r#"{"id":1,"method":"a"}"#; ITEMS_MAX + 1].join(","));
        for unknown in [
            "",
            "7",
            "[]",
            "[7]",
            r#"[[1,"a"]]"#,
            r#"{"id":7}"#,
            r#"{"id":7,"id":8,"method":"a"}"#,
            r#"{"id":1.5,"method":"a"}"#,
            r#"{"id":[1],"method":"a"}"#,
            r#"{"id":true,"method":"a"}"#,
            r#"{"id":7,"method":"a"} x"#,
            r#"[{"id":1,"method":"a"},{"id":2}]"#,
            &long,
            &many,
        ] {
            assert_eq!(of(unknown), Waiting::Unknown, "{unknown}");
        }
        assert_eq!(Waiting::of(b"{\"id\":7,\"method\":\"\xff\"}"), Waiting::Unknown);
    }
}

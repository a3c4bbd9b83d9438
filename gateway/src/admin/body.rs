//! Reading what callers send: bounded, JSON, and nothing in it that is not understood.

use std::collections::BTreeMap;
use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use postern_capabilities::caveat::FlagValue;
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::NotDone;

/// The longest word of a caller that an answer repeats.
const WORD_BYTES_MAX: usize = 48;

/// A sentence about what a caller wrote, without the caller's own text where that is long enough to hide a token.
pub(super) fn without_echo(sentence: String, instead: &str) -> String {
    match sentence.split([' ', '`', '"', '\\']).any(|word| word.len() > WORD_BYTES_MAX) {
        true => instead.to_owned(),
        false => sentence,
    }
}

/// Reads a JSON body of at most `bytes_max` bytes. Members that this endpoint does not know are refused.
pub(super) async fn json<T: DeserializeOwned>(
    parts: &request::Parts,
    body: Incoming,
    bytes_max: usize,
) -> Result<T, NotDone> {
    // Nothing else is read here, so a caller that does not say what it sends is believed to send JSON.
    let media_type = parts.headers.get(CONTENT_TYPE).map_or(Ok("application/json"), |value| value.to_str());
    let essence = media_type.unwrap_or("").split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") || parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(NotDone::MediaType);
    }
    let bytes = match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(NotDone::TooMuch(format!("An administration body has at most {bytes_max} bytes.")));
        }
        Err(_) => return Err(NotDone::Body("The body ended before it was complete.".into())),
    };
    // serde would also read an array as the members in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(NotDone::Body("The body must be a JSON object. GET /openapi.json says what it holds.".into()));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("something unexpected at line {} column {}", error.line(), error.column());
        let what = without_echo(error.to_string(), &place);
        NotDone::Body(format!("The body is not what this path reads: {what}. GET /openapi.json says what it reads."))
    })
}

/// `POST /capabilities/<resource>`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MintRequest {
    /// The operations to allow; all of them if absent, and `null` is not absence.
    #[serde(deserialize_with = "named")]
    pub(super) operations: Option<Vec<String>>,
    /// Caveats by the names of the command line's flags, without dashes.
    pub(super) caveats: Caveats,
}

/// What is named has a value: `null` would be read as if nothing had been asked for.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// Caveats by name, each at most once: of two with one name, two readers could believe another one.
#[derive(Debug, Default)]
pub(super) struct Caveats(pub(super) BTreeMap<String, FlagValue>);

impl<'de> Deserialize<'de> for Caveats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;

        impl<'de> Visitor<'de> for ByName {
            type Value = Caveats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of caveats by their names")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Caveats, A::Error> {
                let mut caveats = BTreeMap::new();
                while let Some((name, values)) = members.next_entry::<String, FlagValue>()? {
                    if caveats.insert(name, values).is_some() {
                        return Err(A::Error::custom("a caveat is named twice; give it a list instead"));
                    }
                }
                Ok(Caveats(caveats))
            }
        }

        deserializer.deserialize_map(ByName)
    }
}

/// `POST /revocations`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeRequest {
    /// The ids, in hexadecimal digits.
    pub(super) ids: Vec<String>,
}

/// `POST /keys`.
#[derive(Debug, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum KeyRequest {
    /// A new key mints from now on.
    Rotate {},
    /// What this key signed is refused from now on.
    Retire {
        /// Its number.
        id: u32,
    },
}

/// The query of the endpoints that page: whole numbers by name, each at most once, no other names.
pub(super) struct Page {
    /// Return what comes after this position.
    pub(super) after: u64,
    /// At most so many entries.
    pub(super) limit: usize,
    /// Wait so many seconds for the first entry.
    pub(super) wait_seconds: u64,
}

impl Page {
    /// Reads the query; `waits` says whether `wait` is known here.
    pub(super) fn of_query(query: &str, waits: bool) -> Result<Self, NotDone> {
        let wrong = |what: String| NotDone::Invalid("bad-query", what);
        let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let known = ["after", "limit"].contains(&name) || (waits && name == "wait");
            if !known {
                return Err(wrong(format!(
                    "The query may say `after`, `limit`{}.",
                    if waits { ", `wait`" } else { "" }
                )));
            }
            let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
            let number = number.ok_or_else(|| wrong(format!("`{name}` must be a whole number.")))?;
            if seen.insert(name, number).is_some() {
                return Err(wrong(format!("`{name}` is given twice.")));
            }
        }
        let entries_max = crate::limits::ADMIN_PAGE_ENTRIES_MAX as u64;
        let limit = seen.get("limit").copied().unwrap_or(100);
        if limit == 0 || limit > entries_max {
            return Err(wrong(format!("`limit` must be 1 to {entries_max}.")));
        }
        let wait_max = crate::limits::ADMIN_WAIT_MAX.as_secs();
        let wait_seconds = seen.get("wait").copied().unwrap_or(0);
        if wait_seconds > wait_max {
            return Err(wrong(format!("`wait` must be at most {wait_max} seconds.")));
        }
        let after = seen.get("after").copied().unwrap_or(0);
        Ok(Self { after, limit: usize::try_from(limit).unwrap_or(1), wait_seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read_strictly() {
        let page = Page::of_query("after=7&limit=3&wait=5", true).ok().unwrap();
        assert_eq!((page.after, page.limit, page.wait_seconds), (7, 3, 5));
        assert!(Page::of_query("", false).is_ok());
        for wrong in ["after", "after=-1", "after=1&after=2", "limit=0", "limit=100000", "x=1", "wait=1", "after=+1"] {
            assert!(Page::of_query(wrong, false).is_err(), "{wrong}");
        }
        assert!(Page::of_query("wait=31", true).is_err());
    }

    #[test]
    fn unknown_members_are_refused() {
        assert!(serde_json::from_str::<MintRequest>(r#"{"caveat":{}}"#).is_err());
        assert!(
            serde_json::from_str::<MintRequest>(r#"{"operations":["GET"],"caveats":{"path":["/a","/b"]}}"#).is_ok()
        );
        let twice = r#"{"caveats":{"path":"/a","path":"/b"}}"#;
        assert!(serde_json::from_str::<MintRequest>(twice).unwrap_err().to_string().contains("named twice"));
        assert!(serde_json::from_str::<RevokeRequest>(r#"{"ids":[],"token":"x"}"#).is_err());
        assert!(serde_json::from_str::<KeyRequest>(r#"{"action":"retire"}"#).is_err());
        assert!(serde_json::from_str::<KeyRequest>(r#"{"action":"rotate","id":1}"#).is_err());
        assert!(serde_json::from_str::<KeyRequest>(r#"{"action":"rotate"}"#).is_ok());
    }
}

//! The gateway's own paths on the data listener. No upstream ever sees them, whatever is mounted where.

use std::time::SystemTime;

use postern_capabilities::revocation::Standing;
use postern_capabilities::web_keys::{KEY_DOCUMENT_PATH, key_document};

use sha2::{Digest, Sha256};

use super::error::Refused;
use crate::head::Head;
use crate::wall_clock::http_date;

/// Everything at or below these is answered here.
const OWN: [&str; 2] = [KEY_DOCUMENT_PATH, "/.well-known/postern"];

/// How long a reader may go by a key document without asking again: how long a key that was retired, which ends its tokens
/// here at once, may still be accepted by a backend.
pub const KEY_DOCUMENT_SECONDS: u32 = 30;

/// A small answer of the gateway's own.
pub struct Answer {
    /// The HTTP status: 200, or 304 and 204 without a body.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// The body's version, in quotes.
    pub etag: String,
}

impl Answer {
    /// The fields besides framing, for both versions of HTTP.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("date", http_date(SystemTime::now()))];
        if self.status != 204 {
            fields.extend([
                ("content-type", self.content_type.to_owned()),
                ("cache-control", format!("public, max-age={KEY_DOCUMENT_SECONDS}")),
                ("etag", self.etag.clone()),
                // Public keys are for everybody, pages of any origin included: they verify with them before they narrow.
                ("access-control-allow-origin", "*".to_owned()),
            ]);
        }
        fields
    }

    /// What `Content-Length` says. A 304 has none: it would be taken for the document's.
    pub fn length(&self) -> Option<usize> {
        (self.status == 200).then_some(self.body.len())
    }

    /// 204: all there is to say stands in the head.
    pub fn empty() -> Self {
        Self { status: 204, content_type: "", body: String::new(), etag: String::new() }
    }
}

/// Answers a message for one of the gateway's own paths; `None` for every other path.
///
/// The key document needs no token: public keys let a backend verify, and give nobody anything.
pub fn answer(standing: &Standing, head: &Head<'_>, path: &str) -> Option<Result<Answer, Refused>> {
    OWN.iter().find(|own| path.strip_prefix(**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))?;
    if path != OWN[0] {
        return Some(Err(Refused::NotFound));
    }
    Some(match head.method() {
        "GET" | "HEAD" => {
            let body = key_document(&standing.keys(), &standing.statement_keys());
            let etag = format!("\"{:.16}\"", hex(&Sha256::digest(&body)));
            let known = head.fields().filter(|field| field.name.eq_ignore_ascii_case(b"if-none-match"));
            let (status, body) = match known.into_iter().any(|field| names(field.value, &etag)) {
                true => (304, String::new()),
                false => (200, body),
            };
            Ok(Answer { status, content_type: "application/json", body, etag })
        }
        _ => Err(Refused::MethodNotAllowed),
    })
}

/// Whether an `If-None-Match` names this version (RFC 9110 section 13.1.2).
fn names(value: &[u8], etag: &str) -> bool {
    let bare = |entry: &[u8]| entry.strip_prefix(b"W/").unwrap_or(entry) == etag.as_bytes();
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|entry| entry == b"*" || bare(entry))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};

    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    fn asked(standing: &Standing, path: &str, fields: &str) -> Option<Result<Answer, Refused>> {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("complete");
        answer(standing, &head, path)
    }

    #[test]
    fn the_key_document_lists_the_live_keys() {
        let key = SigningKey::generate().public();
        let standing = Standing::new(KeyRing::of(KeyId(7), key));
        let answer = asked(&standing, KEY_DOCUMENT_PATH, "").expect("own").expect("answered");
        let document: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(document[0]["key_id"], 7);
        let text = format!("ed25519/{}", document[0]["key_bytes"].as_str().expect("text"));
        assert_eq!(text, key.to_string());
    }

    #[test]
    fn a_document_that_is_known_is_not_sent_again_until_a_key_changes() {
        let standing = Standing::new(KeyRing::of(KeyId(7), SigningKey::generate().public()));
        let get = |fields: &str| {
            let answer = asked(&standing, KEY_DOCUMENT_PATH, fields).expect("own").expect("answered");
            (answer.status, answer.length().is_some(), answer.etag)
        };
        let (status, _, etag) = get("");
        assert_eq!(status, 200);
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            assert_eq!(get(&format!("If-None-Match: {known}\r\n")), (304, false, etag.clone()), "{known}");
        }
        assert_eq!(get("If-None-Match: \"x\"\r\n").0, 200);
        let mut ring = standing.keys();
        ring.rotate(KeyId(8), SigningKey::generate().public()).expect("rotated");
        standing.set_keys(ring);
        assert_eq!(get(&format!("If-None-Match: {etag}\r\n")).0, 200);
    }

    #[test]
    fn nothing_below_the_own_paths_reaches_an_upstream() {
        let standing = Standing::new(KeyRing::new());
        for path in ["/.well-known/postern", "/.well-known/postern/messages/x", "/.well-known/biscuit-web-keys/x"] {
            assert!(matches!(asked(&standing, path, ""), Some(Err(Refused::NotFound))), "{path}");
        }
        for path in ["/", "/.well-known/acme", "/.well-known/posterns"] {
            assert!(asked(&standing, path, "").is_none(), "{path}");
        }
    }
}

//! The gateway's own paths on the data listener. No upstream ever sees them, whatever is mounted where.

use postern_capabilities::revocation::Standing;
use postern_capabilities::web_keys::{KEY_DOCUMENT_PATH, key_document};

use super::error::Refused;

/// Everything at or below these is answered here.
const OWN: [&str; 2] = [KEY_DOCUMENT_PATH, "/.well-known/postern"];

/// A small answer of the gateway's own.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// Answers a message for one of the gateway's own paths; `None` for every other path.
///
/// The key document needs no token: public keys let a backend verify, and give nobody anything.
pub fn answer(standing: &Standing, method: &str, path: &str) -> Option<Result<Answer, Refused>> {
    OWN.iter().find(|own| path.strip_prefix(**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))?;
    if path != OWN[0] {
        return Some(Err(Refused::NotFound));
    }
    Some(match method {
        "GET" | "HEAD" => {
            Ok(Answer { status: 200, content_type: "application/json", body: key_document(&standing.keys()) })
        }
        _ => Err(Refused::MethodNotAllowed),
    })
}

#[cfg(test)]
mod tests {
    use postern_capabilities::keys::{KeyId, KeyRing, SigningKey};

    use super::*;

    #[test]
    fn the_key_document_lists_the_live_keys() {
        let key = SigningKey::generate().public();
        let standing = Standing::new(KeyRing::of(KeyId(7), key));
        let answer = answer(&standing, "GET", "/.well-known/biscuit-web-keys").expect("own").expect("answered");
        let document: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(document[0]["key_id"], 7);
        let text = format!("ed25519/{}", document[0]["key_bytes"].as_str().expect("text"));
        assert_eq!(text, key.to_string());
    }

    #[test]
    fn nothing_below_the_own_paths_reaches_an_upstream() {
        let standing = Standing::new(KeyRing::new());
        for path in ["/.well-known/postern", "/.well-known/postern/messages/x", "/.well-known/biscuit-web-keys/x"] {
            assert!(matches!(answer(&standing, "GET", path), Some(Err(Refused::NotFound))), "{path}");
        }
        for path in ["/", "/.well-known/acme", "/.well-known/posterns"] {
            assert!(answer(&standing, "GET", path).is_none(), "{path}");
        }
    }
}

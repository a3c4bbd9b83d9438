//! Problems as a gateway, or a service with this library, answers them: typed, and with what they say about trying again.

use std::fmt;

pub use postern_capabilities::problem::Retry;
use serde::Deserialize;

/// An answer that says why not (RFC 9457), read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable type, such as `not-permitted`: programs may branch on it.
    pub kind: String,
    /// A summary.
    pub title: String,
    /// What happened this time, and what the caller can do.
    pub detail: String,
    /// The caveats that stopped the message.
    pub caveats: Vec<StoppedBy>,
    said: Option<Retry>,
}

/// A caveat that stopped a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoppedBy {
    /// The block that carries it; 0 is the authority.
    pub block: usize,
    /// Its place in that block.
    pub check: usize,
    /// The caveat, printed.
    #[serde(rename = "caveat")]
    pub text: String,
    /// What it allows and what the message asked for instead, where there are words for it.
    #[serde(default)]
    pub words: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    r#type: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    caveats: Vec<StoppedBy>,
    #[serde(default)]
    retry: Option<serde_json::Value>,
}

impl Problem {
    /// Reads the body of an answer with this status and `Content-Type`; `None` where it is no problem document.
    pub fn read(status: u16, content_type: &str, body: &[u8]) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/problem+json") {
            return None;
        }
        let Written { r#type: kind, title, detail, caveats, retry } = serde_json::from_slice(body).ok()?;
        // A word that is not known here says nothing.
        let said = retry.and_then(|word| serde_json::from_value(word).ok());
        Some(Self { status, kind, title, detail, caveats, said })
    }

    /// Whether the request that met it can be sent again as it was. What the answer says counts, and else its status. What
    /// may have been acted upon is safe where the method is idempotent, since doing it twice is then the same as once.
    pub fn retry(&self, method: &str) -> Retry {
        match self.said.unwrap_or_else(|| Retry::by_status(self.status)) {
            Retry::Unknown if is_idempotent(method) => Retry::Safe,
            said => said,
        }
    }
}

/// RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = if self.detail.is_empty() { &self.title } else { &self.detail };
        write!(f, "{says} ({} {})", self.status, self.kind)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Option<Problem> {
        Problem::read(status, "application/problem+json; charset=utf-8", body.as_bytes())
    }

    #[test]
    fn what_a_gateway_answers_is_read() {
        let body = r#"{"type":"not-permitted","title":"t","status":403,"detail":"d","caveats":[{"block":0,"check":1,"caveat":"check if path(\"/\")","words":"only /"},{"block":1,"check":0,"caveat":"check if true"}],"retry":"no"}"#;
        let problem = problem(403, body).unwrap();
        assert_eq!((problem.kind.as_str(), problem.caveats.len()), ("not-permitted", 2));
        assert_eq!((problem.caveats[0].block, problem.caveats[0].check), (0, 1));
        assert_eq!((problem.caveats[0].words.as_deref(), &problem.caveats[1].words), (Some("only /"), &None));
        assert_eq!(problem.to_string(), "d (403 not-permitted)");
        assert_eq!(problem.retry("GET"), Retry::No);
        assert_eq!(Problem::read(403, "application/json", body.as_bytes()), None);
        assert_eq!(Problem::read(403, "application/problem+json", b"<html>"), None);
    }

    #[test]
    fn what_a_service_with_this_library_answers_is_read() {
        let written = postern_capabilities::Problem::missing_capability();
        let read = Problem::read(written.status, postern_capabilities::Problem::MEDIA_TYPE, written.body().as_bytes());
        let read = read.unwrap();
        assert_eq!((read.kind.as_str(), read.title.as_str()), (written.kind, written.title));
        assert_eq!((read.detail.as_str(), read.retry("POST")), (&*written.detail, written.retry));
    }

    #[test]
    fn whether_repeating_is_safe_is_said_or_follows_from_the_status() {
        let of = |status, said: &str, method: &str| {
            problem(status, &format!(r#"{{"type":"upstream-closed"{said}}}"#)).unwrap().retry(method)
        };
        assert_eq!(of(502, r#","retry":"safe""#, "POST"), Retry::Safe);
        assert_eq!(of(502, "", "POST"), Retry::Unknown);
        assert_eq!(of(502, "", "PUT"), Retry::Safe);
        assert_eq!(of(502, r#","retry":"unknown""#, "GET"), Retry::Safe);
        assert_eq!(of(503, r#","retry":"unknown""#, "POST"), Retry::Unknown);
        assert_eq!(of(503, "", "POST"), Retry::Safe);
        assert_eq!(of(401, "", "GET"), Retry::No);
        assert_eq!(of(502, r#","retry":"perhaps""#, "POST"), Retry::Unknown, "an unknown word says nothing");
    }
}

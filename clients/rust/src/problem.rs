//! Problems as a gateway, or a service with this library, answers them: typed, and with what they say about trying again.

use std::fmt;

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
    /// The caveats that stopped the message, printed.
    pub caveats: Vec<String>,
    retry: Option<Repeat>,
}

/// Whether sending the same request once more is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// It was not acted upon, or acting twice is the same as once: it can be sent again.
    Safe,
    /// Whether it was acted upon is not known, and acting twice might not be the same as once.
    Unknown,
    /// It would meet the same answer.
    No,
}

#[derive(Deserialize)]
struct Written {
    r#type: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    caveats: Vec<WrittenCaveat>,
    #[serde(default)]
    retry: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct WrittenCaveat {
    caveat: String,
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
        let retry = retry.and_then(|word| serde_json::from_value(word).ok());
        let caveats = caveats.into_iter().map(|caveat| caveat.caveat).collect();
        Some(Self { status, kind, title, detail, caveats, retry })
    }

    /// Whether the request that met it can be sent again as it was. What the answer says counts; else its status, and whether the
    /// method is idempotent.
    pub fn repeat(&self, method: &str) -> Repeat {
        self.retry.unwrap_or(match self.status {
            408 | 425 | 429 | 503 => Repeat::Safe,
            502 | 504 if self.kind == "upstream-unreachable" || is_idempotent(method) => Repeat::Safe,
            500.. => Repeat::Unknown,
            _ => Repeat::No,
        })
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
        let body = r#"{"type":"not-permitted","title":"t","status":403,"detail":"d","caveats":[{"block":0,"check":1,"caveat":"check if path(\"/\")"}],"retry":"no"}"#;
        let problem = problem(403, body).unwrap();
        assert_eq!((problem.kind.as_str(), problem.caveats.len()), ("not-permitted", 1));
        assert_eq!(problem.to_string(), "d (403 not-permitted)");
        assert_eq!(problem.repeat("GET"), Repeat::No);
        assert_eq!(Problem::read(403, "application/json", body.as_bytes()), None);
        assert_eq!(Problem::read(403, "application/problem+json", b"<html>"), None);
    }

    #[test]
    fn whether_repeating_is_safe_is_said_or_follows_from_the_status() {
        let of = |status, kind: &str, method: &str| {
            problem(status, &format!(r#"{{"type":"{kind}"}}"#)).unwrap().repeat(method)
        };
        assert_eq!(of(502, "upstream-unreachable", "POST"), Repeat::Safe);
        assert_eq!(of(502, "upstream-closed", "POST"), Repeat::Unknown);
        assert_eq!(of(502, "upstream-closed", "PUT"), Repeat::Safe);
        assert_eq!(of(503, "unavailable", "POST"), Repeat::Safe);
        assert_eq!(of(401, "expired", "GET"), Repeat::No);
        let said = problem(502, r#"{"type":"upstream-closed","retry":"safe"}"#).unwrap();
        assert_eq!(said.repeat("POST"), Repeat::Safe);
        let later = problem(502, r#"{"type":"upstream-closed","retry":"perhaps"}"#).unwrap();
        assert_eq!(later.repeat("POST"), Repeat::Unknown);
    }
}

//! A refusal as HTTP: the status, the challenge and the `application/problem+json` body that a gateway would answer with.
//!
//! It stands here so that backends in every language answer alike, and a caller need not know who refused it.

use serde::Serialize;

use super::VerifyError;
use crate::authorize::{FailedCaveat, Refusal};

/// Most bytes of `error_description`: the body has the reason in full.
const DESCRIPTION_BYTES_MAX: usize = 256;

/// One refusal as a caller sees it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The stable type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A summary that does not change from one occurrence to the next.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what the caller can do.
    pub detail: String,
    /// The caveats that stop the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<ProblemCaveat>,
    /// What `WWW-Authenticate` says, where the status calls for it.
    #[serde(skip)]
    pub challenge: Option<Challenge>,
}

/// One failed caveat. The holder can read its own token, so this tells it nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemCaveat {
    /// The block that carries it; 0 is the authority.
    pub block: usize,
    /// Its place in that block.
    pub check: usize,
    /// As text.
    pub caveat: String,
}

/// The `error` of a Bearer challenge (RFC 6750 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// No token came, so there is no error.
    Bare,
    /// `invalid_request`
    InvalidRequest,
    /// `invalid_token`
    InvalidToken,
    /// `insufficient_scope`
    InsufficientScope,
}

impl Problem {
    /// The media type of [`Problem::body`].
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// The JSON.
    pub fn body(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always expressible in JSON")
    }

    /// The value of `WWW-Authenticate`, where the answer has that field.
    pub fn www_authenticate(&self) -> Option<String> {
        let error = match self.challenge? {
            Challenge::Bare => return Some("Bearer".to_owned()),
            Challenge::InvalidRequest => "invalid_request",
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
        };
        Some(format!("Bearer error=\"{error}\", error_description=\"{}\"", quotable(&self.detail)))
    }
}

impl VerifyError {
    /// The problem that this refusal is. The one place where a reason becomes a status.
    pub fn problem(&self) -> Problem {
        let (status, title, challenge) = match self {
            Self::Malformed(_) | Self::Operation => (400, "The request is not strict HTTP", None),
            Self::Path(_) | Self::NotCanonical => (400, "The path is ambiguous", None),
            Self::TwoTokens => (400, "More than one token was presented", Some(Challenge::InvalidRequest)),
            Self::MissingCapability => (401, "No capability was presented", Some(Challenge::Bare)),
            Self::UnreadableCarrier(_) | Self::Unreadable(_) => {
                (401, "The token cannot be read", Some(Challenge::InvalidToken))
            }
            Self::NotVerified(_) => (401, "The token is not accepted", Some(Challenge::InvalidToken)),
            Self::NotBelowMount | Self::Refusal(Refusal::NoRight) => {
                (404, "There is nothing here for this capability", None)
            }
            Self::Body(_) => (400, "The body cannot be decided on", None),
            Self::ClientUnknown => (403, "A caveat cannot be decided", Some(Challenge::InsufficientScope)),
            Self::Refusal(refusal) => of_refusal(refusal),
        };
        let caveats = match self {
            Self::Refusal(Refusal::Caveat(failed)) => failed.iter().map(ProblemCaveat::of).collect(),
            _ => Vec::new(),
        };
        Problem { kind: self.kind(), title, status, detail: sentence(self.to_string()), caveats, challenge }
    }
}

fn of_refusal(refusal: &Refusal) -> (u16, &'static str, Option<Challenge>) {
    match refusal {
        Refusal::Revoked { .. } | Refusal::KeyRetired => {
            (401, "The token is no longer accepted", Some(Challenge::InvalidToken))
        }
        Refusal::Expired { .. } => (401, "The token has expired", Some(Challenge::InvalidToken)),
        Refusal::NoRight => (404, "There is nothing here for this capability", None),
        Refusal::UnreadableQuery(_) => (400, "The query cannot be decided on", None),
        Refusal::LengthRequired => (411, "The body's length must be declared", None),
        Refusal::BodyFactsRequired => (403, "The body cannot be decided on", None),
        Refusal::Caveat(_) => (403, "A caveat stops this message", Some(Challenge::InsufficientScope)),
        Refusal::Undecidable { .. } => (403, "A caveat cannot be decided", Some(Challenge::InsufficientScope)),
    }
}

impl ProblemCaveat {
    fn of(failed: &FailedCaveat) -> Self {
        Self { block: failed.block, check: failed.check, caveat: failed.text.to_string() }
    }
}

/// An error's text as the sentence that a caller reads.
fn sentence(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

/// What RFC 6750 section 3 allows in `error_description`.
fn quotable(text: &str) -> String {
    let allowed = |c| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' };
    text.chars().map(allowed).take(DESCRIPTION_BYTES_MAX).collect()
}

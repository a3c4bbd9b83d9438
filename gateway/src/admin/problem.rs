//! What administration answers when it does not do what was asked: RFC 9457 problems, like everywhere else.
//!
//! What the shared steps refuse is a [`Refused`], mapped in `request::error`; what only administration can refuse is
//! mapped here.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use postern_capabilities::keys::KeyRingError;
use postern_capabilities::mint::MintError;
use postern_capabilities::problem::{Problem, Retry};

use super::body::without_echo;
use crate::ledger::LedgerError;
use crate::ledger::record::{AppendError, ReadError};
use crate::request::error::Refused;
use crate::request::respond::problem_fields;
use crate::state::StateError;

/// Why an administration message was not answered as asked.
#[derive(Debug)]
pub(super) enum NotDone {
    /// A step that all messages take refused it.
    Refused(Refused),
    /// There is nothing at this path.
    NoSuchPath,
    /// Something is there, and takes other methods.
    Method(&'static str),
    /// The body is not what this endpoint reads.
    Body(String),
    /// The body's media type is not JSON.
    MediaType,
    /// The body or a part of the query breaks a rule; the sentence says which.
    Invalid(&'static str, String),
    /// The body or the caller's list is too long.
    TooMuch(String),
    /// The resource is one that is never minted for here.
    ReservedResource(String),
    /// The gateway has no such resource.
    UnknownResource(String),
    /// A capability could not be minted.
    Mint(MintError),
    /// The ledger did not record or read it.
    Ledger(LedgerError),
    /// The state folder could not be written.
    State(StateError),
    /// The ledger takes no writes.
    NotReady(String),
    /// It took longer than an administration message may.
    TooSlow,
}

impl From<Refused> for NotDone {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<LedgerError> for NotDone {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl NotDone {
    /// The problem that this is.
    pub(super) fn problem(&self) -> Problem {
        match self {
            Self::Refused(refused) => refused.problem(),
            Self::NoSuchPath => Problem::new(
                404,
                "not-found",
                "There is nothing at this path",
                "Administration has no such path; GET /openapi.json lists them.",
            ),
            Self::Method(allow) => {
                Problem::new(405, "method-not-allowed", "This path takes other methods", format!("Use one of: {allow}."))
            }
            Self::Body(what) => Problem::new(400, "bad-body", "The body cannot be read", what.clone()),
            Self::MediaType => Problem::new(
                415,
                "media-type-not-served",
                "The body must be JSON",
                "Send the body with `Content-Type: application/json` and without a content coding.",
            ),
            Self::Invalid(kind, what) => Problem::new(400, kind, "The request breaks a rule", what.clone()),
            Self::TooMuch(what) => Problem::new(413, "body-too-large", "The request is too large", what.clone()),
            Self::ReservedResource(name) => Problem::new(
                403,
                "reserved-resource",
                "This resource is never minted for here",
                format!(
                    "Capabilities for `{name}` are not minted through administration: those for `postern` come from the root key, offline, and those for `messages` are receipts."
                ),
            ),
            Self::UnknownResource(name) => Problem::new(
                404,
                "unknown-resource",
                "The gateway has no such resource",
                format!("There is no resource `{name}` in this gateway's configuration; GET /resources lists them."),
            ),
            Self::Mint(error) => {
                let instead =
                    "With these caveats no capability can be minted; `postern lint` says more of one minted offline.";
                Problem::new(400, "bad-caveat", "The capability cannot be minted", without_echo(error.to_string(), instead))
            }
            Self::Ledger(error) => ledger_problem(error),
            Self::State(error) => {
                // The error names files of this machine, which are for its operator alone.
                tracing::error!(%error, "administration could not use the state folder");
                Problem::new(
                    503,
                    "state-unavailable",
                    "The gateway cannot use its state folder",
                    "The state folder could not be read or written; the gateway's log says which file and why.",
                )
            }
            Self::NotReady(why) => Problem::new(503, "not-ready", "The gateway is not ready", why.clone()),
            Self::TooSlow => Problem::new(
                503,
                "unavailable",
                "The gateway could not do this in time",
                "Whether it was done is unknown: look (GET /ledger) before repeating it. Revoking again is always safe.",
            )
            .retry(Retry::Unknown),
        }
    }

    /// The answer. A HEAD's answer has no body.
    pub(super) fn response(&self, head_only: bool) -> Response<Full<Bytes>> {
        let problem = self.problem();
        let body = problem.body();
        let mut fields = problem_fields(&problem);
        if let Self::Method(allow) = self {
            fields.retain(|(name, _)| *name != "allow");
            fields.push(("allow", (*allow).to_owned()));
        }
        let mut response = Response::new(Full::new(if head_only { Bytes::new() } else { Bytes::from(body) }));
        *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in fields {
            // A detail that cannot stand in a field is left out; the body has it.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// What a ledger's refusal is in HTTP.
fn ledger_problem(error: &LedgerError) -> Problem {
    let title = "The ledger did not record this";
    let detail = error.to_string();
    match error {
        LedgerError::Append(append) => match append {
            AppendError::QueueFull { .. } => Problem::new(503, "ledger-busy", title, detail),
            AppendError::Unavailable(_) | AppendError::ReadOnly(_) => {
                Problem::new(503, "ledger-unavailable", title, detail)
            }
            AppendError::Unknown => {
                Problem::new(503, "outcome-unknown", "Whether this was recorded is unknown", detail)
                    .retry(Retry::Unknown)
            }
            AppendError::Conflict { .. } => Problem::new(409, "conflict", title, detail),
            AppendError::TooLarge { .. } => Problem::new(413, "body-too-large", title, detail),
        },
        LedgerError::Read(ReadError::QueueFull) => Problem::new(503, "ledger-busy", "The ledger is busy", detail),
        LedgerError::Read(ReadError::Failed(_) | ReadError::Damaged(_)) => {
            Problem::new(503, "ledger-unavailable", "The ledger cannot be read", detail)
        }
        LedgerError::Keys(KeyRingError::Unknown(_)) => {
            Problem::new(404, "unknown-key-number", "There is no such key", detail)
        }
        LedgerError::Keys(_) | LedgerError::RetireMinting(_) | LedgerError::OtherRootKey { .. } => {
            Problem::new(409, "keys-conflict", "The keys do not allow this", detail)
        }
        LedgerError::TooBusy => Problem::new(503, "ledger-busy", title, detail),
    }
}

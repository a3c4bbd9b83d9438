//! Why a message was not forwarded, and the one place where a reason becomes a status.
//!
//! A [`Refused`] is a value in the domain's words; [`Refused::problem`] is the exhaustive match that turns each into an
//! RFC 9457 problem. What the caller reads and what the log counts come from the same match, so they cannot drift apart.
//! The `type` strings are stable: callers may branch on them.

use std::borrow::Cow;

use postern_capabilities::authorize::Refusal;
use postern_capabilities::narrow::NotNarrowable;
use postern_capabilities::path::PathError;
use postern_capabilities::token::{NotVerified, Unreadable};
use serde::Serialize;

use crate::head::HeadError;
use crate::http1::framing::FramingError;
use crate::upstream::call::Failure;

/// A message that is not forwarded, or an exchange that the upstream failed.
#[derive(Debug)]
pub enum Refused {
    /// The head is not strict HTTP, or exceeds a limit (RFC 9112, RFC 9113).
    Head(HeadError),
    /// The body's framing is not strict HTTP. The text says what and where.
    Framing(Cow<'static, str>),
    /// The path is not in a form that every reader understands alike.
    Path(PathError),
    /// TLS was set up for one host name and the message names another (RFC 9110 section 7.4).
    Misdirected,
    /// More than one token was presented.
    TwoTokens,
    /// The carrier of the token cannot be read.
    UnreadableCarrier(&'static str),
    /// No token was presented, and the resource names no anonymous capability.
    MissingCapability,
    /// The token's text is not a token.
    Unreadable(Unreadable),
    /// The token is not signed by a live key, or says what the gateway does not understand.
    NotVerified(NotVerified),
    /// A switch to another protocol is not asked for properly. The text says what is wrong.
    BadHandshake(&'static str),
    /// The capability's answer to this message.
    Refusal(Refusal),
    /// The resource's service is to get the token narrowed to this message, and it cannot be.
    NotNarrowable(NotNarrowable),
    /// There is no such resource, or the capability holds no right to it: nobody can tell which.
    NotFound,
    /// One of the gateway's own paths, with another method than GET or HEAD.
    MethodNotAllowed,
    /// The resource switches to no such protocol.
    ProtocolNotServed,
    /// The body is, or turned out to be, larger than the resource allows.
    BodyTooLarge {
        /// The resource's bound in bytes.
        max: u64,
    },
    /// A caveat reads the body, and the body is none that can be decided on. The text says why.
    UnreadableBody(Cow<'static, str>),
    /// A caveat reads the body, which is longer than the gateway holds back for that.
    BodyTooLargeToRead {
        /// The limit in bytes.
        max: u64,
    },
    /// The client was too slow in sending its request.
    RequestTimeout,
    /// No connection to the upstream could be made.
    UpstreamUnreachable(Cow<'static, str>),
    /// Every address of the service has as much to do as it may, and no place became free in time.
    UpstreamBusy,
    /// Every address of the service fails its health checks.
    UpstreamUnhealthy,
    /// The upstream closed or reset the connection before it answered.
    UpstreamClosed,
    /// The upstream's answer is not HTTP that can be passed on.
    UpstreamNonsense(Cow<'static, str>),
    /// The upstream did not answer in time.
    UpstreamTimeout,
    /// The deadline that the caller had set for itself has passed.
    DeadlineExceeded,
    /// The gateway itself is at a limit, or is shutting down.
    Unavailable(&'static str),
}

/// The kind of the problem that is the caller's own deadline.
pub const DEADLINE: &str = "deadline-exceeded";

/// What the client reads when an upstream fails: not where the upstream is, nor what the system said. The log has both.
impl From<&Failure> for Refused {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Unreachable(_) => Self::UpstreamUnreachable(
                "No connection to the service could be made; nothing was sent to it. Trying again later is safe."
                    .into(),
            ),
            Failure::Busy(_) => Self::UpstreamBusy,
            Failure::Unhealthy => Self::UpstreamUnhealthy,
            Failure::Unprocessed => Self::UpstreamUnreachable(
                "The service did not take the request, and did nothing. Trying again later is safe.".into(),
            ),
            Failure::Unsendable(_) => Self::UpstreamUnreachable(
                format!("Between the gateway and the service {failure}. Nothing was sent to the service.").into(),
            ),
            Failure::Closed | Failure::Body(FramingError::Truncated) => Self::UpstreamClosed,
            Failure::Timeout => Self::UpstreamTimeout,
            Failure::Overload => Self::Unavailable(
                "There was no memory left for the service's answer. Whether it acted on the request is unknown.",
            ),
            Failure::Reset(_)
            | Failure::Http2(_)
            | Failure::Head(_)
            | Failure::Body(_)
            | Failure::Informational { .. }
            | Failure::Switched
            | Failure::BadSwitch(_)
            | Failure::Unfilterable(_) => Self::UpstreamNonsense(format!("{failure}.").into()),
        }
    }
}

/// One refusal as the caller sees it: an RFC 9457 problem.
#[derive(Debug)]
pub struct Problem {
    /// The HTTP status code.
    pub status: u16,
    /// The stable `type`.
    pub kind: &'static str,
    /// A short summary that does not change from one occurrence to the next.
    pub title: &'static str,
    /// What happened this time, and what the caller can do.
    pub detail: Cow<'static, str>,
    /// RFC 6750 section 3: what the `WWW-Authenticate` field says, where the status calls for one.
    pub challenge: Option<Challenge>,
    /// The failed caveats, printed, where the refusal is a capability's.
    pub caveats: Vec<ProblemCaveat>,
    /// Whether the same message may be sent again.
    pub retry: Retry,
}

/// Whether the same message may be sent again, for programs: the member `retry` of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Nothing of it went to a service: sending it again does nothing twice, and can help.
    Safe,
    /// A service may have acted on it: only a message that may be done twice may be sent again.
    Unknown,
    /// The same message gets the same answer: something about it has to change first.
    No,
}

impl Retry {
    /// What a status says where a problem says nothing else.
    pub fn by_status(status: u16) -> Self {
        match status {
            // The gateway itself has no room; it looked at nothing of the message.
            503 => Self::Safe,
            // The service was asked, or the message was on its way to it.
            408 | 500.. => Self::Unknown,
            _ => Self::No,
        }
    }
}

/// One failed caveat as a problem shows it. The holder can read its own token, so this tells it nothing new.
#[derive(Debug, Serialize)]
pub struct ProblemCaveat {
    /// The block that carries the caveat; 0 is the authority.
    pub block: usize,
    /// Its place in that block.
    pub check: usize,
    /// The caveat as the plan prints it.
    #[serde(rename = "caveat")]
    pub text: String,
    /// What it allows and what the message asks for instead, where there are words for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

/// RFC 6750 section 3.1: the `error` of a Bearer challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No token came: the challenge carries no error.
    Bare,
    /// `invalid_request`
    InvalidRequest,
    /// `invalid_token`
    InvalidToken,
    /// `insufficient_scope`
    InsufficientScope,
}

impl Challenge {
    /// The `error` attribute's value, if there is one.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Self::Bare => None,
            Self::InvalidRequest => Some("invalid_request"),
            Self::InvalidToken => Some("invalid_token"),
            Self::InsufficientScope => Some("insufficient_scope"),
        }
    }
}

fn problem(status: u16, kind: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
    let (detail, retry) = (sentence(detail.into()), Retry::by_status(status));
    Problem { status, kind, title, detail, challenge: None, caveats: Vec::new(), retry }
}

impl Problem {
    /// What the caller can do, behind what happened.
    fn advice(mut self, advice: &str) -> Self {
        self.detail = format!("{} {advice}", self.detail).into();
        self
    }

    fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    fn challenge(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }
}

/// What a client does whose request no careful reader takes.
const MEND_CLIENT: &str = "Nothing was forwarded; correct the program that wrote the request.";

/// The same bytes for a resource that does not exist and for one the token holds no right to.
fn not_found() -> Problem {
    problem(
        404,
        "not-found",
        "There is nothing here for this capability",
        "No such resource, or the presented capability holds no right to this operation on it. Check the path's first \
         segment, and `postern inspect` the token for its rights.",
    )
}

impl Refused {
    /// Whether the connection's framing can no longer be trusted, so that it must close after the answer.
    pub fn closes_connection(&self) -> bool {
        matches!(
            self,
            Self::Head(_)
                | Self::Framing(_)
                | Self::RequestTimeout
                | Self::BodyTooLarge { .. }
                | Self::BodyTooLargeToRead { .. }
                | Self::Unavailable(_)
        )
    }

    /// The problem that this refusal is. The one place where reasons become status codes.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Head(error) => {
                let (kind, title) = match error.status() {
                    414 => ("target-too-long", "The request target is too long"),
                    417 => ("expectation-failed", "The expectation cannot be met"),
                    431 => ("head-too-large", "The request head is too large"),
                    505 => ("version-not-served", "This HTTP version is not served here"),
                    _ => ("malformed-request", "The request is not strict HTTP"),
                };
                problem(error.status(), kind, title, error.to_string()).advice(MEND_CLIENT)
            }
            Self::Framing(what) => {
                problem(400, "malformed-request", "The request is not strict HTTP", what.clone()).advice(MEND_CLIENT)
            }
            Self::BadHandshake(what) => problem(400, "bad-handshake", "The protocol cannot be switched like this", *what)
                .advice(MEND_CLIENT),
            Self::Path(error) => problem(400, "bad-path", "The path is ambiguous", error.to_string())
                .advice("Send the path in its one form: resolved, with every escape in UTF-8 and none escaped twice."),
            Self::Misdirected => problem(
                421,
                "misdirected-request",
                "This connection was made for another host",
                "The host of the request is not the name that the TLS handshake asked for. Open a connection for this host.",
            )
            .retry(Retry::Safe),
            Self::TwoTokens => problem(
                400,
                "two-tokens",
                "More than one token was presented",
                "Present exactly one capability: in `Authorization: Bearer`, or in `Postern-Capability`, not both and not twice.",
            )
            .challenge(Challenge::InvalidRequest),
            Self::UnreadableCarrier(what) => {
                problem(401, "invalid-token", "The token cannot be read", *what)
                    .advice("Send it as `Authorization: Bearer <token>`.")
                    .challenge(Challenge::InvalidToken)
            }
            Self::MissingCapability => problem(
                401,
                "missing-capability",
                "No capability was presented",
                "Send a token in `Authorization: Bearer <token>`. Whoever runs this gateway, or holds a token, can hand you one.",
            )
            .challenge(Challenge::Bare),
            Self::Unreadable(error) => {
                problem(401, error.kind(), "The token cannot be read", error.to_string())
                    .advice("Copy the token anew from where it was handed out; `postern inspect` shows whether one is whole.")
                    .challenge(Challenge::InvalidToken)
            }
            Self::NotVerified(error) => {
                problem(401, error.kind(), "The token is not accepted", error.to_string())
                    .advice("Present a token that this gateway's keys signed; `postern lint` says what in one is not accepted anywhere.")
                    .challenge(Challenge::InvalidToken)
            }
            Self::Refusal(refusal) => refusal_problem(refusal),
            Self::NotNarrowable(error) => {
                problem(403, error.kind(), "The token cannot be narrowed to this message", error.to_string())
                    .advice("This resource takes only tokens that can be narrowed: present one that is not sealed and has room for a block.")
            }
            Self::NotFound => not_found(),
            Self::MethodNotAllowed => problem(405, "method-not-allowed", "This path is only read", "Use GET or HEAD."),
            Self::ProtocolNotServed => problem(
                501,
                "protocol-not-served",
                "This protocol is not served here",
                "The resource does not switch to the protocol that `:protocol` names. A WebSocket is `websocket`.",
            )
            .retry(Retry::No),
            Self::BodyTooLarge { max } => problem(
                413,
                "body-too-large",
                "The body is too large",
                format!("This resource takes bodies of at most {max} bytes. Send a smaller one, or several."),
            ),
            Self::UnreadableBody(what) => problem(
                400,
                "bad-body",
                "The body cannot be decided on",
                format!("A caveat of the token reads the body, and {what}."),
            )
            .advice("Send one JSON-RPC 2.0 message, or a batch of them, or present a token whose caveats do not read the body."),
            Self::BodyTooLargeToRead { max } => problem(
                413,
                "body-too-large",
                "The body is too large",
                format!("A caveat of the token reads the body, and for that it can have at most {max} bytes. Send a smaller one."),
            ),
            Self::RequestTimeout => problem(
                408,
                "request-timeout",
                "The request came too slowly",
                "The rest of the request did not arrive in time. Whether the service acted on the part that did is unknown: send \
                 it again if it may be done twice.",
            ),
            Self::UpstreamUnreachable(what) => problem(502, "upstream-unreachable", "The service cannot be reached", what.clone()).retry(Retry::Safe),
            Self::UpstreamBusy => problem(
                503,
                "upstream-busy",
                "The service has no room for this request now",
                "As many requests as may are under way at the service, and no place became free in time. Nothing was sent to \
                 it: trying again later is safe.",
            ),
            Self::UpstreamUnhealthy => problem(
                503,
                "upstream-unhealthy",
                "The service is not well",
                "The service fails its health checks, so nothing is sent to it until it passes them. Trying again later is safe.",
            ),
            Self::UpstreamClosed => problem(
                502,
                "upstream-closed",
                "The service closed the connection",
                "The service closed the connection before it answered. Whether it acted on the request is unknown: send it again if it may be \
                 done twice.",
            ),
            Self::UpstreamNonsense(what) => problem(
                502,
                "upstream-nonsense",
                "The service's answer cannot be passed on",
                format!("{what} Whether it acted on the request is unknown; whoever runs the service finds more in the gateway's log."),
            ),
            Self::UpstreamTimeout => problem(
                504,
                "upstream-timeout",
                "The service did not answer in time",
                "The service took longer than the gateway waits. Whether it acted on the request is unknown: send it again if it may be \
                 done twice.",
            ),
            Self::DeadlineExceeded => problem(
                504,
                DEADLINE,
                "The caller's deadline has passed",
                "The service did not finish before the deadline that the call names. Whether it acted on it is unknown: \
                 call again, with more time, if it may be done twice.",
            ),
            Self::Unavailable(what) => problem(503, "unavailable", "The gateway cannot take this request now", *what)
                .advice("Nothing was forwarded: send it again after the time in `Retry-After`."),
        }
    }
}

/// What a capability's refusal is in HTTP.
fn refusal_problem(refusal: &Refusal) -> Problem {
    let detail = refusal.to_string();
    match refusal {
        Refusal::Revoked { .. } | Refusal::KeyRetired => {
            problem(401, refusal.kind(), "The token is no longer accepted", detail)
                .advice("Whoever handed it out can hand out another one.")
                .challenge(Challenge::InvalidToken)
        }
        Refusal::Expired { .. } => {
            problem(401, refusal.kind(), "The token has expired", detail)
                .advice("Ask whoever handed it out for a new one.")
                .challenge(Challenge::InvalidToken)
        }
        Refusal::NoRight => not_found(),
        Refusal::UnreadableQuery(_) => problem(400, refusal.kind(), "The query cannot be decided on", detail)
            .advice("Send a query that can be read in one way only."),
        Refusal::LengthRequired => problem(411, refusal.kind(), "The body's length must be declared", detail)
            .advice("Send it again with `Content-Length`."),
        Refusal::BodyFactsRequired => problem(403, refusal.kind(), "The body cannot be decided on", detail)
            .advice("Send it with a JSON-RPC body, or present a token whose caveats do not read the body."),
        Refusal::Caveat(failed) => {
            let mut problem = problem(403, refusal.kind(), "A caveat stops this message", detail)
                .advice("Send a message that complies, or present a token with fewer caveats: whoever narrowed this one can hand out another.")
                .challenge(Challenge::InsufficientScope);
            problem.caveats = failed
                .iter()
                .map(|f| ProblemCaveat {
                    block: f.block,
                    check: f.check,
                    text: f.text.to_string(),
                    words: f.words.as_deref().map(ToOwned::to_owned),
                })
                .collect();
            problem
        }
        Refusal::Undecidable { .. } => {
            problem(403, refusal.kind(), "A caveat cannot be decided", detail)
                .advice("What cannot be decided is not allowed: present another token, or have whoever wrote the caveat correct it.")
                .challenge(Challenge::InsufficientScope)
        }
    }
}

/// An error's text as the sentence that a caller reads: errors are written to be joined to others, a detail stands alone.
fn sentence(text: Cow<'static, str>) -> Cow<'static, str> {
    if !text.starts_with(|c: char| c.is_ascii_lowercase()) && text.ends_with(['.', '?', '!']) {
        return text;
    }
    let mut sentence = text.into_owned();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !sentence.ends_with(['.', '?', '!']) {
        sentence.push('.');
    }
    sentence.into()
}

//! Why a message was not forwarded, and the one place where a reason becomes a status.
//!
//! A [`Refused`] is a value in the domain's words; [`Refused::problem`] is the exhaustive match that turns each into an
//! RFC 9457 problem. What the caller reads and what the log counts come from the same match, so they cannot drift apart.
//! What a backend's verifier refuses as well has its problem from [`postern_capabilities::problem`], so that both say the same;
//! here is what only a gateway can meet. The `type` strings are stable: callers may branch on them.

use std::borrow::Cow;

use postern_capabilities::authorize::{OfCalls, Refusal};
use postern_capabilities::narrow::NotNarrowable;
use postern_capabilities::path::PathError;
use postern_capabilities::problem::{Problem, Retry};
use postern_capabilities::token::{NotVerified, Unreadable};

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
    /// A trusted proxy says where the message comes from by a field that cannot be read. The text says what is wrong.
    UnreadableOrigin(Cow<'static, str>),
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
    /// A GET or DELETE of the Model Context Protocol by a capability that only calls: by its caveats, which stop it, or by its
    /// rights.
    OnlyPosts(Option<Box<Refusal>>),
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
    /// The service speaks HTTP/2 and nothing else can be spoken there.
    UpstreamCannotSwitch,
    /// The service answers 401 and asks for a handshake that authenticates a connection, and for nothing else.
    UpstreamAuthenticatesConnections,
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
    /// The service has answered, and the gateway has no memory for what it said.
    NoRoomForAnswer,
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
            Failure::NoSwitching => Self::UpstreamCannotSwitch,
            Failure::ConnectionAuth => Self::UpstreamAuthenticatesConnections,
            Failure::Closed | Failure::Body(FramingError::Truncated) => Self::UpstreamClosed,
            Failure::Timeout => Self::UpstreamTimeout,
            Failure::Overload => Self::NoRoomForAnswer,
            Failure::Shortage => Self::Unavailable(
                "So much is under way that no connection to the service could be made: the gateway is out of file descriptors \
                 or memory.",
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

/// What a client does whose request no careful reader takes.
const MEND_CLIENT: &str = "Nothing was forwarded; correct the program that wrote the request.";

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

    /// How many of the caveats that stop the message speak of calls.
    pub fn of_calls(&self) -> OfCalls {
        match self {
            Self::Refusal(refusal) => refusal.of_calls(),
            _ => OfCalls::None,
        }
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
                Problem::new(error.status(), kind, title, error.to_string()).advice(MEND_CLIENT)
            }
            Self::Framing(what) => {
                Problem::new(400, "malformed-request", "The request is not strict HTTP", what.clone()).advice(MEND_CLIENT)
            }
            Self::BadHandshake(what) => Problem::new(400, "bad-handshake", "The protocol cannot be switched like this", *what)
                .advice(MEND_CLIENT),
            Self::UnreadableOrigin(what) => Problem::new(
                400,
                "unreadable-origin",
                "What the proxy in front says of the client cannot be read",
                format!("{what}. Nothing was forwarded."),
            )
            .advice("Have the proxy in front of the gateway set the field anew, or take it out of `trusted_fields`."),
            Self::Path(error) => error.into(),
            Self::Misdirected => Problem::new(
                421,
                "misdirected-request",
                "This connection was made for another host",
                "The host of the request is not the name that the TLS handshake asked for. Open a connection for this host.",
            )
            .retry(Retry::Safe),
            Self::TwoTokens => Problem::two_tokens(),
            Self::UnreadableCarrier(what) => Problem::unreadable_carrier(what),
            Self::MissingCapability => Problem::missing_capability(),
            Self::Unreadable(error) => error.into(),
            Self::NotVerified(error) => error.into(),
            Self::Refusal(refusal) => refusal.into(),
            Self::NotNarrowable(error) => {
                Problem::new(403, error.kind(), "The token cannot be narrowed to this message", error.to_string())
                    .advice("This resource takes only tokens that can be narrowed: present one that is not sealed and has room for a block.")
            }
            Self::NotFound => Problem::not_found(),
            Self::OnlyPosts(Some(refusal)) => Problem::from(&**refusal).not_allowed("POST"),
            Self::OnlyPosts(None) => Problem::new(
                405,
                "not-permitted",
                "This capability only posts",
                "The token holds POST on this resource and no other operation: calls are posted, no stream is opened with GET, \
                 and no session ended with DELETE.",
            )
            .not_allowed("POST"),
            Self::MethodNotAllowed => Problem::new(405, "method-not-allowed", "This path is only read", "Use GET or HEAD."),
            Self::ProtocolNotServed => Problem::new(
                501,
                "protocol-not-served",
                "This protocol is not served here",
                "The resource does not switch to the protocol that `:protocol` names. A WebSocket is `websocket`.",
            )
            .retry(Retry::No),
            Self::BodyTooLarge { max } => Problem::new(
                413,
                "body-too-large",
                "The body is too large",
                format!("This resource takes bodies of at most {max} bytes. Send a smaller one, or several."),
            ),
            Self::UnreadableBody(what) => Problem::unreadable_body(what),
            Self::BodyTooLargeToRead { max } => Problem::body_too_large_to_read(*max),
            Self::RequestTimeout => Problem::new(
                408,
                "request-timeout",
                "The request came too slowly",
                "The rest of the request did not arrive in time. Whether the service acted on the part that did is unknown: send \
                 it again if it may be done twice.",
            ),
            Self::UpstreamUnreachable(what) => Problem::new(502, "upstream-unreachable", "The service cannot be reached", what.clone()).retry(Retry::Safe),
            Self::UpstreamCannotSwitch => Problem::new(
                502,
                "upstream-cannot-switch",
                "The service does not switch protocols",
                "The service speaks HTTP/2 and has not enabled extended CONNECT there (RFC 8441), so that no WebSocket, nor any \
                 other protocol, can be opened. Nothing was sent to it. Whoever runs the service can enable that (it is the \
                 setting SETTINGS_ENABLE_CONNECT_PROTOCOL), or have it offer HTTP/1.1: by ALPN behind `https://`, else behind \
                 `http://` in the resource's `upstream`.",
            )
            .retry(Retry::No),
            Self::UpstreamAuthenticatesConnections => Problem::new(
                502,
                "upstream-authenticates-connections",
                "The service authenticates connections",
                "The service refused the request and asks for NTLM or Negotiate, which authenticate a connection and with it \
                 whatever comes over it next. The gateway's connections carry the messages of many capabilities, so such a \
                 challenge is not passed on. Have the service ask for credentials that each request carries.",
            )
            .retry(Retry::No),
            Self::UpstreamBusy => Problem::new(
                503,
                "upstream-busy",
                "The service has no room for this request now",
                "As many requests as may are under way at the service, and no place became free in time. Nothing was sent to \
                 it: trying again later is safe.",
            ),
            Self::UpstreamUnhealthy => Problem::new(
                503,
                "upstream-unhealthy",
                "The service is not well",
                "The service fails its health checks, so nothing is sent to it until it passes them. Trying again later is safe.",
            ),
            Self::UpstreamClosed => Problem::new(
                502,
                "upstream-closed",
                "The service closed the connection",
                "The service closed the connection before it answered. Whether it acted on the request is unknown: send it again if it may be \
                 done twice.",
            ),
            Self::UpstreamNonsense(what) => Problem::new(
                502,
                "upstream-nonsense",
                "The service's answer cannot be passed on",
                format!("{what} Whether it acted on the request is unknown; whoever runs the service finds more in the gateway's log."),
            ),
            Self::UpstreamTimeout => Problem::new(
                504,
                "upstream-timeout",
                "The service did not answer in time",
                "The service took longer than the gateway waits. Whether it acted on the request is unknown: send it again if it may be \
                 done twice.",
            ),
            Self::DeadlineExceeded => Problem::new(
                504,
                DEADLINE,
                "The caller's deadline has passed",
                "The service did not finish before the deadline that the call names. Whether it acted on it is unknown: \
                 call again, with more time, if it may be done twice.",
            ),
            Self::NoRoomForAnswer => Problem::new(
                503,
                "unavailable",
                "The gateway cannot take this request now",
                "There was no memory left for the service's answer. Whether it acted on the request is unknown: send it again, \
                 after the time in `Retry-After`, if it may be done twice.",
            )
            .retry(Retry::Unknown),
            Self::Unavailable(what) => Problem::new(503, "unavailable", "The gateway cannot take this request now", *what)
                .advice("Nothing was forwarded: send it again after the time in `Retry-After`."),
        }
    }
}

//! Why a backend does not act on a message, in the domain's words and with the gateway's own problem types.

use std::borrow::Cow;

use crate::authorize::Refusal;
use crate::path::PathError;
use crate::problem::{Challenge, Problem};
use crate::token::{NotVerified, Unreadable};

/// Why a message is not authorised, as far as a backend can tell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The request is one that no gateway forwards.
    #[error("the request is not one that a gateway forwards: {0}")]
    Malformed(&'static str),
    /// The method is none.
    #[error("the method is no operation: write an HTTP method in upper case, such as GET")]
    Operation,
    /// The path can be read in several ways.
    #[error(transparent)]
    Path(PathError),
    /// The path has another spelling that means the same.
    #[error("the path is not in its canonical form, in which a gateway forwards it")]
    NotCanonical,
    /// The path does not begin with the prefix that the gateway is said to leave on it.
    #[error(
        "the path is not below the prefix that this service was told the gateway leaves on it; is `keep_prefix` on at the gateway?"
    )]
    NotBelowMount,
    /// More than one token came.
    #[error(
        "present exactly one capability: in `Authorization: Bearer`, or in `Postern-Capability`, not both and not twice"
    )]
    TwoTokens,
    /// The field that should carry a token does not.
    #[error("{0}")]
    UnreadableCarrier(&'static str),
    /// No token came.
    #[error("no capability was presented: send a token in `Authorization: Bearer <token>`")]
    MissingCapability,
    /// The text is no token.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// The token is not signed by a key that is accepted here, or says what is not admitted.
    #[error(transparent)]
    NotVerified(NotVerified),
    /// A caveat asks who the client is, and this service was not told.
    #[error(
        "a caveat asks for the client's address, which is not known here: the server has to hand on the peer's address, \
         or the verifier has to be told that the gateway is believed"
    )]
    ClientUnknown,
    /// A caveat asks who the client is, and nobody states it whom this service may believe.
    #[error(
        "a caveat asks for the client's address or certificate, the host or the scheme, and the token carries no statement \
         of a gateway that says so; send the message through the gateway, whose `forward_token` is \"narrowed\" for this \
         resource, or tell the verifier whom else to believe"
    )]
    Unstated,
    /// A caveat asks what the body says, and two readers could read it differently.
    #[error("a caveat of the token reads the body, and {0}")]
    Body(Cow<'static, str>),
    /// The capability's answer to this message.
    #[error(transparent)]
    Refusal(Refusal),
}

impl VerifyError {
    /// The stable problem type: the gateway's own where both can meet the reason.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Operation => "malformed-request",
            Self::Path(_) | Self::NotCanonical => "bad-path",
            Self::NotBelowMount => "not-found",
            Self::TwoTokens => "two-tokens",
            Self::UnreadableCarrier(_) => "invalid-token",
            Self::MissingCapability => "missing-capability",
            Self::Unreadable(error) => error.kind(),
            Self::NotVerified(error) => error.kind(),
            Self::Body(_) => "bad-body",
            Self::ClientUnknown | Self::Unstated => "not-permitted",
            Self::Refusal(refusal) => refusal.kind(),
        }
    }
    /// The problem that this refusal is: what a gateway answers, where both can meet the reason.
    pub fn problem(&self) -> Problem {
        let own = |status, title| Problem::new(status, self.kind(), title, self.to_string());
        match self {
            Self::Malformed(_) | Self::Operation => own(400, "The request is not strict HTTP")
                .advice("Nothing was done; send it through the gateway, or correct the program that wrote it."),
            Self::Path(error) => error.into(),
            Self::NotCanonical => Problem::ambiguous_path(self.to_string()),
            Self::NotBelowMount => own(404, Problem::not_found().title),
            Self::TwoTokens => Problem::two_tokens(),
            Self::UnreadableCarrier(what) => Problem::unreadable_carrier(what),
            Self::MissingCapability => Problem::missing_capability(),
            Self::Unreadable(error) => error.into(),
            Self::NotVerified(error) => error.into(),
            Self::ClientUnknown | Self::Unstated => {
                own(403, "A caveat cannot be decided").challenge(Challenge::InsufficientScope)
            }
            Self::Body(what) => Problem::unreadable_body(what),
            Self::Refusal(refusal) => refusal.into(),
        }
    }
}

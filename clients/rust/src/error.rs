//! Why a request is refused, and why a verifier cannot be set up.

use postern_capabilities::keys::{KeyError, KeyRingError};
use postern_capabilities::path::PathError;
use postern_capabilities::problem::Problem as Answer;
use postern_capabilities::resource::ResourceNameError;
use postern_capabilities::verifier::VerifyError;

/// A request that the service does not act upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not authorised.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The keys are too old to go by, and new ones cannot be had.
    #[error("the gateway's keys cannot be had at the moment, so nothing can be verified: {0}")]
    KeysUnavailable(String),
    /// A caveat asks what the body says, and the body is too large to be read for that.
    #[error("a caveat of the token reads the body, and for that it can have at most {max} bytes")]
    BodyTooLarge {
        /// How many are read.
        max: usize,
    },
    /// A caveat asks what the body says, and the body did not come whole.
    #[error("the body could not be read to its end")]
    BodyBroken,
}

impl Refused {
    /// The stable problem type; the gateway's own where both can meet the reason.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Verify(error) => error.kind(),
            Self::KeysUnavailable(_) => "unavailable",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::BodyBroken => "malformed-request",
        }
    }

    /// The answer that says so. What the log should know besides, such as why no keys can be had, is not in it.
    pub fn problem(&self) -> Answer {
        match self {
            Self::Verify(error) => error.problem(),
            Self::KeysUnavailable(_) => Answer::keys_unavailable(),
            Self::BodyTooLarge { max } => Answer::body_too_large_to_read(u64::try_from(*max).unwrap_or(u64::MAX)),
            Self::BodyBroken => Answer::body_broken(),
        }
    }
}

/// Why a verifier or a client cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The resource has no such name.
    #[error(transparent)]
    Resource(#[from] ResourceNameError),
    /// The key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys do not go together.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The file with the key cannot be read.
    #[error("cannot read the public key in {path}: {error}; it is `root.pub` in the gateway's state folder")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file holds no key that can be used.
    #[error("the file {path} holds no public key that can be used: {error}")]
    KeyInFile {
        /// Which file.
        path: String,
        /// What is wrong.
        error: KeyError,
    },
    /// The mount prefix is no path.
    #[error("the mount prefix is a path such as \"/orders\": {0}")]
    Mount(PathError),
    /// The gateway's keys cannot be had.
    #[cfg(feature = "http-client")]
    #[error(transparent)]
    Fetch(#[from] crate::fetched::FetchError),
}

impl SetupError {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resource(_) => "bad-resource",
            Self::Key(_) | Self::Keys(_) | Self::KeyInFile { .. } => "bad-key",
            Self::File { .. } => "unreadable-key",
            Self::Mount(_) => "bad-path",
            #[cfg(feature = "http-client")]
            Self::Fetch(error) => error.kind(),
        }
    }
}

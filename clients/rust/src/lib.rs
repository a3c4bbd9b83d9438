//! Postern for Rust: verify in a backend, attenuate as a holder, call with a capability.
//!
//! Whoever runs a service behind a Postern gateway need not trust the network or the gateway. With the gateway's public
//! key the service verifies that this very message is authorised:
//!
//! ```
//! # #[cfg(feature = "verify")] {
//! use postern_client::{Caveat, KeyId, SigningKey, Verifier, mint};
//!
//! # let root = SigningKey::generate();
//! # let right = postern_client::Right { resource: "orders".parse().unwrap(), operation: "GET".parse().unwrap() };
//! # let token = mint(&root, KeyId(1), &[right], &[Caveat::path(&["/v1/**"]).unwrap()]).unwrap();
//! let verifier = Verifier::of("orders")?.key(&root.public().to_string())?;
//! let request = http::Request::get("/v1/42").header("authorization", format!("Bearer {}", token.expose())).body(())?;
//! let capability = verifier.verify(&request.into_parts().0)?;
//! assert!(capability.holds("GET"));
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | feature | what for |
//! |---|---|
//! | `verify` (default) | [`Verifier`]: requests are decided, by keys from text or a file |
//! | `tower` | [`CapabilityLayer`]: every request that reaches the inner service was |
//! | `axum` | [`Capability`] is an extractor |
//! | `http-client` | [`Client`] calls with a capability; keys are fetched from the gateway and follow its rotations |
//!
//! What a holder does needs none of them: [`attenuate`], [`seal`], [`inspect`], [`mint`].
//!
//! All decisions are made by `postern-capabilities`, the crate by which the gateway itself decides.

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "verify")]
mod capability;
#[cfg(feature = "http-client")]
mod client;
#[cfg(feature = "verify")]
mod error;
#[cfg(all(feature = "verify", feature = "http-client"))]
mod fetched;
#[cfg(feature = "tower")]
mod layer;
pub mod limits;
#[cfg(all(feature = "http-client", unix))]
mod local;
mod problem;
#[cfg(feature = "http-client")]
mod transport;
#[cfg(feature = "verify")]
mod verifier;

pub use postern_capabilities::caveat::CaveatError;
pub use postern_capabilities::keys::{KeyId, KeyRing, PublicKey, SigningKey};
pub use postern_capabilities::resource::{Operation, ResourceName, Right};
pub use postern_capabilities::{Caveat, RevocationId, TokenText, attenuate, inspect, lint, mint, seal};

#[cfg(feature = "axum")]
pub use self::axum::NoCapability;
#[cfg(feature = "verify")]
pub use self::capability::Capability;
#[cfg(feature = "http-client")]
pub use self::client::{Client, SendError};
#[cfg(feature = "verify")]
pub use self::error::{Refused, SetupError};
#[cfg(all(feature = "verify", feature = "http-client"))]
pub use self::fetched::{FetchError, Refresh};
#[cfg(feature = "tower")]
pub use self::layer::{CapabilityLayer, CapabilityService, Peer};
pub use self::problem::{Problem, Retry, StoppedBy};
#[cfg(feature = "http-client")]
pub use self::transport::{Transport, Unreachable};
#[cfg(feature = "verify")]
pub use self::verifier::{Setup, Verifier};
#[cfg(feature = "verify")]
pub use postern_capabilities::path::EncodedSlash;
#[cfg(feature = "verify")]
pub use postern_capabilities::verifier::{AuthorizationUse, Believed, VerifyError};

/// The programs on the page are compiled, and the first one is run.
#[cfg(all(doctest, feature = "axum", feature = "http-client"))]
#[doc = include_str!("../README.md")]
struct Page;

/// Seconds since 1970, UTC. A clock before that reads as 0, which no `not-before` takes for later.
#[cfg(any(feature = "verify", feature = "http-client"))]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

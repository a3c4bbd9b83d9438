//! The capability as an extractor of axum's handlers.

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use postern_capabilities::problem::{Problem, Retry};

use crate::capability::Capability;
use crate::error::Refused;
use crate::layer::answer;

/// A handler asks for a capability on a route that no [`CapabilityLayer`](crate::CapabilityLayer) is around: nothing was
/// decided, so nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the service has no layer around this route that would decide on its messages")]
pub struct NoCapability;

impl<S: Send + Sync> FromRequestParts<S> for Capability {
    type Rejection = NoCapability;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NoCapability> {
        parts.extensions.get::<Self>().cloned().ok_or(NoCapability)
    }
}

impl IntoResponse for NoCapability {
    fn into_response(self) -> Response {
        let problem = Problem::new(
            500,
            "no-capability-layer",
            "The service is not set up to decide on this message",
            "Nothing was done. Whoever runs the service has to put a `CapabilityLayer` around this route.",
        );
        answer::<Body>(&problem.retry(Retry::No))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        answer::<Body>(&self.problem())
    }
}

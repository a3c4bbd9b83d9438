//! A layer: what reaches the service inside was decided, and carries the [`Capability`] in its extensions.
//!
//! To be put around the whole service, so that it sees the path as the gateway sent it. What is refused is answered
//! here, as a gateway would answer it.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use postern_capabilities::authorize::Refusal;
use postern_capabilities::problem::Problem;
use postern_capabilities::verifier::VerifyError;
use tower_layer::Layer;
use tower_service::Service;

use crate::capability::Capability;
use crate::error::Refused;
use crate::limits::BODY_BYTES_MAX;
use crate::verifier::Verifier;

/// The address of a connection's other end, for servers other than axum's: put it into a request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Decides on every request before the service inside sees it.
#[derive(Clone)]
pub struct CapabilityLayer {
    verifier: Verifier,
    body_bytes_max: usize,
}

impl CapabilityLayer {
    /// A layer that decides by this verifier.
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, body_bytes_max: BODY_BYTES_MAX }
    }

    /// Reads bodies of at most so many bytes, where a caveat asks what they say.
    pub fn body_bytes_max(mut self, bytes: usize) -> Self {
        self.body_bytes_max = bytes;
        self
    }
}

impl<S> Layer<S> for CapabilityLayer {
    type Service = CapabilityService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CapabilityService { inner, layer: self.clone() }
    }
}

/// A service behind a [`CapabilityLayer`].
#[derive(Clone)]
pub struct CapabilityService<S> {
    inner: S,
    layer: CapabilityLayer,
}

impl<S, B, R> Service<Request<B>> for CapabilityService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + From<Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was found ready is the one that is called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match layer.decide(&head, body).await {
                Ok((capability, body)) => {
                    hide(&mut head);
                    head.extensions.insert(capability);
                    inner.call(Request::from_parts(head, body)).await
                }
                Err(refused) => Ok(answer(&refused.problem())),
            }
        })
    }
}

impl CapabilityLayer {
    /// Decides on a request; hands on its body, read or not.
    async fn decide<B>(&self, head: &Parts, body: B) -> Result<(Capability, B), Refused>
    where
        B: http_body::Body<Data = Bytes> + From<Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.verifier.verify_fresh(head, None).await {
            Ok(capability) => return Ok((capability, body)),
            // Nothing else stands in the way.
            Err(Refused::Verify(VerifyError::Refusal(Refusal::BodyFactsRequired))) => {}
            Err(refused) => return Err(refused),
        }
        let body = Limited::new(body, self.body_bytes_max).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => Refused::BodyTooLarge { max: self.body_bytes_max },
                None => Refused::BodyBroken,
            }
        })?;
        let body = body.to_bytes();
        let capability = self.verifier.verify_with_body(head, Some(&body))?;
        Ok((capability, B::from(body)))
    }
}

/// What is printed of a request by accident must not hold the token.
fn hide(head: &mut Parts) {
    for name in [AUTHORIZATION, HeaderName::from_static("postern-capability")] {
        if let Some(value) = head.headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

/// A problem as a response.
pub(crate) fn answer<R: From<String>>(problem: &Problem) -> Response<R> {
    let mut response = Response::new(R::from(problem.body()));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if problem.status == 503 {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    // The text of a challenge is visible ASCII, so it is a field's value.
    if let Some(challenge) = problem.www_authenticate().and_then(|text| HeaderValue::try_from(text).ok()) {
        fields.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

//! Keys that come from the gateway's key document, and follow its rotations.
//!
//! A document is fresh for a while; then it is still used, and fetched again beside the messages, so that none of them
//! waits for the gateway. A document that is older than it may be is not used any more: a gateway that cannot be reached could have
//! retired a key meanwhile, and that must not stay unnoticed for ever. A token that names an unknown key has the document fetched once
//! more, at most once in an interval, so that a stranger's tokens are no means to flood the gateway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use postern_capabilities::verifier::Verifier as Core;
use postern_capabilities::web_keys::{KEY_DOCUMENT_BYTES_MAX, KEY_DOCUMENT_PATH, KeyDocumentError};

use crate::error::Refused;
use crate::limits::FETCH_TIMEOUT;
use crate::transport::{Transport, TransportError};

/// How fetched keys are kept up to date.
#[derive(Clone)]
pub struct Refresh {
    /// How long a document is fresh: how long a retired key can still be accepted here. A shorter `Cache-Control: max-age` of
    /// the document counts.
    pub fresh: Duration,
    /// How old a document may become while the gateway cannot be reached; then every message is refused (503).
    pub age_max: Duration,
    /// The least time between two attempts, and between two that tokens under unknown keys cause.
    pub interval_min: Duration,
    /// By what it is fetched. Named where the gateway's certificate is from an authority that the system does not know.
    pub transport: Option<Transport>,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(30),
            age_max: Duration::from_secs(15 * 60),
            interval_min: Duration::from_secs(2),
            transport: None,
        }
    }
}

/// The document of one gateway, and the verifier whose keys it says.
pub(crate) struct Fetched {
    transport: Transport,
    document: Uri,
    refresh: Refresh,
    core: Arc<Core>,
    state: Mutex<State>,
    /// Held by whoever fetches: one at a time.
    fetching: tokio::sync::Mutex<()>,
}

struct State {
    fetched_at: Instant,
    tried_at: Instant,
    /// When a token under an unknown key last had it fetched. Counted by itself, so that the first token of a new key need
    /// not wait because of an ordinary refresh a moment ago.
    looked_at: Option<Instant>,
    fresh: Duration,
    etag: Option<String>,
}

impl Fetched {
    /// Fetches the document for the first time.
    pub(crate) async fn first(url: &str, refresh: Refresh, core: Arc<Core>) -> Result<Arc<Self>, FetchError> {
        let document: Uri = format!("{}{KEY_DOCUMENT_PATH}", url.trim_end_matches('/'))
            .parse()
            .map_err(|_| FetchError::Url(url.to_owned()))?;
        if document.scheme().is_none() || document.authority().is_none_or(|it| it.as_str().contains('@')) {
            return Err(FetchError::Url(url.to_owned()));
        }
        let transport = refresh.transport.clone().unwrap_or_default();
        let now = Instant::now();
        let state = State { fetched_at: now, tried_at: now, looked_at: None, fresh: Duration::ZERO, etag: None };
        let fetching = tokio::sync::Mutex::new(());
        let fetched = Arc::new(Self { transport, document, refresh, core, state: Mutex::new(state), fetching });
        fetched.fetch().await?;
        Ok(fetched)
    }

    /// Keys that may be used: the present ones, while they are not too old; or new ones.
    pub(crate) async fn keep_fresh(self: &Arc<Self>) -> Result<(), Refused> {
        let (age, fresh, tried) = {
            let state = self.state();
            (state.fetched_at.elapsed(), state.fresh, state.tried_at.elapsed())
        };
        if age < fresh {
            return Ok(());
        }
        if age < self.refresh.age_max {
            if tried >= self.refresh.interval_min && self.fetching.try_lock().is_ok() {
                let this = Arc::clone(self);
                // What comes of it shows in the age of the keys.
                tokio::spawn(async move { this.fetch().await });
            }
            return Ok(());
        }
        if tried < self.refresh.interval_min {
            return Err(Refused::KeysUnavailable("the last attempt to fetch them failed a moment ago".to_owned()));
        }
        self.fetch().await.map_err(|error| Refused::KeysUnavailable(error.to_string()))
    }

    /// Fetches once more, because of a token that names a key that is not known; not too often.
    pub(crate) async fn look_again(&self) {
        {
            let mut state = self.state();
            if state.looked_at.is_some_and(|at| at.elapsed() < self.refresh.interval_min) {
                return;
            }
            state.looked_at = Some(Instant::now());
        }
        // If it fails, the token stays one under an unknown key.
        let _ = self.fetch().await;
    }

    /// Fetches the document and puts its keys in force. Who comes while somebody else is at it takes what that one gets.
    pub(crate) async fn fetch(&self) -> Result<(), FetchError> {
        let asked_at = Instant::now();
        let _turn = self.fetching.lock().await;
        if self.state().fetched_at > asked_at {
            return Ok(());
        }
        self.state().tried_at = Instant::now();
        let etag = self.state().etag.clone();
        let mut request = Request::get(&self.document).header(header::ACCEPT, "application/json");
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let request = request.body(Full::<Bytes>::default()).map_err(|_| FetchError::Url(self.document.to_string()))?;
        let unavailable = |reason: String| FetchError::Unavailable { document: self.document.to_string(), reason };
        let answer =
            self.transport.send(request, FETCH_TIMEOUT, KEY_DOCUMENT_BYTES_MAX).await.map_err(|error| match error {
                TransportError::Url(reason) | TransportError::Unknown(reason) => unavailable(reason),
                TransportError::Unreachable(why) => unavailable(why.to_string()),
            })?;
        match answer.status() {
            StatusCode::OK => {
                let followed = self.core.follow_document(answer.body(), crate::now());
                followed.map_err(|error| FetchError::Document { document: self.document.to_string(), error })?;
            }
            StatusCode::NOT_MODIFIED => {}
            status => {
                let status = status.as_u16();
                return Err(unavailable(format!(
                    "it is answered with status {status}; is this a Postern gateway's address?"
                )));
            }
        }
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let max_age = text(header::CACHE_CONTROL).and_then(max_age).unwrap_or(self.refresh.fresh);
        let etag = text(header::ETAG).map(str::to_owned);
        let mut state = self.state();
        state.fetched_at = Instant::now();
        state.fresh = max_age.min(self.refresh.fresh).max(self.refresh.interval_min.min(self.refresh.fresh));
        state.etag = etag;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `max-age` of a `Cache-Control`.
fn max_age(value: &str) -> Option<Duration> {
    let mut directives = value.split(',').map(str::trim);
    directives.find_map(|it| it.strip_prefix("max-age=")?.parse().ok()).map(Duration::from_secs)
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The gateway's URL is none.
    #[error("{0:?} is not the URL of a gateway; write it like http://127.0.0.1:7400")]
    Url(String),
    /// The gateway does not answer, or not with the document.
    #[error("the key document {document} cannot be had: {reason}")]
    Unavailable {
        /// Where it should be.
        document: String,
        /// What went wrong.
        reason: String,
    },
    /// What the gateway answers is no key document.
    #[error("what {document} answers cannot be used: {error}")]
    Document {
        /// Where it came from.
        document: String,
        /// What is wrong with it.
        error: KeyDocumentError,
    },
}

impl FetchError {
    /// A stable word for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url(_) => "bad-url",
            Self::Unavailable { .. } => "keys-unavailable",
            Self::Document { error, .. } => error.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_that_a_document_may_reach_is_read() {
        assert_eq!(max_age("public, max-age=30"), Some(Duration::from_secs(30)));
        assert_eq!(max_age("no-store"), None);
        assert_eq!(max_age("max-age=x"), None);
    }
}

//! Calling with a capability: one that is presented with each request, narrowed to the request where that is asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use postern_capabilities::attenuate::{AttenuateError, attenuate};
use postern_capabilities::caveat::Caveat;
use postern_capabilities::path::{EncodedSlash, canonical_path};
use postern_capabilities::resource::Operation;
use postern_capabilities::text::TokenText;
use zeroize::Zeroizing;

use crate::limits::{ANSWER_BYTES_MAX, ANSWER_TIMEOUT, NARROWED_SECONDS};
use crate::problem::{Problem, Retry, is_idempotent};
use crate::transport::{Transport, TransportError, Unreachable};

/// Sends requests that carry a capability. Cheap to clone.
///
/// It follows no redirect, so the capability goes nowhere but where the request does.
#[derive(Clone)]
pub struct Client {
    token: Option<Zeroizing<String>>,
    transport: Transport,
    narrowing: Option<String>,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl Client {
    /// A client that presents this token.
    pub fn new(token: &str) -> Self {
        let bare = token.trim();
        let bare = Zeroizing::new(bare.strip_prefix("biscuit:").unwrap_or(bare).to_owned());
        Self { token: Some(bare), ..Self::without_capability() }
    }

    /// A client that presents nothing, for what a gateway hands out to everybody.
    pub fn without_capability() -> Self {
        Self {
            token: None,
            transport: Transport::default(),
            narrowing: None,
            timeout: ANSWER_TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// Presents with each request a token that is good for this request alone, and for a minute: its method, host, path and
    /// query. `mount` is where the gateway has mounted the resource, such as `/orders`, since caveats speak of the path below it.
    pub fn narrowing(mut self, mount: &str) -> Self {
        self.narrowing = Some(mount.trim_end_matches('/').to_owned());
        self
    }

    /// Travels by these connections, for example because they trust another certificate authority.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Waits so long for an answer.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads so many bytes of an answer.
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    /// Gets what is at this URL.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn get(&self, url: &str) -> Result<Response<Bytes>, SendError> {
        self.send(request(Method::GET, url, None, Bytes::new())?).await
    }

    /// Posts JSON to this URL.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub async fn post_json(&self, url: &str, json: impl Into<Bytes>) -> Result<Response<Bytes>, SendError> {
        self.send(request(Method::POST, url, Some("application/json"), json.into())?).await
    }

    /// Sends a request and reads the answer, whatever its status, unless it is a problem document.
    ///
    /// # Errors
    /// [`SendError::Problem`] where the answer says why not; the others where none came. [`SendError::retry`] says of
    /// each whether the request can be sent again.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
        let (mut head, body) = request.into_parts();
        let method = head.method.clone();
        if let Some(token) = &self.token {
            let presented = match &self.narrowing {
                Some(mount) => bearer(narrowed(token, mount, &head)?.expose())?,
                None => bearer(token)?,
            };
            head.headers.insert(AUTHORIZATION, presented);
        }
        let request = Request::from_parts(head, Full::new(body));
        let answer = self.transport.send(request, self.timeout, self.answer_bytes_max).await;
        let answer = answer.map_err(|error| match error {
            TransportError::Url(reason) => SendError::Request(reason),
            TransportError::Unreachable(why) => SendError::Unreachable(why),
            TransportError::Unknown(reason) => SendError::Unknown { method: method.to_string(), reason },
        })?;
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match Problem::read(answer.status().as_u16(), content_type, answer.body()) {
            Some(problem) => Err(SendError::Problem { method: method.to_string(), problem: problem.into() }),
            None => Ok(answer),
        }
    }
}

/// The field that carries a token. Whatever prints it by accident is to print nothing.
fn bearer(token: &str) -> Result<HeaderValue, SendError> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::try_from(&*text)
        .map_err(|_| SendError::Request("the token has characters that no token has; copy it anew".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token, narrowed to this request.
fn narrowed(token: &str, mount: &str, head: &http::request::Parts) -> Result<TokenText, SendError> {
    let wrong = |what: String| SendError::Request(what);
    let below = head.uri.path().strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let below = below.ok_or_else(|| wrong(format!("{} is not below {mount}", head.uri.path())))?;
    let path = canonical_path(if below.is_empty() { b"/" } else { below.as_bytes() }, EncodedSlash::Pass)
        .map_err(|error| wrong(format!("no gateway takes this path: {error}")))?;
    let quoted = postern_capabilities::language::quoted;
    // One check for both, built of quoted literals: a path may hold `**`, which a pattern would not take literally.
    let query = head.uri.query().unwrap_or_default();
    let this = format!("check if path({}), query_string({})", quoted(&path), quoted(query));
    let operation = Operation::parse(head.method.as_str()).map_err(|error| wrong(error.to_string()))?;
    let mut caveats = vec![
        Caveat::Expires(crate::now().saturating_add(NARROWED_SECONDS)),
        Caveat::Method(vec![operation]),
        Caveat::Check(this),
    ];
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).or(head.uri.host());
    if let Some(host) = host {
        let bare = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(bare, _)| bare);
        caveats.push(Caveat::Host(bare.to_ascii_lowercase()));
    }
    Ok(attenuate(token, &caveats)?)
}

fn request(method: Method, url: &str, content_type: Option<&str>, body: Bytes) -> Result<Request<Bytes>, SendError> {
    let mut request = Request::builder().method(method).uri(url);
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    request.body(body).map_err(|error| SendError::Request(format!("{url:?} cannot be asked: {error}")))
}

/// Why a request did not get the answer that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It cannot be sent, and was not.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// The token cannot be narrowed to it; it was not sent.
    #[error("the token cannot be narrowed to the request: {0}")]
    Narrow(#[from] AttenuateError),
    /// There was no connection, so it was not sent.
    #[error("nothing was sent: {0}")]
    Unreachable(Unreachable),
    /// It was sent, and what became of it is unknown.
    #[error(
        "no usable answer came ({reason}), and whether the request was acted upon is unknown; send it again if it may be \
         done twice"
    )]
    Unknown {
        /// The request's method.
        method: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer says why not.
    #[error("{problem}")]
    Problem {
        /// The request's method.
        method: String,
        /// The reason.
        problem: Box<Problem>,
    },
}

impl SendError {
    /// A stable word for programs: of a problem its type.
    pub fn kind(&self) -> &str {
        match self {
            Self::Request(_) => "bad-request",
            Self::Narrow(_) => "not-narrowable",
            Self::Unreachable(_) => "unreachable",
            Self::Unknown { .. } => "unknown-outcome",
            Self::Problem { problem, .. } => &problem.kind,
        }
    }

    /// Whether the request can be sent again as it was.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Request(_) | Self::Narrow(_) => Retry::No,
            Self::Unreachable(_) => Retry::Safe,
            Self::Unknown { method, .. } if is_idempotent(method) => Retry::Safe,
            Self::Unknown { .. } => Retry::Unknown,
            Self::Problem { method, problem } => problem.retry(method),
        }
    }
}

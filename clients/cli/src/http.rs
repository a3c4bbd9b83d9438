//! A small HTTP client: one exchange a connection, every wait bounded, every failure a sentence.
//!
//! It is for administration on this machine and for the demonstration, so it speaks cleartext HTTP/1.1 only and
//! follows nothing: a redirect is an answer like any other.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the other side may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole answer may take: a revocation waits for the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer; a page of the ledger stays far below.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Where to, checked: `http://host:port` without anything behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    host: String,
    port: u16,
}

impl BaseUrl {
    /// Reads `http://127.0.0.1:7401`; a closing `/` may be there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let advice = "write it like http://127.0.0.1:7401";
        let uri: Uri = text.parse().map_err(|_| format!("{text:?} is not a URL; {advice}"))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(format!("{text:?} is not an http:// URL; {advice}"));
        };
        if authority.as_str().contains('@') || uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(format!("{text:?} has more than a host and a port; {advice}"));
        }
        let behind_host = authority.as_str().strip_prefix(authority.host()).unwrap_or(authority.as_str());
        let port = match behind_host.strip_prefix(':') {
            None if behind_host.is_empty() => Some(80),
            None => None,
            Some(digits) => digits.parse().ok().filter(|port| *port != 0),
        };
        let port = port.ok_or_else(|| format!("{text:?} has no valid port; {advice}"))?;
        Ok(Self { host: authority.host().to_owned(), port })
    }

    /// Whether the other end can only be this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Presented as a bearer token.
    pub(crate) token: Option<&'a str>,
    /// Sent as JSON.
    pub(crate) body: Option<Vec<u8>>,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody listens there, so nothing was done.
    #[error("nothing answers at {0}")]
    NotListening(BaseUrl),
    /// No connection for another reason; nothing was done either.
    #[error("cannot connect to {url}: {reason}")]
    Unreachable { url: BaseUrl, reason: String },
    /// The request could not be written down, so it was not sent.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// It was sent, and what became of it is unknown.
    #[error("{url} gave no usable answer ({reason}); whether it did what was asked is unknown")]
    Unknown { url: BaseUrl, reason: String },
}

/// Sends one request and reads the whole answer.
pub(crate) async fn call(url: &BaseUrl, call: Call<'_>) -> Result<Answer, HttpError> {
    let request = request(url, call)?;
    let unreachable = |reason: String| HttpError::Unreachable { url: url.clone(), reason };
    let bare = url.host.trim_start_matches('[').trim_end_matches(']');
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((bare, url.port))).await {
        Err(_) => return Err(unreachable(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs()))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(HttpError::NotListening(url.clone()));
        }
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Ok(Ok(stream)) => stream,
    };
    let unknown = |reason: String| HttpError::Unknown { url: url.clone(), reason };
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with this exchange, however that ends.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Answer {
            status: head.status.as_u16(),
            body: body.to_bytes(),
        })
    };
    match timeout(ANSWER_TIMEOUT, exchange).await {
        Err(_) => Err(unknown(format!("nothing came within {} seconds", ANSWER_TIMEOUT.as_secs()))),
        Ok(Err(error)) => Err(unknown(error.to_string())),
        Ok(Ok(answer)) => Ok(answer),
    }
}

fn request(url: &BaseUrl, call: Call<'_>) -> Result<Request<Full<Bytes>>, HttpError> {
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.target)
        .header(HOST, format!("{}:{}", url.host, url.port))
        .header("user-agent", concat!("postern/", env!("CARGO_PKG_VERSION")));
    if let Some(token) = call.token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| HttpError::Request("the token has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    if call.body.is_some() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    request
        .body(Full::new(Bytes::from(call.body.unwrap_or_default())))
        .map_err(|error| HttpError::Request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(BaseUrl::parse("http://127.0.0.1:7401/").unwrap().to_string(), "http://127.0.0.1:7401");
        assert_eq!(BaseUrl::parse("http://[::1]:7401").unwrap().to_string(), "http://[::1]:7401");
        for wrong in [
            "127.0.0.1:7401",
            "https://a:1",
            "http://a:1/keys",
            "http://u:p@a:1",
            "",
            "http://a:1?x",
            "x y",
            "http://a:xx",
            "http://a:",
            "http://a:0",
        ] {
            assert!(BaseUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert!(BaseUrl::parse("http://[::1]:1").unwrap().is_loopback());
        assert!(BaseUrl::parse("http://localhost:1").unwrap().is_loopback());
        assert!(!BaseUrl::parse("http://localhost.example:1").unwrap().is_loopback());
    }
}

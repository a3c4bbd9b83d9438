//! How requests travel: HTTP/1.1 or HTTP/2 over TCP or TLS (rustls with ring), on connections that are kept while they are of
//! use, every wait bounded.
//!
//! Nothing is followed: a redirect is an answer like any other. A capability is never sent elsewhere than asked. What could not be
//! sent is told from what may have been acted upon.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Builder, Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::limits::{CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_TIMEOUT};
#[cfg(unix)]
use crate::local::Local;

/// Connections. Cheap to clone: all clones share them.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    plain: Client<HttpConnector, Full<Bytes>>,
    /// Made when it is first needed: reading the system's authorities takes longer than many a program runs.
    secure: OnceLock<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
    /// Who vouches for servers; `None`: the authorities of the system.
    trusted: Option<RootCertStore>,
    /// A socket of this machine, by which all that is not `https://` goes.
    #[cfg(unix)]
    local: Option<(Local, Client<Local, Full<Bytes>>)>,
}

/// Why there is no connection, so that nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Nobody listens at this address.
    #[error("nothing listens at {0}; is it started, and is this its address?")]
    NotListening(String),
    /// It did not take the connection in time.
    #[error("{at} took no connection within {within:?}; can it be reached from here?")]
    Slow {
        /// The address.
        at: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// The name leads to no address.
    #[error("the name in {at} cannot be looked up ({reason}); is it written right?")]
    Name {
        /// The address.
        at: String,
        /// What the system says.
        reason: String,
    },
    /// Whoever answers there is not shown to be who was asked for.
    #[error(
        "the certificate of {at} is not accepted ({reason}); if it is the right server, trust the authority that signed \
         its certificate (`Transport::trusting`)"
    )]
    Untrusted {
        /// The address.
        at: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Anything else.
    #[error("{at} cannot be connected to: {reason}")]
    Other {
        /// The address.
        at: String,
        /// What went wrong.
        reason: String,
    },
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// The URL is none that can be asked; nothing was sent.
    Url(String),
    /// There was no connection; nothing was sent.
    Unreachable(Unreachable),
    /// What became of the request is unknown.
    Unknown(String),
}

impl Default for Transport {
    /// Connections that trust the certificate authorities that the system trusts. They are read when the first `https://`
    /// address is asked.
    fn default() -> Self {
        Self::of(None)
    }
}

impl Transport {
    /// Connections that trust these certificate authorities alone, in PEM.
    ///
    /// # Errors
    /// The text holds no certificate, or one that cannot be used.
    pub fn trusting(authorities: &[u8]) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            let certificate =
                certificate.map_err(|error| invalid(format!("this is no certificate in PEM: {error}")))?;
            roots.add(certificate).map_err(|error| invalid(format!("the certificate cannot be used: {error}")))?;
        }
        if roots.is_empty() {
            return Err(invalid("there is no certificate in this PEM".to_owned()));
        }
        Ok(Self::of(Some(roots)))
    }

    /// Connections to this Unix socket, whatever host an `http://` URL names. Nothing is sent unless the socket and the
    /// process behind it belong to the account `owner`, or to root.
    #[cfg(unix)]
    pub fn local(socket: impl Into<std::path::PathBuf>, owner: u32) -> Self {
        let local = Local::new(socket.into(), owner);
        let client = builder().build(local.clone());
        Self { shared: Arc::new(Shared { local: Some((local, client)), ..Shared::of(None) }) }
    }

    fn of(trusted: Option<RootCertStore>) -> Self {
        Self { shared: Arc::new(Shared::of(trusted)) }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let at = checked(request.uri())?;
        #[cfg(unix)]
        if let Some((local, client)) =
            self.shared.local.as_ref().filter(|_| request.uri().scheme() == Some(&Scheme::HTTP))
        {
            return exchange(client, request, local.shown(), within, bytes_max).await;
        }
        match request.uri().scheme() == Some(&Scheme::HTTPS) {
            true => exchange(self.shared.secure(), request, at, within, bytes_max).await,
            false => exchange(&self.shared.plain, request, at, within, bytes_max).await,
        }
    }
}

impl Shared {
    fn of(trusted: Option<RootCertStore>) -> Self {
        Self {
            plain: builder().build(tcp()),
            secure: OnceLock::new(),
            trusted,
            #[cfg(unix)]
            local: None,
        }
    }

    fn secure(&self) -> &Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
        self.secure.get_or_init(|| {
            let mut tcp = tcp();
            tcp.enforce_http(false);
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(tls(self.trusted.clone()))
                .https_only()
                .enable_http1()
                .enable_http2()
                .wrap_connector(tcp);
            builder().build(connector)
        })
    }
}

fn tls(trusted: Option<RootCertStore>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need");
    let config = match trusted {
        Some(roots) => config.with_root_certificates(roots),
        // On a system without authorities every handshake fails, and says why.
        None => match config.clone().with_native_roots() {
            Ok(config) => config,
            Err(_) => config.with_root_certificates(RootCertStore::empty()),
        },
    };
    config.with_no_client_auth()
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp
}

fn builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    builder
}

/// Whom a URL names; or why it can not be asked.
fn checked(uri: &Uri) -> Result<String, TransportError> {
    let wrong =
        |what: &str| Err(TransportError::Url(format!("{what}; write it like https://gateway.example/orders/1")));
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            // Not repeated: it may hold a password.
            wrong("the URL has a user name, which is no capability and would be sent to nobody")
        }
        (Some("http" | "https"), Some(authority)) => Ok(authority.to_string()),
        (_, None) | (None, _) => wrong(&format!("the URL {uri:?} names no server")),
        (Some(scheme), Some(_)) => {
            wrong(&format!("the URL begins with {scheme}://, and only http:// and https:// are spoken"))
        }
    }
}

async fn exchange<C>(
    client: &Client<C, Full<Bytes>>,
    mut request: Request<Full<Bytes>>,
    at: String,
    within: Duration,
    bytes_max: usize,
) -> Result<Response<Bytes>, TransportError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let connection = capture_connection(&mut request);
    let exchange = async {
        let (head, body) = client.request(request).await.map_err(|error| of_exchange(&at, &error))?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|error| TransportError::Unknown(causes(error.as_ref())))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    match timeout(within, exchange).await {
        Ok(outcome) => outcome,
        Err(_) if connection.connection_metadata().is_none() => {
            Err(TransportError::Unreachable(Unreachable::Slow { at, within }))
        }
        Err(_) => Err(TransportError::Unknown(format!("nothing came within {within:?}"))),
    }
}

fn of_exchange(at: &str, error: &Error) -> TransportError {
    // What the library itself says is no more than at which step it was.
    let cause = error.source().unwrap_or(error);
    if !error.is_connect() {
        return TransportError::Unknown(causes(cause));
    }
    let (at, reason) = (at.to_owned(), causes(cause));
    let system = find::<io::Error>(cause).map(io::Error::kind);
    TransportError::Unreachable(match (find::<rustls::Error>(cause), system) {
        (Some(rustls::Error::InvalidCertificate(why)), _) => Unreachable::Untrusted { at, reason: why.to_string() },
        (Some(rustls::Error::InvalidMessage(_)), _) => {
            Unreachable::Other { at, reason: "what answers there does not speak TLS".to_owned() }
        }
        (_, Some(io::ErrorKind::ConnectionRefused)) => Unreachable::NotListening(at),
        (_, Some(io::ErrorKind::TimedOut)) => Unreachable::Slow { at, within: CONNECT_TIMEOUT },
        _ => match reason.strip_prefix("dns error: ") {
            Some(reason) => Unreachable::Name { at, reason: reason.to_owned() },
            None => Unreachable::Other { at, reason },
        },
    })
}

/// The innermost cause of this type. An [`io::Error`] shows what it wraps to nobody who asks for its source.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let below = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source());
    below.and_then(find).or_else(|| error.downcast_ref())
}

/// An error's sentence, which the libraries spread over the causes.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_sentence = inner.to_string();
        // Wrappers often say what they wrap.
        if !sentence.ends_with(&inner_sentence) {
            sentence = format!("{sentence}: {inner_sentence}");
        }
        cause = inner.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_asked_is_asked() {
        let at = |text: &str| match checked(&text.parse().unwrap()) {
            Ok(at) => at,
            Err(TransportError::Url(why)) => why,
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(at("http://127.0.0.1:7400/orders"), "127.0.0.1:7400");
        assert_eq!(at("https://[::1]"), "[::1]");
        assert!(at("/orders/1").contains("names no server"));
        assert!(at("ftp://gateway/x").contains("ftp://"));
        let why = at("http://me:secret@gateway/x");
        assert!(why.contains("user name") && !why.contains("secret"), "{why}");
    }

    #[test]
    fn no_certificate_is_said() {
        for (pem, says) in [
            ("", "there is no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be used"),
            ("-----BEGIN CERTIFICATE-----\n", "no certificate in PEM"),
        ] {
            let error = Transport::trusting(pem.as_bytes()).map(drop).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

//! How requests travel: connections over TCP or TLS (rustls with ring), kept while they are of use, every wait bounded.
//!
//! Nothing is followed: a redirect is an answer like any other. A capability is never sent elsewhere than asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use crate::limits::{CONNECT_TIMEOUT, IDLE_CONNECTIONS_MAX, IDLE_TIMEOUT};

/// Connections. Cheap to clone: all clones share them.
#[derive(Clone)]
pub struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why no answer came.
#[derive(Debug)]
pub(crate) enum TransportError {
    /// There was no connection, so nothing was sent.
    Unreachable(String),
    /// What became of the request is unknown.
    Unknown(String),
}

impl Default for Transport {
    /// Connections that trust the certificate authorities that the system trusts.
    fn default() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need");
        // A system without authorities can still speak cleartext; every TLS handshake fails there, and says why.
        let config = match config.clone().with_native_roots() {
            Ok(config) => config,
            Err(_) => config.with_root_certificates(RootCertStore::empty()),
        };
        Self::of(config.with_no_client_auth())
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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self::of(config.with_root_certificates(roots).with_no_client_auth()))
    }

    fn of(config: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, TransportError> {
        let exchange = async {
            let (head, body) = self.client.request(request).await.map_err(of_exchange)?.into_parts();
            let unknown = |error: Box<dyn std::error::Error + Send + Sync>| TransportError::Unknown(error.to_string());
            let body = Limited::new(body, bytes_max).collect().await.map_err(unknown)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        match timeout(within, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TransportError::Unknown(format!("nothing came within {} seconds", within.as_secs()))),
        }
    }
}

fn of_exchange(error: Error) -> TransportError {
    // The sentences of the libraries are spread over the causes.
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    match error.is_connect() {
        true => TransportError::Unreachable(reason),
        false => TransportError::Unknown(reason),
    }
}

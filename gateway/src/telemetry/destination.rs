//! Where spans go: a collector's address, what its requests carry besides spans, and whom TLS trusts there.
//!
//! The header fields are keys, as a rule, and belong to the one collector that the file names beside them: address, trust
//! and fields are read together and change together, a redirect is not followed, and over `https://` nothing is sent
//! before the collector's certificate was verified.

use std::error::Error as _;
use std::io;
use std::path::Path;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::config;
use crate::state::{StateError, read_secret_file};
use crate::upstream::tls::{ClientTls, ClientTlsError, Offer};

/// The table of the configuration in which TLS to the collector is set.
const TLS_TABLE: &str = "telemetry.tls";

/// The tasks that drive connections.
pub(super) type Driver = JoinSet<hyper::Result<()>>;

/// Why traces cannot be sent where the configuration says. Each is a sentence; no value of a header field is repeated.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// The file of header fields cannot be read, or others can read it as well.
    #[error("otlp_headers: {0}")]
    File(#[from] StateError),
    /// A line of it is no header field.
    #[error("otlp_headers: line {line} of {path} is no header field; write `name: value`, one a line.")]
    Line {
        /// The file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// TLS to the collector.
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

/// A collector, and how it is spoken to.
pub struct Destination {
    pub(super) settings: config::Telemetry,
    /// Fields of every request to it.
    pub(super) headers: HeaderMap,
    /// `None`: clear text.
    tls: Option<ClientTls>,
}

impl Destination {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// The first of them that cannot be used, and why.
    pub fn new(settings: &config::Telemetry) -> Result<Self, DestinationError> {
        let headers = settings.headers.as_deref().map_or_else(|| Ok(HeaderMap::new()), headers)?;
        let collector = &settings.otlp;
        let tls = collector.is_tls.then(|| ClientTls::to(&[&collector.host], &settings.tls, TLS_TABLE)).transpose()?;
        Ok(Self { settings: settings.clone(), headers, tls })
    }

    /// Whether settings and files say the same to both.
    pub fn is_like(&self, other: &Self) -> bool {
        let trusts_alike = match (&self.tls, &other.tls) {
            (Some(one), Some(other)) => one.is_like(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.settings == other.settings && self.headers == other.headers && trusts_alike
    }

    /// A connection to the collector, driven by a task of `driver`.
    ///
    /// # Errors
    /// What is wrong, as a clause.
    pub(super) async fn connect(&self, driver: &mut Driver) -> Result<SendRequest<Full<Bytes>>, String> {
        let config::Collector { host, port, .. } = &self.settings.otlp;
        let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => speak(TokioIo::new(stream), driver).await,
            Some(tls) => {
                let (stream, _) = tls.connect(host, stream, Offer::Http1).await.map_err(|error| error.to_string())?;
                speak(TokioIo::new(stream), driver).await
            }
        }
    }

    /// Why a request came to nothing, as a clause: what ended its connection says more than that it ended.
    pub(super) async fn explained(&self, error: hyper::Error, driver: &mut Driver) -> String {
        let mut last = error;
        while let Some(ended) = driver.join_next().await {
            if let Ok(Err(why)) = ended {
                last = why;
            }
        }
        let mut cause = last.source();
        while let Some(error) = cause {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let (Some(tls), Some(error)) = (&self.tls, inner.and_then(|inner| inner.downcast_ref())) {
                return tls.why(error);
            }
            cause = error.source();
        }
        last.to_string()
    }
}

async fn speak<S>(stream: S, driver: &mut Driver) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
    driver.spawn(connection);
    Ok(sender)
}

fn headers(path: &Path) -> Result<HeaderMap, DestinationError> {
    let text = read_secret_file(path)?;
    let mut headers = HeaderMap::new();
    for (line, written) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let field = written.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let (name, value) = field.ok_or_else(|| DestinationError::Line { path: path.display().to_string(), line })?;
        headers.append(name, value);
    }
    Ok(headers)
}

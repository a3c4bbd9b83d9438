//! TLS to services: whom the gateway trusts, and who it says that it is.
//!
//! A service's certificate is always verified, for its name and its authority; there is no switch that turns that off.
//! Authorities are the system's, or the ones that `upstream_tls.ca` names in their place. By ALPN the service picks HTTP/2
//! or HTTP/1.1; a message that would switch to another protocol offers HTTP/1.1 alone, since that is what switches.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, Error, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Upstream, UpstreamPlace, UpstreamScheme, UpstreamTls};
use crate::tls::{TlsError, certificates_in, private_key_in};

/// What ALPN calls HTTP/2, and HTTP/1.1.
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// The table in which a resource's settings stand, as sentences name it.
const UPSTREAM_TLS: &str = "upstream_tls";

/// What is offered to a service by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2, or HTTP/1.1.
    Any,
    /// HTTP/1.1.
    Http1,
}

/// What came of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// The service has said nothing. Most that do so know nothing of ALPN and speak HTTP/1.1; some speak nothing that they
    /// were offered, and should have ended the handshake.
    Unsaid,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "HTTP/2 and no HTTP/1.1",
            Self::Http1 => "HTTP/1.1",
        })
    }
}

/// What a resource's TLS connections are made with.
pub struct ClientTls {
    any: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
    /// Where the settings stand, for whoever has to correct them.
    table: &'static str,
    /// The name that is asked for and verified, where it is not the URL's host.
    server_name: Option<ServerName<'static>>,
    digest: [u8; 32],
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Why TLS to a service cannot be set up. Each is a sentence: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// A file.
    #[error(transparent)]
    File(#[from] TlsError),
    /// The authorities cannot be used.
    #[error("the authorities in {} cannot be used: {reason}. Name a PEM file with CA certificates.", file.display())]
    Authorities {
        /// Which file.
        file: PathBuf,
        /// What rustls says.
        reason: Error,
    },
    /// The system has no authorities.
    #[error(
        "the system has no authorities to verify services with{}; install its package of CA certificates, or name a PEM file in {table}.ca.",
        reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    NoSystemAuthorities {
        /// Where the settings stand.
        table: &'static str,
        /// What went wrong in reading them.
        reason: Option<String>,
    },
    /// Certificate and key cannot be used together.
    #[error("the certificate {} and its key cannot be used: {reason}. Name the pair; the gateway's own certificate comes first.", cert.display())]
    NoPair {
        /// The certificate's file.
        cert: PathBuf,
        /// What rustls says.
        reason: Error,
    },
    /// A host that no certificate can be for.
    #[error("{host:?} is no name that a certificate can be issued for; write the name in {table}.server_name.")]
    ServerName {
        /// Where the settings stand.
        table: &'static str,
        /// The host.
        host: String,
    },
    /// The TLS library refuses its own settings; not the operator's mistake.
    #[error("TLS cannot be set up: {0}.")]
    Library(Error),
}

impl ClientTls {
    /// What the connections to a resource's upstreams are made with; `None` where none of them is `https://`.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn load(upstreams: &[Upstream], settings: &UpstreamTls) -> Result<Option<Arc<Self>>, ClientTlsError> {
        let over_tls = upstreams.iter().filter(|upstream| upstream.scheme == UpstreamScheme::Https);
        let hosts: Vec<&str> = over_tls.filter_map(host).collect();
        if hosts.is_empty() {
            return Ok(None);
        }
        Self::to(&hosts, settings, UPSTREAM_TLS).map(|tls| Some(Arc::new(tls)))
    }

    /// The same for the services at `hosts`; `table` is where their settings stand.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn to(hosts: &[&str], settings: &UpstreamTls, table: &'static str) -> Result<Self, ClientTlsError> {
        let server_name = settings.server_name.as_deref().map(|name| server_name(name, table)).transpose()?;
        if server_name.is_none() {
            for host in hosts {
                self::server_name(host, table)?;
            }
        }
        let mut digest = Sha256::new();
        let authorities = match &settings.ca {
            Some(file) => certificates_in(file)?,
            None => system_authorities(table)?,
        };
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            digest.update(Sha256::digest(&authority));
            match (roots.add(authority), &settings.ca) {
                (Err(reason), Some(file)) => return Err(ClientTlsError::Authorities { file: file.clone(), reason }),
                // One odd certificate in the system's bundle does not take the others' trust away.
                (Err(_), None) | (Ok(()), _) => {}
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(ClientTlsError::Library)?
            .with_root_certificates(roots);
        let mut config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (chain, key) = identity(cert, key, &mut digest)?;
                let no_pair = |reason| ClientTlsError::NoPair { cert: cert.clone(), reason };
                builder.with_client_auth_cert(chain, key).map_err(no_pair)?
            }
        };
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        config.enable_early_data = false;
        // Roots, identity and sessions are shared.
        let mut http1 = config.clone();
        http1.alpn_protocols = vec![HTTP1.to_vec()];
        digest.update(settings.server_name.as_deref().unwrap_or_default());
        let digest = digest.finalize().into();
        Ok(Self { any: Arc::new(config), http1: Arc::new(http1), table, server_name, digest })
    }

    /// Whether the settings and their files said the same to both.
    pub fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// Shakes hands with the service at `host`. The second value is what it picked.
    ///
    /// # Errors
    /// What is wrong with the service, as a clause, with what to do.
    pub async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
        offer: Offer,
    ) -> io::Result<(TlsStream<TcpStream>, Agreed)> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host, self.table).map_err(io::Error::other)?,
        };
        let config = match offer {
            Offer::Any => &self.any,
            Offer::Http1 => &self.http1,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.map_err(|error| self.explained(error, host, offer))?;
        let agreed = match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Agreed::Http2,
            Some(_) => Agreed::Http1,
            None => Agreed::Unsaid,
        };
        Ok((stream, agreed))
    }

    /// Why a handshake failed, so that whoever reads the log knows what to do.
    fn explained(&self, error: io::Error, host: &str, offer: Offer) -> io::Error {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            let said = "it ended the connection in the middle of the TLS handshake";
            return io::Error::new(error.kind(), format!("{said} ({error})"));
        };
        tracing::debug!(host, error = %tls, "a TLS handshake with an upstream failed");
        match tls {
            Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => {
                io::Error::other(NoCommonProtocol(offer))
            }
            _ => io::Error::other(self.why(tls)),
        }
    }

    /// What an error of TLS means, as a clause, with what to do. Some come only after the handshake: with TLS 1.3 that a
    /// certificate is missing is one of them.
    pub fn why(&self, error: &Error) -> String {
        let table = self.table;
        match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                format!("no authority that is trusted has signed its certificate; name the one that has in {table}.ca")
            }
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                "its certificate has expired; renew it".to_owned()
            }
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => format!("its certificate is for another name ({error}); write the right one in {table}.server_name"),
            Error::InvalidCertificate(wrong) => {
                let wrong = wrong.to_string();
                let why = UNUSUAL_CERTIFICATES.iter().find_map(|(name, why)| wrong.contains(name).then_some(*why));
                format!("its certificate cannot be accepted: {}", why.unwrap_or(&wrong))
            }
            Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure) => {
                format!("it refuses the handshake ({error}); if it asks for a certificate, name one in {table}.cert")
            }
            Error::InvalidMessage(_) => {
                format!(
                    "what came back is not TLS ({error}); if it speaks clear text there, write http:// in place of https://"
                )
            }
            _ => format!("TLS failed: {error}"),
        }
    }
}

/// The service speaks none of the protocols that were offered.
#[derive(Debug, thiserror::Error)]
#[error("it speaks no {} there, by its word in the handshake (ALPN); name the port where it does", self.0)]
struct NoCommonProtocol(Offer);

/// Whether a connection failed because the service speaks none of the protocols that were offered.
pub fn has_no_common_protocol(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoCommonProtocol>())
}

/// What people make with `openssl` and no verifier takes, by the names that the verifier has for it, which it gives no type.
const UNUSUAL_CERTIFICATES: [(&str, &str); 2] = [
    ("CaUsedAsEndEntity", "it is an authority's own (CA:TRUE); have that authority sign one for the service"),
    (
        "UnsupportedCertVersion",
        "it is an X.509 certificate of version 1; sign it anew with an extension file that names its host (-extfile)",
    ),
];

fn host(upstream: &Upstream) -> Option<&str> {
    match &upstream.place {
        UpstreamPlace::Host(host, _) => Some(host),
        UpstreamPlace::Socket(_) => None,
    }
}

fn server_name(host: &str, table: &'static str) -> Result<ServerName<'static>, ClientTlsError> {
    ServerName::try_from(host.to_owned()).map_err(|_| ClientTlsError::ServerName { table, host: host.to_owned() })
}

/// The certificate by which the gateway is known to the service, and its key.
fn identity(
    cert: &Path,
    key: &Path,
    digest: &mut Sha256,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let (chain, key) = (certificates_in(cert)?, private_key_in(key)?);
    chain.iter().for_each(|certificate| digest.update(Sha256::digest(certificate)));
    digest.update(Sha256::digest(key.secret_der()));
    Ok((chain, key))
}

/// The authorities that the system trusts.
fn system_authorities(table: &'static str) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reason = found.errors.first().map(ToString::to_string);
        return Err(ClientTlsError::NoSystemAuthorities { table, reason });
    }
    Ok(found.certs)
}

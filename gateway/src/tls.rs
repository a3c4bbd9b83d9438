//! TLS on the data listener: rustls with the ring provider, 1.2 and 1.3, `h2`, `http/1.1` and `http/1.0` by ALPN.
//!
//! A client certificate admits nobody. It is verified where `client_ca` asks for one, and its SHA-256 becomes the fact
//! `client_cert(…)`; a client without one is served as far as its token carries it. There is no early data: a request
//! in it could be replayed by whoever recorded it.
//!
//! The files are read into one immutable [`ServerConfig`] that is swapped whole, so that a reload changes certificate,
//! key and client authorities together or not at all, and connections that are open keep what they began with. Where
//! the files say what they said before, the old one stays, and with it the sessions that clients may resume.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, ServerConnection, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::TlsFiles;

/// Bytes of a PEM file: bundles of all public authorities have some 300 KiB.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// Protocols offered by ALPN, the preferred one first.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// Certificate, key and client authorities, as the files said when they were read.
pub struct Tls {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which file is wrong, and what to do.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = Files::read(files)?;
        Ok(Self { digest: read.digest(), config: Arc::new(server_config(files, &read)?) })
    }

    /// Whether the files said the same to both.
    pub fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// What a handshake uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// What a finished handshake says about the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The name that the client asked for, lower case.
    pub server_name: Option<String>,
    /// Hex SHA-256 of the client's own certificate (DER), where it presented one that an authority of `client_ca` signed.
    pub client_cert: Option<String>,
    /// Whether ALPN agreed on HTTP/2; else HTTP/1.1 is spoken.
    pub is_h2: bool,
}

impl Handshake {
    /// Reads it off a connection whose handshake is done.
    pub fn of(connection: &ServerConnection) -> Self {
        let client_cert = connection.peer_certificates().and_then(|chain| chain.first());
        Self {
            server_name: connection.server_name().map(str::to_ascii_lowercase),
            client_cert: client_cert.map(|certificate| hex(&Sha256::digest(certificate))),
            is_h2: connection.alpn_protocol() == Some(PROTOCOLS[0]),
        }
    }
}

/// Why TLS cannot be served from the files that the configuration names.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or may not be read.
    #[error("the file {} cannot be read: {error}. Check its name and who may read it.", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is far too large for what it should hold.
    #[error("the file {} has more than {PEM_BYTES_MAX} bytes; name the PEM file itself.", file.display())]
    TooLarge {
        /// Which file.
        file: PathBuf,
    },
    /// Everybody on the machine can read or replace the key.
    #[error(
        "the key {} can be read by everybody on this machine (mode {mode:03o}); run `chmod 600 {}`, and think about replacing the key.",
        file.display(), file.display()
    )]
    Exposed {
        /// The key's file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No certificate in a file that should hold some.
    #[error("the file {} holds no certificate; it must be PEM, with `-----BEGIN CERTIFICATE-----`.", file.display())]
    NoCertificate {
        /// Which file.
        file: PathBuf,
    },
    /// No usable key in the key's file. What it holds instead is not shown: it may be a key all the same.
    #[error(
        "the file {} holds no private key that can be used; it must be PEM, unencrypted, with `-----BEGIN PRIVATE KEY-----` (Ed25519, ECDSA P-256/P-384 or RSA from 2048 bits).",
        file.display()
    )]
    NoKey {
        /// Which file.
        file: PathBuf,
    },
    /// Certificate and key are not a pair.
    #[error("the certificate {} and the key {} do not belong together: {reason}. Name the pair; the server's own certificate comes first.", cert.display(), key.display())]
    NoPair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        reason: String,
    },
    /// The authorities of client certificates cannot be used.
    #[error("the client authorities in {} cannot be used: {reason}. Name a PEM file with CA certificates.", file.display())]
    ClientAuthorities {
        /// Which file.
        file: PathBuf,
        /// What rustls says.
        reason: String,
    },
    /// The TLS library refuses its own settings; not the operator's mistake.
    #[error("TLS cannot be set up: {0}.")]
    Library(rustls::Error),
}

/// The files' bytes, all read before any is looked into, and wiped after use: one is a key.
struct Files {
    cert: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Zeroizing<Vec<u8>>>,
}

impl Files {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let cert = read(&files.cert)?;
        refuse_exposed(&files.key)?;
        let key = read(&files.key)?;
        Ok(Self { cert, key, client_ca: files.client_ca.as_deref().map(read).transpose()? })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for bytes in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            // The lengths keep apart what stands in one file and what in the next.
            digest.update((bytes.map_or(0, |bytes| bytes.len() as u64 + 1)).to_be_bytes());
            digest.update(bytes.map_or(&[][..], |bytes| bytes.as_slice()));
        }
        digest.finalize().into()
    }
}

fn server_config(files: &TlsFiles, read: &Files) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pair = certified_key(files, read, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Library)?;
    let resolver = Arc::new(SingleCertAndKey::from(pair));
    let mut config = match files.client_ca.as_ref().zip(read.client_ca.as_ref()) {
        None => {
            let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
            // Tickets that carry their own state: no worker has to ask another, and nothing is kept for absent clients.
            config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Library)?;
            config
        }
        Some((file, pem)) => {
            let wrong = |reason: String| TlsError::ClientAuthorities { file: file.clone(), reason };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file, pem)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
            // A resumed session would bring back a certificate that has expired since: each handshake verifies anew.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config
        }
    };
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    config.max_early_data_size = 0;
    Ok(config)
}

fn certified_key(files: &TlsFiles, read: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert, &read.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read.key).map_err(|_| TlsError::NoKey { file: files.key.clone() })?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| TlsError::NoKey { file: files.key.clone() })?;
    let pair = CertifiedKey::new(chain, key);
    pair.keys_match().map_err(|error| TlsError::NoPair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        reason: error.to_string(),
    })?;
    Ok(pair)
}

/// The certificates in a PEM file.
///
/// # Errors
/// Which file is wrong, and what to do.
pub(crate) fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(file, &read(file)?)
}

/// The private key in a PEM file.
///
/// # Errors
/// Which file is wrong, and what to do.
pub(crate) fn private_key_in(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    refuse_exposed(file)?;
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|_| TlsError::NoKey { file: file.to_owned() })
}

fn certificates(file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let none = || TlsError::NoCertificate { file: file.to_owned() };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}

/// Refuses a key that everybody on the machine can read or replace.
fn refuse_exposed(file: &Path) -> Result<(), TlsError> {
    let metadata = fs::metadata(file).map_err(|error| TlsError::Unreadable { file: file.to_owned(), error })?;
    // Readable for a group is how distributions hand keys to services; for everybody is never meant.
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TlsError::Exposed { file: file.to_owned(), mode });
    }
    Ok(())
}

/// The bytes of a PEM file, wiped after use: it may be a key.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { file: file.to_owned(), error };
    if fs::metadata(file).map_err(unreadable)?.len() > PEM_BYTES_MAX {
        return Err(TlsError::TooLarge { file: file.to_owned() });
    }
    fs::read(file).map(Zeroizing::new).map_err(unreadable)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, Connection};

    use super::*;

    /// A folder with an authority, a server's pair and a client's pair, all freshly made.
    pub(crate) struct Pki {
        dir: tempfile::TempDir,
        pub(crate) roots: RootCertStore,
        client: (CertificateDer<'static>, Vec<u8>),
    }

    impl Pki {
        pub(crate) fn new() -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let mut params = CertificateParams::new(Vec::new()).expect("no names");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed");
            let leaf = |name: &str| {
                let key = KeyPair::generate().expect("a key");
                let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
                (params.signed_by(&key, &authority).expect("signed"), key)
            };
            let (server, server_key) = leaf("gate.example");
            let (client, client_key) = leaf("client.example");
            let write = |name: &str, text: &str, mode: u32| {
                use std::io::Write as _;
                let mut options = fs::OpenOptions::new();
                let mut file = options
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(mode)
                    .open(dir.path().join(name))
                    .expect("made");
                file.write_all(text.as_bytes()).expect("written");
            };
            write("tls.pem", &server.pem(), 0o644);
            write("tls.key", &server_key.serialize_pem(), 0o600);
            write("ca.pem", &authority.pem(), 0o644);
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).expect("an authority");
            Self { roots, client: (client.der().clone(), client_key.serialize_der()), dir }
        }

        pub(crate) fn files(&self) -> TlsFiles {
            TlsFiles { cert: self.path("tls.pem"), key: self.path("tls.key"), client_ca: None }
        }

        fn with_client_ca(&self) -> TlsFiles {
            TlsFiles { client_ca: Some(self.path("ca.pem")), ..self.files() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// A client that trusts the authority and offers these protocols.
        pub(crate) fn client(&self, protocols: &[&str], presents_certificate: bool) -> ClientConfig {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(self.roots.clone());
            let mut config = if presents_certificate {
                let key = PrivateKeyDer::try_from(self.client.1.clone()).expect("a key");
                builder.with_client_auth_cert(vec![self.client.0.clone()], key).expect("a pair")
            } else {
                builder.with_no_client_auth()
            };
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            config
        }
    }

    /// A handshake in memory: what the server learnt.
    fn shake(tls: &Tls, client: ClientConfig, name: &str) -> Result<Handshake, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).expect("a client"));
        let mut server = ServerConnection::new(tls.config()).expect("a server");
        for _ in 0..10 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).expect("written");
            }
            let mut left = &wire[..];
            while !left.is_empty() {
                server.read_tls(&mut left).expect("read");
                server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).expect("written");
            }
            let mut left = &wire[..];
            while !left.is_empty() {
                client.read_tls(&mut left).expect("read");
                client.process_new_packets()?;
            }
        }
        assert!(!server.is_handshaking() && !client.is_handshaking());
        Ok(Handshake::of(&server))
    }

    #[test]
    fn a_handshake_agrees_on_a_protocol_and_a_name() {
        let pki = Pki::new();
        let tls = Tls::load(&pki.files()).expect("loaded");
        let both = shake(&tls, pki.client(&["http/1.1", "h2"], false), "gate.example").expect("shaken");
        assert_eq!(both, Handshake { server_name: Some("gate.example".into()), client_cert: None, is_h2: true });
        for first in ["http/1.1", "http/1.0"] {
            assert!(!shake(&tls, pki.client(&[first], false), "gate.example").expect("shaken").is_h2, "{first}");
        }
        assert!(!shake(&tls, pki.client(&[], false), "gate.example").expect("shaken").is_h2);
        assert!(shake(&tls, pki.client(&["spdy/3"], false), "gate.example").is_err(), "no protocol in common");
    }

    #[test]
    fn a_client_certificate_is_a_fact_and_no_admission() {
        let pki = Pki::new();
        let tls = Tls::load(&pki.with_client_ca()).expect("loaded");
        let with = shake(&tls, pki.client(&["h2"], true), "gate.example").expect("shaken");
        assert_eq!(with.client_cert, Some(hex(&Sha256::digest(&pki.client.0))));
        let without = shake(&tls, pki.client(&["h2"], false), "gate.example").expect("served without one too");
        assert_eq!(without.client_cert, None);
        let stranger = Pki::new();
        let mut config = stranger.client(&["h2"], true);
        config.dangerous().set_certificate_verifier(
            rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(pki.roots.clone()),
                Arc::new(rustls::crypto::ring::default_provider()),
            )
            .build()
            .expect("a verifier"),
        );
        assert!(shake(&tls, config, "gate.example").is_err(), "a certificate of another authority is refused");
    }

    #[test]
    fn without_client_ca_no_certificate_is_asked_for() {
        let pki = Pki::new();
        let tls = Tls::load(&pki.files()).expect("loaded");
        let shaken = shake(&tls, pki.client(&["h2"], true), "gate.example").expect("shaken");
        assert_eq!(shaken.client_cert, None);
    }

    #[test]
    fn there_is_no_early_data() {
        let pki = Pki::new();
        for files in [pki.files(), pki.with_client_ca()] {
            assert_eq!(Tls::load(&files).expect("loaded").config().max_early_data_size, 0);
        }
    }

    #[test]
    fn a_pair_is_read_whole_or_not_at_all_and_known_again() {
        let (old, new) = (Pki::new(), Pki::new());
        let broken = TlsFiles { key: old.path("tls.key"), ..new.files() };
        assert!(matches!(Tls::load(&broken), Err(TlsError::NoPair { .. })));
        let load = |files: &TlsFiles| Tls::load(files).expect("loaded");
        assert!(load(&old.files()).is_like(&load(&old.files())));
        assert!(!load(&old.files()).is_like(&load(&new.files())));
        assert!(!load(&old.files()).is_like(&load(&old.with_client_ca())));
    }

    #[test]
    fn wrong_files_say_what_to_do() {
        let pki = Pki::new();
        let sentence = |files: TlsFiles| match Tls::load(&files) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let missing = TlsFiles { cert: pki.path("none.pem"), ..pki.files() };
        assert!(sentence(missing).contains("none.pem cannot be read: No such file"));
        let swapped = TlsFiles { cert: pki.path("tls.key"), ..pki.files() };
        assert!(sentence(swapped).contains("tls.key holds no certificate"));
        fs::write(pki.path("empty.key"), "").expect("written");
        fs::set_permissions(pki.path("empty.key"), fs::Permissions::from_mode(0o600)).expect("set");
        let empty = TlsFiles { key: pki.path("empty.key"), ..pki.files() };
        assert!(sentence(empty).contains("empty.key holds no private key"));
        fs::write(pki.path("bad-ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .expect("written");
        let authority = TlsFiles { client_ca: Some(pki.path("bad-ca.pem")), ..pki.files() };
        assert!(sentence(authority).contains("the client authorities in"));
        fs::set_permissions(pki.path("tls.key"), fs::Permissions::from_mode(0o644)).expect("set");
        let exposed = sentence(pki.files());
        assert!(exposed.contains("can be read by everybody on this machine (mode 644); run `chmod 600"), "{exposed}");
        fs::set_permissions(pki.path("tls.key"), fs::Permissions::from_mode(0o640)).expect("set");
        assert_eq!(sentence(pki.files()), "", "a group may hold it");
    }
}

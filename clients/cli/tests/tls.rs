//! The Rust client against this gateway over TLS; and the command line's own administration behind a proxy that speaks TLS.
//!
//! The gateway is the real binary, the certificates are made for each test, the TLS of the proxy is rustls'.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use postern_client::{Client, Retry, SendError, Transport, Unreachable};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

/// A certificate that is its own authority, for `localhost`, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    fn make(folder: &TempDir, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = |end: &str| folder.path().join(format!("{name}{end}"));
        let identity = Self { certificate: path(".pem"), key: path(".key") };
        fs::write(&identity.certificate, made.cert.pem()).unwrap();
        let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&identity.key).unwrap();
        key.write_all(made.signing_key.serialize_pem().as_bytes()).unwrap();
        identity
    }

    fn trusted(&self) -> Transport {
        Transport::trusting(&fs::read(&self.certificate).unwrap()).unwrap()
    }
}

/// A service that says what it was asked, and hands on every head that it saw.
fn service() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, heads) = (stream.unwrap(), heads.clone());
            std::thread::spawn(move || {
                let mut read = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).unwrap_or(0) == 1 {
                    read.push(byte[0]);
                    if read.ends_with(b"\r\n\r\n") {
                        let _ = heads.send(String::from_utf8(std::mem::take(&mut read)).unwrap());
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
                    }
                }
            });
        }
    });
    (address, seen)
}

/// The gateway, with TLS, before one service.
struct Gateway {
    folder: TempDir,
    process: Child,
    identity: Identity,
    port: u16,
    admin: String,
}

impl Gateway {
    fn start(service: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::make(&folder, "gateway");
        let config = format!(
            "listen = [\"127.0.0.1:0\"]\n[tls]\ncert = \"gateway.pem\"\nkey = \"gateway.key\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [resource.orders]\nupstream = \"http://{service}\"\nforward_token = \"original\"\n"
        );
        fs::write(folder.path().join("postern.toml"), config).unwrap();
        assert!(postern(&folder, &["init"]).status.success());
        let mut process = command(&folder).arg("serve").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = |beginning: &str| {
            let mut before = Vec::new();
            for line in lines.by_ref().map(Result::unwrap) {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.to_owned();
                }
                before.push(line);
            }
            panic!("the gateway ended before it was up: {before:?}");
        };
        let port = said("Messages: ").rsplit(':').next().unwrap().parse().unwrap();
        let admin = said("Administration: ");
        // What else it writes is not to fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, process, identity, port, admin }
    }

    fn mint(&self, arguments: &[&str]) -> String {
        let output = postern(&self.folder, &[&["mint", "orders"], arguments].concat());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/orders{path}", self.port)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.current_dir(folder.path()).stdin(Stdio::null());
    for variable in ["POSTERN_STATE", "POSTERN_TOKEN", "POSTERN_ADMIN", "POSTERN_ADMIN_CA", "POSTERN_LOG"] {
        command.env_remove(variable);
    }
    command
}

fn postern(folder: &TempDir, arguments: &[&str]) -> Output {
    command(folder).args(arguments).output().unwrap()
}

fn sentence(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_narrows_each_request_to_the_gateway_over_tls() {
    let (service, seen) = service();
    let gateway = Gateway::start(service);
    let full = gateway.mint(&[]);
    let client = Client::new(&full).narrowing("/orders").transport(gateway.identity.trusted());
    let answer = client.get(&gateway.url("/1?page=2")).await.unwrap();
    assert_eq!((answer.body().as_ref(), answer.version()), (&b"hello"[..], http::Version::HTTP_2));
    let head = seen.recv().unwrap();
    assert!(head.starts_with("GET /1?page=2 HTTP/1.1\r\n"), "{head}");
    let carried = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap().to_owned();
    assert_ne!(carried, full);
    // What the service was handed is of use for that very request alone.
    let thief = Client::new(&carried).transport(gateway.identity.trusted());
    assert_eq!(thief.get(&gateway.url("/1?page=2")).await.unwrap().status(), 200);
    for other in ["/1", "/1?page=3", "/2?page=2"] {
        let refused = thief.get(&gateway.url(other)).await.unwrap_err();
        let SendError::Problem { problem, .. } = &refused else { panic!("{refused}") };
        assert_eq!((problem.kind.as_str(), refused.retry()), ("not-permitted", Retry::No), "{other}");
        assert!(problem.caveats.iter().any(|caveat| caveat.block == 1), "{problem:?}");
    }
    // A caveat that the command line wrote is told in words.
    let reader = Client::new(&gateway.mint(&["--path", "/1"])).transport(gateway.identity.trusted());
    let refused = reader.get(&gateway.url("/2")).await.unwrap_err();
    let SendError::Problem { problem, .. } = &refused else { panic!("{refused}") };
    assert!(problem.caveats[0].words.as_deref().is_some_and(|words| words.contains("/1")), "{problem:?}");
    assert!(!refused.to_string().contains(&full));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_under_another_certificate_is_sent_nothing() {
    let (service, seen) = service();
    let gateway = Gateway::start(service);
    let other = Identity::make(&gateway.folder, "other");
    for client in [Client::new(&gateway.mint(&[])), Client::new(&gateway.mint(&[])).transport(other.trusted())] {
        let error = client.post_json(&gateway.url("/1"), "{}").await.unwrap_err();
        assert!(matches!(&error, SendError::Unreachable(Unreachable::Untrusted { .. })), "{error}");
        assert_eq!(error.retry(), Retry::Safe);
        assert!(error.to_string().contains(&format!("localhost:{}", gateway.port)), "{error}");
    }
    assert!(seen.try_recv().is_err());
}

/// Ends TLS before the administration, as a proxy would; where it listens.
async fn proxy(identity: &Identity, admin: &str) -> u16 {
    let certificate = CertificateDer::from_pem_file(&identity.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let behind = admin.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_behind_a_proxy_that_speaks_tls_is_reached_as_any_other() {
    let (service, _seen) = service();
    let gateway = Gateway::start(service);
    let identity = Identity::make(&gateway.folder, "proxy");
    let url = format!("https://localhost:{}", proxy(&identity, &gateway.admin).await);
    let authority = identity.certificate.to_str().unwrap();
    let token = fs::read_to_string(gateway.folder.path().join(".postern/admin.token")).unwrap();
    let reached = ["--admin", &url, "--admin-ca", authority];

    let listed = postern(&gateway.folder, &[&["keys", "list", "--json"], &reached[..]].concat());
    assert!(listed.status.success(), "{}", sentence(&listed));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    assert_eq!(sentence(&postern(&gateway.folder, &[&["status", "--once"], &reached[..]].concat())), "");
    let minted = postern(
        &gateway.folder,
        &["mint", "orders", "--via", &url, "--via-ca", authority, "--token-file", ".postern/admin.token"],
    );
    assert!(minted.status.success(), "{}", sentence(&minted));
    let minted = String::from_utf8(minted.stdout).unwrap();
    let client = Client::new(&minted).transport(gateway.identity.trusted());
    assert_eq!(client.get(&gateway.url("/1")).await.unwrap().status(), 200);
    let revoked = postern(&gateway.folder, &[&["revoke", minted.trim(), "--json"], &reached[..]].concat());
    assert_eq!(serde_json::from_slice::<Value>(&revoked.stdout).unwrap()["in_force"], "now", "{}", sentence(&revoked));
    assert_eq!(client.get(&gateway.url("/1")).await.unwrap_err().kind(), "revoked");

    // Without its authority it is told what to do, and the capability goes nowhere.
    for line in [&["keys", "list", "--admin", &url][..], &["revoke", &"a".repeat(128), "--admin", &url]] {
        let refused = postern(&gateway.folder, line);
        let said = sentence(&refused);
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains("is not accepted (") && said.contains("--admin-ca") && said.contains(&url), "{said}");
        assert!(!said.contains(token.trim()) && refused.stdout.is_empty(), "{said}");
    }
    let via = ["mint", "orders", "--via", &url, "--token-file", ".postern/admin.token"];
    assert!(sentence(&postern(&gateway.folder, &via)).contains("--via-ca"));
    for (file, says) in
        [("none.pem", "none.pem: No such file"), ("postern.toml", "postern.toml: there is no certificate")]
    {
        let said = sentence(&postern(&gateway.folder, &["keys", "list", "--admin", &url, "--admin-ca", file]));
        assert!(said.contains(&format!("--admin-ca {says}")), "{said}");
    }
}

#[test]
fn what_answers_is_no_gateway_or_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(postern(&folder, &["init"]).status.success());
    let asked = |answer: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        });
        let output = postern(&folder, &["revoke", &"a".repeat(128), "--admin", &url]);
        assert_eq!(output.status.code(), Some(3));
        sentence(&output)
    };
    let said = asked(b"");
    assert!(said.contains("whether it did what was asked is unknown"), "{said}");
    let said = asked(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    assert!(said.contains("answered POST /revocations with status 302 and no reason"), "{said}");
    let said = asked(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
    assert!(said.contains("not JSON"), "{said}");
}

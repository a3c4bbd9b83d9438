//! The addresses of services: `http://`, `https://`, `h2c://` and `unix:`. Pure functions; `Err` is the sentence that the
//! operator reads, without the key.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::errors::Mistakes;
use super::raw::{Entry, Section};
use super::values::split_host_port;

/// Bytes of a Unix socket's path: what `sun_path` holds, its NUL excepted.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamScheme {
    /// `http://`: HTTP/1.1 in clear text.
    Http,
    /// `https://`: TLS, and in it HTTP/2 or HTTP/1.1 as ALPN agrees.
    Https,
    /// `h2c://`: HTTP/2 in clear text, without asking (RFC 9113 section 3.3).
    H2c,
    /// `unix:`: HTTP/1.1 over a Unix socket.
    Unix,
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamPlace {
    /// Host name or literal address (an IPv6 one without brackets; lower case), and TCP port.
    Host(String, u16),
    /// The absolute path of a Unix socket.
    Socket(PathBuf),
}

/// The `[resource.<name>.upstream_tls]` table: TLS to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// File of the authorities that may have signed the service's certificate; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Files of the certificate by which the gateway is known to the service, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that is asked for and verified; `None`: the URL's host.
    pub server_name: Option<String>,
}

impl UpstreamTls {
    /// The files that it names.
    pub(super) fn files(&self) -> [Option<&PathBuf>; 3] {
        let (cert, key) = self.identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
        [self.ca.as_ref(), cert, key]
    }
}

/// One address a service is reached at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// How it is spoken to.
    pub scheme: UpstreamScheme,
    /// Where it is.
    pub place: UpstreamPlace,
}

impl Upstream {
    /// `http://HOST[:PORT]`, the like with `https` or `h2c`, or `unix:/PATH`, with nothing after it.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return socket(url, path);
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(format!("{url:?} is not a URL; write one like \"http://127.0.0.1:3000\"."));
        };
        let (scheme, port_default) = match scheme {
            "http" => (UpstreamScheme::Http, 80),
            "h2c" => (UpstreamScheme::H2c, 80),
            "https" => (UpstreamScheme::Https, 443),
            _ => {
                return Err(format!(
                    "the scheme {scheme:?} is unknown; write \"http://HOST:PORT\", \"https://HOST:PORT\", \"h2c://HOST:PORT\" or \"unix:/run/app.sock\"."
                ));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(
                "a URL with a name or password in it is refused; let the service check a header instead.".into()
            );
        }
        if rest.contains(['/', '?', '#']) {
            return Err(format!(
                "{url:?} has a path, query or fragment; write scheme, host and port only. A message's path below the resource is passed on as it is."
            ));
        }
        let (host, port) = split_host_port(rest)
            .ok_or_else(|| format!("{url:?} has no valid host and port; write \"http://HOST:PORT\"."))?;
        Ok(Self { scheme, place: UpstreamPlace::Host(host, port.unwrap_or(port_default)) })
    }

    /// What a client of the service itself would write into `Host`.
    pub fn authority(&self) -> String {
        match &self.place {
            UpstreamPlace::Host(..) => {
                self.to_string().split_once("://").map_or_else(String::new, |(_, host)| host.to_owned())
            }
            UpstreamPlace::Socket(_) => "localhost".to_owned(),
        }
    }

    /// The literal address, if the host is one: then nothing is ever resolved.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let UpstreamPlace::Host(host, port) = &self.place else { return None };
        Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, *port))
    }

    /// Host (an IPv6 address without brackets) and port; `None` for a Unix socket.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match &self.place {
            UpstreamPlace::Host(host, port) => Some((host, *port)),
            UpstreamPlace::Socket(_) => None,
        }
    }

    /// Whether a connection to it comes to a listener on this machine, as far as that shows without asking a resolver: at
    /// its very address, or at a loopback one where it listens on all.
    pub(super) fn leads_to(&self, listener: SocketAddr) -> bool {
        let UpstreamPlace::Host(host, port) = &self.place else { return false };
        let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        let meets = |ip: IpAddr| {
            let same_family = ip.is_ipv4() == listener.is_ipv4();
            // Connecting to `0.0.0.0` or `[::]` is connecting to this machine.
            let same_machine = is_local(ip) && listener.ip().is_unspecified();
            let to_loopback = ip.is_unspecified() && listener.ip().is_loopback();
            same_family && (ip == listener.ip() || same_machine || to_loopback)
        };
        let is_localhost = host == "localhost" && is_local(listener.ip());
        *port == listener.port() && (is_localhost || host.parse().is_ok_and(meets))
    }

    /// Where to connect: host and port, always both; or the socket's path.
    pub fn address(&self) -> String {
        match &self.place {
            UpstreamPlace::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            UpstreamPlace::Host(host, port) => format!("{host}:{port}"),
            UpstreamPlace::Socket(path) => path.display().to_string(),
        }
    }
}

/// As it is written, its port left out where it is the scheme's own.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, port_default) = match self.scheme {
            UpstreamScheme::Http => ("http", 80),
            UpstreamScheme::Https => ("https", 443),
            UpstreamScheme::H2c => ("h2c", 80),
            UpstreamScheme::Unix => return write!(f, "unix:{}", self.address()),
        };
        let address = self.address();
        match &self.place {
            UpstreamPlace::Host(_, port) if *port == port_default => {
                write!(f, "{scheme}://{}", address.trim_end_matches(char::is_numeric).trim_end_matches(':'))
            }
            _ => write!(f, "{scheme}://{address}"),
        }
    }
}

/// Reads the table; every mistake is reported.
pub(super) fn tls(mut t: Section<'_>, dir: &Path, mistakes: &mut Mistakes<'_>) -> Option<UpstreamTls> {
    let mut file = |key: &'static str, example: &str, mistakes: &mut Mistakes<'_>| {
        let entry = t.value(key)?;
        Some((super::file(&entry, example, dir, mistakes), entry))
    };
    let ca = file("ca", "\"ca.pem\"", mistakes);
    let (cert, key) = (file("cert", "\"gateway.pem\"", mistakes), file("key", "\"gateway.key\"", mistakes));
    for (one, other) in [(&cert, &key), (&key, &cert)] {
        if let (Some((_, entry)), None) = (one, other) {
            entry
                .mistake(mistakes, "a certificate and its key come together; write both `cert` and `key`, or neither.");
        }
    }
    let server_name = t.value("server_name").and_then(|entry| {
        let text = entry.text(mistakes, "\"orders.internal\"")?;
        match split_host_port(text) {
            Some((name, None)) => Some(name),
            _ => {
                entry.mistake(mistakes, format!("{text:?} is no host name; write one like \"orders.internal\"."));
                None
            }
        }
    });
    t.finish(mistakes);
    // A file that was named but not found is a mistake already; it must never come out as another way to trust.
    let found = |named: Option<(Option<PathBuf>, Entry<'_>)>| named.map_or(Some(None), |(found, _)| found.map(Some));
    let (ca, cert, key) = (found(ca)?, found(cert)?, found(key)?);
    Some(UpstreamTls { ca, identity: cert.zip(key), server_name })
}

fn socket(url: &str, path: &str) -> Result<Upstream, String> {
    if !path.starts_with('/') || path.starts_with("//") || path.ends_with('/') {
        return Err(format!("{url:?} is no absolute path of a socket; write one like \"unix:/run/app.sock\"."));
    }
    if path.contains(char::is_control) {
        return Err(format!("{url:?} has a control character; write a path like \"unix:/run/app.sock\"."));
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "the path is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's path can have; place the socket elsewhere."
        ));
    }
    Ok(Upstream { scheme: UpstreamScheme::Unix, place: UpstreamPlace::Socket(path.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_scheme_host_and_port() {
        let parse = |url: &str| Upstream::parse(url).expect("valid");
        let parsed = parse("http://LocalHost:3000/");
        let place = UpstreamPlace::Host("localhost".into(), 3000);
        assert_eq!(parsed, Upstream { scheme: UpstreamScheme::Http, place });
        assert_eq!(parsed.to_string(), "http://localhost:3000");
        assert_eq!(parse("http://[::1]").to_string(), "http://[::1]");
        assert_eq!(parse("http://[::1]").address(), "[::1]:80");
        assert_eq!(parse("http://10.0.0.1").to_string(), "http://10.0.0.1");
        assert_eq!(parse("http://10.0.0.1").socket_addr(), "10.0.0.1:80".parse().ok());
        let socket = parse("unix:/run/app.sock");
        assert_eq!(socket.place, UpstreamPlace::Socket("/run/app.sock".into()));
        assert_eq!((socket.to_string().as_str(), socket.socket_addr()), ("unix:/run/app.sock", None));
    }

    #[test]
    fn what_is_no_upstream_is_refused() {
        for bad in [
            "",
            "127.0.0.1:3000",
            "http:/x",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:+1",
            "http://a:65536",
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://u:p@a",
            "http://a b",
            "http://127.1",
            "http://0x7f.0x1",
            "http://[::1",
            "http://[::1]x",
            "http://::1:80",
            "ftp://a",
            "https://a@b",
            "h2c://a/b",
            "http://a\r\n",
            "http://-a",
            "http://a..b",
            "HTTP://a",
            "unix:",
            "unix:run/a.sock",
            "unix:///run/a.sock",
            "unix:/run/",
            "unix:/run/a\n",
            &format!("unix:/{}", "a".repeat(200)),
        ] {
            assert!(Upstream::parse(bad).is_err(), "{bad:?} passed");
        }
    }
}

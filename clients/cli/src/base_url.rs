//! Where a gateway is, as somebody types it.

use http::Uri;

/// An address, checked: `http://host:port` or `https://host:port` without anything behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl BaseUrl {
    /// Reads `http://127.0.0.1:7401`; a closing `/` may be there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let advice = "write it like http://127.0.0.1:7401";
        let uri: Uri = text.parse().map_err(|_| format!("{text:?} is not a URL; {advice}"))?;
        let (scheme, usual_port) = match uri.scheme_str() {
            Some("http") => (Scheme::Http, 80),
            Some("https") => (Scheme::Https, 443),
            _ => return Err(format!("{text:?} is neither an http:// nor an https:// URL; {advice}")),
        };
        let authority = uri.authority().ok_or_else(|| format!("{text:?} names no host; {advice}"))?;
        if authority.as_str().contains('@') || uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err(format!("{text:?} has more than a host and a port; {advice}"));
        }
        let behind_host = authority.as_str().strip_prefix(authority.host()).unwrap_or(authority.as_str());
        let port = match behind_host.strip_prefix(':') {
            None if behind_host.is_empty() => Some(usual_port),
            None => None,
            Some(digits) => digits.parse().ok().filter(|port| *port != 0),
        };
        let port = port.ok_or_else(|| format!("{text:?} has no valid port; {advice}"))?;
        Ok(Self { scheme, host: authority.host().to_owned(), port })
    }

    /// Whether what is sent there can be read on its way: in cleartext, and to another machine.
    pub(crate) fn is_overheard(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.is_https() && !is_loopback
    }

    /// Whether the other end has to show a certificate.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }
}

impl std::fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_https() { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_taken() {
        assert_eq!(BaseUrl::parse("http://127.0.0.1:7401/").unwrap().to_string(), "http://127.0.0.1:7401");
        assert_eq!(BaseUrl::parse("http://[::1]:7401").unwrap().to_string(), "http://[::1]:7401");
        assert_eq!(BaseUrl::parse("https://admin.example").unwrap().to_string(), "https://admin.example:443");
        for wrong in [
            "127.0.0.1:7401",
            "ftp://a:1",
            "https://a:1/keys",
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
    }

    #[test]
    fn what_leaves_the_machine_in_cleartext_is_known() {
        for (url, is_overheard) in [
            ("http://[::1]:1", false),
            ("http://localhost:1", false),
            ("http://localhost.example:1", true),
            ("http://10.0.0.1:1", true),
            ("https://10.0.0.1:1", false),
        ] {
            assert_eq!(BaseUrl::parse(url).unwrap().is_overheard(), is_overheard, "{url}");
        }
    }
}

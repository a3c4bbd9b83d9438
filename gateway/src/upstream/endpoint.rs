//! One address of a service, as configured.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Scheme;

use super::tls::ClientTls;
use crate::config::{Upstream, UpstreamPlace, UpstreamScheme};

/// One address of a service. Shared by whatever leads there, so it is made once and passed on by reference.
#[derive(Debug)]
pub struct Endpoint {
    name: Rc<str>,
    upstream: Upstream,
    tls: Option<Arc<ClientTls>>,
}

impl Endpoint {
    /// The endpoint of a configured address; `tls` is what TLS to it is made with, where that is its scheme.
    pub fn new(upstream: &Upstream, tls: Option<&Arc<ClientTls>>) -> Rc<Self> {
        let name = Self::label(upstream.scheme, &upstream.address());
        Rc::new(Self { name: name.into(), upstream: upstream.clone(), tls: tls.map(Arc::clone) })
    }

    /// What an address is called in logs: as it is where plain HTTP is spoken there, else behind its scheme.
    pub fn label(scheme: UpstreamScheme, address: &str) -> String {
        match scheme {
            UpstreamScheme::Http => address.to_owned(),
            UpstreamScheme::Https => format!("https://{address}"),
            UpstreamScheme::H2c => format!("h2c://{address}"),
            UpstreamScheme::Unix => format!("unix:{address}"),
        }
    }

    /// What tells it from every other one: connections are kept under this name, and logs show it. Plain HTTP goes by
    /// `host:port`.
    pub fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// How it is spoken to.
    pub fn scheme(&self) -> UpstreamScheme {
        self.upstream.scheme
    }

    /// What TLS to it is made with.
    pub fn tls(&self) -> Option<&Arc<ClientTls>> {
        self.tls.as_ref()
    }

    /// As configured.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What `:scheme` says over HTTP/2.
    pub fn uri_scheme(&self) -> Scheme {
        if self.scheme() == UpstreamScheme::Https { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// Whether a connection to it may turn out to be HTTP/2, which messages share.
    pub fn may_speak_h2(&self) -> bool {
        matches!(self.scheme(), UpstreamScheme::Https | UpstreamScheme::H2c)
    }

    /// The literal address, if the host is one: then nothing is ever resolved.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.upstream.socket_addr()
    }

    /// Host (an IPv6 address without brackets) and port; `None` for a Unix socket.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        self.upstream.host_and_port()
    }

    /// The path of a Unix socket.
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.upstream.place {
            UpstreamPlace::Host(..) => None,
            UpstreamPlace::Socket(path) => Some(path),
        }
    }
}

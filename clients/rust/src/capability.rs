//! What a handler is given: the capability that its message was decided by, and what the message was decided to be.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use postern_capabilities::resource::{ResourceName, Right};
use postern_capabilities::revocation::RevocationId;
use postern_capabilities::verifier::{Received, Verifier as Core};

/// A verified capability, by which this message is authorised. It holds no token text: whoever has it can present nothing.
#[derive(Clone)]
pub struct Capability {
    inner: Arc<Inner>,
}

struct Inner {
    capability: Arc<postern_capabilities::Capability>,
    /// Whose decision it was; it knows the service's name.
    verifier: Arc<Core>,
    path: Box<str>,
    host: Box<str>,
    client: Option<IpAddr>,
    is_https: bool,
    prefix: Option<Box<str>>,
}

impl Capability {
    pub(crate) fn of(
        capability: Arc<postern_capabilities::Capability>,
        verifier: Arc<Core>,
        received: &Received<'_>,
    ) -> Self {
        let stated = capability.statement().cloned();
        let stated = stated.as_ref();
        let scheme = stated.and_then(|it| it.scheme).unwrap_or(received.scheme());
        Self {
            inner: Arc::new(Inner {
                capability,
                verifier,
                path: received.path().into(),
                host: stated.and_then(|it| it.host.clone()).unwrap_or_else(|| received.host().into()),
                client: stated.and_then(|it| it.client).or(received.client()),
                is_https: scheme == postern_capabilities::message::Scheme::Https,
                prefix: received.prefix().map(Into::into),
            }),
        }
    }

    /// Its rights. Caveats may narrow them.
    pub fn rights(&self) -> &[Right] {
        self.inner.capability.rights()
    }

    /// Whether it holds a right to this operation on this service. Caveats may stop a message all the same.
    pub fn holds(&self, operation: &str) -> bool {
        self.inner.capability.holds(self.resource().as_str(), operation)
    }

    /// A name for logs that is of no use to anybody else. It is another one for each message where the gateway narrows.
    pub fn short_id(&self) -> &str {
        self.inner.capability.short_id()
    }

    /// The short name of its authority block: the same for all that was derived from one minted token.
    pub fn minted_id(&self) -> String {
        self.inner.capability.revocation_ids().first().map(RevocationId::short).unwrap_or_default()
    }

    /// What each of its blocks is revoked by, the authority first.
    pub fn revocation_ids(&self) -> &[RevocationId] {
        self.inner.capability.revocation_ids()
    }

    /// The last second at which no expiry has passed.
    pub fn expires_at(&self) -> Option<u64> {
        self.inner.capability.expires_at()
    }

    /// The service that it is for here.
    pub fn resource(&self) -> &ResourceName {
        self.inner.verifier.resource()
    }

    /// The path that was decided on.
    pub fn path(&self) -> &str {
        &self.inner.path
    }

    /// The host that the client asked for, where the gateway states it; else what the verifier was told to believe, or
    /// what the connection says.
    pub fn host(&self) -> &str {
        &self.inner.host
    }

    /// The client, as [`Capability::host`] is known.
    pub fn client(&self) -> Option<IpAddr> {
        self.inner.client
    }

    /// Whether the client came over TLS, as [`Capability::host`] is known.
    pub fn is_https(&self) -> bool {
        self.inner.is_https
    }

    /// What the gateway took off the path: for links to this service.
    pub fn prefix(&self) -> Option<&str> {
        self.inner.prefix.as_deref()
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capability({})", self.short_id())
    }
}

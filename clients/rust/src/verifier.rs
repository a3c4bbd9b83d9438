//! Deciding on requests of the `http` crate: keys from text, from a file, or fetched from the gateway.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::request::Parts;
use http::{Version, header};
use postern_capabilities::keys::{KeyRing, PublicKey};
use postern_capabilities::message::Scheme;
use postern_capabilities::path::EncodedSlash;
use postern_capabilities::resource::ResourceName;
use postern_capabilities::revocation::RevocationId;
#[cfg(feature = "http-client")]
use postern_capabilities::token::NotVerified;
use postern_capabilities::verifier::{
    AuthorizationUse, Believed, HttpVersion, Received, Request, Verifier as Core, VerifyError,
};

use crate::capability::Capability;
use crate::error::{Refused, SetupError};
#[cfg(feature = "http-client")]
use crate::fetched::{Fetched, Refresh};

/// How a verifier is to decide, before it has keys. Made by [`Verifier::of`].
pub struct Setup {
    resource: ResourceName,
    leeway_seconds: u64,
    believed: Believed,
    statement_keys: Vec<PublicKey>,
    authorization: AuthorizationUse,
    slash: EncodedSlash,
    mount: Option<String>,
    budget: Option<u64>,
    #[cfg(feature = "http-client")]
    refresh: Refresh,
}

impl Setup {
    /// Forgives clocks that differ by so many seconds. Without it none.
    pub fn leeway(mut self, seconds: u64) -> Self {
        self.leeway_seconds = seconds;
        self
    }

    /// Who says who the client is. Without it, only the gateway's own statement in a token that it narrowed.
    pub fn believe(mut self, believed: Believed) -> Self {
        self.believed = believed;
        self
    }

    /// The keys that sign statements, where no key document is fetched: `ed25519/<hex>` each, from the gateway's document.
    pub fn statement_keys(mut self, keys: Vec<PublicKey>) -> Self {
        self.statement_keys = keys;
        self
    }

    /// The service has an `Authorization` of its own (`authorization = "pass"` at the gateway).
    pub fn own_authorization(mut self) -> Self {
        self.authorization = AuthorizationUse::Service;
        self
    }

    /// The gateway leaves this prefix on the path (`keep_prefix = true`).
    pub fn mount(mut self, prefix: &str) -> Self {
        self.mount = Some(prefix.to_owned());
        self
    }

    /// The gateway passes `%2F` (`encoded_slash = "pass"`).
    pub fn encoded_slash(mut self) -> Self {
        self.slash = EncodedSlash::Pass;
        self
    }

    /// Most evaluation steps of one decision (`price_budget` at the gateway).
    pub fn budget(mut self, steps: u64) -> Self {
        self.budget = Some(steps);
        self
    }

    /// How fetched keys are kept up to date.
    #[cfg(feature = "http-client")]
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// A verifier by one key: `ed25519/<hex>`, as in `root.pub`.
    ///
    /// Tokens name their key by a number; this key is taken for whatever number they name.
    ///
    /// # Errors
    /// The text is no Ed25519 public key.
    pub fn key(self, text: &str) -> Result<Verifier, SetupError> {
        let key: PublicKey = text.parse()?;
        self.keys(KeyRing::unnumbered([key])?)
    }

    /// A verifier by the key in a file, such as the state folder's `root.pub`.
    ///
    /// # Errors
    /// The file cannot be read, or holds no Ed25519 public key.
    pub fn key_file(self, path: impl AsRef<Path>) -> Result<Verifier, SetupError> {
        let path = path.as_ref();
        let unreadable = |error| SetupError::File { path: path.display().to_string(), error };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let wrong = |error| SetupError::KeyInFile { path: path.display().to_string(), error };
        let key: PublicKey = text.parse().map_err(wrong)?;
        self.keys(KeyRing::unnumbered([key])?)
    }

    /// A verifier by these keys.
    ///
    /// # Errors
    /// The mount prefix is no canonical path.
    pub fn keys(self, keys: KeyRing) -> Result<Verifier, SetupError> {
        Ok(Verifier {
            core: Arc::new(self.core(keys)?),
            #[cfg(feature = "http-client")]
            fetched: None,
        })
    }

    /// A verifier by the keys that the gateway at this URL publishes (`http://127.0.0.1:7400`). They are fetched now, and again
    /// as [`Refresh`] says, so that a rotation needs no restart here.
    ///
    /// # Errors
    /// The keys cannot be had. A service that should start without its gateway can try again.
    #[cfg(feature = "http-client")]
    pub async fn gateway(self, url: &str) -> Result<Verifier, SetupError> {
        let refresh = self.refresh.clone();
        let core = Arc::new(self.core(KeyRing::new())?);
        let fetched = Fetched::first(url, refresh, Arc::clone(&core)).await?;
        Ok(Verifier { core, fetched: Some(fetched) })
    }

    fn core(self, keys: KeyRing) -> Result<Core, SetupError> {
        let mut core = Core::new(self.resource, keys)
            .with_leeway(self.leeway_seconds)
            .with_believed(self.believed)
            .with_authorization(self.authorization)
            .with_encoded_slash(self.slash);
        core.set_statement_keys(self.statement_keys);
        if let Some(budget) = self.budget {
            core = core.with_budget(budget);
        }
        match self.mount {
            Some(mount) => core.with_mount(&mount).map_err(SetupError::Mount),
            None => Ok(core),
        }
    }
}

/// Decides on requests for one service. Cheap to clone: all clones share keys and what they remember.
#[derive(Clone)]
pub struct Verifier {
    core: Arc<Core>,
    #[cfg(feature = "http-client")]
    fetched: Option<Arc<Fetched>>,
}

impl Verifier {
    /// A verifier for the service that the gateway knows by this name.
    ///
    /// # Errors
    /// No resource has such a name.
    pub fn of(resource: &str) -> Result<Setup, SetupError> {
        Ok(Setup {
            resource: ResourceName::parse(resource)?,
            leeway_seconds: 0,
            believed: Believed::default(),
            statement_keys: Vec::new(),
            authorization: AuthorizationUse::default(),
            slash: EncodedSlash::Refuse,
            mount: None,
            budget: None,
            #[cfg(feature = "http-client")]
            refresh: Refresh::default(),
        })
    }

    /// Decides a request by its head, by the keys that are at hand. Where caveats ask what the body says, use
    /// [`Verifier::verify_with_body`].
    ///
    /// # Errors
    /// The request is not authorised.
    pub fn verify(&self, head: &Parts) -> Result<Capability, VerifyError> {
        self.verify_with_body(head, None)
    }

    /// Decides a request by its head and by its body.
    ///
    /// # Errors
    /// The request is not authorised.
    pub fn verify_with_body(&self, head: &Parts, body: Option<&[u8]>) -> Result<Capability, VerifyError> {
        let received = self.received(head)?;
        let capability = self.core.verify(&received, body, crate::now())?;
        Ok(Capability::of(capability, Arc::clone(&self.core), &received))
    }

    /// Decides a request by keys that are as fresh as they have to be: those of a gateway are fetched first where they are
    /// too old, or where the token names one that is not known yet. A `CapabilityLayer` does this.
    ///
    /// # Errors
    /// The request is not authorised, or the keys cannot be had.
    pub async fn verify_fresh(&self, head: &Parts, body: Option<&[u8]>) -> Result<Capability, Refused> {
        #[cfg(feature = "http-client")]
        if let Some(fetched) = &self.fetched {
            fetched.keep_fresh().await?;
            return match self.verify_with_body(head, body) {
                Err(VerifyError::NotVerified(NotVerified::UnknownKey(_))) => {
                    fetched.look_again().await;
                    Ok(self.verify_with_body(head, body)?)
                }
                verdict => Ok(verdict?),
            };
        }
        Ok(self.verify_with_body(head, body)?)
    }

    /// Fetches the keys now, where they are fetched.
    ///
    /// # Errors
    /// They cannot be had. Those that are known stay in use, until they are too old.
    #[cfg(feature = "http-client")]
    pub async fn refresh(&self) -> Result<(), crate::fetched::FetchError> {
        match &self.fetched {
            Some(fetched) => fetched.fetch().await,
            None => Ok(()),
        }
    }

    /// The keys as they are now.
    pub fn keys(&self) -> KeyRing {
        self.core.keys()
    }

    /// The service's name.
    pub fn resource(&self) -> &ResourceName {
        self.core.resource()
    }

    /// Revokes these ids here too. A service that can be reached past its gateway needs to be told.
    pub fn revoke(&self, ids: &[RevocationId]) {
        self.core.revoke(ids);
    }

    fn received<'r>(&self, head: &'r Parts) -> Result<Received<'r>, VerifyError> {
        let uri = original_uri(head);
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let request = Request {
            method: head.method.as_str(),
            target,
            version: if head.version < Version::HTTP_2 { HttpVersion::Http1 } else { HttpVersion::Http2 },
            scheme: Scheme::Http,
            peer: peer(head),
        };
        let fields = head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        // On HTTP/2 the authority is no field.
        let authority = uri.authority().filter(|_| !head.headers.contains_key(header::HOST));
        let host = authority.map(|authority| (b"host".as_slice(), authority.as_str().as_bytes()));
        self.core.receive(request, fields.chain(host))
    }
}

/// The target as it came: axum's nested routers show their routes a shorter one.
#[cfg(feature = "axum")]
fn original_uri(head: &Parts) -> &http::Uri {
    head.extensions.get::<::axum::extract::OriginalUri>().map_or(&head.uri, |original| &original.0)
}

#[cfg(not(feature = "axum"))]
fn original_uri(head: &Parts) -> &http::Uri {
    &head.uri
}

/// The other end of the connection, as the server tells it.
fn peer(head: &Parts) -> Option<IpAddr> {
    #[cfg(feature = "axum")]
    if let Some(info) = head.extensions.get::<::axum::extract::ConnectInfo<std::net::SocketAddr>>() {
        return Some(info.0.ip());
    }
    #[cfg(feature = "tower")]
    if let Some(peer) = head.extensions.get::<crate::layer::Peer>() {
        return Some(peer.0);
    }
    let _ = head;
    None
}

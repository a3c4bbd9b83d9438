//! A backend verifies for itself: this very message, as it was received, is authorised by the capability that it carries.
//!
//! The client libraries of all languages call this, so a verdict cannot differ between them: they bring a request's parts
//! as plain values, the keys and the time, and get an answer or a reason. In three steps, because only the second
//! tells whether the body has to be read:
//!
//! 1. [`Verifier::receive`] takes the token and the facts out of the request ([`received`]);
//! 2. [`Verifier::open`] verifies the token, or remembers that it did;
//! 3. [`Verifier::decide`] decides the message, with the body's bytes where the capability's
//!    [`needs`](Capability::needs) say so.
//!
//! # What is believed
//!
//! A gateway forwards the path in the form that it checked, below the resource, so the path and the query string are taken from
//! the request line as they stand. `X-Forwarded-Prefix` is never taken off or put before it: whoever could
//! write that header could then have another path checked than the one that is served. A service whose gateway keeps the
//! mount prefix says so itself ([`Verifier::with_mount`]).
//!
//! `host`, `scheme`, `client` and `client_cert` come from the gateway's [statement](crate::statement) at the token's end,
//! which nobody else can make. Where a caveat asks for one of them and the token carries none, the message is refused: the
//! peer's address and header fields are what a server made of the message, and many servers take both from fields that
//! its sender wrote. A service that knows better says so ([`Believed`]).
//!
//! The verifier supplies `backend(name)`, which no gateway does: a token that is narrowed to this backend is of
//! use here and nowhere else.
//!
//! # Clocks
//!
//! The time is an argument. Where clocks may differ, [`Verifier::with_leeway`] has a refused message decided again at
//! the earliest and at the latest moment that it might be. The default is none.

mod error;
mod facts;
mod options;
pub mod received;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::authorize::{Permit, Refusal, authorize};
use crate::caveat::Cidr;
use crate::chain::Prefixes;
use crate::keys::{KeyRing, PublicKey};
use crate::message::{Message, POST, Scheme};
use crate::path::{EncodedSlash, PathError, canonical_path};
use crate::plans::{PlanCache, RefusalCache};
use crate::resource::ResourceName;
use crate::revocation::{RevocationId, Standing};
use crate::token::{Capability, PRICE_BUDGET_DEFAULT, Unverified};
use crate::web_keys::{KeyDocument, KeyDocumentError};

pub use error::VerifyError;
pub use facts::Facts;
pub use options::{OptionError, Options};
pub use received::{HttpVersion, Received, Request};

/// Verified plans that are remembered, and bytes of token text with them, unless a backend says otherwise.
const PLANS_DEFAULT: (usize, usize) = (10_000, 16 * 1024 * 1024);

/// Most seconds of leeway: more would keep expired tokens alive rather than forgive a clock.
pub const LEEWAY_SECONDS_MAX: u64 = 300;

/// Whose word on `host`, `scheme`, `client` and `client_cert` counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Believed {
    /// Nobody's: only a statement at the token's end counts.
    #[default]
    Statement,
    /// The connection's own: the peer's address as the server gives it, `Host`, and nobody's `X-Forwarded-*`. For a service
    /// whose clients reach it directly, and whose server takes the peer from the connection alone.
    Connection,
    /// A peer on this machine: the gateway runs beside the service, and the server hands on the connection's own peer.
    Loopback,
    /// Peers in these networks: the gateway's.
    From(Vec<Cidr>),
    /// Everybody, because nobody but the gateway can reach the service: a Unix socket, a network of their own.
    Anyone,
}

impl Believed {
    fn believes(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::Anyone, _) => true,
            (Self::Statement | Self::Connection, _) | (_, None) => false,
            (Self::Loopback, Some(peer)) => peer.to_canonical().is_loopback(),
            (Self::From(networks), Some(peer)) => networks.iter().any(|network| network.contains(peer)),
        }
    }
}

/// Who a message's client is. Where no caveat asks for a part of it, that part may be made up.
struct Who<'a> {
    client: Option<IpAddr>,
    client_cert: Option<&'a str>,
    host: &'a str,
    scheme: Scheme,
}

/// Whose field `Authorization` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthorizationUse {
    /// It carries the capability, unless `Postern-Capability` does.
    #[default]
    Capability,
    /// The service's own (`authorization = "pass"` at the gateway): only `Postern-Capability` carries one.
    Service,
}

/// Decides for one backend. Shared by all its threads.
pub struct Verifier {
    resource: ResourceName,
    standing: Standing,
    budget: u64,
    leeway_seconds: u64,
    mount: Box<str>,
    believed: Believed,
    authorization: AuthorizationUse,
    slash: EncodedSlash,
    plans: Mutex<PlanCache>,
    refusals: Mutex<RefusalCache>,
    prefixes: Prefixes,
}

impl Verifier {
    /// A verifier for the service that the gateway knows as `resource`, accepting what these keys signed.
    pub fn new(resource: ResourceName, keys: KeyRing) -> Self {
        Self {
            resource,
            standing: Standing::new(keys),
            budget: PRICE_BUDGET_DEFAULT,
            leeway_seconds: 0,
            mount: Box::default(),
            believed: Believed::default(),
            authorization: AuthorizationUse::default(),
            slash: EncodedSlash::Refuse,
            plans: Mutex::new(PlanCache::new(PLANS_DEFAULT.0, PLANS_DEFAULT.1)),
            refusals: Mutex::default(),
            prefixes: Prefixes::default(),
        }
    }

    /// Forgives clocks that differ by so many seconds, at most [`LEEWAY_SECONDS_MAX`].
    pub fn with_leeway(mut self, seconds: u64) -> Self {
        self.leeway_seconds = seconds.min(LEEWAY_SECONDS_MAX);
        self
    }

    /// Spends so many evaluation steps on a decision, in the worst case.
    pub fn with_budget(mut self, steps: u64) -> Self {
        self.budget = steps;
        self
    }

    /// The gateway leaves this prefix on the path (`keep_prefix = true`): caveats speak of what is below it.
    ///
    /// # Errors
    /// The prefix is no path in its canonical form.
    pub fn with_mount(mut self, prefix: &str) -> Result<Self, PathError> {
        let prefix = canonical_path(prefix.as_bytes(), EncodedSlash::Refuse)?;
        self.mount = prefix.trim_end_matches('/').into();
        Ok(self)
    }

    /// Believes these peers' `X-Forwarded-*`.
    pub fn with_believed(mut self, believed: Believed) -> Self {
        self.believed = believed;
        self
    }

    /// Says whose field `Authorization` is.
    pub fn with_authorization(mut self, authorization: AuthorizationUse) -> Self {
        self.authorization = authorization;
        self
    }

    /// Takes `%2F` for an ordinary character of a segment, as the gateway does where `encoded_slash = "pass"`.
    pub fn with_encoded_slash(mut self, slash: EncodedSlash) -> Self {
        self.slash = slash;
        self
    }

    /// Remembers so many verified tokens, with so many bytes of text between them.
    pub fn with_cache(mut self, entries: usize, bytes: usize) -> Self {
        self.plans = Mutex::new(PlanCache::new(entries, bytes));
        self
    }

    /// What the gateway calls this service, and what `backend(…)` states.
    pub fn resource(&self) -> &ResourceName {
        &self.resource
    }

    /// The keys as they are now.
    pub fn keys(&self) -> KeyRing {
        self.standing.keys()
    }

    /// Replaces the keys, for every message from now on.
    pub fn set_keys(&self, keys: KeyRing) {
        self.standing.set_keys(keys);
    }

    /// Replaces the keys by which gateways state who a message's client is.
    pub fn set_statement_keys(&self, keys: Vec<PublicKey>) {
        self.standing.set_statement_keys(keys);
    }

    /// Replaces the keys by those of the gateway's key document. What it no longer lists is retired; where it says nothing new,
    /// nothing changes.
    ///
    /// # Errors
    /// It is no key document, or its keys cannot follow the present ones. These stay.
    pub fn follow_document(&self, document: &[u8], now: u64) -> Result<(), KeyDocumentError> {
        let before = self.keys();
        let document = KeyDocument::parse(document)?;
        let keys = document.succeed(&before, now)?;
        // Every capability looks again after a change, so there is one only where there is one.
        if keys != before {
            self.set_keys(keys);
        }
        if document.statement_keys() != self.standing.statement_keys() {
            self.set_statement_keys(document.statement_keys().to_vec());
        }
        Ok(())
    }

    /// Revokes these ids, for every message from now on. A backend that can be reached past its gateway needs to be told.
    pub fn revoke(&self, ids: &[RevocationId]) {
        self.standing.revoke(ids);
    }

    /// Takes the token and the facts out of a request. `fields` are its header fields as pairs of name and value.
    ///
    /// # Errors
    /// The request is not one that a gateway forwards: [`VerifyError::Path`], [`VerifyError::Operation`],
    /// [`VerifyError::Malformed`], [`VerifyError::TwoTokens`], [`VerifyError::UnreadableCarrier`].
    pub fn receive<'r>(
        &self,
        request: Request<'r>,
        fields: impl IntoIterator<Item = (&'r [u8], &'r [u8])>,
    ) -> Result<Received<'r>, VerifyError> {
        Received::read(self, request, fields)
    }

    /// The capability that a request carries, verified.
    ///
    /// # Errors
    /// [`VerifyError::MissingCapability`], [`VerifyError::Unreadable`], [`VerifyError::NotVerified`].
    pub fn open(&self, received: &Received<'_>) -> Result<Arc<Capability>, VerifyError> {
        self.open_token(received.token().ok_or(VerifyError::MissingCapability)?)
    }

    /// A token, verified; or the memory that exactly these bytes were. Nothing is decided by it.
    ///
    /// # Errors
    /// [`VerifyError::Unreadable`], [`VerifyError::NotVerified`].
    pub fn open_token(&self, token: &str) -> Result<Arc<Capability>, VerifyError> {
        if let Some(known) = locked(&self.plans).get(token) {
            return Ok(known);
        }
        // The form comes first: what is no token is not worth a digest.
        let unverified = Unverified::parse(token).map_err(VerifyError::Unreadable)?;
        // Read before anything is verified: a change in between then leads to another look, never to a missed one.
        let version = self.standing.keys_version();
        if let Some(error) = locked(&self.refusals).get(token, version) {
            return Err(VerifyError::NotVerified(error));
        }
        let capability = unverified.verify_knowing(&self.standing, self.budget, &self.prefixes).map_err(|error| {
            locked(&self.refusals).insert(token, &error, version);
            VerifyError::NotVerified(error)
        })?;
        let capability = Arc::new(capability);
        locked(&self.plans).insert(token, Arc::clone(&capability));
        Ok(capability)
    }

    /// Decides the message. `body` are its bytes, where they were read; `now` is in seconds since 1970, UTC.
    ///
    /// # Errors
    /// [`VerifyError::Refusal`], [`VerifyError::ClientUnknown`], [`VerifyError::Body`]: the message is not authorised. Where
    /// the refusal is [`Refusal::BodyFactsRequired`], it may be with its body.
    pub fn decide(
        &self,
        capability: &Capability,
        received: &Received<'_>,
        body: Option<&[u8]>,
        now: u64,
    ) -> Result<(), VerifyError> {
        let needs = capability.needs();
        let who = self.who(capability, received)?;
        let client = who.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let message = Message {
            query_string: received.query_string(),
            host: who.host,
            scheme: who.scheme,
            client_cert: who.client_cert,
            upgrade: received.upgrade(),
            body_size: body.map_or(received.body_size(), |body| u64::try_from(body.len()).ok()),
            grpc: received.grpc(),
            backend: Some(self.resource.as_str()),
            ..Message::new(self.resource.as_str(), received.operation(), received.path(), now, client)
        };
        let said = body.filter(|body| needs.body && message.can_call() && !body.is_empty());
        let said = said.map(|body| received.calls(body, capability));
        let items = said.as_ref().and_then(|said| said.as_ref().ok()).map_or(&[][..], |said| &said.items);
        let decided = self.check(capability, Message { items, ..message }).map(drop);
        match (decided, said) {
            // The reason why the body says nothing, where nothing else stands in the way.
            (Ok(_) | Err(VerifyError::Refusal(Refusal::BodyFactsRequired)), Some(Err(error))) => Err(error),
            (decided, _) => decided,
        }
    }

    /// Who the message's client is: as the gateway states it, or else as this service was told to believe.
    fn who<'a>(&self, capability: &'a Capability, received: &'a Received<'_>) -> Result<Who<'a>, VerifyError> {
        let needs = capability.needs();
        let asks_client = needs.client || needs.client_in;
        if let Some(stated) = capability.statement() {
            let is_missing = asks_client && stated.client.is_none()
                || needs.host && stated.host.is_none()
                || needs.scheme && stated.scheme.is_none();
            return match is_missing {
                true => Err(VerifyError::Unstated),
                false => Ok(Who {
                    client: stated.client,
                    client_cert: stated.client_cert.as_deref(),
                    host: stated.host.as_deref().unwrap_or_default(),
                    scheme: stated.scheme.unwrap_or(Scheme::Http),
                }),
            };
        }
        if needs.asks_who() && self.believed == Believed::Statement {
            return Err(VerifyError::Unstated);
        }
        if asks_client && received.client().is_none() {
            return Err(VerifyError::ClientUnknown);
        }
        Ok(Who {
            client: received.client(),
            client_cert: received.client_cert(),
            host: received.host(),
            scheme: received.scheme(),
        })
    }

    /// Whether the presented token's caveats ask what the body says; `false` where the message is decided whatever it says.
    pub fn needs_body<'r>(&self, request: Request<'r>, fields: impl IntoIterator<Item = (&'r [u8], &'r [u8])>) -> bool {
        let received = self.receive(request, fields).ok();
        let received = received.filter(|received| received.operation() == POST);
        received.and_then(|received| self.open(&received).ok()).is_some_and(|capability| capability.needs().body)
    }

    /// All three steps for a message whose body need not be read, or was.
    ///
    /// # Errors
    /// Whatever [`Verifier::open`] and [`Verifier::decide`] say.
    pub fn verify(
        &self,
        received: &Received<'_>,
        body: Option<&[u8]>,
        now: u64,
    ) -> Result<Arc<Capability>, VerifyError> {
        let capability = self.open(received)?;
        self.decide(&capability, received, body, now)?;
        Ok(capability)
    }

    /// Decides a message whose every fact the caller states, `backend` included; its time may be off by the leeway.
    ///
    /// # Errors
    /// [`VerifyError::Refusal`].
    pub fn check<'m>(&self, capability: &Capability, message: Message<'m>) -> Result<Permit<'m>, VerifyError> {
        if self.leeway_seconds == 0 {
            return authorize(capability, message, &self.standing).map_err(VerifyError::Refusal);
        }
        let now = message.time;
        let refusal = match authorize(capability, message.clone(), &self.standing) {
            Ok(permit) => return Ok(permit),
            Err(refusal) => refusal,
        };
        if !matches!(refusal, Refusal::Expired { .. } | Refusal::Caveat(_)) {
            return Err(VerifyError::Refusal(refusal));
        }
        for time in [now.saturating_sub(self.leeway_seconds), now.saturating_add(self.leeway_seconds)] {
            if let Ok(permit) = authorize(capability, Message { time, ..message.clone() }, &self.standing) {
                return Ok(permit);
            }
        }
        Err(VerifyError::Refusal(refusal))
    }
}

/// A panic elsewhere must not turn every later message into one: the caches are valid after each single step.
fn locked<T>(cache: &Mutex<T>) -> MutexGuard<'_, T> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

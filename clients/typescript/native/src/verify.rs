//! Is this message authorised? The shared verifier of the capabilities crate, for requests as Node's servers hand them on.

use std::sync::Arc;

use napi::Result;
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use postern_capabilities::keys::{KeyId, KeyRing, KeyState};
use postern_capabilities::revocation::RevocationId;
use postern_capabilities::token;
use postern_capabilities::verifier::{self, Facts, HttpVersion, Request};
use postern_capabilities::web_keys::KeyDocument;

use crate::error::{not_authorised, refused};
use crate::holder::{NamedRight, now, public_key};

/// What a verifier may be told besides its keys. What is absent is the default of the shared verifier.
#[napi(object)]
#[derive(Default)]
pub struct Options {
    /// Forgives clocks that differ, at most 300 seconds.
    pub leeway_seconds: Option<u32>,
    /// Most evaluation steps of one decision.
    pub budget: Option<u32>,
    /// The prefix that the gateway leaves on the path.
    pub mount: Option<String>,
    /// Who says who the client is: `statement`, `connection`, `loopback`, `anyone`, or networks.
    pub believed: Option<Vec<String>>,
    /// The keys that sign statements, where no key document is fetched.
    pub statement_keys: Option<Vec<String>>,
    /// `capability` or `pass`.
    pub authorization: Option<String>,
    /// `refuse` or `pass`.
    pub encoded_slash: Option<String>,
}

/// A key with its number.
#[napi(object)]
pub struct NumberedKey {
    /// The number that tokens name it by.
    pub id: u32,
    /// `ed25519/<hex>`.
    pub key: String,
    /// Whether what it signed is refused.
    pub is_retired: bool,
}

/// A request as it was received.
#[napi(object)]
pub struct Message {
    /// The method.
    pub method: String,
    /// Path and query as they stood in the request line.
    pub target: String,
    /// Name, value, name, value, …
    pub headers: Vec<String>,
    /// The body, where a caveat asks what it says.
    pub body: Option<Uint8Array>,
    /// The address of the connection's other end.
    pub peer: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// Whether it came over HTTP/2.
    pub is_http2: Option<bool>,
    /// Seconds since 1970; absent: the clock.
    pub now: Option<f64>,
}

/// A verified capability.
#[napi]
pub struct Capability(Arc<token::Capability>);

#[napi]
impl Capability {
    /// Its rights.
    #[napi(getter)]
    pub fn rights(&self) -> Vec<NamedRight> {
        let named = |right: &postern_capabilities::Right| NamedRight {
            resource: right.resource.to_string(),
            operation: right.operation.to_string(),
        };
        self.0.rights().iter().map(named).collect()
    }

    /// Eight characters that name the token in logs.
    #[napi(getter)]
    pub fn short_id(&self) -> String {
        self.0.short_id().to_owned()
    }

    /// What its blocks are revoked by, the authority first.
    #[napi(getter)]
    pub fn revocation_ids(&self) -> Vec<String> {
        self.0.revocation_ids().iter().map(ToString::to_string).collect()
    }

    /// The last second at which no expiry has passed.
    #[napi(getter)]
    pub fn expires_at(&self) -> Option<f64> {
        self.0.expires_at().map(|at| at as f64)
    }

    /// Whether it cannot be narrowed any further.
    #[napi(getter)]
    pub fn is_sealed(&self) -> bool {
        self.0.is_sealed()
    }

    /// Whether it holds a right; its caveats are another question.
    #[napi]
    pub fn holds(&self, resource: String, method: String) -> bool {
        self.0.holds(&resource, &method)
    }
}

/// The compiled verifier. Applications use the TypeScript class, which keeps its keys fresh.
#[napi]
pub struct Verifier(verifier::Verifier);

#[napi]
impl Verifier {
    /// Without keys it accepts nothing.
    #[napi(constructor)]
    pub fn new(resource: String, options: Option<Options>) -> Result<Self> {
        let told = options.unwrap_or_default();
        let options = verifier::Options {
            leeway_seconds: told.leeway_seconds.map(i64::from),
            budget: told.budget.map(i64::from),
            mount: told.mount.as_deref(),
            believed: told.believed.as_deref(),
            statement_keys: told.statement_keys.as_deref(),
            authorization: told.authorization.as_deref(),
            encoded_slash: told.encoded_slash.as_deref(),
        };
        options.verifier(&resource).map(Self).map_err(|error| refused(error.kind(), &error))
    }

    /// Replaces the keys.
    #[napi]
    pub fn set_keys(&self, keys: Vec<NumberedKey>) -> Result<()> {
        let mut ring = KeyRing::new();
        for NumberedKey { id, key, is_retired } in keys {
            let state = if is_retired { KeyState::Retired } else { KeyState::Live };
            ring.add(KeyId(id), public_key(&key)?, state).map_err(|error| refused("invalid-key", &error))?;
        }
        self.0.set_keys(ring);
        Ok(())
    }

    /// Replaces the keys by these, whose numbers are not known: each is tried.
    #[napi]
    pub fn set_unnumbered_keys(&self, keys: Vec<String>) -> Result<()> {
        let keys = keys.iter().map(|key| public_key(key)).collect::<Result<Vec<_>>>()?;
        self.0.set_keys(KeyRing::unnumbered(keys).map_err(|error| refused("invalid-key", &error))?);
        Ok(())
    }

    /// Replaces the keys by those of a gateway's key document. What it no longer lists is retired.
    #[napi]
    pub fn set_key_document(&self, document: String) -> Result<()> {
        self.0.follow_document(document.as_bytes(), now()).map_err(|error| refused(error.kind(), &error))
    }

    /// Revokes these ids, 128 hexadecimal digits each.
    #[napi]
    pub fn revoke(&self, ids: Vec<String>) -> Result<()> {
        let ids: std::result::Result<Vec<RevocationId>, _> = ids.iter().map(|id| id.trim().parse()).collect();
        self.0.revoke(&ids.map_err(|error| refused("invalid-revocation-id", &error))?);
        Ok(())
    }

    /// Whether the presented token's caveats ask what the body says. `false` where `verify` will refuse it anyway.
    #[napi]
    pub fn needs_body(&self, method: String, target: String, headers: Vec<String>) -> bool {
        self.0.needs_body(Request::new(&method, &target, None), fields(&headers))
    }

    /// Verifies the token in a message's fields for this message.
    #[napi]
    pub fn verify(&self, message: Message) -> Result<Capability> {
        let Message { method, target, peer, scheme, .. } = &message;
        let version = if message.is_http2 == Some(true) { HttpVersion::Http2 } else { HttpVersion::Http1 };
        let scheme = scheme.as_deref().unwrap_or("http");
        let request = Request::new(method, target, None).with_connection(peer.as_deref(), scheme, version);
        // A number of JavaScript saturates; one before 1970 is 0, which no expiry takes for later.
        let now = message.now.map_or_else(now, |now| now as u64);
        let received = self.0.receive(request, fields(&message.headers));
        let verified = received.and_then(|received| self.0.verify(&received, message.body.as_deref(), now));
        verified.map(Capability).map_err(|error| not_authorised(&error))
    }

    /// Verifies a token for a message whose every fact is stated, as JSON in the form of the test vectors.
    #[napi]
    pub fn check(&self, token: String, facts: String) -> Result<Capability> {
        let facts = Facts::parse(&facts).map_err(|error| refused("invalid-facts", &error))?;
        self.0.check_facts(&token, facts).map(Capability).map_err(|error| not_authorised(&error))
    }
}

fn fields(headers: &[String]) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.chunks_exact(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()))
}

/// Throws where a key document cannot be used.
#[napi]
pub fn check_key_document(document: String) -> Result<()> {
    KeyDocument::parse(document.as_bytes()).map(drop).map_err(|error| refused(error.kind(), &error))
}

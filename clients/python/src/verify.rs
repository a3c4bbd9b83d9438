//! Is this message authorised? The shared verifier of the capabilities crate, for requests as Python's servers hand them on.

use std::sync::Arc;

use postern_capabilities::keys::{KeyId, KeyRing, KeyState};
use postern_capabilities::revocation::RevocationId;
use postern_capabilities::token;
use postern_capabilities::verifier::{self, Facts, HttpVersion, Options, Request};
use postern_capabilities::web_keys::KeyDocument;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{not_authorised, refused};
use crate::holder::{Texts, now};
use crate::keys::PublicKey;

/// A verified capability, good for the message that it was verified for.
#[pyclass(frozen, module = "postern")]
pub(crate) struct Capability(Arc<token::Capability>);

#[pymethods]
impl Capability {
    /// Pairs of resource and method; `*` is every method.
    #[getter]
    fn rights(&self) -> Vec<(String, String)> {
        self.0.rights().iter().map(|right| (right.resource.to_string(), right.operation.to_string())).collect()
    }

    /// Eight characters that name the token in logs. They authorise nothing.
    #[getter]
    fn short_id(&self) -> &str {
        self.0.short_id()
    }

    /// What its blocks are revoked by, the authority first.
    #[getter]
    fn revocation_ids(&self) -> Vec<String> {
        self.0.revocation_ids().iter().map(ToString::to_string).collect()
    }

    /// The last second, since 1970, at which no expiry has passed; `None`: it has no expiry.
    #[getter]
    fn expires_at(&self) -> Option<u64> {
        self.0.expires_at()
    }

    /// Whether it cannot be narrowed any further.
    #[getter]
    fn is_sealed(&self) -> bool {
        self.0.is_sealed()
    }

    /// Worst-case steps of one decision.
    #[getter]
    fn price(&self) -> u64 {
        self.0.price()
    }

    /// Whether it holds a right to a method on a resource. What its caveats say of a message is another question.
    fn holds(&self, resource: &str, method: &str) -> bool {
        self.0.holds(resource, method)
    }

    fn __repr__(&self) -> String {
        format!("<Capability {}>", self.0.short_id())
    }
}

/// The compiled verifier. Applications use `postern.Verifier`, which keeps its keys fresh.
#[pyclass(frozen, module = "postern._postern")]
pub(crate) struct Verifier(verifier::Verifier);

#[pymethods]
impl Verifier {
    #[new]
    #[pyo3(signature = (resource, *, leeway_seconds=0, budget=None, mount="", believed=None, statement_keys=None, authorization="capability", encoded_slash="refuse"))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn new(
        resource: &str,
        leeway_seconds: i64,
        budget: Option<i64>,
        mount: &str,
        believed: Option<Texts>,
        statement_keys: Option<Texts>,
        authorization: &str,
        encoded_slash: &str,
    ) -> PyResult<Self> {
        let options = Options {
            leeway_seconds: Some(leeway_seconds),
            budget,
            mount: Some(mount),
            believed: believed.as_ref().map(|texts| &texts.0[..]),
            statement_keys: statement_keys.as_ref().map(|texts| &texts.0[..]),
            authorization: Some(authorization),
            encoded_slash: Some(encoded_slash),
        };
        options.verifier(resource).map(Self).map_err(|error| refused(error.kind(), &error))
    }

    /// Replaces the keys: triples of number, key, and whether it is retired.
    fn set_keys(&self, keys: Vec<(u32, Bound<'_, PublicKey>, bool)>) -> PyResult<()> {
        let mut ring = KeyRing::new();
        for (id, key, is_retired) in keys {
            let state = if is_retired { KeyState::Retired } else { KeyState::Live };
            ring.add(KeyId(id), key.get().0, state).map_err(|error| refused("invalid-key", &error))?;
        }
        self.0.set_keys(ring);
        Ok(())
    }

    /// Replaces the keys by these, whose numbers are not known: each is tried.
    fn set_unnumbered_keys(&self, keys: Vec<Bound<'_, PublicKey>>) -> PyResult<()> {
        let ring = KeyRing::unnumbered(keys.iter().map(|key| key.get().0));
        self.0.set_keys(ring.map_err(|error| refused("invalid-key", &error))?);
        Ok(())
    }

    /// Replaces the keys by those of a gateway's key document. What it no longer lists is retired.
    fn set_key_document(&self, document: &[u8]) -> PyResult<()> {
        self.0.follow_document(document, now()).map_err(|error| refused(error.kind(), &error))
    }

    /// Revokes these ids, 128 hexadecimal digits each.
    fn revoke(&self, ids: Vec<String>) -> PyResult<()> {
        let ids: Result<Vec<RevocationId>, _> = ids.iter().map(|id| id.trim().parse()).collect();
        self.0.revoke(&ids.map_err(|error| refused("invalid-revocation-id", &error))?);
        Ok(())
    }

    /// Whether the presented token's caveats ask what the body says. `False` where `verify` will refuse it anyway.
    fn needs_body(&self, py: Python<'_>, method: &str, target: &str, fields: Vec<(String, String)>) -> bool {
        py.detach(|| self.0.needs_body(Request::new(method, target, None), borrowed(&fields)))
    }

    /// Verifies the token in the fields for this message.
    #[pyo3(signature = (method, target, fields, *, body=None, peer=None, scheme="http", http_2=false, now=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    fn verify(
        &self,
        py: Python<'_>,
        method: &str,
        target: &str,
        fields: Vec<(String, String)>,
        body: Option<Bound<'_, PyBytes>>,
        peer: Option<&str>,
        scheme: &str,
        http_2: bool,
        now: Option<u64>,
    ) -> PyResult<Capability> {
        let version = if http_2 { HttpVersion::Http2 } else { HttpVersion::Http1 };
        let request = Request::new(method, target, None).with_connection(peer, scheme, version);
        let now = now.unwrap_or_else(crate::holder::now);
        let body = body.as_ref().map(|body| body.as_bytes());
        let verified = py.detach(|| self.0.verify(&self.0.receive(request, borrowed(&fields))?, body, now));
        verified.map(Capability).map_err(|error| refusal(&error))
    }

    /// Verifies a token for a message whose every fact is stated, as JSON in the form of the test vectors.
    fn check(&self, py: Python<'_>, token: &str, facts: &str) -> PyResult<Capability> {
        let facts = Facts::parse(facts).map_err(|error| refused("invalid-facts", &error))?;
        py.detach(|| self.0.check_facts(token, facts)).map(Capability).map_err(|error| refusal(&error))
    }
}

fn borrowed(fields: &[(String, String)]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
}

/// The exception of a refusal, with the problem that a gateway would answer with.
fn refusal(error: &verifier::VerifyError) -> PyErr {
    let problem = error.problem();
    not_authorised(error, &problem)
}

/// Raises where a key document cannot be used.
#[pyfunction]
pub(crate) fn check_key_document(document: &[u8]) -> PyResult<()> {
    KeyDocument::parse(document).map(drop).map_err(|error| refused(error.kind(), &error))
}

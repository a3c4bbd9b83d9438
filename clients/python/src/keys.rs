//! Keys: the root key that mints, and the public half that verifies.

use postern_capabilities::keys;
use pyo3::prelude::*;

use crate::error::refused;

/// A root key: whoever has it can mint. It cannot be printed, pickled or compared.
#[pyclass(frozen, module = "postern")]
pub(crate) struct SigningKey(pub(crate) keys::SigningKey);

#[pymethods]
impl SigningKey {
    /// A new key from the system's randomness.
    #[staticmethod]
    fn generate() -> Self {
        Self(keys::SigningKey::generate())
    }

    /// Reads `ed25519-private/<hex>`: what `postern init` writes to `root.key`.
    #[staticmethod]
    fn from_text(text: &str) -> PyResult<Self> {
        keys::SigningKey::parse_text(text.trim()).map(Self).map_err(|error| refused("invalid-key", &error))
    }

    /// The key as text. It is the secret itself: write it to a file that only you can read.
    fn to_secret_text(&self) -> String {
        self.0.to_secret_text().to_string()
    }

    /// The public half.
    #[getter]
    fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public())
    }

    fn __repr__(&self) -> String {
        format!("<SigningKey of {}>", self.0.public())
    }
}

/// A public root key, which verifies and gives nobody anything.
#[pyclass(frozen, eq, hash, module = "postern")]
#[derive(PartialEq, Eq, Hash, Clone)]
pub(crate) struct PublicKey(pub(crate) keys::PublicKey);

#[pymethods]
impl PublicKey {
    /// Reads `ed25519/<hex>`: what `root.pub` holds. Keys of other algorithms are refused.
    #[new]
    fn new(text: &str) -> PyResult<Self> {
        text.trim().parse().map(Self).map_err(|error: keys::KeyError| refused("invalid-key", &error))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("PublicKey({:?})", self.0.to_string())
    }
}

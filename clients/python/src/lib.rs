//! The extension module `postern._postern`: the capabilities crate, as Python sees it.
//!
//! Nothing is decided here. Every verdict comes from the same code that the gateway runs, so the two cannot differ; this
//! crate only turns Python's values into Rust's and back, and lets other threads run meanwhile. The package around it
//! (`python/postern`) adds what is Python's own: middleware, HTTP clients' authentication, and the fetching of keys.
//!
//! * [`keys`]: root keys, and sets of public ones
//! * [`holder`]: mint, attenuate, seal, inspect, lint
//! * [`verify`]: is this message authorised?

mod error;
mod holder;
mod keys;
mod verify;

use pyo3::prelude::*;

#[pymodule]
mod _postern {
    #[pymodule_export]
    use super::error::{PosternError, VerifyError, body_broken, body_too_large, keys_unavailable, rerouted};
    #[pymodule_export]
    use super::holder::{attenuate, inspect, lint, mint, narrow, seal};
    #[pymodule_export]
    use super::keys::{PublicKey, SigningKey};
    #[pymodule_export]
    use super::verify::{Capability, Verifier, check_key_document};
}

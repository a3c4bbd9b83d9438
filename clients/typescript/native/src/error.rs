//! Errors on their way to JavaScript.

use std::fmt::Display;

use napi::{Error, Status};
use napi_derive::napi;
use postern_capabilities::problem::Problem;
use postern_capabilities::verifier::VerifyError;

/// What was asked for cannot be done.
pub(crate) fn refused(kind: &str, reason: &dyn Display) -> Error {
    described(&serde_json::json!({ "kind": kind, "message": reason.to_string() }))
}

/// A message, or its token, is refused: with the problem that a gateway would answer with.
pub(crate) fn not_authorised(error: &VerifyError) -> Error {
    let problem = error.problem();
    described(&serde_json::json!({
        "kind": problem.kind,
        "message": error.to_string(),
        "problem": problem,
        "challenge": problem.www_authenticate(),
    }))
}

/// The problem of a body that is longer than what is read of one that a caveat asks about, as JSON.
#[napi]
pub fn body_too_large(bytes_max: u32) -> String {
    Problem::body_too_large_to_read(bytes_max.into()).body()
}

/// The problem of a body that broke off, as JSON.
#[napi]
pub fn body_broken() -> String {
    Problem::body_broken().body()
}

/// The problem of a message whose application is given another path than the one that was asked for, as JSON.
#[napi]
pub fn rerouted() -> String {
    Problem::rerouted().body()
}

/// The problem of a service that has no keys, as JSON.
#[napi]
pub fn keys_unavailable() -> String {
    Problem::keys_unavailable().body()
}

fn described(error: &serde_json::Value) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}

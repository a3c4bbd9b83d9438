//! Errors on their way to JavaScript.

use std::fmt::Display;

use napi::{Error, Status};
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

fn described(error: &serde_json::Value) -> Error {
    Error::new(Status::GenericFailure, error.to_string())
}

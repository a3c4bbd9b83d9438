//! The exceptions. Each carries `kind`, the stable word that programs branch on, beside its sentence.

use std::fmt::Display;

use postern_capabilities::problem::Problem;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    postern,
    PosternError,
    PyException,
    "Something was not done. `kind` is a stable word for programs; the text is for people."
);

create_exception!(
    postern,
    VerifyError,
    PosternError,
    "A message is not authorised. `kind` is the problem type that the gateway would answer with, `status` the HTTP status."
);

/// An exception of the base type: what was asked for cannot be done.
pub(crate) fn refused(kind: &str, reason: &dyn Display) -> PyErr {
    with(PosternError::new_err(reason.to_string()), |value| value.setattr("kind", kind))
}

/// A message, or its token, is refused.
pub(crate) fn not_authorised(reason: &dyn Display, problem: &Problem) -> PyErr {
    with(VerifyError::new_err(reason.to_string()), |value| {
        value.setattr("kind", problem.kind)?;
        value.setattr("status", problem.status)?;
        value.setattr("retry", problem.retry.as_str())?;
        value.setattr("problem", problem.body())?;
        value.setattr("www_authenticate", problem.www_authenticate())
    })
}

/// The exception of a body that is longer than what is read of one that a caveat asks about.
#[pyfunction]
pub(crate) fn body_too_large(py: Python<'_>, bytes_max: u64) -> Py<PyAny> {
    refusal(py, &Problem::body_too_large_to_read(bytes_max))
}

/// The exception of a body that broke off.
#[pyfunction]
pub(crate) fn body_broken(py: Python<'_>) -> Py<PyAny> {
    refusal(py, &Problem::body_broken())
}

/// The exception of a message whose application is given another path than the one that was asked for.
#[pyfunction]
pub(crate) fn rerouted(py: Python<'_>) -> Py<PyAny> {
    refusal(py, &Problem::rerouted())
}

/// The problem document of a service that has no keys.
#[pyfunction]
pub(crate) fn keys_unavailable() -> String {
    Problem::keys_unavailable().body()
}

fn refusal(py: Python<'_>, problem: &Problem) -> Py<PyAny> {
    not_authorised(&problem.detail, problem).into_value(py).into_any()
}

fn with(error: PyErr, set: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>) -> PyErr {
    Python::attach(|py| set(error.value(py).as_any()).err()).unwrap_or(error)
}

//! What a holder does, and whoever mints: offline, with nothing but the token or the root key.

use std::time::{SystemTime, UNIX_EPOCH};

use postern_capabilities::caveat::{Caveat, FlagValue};
use postern_capabilities::keys::{KeyId, KeyRing};
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::Standing;
use postern_capabilities::{attenuate as attenuating, explain, mint as minting};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt};

use crate::error::refused;
use crate::keys::{PublicKey, SigningKey};

/// Seconds since 1970. A clock before that reads as 0.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Mints a capability: a right to each of `resources` (for the methods in `allow`, or all), under caveats given by name.
#[pyfunction]
#[pyo3(signature = (key, resources, *, key_id=1, **named))]
pub(crate) fn mint(
    py: Python<'_>,
    key: &SigningKey,
    resources: Texts,
    key_id: u32,
    named: Option<&Bound<'_, PyDict>>,
) -> PyResult<String> {
    // `allow` is read from what was named: only so can `allow=None` be told from its absence, which allows everything.
    let (allow, caveats) = named_of(named)?;
    let operations = match allow {
        None => vec![Operation::any()],
        Some(methods) => methods
            .0
            .iter()
            .map(|method| Operation::parse(method).map_err(|error| refused("invalid-method", &error)))
            .collect::<PyResult<_>>()?,
    };
    let mut rights = Vec::new();
    for resource in &resources.0 {
        let resource = ResourceName::parse(resource).map_err(|error| refused("invalid-resource", &error))?;
        rights.extend(
            operations.iter().map(|operation| Right { resource: resource.clone(), operation: operation.clone() }),
        );
    }
    py.detach(|| minting::mint(&key.0, KeyId(key_id), &rights, &caveats))
        .map(|token| token.expose().to_owned())
        .map_err(|error| refused("not-minted", &error))
}

/// Narrows a token by caveats given by name. No key and no network is needed.
#[pyfunction]
#[pyo3(signature = (token, **caveats))]
pub(crate) fn attenuate(py: Python<'_>, token: &str, caveats: Option<&Bound<'_, PyDict>>) -> PyResult<String> {
    let caveats = caveats_of(caveats)?;
    py.detach(|| attenuating::attenuate(token, &caveats))
        .map(|token| token.expose().to_owned())
        .map_err(|error| refused(error.kind(), &error))
}

/// Narrows a token to one request: this method, this path below the resource, exactly this query string, for `seconds`.
#[pyfunction]
#[pyo3(signature = (token, *, method, path, query="", seconds=60))]
pub(crate) fn narrow(
    py: Python<'_>,
    token: &str,
    method: &str,
    path: &str,
    query: &str,
    seconds: u64,
) -> PyResult<String> {
    let until = now().saturating_add(seconds);
    py.detach(|| attenuating::attenuate_to_request(token, method, path, query, until))
        .map(|token| token.expose().to_owned())
        .map_err(|error| refused(error.kind(), &error))
}

/// Closes a token: nobody can narrow it any further.
#[pyfunction]
pub(crate) fn seal(py: Python<'_>, token: &str) -> PyResult<String> {
    py.detach(|| attenuating::seal(token))
        .map(|token| token.expose().to_owned())
        .map_err(|error| refused(error.kind(), &error))
}

/// What a token says, as plain values; `key`: whether its signatures hold under it as well.
#[pyfunction]
#[pyo3(signature = (token, *, key=None, key_id=1))]
pub(crate) fn inspect(py: Python<'_>, token: &str, key: Option<&PublicKey>, key_id: u32) -> PyResult<Py<PyAny>> {
    let standing = key.map(|key| Standing::new(KeyRing::of(KeyId(key_id), key.0)));
    let inspection = explain::inspect(token, standing.as_ref()).map_err(|error| refused(error.kind(), &error))?;
    to_python(py, &inspection)
}

/// What in a token can never pass or is not admitted: a list of findings, empty if nothing was found.
#[pyfunction]
pub(crate) fn lint(py: Python<'_>, token: &str) -> PyResult<Py<PyAny>> {
    to_python(py, &explain::lint(token, now()))
}

/// Plain Python values of what serialises.
pub(crate) fn to_python(py: Python<'_>, value: &impl serde::Serialize) -> PyResult<Py<PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| refused("internal", &error))?;
    Ok(py.import("json")?.call_method1("loads", (text,))?.unbind())
}

/// One text, or several.
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'a, 'py> FromPyObject<'a, 'py> for Texts {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(one) = value.extract::<String>() {
            return Ok(Self(vec![one]));
        }
        if value.is_instance_of::<PyDict>() {
            return Err(PyTypeError::new_err("write a text or a list of texts, not a dict"));
        }
        value.try_iter()?.map(|item| item?.extract()).collect::<PyResult<_>>().map(Self)
    }
}

/// What was named beside the fixed parameters: methods that `allow` names, where it is named, and caveats.
fn named_of(named: Option<&Bound<'_, PyDict>>) -> PyResult<(Option<Texts>, Vec<Caveat>)> {
    let Some(named) = named else { return Ok((None, Vec::new())) };
    let named = named.copy()?;
    let allow = named.get_item("allow")?;
    if allow.is_some() {
        named.del_item("allow")?;
    }
    let allow = allow.map(|value| {
        let none = || refused("invalid-method", &"allow: name at least one method, or leave it out for all of them");
        let texts: Texts = value.extract().map_err(|_: PyErr| none())?;
        if texts.0.is_empty() { Err(none()) } else { Ok(texts) }
    });
    Ok((allow.transpose()?, caveats_of(Some(&named))?))
}

/// Caveats by name, as the command line's flags with `_` for `-`: `expires="10m"`, `path=["/a", "/b/**"]`, `no_upgrade=True`.
pub(crate) fn caveats_of(named: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<Caveat>> {
    let (mut caveats, now) = (Vec::new(), now());
    for (name, value) in named.into_iter().flat_map(|named| named.iter()) {
        let flag = name.extract::<String>()?.replace('_', "-");
        let value = value_of(&flag, &value)?;
        caveats.extend(Caveat::of_value(&flag, &value, now).map_err(|error| refused("invalid-caveat", &error))?);
    }
    Ok(caveats)
}

/// A Python value as what every language reads: a date becomes the moment, a time span what the command line would
/// read.
fn value_of(flag: &str, value: &Bound<'_, PyAny>) -> PyResult<FlagValue> {
    if value.is_none() {
        return Ok(FlagValue::Other("None".into()));
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(FlagValue::Truth(value.is_truthy()?));
    }
    if let Ok(text) = value.extract::<String>() {
        return Ok(FlagValue::Text(text));
    }
    if value.is_instance_of::<PyInt>() {
        let shown = || value.to_string().into();
        return Ok(value.extract().map_or_else(|_| FlagValue::Other(shown()), FlagValue::Number));
    }
    if matches!(flag, "expires" | "not-before")
        && let Some(text) = moment_of(flag, value)?
    {
        return Ok(FlagValue::Text(text));
    }
    let is_list = !value.is_instance_of::<PyDict>() && !value.is_instance_of::<PyBytes>();
    match value.try_iter() {
        Ok(items) if is_list => items.map(|item| value_of(flag, &item?)).collect::<PyResult<_>>().map(FlagValue::List),
        _ => Ok(FlagValue::Other(format!("a value of type {}", value.get_type().name()?).into())),
    }
}

/// A `timedelta` or a `datetime` as the command line would have it.
fn moment_of(flag: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if value.hasattr("total_seconds")? {
        let seconds: f64 = value.call_method0("total_seconds")?.extract()?;
        return Ok(Some(format!("{}s", seconds.floor() as i64)));
    }
    if !value.hasattr("timestamp")? {
        return Ok(None);
    }
    if value.getattr("tzinfo")?.is_none() {
        let message = format!("--{flag}: a date needs a time zone; write datetime.now(timezone.utc) + …");
        return Err(PyTypeError::new_err(message));
    }
    let utc = value.py().import("datetime")?.getattr("timezone")?.getattr("utc")?;
    let text = value.call_method1("astimezone", (utc,))?.call_method1("strftime", ("%Y-%m-%dT%H:%M:%SZ",))?;
    Ok(Some(text.extract()?))
}

//! What a holder does, and whoever mints: offline, with nothing but the token or the root key.

use std::time::{SystemTime, UNIX_EPOCH};

use napi::Result;
use napi_derive::napi;
use postern_capabilities::caveat::Caveat;
use postern_capabilities::keys::{KeyId, KeyRing, PublicKey, SigningKey};
use postern_capabilities::resource::{Operation, ResourceName, Right};
use postern_capabilities::revocation::Standing;
use postern_capabilities::{attenuate as attenuating, explain, mint as minting};

use crate::error::refused;

/// Seconds since 1970. A clock before that reads as 0.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A caveat by its flag's name, with all its values.
#[napi(object)]
pub struct NamedCaveat {
    /// `expires`, `path`, …: the command line's flags without their dashes.
    pub flag: String,
    /// The values; one empty text for a flag without a value.
    pub values: Vec<String>,
}

/// A right to mint.
#[napi(object)]
pub struct NamedRight {
    /// The resource.
    pub resource: String,
    /// The method, or `*`.
    pub operation: String,
}

/// The public half of a root key given as text.
#[napi]
pub fn public_key_of(secret: String) -> Result<String> {
    Ok(signing_key(&secret)?.public().to_string())
}

/// A new root key as secret text.
#[napi]
pub fn generate_key() -> String {
    SigningKey::generate().to_secret_text().to_string()
}

/// Mints a capability.
#[napi]
pub fn mint(secret: String, key_id: u32, rights: Vec<NamedRight>, caveats: Vec<NamedCaveat>) -> Result<String> {
    let key = signing_key(&secret)?;
    let rights = rights.into_iter().map(right).collect::<Result<Vec<_>>>()?;
    let token = minting::mint(&key, KeyId(key_id), &rights, &caveats_of(&caveats)?);
    token.map(|token| token.expose().to_owned()).map_err(|error| refused("not-minted", &error))
}

/// Narrows a token. No key and no network is needed.
#[napi]
pub fn attenuate(token: String, caveats: Vec<NamedCaveat>) -> Result<String> {
    let narrowed = attenuating::attenuate(&token, &caveats_of(&caveats)?);
    narrowed.map(|token| token.expose().to_owned()).map_err(|error| refused(error.kind(), &error))
}

/// Narrows a token to one request: this method, this path below the resource, exactly this query string.
#[napi]
pub fn narrow(token: String, method: String, path: String, query: String, seconds: u32) -> Result<String> {
    let until = now().saturating_add(seconds.into());
    let narrowed = attenuating::attenuate_to_request(&token, &method, &path, &query, until);
    narrowed.map(|token| token.expose().to_owned()).map_err(|error| refused(error.kind(), &error))
}

/// Closes a token: nobody can narrow it any further.
#[napi]
pub fn seal(token: String) -> Result<String> {
    let sealed = attenuating::seal(&token);
    sealed.map(|token| token.expose().to_owned()).map_err(|error| refused(error.kind(), &error))
}

/// What a token says, as JSON.
#[napi]
pub fn inspect(token: String, key: Option<String>, key_id: u32) -> Result<String> {
    let standing =
        key.map(|key| public_key(&key)).transpose()?.map(|key| Standing::new(KeyRing::of(KeyId(key_id), key)));
    let inspection = explain::inspect(&token, standing.as_ref()).map_err(|error| refused(error.kind(), &error))?;
    json(&inspection)
}

/// What in a token can never pass or is not admitted, as JSON.
#[napi]
pub fn lint(token: String) -> Result<String> {
    json(&explain::lint(&token, now()))
}

pub(crate) fn public_key(text: &str) -> Result<PublicKey> {
    text.trim().parse().map_err(|error| refused("invalid-key", &error))
}

fn signing_key(text: &str) -> Result<SigningKey> {
    SigningKey::parse_text(text.trim()).map_err(|error| refused("invalid-key", &error))
}

fn right(named: NamedRight) -> Result<Right> {
    Ok(Right {
        resource: ResourceName::parse(&named.resource).map_err(|error| refused("invalid-resource", &error))?,
        operation: Operation::parse(&named.operation).map_err(|error| refused("invalid-method", &error))?,
    })
}

fn caveats_of(named: &[NamedCaveat]) -> Result<Vec<Caveat>> {
    let (mut caveats, now) = (Vec::new(), now());
    for NamedCaveat { flag, values } in named {
        caveats.extend(Caveat::of_flag(flag, values, now).map_err(|error| refused("invalid-caveat", &error))?);
    }
    Ok(caveats)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| refused("internal", &error))
}

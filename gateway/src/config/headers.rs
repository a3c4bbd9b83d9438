//! Which fields a resource names: those that it wants after all, and those that it must not get.

use super::errors::Mistakes;
use super::raw::Section;
use super::resource::checked;
use crate::head::Known;
use crate::head::known::{NORMAL, classify, is_named_by, is_token_byte};

/// Names that pass and without which the service would read another message than the one that was checked, or none; one
/// that ends in `-` stands for all that begin so. What the gateway writes anew is not among them: it cannot be lost.
const NEEDED: [&str; 10] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "trailer",
    "transfer-encoding",
    "sec-websocket-",
];

/// `allow_headers`, in lower case.
pub(super) fn allow_headers(t: &mut Section<'_>, mistakes: &mut Mistakes<'_>) -> Vec<String> {
    let Some(entry) = t.value("allow_headers") else { return Vec::new() };
    let mut allowed = Vec::new();
    for member in entry.members(mistakes, "\"X-Original-URL\"").unwrap_or_default() {
        let known = |text: &str| {
            let lower = text.to_ascii_lowercase();
            match classify(lower.as_bytes()) {
                Known::MethodOverride | Known::TargetOverride | Known::Claim => Ok(lower),
                Known::Punctuated if lower.bytes().all(is_token_byte) => Ok(lower),
                Known::Other => Err(format!("{text:?} passes anyway; only what would be removed is named here.")),
                _ => Err(format!(
                    "{text:?} cannot be allowed here: it is the gateway's own to read, to set or to remove."
                )),
            }
        };
        allowed.extend(checked(&member, "\"X-Original-URL\"", mistakes, known));
    }
    allowed
}

/// `strip_headers`, in lower case with `-`.
pub(super) fn strip_headers(t: &mut Section<'_>, allowed: &[String], mistakes: &mut Mistakes<'_>) -> Vec<String> {
    let Some(entry) = t.value("strip_headers") else { return Vec::new() };
    let name = |text: &str| stripped(text, allowed);
    let members = entry.members(mistakes, "\"X-Staff-Id\"").unwrap_or_default();
    members.iter().filter_map(|member| checked(member, "\"X-Staff-Id\"", mistakes, name)).collect()
}

fn stripped(text: &str, allowed: &[String]) -> Result<String, String> {
    let (beginning, star) = text.strip_suffix('*').map_or((text, ""), |beginning| (beginning, "*"));
    if text.is_empty() || !beginning.bytes().all(|byte| is_token_byte(byte) && byte != b'*') {
        return Err(format!("{text:?} is no name of a field; write one like \"X-Staff-Id\", or \"X-Staff-*\"."));
    }
    // Spelled as fields are compared, so that what CGI reads as the same name is the same name here.
    let lower: String = beginning.bytes().map(|byte| char::from(NORMAL[usize::from(byte)])).collect();
    let listed = lower.clone() + star;
    let is_needed = |needed: &&&str| {
        is_named_by(&listed, needed.as_bytes()) || needed.ends_with('-') && lower.starts_with(**needed)
    };
    if let Some(needed) = NEEDED.iter().find(is_needed) {
        let of = if needed.ends_with('-') { "*" } else { "" };
        return Err(format!(
            "{text:?} cannot be stripped: it would take {:?} away, which frames or routes the message or carries its token.",
            format!("{needed}{of}")
        ));
    }
    if let Some(allowed) = allowed.iter().find(|allowed| is_named_by(&listed, allowed.as_bytes())) {
        return Err(format!("{text:?} strips what allow_headers lets through, {allowed:?}; name it in one of them."));
    }
    match classify(lower.as_bytes()) {
        Known::Other
        | Known::Claim
        | Known::MethodOverride
        | Known::TargetOverride
        | Known::Origin
        | Known::Prefer
        | Known::Accept
        | Known::Date
        | Known::Server
        | Known::WwwAuthenticate
        | Known::AuthenticationInfo => Ok(listed),
        _ => Err(format!("{text:?} cannot be stripped: it is the gateway's own to read, to set or to remove.")),
    }
}

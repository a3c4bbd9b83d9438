//! Who may keep an answer: what caches between a caller and the gateway are told.
//!
//! A cache that does not know `Postern-Capability` would give what a token got to whoever comes without one (RFC 9111
//! section 3.5 guards `Authorization` alone). So every answer says what it varies by, refused and anonymous ones too, and in
//! the same words whatever the resource: they tell nobody how it is configured. What a token got is the caller's alone,
//! unless the service says that it is for all and the resource takes its word.

use http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, VARY};

use crate::head::{Field, Known, ResponseHead};

/// What an answer depends on besides what its service says: the fields that carry tokens, and the page that asks.
pub const VARIES_BY: &str = "Authorization, Postern-Capability, Origin";

const PRIVATE: &str = "private";

/// By which services tell some caches otherwise than `Cache-Control` does (RFC 9213, and what came before it); all names
/// that end in `cdn-cache-control` are such, too.
const OVERRIDES: [&str; 4] = ["surrogate-control", "x-accel-expires", "edge-control", "x-litespeed-cache-control"];

const OF_CDNS: &str = "cdn-cache-control";

/// Who may keep a service's answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keeping {
    /// Whom the service says: no token was shown for it.
    #[default]
    AsSaid,
    /// The caller, unless the service says that it is for all.
    AsSaidOfAll,
    /// The caller alone.
    Private,
}

impl Keeping {
    /// Of an answer at a resource that has `shared_cache` so.
    pub fn of(was_presented: bool, shared_cache: bool) -> Self {
        match (was_presented, shared_cache) {
            (false, _) => Self::AsSaid,
            (true, true) => Self::AsSaidOfAll,
            (true, false) => Self::Private,
        }
    }

    /// Whether this answer is the caller's alone.
    pub fn is_private(self, head: &ResponseHead<'_>) -> bool {
        match self {
            Self::AsSaid => false,
            Self::Private => true,
            Self::AsSaidOfAll => !is_for_all(head.fields().filter(is_cache_control).map(|field| field.value)),
        }
    }

    /// Puts it into an HTTP/2 answer's head.
    pub fn apply(self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static(VARIES_BY));
        let said = || headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
        if self == Self::AsSaid || self == Self::AsSaidOfAll && is_for_all(said()) {
            return;
        }
        let mut value = PRIVATE.as_bytes().to_vec();
        said().for_each(|said| keep(&mut value, said));
        let overrides: Vec<HeaderName> =
            headers.keys().filter(|name| overrides(name.as_str().as_bytes())).cloned().collect();
        for name in overrides {
            headers.remove(name);
        }
        // Pieces of a value that was one already.
        headers.insert(CACHE_CONTROL, HeaderValue::from_bytes(&value).unwrap_or(HeaderValue::from_static(PRIVATE)));
    }
}

/// Whether a private answer's field says who may keep it: such a one is written anew, or left out.
pub fn says_who(field: &Field<'_>) -> bool {
    field.known == Known::Other && (is_cache_control(field) || overrides(field.name))
}

/// Writes the value of a private answer's `Cache-Control`.
pub fn write_private(out: &mut Vec<u8>, head: &ResponseHead<'_>) {
    out.extend_from_slice(PRIVATE.as_bytes());
    for field in head.fields().filter(is_cache_control) {
        keep(out, field.value);
    }
}

fn keep(out: &mut Vec<u8>, value: &[u8]) {
    for directive in kept_directives(value) {
        out.extend_from_slice(b", ");
        out.extend_from_slice(directive);
    }
}

fn is_cache_control(field: &Field<'_>) -> bool {
    field.name.eq_ignore_ascii_case(CACHE_CONTROL.as_str().as_bytes())
}

fn overrides(name: &[u8]) -> bool {
    let ending = name.len().checked_sub(OF_CDNS.len()).and_then(|at| name.get(at..));
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case(OF_CDNS.as_bytes()))
        || OVERRIDES.iter().any(|listed| name.eq_ignore_ascii_case(listed.as_bytes()))
}

/// Whether the service says that caches may give its answer to others, and not also that they may not.
fn is_for_all<'v>(values: impl Iterator<Item = &'v [u8]>) -> bool {
    let (mut for_all, mut for_one) = (false, false);
    for directive in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        for_all |= is(b"public") || is(b"s-maxage");
        for_one |= is(b"private") || is(b"no-store");
    }
    for_all && !for_one
}

/// The directives of a `Cache-Control` that do not say who may keep the answer (RFC 9111 section 5.2.2). A quoted comma would
/// only be in one of those, and in `no-cache`, which is then not limited to the fields it names.
pub(crate) fn kept_directives(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let directives = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    directives.filter_map(|directive| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let is_name = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        let says_who = is(b"public") || is(b"private") || is(b"s-maxage") || is(b"proxy-revalidate");
        match (is_name && !says_who, is(b"no-cache")) {
            (true, true) => Some(name),
            (true, false) if !directive.contains(&b'"') => Some(directive),
            _ => None,
        }
    })
}

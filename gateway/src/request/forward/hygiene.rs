//! Which fields cross the gateway: the one place that strips headers.
//!
//! A field reaches a backend because nothing here removes it, and the gateway adds its own only afterwards, so that no
//! sender can make a hop-by-hop rule take the gateway's fields away. The reader has already classified each name with `_`
//! read as `-`, since backends that follow CGI's conventions cannot tell the two apart, and has marked what `Connection`
//! nominates. For their sake a name of any other punctuation than `-` goes up only where a resource names it.
//! What a resource names in `strip_headers` goes up in no spelling. Trailers are judged as fields are and lose more: whatever frames, routes, authenticates or describes the content
//! came too late to be checked.

use std::borrow::Cow;

use crate::config::AuthorizationUse;
use crate::head::known::{is_named_by, may_trail};
use crate::head::{Field, Known};
use crate::request::connection_auth;
use crate::request::resource::Resource;

/// Whether a request's trailer is copied to the upstream.
pub fn trails_up(field: &Field<'_>, resource: &Resource) -> bool {
    may_trail(field.known, field.name) && passes_up(field, resource)
}

/// Whether an upstream's trailer is passed to the client.
pub fn trails_down(field: &Field<'_>) -> bool {
    may_trail(field.known, field.name) && passes_down(field)
}

/// Whether a request's field is copied to the upstream.
pub fn passes_up(field: &Field<'_>, resource: &Resource) -> bool {
    !is_stripped(field, resource) && passes_by_default(field, resource)
}

/// Whether the resource names a field as one that its service believes, and that nobody may send it.
pub fn is_stripped(field: &Field<'_>, resource: &Resource) -> bool {
    resource.strip_headers.iter().any(|listed| is_named_by(listed, field.name))
}

fn passes_by_default(field: &Field<'_>, resource: &Resource) -> bool {
    match field.known {
        Known::Other
        | Known::Via
        | Known::ContentType
        | Known::ContentEncoding
        | Known::Origin
        | Known::Prefer
        | Known::Accept
        | Known::Date
        | Known::Server
        | Known::WwwAuthenticate
        | Known::AuthenticationInfo
        | Known::Trailer
        | Known::Expect => true,
        // Written anew from the checked message or from this hop's own state.
        Known::Host
        | Known::ContentLength
        | Known::TransferEncoding
        | Known::Forwarded
        | Known::XForwarded
        | Known::Traceparent
        | Known::Tracestate => false,
        // This hop's alone (RFC 9110 section 7.6.1).
        Known::Connection
        | Known::Nominated
        | Known::KeepAlive
        | Known::Te
        | Known::Upgrade
        | Known::Proxy
        | Known::SecWebSocketProtocol => false,
        // A known name spelled with `_`: some backends would read it as the real one.
        Known::Imitation => false,
        Known::Authorization => resource.authorization == AuthorizationUse::Pass,
        Known::PosternCapability | Known::Postern => false,
        // They make some backends act on another method or path than the one that was checked, or believe what nobody but
        // a server in front may say; and a name with `_` or `.` in it is another one to whoever follows CGI's conventions.
        Known::MethodOverride | Known::TargetOverride | Known::Claim | Known::Punctuated => {
            resource.allow_headers.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(field.name))
        }
    }
}

/// What of such a field's value passes; `None`: nothing. A challenge that only authenticates a connection ends here.
pub fn passing_value<'f>(field: &Field<'f>) -> Option<Cow<'f, [u8]>> {
    match field.known {
        Known::WwwAuthenticate => connection_auth::passing(field.value),
        Known::AuthenticationInfo if connection_auth::passing(field.value).is_none() => None,
        _ => Some(Cow::Borrowed(field.value)),
    }
}

/// Whether an upstream's field is passed to the client. An upstream cannot speak in the gateway's name.
pub fn passes_down(field: &Field<'_>) -> bool {
    match field.known {
        Known::Connection
        | Known::Nominated
        | Known::KeepAlive
        | Known::Te
        | Known::Upgrade
        | Known::TransferEncoding
        | Known::ContentLength
        | Known::Proxy
        | Known::Postern
        | Known::PosternCapability => false,
        // Only requests are read through CGI's eyes; but a `Postern_…` is dropped like a `Postern-…`.
        Known::Imitation => false,
        Known::Other
        | Known::Punctuated
        | Known::Claim
        | Known::Host
        | Known::Trailer
        | Known::Expect
        | Known::Authorization
        | Known::Forwarded
        | Known::XForwarded
        | Known::Via
        | Known::Traceparent
        | Known::Tracestate
        | Known::SecWebSocketProtocol
        | Known::MethodOverride
        | Known::TargetOverride
        | Known::ContentType
        | Known::ContentEncoding
        | Known::Origin
        | Known::Prefer
        | Known::Accept
        | Known::Date
        | Known::Server
        | Known::WwwAuthenticate
        | Known::AuthenticationInfo => true,
    }
}

//! A message's head, strictly read: the one form that everything behind it works on.
//!
//! [`Head`] (a request) and [`ResponseHead`] are spans into bytes that somebody else owns; reading one allocates nothing once
//! the [`Spans`] of a connection have grown. Only two things make a [`Head`]: [`Head::read`], which reads HTTP/1 bytes and
//! refuses whatever two readers could understand differently, and the crate-private [`Head::assemble`], with which HTTP/2
//! puts its decoded parts through the very same rules. What follows (route, check, forward) knows no other form, so what is
//! checked is what is forwarded.
//!
//! * [`field`]: one field line, what the gateway knows about its name, and the fields of a section
//! * [`request`]: request line, host, framing
//! * [`response`]: status line, framing
//! * [`error`]: every reason to refuse, in a sentence

pub mod error;
pub mod field;
pub mod known;
pub mod request;
pub mod response;

pub use error::HeadError;
pub use field::{Field, Fields, Spans};
pub use known::Known;
pub(crate) use request::named_authority;
pub use request::{Glimpse, Head, Parts};
pub use response::ResponseHead;

/// The scheme that a request's target names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// The versions of HTTP that a head can have come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0: no chunked bodies, connections close unless asked otherwise.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, after RFC 9113's own checks.
    Http2,
}

impl Version {
    /// As `Via` and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// How the end of a request's body is found. There is exactly one source for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`; on HTTP/2 a body without a declared length.
    Chunked,
}

/// How the end of a response's body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body, by status, by method, or by `Content-Length: 0`.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The body ends where the connection ends; the connection cannot be used again.
    UntilClose,
}

#[cfg(test)]
mod tests;

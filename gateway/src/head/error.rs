//! Why a head is refused: one value, one sentence, nothing of the sender's bytes in it.
//!
//! The sentence says what is wrong and where, so that a stranger can mend the sender. It quotes nothing that came in: an
//! error text that echoes bytes is a way into logs and pages.

use std::fmt;

use thiserror::Error;

/// A head, request or response, that is not read the same way by everybody and is therefore not read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The first byte cannot begin a message.
    #[error("the bytes received do not begin an HTTP/1 message (is the other side speaking TLS or HTTP/2 here?)")]
    NotHttp,
    /// A line ends in a bare LF.
    #[error("a line of the head ends in a bare LF; lines end in CR LF")]
    BareLineFeed,
    /// More bytes than `head_bytes_max`.
    #[error("the head is longer than {max} bytes")]
    HeadTooLarge {
        /// The limit.
        max: usize,
    },
    /// More fields than `fields_max`.
    #[error("the head has more than {max} fields")]
    TooManyFields {
        /// The limit.
        max: usize,
    },
    /// Not `method SP target SP version`.
    #[error("the request line is not a method, a target and a version with one space between them")]
    RequestLine,
    /// The method is no upper-case token.
    #[error("the method is not a token in upper-case letters")]
    Method,
    /// `CONNECT`: the gateway opens no tunnels.
    #[error("CONNECT is not served: the gateway opens no tunnels")]
    Connect,
    /// The target is in none of the four forms.
    #[error(
        "the request target is not a path that begins with `/`, with an optional query, nor a whole http or https URL"
    )]
    Target,
    /// A byte that can stand in no target.
    #[error("character {at} of the request target is {}; write it as %{byte:02X}", Described(*byte))]
    TargetByte {
        /// Which byte.
        byte: u8,
        /// Where it stands, from 1.
        at: usize,
    },
    /// The target is longer than `target_bytes_max`.
    #[error("the request target is longer than {max} bytes")]
    TargetTooLong {
        /// The limit.
        max: usize,
    },
    /// `*` with another method than OPTIONS.
    #[error("the target `*` is for OPTIONS alone")]
    AsteriskTarget,
    /// The version is malformed.
    #[error("the version is not HTTP/1.1 or HTTP/1.0, written exactly so")]
    Version,
    /// The version is well formed and unknown here.
    #[error("this HTTP version is not served on this connection")]
    VersionNotServed,
    /// A field name is empty or no token.
    #[error("a field name is empty or has a byte that is no token character (a space before the colon, for one)")]
    FieldName,
    /// A line begins with a space or tab.
    #[error("a field is folded over two lines; folding is obsolete and ambiguous")]
    FoldedField,
    /// A value has a control byte.
    #[error("a field value has a control byte (CR, NUL or another)")]
    FieldValue,
    /// `Content_Length` and the like.
    #[error("a field that decides framing or routing is spelled with `_`")]
    Imitation,
    /// No `Host`.
    #[error("the Host field is missing")]
    HostMissing,
    /// Two `Host` fields.
    #[error("there is more than one Host field")]
    HostTwice,
    /// `Host` is no host with an optional port.
    #[error("the Host field (or the target's authority) is not a host name or address with an optional port")]
    HostMalformed,
    /// Absolute-form or `:authority` against `Host`.
    #[error("the target's authority and the Host field disagree")]
    AuthorityDisagrees,
    /// Two `Content-Length` fields, equal or not.
    #[error("there is more than one Content-Length field")]
    ContentLengthTwice,
    /// Not `0|[1-9][0-9]{0,15}`.
    #[error("Content-Length is not a plain decimal number of at most 16 digits without leading zeros")]
    ContentLength,
    /// Two `Transfer-Encoding` fields.
    #[error("there is more than one Transfer-Encoding field")]
    TransferEncodingTwice,
    /// Not `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// `Transfer-Encoding` on HTTP/1.0 or HTTP/2.
    #[error("Transfer-Encoding belongs to HTTP/1.1 alone")]
    TransferEncodingVersion,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("Content-Length and Transfer-Encoding are both present: the length of the body is ambiguous")]
    TwoLengths,
    /// `Connection` names a field that it may not remove.
    #[error("Connection is malformed or names a field that is not its to remove")]
    Connection,
    /// `Upgrade` with a body, or not one protocol.
    #[error("Upgrade does not name exactly one protocol, or comes with a body")]
    Upgrade,
    /// An expectation other than `100-continue`.
    #[error("the expectation is not 100-continue")]
    Expectation,
    /// A field that is particular to an HTTP/1 connection came over HTTP/2.
    #[error("a field that belongs to an HTTP/1 connection came over HTTP/2")]
    ConnectionSpecific,
    /// `grpc-timeout` cannot be read.
    #[error("grpc-timeout is not, once, one to eight digits and a unit out of H, M, S, m, u, n")]
    GrpcTimeout,
    /// A field that may not be in trailers.
    #[error("a field that decides framing or routing is in the trailers")]
    TrailerField,
    /// The status line of a response is malformed.
    #[error("the status line is not a version, a status of three digits and a reason")]
    StatusLine,
    /// A response that cannot have a body declares one.
    #[error("a response that has no body by its status declares one")]
    BodyForbidden,
}

/// A byte in words: of the sender's bytes only a mark that can be printed is shown.
struct Described(u8);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'#' => f.write_str("`#`, which begins a fragment, and that is never sent"),
            b' ' => f.write_str("a space"),
            mark if mark.is_ascii_graphic() => write!(f, "`{}`", char::from(mark)),
            0x80.. => f.write_str("not ASCII"),
            _ => f.write_str("a control character"),
        }
    }
}

impl HeadError {
    /// The status that answers a request refused so.
    pub fn status(self) -> u16 {
        match self {
            Self::HeadTooLarge { .. } | Self::TooManyFields { .. } => 431,
            Self::TargetTooLong { .. } => 414,
            Self::VersionNotServed => 505,
            Self::Expectation => 417,
            Self::NotHttp
            | Self::BareLineFeed
            | Self::RequestLine
            | Self::Method
            | Self::Connect
            | Self::Target
            | Self::TargetByte { .. }
            | Self::AsteriskTarget
            | Self::Version
            | Self::FieldName
            | Self::FoldedField
            | Self::FieldValue
            | Self::Imitation
            | Self::HostMissing
            | Self::HostTwice
            | Self::HostMalformed
            | Self::AuthorityDisagrees
            | Self::ContentLengthTwice
            | Self::ContentLength
            | Self::TransferEncodingTwice
            | Self::TransferEncoding
            | Self::TransferEncodingVersion
            | Self::TwoLengths
            | Self::Connection
            | Self::Upgrade
            | Self::ConnectionSpecific
            | Self::GrpcTimeout
            | Self::TrailerField
            | Self::StatusLine
            | Self::BodyForbidden => 400,
        }
    }
}

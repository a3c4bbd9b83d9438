//! The head of a response from an upstream, read as strictly as a request: a broken or bought service must not be able to
//! make one client's answer end where another's begins.

use super::error::HeadError;
use super::field::{
    Field, Fields, Side, Spans, assemble_section, is_value, line_at, read_section, refuse_connection_specific,
};
use super::known::Known;
use super::{ResponseFraming, Version};
use crate::limits::Limits;

/// The head of one response, strictly read.
#[derive(Debug)]
pub struct ResponseHead<'b> {
    fields: Fields<'b>,
    read: ResponseRead,
}

/// What was read of a response head, without its borrow of the bytes: for whoever owns those bytes and is not done yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseRead {
    status: u16,
    reason: (usize, usize),
    version: Version,
    framing: ResponseFraming,
    declared_length: Option<u64>,
    keep_alive: bool,
    length: usize,
}

/// The parts of a response as HTTP/2 decodes them, for [`ResponseRead::assemble`].
#[derive(Debug)]
pub(crate) struct ResponseParts<F> {
    /// `:status`.
    pub(crate) status: u16,
    /// What HTTP/1 calls that status; HTTP/2 has no phrases.
    pub(crate) reason: &'static str,
    /// The fields, names and values.
    pub(crate) fields: F,
    /// Whether the stream ended with the head.
    pub(crate) ended: bool,
}

impl ResponseRead {
    /// Puts the decoded parts of an HTTP/2 response into `buffer` and through the same rules as an HTTP/1 head.
    pub(crate) fn assemble<'p, F>(
        parts: ResponseParts<F>,
        to_head: bool,
        buffer: &mut Vec<u8>,
        spans: &mut Spans,
        limits: &Limits,
    ) -> Result<Self, HeadError>
    where
        F: Iterator<Item = (&'p [u8], &'p [u8])>,
    {
        buffer.clear();
        spans.clear();
        buffer.extend_from_slice(parts.reason.as_bytes());
        let reason = (0, buffer.len());
        assemble_section(parts.fields, (limits.head_bytes_max, 0), buffer, spans, limits)?;
        refuse_connection_specific(buffer, spans)?;
        let declared_length = spans.length(buffer)?;
        let (version, status) = (Version::Http2, parts.status);
        let framing = match conclude_framing(buffer, (version, status, to_head), declared_length, spans)? {
            ResponseFraming::UntilClose if parts.ended => ResponseFraming::Length(0),
            // Where the stream ends the body ends, and an end that is none is a reset.
            ResponseFraming::UntilClose => ResponseFraming::Chunked,
            ResponseFraming::Length(_) if parts.ended => return Err(HeadError::ContentLength),
            framing => framing,
        };
        Ok(Self { status, reason, version, framing, declared_length, keep_alive: true, length: buffer.len() })
    }

    /// Reads the head that `bytes` begin with; see [`ResponseHead::read`].
    pub(crate) fn read(
        bytes: &[u8],
        to_head: bool,
        spans: &mut Spans,
        limits: &Limits,
    ) -> Result<Option<Self>, HeadError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
        match read_window(window, to_head, spans, limits)? {
            None if bytes.len() >= limits.head_bytes_max => Err(HeadError::HeadTooLarge { max: limits.head_bytes_max }),
            read => Ok(read),
        }
    }

    /// The head itself, over the very bytes and spans that it was read with.
    pub(crate) fn with<'b>(self, bytes: &'b [u8], spans: &'b Spans) -> ResponseHead<'b> {
        ResponseHead { fields: Fields { bytes, spans }, read: self }
    }

    /// How many bytes the head takes.
    pub(crate) fn length(self) -> usize {
        self.length
    }

    /// Whether a final response follows this one.
    pub(crate) fn is_informational(self) -> bool {
        self.status < 200 && self.status != 101
    }

    pub(crate) fn status(self) -> u16 {
        self.status
    }

    pub(crate) fn framing(self) -> ResponseFraming {
        self.framing
    }

    pub(crate) fn keeps_alive(self) -> bool {
        self.keep_alive
    }
}

impl<'b> ResponseHead<'b> {
    /// Reads the head that `bytes` begin with, of a response to a request with the given method (a HEAD's response has no
    /// body, whatever its fields say). `None`: it is not complete yet, and nothing in it is wrong so far.
    pub fn read(
        bytes: &'b [u8],
        method: &str,
        spans: &'b mut Spans,
        limits: &Limits,
    ) -> Result<Option<Self>, HeadError> {
        let Some(read) = ResponseRead::read(bytes, method == "HEAD", spans, limits)? else { return Ok(None) };
        Ok(Some(read.with(bytes, spans)))
    }

    /// The status, 100 to 999.
    pub fn status(&self) -> u16 {
        self.read.status
    }

    /// Whether a final response follows this one (1xx other than 101).
    pub fn is_informational(&self) -> bool {
        self.read.is_informational()
    }

    /// The reason phrase as it was sent, possibly empty.
    pub fn reason(&self) -> &'b [u8] {
        &self.fields.bytes[self.read.reason.0..self.read.reason.1]
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        self.read.version
    }

    /// How the body's end is found.
    pub fn framing(&self) -> ResponseFraming {
        self.read.framing
    }

    /// `Content-Length` as it was declared, also where no body follows (HEAD, 304).
    pub fn declared_length(&self) -> Option<u64> {
        self.read.declared_length
    }

    /// Whether the upstream lets the connection be used again.
    pub fn keeps_alive(&self) -> bool {
        self.read.keep_alive
    }

    /// The fields, in order.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = Field<'b>> + ExactSizeIterator + use<'b> {
        self.fields.iter()
    }

    /// Whether a field of that kind is there.
    pub fn has(&self, known: Known) -> bool {
        self.fields.has(known)
    }

    /// The value of the first field of that kind.
    pub fn value(&self, known: Known) -> Option<&'b [u8]> {
        self.fields.value(known)
    }

    /// How many bytes the head takes, its empty line included.
    pub fn length(&self) -> usize {
        self.read.length
    }
}

fn read_window(
    bytes: &[u8],
    to_head: bool,
    spans: &mut Spans,
    limits: &Limits,
) -> Result<Option<ResponseRead>, HeadError> {
    spans.clear();
    match bytes.first() {
        None => return Ok(None),
        Some(b'H') => {}
        Some(_) => return Err(HeadError::NotHttp),
    }
    let Some((line_end, next)) = line_at(bytes, 0)? else { return Ok(None) };
    let (version, status) = read_line(&bytes[..line_end])?;
    let reason = (line_end.min(STATUS_LINE_BYTES), line_end);
    let Some(length) = read_section(bytes, next, spans, limits)? else { return Ok(None) };
    let options = spans.connection(bytes, Side::Response)?;
    let declared_length = spans.length(bytes)?;
    let framing = conclude_framing(bytes, (version, status, to_head), declared_length, spans)?;
    let keep_alive = !options.close
        && (version == Version::Http11 || options.keep_alive)
        && framing != ResponseFraming::UntilClose
        && status != 101;
    Ok(Some(ResponseRead { status, reason, version, framing, declared_length, keep_alive, length }))
}

/// `HTTP/1.1 200 `: where the reason begins.
const STATUS_LINE_BYTES: usize = 13;

fn read_line(line: &[u8]) -> Result<(Version, u16), HeadError> {
    let (version, rest) = match line {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1', b' ', rest @ ..] => (Version::Http11, rest),
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0', b' ', rest @ ..] => (Version::Http10, rest),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9', b' ', ..] => {
            return Err(HeadError::VersionNotServed);
        }
        _ => return Err(HeadError::StatusLine),
    };
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(HeadError::StatusLine);
    };
    let status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    // The space before an empty reason is left out by some servers, and nothing can be read into its absence.
    match reason {
        [] => Ok((version, status)),
        [b' ', reason @ ..] if is_value(reason) => Ok((version, status)),
        _ => Err(HeadError::StatusLine),
    }
}

fn conclude_framing(
    bytes: &[u8],
    (version, status, to_head): (Version, u16, bool),
    declared_length: Option<u64>,
    spans: &Spans,
) -> Result<ResponseFraming, HeadError> {
    let coding = spans.value(bytes, Known::TransferEncoding);
    match (coding, declared_length) {
        (Some(_), Some(_)) => return Err(HeadError::TwoLengths),
        (Some(_), None) if version != Version::Http11 => return Err(HeadError::TransferEncodingVersion),
        (Some(coding), None) if !coding.eq_ignore_ascii_case(b"chunked") => return Err(HeadError::TransferEncoding),
        _ => {}
    }
    if status < 200 || status == 204 {
        // `Content-Length: 0` on a 204 is forbidden, frequent and harmless; anything else would be read differently by two readers.
        let declares_body = coding.is_some() || declared_length.is_some_and(|length| length > 0);
        return if declares_body { Err(HeadError::BodyForbidden) } else { Ok(ResponseFraming::None) };
    }
    if to_head || status == 304 {
        return Ok(ResponseFraming::None);
    }
    Ok(match (coding, declared_length) {
        (Some(_), _) => ResponseFraming::Chunked,
        (None, Some(0)) => ResponseFraming::None,
        (None, Some(length)) => ResponseFraming::Length(length),
        (None, None) => ResponseFraming::UntilClose,
    })
}

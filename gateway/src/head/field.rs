//! Fields: the strict reading of field lines, and what the gateway knows about a field by its name.
//!
//! A field is classified once, when it is read, and everybody after that decides by [`Known`] instead of comparing names
//! again: a second list of spellings is where a header slips through. Since CGI and its heirs fold `-`, `_` and other
//! punctuation into one, names are compared with all of it taken for `-`; what is known but spelled so is an
//! [`Known::Imitation`] and never means anything.

use super::error::HeadError;
use crate::limits::Limits;

/// What the gateway knows about a field by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Nothing: end-to-end, passed on as it is.
    Other,
    /// One of the names below spelled with other punctuation than `-`: never read, never passed on.
    Imitation,
    /// Named by `Connection`, so it ends here.
    Nominated,
    /// `Host`.
    Host,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`, and `HTTP2-Settings`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Proxy`, `Proxy-*`.
    Proxy,
    /// `Authorization`.
    Authorization,
    /// `Postern-Capability`.
    PosternCapability,
    /// Any other `Postern-*`.
    Postern,
    /// `Forwarded`.
    Forwarded,
    /// `X-Forwarded-*`, and the other names by which intermediaries claim who the client is.
    XForwarded,
    /// `Via`.
    Via,
    /// `traceparent`.
    Traceparent,
    /// `tracestate`.
    Tracestate,
    /// `Sec-WebSocket-Protocol`.
    SecWebSocketProtocol,
    /// `X-HTTP-Method*`, `X-Method-Override`: would change the operation behind the check.
    MethodOverride,
    /// `X-Original-*`, `X-Rewrite-*`, WebDAV's `Destination`: would bring in a path that nobody checked.
    TargetOverride,
    /// `Content-Type`.
    ContentType,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Origin`.
    Origin,
    /// `Prefer`.
    Prefer,
    /// `Accept`.
    Accept,
    /// `Date`.
    Date,
    /// `Server`.
    Server,
}

impl Known {
    /// Fields that concern one connection and are never passed on (RFC 9110 section 7.6.1), the imitations included.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Imitation
                | Self::Nominated
                | Self::Connection
                | Self::TransferEncoding
                | Self::Te
                | Self::Trailer
                | Self::Upgrade
                | Self::KeepAlive
                | Self::Proxy
        )
    }

    /// What `Connection` may never name: framing, routing, the capability, and what the gateway itself sets or removes.
    fn is_protected(self) -> bool {
        matches!(
            self,
            Self::Imitation
                | Self::Host
                | Self::Connection
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Authorization
                | Self::PosternCapability
                | Self::Postern
                | Self::Forwarded
                | Self::XForwarded
                | Self::Via
                | Self::Traceparent
                | Self::SecWebSocketProtocol
        )
    }

    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

/// Token characters in their compared form (lower case, punctuation as `-`); 0 for bytes that no token has. CGI and some
/// of its heirs turn every character that is no letter and no digit into `_`, so `X.Original.URL` is `X-Original-URL` to
/// them.
static NORMAL: [u8; 256] = {
    let mut table = [0u8; 256];
    let tokens = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
    let mut i = 0;
    while i < tokens.len() {
        let normal = if tokens[i].is_ascii_alphanumeric() { tokens[i] } else { b'-' };
        table[tokens[i] as usize] = normal;
        table[tokens[i].to_ascii_uppercase() as usize] = normal;
        i += 1;
    }
    table
};

/// Whether `byte` is one of RFC 9110's `tchar`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    NORMAL[usize::from(byte)] != 0
}

/// Whether `name` is `lower` (lower case, with `-`) in any spelling.
fn is(name: &[u8], lower: &str) -> bool {
    name.len() == lower.len() && begins(name, lower)
}

fn begins(name: &[u8], lower: &str) -> bool {
    name.len() >= lower.len()
        && name.iter().zip(lower.as_bytes()).all(|(byte, want)| NORMAL[usize::from(*byte)] == *want)
}

/// What the gateway knows about `name`, in any spelling.
pub fn classify(name: &[u8]) -> Known {
    let known = by_normal_name(name);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if known != Known::Other && !name.iter().all(is_plain) { Known::Imitation } else { known }
}

fn by_normal_name(name: &[u8]) -> Known {
    let Some(first) = name.first() else { return Known::Other };
    match NORMAL[usize::from(*first)] {
        b'a' if is(name, "authorization") => Known::Authorization,
        b'a' if is(name, "accept") => Known::Accept,
        b'c' if is(name, "connection") => Known::Connection,
        b'c' if is(name, "content-type") => Known::ContentType,
        b'c' if is(name, "content-length") => Known::ContentLength,
        b'c' if is(name, "content-encoding") => Known::ContentEncoding,
        b'c' if is(name, "client-ip") || is(name, "cf-connecting-ip") => Known::XForwarded,
        // What a TLS terminator says of the client's certificate (RFC 9440): the gateway is one, and says it by a fact.
        b'c' if is(name, "client-cert") || is(name, "client-cert-chain") => Known::XForwarded,
        b'd' if is(name, "date") => Known::Date,
        b'd' if is(name, "destination") => Known::TargetOverride,
        b'e' if is(name, "expect") => Known::Expect,
        b'f' if is(name, "forwarded") => Known::Forwarded,
        b'f' if is(name, "fastly-client-ip") || is(name, "forwarded-for") => Known::XForwarded,
        b'h' if is(name, "host") => Known::Host,
        b'h' if is(name, "http2-settings") => Known::Upgrade,
        b'k' if is(name, "keep-alive") => Known::KeepAlive,
        b'o' if is(name, "origin") => Known::Origin,
        b'p' if is(name, "postern-capability") => Known::PosternCapability,
        b'p' if begins(name, "postern-") || is(name, "postern") => Known::Postern,
        b'p' if begins(name, "proxy-") || is(name, "proxy") => Known::Proxy,
        b'p' if is(name, "prefer") => Known::Prefer,
        b's' if is(name, "sec-websocket-protocol") => Known::SecWebSocketProtocol,
        b's' if is(name, "server") => Known::Server,
        b't' if is(name, "te") => Known::Te,
        b't' if is(name, "trailer") => Known::Trailer,
        b't' if is(name, "transfer-encoding") => Known::TransferEncoding,
        b't' if is(name, "traceparent") => Known::Traceparent,
        b't' if is(name, "tracestate") => Known::Tracestate,
        b't' if is(name, "true-client-ip") => Known::XForwarded,
        b'u' if is(name, "upgrade") => Known::Upgrade,
        b'v' if is(name, "via") => Known::Via,
        b'x' => by_normal_x_name(name),
        _ => Known::Other,
    }
}

fn by_normal_x_name(name: &[u8]) -> Known {
    const CLIENT_CLAIMS: [&str; 8] = [
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-remote-ip",
        "x-remote-addr",
        "x-forward-for",
        "x-host",
        "x-proxyuser-ip",
    ];
    if begins(name, "x-forwarded-")
        || is(name, "x-forwarded")
        || begins(name, "x-ssl-client-")
        || CLIENT_CLAIMS.iter().any(|claim| is(name, claim))
    {
        Known::XForwarded
    } else if begins(name, "x-http-method") || is(name, "x-method-override") {
        Known::MethodOverride
    } else if begins(name, "x-original-")
        || begins(name, "x-rewrite-")
        || is(name, "x-override-url")
        || is(name, "x-envoy-original-path")
        || is(name, "x-replaced-path")
    {
        Known::TargetOverride
    } else {
        Known::Other
    }
}

/// Where one field lies in the bytes of its head.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: (u32, u32),
    pub(super) value: (u32, u32),
    pub(super) known: Known,
}

/// The room in which the fields of one head are noted; a connection keeps one and reuses it for every message.
#[derive(Debug, Default)]
pub struct Spans {
    pub(super) fields: Vec<FieldSpan>,
    pub(super) seen: u64,
}

impl Spans {
    /// Empty room.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn clear(&mut self) {
        self.fields.clear();
        self.seen = 0;
    }

    pub(super) fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// Notes one field; refuses a second one of those that decide framing or routing, and what imitates them.
    pub(super) fn note(
        &mut self,
        bytes: &[u8],
        name: (usize, usize),
        value: (usize, usize),
        limits: &Limits,
    ) -> Result<(), HeadError> {
        if self.fields.len() >= limits.fields_max {
            return Err(HeadError::TooManyFields { max: limits.fields_max });
        }
        let text = &bytes[name.0..name.1];
        let known = classify(text);
        match known {
            Known::Host if self.has(known) => return Err(HeadError::HostTwice),
            Known::ContentLength if self.has(known) => return Err(HeadError::ContentLengthTwice),
            Known::TransferEncoding if self.has(known) => return Err(HeadError::TransferEncodingTwice),
            Known::Imitation
                if matches!(by_normal_name(text), Known::Host | Known::ContentLength | Known::TransferEncoding) =>
            {
                return Err(HeadError::Imitation);
            }
            _ => {}
        }
        self.seen |= known.bit();
        let span = |(from, to): (usize, usize)| (from as u32, to as u32);
        self.fields.push(FieldSpan { name: span(name), value: span(value), known });
        Ok(())
    }

    pub(super) fn value<'b>(&self, bytes: &'b [u8], known: Known) -> Option<&'b [u8]> {
        if !self.has(known) {
            return None;
        }
        let field = self.fields.iter().find(|field| field.known == known)?;
        Some(&bytes[field.value.0 as usize..field.value.1 as usize])
    }

    /// What the fields say about the body's length: at most one source, in one spelling.
    pub(super) fn length(&self, bytes: &[u8]) -> Result<Option<u64>, HeadError> {
        self.value(bytes, Known::ContentLength)
            .map(|value| content_length(value).ok_or(HeadError::ContentLength))
            .transpose()
    }

    /// Reads `Connection` and marks the fields that it names, so that nobody passes them on.
    ///
    /// A request that names a field which is not its to remove is refused. Responses name `Transfer-Encoding` and the like
    /// now and then; since this hop's fields end here anyway, such a name is passed over there.
    pub(super) fn connection(&mut self, bytes: &[u8], of: Side) -> Result<ConnectionOptions, HeadError> {
        let mut options = ConnectionOptions::default();
        if !self.has(Known::Connection) {
            return Ok(options);
        }
        for index in 0..self.fields.len() {
            if self.fields[index].known != Known::Connection {
                continue;
            }
            let (from, to) = self.fields[index].value;
            for option in bytes[from as usize..to as usize].split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                if option.is_empty() {
                    continue;
                }
                if !option.iter().all(|byte| is_token_byte(*byte)) {
                    return Err(HeadError::Connection);
                }
                if option.eq_ignore_ascii_case(b"keep-alive") {
                    options.keep_alive = true;
                } else if option.eq_ignore_ascii_case(b"close") {
                    options.close = true;
                } else if option.eq_ignore_ascii_case(b"upgrade") {
                    options.upgrade = true;
                } else {
                    self.nominate(bytes, option, of)?;
                }
            }
        }
        Ok(options)
    }

    fn nominate(&mut self, bytes: &[u8], option: &[u8], of: Side) -> Result<(), HeadError> {
        if classify(option).is_protected() {
            return if of == Side::Response { Ok(()) } else { Err(HeadError::Connection) };
        }
        for field in &mut self.fields {
            if bytes[field.name.0 as usize..field.name.1 as usize].eq_ignore_ascii_case(option) {
                field.known = Known::Nominated;
            }
        }
        Ok(())
    }
}

/// Which kind of message a field section belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// What the `Connection` field asks of the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// `0|[1-9][0-9]{0,15}`: one spelling per number, none that could wrap.
fn content_length(value: &[u8]) -> Option<u64> {
    match value {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if value.len() <= 16 => {
            value.iter().try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
        }
        _ => None,
    }
}

/// Whether a field value is free of control bytes (HTAB is allowed, bytes above 0x7F are somebody's text).
pub(super) fn is_value(value: &[u8]) -> bool {
    !any_byte(value, is_control)
}

/// Whether any byte is as `is_wanted` says.
///
/// For texts that are nearly always fine: a plain fold without an early exit, which the compiler turns into vector
/// instructions (looking at fixed blocks by hand keeps it from doing so).
pub(crate) fn any_byte(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, byte| found | is_wanted(*byte))
}

fn is_control(byte: u8) -> bool {
    ((byte < 0x20) & (byte != b'\t')) | (byte == 0x7F)
}

/// Reads field lines from `at` until the empty line. `None`: the section is not complete yet.
///
/// A line is looked at only once its LF is there, so the verdict never depends on where the network cut the bytes.
pub(super) fn read_section(
    bytes: &[u8],
    mut at: usize,
    spans: &mut Spans,
    limits: &Limits,
) -> Result<Option<usize>, HeadError> {
    loop {
        let Some((line_end, next)) = line_at(bytes, at)? else { return Ok(None) };
        if line_end == at {
            return Ok(Some(next));
        }
        let line = &bytes[at..line_end];
        let name_len = line.iter().position(|byte| NORMAL[usize::from(*byte)] == 0).unwrap_or(line.len());
        if name_len == 0 && matches!(line[0], b' ' | b'\t') {
            return Err(HeadError::FoldedField);
        }
        if name_len == 0 || line.get(name_len) != Some(&b':') {
            return Err(HeadError::FieldName);
        }
        let (mut from, mut to) = (name_len + 1, line.len());
        while from < to && matches!(line[from], b' ' | b'\t') {
            from += 1;
        }
        while from < to && matches!(line[to - 1], b' ' | b'\t') {
            to -= 1;
        }
        if !is_value(&line[from..to]) {
            return Err(HeadError::FieldValue);
        }
        spans.note(bytes, (at, at + name_len), (at + from, at + to), limits)?;
        at = next;
    }
}

/// Puts decoded HTTP/2 fields behind what `buffer` holds, under the rules that hold for field lines, and those that HTTP/2
/// adds (RFC 9113 section 8.2): names in lower case, no whitespace around values. The buffer ends below `bytes_max`.
pub(super) fn assemble_section<'p>(
    fields: impl Iterator<Item = (&'p [u8], &'p [u8])>,
    bytes_max: usize,
    buffer: &mut Vec<u8>,
    spans: &mut Spans,
    limits: &Limits,
) -> Result<(), HeadError> {
    for (name, value) in fields {
        if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte) && !byte.is_ascii_uppercase()) {
            return Err(HeadError::FieldName);
        }
        if !is_value(value) || value != value.trim_ascii() {
            return Err(HeadError::FieldValue);
        }
        let at = buffer.len();
        buffer.extend_from_slice(name);
        buffer.extend_from_slice(value);
        if buffer.len() > bytes_max {
            return Err(HeadError::HeadTooLarge { max: bytes_max });
        }
        spans.note(buffer, (at, at + name.len()), (at + name.len(), buffer.len()), limits)?;
    }
    Ok(())
}

/// Refuses what belongs to an HTTP/1 connection and makes an HTTP/2 message malformed (RFC 9113 section 8.2.2).
pub(super) fn refuse_connection_specific(buffer: &[u8], spans: &Spans) -> Result<(), HeadError> {
    let specific = [Known::Connection, Known::TransferEncoding, Known::KeepAlive, Known::Upgrade];
    let te_is_good = spans.value(buffer, Known::Te).is_none_or(|value| value.eq_ignore_ascii_case(b"trailers"));
    let is_proxy_connection = |field: &FieldSpan| {
        buffer[field.name.0 as usize..field.name.1 as usize].eq_ignore_ascii_case(b"proxy-connection")
    };
    if specific.iter().any(|known| spans.has(*known)) || !te_is_good || spans.fields.iter().any(is_proxy_connection) {
        return Err(HeadError::ConnectionSpecific);
    }
    Ok(())
}

/// Puts decoded HTTP/2 trailers into `buffer`: the same rules as a head's fields, and nothing in them that decides framing
/// or routing.
pub(crate) fn assemble_trailers<'p>(
    fields: impl Iterator<Item = (&'p [u8], &'p [u8])>,
    buffer: &mut Vec<u8>,
    spans: &mut Spans,
    limits: &Limits,
) -> Result<(), HeadError> {
    buffer.clear();
    spans.clear();
    assemble_section(fields, limits.trailer_bytes_max, buffer, spans, limits)?;
    refuse_connection_specific(buffer, spans)?;
    refuse_in_trailers(spans)
}

fn refuse_in_trailers(spans: &Spans) -> Result<(), HeadError> {
    let decides = [Known::Host, Known::ContentLength, Known::TransferEncoding].iter().any(|known| spans.has(*known));
    if decides { Err(HeadError::TrailerField) } else { Ok(()) }
}

/// The line that begins at `at`: where it ends and where the next one begins. `None`: its LF is not there yet.
pub(super) fn line_at(bytes: &[u8], at: usize) -> Result<Option<(usize, usize)>, HeadError> {
    let Some(length) = memchr::memchr(b'\n', &bytes[at..]) else { return Ok(None) };
    let line_feed = at + length;
    if length == 0 || bytes[line_feed - 1] != b'\r' {
        return Err(HeadError::BareLineFeed);
    }
    Ok(Some((line_feed - 1, line_feed + 1)))
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// The name as it was sent.
    pub name: &'b [u8],
    /// The value without surrounding whitespace.
    pub value: &'b [u8],
    /// What the gateway knows about the name.
    pub known: Known,
}

/// The fields of a head or of trailers, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) spans: &'b Spans,
}

impl<'b> Fields<'b> {
    /// The fields that `spans` hold of `bytes`: those of the trailers that a [`Decoder`](crate::http1::framing::Decoder)
    /// has just found at the end of this very input.
    pub(crate) fn of(bytes: &'b [u8], spans: &'b Spans) -> Self {
        Self { bytes, spans }
    }

    /// Every field, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'b>> + ExactSizeIterator + use<'b> {
        let bytes = self.bytes;
        self.spans.fields.iter().map(move |field| Field {
            // Spans and bytes belong together by construction; if they ever did not, a field is missing and nothing stops.
            name: bytes.get(field.name.0 as usize..field.name.1 as usize).unwrap_or_default(),
            value: bytes.get(field.value.0 as usize..field.value.1 as usize).unwrap_or_default(),
            known: field.known,
        })
    }

    /// Whether a field of that kind is there.
    pub fn has(&self, known: Known) -> bool {
        self.spans.has(known)
    }

    /// The value of the first field of that kind.
    pub fn value(&self, known: Known) -> Option<&'b [u8]> {
        self.spans.value(self.bytes, known)
    }

    /// How many fields of that kind there are.
    pub fn count(&self, known: Known) -> usize {
        if self.has(known) { self.spans.fields.iter().filter(|field| field.known == known).count() } else { 0 }
    }
}

/// Reads a trailer section from `at`: the same rules as a head's fields, and nothing in it that decides framing or routing.
/// `None`: not complete yet. The second value is where the section ends.
pub fn read_trailers<'b>(
    bytes: &'b [u8],
    at: usize,
    spans: &'b mut Spans,
    limits: &Limits,
) -> Result<Option<(Fields<'b>, usize)>, HeadError> {
    spans.clear();
    let Some(end) = read_section(bytes, at, spans, limits)? else { return Ok(None) };
    refuse_in_trailers(spans)?;
    Ok(Some((Fields { bytes, spans }, end)))
}

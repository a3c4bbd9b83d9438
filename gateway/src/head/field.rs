//! Fields: the strict reading of field lines, of HTTP/1 and HTTP/2, each classified by its name as it is read ([`Known`]).

use super::error::HeadError;
use super::known::{Known, NORMAL, by_normal_name, classify, is_token_byte};
use crate::limits::Limits;

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
        let known = classify(option);
        if known.is_protected() {
            return if of == Side::Response { Ok(()) } else { Err(HeadError::Connection) };
        }
        // RFC 9110 section 10.1.4 has every sender of `TE` name it here. It never crosses the gateway as it came, so the
        // mark would only hide it from the forwarder, which says `trailers` anew for its own hop.
        if known == Known::Te {
            return Ok(());
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
/// adds (RFC 9113 section 8.2): names in lower case, no whitespace around values. The section ends below `bytes_max`, with
/// so many bytes that HTTP/1 has `outside` of it.
pub(super) fn assemble_section<'p>(
    fields: impl Iterator<Item = (&'p [u8], &'p [u8])>,
    (bytes_max, outside): (usize, usize),
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
        // What HTTP/1 writes between a name and a value, and behind it, counts: a head is as large on both versions.
        if outside + buffer.len() + SEPARATOR_BYTES * (spans.fields.len() + 1) > bytes_max {
            return Err(HeadError::HeadTooLarge { max: bytes_max });
        }
        spans.note(buffer, (at, at + name.len()), (at + name.len(), buffer.len()), limits)?;
    }
    Ok(())
}

/// `: ` and CR LF.
const SEPARATOR_BYTES: usize = 4;

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
    assemble_section(fields, (limits.trailer_bytes_max, 0), buffer, spans, limits)?;
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

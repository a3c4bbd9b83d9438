//! The head of a request.
//!
//! Strict where leniency has been used against gateways (RFC 9112 with the choices taken out of it): one spelling per
//! thing, one source for the body's length, one host. The reader never repairs; it reads or refuses.

use super::error::HeadError;
use super::field::{Field, Fields, Side, Spans, assemble_section, line_at, read_section, refuse_connection_specific};
use super::known::{Known, is_token_byte};
use super::{Framing, Scheme, Version};
use crate::limits::Limits;

type Range = (u32, u32);

/// The head of one request, strictly read. Spans into bytes that the connection owns; see the module for who can make one.
#[derive(Debug)]
pub struct Head<'b> {
    fields: Fields<'b>,
    method: &'b str,
    path: &'b str,
    query: Option<&'b str>,
    authority: &'b str,
    scheme: Option<Scheme>,
    version: Version,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: Option<&'b str>,
    length: usize,
}

/// The parts of a request as HTTP/2 decodes them, for [`Head::assemble`].
#[derive(Debug)]
pub struct Parts<'p, F> {
    /// `:method`.
    pub method: &'p [u8],
    /// `:path`: path and query.
    pub target: &'p [u8],
    /// `:authority`, empty if there was none (then a `host` field must say it).
    pub authority: &'p [u8],
    /// Whether it has to name a host: only HTTP/1.0 need not.
    pub needs_host: bool,
    /// `:scheme`.
    pub scheme: Scheme,
    /// The fields, names and values.
    pub fields: F,
    /// RFC 8441's `:protocol`.
    pub protocol: Option<&'p [u8]>,
    /// Whether the stream ended with the head.
    pub ended: bool,
}

impl<'b> Head<'b> {
    /// Reads the head that `bytes` begin with. `None`: it is not complete yet, and nothing in it is wrong so far.
    pub fn read(bytes: &'b [u8], spans: &'b mut Spans, limits: &Limits) -> Result<Option<Self>, HeadError> {
        let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
        match read_window(window, spans, limits)? {
            Some(read) => Ok(Some(read.with(Fields { bytes: window, spans }))),
            None if bytes.len() >= limits.head_bytes_max => Err(HeadError::HeadTooLarge { max: limits.head_bytes_max }),
            None => Ok(None),
        }
    }

    /// Puts the decoded parts of an HTTP/2 request into `buffer` and through the same rules as an HTTP/1 head.
    pub(crate) fn assemble<'p, F>(
        parts: Parts<'p, F>,
        buffer: &'b mut Vec<u8>,
        spans: &'b mut Spans,
        limits: &Limits,
    ) -> Result<Self, HeadError>
    where
        F: Iterator<Item = (&'p [u8], &'p [u8])>,
    {
        let read = assemble_parts(parts, buffer, spans, limits)?;
        Ok(read.with(Fields { bytes: buffer, spans }))
    }

    /// The method: an upper-case token.
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// The path as it was sent, ASCII out of RFC 3986's set and of what senders leave raw, not yet canonical. Begins with `/`, or
    /// is `*` (OPTIONS).
    pub fn path(&self) -> &'b str {
        self.path
    }

    /// The query as it was sent, without its `?`; `None` where there was no `?`.
    pub fn query(&self) -> Option<&'b str> {
        self.query
    }

    /// Host and port as they were sent. Empty where an HTTP/1.0 request names none.
    pub fn authority(&self) -> &'b str {
        self.authority
    }

    /// The host without its port and without the dot that a name may end with, else as it was sent (brackets of an IPv6 address
    /// included).
    pub fn host(&self) -> &'b str {
        named_host(self.authority).0
    }

    /// What follows the host: a colon and the port, or nothing.
    pub fn port(&self) -> &'b str {
        named_host(self.authority).1
    }

    /// The scheme that the target named (absolute-form, HTTP/2); most requests name none.
    pub fn scheme(&self) -> Option<Scheme> {
        self.scheme
    }

    /// The version of the protocol.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body's end is found.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client would have the connection stay open.
    pub fn keeps_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The protocol that the client would switch to.
    pub fn upgrade(&self) -> Option<&'b str> {
        self.upgrade
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

    /// How many fields of that kind there are.
    pub fn count(&self, known: Known) -> usize {
        self.fields.count(known)
    }

    /// How many bytes the head takes, its empty line included.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// What can be said of a head that is refused for something else in it: what was read of it strictly, the rest empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glimpse<'b> {
    /// The method.
    pub method: &'b str,
    /// The path as it was sent.
    pub path: &'b str,
    /// How many bytes its query has.
    pub query_bytes: usize,
    /// Host and port as they were sent.
    pub authority: &'b str,
}

impl<'b> Glimpse<'b> {
    /// What the bytes of an HTTP/1 head begin with.
    pub fn of(bytes: &'b [u8], limits: &Limits) -> Self {
        let Ok(Some((line_end, mut at))) = line_at(bytes, 0) else { return Self::default() };
        let Ok(line) = read_line(bytes, 0, line_end, limits) else { return Self::default() };
        let text = |range: Range| std::str::from_utf8(slice(bytes, range)).unwrap_or_default();
        let query_bytes = line.target.query.map_or(0, |(from, to)| (to - from) as usize);
        let mut seen = Self { method: text(line.method), path: text(line.target.path), query_bytes, authority: "" };
        while let Ok(Some((end, next))) = line_at(bytes, at) {
            let field = &bytes[at..end];
            if field.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:")) {
                seen.authority = Self::authority(field[5..].trim_ascii());
                break;
            }
            at = next;
        }
        seen
    }

    /// What HTTP/2 decoded.
    pub fn of_parts(method: &'b [u8], target: &'b [u8], authority: &'b [u8]) -> Self {
        let text = |bytes: &'b [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        let path_len = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let is_path = origin_form(target, 0, 0, target.len()).is_ok();
        Self {
            method: if check_method(method).is_ok() { text(method) } else { "" },
            path: if is_path { text(&target[..path_len]) } else { "" },
            query_bytes: target.len().saturating_sub(path_len + 1),
            authority: Self::authority(authority),
        }
    }

    fn authority(bytes: &'b [u8]) -> &'b str {
        if check_authority(bytes).is_ok() { std::str::from_utf8(bytes).unwrap_or_default() } else { "" }
    }
}

/// Host and port (see [`Head::host`] and [`Head::port`]) of what could stand in `Host`; `None` for everything else.
pub(crate) fn named_authority(text: &[u8]) -> Option<(&str, &str)> {
    check_authority(text).ok()?;
    std::str::from_utf8(text).ok().map(named_host).filter(|(host, _)| !host.is_empty())
}

/// The host, without the dot that stands for the root of all names, and what follows it.
fn named_host(authority: &str) -> (&str, &str) {
    let length = match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => colon,
        _ => authority.len(),
    };
    let (host, port) = authority.split_at(length);
    (host.strip_suffix('.').unwrap_or(host), port)
}

fn slice(bytes: &[u8], range: Range) -> &[u8] {
    &bytes[range.0 as usize..range.1 as usize]
}

/// A head without its borrow of the bytes.
struct Read {
    line: Line,
    authority: Range,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    upgrade: Option<Range>,
    length: usize,
}

impl Read {
    fn with(self, fields: Fields<'_>) -> Head<'_> {
        // Every range taken as text was checked byte by byte to be ASCII; the check repeated here costs a few instructions.
        let text = |range: Range| std::str::from_utf8(slice(fields.bytes, range)).unwrap_or_default();
        let target = self.line.target;
        Head {
            fields,
            method: text(self.line.method),
            path: if target.path.0 == target.path.1 { "/" } else { text(target.path) },
            query: target.query.map(text),
            scheme: target.scheme,
            version: self.line.version,
            authority: text(self.authority),
            framing: self.framing,
            keep_alive: self.keep_alive,
            expects_continue: self.expects_continue,
            upgrade: self.upgrade.map(text),
            length: self.length,
        }
    }
}

struct Line {
    method: Range,
    target: Target,
    version: Version,
}

struct Target {
    path: Range,
    query: Option<Range>,
    authority: Option<Range>,
    scheme: Option<Scheme>,
}

fn read_window(bytes: &[u8], spans: &mut Spans, limits: &Limits) -> Result<Option<Read>, HeadError> {
    spans.clear();
    // RFC 9112 section 2.2: one empty line before a request is forgiven; older clients end their bodies with it.
    let start = match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\r'] | [] => return Ok(None),
        _ => 0,
    };
    match bytes.get(start) {
        None => return Ok(None),
        // The PRI preface of HTTP/2 is well-formed as far as this; TLS records and most other protocols end here.
        Some(first) if !is_token_byte(*first) => return Err(HeadError::NotHttp),
        Some(_) => {}
    }
    let Some((line_end, next)) = line_at(bytes, start)? else { return Ok(None) };
    let line = read_line(bytes, start, line_end, limits)?;
    let Some(length) = read_section(bytes, next, spans, limits)? else { return Ok(None) };
    conclude(bytes, line, length, spans).map(Some)
}

fn read_line(bytes: &[u8], start: usize, end: usize, limits: &Limits) -> Result<Line, HeadError> {
    let line = &bytes[start..end];
    let method_len = line.iter().position(|byte| *byte == b' ').ok_or(HeadError::RequestLine)?;
    check_method(&line[..method_len])?;
    // From the end, so that a target with a space in it is told from a bad version.
    let version_at = memchr::memrchr(b' ', line).ok_or(HeadError::RequestLine)?;
    if version_at <= method_len + 1 {
        return Err(HeadError::RequestLine);
    }
    let version = match &line[version_at + 1..] {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(HeadError::VersionNotServed),
        _ => return Err(HeadError::Version),
    };
    let target = read_target(bytes, (start + method_len + 1, start + version_at), &line[..method_len], limits)?;
    Ok(Line { method: range(start, start + method_len), target, version })
}

fn check_method(method: &[u8]) -> Result<(), HeadError> {
    // An operation is an upper-case token, so that `get` and `GET` are never two names for one right.
    if method.is_empty()
        || method.len() > METHOD_BYTES_MAX
        || !method.iter().all(|byte| is_token_byte(*byte) && !byte.is_ascii_lowercase())
    {
        return Err(HeadError::Method);
    }
    if method == b"CONNECT" {
        return Err(HeadError::Connect);
    }
    Ok(())
}

/// The longest registered method has 17 letters (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 32;

/// `pchar`, `/` and `?` (RFC 3986), and what browsers and HTTP libraries leave unescaped though it has no place there: that is
/// written as `%XX` before anything is decided on it, and a `\` in a path is refused then.
static TARGET: [bool; 256] = {
    let mut table = [false; 256];
    let plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/?%[]{}|^`\\";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = true;
        i += 1;
    }
    table
};

fn read_target(
    bytes: &[u8],
    (start, end): (usize, usize),
    method: &[u8],
    limits: &Limits,
) -> Result<Target, HeadError> {
    let target = &bytes[start..end];
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong { max: limits.target_bytes_max });
    }
    match target {
        [b'/', ..] => origin_form(bytes, start, start, end),
        b"*" if method == b"OPTIONS" => {
            Ok(Target { path: range(start, end), query: None, authority: None, scheme: None })
        }
        b"*" => Err(HeadError::AsteriskTarget),
        _ => {
            let (scheme, length) = if target.get(..7).is_some_and(|text| text.eq_ignore_ascii_case(b"http://")) {
                (Scheme::Http, 7)
            } else if target.get(..8).is_some_and(|text| text.eq_ignore_ascii_case(b"https://")) {
                (Scheme::Https, 8)
            } else {
                return Err(HeadError::Target);
            };
            let rest = &target[length..];
            let authority_len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let at = start + length;
            let path = origin_form(bytes, start, at + authority_len, end)?;
            Ok(Target { authority: Some(range(at, at + authority_len)), scheme: Some(scheme), ..path })
        }
    }
}

/// Path and query, from `start` to `end`. The target begins at `from`, and places in it are counted from there.
fn origin_form(bytes: &[u8], from: usize, start: usize, end: usize) -> Result<Target, HeadError> {
    let target = &bytes[start..end];
    // Folded without an early exit; a bad byte is rare.
    if target.iter().fold(false, |bad, byte| bad | !TARGET[usize::from(*byte)]) {
        let index = target.iter().position(|byte| !TARGET[usize::from(*byte)]).unwrap_or_default();
        return Err(HeadError::TargetByte { byte: target[index], at: start - from + index + 1 });
    }
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    let path = range(start, start + path_len);
    let query = (path_len < target.len()).then(|| range(start + path_len + 1, end));
    Ok(Target { path, query, authority: None, scheme: None })
}

/// Draws the conclusions that take the whole head: host, framing, and what becomes of the connection.
fn conclude(bytes: &[u8], line: Line, length: usize, spans: &mut Spans) -> Result<Read, HeadError> {
    let authority = conclude_authority(bytes, &line, spans)?;
    let framing = match (spans.value(bytes, Known::TransferEncoding), spans.length(bytes)?) {
        (Some(_), Some(_)) => return Err(HeadError::TwoLengths),
        (Some(_), None) if line.version != Version::Http11 => return Err(HeadError::TransferEncodingVersion),
        // Names of codings are compared without regard to case (RFC 9112 section 7).
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        (Some(_), None) => return Err(HeadError::TransferEncoding),
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::None,
    };
    let options = spans.connection(bytes, Side::Request)?;
    let keep_alive = !options.close && (line.version == Version::Http11 || options.keep_alive);
    let upgrade = if options.upgrade && line.version == Version::Http11 { one_protocol(bytes, spans)? } else { None };
    if upgrade.is_some() && !matches!(framing, Framing::None | Framing::Length(0)) {
        return Err(HeadError::Upgrade);
    }
    let expects_continue = conclude_expectation(bytes, line.version, framing, spans)?;
    Ok(Read { line, authority, framing, keep_alive, expects_continue, upgrade, length })
}

fn conclude_authority(bytes: &[u8], line: &Line, spans: &Spans) -> Result<Range, HeadError> {
    let host = spans.fields.iter().find(|field| field.known == Known::Host).map(|field| field.value);
    let (host, named) = match (host, line.target.authority) {
        (Some(host), named) => (host, named),
        // HTTP/1.0 has no such field, and haproxy's plain health check none either.
        (None, named) if line.version == Version::Http10 => match named {
            Some(named) => (named, None),
            None => return Ok((0, 0)),
        },
        (None, _) => return Err(HeadError::HostMissing),
    };
    check_authority(slice(bytes, host))?;
    match named {
        Some(named) if !is_same_authority(slice(bytes, named), slice(bytes, host)) => {
            Err(HeadError::AuthorityDisagrees)
        }
        _ => Ok(host),
    }
}

/// Whether two say the same: case and a dot at the name's end make no difference.
fn is_same_authority(one: &[u8], other: &[u8]) -> bool {
    let named = |authority| std::str::from_utf8(authority).ok().map(named_host);
    match (named(one), named(other)) {
        (Some((one, one_port)), Some((other, other_port))) => one.eq_ignore_ascii_case(other) && one_port == other_port,
        _ => false,
    }
}

/// A host name, an IPv4 address or a bracketed IPv6 address, and an optional port. No user information, nothing escaped.
fn check_authority(authority: &[u8]) -> Result<(), HeadError> {
    let (host, port) = match authority {
        [b'[', ..] => {
            let close = authority.iter().position(|byte| *byte == b']').ok_or(HeadError::HostMalformed)?;
            let inside = std::str::from_utf8(&authority[1..close]).map_err(|_| HeadError::HostMalformed)?;
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| HeadError::HostMalformed)?;
            (&authority[..=close], &authority[close + 1..])
        }
        _ => {
            let length = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
            let host = &authority[..length];
            let is_name = host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
            // One dot at the end is the root's; behind it there is nothing.
            if !is_name || host == b"." || host.ends_with(b"..") {
                return Err(HeadError::HostMalformed);
            }
            (host, &authority[length..])
        }
    };
    let port_is_good = match port {
        [] => true,
        [b':', digits @ ..] => {
            (1..=5).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    };
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !port_is_good { Err(HeadError::HostMalformed) } else { Ok(()) }
}

/// What HTTP/1 writes around method, target and host, and behind the fields: two spaces, the version, `Host: ` and CR LF thrice.
const LINE_BYTES: usize = 22;

/// What DNS can carry.
const HOST_BYTES_MAX: usize = 255;

fn one_protocol(bytes: &[u8], spans: &Spans) -> Result<Option<Range>, HeadError> {
    let mut protocol = None;
    for field in &spans.fields {
        if field.known != Known::Upgrade || !slice(bytes, field.name).eq_ignore_ascii_case(b"upgrade") {
            continue;
        }
        let value = slice(bytes, field.value);
        let is_one = !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte) || *byte == b'/');
        if !is_one || protocol.is_some() {
            return Err(HeadError::Upgrade);
        }
        // Upgrading to h2c would be a tunnel past the check; RFC 9110 lets a server leave an offer unanswered.
        protocol = Some(field.value).filter(|_| !value.eq_ignore_ascii_case(b"h2c"));
    }
    Ok(protocol)
}

fn conclude_expectation(bytes: &[u8], version: Version, framing: Framing, spans: &Spans) -> Result<bool, HeadError> {
    let Some(value) = spans.value(bytes, Known::Expect) else { return Ok(false) };
    let is_one = spans.fields.iter().filter(|field| field.known == Known::Expect).count() == 1;
    if !is_one || !value.eq_ignore_ascii_case(b"100-continue") {
        return Err(HeadError::Expectation);
    }
    Ok(version != Version::Http10 && !matches!(framing, Framing::None | Framing::Length(0)))
}

fn assemble_parts<'p, F>(
    parts: Parts<'p, F>,
    buffer: &mut Vec<u8>,
    spans: &mut Spans,
    limits: &Limits,
) -> Result<Read, HeadError>
where
    F: Iterator<Item = (&'p [u8], &'p [u8])>,
{
    buffer.clear();
    spans.clear();
    check_method(parts.method)?;
    let method = append(buffer, parts.method);
    let at = append(buffer, parts.target);
    if parts.target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong { max: limits.target_bytes_max });
    }
    let mut target = match parts.target {
        [b'/', ..] => origin_form(buffer, at.0 as usize, at.0 as usize, at.1 as usize)?,
        b"*" if parts.method == b"OPTIONS" => Target { path: at, query: None, authority: None, scheme: None },
        b"*" => return Err(HeadError::AsteriskTarget),
        _ => return Err(HeadError::Target),
    };
    target.scheme = Some(parts.scheme);
    let authority = (!parts.authority.is_empty()).then(|| append(buffer, parts.authority));
    target.authority = authority;
    assemble_section(parts.fields, (limits.head_bytes_max, LINE_BYTES), buffer, spans, limits)?;
    let line = Line { method, target, version: Version::Http2 };
    let has_host = parts.needs_host || authority.is_some() || spans.has(Known::Host);
    conclude_assembled((&parts.protocol, parts.ended, has_host), line, buffer, spans)
}

fn conclude_assembled(
    (protocol, ended, has_host): (&Option<&[u8]>, bool, bool),
    line: Line,
    buffer: &mut Vec<u8>,
    spans: &mut Spans,
) -> Result<Read, HeadError> {
    refuse_connection_specific(buffer, spans)?;
    let authority = match line.target.authority {
        // `:authority` stands for Host; a Host field beside it must say the same.
        Some(authority) if !spans.has(Known::Host) => {
            check_authority(slice(buffer, authority))?;
            authority
        }
        _ if !has_host => (0, 0),
        _ => conclude_authority(buffer, &line, spans)?,
    };
    let framing = match spans.length(buffer)? {
        Some(0) if ended => Framing::Length(0),
        Some(_) if ended => return Err(HeadError::ContentLength),
        Some(length) => Framing::Length(length),
        None if ended => Framing::None,
        None => Framing::Chunked,
    };
    let upgrade = match protocol {
        Some(protocol) if !protocol.is_empty() && protocol.iter().all(|byte| is_token_byte(*byte)) => {
            Some(append(buffer, protocol))
        }
        Some(_) => return Err(HeadError::Upgrade),
        None => None,
    };
    let expects_continue = conclude_expectation(buffer, line.version, framing, spans)?;
    let length = buffer.len();
    Ok(Read { line, authority, framing, keep_alive: true, expects_continue, upgrade, length })
}

fn append(buffer: &mut Vec<u8>, part: &[u8]) -> Range {
    let start = buffer.len();
    buffer.extend_from_slice(part);
    range(start, buffer.len())
}

fn range(from: usize, to: usize) -> Range {
    (from as u32, to as u32)
}

//! The path, in one form: what is checked is what is forwarded, byte for byte.
//!
//! Path confusion is where gateways are broken most often: the gate reads `/public/..%2fadmin` one way and the service
//! behind it another. Cleaning such a path up would only choose one of the readings, so nothing is cleaned up here.
//! A path that any usual decoder or normaliser could read as another one is refused; of what remains, the
//! spellings that RFC 3986 calls equivalent are brought to one.
//!
//! * Refused: see [`PathError`], one variant for each kind of attack.
//! * Rewritten: `%41` to `A` (unreserved characters), `%c3` to `%C3`, and what browsers and HTTP libraries leave raw, `|` to
//!   `%7C` ([`written_path`], [`written_query`]). Nothing else.
//! * Left alone: `;`, `=`, `,` and the other sub-delimiters, which are not equivalent to their escapes.
//!
//! Unicode: escapes must spell valid UTF-8 in NFC. Characters that only *compatibility* folding (NFKC) would turn into
//! separators or dots are looked through when dot segments are sought, since some services fold names that way.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// What to do with an escaped slash, `%2F`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodedSlash {
    /// Refuse the path: the service may take it for a separator.
    Refuse,
    /// Keep it as an ordinary character of its segment (`encoded_slash = "pass"` on the resource).
    Pass,
}

/// Why a path is refused. Every variant is a way in which two readers could understand it differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Empty, or it does not begin with `/`.
    #[error("a path must begin with `/`")]
    NotAbsolute,
    /// `?` or `#`: the caller passed more than a path.
    #[error("a path ends before `?` and `#`; a fragment is never sent")]
    NotOnlyPath,
    /// A byte above 127.
    #[error("byte {at} of the path is not ASCII; other characters are written as percent-encoded UTF-8")]
    NotAscii {
        /// Where it stands, from 1.
        at: usize,
    },
    /// A control byte, raw or escaped, NUL among them.
    #[error("character {at} of the path is a control character, or the escape of one, which no path may contain")]
    Control {
        /// Where it stands, from 1.
        at: usize,
    },
    /// `\`, raw or escaped: some services read it as `/`.
    #[error("character {at} of the path is `\\`, or its escape `%5C`, which some services read as `/`")]
    Backslash {
        /// Where it stands, from 1.
        at: usize,
    },
    /// A character that must be escaped and that nobody leaves raw, such as a space or `<`.
    #[error("character {at} of the path is {character:?}, which must be percent-encoded")]
    MustBeEscaped {
        /// Which.
        character: char,
        /// Where it stands, from 1.
        at: usize,
    },
    /// `%` without two hexadecimal digits.
    #[error("the path contains a `%` that is not followed by two hexadecimal digits")]
    MalformedEscape,
    /// `%25` followed by what would be an escape after decoding once.
    #[error("the path contains a doubly encoded character")]
    DoubleEscape,
    /// `%2F` where the resource does not pass it.
    #[error("the path contains an escaped slash, which this resource does not accept")]
    EncodedSlash,
    /// `//`.
    #[error("the path contains an empty segment (`//`)")]
    EmptySegment,
    /// `.` or `..`, in whatever disguise.
    #[error("the path contains a dot segment (`.` or `..`)")]
    DotSegment,
    /// The escapes do not spell UTF-8 in its shortest form.
    #[error("the escapes in the path are not valid UTF-8")]
    NotUtf8,
    /// The escapes spell UTF-8 that is not in Normalization Form C.
    #[error("the escapes in the path are not in Unicode Normalization Form C")]
    NotNormalized,
}

/// What one raw byte is to a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Percent,
    /// What browsers and HTTP libraries leave as it is, though RFC 3986 has it escaped.
    LeftRaw,
    Refused,
}

/// What some senders leave raw in paths.
const LEFT_RAW_IN_PATHS: &[u8] = b"|{}^`[]";
/// The same in queries, where brackets are commonly taken as they stand.
const LEFT_RAW_IN_QUERIES: &[u8] = b"|{}^`\\";

/// RFC 3986: pchar is unreserved, percent-encoded, sub-delims, `:` and `@`.
const CLASSES: [Class; 256] = {
    let mut table = [Class::Refused; 256];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = Class::Plain;
        }
        byte += 1;
    }
    let plain = b"-._~!$&'()*+,;=:@";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = Class::Plain;
        i += 1;
    }
    let mut i = 0;
    while i < LEFT_RAW_IN_PATHS.len() {
        table[LEFT_RAW_IN_PATHS[i] as usize] = Class::LeftRaw;
        i += 1;
    }
    table[b'/' as usize] = Class::Slash;
    table[b'%' as usize] = Class::Percent;
    table
};

/// Brings a path to its one form, or says why it has none.
///
/// `raw` is the path alone, as it stood in the request: no query, no fragment, no authority. A path that is canonical
/// already is borrowed; one without any escape is decided in a single pass without allocation.
pub fn canonical_path(raw: &[u8], slash: EncodedSlash) -> Result<Cow<'_, str>, PathError> {
    if raw.first() != Some(&b'/') {
        return Err(refusal_at_start(raw));
    }
    for (at, &byte) in raw.iter().enumerate() {
        match CLASSES[usize::from(byte)] {
            Class::Plain => {}
            Class::Slash => refuse_segment_after(raw, at)?,
            Class::Percent | Class::LeftRaw => return decoded(raw, slash),
            Class::Refused => return Err(refusal_of(byte, at)),
        }
    }
    as_ascii(raw).map(Cow::Borrowed)
}

/// An empty or relative path; the more telling reason wins where the first byte is outright forbidden.
fn refusal_at_start(raw: &[u8]) -> PathError {
    match raw.first() {
        Some(&byte) if CLASSES[usize::from(byte)] == Class::Refused => refusal_of(byte, 0),
        _ => PathError::NotAbsolute,
    }
}

/// Why a raw byte cannot stand in a path.
fn refusal_of(byte: u8, index: usize) -> PathError {
    let at = index + 1;
    match byte {
        0..=0x1F | 0x7F => PathError::Control { at },
        b'\\' => PathError::Backslash { at },
        b'?' | b'#' => PathError::NotOnlyPath,
        0x80.. => PathError::NotAscii { at },
        _ => PathError::MustBeEscaped { character: char::from(byte), at },
    }
}

/// A path in which what senders leave raw (`|`, `{`, `}`, `^`, backtick, `[`, `]`) is written as `%XX`, and nothing else is changed.
pub fn written_path(raw: &str) -> Cow<'_, str> {
    written(raw, LEFT_RAW_IN_PATHS)
}

/// A query in which what senders leave raw (`|`, `{`, `}`, `^`, backtick, `\`) is written as `%XX`, and nothing else is changed: a
/// signature over a query that was valid before still fits.
pub fn written_query(raw: &str) -> Cow<'_, str> {
    written(raw, LEFT_RAW_IN_QUERIES)
}

fn written<'r>(raw: &'r str, left_raw: &[u8]) -> Cow<'r, str> {
    if !raw.bytes().any(|byte| left_raw.contains(&byte)) {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len() + 16);
    for character in raw.chars() {
        match u8::try_from(character) {
            Ok(byte) if left_raw.contains(&byte) => push_hex(byte, &mut text),
            _ => text.push(character),
        }
    }
    Cow::Owned(text)
}

fn push_hex(byte: u8, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    into.push('%');
    into.push(char::from(HEX[usize::from(byte >> 4)]));
    into.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Refuses an empty or a dot segment right after the slash at `at`. Looks at raw bytes only: escapes are for [`decoded`].
fn refuse_segment_after(raw: &[u8], at: usize) -> Result<(), PathError> {
    let ends = |byte: Option<&u8>| matches!(byte, None | Some(b'/' | b';'));
    match raw.get(at + 1) {
        Some(b'/') => Err(PathError::EmptySegment),
        Some(b'.') => {
            let second = raw.get(at + 2);
            if ends(second) || (second == Some(&b'.') && ends(raw.get(at + 3))) {
                return Err(PathError::DotSegment);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The path with escapes in it: rebuilt in canonical form, and decoded beside it for the questions that only the
/// decoded text can answer.
#[cold]
fn decoded(raw: &[u8], slash: EncodedSlash) -> Result<Cow<'_, str>, PathError> {
    let mut canonical = String::with_capacity(raw.len());
    let mut plain = Vec::with_capacity(raw.len());
    // Where each decoded byte stood.
    let mut places = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        let index = raw.len() - bytes.len() - 1;
        places.push(index);
        match CLASSES[usize::from(byte)] {
            Class::Plain | Class::Slash => {
                canonical.push(char::from(byte));
                plain.push(byte);
            }
            Class::LeftRaw => {
                push_hex(byte, &mut canonical);
                plain.push(byte);
            }
            Class::Refused => return Err(refusal_of(byte, index)),
            Class::Percent => {
                let value = escaped(bytes.next(), bytes.next())?;
                push_escape(value, index, slash, &mut canonical)?;
                plain.push(value);
            }
        }
    }
    if canonical.contains("//") {
        return Err(PathError::EmptySegment);
    }
    // On the rebuilt form: `%25%32%65` becomes `%252e` only when the inner escapes have been decoded.
    if escape_behind(canonical.as_bytes(), b"%25") {
        return Err(PathError::DoubleEscape);
    }
    let plain = String::from_utf8(plain).map_err(|_| PathError::NotUtf8)?;
    refuse_hidden(&plain, |decoded| places.get(decoded).copied().unwrap_or_default())?;
    // Handing back the original keeps the promise "borrowed when already canonical" for escaped paths too.
    if canonical.as_bytes() == raw {
        return as_ascii(raw).map(Cow::Borrowed);
    }
    Ok(Cow::Owned(canonical))
}

/// The value of an escape's two digits.
fn escaped(high: Option<&u8>, low: Option<&u8>) -> Result<u8, PathError> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|&byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or(PathError::MalformedEscape)
    };
    Ok(digit(high)? << 4 | digit(low)?)
}

/// Appends an escaped byte in its one spelling: decoded where RFC 3986 says that is the same, else in upper-case hex.
fn push_escape(value: u8, index: usize, slash: EncodedSlash, canonical: &mut String) -> Result<(), PathError> {
    match value {
        0..=0x1F | 0x7F | b'\\' => return Err(refusal_of(value, index)),
        b'/' if slash == EncodedSlash::Refuse => return Err(PathError::EncodedSlash),
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => canonical.push(char::from(value)),
        _ => push_hex(value, canonical),
    }
    Ok(())
}

/// Whether `mark` is followed by what would complete an escape: two hexadecimal digits, or `u` and four.
fn escape_behind(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark).any(|(at, _)| {
        let rest = &text[at + mark.len()..];
        let digits = |rest: &[u8], count: usize| rest.len() >= count && rest[..count].iter().all(u8::is_ascii_hexdigit);
        digits(rest, 2) || (matches!(rest.first(), Some(b'u' | b'U')) && digits(&rest[1..], 4))
    })
}

/// Refuses what only the decoded text shows: text that is not NFC, control characters beyond ASCII, and dot
/// segments, also those that compatibility folding would make. `place` says where a byte of the text stood in the path.
fn refuse_hidden(plain: &str, place: impl Fn(usize) -> usize) -> Result<(), PathError> {
    refuse_dot_segments(plain)?;
    if plain.is_ascii() {
        return Ok(());
    }
    if let Some(control) = plain.find(char::is_control) {
        return Err(PathError::Control { at: place(control) + 1 });
    }
    if !is_nfc(plain) {
        return Err(PathError::NotNormalized);
    }
    let folded: String = plain.nfkc().collect();
    refuse_dot_segments(&folded)?;
    refuse_disguised_dots(plain)?;
    refuse_disguised_dots(&folded)?;
    // A full-width percent sign folds to `%` and would then be decoded a second time.
    if folded.matches('%').count() > plain.matches('%').count() && escape_behind(folded.as_bytes(), b"%") {
        return Err(PathError::DoubleEscape);
    }
    Ok(())
}

/// Refuses `.` and `..` between any two separators that some service knows, with parameters (`..;x`) or spaces
/// (`.. `, which some file systems drop) behind them. An escaped `?` or `#` ends the path for a service that decodes it
/// and then reads it as a URL again, so `..%3F` is a dot segment too.
fn refuse_dot_segments(plain: &str) -> Result<(), PathError> {
    let hidden = |piece: &str| {
        let name = piece.split([';', '?', '#']).next().unwrap_or(piece);
        matches!(name.trim_matches(' '), "." | "..")
    };
    if plain.split(['/', '\\']).any(hidden) {
        return Err(PathError::DotSegment);
    }
    Ok(())
}

/// Refuses dot segments that show where a reader leaves out what has no glyph, ends a name at it, or takes a character for
/// the separator that it looks like.
fn refuse_disguised_dots(text: &str) -> Result<(), PathError> {
    if !text.chars().any(|c| is_ignorable(c) || looks_like_separator(c)) {
        return Ok(());
    }
    let separated = |c: char| if looks_like_separator(c) { '/' } else { c };
    let without: String = text.chars().filter(|c| !is_ignorable(*c)).map(separated).collect();
    refuse_dot_segments(&without)?;
    let cut: String = text.chars().map(|c| if is_ignorable(c) { '/' } else { separated(c) }).collect();
    refuse_dot_segments(&cut)
}

/// What tables of best fit turn into `/` or `\` (Windows' code pages do) and compatibility folding leaves alone.
fn looks_like_separator(c: char) -> bool {
    matches!(c, '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29F8}' | '\u{29F9}' | '\u{A5}' | '\u{20A9}')
}

/// `Default_Ignorable_Code_Point` of the Unicode Character Database, unassigned code points included.
fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}'
        | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// The classes let only ASCII through; said by the types instead of taken for granted.
fn as_ascii(raw: &[u8]) -> Result<&str, PathError> {
    std::str::from_utf8(raw).map_err(|error| PathError::NotAscii { at: error.valid_up_to() + 1 })
}

#[cfg(test)]
mod tests;

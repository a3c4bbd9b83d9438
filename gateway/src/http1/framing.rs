//! Where a body ends: state machines over bytes, told nothing about sockets.
//!
//! [`Decoder`] takes the framing of one message off again, however the network cut it; [`Encoder`] puts framing on anew for
//! the other side. No byte of one side's framing ever reaches the other: chunk sizes, extensions and line ends are read,
//! judged and written afresh, so two parsers behind one another never see the same ambiguity.

use thiserror::Error;

use crate::head::field::read_trailers;
use crate::head::{Field, Framing, HeadError, ResponseFraming, Spans};
use crate::limits::Limits;

/// A body that is not framed as its head promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// More bytes than allowed for this message.
    #[error("the body is longer than the {max} bytes allowed here")]
    BodyTooLarge {
        /// The limit.
        max: u64,
    },
    /// The chunk's size is not 1 to 15 hexadecimal digits, directly followed by CR LF or `;`.
    #[error("a chunk's size is not 1 to 15 hexadecimal digits followed by CR LF or an extension")]
    ChunkSize,
    /// A control byte, a bare CR or LF, or a byte outside ASCII in an extension.
    #[error("a chunk extension has a byte that is not visible ASCII")]
    ChunkExtension,
    /// The size line is longer than `chunk_line_bytes_max`.
    #[error("a chunk's size line is longer than {max} bytes")]
    ChunkLineTooLong {
        /// The limit.
        max: usize,
    },
    /// A chunk's data is not followed by CR LF.
    #[error("a chunk's data is not followed by CR LF")]
    ChunkEnd,
    /// A trailer field is malformed or forbidden.
    #[error("in the trailers: {0}")]
    Trailers(HeadError),
    /// More trailers than `trailer_bytes_max`.
    #[error("the trailers are longer than {max} bytes")]
    TrailersTooLarge {
        /// The limit.
        max: usize,
    },
    /// The connection ended inside the body.
    #[error("the connection ended before the body did")]
    Truncated,
    /// The writer of a body has more than it declared.
    #[error("the body is longer than its declared length")]
    LongerThanDeclared,
    /// The writer of a body has less than it declared.
    #[error("the body is shorter than its declared length")]
    ShorterThanDeclared,
}

impl FramingError {
    /// What is wrong with trailers, as one of the reasons why a body is.
    pub(crate) fn of_trailers(error: HeadError) -> Self {
        match error {
            HeadError::HeadTooLarge { max } => Self::TrailersTooLarge { max },
            error => Self::Trailers(error),
        }
    }
}

/// What the next bytes of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// `input[from..to]` are body bytes, and `to` bytes are done with.
    Data {
        /// Where the body bytes begin.
        from: usize,
        /// Where they end.
        to: usize,
    },
    /// `consumed` bytes are done with; the rest says nothing before more input is there.
    More {
        /// Bytes done with.
        consumed: usize,
    },
    /// The body is over and `consumed` bytes belonged to it. If `trailers`, the spans hold them (relative to this input).
    End {
        /// Bytes done with.
        consumed: usize,
        /// Whether trailer fields were sent.
        trailers: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Exactly so many bytes, then the end.
    Length(u64),
    /// In a chunk's size: its value, its digits and the length of the line so far.
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        line: usize,
    },
    SizeLineFeed {
        value: u64,
    },
    ChunkData(u64),
    ChunkCarriageReturn,
    ChunkLineFeed,
    Trailers,
    UntilClose,
    Ended,
}

/// Takes the framing of one body off, incrementally.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// The size of the chunk whose line is being read, kept while an extension is skipped.
    chunk: u64,
    received: u64,
    max: Option<u64>,
}

impl Decoder {
    /// For a request's body. A declared length above `max` is refused before a byte of it was read.
    pub fn request(framing: Framing, max: Option<u64>) -> Result<Self, FramingError> {
        Self::new(
            match framing {
                Framing::None | Framing::Length(0) => State::Ended,
                Framing::Length(length) => State::Length(length),
                Framing::Chunked => State::Size { value: 0, digits: 0 },
            },
            max,
        )
    }

    /// For a response's body.
    pub fn response(framing: ResponseFraming) -> Self {
        let state = match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => State::Ended,
            ResponseFraming::Length(length) => State::Length(length),
            ResponseFraming::Chunked => State::Size { value: 0, digits: 0 },
            ResponseFraming::UntilClose => State::UntilClose,
        };
        Self { state, chunk: 0, received: 0, max: None }
    }

    fn new(state: State, max: Option<u64>) -> Result<Self, FramingError> {
        match (state, max) {
            (State::Length(length), Some(max)) if length > max => Err(FramingError::BodyTooLarge { max }),
            _ => Ok(Self { state, chunk: 0, received: 0, max }),
        }
    }

    /// Whether the whole body has been read.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Body bytes read so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many more bytes are certain to belong to the body, framing not counted: what may be read without care.
    pub fn expected(&self) -> u64 {
        match self.state {
            State::Length(rest) | State::ChunkData(rest) => rest,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// What the end of the connection means here.
    pub fn finish(&mut self) -> Result<(), FramingError> {
        match self.state {
            State::Ended | State::UntilClose => {
                self.state = State::Ended;
                Ok(())
            }
            _ => Err(FramingError::Truncated),
        }
    }

    /// Looks at `input`, which begins where the last piece ended.
    pub fn next(&mut self, input: &[u8], spans: &mut Spans, limits: &Limits) -> Result<Piece, FramingError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Ended => return Ok(Piece::End { consumed: at, trailers: false }),
                State::Trailers => return self.trailers(input, at, spans, limits),
                _ if at == input.len() => return Ok(Piece::More { consumed: at }),
                State::Length(rest) => {
                    let to = self.take(input, at, rest)?;
                    let rest = rest - (to - at) as u64;
                    self.state = if rest == 0 { State::Ended } else { State::Length(rest) };
                    return Ok(Piece::Data { from: at, to });
                }
                State::ChunkData(rest) => {
                    let to = self.take(input, at, rest)?;
                    let rest = rest - (to - at) as u64;
                    self.state = if rest == 0 { State::ChunkCarriageReturn } else { State::ChunkData(rest) };
                    return Ok(Piece::Data { from: at, to });
                }
                State::UntilClose => {
                    let to = self.take(input, at, u64::MAX)?;
                    return Ok(Piece::Data { from: at, to });
                }
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeLineFeed { .. }
                | State::ChunkCarriageReturn
                | State::ChunkLineFeed => {
                    self.state = self.framing_byte(input[at], limits)?;
                    at += 1;
                }
            }
        }
    }

    /// How far into `input` the body's next bytes reach, counted against the limit.
    fn take(&mut self, input: &[u8], at: usize, rest: u64) -> Result<usize, FramingError> {
        let length = rest.min((input.len() - at) as u64);
        self.received += length;
        match self.max {
            Some(max) if self.received > max => Err(FramingError::BodyTooLarge { max }),
            _ => Ok(at + length as usize),
        }
    }

    /// One byte of chunked framing.
    fn framing_byte(&mut self, byte: u8, limits: &Limits) -> Result<State, FramingError> {
        match self.state {
            State::Size { value, digits } => {
                if let Some(digit) = (byte as char).to_digit(16) {
                    // Fifteen digits stay below 2^60: neither a chunk nor the sum of a body's chunks can wrap.
                    if digits >= SIZE_DIGITS_MAX {
                        return Err(FramingError::ChunkSize);
                    }
                    return Ok(State::Size { value: value * 16 + u64::from(digit), digits: digits + 1 });
                }
                match byte {
                    _ if digits == 0 => Err(FramingError::ChunkSize),
                    b'\r' => Ok(State::SizeLineFeed { value }),
                    b';' => {
                        self.chunk = value;
                        Ok(State::Extension { line: usize::from(digits) + 1 })
                    }
                    _ => Err(FramingError::ChunkSize),
                }
            }
            State::Extension { line } if line >= limits.chunk_line_bytes_max => {
                Err(FramingError::ChunkLineTooLong { max: limits.chunk_line_bytes_max })
            }
            State::Extension { line } => match byte {
                b'\r' => Ok(State::SizeLineFeed { value: self.chunk }),
                b' '..=b'~' => Ok(State::Extension { line: line + 1 }),
                _ => Err(FramingError::ChunkExtension),
            },
            State::SizeLineFeed { .. } if byte != b'\n' => Err(FramingError::ChunkSize),
            State::SizeLineFeed { value: 0 } => Ok(State::Trailers),
            State::SizeLineFeed { value } => match self.max {
                Some(max) if self.received.saturating_add(value) > max => Err(FramingError::BodyTooLarge { max }),
                _ => Ok(State::ChunkData(value)),
            },
            State::ChunkCarriageReturn if byte == b'\r' => Ok(State::ChunkLineFeed),
            State::ChunkLineFeed if byte == b'\n' => Ok(State::Size { value: 0, digits: 0 }),
            _ => Err(FramingError::ChunkEnd),
        }
    }

    fn trailers(&mut self, input: &[u8], at: usize, spans: &mut Spans, limits: &Limits) -> Result<Piece, FramingError> {
        let max = limits.trailer_bytes_max;
        let window = &input[..input.len().min(at + max)];
        match read_trailers(window, at, spans, limits).map_err(FramingError::Trailers)? {
            Some((fields, consumed)) => {
                let trailers = fields.iter().len() > 0;
                self.state = State::Ended;
                Ok(Piece::End { consumed, trailers })
            }
            None if input.len() - at >= max => Err(FramingError::TrailersTooLarge { max }),
            None => Ok(Piece::More { consumed: at }),
        }
    }
}

const SIZE_DIGITS_MAX: u8 = 15;

/// Puts framing on a body for the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoder {
    /// So many bytes are still owed under a declared length.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Plain bytes until the connection closes.
    UntilClose,
}

impl Encoder {
    /// Writes one stretch of the body to `out`. An empty stretch writes nothing: an empty chunk would be the end.
    pub fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), FramingError> {
        self.before(data.len(), out)?;
        out.extend_from_slice(data);
        self.after(data.len(), out);
        Ok(())
    }

    /// Writes what goes before a stretch of `length` bytes, for those who send the stretch itself without copying it.
    pub fn before(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), FramingError> {
        match self {
            Self::Length(rest) => {
                *rest = rest.checked_sub(length as u64).ok_or(FramingError::LongerThanDeclared)?;
            }
            Self::Chunked if length > 0 => chunk_size(length, out),
            Self::Chunked | Self::UntilClose => {}
        }
        Ok(())
    }

    /// Writes what goes after a stretch of `length` bytes.
    pub fn after(&self, length: usize, out: &mut Vec<u8>) {
        if *self == Self::Chunked && length > 0 {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the body. Trailers are written where the framing can carry them.
    pub fn finish<'f>(
        &mut self,
        trailers: impl Iterator<Item = Field<'f>>,
        out: &mut Vec<u8>,
    ) -> Result<(), FramingError> {
        match self {
            Self::Length(0) | Self::UntilClose => Ok(()),
            Self::Length(_) => Err(FramingError::ShorterThanDeclared),
            Self::Chunked => {
                out.extend_from_slice(b"0\r\n");
                for field in trailers {
                    out.extend_from_slice(field.name);
                    out.extend_from_slice(b": ");
                    out.extend_from_slice(field.value);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

fn chunk_size(length: usize, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(HEX[(length >> (place * 4)) & 0xF]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;

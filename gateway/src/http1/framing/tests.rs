//! Bodies under every split, hostile chunks, and round trips through encoder and decoder.

use super::*;
use crate::head::Known;
use proptest::prelude::*;

type Read = Result<(Vec<u8>, Vec<(String, String)>, usize), FramingError>;

/// Feeds `input` in pieces that end at `cuts`, as a connection would: what is not consumed is presented again.
fn read_in_pieces(mut decoder: Decoder, input: &[u8], cuts: &[usize]) -> Read {
    let (limits, mut spans) = (Limits::default(), Spans::new());
    let (mut body, mut done) = (Vec::new(), 0);
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    ends.push(input.len());
    ends.sort_unstable();
    for end in ends {
        loop {
            let window = &input[done..end.max(done)];
            match decoder.next(window, &mut spans, &limits)? {
                Piece::Data { from, to } => {
                    body.extend_from_slice(&window[from..to]);
                    done += to;
                }
                Piece::More { consumed } => {
                    done += consumed;
                    break;
                }
                Piece::End { consumed, trailers } => {
                    let fields = if trailers {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let fields = crate::head::Fields::of(window, &spans);
                        fields.iter().map(|field| (text(field.name), text(field.value))).collect()
                    } else {
                        Vec::new()
                    };
                    return Ok((body, fields, done + consumed));
                }
            }
        }
    }
    decoder.finish()?;
    Ok((body, Vec::new(), done))
}

fn chunked(input: &[u8]) -> Read {
    read_in_pieces(Decoder::request(Framing::Chunked, Some(1000)).expect("no declared length"), input, &[])
}

#[test]
fn chunks_extensions_and_trailers_are_read() {
    let (body, trailers, length) =
        chunked(b"5\r\nhello\r\n00A;a=b; c=\"d\"\r\n0123456789\r\n0\r\nX-Sum: 7\r\nY: z\r\n\r\nGET").expect("a body");
    assert_eq!(body, b"hello0123456789");
    assert_eq!(trailers, [("X-Sum".to_owned(), "7".to_owned()), ("Y".to_owned(), "z".to_owned())]);
    assert_eq!(length, 59);
}

#[test]
fn hostile_chunks_are_refused() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
    let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let cases: Vec<(&[u8], FramingError)> = vec![
        (b"\r\nhello", FramingError::ChunkSize),
        (b"g\r\n", FramingError::ChunkSize),
        (b"5 \r\nhello\r\n0\r\n\r\n", FramingError::ChunkSize),
        (b"5\nhello\r\n0\r\n\r\n", FramingError::ChunkSize),
        (b"5\r\rhello", FramingError::ChunkSize),
        (b" 5\r\n", FramingError::ChunkSize),
        (b"+5\r\n", FramingError::ChunkSize),
        (b"-1\r\n", FramingError::ChunkSize),
        (b"0x5\r\n", FramingError::ChunkSize),
        (b"5_0\r\n", FramingError::ChunkSize),
        (b"FFFFFFFFFFFFFFFF\r\n", FramingError::ChunkSize),
        (b"10000000000000005\r\nhello", FramingError::ChunkSize),
        (b"0000000000000005\r\nhello", FramingError::ChunkSize),
        (b"5;a\nhello\r\n", FramingError::ChunkExtension),
        (b"5;a\0\r\nhello\r\n", FramingError::ChunkExtension),
        (b"5;a\x7f\r\nhello\r\n", FramingError::ChunkExtension),
        (b"5;\xe9\r\nhello\r\n", FramingError::ChunkExtension),
        (b"5\r\nhelloX\r\n", FramingError::ChunkEnd),
        (b"5\r\nhello\n0\r\n\r\n", FramingError::ChunkEnd),
        (b"5\r\nhello\rX", FramingError::ChunkEnd),
        (b"5\r\nhell", FramingError::Truncated),
        (b"5\r\nhello\r\n0\r\n", FramingError::Truncated),
        (b"0\r\nContent-Length: 5\r\n\r\n", FramingError::Trailers(HeadError::TrailerField)),
        (b"0\r\nTransfer-Encoding: chunked\r\n\r\n", FramingError::Trailers(HeadError::TrailerField)),
        (b"0\r\nHost: a\r\n\r\n", FramingError::Trailers(HeadError::TrailerField)),
        (b"0\r\nA : b\r\n\r\n", FramingError::Trailers(HeadError::FieldName)),
        (b"0\r\nA: b\n\r\n", FramingError::Trailers(HeadError::BareLineFeed)),
        (b"3E9\r\n", FramingError::BodyTooLarge { max: 1000 }),
        (b"fffffffffffffff\r\n", FramingError::BodyTooLarge { max: 1000 }),
        (long.as_bytes(), FramingError::ChunkLineTooLong { max: 256 }),
        (trailers.as_bytes(), FramingError::TrailersTooLarge { max: 8192 }),
    ];
    for (input, error) in cases {
        assert_eq!(chunked(input), Err(error), "{:?}", String::from_utf8_lossy(&input[..input.len().min(60)]));
    }
}

#[test]
fn a_declared_length_is_kept_to_the_byte() {
    let decoder = || Decoder::request(Framing::Length(5), None).expect("no limit");
    assert_eq!(read_in_pieces(decoder(), b"helloGET", &[2]).expect("a body"), (b"hello".to_vec(), Vec::new(), 5));
    assert_eq!(read_in_pieces(decoder(), b"hell", &[]), Err(FramingError::Truncated));
    assert_eq!(Decoder::request(Framing::Length(5), Some(4)).err(), Some(FramingError::BodyTooLarge { max: 4 }));
}

#[test]
fn a_body_until_close_ends_with_the_connection() {
    let (body, _, _) =
        read_in_pieces(Decoder::response(ResponseFraming::UntilClose), b"all of it", &[3]).expect("a body");
    assert_eq!(body, b"all of it");
}

#[test]
fn an_encoder_holds_its_writer_to_the_declared_length() {
    let none = || std::iter::empty::<Field<'_>>();
    let mut out = Vec::new();
    assert_eq!(Encoder::Length(3).write(b"four", &mut out), Err(FramingError::LongerThanDeclared));
    let mut encoder = Encoder::Length(3);
    encoder.write(b"to", &mut out).expect("two of three");
    assert_eq!(encoder.finish(none(), &mut out), Err(FramingError::ShorterThanDeclared));
    out.clear();
    let mut encoder = Encoder::Chunked;
    encoder.write(b"", &mut out).expect("nothing");
    encoder.write(&[b'x'; 26], &mut out).expect("a chunk");
    let sum = Field { name: b"Sum", value: b"1", known: Known::Other };
    encoder.finish([sum].into_iter(), &mut out).expect("the end");
    assert_eq!(out, b"1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\nSum: 1\r\n\r\n");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_under_any_split(
        stretches in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
        surplus in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let (mut out, mut encoder) = (Vec::new(), Encoder::Chunked);
        for stretch in &stretches {
            encoder.write(stretch, &mut out).expect("chunks have no declared length");
        }
        encoder.finish(std::iter::empty(), &mut out).expect("chunks can always end");
        let length = out.len();
        out.extend_from_slice(&surplus);
        let decoder = Decoder::request(Framing::Chunked, None).expect("no limit");
        prop_assert_eq!(read_in_pieces(decoder, &out, &cuts), Ok((stretches.concat(), Vec::new(), length)));
    }

    #[test]
    fn no_split_changes_what_hostile_chunks_are(
        mut input in "([0-9a-f]{1,2};?[a-z]{0,3}\r\n[a-z]{0,12}\r\n){0,3}0\r\n(X: y\r\n)?\r\n".prop_map(String::into_bytes),
        changes in proptest::collection::vec((any::<usize>(), proptest::sample::select(b"\r\n \0;0f\x7f".to_vec())), 0..3),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        for (at, byte) in changes {
            let at = at % input.len();
            input[at] = byte;
        }
        let decoder = || Decoder::request(Framing::Chunked, Some(1000)).expect("no declared length");
        prop_assert_eq!(read_in_pieces(decoder(), &input, &cuts), read_in_pieces(decoder(), &input, &[]));
    }
}

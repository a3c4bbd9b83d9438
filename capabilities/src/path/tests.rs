//! Every attack on paths that is known here, and a search for more.

use proptest::prelude::*;

use super::*;

fn refuse(raw: &str) -> PathError {
    canonical_path(raw.as_bytes(), EncodedSlash::Refuse).expect_err(raw)
}

#[test]
fn an_escaped_end_of_the_path_hides_no_dot_segment() {
    for path in ["/a/..%3F", "/a/..%23x", "/a/%2e%2e%3Fx/b", "/a/.%23", "/a/..%3Bx%3F"] {
        assert_eq!(refuse(path), PathError::DotSegment, "{path}");
    }
    assert!(canonical_path(b"/a/b..%3Fc", EncodedSlash::Refuse).is_ok());
}

#[test]
fn already_canonical_paths_are_borrowed() {
    for path in ["/", "/v1/orders/42", "/a;b=c/d", "/.well-known/x", "/...", "/..a/b..", "/a/", "/caf%C3%A9", "/%20"] {
        let result = canonical_path(path.as_bytes(), EncodedSlash::Refuse).expect(path);
        assert!(matches!(result, Cow::Borrowed(text) if text == path), "{path}");
    }
}

#[test]
fn equivalent_spellings_have_one_form() {
    for (raw, wanted) in [
        ("/%41%62", "/Ab"),
        ("/%7euser", "/~user"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%3ab", "/a%3Ab"),
        ("/a%2Eb", "/a.b"),
        ("/a|b{c}d^e`f[0]", "/a%7Cb%7Bc%7Dd%5Ee%60f%5B0%5D"),
        ("/%7c|%7b", "/%7C%7C%7B"),
    ] {
        assert_eq!(canonical_path(raw.as_bytes(), EncodedSlash::Refuse).expect(raw), wanted);
    }
}

/// Browsers, Node and httpx send these as they stand. Nothing else of a query is touched, or signatures over it would not fit.
#[test]
fn what_senders_leave_raw_is_written_and_nothing_else() {
    assert_eq!(written_query("a=|{}^`\\[]&b=%7c%2f%&c=x+y'()*"), "a=%7C%7B%7D%5E%60%5C[]&b=%7c%2f%&c=x+y'()*");
    assert!(matches!(written_query("a[]=%7c&b=%"), Cow::Borrowed(_)));
    assert_eq!(written_path("/a|b[0]\\%7c"), "/a%7Cb%5B0%5D\\%7c");
    assert!(matches!(written_path("/a%2Fb"), Cow::Borrowed(_)));
}

#[test]
fn every_known_attack_is_refused() {
    use PathError as E;
    let attacks: &[(&str, PathError)] = &[
        ("", E::NotAbsolute),
        ("*", E::NotAbsolute),
        ("orders", E::NotAbsolute),
        ("http://h/x", E::NotAbsolute),
        ("/a#b", E::NotOnlyPath),
        ("/a?b", E::NotOnlyPath),
        ("/caf\u{e9}", E::NotAscii { at: 5 }),
        ("/a\0", E::Control { at: 3 }),
        ("/a%00b", E::Control { at: 3 }),
        ("/a%0d%0aX: y", E::Control { at: 3 }),
        ("/a\x7f", E::Control { at: 3 }),
        ("/a%7F", E::Control { at: 3 }),
        ("/%20a%C2%85", E::Control { at: 6 }),
        ("/a\\b", E::Backslash { at: 3 }),
        ("/..%5cadmin", E::Backslash { at: 4 }),
        ("/%2e|\\", E::Backslash { at: 6 }),
        ("/a b", E::MustBeEscaped { character: ' ', at: 3 }),
        ("/a<b", E::MustBeEscaped { character: '<', at: 3 }),
        ("/a|b\"c", E::MustBeEscaped { character: '"', at: 5 }),
        ("/..|/../admin", E::DotSegment),
        ("/a|b%2fc", E::EncodedSlash),
        ("/a|b//c", E::EmptySegment),
        ("/%2^35", E::MalformedEscape),
        ("/%", E::MalformedEscape),
        ("/%4", E::MalformedEscape),
        ("/%zz", E::MalformedEscape),
        ("/%u002e", E::MalformedEscape),
        ("/%+41", E::MalformedEscape),
        ("/%252e%252e/admin", E::DoubleEscape),
        ("/%25%32%65/admin", E::DoubleEscape),
        ("/%252%65", E::DoubleEscape),
        ("/%25u002e", E::DoubleEscape),
        ("/%EF%BC%852e%EF%BC%852e/admin", E::DoubleEscape),
        ("/a%2fb", E::EncodedSlash),
        ("/..%2f..%2fadmin", E::EncodedSlash),
        ("//", E::EmptySegment),
        ("/a//b", E::EmptySegment),
        ("/%41//b", E::EmptySegment),
        ("/.", E::DotSegment),
        ("/..", E::DotSegment),
        ("/a/../b", E::DotSegment),
        ("/a/./b", E::DotSegment),
        ("/a/..;x=1/b", E::DotSegment),
        ("/..;/admin", E::DotSegment),
        ("/a/..%3Bx/b", E::DotSegment),
        ("/%2e%2e/admin", E::DotSegment),
        ("/.%2e/admin", E::DotSegment),
        ("/%2E", E::DotSegment),
        ("/..%20/admin", E::DotSegment),
        ("/%EF%BC%8E%EF%BC%8E/admin", E::DotSegment),
        ("/a/..%EF%BC%8Fadmin", E::DotSegment),
        ("/%E2%80%A5/admin", E::DotSegment),
        ("/%C0%AE%C0%AE/admin", E::NotUtf8),
        ("/%E0%80%AE", E::NotUtf8),
        ("/%FF", E::NotUtf8),
        ("/%ED%A0%80", E::NotUtf8),
        ("/e%CC%81", E::NotNormalized),
    ];
    for (raw, wanted) in attacks {
        assert_eq!(refuse(raw), *wanted, "{raw:?}");
    }
}

#[test]
fn a_character_that_nobody_sees_hides_no_dot_segment() {
    let escaped = |text: &str| {
        text.bytes().map(|b| if b.is_ascii() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    for hidden in [
        "/a/.\u{200B}./b",
        "/a/..\u{200D}/b",
        "/\u{2060}..",
        "/.\u{FE0F}",
        "/.\u{AD}.;x",
        "/\u{E0020}.\u{E0FFF}.",
        "/a/.\u{3164}.",
        "/a/..\u{FEFF}x/b",
        "/a/..\u{2215}admin",
        "/a\u{2044}..\u{2044}b",
        "/a/..\u{2216}x",
        "/a/.\u{200B}.\u{2215}admin",
        "/a\u{200B}/\u{FF0E}\u{200B}\u{FF0E}",
    ] {
        let raw: String = escaped(hidden);
        assert_eq!(refuse(&raw), PathError::DotSegment, "{hidden:?}");
    }
    for harmless in ["/1\u{2044}2", "/a\u{2215}b", "/\u{1F469}\u{200D}\u{1F4BB}", "/x.\u{200B}y", "/\u{2764}\u{FE0F}"] {
        let raw: String = escaped(harmless);
        assert!(canonical_path(raw.as_bytes(), EncodedSlash::Refuse).is_ok(), "{harmless:?}");
    }
}

#[test]
fn a_passed_slash_hides_no_dot_segment() {
    let pass = |raw: &str| canonical_path(raw.as_bytes(), EncodedSlash::Pass).map(Cow::into_owned);
    assert_eq!(pass("/a%2fb").unwrap(), "/a%2Fb");
    assert_eq!(pass("/..%2Fadmin"), Err(PathError::DotSegment));
    assert_eq!(pass("/a%2F.%2e"), Err(PathError::DotSegment));
    assert_eq!(pass("/a%2F..;x%2Fb"), Err(PathError::DotSegment));
    assert_eq!(pass("/a%5Cb"), Err(PathError::Backslash { at: 3 }));
}

/// The readings that services apply to a path, each a small step; the property below tries them in every order.
fn readings(path: &str) -> Vec<String> {
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let (mut out, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match (bytes[at], hex) {
                (b'%', Some(value)) => {
                    out.push(value);
                    at += 3;
                }
                (byte, _) => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let cut = |text: &str| {
        let pieces: Vec<&str> = text.split('/').map(|piece| piece.split(';').next().unwrap_or("")).collect();
        pieces.join("/")
    };
    vec![
        decode(path),
        path.replace('\\', "/"),
        path.nfkc().collect(),
        path.nfc().collect(),
        cut(path),
        path.replace("//", "/"),
        path.replace(" /", "/"),
    ]
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|piece| matches!(piece, "." | ".."))
}

fn hostile_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/"),
        Just("."),
        Just(".."),
        Just("%2e"),
        Just("%2E"),
        Just("%25"),
        Just("%32"),
        Just("%65"),
        Just("%2f"),
        Just("%2F"),
        Just("%5c"),
        Just("\\"),
        Just(";"),
        Just("%3b"),
        Just("a"),
        Just("2e"),
        Just("2"),
        Just("E"),
        Just("%"),
        Just("%C0%AE"),
        Just("%EF%BC%8E"),
        Just("%EF%BC%8F"),
        Just("%EF%BC%85"),
        Just("%E2%80%A5"),
        Just("%20"),
        Just("%00"),
        Just("%41"),
        Just("%c3%a9"),
        Just("e%CC%81"),
        Just("u"),
        Just("00"),
        Just("2f"),
        Just("=x"),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn canonical_is_idempotent(raw in hostile_path()) {
        for slash in [EncodedSlash::Refuse, EncodedSlash::Pass] {
            if let Ok(once) = canonical_path(raw.as_bytes(), slash) {
                let twice = canonical_path(once.as_bytes(), slash);
                prop_assert!(matches!(&twice, Ok(Cow::Borrowed(text)) if *text == once), "{raw} -> {once} -> {twice:?}");
            }
        }
    }

    #[test]
    fn no_reading_of_a_canonical_path_has_a_dot_segment(raw in hostile_path()) {
        for slash in [EncodedSlash::Refuse, EncodedSlash::Pass] {
            let Ok(canonical) = canonical_path(raw.as_bytes(), slash) else { continue };
            let mut seen = vec![canonical.clone().into_owned()];
            let mut next = 0;
            while next < seen.len() && seen.len() < 200 {
                prop_assert!(!has_dot_segment(&seen[next]), "{raw} -> {canonical} -> {:?}", seen[next]);
                for reading in readings(&seen[next]) {
                    if !seen.contains(&reading) {
                        seen.push(reading);
                    }
                }
                next += 1;
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
        for slash in [EncodedSlash::Refuse, EncodedSlash::Pass] {
            if let Ok(path) = canonical_path(&raw, slash) {
                prop_assert!(path.starts_with('/') && path.is_ascii());
            }
        }
    }
}

//! The strict reader against tables of hostile heads, against itself under every split, and against a naive reader.

use super::*;
use crate::limits::Limits;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut spans = Spans::new();
    Head::read(bytes, &mut spans, &Limits::default()).map(|head| head.map(|head| head.length()))
}

fn read_response(bytes: &[u8], method: &str) -> Result<Option<ResponseFraming>, HeadError> {
    let mut spans = Spans::new();
    ResponseHead::read(bytes, method, &mut spans, &Limits::default()).map(|head| head.map(|head| head.framing()))
}

fn with<R>(bytes: &[u8], look: impl FnOnce(Head<'_>) -> R) -> R {
    let mut spans = Spans::new();
    look(Head::read(bytes, &mut spans, &Limits::default()).expect("strict").expect("complete"))
}

#[test]
fn a_plain_request_is_read_into_its_parts() {
    let bytes = b"\r\nPOST /v1/orders/42?page=2&q=[a] HTTP/1.1\r\nHost: API.example.com:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\nX-Thing: \t a b \t\r\n\r\nhello";
    with(bytes, |head| {
        assert_eq!((head.method(), head.path(), head.query()), ("POST", "/v1/orders/42", Some("page=2&q=[a]")));
        assert_eq!((head.authority(), head.host()), ("API.example.com:8080", "API.example.com"));
        assert_eq!((head.framing(), head.keeps_alive(), head.expects_continue()), (Framing::Length(5), true, true));
        assert_eq!(head.fields().last().expect("a field").value, b"a b");
        assert_eq!(head.length(), bytes.len() - 5);
    });
}

#[test]
fn an_absolute_form_target_gives_path_and_scheme() {
    with(b"GET http://A.b:1?x HTTP/1.0\r\nHost: a.b:1\r\nConnection: keep-alive\r\n\r\n", |head| {
        assert_eq!((head.path(), head.query(), head.scheme()), ("/", Some("x"), Some(Scheme::Http)));
        assert_eq!((head.version(), head.keeps_alive()), (Version::Http10, true));
    });
    with(b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", |head| {
        assert_eq!((head.path(), head.host()), ("*", "[::1]"))
    });
}

/// Browsers, Node and httpx send these as they stand: whoever decides on the target writes them as `%XX`.
#[test]
fn what_senders_leave_raw_is_read_in_both_versions() {
    let target = "/a|{}^`[]?b=|{}^`[]\\";
    with(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), |head| {
        assert_eq!((head.path(), head.query()), ("/a|{}^`[]", Some("b=|{}^`[]\\")));
    });
    let assembled = assemble(target, "a", &[], true).expect("read");
    assert!(assembled.starts_with("POST /a|{}^`[] Some(\"b=|{}^`[]"), "{assembled}");
}

#[test]
fn what_is_wrong_with_a_target_is_said_with_its_place() {
    for (byte, at, words) in [
        (b'<', 3, "character 3 of the request target is `<`; write it as %3C"),
        (b' ', 3, "character 3 of the request target is a space; write it as %20"),
        (0xC3, 7, "character 7 of the request target is not ASCII; write it as %C3"),
        (0x07, 2, "character 2 of the request target is a control character; write it as %07"),
        (
            b'#',
            9,
            "character 9 of the request target is `#`, which begins a fragment, and that is never sent; write it as %23",
        ),
    ] {
        assert_eq!(HeadError::TargetByte { byte, at }.to_string(), words);
    }
}

#[test]
fn only_http_1_1_demands_a_host() {
    with(b"GET /health/ready HTTP/1.0\r\n\r\n", |head| assert_eq!((head.authority(), head.host()), ("", "")));
    with(b"GET http://a.b:1/ HTTP/1.0\r\n\r\n", |head| assert_eq!((head.host(), head.port()), ("a.b", ":1")));
    assert_eq!(read(b"GET http://a/ HTTP/1.1\r\n\r\n"), Err(HeadError::HostMissing));
    assert_eq!(assemble("/a", "", &[], true), Err(HeadError::HostMissing));
}

#[test]
fn a_host_with_a_dot_at_its_end_is_that_host() {
    for (line, host, wanted) in [
        ("GET /", "API.example.com.", ("API.example.com", "")),
        ("GET /", "api.example.com.:80", ("api.example.com", ":80")),
        ("GET http://a/", "a.", ("a", "")),
        ("GET http://A.:80/", "a:80", ("a", ":80")),
        ("GET /", "[::1]:80", ("[::1]", ":80")),
        ("GET /", "[::1]", ("[::1]", "")),
    ] {
        with(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), |head| {
            assert_eq!((head.host(), head.port()), wanted, "{line} {host}");
        });
    }
}

#[test]
fn a_websocket_upgrade_is_seen_and_h2c_is_not() {
    with(b"GET /s HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", |head| {
        assert_eq!(head.upgrade(), Some("websocket"));
    });
    with(
        b"GET /s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
        |head| assert_eq!(head.upgrade(), None),
    );
    with(b"GET /s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", |head| assert_eq!(head.upgrade(), None));
}

#[test]
fn fields_named_by_connection_are_marked() {
    with(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Gone\r\nx-gone: 1\r\nX-Stay: 1\r\n\r\n", |head| {
        let known: Vec<_> = head.fields().map(|field| field.known).collect();
        assert_eq!(known, [Known::Host, Known::Connection, Known::Nominated, Known::Other]);
        assert!(!head.keeps_alive());
    });
}

#[test]
fn names_are_known_in_every_spelling() {
    for (name, known) in [
        ("X-Original-URL", Known::TargetOverride),
        ("x-rewrite-url", Known::TargetOverride),
        ("X_Original_URL", Known::Imitation),
        ("x-http_method-override", Known::Imitation),
        ("X-HTTP-Method", Known::MethodOverride),
        ("X-Forwarded-Whatever", Known::XForwarded),
        ("POSTERN-ANYTHING", Known::Postern),
        ("Postern-Capability", Known::PosternCapability),
        ("postern_capability", Known::Imitation),
        ("Proxy", Known::Proxy),
        ("proxy-connection", Known::Proxy),
        ("Authorization", Known::Authorization),
        ("traceparent", Known::Traceparent),
        ("X-Thing", Known::Other),
        ("x_thing", Known::Punctuated),
        ("x.thing", Known::Punctuated),
        ("SCRIPT_NAME", Known::Imitation),
        ("Script-Name", Known::TargetOverride),
        ("x-envoy-original-host", Known::TargetOverride),
        ("X-Real-IP", Known::Claim),
        ("ssl-client-subject-dn", Known::Claim),
        ("Ssl_Client_Verify", Known::Imitation),
        ("x-ssl", Known::Other),
        ("remote-user", Known::Claim),
        ("Remote-Control", Known::Other),
        ("grpc-status", Known::Other),
    ] {
        assert_eq!(known::classify(name.as_bytes()), known, "{name}");
    }
}

/// Each family of HOSTILE heads, and the one reason it is refused for.
#[test]
fn hostile_requests_are_refused() {
    let h = |line: &str, rest: &str| format!("{line}\r\nHost: a\r\n{rest}\r\n");
    let get = |rest: &str| h("GET / HTTP/1.1", rest);
    let cases: Vec<(String, HeadError)> = vec![
        ("\x16\x03\x01\x02\n".into(), HeadError::NotHttp),
        (" GET / HTTP/1.1\r\n".into(), HeadError::NotHttp),
        ("\r\n\r\nGET / HTTP/1.1\r\n".into(), HeadError::NotHttp),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), HeadError::VersionNotServed),
        ("GET / HTTP/1.1\nHost: a\n\n".into(), HeadError::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".into(), HeadError::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".into(), HeadError::BareLineFeed),
        ("GET /\r\n".into(), HeadError::RequestLine),
        ("GET  / HTTP/1.1\r\n".into(), HeadError::Target),
        ("GET /a b HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b' ', at: 3 }),
        ("GET\t/ HTTP/1.1\r\n".into(), HeadError::Method),
        ("GET / HTTP/1.1 \r\n".into(), HeadError::Version),
        ("GET / http/1.1\r\n".into(), HeadError::Version),
        ("GET / HTTP/1.10\r\n".into(), HeadError::Version),
        ("GET / HTTP/01.1\r\n".into(), HeadError::Version),
        ("GET / HTTP/1.2\r\n".into(), HeadError::VersionNotServed),
        ("get / HTTP/1.1\r\n".into(), HeadError::Method),
        ("G@T / HTTP/1.1\r\n".into(), HeadError::Method),
        ("CONNECT a:80 HTTP/1.1\r\n".into(), HeadError::Connect),
        ("GET * HTTP/1.1\r\n".into(), HeadError::AsteriskTarget),
        ("GET /a#b HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b'#', at: 3 }),
        ("GET /\u{e9} HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: 0xC3, at: 2 }),
        ("GET /a?b=\"c HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b'"', at: 6 }),
        ("GET /a<b HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b'<', at: 3 }),
        ("GET http://a/b> HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b'>', at: 11 }),
        ("GET /\0 HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: 0, at: 2 }),
        ("GET /a\rb HTTP/1.1\r\n".into(), HeadError::TargetByte { byte: b'\r', at: 3 }),
        ("GET a HTTP/1.1\r\n".into(), HeadError::Target),
        ("GET ftp://a/ HTTP/1.1\r\n".into(), HeadError::Target),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)), HeadError::TargetTooLong { max: 8192 }),
        ("GET / HTTP/1.1\r\n\r\n".into(), HeadError::HostMissing),
        (get("Host: a\r\n"), HeadError::HostTwice),
        (get("HOST: a\r\n"), HeadError::HostTwice),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.0\r\nHost: \r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: .\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a..\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a..:80\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: a:8:8\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), HeadError::HostMalformed),
        ("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n".into(), HeadError::HostMalformed),
        (h("GET http://b/ HTTP/1.1", ""), HeadError::AuthorityDisagrees),
        (h("GET http://a:80/ HTTP/1.1", ""), HeadError::AuthorityDisagrees),
        (h("GET http:///x HTTP/1.1", ""), HeadError::AuthorityDisagrees),
        (get("X : y\r\n"), HeadError::FieldName),
        (get(": y\r\n"), HeadError::FieldName),
        (get("X\r\n"), HeadError::FieldName),
        (get("X\u{e9}: y\r\n"), HeadError::FieldName),
        (get("X\0: y\r\n"), HeadError::FieldName),
        (get("X: y\r\n z\r\n"), HeadError::FoldedField),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(), HeadError::FoldedField),
        (get("X: a\0b\r\n"), HeadError::FieldValue),
        (get("X: a\rb\r\n"), HeadError::FieldValue),
        (get("X: a\x7fb, and a value that is longer than a block\r\n"), HeadError::FieldValue),
        (get("X: 0123456789abcdef0123456789\x1b\r\n"), HeadError::FieldValue),
        (get("Content-Length: 1\r\nContent-Length: 1\r\n"), HeadError::ContentLengthTwice),
        (get("Content_Length: 1\r\n"), HeadError::Imitation),
        (get("Transfer_Encoding: chunked\r\n"), HeadError::Imitation),
        (get("Content-Length: 1, 1\r\n"), HeadError::ContentLength),
        (get("Content-Length: +1\r\n"), HeadError::ContentLength),
        (get("Content-Length: 01\r\n"), HeadError::ContentLength),
        (get("Content-Length: 0x1\r\n"), HeadError::ContentLength),
        (get("Content-Length: -1\r\n"), HeadError::ContentLength),
        (get("Content-Length:\r\n"), HeadError::ContentLength),
        (get("Content-Length: 12345678901234567\r\n"), HeadError::ContentLength),
        (get("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), HeadError::TwoLengths),
        (get("Content-Length: 1\r\nTransfer-Encoding: identity\r\n"), HeadError::TwoLengths),
        (get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), HeadError::TransferEncodingTwice),
        (get("Transfer-Encoding: gzip, chunked\r\n"), HeadError::TransferEncoding),
        (get("Transfer-Encoding: xchunked\r\n"), HeadError::TransferEncoding),
        (get("Transfer-Encoding: chunked,\r\n"), HeadError::TransferEncoding),
        (get("Transfer-Encoding: \r\n"), HeadError::TransferEncoding),
        (get("Transfer-Encoding: chunked;q=1\r\n"), HeadError::TransferEncoding),
        (h("GET / HTTP/1.0", "Transfer-Encoding: chunked\r\n"), HeadError::TransferEncodingVersion),
        (get("Connection: Content-Length\r\n"), HeadError::Connection),
        (get("Connection: close, Host\r\n"), HeadError::Connection),
        (get("Connection: authorization\r\n"), HeadError::Connection),
        (get("Connection: Postern-Anything\r\n"), HeadError::Connection),
        (get("Connection: X_Forwarded_For\r\n"), HeadError::Connection),
        (get("Connection: a b\r\n"), HeadError::Connection),
        (get("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"), HeadError::Upgrade),
        (get("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n"), HeadError::Upgrade),
        (get("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 3\r\n"), HeadError::Expectation),
        (get("Expect: 200-ok\r\nContent-Length: 3\r\n"), HeadError::Expectation),
        (get(&"X: y\r\n".repeat(100)), HeadError::TooManyFields { max: 100 }),
        (get(&format!("X: {}\r\n", "y".repeat(40_000))), HeadError::HeadTooLarge { max: 32_768 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(bytes.as_bytes()), Err(error), "{:?}", &bytes[..bytes.len().min(120)]);
        assert!((400..=505).contains(&error.status()), "{error}");
    }
}

#[test]
fn hostile_responses_are_refused() {
    let cases: [(&str, HeadError); 17] = [
        ("HTTP/1.1 200 OK\nContent-Length: 1\n\n", HeadError::BareLineFeed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TwoLengths),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", HeadError::ContentLengthTwice),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\n", HeadError::ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadError::TransferEncoding),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TransferEncodingVersion),
        ("HTTP/1.1 204 None\r\nContent-Length: 1\r\n\r\n", HeadError::BodyForbidden),
        ("HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::BodyForbidden),
        ("HTTP/1.1 101 Go\r\nContent-Length: 1\r\n\r\n", HeadError::BodyForbidden),
        ("HTTP/1.1 099 X\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 20 X\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 2000 X\r\n\r\n", HeadError::StatusLine),
        ("HTTP/1.1 200 a\0b\r\n\r\n", HeadError::StatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", HeadError::VersionNotServed),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::NotHttp),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", HeadError::FieldName),
        ("HTTP/1.1 200 OK\r\nX: y\r\n\tz\r\n\r\n", HeadError::FoldedField),
    ];
    for (bytes, error) in cases {
        assert_eq!(read_response(bytes.as_bytes(), "GET"), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_response_without_body_is_known_by_status_or_method() {
    for (bytes, method, framing) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD", ResponseFraming::None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", ResponseFraming::None),
        ("HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n", "GET", ResponseFraming::None),
        ("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", "GET", ResponseFraming::None),
        ("HTTP/1.1 100\r\n\r\n", "GET", ResponseFraming::None),
        ("HTTP/1.1 200 \r\nContent-Length: 7\r\n\r\n", "GET", ResponseFraming::Length(7)),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: Chunked\r\n\r\n", "GET", ResponseFraming::Chunked),
        ("HTTP/1.0 200 OK\r\n\r\n", "GET", ResponseFraming::UntilClose),
        (
            "HTTP/1.1 200 OK\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET",
            ResponseFraming::Chunked,
        ),
    ] {
        assert_eq!(read_response(bytes.as_bytes(), method), Ok(Some(framing)), "{method} {bytes:?}");
    }
}

fn assemble(target: &str, authority: &str, fields: &[(&str, &str)], ended: bool) -> Result<String, HeadError> {
    let (mut buffer, mut spans) = (Vec::new(), Spans::new());
    let parts = Parts {
        method: b"POST",
        target: target.as_bytes(),
        authority: authority.as_bytes(),
        needs_host: true,
        scheme: Scheme::Https,
        fields: fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
        protocol: None,
        ended,
    };
    let head = Head::assemble(parts, &mut buffer, &mut spans, &Limits::default())?;
    Ok(format!(
        "{} {} {:?} {} {:?} {}",
        head.method(),
        head.path(),
        head.query(),
        head.authority(),
        head.framing(),
        head.fields().len()
    ))
}

#[test]
fn decoded_http2_parts_go_through_the_same_rules() {
    assert_eq!(assemble("/a?b", "h:1", &[("x", "y")], false).as_deref(), Ok("POST /a Some(\"b\") h:1 Chunked 1"));
    assert_eq!(assemble("/a", "", &[("host", "h")], true).as_deref(), Ok("POST /a None h None 1"));
    type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], HeadError);
    let cases: [Case; 10] = [
        ("/a", "h", &[("x", "a\r\n\r\nGET /__smuggled HTTP/1.1")], HeadError::FieldValue),
        ("/a", "h", &[("x\r\ny", "a")], HeadError::FieldName),
        ("/a", "h", &[("X", "a")], HeadError::FieldName),
        ("/a b", "h", &[], HeadError::TargetByte { byte: b' ', at: 3 }),
        ("http://h/a", "h", &[], HeadError::Target),
        ("/a", "h", &[("host", "g")], HeadError::AuthorityDisagrees),
        ("/a", "h", &[("connection", "close")], HeadError::ConnectionSpecific),
        ("/a", "h", &[("te", "gzip")], HeadError::ConnectionSpecific),
        ("/a", "h", &[("proxy-connection", "close")], HeadError::ConnectionSpecific),
        ("/a", "h", &[("content-length", "1"), ("content-length", "1")], HeadError::ContentLengthTwice),
    ];
    for (target, authority, fields, error) in cases {
        assert_eq!(assemble(target, authority, fields, false), Err(error), "{target} {fields:?}");
    }
}

/// A reader after the letter of the rules and with no thought for speed: splits, copies, compares.
/// Method, target, fields and framing.
type Read = (String, String, Vec<(String, Vec<u8>)>, Framing);

fn naive(bytes: &[u8]) -> Option<Read> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let whole = bytes[..end + 2].split_inclusive(|byte| *byte == b'\n');
    let mut lines: Vec<&[u8]> = whole.map(|line| line.strip_suffix(b"\r\n").unwrap_or(line)).collect();
    if bytes[..end + 4].iter().enumerate().any(|(i, byte)| *byte == b'\n' && (i == 0 || bytes[i - 1] != b'\r')) {
        return None;
    }
    if lines.iter().any(|line| line.iter().any(|byte| (*byte < 32 && *byte != 9) || *byte == 127)) {
        return None;
    }
    let first = String::from_utf8(lines.remove(0).to_vec()).ok()?;
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else { return None };
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(b as char))
    };
    if !token(method)
        || method.bytes().any(|byte| byte.is_ascii_lowercase())
        || method.len() > 32
        || method == "CONNECT"
        || !target.starts_with('/')
    {
        return None;
    }
    let path_len = target.find('?').unwrap_or(target.len());
    let good = |text: &str, more: &str| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/%".contains(b as char) || more.contains(b as char))
    };
    if !good(&target[..path_len], "[]{}|^`\\") || !good(&target[path_len..], "?[]{}|^`\\") {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let mut value = line[colon + 1..].to_vec();
        while value.last().is_some_and(blank) {
            value.pop();
        }
        let value: Vec<u8> = value.into_iter().skip_while(blank).collect();
        if !token(name) {
            return None;
        }
        fields.push((name.to_owned(), value));
    }
    let all = |want: &str| {
        fields
            .iter()
            .filter(|(name, _)| name.to_ascii_lowercase() == want)
            .map(|(_, value)| value.clone())
            .collect::<Vec<_>>()
    };
    let framing = match (&all("content-length")[..], &all("transfer-encoding")[..], &all("host")[..]) {
        (_, _, hosts) if hosts.len() != 1 || hosts[0] != b"a" => return None,
        ([], [], _) => Framing::None,
        ([length], [], _) => {
            let text = std::str::from_utf8(length).ok()?;
            let number = text.parse::<u64>().ok()?;
            if number.to_string() != text || text.len() > 16 {
                return None;
            }
            Framing::Length(number)
        }
        ([], [coding], _) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return None,
    };
    Some((method.to_owned(), target.to_owned(), fields, framing))
}

fn agree(bytes: &[u8]) {
    let mut spans = Spans::new();
    let ours = Head::read(bytes, &mut spans, &Limits::default());
    match (naive(bytes), ours) {
        (None, Ok(None) | Err(_)) => {}
        (Some((method, target, fields, framing)), Ok(Some(head))) => {
            let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
            assert_eq!((head.method(), format!("{}{query}", head.path())), (method.as_str(), target));
            let ours: Vec<_> = head
                .fields()
                .map(|field| (String::from_utf8_lossy(field.name).into_owned(), field.value.to_vec()))
                .collect();
            assert_eq!(ours, fields);
            assert_eq!(head.framing(), framing);
        }
        (naive, ours) => panic!("naive {naive:?}, ours {ours:?}"),
    }
}

/// Heads that are mostly well formed, with a few bytes of every dangerous kind put anywhere.
fn nearly_heads() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        4 => "[a-zA-Z][a-z-]{0,12}: ?[ -~]{0,24}\r\n",
        1 => Just("Content-Length: 12\r\n".to_owned()),
        1 => "Content-Length: [0-9+x, ]{0,18}\r\n",
        1 => Just("Transfer-Encoding: chunked\r\n".to_owned()),
        1 => Just("Transfer-Encoding: ChunkED\r\n".to_owned()),
    ];
    let head = (
        prop_oneof!["GET", "POST", "[A-Za-z]{1,5}"],
        "/[a-z0-9%.?/\\[|^-]{0,12}",
        proptest::collection::vec(field, 0..5),
    )
        .prop_map(|(method, target, fields)| {
            format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", fields.concat()).into_bytes()
        });
    let nasty = proptest::sample::select(b"\r\n \t\0\x7f:;_\xe9ATX,".to_vec());
    (head, proptest::collection::vec((any::<proptest::sample::Index>(), nasty, any::<bool>()), 0..3)).prop_map(
        |(mut bytes, changes)| {
            for (index, byte, insert) in changes {
                let at = index.index(bytes.len());
                if insert { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_agrees_with_a_naive_one(bytes in nearly_heads()) {
        // The naive reader knows nothing of imitations, Connection, Upgrade and Expect; the generator rarely makes them.
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let is_outside = ["_", "\nconnection", "\nexpect", "\nupgrade"].iter().any(|word| text.contains(word));
        if is_outside || text.starts_with("\r\n") || memchr::memmem::find(&bytes, b"\r\nHost: a\r\n").is_none() {
            return Ok(());
        }
        agree(&bytes);
    }

    /// What is read from a part is "incomplete" or already the verdict on the whole: no split can change a reading.
    #[test]
    fn no_split_changes_a_reading(bytes in nearly_heads()) {
        let whole = read(&bytes);
        let mut so_far = Ok(None);
        for length in 0..=bytes.len() {
            let part = read(&bytes[..length]);
            if so_far != Ok(None) {
                prop_assert_eq!(part, so_far);
            }
            so_far = part;
        }
        prop_assert_eq!(so_far, whole);
    }

    #[test]
    fn no_bytes_stop_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read_response(&bytes, "GET");
    }
}

/// Python's `http.client` users and some Java clients write `Chunked`: names of codings know no case (RFC 9112 section 7).
#[test]
fn a_coding_is_read_in_any_case() {
    for coding in ["chunked", "Chunked", "CHUNKED"] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("good").expect("whole");
        assert_eq!(head.framing(), Framing::Chunked, "{coding}");
    }
}

/// What a service that merges trailers into the head would act on, after everything was decided without it.
#[test]
fn trailers_hold_nothing_that_decides() {
    for name in [
        "authorization",
        "Cookie",
        "Set-Cookie",
        "set_cookie",
        "WWW-Authenticate",
        "Proxy-Authenticate",
        "Range",
        "Content-Range",
        "content-type",
        "Content-Encoding",
        "Content-Location",
        "Expect",
        "If-Match",
        "If-Range",
        "Cache-Control",
        "Vary",
        "Location",
        "Max-Forwards",
        "Accept",
        "Accept-Encoding",
        "Date",
        "Age",
        "TE",
        "Trailer",
        "Via",
        "Origin",
        "Forwarded",
        "X-Forwarded-For",
        "X-Real-IP",
        "X-HTTP-Method-Override",
        "Destination",
        "Sec-WebSocket-Protocol",
        "Access-Control-Allow-Origin",
    ] {
        assert!(!known::may_trail(known::classify(name.as_bytes()), name.as_bytes()), "{name}");
    }
    for name in
        ["grpc-status", "grpc-message", "Server-Timing", "Content-Digest", "ETag", "X-Sum", "Authentication-Info"]
    {
        assert!(known::may_trail(known::classify(name.as_bytes()), name.as_bytes()), "{name}");
    }
}

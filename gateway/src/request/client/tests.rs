//! Where messages come from, by what stands in their fields.

use super::*;
use crate::config::AddressBlock;
use crate::head::Spans;
use crate::limits::Limits;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn peer(address: &str) -> Peer {
    Peer { address: ip(address), is_introduced: false, scheme: Scheme::Http, server_name: None, client_cert: None }
}

/// What is made of the fields of a message from a peer, while `10.0.0.0/8` is trusted by these fields.
fn from<R>(
    peer: &Peer,
    trusted: &TrustedFields,
    fields: &str,
    test: impl FnOnce(Result<Origin<'_>, Refused>) -> R,
) -> R {
    let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let mut spans = Spans::new();
    let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("complete");
    let proxies = TrustedProxies(vec![AddressBlock::parse("10.0.0.0/8").expect("a block")]);
    test(Origin::of(&head, peer, &proxies, trusted))
}

fn client(trusted: &TrustedFields, fields: &str) -> IpAddr {
    from(&peer("10.0.0.1"), trusted, fields, |origin| origin.expect("read").client)
}

fn forwarded() -> TrustedFields {
    TrustedFields::of(&[TrustedField::Forwarded])
}

fn with(more: &[TrustedField]) -> TrustedFields {
    TrustedFields::of(&[&[TrustedField::XForwardedFor, TrustedField::XForwardedProto], more].concat())
}

/// Every field that says something of the client, made up.
const EVERYTHING: &str = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.8;proto=https;host=evil\r\nX-Real-IP: 192.0.2.9\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\n";

#[test]
fn nobody_but_a_trusted_proxy_is_believed() {
    let everything =
        with(&[TrustedField::XForwardedHost, TrustedField::XForwardedPort, TrustedField::XForwardedPrefix]);
    for fields in [&everything, &forwarded()] {
        from(&peer("203.0.113.9"), fields, EVERYTHING, |origin| {
            assert_eq!(origin.expect("read"), Origin::peer(ip("203.0.113.9")));
        });
    }
}

#[test]
fn a_form_that_is_not_named_decides_nothing() {
    from(&peer("10.0.0.1"), &TrustedFields::default(), EVERYTHING, |origin| {
        let origin = origin.expect("read");
        assert_eq!((origin.client, origin.scheme), (ip("192.0.2.7"), Some(Scheme::Https)));
        assert_eq!((origin.authority, origin.port, origin.prefix), (None, None, ""));
    });
    from(&peer("10.0.0.1"), &forwarded(), EVERYTHING, |origin| {
        let origin = origin.expect("read");
        assert_eq!((origin.client, origin.authority, origin.port), (ip("192.0.2.8"), Some(("evil", "")), None));
    });
    from(&peer("10.0.0.1"), &TrustedFields::of(&[]), EVERYTHING, |origin| {
        assert_eq!(origin.expect("read"), Origin::peer(UNKNOWN));
    });
    // What is not read may be as broken as it likes.
    assert_eq!(client(&TrustedFields::default(), "Forwarded: for=\"\r\nX-Forwarded-Port: x\r\n"), UNKNOWN);
    assert_eq!(
        client(&forwarded(), "Forwarded: for=192.0.2.7\r\nX-Forwarded-For: x\r\nX-Forwarded-Proto: x\r\n"),
        ip("192.0.2.7")
    );
}

/// The proxy itself would be a client whose address caveats of everybody behind it name.
#[test]
fn whom_a_trusted_proxy_does_not_name_is_nobody() {
    for fields in ["", "X-Real-IP: 192.0.2.7\r\n", "Forwarded: for=192.0.2.7\r\n", "X-Forwarded-Proto: https\r\n"] {
        assert_eq!(client(&TrustedFields::default(), fields), UNKNOWN, "{fields}");
    }
    for fields in [
        "",
        "X-Forwarded-For: 192.0.2.7\r\n",
        "Forwarded: proto=https\r\n",
        "Forwarded:\r\n",
        "Forwarded: for=192.0.2.7,\r\n",
    ] {
        assert_eq!(client(&forwarded(), fields), UNKNOWN, "{fields}");
    }
}

#[test]
fn a_header_of_the_proxy_protocol_names_the_client() {
    let introduced = |address| Peer { is_introduced: true, ..peer(address) };
    let client =
        |peer: &Peer, fields| from(peer, &TrustedFields::default(), fields, |origin| origin.expect("read").client);
    assert_eq!(client(&introduced("10.0.0.1"), ""), ip("10.0.0.1"), "a proxy's own health check");
    assert_eq!(client(&introduced("10.0.0.1"), "X-Forwarded-For: 192.0.2.7\r\n"), ip("192.0.2.7"));
    assert_eq!(client(&introduced("::"), "X-Forwarded-For: 192.0.2.7\r\n"), UNKNOWN, "a client whom it does not know");
    // Not even where every address is a trusted proxy's.
    let everywhere = TrustedProxies(vec![AddressBlock::parse("::/0").expect("a block")]);
    let bytes = b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    let mut spans = Spans::new();
    let head = Head::read(bytes, &mut spans, &Limits::default()).expect("strict").expect("complete");
    let origin = Origin::of(&head, &introduced("::"), &everywhere, &TrustedFields::default());
    assert_eq!(origin.expect("read").client, UNKNOWN);
}

#[test]
fn the_right_most_untrusted_hop_is_the_client() {
    for (fields, expected) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For: 10.9.9.9\r\n", "10.9.9.9"),
        ("X-Forwarded-For: 192.0.2.7, unknown\r\n", "::"),
        ("X-Forwarded-For: 192.0.2.7, unknown, 10.1.1.1\r\n", "::"),
        ("X-Forwarded-For: 10.2.2.2, _hidden\r\nX-Forwarded-For: 10.1.1.1\r\n", "::"),
        ("X-Forwarded-For: unknown, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7"),
        ("X-Forwarded-For: [2001:db8::7]:4711\r\n", "2001:db8::7"),
        ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", "192.0.2.7"),
        ("X-Forwarded-For:\r\n", "::"),
    ] {
        assert_eq!(client(&TrustedFields::default(), fields), ip(expected), "{fields}");
    }
    for (fields, expected) in [
        ("Forwarded: for=192.0.2.7\r\n", "192.0.2.7"),
        ("Forwarded: for=198.51.100.1, for=192.0.2.7, for=\"10.1.1.1:80\"\r\n", "192.0.2.7"),
        ("Forwarded: for=198.51.100.1\r\nForwarded: for=192.0.2.7\r\n", "192.0.2.7"),
        ("Forwarded: for=192.0.2.7, for=unknown\r\n", "::"),
        ("Forwarded: for=192.0.2.7, proto=http, for=10.1.1.1\r\n", "::"),
        ("Forwarded: for=_hidden, for=10.1.1.1\r\n", "::"),
        ("Forwarded: for=\"[::ffff:192.0.2.7]\"\r\n", "192.0.2.7"),
    ] {
        assert_eq!(client(&forwarded(), fields), ip(expected), "{fields}");
    }
}

#[test]
fn the_chain_ends_with_the_client() {
    let before = |trusted: &TrustedFields, fields: &str| {
        from(&peer("10.0.0.1"), trusted, fields, |origin| origin.expect("read").before)
    };
    let chain = before(&TrustedFields::default(), "X-Forwarded-For: bad, 198.51.100.1, 192.0.2.7, 10.1.1.1\r\n");
    assert_eq!(chain, [ip("198.51.100.1")]);
    let chain = before(&TrustedFields::default(), "X-Forwarded-For: 198.51.100.1, unknown, 10.1.1.1\r\n");
    assert!(chain.is_empty(), "who is unknown has no chain before it");
    let chain = before(&forwarded(), "Forwarded: for=198.51.100.1, for=192.0.2.7\r\nX-Forwarded-For: 1.1.1.1\r\n");
    assert_eq!(chain, [ip("198.51.100.1")]);
}

/// The hop that named the client is the one that saw how it came.
#[test]
fn scheme_host_and_port_are_the_word_of_the_hop_that_named_the_client() {
    let all = with(&[TrustedField::XForwardedHost, TrustedField::XForwardedPort]);
    let said = |trusted: &TrustedFields, fields: &str| {
        from(&peer("10.0.0.1"), trusted, fields, |origin| {
            let origin = origin.expect("read");
            (
                origin.scheme,
                origin.authority.map(|(host, port)| format!("{host}{port}")),
                origin.port.map(str::to_owned),
            )
        })
    };
    let https = Some(Scheme::Https);
    let (one, two) = ("X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-For: 192.0.2.7, 10.1.1.1\r\n");
    for (fields, expected) in [
        (format!("{one}X-Forwarded-Proto: http, https\r\n"), (https, None, None)),
        (format!("{one}X-Forwarded-Proto: http\r\nX-Forwarded-Proto: HTTPS\r\n"), (https, None, None)),
        (format!("{one}X-Forwarded-Proto: wss\r\n"), (https, None, None)),
        (format!("{two}X-Forwarded-Proto: http, https, http\r\n"), (https, None, None)),
        (format!("{two}X-Forwarded-Proto: https\r\n"), (https, None, None)),
        (
            format!("{two}X-Forwarded-Host: evil, a.example:8443, inner\r\n"),
            (None, Some("a.example:8443".to_owned()), None),
        ),
        (
            format!("{one}X-Forwarded-Host: [2001:db8::1]:1\r\nX-Forwarded-Port: 8443\r\n"),
            (None, Some("[2001:db8::1]:1".to_owned()), Some("8443".to_owned())),
        ),
    ] {
        assert_eq!(said(&all, &fields), expected, "{fields}");
    }
    let element = "Forwarded: for=192.0.2.7;proto=http;host=evil, for=192.0.2.8;proto=https;host=\"a.example:1\", for=10.1.1.1;host=inner\r\n";
    assert_eq!(said(&forwarded(), element), (https, Some("a.example:1".to_owned()), None));
    let both = TrustedFields::of(&[TrustedField::Forwarded, TrustedField::XForwardedHost]);
    let beside = "Forwarded: for=192.0.2.8\r\nX-Forwarded-Host: a.example\r\n";
    assert_eq!(said(&both, beside).1.as_deref(), Some("a.example"));
}

#[test]
fn a_prefix_is_one_canonical_path() {
    let fields = with(&[TrustedField::XForwardedPrefix]);
    let prefix =
        |said: &str| from(&peer("10.0.0.1"), &fields, said, |origin| origin.map(|origin| origin.prefix.to_owned()));
    for (said, expected) in [
        ("", ""),
        ("X-Forwarded-Prefix: /\r\n", ""),
        ("X-Forwarded-Prefix: /api\r\n", "/api"),
        ("X-Forwarded-Prefix: /api/v1/\r\n", "/api/v1"),
    ] {
        assert_eq!(prefix(said).expect("read"), expected, "{said}");
    }
    for said in
        ["", "api", "/a/../b", "/a//b", "/%61", "/a,/b", "/a, /b", "http://x/", "/a?b", "/a\r\nX-Forwarded-Prefix: /a"]
    {
        let refused = prefix(&format!("X-Forwarded-Prefix: {said}\r\n"));
        assert!(matches!(refused, Err(Refused::UnreadableOrigin(_))), "{said}");
    }
}

#[test]
fn what_is_named_and_cannot_be_read_is_refused() {
    let all = with(&[TrustedField::XForwardedHost, TrustedField::XForwardedPort]);
    for said in [
        "X-Forwarded-Proto: ftp",
        "X-Forwarded-Proto:",
        "X-Forwarded-Proto: https, on",
        "X-Forwarded-Host: a b",
        "X-Forwarded-Host: user@a.example",
        "X-Forwarded-Host: a.example:http",
        "X-Forwarded-Host:",
        "X-Forwarded-Port: 0",
        "X-Forwarded-Port: 0443",
        "X-Forwarded-Port: 65536",
        "X-Forwarded-Port: +1",
        "X-Forwarded-Port:",
    ] {
        let refused = from(&peer("10.0.0.1"), &all, &format!("{said}\r\n"), |origin| origin.map(|_| ()));
        assert!(matches!(refused, Err(Refused::UnreadableOrigin(_))), "{said}");
    }
    let beside =
        TrustedFields::of(&[TrustedField::Forwarded, TrustedField::XForwardedHost, TrustedField::XForwardedProto]);
    for said in [
        "Forwarded: for=\"192.0.2.7",
        "Forwarded: for=192.0.2.7;proto=gopher",
        "Forwarded: for=192.0.2.7;host=\"a b\"",
        "Forwarded: for=192.0.2.7;host=a\r\nX-Forwarded-Host: b",
        "Forwarded: for=192.0.2.7;proto=http\r\nX-Forwarded-Proto: https",
        // What a client wrote before it is broken as well: its end cannot be told.
        "Forwarded: for=\"x\r\nForwarded: for=192.0.2.7",
    ] {
        let refused = from(&peer("10.0.0.1"), &beside, &format!("{said}\r\n"), |origin| origin.map(|_| ()));
        assert!(matches!(refused, Err(Refused::UnreadableOrigin(_))), "{said}");
    }
}

//! Requests that RFC 9113 section 8 calls malformed, or that HTTP/1.1 behind the gateway would read differently, sent as
//! raw frames: none of them reaches the service, whatever token it carries.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::harness::{Gate, Service, local, ok};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK without any compression: each field a literal that is never indexed (RFC 7541 section 6.2.2).
pub(super) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let text = |bytes: &mut Vec<u8>, text: &str| {
        match text.len() {
            length @ 0..127 => bytes.push(length as u8),
            length => {
                bytes.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.as_bytes());
    };
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// What the gateway answers on stream 1, as the first byte of its header block or the kind of frame that ends it.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// HEADERS; 0x88 is `:status 200`.
    Head(u8),
    Reset,
    Goaway,
    Closed,
}

async fn answer(wire: &mut DuplexStream) -> Answer {
    loop {
        let mut head = [0; 9];
        if wire.read_exact(&mut head).await.is_err() {
            return Answer::Closed;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if wire.read_exact(&mut payload).await.is_err() {
            return Answer::Closed;
        }
        match (head[3], head[8]) {
            (HEADERS, 1) => return Answer::Head(payload[0]),
            (RST_STREAM, 1) => return Answer::Reset,
            (GOAWAY, _) => return Answer::Goaway,
            _ => {}
        }
    }
}

/// Sends one request and says what came back, and whether the service saw anything whole.
async fn attempt(fields: &[(&str, &str)], data: Option<&str>) -> (Answer, Vec<String>) {
    let (service, upstream) = Service::start(|_| ok("")).await;
    let gate = Gate::before(&upstream);
    let authorization = format!("Bearer {}", gate.token);
    let (mut wire, _served) = gate.wire();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let mut fields = fields.to_vec();
    fields.push(("authorization", &authorization));
    let flags = if data.is_none() { END_HEADERS | END_STREAM } else { END_HEADERS };
    bytes.extend(frame(HEADERS, flags, 1, &header_block(&fields)));
    if let Some(data) = data {
        bytes.extend(frame(DATA, END_STREAM, 1, data.as_bytes()));
    }
    wire.write_all(&bytes).await.expect("written");
    let answer = answer(&mut wire).await;
    let seen = service.seen.borrow().clone();
    (answer, seen)
}

const METHOD: (&str, &str) = (":method", "GET");
const POST: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "gate.example");
const PATH: (&str, &str) = (":path", "/orders");

/// Without this, everything below could pass for the wrong reason.
#[tokio::test]
async fn the_raw_client_is_understood_when_it_asks_properly() {
    local(async {
        let (get, seen) = attempt(&[METHOD, SCHEME, AUTHORITY, PATH], None).await;
        assert_eq!((get, seen.len()), (Answer::Head(0x88), 1));
        let (post, seen) = attempt(&[POST, SCHEME, AUTHORITY, PATH, ("content-length", "5")], Some("hello")).await;
        assert_eq!((post, seen.len()), (Answer::Head(0x88), 1));
        let (host, seen) = attempt(&[METHOD, SCHEME, PATH, ("host", "gate.example")], None).await;
        assert_eq!((host, seen.len()), (Answer::Head(0x88), 1), "Host may stand for :authority");
    })
    .await;
}

#[tokio::test]
async fn a_malformed_head_reaches_nobody() {
    local(async {
        let whole = [METHOD, SCHEME, AUTHORITY, PATH];
        let with = |field: (&'static str, &'static str)| [whole.to_vec(), vec![field]].concat();
        let instead = |field: (&'static str, &'static str)| {
            whole.iter().map(|own| if own.0 == field.0 { field } else { *own }).collect::<Vec<_>>()
        };
        let without = |name: &str| whole.iter().filter(|own| own.0 != name).copied().collect::<Vec<_>>();
        let smuggled = "a\r\n\r\nGET /__smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
        let cases = [
            // Bytes that HTTP/1.1 would read as something else.
            with(("x-a", smuggled)),
            with(("x-a", "a\nb")),
            with(("x-a", "a\rb")),
            with(("x-a", "a\0b")),
            with(("x-a", " leading")),
            with(("x-a\r\nx-b", "a")),
            with(("x-a: b", "a")),
            with(("x a", "a")),
            with(("", "a")),
            with(("X-A", "upper case")),
            instead((":path", "/orders HTTP/1.1\r\nx: y")),
            instead((":path", "/orders\r\n\r\nGET /__smuggled HTTP/1.1")),
            instead((":path", "/orders /x")),
            instead((":path", "/orders\u{7f}")),
            instead((":path", "/ordérs")),
            instead((":method", "GET /x HTTP/1.1\r\nx:")),
            instead((":method", "get")),
            instead((":authority", "gate.example\r\nx: y")),
            instead((":authority", "somebody@gate.example")),
            instead((":authority", "gate.example/orders")),
            instead((":authority", "")),
            // Fields of an HTTP/1 connection (section 8.2.2).
            with(("connection", "close")),
            with(("connection", "authorization")),
            with(("keep-alive", "timeout=5")),
            with(("proxy-connection", "keep-alive")),
            with(("transfer-encoding", "chunked")),
            with(("upgrade", "h2c")),
            with(("te", "gzip")),
            // Pseudo-fields (section 8.3).
            without(":method"),
            without(":scheme"),
            without(":path"),
            without(":authority"),
            instead((":path", "")),
            instead((":path", "orders")),
            instead((":path", "*")),
            instead((":path", "http://gate.example/orders")),
            instead((":scheme", "ftp")),
            with((":path", "/orders/2")),
            with((":status", "200")),
            with((":unknown", "x")),
            with((":protocol", "websocket")),
            [vec![("x-a", "b")], whole.to_vec()].concat(),
            instead((":method", "CONNECT")),
            // Two hosts, or two that disagree.
            with(("host", "other.example")),
            with(("host", "gate.example:81")),
            [without(":authority"), vec![("host", "gate.example"), ("host", "gate.example")]].concat(),
            // Lengths.
            with(("content-length", "5")),
            with(("content-length", "-1")),
            with(("content-length", "0, 0")),
            // Paths in more than one reading.
            instead((":path", "/orders/../admin")),
            instead((":path", "/orders/%2e%2e/admin")),
            instead((":path", "/orders//x")),
            instead((":path", "/orders/%00")),
            instead((":path", "/orders/%2fx")),
            instead((":path", "/orders\\x")),
        ];
        for fields in cases {
            let (answer, seen) = attempt(&fields, None).await;
            assert_ne!(answer, Answer::Head(0x88), "{fields:?}");
            assert!(seen.is_empty(), "{fields:?} reached the service as {seen:?}");
        }
    })
    .await;
}

/// `content-length` and the sum of the DATA frames are one number (section 8.1.1): a difference would be a second request
/// to whoever reads HTTP/1.1 behind.
#[tokio::test]
async fn a_length_that_is_not_the_bodys_reaches_nobody() {
    local(async {
        for lengths in
            [&["3"][..], &["7"], &["0"], &["05"], &["+5"], &["5", "5"], &["5", "6"], &["5, 5"], &["0x5"], &[""]]
        {
            let mut fields = vec![POST, SCHEME, AUTHORITY, PATH];
            fields.extend(lengths.iter().map(|length| ("content-length", *length)));
            let (answer, seen) = attempt(&fields, Some("hello")).await;
            assert_ne!(answer, Answer::Head(0x88), "{lengths:?}");
            assert!(seen.is_empty(), "{lengths:?} reached the service as {seen:?}");
        }
    })
    .await;
}

/// Rapid reset (CVE-2023-44487): streams that are opened and reset at once end the connection, not the worker.
#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    local(async {
        let (_service, upstream) = Service::start(|_| ok("")).await;
        let gate = Gate::before(&upstream);
        let (mut wire, served) = gate.wire();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        let block = header_block(&[METHOD, SCHEME, AUTHORITY, PATH]);
        for stream in (1..2001).step_by(2) {
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block));
            bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        // The gateway may hang up before it has read everything.
        let _ = wire.write_all(&bytes).await;
        let mut everything = Vec::new();
        let _ = wire.read_to_end(&mut everything).await;
        served.await.expect("the connection ended");
        let mut client = gate.client().await;
        assert_eq!(client.get("/orders").await.0.status, 200, "others are served");
    })
    .await;
}

#[tokio::test]
async fn a_header_list_beyond_its_limit_reaches_nobody() {
    local(async {
        let long = "x".repeat(20 * 1024);
        let (answer, seen) = attempt(&[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", &long[..15 * 1024])], None).await;
        assert_eq!((answer, seen.len()), (Answer::Head(0x88), 1));
        // A frame has at most 16 KiB: two thirds of the list in one field, the rest in many.
        let mut fields = vec![METHOD, SCHEME, AUTHORITY, PATH];
        fields.extend((0..200).map(|_| ("x-a", "b")));
        let (answer, seen) = attempt(&fields, None).await;
        assert_ne!(answer, Answer::Head(0x88));
        assert!(seen.is_empty());
    })
    .await;
}

//! The PROXY protocol, versions 1 and 2: who the client is, said by a proxy in front before the first byte of TLS or HTTP.
//!
//! Only peers among `trusted_proxies` are asked, and they must say it: a connection of theirs without a header, or with one
//! that is not exactly as HAProxy's `proxy-protocol.txt` has it, is closed. From anybody else such a header is just not
//! HTTP. Nothing behind the header is read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;

use crate::limits::PROXY_HEADER_BYTES_MAX;

/// What a version 2 header begins with: bytes that no other protocol sends first.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What a version 1 header begins with.
const WORD: &[u8] = b"PROXY ";
/// The longest version 1 header, its CRLF included.
const LINE_BYTES_MAX: usize = 107;
/// Version 2 up to its addresses: signature, version and command, family and transport, length.
const HEAD_BYTES: usize = 16;

/// A header that is not one, or that says what no proxy of TCP says.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a trusted proxy's connection does not begin with a PROXY protocol header: {0}")]
pub(super) struct Malformed(&'static str);

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Whom a header introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introduced {
    /// A client at this address.
    Client(SocketAddr),
    /// The proxy itself, which has no client then: a health check.
    Itself,
    /// A client whose address the proxy does not know.
    Nobody,
}

/// Takes the header off a connection.
///
/// # Errors
/// There is none, or it is malformed; or the connection ended.
pub(super) async fn take(stream: &mut TcpStream) -> io::Result<Introduced> {
    let mut head = [0; HEAD_BYTES];
    // Both versions are longer than this, and it tells them apart.
    stream.read_exact(&mut head[..SIGNATURE.len()]).await?;
    if head.starts_with(SIGNATURE) {
        stream.read_exact(&mut head[SIGNATURE.len()..]).await?;
        let (length, what) = v2_head(&head)?;
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return Ok(v2_rest(what, &rest)?);
    }
    if !head.starts_with(WORD) {
        return Err(Malformed("it has neither version's first bytes").into());
    }
    let mut line = head[..SIGNATURE.len()].to_vec();
    while !line.ends_with(b"\n") {
        let news = more_of_line(stream, LINE_BYTES_MAX - line.len()).await?;
        line.extend_from_slice(&news);
    }
    Ok(v1(&line)?)
}

/// Some more bytes of a line, up to its end and never beyond it.
async fn more_of_line(stream: &mut TcpStream, room: usize) -> io::Result<Vec<u8>> {
    if room == 0 {
        return Err(Malformed("its line is longer than 107 bytes").into());
    }
    let mut seen = vec![0; room];
    stream.ready(Interest::READABLE).await?;
    let length = stream.peek(&mut seen).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    seen.truncate(memchr::memchr(b'\n', &seen[..length]).map_or(length, |end| end + 1));
    stream.read_exact(&mut seen).await?;
    Ok(seen)
}

/// Reads `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443` with its CRLF.
fn v1(line: &[u8]) -> Result<Introduced, Malformed> {
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed("its line does not end in CRLF"))?;
    let text = std::str::from_utf8(line).map_err(|_| Malformed("its line is not ASCII"))?;
    let text = text.strip_prefix("PROXY ").ok_or(Malformed("it does not begin with PROXY"))?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Introduced::Nobody);
    }
    let words: Vec<&str> = text.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return Err(Malformed("its line has not six words"));
    };
    let (source, _) = match family {
        "TCP4" => (IpAddr::V4(address(source)?), IpAddr::V4(address(destination)?)),
        "TCP6" => (IpAddr::V6(address(source)?), IpAddr::V6(address(destination)?)),
        _ => return Err(Malformed("its family is neither TCP4 nor TCP6")),
    };
    let port = port(source_port)?;
    self::port(destination_port)?;
    Ok(Introduced::Client(SocketAddr::new(source, port)))
}

fn address<A: FromStr>(text: &str) -> Result<A, Malformed> {
    text.parse().map_err(|_| Malformed("an address of its line is none"))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let is_plain =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain).ok_or(Malformed("a port of its line is none"))
}

/// What a version 2 header is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The proxy's own connection.
    Proxy,
    /// A client's, over a transport of this many address bytes.
    Client(Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Unknown,
    Ipv4,
    Ipv6,
    Unix,
}

/// The length of what follows, and what it is about.
fn v2_head(head: &[u8; HEAD_BYTES]) -> Result<(usize, About), Malformed> {
    let (command, transport) = (head[12], head[13]);
    let length = u16::from_be_bytes([head[14], head[15]]);
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(Malformed("it is longer than any proxy makes one"));
    }
    let about = match (command, transport) {
        // Of a connection of the proxy's own the rest is skipped, whatever it is.
        (0x20, _) => About::Proxy,
        (0x21, 0x00) => About::Client(Family::Unknown),
        (0x21, 0x11) => About::Client(Family::Ipv4),
        (0x21, 0x21) => About::Client(Family::Ipv6),
        (0x21, 0x31) => About::Client(Family::Unix),
        (0x21, _) => return Err(Malformed("its family and transport are not a stream's")),
        _ => return Err(Malformed("its version or command is unknown")),
    };
    Ok((usize::from(length), about))
}

/// Whom it introduces, of what follows the head: addresses, then type-length-value entries.
fn v2_rest(about: About, rest: &[u8]) -> Result<Introduced, Malformed> {
    let About::Client(family) = about else { return Ok(Introduced::Itself) };
    let short = Malformed("its addresses are cut short");
    let (client, entries) = match family {
        // Nothing is known of such a header's rest, not even that it has entries.
        Family::Unknown => return Ok(Introduced::Nobody),
        Family::Ipv4 => {
            let (addresses, entries) = rest.split_first_chunk::<12>().ok_or(short)?;
            let [a, b, c, d, .., high, low, _, _] = *addresses;
            let client = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low]));
            (Introduced::Client(client), entries)
        }
        Family::Ipv6 => {
            let (addresses, entries) = rest.split_first_chunk::<36>().ok_or(short)?;
            let (source, _) = addresses.split_first_chunk::<16>().ok_or(Malformed("its addresses are cut short"))?;
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            (Introduced::Client(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(*source)), port)), entries)
        }
        Family::Unix => (Introduced::Nobody, rest.get(216..).ok_or(short)?),
    };
    are_entries(entries).then_some(client).ok_or(Malformed("its entries do not fill its length"))
}

/// Whether these are entries to their end: a type, a length, and that many bytes each.
fn are_entries(mut entries: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = entries {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        entries = next;
    }
    entries.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn v2(command: u8, transport: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE.as_slice(), &[command, transport], &length, rest].concat()
    }

    fn ipv4() -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 1][..], &56324u16.to_be_bytes(), &443u16.to_be_bytes()].concat()
    }

    fn ipv6() -> Vec<u8> {
        let source = "2001:db8::7".parse::<Ipv6Addr>().expect("an address").octets();
        [&source[..], &[0; 16], &1u16.to_be_bytes(), &2u16.to_be_bytes()].concat()
    }

    /// What is made of bytes that come in pieces of this length, and what is left behind them.
    async fn taken(bytes: &[u8], piece: usize) -> (Result<Introduced, io::ErrorKind>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut far = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        far.set_nodelay(true).expect("set");
        let (mut near, _) = listener.accept().await.expect("accepted");
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            for piece in bytes.chunks(piece) {
                if far.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            // Dropped here: what was not sent is the end.
        });
        let result = take(&mut near).await.map_err(|error| error.kind());
        let mut left = Vec::new();
        if result.is_ok() {
            near.read_to_end(&mut left).await.expect("the rest");
        }
        drop(near);
        writing.await.expect("written");
        (result, left)
    }

    #[tokio::test]
    async fn both_versions_are_read_however_they_arrive_and_nothing_behind_them() {
        let cases = [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), Introduced::Client(at("192.0.2.1:56324"))),
            (b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n".to_vec(), Introduced::Client(at("[2001:db8::7]:1"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), Introduced::Nobody),
            (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f 65535 65535\r\n".to_vec(), Introduced::Nobody),
            (v2(0x21, 0x11, &ipv4()), Introduced::Client(at("192.0.2.1:56324"))),
            (v2(0x21, 0x11, &[&ipv4()[..], &[4, 0, 3, 0, 0, 0]].concat()), Introduced::Client(at("192.0.2.1:56324"))),
            (v2(0x21, 0x21, &ipv6()), Introduced::Client(at("[2001:db8::7]:1"))),
            (v2(0x21, 0x31, &[0; 216]), Introduced::Nobody),
            (v2(0x21, 0x00, b"anything"), Introduced::Nobody),
            (v2(0x20, 0x00, &[]), Introduced::Itself),
            (v2(0x20, 0x11, b"what a health check says"), Introduced::Itself),
        ];
        for (header, expected) in cases {
            for piece in [1, 5, 4096] {
                let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
                let shown = String::from_utf8_lossy(&header).into_owned();
                assert_eq!(taken(&bytes, piece).await, (Ok(expected), b"GET / HTTP/1.1\r\n".to_vec()), "{shown}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_exactly_one_is_refused() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat();
        let cases: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"proxy tcp4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n".to_vec(),
            b"PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY UNKNOWNS\r\n".to_vec(),
            long,
            v2(0x11, 0x11, &ipv4()),
            v2(0x22, 0x11, &ipv4()),
            v2(0x21, 0x12, &ipv4()),
            v2(0x21, 0x41, &ipv4()),
            v2(0x21, 0x11, &ipv4()[..11]),
            v2(0x21, 0x21, &ipv4()),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x11, &[&ipv4()[..], &[4, 0]].concat()),
            v2(0x21, 0x11, &[&ipv4()[..], &[4, 0, 9, 0]].concat()),
            v2(0x21, 0x11, &vec![0; usize::from(PROXY_HEADER_BYTES_MAX) + 1]),
        ];
        for bytes in cases {
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(taken(&bytes, 4096).await.0, Err(io::ErrorKind::InvalidData), "{shown}");
        }
        for cut in [&b"PROXY"[..], b"PROXY TCP4 192.0.2", &v2(0x21, 0x11, &ipv4())[..20]] {
            assert_eq!(taken(cut, 4096).await.0, Err(io::ErrorKind::UnexpectedEof));
        }
    }

    proptest! {
        #[test]
        fn every_address_is_read_back(source: [u8; 16], port: u16, is_v4: bool, entries in prop::collection::vec(any::<u8>(), 0..300)) {
            let entry = [&[0xE0][..], &u16::try_from(entries.len()).expect("short").to_be_bytes(), &entries].concat();
            let (source, rest, transport, word) = if is_v4 {
                let four = [source[0], source[1], source[2], source[3]];
                (IpAddr::from(four), [&four[..], &[0; 4], &port.to_be_bytes(), &[0; 2]].concat(), 0x11, "TCP4")
            } else {
                (IpAddr::from(source), [&source[..], &[0; 16], &port.to_be_bytes(), &[0; 2]].concat(), 0x21, "TCP6")
            };
            let expected = Introduced::Client(SocketAddr::new(source, port));
            let bytes = v2(0x21, transport, &[rest, entry].concat());
            let (length, about) = v2_head(bytes[..16].try_into().expect("a head")).expect("a head");
            prop_assert_eq!(length, bytes.len() - 16);
            prop_assert_eq!(v2_rest(about, &bytes[16..]), Ok(expected));
            prop_assert_eq!(v1(format!("PROXY {word} {source} {source} {port} 1\r\n").as_bytes()), Ok(expected));
        }

        /// Whatever comes, it is read or refused.
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 16..400)) {
            let _ = v1(&bytes);
            if let Ok((_, about)) = v2_head(bytes[..16].try_into().expect("a head")) {
                let _ = v2_rest(about, &bytes[16..]);
            }
        }
    }
}

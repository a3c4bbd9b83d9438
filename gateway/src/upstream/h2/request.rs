//! The permitted head as HTTP/2 says it.
//!
//! [`compose`](crate::request::forward::compose) writes one form of a head, HTTP/1.1's. Its lines are exact (`name: value`,
//! each byte of them checked before), so taking them apart again leaves nothing to interpretation, and what was permitted
//! is what goes up (law 4). What belongs to an HTTP/1 connection stays behind (RFC 9113 section 8.2.2).

use h2::ext::Protocol;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use crate::head::known::classify;
use crate::head::{Field, Known};
use crate::upstream::call::Failure;

/// Takes a serialised head apart. One that asks for a switch becomes extended CONNECT (RFC 8441 section 4), which is what
/// `GET` with `Upgrade` is in HTTP/1.1; a key, which only proves that HTTP/1.1 was understood, stays behind.
pub(super) fn request(head: &[u8], scheme: Scheme) -> Result<Request<()>, Failure> {
    let mut lines = lines(head);
    let (method, target) = lines.next().and_then(request_line).ok_or(Failure::Unsendable("its first line"))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Failure::Unsendable("its method"))?;
    *request.version_mut() = Version::HTTP_2;
    let (mut authority, mut protocol) = (None, None);
    for line in lines {
        let (name, value) = field_line(line).ok_or(Failure::Unsendable("a field line"))?;
        match classify(name) {
            Known::Host => authority = Some(value),
            Known::Upgrade => protocol = Some(value),
            _ => append(request.headers_mut(), name, value)?,
        }
    }
    if let Some(protocol) = protocol {
        switch(&mut request, protocol)?;
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority =
        Some(Authority::try_from(authority.unwrap_or_default()).map_err(|_| Failure::Unsendable("its host"))?);
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Failure::Unsendable("its target"))?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::Unsendable("its target"))?;
    Ok(request)
}

fn switch(request: &mut Request<()>, protocol: &[u8]) -> Result<(), Failure> {
    let protocol = std::str::from_utf8(protocol).map_err(|_| Failure::Unsendable("the protocol that it asks for"))?;
    // There is room for one method.
    if request.method() != Method::GET {
        return Err(Failure::Unsendable("it would switch protocols with another method than GET"));
    }
    *request.method_mut() = Method::CONNECT;
    request.headers_mut().remove("sec-websocket-key");
    request.extensions_mut().insert(Protocol::from(protocol));
    Ok(())
}

/// Whether a request is extended CONNECT.
pub(super) fn is_switch(request: &Request<()>) -> bool {
    request.extensions().get::<Protocol>().is_some()
}

/// Trailers as HTTP/2 sends them.
pub(super) fn trailers<'f>(fields: impl Iterator<Item = Field<'f>>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for field in fields {
        // The strict readers let nothing through that the library refuses; what it refuses all the same is not sent.
        let _ = append(&mut trailers, field.name, field.value);
    }
    trailers
}

fn append(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Failure> {
    let known = classify(name);
    let is_ours = match known {
        Known::Te => value.eq_ignore_ascii_case(b"trailers"),
        _ => !known.is_hop_by_hop() || known == Known::Trailer,
    };
    if is_ours {
        let name = HeaderName::from_bytes(name).map_err(|_| Failure::Unsendable("a field's name"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| Failure::Unsendable("a field's value"))?;
        headers.try_append(name, value).map_err(|_| Failure::Unsendable("the number of its fields"))?;
    }
    Ok(())
}

/// The lines before the empty one.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let (line, after) = rest.split_at(end);
        rest = &after[2..];
        (!line.is_empty()).then_some(line)
    })
}

fn request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b" HTTP/1.1")?;
    let space = memchr::memchr(b' ', line)?;
    Some((&line[..space], &line[space + 1..]))
}

fn field_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].strip_prefix(b" ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /a%2Fb?c=d:e HTTP/1.1\r\nhost: api.example:8080\r\nX-One: 1: 2\r\nx-one: \r\ncookie: a=1; b=2\r\n\
        te: trailers\r\nconnection: TE\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn the_head_that_was_permitted_is_what_goes_up() {
        let request = request(HEAD, Scheme::HTTPS).expect("sendable");
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri(), "https://api.example:8080/a%2Fb?c=d:e");
        let fields: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(fields, [("x-one", "1: 2"), ("x-one", ""), ("cookie", "a=1; b=2"), ("te", "trailers")]);
    }

    #[test]
    fn a_switch_is_extended_connect() {
        let head = b"GET /chat?room=1 HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\n\
            connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: chat\r\n\r\n";
        let request = request(head, Scheme::HTTPS).expect("sendable");
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::CONNECT, "https://a/chat?room=1".to_owned())
        );
        assert_eq!(request.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["sec-websocket-version", "sec-websocket-protocol"]);
    }

    #[test]
    fn what_http2_cannot_say_is_not_sent() {
        let upgrade = b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n";
        let refused = request(upgrade, Scheme::HTTP).err();
        assert_eq!(refused, Some(Failure::Unsendable("it would switch protocols with another method than GET")));
        assert!(request(b"GET / HTTP/1.1\r\n\r\n", Scheme::HTTP).is_err(), "a request without a host");
        assert!(request(b"GET /\r\nhost: a\r\n\r\n", Scheme::HTTP).is_err(), "a line without a version");
    }

    #[test]
    fn trailers_lose_what_belongs_to_a_connection() {
        let field = |name: &'static [u8], value: &'static [u8]| Field { name, value, known: classify(name) };
        let trailers = trailers([field(b"X-Sum", b"1"), field(b"connection", b"close")].into_iter());
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-sum"], "1");
    }
}

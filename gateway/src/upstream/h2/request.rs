//! The permitted head as HTTP/2 says it.
//!
//! [`compose`](crate::request::forward::compose) writes one form of a head, HTTP/1.1's. Its lines are exact (`name: value`,
//! each byte of them checked before), so taking them apart again leaves nothing to interpretation, and what was permitted
//! is what goes up (law 4). What belongs to an HTTP/1 connection stays behind (RFC 9113 section 8.2.2).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use crate::head::field::classify;
use crate::head::{Field, Known};
use crate::upstream::call::Failure;

/// Takes a serialised head apart.
pub(super) fn request(head: &[u8], scheme: Scheme) -> Result<Request<()>, Failure> {
    let mut lines = lines(head);
    let (method, target) = lines.next().and_then(request_line).ok_or(Failure::Unsendable("its first line"))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Failure::Unsendable("its method"))?;
    *request.version_mut() = Version::HTTP_2;
    let mut authority = None;
    for line in lines {
        let (name, value) = field_line(line).ok_or(Failure::Unsendable("a field line"))?;
        match classify(name) {
            Known::Host => authority = Some(value),
            Known::Upgrade => return Err(Failure::Unsendable("it would switch protocols")),
            _ => append(request.headers_mut(), name, value)?,
        }
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority =
        Some(Authority::try_from(authority.unwrap_or_default()).map_err(|_| Failure::Unsendable("its host"))?);
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| Failure::Unsendable("its target"))?);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::Unsendable("its target"))?;
    Ok(request)
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
    fn what_http2_cannot_say_is_not_sent() {
        let upgrade = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        assert_eq!(request(upgrade, Scheme::HTTP).err(), Some(Failure::Unsendable("it would switch protocols")));
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

//! Services that authenticate connections instead of messages: NTLM, and Negotiate (RFC 4559).
//!
//! There a message without credentials is taken for the one that authenticated its connection before. A pooled connection
//! carries the messages of many capabilities, so a connection on which such a handshake shows, in either direction, never
//! carries another message. That makes the handshake fail; and so that no client begins one in vain, such challenges do not
//! pass.

use std::borrow::Cow;

use crate::head::{Head, Known, ResponseHead};

/// The schemes that authenticate a connection.
const SCHEMES: [&[u8]; 5] = [b"ntlm", b"negotiate", b"kerberos", b"nego2", b"credssp"];

/// Whether credentials, or one challenge, are of such a scheme.
fn is_of_connections(text: &[u8]) -> bool {
    let scheme = text.split(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

/// Whether a request's credentials authenticate the connection that they go up on.
pub(super) fn is_begun_by(head: &Head<'_>) -> bool {
    head.has(Known::Authorization)
        && head.fields().any(|field| field.known == Known::Authorization && is_of_connections(field.value))
}

/// Whether a response takes part in such a handshake: nothing else may follow it on its connection.
pub(crate) fn is_gone_on_with(head: &ResponseHead<'_>) -> bool {
    let may_be = [Known::WwwAuthenticate, Known::AuthenticationInfo, Known::Proxy].iter().any(|known| head.has(*known));
    may_be
        && head.fields().any(|field| match field.known {
            Known::WwwAuthenticate => challenges(field.value).any(is_of_connections),
            Known::AuthenticationInfo => is_of_connections(field.value),
            Known::Proxy if field.name.eq_ignore_ascii_case(b"proxy-authenticate") => {
                challenges(field.value).any(is_of_connections)
            }
            Known::Proxy => {
                field.name.eq_ignore_ascii_case(b"proxy-authentication-info") && is_of_connections(field.value)
            }
            _ => false,
        })
}

/// Whether a 401 asks for nothing but such a handshake: without those challenges it would have none, which it must (RFC 9110
/// section 15.5.2).
pub(crate) fn is_all_that_is_asked(head: &ResponseHead<'_>) -> bool {
    let mut asked = head.fields().filter(|field| field.known == Known::WwwAuthenticate).peekable();
    head.status() == 401 && asked.peek().is_some() && asked.all(|field| passing(field.value).is_none())
}

/// What of a `WWW-Authenticate` value may pass; `None`: nothing.
pub(crate) fn passing(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !challenges(value).any(is_of_connections) {
        return Some(Cow::Borrowed(value));
    }
    let left: Vec<&[u8]> = challenges(value).filter(|challenge| !is_of_connections(challenge)).collect();
    (!left.is_empty()).then(|| Cow::Owned(left.join(&b", "[..])))
}

/// The challenges of one field, each with its parameters (RFC 9110 section 11.6.1): a list in which an element is a
/// parameter of the challenge before it, or the beginning of another one.
fn challenges(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_ascii_start();
            match rest {
                [] => return None,
                [b',', after @ ..] => rest = after,
                _ => break,
            }
        }
        let mut end = element(rest);
        while end < rest.len() {
            let next = rest[end + 1..].trim_ascii_start();
            if !next.is_empty() && next[0] != b',' && begins_challenge(&next[..element(next)]) {
                break;
            }
            end += 1 + element(&rest[end + 1..]);
        }
        let (challenge, after) = rest.split_at(end);
        rest = after;
        Some(challenge.trim_ascii_end())
    })
}

/// Where a list's first element ends: at a comma that no quotes enclose.
fn element(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

/// Whether an element begins a challenge: a word alone, or one with something behind it that is no `=`.
fn begins_challenge(element: &[u8]) -> bool {
    let word = element.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'=')).unwrap_or(element.len());
    let behind = element[word..].trim_ascii();
    !behind.starts_with(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(value: &str) -> Option<String> {
        passing(value.as_bytes()).map(|left| String::from_utf8(left.into_owned()).expect("text"))
    }

    #[test]
    fn challenges_of_connections_are_taken_out_and_nothing_else() {
        for whole in
            ["Basic realm=\"a, Negotiate\"", "Bearer", "Digest realm=\"x\", nonce=\"y\", qop=\"auth\"", "NTLMish"]
        {
            assert_eq!(passes(whole).as_deref(), Some(whole));
        }
        for none in
            ["NTLM", "Negotiate", "negotiate oRQwEqADCgEBoQ==", "NTLM TlRMTVNTUAAC, Negotiate", " , NTLM ,", "NTLM a=b"]
        {
            assert_eq!(passes(none), None, "{none}");
        }
        for (mixed, left) in [
            ("Negotiate, NTLM, Basic realm=\"a\"", "Basic realm=\"a\""),
            (
                "Digest realm=\"x\", nonce=\"a,b\", Negotiate, Basic realm=\"\\\"NTLM\"",
                "Digest realm=\"x\", nonce=\"a,b\", Basic realm=\"\\\"NTLM\"",
            ),
            ("Bearer, NTLM", "Bearer"),
            ("NTLM, Digest a = b, c=d", "Digest a = b, c=d"),
        ] {
            assert_eq!(passes(mixed).as_deref(), Some(left), "{mixed}");
        }
    }
}

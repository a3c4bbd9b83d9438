//! The first step: the token is taken out of the message.
//!
//! A token comes in exactly one carrier: `Authorization: Bearer …` (RFC 6750 section 2.1), or `Postern-Capability: …`
//! where the service uses `Authorization` itself, or the subprotocol `bearer.<token>` of a WebSocket, since browsers let
//! pages set no other field of its request. Never in the URL or the body: those end up in logs. Two tokens are refused,
//! since two readers could each believe another one.

use super::error::Refused;
use super::switch::WEBSOCKET;
use crate::head::field::any_byte;
use crate::head::{Head, Known};

/// What a message presents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carriers<'h> {
    /// The credentials of `Authorization`, where its scheme is `Bearer`.
    pub authorization: Option<Bearer<'h>>,
    /// The value of `Postern-Capability`, or what a WebSocket offers as `bearer.<token>`.
    pub capability: Option<Secret<'h>>,
}

/// Token text as it lies in the head. Has no way to be printed.
#[derive(Clone, Copy)]
pub struct Secret<'h>(&'h str);

impl<'h> Secret<'h> {
    /// The text, for whoever decides on it.
    pub fn expose(self) -> &'h str {
        self.0
    }

    /// A token that no head carried.
    #[cfg(test)]
    pub fn for_tests(text: &'h str) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What stands behind `Bearer` in `Authorization`. Where the service has an `Authorization` of its own it may be the
/// service's, and then nobody here says that it is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'h> {
    text: Hidden<'h>,
    token: Result<Secret<'h>, &'static str>,
}

/// Bytes of a field that may hold a token.
#[derive(Clone, Copy)]
struct Hidden<'h>(&'h [u8]);

impl std::fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl<'h> Bearer<'h> {
    /// Its one token.
    ///
    /// # Errors
    /// [`Refused::UnreadableCarrier`], where it is not one token of visible ASCII.
    pub fn token(self) -> Result<Secret<'h>, Refused> {
        self.token.map_err(Refused::UnreadableCarrier)
    }

    /// The text, whatever it is, for whoever looks for a token in it.
    pub fn text(self) -> &'h [u8] {
        self.text.0
    }
}

/// Finds the carriers of a head. A Bearer credential that is malformed is found as such.
///
/// # Errors
/// [`Refused::TwoTokens`] for two fields of one kind; [`Refused::UnreadableCarrier`] for another carrier that holds not
/// one token of visible ASCII.
pub fn take<'h>(head: &Head<'h>) -> Result<Carriers<'h>, Refused> {
    let mut carriers = Carriers::default();
    let mut authorization_seen = false;
    for field in head.fields() {
        match field.known {
            Known::Authorization => {
                // Whatever its scheme: a second Authorization is another reader's first.
                if std::mem::replace(&mut authorization_seen, true) {
                    return Err(Refused::TwoTokens);
                }
                carriers.authorization = bearer(field.value);
            }
            Known::PosternCapability => {
                if carriers.capability.is_some() {
                    return Err(Refused::TwoTokens);
                }
                carriers.capability = Some(token(field.value).map_err(Refused::UnreadableCarrier)?);
            }
            _ => {}
        }
    }
    if head.upgrade().is_some_and(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET)) {
        for offered in subprotocols(head).filter(|offered| is_bearer(offered)) {
            if carriers.capability.is_some() {
                return Err(Refused::TwoTokens);
            }
            carriers.capability = Some(token(&offered[BEARER.len()..]).map_err(Refused::UnreadableCarrier)?);
        }
    }
    Ok(carriers)
}

/// What a token is marked with among subprotocols.
const BEARER: &[u8] = b"bearer.";

/// The subprotocols that a WebSocket offers, the token among them.
pub fn subprotocols<'h>(head: &Head<'h>) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    let fields = head.fields().filter(|field| field.known == Known::SecWebSocketProtocol);
    fields.flat_map(|field| field.value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

/// Whether this is no subprotocol but a token, in any spelling: it must not reach a service that reads names leniently.
pub fn is_bearer(subprotocol: &[u8]) -> bool {
    subprotocol.get(..BEARER.len()).is_some_and(|start| start.eq_ignore_ascii_case(BEARER))
}

/// The token of `Bearer <token>`; `None` for another scheme. The scheme is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<Bearer<'_>> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return None;
    }
    let token = match rest {
        [] => Err("`Authorization: Bearer` carries no token: write the token after one space."),
        [b' ', ..] => {
            let start = rest.iter().position(|&b| b != b' ').unwrap_or(rest.len());
            token(&rest[start..])
        }
        // Another scheme that begins like ours.
        _ => return None,
    };
    Some(Bearer { text: Hidden(rest), token })
}

/// One token of visible ASCII, nothing around it.
fn token(value: &[u8]) -> Result<Secret<'_>, &'static str> {
    if value.is_empty() {
        return Err("The field carries no token.");
    }
    match std::str::from_utf8(value) {
        Ok(text) if !any_byte(value, |b| !b.is_ascii_graphic() | (b == b',')) => Ok(Secret(text)),
        _ => Err("The field carries more than one token, or bytes that no token has: write exactly one token."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    fn carriers(fields: &str) -> Result<(Option<String>, Option<String>), Refused> {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("complete");
        let carriers = take(&head)?;
        let own = |secret: Option<Secret<'_>>| secret.map(|s| s.expose().to_owned());
        let authorization = carriers.authorization.map(Bearer::token).transpose()?;
        Ok((own(authorization), own(carriers.capability)))
    }

    #[test]
    fn the_scheme_is_read_in_any_case() {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let (authorization, capability) = carriers(&format!("Authorization: {scheme} abc\r\n")).expect("one token");
            assert_eq!((authorization.as_deref(), capability), (Some("abc"), None));
        }
    }

    #[test]
    fn another_scheme_is_no_token() {
        for value in ["Basic YTpi", "Bearerabc", "Bear", "Digest x=\"y\""] {
            assert_eq!(carriers(&format!("Authorization: {value}\r\n")).expect("read"), (None, None), "{value}");
        }
    }

    #[test]
    fn two_fields_of_one_kind_are_two_tokens() {
        for fields in [
            "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n",
            "Authorization: Bearer a\r\nAuthorization: Basic b\r\n",
            "Postern-Capability: a\r\nPostern-Capability: a\r\n",
        ] {
            assert!(matches!(carriers(fields), Err(Refused::TwoTokens)), "{fields}");
        }
    }

    #[test]
    fn a_carrier_holds_one_token() {
        for fields in [
            "Authorization: Bearer\r\n",
            "Authorization: Bearer a b\r\n",
            "Authorization: Bearer a,b\r\n",
            "Authorization: Bearer a, Bearer b\r\n",
            "Authorization: Bearer \u{e9}\r\n",
            "Postern-Capability:\r\n",
            "Postern-Capability: a b\r\n",
        ] {
            assert!(matches!(carriers(fields), Err(Refused::UnreadableCarrier(_))), "{fields}");
        }
    }

    #[test]
    fn a_websocket_may_offer_the_token_as_a_subprotocol() {
        const ASKED: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let offered = |more: &str| carriers(&format!("{ASKED}{more}\r\n"));
        for protocols in ["bearer.abc", "chat, bearer.abc", "chat\r\nSec-WebSocket-Protocol: Bearer.abc"] {
            let found = offered(&format!("Sec-WebSocket-Protocol: {protocols}")).expect("one token");
            assert_eq!(found, (None, Some("abc".into())), "{protocols}");
        }
        assert_eq!(offered("Sec-WebSocket-Protocol: chat").expect("read"), (None, None));
        for more in [
            "Sec-WebSocket-Protocol: bearer.a, bearer.a",
            "Sec-WebSocket-Protocol: bearer.a\r\nSec-WebSocket-Protocol: bearer.b",
            "Sec-WebSocket-Protocol: bearer.a\r\nPostern-Capability: b",
        ] {
            assert!(matches!(offered(more), Err(Refused::TwoTokens)), "{more}");
        }
        for protocols in ["bearer.", "chat, bearer.a b"] {
            let found = offered(&format!("Sec-WebSocket-Protocol: {protocols}"));
            assert!(matches!(found, Err(Refused::UnreadableCarrier(_))), "{protocols}");
        }
        assert_eq!(carriers("Sec-WebSocket-Protocol: bearer.abc\r\n").expect("read"), (None, None), "no WebSocket");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret("token")), "Secret(…)");
        let shown = format!("{:?} {:?}", bearer(b"Bearer token"), bearer(b"Bearer token,x"));
        assert!(!shown.contains("tok") || !shown.contains("116"), "{shown}");
    }
}

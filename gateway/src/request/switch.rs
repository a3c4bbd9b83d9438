//! A switch to another protocol: what the client asks for, and whether the upstream's answer is the answer to that.
//!
//! Only protocols that the resource names are asked for on a client's behalf; any other offer ends here, as RFC 9110 section
//! 7.8 lets it. A WebSocket's handshake (RFC 6455 section 4) is checked on both sides: an upstream that agrees to something
//! else than what was asked, or to nothing that was asked, gets no tunnel.
//!
//! Either side may speak HTTP/1.1, where a 101 switches, and a key proves that its reader knew what was asked, or HTTP/2
//! (RFC 8441), where a success does, and neither key nor proof is said: each client is answered in its own way.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};

use super::bearer;
use super::error::Refused;
use super::resource::Resource;
use crate::head::{Field, Head, Known, ResponseHead, Version};

/// The protocol that is spoken by browsers.
pub const WEBSOCKET: &str = "websocket";

/// The field in which a service proves that it has read the key.
const ACCEPT: &str = "sec-websocket-accept";

const WITH_A_BODY: &str = "it switched protocols with a body";

/// A switch that is asked for with the message.
#[derive(Debug)]
pub struct Switch {
    protocol: Box<str>,
    websocket: Option<Handshake>,
}

/// What was said in a WebSocket's handshake.
#[derive(Debug)]
struct Handshake {
    key: Box<[u8]>,
    /// Whether the key is the gateway's own, since HTTP/2 has none (RFC 8441 section 5).
    is_own: bool,
    /// Whether the version is the gateway's own, too: over HTTP/2 a client may leave it out.
    is_own_version: bool,
    subprotocols: Vec<Box<[u8]>>,
    extensions: Vec<Box<[u8]>>,
}

impl Switch {
    /// What the client asks for, where the resource lets it be asked for.
    ///
    /// # Errors
    /// [`Refused::BadHandshake`] for a WebSocket that is not asked for properly.
    pub fn asked(head: &Head<'_>, resource: &Resource) -> Result<Option<Self>, Refused> {
        let Some(offered) = head.upgrade() else { return Ok(None) };
        let named = resource.upgrades.iter().find(|named| named.eq_ignore_ascii_case(offered));
        let Some(protocol) = named.cloned() else { return Ok(None) };
        let websocket = if &*protocol == WEBSOCKET { Some(Handshake::read(head)?) } else { None };
        Ok(Some(Self { protocol, websocket }))
    }

    /// Whether frames pass, whose boundaries are known.
    pub fn is_websocket(&self) -> bool {
        self.websocket.is_some()
    }

    /// Calls `field` with each field of the request that asks for it, besides those that pass by themselves.
    pub fn ask(&self, mut field: impl FnMut(&[u8], &[u8])) {
        field(b"upgrade", self.protocol.as_bytes());
        let Some(handshake) = &self.websocket else { return };
        if handshake.is_own_version {
            field(b"sec-websocket-version", b"13");
        }
        if handshake.is_own {
            field(b"sec-websocket-key", &handshake.key);
        }
        if !handshake.subprotocols.is_empty() {
            field(b"sec-websocket-protocol", &handshake.subprotocols.join(&b", "[..]));
        }
    }

    /// Calls `field` with each field of the 101 to a client of HTTP/1.1, besides those of the upstream's that pass by
    /// themselves.
    pub fn agree(&self, mut field: impl FnMut(&[u8], &[u8])) {
        field(b"connection", b"upgrade");
        field(b"upgrade", self.protocol.as_bytes());
        if let Some(handshake) = &self.websocket {
            field(ACCEPT.as_bytes(), accept(&handshake.key).as_bytes());
        }
    }

    /// Whether a field of the upstream's is one that [`Self::agree`] says in its place.
    pub fn says(field: &Field<'_>) -> bool {
        is_named(field, Known::Other, ACCEPT)
    }

    /// Whether an answer switches to what was asked for; the error says what is wrong with one that switches otherwise.
    pub fn is_granted(&self, head: &ResponseHead<'_>) -> Result<bool, &'static str> {
        let verified = match (head.version(), head.status()) {
            (Version::Http2, 200..=299) => self.verify_stream(head),
            (Version::Http10 | Version::Http11, 101) => self.verify(head),
            _ => return Ok(false),
        };
        verified.map(|()| true)
    }

    /// Looks at a success that answers extended CONNECT. That it is about the protocol that was asked for goes without saying.
    fn verify_stream(&self, head: &ResponseHead<'_>) -> Result<(), &'static str> {
        if head.has(Known::ContentLength) {
            return Err(WITH_A_BODY);
        }
        self.websocket.as_ref().map_or(Ok(()), |handshake| handshake.verify_agreed(head))
    }

    /// Looks at a 101.
    fn verify(&self, head: &ResponseHead<'_>) -> Result<(), &'static str> {
        let mut upgrades = head.fields().filter(|field| is_named(field, Known::Upgrade, "upgrade"));
        let is_ours = |field: Field<'_>| field.value.eq_ignore_ascii_case(self.protocol.as_bytes());
        if !upgrades.next().is_some_and(is_ours) || upgrades.next().is_some() {
            return Err("it switched to another protocol than it was asked to");
        }
        let mut options = head.fields().filter(|field| field.known == Known::Connection).flat_map(|f| list(f.value));
        if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
            return Err("it switched protocols without saying so in `Connection`");
        }
        if head.has(Known::ContentLength) || head.has(Known::TransferEncoding) {
            return Err(WITH_A_BODY);
        }
        self.websocket.as_ref().map_or(Ok(()), |handshake| handshake.verify(head))
    }
}

impl Handshake {
    fn read(head: &Head<'_>) -> Result<Self, Refused> {
        let bad = |what| Err(Refused::BadHandshake(what));
        if head.method() != "GET" {
            return bad("A WebSocket is opened with GET.");
        }
        let is_own = head.version() == Version::Http2;
        let versions: Vec<_> = values(head.fields(), "sec-websocket-version").collect();
        if versions != [b"13"] && !(is_own && versions.is_empty()) {
            return bad("A WebSocket is asked for with `Sec-WebSocket-Version: 13`, once.");
        }
        let keys: Vec<_> = values(head.fields(), "sec-websocket-key").collect();
        let key = match keys[..] {
            [] if is_own => BASE64_STANDARD.encode(rand::random::<[u8; 16]>()).into_bytes(),
            [key] if !is_own && BASE64_STANDARD.decode(key).is_ok_and(|key| key.len() == 16) => key.to_vec(),
            _ => return bad("A WebSocket is asked for with one `Sec-WebSocket-Key`, 16 bytes in base64."),
        };
        let subprotocols = bearer::subprotocols(head).filter(|it| !bearer::is_bearer(it)).map(Into::into).collect();
        let extensions = values(head.fields(), "sec-websocket-extensions").flat_map(extensions).map(Into::into);
        let is_own_version = versions.is_empty();
        Ok(Self { key: key.into(), is_own, is_own_version, subprotocols, extensions: extensions.collect() })
    }

    fn verify(&self, head: &ResponseHead<'_>) -> Result<(), &'static str> {
        let accepts: Vec<_> = values(head.fields(), ACCEPT).collect();
        if accepts != [accept(&self.key).as_bytes()] {
            return Err("it opened a WebSocket with a wrong `Sec-WebSocket-Accept`");
        }
        self.verify_agreed(head)
    }

    /// Looks at what was agreed on, which is said alike over either version.
    fn verify_agreed(&self, head: &ResponseHead<'_>) -> Result<(), &'static str> {
        let mut chosen = head.fields().filter(|field| field.known == Known::SecWebSocketProtocol).map(|f| f.value);
        let is_offered = |chosen: &[u8]| self.subprotocols.iter().any(|offered| **offered == *chosen);
        if !chosen.next().is_none_or(is_offered) || chosen.next().is_some() {
            return Err("it opened a WebSocket with a subprotocol that was not offered");
        }
        let mut agreed = values(head.fields(), "sec-websocket-extensions").flat_map(extensions);
        if !agreed.all(|name| self.extensions.iter().any(|offered| **offered == *name)) {
            return Err("it opened a WebSocket with an extension that was not offered");
        }
        Ok(())
    }
}

/// What proves that the upstream has read the key (section 4.2.2).
fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

fn is_named(field: &Field<'_>, known: Known, name: &str) -> bool {
    field.known == known && field.name.eq_ignore_ascii_case(name.as_bytes())
}

/// The values of the fields of a name that means nothing to the rest of the gateway.
fn values<'h>(fields: impl Iterator<Item = Field<'h>>, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    fields.filter(move |field| is_named(field, Known::Other, name)).map(|field| field.value)
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The names in a list of extensions, their parameters left out.
fn extensions(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(value).filter_map(|it| it.split(|byte| *byte == b';').next()).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Spans;
    use crate::limits::Limits;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const PROOF: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn asked(line: &str, upgrade: &str, fields: &str) -> Result<Option<Switch>, Refused> {
        let bytes = format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("complete");
        let resource =
            Resource { upgrades: vec!["websocket".into(), "tcp".into()], ..Resource::for_tests("r", None, "/") };
        Switch::asked(&head, &resource)
    }

    fn verified(switch: &Switch, fields: &str) -> Result<(), &'static str> {
        let bytes = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        let mut spans = Spans::new();
        let head = ResponseHead::read(bytes.as_bytes(), "GET", &mut spans, &Limits::default());
        switch.is_granted(&head.expect("strict").expect("complete")).map(|is_granted| assert!(is_granted))
    }

    #[test]
    fn a_websocket_is_asked_for_properly_or_refused() {
        assert!(asked("GET /", "websocket", &format!("{KEY}{VERSION}")).is_ok_and(|it| it.is_some()));
        assert!(asked("GET /", "WebSocket", &format!("{KEY}{VERSION}")).is_ok_and(|it| it.is_some()));
        for (line, fields) in [
            ("POST /", format!("{KEY}{VERSION}")),
            ("GET /", KEY.to_owned()),
            ("GET /", VERSION.to_owned()),
            ("GET /", format!("{KEY}{KEY}{VERSION}")),
            ("GET /", format!("{KEY}{VERSION}{VERSION}")),
            ("GET /", format!("{KEY}Sec-WebSocket-Version: 8\r\n")),
            ("GET /", format!("{KEY}Sec-WebSocket-Version: 13, 8\r\n")),
            ("GET /", format!("Sec-WebSocket-Key: short\r\n{VERSION}")),
            ("GET /", format!("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n{VERSION}")),
        ] {
            assert!(matches!(asked(line, "websocket", &fields), Err(Refused::BadHandshake(_))), "{line} {fields}");
        }
    }

    #[test]
    fn what_the_resource_does_not_name_is_not_asked_for() {
        assert!(asked("GET /", "foo", "").is_ok_and(|it| it.is_none()));
        assert!(asked("POST /", "tcp", "").is_ok_and(|it| it.is_some_and(|it| !it.is_websocket())));
    }

    #[test]
    fn a_switch_is_the_one_that_was_asked_for() {
        let more =
            "Sec-WebSocket-Protocol: chat, bearer.abc, v2\r\nSec-WebSocket-Extensions: permessage-deflate; x=1\r\n";
        let switch = asked("GET /", "websocket", &format!("{KEY}{VERSION}{more}")).expect("asked").expect("named");
        let good = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{PROOF}");
        for fields in [
            good.clone(),
            format!("{good}Sec-WebSocket-Protocol: v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"),
            format!("connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n{PROOF}"),
        ] {
            assert_eq!(verified(&switch, &fields), Ok(()), "{fields}");
        }
        for fields in [
            format!("Connection: Upgrade\r\nUpgrade: foo\r\n{PROOF}"),
            format!("Connection: Upgrade\r\n{PROOF}"),
            format!("Upgrade: websocket\r\n{PROOF}"),
            format!("{good}Upgrade: h2c\r\n"),
            format!("{good}Content-Length: 0\r\n"),
            format!("{good}{PROOF}"),
            "Connection: Upgrade\r\nUpgrade: websocket\r\n".to_owned(),
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOO=\r\n"
                .to_owned(),
            format!("{good}Sec-WebSocket-Protocol: bearer.abc\r\n"),
            format!("{good}Sec-WebSocket-Protocol: other\r\n"),
            format!("{good}Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: v2\r\n"),
            format!("{good}Sec-WebSocket-Extensions: x-webkit\r\n"),
        ] {
            assert!(verified(&switch, &fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn the_token_is_no_subprotocol_for_the_upstream() {
        let said = |protocols: &str| {
            let fields = format!("{KEY}{VERSION}Sec-WebSocket-Protocol: {protocols}\r\n");
            let switch = asked("GET /", "websocket", &fields).expect("asked").expect("named");
            let mut said = Vec::new();
            switch.ask(|name, value| said.push((name.to_vec(), String::from_utf8_lossy(value).into_owned())));
            said.into_iter().find(|(name, _)| name == b"sec-websocket-protocol").map(|(_, value)| value)
        };
        assert_eq!(said("bearer.abc"), None);
        assert_eq!(said("bearer.abc, chat").as_deref(), Some("chat"));
        assert_eq!(said("chat,Bearer.abc , v2").as_deref(), Some("chat, v2"));
    }
}

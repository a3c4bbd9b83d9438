//! Where a message comes from: its client, scheme, host, port and prefix, as the connection or a trusted proxy says.
//!
//! A proxy is believed by the fields that `trusted_fields` names, and by no other: proxies pass on what their clients made up. Whom
//! it does not name is nobody, never the proxy itself, since a caveat about the proxy's address would then hold for everybody
//! behind it. A field that is named and cannot be read is refused: a guess would be a fact.

mod forwarded;

use std::net::{IpAddr, Ipv6Addr};

use postern_capabilities::message::Scheme;
use postern_capabilities::path::{EncodedSlash, canonical_path};

use self::forwarded::{Element, Node};
use super::Peer;
use super::error::Refused;
use crate::config::{TrustedField, TrustedFields, TrustedProxies};
use crate::head::{Head, Known, named_authority};

/// The client whom a trusted proxy does not name: it lies in no network but that of all addresses.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Where a message comes from.
#[derive(Debug, PartialEq, Eq)]
pub struct Origin<'h> {
    /// The peer, or whom a trusted proxy named; [`UNKNOWN`] where it named nobody.
    pub client: IpAddr,
    /// What a trusted proxy knows only from hearsay: the addresses before the client, first hop first.
    pub before: Vec<IpAddr>,
    /// How the client came, where a trusted proxy says that.
    pub scheme: Option<Scheme>,
    /// The host that the client asked for, and its port with the colon, where a trusted proxy says that.
    pub authority: Option<(&'h str, &'h str)>,
    /// The port that the client came to, where a trusted proxy says that.
    pub port: Option<&'h str>,
    /// What trusted proxies took off the path; empty, or as a mount is written.
    pub prefix: &'h str,
}

impl<'h> Origin<'h> {
    /// The connection's own end.
    fn peer(address: IpAddr) -> Self {
        Self { client: address, before: Vec::new(), scheme: None, authority: None, port: None, prefix: "" }
    }

    /// What the head of a message says, as far as its peer is believed.
    ///
    /// # Errors
    /// [`Refused::UnreadableOrigin`]: a trusted proxy says it by a field that cannot be read.
    pub fn of(head: &Head<'h>, peer: &Peer, proxies: &TrustedProxies, fields: &TrustedFields) -> Result<Self, Refused> {
        // A proxy that knows no address passes on bytes of which it knows nothing either.
        if !proxies.contains(peer.address) || peer.address == UNKNOWN {
            return Ok(Self::peer(peer.address));
        }
        let mut said = Self::peer(if peer.is_introduced { peer.address } else { UNKNOWN });
        let (mut depth, mut by_element) = (0, None);
        if fields.has(TrustedField::Forwarded) && head.has(Known::Forwarded) {
            let elements = elements(head)?;
            depth = said.follow(elements.iter().rev().map(Element::address), proxies);
            by_element = elements.get(elements.len().saturating_sub(depth)).copied();
        } else if fields.has(TrustedField::XForwardedFor) && has(head, FOR) {
            depth = said.follow(entries(head, FOR).map(address), proxies);
        }
        let listed = |field, name| if fields.has(field) { entry(head, name, depth) } else { None };
        let element = by_element.unwrap_or_default();
        let schemes = [element.proto, listed(TrustedField::XForwardedProto, PROTO)];
        said.scheme = agreed(schemes.map(|said| said.map(scheme)), "the scheme is neither http nor https")?;
        let authorities = [element.host, listed(TrustedField::XForwardedHost, HOST)];
        said.authority =
            agreed(authorities.map(|said| said.map(named_authority)), "the host is none that could stand in `Host`")?;
        let port = listed(TrustedField::XForwardedPort, PORT).map(port);
        said.port = agreed([port, None], "`X-Forwarded-Port` is no port")?;
        if fields.has(TrustedField::XForwardedPrefix) {
            said.prefix = prefix(head)?;
        }
        Ok(said)
    }

    /// Follows the hops, last first, to the client: the first that is no trusted proxy, or whom the last of them named. Returns how
    /// many hops that took.
    fn follow(&mut self, mut hops: impl Iterator<Item = Option<IpAddr>>, proxies: &TrustedProxies) -> usize {
        let mut depth = 0;
        for hop in hops.by_ref() {
            depth += 1;
            // What stands to the left of a hop that names nobody is only hearsay about nobody.
            let Some(address) = hop else {
                self.client = UNKNOWN;
                return depth;
            };
            self.client = address;
            if !proxies.contains(address) {
                break;
            }
        }
        self.before = hops.map_while(|hop| hop).collect();
        self.before.reverse();
        depth
    }

    /// The host as the fact `host` has it: without port.
    pub fn host(&self) -> Option<&'h str> {
        self.authority.map(|(host, _)| host)
    }
}

const FOR: &[u8] = b"x-forwarded-for";
const PROTO: &[u8] = b"x-forwarded-proto";
const HOST: &[u8] = b"x-forwarded-host";
const PORT: &[u8] = b"x-forwarded-port";
const PREFIX: &[u8] = b"x-forwarded-prefix";

impl Element<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.node {
            Some(Node::Address(address)) => Some(address.to_canonical()),
            Some(Node::Unnamed) | None => None,
        }
    }
}

/// The elements of all `Forwarded` fields, in order.
fn elements<'h>(head: &Head<'h>) -> Result<Vec<Element<'h>>, Refused> {
    let mut elements = Vec::new();
    for field in head.fields().filter(|field| field.known == Known::Forwarded) {
        forwarded::read(field.value, &mut elements)
            .map_err(|why| Refused::UnreadableOrigin(format!("`Forwarded` is not as RFC 7239 has it: {why}").into()))?;
    }
    Ok(elements)
}

fn values<'h>(head: &Head<'h>, name: &'static [u8]) -> impl DoubleEndedIterator<Item = &'h [u8]> + use<'h> {
    let fields =
        head.fields().filter(move |field| field.known == Known::XForwarded && field.name.eq_ignore_ascii_case(name));
    fields.map(|field| field.value)
}

fn has(head: &Head<'_>, name: &'static [u8]) -> bool {
    head.has(Known::XForwarded) && values(head, name).next().is_some()
}

/// The entries of all fields of a name, last first: each hop adds its own at the end.
fn entries<'h>(head: &Head<'h>, name: &'static [u8]) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    values(head, name).rev().flat_map(|value| value.rsplit(|&b| b == b',')).map(<[u8]>::trim_ascii)
}

/// The entry of the hop at this depth that named the client. Where fewer hops said it, the first of those did: the others passed
/// its word on.
fn entry<'h>(head: &Head<'h>, name: &'static [u8], depth: usize) -> Option<&'h [u8]> {
    if !head.has(Known::XForwarded) {
        return None;
    }
    entries(head, name).take(depth.max(1)).last()
}

/// An address, with the brackets or port that some proxies add. An IPv4 address is one however it is written.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let address: Option<IpAddr> = text
        .parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6));
    address.map(|address| address.to_canonical())
}

/// What two fields say of one thing, where they say the same; `None` among them is a value that cannot be read.
fn agreed<T: PartialEq>(said: [Option<Option<T>>; 2], unreadable: &'static str) -> Result<Option<T>, Refused> {
    let wrong = |why: &'static str| Refused::UnreadableOrigin(why.into());
    let mut agreed = None;
    for said in said.into_iter().flatten() {
        let said = said.ok_or_else(|| wrong(unreadable))?;
        if agreed.replace(said).is_some_and(|before| Some(before) != agreed) {
            return Err(wrong("`Forwarded` and `X-Forwarded-*` disagree"));
        }
    }
    Ok(agreed)
}

/// A scheme, also by the name that some proxies give it in front of a WebSocket.
fn scheme(text: &[u8]) -> Option<Scheme> {
    let is = |name: &str| text.eq_ignore_ascii_case(name.as_bytes());
    match () {
        () if is("https") || is("wss") => Some(Scheme::Https),
        () if is("http") || is("ws") => Some(Scheme::Http),
        () => None,
    }
}

fn port(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse::<u16>().ok().filter(|_| is_plain).map(|_| text)
}

/// What was taken off the path before the message came here: one canonical path. Since some readers take a comma for the end of one
/// prefix and the beginning of another, it has none.
fn prefix<'h>(head: &Head<'h>) -> Result<&'h str, Refused> {
    let wrong = || Refused::UnreadableOrigin("`X-Forwarded-Prefix` is not one canonical path without commas".into());
    let mut fields = values(head, PREFIX);
    let (Some(value), None) = (fields.next(), fields.next()) else {
        return if has(head, PREFIX) { Err(wrong()) } else { Ok("") };
    };
    let text = std::str::from_utf8(value).map_err(|_| wrong())?;
    let canonical = canonical_path(value, EncodedSlash::Refuse).map_err(|_| wrong())?;
    if canonical != text || text.contains(',') { Err(wrong()) } else { Ok(text.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests;

//! Who the client is: the peer, or what a trusted proxy said.

use std::net::IpAddr;

use postern_capabilities::message::Scheme;

use crate::config::TrustedProxies;
use crate::head::{Head, Known};

/// The address that `client(…)` states: the peer's, unless the peer is a trusted proxy; then the right-most address of
/// `X-Forwarded-For` that is not a trusted proxy's itself. An entry that is no address ends the walk: what stands to its
/// left is only hearsay.
pub fn decide(head: &Head<'_>, peer: IpAddr, trusted: &TrustedProxies) -> IpAddr {
    if !head.has(Known::XForwarded) || !trusted.contains(peer) {
        return peer;
    }
    let mut client = peer;
    for hop in hops_from_the_right(head) {
        if !trusted.contains(client) {
            break;
        }
        match hop {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// The addresses that stand before `client` in the chain, in their order, up to the first entry that is no address.
pub fn chain_before(head: &Head<'_>, client: IpAddr) -> Vec<IpAddr> {
    let mut chain: Vec<IpAddr> =
        hops_from_the_right(head).skip_while(|hop| *hop != Some(client)).skip(1).map_while(|hop| hop).collect();
    chain.reverse();
    chain
}

/// The entries of all `X-Forwarded-For` fields, last first; `None` where an entry is no address.
fn hops_from_the_right<'h>(head: &'h Head<'_>) -> impl Iterator<Item = Option<IpAddr>> + 'h {
    head.fields()
        .rev()
        .filter(|f| f.known == Known::XForwarded && f.name.eq_ignore_ascii_case(b"x-forwarded-for"))
        .flat_map(|f| f.value.rsplit(|&b| b == b','))
        .map(|entry| std::str::from_utf8(entry.trim_ascii()).ok().and_then(address))
}

/// An address, with the brackets or port that some proxies add.
fn address(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6))
}

/// What a trusted proxy says the client's connection was, by its last `X-Forwarded-Proto`.
pub fn scheme(head: &Head<'_>) -> Option<Scheme> {
    let field = head
        .fields()
        .rev()
        .find(|f| f.known == Known::XForwarded && f.name.eq_ignore_ascii_case(b"x-forwarded-proto"))?;
    match field.value.trim_ascii() {
        b"https" => Some(Scheme::Https),
        b"http" => Some(Scheme::Http),
        _ => None,
    }
}

//! Who the client is: the peer, or what a trusted proxy said.

use std::net::{IpAddr, Ipv6Addr};

use postern_capabilities::message::Scheme;

use crate::config::TrustedProxies;
use crate::head::{Head, Known};

/// The client whom a trusted proxy does not name: it lies in no network but that of all addresses.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The address that `client(…)` states: the peer's, unless the peer is a trusted proxy; then the right-most address of
/// `X-Forwarded-For` that is not a trusted proxy's itself. A trusted proxy that says no address (`unknown`, or a name that it
/// made up, RFC 7239 section 6.3) has a client whom nobody knows: that is [`UNKNOWN`], and what stands to the left is only
/// hearsay.
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
            None => return UNKNOWN,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AddressBlock;
    use crate::head::Spans;
    use crate::limits::Limits;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn with<R>(fields: &str, test: impl FnOnce(&Head<'_>) -> R) -> R {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let mut spans = Spans::new();
        test(&Head::read(bytes.as_bytes(), &mut spans, &Limits::default()).expect("strict").expect("complete"))
    }

    fn trusted() -> TrustedProxies {
        TrustedProxies(vec![AddressBlock::parse("10.0.0.0/8").expect("a block")])
    }

    #[test]
    fn nobody_but_a_trusted_proxy_is_believed() {
        let client = with("X-Forwarded-For: 192.0.2.7\r\n", |head| decide(head, ip("203.0.113.9"), &trusted()));
        assert_eq!(client, ip("203.0.113.9"));
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        for (fields, client) in [
            ("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
            ("X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7"),
            ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7"),
            ("X-Forwarded-For: 10.9.9.9\r\n", "10.9.9.9"),
            ("X-Forwarded-For: 192.0.2.7, unknown\r\n", "::"),
            ("X-Forwarded-For: 192.0.2.7, unknown, 10.1.1.1\r\n", "::"),
            ("X-Forwarded-For: 10.2.2.2, _hidden\r\nX-Forwarded-For: 10.1.1.1\r\n", "::"),
            ("X-Forwarded-For: unknown, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7"),
            ("X-Forwarded-For: [2001:db8::7]:4711\r\n", "2001:db8::7"),
            ("X-Real-IP: 192.0.2.7\r\n", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(with(fields, |head| decide(head, ip("10.0.0.1"), &trusted())), ip(client), "{fields}");
        }
    }

    #[test]
    fn the_chain_ends_with_the_client() {
        let chain = with("X-Forwarded-For: bad, 198.51.100.1, 192.0.2.7, 10.1.1.1\r\n", |head| {
            chain_before(head, ip("192.0.2.7"))
        });
        assert_eq!(chain, [ip("198.51.100.1")]);
        let chain = with("X-Forwarded-For: 198.51.100.1, unknown, 10.1.1.1\r\n", |head| chain_before(head, UNKNOWN));
        assert!(chain.is_empty(), "who is unknown has no chain before it");
    }
}

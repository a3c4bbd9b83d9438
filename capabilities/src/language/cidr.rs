//! CIDR blocks as `client_in` names them: one text for each block, so that comparing texts compares blocks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr {
    network: IpAddr,
    prefix: u32,
}

impl Cidr {
    /// Reads the canonical text alone: the first address of the block in its shortest form, `/`, the prefix length.
    /// An IPv4 block inside IPv6 (`::ffff:…`) is none: clients of that form are taken for the IPv4 ones they are.
    pub(crate) fn parse_canonical(text: &str) -> Option<Self> {
        let (network, prefix) = text.split_once('/')?;
        let network: IpAddr = network.parse().ok()?;
        let prefix: u32 = prefix.parse().ok()?;
        let bits = if network.is_ipv4() { u32::BITS } else { u128::BITS };
        let this = Self { network, prefix };
        let canonical = prefix <= bits
            && mask(network, prefix) == network
            && network.to_canonical() == network
            && format!("{network}/{prefix}") == text;
        canonical.then_some(this)
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && mask(address, self.prefix) == self.network
    }
}

/// The first address of the block with this prefix length that an address lies in.
fn mask(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(u32::BITS.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(u128::BITS.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(block: &str, address: &str) -> bool {
        Cidr::parse_canonical(block).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_block_contains_its_addresses() {
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.0"));
        assert!(contains("10.1.2.3/32", "10.1.2.3") && !contains("10.1.2.3/32", "10.1.2.2"));
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("::/0", "::1") && !contains("::/0", "10.0.0.1"));
    }

    #[test]
    fn an_ipv4_client_over_ipv6_is_an_ipv4_client() {
        assert!(contains("10.0.0.0/8", "::ffff:10.0.0.1") && !contains("::/0", "::ffff:10.0.0.1"));
    }

    #[test]
    fn only_one_text_stands_for_a_block() {
        for text in [
            "10.1.2.3/8",
            "10.0.0.0/33",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0/8",
            "2001:DB8::/32",
            "2001:db8:0::/32",
            "2001:db8::/129",
            "::ffff:10.0.0.0/104",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "010.0.0.0/8",
        ] {
            assert_eq!(Cidr::parse_canonical(text), None, "{text}");
        }
    }
}

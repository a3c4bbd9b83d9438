//! Networks, in one spelling: `10.0.0.0/8`, `2001:db8::/32`.
//!
//! The fact `client_in` compares text, so one network must have one text. Bits behind the prefix are dropped, IPv6 is
//! written as RFC 5952 says, and IPv4 inside IPv6 (`::ffff:10.0.0.0/104`) is IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network that this address and prefix length lie in.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        match address {
            IpAddr::V4(address) => Self::of_v4(address, prefix),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(inner) if prefix >= 96 => Self::of_v4(inner, prefix - 96),
                _ => Self::of_v6(address, prefix),
            },
        }
    }

    /// Whether the address lies in the network. IPv4 inside IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address.to_canonical(), self.prefix).is_ok_and(|same| same == *self)
    }

    fn of_v4(address: Ipv4Addr, prefix: u8) -> Result<Self, CidrError> {
        let behind = 32_u32.checked_sub(prefix.into()).ok_or(CidrError::Prefix)?;
        let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
        Ok(Self { network: Ipv4Addr::from(u32::from(address) & mask).into(), prefix })
    }

    fn of_v6(address: Ipv6Addr, prefix: u8) -> Result<Self, CidrError> {
        let behind = 128_u32.checked_sub(prefix.into()).ok_or(CidrError::Prefix)?;
        let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
        Ok(Self { network: Ipv6Addr::from(u128::from(address) & mask).into(), prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => whole,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| CidrError::Prefix)?
            }
            Some(_) => return Err(CidrError::Prefix),
        };
        Self::new(address, prefix)
    }
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No address before the `/`.
    #[error("an address such as 10.1.2.3 or a network such as 10.0.0.0/8 is needed")]
    Address,
    /// The number behind the `/` is none, or too large.
    #[error("behind the `/` stands the number of fixed bits: 0 to 32 for IPv4, 0 to 128 for IPv6")]
    Prefix,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_has_one_text() {
        for (given, canonical) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("1.2.3.4/0", "0.0.0.0/0"),
            ("2001:DB8:0:0::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(given.parse::<Cidr>().unwrap().to_string(), canonical);
            assert_eq!(canonical.parse::<Cidr>().unwrap().to_string(), canonical);
        }
        for bad in
            ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "010.0.0.1", "::/129", "a/8", "10.0.0.0/8/8"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_found_in_their_network_only() {
        let network: Cidr = "10.0.0.0/8".parse().unwrap();
        let inside = |text: &str| network.contains(text.parse().unwrap());
        assert!(inside("10.255.0.1") && inside("::ffff:10.0.0.1"));
        assert!(!inside("11.0.0.1") && !inside("::10.0.0.1") && !inside("a00::"));
    }
}

//! Small values of the configuration: addresses, host names, durations, sizes. Pure functions; `Err` is the
//! sentence that the operator reads, without the key.

use std::net::IpAddr;
use std::time::Duration;

/// Host (brackets removed, lower case) and port of an authority; `None` when it is not a valid one.
pub(super) fn split_host_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if !host.contains(':') && !is_host_name(host) {
        return None;
    }
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok().filter(|p| *p > 0)?),
        Some(_) => return None,
        None => None,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// A DNS name or an IPv4 address as it may stand in a `Host` field.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) {
        return false;
    }
    // What looks like an IPv4 address must be one: `127.1` and `0x7f.1` are read differently by different resolvers.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    !numeric || host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// The `host` of a resource: as requests carry it, lower case and without port.
pub(super) fn host(text: &str) -> Result<String, String> {
    // A name with a dot at its end is that name.
    let text = text.strip_suffix('.').unwrap_or(text);
    match split_host_port(text) {
        Some((_, Some(_))) => Err(format!("{text:?} has a port; write the name alone: ports take no part in routing.")),
        Some((host, None)) if host == text.trim_matches(['[', ']']) => {
            Ok(if host.contains(':') { format!("[{host}]") } else { host })
        }
        Some((host, None)) => Err(format!("{text:?} is not in lower case; write {host:?}.")),
        None if text.contains('*') => {
            Err(format!("{text:?} is a pattern; write one host name, like \"api.example.com\"."))
        }
        None => Err(format!("{text:?} is not a host name; write one like \"api.example.com\".")),
    }
}

/// A block of addresses, `10.0.0.0/8`; a single address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    address: IpAddr,
    length: u8,
}

impl AddressBlock {
    /// An address or a block in CIDR form whose host bits are zero.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no address; write one like \"10.1.2.3\" or \"10.0.0.0/8\".");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            Some(digits) => digits.parse::<u8>().ok().filter(|length| *length <= whole).ok_or_else(wrong)?,
            None => whole,
        };
        let block = Self { address, length };
        let first = block.masked(address).ok_or_else(wrong)?;
        if first != block.bits() {
            return Err(format!(
                "{text:?} has bits beyond its prefix length set; write the first address of the block."
            ));
        }
        Ok(block)
    }

    /// Whether the address lies in the block. An IPv4 address that arrived over an IPv6 socket counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.masked(address.to_canonical()) == Some(self.bits())
    }

    fn bits(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn masked(&self, address: IpAddr) -> Option<u128> {
        if address.is_ipv4() != self.address.is_ipv4() {
            return None;
        }
        let bits = Self { address, length: 0 }.bits();
        Some(if self.length == 0 { 0 } else { bits & (u128::MAX << (128 - u32::from(self.length))) })
    }
}

/// `250ms`, `30s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no duration; write a whole number with its unit, like \"250ms\", \"30s\" or \"5m\".");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let ms = match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    ms.map(Duration::from_millis).ok_or_else(wrong)
}

/// `4096` (as text), `64KiB`, `10MiB`, `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write bytes as a number, or \"64KiB\", \"10MiB\", \"1GiB\".");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match &text[digits..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= i64::MAX as u64).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_case_and_without_port() {
        assert_eq!(host("api.example.com").as_deref(), Ok("api.example.com"));
        assert_eq!(host("[::1]").as_deref(), Ok("[::1]"));
        for bad in ["Api.example.com", "api.example.com:80", "*.example.com", "", "a..b", "é.com", "::1", "a b"] {
            assert!(host(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn blocks_contain_what_they_say() {
        let block = AddressBlock::parse("10.0.0.0/8").expect("valid");
        assert!(block.contains("10.255.0.1".parse().expect("address")));
        assert!(block.contains("::ffff:10.1.2.3".parse().expect("address")), "IPv4 over an IPv6 socket is IPv4");
        assert!(!block.contains("11.0.0.1".parse().expect("address")));
        assert!(!block.contains("::a00:1".parse().expect("address")));
        let one = AddressBlock::parse("::1").expect("valid");
        assert!(one.contains("::1".parse().expect("address")) && !one.contains("::2".parse().expect("address")));
        assert!(AddressBlock::parse("0.0.0.0/0").expect("valid").contains("9.9.9.9".parse().expect("address")));
        for bad in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10", "::/129", "a", "0.0.0.0/x"] {
            assert!(AddressBlock::parse(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("512"), Ok(512));
        for bad in ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "99999999999999999999s", "18446744073709551615h", "5é"] {
            assert!(duration(bad).is_err(), "{bad:?} passed");
        }
        for bad in ["", "KiB", "64KB", "64kb", "1 MiB", "-1", "17179869184GiB", "9é"] {
            assert!(size(bad).is_err(), "{bad:?} passed");
        }
    }
}

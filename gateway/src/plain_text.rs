//! Numbers and addresses as text, for what every message pays: the formatting machinery costs several times as much.

use std::io::Write as _;
use std::net::IpAddr;

/// In decimal digits.
pub(crate) fn append_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Without brackets and port.
pub(crate) fn append_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                append_number(out, octet.into());
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_is_displayed() {
        for address in ["0.0.0.0", "127.0.0.1", "255.10.9.200", "::", "2001:db8::1", "::ffff:10.0.0.1"] {
            let mut out = Vec::new();
            append_address(&mut out, address.parse().expect("an address"));
            assert_eq!(out, address.as_bytes());
        }
    }
}

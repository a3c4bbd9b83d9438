//! How gRPC's clients say how long they wait, and are told how it went (gRPC over HTTP/2, the protocol's own description).
//! What a call is, is said where the `grpc(…)` fact is made: [`postern_capabilities::message::grpc_call`].

use std::time::Duration;

use postern_capabilities::problem::Problem;

use super::error::DEADLINE;

/// What `grpc-timeout` says: one to eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The `grpc-status` that a problem is: 16, 7 and 5 are what the design promises, the others their nearest relatives.
pub fn status(problem: &Problem) -> &'static str {
    match problem.status {
        401 => "16",
        403 => "7",
        404 => "5",
        400 | 411 | 414 | 417 | 421 => "3",
        413 | 431 => "8",
        405 => "12",
        504 if problem.kind == DEADLINE => "4",
        408 | 502..=504 => "14",
        _ => "2",
    }
}

/// `grpc-message` is percent-encoded UTF-8: visible ASCII but `%` stays.
pub fn message(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(timeout(b"1S"), Some(Duration::from_secs(1)));
        assert_eq!(timeout(b"250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in [&b""[..], b"S", b"1", b"1s", b"123456789S", b"-1S", b"1.5S", b" 1S", b"1 S"] {
            assert_eq!(timeout(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_ascii() {
        assert_eq!(message("50 % é\r\n"), "50 %25 %C3%A9%0D%0A");
    }
}

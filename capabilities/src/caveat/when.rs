//! Points in time as people write them: `10m` from now, or RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::TIME_MAX;

/// What a time without a whole number of seconds becomes: the stricter reading, on either side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    Down,
    Up,
}

/// A duration from `now` (`90s`, `10m`, `1h30m`, `7d`, `2w`) or a point in time by RFC 3339.
pub(super) fn read(text: &str, now: u64, round: Round) -> Result<u64, &'static str> {
    if text.strip_prefix('-').is_some_and(|span| duration(span).is_some_and(|read| read.is_ok())) {
        return Err(BACKWARDS);
    }
    let time = match duration(text) {
        Some(seconds) => now.checked_add(seconds?).ok_or(TOO_LATE)?,
        None => point(text, round)?,
    };
    if time > TIME_MAX {
        return Err(TOO_LATE);
    }
    Ok(time)
}

const TOO_LATE: &str = "a time after the year 9999 is not possible";
const BACKWARDS: &str = "a duration counts from now on and not back: write one such as 10m, or the time itself";
const ADVICE: &str = "write a duration such as 90s, 10m, 12h, 7d or 1h30m, or a time such as 2030-01-31T12:00:00Z";

/// `None` where the text does not look like a duration at all.
fn duration(text: &str) -> Option<Result<u64, &'static str>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()) {
        return None;
    }
    Some(seconds(text))
}

fn seconds(text: &str) -> Result<u64, &'static str> {
    let mut rest = text;
    let mut total: u64 = 0;
    // Each unit at most once and from large to small, so that `1m1h` and `5m5m` are caught as the mistakes they are.
    for (unit, length) in [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if let Some(after) = after.strip_prefix(unit) {
            let number: u64 = number.parse().map_err(|_| ADVICE)?;
            let part = number.checked_mul(length).ok_or(TOO_LATE)?;
            total = total.checked_add(part).ok_or(TOO_LATE)?;
            rest = after;
        }
    }
    if !rest.is_empty() || text.is_empty() {
        return Err(ADVICE);
    }
    Ok(total)
}

fn point(text: &str, round: Round) -> Result<u64, &'static str> {
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ADVICE)?;
    let up = i64::from(round == Round::Up && time.nanosecond() > 0);
    u64::try_from(time.unix_timestamp() + up).map_err(|_| "a time before 1970 is not possible")
}

/// The time as RFC 3339 in UTC; the bare number where no calendar reaches.
pub(crate) fn printed(time: u64) -> String {
    i64::try_from(time)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("second {time}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_points_are_read() {
        let now = 1_000_000;
        for (text, wanted) in [
            ("90s", now + 90),
            ("10m", now + 600),
            ("1h30m", now + 5400),
            ("2w1d", now + 15 * 86_400),
            ("0s", now),
            ("1970-01-02T00:00:00Z", 86_400),
            ("1970-01-02T01:00:00+01:00", 86_400),
            ("1970-01-02T00:00:00.9Z", 86_400),
            ("9999-12-31T23:59:59Z", TIME_MAX),
        ] {
            assert_eq!(read(text, now, Round::Down), Ok(wanted), "{text}");
        }
        assert_eq!(read("1970-01-02T00:00:00.9Z", now, Round::Up), Ok(86_401));
        for text in [
            "",
            "10",
            "m",
            "10x",
            "1m1h",
            "5m5m",
            "-5m",
            "10 m",
            "2030-01-01",
            "1969-12-31T23:59:59Z",
            "99999999w",
            "18446744073709551615s",
            "１m",
        ] {
            assert!(read(text, now, Round::Down).is_err(), "{text}");
        }
        assert!(read("1s", u64::MAX, Round::Down).is_err());
        assert_eq!(read("-1h", now, Round::Down), Err(BACKWARDS));
    }

    #[test]
    fn times_are_printed_for_people() {
        assert_eq!(printed(0), "1970-01-01T00:00:00Z");
        assert_eq!(printed(TIME_MAX), "9999-12-31T23:59:59Z");
        assert_eq!(printed(u64::MAX), "second 18446744073709551615");
    }
}

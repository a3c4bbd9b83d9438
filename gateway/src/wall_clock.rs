//! The time by which capabilities are decided: the system's clock, as far as it can be believed.
//!
//! Within a run time never goes back: where the system's clock is set back, time goes on from where it was, at the pace of
//! the monotonic clock. Set forward it is followed at once, since what expired while a machine slept has expired.
//!
//! Between runs the record keeps a floor ([`Agreement`]): the newest time at which the system's clock had agreed with the
//! monotonic one for ten minutes. A glitch into the future is over before that, so it locks nobody out; a start long
//! before the floor is refused, because what has expired would be accepted again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, behind which neither HTTP nor RFC 3339 has a date.
pub const SECONDS_MAX: u64 = 253_402_300_799;
/// How far before the floor a start is still believed: clocks are set back by minutes where they run fast.
pub const BEHIND_MAX: Duration = Duration::from_secs(300);
/// How long the clocks must have agreed.
const AGREED_FOR: Duration = Duration::from_secs(600);
/// A difference that is a jump and no slewing.
const JUMP_MIN_MS: u64 = 2_000;

/// The clock that all threads of one gateway share.
#[derive(Debug)]
pub struct WallClock {
    started: Instant,
    /// Milliseconds since the epoch at `started`, by the largest word that the system's clock has given since.
    base_ms: AtomicU64,
}

impl Default for WallClock {
    fn default() -> Self {
        Self { started: Instant::now(), base_ms: AtomicU64::new(0) }
    }
}

impl WallClock {
    /// Now, in whole seconds since the epoch. A clock before 1970 reads as 0, one after 9999 as that year's last second.
    pub fn now(&self) -> u64 {
        // The system's clock first: a thread that is held up in between sees the time late, and never raises it.
        let wall = since_epoch(SystemTime::now());
        self.at(wall, self.started.elapsed())
    }

    fn at(&self, wall: Duration, elapsed: Duration) -> u64 {
        let (wall_ms, elapsed_ms) = (millis(wall), millis(elapsed));
        let base = wall_ms.saturating_sub(elapsed_ms);
        let mut known = self.base_ms.load(Ordering::Relaxed);
        if base > known {
            known = self.base_ms.fetch_max(base, Ordering::Relaxed).max(base);
        }
        (known.saturating_add(elapsed_ms) / 1_000).min(SECONDS_MAX)
    }

    /// How long this clock runs, by the monotonic clock.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Whether the system's clock and the monotonic one agree, and since when.
#[derive(Debug, Default)]
pub struct Agreement {
    /// The system's clock less the monotonic one when they were compared first or jumped last, and the monotonic time then.
    since: Option<(i128, Duration)>,
    kept: Option<Duration>,
}

/// What a comparison of the clocks says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// By how many milliseconds the system's clock has jumped.
    pub jumped_ms: Option<i128>,
    /// The floor that is to be kept, in whole seconds since the epoch.
    pub floor: Option<u64>,
}

impl Agreement {
    /// Compares the clocks. To be called every few seconds.
    pub fn compare(&mut self, wall: Duration, elapsed: Duration) -> Compared {
        let offset = wall.as_millis().cast_signed() - elapsed.as_millis().cast_signed();
        let Some((before, since)) = self.since else {
            self.since = Some((offset, elapsed));
            return Compared::default();
        };
        let jumped = offset - before;
        if jumped.unsigned_abs() >= u128::from(JUMP_MIN_MS) {
            self.since = Some((offset, elapsed));
            return Compared { jumped_ms: Some(jumped), floor: None };
        }
        // Slewing moves both; what drifts apart by less than a jump is taken along.
        self.since = Some((offset, since));
        let is_due = elapsed.saturating_sub(self.kept.unwrap_or(since)) >= AGREED_FOR;
        if elapsed.saturating_sub(since) < AGREED_FOR || !is_due {
            return Compared::default();
        }
        self.kept = Some(elapsed);
        Compared { jumped_ms: None, floor: Some(wall.as_secs().min(SECONDS_MAX)) }
    }
}

/// Whether a start at this time is to be refused, given the floor of the record.
pub fn is_behind(now: u64, floor: u64) -> bool {
    now.saturating_add(BEHIND_MAX.as_secs()) < floor
}

/// Since the epoch; a clock before 1970 reads as 0.
pub fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time as HTTP writes it (RFC 9110 section 5.6.7). A clock beyond 9999, or before 1970, has the nearest date.
pub fn http_date(at: SystemTime) -> String {
    let seconds = since_epoch(at).as_secs().min(SECONDS_MAX);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A time for a sentence: RFC 3339, in UTC.
pub fn printed(seconds: u64) -> String {
    i64::try_from(seconds.min(SECONDS_MAX))
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok())
        .unwrap_or_else(|| format!("second {seconds}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_never_goes_back_and_does_not_stand_still() {
        let clock = WallClock::default();
        assert_eq!(clock.at(s(NOW), s(0)), NOW);
        assert_eq!(clock.at(s(NOW + 5), s(5)), NOW + 5);
        // Set back by an hour: it goes on by the monotonic clock.
        assert_eq!(clock.at(s(NOW - 3_600), s(6)), NOW + 6);
        assert_eq!(clock.at(s(NOW - 3_590), s(16)), NOW + 16);
        // Set forward, or asleep: followed at once.
        assert_eq!(clock.at(s(NOW + 7_200), s(17)), NOW + 7_200);
        assert_eq!(clock.at(s(NOW + 18), s(18)), NOW + 7_201);
    }

    /// The story: a clock beyond the year 9999 ended the thread that wrote a date.
    #[test]
    fn a_year_beyond_9999_and_one_before_1970_are_written_as_the_nearest() {
        let beyond = UNIX_EPOCH + Duration::from_secs(SECONDS_MAX + 1);
        assert_eq!(http_date(beyond), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_secs(1)), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(WallClock::default().at(s(SECONDS_MAX + 100), s(0)), SECONDS_MAX);
        assert_eq!(WallClock::default().at(Duration::MAX, s(3)), SECONDS_MAX);
        assert_eq!(printed(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn a_floor_is_kept_only_when_the_clocks_have_agreed_for_ten_minutes() {
        let mut agreement = Agreement::default();
        let mut at = |wall: u64, elapsed: u64| agreement.compare(s(NOW + wall), s(elapsed));
        assert_eq!(at(0, 0), Compared::default());
        assert_eq!(at(599, 599), Compared::default());
        assert_eq!(at(600, 600), Compared { jumped_ms: None, floor: Some(NOW + 600) });
        assert_eq!(at(1_199, 1_199), Compared::default(), "written every ten minutes alone");
        assert_eq!(
            at(1_201, 1_200),
            Compared { jumped_ms: None, floor: Some(NOW + 1_201) },
            "a second of drift is none"
        );
        // A glitch into the future keeps no floor, neither while it lasts nor when it is over.
        let year = 31_536_000_u64;
        assert_eq!(at(year, 1_300).floor, None);
        assert_eq!(at(year + 300, 1_600), Compared::default());
        assert_eq!(at(1_700, 1_700).jumped_ms, Some(-i128::from(year - 1_300) * 1_000));
        assert_eq!(at(2_299, 2_299), Compared::default());
        assert_eq!(at(2_300, 2_300).floor, Some(NOW + 2_300));
    }

    #[test]
    fn five_minutes_before_the_floor_are_believed() {
        assert!(!is_behind(NOW, NOW + 300));
        assert!(is_behind(NOW, NOW + 301));
        assert!(!is_behind(NOW, 0));
    }
}

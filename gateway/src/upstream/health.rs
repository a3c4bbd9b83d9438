//! When an address is not used: because messages failed on it, and because its health checks fail.
//!
//! Two pure state machines, fed events and the time. [`Ejection`] is what one worker has seen with its own connections: so
//! many failures in a row and the address is left alone for a while, for longer each time it fails again. [`Checks`] is what
//! the gateway's own probes have seen, which all workers go by. Neither knows of other addresses: that the last one is used
//! all the same is for the one that chooses.

use std::time::{Duration, Instant};

/// The bounds of [`Ejection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionPolicy {
    /// Failures in a row that eject.
    pub failures_max: u32,
    /// How long the first ejection lasts; each further one twice as long.
    pub time: Duration,
    /// The longest ejection. An address that was well for so long is a first offender again.
    pub time_max: Duration,
}

/// Whether an address takes messages, by what became of those before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ejection {
    policy: EjectionPolicy,
    failures: u32,
    /// Ejections that were not forgiven.
    offences: u32,
    state: State,
    returned: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InUse,
    Ejected {
        until: Instant,
    },
    /// The time is over; a connection is being tried before any message is.
    Probing,
}

impl Ejection {
    /// An address of which nothing bad is known.
    pub fn new(policy: EjectionPolicy) -> Self {
        Self { policy, failures: 0, offences: 0, state: State::InUse, returned: None }
    }

    /// Other bounds hold from now on.
    pub fn follow(&mut self, policy: EjectionPolicy) {
        self.policy = policy;
    }

    /// Whether it takes messages.
    pub fn is_in_use(&self) -> bool {
        self.state == State::InUse
    }

    /// Failures in a row up to now.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the ejection is over; `None` for an address that is in use, or tried at this moment.
    pub fn until(&self) -> Option<Instant> {
        match self.state {
            State::Ejected { until } => Some(until),
            State::InUse | State::Probing => None,
        }
    }

    /// A message or a connection failed on it.
    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        // What fails on an ejected address was sent there for want of a better one, and says nothing new.
        if self.state == State::InUse && self.failures >= self.policy.failures_max {
            self.eject(now);
        }
    }

    /// It answered a message.
    pub fn answered(&mut self, now: Instant) {
        self.failures = 0;
        if !self.is_in_use() {
            self.state = State::InUse;
            self.returned = Some(now);
        }
    }

    /// Whether it is time to try a connection. Once `true` it is under way, until [`Ejection::probed`] tells how it went.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.until().is_some_and(|until| until <= now);
        if is_due {
            self.state = State::Probing;
        }
        is_due
    }

    /// The connection that was tried could be made, or not. One that could be made admits the address again, on probation:
    /// that it accepts does not mean that it answers, so the next failure ejects it.
    pub fn probed(&mut self, connected: bool, now: Instant) {
        if self.state != State::Probing {
            return;
        }
        if connected {
            self.state = State::InUse;
            self.failures = self.policy.failures_max.saturating_sub(1);
            self.returned = Some(now);
        } else {
            self.eject(now);
        }
    }

    /// The connection could not be tried, for a reason that is not the address's: it is due again later.
    pub fn postponed(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Ejected { until: now + self.policy.time };
        }
    }

    fn eject(&mut self, now: Instant) {
        if self.returned.take().is_some_and(|returned| now.saturating_duration_since(returned) > self.policy.time_max) {
            self.offences = 0;
        }
        let factor = 1_u32.checked_shl(self.offences).unwrap_or(u32::MAX);
        let time = self.policy.time.saturating_mul(factor).min(self.policy.time_max);
        self.offences = self.offences.saturating_add(1);
        self.state = State::Ejected { until: now + time };
    }
}

/// The bounds of [`Checks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckPolicy {
    /// Checks in a row that must pass before an unhealthy address is used again.
    pub healthy_after: u32,
    /// Checks in a row that must fail before a healthy one is not used.
    pub unhealthy_after: u32,
}

/// Whether an address is healthy, by its health checks. One that was not checked yet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    policy: CheckPolicy,
    is_healthy: bool,
    /// Results in a row that speak against the present state.
    against: u32,
}

impl Checks {
    /// An address that is taken for healthy until its checks say otherwise.
    pub fn new(policy: CheckPolicy, is_healthy: bool) -> Self {
        Self { policy, is_healthy, against: 0 }
    }

    /// Whether it is healthy.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// A check passed or failed. Whether that changed the state.
    pub fn observe(&mut self, passed: bool) -> bool {
        if passed == self.is_healthy {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if passed { self.policy.healthy_after } else { self.policy.unhealthy_after };
        if self.against < needed {
            return false;
        }
        self.is_healthy = passed;
        self.against = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: EjectionPolicy =
        EjectionPolicy { failures_max: 3, time: Duration::from_secs(5), time_max: Duration::from_secs(120) };

    fn after(from: Instant, seconds: u64) -> Instant {
        from + Duration::from_secs(seconds)
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        let now = Instant::now();
        let mut it = Ejection::new(POLICY);
        for _ in 0..100 {
            it.failed(now);
            it.failed(now);
            it.answered(now);
        }
        assert!(it.is_in_use() && it.failures() == 0);
        (0..3).for_each(|_| it.failed(now));
        assert!(!it.is_in_use());
        assert_eq!(it.until(), Some(after(now, 5)));
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_longest() {
        let mut now = Instant::now();
        let mut it = Ejection::new(POLICY);
        (0..3).for_each(|_| it.failed(now));
        for seconds in [5, 10, 20, 40, 80, 120, 120] {
            let until = it.until().expect("ejected");
            assert_eq!(until, after(now, seconds));
            assert!(!it.is_due(until - Duration::from_millis(1)));
            assert!(it.is_due(until) && !it.is_due(until), "tried once");
            now = until;
            it.probed(false, now);
        }
    }

    #[test]
    fn a_connection_admits_on_probation_and_an_answer_for_good() {
        let mut now = Instant::now();
        let mut it = Ejection::new(POLICY);
        (0..3).for_each(|_| it.failed(now));
        now = after(now, 5);
        assert!(it.is_due(now));
        it.probed(true, now);
        assert!(it.is_in_use());
        it.failed(now);
        assert_eq!(it.until(), Some(after(now, 10)), "one failure on probation ejects, for longer");
        now = after(now, 10);
        assert!(it.is_due(now));
        it.probed(true, now);
        it.answered(now);
        it.failed(now);
        assert!(it.is_in_use(), "the probation is over");
        // Well for longer than the longest ejection: what was before is forgiven.
        now = after(now, 121);
        it.answered(now);
        (0..3).for_each(|_| it.failed(now));
        assert_eq!(it.until(), Some(after(now, 5)));
    }

    #[test]
    fn an_answer_for_want_of_a_better_address_ends_the_ejection() {
        let now = Instant::now();
        let mut it = Ejection::new(POLICY);
        (0..9).for_each(|_| it.failed(now));
        assert_eq!(it.until(), Some(after(now, 5)), "failures while ejected do not count as offences");
        it.answered(now);
        assert!(it.is_in_use());
        it.probed(false, now);
        assert!(it.is_in_use(), "a try that was overtaken says nothing");
    }

    #[test]
    fn checks_change_the_state_after_so_many_in_a_row() {
        let mut checks = Checks::new(CheckPolicy { healthy_after: 2, unhealthy_after: 3 }, true);
        let observed: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| {
                checks.observe(passed);
                checks.is_healthy()
            })
            .collect();
        assert_eq!(observed, [true, true, true, true, true, false, false, false, false, true]);
    }

    proptest! {
        /// Whatever happens in whatever order: an ejection ends within its longest time once a connection can be made, and
        /// an address in use has failed less often in a row than ejects.
        #[test]
        fn no_order_of_events_loses_an_address(events in proptest::collection::vec((0_u8..5, 0_u64..200), 0..60)) {
            let mut now = Instant::now();
            let mut it = Ejection::new(POLICY);
            for (event, seconds) in events {
                now = after(now, seconds);
                match event {
                    0 | 1 => it.failed(now),
                    2 => it.answered(now),
                    3 => drop(it.is_due(now)),
                    _ => it.probed(seconds % 2 == 0, now),
                }
                prop_assert!(!it.is_in_use() || it.failures() < POLICY.failures_max);
                prop_assert!(it.until().is_none_or(|until| until <= now + POLICY.time_max));
            }
            now = after(now, 120);
            if !it.is_in_use() {
                let _ = it.is_due(now);
                it.probed(true, now);
            }
            prop_assert!(it.is_in_use());
        }
    }
}

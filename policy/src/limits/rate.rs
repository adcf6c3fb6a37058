//! The arithmetic of one rate: the generic cell rate algorithm, which needs one number a sender and no timer.
//!
//! The number is the time at which everything that was sent would have been due at the declared rate. It does not know
//! the rate, so it stays good when a reload changes that.

use std::time::Duration;

/// So many units a second, with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rate {
    per_second: u64,
    burst: u64,
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

// === impl Rate ===

impl Rate {
    /// Both at least 1, or they are taken as 1.
    pub(crate) const fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second: if per_second == 0 { 1 } else { per_second }, burst: if burst == 0 { 1 } else { burst } }
    }

    /// Units a second.
    pub(crate) const fn per_second(self) -> u64 {
        self.per_second
    }

    /// Units that may come at once.
    pub(crate) const fn burst(self) -> u64 {
        self.burst
    }

    /// The time that `units` take at this rate, in nanoseconds; rounded up.
    pub(crate) fn cost(self, units: u64) -> u64 {
        let nanos = (u128::from(units) * u128::from(SECOND)).div_ceil(u128::from(self.per_second));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// When everything is due if `units` are sent `now` by one whose units are `due`; or how long it has to wait.
    ///
    /// What is larger than the burst passes if nothing is owed, and is then owed in full: the rate holds over time, and
    /// no message can be too large for ever.
    pub(crate) fn charge(self, due: u64, now: u64, units: u64) -> Result<u64, Duration> {
        let due = due.max(now);
        let after = due.saturating_add(self.cost(units));
        let most = now.saturating_add(self.cost(self.burst));
        let wait = if units > self.burst { due - now } else { after.saturating_sub(most) };
        if wait == 0 { Ok(after) } else { Err(Duration::from_nanos(wait)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_the_next_waits_for_its_turn() {
        let rate = Rate::new(10, 3);
        let mut due = 0;
        for _ in 0..3 {
            due = rate.charge(due, 0, 1).unwrap();
        }
        assert_eq!(rate.charge(due, 0, 1), Err(Duration::from_millis(100)));
        assert_eq!(rate.charge(due, 40_000_000, 1), Err(Duration::from_millis(60)));
        assert_eq!(rate.charge(due, 100_000_000, 1), Ok(400_000_000));
    }

    #[test]
    fn more_than_the_burst_passes_only_when_nothing_is_owed_and_is_owed_in_full() {
        let rate = Rate::new(1_000, 100);
        let due = rate.charge(0, 0, 5_000).unwrap();
        assert_eq!(due, 5 * SECOND);
        assert_eq!(rate.charge(due, SECOND, 1), Err(Duration::from_millis(3_901)));
        assert_eq!(rate.charge(due, SECOND, 5_000), Err(Duration::from_secs(4)));
        assert!(rate.charge(due, 5 * SECOND, 5_000).is_ok());
    }

    #[test]
    fn no_number_is_too_large_to_count_with() {
        let rate = Rate::new(1, u64::MAX);
        assert_eq!(rate.charge(u64::MAX, u64::MAX, u64::MAX), Ok(u64::MAX));
        assert_eq!(Rate::new(0, 0), Rate::new(1, 1));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_passes_than_burst_and_rate_allow(
            per_second in 1_u64..10_000,
            burst in 1_u64..1_000,
            steps in prop::collection::vec((0_u64..50_000_000, 1_u64..1_000), 1..200),
        ) {
            let rate = Rate::new(per_second, burst);
            let (mut due, mut now, mut passed) = (0, 0, 0);
            for (wait, units) in steps {
                let units = units.min(burst);
                now += wait;
                if let Ok(after) = rate.charge(due, now, units) {
                    due = after;
                    passed += units;
                }
                let allowed = burst as f64 + now as f64 * per_second as f64 / 1e9;
                prop_assert!(passed as f64 <= allowed + 1e-6, "{passed} of {allowed}");
            }
        }

        #[test]
        fn who_waits_as_long_as_it_is_told_passes(
            per_second in 1_u64..1_000_000, burst in 1_u64..1_000, units in 1_u64..5_000, owed in 0_u64..10 * SECOND,
        ) {
            let rate = Rate::new(per_second, burst);
            if let Err(wait) = rate.charge(owed, 0, units) {
                prop_assert!(rate.charge(owed, wait.as_nanos() as u64, units).is_ok());
            }
        }
    }
}

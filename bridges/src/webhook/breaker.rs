//! Leaves a server alone that fails again and again: a circuit breaker, without a clock of its own.
//!
//! Closed until so many requests in a row have failed; then open for a pause, in which nothing is tried; then one request
//! tries, and closes it or opens it again for twice as long.

use std::{ops::RangeInclusive, time::Duration};

use tokio::time::Instant;
use yaml::{Fields, Node, Problems};

/// When a server is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many failures in a row open it.
    pub failures: u32,
    /// How long it stays open at first.
    pub pause: Duration,
}

/// Of one server.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Set while it is open, or its trial is under way.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    /// Since when the one request that tries is under way.
    trial: bool,
}

const FAILURES: RangeInclusive<i64> = 1..=1_000;
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// The longest that it stays open.
const LONGEST: Duration = Duration::from_secs(300);

// === impl BreakerConfig ===

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(10) }
    }
}

impl BreakerConfig {
    pub(super) fn read(node: &Node, problems: &Problems) -> Option<Self> {
        let mut fields = Fields::of(node, problems)?;
        let usual = Self::default();
        let failures = match fields.optional("failures") {
            Some(node) => node.integer(FAILURES, problems).and_then(|count| u32::try_from(count).ok()),
            None => Some(usual.failures),
        };
        let pause = fields.optional("pause").map_or(Some(usual.pause), |node| node.duration(PAUSE, problems));
        fields.finish();
        Some(Self { failures: failures?, pause: pause? })
    }
}

// === impl Breaker ===

impl Breaker {
    /// Whether a request may be made now; else how long it is to wait. Whoever may has to say how it ended.
    pub(super) fn may(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.trial {
            return Err(open.pause);
        }
        match open.until.checked_duration_since(now).filter(|left| !left.is_zero()) {
            Some(left) => Err(left),
            None => {
                open.trial = true;
                Ok(())
            }
        }
    }

    /// The server answered, whatever it said of the request.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// The server did not answer, or said that it can't; whether it is open from now on.
    pub(super) fn failed(&mut self, config: BreakerConfig, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let pause = match &self.open {
            Some(open) if open.trial => (open.pause * 2).min(LONGEST.max(config.pause)),
            // one that was under way when it opened
            Some(_) => return false,
            None if self.failures >= config.failures => config.pause,
            None => return false,
        };
        self.open = Some(Open { until: now + pause, pause, trial: false });
        true
    }

    /// The request that tried came to no end: the next one tries.
    pub(super) fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.trial = false;
        }
    }

    /// Nothing is known against the server.
    pub(super) fn is_clear(&self) -> bool {
        self.failures == 0 && self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BreakerConfig = BreakerConfig { failures: 3, pause: Duration::from_secs(10) };

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_before() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!(!breaker.failed(CONFIG, now) && !breaker.failed(CONFIG, now));
        breaker.answered();
        assert!(!breaker.failed(CONFIG, now) && !breaker.failed(CONFIG, now));
        assert_eq!(breaker.may(now), Ok(()));
        assert!(breaker.failed(CONFIG, now));
        assert_eq!(breaker.may(now + Duration::from_secs(4)), Err(Duration::from_secs(6)));
    }

    #[test]
    fn one_request_tries_and_the_others_wait_for_it() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        (0..3).for_each(|_| _ = breaker.failed(CONFIG, now));
        let later = now + Duration::from_secs(10);
        assert_eq!(breaker.may(later), Ok(()));
        assert!(breaker.may(later).is_err());
        breaker.abandoned();
        assert_eq!(breaker.may(later), Ok(()));
        assert!(breaker.failed(CONFIG, later), "it opens again");
        assert_eq!(breaker.may(later), Err(Duration::from_secs(20)));
        assert_eq!(breaker.may(later + Duration::from_secs(20)), Ok(()));
        breaker.answered();
        assert!(breaker.is_clear());
        assert_eq!(breaker.may(later), Ok(()));
    }

    #[test]
    fn the_pause_has_an_end() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        (0..3).for_each(|_| _ = breaker.failed(CONFIG, now));
        for _ in 0..20 {
            now += LONGEST;
            assert_eq!(breaker.may(now), Ok(()));
            breaker.failed(CONFIG, now);
        }
        assert_eq!(breaker.may(now), Err(LONGEST));
    }
}

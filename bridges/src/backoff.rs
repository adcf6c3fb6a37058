//! How long to wait before something is tried again: doubled with each attempt up to a bound, and shortened by up to a half
//! at random, so that those who failed together do not come back together.

use std::time::Duration;

/// The wait after attempt `attempt`, counted from 0.
pub(crate) fn backoff(first: Duration, longest: Duration, attempt: u32) -> Duration {
    let full = first.saturating_mul(1 << attempt.min(16)).min(longest);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_is_bounded_and_jittered() {
        let (first, longest) = (Duration::from_millis(25), Duration::from_secs(5));
        for attempt in [0, 3, 8, 20, u32::MAX] {
            let full = first.saturating_mul(1 << attempt.min(16)).min(longest);
            for _ in 0..100 {
                let wait = backoff(first, longest, attempt);
                assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?}");
            }
        }
    }
}

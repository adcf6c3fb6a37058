//! Whether the gateway takes messages, and if not, why: what `/readyz` says.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Where the gateway stands between its start and its end. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

// === impl Readiness ===

impl Readiness {
    /// Every listener is bound. Ignored once the drain has begun.
    pub(crate) fn serving(&self) {
        let started = self.0.compare_exchange(STARTING, SERVING, Ordering::SeqCst, Ordering::SeqCst);
        if started.is_err() {
            tracing::debug!("ready only after the drain began");
        }
    }

    /// From here on there is no way back.
    pub(crate) fn draining(&self) {
        self.0.store(DRAINING, Ordering::SeqCst);
    }

    /// `Err` says why no message is taken.
    pub fn check(&self) -> Result<(), &'static str> {
        match self.0.load(Ordering::SeqCst) {
            STARTING => Err("starting: not every listener is bound"),
            SERVING => Ok(()),
            _ => Err("draining: no further message is taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_only_between_start_and_drain() {
        let readiness = Readiness::default();
        assert!(readiness.check().unwrap_err().starts_with("starting"));
        readiness.serving();
        assert_eq!(readiness.clone().check(), Ok(()));
        readiness.draining();
        readiness.serving();
        assert!(readiness.check().unwrap_err().starts_with("draining"));
    }
}

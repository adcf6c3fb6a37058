//! Whether the gateway takes messages, and if not, why: what `/readyz` says.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Where the gateway stands between its start and its end. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<State>>);

/// Why no message is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// The store is being opened, or not every source runs yet.
    Starting,
    /// The store can't be opened: why, and what helps. It stays so until the gateway is started again.
    Broken(String),
    /// A bridge has stopped by itself.
    Failed(String),
    /// The end has begun.
    Draining,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Starting,
    Serving,
    Broken(String),
    Failed(String),
    Draining,
}

// === impl Readiness ===

impl Readiness {
    /// Everything runs. Nothing changes if something failed meanwhile, or if the drain has begun.
    pub(crate) fn serving(&self) {
        let mut state = self.state();
        if matches!(*state, State::Starting) {
            *state = State::Serving;
        }
    }

    /// A bridge stopped by itself; the first one is remembered.
    pub(crate) fn failed(&self, why: String) {
        let mut state = self.state();
        if matches!(*state, State::Starting | State::Serving) {
            *state = State::Failed(why);
        }
    }

    /// The store can't be opened: why, and what helps.
    pub(crate) fn broken(&self, why: String) {
        let mut state = self.state();
        if matches!(*state, State::Starting) {
            *state = State::Broken(why);
        }
    }

    /// From here on there is no way back.
    pub(crate) fn draining(&self) {
        drop(mem::replace(&mut *self.state(), State::Draining));
    }

    /// Whether messages are taken.
    pub fn check(&self) -> Result<(), NotReady> {
        match &*self.state() {
            State::Serving => Ok(()),
            State::Starting => Err(NotReady::Starting),
            State::Broken(why) => Err(NotReady::Broken(why.clone())),
            State::Failed(why) => Err(NotReady::Failed(why.clone())),
            State::Draining => Err(NotReady::Draining),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl NotReady ===

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting: the store is being opened"),
            Self::Broken(why) => write!(f, "the store can't be opened: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Draining => f.write_str("draining: no further message is taken"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_only_between_start_and_drain() {
        let readiness = Readiness::default();
        assert_eq!(readiness.check(), Err(NotReady::Starting));
        readiness.serving();
        assert_eq!(readiness.clone().check(), Ok(()));
        readiness.draining();
        readiness.serving();
        assert_eq!(readiness.check(), Err(NotReady::Draining));
    }

    #[test]
    fn a_failure_is_not_covered_by_what_starts_later() {
        let readiness = Readiness::default();
        readiness.failed("bridge \"web\": port taken".to_owned());
        readiness.serving();
        assert_eq!(readiness.check().unwrap_err().to_string(), "failed: bridge \"web\": port taken");
    }
}

//! Free space of the store's file system.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::MinFree;

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) total: u64,
    /// Without what is kept for the superuser.
    pub(crate) free: u64,
}

/// Asks how much space there is.
pub(crate) type Ask = Box<dyn FnMut(&Path) -> io::Result<Space> + Send>;

/// Watches the free space, at most ten times a second.
pub(crate) struct SpaceGuard {
    path: PathBuf,
    min: MinFree,
    ask: Ask,
    checked: Option<Instant>,
    refusal: Option<String>,
}

const INTERVAL: Duration = Duration::from_millis(100);

// === impl SpaceGuard ===

impl SpaceGuard {
    pub(crate) fn new(path: PathBuf, min: MinFree, ask: Ask) -> Self {
        Self { path, min, ask, checked: None, refusal: None }
    }

    /// Why publishes have to be refused, if they have to be. A file system that gives no answer refuses nothing: the
    /// write itself will tell.
    pub(crate) fn refusal(&mut self) -> Option<&str> {
        if self.checked.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.checked = Some(Instant::now());
            self.refusal = match (self.ask)(&self.path) {
                Ok(space) => self.min.refuses(space),
                Err(error) => {
                    tracing::warn!(%error, "free space of the store is not known");
                    None
                }
            };
        }
        self.refusal.as_deref()
    }
}

impl fmt::Debug for SpaceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceGuard").field("path", &self.path).field("min", &self.min).finish_non_exhaustive()
    }
}

// === impl MinFree ===

impl MinFree {
    fn refuses(self, space: Space) -> Option<String> {
        let share = u128::from(space.total) * u128::from(self.percent) / 100;
        let min = u64::try_from(share).unwrap_or(u64::MAX).max(self.at_least);
        (space.free < min).then(|| {
            format!("the store has {} MB of free space, the limit is {} MB", space.free / 1_000_000, min / 1_000_000)
        })
    }
}

/// Asks the operating system.
pub(crate) fn of_file_system(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Space { total: stat.f_blocks.saturating_mul(stat.f_frsize), free: stat.f_bavail.saturating_mul(stat.f_frsize) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_bound_decides_and_is_inclusive() {
        let min = MinFree { percent: 5, at_least: 256 };
        assert_eq!(min.refuses(Space { total: 1_000, free: 256 }), None);
        assert!(min.refuses(Space { total: 1_000, free: 255 }).is_some());
        assert_eq!(min.refuses(Space { total: 100_000, free: 5_000 }), None);
        assert!(min.refuses(Space { total: 100_000, free: 4_999 }).is_some());
    }

    #[test]
    fn the_file_system_answers() {
        let space = of_file_system(&std::env::temp_dir()).unwrap();
        assert!(space.total > 0 && space.free <= space.total, "{space:?}");
    }
}

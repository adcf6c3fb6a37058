//! When to reload: because it is asked for, or because the files look different and are left alone again.
//!
//! It looks, rather than being notified: see `config::scan`.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Because, QUIET, Reload};
use crate::config::Scan;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How much longer than a look took the next one waits: it takes at most a hundredth of a thread's time, however many
/// files there are.
const REST: u32 = 100;

impl Reload {
    /// Reloads whenever there is a reason to, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch_forever()).await;
    }

    async fn watch_forever(&self) {
        let mut wait = LOOK_EVERY;
        // Different from what was read, and how.
        let mut changing = None;
        loop {
            if tokio::time::timeout(wait, self.0.asked.notified()).await.is_ok() {
                self.now(Because::Asked).await;
                (wait, changing) = (LOOK_EVERY, None);
                continue;
            }
            let began = Instant::now();
            let found = self.look_aside().await;
            let rest = began.elapsed() * REST;
            wait = match found {
                None => LOOK_EVERY.max(rest),
                Some(_) if found == changing => {
                    self.now(Because::FilesChanged).await;
                    LOOK_EVERY.max(rest)
                }
                Some(_) => QUIET,
            };
            changing = found;
        }
    }

    async fn look_aside(&self) -> Option<Scan> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || this.look()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the configuration's files can't be looked at");
                None
            }
        }
    }
}

//! Tells of changes of keys: a bounded part of the past, and what comes.

use std::{collections::VecDeque, sync::Arc};

use envelope::{KeyChange, KeyWatch, RejectKind, Rejection};
use futures_util::future::BoxFuture;
use std::sync::atomic::Ordering::SeqCst;
use tokio::sync::watch;

use crate::{
    queue::closed,
    shared::{Shared, locked},
};

/// The most changes of the past that are kept, and the most of their bytes.
const MAX_CHANGES: usize = 8_192;
const MAX_BYTES: usize = 8 << 20;
/// About the most changes that are told at a time.
const MAX_TOLD: usize = 1_024;

/// A change of a key of `bucket`.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) bucket: Arc<str>,
    pub(crate) change: KeyChange,
}

/// The newest changes, in the order of their revisions.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    /// Of the last change that is not kept any more.
    floor: u64,
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
}

/// An open watch.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    revisions: watch::Receiver<u64>,
    bucket: Arc<str>,
    prefix: String,
    /// Everything up to it is told.
    after: u64,
}

// === impl ChangeLog ===

impl ChangeLog {
    /// Nothing is kept of what is up to `floor`.
    pub(crate) fn behind(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    pub(crate) fn extend(&mut self, changes: impl Iterator<Item = Arc<Change>>) {
        for change in changes {
            self.bytes += change.bytes();
            self.changes.push_back(change);
        }
        while self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.floor = oldest.change.revision;
        }
    }
}

// === impl Change ===

impl Change {
    fn bytes(&self) -> usize {
        self.change.key.len() + self.change.value.as_ref().map_or(0, bytes::Bytes::len)
    }
}

// === impl Watch ===

impl Watch {
    pub(crate) fn open(shared: Arc<Shared>, bucket: Arc<str>, prefix: &str, after: u64) -> Result<Self, Rejection> {
        let revisions = shared.revision.subscribe();
        let newest = *revisions.borrow();
        if after > newest {
            return Err(conflict(format!("revision {after} is not made yet, the newest is {newest}")));
        }
        let mut watch = Self { shared, revisions, bucket, prefix: prefix.to_owned(), after };
        watch.changes(0)?;
        Ok(watch)
    }

    /// At most about `most` changes that are not told yet. A revision is told as a whole.
    fn changes(&mut self, most: usize) -> Result<Vec<KeyChange>, Rejection> {
        let log = locked(&self.shared.changes);
        if log.floor > self.after {
            let (after, floor) = (self.after, log.floor);
            return Err(conflict(format!(
                "what changed after revision {after} is kept no more, only what did after {floor}: list the keys"
            )));
        }
        let mut told = Vec::new();
        if most == 0 {
            return Ok(told);
        }
        let first = log.changes.partition_point(|change| change.change.revision <= self.after);
        for change in log.changes.iter().skip(first) {
            if told.len() >= most && change.change.revision > self.after {
                break;
            }
            self.after = change.change.revision;
            if change.bucket == self.bucket && change.change.key.starts_with(&self.prefix) {
                told.push(change.change.clone());
            }
        }
        Ok(told)
    }

    async fn told(&mut self) -> Result<Vec<KeyChange>, Rejection> {
        loop {
            if self.shared.closed.load(SeqCst) {
                return Err(closed());
            }
            self.revisions.mark_unchanged();
            let told = self.changes(MAX_TOLD)?;
            if !told.is_empty() {
                return Ok(told);
            }
            self.revisions.changed().await.map_err(|_| closed())?;
        }
    }
}

impl KeyWatch for Watch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<KeyChange>, Rejection>> {
        Box::pin(self.told())
    }
}

fn conflict(detail: String) -> Rejection {
    Rejection::new(RejectKind::Conflict, "backbone", detail)
}

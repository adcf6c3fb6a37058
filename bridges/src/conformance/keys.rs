//! Keys in memory, for a bridge that keeps some: what is written stays for as long as the test.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use envelope::{Expect, KeyChange, KeyEntry, KeyPage, KeyValue, KeyWatch, KeyWrite, RejectKind, Rejection, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// The keys of one bridge. Nothing is forgotten, so a watch is never too late.
#[derive(Debug, Default)]
pub struct FakeKeys {
    written: Arc<Mutex<Written>>,
    revision: watch::Sender<u64>,
    refuses: AtomicBool,
}

#[derive(Debug, Default)]
struct Written {
    keys: BTreeMap<Arc<str>, (KeyEntry, Option<Timestamp>)>,
    changes: Vec<KeyChange>,
}

struct Watch {
    written: Arc<Mutex<Written>>,
    revision: watch::Receiver<u64>,
    prefix: String,
    after: u64,
}

// === impl FakeKeys ===

impl FakeKeys {
    /// Whether writes are refused from now on, as by a store that is away.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// What is written at `key` now.
    pub fn value(&self, key: &str) -> Option<Bytes> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).map(|entry| entry.value)
    }
}

impl KeyValue for FakeKeys {
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<KeyEntry>, Rejection>> {
        let entry = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key);
        Box::pin(std::future::ready(Ok(entry)))
    }

    fn write(&self, writes: Vec<KeyWrite>) -> BoxFuture<'static, Result<u64, Rejection>> {
        if self.refuses.load(Ordering::Relaxed) {
            let away = Rejection::new(RejectKind::Unavailable, "keys", "the store is away");
            return Box::pin(std::future::ready(Err(away)));
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = *self.revision.borrow() + 1;
        let answer = written.write(writes, revision).map(|()| revision);
        drop(written);
        if answer.is_ok() {
            self.revision.send_replace(revision);
        }
        Box::pin(std::future::ready(answer))
    }

    fn list(&self, prefix: &str, after: Option<&str>, most: usize) -> BoxFuture<'static, Result<KeyPage, Rejection>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let selected = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let all = written.keys.keys().filter(|key| selected(key)).filter_map(|key| written.get(key));
        let mut entries: Vec<_> = all.take(most + 1).collect();
        let is_cut = entries.len() > most;
        entries.truncate(most);
        let next = entries.last().filter(|_| is_cut).map(|last| last.key.clone());
        let revision = *self.revision.borrow();
        Box::pin(std::future::ready(Ok(KeyPage { entries, next, revision })))
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Box<dyn KeyWatch>, Rejection> {
        let (written, revision) = (self.written.clone(), self.revision.subscribe());
        Ok(Box::new(Watch { written, revision, prefix: prefix.to_owned(), after }))
    }
}

// === impl Written ===

impl Written {
    fn get(&self, key: &str) -> Option<KeyEntry> {
        let (entry, ends) = self.keys.get(key)?;
        ends.is_none_or(|end| end > Timestamp::now()).then(|| entry.clone())
    }

    fn write(&mut self, writes: Vec<KeyWrite>, revision: u64) -> Result<(), Rejection> {
        let as_expected = |write: &KeyWrite| match (write.expect, self.get(&write.key)) {
            (Expect::Anything, _) | (Expect::Absent, None) => true,
            (Expect::Revision(wanted), Some(entry)) => entry.revision == wanted,
            (Expect::Absent, Some(_)) | (Expect::Revision(_), None) => false,
        };
        let is_large = |write: &KeyWrite| write.value.as_ref().is_some_and(|value| value.len() > KeyWrite::MAX_VALUE);
        if let Some(write) = writes.iter().find(|write| is_large(write)) {
            let detail = format!("the value of {:?} is over {} bytes", write.key, KeyWrite::MAX_VALUE);
            return Err(Rejection::new(RejectKind::TooLarge, "keys", detail));
        }
        if let Some(write) = writes.iter().find(|write| !as_expected(write)) {
            let detail = format!("{:?} is not as expected", write.key);
            return Err(Rejection::new(RejectKind::Conflict, "keys", detail));
        }
        for KeyWrite { key, value, ttl, .. } in writes {
            match value.clone() {
                Some(value) => {
                    let ends = ttl.map(|ttl| Timestamp::now().plus(ttl));
                    self.keys.insert(key.clone(), (KeyEntry { key: key.clone(), revision, value }, ends));
                }
                None => {
                    self.keys.remove(&key);
                }
            }
            self.changes.push(KeyChange { key, revision, value });
        }
        Ok(())
    }
}

// === impl Watch ===

impl KeyWatch for Watch {
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<KeyChange>, Rejection>> {
        Box::pin(async move {
            loop {
                let after = self.after;
                let told: Vec<_> = {
                    let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                    self.after = written.changes.last().map_or(after, |last| last.revision.max(after));
                    let wanted = |change: &&KeyChange| change.revision > after && change.key.starts_with(&self.prefix);
                    written.changes.iter().filter(wanted).cloned().collect()
                };
                if !told.is_empty() {
                    return Ok(told);
                }
                let ended = |_| Rejection::new(RejectKind::Unavailable, "keys", "the test has ended");
                self.revision.changed().await.map_err(ended)?;
            }
        })
    }
}

//! One owner's keys.

use std::sync::Arc;

use bytes::Bytes;
use envelope::{KeyEntry, KeyPage, KeyValue, KeyWatch, KeyWrite, Rejection, Timestamp};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{KeyJob, Row, row_key, split, watch::Watch};
use crate::{
    fetch::blocking,
    queue::{Job, Queue, closed},
    shared::Shared,
    store::Store,
};

/// The most entries of a page.
const MAX_PAGE: usize = 1_024;
/// About the most bytes of a page.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// The most rows that are looked at for a page: those that have ended are not in it.
const MAX_LOOKED_AT: usize = 8_192;

/// The keys of the owner `name`.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    shared: Arc<Shared>,
    queue: Queue,
    name: Arc<str>,
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn new(shared: Arc<Shared>, queue: Queue, name: &str) -> Self {
        Self { shared, queue, name: name.into() }
    }
}

impl KeyValue for Bucket {
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<KeyEntry>, Rejection>> {
        let (shared, row_key, key) = (self.shared.clone(), row_key(&self.name, key), Arc::from(key));
        Box::pin(async move {
            let value = blocking(&shared, move |store| store.keys.get(&row_key)).await?;
            let row = value.and_then(|value| readable(value.into()));
            Ok(row.map(|Row { revision, value, .. }| KeyEntry { key, revision, value }))
        })
    }

    fn write(&self, writes: Vec<KeyWrite>) -> BoxFuture<'static, Result<u64, Rejection>> {
        let Self { shared, queue, name } = self.clone();
        Box::pin(async move {
            KeyJob::check(&writes)?;
            shared.ready()?;
            let (reply, answer) = oneshot::channel();
            queue.send(Job::Keys(KeyJob { bucket: name, writes, reply })).await?;
            answer.await.map_err(|_| closed())?
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>, most: usize) -> BoxFuture<'static, Result<KeyPage, Rejection>> {
        let prefix = row_key(&self.name, prefix);
        let after = after.map(|after| row_key(&self.name, after));
        let shared = self.shared.clone();
        // Before the rows are read: what changes meanwhile is told again.
        let revision = *shared.revision.borrow();
        Box::pin(async move {
            let page = blocking(&shared, move |store| page(store, &prefix, after, most.clamp(1, MAX_PAGE))).await?;
            Ok(KeyPage { revision, ..page })
        })
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Box<dyn KeyWatch>, Rejection> {
        let watch = Watch::open(self.shared.clone(), self.name.clone(), prefix, after)?;
        Ok(Box::new(watch))
    }
}

/// What is there and has not ended.
fn readable(value: Bytes) -> Option<Row> {
    match Row::decode(value) {
        Ok(row) => (!row.has_expired(Timestamp::now())).then_some(row),
        Err(error) => {
            tracing::error!(%error, "a key's row can't be read");
            None
        }
    }
}

fn page(store: &Store, prefix: &[u8], after: Option<Vec<u8>>, most: usize) -> fjall::Result<KeyPage> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let from = after.filter(|after| after.as_slice() >= prefix).map_or(Included(prefix.to_vec()), Excluded);
    let (mut page, mut bytes) = (KeyPage::default(), 0);
    for (looked_at, entry) in store.keys.range::<Vec<u8>, _>((from, Unbounded)).enumerate() {
        let (row, value) = entry.into_inner()?;
        if !row.starts_with(prefix) {
            page.next = None;
            return Ok(page);
        }
        if page.entries.len() >= most || bytes >= MAX_PAGE_BYTES || looked_at == MAX_LOOKED_AT {
            return Ok(page);
        }
        let Ok((_, key)) = split(&row) else { continue };
        page.next = Some(key.clone());
        if let Some(Row { revision, value, .. }) = readable(value.into()) {
            bytes += key.len() + value.len();
            page.entries.push(KeyEntry { key, revision, value });
        }
    }
    page.next = None;
    Ok(page)
}

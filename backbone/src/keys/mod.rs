//! Small durable state by key: who may write what, in the groups of the writer.
//!
//! `bucket` is what an owner holds, `watch` tells of changes. Values are on disk only; in memory is what each bucket has
//! used of its quota, and when keys end.

mod bucket;
mod watch;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use envelope::{Expect, KeyChange, KeyWrite, RejectKind, Rejection, Timestamp};
use fjall::OwnedWriteBatch;
use tokio::sync::oneshot;

pub(crate) use bucket::Bucket;
pub(crate) use watch::{Change, ChangeLog};

use crate::{
    KeyQuota,
    codec::{DecodeError, Reader, put_option, put_str, put_u64},
    shared::{Shared, locked},
    store::{Store, number},
};

/// The most keys that a group deletes because they have ended.
const MAX_EXPIRED: usize = 256;

/// The writer's memory of the keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The last one.
    pub(crate) revision: u64,
    used: HashMap<Arc<str>, Used>,
    /// Rows that end, by when.
    expiring: BTreeSet<(Timestamp, Vec<u8>)>,
}

/// Writes of one owner that are made together.
#[derive(Debug)]
pub(crate) struct KeyJob {
    pub(crate) bucket: Arc<str>,
    pub(crate) writes: Vec<KeyWrite>,
    pub(crate) reply: oneshot::Sender<Result<u64, Rejection>>,
}

/// What a group changes.
#[derive(Debug, Default)]
pub(crate) struct KeyChanges {
    /// By the row's key.
    rows: HashMap<Vec<u8>, Changed>,
    used: HashMap<Arc<str>, Used>,
    revision: Option<u64>,
    told: Vec<Arc<Change>>,
}

/// What a bucket has used, or how that changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    keys: i64,
    bytes: i64,
}

/// A row on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) revision: u64,
    expires: Option<Timestamp>,
    pub(crate) value: Bytes,
}

#[derive(Debug, Clone)]
struct Changed {
    /// When the row on disk ends.
    ended: Option<Timestamp>,
    /// `None`: it is deleted.
    row: Option<Row>,
}

// === impl Keys ===

impl Keys {
    /// Takes a row from disk.
    pub(crate) fn load(&mut self, key: &[u8], value: Bytes) -> Result<(), DecodeError> {
        let (bucket, _) = split(key)?;
        let row = Row::decode(value)?;
        let used = self.used.entry(bucket).or_default();
        used.add(Used::of(key, &row), 1);
        self.expiring.extend(row.expires.map(|end| (end, key.to_vec())));
        self.revision = self.revision.max(row.revision);
        Ok(())
    }
}

// === impl KeyJob ===

impl KeyJob {
    pub(crate) fn bytes(&self) -> usize {
        KeyWrite::bytes(&self.writes)
    }

    /// Whether a store may ever make these writes.
    pub(crate) fn check(writes: &[KeyWrite]) -> Result<(), Rejection> {
        let refuse = |kind, detail: String| Err(Rejection::new(kind, "backbone", detail));
        if !(1..=KeyWrite::MAX_WRITES).contains(&writes.len()) {
            let detail = format!("{} writes in one call, there are 1 to {}", writes.len(), KeyWrite::MAX_WRITES);
            return refuse(RejectKind::TooLarge, detail);
        }
        for KeyWrite { key, value, .. } in writes {
            if !(1..=KeyWrite::MAX_KEY).contains(&key.len()) {
                let detail = format!("a key has 1 to {} bytes, this has {}", KeyWrite::MAX_KEY, key.len());
                return refuse(RejectKind::TooLarge, detail);
            }
            let size = value.as_ref().map_or(0, Bytes::len);
            if size > KeyWrite::MAX_VALUE {
                let detail = format!("the value of {key:?} has {size} bytes, the limit is {}", KeyWrite::MAX_VALUE);
                return refuse(RejectKind::TooLarge, detail);
            }
        }
        let bytes = KeyWrite::bytes(writes);
        if bytes > KeyWrite::MAX_BYTES {
            let detail = format!("the writes of one call have {bytes} bytes, the limit is {}", KeyWrite::MAX_BYTES);
            return refuse(RejectKind::TooLarge, detail);
        }
        Ok(())
    }
}

// === impl KeyChanges ===

impl KeyChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a job's writes, all or none. The outer error is the store's.
    pub(crate) fn stage(
        &mut self,
        job: &KeyJob,
        keys: &Keys,
        store: &Store,
        quota: KeyQuota,
    ) -> fjall::Result<Result<u64, Rejection>> {
        let now = Timestamp::now();
        let before = self.revision.unwrap_or(keys.revision);
        let revision = before + 1;
        let mut own: HashMap<Vec<u8>, Changed> = HashMap::with_capacity(job.writes.len());
        let mut used = Used::default();
        let mut told = Vec::with_capacity(job.writes.len());
        for write in &job.writes {
            let key = row_key(&job.bucket, &write.key);
            let known = match own.get(&key).or_else(|| self.rows.get(&key)) {
                Some(changed) => changed.clone(),
                None => Changed::on_disk(&key, store)?,
            };
            let there = known.row.as_ref().filter(|row| !row.has_expired(now));
            if let Some(refusal) = write.refusal(there) {
                return Ok(Err(refusal));
            }
            let row = write.value.clone().map(|value| {
                let expires = write.ttl.map(|ttl| now.plus(ttl));
                Row { revision, expires, value }
            });
            if row.is_none() && known.row.is_none() {
                continue;
            }
            used.add(known.row.as_ref().map_or(Used::default(), |row| Used::of(&key, row)), -1);
            used.add(row.as_ref().map_or(Used::default(), |row| Used::of(&key, row)), 1);
            let change = KeyChange { key: write.key.clone(), revision, value: write.value.clone() };
            told.push(Arc::new(Change { bucket: job.bucket.clone(), change }));
            own.insert(key, Changed { ended: known.ended, row });
        }
        if let Some(refusal) = self.over(&job.bucket, used, keys, quota) {
            return Ok(Err(refusal));
        }
        if own.is_empty() {
            return Ok(Ok(before));
        }
        self.rows.extend(own);
        self.used.entry(job.bucket.clone()).or_default().add(used, 1);
        self.told.append(&mut told);
        self.revision = Some(revision);
        Ok(Ok(revision))
    }

    /// Why a bucket may not grow by so much. It may always shrink.
    fn over(&self, bucket: &Arc<str>, more: Used, keys: &Keys, quota: KeyQuota) -> Option<Rejection> {
        let mut used = keys.used.get(bucket).copied().unwrap_or_default();
        used.add(self.used.get(bucket).copied().unwrap_or_default(), 1);
        used.add(more, 1);
        let over = |used: i64, most: u64| u64::try_from(used).is_ok_and(|used| used > most);
        let detail = if more.keys > 0 && over(used.keys, quota.keys) {
            format!("{bucket:?} has {} keys, which is its quota", quota.keys)
        } else if more.bytes > 0 && over(used.bytes, quota.bytes) {
            format!("the keys and values of {bucket:?} would take {} bytes, its quota is {}", used.bytes, quota.bytes)
        } else {
            return None;
        };
        Some(Rejection::new(RejectKind::Overloaded, "backbone", detail))
    }

    /// Deletes keys that have ended, unless the group has written them.
    pub(crate) fn expire(&mut self, keys: &Keys, store: &Store) -> fjall::Result<()> {
        let now = Timestamp::now();
        let due = keys.expiring.iter().take_while(|(end, _)| *end <= now).take(MAX_EXPIRED);
        let due: Vec<_> = due.map(|(_, key)| key).filter(|key| !self.rows.contains_key(*key)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let revision = self.revision.unwrap_or(keys.revision) + 1;
        for key in due {
            let known = Changed::on_disk(key, store)?;
            if let (Some(row), Ok((bucket, name))) = (&known.row, split(key)) {
                self.used.entry(bucket.clone()).or_default().add(Used::of(key, row), -1);
                let change = KeyChange { key: name, revision, value: None };
                self.told.push(Arc::new(Change { bucket, change }));
            }
            self.rows.insert(key.clone(), Changed { ended: known.ended, row: None });
        }
        self.revision = Some(revision);
        Ok(())
    }

    pub(crate) fn write(&self, batch: &mut OwnedWriteBatch, store: &Store) {
        for (key, changed) in &self.rows {
            match &changed.row {
                Some(row) => batch.insert(&store.keys, key.as_slice(), row.encode()),
                None => batch.remove(&store.keys, key.as_slice()),
            }
        }
        if let Some(revision) = self.revision {
            batch.insert(&store.meta, "revision", number(revision));
        }
    }

    /// Makes the changes visible, once they are on disk.
    pub(crate) fn apply(&mut self, keys: &mut Keys, shared: &Shared) {
        let Some(revision) = self.revision.take() else { return };
        keys.revision = revision;
        for (key, Changed { ended, row }) in self.rows.drain() {
            if let Some(end) = ended {
                keys.expiring.remove(&(end, key.clone()));
            }
            keys.expiring.extend(row.and_then(|row| row.expires).map(|end| (end, key)));
        }
        for (bucket, used) in self.used.drain() {
            keys.used.entry(bucket).or_default().add(used, 1);
        }
        locked(&shared.changes).extend(self.told.drain(..));
        shared.revision.send_replace(revision);
    }
}

// === impl Changed ===

impl Changed {
    fn on_disk(key: &[u8], store: &Store) -> fjall::Result<Self> {
        let row = store.keys.get(key)?.and_then(|value| match Row::decode(value.into()) {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::error!(key = %key.escape_ascii(), %error, "a key's row can't be read");
                None
            }
        });
        Ok(Self { ended: row.as_ref().and_then(|row| row.expires), row })
    }
}

// === impl Used ===

impl Used {
    fn of(key: &[u8], row: &Row) -> Self {
        Self { keys: 1, bytes: (key.len() + row.value.len()).cast_signed() as i64 }
    }

    fn add(&mut self, other: Self, sign: i64) {
        self.keys += sign * other.keys;
        self.bytes += sign * other.bytes;
    }
}

// === impl Row ===

impl Row {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.value.len());
        put_u64(&mut out, self.revision);
        put_option(&mut out, self.expires, |out, time| put_u64(out, time.as_micros()));
        out.extend_from_slice(&self.value);
        out
    }

    /// The value is a slice of what is read.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(&bytes);
        let revision = reader.count("revision")?;
        let expires = reader.option("end", |reader| reader.u64("end"))?.map(Timestamp::from_micros);
        let value = bytes.slice_ref(reader.rest());
        Ok(Self { revision, expires, value })
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

/// What a write asks of the key as it is.
trait Asks {
    fn refusal(&self, there: Option<&Row>) -> Option<Rejection>;
}

impl Asks for KeyWrite {
    fn refusal(&self, there: Option<&Row>) -> Option<Rejection> {
        let key = &self.key;
        let detail = match (self.expect, there) {
            (Expect::Anything, _) | (Expect::Absent, None) => return None,
            (Expect::Absent, Some(row)) => format!("{key:?} is there already, at revision {}", row.revision),
            (Expect::Revision(wanted), Some(row)) if row.revision == wanted => return None,
            (Expect::Revision(wanted), Some(row)) => {
                format!("{key:?} is at revision {}, not at {wanted}", row.revision)
            }
            (Expect::Revision(wanted), None) => format!("{key:?} is not there, let alone at revision {wanted}"),
        };
        Some(Rejection::new(RejectKind::Conflict, "backbone", detail))
    }
}

/// Rows of a bucket stand together, in the order of their keys.
pub(crate) fn row_key(bucket: &str, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + bucket.len() + key.len());
    put_str(&mut out, bucket);
    out.extend_from_slice(key.as_bytes());
    out
}

/// Bucket and key of a row.
pub(crate) fn split(row: &[u8]) -> Result<(Arc<str>, Arc<str>), DecodeError> {
    let mut reader = Reader::new(row);
    let bucket = reader.text("bucket")?;
    let key = std::str::from_utf8(reader.rest()).map_err(|_| DecodeError::Invalid("key"))?;
    Ok((bucket, key.into()))
}

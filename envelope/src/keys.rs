//! The seam through which a bridge keeps small durable state: keys and values, written in the steps that store messages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::Rejection;

/// The keys of one owner. Each write has a revision; revisions only ever rise, over all owners and restarts.
pub trait KeyValue: Send + Sync {
    /// What is written at `key`, if it has not expired.
    fn get(&self, key: &str) -> BoxFuture<'static, Result<Option<KeyEntry>, Rejection>>;

    /// Makes all of `writes` or none of them, in order, and answers with their one revision once they are durable. Refused
    /// with [`Conflict`](crate::RejectKind::Conflict) if a key is not as its write expects, and with
    /// [`Overloaded`](crate::RejectKind::Overloaded) past the owner's quota.
    fn write(&self, writes: Vec<KeyWrite>) -> BoxFuture<'static, Result<u64, Rejection>>;

    /// The entries whose key begins with `prefix`, in the order of their keys, behind `after`; at most `most` of them and
    /// never over 1,024.
    fn list(&self, prefix: &str, after: Option<&str>, most: usize) -> BoxFuture<'static, Result<KeyPage, Rejection>>;

    /// The changes of keys that begin with `prefix`, in order, of every revision above `after`. The past is kept for a while
    /// only: what is too long ago is refused with [`Conflict`](crate::RejectKind::Conflict), and is to be listed instead.
    fn watch(&self, prefix: &str, after: u64) -> Result<Box<dyn KeyWatch>, Rejection>;
}

/// An open watch.
pub trait KeyWatch: Send {
    /// Waits for changes. Cancel safe. An error ends the watch: [`Conflict`](crate::RejectKind::Conflict) if it fell too far
    /// behind.
    fn next(&mut self) -> BoxFuture<'_, Result<Vec<KeyChange>, Rejection>>;
}

/// A key and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    /// The key.
    pub key: Arc<str>,
    /// Of the write that made it so.
    pub revision: u64,
    /// The value.
    pub value: Bytes,
}

/// Some of an owner's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In the order of their keys.
    pub entries: Vec<KeyEntry>,
    /// There may be more behind this key.
    pub next: Option<Arc<str>>,
    /// A watch behind it misses nothing that is not in this page; it may repeat some of it.
    pub revision: u64,
}

/// One change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyWrite {
    /// 1 to 512 bytes.
    pub key: Arc<str>,
    /// How the key has to be before.
    pub expect: Expect,
    /// At most 256 KiB; `None` deletes the key, which is no error if it is not there.
    pub value: Option<Bytes>,
    /// When it is deleted by itself; never if left out. By the system's clock, so that it runs while the gateway does not.
    pub ttl: Option<Duration>,
}

/// How a key has to be for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// In any way.
    Anything,
    /// Not there, or expired.
    Absent,
    /// As the write of this revision left it.
    Revision(u64),
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Arc<str>,
    /// Of the write.
    pub revision: u64,
    /// `None`: it was deleted, or has expired.
    pub value: Option<Bytes>,
}

// === impl KeyWrite ===

impl KeyWrite {
    /// The longest key, in bytes.
    pub const MAX_KEY: usize = 512;
    /// The largest value, in bytes.
    pub const MAX_VALUE: usize = 256 << 10;
    /// The most writes of one call.
    pub const MAX_WRITES: usize = 1_024;
    /// The most bytes of the keys and values of one call.
    pub const MAX_BYTES: usize = 8 << 20;

    /// Of the keys and values.
    pub fn bytes(writes: &[Self]) -> usize {
        writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len)).sum()
    }

    /// Writes the key, whatever was there.
    pub fn put(key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), expect: Expect::Anything, value: Some(value.into()), ttl: None }
    }

    /// Writes a key that is not there.
    pub fn create(key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self { expect: Expect::Absent, ..Self::put(key, value) }
    }

    /// Compares and sets: writes a key that is as `revision` left it.
    pub fn replace(key: impl Into<Arc<str>>, revision: u64, value: impl Into<Bytes>) -> Self {
        Self { expect: Expect::Revision(revision), ..Self::put(key, value) }
    }

    /// Deletes the key.
    pub fn delete(key: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), expect: Expect::Anything, value: None, ttl: None }
    }

    /// The same, deleted by itself after `ttl`.
    #[must_use]
    pub fn expiring(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// The same, made only if the key is as `expect` says.
    #[must_use]
    pub fn expecting(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }
}

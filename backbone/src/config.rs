//! What an embedded backbone is opened with, and why it can't be opened.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crate::SubscriptionQuota;

/// How an embedded backbone is opened. [`EmbeddedConfig::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The folder of the store; made if it does not exist.
    pub path: PathBuf,
    /// This gateway's domain, kept in each record.
    pub domain: Arc<str>,
    /// Below it publishes are refused.
    pub min_free: MinFree,
    /// How long a sender's retry is recognised.
    pub dedup_window: DedupWindow,
    /// The most topics that have a last value; a message that would give one to another topic is refused.
    pub last_values: usize,
    /// What each owner of keys may keep.
    pub keys: KeyQuota,
    /// How much of the log is kept.
    pub retention: Retention,
    /// How many dead letters are kept.
    pub dead_letters: DeadLetterQuota,
    /// After so many deliveries that nobody took, an envelope of a durable subscription is a dead letter. Counted since the
    /// gateway's start.
    pub max_deliveries: Option<u32>,
    /// How many subscriptions one principal may have.
    pub subscriptions: SubscriptionQuota,
    /// So many envelopes wait for a principal's durable subscription, besides those in hand; past it the oldest are given up.
    pub max_waiting: u64,
    /// A durable subscription that nobody consumed for so long ends.
    pub park_for: Duration,
}

/// How many dead letters are kept. Past it a message is refused or given up all the same, and only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterQuota {
    /// Letters.
    pub most: usize,
    /// Bytes of all letters.
    pub bytes: u64,
    /// Bytes of the letters of one sender on one mapping.
    pub sender_bytes: u64,
    /// Letters of one sender on one mapping in a minute.
    pub sender_per_minute: u32,
}

/// How much of the log is kept: past any of the bounds the oldest records go. The newest one always stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// In time that the gateway runs, so that no clock that is set wrong takes a record; in whole seconds, rounded up.
    pub age: Option<Duration>,
    /// Of records; the files of the store may have more for a while.
    pub bytes: Option<u64>,
    /// Envelopes.
    pub records: Option<u64>,
}

/// What one owner of keys may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyQuota {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// The free space of the store's file system below which publishes are refused: the greater of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFree {
    /// Of the file system's size, 0 to 100.
    pub percent: u8,
    /// In bytes.
    pub at_least: u64,
}

/// How long an id is remembered: the oldest go first when either bound is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupWindow {
    /// In time that the gateway runs, so that no jump of the system's clock forgets an id.
    pub age: Duration,
    /// 19 to 39 bytes of memory each.
    pub entries: usize,
}

/// Why an embedded backbone can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("store {path}: another process has it open")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Written by a newer gateway.
    #[error("store {path}: its format is {found}, this gateway reads up to {supported}")]
    NewerFormat {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is read.
        supported: u32,
    },
    /// Its content contradicts itself.
    #[error("store {path}: {what}")]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// The file system or the storage engine refused.
    #[error("store {path}: {source}")]
    Storage {
        /// The folder.
        path: PathBuf,
        /// Its own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What Linux and others call an input or output error of the device.
const EIO: i32 = 5;

// === impl EmbeddedConfig ===

impl EmbeddedConfig {
    /// The most topics that have a last value if nothing else is said: about 20 MB of memory with topics of 60 bytes.
    pub const LAST_VALUES: usize = 100_000;

    /// How many envelopes wait for a durable subscription if nothing else is said.
    pub const MAX_WAITING: u64 = 1_000_000;

    /// When a durable subscription that nobody consumes ends if nothing else is said.
    pub const PARK_FOR: Duration = Duration::from_secs(7 * 86_400);

    /// With the default bounds.
    pub fn new(path: impl Into<PathBuf>, domain: impl Into<Arc<str>>) -> Self {
        Self {
            path: path.into(),
            domain: domain.into(),
            min_free: MinFree::default(),
            dedup_window: DedupWindow::default(),
            last_values: Self::LAST_VALUES,
            keys: KeyQuota::default(),
            retention: Retention::default(),
            dead_letters: DeadLetterQuota::default(),
            subscriptions: SubscriptionQuota::default(),
            max_waiting: Self::MAX_WAITING,
            max_deliveries: None,
            park_for: Self::PARK_FOR,
        }
    }
}

// === impl MinFree ===

impl Default for MinFree {
    /// 5 % and at least 256 MB.
    fn default() -> Self {
        Self { percent: 5, at_least: 256_000_000 }
    }
}

// === impl KeyQuota ===

impl Default for KeyQuota {
    /// 500,000 keys and 256 MiB.
    fn default() -> Self {
        Self { keys: 500_000, bytes: 256 << 20 }
    }
}

// === impl Retention ===

impl Default for Retention {
    /// 30 days and 16 GiB.
    fn default() -> Self {
        Self { age: Some(Duration::from_secs(30 * 86_400)), bytes: Some(16 << 30), records: None }
    }
}

// === impl DeadLetterQuota ===

impl Default for DeadLetterQuota {
    /// 100,000 letters of 256 MiB; of one sender 16 MiB and 600 a minute.
    fn default() -> Self {
        Self { most: 100_000, bytes: 256 << 20, sender_bytes: 16 << 20, sender_per_minute: 600 }
    }
}

// === impl DedupWindow ===

impl Default for DedupWindow {
    /// 24 hours and 10 million ids.
    fn default() -> Self {
        Self { age: Duration::from_secs(24 * 60 * 60), entries: 10_000_000 }
    }
}

// === impl OpenError ===

impl OpenError {
    /// Whether what is in the folder is why: to try again, as it is, changes nothing. Not so what passes, or is mended outside of
    /// the folder: another process, permissions, a disk that is full.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Locked { .. } => false,
            Self::NewerFormat { .. } | Self::Corrupt { .. } => true,
            Self::Storage { source, .. } => source.downcast_ref().is_none_or(is_of_content),
        }
    }
}

/// Whether the system says of a file that it is not what it was.
fn is_of_content(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    // what is no error of the system was found out by who reads the file
    kinds.contains(&error.kind()) || error.raw_os_error().is_none_or(|code| code == EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_folder_makes_a_store_broken() {
        let storage =
            |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Storage { path: "a".into(), source };
        let system = |code| storage(Box::new(io::Error::from_raw_os_error(code)));
        // no such file, input or output error
        for broken in [2, EIO] {
            assert!(system(broken).is_broken(), "{broken}");
        }
        // permission denied, a file in the way, too many open files, no space left, read-only
        for passing in [13, 17, 24, 28, 30] {
            assert!(!system(passing).is_broken(), "{passing}");
        }
        assert!(storage(Box::new(io::Error::new(io::ErrorKind::InvalidData, "x"))).is_broken());
        assert!(storage(Box::new(fjall::Error::Unrecoverable)).is_broken());
        assert!(!OpenError::Locked { path: "a".into() }.is_broken());
        assert!(OpenError::Corrupt { path: "a".into(), what: String::new() }.is_broken());
        assert!(OpenError::NewerFormat { path: "a".into(), found: 9, supported: 2 }.is_broken());
    }
}

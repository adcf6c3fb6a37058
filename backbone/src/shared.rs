//! What the writer shares with publishers and consumers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
};

use envelope::{Position, RejectKind, Rejection};
use tokio::sync::{Semaphore, watch};

use crate::{
    EmbeddedConfig, LedgerReport, Status, StoreCounts, dead::Over, keys::ChangeLog, last::LastIndex, ledger::Books,
    position, store::Store, subscription::Feed, tail::Tail,
};

/// So many queries read the disk at a time; others wait for their turn.
const QUERIES: usize = 4;

/// Shared by the writer, publishers and consumers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EmbeddedConfig,
    pub(crate) books: Arc<Books>,
    pub(crate) tail: Tail,
    /// As of the last group.
    pub(crate) last: RwLock<LastIndex>,
    /// The newest changes of keys.
    pub(crate) changes: Mutex<ChangeLog>,
    /// Of the last change of a key.
    pub(crate) revision: watch::Sender<u64>,
    /// The store's name in positions.
    pub(crate) name: AtomicU32,
    /// The first sequence on disk; the next free one if there is none.
    pub(crate) first: AtomicU64,
    /// Of the log's records.
    pub(crate) bytes: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    /// Dead letters that were not kept.
    pub(crate) dead_over: Over,
    /// The last sequence on disk.
    pub(crate) tip: AtomicU64,
    /// The last sequence that was shown before it is on disk; may be above the tip.
    pub(crate) shown: AtomicU64,
    /// So many groups were begun to be shown.
    pub(crate) shows: AtomicU64,
    /// There was a consumer that need not wait for the disk.
    pub(crate) has_early: AtomicBool,
    /// The number of the last group.
    pub(crate) groups: AtomicU64,
    pub(crate) remembered: AtomicU64,
    pub(crate) evicted: AtomicU64,
    /// `None` while it is opened anew.
    pub(crate) store: watch::Sender<Option<Arc<Store>>>,
    /// Durable subscriptions by name.
    pub(crate) feeds: Mutex<BTreeMap<Arc<str>, Arc<Feed>>>,
    /// Subscriptions without a name whose consumer is gone.
    pub(crate) dropped: Mutex<Vec<u32>>,
    /// Consumers hear no more.
    pub(crate) closed: AtomicBool,
    /// Held while a group's counters are added: a report sees all of a group or none.
    pub(crate) applying: Mutex<()>,
    /// Permits to read for a query.
    pub(crate) queries: Semaphore,
    refusal: Mutex<Option<String>>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(config: EmbeddedConfig, books: Arc<Books>) -> Self {
        Self {
            config,
            books,
            tail: Tail::default(),
            last: RwLock::default(),
            changes: Mutex::default(),
            revision: watch::Sender::new(0),
            name: AtomicU32::new(0),
            first: AtomicU64::new(1),
            bytes: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            dead_over: Over::default(),
            tip: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            shows: AtomicU64::new(0),
            has_early: AtomicBool::new(false),
            groups: AtomicU64::new(0),
            remembered: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            store: watch::Sender::new(None),
            feeds: Mutex::default(),
            dropped: Mutex::default(),
            closed: AtomicBool::new(false),
            applying: Mutex::default(),
            queries: Semaphore::new(QUERIES),
            refusal: Mutex::default(),
        }
    }

    pub(crate) fn position(&self, sequence: u64) -> Position {
        position::of(self.name.load(SeqCst), sequence)
    }

    /// `None` if this store did not make it.
    pub(crate) fn sequence(&self, position: &Position) -> Option<u64> {
        position::sequence(self.name.load(SeqCst), position)
    }

    /// Whether somebody was shown what is not on disk.
    pub(crate) fn is_ahead(&self) -> bool {
        self.shown.load(SeqCst) > self.tip.load(SeqCst)
    }

    /// Why publishes are refused, or that they are taken again.
    pub(crate) fn refuse(&self, why: Option<&str>) {
        let mut refusal = locked(&self.refusal);
        if refusal.as_deref() == why {
            return;
        }
        match why {
            Some(why) => tracing::warn!(why, "the store refuses publishes"),
            None => tracing::info!("the store takes publishes"),
        }
        *refusal = why.map(str::to_owned);
    }

    /// The end: nothing to warn of if it is in order.
    pub(crate) fn refuse_from_now_on(&self, why: &str) {
        *locked(&self.refusal) = Some(why.to_owned());
    }

    pub(crate) fn status(&self) -> Status {
        locked(&self.refusal).clone().map_or(Status::Ready, Status::Refusing)
    }

    /// Refuses with the status's reason, if it is not ready.
    pub(crate) fn ready(&self) -> Result<(), Rejection> {
        match &*locked(&self.refusal) {
            None => Ok(()),
            Some(why) => Err(Rejection::new(RejectKind::Unavailable, "backbone", why.clone())),
        }
    }

    pub(crate) fn report(&self) -> LedgerReport {
        let _between_groups = locked(&self.applying);
        let tip = self.tip.load(SeqCst);
        let feeds = locked(&self.feeds);
        LedgerReport {
            bridges: self.books.counts().collect(),
            subscriptions: feeds.iter().map(|(name, feed)| (name.to_string(), feed.report())).collect(),
            store: StoreCounts {
                stored: tip,
                first_sequence: self.first.load(SeqCst),
                last_sequence: tip,
                bytes: self.bytes.load(SeqCst),
                dead_letters: self.dead_letters.load(SeqCst),
                dead_letters_over: self.dead_over.letters(),
                last_values: read(&self.last).len() as u64,
                groups: self.groups.load(SeqCst),
                dedup_entries: self.remembered.load(SeqCst),
                dedup_evicted: self.evicted.load(SeqCst),
                lost: self.books.lost.load(SeqCst),
            },
        }
    }
}

/// A panic elsewhere leaves plain counters and lists behind: they are as good as before.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`locked`].
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`locked`].
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

//! Takes the oldest records out of the log: by age, bytes and number, a part with each group.
//!
//! What a durable subscription had not settled of them is counted there as lapsed. A record that is its topic's last value
//! moves to a keyspace of its own, so that it stays readable at its sequence. The hash of the last record that went is
//! kept, and with it the chain of what stays can be checked.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use bytes::Bytes;
use envelope::Timestamp;
use fjall::OwnedWriteBatch;

use crate::{
    Retention,
    codec::{Reader, put_u64},
    group::Group,
    index,
    record::{self, Chain},
    registry::Registry,
    shared::{Shared, read},
    state::State,
    store::{Store, number, sequence},
    subscription::{Feed, Outcome},
};

/// The most records, and about the most bytes, that go with one group: more than it can bring.
const MAX_TRIMMED: usize = 2_048;
const MAX_BYTES: usize = 4 << 20;

/// What the log has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The oldest sequence; the next free one if there is none.
    pub(crate) first: u64,
    /// Of all records.
    pub(crate) bytes: u64,
    /// When the oldest was admitted.
    oldest: Option<Timestamp>,
}

/// What goes with a group.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    gone: Vec<u64>,
    /// Last values that stay.
    kept: Vec<(u64, Bytes)>,
    /// Of the last one that goes.
    hash: Chain,
    bytes: u64,
    oldest: Option<Timestamp>,
    /// There is more to go.
    pub(crate) is_full: bool,
}

// === impl Retention ===

impl Retention {
    /// Whether the oldest of `records` of so many bytes has to go.
    fn is_over(&self, records: u64, bytes: u64, oldest: Timestamp, now: Timestamp) -> bool {
        self.records.is_some_and(|most| records > most)
            || self.bytes.is_some_and(|most| bytes > most)
            || self.age.is_some_and(|most| oldest.plus(most) < now)
    }
}

// === impl Extent ===

impl Extent {
    /// As of the whole log, whose last sequence is `last`.
    pub(crate) fn load(store: &Store, last: u64) -> fjall::Result<Self> {
        let Some(first) = store.log.first_key_value() else {
            return Ok(Self { first: last + 1, ..Self::default() });
        };
        let (key, value) = first.into_inner()?;
        let bytes = match store.meta.get("bytes")? {
            Some(bytes) => Reader::new(&bytes).u64("bytes").unwrap_or(0),
            // A store of an older gateway.
            None => store.log.iter().map(|entry| Ok(entry.into_inner()?.1.len() as u64)).sum::<fjall::Result<u64>>()?,
        };
        Ok(Self { first: sequence(&key), bytes, oldest: record::admitted_at(&value).ok() })
    }
}

// === impl Trim ===

impl Trim {
    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.gone.len()
    }

    fn first(&self) -> Option<u64> {
        self.gone.last().map(|last| last + 1)
    }

    pub(crate) fn write(&self, batch: &mut OwnedWriteBatch, store: &Store) -> fjall::Result<()> {
        let Some(first) = self.first() else { return Ok(()) };
        for gone in &self.gone {
            batch.remove(&store.log, gone.to_be_bytes());
        }
        for (sequence, record) in &self.kept {
            batch.insert(&store.kept, sequence.to_be_bytes(), record.clone());
        }
        let mut anchor = Vec::with_capacity(48);
        put_u64(&mut anchor, first);
        anchor.extend_from_slice(&self.hash);
        batch.insert(&store.meta, "anchor", anchor);
        for row in store.times.iter() {
            let (key, value) = row.into_inner()?;
            // The last row stays: what comes is told from it.
            if Reader::new(&value).u64("sequence").unwrap_or(0) + MAX_TRIMMED as u64 >= first {
                break;
            }
            batch.remove(&store.times, key);
        }
        index::trim(batch, store, first)
    }
}

// === impl Group ===

impl Group {
    /// Chooses the records that go with this group.
    pub(crate) fn trim(&mut self, state: &State, store: &Store, shared: &Shared) -> fjall::Result<()> {
        let (policy, extent, now) = (shared.config.retention, state.extent, state.now());
        let (mut records, mut bytes) = (self.next() - extent.first, extent.bytes + self.bytes());
        let Some(oldest) = extent.oldest.filter(|oldest| policy.is_over(records, bytes, *oldest, now)) else {
            return Ok(());
        };
        let last = (self.first - 1).min(self.next().saturating_sub(2));
        if extent.first > last {
            return Ok(());
        }
        self.trim.oldest = Some(oldest);
        let mut found = std::mem::take(&mut self.found);
        for entry in store.log.range(extent.first.to_be_bytes()..=last.to_be_bytes()) {
            let (key, value) = entry.into_inner()?;
            let (at, record) = (sequence(&key), Bytes::from(value));
            let admitted_at = record::admitted_at(&record).unwrap_or_default();
            self.trim.oldest = Some(admitted_at);
            self.trim.is_full = self.trim.gone.len() == MAX_TRIMMED || self.trim.bytes >= MAX_BYTES as u64;
            if self.trim.is_full || !policy.is_over(records, bytes, admitted_at, now) {
                break;
            }
            (records, bytes) = (records - 1, bytes.saturating_sub(record.len() as u64));
            self.trim.bytes += record.len() as u64;
            self.trim.gone.push(at);
            self.trim.hash = record::hash(&record);
            let Ok((_, envelope)) = record::decode(&record) else { continue };
            if self.last.is_at(&envelope.subject, at, &read(&shared.last)) {
                self.trim.kept.push((at, record.clone()));
            }
            state.registry.matching(&envelope.subject, &mut found);
            found.iter().for_each(|id| self.lapse_matched(*id, at, &state.registry));
        }
        self.found = found;
        if let Some(first) = self.trim.first() {
            self.lapse_gaps(first, &state.registry);
        }
        Ok(())
    }

    /// Of the records that it stores.
    fn bytes(&self) -> u64 {
        self.records.iter().map(|prepared| prepared.size as u64).sum()
    }

    /// The record at `sequence`, which the subscription's filters select, goes. One that was in nobody's hands yet is passed.
    fn lapse_matched(&mut self, id: u32, sequence: u64, registry: &Registry) {
        let Some(feed) = registry.get(id).map(|one| one.feed.clone()) else { return };
        let Some(cursor) = self.cursor(&feed, registry) else { return };
        if sequence <= cursor.top {
            return;
        }
        if let Some(counted) = &mut cursor.backlog
            && sequence > *counted
        {
            *counted = sequence;
            cursor.counts.matched += 1;
        }
        self.lapse(&feed, sequence, registry);
    }

    /// What was handed out and not settled, whatever the filters say now.
    fn lapse_gaps(&mut self, first: u64, registry: &Registry) {
        let lapsed: Vec<_> = registry
            .cursors()
            .map(|(feed, cursor)| (feed, self.cursors.get(&feed.id).unwrap_or(cursor)))
            .flat_map(|(feed, cursor)| cursor.gaps.range(..first).map(|gap| (feed.clone(), *gap)))
            .collect();
        for (feed, gap) in lapsed {
            self.lapse(&feed, gap, registry);
        }
    }

    fn lapse(&mut self, feed: &Arc<Feed>, sequence: u64, registry: &Registry) {
        let Some(cursor) = self.cursor(feed, registry) else { return };
        cursor.settle(sequence, Outcome::Lapsed, &feed.lock().handed);
        self.settled(feed.clone(), sequence);
    }

    /// Notes on disk what the log has with this group.
    pub(crate) fn write_extent(
        &mut self,
        extent: Extent,
        batch: &mut OwnedWriteBatch,
        store: &Store,
    ) -> fjall::Result<()> {
        self.trim.write(batch, store)?;
        let bytes = (extent.bytes + self.bytes()).saturating_sub(self.trim.bytes);
        let oldest = match self.trim.oldest {
            Some(oldest) => Some(oldest),
            None => extent.oldest.or_else(|| self.records.first().map(|prepared| prepared.admitted_at)),
        };
        if bytes != extent.bytes {
            batch.insert(&store.meta, "bytes", number(bytes));
        }
        self.extent = Some(Extent { first: self.trim.first().unwrap_or(extent.first), bytes, oldest });
        Ok(())
    }

    /// Makes it visible, once it is on disk.
    pub(crate) fn apply_extent(&mut self, state: &mut State, shared: &Shared) {
        let Some(extent) = self.extent.take() else { return };
        shared.first.store(extent.first, SeqCst);
        shared.bytes.store(extent.bytes, SeqCst);
        state.extent = extent;
        state.trims = self.trim.is_full;
    }
}

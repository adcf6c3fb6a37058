//! Takes the oldest records out of the log: by age, bytes and number, a part with each group.
//!
//! What a durable subscription had not settled of them is counted there as lapsed. A record that is its topic's last value
//! moves to a keyspace of its own, so that it stays readable at its sequence. The hash of the last record that went is
//! kept, and with it the chain of what stays can be checked.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Instant,
};

use bytes::Bytes;
use envelope::Topic;
use fjall::OwnedWriteBatch;

use crate::{
    Retention, ages,
    codec::{DecodeError, Reader, put_u64},
    group::Group,
    index,
    record::{self, Chain},
    registry::Registry,
    shared::{Shared, read},
    state::State,
    store::{Store, number, sequence},
    subscription::{Feed, Outcome},
    times,
};

/// The most records, and about the most bytes, that go with one group: more than it can bring.
const MAX_TRIMMED: usize = 2_048;
const MAX_BYTES: usize = 4 << 20;
/// So many records go between two looks at what speaks only of records that went.
const SWEEP: u64 = 1_024;

/// What the log has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The oldest sequence; the next free one if there is none.
    pub(crate) first: u64,
    /// How many there are; fewer than sequences if a repair gave some up.
    pub(crate) records: u64,
    /// Of all records.
    pub(crate) bytes: u64,
    swept: Swept,
}

/// What is known of the rows that speak of the log, so that nobody looks through those that are gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Swept {
    /// The first sequence when it was looked.
    first: u64,
    /// The oldest row of the times, as its key.
    times: u64,
    /// The oldest row of the index, as its first sequence.
    index: u64,
    /// The oldest row of the ages, as its clock.
    ages: u64,
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
    /// There is more to go.
    pub(crate) is_full: bool,
    /// The next one can't be read.
    is_stuck: bool,
}

// === impl Retention ===

impl Retention {
    /// Whether `records` of so many bytes are too many.
    fn is_over(&self, records: u64, bytes: u64) -> bool {
        self.records.is_some_and(|most| records > most) || self.bytes.is_some_and(|most| bytes > most)
    }
}

// === impl Extent ===

impl Extent {
    /// As of the whole log, whose last sequence is `last`.
    pub(crate) fn load(store: &Store, last: u64) -> fjall::Result<Self> {
        let Some(first) = store.log.first_key_value() else {
            return Ok(Self { first: last + 1, ..Self::default() });
        };
        let first = sequence(&first.key()?);
        let given_up = store.gaps()?.into_iter().map(|(from, to)| (to.min(last) + 1).saturating_sub(from.max(first)));
        let records = (last + 1).saturating_sub(first).saturating_sub(given_up.sum());
        let bytes = match store.meta.get("bytes")? {
            Some(bytes) => Reader::new(&bytes).count("bytes").unwrap_or(0),
            // A store of an older gateway.
            None => store.log.iter().map(|entry| Ok(entry.into_inner()?.1.len() as u64)).sum::<fjall::Result<u64>>()?,
        };
        Ok(Self { first, records, bytes, swept: Swept::default() })
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

    fn write(&self, batch: &mut OwnedWriteBatch, store: &Store) {
        let Some(first) = self.first() else { return };
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
    }
}

// === impl Swept ===

impl Swept {
    /// Takes the rows away that speak only of what is before `first`. What can't be read stays: it misleads nobody.
    fn sweep(self, first: u64, batch: &mut OwnedWriteBatch, store: &Store) -> Self {
        if first < self.first + SWEEP {
            return self;
        }
        let kept = |from, error| {
            tracing::error!(%error, "rows of records that went can't be read, they stay");
            metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
            from
        };
        let times = times::trim(batch, store, first.saturating_sub(MAX_TRIMMED as u64), self.times);
        let index = index::trim(batch, store, first, self.index);
        let ages = ages::trim(batch, store, first, self.ages);
        Self {
            first,
            times: times.unwrap_or_else(|error| kept(self.times, error)),
            index: index.unwrap_or_else(|error| kept(self.index, error)),
            ages: ages.unwrap_or_else(|error| kept(self.ages, error)),
        }
    }
}

/// The topic of a record, and whom it is for if anybody reads an inbox.
fn addressed(record: &Bytes, registry: &Registry) -> Result<(Topic, Vec<Arc<str>>), DecodeError> {
    if !registry.has_inboxes() {
        return Ok((record::topic(record)?, Vec::new()));
    }
    let (_, envelope) = record::decode(record)?;
    let recipients = envelope.recipients().to_vec();
    Ok((envelope.subject, recipients))
}

// === impl Group ===

impl Group {
    /// Chooses the records that go with this group. One that can't be read stays, and what is behind it.
    pub(crate) fn trim(&mut self, state: &State, store: &Store, shared: &Shared) {
        let (policy, extent, over) = (shared.config.retention, state.extent, state.ages.over());
        let (mut records, mut bytes) = (extent.records + self.records.len() as u64, extent.bytes + self.bytes());
        if extent.first > over && !policy.is_over(records, bytes) {
            return;
        }
        let last = (self.first - 1).min(self.next().saturating_sub(2));
        if extent.first > last || state.is_stuck() {
            return;
        }
        let mut found = std::mem::take(&mut self.found);
        let (values, mut newest) = (read(&shared.last), None);
        for row in store.records(extent.first..=last) {
            let (at, record) = match row {
                Ok((at, record)) => (at, Bytes::from(record)),
                Err(error) => {
                    tracing::error!(%error, "a record that is to go can't be read, and what is behind it stays");
                    metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
                    self.trim.is_stuck = true;
                    break;
                }
            };
            self.trim.is_full = self.trim.gone.len() == MAX_TRIMMED || self.trim.bytes >= MAX_BYTES as u64;
            if self.trim.is_full || records <= 1 || (at > over && !policy.is_over(records, bytes)) {
                break;
            }
            (records, bytes) = (records - 1, bytes.saturating_sub(record.len() as u64));
            self.trim.bytes += record.len() as u64;
            self.trim.gone.push(at);
            if let Ok((topic, recipients)) = addressed(&record, &state.registry) {
                if self.last.is_at(&topic, at, &values) {
                    self.trim.kept.push((at, record.clone()));
                }
                state.registry.matching(&topic, &recipients, &mut found);
                found.iter().for_each(|id| self.lapse_matched(*id, at, &state.registry));
            }
            newest = Some(record);
        }
        self.found = found;
        self.trim.hash = newest.map_or(self.trim.hash, |record| record::hash(&record));
        if let Some(first) = self.trim.first() {
            self.lapse_gaps(first, &state.registry);
        }
    }

    /// Of the records that it stores.
    fn bytes(&self) -> u64 {
        self.records.iter().map(|prepared| prepared.size as u64).sum()
    }

    /// The record at `sequence`, which the subscription's filters select, goes. One that was in nobody's hands yet is passed.
    fn lapse_matched(&mut self, id: u32, sequence: u64, registry: &Registry) {
        let Some(one) = registry.get(id) else { return };
        let known = self.cursors.get(&id).or(one.cursor.as_ref());
        if known.is_none_or(|cursor| sequence <= cursor.top) {
            return;
        }
        let feed = one.feed.clone();
        let Some(cursor) = self.cursor(&feed, registry) else { return };
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
        let mut ids: Vec<_> = registry.with_gaps_before(first).chain(self.cursors.keys().copied()).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let Some(one) = registry.get(id) else { continue };
            let Some(cursor) = self.cursors.get(&id).or(one.cursor.as_ref()) else { continue };
            let lapsed: Vec<_> = cursor.gaps.range(..first).copied().collect();
            lapsed.into_iter().for_each(|gap| self.lapse(&one.feed, gap, registry));
        }
    }

    fn lapse(&mut self, feed: &Arc<Feed>, sequence: u64, registry: &Registry) {
        let Some(cursor) = self.cursor(feed, registry) else { return };
        let state = feed.lock();
        // what is given up already is not lost once more
        let was_given_up = cursor.skip > 0 && !state.handed.contains(&sequence);
        cursor.settle(sequence, if was_given_up { Outcome::Over } else { Outcome::Lapsed }, &state.handed);
        drop(state);
        self.revived.retain(|(revived, at)| (revived.id, *at) != (feed.id, sequence));
        self.settled(feed.clone(), sequence);
    }

    /// Notes on disk what the log has with this group.
    pub(crate) fn write_extent(&mut self, extent: Extent, batch: &mut OwnedWriteBatch, store: &Store) {
        self.trim.write(batch, store);
        let first = self.trim.first().unwrap_or(extent.first);
        let mut swept = extent.swept.sweep(first, batch, store);
        swept.index = self.first_indexed().map_or(swept.index, |first| first.min(swept.index));
        let records = (extent.records + self.records.len() as u64).saturating_sub(self.trim.gone.len() as u64);
        let bytes = (extent.bytes + self.bytes()).saturating_sub(self.trim.bytes);
        if bytes != extent.bytes {
            batch.insert(&store.meta, "bytes", number(bytes));
        }
        self.extent = Some(Extent { first, records, bytes, swept });
    }

    /// Makes it visible, once it is on disk.
    pub(crate) fn apply_extent(&mut self, state: &mut State, shared: &Shared) {
        state.trims = self.trim.is_full;
        if self.trim.is_stuck {
            state.stuck = Some(Instant::now());
        }
        let Some(extent) = self.extent.take() else { return };
        shared.first.store(extent.first, SeqCst);
        shared.bytes.store(extent.bytes, SeqCst);
        state.extent = extent;
    }
}

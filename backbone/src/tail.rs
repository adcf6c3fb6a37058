//! The newest envelopes in memory, shared by all subscriptions: a live consumer does not touch the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::record::Stored;

const MAX_ENVELOPES: usize = 4_096;
const MAX_BYTES: usize = 4 << 20;

/// The newest envelopes, in order and without a hole.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// The sequence of the oldest.
    first: u64,
    envelopes: VecDeque<(Arc<Stored>, usize)>,
    bytes: usize,
}

// === impl Tail ===

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a group stored: envelopes and the size of their records, the first at `first`; what is before
    /// `kept` went by retention. Gives what has no place
    /// any more, so that nothing is freed under the lock.
    pub(crate) fn extend(
        &self,
        first: u64,
        kept: u64,
        envelopes: impl Iterator<Item = (Arc<Stored>, usize)>,
    ) -> Vec<Arc<Stored>> {
        let mut gone = Vec::new();
        let mut ring = self.lock();
        if first != ring.first + ring.envelopes.len() as u64 {
            gone.extend(ring.envelopes.drain(..).map(|(envelope, _)| envelope));
            *ring = Ring { first, ..Ring::default() };
        }
        for (envelope, bytes) in envelopes {
            ring.bytes += bytes;
            ring.envelopes.push_back((envelope, bytes));
        }
        while ring.envelopes.len() > MAX_ENVELOPES || ring.bytes > MAX_BYTES || ring.first < kept {
            let Some((envelope, bytes)) = ring.envelopes.pop_front() else { break };
            ring.bytes -= bytes;
            ring.first += 1;
            gone.push(envelope);
        }
        gone
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Arc<Stored>> {
        let ring = self.lock();
        let at = usize::try_from(sequence.checked_sub(ring.first)?).ok()?;
        ring.envelopes.get(at).map(|(envelope, _)| envelope.clone())
    }

    /// Takes back what is at `first` and behind it: it was never stored.
    pub(crate) fn truncate(&self, first: u64) {
        let mut ring = self.lock();
        let keep = usize::try_from(first.saturating_sub(ring.first)).unwrap_or(usize::MAX);
        while ring.envelopes.len() > keep
            && let Some((_, bytes)) = ring.envelopes.pop_back()
        {
            ring.bytes -= bytes;
        }
    }

    /// Whether so much has room in it at a time.
    pub(crate) fn fits(count: usize, bytes: usize) -> bool {
        count <= MAX_ENVELOPES && bytes <= MAX_BYTES
    }

    /// At most `max` envelopes behind `after` up to `tip`, in order; `None` if the next one is not here any more.
    pub(crate) fn after(&self, after: u64, tip: u64, max: usize) -> Option<Vec<(u64, Arc<Stored>)>> {
        let ring = self.lock();
        let at = usize::try_from((after + 1).checked_sub(ring.first)?).ok()?;
        if at >= ring.envelopes.len() || after >= tip {
            return None;
        }
        let found = ring.envelopes.iter().skip(at).take(max).zip(after + 1..=tip);
        Some(found.map(|((envelope, _), sequence)| (sequence, envelope.clone())).collect())
    }
}

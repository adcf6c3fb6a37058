//! What a consumer sees before it is on disk: one that was promised nothing, and is shown no position.
//!
//! The writer shows such consumers what it has staged, then commits and syncs: what they see is in its order, and nothing of
//! it was refused or is a duplicate. Whoever waits for a receipt, has a durable subscription or asks for last values waits
//! for the sync as ever. If the commit fails and the group is found not to be on disk, its sequences are given out anew:
//! consumers that were ahead are put back, and what is offered again they are not shown a second time, unless they are so
//! far behind by then that they read it from the log.

use std::{collections::HashSet, sync::atomic::Ordering::SeqCst};

use envelope::EnvelopeId;

use crate::{
    group::Group,
    registry::Registry,
    shared::Shared,
    state::State,
    subscription::{Feed, MAX_FEED},
    tail::Tail,
};

/// The most ids that a consumer has seen and that are not stored; more come only of a disk that fails all the time.
const MAX_SEEN: usize = 8_192;

/// Of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// It need not wait for the disk.
    pub(crate) allowed: bool,
    /// In groups that the writer began to show after this many it is shown everything; in an earlier one it may have been
    /// passed over.
    since: u64,
    /// Everything that it selects up to this sequence is in its hands, or on its way there.
    pub(crate) upto: u64,
    /// It reads too slowly to be shown anything early: until what it has not been shown is on disk, the rest waits too.
    pub(crate) is_held_back: bool,
    /// It is to be put back behind this sequence: those above are given out anew.
    pub(crate) rewound: Option<u64>,
    /// Envelopes that it has taken and that are not stored: offered again, they are not for it.
    seen: HashSet<EnvelopeId>,
}

/// Of one group.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// So many of its records are in memory where consumers read.
    pub(crate) records: usize,
    /// So many of its matches were looked at.
    matches: usize,
    /// So many groups were begun to be shown before.
    number: u64,
    /// What was passed over, because a consumer had [`Early::seen`] it.
    seen: Vec<(u32, EnvelopeId)>,
}

// === impl Early ===

impl Early {
    /// Whether it is shown what a group brings; `group`: so many were begun before it.
    fn may_see(&self, group: u64) -> bool {
        self.allowed && !self.is_held_back && self.since <= group
    }
}

// === impl Feed ===

impl Feed {
    /// Whether its consumer need not wait for the disk.
    pub(crate) fn allow_early(&self, allowed: bool, shared: &Shared) {
        if allowed && !self.was_early.swap(true, SeqCst) {
            shared.has_early.store(true, SeqCst);
            // last: a group that the writer begins to show after this number was taken sees the two above
            self.lock().early.since = shared.shows.load(SeqCst);
        }
        self.lock().early.allowed = allowed;
    }
}

// === impl Group ===

impl Group {
    /// Shows what was staged since this was called last.
    pub(crate) fn show(&mut self, state: &State, shared: &Shared) {
        let from = std::mem::replace(&mut self.shown.matches, self.matched.len());
        self.show_from(from, state, shared);
        self.is_awaited = self.is_awaited || self.keeps_waiting(from, &state.registry);
    }

    /// Whether somebody waits until the group is on disk. `from`: the first match that was not looked at.
    fn keeps_waiting(&self, from: usize, registry: &Registry) -> bool {
        let waits = |(id, sequence): &(u32, u64)| {
            registry.get(*id).is_some_and(|one| {
                let feed = one.feed.lock();
                feed.attached && feed.early.upto < *sequence
            })
        };
        let is_plain = self.replies.is_empty() && self.last.is_empty() && self.keys.is_empty();
        !is_plain || self.matched.iter().skip(from).any(waits)
    }

    fn show_from(&mut self, from: usize, state: &State, shared: &Shared) {
        if from == 0 {
            self.shown.number = shared.shows.fetch_add(1, SeqCst);
        }
        if !shared.has_early.load(SeqCst) {
            return;
        }
        let bytes = || self.records.iter().map(|one| one.size).sum();
        let concerns =
            |(id, _): &(u32, u64)| state.registry.get(*id).is_some_and(|one| one.feed.was_early.load(SeqCst));
        let is_wanted = self.matched.iter().skip(from).any(concerns);
        if !is_wanted || self.broken.is_some() {
            return;
        }
        // what has no place in memory could not be read before it is on disk
        let fits = Tail::fits(self.records.len(), bytes());
        if fits {
            let new = self.records.iter().skip(self.shown.records).map(|one| (one.stored.clone(), one.size));
            let gone = shared.tail.extend(self.first + self.shown.records as u64, state.extent.first, new);
            self.gone.extend(gone);
            self.shown.records = self.records.len();
            shared.shown.fetch_max(self.next() - 1, SeqCst);
        }
        for (id, sequence) in self.matched.iter_mut().skip(from) {
            let Some(subscription) = state.registry.get(*id).filter(|one| one.feed.was_early.load(SeqCst)) else {
                continue;
            };
            let at = usize::try_from(*sequence - self.first).unwrap_or(usize::MAX);
            let Some(envelope) = self.records.get(at).map(|one| one.stored.envelope.id) else { continue };
            let mut feed = subscription.feed.lock();
            if feed.early.seen.remove(&envelope) {
                self.shown.seen.push((*id, envelope));
                *sequence = 0;
            } else if fits && feed.early.may_see(self.shown.number) && feed.attached && feed.ready.len() < MAX_FEED {
                feed.early.upto = *sequence;
                feed.ready.push_back(*sequence);
                feed.wake.notify_one();
            } else {
                feed.early.is_held_back = true;
            }
        }
    }

    /// The group is not on disk: what was shown of it is put back.
    pub(crate) fn take_back(&mut self, registry: &Registry, shared: &Shared) {
        shared.tail.truncate(self.first);
        for (id, envelope) in self.shown.seen.drain(..) {
            // it is offered once more
            if let Some(one) = registry.get(id) {
                one.feed.lock().early.seen.insert(envelope);
            }
        }
        shared.shown.store(shared.tip.load(SeqCst), SeqCst);
        for (id, sequence) in self.matched.drain(..).filter(|(_, sequence)| *sequence > 0) {
            let Some(subscription) = registry.get(id).filter(|one| one.feed.was_early.load(SeqCst)) else { continue };
            let at = usize::try_from(sequence - self.first).unwrap_or(usize::MAX);
            let Some(envelope) = self.records.get(at).map(|one| one.stored.envelope.id) else { continue };
            let mut feed = subscription.feed.lock();
            feed.early.is_held_back = false;
            if sequence > feed.early.upto {
                continue;
            }
            match feed.ready.binary_search(&sequence) {
                Ok(unread) => {
                    feed.ready.remove(unread);
                }
                Err(_) if feed.early.seen.len() < MAX_SEEN => {
                    feed.early.seen.insert(envelope);
                }
                Err(_) => {}
            }
            feed.early.rewound = Some(self.first - 1);
        }
        for feed in registry.feeds().filter(|feed| feed.was_early.load(SeqCst)) {
            let mut state = feed.lock();
            state.early.upto = state.early.upto.min(self.first - 1);
        }
    }
}

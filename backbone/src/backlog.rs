//! How the writer counts what a consumer passes in its backlog, until what matches is counted when it is appended.

use std::sync::Arc;

use crate::{
    answers::Reply,
    group::{Group, taken_over},
    queue::{Advance, Passed},
    record::Stored,
    registry::Registry,
    shared::Shared,
    subscription::Feed,
};

/// A backlog this short is counted by the writer itself, so that a consumer catches up under any load.
const SHORT_BACKLOG: u64 = 4_096;

// === impl Group ===

impl Group {
    pub(crate) fn advance(&mut self, advance: Advance, registry: &Registry, shared: &Shared) {
        let Advance { feed, generation, passed, mark, reply } = advance;
        let tip = self.next() - 1;
        let answer = match self.cursor(&feed, registry) {
            Some(cursor) if feed.lock().generation == generation => {
                cursor.mark = cursor.mark.max(mark);
                // Retention may have counted the first part of it.
                if let Some(counted) = cursor.backlog
                    && let Some(passed) = passed.filter(|passed| (passed.from..passed.to).contains(&counted))
                {
                    cursor.backlog = Some(passed.to);
                    cursor.counts.matched += passed.matched_above(counted);
                }
                Ok(())
            }
            _ => Err(taken_over()),
        };
        let answer = answer.map(|()| self.catch_up(&feed, tip, registry, shared));
        self.replies.push(Reply::Advance(reply, answer));
    }

    /// Counts the rest of a short backlog, after which the subscription is counted at append.
    fn catch_up(&mut self, feed: &Arc<Feed>, tip: u64, registry: &Registry, shared: &Shared) -> Option<u64> {
        let from = self.cursor(feed, registry)?.backlog?;
        let passed = self.rest(feed, from, tip, registry, shared);
        let cursor = self.cursor(feed, registry)?;
        let Some(passed) = passed else { return cursor.backlog };
        cursor.counts.matched += passed.matched_above(from);
        cursor.backlog = None;
        self.caught_up.push((feed.clone(), passed.to));
        None
    }

    /// What of the sequences above `from` up to `tip` matches, if they are few and in memory.
    fn rest(&mut self, feed: &Feed, from: u64, tip: u64, registry: &Registry, shared: &Shared) -> Option<Passed> {
        if tip - from.min(tip) > SHORT_BACKLOG {
            return None;
        }
        let stored = self.first - 1;
        let mut envelopes: Vec<(u64, Arc<Stored>)> = Vec::new();
        if from < stored {
            let few = usize::try_from(stored - from).ok()?;
            let found = shared.tail.after(from, stored, few).filter(|found| found.len() == few)?;
            envelopes.extend(found);
        }
        let skip = usize::try_from(from.saturating_sub(stored)).ok()?;
        envelopes.extend((self.first..).zip(self.records.iter().map(|one| one.stored.clone())).skip(skip));
        let filters = &self.cursor(feed, registry)?.filters;
        let selects = |stored: &Stored| filters.iter().any(|filter| filter.selects(&stored.envelope));
        let matched = envelopes.iter().filter(|(_, stored)| selects(stored)).map(|(sequence, _)| *sequence).collect();
        Some(Passed { from, to: tip, matched })
    }
}

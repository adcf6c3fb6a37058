//! The last values that a subscription begins with, page by page.
//!
//! They are those of the moment at which it was opened: a topic that has changed since comes with what is stored from then
//! on, so that nothing comes twice and no topic goes back.

use std::collections::VecDeque;

use envelope::{Filter, Topic};

use crate::shared::{Shared, read};

/// What is left of the last values.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Where the subscription's own part of the log begins.
    until: u64,
    after: Option<Topic>,
    /// Sequences that are to be read.
    wanted: VecDeque<u64>,
    is_last_page: bool,
}

/// How many are looked up at a time.
const PAGE: usize = 1_024;

// === impl Snapshot ===

impl Snapshot {
    pub(crate) fn new(until: u64) -> Self {
        Self { until, after: None, wanted: VecDeque::new(), is_last_page: false }
    }

    /// None of them is above it.
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// At most `most` of those that come next; none if there may be more, but not here; `None` at the end.
    pub(crate) fn wanted(&mut self, shared: &Shared, filters: &[Filter], most: usize) -> Option<Vec<u64>> {
        if self.wanted.is_empty() {
            if self.is_last_page {
                return None;
            }
            let page = read(&shared.last).page(filters, self.after.as_ref(), self.until, PAGE);
            self.is_last_page = page.next.is_none();
            self.after = page.next;
            self.wanted.extend(page.found.into_iter().map(|(_, sequence)| sequence));
        }
        Some(self.wanted.iter().take(most).copied().collect())
    }

    /// So many of them are read.
    pub(crate) fn pass(&mut self, count: usize) {
        self.wanted.drain(..count.min(self.wanted.len()));
    }
}

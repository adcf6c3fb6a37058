//! Opens the store anew after a failed commit, and finds out what became of the group that failed.
//!
//! The group's publishers have been told to retry. If it got to disk all the same, its envelopes and settlements count,
//! and a retry that finds its message stored is that message's one outcome.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Instant,
};

use envelope::RejectKind;

use crate::{
    ledger::RouteRow,
    queue::Job,
    shared::locked,
    store::Store,
    writer::{REOPEN, Writer},
};

// === impl Writer ===

impl Writer {
    /// Opens the store anew after a failure, and finds out what became of the group that failed.
    pub(crate) fn reopen(&mut self) {
        if self.store.is_some() || self.tried.is_some_and(|at| at.elapsed() < REOPEN) {
            return;
        }
        self.tried = Some(Instant::now());
        let opened = Store::open(&self.shared.config.path).map_err(|error| error.to_string());
        let opened = opened.and_then(|store| {
            store.rewrite().map_err(|error| error.to_string())?;
            let group = store.group().map_err(|error| error.to_string())?;
            Ok((store, group))
        });
        match opened {
            Ok((store, group)) => {
                self.resolve(group);
                let store = Arc::new(store);
                self.store = Some(store.clone());
                self.make_up(&store);
                self.shared.store.send_replace(Some(store));
                tracing::info!("the store is open again");
            }
            Err(error) => tracing::error!(error, "the store can't be opened anew"),
        }
    }

    /// `last` is the number of the last group on disk.
    fn resolve(&mut self, last: u64) {
        let Some(mut group) = self.doubt.take() else { return };
        if group.number == Some(last) {
            let unanswered = std::mem::take(&mut group.unanswered);
            group.deltas.without_messages_of(&unanswered);
            let asked: Vec<_> = group.asked().collect();
            group.apply(&mut self.state, &self.shared);
            if let Some(from) = group.late_from {
                self.look_behind(from);
            }
            let made = group.registered.and_then(|id| self.state.registry.get(id)).map(|one| one.feed.clone());
            if let Some((name, feed)) = made.and_then(|feed| Some((feed.name.clone()?, feed))) {
                locked(&self.shared.feeds).insert(name, feed);
            }
            self.state.doubt(asked.into_iter());
        } else {
            self.state.group = last;
            group.take_back(&self.state.registry, &self.shared);
            group.registered.into_iter().for_each(|id| self.state.registry.remove(id));
            group.answered.iter().for_each(|row| self.lose(row));
            self.owed.append(&mut group.found_out);
        }
    }

    /// Begins a group with what consumers found out meanwhile, and tell of only once.
    fn make_up(&mut self, store: &Store) {
        if self.owed.is_empty() {
            return;
        }
        let mut open = self.begin_group();
        for (feed, outcomes) in self.owed.drain(..) {
            open.group.stage(Job::Settle { feed, outcomes, reply: None }, &self.state, store, &self.shared);
        }
        self.open = Some(open);
    }

    /// Those that subscribed from this number on look in the log for what was found to be there since.
    fn look_behind(&self, from: u32) {
        for feed in self.state.registry.feeds().filter(|feed| feed.id >= from) {
            let mut state = feed.lock();
            state.restart(self.shared.tip.load(SeqCst));
            state.wake.notify_one();
        }
    }

    /// A message that was acked when it was queued, as its route says, is lost.
    pub(crate) fn lose(&self, row: &RouteRow) {
        row.rejected.add(RejectKind::Unavailable);
        self.shared.books.lost.fetch_add(1, SeqCst);
    }
}

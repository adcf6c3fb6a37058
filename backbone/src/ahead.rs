//! Begins a group on its publisher's own thread.
//!
//! A consumer that need not wait for the disk would otherwise wait for the writer's thread to be woken, and to go on to
//! write and sync before another of the runtime's runs. Where the writer is at nothing and nobody waits ahead, a
//! publisher stages its batch itself, which shows it, and leaves the group to the writer.
//!
//! A group that nobody waits for, since who sent it hears nothing of it and who hears it has it already, is written once
//! there is enough of it or somebody does wait: what comes next would otherwise meet a sync.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use envelope::Rejection;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    group::Group,
    queue::{Job, Publish, Queue},
    shared::Shared,
    writer::Writer,
};

/// The most bytes of a batch that its publisher stages itself, in some tens of microseconds.
const MAX_BYTES: usize = 64 << 10;
/// The most messages of one.
const MAX_MESSAGES: usize = 32;
/// The most jobs of a group that the writer has not taken over: what comes then waits its turn.
const MAX_BEGUN: usize = 1_024;
/// The most records of one.
const MAX_RECORDS: usize = 1_024;

/// The longest that a group stays open which nobody waits for.
const LINGER: Duration = Duration::from_secs(1);

/// A group that publishers have begun.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) group: Group,
    /// The room of its jobs, until it is stored.
    pub(crate) rooms: Vec<Option<OwnedSemaphorePermit>>,
    since: Instant,
}

/// Tells the writer that a group was begun, when it is dropped.
struct Begun<'q>(&'q Queue);

// === impl Queue ===

impl Queue {
    /// Waits for room, then stages the batch or puts it behind what waits.
    pub(crate) async fn publish(&self, publish: Publish, shared: &Shared) -> Result<(), Rejection> {
        let room = self.room(publish.bytes).await?;
        if !shared.has_early.load(SeqCst) {
            return self.put(Job::Publish(publish), Some(room));
        }
        if let Some(_begun) = self.begin(publish, room)? {
            // whoever was shown it goes first: the writer's thread, once woken, may well take this processor
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn begin(&self, publish: Publish, room: OwnedSemaphorePermit) -> Result<Option<Begun<'_>>, Rejection> {
        // a runtime's thread waits for nobody
        let Ok(mut writer) = self.writer.try_lock() else {
            return self.put(Job::Publish(publish), Some(room)).map(|()| None);
        };
        // in this order: what its publisher put before is staged, or is seen here
        if !self.is_staged() || !writer.may_begin(&publish) {
            drop(writer);
            return self.put(Job::Publish(publish), Some(room)).map(|()| None);
        }
        let is_news = writer.stage_now(publish, room);
        Ok(is_news.then(|| Begun(self)))
    }
}

// === impl Begun ===

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.begun();
    }
}

// === impl Writer ===

impl Writer {
    /// Whether the batch can be staged now without reading from disk.
    fn may_begin(&self, publish: &Publish) -> bool {
        let prints = &self.state.prints;
        let is_new = |id| prints.candidates(prints.print(id)).next().is_none();
        self.store.is_some()
            && publish.bytes <= MAX_BYTES
            && publish.messages.len() <= MAX_MESSAGES
            && self
                .open
                .as_ref()
                .is_none_or(|open| open.rooms.len() < MAX_BEGUN && open.group.records.len() < MAX_RECORDS)
            && publish.messages.iter().all(|message| is_new(message.id))
    }

    /// Stages a batch; whether it is the group's first, or the first that somebody waits for.
    fn stage_now(&mut self, publish: Publish, room: OwnedSemaphorePermit) -> bool {
        let Some(store) = self.store.clone() else { return false };
        let is_first = self.open.is_none();
        let mut open = self.open.take().unwrap_or_else(|| self.begin_group());
        let was_awaited = open.group.is_awaited;
        open.group.stage(Job::Publish(publish), &self.state, &store, &self.shared);
        open.group.show(&self.state, &self.shared);
        open.rooms.push(Some(room));
        let is_awaited = open.group.is_awaited;
        self.open = Some(open);
        is_first || is_awaited && !was_awaited
    }

    pub(crate) fn begin_group(&self) -> Open {
        Open { group: Group::new(self.state.next, self.state.chain), rooms: Vec::new(), since: Instant::now() }
    }
}

// === impl Open ===

impl Open {
    /// How long it may wait for more; `None` if it is to be written now.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let may_wait = !self.group.is_awaited
            && self.group.broken.is_none()
            && self.rooms.len() < MAX_BEGUN
            && self.group.records.len() < MAX_RECORDS;
        LINGER.checked_sub(self.since.elapsed()).filter(|_| may_wait)
    }
}

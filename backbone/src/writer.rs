//! The single writer: gathers what waits into groups, and answers nobody before a group's one sync.
//!
//! If a commit fails, everybody in the group is told to retry and the store is opened anew: the storage engine trusts
//! itself no more. Whether the group got to disk after all is known only then.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use fjall::{OwnedWriteBatch, PersistMode};
use metrics::{Counter, Gauge, Histogram};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, oneshot},
};

use crate::{
    Status,
    ahead::Open,
    group::{FoundOut, Group, unavailable},
    queue::{Job, Jobs, Publish, Queued},
    shared::{Shared, locked, read},
    space::{Ask, SpaceGuard, of_file_system},
    state::State,
    store::Store,
};

/// The most messages of a group.
const MAX_MESSAGES: usize = 1_024;
/// The most bytes of a group's records.
const MAX_BYTES: usize = 1 << 20;
/// How long the writer sleeps at most: counters that changed are on disk after it.
const IDLE: Duration = Duration::from_secs(1);
/// How long it sleeps while retention or the index has more to do.
const TRIM: Duration = Duration::from_millis(5);
/// Between two looks at which subscriptions nobody consumes.
const PARK: Duration = Duration::from_secs(60);
/// So many jobs in a group are a crowd: most of it comes back once it is answered.
const CROWD: usize = 8;
/// How long a crowd is waited for at most, and only as long as the last sync took: one sync more would take longer.
const CROWD_WAIT: Duration = Duration::from_micros(300);
/// What is said meanwhile.
pub(crate) const AWAY: &str = "the store is being opened anew after a failure";
/// Between two attempts to open the store anew.
pub(crate) const REOPEN: Duration = Duration::from_millis(200);

/// What tests put in the way of the writer.
pub(crate) struct Hooks {
    pub(crate) space: Ask,
    pub(crate) commit: Box<dyn FnMut() -> Fault + Send>,
}

/// How a commit goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Nothing gets to disk.
    #[cfg(test)]
    Lost,
    /// Everything gets to disk, but the sync says no.
    #[cfg(test)]
    Unsure,
}

/// Writes on a thread of its own; a publisher may begin a group for it, see `ahead`.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: State,
    /// `None` after a failure, until it is opened anew.
    pub(crate) store: Option<Arc<Store>>,
    /// What publishers have begun of the next group.
    pub(crate) open: Option<Open>,
    space: SpaceGuard,
    commit: Box<dyn FnMut() -> Fault + Send>,
    /// The group that failed.
    pub(crate) doubt: Option<Group>,
    /// What consumers found out while nothing could be stored.
    pub(crate) owed: Vec<FoundOut>,
    pub(crate) tried: Option<Instant>,
    /// When it was looked at which subscriptions nobody consumes.
    parked: Instant,
    meters: Meters,
    /// The jobs of the last group, and how long its sync took.
    last: (usize, Duration),
    /// Where answers are given; `None` if the store was opened outside of a runtime.
    runtime: Option<Handle>,
}

/// The thread: takes jobs, and has the writer while it is at one.
struct Worker {
    writer: Arc<Mutex<Writer>>,
    shared: Arc<Shared>,
    jobs: Jobs,
}

/// Jobs for one group.
#[derive(Default)]
struct Gathered {
    jobs: Vec<Queued>,
    messages: usize,
    bytes: usize,
    /// More are likely to come at once.
    is_few: bool,
    /// There are some, and nothing else than messages is asked for.
    are_published: bool,
}

struct Meters {
    groups: Counter,
    failures: Counter,
    records: Counter,
    sync: Histogram,
    remembered: Gauge,
}

// === impl Hooks ===

impl Default for Hooks {
    fn default() -> Self {
        Self { space: Box::new(of_file_system), commit: Box::new(|| Fault::None) }
    }
}

// === impl Writer ===

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, state: State, store: Arc<Store>, hooks: Hooks) -> Self {
        let space = SpaceGuard::new(shared.config.path.clone(), shared.config.min_free, hooks.space);
        let meters = Meters::new();
        let mut writer = Self {
            shared,
            state,
            store: Some(store),
            open: None,
            space,
            commit: hooks.commit,
            doubt: None,
            owed: Vec::new(),
            tried: None,
            parked: Instant::now(),
            meters,
            last: (0, Duration::ZERO),
            runtime: Handle::try_current().ok(),
        };
        writer.look_around();
        writer
    }

    /// How long may nothing be done without a job.
    fn patience(&self) -> Duration {
        let open = self.open.as_ref().map(|open| open.patience().unwrap_or_default());
        let rest = match &self.store {
            Some(_) if self.state.trims || self.state.index.is_behind() => TRIM,
            Some(_) => IDLE,
            None => REOPEN,
        };
        open.unwrap_or(rest).min(rest)
    }

    /// Writes what publishers have begun.
    fn flush(&mut self, jobs: &mut Jobs) {
        if self.open.is_some() {
            self.write(Gathered::default(), jobs);
        }
    }

    /// One group: stages, commits with one sync, then answers. Without a job, the counters that changed.
    fn write(&mut self, mut gathered: Gathered, jobs: &mut Jobs) {
        let Some(store) = self.store.clone() else {
            let away = unavailable(AWAY);
            return gathered.jobs.into_iter().for_each(|queued| self.fail(queued.job, &away));
        };
        let mut open = self.open.take().unwrap_or_else(|| self.begin_group());
        let staged = self.stage(&mut open.group, &mut gathered.jobs, &store);
        open.rooms.extend(staged);
        if gathered.are_published && open.patience().is_some() {
            self.open = Some(open);
            return;
        }
        let Open { mut group, mut rooms, .. } = open;
        let is_idle = rooms.is_empty();
        if gathered.is_few {
            std::thread::park_timeout(self.last.1.min(CROWD_WAIT));
            gathered.take(jobs);
            rooms.extend(self.stage(&mut group, &mut gathered.jobs, &store));
        }
        if !is_idle {
            self.last.0 = rooms.len();
        }
        self.state.evict(&mut group, self.shared.config.dedup_window, &store);
        group.last.expire(&read(&self.shared.last));
        if self.parked.elapsed() >= PARK.min(self.shared.config.park_for) {
            self.parked = Instant::now();
            group.park(&self.state, &self.shared);
        }
        if let Err(error) = group.keys.expire(&self.state.keys, &store) {
            group.broken = Some(error);
        }
        self.age(&mut group, &store);
        group.trim(&self.state, &store, &self.shared);
        if is_idle {
            group.index_older(&self.state.index, self.state.extent.first, &store);
        }
        self.finish(group, &store);
    }

    /// Adds jobs to the group, and shows what they bring to whoever need not wait for the disk. The room of the jobs.
    fn stage(&mut self, group: &mut Group, jobs: &mut Vec<Queued>, store: &Store) -> Vec<Option<OwnedSemaphorePermit>> {
        group.reserve(jobs.iter().map(|queued| queued.job.messages()).sum(), jobs.len());
        let mut rooms = Vec::with_capacity(jobs.len());
        for Queued { job, room, turn } in jobs.drain(..) {
            group.stage(job, &self.state, store, &self.shared);
            drop(turn);
            rooms.push(room);
        }
        group.show(&self.state, &self.shared);
        rooms
    }

    /// Looks which records are too old, and how old what the group stores will be.
    fn age(&mut self, group: &mut Group, store: &Store) {
        let clock = self.state.clock();
        if !self.state.is_stuck()
            && let Err(error) = self.state.ages.look(clock, store)
        {
            tracing::error!(%error, "how old records are can't be read, and none goes by its age");
            metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
            self.state.stuck = Some(Instant::now());
        }
        group.aged = self.state.ages.due(clock, group.next() - 1);
    }

    /// Commits and applies a staged group; `false` if it failed.
    pub(crate) fn finish(&mut self, mut group: Group, store: &Store) -> bool {
        match self.store_group(&mut group, store) {
            Ok(()) => {
                let (records, evicted) =
                    (group.records.len() as u64, group.evicted.iter().map(|old| old.ids.len() as u64).sum());
                group.apply(&mut self.state, &self.shared);
                self.shared.groups.store(self.state.group, SeqCst);
                self.shared.remembered.store(self.state.prints.len() as u64, SeqCst);
                self.shared.evicted.fetch_add(evicted, SeqCst);
                // Last: whoever is answered finds its message in the report.
                group.answer(None, self.runtime.as_ref());
                self.meters.records.increment(records);
                self.meters.remembered.set(self.state.prints.len() as f64);
                true
            }
            Err(error) => {
                tracing::error!(%error, "a group could not be stored, the store is opened anew");
                self.meters.failures.increment(1);
                self.shared.refuse(Some(AWAY));
                let failed = unavailable("the store failed, offer the message again").because(error);
                group.answer(Some(&failed), self.runtime.as_ref());
                self.doubt = Some(group);
                self.store = None;
                self.shared.store.send_replace(None);
                false
            }
        }
    }

    /// The rows of the ledger are read last, so that they have everything that was counted before the sync.
    fn store_group(&mut self, group: &mut Group, store: &Store) -> fjall::Result<()> {
        if let Some(error) = group.broken.take() {
            return Err(error);
        }
        let changed = |(key, value): &(Vec<u8>, Vec<u8>)| self.state.saved.get(key) != Some(value);
        group.rows = self.shared.books.rows(&group.deltas).into_iter().filter(changed).collect();
        group.clock = group.clock.or_else(|| self.state.clock_to_note(group.is_empty()));
        if group.is_empty() && group.clock.is_none() {
            return Ok(());
        }
        store.make_room()?;
        let entries =
            group.records.len() + group.evicted.len() + group.cursors.len() + group.rows.len() + group.trim.len() + 4;
        let batch = OwnedWriteBatch::with_capacity(store.database.clone(), entries);
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for (sequence, prepared) in (group.first..).zip(&mut group.records) {
            batch.insert(&store.log, sequence.to_be_bytes(), std::mem::take(&mut prepared.record));
        }
        if !group.records.is_empty() {
            let latest = group.records.iter().map(|prepared| prepared.admitted_at).max();
            group.times = Some(self.state.times.after(latest).written(group.next() - 1, &mut batch, store));
        }
        if !group.fresh.ids.is_empty() {
            group.fresh.clock = self.state.clock();
            batch.insert(&store.dedup, group.fresh.first().to_be_bytes(), group.fresh.encode());
        }
        if let Some(row) = group.aged {
            row.write(&mut batch, store);
        }
        for old in &group.evicted {
            batch.remove(&store.dedup, old.first().to_be_bytes());
        }
        group.dead.write(&mut batch, store);
        for name in group.dropped.iter().filter_map(|id| self.state.registry.get(*id)?.feed.name.clone()) {
            batch.remove(&store.subscriptions, name);
        }
        for (id, cursor) in group.cursors.iter().filter(|(id, _)| !group.dropped.contains(id)) {
            let name = self.state.registry.get(*id).and_then(|one| one.feed.name.clone());
            if let Some(name) = name {
                batch.insert(&store.subscriptions, name, cursor.encode());
            }
        }
        group.write_index(&self.state.index, &mut batch, store);
        group.write_extent(self.state.extent, &mut batch, store);
        group.last.write(&mut batch, store, &read(&self.shared.last), self.state.extent.first);
        group.keys.write(&mut batch, store);
        for (key, value) in &group.rows {
            batch.insert(&store.ledger, key.as_slice(), value.as_slice());
        }
        self.state.group += 1;
        group.number = Some(self.state.group);
        batch.insert(&store.meta, "group", crate::store::number(self.state.group));
        if let Some(clock) = group.clock {
            batch.insert(&store.meta, "clock", crate::store::number(clock));
        }
        let started = Instant::now();
        let result = match (self.commit)() {
            Fault::None => batch.commit(),
            #[cfg(test)]
            Fault::Lost => Err(fjall::Error::Poisoned),
            #[cfg(test)]
            Fault::Unsure => batch.commit().and(Err(fjall::Error::Poisoned)),
        };
        self.last.1 = started.elapsed();
        self.meters.sync.record(self.last.1);
        self.meters.groups.increment(1);
        result
    }

    /// A job that came while there is no store.
    fn fail(&mut self, job: Job, away: &envelope::Rejection) {
        match job {
            Job::Publish(Publish { reply: None, messages, .. }) => {
                messages.iter().for_each(|message| self.lose(&message.row));
            }
            Job::Settle { feed, outcomes, reply: None } => self.owed.push((feed, outcomes)),
            job => job.fail(away),
        }
    }

    /// Free space, and consumers that went away.
    fn look_around(&mut self) {
        if self.store.is_some() {
            self.shared.refuse(self.space.refusal());
        }
        self.let_go();
    }

    /// The last counters, and where each consumer was. Everything that was queued before is stored by now.
    fn close(&mut self) -> Result<(), envelope::Rejection> {
        self.shared.refuse_from_now_on("the store is closed");
        let Some(store) = self.store.clone() else {
            return Err(unavailable("the store failed and could not be opened anew"));
        };
        let mut group = Group::new(self.state.next, self.state.chain);
        group.clock = Some(self.state.clock());
        for (feed, cursor) in self.state.registry.cursors() {
            let mark = feed.lock().high.max(feed.doubtful.load(SeqCst));
            if cursor.mark != mark {
                group.cursors.insert(feed.id, crate::subscription::Cursor { mark, ..cursor.clone() });
            }
        }
        let stored = self.finish(group, &store);
        self.store = None;
        stored.then_some(()).ok_or_else(|| unavailable("the last group could not be stored"))
    }
}

// === impl Worker ===

/// Runs until the store is closed or nobody is left to send a job. Without a close nothing more is written: what was
/// answered is on disk.
pub(crate) fn run(writer: Arc<Mutex<Writer>>, jobs: Jobs) {
    let shared = locked(&writer).shared.clone();
    Worker { writer, shared, jobs }.run();
}

impl Worker {
    fn run(mut self) {
        let mut patience = IDLE;
        loop {
            let next = self.jobs.next(patience);
            // whoever had it and panicked left half of a group behind
            let Ok(mut writer) = self.writer.lock() else { return };
            writer.reopen();
            match next {
                Ok(Queued { job: Job::Close(reply), .. }) => {
                    writer.flush(&mut self.jobs);
                    let result = writer.close();
                    drop(writer);
                    return self.end(reply, result);
                }
                Ok(Queued { job: Job::Attach { who, what, reply }, turn, .. }) => {
                    writer.flush(&mut self.jobs);
                    writer.attach(&who, what, reply);
                    drop(turn);
                }
                Ok(first) => {
                    let gathered = Gathered::behind(first, writer.last.0, &mut self.jobs);
                    writer.write(gathered, &mut self.jobs);
                }
                Err(RecvTimeoutError::Timeout) => writer.write(Gathered::default(), &mut self.jobs),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            writer.look_around();
            patience = writer.patience();
        }
    }

    fn end(self, reply: oneshot::Sender<Result<(), envelope::Rejection>>, result: Result<(), envelope::Rejection>) {
        // The folder is free before whoever closes it hears so.
        drop(self);
        if reply.send(result).is_err() {
            tracing::debug!("nobody waits for the store to be closed");
        }
    }
}

impl Drop for Worker {
    /// However it ends, by a defect of its own too: nothing is taken any more, and consumers hear of it.
    fn drop(&mut self) {
        if self.shared.status() == Status::Ready {
            self.shared.refuse_from_now_on("the store's writer has ended");
        }
        self.shared.store.send_replace(None);
        self.shared.closed.store(true, SeqCst);
        let mut writer = locked(&self.writer);
        (writer.store, writer.open, writer.doubt) = (None, None, None);
        writer.state.registry.feeds().for_each(|feed| feed.lock().wake.notify_one());
        self.shared.revision.send_modify(|_| {});
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("state", &self.state).finish_non_exhaustive()
    }
}

// === impl Gathered ===

impl Gathered {
    /// `first` and what waits behind it, within the bounds; the last group had so many jobs. A subscription that opens and
    /// the end of the store stand between groups.
    ///
    /// Publishers that wait for an answer before they send again come back in the time of a sync. Where the last group
    /// was a crowd and most of it is still on its way, it is to be waited for once, or every other sync would be for a few.
    fn behind(first: Queued, crowd: usize, jobs: &mut Jobs) -> Self {
        let mut gathered = Self {
            messages: first.job.messages(),
            bytes: first.job.bytes(),
            are_published: first.job.is_published(),
            jobs: vec![first],
            is_few: false,
        };
        gathered.is_few = gathered.take(jobs) && crowd >= CROWD && gathered.jobs.len() < crowd / 2;
        gathered
    }

    /// Takes what waits; `false` if the group is full or has to end here.
    fn take(&mut self, jobs: &mut Jobs) -> bool {
        while let Some(next) = jobs.waiting() {
            self.messages += next.job.messages();
            self.bytes += next.job.bytes();
            self.are_published &= next.job.is_published();
            let apart = matches!(next.job, Job::Attach { .. } | Job::Close(_));
            if apart || self.messages > MAX_MESSAGES || self.bytes > MAX_BYTES {
                jobs.hold(next);
                return false;
            }
            self.jobs.push(next);
        }
        true
    }
}

// === impl Meters ===

impl Meters {
    fn new() -> Self {
        Self {
            groups: metrics::counter!("openmesh_backbone_groups_total"),
            failures: metrics::counter!("openmesh_backbone_failures_total"),
            records: metrics::counter!("openmesh_backbone_records_total"),
            sync: metrics::histogram!("openmesh_backbone_sync_seconds"),
            remembered: metrics::gauge!("openmesh_backbone_dedup_entries"),
        }
    }
}

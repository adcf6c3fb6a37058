//! What the writer keeps in memory between groups, and how it is read at start.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use envelope::{EnvelopeId, Timestamp};

use crate::{
    DedupWindow, OpenError,
    ages::Ages,
    codec::DecodeError,
    dead::DeadBook,
    dedup::Fingerprints,
    group::Group,
    index::Index,
    keys::{ChangeLog, Keys},
    record::Chain,
    registry::Registry,
    retention::Extent,
    shared::{Shared, locked, write},
    store::{Remembered, Store, storage},
    subscription::{Cursor, Feed},
    times::Times,
};

/// Seconds of the gateway's running that a crash may forget, and more where there is nothing else to write.
const NOTE: u64 = 60;
const NOTE_IDLE: u64 = 1_800;
/// How many of the oldest rows of ids are read ahead, to see whether they are over their age.
const OLDEST: usize = 16;
/// About the most ids that one group forgets: more than it can remember, so that the window shrinks under any load.
const MAX_EVICTED: usize = 8_192;
/// Doubted ids that are kept; more come only of a disk that fails all the time.
const MAX_DOUBTED: usize = 65_536;

/// After what can't be read retention tries again so much later.
const STUCK: Duration = Duration::from_secs(60);

/// The writer's memory.
#[derive(Debug)]
pub(crate) struct State {
    /// The next free sequence.
    pub(crate) next: u64,
    /// The hash of the last record.
    pub(crate) chain: Chain,
    /// The number of the last group.
    pub(crate) group: u64,
    pub(crate) prints: Fingerprints,
    pub(crate) registry: Registry,
    pub(crate) keys: Keys,
    pub(crate) times: Times,
    pub(crate) ages: Ages,
    pub(crate) index: Index,
    pub(crate) dead: DeadBook,
    pub(crate) extent: Extent,
    /// Retention has more to do.
    pub(crate) trims: bool,
    /// When it met something that can't be read.
    pub(crate) stuck: Option<Instant>,
    /// Ids that are stored though their sender was told to retry: the retry is the message's first outcome.
    pub(crate) doubted: HashSet<EnvelopeId>,
    /// The ledger's rows as they are on disk.
    pub(crate) saved: HashMap<Vec<u8>, Vec<u8>>,
    /// The oldest ids that are remembered.
    oldest: VecDeque<Arc<Remembered>>,
    /// No id below it is remembered.
    floor: u64,
    /// Seconds that the gateway had run at start.
    clock: u64,
    /// [`Self::clock`] as it is on disk.
    noted: u64,
    started: Instant,
    /// What the system's clock said then.
    started_at: Timestamp,
}

// === impl State ===

impl State {
    /// Reads the folder; fills the books and the list of feeds on the way.
    pub(crate) fn load(store: &Store, shared: &Shared) -> Result<Self, OpenError> {
        let path = &shared.config.path;
        let failed = |error| storage(path, error);
        let corrupt = |what: String| OpenError::Corrupt { path: path.clone(), what };
        let (last, chain) = store.last(path)?;
        let mut state = Self {
            next: last + 1,
            chain,
            group: store.group().map_err(failed)?,
            prints: Fingerprints::default(),
            registry: Registry::default(),
            keys: Keys::default(),
            times: Times::load(store).map_err(failed)?,
            ages: Ages::load(store, shared.config.retention.age).map_err(failed)?,
            index: Index::load(store, last).map_err(failed)?,
            extent: Extent::load(store, last).map_err(failed)?,
            trims: false,
            stuck: None,
            dead: DeadBook::load(store).map_err(failed)?,
            doubted: HashSet::new(),
            saved: HashMap::new(),
            oldest: VecDeque::new(),
            floor: 0,
            clock: store.word("clock").map_err(failed)?,
            noted: 0,
            started: Instant::now(),
            started_at: Timestamp::now(),
        };
        for remembered in store.remembered(0) {
            let wrong = |error| corrupt(format!("ids that are remembered: {error}"));
            let remembered = remembered.map_err(failed)?.map_err(wrong)?;
            state.clock = state.clock.max(remembered.clock);
            remembered.ids.iter().for_each(|(sequence, id)| state.prints.insert(state.prints.print(*id), *sequence));
        }
        state.clock = state.clock.max(state.ages.clock());
        state.noted = state.clock;
        for entry in store.ledger.iter() {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let wrong =
                |error: DecodeError| corrupt(format!("ledger row {:?}: {error}", key.escape_ascii().to_string()));
            shared.books.load(&key, &value).map_err(wrong)?;
            state.saved.insert(key.to_vec(), value.to_vec());
        }
        for entry in store.subscriptions.iter() {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let wrong = |error| corrupt(format!("subscription {:?}: {error}", key.escape_ascii().to_string()));
            let name = std::str::from_utf8(&key).map_err(|_| wrong(DecodeError::Invalid("name")))?;
            state.add(name, Cursor::decode(&value).map_err(wrong)?, shared);
        }
        for entry in store.last.iter() {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let wrong = |error| corrupt(format!("last value of {:?}: {error}", key.escape_ascii().to_string()));
            write(&shared.last).load(&key, &value).map_err(wrong)?;
        }
        for entry in store.keys.iter() {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let wrong = |error| corrupt(format!("key {:?}: {error}", key.escape_ascii().to_string()));
            state.keys.load(&key, value.into()).map_err(wrong)?;
        }
        state.keys.revision = state.keys.revision.max(store.revision().map_err(failed)?);
        shared.revision.send_replace(state.keys.revision);
        *locked(&shared.changes) = ChangeLog::behind(state.keys.revision);
        shared.dead_letters.store(state.dead.len() as u64, SeqCst);
        shared.name.store(store.name, SeqCst);
        shared.first.store(state.extent.first, SeqCst);
        shared.bytes.store(state.extent.bytes, SeqCst);
        shared.tip.store(last, SeqCst);
        shared.groups.store(state.group, SeqCst);
        shared.remembered.store(state.prints.len() as u64, SeqCst);
        Ok(state)
    }

    fn add(&mut self, name: &str, cursor: Cursor, shared: &Shared) {
        let id = self.registry.number();
        let name: Arc<str> = name.into();
        let feed = Arc::new(Feed::new(id, Some(name.clone()), Some(&cursor)));
        locked(&shared.feeds).insert(name, feed.clone());
        let (filters, owner) = (cursor.filters.clone(), cursor.owner.clone());
        self.registry.insert(feed, filters, Some(cursor), owner);
    }

    /// Seconds that the gateway has run over all its starts: no jump of the system's clock moves it.
    pub(crate) fn clock(&self) -> u64 {
        self.clock + self.started.elapsed().as_secs()
    }

    /// The clock, if it is to be noted on disk again with a group.
    pub(crate) fn clock_to_note(&self, is_empty: bool) -> Option<u64> {
        let after = if is_empty { NOTE_IDLE } else { NOTE };
        Some(self.clock()).filter(|now| *now >= self.noted + after)
    }

    /// It is on disk.
    pub(crate) fn note(&mut self, clock: u64) {
        self.noted = clock;
    }

    /// Retention met something that can't be read, and does not try again yet.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.is_some_and(|at| at.elapsed() < STUCK)
    }

    /// Now, as the system's clock would say it if it had not been set since the start. It may have been wrong then, so
    /// nothing is old by it.
    pub(crate) fn now(&self) -> Timestamp {
        self.started_at.plus(self.started.elapsed())
    }

    /// Chooses the ids to forget with this group: those over their age, and the oldest of those over their number.
    pub(crate) fn evict(&mut self, group: &mut Group, window: DedupWindow, store: &Store) {
        if self.prints.is_empty() {
            return;
        }
        let now = self.clock();
        let mut over = (self.prints.len() + group.fresh.ids.len()).saturating_sub(window.entries);
        let mut evicted = 0;
        while evicted < MAX_EVICTED {
            let Some(old) = self.oldest(group.evicted.len(), store) else { break };
            if over == 0 && now.saturating_sub(old.clock) <= window.age.as_secs() {
                break;
            }
            over = over.saturating_sub(old.ids.len());
            evicted += old.ids.len();
            group.evicted.push(old);
        }
    }

    /// The oldest row but `at`. One that can't be read is not forgotten before the next start, which refuses it.
    fn oldest(&mut self, at: usize, store: &Store) -> Option<Arc<Remembered>> {
        if at >= self.oldest.len() {
            let from = self.oldest.back().map_or(self.floor, |last| last.first() + 1);
            let more = store.remembered(from).take(OLDEST).map_while(|row| row.ok()?.ok());
            self.oldest.extend(more.map(Arc::new));
        }
        self.oldest.get(at).cloned()
    }

    /// The ids are forgotten on disk.
    pub(crate) fn forget(&mut self, evicted: &[Arc<Remembered>]) {
        for old in evicted {
            old.ids.iter().for_each(|(sequence, id)| self.prints.remove(self.prints.print(*id), *sequence));
            self.floor = old.first() + 1;
        }
        self.oldest.drain(..evicted.len().min(self.oldest.len()));
    }

    /// A group is on disk though its publishers were told to retry.
    pub(crate) fn doubt(&mut self, ids: impl Iterator<Item = EnvelopeId>) {
        if self.doubted.len() > MAX_DOUBTED {
            self.doubted.clear();
        }
        self.doubted.extend(ids);
    }
}

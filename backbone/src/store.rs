//! The folder: its keyspaces, its format, and what is read at start.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | log | sequence | record |
//! | dedup | first sequence of a commit | clock, and of each message its first envelope's sequence and id |
//! | ledger | bridge, or bridge and mapping | counters |
//! | subscriptions | durable name | cursor |
//! | last | topic | sequence of its last value, and when that expires |
//! | times | latest admission time up to there | a sequence |
//! | ages | seconds for which the gateway had run | the last sequence that was stored by then |
//! | index | attribute, first sequence of a block | a fingerprint of each record's |
//! | kept | sequence | a record that retention took from the log, and that is its topic's last value |
//! | dead | number | a dead letter |
//! | keys | owner and key | revision, when it ends, value |
//! | meta | word | `format`, `name` of the store in positions, `group`, `clock` for which the gateway had run, `gaps` that a repair left, `revision`, `dead`, `bytes` of the log, `anchor`: its first sequence and the hash of the record before |
//!
//! Integers that are keys are big-endian, so that order of bytes is order of sequence.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    ops::RangeBounds,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use envelope::{EnvelopeId, Fingerprint};
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, UserValue,
    config::{BlockSizePolicy, FilterPolicy, PartitioningPolicy, PinningPolicy},
};

use crate::{
    OpenError,
    codec::{DecodeError, MOST, Reader, below, put_u64},
    engine::EngineError,
    record::{self, Stored, Texts},
};

/// The newest format of the folder that is read, and the one that is written.
pub(crate) const FORMAT: u32 = 2;

/// Memory for blocks that were read.
const CACHE: u64 = 4 << 20;
/// Memory for records that are in the journal and in no table yet.
const LOG_MEMTABLE: u64 = 8 << 20;
const MEMTABLE: u64 = 2 << 20;
/// Of the log, which is read in long runs. A flipped bit takes a whole block.
const LOG_BLOCK: u32 = 16 << 10;
/// The most sealed memtables of a keyspace that wait to become tables.
const MAX_SEALED: usize = 2;
/// Between two looks at whether they did.
const FLUSH: Duration = Duration::from_millis(2);
/// The least that the storage engine takes.
const JOURNALS: u64 = 64 << 20;
const OPEN_FILES: usize = 128;

/// The open folder.
#[derive(Clone)]
pub(crate) struct Store {
    /// Its name in positions.
    pub(crate) name: u32,
    pub(crate) database: Database,
    pub(crate) log: Keyspace,
    pub(crate) dedup: Keyspace,
    pub(crate) ledger: Keyspace,
    pub(crate) subscriptions: Keyspace,
    pub(crate) last: Keyspace,
    pub(crate) keys: Keyspace,
    pub(crate) kept: Keyspace,
    pub(crate) dead: Keyspace,
    pub(crate) times: Keyspace,
    pub(crate) ages: Keyspace,
    pub(crate) index: Keyspace,
    pub(crate) meta: Keyspace,
}

/// Ids that are remembered, and forgotten, together: one row, as one commit made them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Seconds that the gateway had run.
    pub(crate) clock: u64,
    /// Where each id is stored, in order.
    pub(crate) ids: Vec<(u64, EnvelopeId)>,
}

/// A record's envelope, or why it can't be read.
pub(crate) type Read = Result<Stored, DecodeError>;

// === impl Store ===

impl Store {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let storage = |error| storage(path, error);
        let database = Database::builder(path)
            .cache_size(CACHE)
            .max_journaling_size(JOURNALS)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(1)
            .open()
            .map_err(storage)?;
        let options =
            |memtable| KeyspaceCreateOptions::default().max_memtable_size(memtable).expect_point_read_hits(true);
        let keyspace = |name| database.keyspace(name, || options(MEMTABLE)).map_err(storage);
        // sequences need no filters, and indexes are read as the blocks are, so that memory does not grow with the log; a folder
        // keeps what it was made with
        let log = || {
            options(LOG_MEMTABLE)
                .data_block_size_policy(BlockSizePolicy::all(LOG_BLOCK))
                .filter_policy(FilterPolicy::disabled())
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .index_block_pinning_policy(PinningPolicy::all(false))
        };
        let mut store = Self {
            name: 0,
            log: database.keyspace("log", log).map_err(storage)?,
            dedup: keyspace("dedup")?,
            ledger: keyspace("ledger")?,
            subscriptions: keyspace("subscriptions")?,
            last: keyspace("last")?,
            keys: keyspace("keys")?,
            kept: keyspace("kept")?,
            dead: keyspace("dead")?,
            times: keyspace("times")?,
            ages: keyspace("ages")?,
            index: keyspace("index")?,
            meta: keyspace("meta")?,
            database,
        };
        store.check_format(path)?;
        store.name = store.named_once().map_err(storage)?;
        Ok(store)
    }

    /// Its name, which is made with the folder, or when a store of an older gateway is opened.
    fn named_once(&self) -> fjall::Result<u32> {
        if let Some(name) = u32::try_from(self.word("name")?).ok().filter(|name| *name > 0) {
            return Ok(name);
        }
        let name = (RandomState::new().build_hasher().finish() as u32).max(1);
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.meta, "name", number(name.into()));
        batch.commit()?;
        Ok(name)
    }

    /// Refuses the format of a newer gateway; a new folder gets ours.
    fn check_format(&self, path: &Path) -> Result<(), OpenError> {
        let corrupt = |what: &str| OpenError::Corrupt { path: path.into(), what: what.into() };
        match self.meta.get("format").map_err(|error| storage(path, error))? {
            Some(bytes) => {
                let found = Reader::new(&bytes).u64("format").map_err(|error| corrupt(&error.to_string()))?;
                match u32::try_from(found).unwrap_or(u32::MAX) {
                    FORMAT => Ok(()),
                    1 => self.migrate_from_1(path),
                    0 => Err(corrupt("its format is 0")),
                    found => Err(OpenError::NewerFormat { path: path.into(), found, supported: FORMAT }),
                }
            }
            None if self.log.first_key_value().is_some() => Err(corrupt("it has records but no format")),
            None => {
                let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&self.meta, "format", number(FORMAT.into()));
                batch.commit().map_err(|error| storage(path, error))
            }
        }
    }

    /// Format 1 had records without flags, which are read as they are, and fewer keyspaces, which are empty then.
    fn migrate_from_1(&self, path: &Path) -> Result<(), OpenError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.meta, "format", number(FORMAT.into()));
        batch.commit().map_err(|error| storage(path, error))?;
        tracing::info!(store = %path.display(), from = 1, to = FORMAT, "the store's format is raised");
        Ok(())
    }

    /// The last sequence that was given out, and the hash of the last record.
    pub(crate) fn last(&self, path: &Path) -> Result<(u64, record::Chain), OpenError> {
        let reached = self.reached().map_err(|error| storage(path, error))?;
        let (Some(first), Some(last)) = (self.log.first_key_value(), self.log.last_key_value()) else {
            return Ok((reached, [0; 32]));
        };
        let first = first.key().map_err(|error| storage(path, error))?;
        let (key, value) = last.into_inner().map_err(|error| storage(path, error))?;
        if let Some(wrong) = [&first, &key].into_iter().find(|key| sequence(key) == 0) {
            let what = format!("the log has a row at {:?}, which is no sequence", wrong.escape_ascii().to_string());
            return Err(OpenError::Corrupt { path: path.into(), what });
        }
        match value.first() {
            Some(&found) if found > record::FORMAT => {
                Err(OpenError::NewerFormat { path: path.into(), found: found.into(), supported: record::FORMAT.into() })
            }
            _ => Ok((sequence(&key).max(reached), record::hash(&value))),
        }
    }

    /// The number of the last group; 0 if there was none.
    pub(crate) fn group(&self) -> fjall::Result<u64> {
        self.word("group")
    }

    /// The revision of the last change of a key; 0 if there was none.
    pub(crate) fn revision(&self) -> fjall::Result<u64> {
        self.word("revision")
    }

    pub(crate) fn word(&self, word: &'static str) -> fjall::Result<u64> {
        let value = self.meta.get(word)?;
        Ok(value.and_then(|bytes| Reader::new(&bytes).count(word).ok()).unwrap_or(0))
    }

    /// Ids that are remembered, the oldest first, from `from` on.
    pub(crate) fn remembered(
        &self,
        from: u64,
    ) -> impl Iterator<Item = fjall::Result<Result<Remembered, DecodeError>>> + use<> {
        self.dedup.range(from.to_be_bytes()..).map(|entry| {
            let (key, value) = entry.into_inner()?;
            Ok(Remembered::decode(sequence(&key), &value))
        })
    }

    /// Whether the envelope at `sequence` has this id.
    pub(crate) fn is_at(&self, id: EnvelopeId, sequence: u64) -> fjall::Result<bool> {
        match self.log.get(sequence.to_be_bytes()) {
            Ok(Some(record)) => return Ok(record::envelope_id(&record) == Ok(id)),
            // It went by retention, the id is remembered for its own time.
            Ok(None) => {}
            Err(error) => tracing::error!(sequence, %error, "a record can't be read, its id is looked for elsewhere"),
        }
        let Some(row) = self.dedup.range(..=sequence.to_be_bytes()).next_back() else { return Ok(false) };
        let (key, value) = row.into_inner()?;
        let row = Remembered::decode(self::sequence(&key), &value);
        Ok(row.is_ok_and(|row| row.ids.contains(&(sequence, id))))
    }

    /// The first sequence of the log and the hash of the record before it, once retention took one.
    pub(crate) fn anchor(&self) -> fjall::Result<Option<(u64, record::Chain)>> {
        let Some(value) = self.meta.get("anchor")? else { return Ok(None) };
        let mut reader = Reader::new(&value);
        let first = reader.count("anchor");
        Ok(first.and_then(|first| Ok((first, reader.array("anchor")?))).ok())
    }

    /// Sequences that a repair has given up, as first and last of each gap, in order.
    pub(crate) fn gaps(&self) -> fjall::Result<Vec<(u64, u64)>> {
        let Some(value) = self.meta.get("gaps")? else { return Ok(Vec::new()) };
        let mut reader = Reader::new(&value);
        Ok(reader.list("gaps", gap).unwrap_or_default())
    }

    pub(crate) fn put_gaps(&self, batch: &mut OwnedWriteBatch, gaps: &[(u64, u64)]) {
        let mut value = number(gaps.len() as u64);
        gaps.iter().flat_map(|(first, last)| [first, last]).for_each(|one| put_u64(&mut value, *one));
        batch.insert(&self.meta, "gaps", value);
    }

    /// The last sequence that was given up; 0 if none was.
    pub(crate) fn reached(&self) -> fjall::Result<u64> {
        Ok(self.gaps()?.last().map_or(0, |(_, last)| *last))
    }

    /// What the sender of the record at `sequence` used its name for, where it said so and the record is still there.
    pub(crate) fn print_at(&self, sequence: u64) -> fjall::Result<Option<Fingerprint>> {
        let mut record = self.log.get(sequence.to_be_bytes())?;
        if record.is_none() {
            record = self.kept.get(sequence.to_be_bytes())?;
        }
        Ok(record.and_then(|record| record::print(&record)))
    }

    /// One record, and its bytes.
    pub(crate) fn get(&self, sequence: u64) -> fjall::Result<Option<(usize, Read)>> {
        let mut value = self.log.get(sequence.to_be_bytes())?;
        if value.is_none() {
            value = self.kept.get(sequence.to_be_bytes())?;
        }
        Ok(value.map(|value| (value.len(), read(value.into()))))
    }

    /// The log's rows in this range, in order. A row whose key is no sequence stands between them and is passed over.
    pub(crate) fn records<R: RangeBounds<u64>>(
        &self,
        range: R,
    ) -> impl DoubleEndedIterator<Item = fjall::Result<(u64, UserValue)>> + use<R> {
        let [from, to] = [range.start_bound(), range.end_bound()].map(|bound| bound.map(|at| at.to_be_bytes()));
        let rows = self.log.range::<[u8; 8], _>((from, to)).map(|row| {
            let (key, value) = row.into_inner()?;
            Ok((sequence(&key), value))
        });
        rows.filter(|row| row.as_ref().map_or(true, |(at, _)| *at > 0))
    }

    /// Records behind `after` up to `last`, at most `max` and about `max_bytes`.
    pub(crate) fn chunk(&self, after: u64, last: u64, max: usize, max_bytes: usize) -> fjall::Result<Vec<(u64, Read)>> {
        let (mut chunk, mut texts) = (Vec::new(), Texts::default());
        let mut bytes = 0;
        for row in self.records(after + 1..=last) {
            let (at, value) = row?;
            bytes += value.len();
            chunk.push((at, record::stored(&value.into(), &mut texts)));
            if chunk.len() == max || bytes >= max_bytes {
                break;
            }
        }
        Ok(chunk)
    }

    /// Writes everything into new files, after a sync that failed: the journal's pages can't be trusted then.
    pub(crate) fn rewrite(&self) -> fjall::Result<()> {
        for (keyspace, _) in self.keyspaces() {
            keyspace.rotate_memtable()?;
        }
        self.keyspaces().into_iter().try_for_each(|(keyspace, _)| self.flushed(keyspace, 0))
    }

    /// Seals what is full, and waits while too much that is sealed is not in tables yet: a disk that is slower than the
    /// publishers slows them down and fills no memory.
    pub(crate) fn make_room(&self) -> fjall::Result<()> {
        for (keyspace, memtable) in self.keyspaces() {
            if keyspace.tree.active_memtable().size() >= memtable {
                keyspace.rotate_memtable()?;
            }
            self.flushed(keyspace, MAX_SEALED)?;
        }
        Ok(())
    }

    /// Waits until at most so many of its sealed memtables are not in tables. The storage engine's own waits never end
    /// once its worker has failed, so it never gets to them.
    fn flushed(&self, keyspace: &Keyspace, at_most: usize) -> fjall::Result<()> {
        while keyspace.sealed_memtable_count() > at_most {
            // Writes what is buffered, which is nothing: it tells whether the worker failed.
            self.database.persist(PersistMode::Buffer)?;
            std::thread::park_timeout(FLUSH);
        }
        Ok(())
    }

    /// Each with its name.
    pub(crate) fn named(&self) -> Vec<(&Keyspace, &str)> {
        self.keyspaces().into_iter().map(|(keyspace, _)| (keyspace, &**keyspace.name())).collect()
    }

    /// Each with the size at which its memtable is sealed.
    fn keyspaces(&self) -> [(&Keyspace, u64); 12] {
        [
            (&self.log, LOG_MEMTABLE),
            (&self.dedup, MEMTABLE),
            (&self.ledger, MEMTABLE),
            (&self.subscriptions, MEMTABLE),
            (&self.last, MEMTABLE),
            (&self.keys, MEMTABLE),
            (&self.kept, MEMTABLE),
            (&self.dead, MEMTABLE),
            (&self.times, MEMTABLE),
            (&self.ages, MEMTABLE),
            (&self.index, MEMTABLE),
            (&self.meta, MEMTABLE),
        ]
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

fn read(record: Bytes) -> Read {
    record::stored(&record, &mut Texts::default())
}

/// A key of the log or of the dedup keyspace. The store itself wrote it: what is no sequence is 0, which no record has.
pub(crate) fn sequence(key: &[u8]) -> u64 {
    key.try_into().map(u64::from_be_bytes).ok().filter(|sequence| *sequence <= MOST).unwrap_or(0)
}

/// The first and the last of a gap.
fn gap(reader: &mut Reader<'_>) -> Result<(u64, u64), DecodeError> {
    let (first, last) = (reader.count("gap")?, reader.count("gap")?);
    if first <= last { Ok((first, last)) } else { Err(DecodeError::Invalid("gap")) }
}

/// A value that is one number.
pub(crate) fn number(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, value);
    out
}

pub(crate) fn storage(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::Locked { path: path.into() },
        // the system's own words say it better
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            OpenError::Storage { path: path.into(), source: Box::new(error) }
        }
        error => OpenError::Storage { path: path.into(), source: Box::new(EngineError(error)) },
    }
}

// === impl Remembered ===

impl Remembered {
    /// The row's key.
    pub(crate) fn first(&self) -> u64 {
        self.ids.first().map_or(0, |(sequence, _)| *sequence)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.ids.len() * 20);
        put_u64(&mut out, self.clock);
        put_u64(&mut out, self.ids.len() as u64);
        let mut before = self.first();
        for (sequence, id) in &self.ids {
            put_u64(&mut out, sequence - before);
            record::put_id(&mut out, *id);
            before = *sequence;
        }
        out
    }

    pub(crate) fn decode(first: u64, value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let clock = reader.count("clock")?;
        let mut before = first;
        let ids = reader.list("ids", |reader| {
            before = below(before + reader.count("sequence")?, "sequence")?;
            Ok((before, record::id(reader)?))
        })?;
        Ok(Self { clock, ids })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_worker_that_failed_is_an_error_and_no_endless_wait() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.log.insert("key", "value").unwrap();
        // No table can be written any more.
        std::fs::remove_dir_all(folder.path().join("keyspaces")).unwrap();
        assert!(store.rewrite().is_err());
        assert!(store.make_room().is_err() || store.database.persist(PersistMode::Buffer).is_err());
    }

    #[test]
    fn ids_that_are_remembered_read_back() {
        let id = |n: u128| EnvelopeId::new(Uuid::from_u128(n));
        let row = Remembered { clock: 77, ids: vec![(300, id(1)), (301, id(2).item(0)), (1_325, id(u128::MAX))] };
        assert_eq!(row.first(), 300);
        assert_eq!(Remembered::decode(300, &row.encode()), Ok(row.clone()));
        assert!(Remembered::decode(u64::MAX, &row.encode()).is_err());
        assert!(Remembered::decode(300, &row.encode()[..20]).is_err());
    }
}

//! Makes a store of what can be read of a broken one, and keeps the broken one beside it.
//!
//! No sequence is given out twice: those that are lost are written down as given up, and what comes goes behind them. What
//! a durable subscription had not settled of them becomes a dead letter there, so that the ledger tells of it.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use envelope::json::write_string;
use fjall::{Keyspace, OwnedWriteBatch, PersistMode};

use super::{CareError, Folder, check::broken, cursors, walk};
use crate::{record, store::Store};

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Records that are in the new store.
    pub records: u64,
    /// Rows of everything else.
    pub rows: u64,
    /// Sequences that are given up, as first and last of each gap; those of earlier repairs too.
    pub gaps: Vec<(u64, u64)>,
    /// Unsettled envelopes that durable subscriptions lose with them, over all subscriptions.
    pub dead_lettered: u64,
    /// Rows that could be read and make no sense.
    pub quarantined: u64,
    /// What could not even be read, a sentence a keyspace.
    pub unreadable: Vec<String>,
    /// Where the broken store is now.
    pub before: PathBuf,
    /// Where the rows that make no sense are: a JSON line each.
    pub quarantine: PathBuf,
}

/// So many rows are written at once.
const BATCH: usize = 1_024;

/// Rows on their way into the new store.
struct Copy<'s> {
    to: &'s Store,
    batch: OwnedWriteBatch,
    waiting: usize,
}

/// Rows that make no sense.
struct Quarantine {
    path: PathBuf,
    out: BufWriter<File>,
}

/// Rebuilds the store in `path`. Blocks. When it answers, the new store is in its place and on disk; if it fails, nothing
/// has changed.
pub fn repair(path: &Path) -> Result<Repaired, CareError> {
    let folder = Folder::open(path)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let [to, before, quarantine] = ["repairing", "before-repair", "quarantine"].map(|what| beside(path, what, now));
    let failed = |what: &Path, source| CareError::Io { what: what.display().to_string(), source };
    let mut repaired = Repaired { before: before.clone(), quarantine: quarantine.clone(), ..Repaired::default() };
    fs::create_dir(&to).map_err(|error| failed(&to, error))?;
    let made = File::create_new(&quarantine).map_err(|error| failed(&quarantine, error));
    let done = made.and_then(|file| {
        let quarantine = Quarantine { path: quarantine.clone(), out: BufWriter::new(file) };
        folder.copy_to(&to, quarantine, &mut repaired)
    });
    drop(folder);
    if let Err(error) = done {
        // what was begun is of no use; that it can't be taken away is not worse than why the repair failed
        drop((fs::remove_dir_all(&to), fs::remove_file(&quarantine)));
        return Err(error);
    }
    fs::rename(path, &before).map_err(|error| failed(path, error))?;
    fs::rename(&to, path).map_err(|error| failed(&to, error))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| failed(parent, error))?;
    Ok(repaired)
}

/// `data` becomes `data.before-repair-1790000000`.
fn beside(path: &Path, what: &str, now: u64) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}-{now}"));
    path.with_file_name(name)
}

// === impl Folder ===

impl Folder {
    fn copy_to(&self, to: &Path, mut quarantine: Quarantine, repaired: &mut Repaired) -> Result<(), CareError> {
        let new = Store::open(to)?;
        let engine = |source: fjall::Error| CareError::Storage { path: to.into(), source: Box::new(source) };
        let mut copy = Copy { to: &new, batch: new.database.batch(), waiting: 0 };
        let bytes = self.copy_log(&mut copy, &mut quarantine, repaired)?;
        for ((from, name), (into, _)) in self.store.named().into_iter().zip(new.named()) {
            if name == "log" {
                continue;
            }
            let mut failed = None;
            let lost = walk::rows(from, |key, value| {
                if failed.is_some() {
                    return;
                }
                failed = match broken(&self.store, name, key, &value) {
                    None => {
                        repaired.rows += 1;
                        copy.put(into, key, value).map_err(engine).err()
                    }
                    Some(why) => {
                        repaired.quarantined += 1;
                        quarantine.put(name, key, &value, &why).err()
                    }
                };
            });
            failed.map_or(Ok(()), Err)?;
            repaired.unreadable.extend(lost.map(|why| format!("{name}: {why}")));
        }
        copy.batch.insert(&new.meta, "bytes", crate::store::number(bytes));
        new.put_gaps(&mut copy.batch, &repaired.gaps);
        copy.flush().map_err(engine)?;
        let mut batch = new.database.batch().durability(Some(PersistMode::SyncAll));
        repaired.dead_lettered = cursors::mend(&new, &repaired.gaps, &mut batch).map_err(engine)?;
        batch.commit().and_then(|()| new.database.persist(PersistMode::SyncAll)).map_err(engine)?;
        quarantine.end()
    }

    /// Answers with the records' bytes.
    fn copy_log(
        &self,
        copy: &mut Copy<'_>,
        quarantine: &mut Quarantine,
        repaired: &mut Repaired,
    ) -> Result<u64, CareError> {
        let (mut bytes, to) = (0, copy.to.log.clone());
        walk::log(&self.store, |(at, end), found| {
            let why = match &found {
                Ok(record) => record::decode(record).err().map(|error| error.to_string()),
                Err(why) => Some(why.clone()),
            };
            match (found, why) {
                (Ok(record), None) => {
                    bytes += record.len() as u64;
                    repaired.records += 1;
                    copy.put(&to, &at.to_be_bytes(), record).map_err(|error| self.failed(error))
                }
                (found, why) => {
                    match repaired.gaps.last_mut() {
                        Some((_, last)) if *last + 1 == at => *last = end,
                        _ => repaired.gaps.push((at, end)),
                    }
                    let Ok(record) = found else { return Ok(()) };
                    repaired.quarantined += 1;
                    quarantine.put("log", &at.to_be_bytes(), &record, &why.unwrap_or_default())
                }
            }
        })?;
        Ok(bytes)
    }
}

// === impl Copy ===

impl Copy<'_> {
    fn put(&mut self, into: &Keyspace, key: &[u8], value: Bytes) -> fjall::Result<()> {
        self.batch.insert(into, key, value);
        self.waiting += 1;
        if self.waiting == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> fjall::Result<()> {
        self.waiting = 0;
        std::mem::replace(&mut self.batch, self.to.database.batch()).commit()?;
        self.to.make_room()
    }
}

// === impl Quarantine ===

impl Quarantine {
    fn put(&mut self, keyspace: &str, key: &[u8], value: &[u8], why: &str) -> Result<(), CareError> {
        let mut line = b"{\"keyspace\":".to_vec();
        write_string(&mut line, keyspace);
        for (name, bytes) in [("key", key), ("value", value)] {
            line.extend_from_slice(format!(",\"{name}\":\"{}\"", super::export::Hex(bytes)).as_bytes());
        }
        line.extend_from_slice(b",\"why\":");
        write_string(&mut line, why);
        line.extend_from_slice(b"}\n");
        self.out.write_all(&line).map_err(|error| self.failed(error))
    }

    fn end(mut self) -> Result<(), CareError> {
        let written = self.out.flush().and_then(|()| self.out.get_ref().sync_all());
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: std::io::Error) -> CareError {
        CareError::Io { what: self.path.display().to_string(), source }
    }
}

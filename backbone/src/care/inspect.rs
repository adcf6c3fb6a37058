//! What is in a store, by and large: nothing of it is a payload.

use std::{fs, io, path::Path, sync::Arc};

use envelope::Timestamp;

use super::{CareError, Folder};
use crate::{
    EmbeddedConfig, LedgerReport, ledger::Books, record, shared::Shared, state::State, store::FORMAT, store::Store,
};

/// What is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The format of its folder.
    pub format: u32,
    /// The oldest sequence, and when its record was admitted.
    pub first: Option<(u64, Timestamp)>,
    /// The newest one.
    pub last: Option<(u64, Timestamp)>,
    /// Sequences that a repair has given up.
    pub given_up: u64,
    /// Of the log's records, before compression.
    pub record_bytes: u64,
    /// Of the folder's files.
    pub file_bytes: u64,
    /// Topics that have a last value.
    pub last_values: u64,
    /// Keys of all owners.
    pub keys: u64,
    /// The ledger, as the gateway would have it after its next start.
    pub ledger: LedgerReport,
}

// === impl Folder ===

impl Folder {
    /// Reads what a gateway reads at its start. Blocks.
    pub fn inspect(&self) -> Result<Inspection, CareError> {
        let store = &self.store;
        let config = EmbeddedConfig::new(self.path.clone(), "");
        let shared = Shared::new(config, Arc::new(Books::default()));
        State::load(store, &shared)?;
        shared.books.interrupt();
        let ends = ends(store).map_err(|error| self.failed(error))?;
        let gaps = store.gaps().map_err(|error| self.failed(error))?;
        let size =
            size(&self.path).map_err(|source| CareError::Io { what: self.path.display().to_string(), source })?;
        Ok(Inspection {
            format: FORMAT,
            first: ends.map(|ends| ends.0),
            last: ends.map(|ends| ends.1),
            given_up: gaps.iter().map(|(first, last)| last - first + 1).sum(),
            record_bytes: shared.bytes.load(std::sync::atomic::Ordering::SeqCst),
            file_bytes: size,
            last_values: crate::shared::read(&shared.last).len() as u64,
            keys: store.keys.len().map_err(|error| self.failed(error))? as u64,
            ledger: shared.report(),
        })
    }
}

type End = (u64, Timestamp);

fn ends(store: &Store) -> fjall::Result<Option<(End, End)>> {
    let end = |row: fjall::Guard| -> fjall::Result<End> {
        let (key, value) = row.into_inner()?;
        Ok((crate::store::sequence(&key), record::admitted_at(&value).unwrap_or_default()))
    };
    match (store.log.first_key_value(), store.log.last_key_value()) {
        (Some(first), Some(last)) => Ok(Some((end(first)?, end(last)?))),
        _ => Ok(None),
    }
}

/// Of all files below a folder.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let size =
            entry.metadata().and_then(|about| if about.is_dir() { size(&entry.path()) } else { Ok(about.len()) });
        bytes += match size {
            // The storage engine takes away what it has rewritten meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(bytes)
}

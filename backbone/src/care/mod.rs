//! Looks after a store whose gateway does not run: says what is in it, checks it, mends it, copies it out and in.
//!
//! Nothing here trusts what it reads: a row that is broken is an answer, and never the end of the work.

mod check;
mod cursors;
mod export;
mod import;
mod inspect;
mod repair;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use check::Checked;
pub use export::Exported;
pub use import::{Imported, import};
pub use inspect::Inspection;
pub use repair::{Repaired, repair};

use crate::{OpenError, store::Store};

/// The folder of a store, open for nobody else.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    store: Store,
}

/// Why the care of a store ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CareError {
    /// It can't be opened, or holds what can't be.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage engine refused.
    #[error("store {path}: {source}")]
    Storage {
        /// The folder.
        path: PathBuf,
        /// Its own words.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file beside the store, or what is exported or imported.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line that is imported.
    #[error("line {line}: {why}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The store took nothing.
    #[error("line {line}: the store refused: {rejection}")]
    Refused {
        /// Its number, from 1; the lines before the batch it is in are stored.
        line: u64,
        /// Why.
        rejection: Box<envelope::Rejection>,
    },
}

// === impl Folder ===

impl Folder {
    /// Opens a store that is there. Blocks. What an older gateway wrote is brought to this one's format.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.join("keyspaces").is_dir() {
            return Err(OpenError::Corrupt { path: path.into(), what: "there is no store".to_owned() });
        }
        Ok(Self { path: path.into(), store: Store::open(path)? })
    }

    fn failed(&self, error: fjall::Error) -> CareError {
        CareError::Storage { path: self.path.clone(), source: Box::new(error) }
    }
}

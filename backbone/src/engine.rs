//! What the storage engine can't do, in words that say what it means for the store; the engine's own are behind them.

use std::{error::Error, fmt};

/// An error of the engine that is none of the system's.
#[derive(Debug)]
pub(crate) struct EngineError(pub(crate) fjall::Error);

// === impl EngineError ===

impl EngineError {
    fn meaning(&self) -> &'static str {
        use fjall::Error as E;
        match self.0 {
            E::InvalidVersion(None) => "the file that says its version is damaged, or this is no store",
            E::InvalidVersion(Some(_)) => "another version of the storage engine wrote it",
            E::JournalRecovery(_) | E::InvalidTrailer | E::InvalidTag(_) => "its journal is damaged",
            E::Storage(_) => "its tables are damaged, or some of them are missing",
            E::Decompress(_) => "a part of it is damaged and can't be decompressed",
            E::KeyspaceDeleted => "a part of it is gone",
            E::Poisoned => "a write or a sync failed, and nothing more is written until it is opened again",
            E::Unrecoverable => "its files contradict each other",
            _ => "the storage engine can't open it",
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (the storage engine says: {:?})", self.meaning(), self.0)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_means_comes_before_the_engines_own_words() {
        for (error, meaning, own) in [
            (fjall::Error::InvalidVersion(None), "the file that says its version is damaged", "InvalidVersion(None)"),
            (fjall::Error::InvalidTrailer, "its journal is damaged", "InvalidTrailer"),
            (fjall::Error::Unrecoverable, "its files contradict each other", "Unrecoverable"),
        ] {
            let said = EngineError(error).to_string();
            assert!(said.starts_with(meaning), "{said}");
            assert!(said.ends_with(&format!("(the storage engine says: {own})")), "{said}");
        }
    }
}

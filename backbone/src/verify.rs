//! Checks the log against itself: each record keeps the hash of the one before it. Of what went by retention the last hash
//! is kept.

use crate::{
    record,
    store::{Store, sequence},
};

/// What a check of the whole log found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Records that were read.
    pub records: u64,
    /// What is wrong, by sequence: at most 100 of them.
    pub wrong: Vec<(u64, String)>,
}

const MAX_WRONG: usize = 100;

pub(crate) fn verify(store: &Store) -> fjall::Result<Verified> {
    let mut verified = Verified::default();
    let (first, mut previous) = store.anchor()?.unwrap_or((1, [0; 32]));
    let gaps = store.gaps()?;
    let (mut before, mut gap) = (first - 1, false);
    for entry in store.log.iter() {
        let (key, value) = entry.into_inner()?;
        let (at, value) = (sequence(&key), value.into());
        // a gap that a repair left
        while let Some((_, last)) = gaps.iter().find(|(first, last)| *first == before + 1 && *last < at) {
            (before, gap) = (*last, true);
        }
        let wrong = match record::decode(&value) {
            Err(error) => Some(format!("the record can't be read: {error}")),
            Ok(_) if at != before + 1 => Some(format!("the record before it is {before}")),
            Ok((header, _)) if !gap && header.previous != previous => {
                Some("the record before it is not the one it was stored behind".to_owned())
            }
            Ok(_) => None,
        };
        verified.wrong.extend(wrong.map(|wrong| (at, wrong)).filter(|_| verified.wrong.len() < MAX_WRONG));
        verified.records += 1;
        gap = false;
        previous = record::hash(&value);
        before = at;
    }
    Ok(verified)
}

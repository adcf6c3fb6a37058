//! Reads everything, and holds it to what is said of it elsewhere: hashes, positions, the ledger's sums.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use super::{CareError, Folder, walk};
use crate::{
    DeadLetter, EmbeddedConfig,
    index::Row,
    keys::Keys,
    last::LastIndex,
    ledger::Books,
    record,
    shared::Shared,
    state::State,
    store::{Remembered, Store, sequence},
    subscription::Cursor,
};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records that were read and are in order.
    pub records: u64,
    /// Rows of everything else that were read and are in order.
    pub rows: u64,
    /// Sequences that a repair has given up before.
    pub given_up: u64,
    /// What is wrong, a sentence each: the first 100.
    pub wrong: Vec<String>,
    /// How many sentences that would be.
    pub wrong_count: u64,
}

const MOST_SHOWN: usize = 100;

// === impl Checked ===

impl Checked {
    fn wrong(&mut self, what: String) {
        self.wrong_count += 1;
        if self.wrong.len() < MOST_SHOWN {
            self.wrong.push(what);
        }
    }
}

// === impl Folder ===

impl Folder {
    /// Reads the whole store. Blocks for as long as that takes: about a second for a gigabyte.
    pub fn check(&self) -> Result<Checked, CareError> {
        let mut checked = Checked::default();
        self.check_log(&mut checked)?;
        self.check_rows(&mut checked);
        if checked.wrong_count == 0 {
            self.check_sums(&mut checked);
        }
        Ok(checked)
    }

    /// Each record keeps the hash of the one before it.
    fn check_log(&self, checked: &mut Checked) -> Result<(), CareError> {
        let store = &self.store;
        let mut previous = store.anchor().map_err(|error| self.failed(error))?.map(|(_, hash)| hash);
        if previous.is_none() {
            previous = Some([0; 32]);
        }
        let gaps = store.gaps().map_err(|error| self.failed(error))?;
        let walked = walk::log(store, |(at, end), record| {
            let found = record.and_then(|record| match record::decode(&record) {
                Ok((header, _)) => Ok((header, record)),
                Err(error) => Err(error.to_string()),
            });
            match found {
                Err(why) => {
                    let given_up =
                        gaps.iter().map(|(first, last)| ((*last).min(end) + 1).saturating_sub(at.max(*first)));
                    let given_up = given_up.sum::<u64>();
                    checked.given_up += given_up;
                    if end + 1 - at > given_up {
                        let which = if at == end { format!("record {at}") } else { format!("records {at} to {end}") };
                        checked.wrong(format!("{which}: {why}"));
                    }
                    previous = None;
                }
                Ok((header, record)) => {
                    if previous.is_some_and(|previous| header.previous != previous) {
                        checked.wrong(format!("record {at}: the one before it is not the one it was stored behind"));
                    } else {
                        checked.records += 1;
                    }
                    previous = Some(record::hash(&record));
                }
            }
            Ok::<_, Infallible>(())
        });
        let Ok(()) = walked;
        Ok(())
    }

    fn check_rows(&self, checked: &mut Checked) {
        for (keyspace, name) in self.store.named() {
            if name == "log" {
                continue;
            }
            let lost = walk::rows(keyspace, |key, value| match broken(&self.store, name, key, &value) {
                None => checked.rows += 1,
                Some(why) => checked.wrong(format!("{name} {:?}: {why}", key.escape_ascii().to_string())),
            });
            if let Some(why) = lost {
                checked.wrong(format!("{name}: some rows can't be read: {why}"));
            }
        }
    }

    /// As a gateway would read it at its start.
    fn check_sums(&self, checked: &mut Checked) {
        let config = EmbeddedConfig::new(self.path.clone(), "");
        let shared = Shared::new(config, Arc::new(Books::default()));
        match State::load(&self.store, &shared) {
            Err(error) => checked.wrong(error.to_string()),
            Ok(_) => {
                shared.books.interrupt();
                shared.report().check().into_iter().for_each(|violation| checked.wrong(format!("ledger: {violation}")));
            }
        }
    }
}

/// What is wrong with a row of a keyspace other than the log, if anything is.
pub(super) fn broken(store: &Store, name: &str, key: &[u8], value: &bytes::Bytes) -> Option<String> {
    let wrong = |error: crate::codec::DecodeError| error.to_string();
    match name {
        "subscriptions" if std::str::from_utf8(key).is_err() => Some("its name is no text".to_owned()),
        "subscriptions" => Cursor::decode(value).err().map(wrong),
        "dedup" => Remembered::decode(sequence(key), value).err().map(wrong),
        "ledger" => Books::default().load(key, value).err().map(wrong),
        "keys" => Keys::default().load(key, value.clone()).err().map(wrong),
        "kept" => record::decode(value).err().map(wrong),
        "index" => Row::decode(key, value).is_none().then(|| "its length is not that of its records".to_owned()),
        "dead" => DeadLetter::decode(sequence(key), value).err().map(wrong),
        "last" => {
            let mut index = LastIndex::default();
            if let Err(error) = index.load(key, value) {
                return Some(error.to_string());
            }
            let missing: BTreeSet<_> =
                index.sequences().filter(|at| !matches!(store.get(*at), Ok(Some((_, Ok(_)))))).collect();
            missing.first().map(|at| format!("its record {at} can't be read"))
        }
        _ => None,
    }
}

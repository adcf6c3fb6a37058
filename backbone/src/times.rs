//! When envelopes were admitted, so that a subscription may begin at a time.
//!
//! A row for about every thousand records: the latest admission time up to a sequence, and that sequence. The latest one,
//! because a clock may be set back: what it says stays true, and "the first one at this time or later, in the order of the
//! log" has one answer.

use envelope::Timestamp;
use fjall::OwnedWriteBatch;

use crate::{
    codec::{Reader, put_u64},
    record,
    store::Store,
};

/// A row for so many records.
const EVERY: u64 = 1_024;

/// The writer's memory of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// The latest admission time.
    latest: Timestamp,
    /// The sequence of the last row.
    row: u64,
}

// === impl Times ===

impl Times {
    /// As of the whole log; makes the rows that are missing.
    pub(crate) fn load(store: &Store) -> fjall::Result<Self> {
        let mut times = match store.times.last_key_value() {
            None => Self::default(),
            Some(row) => {
                let (key, value) = row.into_inner()?;
                Self { latest: time(&key), row: Reader::new(&value).count("sequence").unwrap_or(0) }
            }
        };
        let mut batch = store.database.batch();
        for row in store.records(times.row + 1..) {
            let (at, value) = row?;
            let next = times.after(record::admitted_at(&value).ok());
            times = next.written(at, &mut batch, store);
        }
        batch.commit()?;
        Ok(times)
    }

    /// With one more record.
    pub(crate) fn after(self, admitted_at: Option<Timestamp>) -> Self {
        Self { latest: self.latest.max(admitted_at.unwrap_or_default()), ..self }
    }

    /// Writes a row if it is time for one; `last` is the last sequence that it speaks of.
    pub(crate) fn written(self, last: u64, batch: &mut OwnedWriteBatch, store: &Store) -> Self {
        if last < self.row + EVERY {
            return self;
        }
        let mut value = Vec::new();
        put_u64(&mut value, last);
        batch.insert(&store.times, self.latest.as_micros().to_be_bytes(), value);
        Self { row: last, ..self }
    }
}

/// Takes the rows away that speak only of sequences before `before`; there is none before the time `from`. The last row has
/// to stay: what comes is told from it. Answers with the time of the oldest one that does.
pub(crate) fn trim(batch: &mut OwnedWriteBatch, store: &Store, before: u64, from: u64) -> fjall::Result<u64> {
    for row in store.times.range(from.to_be_bytes()..) {
        let (key, value) = row.into_inner()?;
        if Reader::new(&value).count("sequence").unwrap_or(0) >= before {
            return Ok(time(&key).as_micros());
        }
        batch.remove(&store.times, key);
    }
    Ok(from)
}

/// The sequence before the first one, up to `tip`, that was admitted at `at` or later.
pub(crate) fn before(store: &Store, at: Timestamp, tip: u64) -> fjall::Result<u64> {
    let row = store.times.range(..at.as_micros().to_be_bytes()).next_back();
    let from = match row {
        None => 0,
        Some(row) => Reader::new(&row.into_inner()?.1).count("sequence").unwrap_or(0),
    };
    let mut before = from.min(tip);
    for row in store.records(before + 1..=tip) {
        let (sequence, value) = row?;
        if record::admitted_at(&value).is_ok_and(|admitted| admitted >= at) {
            return Ok(before);
        }
        before = sequence;
    }
    Ok(before)
}

/// A key that is no time is before all others. Microseconds are more than a sequence ever gets to.
fn time(key: &[u8]) -> Timestamp {
    Timestamp::from_micros(key.try_into().map_or(0, u64::from_be_bytes))
}

//! How old records are, in time that the gateway runs, so that no clock that is set wrong takes them out of the log.
//!
//! A row now and then: for how long the gateway had run, and the last sequence that was stored by then. Records behind the
//! last row are as old as the row that is still to come, so a record may stay a little longer than its age, and never goes
//! before it. What was stored before there were rows is as old as the first one.

use std::time::Duration;

use fjall::OwnedWriteBatch;

use crate::{
    codec::Reader,
    store::{Store, number, sequence},
};

/// The most seconds between two rows while there is something new.
const EVERY: u64 = 3_600;
/// So many rows cover an age: by at most such a part of it records stay longer.
const ROWS: u64 = 1_024;

/// The writer's memory of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ages {
    /// The age that records may have, in whole seconds; without it none is too old.
    most: Option<u64>,
    /// The last row.
    newest: Option<Row>,
    /// The oldest row whose records are not too old yet.
    oldest: Option<Row>,
    /// When it was looked last.
    looked: Option<u64>,
    /// Every record up to it is too old.
    over: u64,
}

/// Records up to `last` were stored when the gateway had run for `clock` seconds, or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    clock: u64,
    last: u64,
}

// === impl Ages ===

impl Ages {
    pub(crate) fn load(store: &Store, most: Option<Duration>) -> fjall::Result<Self> {
        let newest = store.ages.last_key_value().map(read).transpose()?;
        // rounded up: a record goes later rather than sooner
        let most = most.map(|most| most.as_secs() + u64::from(most.subsec_nanos() > 0));
        Ok(Self { most, newest, oldest: after(store, None)?, ..Self::default() })
    }

    /// For how long the gateway had run at the last row.
    pub(crate) fn clock(&self) -> u64 {
        self.newest.map_or(0, |row| row.clock)
    }

    /// Every record up to it is over its age.
    pub(crate) fn over(&self) -> u64 {
        self.over
    }

    /// Looks which records are too old now, at most once a second.
    pub(crate) fn look(&mut self, clock: u64, store: &Store) -> fjall::Result<()> {
        let Some(most) = self.most.filter(|_| self.looked != Some(clock)) else { return Ok(()) };
        while let Some(row) = self.oldest.filter(|row| clock.saturating_sub(row.clock) > most) {
            self.oldest = after(store, Some(row))?;
            self.over = self.over.max(row.last);
        }
        self.looked = Some(clock);
        Ok(())
    }

    /// The row that is due, if `last` is the last sequence.
    pub(crate) fn due(&self, clock: u64, last: u64) -> Option<Row> {
        let every = self.most.map_or(EVERY, |most| (most / ROWS).clamp(1, EVERY));
        let is_due = self.newest.is_none_or(|newest| last > newest.last && clock >= newest.clock + every);
        (is_due && last > 0).then_some(Row { clock, last })
    }

    /// It is on disk.
    pub(crate) fn note(&mut self, row: Row) {
        self.newest = Some(row);
        self.oldest = self.oldest.or(Some(row));
    }
}

// === impl Row ===

impl Row {
    pub(crate) fn write(self, batch: &mut OwnedWriteBatch, store: &Store) {
        batch.insert(&store.ages, self.clock.to_be_bytes(), number(self.last));
    }
}

/// Takes the rows away that speak only of sequences before `before`; there is none before the clock `from`. The last row
/// stays. Answers with the clock of the oldest one that does.
pub(crate) fn trim(batch: &mut OwnedWriteBatch, store: &Store, before: u64, from: u64) -> fjall::Result<u64> {
    let mut from = from;
    let mut rows = store.ages.range(from.to_be_bytes()..).map(read).peekable();
    while let Some(row) = rows.next() {
        let row = row?;
        from = row.clock;
        if row.last >= before || rows.peek().is_none() {
            break;
        }
        batch.remove(&store.ages, row.clock.to_be_bytes());
    }
    Ok(from)
}

/// The row behind `row`; the first one without it.
fn after(store: &Store, row: Option<Row>) -> fjall::Result<Option<Row>> {
    let from = row.map_or(0, |row| row.clock.saturating_add(1));
    store.ages.range(from.to_be_bytes()..).next().map(read).transpose()
}

fn read(row: fjall::Guard) -> fjall::Result<Row> {
    let (key, value) = row.into_inner()?;
    Ok(Row { clock: sequence(&key), last: Reader::new(&value).count("sequence").unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn open(folder: &tempfile::TempDir, most: Duration) -> (Store, Ages) {
        let store = Store::open(folder.path()).unwrap();
        let ages = Ages::load(&store, Some(most)).unwrap();
        (store, ages)
    }

    /// As the writer does it.
    fn stored(ages: &mut Ages, store: &Store, clock: u64, last: u64) -> bool {
        let Some(row) = ages.due(clock, last) else { return false };
        let mut batch = store.database.batch();
        row.write(&mut batch, store);
        batch.commit().unwrap();
        ages.note(row);
        true
    }

    #[test]
    fn records_are_too_old_after_their_age_and_never_before() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut ages) = open(&folder, Duration::from_secs(30 * DAY));
        assert!(!stored(&mut ages, &store, 5, 0), "there is nothing to speak of");
        assert!(stored(&mut ages, &store, 10, 1));
        assert!(!stored(&mut ages, &store, 20, 9), "rows are far between");
        assert!(stored(&mut ages, &store, 10 + DAY, 9));
        for (clock, over) in
            [(30 * DAY, 0), (30 * DAY + 10, 0), (30 * DAY + 11, 1), (31 * DAY + 10, 1), (31 * DAY + 11, 9)]
        {
            ages.look(clock, &store).unwrap();
            assert_eq!(ages.over(), over, "at {clock}");
        }
        assert!(stored(&mut ages, &store, 32 * DAY, 10));
        ages.look(63 * DAY, &store).unwrap();
        assert_eq!(ages.over(), 10, "what comes after all was too old is found");
    }

    #[test]
    fn rows_of_records_that_went_go_too_but_for_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut ages) = open(&folder, Duration::from_secs(1_024));
        (1..=9).for_each(|at| assert!(stored(&mut ages, &store, at * 10, at)));
        let clocks = || store.ages.iter().map(|row| read(row).unwrap().clock).collect::<Vec<_>>();
        for (before, from, left) in [(4, 40, &clocks()[3..]), (100, 90, &[90][..])] {
            let mut batch = store.database.batch();
            assert_eq!(trim(&mut batch, &store, before, 0).unwrap(), from);
            batch.commit().unwrap();
            assert_eq!(clocks(), left);
        }
        assert_eq!(Ages::load(&store, None).unwrap().clock(), 90);
    }
}

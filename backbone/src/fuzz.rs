//! Hostile rows: what the fuzz target calls with any bytes, as each thing that is read from the disk. Each entry panics where
//! a promise is broken.

#![allow(clippy::expect_used, reason = "a promise that is broken is to panic here")]

use bytes::Bytes;
use envelope::Position;

use crate::{
    dead::DeadLetter,
    index,
    keys::{self, Keys},
    last::LastIndex,
    ledger::Books,
    position, record,
    report::LedgerReport,
    store::Remembered,
    subscription::Cursor,
};

/// A row of any kind, by `which`: a key, and its value behind the first byte that is as long as the key.
///
/// # Panics
/// If what is read is not what it is to be.
pub fn rows(which: u8, bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first() else { return };
    let (key, value) = rest.split_at(rest.len().min(usize::from(*length)));
    match which % 8 {
        0 => records(&Bytes::copy_from_slice(rest)),
        1 => letters(&Bytes::copy_from_slice(rest)),
        2 => cursors(rest),
        3 => ids(u64::from(*length), rest),
        4 => ledgers(key, value),
        5 => indexes(key, value),
        6 => positions(rest),
        _ => {
            // whatever is said there is a row or an error
            _ = keys::split(key);
            _ = Keys::default().load(key, Bytes::copy_from_slice(value));
            _ = LastIndex::default().load(key, value);
        }
    }
}

/// What is read of a record in part is what is read of it as a whole.
fn records(record: &Bytes) {
    let Ok((header, envelope)) = record::decode(record) else { return };
    assert_eq!(record::topic(record).as_ref(), Ok(&envelope.subject));
    assert_eq!(record::envelope_id(record).as_ref(), Ok(&envelope.id));
    assert_eq!(record::admitted_at(record).as_ref(), Ok(&header.admitted_at));
    let again = record::header_of(record).expect("as a whole");
    assert_eq!((again.previous, &again.bridge), (header.previous, &header.bridge));
    assert!(envelope.data.as_slice().len() <= record.len());
    let mut linked = record.to_vec();
    let hash = record::link(&mut linked, &[7; 32]);
    assert_eq!(hash, record::hash(&linked));
    assert_eq!(record::header_of(&linked).expect("as before").previous, [7; 32]);
}

fn letters(bytes: &Bytes) {
    let Ok(letter) = DeadLetter::decode(7, bytes) else { return };
    let again = DeadLetter::decode(7, &letter.encode().into()).expect("what we write");
    assert_eq!(again, letter);
}

fn cursors(bytes: &[u8]) {
    let Ok(cursor) = Cursor::decode(bytes) else { return };
    let written = cursor.encode();
    let again = Cursor::decode(&written).expect("what we write");
    assert_eq!((again.encode(), &again.gaps, &again.counts), (written, &cursor.gaps, &cursor.counts));
    let report = LedgerReport { subscriptions: [("s".to_owned(), cursor.counts)].into(), ..LedgerReport::default() };
    // what is out of balance is said
    _ = report.check();
}

fn ids(first: u64, bytes: &[u8]) {
    let Ok(row) = Remembered::decode(first, bytes) else { return };
    assert!(row.ids.is_sorted_by_key(|(sequence, _)| *sequence));
}

fn ledgers(key: &[u8], value: &[u8]) {
    let books = Books::default();
    if books.load(key, value).is_ok() && books.load(key, value).is_ok() {
        books.interrupt();
        let bridges = books.counts().collect();
        _ = LedgerReport { bridges, ..LedgerReport::default() }.check();
    }
}

fn indexes(key: &[u8], value: &[u8]) {
    let Some(row) = index::Row::decode(key, value) else { return };
    for after in [0, row.first, row.end(), u64::MAX] {
        assert!(row.behind(after, 0).all(|sequence| sequence > after && sequence < row.end()));
    }
}

fn positions(bytes: &[u8]) {
    let given = Position(Bytes::copy_from_slice(bytes));
    if let Some(sequence) = position::sequence(7, &given) {
        assert_eq!(position::of(7, sequence), given);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SubscriptionCounts;

    /// A row of each kind, as [`rows`] takes it.
    fn seeds() -> [Vec<u8>; 9] {
        let counts = SubscriptionCounts { matched: 9, delivered: 4, ..SubscriptionCounts::default() };
        let filters = vec![envelope::Filter::new("a/#").expect("a filter")];
        let gaps = [3, 5, 300].into();
        let owner = Some("anonymous".into());
        let cursor =
            Cursor { filters, backlog: None, top: 300, gaps, mark: 300, counts, idle: None, since: 2, owner, skip: 4 };
        let ids = Remembered {
            clock: 7,
            ids: (1..9).map(|at| (at, envelope::EnvelopeId::new(uuid::Uuid::from_u128(at.into())))).collect(),
        };
        let index = [vec![9, 1, 0, 0, 0, 0, 0, 0, 0, 5, 2], vec![1; 8]].concat();
        [
            [&[0], &include_bytes!("../fixtures/record-2.bin")[..]].concat(),
            [&[0], &include_bytes!("../fixtures/dead-1.bin")[..]].concat(),
            [vec![0], cursor.encode()].concat(),
            [vec![1], ids.encode()].concat(),
            b"\x05b\x03web\x07\x01\x01\x09malformed\x02\x00".to_vec(),
            index,
            [vec![0], position::of(7, 300).0.to_vec()].concat(),
            b"\x0a\x08bridge/ak\x07\x01\x80\x01value".to_vec(),
            b"\x03a/b\x05\x00".to_vec(),
        ]
    }

    #[test]
    fn whatever_is_changed_in_a_row_the_promises_hold() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..3_000 {
            for (which, seed) in (0..).zip(seeds()) {
                let mut bytes = seed.clone();
                for _ in 0..round % 4 {
                    let at = random.usize(0..=bytes.len());
                    match random.u8(0..4) {
                        0 => bytes.insert(at, random.u8(..)),
                        1 if at < bytes.len() => bytes[at] = random.u8(..),
                        2 if at < bytes.len() => drop(bytes.splice(at..=at, [0xff; 8])),
                        _ => bytes.truncate(at),
                    }
                }
                rows(which, &bytes);
                rows(random.u8(..), &bytes);
            }
        }
    }

    #[test]
    fn the_seeds_are_rows() {
        let all = seeds();
        let value = |which: usize| Bytes::copy_from_slice(&all[which][1..]);
        assert!(record::decode(&value(0)).is_ok() && DeadLetter::decode(7, &value(1)).is_ok());
        assert!(Cursor::decode(&value(2)).is_ok() && Remembered::decode(1, &value(3)).is_ok());
        assert_eq!(Books::default().load(&all[4][1..6], &all[4][6..]), Ok(()));
        assert!(index::Row::decode(&all[5][1..10], &all[5][10..]).is_some());
        assert!(position::sequence(7, &Position(value(6))).is_some());
        assert_eq!(Keys::default().load(&all[7][1..11], Bytes::copy_from_slice(&all[7][11..])), Ok(()));
        assert_eq!(LastIndex::default().load(&all[8][1..4], &all[8][4..]), Ok(()));
    }
}

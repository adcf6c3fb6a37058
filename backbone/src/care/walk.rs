//! Reads rows past the ones that can't be read.

use std::ops::Bound;

use bytes::Bytes;
use fjall::Keyspace;

use crate::{
    store::{Remembered, Store, sequence},
    subscription::Cursor,
};

/// A record of the log, or why it can't be read.
pub(super) type Walked = Result<Bytes, String>;

/// Shows every sequence of the log, in order, to `each`: those that are there one by one, and those that should be as first
/// and last. What is missing is shown as an error. Stops when `each` fails.
pub(super) fn log<E>(store: &Store, mut each: impl FnMut((u64, u64), Walked) -> Result<(), E>) -> Result<(), E> {
    let missing = || Err("it is missing".to_owned());
    let last = last_sequence(store);
    let mut next = first_sequence(store);
    while next <= last {
        let mut failed = None;
        for row in store.records(next..=last) {
            match row {
                Ok((at, value)) => {
                    if next < at {
                        each((next, at - 1), missing())?;
                    }
                    each((at, at), Ok(value.into()))?;
                    next = at + 1;
                }
                Err(error) => {
                    failed = Some(error.to_string());
                    break;
                }
            }
        }
        match failed {
            None => {
                if next <= last {
                    each((next, last), missing())?;
                }
                return Ok(());
            }
            // what is behind the block that can't be read is looked for one by one, until a range works again
            Some(error) => {
                let found = match store.log.get(next.to_be_bytes()) {
                    Ok(Some(value)) => Ok(value.into()),
                    Ok(None) => missing(),
                    Err(_) => Err(error),
                };
                each((next, next), found)?;
                next += 1;
            }
        }
    }
    Ok(())
}

/// Shows every row that can be read, from both ends, to `each`; answers with what ended that, if anything did: rows between
/// the two places are lost.
pub(super) fn rows(keyspace: &Keyspace, mut each: impl FnMut(&[u8], Bytes)) -> Option<String> {
    let mut last: Option<Vec<u8>> = None;
    let mut failed = None;
    for entry in keyspace.iter() {
        match entry.into_inner() {
            Ok((key, value)) => {
                each(&key, value.into());
                last = Some(key.to_vec());
            }
            Err(error) => {
                failed = Some(error.to_string());
                break;
            }
        }
    }
    failed.as_ref()?;
    let from = last.map_or(Bound::Unbounded, Bound::Excluded);
    for entry in keyspace.range::<Vec<u8>, _>((from, Bound::Unbounded)).rev() {
        match entry.into_inner() {
            Ok((key, value)) => each(&key, value.into()),
            Err(_) => break,
        }
    }
    failed
}

/// The first sequence that the log should have.
fn first_sequence(store: &Store) -> u64 {
    let anchor = store.anchor().ok().flatten().map(|(first, _)| first);
    anchor.unwrap_or(1)
}

/// The last sequence that was ever given out, as far as anything that can be read tells.
pub(super) fn last_sequence(store: &Store) -> u64 {
    let mut last = store.log.last_key_value().and_then(|row| row.key().ok()).map_or(0, |key| sequence(&key));
    last = last.max(store.reached().unwrap_or(0));
    rows(&store.dedup, |key, value| {
        let row = Remembered::decode(sequence(key), &value).ok();
        last = last.max(row.and_then(|row| row.ids.last().map(|(sequence, _)| *sequence)).unwrap_or(0));
    });
    rows(&store.subscriptions, |_, value| {
        let cursor = Cursor::decode(&value).ok();
        last = last.max(cursor.map_or(0, |cursor| cursor.top.max(cursor.gaps.last().copied().unwrap_or(0))));
    });
    last
}

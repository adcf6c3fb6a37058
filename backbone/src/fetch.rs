//! Reads envelopes for a consumer: from memory where they are new, else from disk on a blocking thread.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use envelope::{Filter, LastValues, Rejection, Topic};
use tokio::task::JoinHandle;

use crate::{
    codec::DecodeError,
    group::unavailable,
    last::Page,
    pull::delivery,
    record::Stored,
    shared::{Shared, read},
    store::Store,
    writer::AWAY,
};

/// The most records that are read in one go.
pub(crate) const MAX_CHUNK: usize = 1_024;
const MAX_CHUNK_BYTES: usize = 1 << 20;
/// How often a page of last values is looked up again, where they change all the time.
const MOST_LOOK_UPS: usize = 8;

/// An envelope and where it is; `None` if its record can't be read.
pub(crate) type Found = (u64, Option<Arc<Stored>>);

/// What to read. Of sequences that are named, only the first may be found: as many as fit the bounds.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// These sequences; they were handed out before.
    Again(Vec<u64>),
    /// These sequences; they match.
    Listed(Vec<u64>),
    /// These sequences, if they are there: last values that a subscription begins with.
    Last(Vec<u64>),
    /// What is behind this sequence, whether it matches or not.
    After(u64),
}

/// A read that is under way on a blocking thread.
#[derive(Debug)]
pub(crate) struct Reading {
    wanted: Wanted,
    /// The last sequence that was looked for.
    tip: u64,
    records: JoinHandle<fjall::Result<Vec<Found>>>,
}

// === impl Wanted ===

impl Wanted {
    /// What of it is in memory, at most `room` of the sequences that are named; `None` if the first is not.
    pub(crate) fn in_memory(&self, shared: &Shared, room: usize) -> Option<Vec<Found>> {
        match self {
            Self::Again(sequences) | Self::Listed(sequences) => {
                let found = |sequence: &u64| Some((*sequence, Some(shared.tail.get(*sequence)?)));
                let found: Vec<_> = sequences.iter().take(room).map_while(found).collect();
                (!found.is_empty()).then_some(found)
            }
            Self::Last(sequences) => {
                let found = |sequence: &u64| Some((*sequence, Some(shared.tail.get(*sequence)?)));
                let found: Vec<_> = sequences.iter().map_while(found).collect();
                (!found.is_empty() || sequences.is_empty()).then_some(found)
            }
            Self::After(after) => {
                let found = shared.tail.after(*after, shared.tip.load(SeqCst), MAX_CHUNK)?;
                Some(found.into_iter().map(|(sequence, envelope)| (sequence, Some(envelope))).collect())
            }
        }
    }

    /// Begins to read it from disk. `first`: what is before it went by retention; `tip`: the last sequence that is answered
    /// for.
    pub(crate) fn read(self, store: Arc<Store>, first: u64, tip: u64) -> Reading {
        let wanted = self.clone();
        let records = tokio::task::spawn_blocking(move || match wanted {
            Wanted::Again(sequences) | Wanted::Last(sequences) => named(&store, sequences),
            Wanted::Listed(mut sequences) => {
                // what was shown early may not be on disk yet: it is not looked for in vain
                sequences.retain(|sequence| *sequence <= tip);
                named(&store, sequences)
            }
            Wanted::After(after) => {
                let records = store.chunk(after.max(first - 1), tip, MAX_CHUNK, MAX_CHUNK_BYTES)?;
                Ok(records.into_iter().map(|(sequence, envelope)| (sequence, readable(sequence, envelope))).collect())
            }
        });
        Reading { wanted: self, tip, records }
    }
}

// === impl Reading ===

impl Reading {
    /// The last sequence that was looked for.
    pub(crate) fn tip(&self) -> u64 {
        self.tip
    }

    /// Cancel safe.
    pub(crate) async fn done(&mut self) -> Result<(Wanted, Vec<Found>), Rejection> {
        let found = answered((&mut self.records).await)?;
        Ok((self.wanted.clone(), found))
    }
}

fn answered<T>(read: Result<fjall::Result<T>, tokio::task::JoinError>) -> Result<T, Rejection> {
    let failed = || unavailable("the store could not be read");
    match read {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(failed().because(error)),
        Err(error) => Err(failed().because(error)),
    }
}

/// Reads the store on a blocking thread; refused while it is opened anew.
pub(crate) async fn blocking<T: Send + 'static>(
    shared: &Shared,
    read: impl FnOnce(&Store) -> fjall::Result<T> + Send + 'static,
) -> Result<T, Rejection> {
    let store = shared.store.borrow().clone().ok_or_else(|| unavailable(AWAY))?;
    answered(tokio::task::spawn_blocking(move || read(&store)).await)
}

/// A page of last values: those in memory, or up to the bound of a read from disk.
pub(crate) async fn last_values(
    shared: Arc<Shared>,
    filter: Filter,
    after: Option<Topic>,
    most: usize,
) -> Result<LastValues, Rejection> {
    let filters = [filter];
    let page = || read(&shared.last).page(&filters, after.as_ref(), u64::MAX, most.clamp(1, MAX_CHUNK));
    values(&shared, page).await
}

/// The values of a page. Where one is gone, because it was replaced meanwhile and retention had moved its record, the page is
/// looked up again.
pub(crate) async fn values(shared: &Shared, page: impl Fn() -> Page) -> Result<LastValues, Rejection> {
    let mut current = page();
    for _ in 1..MOST_LOOK_UPS {
        let (values, is_whole) = values_of(shared, &current).await?;
        if is_whole {
            return Ok(values);
        }
        let newer = page();
        // what has not changed meanwhile can't be read
        if newer.found == current.found {
            return Ok(values);
        }
        current = newer;
    }
    Ok(values_of(shared, &current).await?.0)
}

/// And whether all of them were there.
async fn values_of(shared: &Shared, page: &Page) -> Result<(LastValues, bool), Rejection> {
    let sequences: Vec<_> = page.found.iter().map(|(_, sequence)| *sequence).collect();
    let in_memory: Option<Vec<Found>> =
        sequences.iter().map(|sequence| Some((*sequence, Some(shared.tail.get(*sequence)?)))).collect();
    let found = match in_memory {
        Some(found) => found,
        None => blocking(shared, move |store| named(store, sequences)).await?,
    };
    let is_whole = found.iter().all(|(_, stored)| stored.is_some());
    // What was read is less than the page if it is large.
    let is_cut = found.len() < page.found.len();
    let cut = found.len().checked_sub(1).and_then(|last| page.found.get(last)).filter(|_| is_cut);
    let next = cut.map(|(topic, _)| topic.clone()).or(page.next.clone());
    let values = found.into_iter().filter_map(|(sequence, stored)| Some((sequence, stored?)));
    let values =
        values.map(|(sequence, stored)| delivery(shared.position(sequence), Arc::unwrap_or_clone(stored), false));
    Ok((LastValues { values: values.collect(), next }, is_whole))
}

pub(crate) fn named(store: &Store, sequences: Vec<u64>) -> fjall::Result<Vec<Found>> {
    let (mut found, mut bytes) = (Vec::with_capacity(sequences.len()), 0);
    for sequence in sequences {
        let record = store.get(sequence)?;
        bytes += record.as_ref().map_or(0, |(size, _)| *size);
        found.push((sequence, record.and_then(|(_, envelope)| readable(sequence, envelope))));
        if bytes >= MAX_CHUNK_BYTES {
            break;
        }
    }
    Ok(found)
}

fn readable(sequence: u64, stored: crate::store::Read) -> Option<Arc<Stored>> {
    match stored {
        Ok(stored) => Some(Arc::new(stored)),
        Err(error) => {
            unreadable(sequence, error);
            None
        }
    }
}

/// Tells of a record that can't be read.
pub(crate) fn unreadable(sequence: u64, error: DecodeError) {
    tracing::error!(sequence, %error, "a record can't be read");
    metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
}

//! Reads envelopes for a consumer: from memory where they are new, else from disk on a blocking thread.

use std::sync::Arc;

use envelope::{Envelope, RejectKind, Rejection};
use tokio::task::JoinHandle;

use crate::{shared::Shared, store::Store};

/// The most records that are read in one go.
pub(crate) const MAX_CHUNK: usize = 1_024;
const MAX_CHUNK_BYTES: usize = 1 << 20;

/// An envelope and where it is; `None` if its record can't be read.
pub(crate) type Found = (u64, Option<Arc<Envelope>>);

/// What to read. Of sequences that are named, only the first may be found: as many as fit the bounds.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// These sequences; they were handed out before.
    Again(Vec<u64>),
    /// These sequences; they match.
    Listed(Vec<u64>),
    /// What is behind this sequence, whether it matches or not.
    After(u64),
}

/// A read that is under way on a blocking thread.
#[derive(Debug)]
pub(crate) struct Reading {
    wanted: Wanted,
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
            Self::After(after) => {
                let found = shared.tail.after(*after, MAX_CHUNK)?;
                Some(found.into_iter().map(|(sequence, envelope)| (sequence, Some(envelope))).collect())
            }
        }
    }

    /// Begins to read it from disk. `tip`: the last sequence that is answered for.
    pub(crate) fn read(self, store: Arc<Store>, tip: u64) -> Reading {
        let wanted = self.clone();
        let records = tokio::task::spawn_blocking(move || match wanted {
            Wanted::Again(sequences) | Wanted::Listed(sequences) => named(&store, sequences),
            Wanted::After(after) => {
                let records = store.chunk(after, tip, MAX_CHUNK, MAX_CHUNK_BYTES)?;
                Ok(records.into_iter().map(|(sequence, envelope)| (sequence, readable(sequence, envelope))).collect())
            }
        });
        Reading { wanted: self, records }
    }
}

// === impl Reading ===

impl Reading {
    /// Cancel safe.
    pub(crate) async fn done(&mut self) -> Result<(Wanted, Vec<Found>), Rejection> {
        let failed = || Rejection::new(RejectKind::Unavailable, "backbone", "the store could not be read");
        match (&mut self.records).await {
            Ok(Ok(found)) => Ok((self.wanted.clone(), found)),
            Ok(Err(error)) => Err(failed().because(error)),
            Err(error) => Err(failed().because(error)),
        }
    }
}

fn named(store: &Store, sequences: Vec<u64>) -> fjall::Result<Vec<Found>> {
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

fn readable(sequence: u64, envelope: Result<Envelope, crate::codec::DecodeError>) -> Option<Arc<Envelope>> {
    match envelope {
        Ok(envelope) => Some(Arc::new(envelope)),
        Err(error) => {
            tracing::error!(sequence, %error, "a record can't be read");
            metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
            None
        }
    }
}

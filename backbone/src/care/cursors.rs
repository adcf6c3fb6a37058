//! What durable subscriptions lose with records that are given up: dead letters, in their counts.

use bytes::Bytes;
use envelope::{Envelope, RejectKind};
use fjall::OwnedWriteBatch;

use crate::{record, store::Store, subscription::Cursor};

/// A subscription that is mended.
struct Mended {
    key: Vec<u8>,
    cursor: Cursor,
    /// Unsettled envelopes that are there.
    there: u64,
}

/// Counts in a store that is whole but for `gaps` what each subscription has not settled and will never see. Answers with
/// how many that is, over all of them.
pub(super) fn mend(store: &Store, gaps: &[(u64, u64)], batch: &mut OwnedWriteBatch) -> fjall::Result<u64> {
    let mut mended = Vec::new();
    for row in store.subscriptions.iter() {
        let (key, value) = row.into_inner()?;
        let Ok(cursor) = Cursor::decode(&value) else { continue };
        mended.push(Mended { key: key.to_vec(), there: 0, cursor });
    }
    let from = mended.iter().map(|one| one.cursor.top).min().unwrap_or(u64::MAX);
    for row in store.records(from.saturating_add(1)..) {
        let (at, value) = row?;
        let Ok((_, envelope)) = record::decode(&Bytes::from(value)) else { continue };
        mended.iter_mut().for_each(|one| one.there += u64::from(one.waits_for(at, &envelope)));
    }
    let mut all = 0;
    for Mended { key, mut cursor, there } in mended {
        cursor.gaps.retain(|at| !gaps.iter().any(|(first, last)| (*first..=*last).contains(at)));
        // what is given up and was not come by yet may be lost as well, and is counted already
        let pending = cursor.counts.matched.saturating_sub(cursor.counts.settled()) + cursor.skip;
        let lost = pending.saturating_sub(there + cursor.gaps.len() as u64);
        if lost > 0 {
            let was_given_up = lost.min(cursor.skip);
            cursor.skip -= was_given_up;
            let lost = lost - was_given_up;
            *cursor.counts.dead_lettered.entry(RejectKind::Malformed.as_str()).or_default() += lost;
            batch.insert(&store.subscriptions, key, cursor.encode());
            all += lost;
        }
    }
    Ok(all)
}

// === impl Mended ===

impl Mended {
    /// Whether it was counted as matched and never handed out.
    fn waits_for(&self, at: u64, envelope: &Envelope) -> bool {
        let counted = self.cursor.backlog.is_none_or(|counted| at <= counted);
        at > self.cursor.top && counted && self.cursor.filters.iter().any(|filter| filter.selects(envelope))
    }
}

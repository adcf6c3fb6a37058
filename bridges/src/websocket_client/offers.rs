//! Offering what a feed sent: in order, in batches, and again until it is taken.
//!
//! A feed gets no answer and keeps nothing, so a message that can't be taken now stays here, and nothing more is read.

use std::time::Duration;

use envelope::{Batch, Disposition, Inbound, RejectKind, Rejection};
use tokio::time::sleep;

use super::dial::Lost;
use crate::{SourceContext, State, backoff::backoff, standing::Stand};

/// A batch with this many bytes takes no further message.
pub(super) const BATCH_BYTES: usize = 262_144;
/// The most messages of a batch.
pub(super) const MAX_BATCH: usize = 64;
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// From so many attempts on, it is shown that the gateway takes nothing.
const SHOWN: u32 = 5;

/// The gateway drains: what was not taken is lost with it unless the feed has it again, and counted as given back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draining {
    /// The place of the first message that was not taken.
    pub(super) first: usize,
}

/// How the connection is shown to stand.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) stand: Stand,
    pub(super) peer: String,
    /// Messages that were missing for good.
    pub(super) missed: u64,
}

/// Offers messages until each has its final outcome.
pub(super) async fn offer(cx: &SourceContext, shown: &Shown, mut waiting: Vec<Inbound>) -> Result<(), Draining> {
    cx.received(waiting.len() as u64);
    let bytes: usize = waiting.iter().map(|message| message.payload.len()).sum();
    let room = cx.bytes.of(bytes);
    let reserved = room.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX));
    let Some(Ok(_in_flight)) = cx.drain.run_until_cancelled(reserved).await else {
        waiting.iter().for_each(|_| cx.returned(RejectKind::Overloaded));
        return Err(Draining { first: 0 });
    };
    let mut attempt = 0;
    let mut places: Vec<usize> = (0..waiting.len()).collect();
    while let Some(batch) = Batch::new(waiting.clone()) {
        let verdicts = cx.verdicts(batch).await;
        let (mut again, mut first, mut kinds) = (Vec::new(), None, Vec::new());
        for ((message, place), verdict) in waiting.into_iter().zip(std::mem::take(&mut places)).zip(verdicts) {
            // a yes is told to nobody, and a final no is counted by the stack
            let Err(no) = verdict.answer else { continue };
            if no.disposition() == Disposition::Retry {
                again.push(message);
                places.push(place);
                kinds.push(no.kind);
                first.get_or_insert(no);
            }
        }
        waiting = again;
        let Some(no) = first else { break };
        if attempt == SHOWN {
            shown.full(&no);
        }
        let wait = no.retry_after.unwrap_or_default().max(backoff(FIRST_WAIT, LONGEST_WAIT, attempt));
        if cx.drain.run_until_cancelled(sleep(wait)).await.is_none() {
            kinds.into_iter().for_each(|kind| cx.returned(kind));
            return Err(Draining { first: places.first().copied().unwrap_or_default() });
        }
        attempt += 1;
    }
    if attempt > SHOWN {
        shown.connected();
    }
    Ok(())
}

// === impl Shown ===

impl Shown {
    pub(super) fn connected(&self) {
        let missed = (self.missed > 0).then(|| format!("{} messages of it were missing since the start", self.missed));
        self.stand.is(&self.peer, State::Connected(missed));
    }

    pub(super) fn lost(&self, lost: &Lost) {
        let state = if lost.is_refused() { State::Refused } else { State::Away };
        self.stand.is(&self.peer, state(lost.to_string()));
    }

    fn full(&self, no: &Rejection) {
        self.stand.is(&self.peer, State::Connected(Some(format!("the gateway takes nothing of it: {no}"))));
    }
}

//! The lane of a client: what it published, in order, one call of the stack in flight.
//!
//! While a message can't be taken the lane keeps it and everything behind it, and offers again with jittered backoff. What
//! waits is bounded: over the bound the connection reads nothing more.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use envelope::{Admission, Batch, Inbound, RejectKind, Verdict};
use futures_util::future::BoxFuture;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{answers::Of, link::READ_BYTES, offers::Offers};
use crate::backoff::backoff;

/// A message that has no outcome yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) inbound: Inbound,
    pub(super) of: Of,
    /// Of the packet that it came in, all of which stays until it has an outcome.
    pub(super) bytes: usize,
}

/// What one client has published and not heard of.
pub(super) struct Lane {
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    call: Option<BoxFuture<'static, Done>>,
    /// Of the message at the front, since it was refused first.
    retrying: Option<Retrying>,
    /// Bytes that were reserved while a large packet was read; it is next.
    reserved: Option<OwnedSemaphorePermit>,
    /// A large packet that is being read, for which there is room: how large it will be.
    expected: usize,
    /// A large packet waits for what is before it: nothing more of it is read.
    holds_up: bool,
    stop: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Retrying {
    since: Instant,
    attempt: u32,
    wait: Duration,
    kind: RejectKind,
}

/// How a call ended.
pub(super) enum Done {
    /// A verdict a message.
    Heard(Vec<(Waiting, Verdict<Admission>)>),
    /// It was not made, because the lane was stopped.
    Stopped(Vec<Waiting>),
}

/// A batch with this many bytes takes no further message.
pub(super) const BATCH_BYTES: usize = 262_144;
const MAX_BATCH: usize = 512;
/// A lane with as much as this waiting takes nothing more.
const MAX_WAITING: usize = 1_024;
const MAX_WAITING_BYTES: usize = 65_536;
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

// === impl Lane ===

impl Lane {
    /// `stop` cuts waiting short: what is not taken by then comes back.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            call: None,
            retrying: None,
            reserved: None,
            expected: 0,
            holds_up: false,
            stop,
        }
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes;
        self.waiting.push_back(waiting);
    }

    /// Nothing waits, and nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.call.is_none()
    }

    /// Nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.call.is_none()
    }

    /// Whether it takes more.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Not all of a packet is there, of this size if that is known: the bytes that are to be reserved for it before the rest
    /// is read, if it is a large one. Who waits for bytes holds none.
    pub(super) fn coming(&mut self, total: Option<usize>) -> Option<u32> {
        let large = total.filter(|total| *total > READ_BYTES && *total != self.expected);
        self.holds_up = large.is_some() && !self.is_empty();
        large.filter(|_| !self.holds_up).map(|total| u32::try_from(total).unwrap_or(u32::MAX))
    }

    /// There is room for the packet that comes.
    pub(super) fn reserve(&mut self, permit: OwnedSemaphorePermit) {
        self.expected = permit.num_permits();
        self.reserved = Some(permit);
    }

    /// A packet was read, and is in the lane if it is to be offered.
    pub(super) fn read(&mut self) {
        self.expected = 0;
        if self.is_empty() {
            self.reserved = None;
        }
    }

    /// The size of a large packet that is being read; 0 of none.
    pub(super) fn expected(&self) -> usize {
        self.expected
    }

    /// Whether nothing more is to be read until it is empty.
    pub(super) fn holds_up(&self) -> bool {
        self.holds_up
    }

    /// How long the message at the front is refused by now, and why.
    pub(super) fn refused_for(&self) -> Option<(Duration, RejectKind)> {
        self.retrying.map(|retrying| (retrying.since.elapsed() + retrying.wait, retrying.kind))
    }

    /// Calls the stack with what waits, unless it is being called.
    pub(super) fn go(&mut self, offers: &Arc<Offers>) {
        if self.call.is_some() || self.waiting.is_empty() {
            return;
        }
        let batch = self.batch();
        let wait = self.retrying.map(|retrying| retrying.wait);
        let call = call(offers.clone(), batch, self.reserved.take(), wait, self.stop.clone());
        self.call = Some(Box::pin(call));
    }

    fn batch(&mut self) -> Vec<Waiting> {
        let (mut bytes, mut most) = (0, 0);
        while most < self.waiting.len().min(MAX_BATCH) && bytes < BATCH_BYTES {
            bytes += self.waiting[most].bytes;
            most += 1;
        }
        self.waiting_bytes -= bytes;
        self.waiting.drain(..most).collect()
    }

    /// Waits for the end of the call; pending without one. Cancel safe.
    pub(super) async fn done(&mut self) -> Done {
        match &mut self.call {
            Some(call) => {
                let done = call.await;
                self.call = None;
                done
            }
            None => std::future::pending().await,
        }
    }

    /// Puts back what may be taken later, in front of everything else. `first`: of the first refusal.
    pub(super) fn again(&mut self, refused: Vec<Waiting>, first: Option<(RejectKind, Option<Duration>)>) {
        let Some((kind, after)) = first else {
            self.retrying = None;
            return;
        };
        let (since, attempt) = match self.retrying {
            Some(before) => (before.since, before.attempt + 1),
            None => (Instant::now(), 0),
        };
        let wait = after.unwrap_or_default().max(backoff(FIRST_WAIT, LONGEST_WAIT, attempt));
        self.retrying = Some(Retrying { since, attempt, wait, kind });
        for waiting in refused.into_iter().rev() {
            self.waiting_bytes += waiting.bytes;
            self.waiting.push_front(waiting);
        }
    }

    /// Something of what was refused has an outcome now: the next one waits from now on.
    pub(super) fn moved(&mut self) {
        self.retrying = None;
    }

    /// Takes out what waits.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        self.waiting_bytes = 0;
        self.waiting.drain(..).collect()
    }
}

async fn call(
    offers: Arc<Offers>,
    waiting: Vec<Waiting>,
    reserved: Option<OwnedSemaphorePermit>,
    wait: Option<Duration>,
    stop: CancellationToken,
) -> Done {
    if let Some(wait) = wait {
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return Done::Stopped(waiting);
        }
        offers.retries.increment(waiting.len() as u64);
    }
    let bytes: usize = waiting.iter().map(|waiting| waiting.bytes).sum();
    let in_flight = match reserved {
        Some(permit) if permit.num_permits() >= bytes => Some(permit),
        // one at a time: whoever waits for bytes here holds none
        other => {
            drop(other);
            let room = offers.cx.bytes.of(bytes);
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            match stop.run_until_cancelled(room.acquire_many_owned(bytes)).await {
                Some(permit) => permit.ok(),
                None => None,
            }
        }
    };
    let inbound = waiting.iter().map(|waiting| waiting.inbound.clone()).collect();
    let (Some(_in_flight), Some(batch)) = (in_flight, Batch::new(inbound)) else { return Done::Stopped(waiting) };
    let verdicts = offers.cx.verdicts(batch).await;
    Done::Heard(waiting.into_iter().zip(verdicts).collect())
}

// === impl Lane, Debug ===

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

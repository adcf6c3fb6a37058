//! What is not stored: `store: false` hands a message to the one mapping that sends it, in memory.
//!
//! Each mapping that sends has a queue, bounded in envelopes and bytes, which its pump reads beside its subscription. What
//! finds no room is offered again by its source, whose unacked window is then the store. A message that is offered again
//! while it is held, or soon after a peer took it, is the same message and is sent once.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envelope::{
    AckPoint, Admission, Batch, Deliveries, Delivery, EnvelopeId, Filter, Ledger, Mapped, Position, Receipt,
    RejectKind, Rejection, Settled, Settlement,
};
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::pump::CREDIT;

/// The most envelopes that a mapping's queue holds, those included that are being sent.
const MAX_ENVELOPES: usize = CREDIT as usize;
/// The most bytes of data that it holds. A message larger than that is held alone.
const MAX_BYTES: usize = 16 << 20;
/// What each envelope counts beside its data.
const OVERHEAD: usize = 1_024;
/// How many envelopes are remembered after a peer took them.
const REMEMBERED: usize = 4_096;
/// When it makes sense to offer again what found no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What the positions of such deliveries begin with. The store's are shorter.
const TAG: &[u8] = b"not-stored/";

/// The queues of all mappings that send. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct PassThrough(Arc<Shared>);

struct Shared {
    ledger: Arc<dyn Ledger>,
    /// Held while a message is entered, so that a group finds room as a whole.
    queues: Mutex<Vec<(Filter, Arc<Queue>)>>,
}

/// What one mapping is to send that is not stored.
#[derive(Default)]
pub(super) struct Queue {
    held: Mutex<Held>,
    more: Notify,
}

#[derive(Default)]
struct Held {
    next: u64,
    waiting: VecDeque<Passed>,
    /// Handed out, by the number in its position.
    out: BTreeMap<u64, Passed>,
    ids: HashSet<EnvelopeId>,
    /// A peer has them; the oldest first.
    taken: VecDeque<EnvelopeId>,
    known: HashSet<EnvelopeId>,
    bytes: usize,
    /// Those whose sender has heard yes: nobody else has them.
    owed: usize,
}

struct Passed {
    number: u64,
    delivery: Delivery,
    is_owed: bool,
}

/// A subscription, and beside it what is not stored. What is handed out and not settled when this is dropped is handed out
/// again by the next one.
pub(super) struct Beside {
    stored: Box<dyn Deliveries>,
    queue: Arc<Queue>,
}

// === impl PassThrough ===

impl PassThrough {
    /// What is handed on is counted in `ledger`. There is no queue yet.
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self(Arc::new(Shared { ledger, queues: Mutex::default() }))
    }

    /// The queues of the mappings that send from now on, by what they select. A mapping that goes on sending has `queue`s
    /// from before.
    pub(super) fn follow(&self, queues: Vec<(Filter, Arc<Queue>)>) {
        *self.queues() = queues;
    }

    /// Hands a message to who sends what it became: all of it or nothing. An error may pass.
    pub(crate) fn hand(&self, mapped: Mapped) -> Result<Admission, Rejection> {
        let queues = self.queues();
        let envelopes = mapped.group.as_slice();
        let mut takers = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let taker = queues.iter().find(|(filter, _)| filter.matches(&envelope.subject));
            takers.push(taker.map(|(_, queue)| queue).ok_or_else(|| no_taker(&envelope.subject))?);
        }
        let id = envelopes.first().map(|first| first.id).ok_or_else(nothing)?;
        let receipt = |duplicate| Receipt { id, position: None, duplicate, settled: Settled::Now, reply: None };
        let is_known = takers.iter().zip(envelopes).all(|(queue, envelope)| queue.held().knows(envelope.id));
        if !is_known {
            let (count, bytes) =
                (envelopes.len(), envelopes.iter().map(|envelope| size(envelope.data.as_slice())).sum());
            if !takers.iter().all(|queue| queue.held().has_room(count, bytes)) {
                let detail = "the mapping that sends it holds as much as it may";
                return Err(Rejection::new(RejectKind::Overloaded, "store", detail).after(RETRY_AFTER));
            }
        }
        self.0.ledger.passed(&mapped.bridge, &mapped.route);
        if is_known {
            return Ok(Admission::Stored(receipt(true)));
        }
        let (retained, is_owed) = (mapped.retain, mapped.ack == AckPoint::Received);
        for (envelope, queue) in mapped.group.into_vec().into_iter().zip(takers) {
            let (position, lane) = (Position(bytes::Bytes::new()), envelope.lane());
            queue.push(Delivery { position, redelivered: false, is_last: false, retained, envelope, lane }, is_owed);
        }
        Ok(Admission::Stored(receipt(false)))
    }

    /// Whether a peer took the envelope, lately.
    pub(crate) fn has_sent(&self, id: EnvelopeId) -> bool {
        self.queues().iter().any(|(_, queue)| queue.held().known.contains(&id))
    }

    fn queues(&self) -> MutexGuard<'_, Vec<(Filter, Arc<Queue>)>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PassThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassThrough").field("queues", &self.queues().len()).finish()
    }
}

/// Between two epochs there may be nobody.
fn no_taker(topic: &envelope::Topic) -> Rejection {
    let detail = format!("no mapping sends what goes to {:?} now, and it is not stored", topic.as_str());
    Rejection::new(RejectKind::Unavailable, "store", detail).after(RETRY_AFTER)
}

fn nothing() -> Rejection {
    Rejection::new(RejectKind::Unavailable, "store", "a group without envelopes")
}

fn size(data: &[u8]) -> usize {
    data.len() + OVERHEAD
}

/// Whether a delivery is of a queue, and of no store.
pub(super) fn is_passed(delivery: &Delivery) -> bool {
    number(&delivery.position).is_some()
}

fn number(position: &Position) -> Option<u64> {
    position.0.strip_prefix(TAG)?.try_into().ok().map(u64::from_be_bytes)
}

// === impl Queue ===

impl Queue {
    /// It holds what nobody else has.
    pub(super) fn is_owed(&self) -> bool {
        self.held().owed > 0
    }

    fn push(&self, mut delivery: Delivery, is_owed: bool) {
        let mut held = self.held();
        let number = held.next;
        held.next += 1;
        delivery.position = Position([TAG, &number.to_be_bytes()].concat().into());
        held.ids.insert(delivery.envelope.id);
        held.bytes += size(delivery.envelope.data.as_slice());
        held.owed += usize::from(is_owed);
        held.waiting.push_back(Passed { number, delivery, is_owed });
        drop(held);
        self.more.notify_one();
    }

    /// What waits is handed out.
    fn take(&self) -> Option<Batch<Delivery>> {
        let mut held = self.held();
        let taken = mem::take(&mut held.waiting);
        let deliveries = taken.iter().map(|passed| passed.delivery.clone()).collect();
        held.out.extend(taken.into_iter().map(|passed| (passed.number, passed)));
        Batch::new(deliveries)
    }

    async fn next(&self) -> Batch<Delivery> {
        loop {
            match self.take() {
                Some(batch) => return batch,
                None => self.more.notified().await,
            }
        }
    }

    /// Whatever became of it, it is held no longer. `false` if it is not of this queue.
    fn settle(&self, position: &Position, how: &Settlement) -> bool {
        let Some(number) = number(position) else { return false };
        let mut held = self.held();
        if let Some(Passed { delivery, is_owed, .. }) = held.out.remove(&number) {
            held.ids.remove(&delivery.envelope.id);
            held.bytes -= size(delivery.envelope.data.as_slice());
            held.owed -= usize::from(is_owed);
            if *how == Settlement::Delivered {
                held.remember(delivery.envelope.id);
            }
        }
        true
    }

    /// What was handed out comes again, first.
    fn put_back(&self) {
        let mut held = self.held();
        let out = mem::take(&mut held.out);
        for mut passed in out.into_values().rev() {
            passed.delivery.redelivered = true;
            held.waiting.push_front(passed);
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Held ===

impl Held {
    fn knows(&self, id: EnvelopeId) -> bool {
        self.ids.contains(&id) || self.known.contains(&id)
    }

    fn remember(&mut self, id: EnvelopeId) {
        self.taken.push_back(id);
        self.known.insert(id);
        if self.taken.len() > REMEMBERED
            && let Some(oldest) = self.taken.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn has_room(&self, count: usize, bytes: usize) -> bool {
        self.ids.is_empty() || (self.ids.len() + count <= MAX_ENVELOPES && self.bytes + bytes <= MAX_BYTES)
    }
}

// === impl Beside ===

impl Beside {
    pub(super) fn new(stored: Box<dyn Deliveries>, queue: Arc<Queue>) -> Self {
        Self { stored, queue }
    }
}

impl Deliveries for Beside {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        Box::pin(async {
            tokio::select! {
                batch = self.queue.next() => Ok(batch),
                batch = self.stored.next() => batch,
            }
        })
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        let stored: Vec<_> = settled.into_iter().filter(|(position, how)| !self.queue.settle(position, how)).collect();
        match stored.is_empty() {
            true => Box::pin(std::future::ready(Ok(()))),
            false => self.stored.settle(stored),
        }
    }

    fn grant(&mut self, more: u32) {
        self.stored.grant(more);
    }

    fn early(&mut self, early: bool) {
        self.stored.early(early);
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.queue.put_back();
    }
}

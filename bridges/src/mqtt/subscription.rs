//! One subscription of a client: a task between the mesh and the client's outbox.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use envelope::{Batch, Deliveries, Delivery, Filter, Outlet, Position, Principal, Rejection, Settlement};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;

/// What the connection tells its subscription: outcomes, wishes, and the end.
#[derive(Debug)]
pub(super) struct Settling {
    /// Within the session.
    pub(super) number: u32,
    noted: Mutex<Noted>,
    /// Of all that was noted, how much is on disk: the first so many.
    stored: AtomicU64,
    values: AtomicBool,
    /// Last values that wait in the outbox.
    waiting: AtomicUsize,
    /// At QoS 0, where what is too much is dropped.
    at_most_once: AtomicBool,
    wake: Notify,
    stop: CancellationToken,
}

/// Outcomes that are not settled yet.
#[derive(Debug, Default)]
struct Noted {
    waiting: Vec<(Position, Settlement)>,
    /// The last delivery that left at QoS 0.
    furthest: Option<Position>,
    /// Of all that ever were.
    count: u64,
}

/// What a subscription works with.
pub(super) struct Subscription {
    pub(super) deliveries: Box<dyn Deliveries>,
    pub(super) settling: Arc<Settling>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) principal: Arc<Principal>,
    pub(super) filter: Filter,
}

/// How many last values wait in the outbox at most.
const PAGE: usize = 64;

// === impl Settling ===

impl Settling {
    pub(super) fn new(number: u32, at_most_once: bool) -> Self {
        Self {
            number,
            noted: Mutex::default(),
            stored: AtomicU64::new(0),
            values: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            at_most_once: AtomicBool::new(at_most_once),
            wake: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Notes an outcome, and says how many were noted with it; bounded by the credit of the subscription.
    pub(super) fn settle(&self, position: Position, settlement: Settlement) -> u64 {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.waiting.push((position, settlement));
        noted.count += 1;
        self.wake.notify_one();
        noted.count
    }

    /// How many outcomes are on disk: the first so many that were noted.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// A delivery has left at QoS 0: those come in order.
    pub(super) fn passed(&self, position: &Position) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).furthest = Some(position.clone());
    }

    /// The last of these.
    pub(super) fn furthest(&self) -> Option<Position> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).furthest.clone()
    }

    pub(super) fn is_at_most_once(&self) -> bool {
        self.at_most_once.load(Ordering::Acquire)
    }

    /// Only the outbox changes it, which has to move what waits.
    pub(super) fn change(&self, at_most_once: bool) {
        self.at_most_once.store(at_most_once, Ordering::Release);
        self.wake.notify_one();
    }

    /// Asks for the last values of the topics.
    pub(super) fn want_values(&self) {
        self.values.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether last values wait in the outbox, which alone counts them.
    pub(super) fn waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// So many last values are in the outbox now.
    pub(super) fn values_in(&self, values: usize) {
        self.waiting.fetch_add(values, Ordering::AcqRel);
    }

    /// A last value has left the outbox; whether it was the last one of all.
    pub(super) fn value_out(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Ends the subscription; what is noted is settled before.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// What is noted and not settled.
    pub(super) fn take(&self) -> Vec<(Position, Settlement)> {
        std::mem::take(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }
}

// === impl Subscription ===

impl Subscription {
    /// Runs to the end of the subscription. What is not settled goes back with the deliveries.
    pub(super) async fn run(mut self) {
        let (settling, stop) = (self.settling.clone(), self.settling.stop.clone());
        let mut early = false;
        let ended = loop {
            if early != settling.is_at_most_once() {
                early = !early;
                // at QoS 0 nobody is promised anything: it need not wait for the disk
                self.deliveries.early(early);
            }
            // before what is newer: a topic's values never go back
            if settling.values.swap(false, Ordering::AcqRel) {
                match stop.run_until_cancelled(self.values()).await {
                    Some(Ok(())) | None => {}
                    Some(Err(why)) => break Err(why),
                }
            }
            let step = tokio::select! {
                biased;
                () = settling.wake.notified() => self.settle().await,
                () = stop.cancelled() => break self.settle().await,
                batch = self.next() => {
                    batch.map(|batch| self.outbox.push(&settling, batch.into_vec()))
                }
            };
            if let Err(why) = step {
                break Err(why);
            }
        };
        match ended {
            Ok(()) => {}
            Err(why) if stop.is_cancelled() => {
                tracing::debug!(%why, "the last acknowledgements of a subscription are not stored");
            }
            Err(why) => self.outbox.ended(settling.number, why),
        }
    }

    /// The next deliveries, once there is room for them. Cancel safe.
    async fn next(&mut self) -> Result<Batch<Delivery>, Rejection> {
        if !self.settling.is_at_most_once() {
            self.outbox.room().await;
        }
        self.deliveries.next().await
    }

    /// Sends the last value of each topic, page by page, as the client takes them.
    async fn values(&mut self) -> Result<(), Rejection> {
        let mut after = None;
        loop {
            let page = self.outlet.last(self.principal.clone(), self.filter.clone(), after, PAGE).await?;
            let values: Vec<Delivery> = page.values;
            if !values.is_empty() {
                self.outbox.push_values(&self.settling, values);
                self.outbox.drained(&self.settling).await;
            }
            after = match page.next {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }

    async fn settle(&mut self) -> Result<(), Rejection> {
        let settled = self.settling.take();
        if settled.is_empty() {
            return Ok(());
        }
        let outcomes = settled.len() as u64;
        self.deliveries.settle(settled).await?;
        self.settling.stored.fetch_add(outcomes, Ordering::Release);
        Ok(())
    }
}

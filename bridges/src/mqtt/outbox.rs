//! What waits to be sent to one client: filled by the tasks of its subscriptions, emptied by its connection.
//!
//! At QoS 1 and 2 each subscription's credit and the bytes that wait bound it, and what is over stays at its position in the
//! store. At QoS 0 the oldest are dropped: a client that is too slow hears the newest.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use envelope::{Delivery, Rejection, Settlement};
use tokio::sync::Notify;

use super::{config::SessionConfig, subscription::Settling};

/// The queue between subscriptions and connection.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<Queues>,
    wake: Notify,
    drained: Notify,
    room: Notify,
    /// The most of QoS 0.
    most: usize,
    /// The most bytes at QoS 0, and at QoS 1 and 2 as many: at more, nothing is added.
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Queues {
    /// At QoS 0.
    once: Line,
    /// At QoS 1 and 2.
    acked: Line,
    ended: Vec<(u32, Rejection)>,
    dropped: u64,
}

/// Deliveries in order, and how much they are.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// A delivery to one subscription.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) settling: Arc<Settling>,
    pub(super) delivery: Delivery,
    /// It is a topic's last value, which was there before the subscription.
    pub(super) value: bool,
}

/// What each counts beside its payload.
const OVERHEAD: usize = 512;

// === impl Line ===

impl Line {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += size(&waiting);
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.bytes -= size(&next);
        Some(next)
    }
}

fn size(waiting: &Waiting) -> usize {
    waiting.delivery.envelope.data.as_slice().len() + OVERHEAD
}

// === impl Outbox ===

impl Outbox {
    pub(super) fn new(config: &SessionConfig) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            drained: Notify::new(),
            room: Notify::new(),
            most: config.max_queued,
            most_bytes: config.max_queued_bytes,
        }
    }

    /// Waits until there is room for more at QoS 1 and 2. Cancel safe.
    pub(super) async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.lock().acked.bytes < self.most_bytes {
                return;
            }
            room.await;
        }
    }

    /// Adds deliveries in order; at QoS 0 the oldest that are too many are dropped.
    pub(super) fn push(&self, settling: &Arc<Settling>, deliveries: Vec<Delivery>) {
        self.add(settling, deliveries, false);
    }

    /// Adds last values.
    pub(super) fn push_values(&self, settling: &Arc<Settling>, values: Vec<Delivery>) {
        self.add(settling, values, true);
    }

    /// A running subscription is at QoS 0 from now on, or no more: then nothing that waits for it is dropped.
    pub(super) fn change(&self, settling: &Settling, at_most_once: bool) {
        let mut queues = self.lock();
        settling.change(at_most_once);
        if !at_most_once {
            for waiting in std::mem::take(&mut queues.once).waiting {
                let is_of_it = waiting.settling.number == settling.number;
                let line = if is_of_it { &mut queues.acked } else { &mut queues.once };
                line.push(waiting);
            }
        }
        drop(queues);
        self.wake.notify_one();
    }

    fn add(&self, settling: &Arc<Settling>, deliveries: Vec<Delivery>, value: bool) {
        let mut queues = self.lock();
        if value {
            settling.values_in(deliveries.len());
        }
        let waiting = deliveries.into_iter().map(|delivery| Waiting { settling: settling.clone(), delivery, value });
        if settling.is_at_most_once() {
            for waiting in waiting {
                queues.once.push(waiting);
                // a single one that is larger than all that may wait is sent all the same
                let is_over = |once: &Line| once.waiting.len() > self.most.max(1) || once.bytes > self.most_bytes;
                while queues.once.waiting.len() > 1
                    && is_over(&queues.once)
                    && let Some(oldest) = queues.once.pop()
                {
                    self.left(&oldest);
                    oldest.settling.settle(oldest.delivery.position, Settlement::Delivered);
                    queues.dropped += 1;
                }
            }
        } else {
            waiting.for_each(|waiting| queues.acked.push(waiting));
        }
        drop(queues);
        self.wake.notify_one();
    }

    /// A subscription is closed: what waits for it goes back to the store.
    pub(super) fn forget(&self, settling: &Arc<Settling>) {
        let mut queues = self.lock();
        let Queues { once, acked, .. } = &mut *queues;
        for line in [once, acked] {
            for waiting in std::mem::take(line).waiting {
                if !Arc::ptr_eq(&waiting.settling, settling) {
                    line.push(waiting);
                }
            }
        }
        drop(queues);
        self.room.notify_waiters();
    }

    /// A subscription is over, which the client did not ask for.
    pub(super) fn ended(&self, number: u32, why: Rejection) {
        self.lock().ended.push((number, why));
        self.wake.notify_one();
    }

    /// The next one that may go: of QoS 1 and 2 only with `window`.
    pub(super) fn pop(&self, window: bool) -> Option<Waiting> {
        let mut queues = self.lock();
        let was_full = queues.acked.bytes >= self.most_bytes;
        let acked = if window { queues.acked.pop() } else { None };
        if was_full && queues.acked.bytes < self.most_bytes {
            self.room.notify_waiters();
        }
        let next = acked.or_else(|| queues.once.pop());
        next.inspect(|next| self.left(next))
    }

    fn left(&self, waiting: &Waiting) {
        if waiting.value && waiting.settling.value_out() {
            self.drained.notify_waiters();
        }
    }

    /// Waits until no last value of this subscription waits, whatever does of others.
    pub(super) async fn drained(&self, settling: &Settling) {
        loop {
            let drained = self.drained.notified();
            if !settling.waits() {
                return;
            }
            drained.await;
        }
    }

    /// Why a subscription is over, if one is.
    pub(super) fn take_ended(&self) -> Option<(u32, Rejection)> {
        self.lock().ended.pop()
    }

    /// How many were dropped since this was asked.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Waits for more than there was. Cancel safe.
    pub(super) async fn filled(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::conformance::delivery;

    fn outbox(max_queued: usize) -> Outbox {
        Outbox::new(&SessionConfig { max_queued, ..SessionConfig::default() })
    }

    fn data(waiting: &Waiting) -> Bytes {
        waiting.delivery.envelope.data.bytes()
    }

    #[test]
    fn at_qos_0_the_oldest_are_dropped_and_counted_and_settled() {
        let (outbox, settling) = (outbox(2), Arc::new(Settling::new(0, true)));
        let deliveries = ["1", "2", "3"].iter().zip(1..).map(|(data, n)| delivery(n, "a", Bytes::from(*data)));
        outbox.push(&settling, deliveries.collect());
        let left: Vec<_> = std::iter::from_fn(|| outbox.pop(false)).map(|waiting| data(&waiting)).collect();
        assert_eq!(left, ["2", "3"]);
        assert_eq!((outbox.take_dropped(), outbox.take_dropped()), (1, 0));
        assert_eq!(settling.take().len(), 1);
    }

    #[test]
    fn without_a_window_only_qos_0_goes() {
        let (acked, once) = (Arc::new(Settling::new(0, false)), Arc::new(Settling::new(1, true)));
        let outbox = outbox(2);
        outbox.push(&acked, vec![delivery(1, "a", Bytes::from("acked"))]);
        outbox.push(&once, vec![delivery(2, "a", Bytes::from("once"))]);
        assert_eq!(outbox.pop(false).map(|waiting| data(&waiting)), Some(Bytes::from("once")));
        assert!(outbox.pop(false).is_none());
        assert_eq!(outbox.pop(true).map(|waiting| data(&waiting)), Some(Bytes::from("acked")));
    }

    #[tokio::test]
    async fn a_subscription_waits_for_its_own_last_values_and_for_no_others() {
        let (own, other) = (Arc::new(Settling::new(0, true)), Arc::new(Settling::new(1, false)));
        let outbox = outbox(2);
        outbox.push_values(&own, ["1", "2", "3"].map(|data| delivery(1, "a", Bytes::from(data))).into());
        // without a window it stays
        outbox.push(&other, vec![delivery(2, "a", Bytes::from("other"))]);
        {
            let mut drained = std::pin::pin!(outbox.drained(&own));
            assert!(futures_util::poll!(drained.as_mut()).is_pending());
            assert!(outbox.pop(false).is_some());
            assert!(futures_util::poll!(drained.as_mut()).is_pending(), "one was dropped, one is left");
            assert!(outbox.pop(false).is_some());
            assert!(futures_util::poll!(drained.as_mut()).is_ready());
        }
        outbox.drained(&other).await;
        assert!(outbox.pop(true).is_some());
    }

    #[test]
    fn what_is_raised_from_qos_0_is_dropped_no_more_and_keeps_its_order() {
        let (raised, once) = (Arc::new(Settling::new(0, true)), Arc::new(Settling::new(1, true)));
        let outbox = outbox(2);
        outbox.push(&raised, vec![delivery(1, "a", Bytes::from("1"))]);
        outbox.push(&once, vec![delivery(2, "a", Bytes::from("once"))]);
        outbox.change(&raised, false);
        outbox.push(&raised, ["2", "3", "4"].map(|data| delivery(3, "a", Bytes::from(data))).into());
        outbox.push(&once, vec![delivery(4, "a", Bytes::from("again"))]);
        assert_eq!(outbox.pop(false).map(|waiting| data(&waiting)), Some(Bytes::from("once")));
        let left: Vec<_> = std::iter::from_fn(|| outbox.pop(true)).map(|waiting| data(&waiting)).collect();
        assert_eq!(left, ["1", "2", "3", "4", "again"]);
        assert_eq!(outbox.take_dropped(), 0);
    }

    #[test]
    fn at_qos_0_what_is_over_the_bytes_is_dropped_and_the_newest_goes_whatever_its_size() {
        let config = SessionConfig { max_queued_bytes: 2 * (100 + OVERHEAD), ..SessionConfig::default() };
        let (outbox, settling) = (Outbox::new(&config), Arc::new(Settling::new(0, true)));
        let of = |n, bytes: usize| delivery(n, "a", Bytes::from(vec![b'x'; bytes]));
        outbox.push(&settling, vec![of(1, 100), of(2, 100), of(3, 100)]);
        assert_eq!(outbox.take_dropped(), 1);
        outbox.push(&settling, vec![of(4, 10_000)]);
        assert_eq!(outbox.take_dropped(), 2);
        assert_eq!(outbox.pop(true).map(|waiting| data(&waiting).len()), Some(10_000));
        assert!(outbox.pop(true).is_none());
    }

    #[tokio::test]
    async fn at_qos_1_and_2_a_full_outbox_has_no_room_until_something_is_sent_and_drops_nothing() {
        let config = SessionConfig { max_queued_bytes: 2 * (100 + OVERHEAD), ..SessionConfig::default() };
        let (outbox, settling) = (Outbox::new(&config), Arc::new(Settling::new(0, false)));
        outbox.room().await;
        let three = (1..4).map(|n| delivery(n, "a", Bytes::from(vec![b'x'; 100])));
        outbox.push(&settling, three.collect());
        let mut room = std::pin::pin!(outbox.room());
        assert!(futures_util::poll!(room.as_mut()).is_pending());
        assert!(outbox.pop(false).is_none() && outbox.pop(true).is_some());
        assert!(futures_util::poll!(room.as_mut()).is_pending(), "as many bytes as there may be");
        assert!(outbox.pop(true).is_some());
        assert!(futures_util::poll!(room.as_mut()).is_ready());
        assert!(outbox.pop(true).is_some());
        assert_eq!(outbox.take_dropped(), 0);
    }
}

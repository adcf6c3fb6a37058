//! One subscription of a client: a task between the mesh and the client's outbox.

use std::sync::{Arc, Mutex, PoisonError};

use envelope::{Deliveries, Position, Settlement};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;

/// What the connection tells its subscription: outcomes, and the end.
#[derive(Debug)]
pub(super) struct Settling {
    /// Within the session.
    pub(super) number: u32,
    settled: Mutex<Vec<(Position, Settlement)>>,
    wake: Notify,
    stop: CancellationToken,
}

// === impl Settling ===

impl Settling {
    pub(super) fn new(number: u32) -> Self {
        Self { number, settled: Mutex::default(), wake: Notify::new(), stop: CancellationToken::new() }
    }

    /// Notes an outcome; bounded by the credit of the subscription.
    pub(super) fn settle(&self, position: Position, settlement: Settlement) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push((position, settlement));
        self.wake.notify_one();
    }

    /// Ends the subscription; what is noted is settled before.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// What is noted and not settled.
    pub(super) fn take(&self) -> Vec<(Position, Settlement)> {
        std::mem::take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs to the end of the subscription. What is not settled goes back with `deliveries`.
pub(super) async fn run(
    mut deliveries: Box<dyn Deliveries>,
    settling: Arc<Settling>,
    outbox: Arc<Outbox>,
    at_most_once: bool,
) {
    loop {
        let step = tokio::select! {
            biased;
            () = settling.wake.notified() => settle(&settling, deliveries.as_mut()).await,
            () = settling.stop.cancelled() => {
                if let Err(why) = settle(&settling, deliveries.as_mut()).await {
                    tracing::debug!(%why, "the last acknowledgements of a subscription are not stored");
                }
                return;
            }
            batch = deliveries.next() => batch.map(|batch| outbox.push(&settling, batch.into_vec(), at_most_once)),
        };
        if let Err(why) = step {
            return outbox.ended(settling.number, why);
        }
    }
}

async fn settle(settling: &Settling, deliveries: &mut dyn Deliveries) -> Result<(), envelope::Rejection> {
    let settled = settling.take();
    if settled.is_empty() { Ok(()) } else { deliveries.settle(settled).await }
}

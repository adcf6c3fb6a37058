//! The subscriptions of a connection, open: how each filter is served, from the first delivery to the last settlement.

use std::sync::Arc;

use bytestring::ByteString;
use envelope::{Deliveries, Filter, Outlet, Qos, Rejection, Start, Subscribe};
use tokio::time::Instant;

use super::{Connection, Open};
use crate::mqtt::{
    session::MAX_TAKEN,
    share::{Leaves, Seat, is_shared, within},
    subscription::{Settling, Subscription},
    sys::{Sys, is_sys},
};

/// How a filter is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// From the mesh, at a position of the client's own.
    Own,
    /// From the mesh, at a position that others share.
    Shared,
    /// By the listener itself.
    Sys,
}

/// What serves a subscription.
struct Serving {
    deliveries: Box<dyn Deliveries>,
    outlet: Arc<dyn Outlet>,
    filter: Filter,
    durable: bool,
    seat: Option<Seat>,
}

/// The most unsettled deliveries of one subscription.
const MAX_CREDIT: u32 = MAX_TAKEN as u32;

// === impl Connection ===

impl Connection {
    /// How a filter of the client is served, and what it is in the mesh. `None`: it is no filter.
    pub(super) fn served(&self, native: &str) -> Option<(Served, Filter)> {
        let (served, plain) = match native {
            // MQTT-4.7.3-1; in the mesh's spelling it would be an empty level
            "" => return None,
            // nobody shares what each client gets from the listener itself
            _ if is_shared(native) => (Served::Shared, within(native).filter(|within| !is_sys(within))?),
            _ if is_sys(native) => (Served::Sys, native),
            _ => (Served::Own, native),
        };
        Some((served, self.shared.border.filter(plain).ok()?))
    }

    /// Only what has to outlive the connection has a position in the store, or what waits there since the one before.
    pub(super) fn is_durable(&self, served: Served, qos: Qos) -> bool {
        served == Served::Own && qos != Qos::AtMostOnce && self.was_kept
    }

    pub(super) async fn open(
        &mut self,
        number: u32,
        native: &ByteString,
        (served, filter): (Served, Filter),
        qos: Qos,
    ) -> Result<(), Rejection> {
        let at_most_once = qos == Qos::AtMostOnce;
        let credit = if at_most_once { MAX_CREDIT } else { MAX_CREDIT.min(self.receive_maximum.into()) };
        let (shared, principal) = (self.shared.clone(), self.principal.clone());
        let (outlet, session) = (shared.cx.outlet.clone(), &self.held.session);
        let durable = self.is_durable(served, qos);
        let serving = match served {
            Served::Own => {
                let name = durable.then(|| shared.durable_name(session, number));
                let what = Subscribe { filters: vec![filter.clone()], start: Start::New, durable: name, credit };
                let deliveries = outlet.open(principal, what).await?;
                Serving { deliveries, outlet, filter, durable, seat: None }
            }
            Served::Shared => {
                let joined = shared.shares.join(&shared, (native, filter.clone()), session, principal, credit).await;
                let (deliveries, seat) = joined?;
                Serving { deliveries, outlet, filter, durable, seat: Some(seat) }
            }
            Served::Sys => {
                let reading = Sys::open(&shared, principal, filter.clone())?;
                Serving {
                    deliveries: Box::new(reading.clone()),
                    outlet: Arc::new(reading),
                    filter,
                    durable,
                    seat: None,
                }
            }
        };
        self.serve_with(number, serving, at_most_once);
        Ok(())
    }

    fn serve_with(&mut self, number: u32, serving: Serving, at_most_once: bool) {
        let Serving { deliveries, outlet, filter, durable, seat } = serving;
        let settling = Arc::new(Settling::new(number, at_most_once));
        let (outbox, principal) = (self.outbox.clone(), self.principal.clone());
        let running = Subscription { deliveries, settling: settling.clone(), outbox, outlet, principal, filter };
        let task = self.shared.cx.tasks.spawn(running.run());
        self.open.insert(number, Open { settling, task, durable, seat, shown: None, seen: None });
    }

    /// Closes a subscription that is open; whether it has a position of its own in the store.
    pub(super) async fn close(&mut self, number: u32, leaves: Leaves) -> bool {
        let Some(Open { settling, task, durable, seat, .. }) = self.open.remove(&number) else { return false };
        settling.stop();
        if task.await.is_err() {
            tracing::error!(number, "the task of a subscription failed");
        }
        // what is not settled comes again, if the subscription does
        self.outbox.forget(&settling);
        self.held.session.closed(number, settling.stored());
        if let Some(seat) = seat {
            seat.leave(self.held.session.left(number), leaves).await;
        }
        durable
    }

    /// Ends the tasks of all subscriptions, which settle what the client has acknowledged.
    pub(super) async fn close_subscriptions(&mut self, deadline: Instant, leaves: Leaves) {
        let open: Vec<_> = self.open.drain().collect();
        open.iter().for_each(|(_, open)| open.settling.stop());
        for (number, mut open) in open {
            if tokio::time::timeout_at(deadline, &mut open.task).await.is_err() {
                open.task.abort();
            }
            self.held.session.closed(number, open.settling.stored());
            if open.durable && open.settling.is_at_most_once() {
                // it was lowered to QoS 0: nothing waits for it any more
                self.end_lowered(number).await;
            }
            if let Some(seat) = open.seat {
                seat.leave(self.held.session.left(number), leaves).await;
            }
        }
    }
}

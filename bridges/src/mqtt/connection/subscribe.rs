//! SUBSCRIBE and UNSUBSCRIBE: filters of the client to subscriptions of the mesh.

use std::sync::Arc;

use bytestring::ByteString;
use envelope::{Deliveries, Filter, Qos, RejectKind, Rejection, Start, Subscribe};
use tokio::time::Instant;

use super::{Connection, End, Open};
use crate::mqtt::{
    address::to_filter,
    packet::{self, Acked, Broken, Reason, RetainHandling, Wanted},
    reject,
    session::MAX_TAKEN,
    share::{Leaves, Seat, is_shared, within},
    subscription::{Settling, Subscription},
};

/// The most unsettled deliveries of one subscription.
const MAX_CREDIT: u32 = MAX_TAKEN as u32;

// === impl Connection ===

impl Connection {
    pub(super) async fn subscribe(&mut self, subscribe: packet::Subscribe) -> Result<(), End> {
        let packet::Subscribe { id, subscription_id, filters } = subscribe;
        let (mut answers, mut refused) = (Vec::with_capacity(filters.len()), None);
        for wanted in filters {
            answers.push(self.subscribe_to(wanted, subscription_id, &mut refused).await);
        }
        self.keep().await?;
        // there is one for all of them: that of the first which is refused
        let detail = refused.as_ref().and_then(|rejection| self.detail(rejection));
        packet::suback(&mut self.link.out, self.version, id, &answers, detail.as_deref());
        Ok(())
    }

    async fn subscribe_to(
        &mut self,
        wanted: Wanted,
        subscription_id: Option<u32>,
        refused: &mut Option<Rejection>,
    ) -> Reason {
        let granted = Reason(packet::level(wanted.qos));
        let shared = is_shared(&wanted.filter);
        let plain = if shared { within(&wanted.filter) } else { Some(&*wanted.filter) };
        let Some(Ok(filter)) = plain.map(to_filter) else { return Reason::FILTER_INVALID };
        let session = &mut self.held.session;
        let known = session.subscription(&wanted.filter).map(|known| known.number);
        if known.is_none() && session.subscriptions().count() >= self.shared.config.session.max_subscriptions {
            return Reason::QUOTA_EXCEEDED;
        }
        let durable = self.is_durable(wanted.qos);
        let at_most_once = wanted.qos == Qos::AtMostOnce;
        let same = |open: &&Open| shared || open.durable == durable;
        if let Some(open) = known.and_then(|number| self.open.get(&number)).filter(same) {
            // the same subscription with other options; nothing is missed (MQTT-3.8.4-4)
            if open.settling.is_at_most_once() != at_most_once {
                self.outbox.change(&open.settling, at_most_once);
            }
            if wanted.retain_handling == RetainHandling::Always && !shared {
                open.settling.want_values();
            }
            self.held.session.subscribe(wanted, subscription_id);
            self.look_for_own();
            return granted;
        }
        let wants_values = match wanted.retain_handling {
            // a shared subscription begins with nothing that was there before (MQTT 5.0, section 4.8.2)
            _ if shared => false,
            RetainHandling::Always => true,
            RetainHandling::IfNew => known.is_none(),
            RetainHandling::Never => false,
        };
        let mut was_durable = false;
        if let Some(number) = known {
            was_durable = self.close(number, Leaves::ForNow).await;
            if was_durable && !durable {
                self.shared.end_subscription(&self.held.session, number).await;
                self.held.session.abandoned(number);
            }
        }
        let number = match known {
            Some(number) => number,
            None => self.held.session.subscribe(wanted.clone(), subscription_id).0,
        };
        let opened = match shared {
            true => self.open_shared(number, &wanted.filter, filter, at_most_once).await,
            false => self.open(number, filter, durable, at_most_once).await,
        };
        match opened {
            Ok(()) => {
                if wants_values && let Some(open) = self.open.get(&number) {
                    open.settling.want_values();
                }
                self.held.session.subscribe(wanted, subscription_id);
                self.look_for_own();
                granted
            }
            Err(rejection) => {
                tracing::debug!(%rejection, filter = %wanted.filter, "a subscription is refused");
                self.held.session.unsubscribe(&wanted.filter);
                if shared {
                    self.shared.shares.left(&self.shared, &wanted.filter, self.held.session.id()).await;
                } else if was_durable && durable {
                    self.shared.end_subscription(&self.held.session, number).await;
                }
                let code = reason(&rejection);
                refused.get_or_insert(rejection);
                code
            }
        }
    }

    /// Writes the session to disk, if it is to outlive its connection, or was there before it.
    pub(super) async fn keep(&mut self) -> Result<(), End> {
        if !self.was_kept {
            return Ok(());
        }
        for (number, open) in &self.open {
            self.held.session.settled(*number, open.settling.stored());
        }
        let kept = self.shared.keeper.keep(self.held.key(), &self.held.session, self.expiry, true).await;
        kept.map_err(|rejection| {
            tracing::warn!(%rejection, peer = %self.peer, "the session of an MQTT client can't be stored");
            End::Broke(Broken::new(Reason::SERVER_BUSY, "the session can't be stored now"))
        })
    }

    /// Opens the subscriptions of a session that was there before, and ends what was in flight over its last connection.
    pub(super) async fn resume(&mut self) -> Result<(), End> {
        for id in self.held.session.releases() {
            self.ack(Acked::Release, id, Reason::SUCCESS, None);
        }
        let known: Vec<_> = self
            .held
            .session
            .subscriptions()
            .map(|known| (known.number, known.wanted.filter.clone(), known.wanted.qos))
            .collect();
        for (number, native, qos) in known {
            let shared = is_shared(&native);
            let plain = if shared { within(&native) } else { Some(&*native) };
            let Some(Ok(filter)) = plain.map(to_filter) else { continue };
            let opened = match shared {
                true => self.open_shared(number, &native, filter, qos == Qos::AtMostOnce).await,
                false => self.open(number, filter, self.is_durable(qos), qos == Qos::AtMostOnce).await,
            };
            if let Err(rejection) = opened {
                tracing::debug!(%rejection, filter = %native, "a subscription of a session can't be resumed");
                return Err(End::Broke(packet::Broken::new(reason(&rejection), reject::detail(&rejection))));
            }
        }
        self.look_for_own();
        Ok(())
    }

    /// Only what has to outlive the connection has a position in the store, or what waits there since the one before.
    fn is_durable(&self, qos: Qos) -> bool {
        qos != Qos::AtMostOnce && self.was_kept
    }

    async fn open(&mut self, number: u32, filter: Filter, durable: bool, at_most_once: bool) -> Result<(), Rejection> {
        let durable_name = durable.then(|| self.shared.durable_name(&self.held.session, number));
        let credit = self.credit(at_most_once);
        let what = Subscribe { filters: vec![filter.clone()], start: Start::New, durable: durable_name, credit };
        let deliveries: Box<dyn Deliveries> = self.shared.cx.outlet.open(self.principal.clone(), what).await?;
        self.run(number, filter, deliveries, at_most_once, durable, None);
        Ok(())
    }

    async fn open_shared(
        &mut self,
        number: u32,
        native: &ByteString,
        filter: Filter,
        at_most_once: bool,
    ) -> Result<(), Rejection> {
        let (shared, session) = (self.shared.clone(), &self.held.session);
        let (principal, credit) = (self.principal.clone(), self.credit(at_most_once));
        let joined = shared.shares.join(&shared, (native, filter.clone()), session, principal, credit).await;
        let (deliveries, seat) = joined?;
        self.run(number, filter, deliveries, at_most_once, false, Some(seat));
        Ok(())
    }

    fn credit(&self, at_most_once: bool) -> u32 {
        if at_most_once { MAX_CREDIT } else { MAX_CREDIT.min(self.receive_maximum.into()) }
    }

    fn run(
        &mut self,
        number: u32,
        filter: Filter,
        deliveries: Box<dyn Deliveries>,
        at_most_once: bool,
        durable: bool,
        seat: Option<Seat>,
    ) {
        let settling = Arc::new(Settling::new(number, at_most_once));
        let running = Subscription {
            deliveries,
            settling: settling.clone(),
            outbox: self.outbox.clone(),
            outlet: self.shared.cx.outlet.clone(),
            principal: self.principal.clone(),
            filter,
        };
        let task = self.shared.cx.tasks.spawn(running.run());
        self.open.insert(number, Open { settling, task, durable, seat });
    }

    pub(super) async fn unsubscribe(&mut self, unsubscribe: packet::Unsubscribe) -> Result<(), End> {
        let mut answers = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let Some(number) = self.held.session.subscription(filter).map(|known| known.number) else {
                answers.push(Reason::NO_SUBSCRIPTION_EXISTED);
                continue;
            };
            let was_durable = self.close(number, Leaves::ByItself).await;
            self.held.session.unsubscribe(filter);
            if is_shared(filter) {
                self.shared.shares.left(&self.shared, filter, self.held.session.id()).await;
            } else if was_durable {
                self.shared.end_subscription(&self.held.session, number).await;
            }
            answers.push(Reason::SUCCESS);
        }
        self.look_for_own();
        self.keep().await?;
        packet::unsuback(&mut self.link.out, self.version, unsubscribe.id, &answers);
        Ok(())
    }

    /// Closes a subscription that is open; whether it has a position of its own in the store.
    async fn close(&mut self, number: u32, leaves: Leaves) -> bool {
        let Some(Open { settling, task, durable, seat }) = self.open.remove(&number) else { return false };
        settling.stop();
        if task.await.is_err() {
            tracing::error!(number, "the task of a subscription failed");
        }
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
            if let Some(seat) = open.seat {
                seat.leave(self.held.session.left(number), leaves).await;
            }
        }
    }

    /// Whether any subscription wants to know what the client has published itself.
    fn look_for_own(&mut self) {
        self.wants_own = self.held.session.subscriptions().any(|known| known.wanted.no_local);
    }
}

/// The reason code of SUBACK.
fn reason(rejection: &Rejection) -> Reason {
    match rejection.kind {
        RejectKind::Malformed => Reason::FILTER_INVALID,
        kind => reject::reason(kind),
    }
}

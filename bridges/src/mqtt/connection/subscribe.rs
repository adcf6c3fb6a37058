//! SUBSCRIBE and UNSUBSCRIBE: filters of the client to subscriptions of the mesh.

use bytestring::ByteString;
use envelope::{Disposition, Qos, RejectKind, Rejection};

use super::{Connection, End, Open, open::Served};
use crate::mqtt::{
    packet::{self, Acked, Broken, Reason, RetainHandling, Wanted},
    reject,
    share::{Leaves, is_shared},
};

/// The most subscriptions of a session that are over, and have a position that could not be ended.
const MAX_OVER: usize = 1_024;

// === impl Connection ===

impl Connection {
    pub(super) async fn subscribe(&mut self, subscribe: packet::Subscribe) -> Result<(), End> {
        let packet::Subscribe { id, subscription_id, filters } = subscribe;
        let (mut answers, mut refused) = (Vec::with_capacity(filters.len()), None);
        self.look_for_changes();
        for wanted in filters {
            answers.push(self.subscribe_to(wanted, subscription_id, &mut refused).await);
        }
        self.keep().await?;
        // there is one for all of them: that of the first which is refused
        let detail = refused.as_ref().and_then(|rejection| self.detail(rejection));
        self.say(detail.as_deref(), |out, version, detail| packet::suback(out, version, id, &answers, detail))
    }

    async fn subscribe_to(
        &mut self,
        mut wanted: Wanted,
        subscription_id: Option<u32>,
        refused: &mut Option<Rejection>,
    ) -> Reason {
        let Some((served, filter)) = self.served(&wanted.filter) else { return Reason::FILTER_INVALID };
        if served == Served::Sys {
            wanted.qos = Qos::AtMostOnce;
        }
        let granted = Reason(packet::level(wanted.qos));
        let session = &mut self.held.session;
        let known = session.subscription(&wanted.filter).map(|known| known.number);
        if known.is_none() && session.subscriptions().count() >= self.shared.config.session.max_subscriptions {
            return Reason::QUOTA_EXCEEDED;
        }
        let durable = self.is_durable(served, wanted.qos);
        let at_most_once = wanted.qos == Qos::AtMostOnce;
        // what waits at a position is not given up for a lesser QoS: it goes out at that one
        let same = |open: &&Open| open.durable == durable || (open.durable && at_most_once);
        if let Some(open) = known.and_then(|number| self.open.get(&number)).filter(same) {
            // the same subscription with other options; nothing is missed (MQTT-3.8.4-4)
            if open.settling.is_at_most_once() != at_most_once {
                self.outbox.change(&open.settling, at_most_once);
            }
            // its position ends with the connection, or with the gateway
            self.held.session.is_over(open.settling.number, open.durable && at_most_once);
            let wants_values = wanted.retain_handling == RetainHandling::Always && served != Served::Shared;
            if wants_values {
                open.settling.want_values();
            }
            let native = wanted.filter.clone();
            self.held.session.subscribe(wanted, subscription_id);
            self.look_for_own();
            return match self.show_own(served, &native, (wants_values, true)).await {
                Ok(_) => granted,
                Err(rejection) => reason(refused.get_or_insert(rejection)),
            };
        }
        let wants_values = match wanted.retain_handling {
            // a shared subscription begins with nothing that was there before (MQTT 5.0, section 4.8.2)
            _ if served == Served::Shared => false,
            RetainHandling::Always => true,
            RetainHandling::IfNew => known.is_none(),
            RetainHandling::Never => false,
        };
        let mut was_durable = false;
        // one without a position gets one: it goes on until that is there, so that nothing is missed between the two
        let before = known.and_then(|number| self.open.remove(&number));
        let mut known = known;
        if let Some(number) = known.filter(|_| before.is_none()) {
            was_durable = self.may_have_position(number);
            if was_durable && !durable {
                known = Some(self.end_lowered(number).await);
            }
        }
        let number = match known {
            Some(number) => number,
            None => self.held.session.subscribe(wanted.clone(), subscription_id).0,
        };
        let opened = self.open(number, &wanted.filter, (served, filter), wanted.qos).await;
        if let Some(before) = before {
            self.replaced(number, before).await;
        }
        if opened.is_ok()
            && wants_values
            && let Some(open) = self.open.get(&number)
        {
            open.settling.want_values();
        }
        let native = wanted.filter.clone();
        self.held.session.subscribe(wanted, subscription_id);
        let shown = self.show_own(served, &native, (wants_values, known.is_none())).await;
        self.look_for_own();
        match (opened, shown) {
            // what mappings show is enough
            (Ok(()), Ok(_)) | (Err(_), Ok(true)) => granted,
            (Err(rejection), _) | (Ok(()), Err(rejection)) => {
                tracing::debug!(%rejection, filter = %native, "a subscription is refused");
                self.drop_subscription(&native, number, was_durable && durable).await;
                reason(refused.get_or_insert(rejection))
            }
        }
    }

    /// Another one of the same number has taken the place of a subscription without a position.
    async fn replaced(&mut self, number: u32, before: Open) {
        let settling = before.settling.clone();
        let after = self.open.insert(number, before);
        self.close(number, Leaves::ForNow).await;
        if let Some(mut after) = after {
            after.seen = settling.furthest();
            self.open.insert(number, after);
        }
    }

    /// Closes a subscription; whether it may have a position of its own in the store.
    async fn close_own(&mut self, number: u32, leaves: Leaves) -> bool {
        let may_have = self.may_have_position(number);
        self.close(number, leaves).await || may_have
    }

    /// Whether a subscription that is not open may have a position all the same, from when it was over an earlier connection.
    fn may_have_position(&self, number: u32) -> bool {
        let Some(known) = self.held.session.known(number) else { return false };
        let wanted = &known.wanted;
        let is_own = matches!(self.served(&wanted.filter), Some((Served::Own, _)));
        self.was_kept && is_own && wanted.qos != Qos::AtMostOnce && !self.open.contains_key(&number)
    }

    /// What mappings show a subscription of the client's own.
    async fn show_own(
        &mut self,
        served: Served,
        native: &ByteString,
        (wants_values, again): (bool, bool),
    ) -> Result<bool, Rejection> {
        if served != Served::Own {
            return Ok(false);
        }
        self.show(native, wants_values, again).await
    }

    /// A subscription that is refused leaves nothing behind.
    async fn drop_subscription(&mut self, native: &ByteString, number: u32, was_durable: bool) {
        let shown = self.held.session.subscription(native).map(|known| known.shown.clone()).unwrap_or_default();
        for (mapping, number) in shown {
            self.hide(native, &mapping, number).await;
        }
        let durable = self.close(number, Leaves::ForNow).await;
        self.held.session.unsubscribe(native);
        if is_shared(native) {
            self.shared.shares.left(&self.shared, native, self.held.session.id()).await;
        } else if was_durable || durable {
            self.end_for_good(number).await;
        }
    }

    /// Ends the position of a subscription that is over. One that can't be ended now is tried again, and known to the session
    /// until it has.
    pub(super) async fn end_for_good(&mut self, number: u32) {
        let ended = self.shared.end_subscription(&self.held.session, number).await;
        self.held.session.is_over(number, !ended);
        if !ended {
            self.shared.leave_over(&self.held.session, number);
        }
    }

    /// Ends the position of a subscription that goes on without one. If it can't be ended now, it is left over, and the
    /// subscription has another number, which is given back.
    pub(super) async fn end_lowered(&mut self, number: u32) -> u32 {
        let ended = self.shared.end_subscription(&self.held.session, number).await;
        self.held.session.is_over(number, !ended);
        self.held.session.abandoned(number);
        if ended {
            return number;
        }
        self.shared.leave_over(&self.held.session, number);
        self.held.session.renumber(number).unwrap_or(number)
    }

    /// Of the positions that could not be ended, those are forgotten that have been since.
    async fn look_for_ended(&mut self) {
        // what waits at one that is open still goes out
        let over: Vec<_> = self.held.session.over().filter(|number| !self.open.contains_key(number)).collect();
        for number in over {
            if !self.shared.end_subscription(&self.held.session, number).await {
                // a store that is away is asked once
                return;
            }
            self.held.session.is_over(number, false);
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
        let kept = self.shared.keeper.keep(self.held.key(), &self.held.session, self.expiry, true, []).await;
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
        if !known.is_empty() {
            self.look_for_changes();
        }
        for (number, native, qos) in known {
            let Some(served) = self.served(&native) else { continue };
            let kind = served.0;
            let opened = self.open(number, &native, served, qos).await;
            let shown = self.show_own(kind, &native, (false, false)).await;
            let refused = match (opened, shown) {
                (Ok(()), Ok(_)) | (Err(_), Ok(true)) => None,
                (Err(rejection), _) | (Ok(()), Err(rejection)) => Some(rejection),
            };
            if let Some(rejection) = refused {
                tracing::debug!(%rejection, filter = %native, "a subscription of a session can't be resumed");
                // one that the client may not have any more stays closed: it has the others, and may end this one
                if rejection.disposition() != Disposition::Final {
                    return Err(End::refused(&rejection));
                }
            }
        }
        self.look_for_own();
        self.look_for_ended().await;
        Ok(())
    }

    pub(super) async fn unsubscribe(&mut self, unsubscribe: packet::Unsubscribe) -> Result<(), End> {
        self.look_for_ended().await;
        let mut answers = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            let Some(number) = self.held.session.subscription(filter).map(|known| known.number) else {
                answers.push(Reason::NO_SUBSCRIPTION_EXISTED);
                continue;
            };
            let shown = self.held.session.subscription(filter).map(|known| known.shown.clone()).unwrap_or_default();
            for (mapping, number) in shown {
                self.hide(filter, &mapping, number).await;
            }
            let was_durable = self.close_own(number, Leaves::ByItself).await;
            self.held.session.unsubscribe(filter);
            if is_shared(filter) {
                self.shared.shares.left(&self.shared, filter, self.held.session.id()).await;
            } else if was_durable {
                self.end_for_good(number).await;
            }
            answers.push(Reason::SUCCESS);
        }
        if self.held.session.over().len() > MAX_OVER {
            return Err(End::Broke(Broken::new(Reason::SERVER_BUSY, "subscriptions that are over can't be ended now")));
        }
        self.look_for_own();
        self.keep().await?;
        self.say(None, |out, version, _| packet::unsuback(out, version, unsubscribe.id, &answers))
    }

    /// Whether any subscription wants to know what the client has published itself.
    fn look_for_own(&mut self) {
        self.wants_own = self.held.session.subscriptions().any(|known| known.wanted.no_local);
    }
}

/// The reason code of SUBACK.
pub(super) fn reason(rejection: &Rejection) -> Reason {
    match rejection.kind {
        RejectKind::Malformed => Reason::FILTER_INVALID,
        kind => reject::reason(kind),
    }
}

//! What the client gets: deliveries to PUBLISH, and what it says of them.

use std::sync::Arc;

use envelope::{Conversation, Envelope, Position, Qos, RejectKind, Settlement, Timestamp};

use super::{Connection, End, MAX_OUT};
use crate::mqtt::{
    address::to_native,
    outbox::Waiting,
    packet::{self, Ack, Acked, Broken, Outgoing, Reason, Version},
    reject,
    session::{OnReceived, Subscribed},
};

// === impl Connection ===

impl Connection {
    /// Writes what waits, as far as the client's Receive Maximum and the socket let it.
    pub(super) async fn deliver(&mut self) -> Result<(), End> {
        if let Some((_, why)) = self.outbox.take_ended() {
            // MQTT has no word for one subscription that ended
            return Err(End::Broke(Broken::new(reject::reason(why.kind), reject::detail(&why))));
        }
        let dropped = self.outbox.take_dropped();
        if dropped > 0 {
            self.shared.dropped.increment(dropped);
        }
        // what the client published itself is known once its verdict is there
        if self.wants_own && !self.lane.is_empty() {
            return Ok(());
        }
        while self.link.out.len() < MAX_OUT {
            let window = self.held.session.in_flight() < self.receive_maximum;
            let Some(waiting) = self.outbox.pop(window) else { break };
            if let Some(settlement) = self.send(&waiting) {
                waiting.settling.settle(waiting.delivery.position, settlement);
            }
        }
        Ok(())
    }

    /// Writes one; what becomes of it, if that is clear already.
    fn send(&mut self, waiting: &Waiting) -> Option<Settlement> {
        let number = waiting.settling.number;
        let envelope = &waiting.delivery.envelope;
        let session = &mut self.held.session;
        // it was unsubscribed from meanwhile
        let Some(known) = session.subscriptions().find(|known| known.number == number) else {
            return Some(Settlement::Delivered);
        };
        if known.wanted.no_local && self.own.has(&envelope.id) {
            return Some(Settlement::Delivered);
        }
        let (qos, options) = (known.wanted.qos, known.clone());
        let Ok(message_expiry) = left(envelope) else {
            // the store counts it as expired when it comes by again
            return Some(Settlement::Again { after: std::time::Duration::ZERO });
        };
        let (id, dup) = match qos {
            Qos::AtMostOnce => (0, false),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                let Some(sent) = session.send(number, &waiting.delivery.position, qos) else {
                    return Some(Settlement::Again { after: std::time::Duration::ZERO });
                };
                sent
            }
        };
        if !self.write(envelope, &options, id, dup, message_expiry) {
            // a client that can't take it is not to get it (MQTT-3.1.2-25)
            if qos != Qos::AtMostOnce {
                self.held.session.forget(id);
            }
            return Some(Settlement::DeadLettered(RejectKind::TooLarge));
        }
        (qos == Qos::AtMostOnce).then_some(Settlement::Delivered)
    }

    /// Whether it was written: a packet is never larger than the client takes.
    fn write(
        &mut self,
        envelope: &Envelope,
        options: &Subscribed,
        id: u16,
        dup: bool,
        message_expiry: Option<u32>,
    ) -> bool {
        let topic = to_native(envelope.subject.as_str());
        let (alias, known) = self.own_alias(&topic);
        let mut user = Vec::new();
        let none = Conversation::default();
        let conversation = envelope.conversation.as_deref().unwrap_or(&none);
        let five = self.version == Version::V5;
        if five {
            attributes(envelope, &mut user);
        }
        let response = conversation.replyto.as_deref().map(to_native);
        let message = Outgoing {
            dup,
            qos: options.wanted.qos,
            retain: false,
            topic: if known { "" } else { &topic },
            id,
            alias,
            subscription_id: options.subscription_id,
            message_expiry,
            content_type: envelope.datacontenttype.as_deref(),
            response_topic: response.as_deref(),
            correlation: conversation.id.as_deref().map(str::as_bytes),
            user: &user,
            payload: envelope.data.as_slice(),
        };
        packet::publish(&mut self.link.out, self.version, &message, self.maximum_packet)
    }

    /// An alias for a topic, and whether the client knows it already: the first topics get one.
    fn own_alias(&mut self, topic: &str) -> (Option<u16>, bool) {
        if self.alias_maximum == 0 {
            return (None, false);
        }
        if let Some(alias) = self.own_aliases.get(topic) {
            return (Some(*alias), true);
        }
        let next = u16::try_from(self.own_aliases.len()).map_or(u16::MAX, |len| len.saturating_add(1));
        if next > self.alias_maximum {
            return (None, false);
        }
        self.own_aliases.insert(Arc::from(topic), next);
        (Some(next), false)
    }

    pub(super) fn acked(&mut self, ack: Ack) -> Result<(), End> {
        if let Some((subscription, position)) = self.held.session.acked(ack.id) {
            self.settle(subscription, position, outcome(ack.reason));
        }
        Ok(())
    }

    pub(super) async fn received(&mut self, ack: Ack) -> Result<(), End> {
        let reason = match self.held.session.received(ack.id, ack.reason.is_error()) {
            OnReceived::Release(subscription, position) => {
                self.settle(subscription, position, Settlement::Delivered);
                Reason::SUCCESS
            }
            OnReceived::Again => Reason::SUCCESS,
            OnReceived::Refused(subscription, position) => {
                self.settle(subscription, position, outcome(ack.reason));
                return Ok(());
            }
            OnReceived::Unknown => Reason::PACKET_ID_NOT_FOUND,
        };
        self.ack(Acked::Release, ack.id, reason, None);
        Ok(())
    }

    fn settle(&self, subscription: u32, position: Position, settlement: Settlement) {
        if let Some(open) = self.open.get(&subscription) {
            open.settling.settle(position, settlement);
        }
    }
}

/// What a client's answer makes of a delivery: a client that refuses one will not take it later either.
fn outcome(reason: Reason) -> Settlement {
    match reason {
        reason if !reason.is_error() => Settlement::Delivered,
        Reason::NOT_AUTHORIZED => Settlement::DeadLettered(RejectKind::Denied),
        Reason::QUOTA_EXCEEDED => Settlement::DeadLettered(RejectKind::Overloaded),
        _ => Settlement::DeadLettered(RejectKind::Malformed),
    }
}

/// The seconds that are left to an envelope, if it ends; none if it has ended (MQTT-3.3.2-5, MQTT-3.3.2-6).
fn left(envelope: &Envelope) -> Result<Option<u32>, ()> {
    let Some(end) = envelope.expirytime else { return Ok(None) };
    let micros = end.as_micros().checked_sub(Timestamp::now().as_micros()).ok_or(())?;
    Ok(Some(u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX)))
}

/// The envelope's attributes as user properties, as in CloudEvents' binary mode; what MQTT has a property for is there.
fn attributes(envelope: &Envelope, out: &mut Vec<u8>) {
    let mut put = |name: &str, value: &str| packet::user_property(out, name, value);
    put("specversion", "1.0");
    put("id", &envelope.id.to_string());
    put("source", &envelope.source);
    put("type", &envelope.kind);
    put("time", &envelope.time.to_string());
    let optional = [
        ("dataschema", &envelope.dataschema),
        ("performative", &envelope.performative),
        ("partitionkey", &envelope.partitionkey),
        ("classification", &envelope.classification),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            put(name, value);
        }
    }
    if let Some(conversation) = &envelope.conversation {
        let parts = [("protocol", &conversation.protocol), ("inreplyto", &conversation.inreplyto)];
        for (name, value) in parts {
            if let Some(value) = value {
                put(name, value);
            }
        }
    }
    if let Some(trace) = &envelope.trace {
        put("traceparent", &trace.traceparent());
        if let Some(state) = trace.tracestate() {
            put("tracestate", state);
        }
    }
}

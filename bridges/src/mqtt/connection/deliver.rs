//! What the client gets: deliveries to PUBLISH, and what it says of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use envelope::{Conversation, Envelope, Position, Qos, RejectKind, Settlement, Timestamp, Topic};

use super::{Connection, End, MAX_OUT};
use crate::mqtt::{
    outbox::Waiting,
    packet::{self, Ack, Acked, Broken, Outgoing, Reason, Version},
    reject,
    session::{OnReceived, Subscribed},
};

/// What came of one delivery.
enum Sent {
    /// Clear already.
    Settled(Settlement),
    /// The client's PUBACK is to come.
    AtLeastOnce,
    /// The client's PUBREC is to come.
    ExactlyOnce,
}

/// How a delivery is written.
#[derive(Debug, Clone, Copy)]
struct Written {
    id: u16,
    dup: bool,
    retain: bool,
    message_expiry: Option<u32>,
}

/// The last values that a subscription began with: what comes later must be newer.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_topic: HashMap<Topic, Position>,
    newest: Option<Position>,
}

/// When a delivery comes again for which there was no packet identifier.
const FULL: Duration = Duration::from_secs(1);

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
            self.shared.sys.dropped(dropped);
        }
        // what the client published itself is known once its verdict is there
        if self.wants_own && !self.lane.is_empty() {
            return Ok(());
        }
        let written = self.link.out.len();
        let (mut exactly_once, mut sent) = (false, 0);
        while self.link.out.len() < MAX_OUT {
            let window = self.held.session.in_flight() < self.receive_maximum;
            let Some(waiting) = self.outbox.pop(window) else { break };
            let before = self.link.out.len();
            let outcome = self.send(&waiting);
            sent += u64::from(self.link.out.len() > before);
            match outcome {
                Sent::Settled(settlement) => {
                    let (settling, position) = (waiting.settling, waiting.delivery.position);
                    let noted = settling.settle(position.clone(), settlement);
                    self.held.session.settling(settling.number, &position, noted);
                }
                Sent::AtLeastOnce => {}
                Sent::ExactlyOnce => exactly_once = true,
            }
        }
        // a client has to hear the same identifier again after a restart: nothing is written before that is on disk
        if exactly_once && let Err(end) = self.keep().await {
            self.link.out.truncate(written);
            return Err(end);
        }
        self.shared.sys.sent(sent);
        Ok(())
    }

    /// Writes one.
    fn send(&mut self, waiting: &Waiting) -> Sent {
        let number = waiting.settling.number;
        if self.goes_back(waiting) || self.held.session.has_taken(number, &waiting.delivery.position) {
            return Sent::Settled(Settlement::Delivered);
        }
        let envelope = &waiting.delivery.envelope;
        // a filter that ends with `#` selects what is above it too
        let Some(topic) = self.shared.border.topic(envelope.subject.as_str()) else {
            return Sent::Settled(Settlement::Delivered);
        };
        let session = &mut self.held.session;
        // it was unsubscribed from meanwhile
        let Some(known) = session.subscriptions().find(|known| known.number == number) else {
            return Sent::Settled(Settlement::Delivered);
        };
        if known.wanted.no_local && self.own.has(&envelope.id) {
            return Sent::Settled(Settlement::Delivered);
        }
        let (qos, options) = (known.wanted.qos, known.clone());
        let Ok(message_expiry) = left(envelope) else {
            // the store counts it as expired when it comes by again
            return Sent::Settled(Settlement::Again { after: Duration::ZERO });
        };
        let (id, dup) = match qos {
            Qos::AtMostOnce => (0, false),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                let Some(sent) = session.send(number, &waiting.delivery.position, qos) else {
                    for id in session.reclaim() {
                        self.ack(Acked::Release, id, Reason::SUCCESS, None);
                    }
                    return Sent::Settled(Settlement::Again { after: FULL });
                };
                sent
            }
        };
        let retain = waiting.value || (options.wanted.retain_as_published && waiting.delivery.retained);
        let written = Written { id, dup, retain, message_expiry };
        if !self.write(&topic, envelope, &options, written) {
            // a client that can't take it is not to get it (MQTT-3.1.2-25)
            if qos != Qos::AtMostOnce {
                self.held.session.forget(id);
            }
            return Sent::Settled(Settlement::DeadLettered(RejectKind::TooLarge));
        }
        match qos {
            Qos::AtMostOnce => Sent::Settled(Settlement::Delivered),
            Qos::AtLeastOnce => Sent::AtLeastOnce,
            Qos::ExactlyOnce => Sent::ExactlyOnce,
        }
    }

    /// Whether it is no newer than the last value of its topic that the client was sent before.
    fn goes_back(&mut self, waiting: &Waiting) -> bool {
        let (number, delivery) = (waiting.settling.number, &waiting.delivery);
        if waiting.value {
            let values = self.values.entry(number).or_default();
            values.by_topic.insert(delivery.envelope.subject.clone(), delivery.position.clone());
            values.newest = values.newest.take().max(Some(delivery.position.clone()));
            return false;
        }
        let Some(values) = self.values.get(&number) else { return false };
        if values.newest.as_ref() < Some(&delivery.position) {
            self.values.remove(&number);
            return false;
        }
        values.by_topic.get(&delivery.envelope.subject).is_some_and(|last| delivery.position <= *last)
    }

    /// Whether it was written: a packet is never larger than the client takes.
    fn write(
        &mut self,
        topic: &str,
        envelope: &Envelope,
        options: &Subscribed,
        Written { id, dup, retain, message_expiry }: Written,
    ) -> bool {
        let (alias, known) = self.own_alias(topic);
        let mut user = Vec::new();
        let none = Conversation::default();
        let conversation = envelope.conversation.as_deref().unwrap_or(&none);
        let five = self.version == Version::V5;
        if five {
            attributes(envelope, &mut user);
        }
        // one that is not below the prefix, a client can't reach
        let response = conversation.replyto.as_deref().and_then(|topic| self.shared.border.topic(topic));
        let correlation = conversation.id_bytes();
        let message = Outgoing {
            dup,
            qos: options.wanted.qos,
            retain,
            topic: if known { "" } else { topic },
            id,
            alias,
            subscription_id: options.subscription_id,
            message_expiry,
            content_type: envelope.datacontenttype.as_deref(),
            response_topic: response.as_deref(),
            correlation: correlation.as_deref(),
            user: &user,
            payload: envelope.data.as_slice(),
        };
        let is_written = packet::publish(&mut self.link.out, self.version, &message, self.maximum_packet);
        if is_written
            && !known
            && let Some(alias) = alias
        {
            self.own_aliases.insert(Arc::from(topic), alias);
        }
        is_written
    }

    /// An alias for a topic, and whether the client knows it already: the first topics get one. It is taken once the client
    /// is told of it.
    fn own_alias(&self, topic: &str) -> (Option<u16>, bool) {
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
        (Some(next), false)
    }

    pub(super) fn acked(&mut self, ack: Ack) -> Result<(), End> {
        if let Some((subscription, position)) = self.held.session.acked(ack.id) {
            self.settle(subscription, position, outcome(ack.reason));
        }
        Ok(())
    }

    /// PUBRECs: what the client has is on disk before it is settled, so that it is never sent a second time.
    pub(super) async fn received(&mut self, acks: &[Ack]) -> Result<(), End> {
        let mut settled = Vec::new();
        let mut releases = Vec::new();
        for ack in acks {
            match self.held.session.received(ack.id, ack.reason.is_error()) {
                OnReceived::Release(subscription, position) => {
                    settled.push((subscription, position, Settlement::Delivered));
                    releases.push((ack.id, Reason::SUCCESS));
                }
                OnReceived::Again => releases.push((ack.id, Reason::SUCCESS)),
                OnReceived::Refused(subscription, position) => {
                    settled.push((subscription, position, outcome(ack.reason)));
                }
                OnReceived::Unknown => releases.push((ack.id, Reason::PACKET_ID_NOT_FOUND)),
            }
        }
        if !settled.is_empty() {
            self.keep().await?;
        }
        for (subscription, position, settlement) in settled {
            self.settle(subscription, position, settlement);
        }
        for (id, reason) in releases {
            self.ack(Acked::Release, id, reason, None);
        }
        Ok(())
    }

    fn settle(&mut self, subscription: u32, position: Position, settlement: Settlement) {
        if let Some(open) = self.open.get(&subscription) {
            let noted = open.settling.settle(position.clone(), settlement);
            self.held.session.settling(subscription, &position, noted);
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

//! What the client gets: deliveries to PUBLISH, and what it says of them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use envelope::{Position, Qos, RejectKind, Settlement, Topic, inbox_of};

use super::{
    Connection, End, MAX_OUT,
    content::{Content, Nothing},
};
use crate::mqtt::{
    outbox::Waiting,
    packet::{self, Ack, Acked, Broken, Outgoing, Reason, Version},
    reject,
    session::OnReceived,
    share::{is_shared, within},
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
    qos: Qos,
    retain: bool,
    subscription_id: Option<u32>,
}

/// The last values that a subscription began with: what comes later must be newer. Of many topics these are the newest
/// values, since what comes later begins where the subscription did, and few values are newer than that.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_topic: HashMap<Topic, Position>,
    newest: Option<Position>,
}

/// Of so many topics at least, and of twice as many at most, it is known which last value the client has.
const MAX_VALUES: usize = 4_096;
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
        self.count_dropped();
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
                    if !waiting.value && settling.is_at_most_once() {
                        settling.passed(&position);
                    }
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

    /// Counts what the client was too slow for.
    pub(super) fn count_dropped(&self) {
        let dropped = self.outbox.take_dropped();
        if dropped > 0 {
            self.shared.dropped.increment(dropped);
            self.shared.sys.dropped(dropped);
        }
    }

    /// Writes one.
    fn send(&mut self, waiting: &Waiting) -> Sent {
        let (number, delivery) = (waiting.settling.number, &waiting.delivery);
        if self.goes_back(waiting) || self.held.session.has_taken(number, &delivery.position) {
            return Sent::Settled(Settlement::Delivered);
        }
        let seen = self.open.get(&number).and_then(|open| open.seen.as_ref()).filter(|_| !waiting.value);
        if seen.is_some_and(|seen| delivery.position <= *seen) {
            return Sent::Settled(Settlement::Delivered);
        }
        // it was unsubscribed from meanwhile
        let Some(known) = self.held.session.known(number) else { return Sent::Settled(Settlement::Delivered) };
        if known.wanted.no_local && self.held.session.own.has(&delivery.envelope.id) {
            return Sent::Settled(Settlement::Delivered);
        }
        let shown = self.open.get(&number).and_then(|open| open.shown.as_ref());
        let qos = shown.and_then(|shown| shown.qos).map_or(known.wanted.qos, |most| most.min(known.wanted.qos));
        let retain = waiting.value || (known.wanted.retain_as_published && delivery.retained);
        let subscription_id = known.subscription_id;
        let five = self.version == Version::V5;
        let made = match shown {
            None => {
                let native = &*known.wanted.filter;
                let plain = if is_shared(native) { within(native) } else { Some(native) };
                let inbox = plain.filter(|filter| inbox_of(filter).is_some());
                Content::of(&self.shared, delivery, inbox, five)
            }
            Some(shown) => Content::shown(&self.shared, shown, delivery, five),
        };
        let content = match made {
            Ok(content) => content,
            Err(Nothing::NotSeen) => return Sent::Settled(Settlement::Delivered),
            // the store counts it as expired when it comes by again
            Err(Nothing::Expired) => return Sent::Settled(Settlement::Again { after: Duration::ZERO }),
            Err(Nothing::Refused(rejection)) => {
                tracing::debug!(%rejection, "an envelope can't be shown");
                return Sent::Settled(Settlement::DeadLettered(rejection.kind));
            }
        };
        let (id, dup) = match qos {
            Qos::AtMostOnce => (0, false),
            Qos::AtLeastOnce | Qos::ExactlyOnce => {
                let session = &mut self.held.session;
                let Some(sent) = session.send(number, &delivery.position, qos) else {
                    for id in session.reclaim() {
                        self.ack(Acked::Release, id, Reason::SUCCESS, None);
                    }
                    return Sent::Settled(Settlement::Again { after: FULL });
                };
                sent
            }
        };
        if !self.write(&content, Written { id, dup, qos, retain, subscription_id }) {
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
            self.values.entry(number).or_default().sent(&delivery.envelope.subject, &delivery.position);
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
    fn write(&mut self, content: &Content<'_>, Written { id, dup, qos, retain, subscription_id }: Written) -> bool {
        let topic = &*content.topic;
        // where a PUBLISH is sent again the alias is not: clients that keep what they were sent at QoS 2 lose the topic with it
        let (alias, known) = if qos == Qos::ExactlyOnce { (None, false) } else { self.own_alias(topic) };
        let message = Outgoing {
            dup,
            qos,
            retain,
            topic: if known { "" } else { topic },
            id,
            alias,
            subscription_id,
            is_text: content.is_text,
            message_expiry: content.expiry,
            content_type: content.content_type.as_deref(),
            response_topic: content.response_topic.as_deref(),
            correlation: content.correlation.as_deref(),
            user: &content.user,
            payload: &content.payload,
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

// === impl Values ===

impl Values {
    /// The client is sent the last value of a topic.
    fn sent(&mut self, topic: &Topic, position: &Position) {
        self.by_topic.insert(topic.clone(), position.clone());
        self.newest = self.newest.take().max(Some(position.clone()));
        if self.by_topic.len() == 2 * MAX_VALUES {
            let mut positions: Vec<_> = self.by_topic.values().cloned().collect();
            let (_, oldest, _) = positions.select_nth_unstable(MAX_VALUES);
            self.by_topic.retain(|_, position| *position >= *oldest);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_any_number_of_last_values_the_newest_are_known_and_no_more_than_there_is_room_for() {
        let mut values = Values::default();
        let position = |n: u32| Position(n.to_be_bytes().to_vec().into());
        let topic = |n: u32| Topic::new(format!("t/{n}")).unwrap();
        for n in 0..50_000 {
            // the topics are not in the order in which their values came
            let n = n * 7_919 % 50_000;
            values.sent(&topic(n), &position(n));
            assert!(values.by_topic.len() < 2 * MAX_VALUES);
        }
        assert_eq!(values.newest, Some(position(49_999)));
        for n in 50_000 - MAX_VALUES as u32..50_000 {
            assert_eq!(values.by_topic.get(&topic(n)), Some(&position(n)));
        }
    }
}

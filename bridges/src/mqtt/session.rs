//! Session state (MQTT 5.0, section 4.1), without I/O: packet identifiers in both directions and what is subscribed to.
//!
//! Of an arriving message it says whether it is a new one, and by which identity the mesh knows it: the same over every
//! repeat until the identifier is released, another one afterwards. At QoS 2 that holds over restarts: the generation of an
//! identifier is on disk before its release is confirmed, so exactly once rests on the store knowing the identity. Of
//! messages to the client it says which identifier each has, again over reconnects. See `sessions` for who owns it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use envelope::{Identity, Position, Qos};
use uuid::Uuid;

use super::{
    packet::{Broken, Reason, Wanted},
    share::{Left, is_shared},
};

mod generations;
mod stored;

use generations::Generations;

/// The state of one client, connected or not.
#[derive(Debug)]
pub(super) struct Session {
    /// Names messages of QoS 2; as long as the session.
    id: Uuid,
    /// Names messages of QoS 1; another one in each process, because their serials are in no store.
    instance: Uuid,
    serial: u64,
    inbound: HashMap<u16, Arrived>,
    generations: Generations,
    /// A client has forgotten what it sent at QoS 2, and sends another message with its identifier.
    begun_anew: bool,
    outbound: Outbound,
    subscriptions: BTreeMap<ByteString, Subscribed>,
    next_subscription: u32,
}

/// A message from the client whose identifier is not released.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Arrived {
    /// It is on its way through the gateway.
    Offered(Qos, Identity),
    /// So it was, but the client has not heard what came of it: it sends it again.
    Unheard(Qos, Identity),
    /// QoS 2: PUBREC was sent, PUBREL is to come.
    Received,
}

/// What of a PUBLISH says which message it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arriving {
    pub(super) qos: Qos,
    /// Any at QoS 0.
    pub(super) id: u16,
    pub(super) dup: bool,
}

/// What to do with a PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arrival {
    /// To be offered under this identity.
    Offer(Identity),
    /// A repeat of what is on its way: its answer answers both.
    Pending,
    /// A repeat of what was taken: PUBREC again.
    Received,
}

/// Identifiers of messages to the client.
#[derive(Debug, Default)]
struct Outbound {
    sent: HashMap<u16, Sent>,
    /// Sent over an earlier connection and not acknowledged, by where it came from.
    unsure: HashMap<(u32, Position), u16>,
    /// The client has them at QoS 2, and the store was not told, or may not have heard.
    taken: BTreeSet<(u32, Position)>,
    /// The store was told over this connection, and has not said that it is on disk; in the order of the telling.
    settling: VecDeque<Settling>,
    last: u16,
    /// Sent over this connection and not acknowledged: the client's Receive Maximum bounds it.
    in_flight: u16,
}

/// A delivery that the client has, on its way to being settled.
#[derive(Debug)]
struct Settling {
    subscription: u32,
    position: Position,
    /// How many outcomes of the subscription were noted with it.
    noted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    subscription: u32,
    position: Position,
    qos: Qos,
    /// QoS 2: PUBREC came, PUBREL was sent.
    released: bool,
    /// Over this connection.
    counted: bool,
}

/// A subscription and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscribed {
    /// Within the session, for as long as it lives.
    pub(super) number: u32,
    pub(super) wanted: Wanted,
    pub(super) subscription_id: Option<u32>,
}

/// What a PUBREL of the client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnRelease {
    /// PUBCOMP: its next message is another one.
    Done,
    /// No message of it is known. That may have been before a restart: its next message is another one all the same.
    Unknown,
    /// Its message is still on its way.
    InUse,
}

/// What a PUBREC of the client means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnReceived {
    /// PUBREL, and the delivery of this subscription is settled.
    Release(u32, Position),
    /// PUBREL again.
    Again,
    /// The client refused it: the identifier is free.
    Refused(u32, Position),
    Unknown,
}

/// The most unsettled deliveries of one subscription.
pub(super) const MAX_TAKEN: usize = 256;

// === impl Session ===

impl Session {
    pub(super) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            instance: Uuid::now_v7(),
            serial: 0,
            inbound: HashMap::new(),
            generations: Generations::new(),
            begun_anew: false,
            outbound: Outbound::default(),
            subscriptions: BTreeMap::new(),
            next_subscription: 0,
        }
    }

    /// Names the session's own things in the store.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// A PUBLISH came. `receive_maximum`: what the client was told; `None` where its version knows none.
    pub(super) fn arrives(
        &mut self,
        Arriving { qos, id, dup }: Arriving,
        receive_maximum: Option<u16>,
    ) -> Result<Arrival, Broken> {
        if qos == Qos::AtMostOnce {
            return Ok(Arrival::Offer(Identity::fresh()));
        }
        match self.inbound.get(&id) {
            Some(Arrived::Offered(was, _)) if *was == qos => Ok(Arrival::Pending),
            // without DUP it is no repeat (MQTT-3.3.1-1): the client has forgotten what it sent, and begins anew
            Some(Arrived::Unheard(was, _)) if !dup => {
                if *was == Qos::ExactlyOnce {
                    self.inbound.remove(&id);
                    self.raise(id);
                    self.begun_anew = true;
                }
                let identity = self.identity(qos, id);
                self.inbound.insert(id, Arrived::Offered(qos, identity.clone()));
                Ok(Arrival::Offer(identity))
            }
            Some(Arrived::Unheard(was, identity)) if *was == qos => {
                let identity = identity.clone();
                self.inbound.insert(id, Arrived::Offered(qos, identity.clone()));
                Ok(Arrival::Offer(identity))
            }
            Some(Arrived::Received) if qos == Qos::ExactlyOnce => Ok(Arrival::Received),
            Some(_) => Err(Broken::new(Reason::PROTOCOL_ERROR, "the packet identifier is in use at another QoS")),
            None if receive_maximum.is_some_and(|most| self.inbound.len() >= usize::from(most)) => {
                Err(Broken::new(Reason::RECEIVE_MAXIMUM_EXCEEDED, "more messages are in flight than Receive Maximum"))
            }
            None => {
                let identity = self.identity(qos, id);
                self.inbound.insert(id, Arrived::Offered(qos, identity.clone()));
                Ok(Arrival::Offer(identity))
            }
        }
    }

    fn identity(&mut self, qos: Qos, id: u16) -> Identity {
        let mut name = BytesMut::with_capacity(32);
        if qos == Qos::ExactlyOnce {
            name.put_slice(b"mqtt2");
            name.put_slice(self.id.as_bytes());
            name.put_u16(id);
            name.put_u32(self.generations.of(id));
        } else {
            name.put_slice(b"mqtt1");
            name.put_slice(self.instance.as_bytes());
            name.put_u64(self.serial);
            self.serial += 1;
        }
        Identity::Native(name.freeze())
    }

    /// A message of QoS 2 is refused, though it, or something of it, may be stored: the next message of its identifier is
    /// another one. That has to be on disk before the client hears, if the session is.
    pub(super) fn refused(&mut self, id: u16) {
        self.raise(id);
    }

    /// Whether an identifier was given to another message since this was asked, which is to be on disk before that one is.
    pub(super) fn take_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.begun_anew)
    }

    /// The client hears what came of its message.
    pub(super) fn heard(&mut self, id: u16, qos: Qos, taken: bool) {
        if qos == Qos::ExactlyOnce && taken {
            self.inbound.insert(id, Arrived::Received);
        } else {
            self.inbound.remove(&id);
        }
    }

    /// PUBREL came. That the next message is another one has to be on disk before PUBCOMP is sent, if the session is. What
    /// was received is not: of an identifier that nothing is known of, the message may be stored.
    pub(super) fn released(&mut self, id: u16) -> OnRelease {
        let released = match self.inbound.get(&id) {
            Some(Arrived::Offered(..) | Arrived::Unheard(..)) => return OnRelease::InUse,
            Some(Arrived::Received) => OnRelease::Done,
            None => OnRelease::Unknown,
        };
        self.inbound.remove(&id);
        self.raise(id);
        released
    }

    fn raise(&mut self, id: u16) {
        let inbound = &self.inbound;
        self.generations.raise(id, |id| inbound.contains_key(&id));
    }

    /// What the member of a shared subscription has when it leaves.
    pub(super) fn left(&self, subscription: u32) -> Left {
        let Outbound { sent, taken, settling, .. } = &self.outbound;
        let unacked =
            |sent: &&Sent| sent.subscription == subscription && sent.qos == Qos::ExactlyOnce && !sent.released;
        let unsettled = settling.iter().filter(|one| one.subscription == subscription).map(|one| &one.position);
        let has = taken.iter().filter(|(of, _)| *of == subscription).map(|(_, position)| position);
        Left {
            sent: sent.values().filter(unacked).map(|sent| sent.position.clone()).collect(),
            taken: has.chain(unsettled).cloned().collect(),
        }
    }

    /// The connection is over: what was offered and not heard of will come again, and so will what was sent.
    pub(super) fn disconnected(&mut self) {
        for arrived in self.inbound.values_mut() {
            if let Arrived::Offered(qos, identity) = arrived {
                *arrived = Arrived::Unheard(*qos, identity.clone());
            }
        }
        // of a shared subscription another member gets it
        let shared: BTreeSet<_> =
            self.subscriptions().filter(|known| is_shared(&known.wanted.filter)).map(|known| known.number).collect();
        let stays = |sent: &Sent| sent.qos == Qos::ExactlyOnce || !shared.contains(&sent.subscription);
        self.outbound.sent.retain(|_, sent| stays(sent));
        self.outbound.disconnected();
        let known: BTreeSet<_> = self.subscriptions().map(|known| known.number).collect();
        self.outbound.abandon(|of| !known.contains(&of));
    }

    /// Whether the client has this delivery from an earlier connection: then it is settled, and not sent.
    pub(super) fn has_taken(&self, subscription: u32, position: &Position) -> bool {
        !self.outbound.taken.is_empty() && self.outbound.taken.contains(&(subscription, position.clone()))
    }

    /// The store is told of a delivery; it was the subscription's outcome number `noted`. Of one that the client has at QoS 2
    /// the session knows until the store has it on disk, whatever becomes of the identifier.
    pub(super) fn settling(&mut self, subscription: u32, position: &Position, noted: u64) {
        let taken = &mut self.outbound.taken;
        if !taken.is_empty() && taken.remove(&(subscription, position.clone())) {
            self.outbound.settling.push_back(Settling { subscription, position: position.clone(), noted });
        }
    }

    /// The first `stored` outcomes of a subscription are on disk.
    pub(super) fn settled(&mut self, subscription: u32, stored: u64) {
        self.outbound.settling.retain(|one| one.subscription != subscription || one.noted > stored);
    }

    /// A subscription is closed, with the first `stored` outcomes on disk: the store may deliver the others again.
    pub(super) fn closed(&mut self, subscription: u32, stored: u64) {
        self.settled(subscription, stored);
        let (of_it, others) = std::mem::take(&mut self.outbound.settling)
            .into_iter()
            .partition(|one: &Settling| one.subscription == subscription);
        self.outbound.settling = others;
        let of_it: VecDeque<Settling> = of_it;
        of_it.into_iter().for_each(|one| self.outbound.has(one.subscription, one.position));
    }

    /// An identifier for a delivery, and whether it was sent with it before. `None`: all 65,535 are taken.
    pub(super) fn send(&mut self, subscription: u32, position: &Position, qos: Qos) -> Option<(u16, bool)> {
        self.outbound.send(subscription, position, qos)
    }

    /// All identifiers are taken: those of what was sent over an earlier connection, and has not come again since, are free.
    /// Of QoS 2 the client has to be told, by a PUBREL of these.
    pub(super) fn reclaim(&mut self) -> Vec<u16> {
        self.outbound.abandon(|_| true);
        self.outbound.releases()
    }

    /// Deliveries in flight over this connection.
    pub(super) fn in_flight(&self) -> u16 {
        self.outbound.in_flight
    }

    /// PUBACK came. `None`: of nothing that was sent at QoS 1.
    pub(super) fn acked(&mut self, id: u16) -> Option<(u32, Position)> {
        self.outbound.take(id, |sent| sent.qos == Qos::AtLeastOnce)
    }

    /// What was to be sent was not.
    pub(super) fn forget(&mut self, id: u16) {
        self.outbound.take(id, |_| true);
    }

    /// PUBREC came.
    pub(super) fn received(&mut self, id: u16, refused: bool) -> OnReceived {
        self.outbound.received(id, refused)
    }

    /// PUBCOMP came. `false`: of nothing that was released.
    pub(super) fn completed(&mut self, id: u16) -> bool {
        self.outbound.take(id, |sent| sent.released).is_some()
    }

    /// Identifiers whose PUBREL has to be sent again over a new connection, in order (MQTT-4.4.0-1).
    pub(super) fn releases(&mut self) -> Vec<u16> {
        self.outbound.releases()
    }

    /// Keeps a subscription; one of the same filter is replaced and keeps its number. The number, and whether it is new.
    pub(super) fn subscribe(&mut self, wanted: Wanted, subscription_id: Option<u32>) -> (u32, bool) {
        let known = self.subscriptions.get(&wanted.filter).map(|subscribed| subscribed.number);
        let number = known.unwrap_or(self.next_subscription);
        if known.is_none() {
            self.next_subscription += 1;
        }
        self.subscriptions.insert(wanted.filter.clone(), Subscribed { number, wanted, subscription_id });
        (number, known.is_none())
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) -> Option<Subscribed> {
        let known = self.subscriptions.remove(filter)?;
        self.abandoned(known.number);
        Some(known)
    }

    /// A subscription has no position in the store any more: what it was sent before does not come again.
    pub(super) fn abandoned(&mut self, subscription: u32) {
        self.outbound.settling.retain(|one| one.subscription != subscription);
        self.outbound.taken.retain(|(of, _)| *of != subscription);
        self.outbound.abandon(|of| of == subscription);
    }

    pub(super) fn subscription(&self, filter: &str) -> Option<&Subscribed> {
        self.subscriptions.get(filter)
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Subscribed> {
        self.subscriptions.values()
    }
}

// === impl Outbound ===

impl Outbound {
    fn send(&mut self, subscription: u32, position: &Position, qos: Qos) -> Option<(u16, bool)> {
        if !self.unsure.is_empty()
            && let Some(id) = self.unsure.remove(&(subscription, position.clone()))
            && let Some(sent) = self.sent.get_mut(&id)
        {
            sent.qos = qos;
            sent.counted = true;
            self.in_flight += 1;
            return Some((id, true));
        }
        let id = self.free()?;
        let position = position.clone();
        self.sent.insert(id, Sent { subscription, position, qos, released: false, counted: true });
        self.in_flight += 1;
        Some((id, false))
    }

    fn free(&mut self) -> Option<u16> {
        if self.sent.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.sent.contains_key(&self.last) {
                return Some(self.last);
            }
        }
    }

    fn take(&mut self, id: u16, which: impl FnOnce(&Sent) -> bool) -> Option<(u32, Position)> {
        if !self.sent.get(&id).is_some_and(which) {
            return None;
        }
        let sent = self.sent.remove(&id)?;
        self.in_flight -= u16::from(sent.counted);
        Some((sent.subscription, sent.position))
    }

    fn received(&mut self, id: u16, refused: bool) -> OnReceived {
        match self.sent.get_mut(&id) {
            Some(sent) if sent.qos == Qos::ExactlyOnce => {
                if sent.released {
                    return OnReceived::Again;
                }
                if !refused {
                    sent.released = true;
                    let (subscription, position) = (sent.subscription, sent.position.clone());
                    self.has(subscription, position.clone());
                    return OnReceived::Release(subscription, position);
                }
            }
            Some(_) | None => return OnReceived::Unknown,
        }
        match self.take(id, |_| true) {
            Some((subscription, position)) => OnReceived::Refused(subscription, position),
            None => OnReceived::Unknown,
        }
    }

    fn disconnected(&mut self) {
        self.in_flight = 0;
        self.unsure.clear();
        for (id, sent) in &mut self.sent {
            sent.counted = false;
            if !sent.released {
                self.unsure.insert((sent.subscription, sent.position.clone()), *id);
            }
        }
    }

    /// The client has it. Of one subscription no more can be unsettled than its credit, so what is older is settled.
    fn has(&mut self, subscription: u32, position: Position) {
        self.taken.insert((subscription, position));
        let first = (subscription, Position(Bytes::new()));
        let mut of_it = self.taken.range(first..).take_while(|(of, _)| *of == subscription);
        let oldest = of_it.next().cloned();
        if of_it.count() >= MAX_TAKEN
            && let Some(oldest) = oldest
        {
            self.taken.remove(&oldest);
        }
    }

    /// Gives up what was sent over an earlier connection for the subscriptions that are `gone`. An identifier of QoS 1 is free
    /// with it; at QoS 2 the client may have it, and would take another message for the same: that ends with PUBREL.
    fn abandon(&mut self, gone: impl Fn(u32) -> bool) {
        let (sent, unsure) = (&mut self.sent, &mut self.unsure);
        unsure.retain(|(subscription, _), id| {
            if !gone(*subscription) {
                return true;
            }
            match sent.get_mut(id) {
                Some(one) if one.qos == Qos::ExactlyOnce => one.released = true,
                Some(_) | None => {
                    sent.remove(id);
                }
            }
            false
        });
    }

    /// Identifiers that were released, and not over this connection.
    fn releases(&mut self) -> Vec<u16> {
        let mut ids = Vec::new();
        for (id, sent) in &mut self.sent {
            if sent.released && !sent.counted {
                sent.counted = true;
                self.in_flight += 1;
                ids.push(*id);
            }
        }
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests;

//! Session state (MQTT 5.0, section 4.1), without I/O: packet identifiers in both directions and what is subscribed to.
//!
//! Of an arriving message it says whether it is a new one, and by which identity the mesh knows it: the same over every
//! repeat until the identifier is free, another one afterwards. That holds over restarts: the generation of an identifier is
//! on disk before the client hears that it is free, by PUBACK or PUBCOMP, so exactly once rests on the store knowing the
//! identity. Of messages to the client it says which identifier each has, again over reconnects. See `sessions` for who
//! owns it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use envelope::{Identity, Position, Qos};
use uuid::Uuid;

use super::{
    packet::{Broken, Reason, Wanted},
    share::{Left, is_shared},
};

mod generations;
mod outbound;
mod own;
mod stored;

use generations::{Generations, MAX_RUNS};
pub(super) use outbound::{MAX_TAKEN, OnReceived};
use outbound::{Outbound, Sent, Settling};
use own::Own;

/// The state of one client, connected or not.
#[derive(Debug)]
pub(super) struct Session {
    /// Names messages; as long as the session.
    id: Uuid,
    inbound: HashMap<u16, Inbound>,
    /// How many of these came over this connection.
    here: usize,
    /// Messages without DUP since the session was restored, or since a repeat of what nothing was known of.
    fresh: usize,
    generations: Generations,
    /// As they were when the gateway crashed under the client. Of an identifier that still has its generation of then, nobody
    /// knows whether a message of it is stored.
    crashed_at: Option<Generations>,
    /// A client has forgotten what it sent, and sends another message with its identifier.
    begun_anew: bool,
    outbound: Outbound,
    subscriptions: BTreeMap<ByteString, Subscribed>,
    /// Their filters by each of their numbers: a delivery asks for one.
    by_number: HashMap<u32, ByteString>,
    next_subscription: u32,
    /// Numbers of subscriptions that are over, whose positions in the store could not be ended.
    over: BTreeSet<u32>,
    /// What the client itself has published lately, for No Local.
    pub(super) own: Own,
}

/// A message from the client whose identifier is not released.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inbound {
    arrived: Arrived,
    /// Over this connection: then it counts against Receive Maximum.
    here: bool,
}

/// What became of it.
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

/// A subscription and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subscribed {
    /// Within the session, for as long as it lives.
    pub(super) number: u32,
    pub(super) wanted: Wanted,
    pub(super) subscription_id: Option<u32>,
    /// The mappings that show something at addresses which it selects, each with a number of its own.
    pub(super) shown: BTreeMap<Box<str>, u32>,
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

// === impl Session ===

impl Session {
    pub(super) fn new() -> Self {
        Self {
            id: Uuid::now_v7(),
            inbound: HashMap::new(),
            here: 0,
            fresh: 0,
            generations: Generations::new(),
            crashed_at: None,
            begun_anew: false,
            outbound: Outbound::default(),
            subscriptions: BTreeMap::new(),
            by_number: HashMap::new(),
            next_subscription: 0,
            over: BTreeSet::new(),
            own: Own::default(),
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
        match self.inbound.get(&id).map(|known| (&known.arrived, known.here)) {
            Some((Arrived::Offered(was, _), _)) if *was == qos => Ok(Arrival::Pending),
            Some((Arrived::Received, true)) if qos == Qos::ExactlyOnce => Ok(Arrival::Received),
            Some((_, true)) => {
                Err(Broken::new(Reason::PROTOCOL_ERROR, "the packet identifier is in use at another QoS"))
            }
            _ if receive_maximum.is_some_and(|most| self.here >= usize::from(most)) => {
                Err(Broken::new(Reason::RECEIVE_MAXIMUM_EXCEEDED, "more messages are in flight than Receive Maximum"))
            }
            // without DUP it is no repeat (MQTT-3.3.1-1): the client has forgotten what it sent, and begins anew
            Some((_, false)) if !dup => {
                self.free(id);
                self.begin_anew(id);
                Ok(self.offer(qos, id))
            }
            Some((Arrived::Unheard(was, identity), _)) if *was == qos => {
                let identity = identity.clone();
                self.comes(id, Arrived::Offered(qos, identity.clone()));
                Ok(Arrival::Offer(identity))
            }
            Some((Arrived::Received, _)) if qos == Qos::ExactlyOnce => {
                self.comes(id, Arrived::Received);
                Ok(Arrival::Received)
            }
            Some(_) => Err(Broken::new(Reason::PROTOCOL_ERROR, "the packet identifier is in use at another QoS")),
            None => {
                self.fresh = if dup { 0 } else { self.fresh.saturating_add(1) };
                // what is stored under the name that it would have may be what the client has forgotten
                if !dup && self.is_unsure(id) {
                    self.begin_anew(id);
                }
                Ok(self.offer(qos, id))
            }
        }
    }

    /// So it stands with an identifier, over this connection.
    fn comes(&mut self, id: u16, arrived: Arrived) {
        let before = self.inbound.insert(id, Inbound { arrived, here: true });
        self.here += usize::from(!before.is_some_and(|before| before.here));
    }

    /// An identifier stands for nothing.
    fn free(&mut self, id: u16) {
        let before = self.inbound.remove(&id);
        self.here -= usize::from(before.is_some_and(|before| before.here));
    }

    /// Whether the gateway crashed under the client, and nothing has come of the identifier since.
    fn is_unsure(&self, id: u16) -> bool {
        self.crashed_at.as_ref().is_some_and(|then| then.of(id) == self.generations.of(id))
    }

    fn begin_anew(&mut self, id: u16) {
        self.raise(id);
        self.begun_anew = true;
    }

    fn offer(&mut self, qos: Qos, id: u16) -> Arrival {
        let identity = self.identity(qos, id);
        self.comes(id, Arrived::Offered(qos, identity.clone()));
        Arrival::Offer(identity)
    }

    fn identity(&self, qos: Qos, id: u16) -> Identity {
        let mut name = BytesMut::with_capacity(27);
        name.put_slice(if qos == Qos::ExactlyOnce { b"mqtt2" } else { b"mqtt1" });
        name.put_slice(self.id.as_bytes());
        name.put_u16(id);
        name.put_u32(self.generations.of(id));
        Identity::Native(name.freeze())
    }

    /// The client is about to hear what became of a message. Whether its identifier is free then, so that the next message
    /// of it is another one: at QoS 1 always, at QoS 2 if the handshake does not go on, because the message, or something of
    /// it, may be stored. That has to be on disk before the client hears, if the session is.
    pub(super) fn frees(&mut self, id: u16, qos: Qos, goes_on: bool) -> bool {
        let frees = match qos {
            Qos::AtMostOnce => false,
            Qos::AtLeastOnce => true,
            Qos::ExactlyOnce => !goes_on,
        };
        if frees {
            self.raise(id);
        }
        frees
    }

    /// Whether an identifier was given to another message since this was asked, which is to be on disk before that one is.
    pub(super) fn take_begun_anew(&mut self) -> bool {
        std::mem::take(&mut self.begun_anew)
    }

    /// The client hears what came of its message.
    pub(super) fn heard(&mut self, id: u16, qos: Qos, taken: bool) {
        if qos == Qos::ExactlyOnce && taken {
            self.comes(id, Arrived::Received);
        } else {
            self.free(id);
        }
    }

    /// PUBREL came. That the next message is another one has to be on disk before PUBCOMP is sent, if the session is. What
    /// was received is not: of an identifier that nothing is known of, the message may be stored.
    pub(super) fn released(&mut self, id: u16) -> OnRelease {
        let released = match self.inbound.get(&id).map(|known| &known.arrived) {
            Some(Arrived::Offered(..) | Arrived::Unheard(..)) => return OnRelease::InUse,
            Some(Arrived::Received) => OnRelease::Done,
            None => OnRelease::Unknown,
        };
        self.free(id);
        self.raise(id);
        released
    }

    fn raise(&mut self, id: u16) {
        let inbound = &self.inbound;
        let in_use = |id| inbound.contains_key(&id);
        // who has published so much that is new has sent again what it sends again: that comes first over a connection
        if self.fresh >= MAX_RUNS && self.generations.settle(in_use) {
            self.crashed_at = None;
        }
        self.generations.raise(id, in_use);
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
        self.here = 0;
        for Inbound { arrived, here } in self.inbound.values_mut() {
            *here = false;
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
        let known: BTreeSet<_> = self.subscriptions().flat_map(Subscribed::numbers).collect();
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
        // of its own, or the packet that it came in would stay as long as the session
        let wanted = Wanted { filter: ByteString::from(&*wanted.filter), ..wanted };
        if let Some(known) = self.subscriptions.get_mut(&wanted.filter) {
            (known.wanted, known.subscription_id) = (wanted, subscription_id);
            return (known.number, false);
        }
        let number = self.number();
        let subscribed = Subscribed { number, wanted, subscription_id, shown: BTreeMap::new() };
        self.by_number.insert(number, subscribed.wanted.filter.clone());
        self.subscriptions.insert(subscribed.wanted.filter.clone(), subscribed);
        (number, true)
    }

    pub(super) fn unsubscribe(&mut self, filter: &str) -> Option<Subscribed> {
        let known = self.subscriptions.remove(filter)?;
        for number in known.numbers() {
            self.by_number.remove(&number);
            self.abandoned(number);
        }
        Some(known)
    }

    /// A subscription is opened again over the same connection: what is in flight of it comes again.
    pub(super) fn reopened(&mut self, subscription: u32) {
        self.outbound.reopened(subscription);
    }

    /// A subscription has no position in the store any more: what it was sent before does not come again.
    pub(super) fn abandoned(&mut self, subscription: u32) {
        self.outbound.settling.retain(|one| one.subscription != subscription);
        self.outbound.taken.retain(|(of, _)| *of != subscription);
        self.outbound.abandon(|of| of == subscription);
    }

    /// A mapping shows something at addresses that a subscription selects. Its number, if there is such a subscription.
    pub(super) fn show(&mut self, filter: &str, mapping: &str) -> Option<u32> {
        let known = self.subscriptions.get(filter)?;
        if let Some(number) = known.shown.get(mapping) {
            return Some(*number);
        }
        let number = self.number();
        let known = self.subscriptions.get_mut(filter)?;
        known.shown.insert(mapping.into(), number);
        self.by_number.insert(number, known.wanted.filter.clone());
        Some(number)
    }

    /// A mapping shows a subscription nothing more.
    pub(super) fn hide(&mut self, filter: &str, mapping: &str) {
        let number = self.subscriptions.get_mut(filter).and_then(|known| known.shown.remove(mapping));
        if let Some(number) = number {
            self.by_number.remove(&number);
            self.abandoned(number);
        }
    }

    /// The position of a subscription that is over could not be ended, or was ended after all.
    pub(super) fn is_over(&mut self, number: u32, is_left: bool) {
        if is_left {
            self.over.insert(number);
        } else {
            self.over.remove(&number);
        }
    }

    /// Subscriptions that are over, whose positions may still be in the store.
    pub(super) fn over(&self) -> impl ExactSizeIterator<Item = u32> {
        self.over.iter().copied()
    }

    /// What a number was of has another one from now on: its position could not be ended, and is nobody's any more. The new
    /// one, if there was such a subscription.
    pub(super) fn renumber(&mut self, number: u32) -> Option<u32> {
        let filter = self.by_number.remove(&number)?;
        let new = self.number();
        let known = self.subscriptions.get_mut(&filter)?;
        match known.shown.values_mut().find(|shown| **shown == number) {
            Some(shown) => *shown = new,
            None => known.number = new,
        }
        self.by_number.insert(new, filter);
        self.abandoned(number);
        Some(new)
    }

    fn number(&mut self) -> u32 {
        self.next_subscription += 1;
        self.next_subscription - 1
    }

    /// The subscription that a number is of.
    pub(super) fn known(&self, number: u32) -> Option<&Subscribed> {
        self.subscriptions.get(self.by_number.get(&number)?)
    }

    pub(super) fn subscription(&self, filter: &str) -> Option<&Subscribed> {
        self.subscriptions.get(filter)
    }

    pub(super) fn subscriptions(&self) -> impl Iterator<Item = &Subscribed> {
        self.subscriptions.values()
    }
}

// === impl Subscribed ===

impl Subscribed {
    /// Its own, and those of what is shown.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        [self.number].into_iter().chain(self.shown.values().copied())
    }
}

#[cfg(test)]
mod tests;

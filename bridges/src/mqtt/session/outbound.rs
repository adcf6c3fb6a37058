//! Identifiers of messages to the client, over its connections.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use envelope::{Position, Qos};

/// Identifiers of messages to the client.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pub(super) sent: HashMap<u16, Sent>,
    /// Sent over an earlier connection and not acknowledged, by where it came from.
    pub(super) unsure: HashMap<(u32, Position), u16>,
    /// The client has them at QoS 2, and the store was not told, or may not have heard.
    pub(super) taken: BTreeSet<(u32, Position)>,
    /// The store was told over this connection, and has not said that it is on disk; in the order of the telling.
    pub(super) settling: VecDeque<Settling>,
    /// Where each subscription has come to over this connection, while there is something unsure.
    pub(super) front: BTreeMap<u32, Position>,
    pub(super) last: u16,
    /// Sent over this connection and not acknowledged: the client's Receive Maximum bounds it.
    pub(super) in_flight: u16,
}

/// A delivery that the client has, on its way to being settled.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) subscription: u32,
    pub(super) position: Position,
    /// How many outcomes of the subscription were noted with it.
    pub(super) noted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) subscription: u32,
    pub(super) position: Position,
    pub(super) qos: Qos,
    /// QoS 2: PUBREC came, PUBREL was sent.
    pub(super) released: bool,
    /// Over this connection.
    pub(super) counted: bool,
}

/// What a PUBREC of the client means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mqtt) enum OnReceived {
    /// PUBREL, and the delivery of this subscription is settled.
    Release(u32, Position),
    /// PUBREL again.
    Again,
    /// The client refused it: the identifier is free.
    Refused(u32, Position),
    Unknown,
}

/// So much of what has not come again keeps its identifiers from one connection to the next.
pub(super) const MAX_STALE: usize = 1_024;
/// The most unsettled deliveries of one subscription.
pub(in crate::mqtt) const MAX_TAKEN: usize = 256;

// === impl Outbound ===

impl Outbound {
    pub(super) fn send(&mut self, subscription: u32, position: &Position, qos: Qos) -> Option<(u16, bool)> {
        if !self.unsure.is_empty() {
            let front = self.front.entry(subscription).or_insert_with(|| position.clone());
            if *front < *position {
                front.clone_from(position);
            }
            if let Some(id) = self.unsure.remove(&(subscription, position.clone()))
                && let Some(sent) = self.sent.get_mut(&id)
            {
                sent.qos = qos;
                sent.counted = true;
                self.in_flight += 1;
                return Some((id, true));
            }
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

    pub(super) fn take(&mut self, id: u16, which: impl FnOnce(&Sent) -> bool) -> Option<(u32, Position)> {
        if !self.sent.get(&id).is_some_and(which) {
            return None;
        }
        let sent = self.sent.remove(&id)?;
        self.in_flight -= u16::from(sent.counted);
        let key = (sent.subscription, sent.position);
        if !sent.counted {
            self.unsure.remove(&key);
        }
        Some(key)
    }

    pub(super) fn received(&mut self, id: u16, refused: bool) -> OnReceived {
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

    pub(super) fn disconnected(&mut self) {
        self.in_flight = 0;
        self.pass_over();
        self.unsure.clear();
        for (id, sent) in &mut self.sent {
            sent.counted = false;
            if !sent.released {
                self.unsure.insert((sent.subscription, sent.position.clone()), *id);
            }
        }
    }

    /// What is in flight of a subscription is unsure.
    pub(super) fn reopened(&mut self, subscription: u32) {
        for (id, sent) in &mut self.sent {
            if sent.subscription == subscription && sent.counted && !sent.released {
                sent.counted = false;
                self.in_flight -= 1;
                self.unsure.insert((subscription, sent.position.clone()), *id);
            }
        }
    }

    /// Gives up what did not come again though the store has come past it: it has expired, or was settled. Not before it is a
    /// good deal, and the oldest first: what was only withheld for a while may come yet.
    fn pass_over(&mut self) {
        let front = std::mem::take(&mut self.front);
        let is_past = |(of, at): &&(u32, Position)| front.get(of).is_some_and(|front| at < front);
        let mut past: Vec<_> = self.unsure.keys().filter(is_past).cloned().collect();
        let over = past.len().saturating_sub(MAX_STALE);
        past.sort_unstable_by(|(_, one), (_, other)| one.cmp(other));
        for key in &past[..over] {
            if let Some(id) = self.unsure.remove(key) {
                give_up(&mut self.sent, id);
            }
        }
    }

    /// The client has it. Of one subscription no more can be unsettled than its credit, so what is older is settled.
    pub(super) fn has(&mut self, subscription: u32, position: Position) {
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
    pub(super) fn abandon(&mut self, gone: impl Fn(u32) -> bool) {
        let (sent, unsure) = (&mut self.sent, &mut self.unsure);
        unsure.retain(|(subscription, _), id| {
            if !gone(*subscription) {
                return true;
            }
            give_up(sent, *id);
            false
        });
    }

    /// Identifiers that were released, and not over this connection.
    pub(super) fn releases(&mut self) -> Vec<u16> {
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

fn give_up(sent: &mut HashMap<u16, Sent>, id: u16) {
    match sent.get_mut(&id) {
        Some(one) if one.qos == Qos::ExactlyOnce => one.released = true,
        Some(_) | None => {
            sent.remove(&id);
        }
    }
}

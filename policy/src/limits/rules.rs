//! The limits as rules of the stacks, each at the place where what it counts by is known.

use std::{net::IpAddr, sync::Arc};

use envelope::{Inbound, Mapped, Outgoing, Principal, Quota, QuotaUnit, RejectKind, Rejection};

use super::{
    config::{Each, LimitsConfig, TopicRates},
    meters::{Load, MeterKey, Meters, Over, Rates},
};
use crate::{Epoch, lift::Rule};

/// Holds each address to `limits.address`, before anything is known of who sends.
#[derive(Debug, Clone)]
pub(crate) struct PeerLimit(pub(crate) Arc<Meters>);

/// Holds each domain to `limits.domain` and each principal to its own limit.
#[derive(Debug, Clone)]
pub(crate) struct PrincipalLimit(pub(crate) Arc<Meters>);

/// Holds topics to `limits.topics`.
#[derive(Debug, Clone)]
pub(crate) struct TopicLimit(pub(crate) Arc<Meters>);

/// Holds what a principal is sent to `limits.receive`.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveLimit(pub(crate) Arc<Meters>);

/// The most that is shown of a name in a refusal.
const MAX_SHOWN: usize = 128;

// === impl PeerLimit ===

impl PeerLimit {
    /// Takes one message of `bytes` from the budget of `peer`.
    fn charge(&self, limits: &LimitsConfig, peer: IpAddr, bytes: u64) -> Result<(), Rejection> {
        let Some(rates) = limits.address else { return Ok(()) };
        let key = self.0.key(("address", network(peer)));
        let load = Load { messages: 1, bytes };
        self.0.charge(key, rates, load, self.0.now()).map_err(|over| refuse("peer_limit", "the address", over))
    }
}

impl Rule<Inbound> for PeerLimit {
    fn check(&self, epoch: &Epoch, inbound: &Inbound) -> Result<(), Rejection> {
        match inbound.peer {
            Some(peer) => self.charge(&epoch.access.limits, peer, inbound.payload.len() as u64),
            None => Ok(()),
        }
    }
}

/// An IPv6 peer has all of its /64, so that is what has a budget.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

// === impl PrincipalLimit ===

impl Rule<Inbound> for PrincipalLimit {
    fn check(&self, epoch: &Epoch, inbound: &Inbound) -> Result<(), Rejection> {
        let (limits, meters) = (&epoch.access.limits, &*self.0);
        let Principal { id, domain, .. } = &*inbound.principal;
        let (own, all) = (limits.of_principal(id), limits.domain);
        if own.is_none() && all.is_none() {
            return Ok(());
        }
        let (load, now) = (Load { messages: 1, bytes: inbound.payload.len() as u64 }, meters.now());
        let own = own.map(|rates| (meters.key(("principal", domain, id)), rates));
        if let Some((key, rates)) = own {
            let over = |over| refuse("principal_limit", &format!("principal {:?}", shortened(id)), over);
            meters.charge(key, rates, load, now).map_err(over)?;
        }
        let Some(rates) = all else { return Ok(()) };
        meters.charge(meters.key(("domain", domain)), rates, load, now).map_err(|over| {
            // it did not pass, so it cost its sender nothing
            if let Some((key, rates)) = own {
                meters.give_back(key, rates, load);
            }
            refuse("domain_limit", &format!("domain {:?}", shortened(domain)), over)
        })
    }
}

// === impl TopicLimit ===

impl Rule<Mapped> for TopicLimit {
    /// A group passes as a whole or not at all.
    fn check(&self, epoch: &Epoch, message: &Mapped) -> Result<(), Rejection> {
        let limits = &epoch.access.limits.topics;
        if limits.is_empty() {
            return Ok(());
        }
        let (meters, now) = (&*self.0, self.0.now());
        let mut charged: Vec<(MeterKey, Rates, Load)> = Vec::new();
        for envelope in message.group.as_slice() {
            let Some(limit) = limits.of(&envelope.subject) else { continue };
            let key = topic_key(meters, limit, envelope.subject.as_str(), &message.principal);
            let load = Load { messages: 1, bytes: envelope.data.as_slice().len() as u64 };
            if let Err(over) = meters.charge(key, limit.rates, load, now) {
                charged.into_iter().for_each(|(key, rates, load)| meters.give_back(key, rates, load));
                return Err(refuse("topic_limit", &format!("topics {:?}", limit.filter.as_str()), over));
            }
            charged.push((key, limit.rates, load));
        }
        Ok(())
    }
}

fn topic_key(meters: &Meters, limit: &TopicRates, topic: &str, principal: &Principal) -> MeterKey {
    let filter = limit.filter.as_str();
    match limit.each {
        Each::All => meters.key(("topics", filter)),
        Each::Topic => meters.key(("topics", filter, "topic", topic)),
        Each::Principal => meters.key(("topics", filter, "principal", &principal.domain, &principal.id)),
    }
}

// === impl ReceiveLimit ===

impl Rule<Outgoing> for ReceiveLimit {
    fn check(&self, epoch: &Epoch, outgoing: &Outgoing) -> Result<(), Rejection> {
        let Some(rates) = epoch.access.limits.receive else { return Ok(()) };
        let Principal { id, domain, .. } = &*outgoing.to;
        let key = self.0.key(("receive", domain, id));
        let load = Load { messages: 1, bytes: outgoing.delivery.envelope.data.as_slice().len() as u64 };
        let over = |over| refuse("receive_limit", &format!("principal {:?}", shortened(id)), over);
        self.0.charge(key, rates, load, self.0.now()).map_err(over)
    }
}

fn refuse(decided_by: &'static str, who: &str, over: Over) -> Rejection {
    let (rate, wait, unit, word) = match over {
        Over::Messages(rate, wait) => (rate, wait, QuotaUnit::Messages, "messages"),
        Over::Bytes(rate, wait) => (rate, wait, QuotaUnit::Bytes, "bytes"),
    };
    let (per_second, burst) = (rate.per_second(), rate.burst());
    let detail = format!("{who} is over {per_second} {word} a second with a burst of {burst}");
    Rejection::new(RejectKind::RateLimited, decided_by, detail).after(wait).over(Quota { per_second, unit })
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHOWN)]
}

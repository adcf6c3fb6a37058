//! Session state as it is on disk, in a format of its own with a version.
//!
//! What is in flight is in it once the client is gone. While it is connected that would be old at once; after a crash a
//! repeat is known by the generation of its identifier.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::{BufMut, Bytes, BytesMut};
use envelope::{Identity, Position, Qos};

use super::{Arrived, Inbound, Outbound, Sent, Session, Subscribed, generations::Generations};
use crate::mqtt::{
    codec::{Reader, SnapshotError, put_bytes, put_list, put_varint, unzigzag, zigzag},
    packet::{RetainHandling, Wanted, level},
};

/// 1 had no list of what the client has and the store may not know; 1 and 2 had one generation for all identifiers that
/// had none of their own; 1 to 3 had nothing of QoS 1; 1 to 4 had nothing that mappings show; 1 to 5 had in flight only what
/// is of QoS 1, and did not say whether the client was connected; 6 did not say what waits for PUBREL, and had each name; 7 did
/// not say which positions are to be ended.
const FORMAT: u8 = 8;

// === impl Session ===

impl Session {
    /// What [`Session::restore`] reads. What its client has not heard of is in it only where that is not `connected`: it would
    /// be old before the next time, and another message has its identifier then.
    pub(in crate::mqtt) fn store(&self, connected: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(FORMAT);
        out.put_slice(self.id.as_bytes());
        let mut before = 0;
        out.put_u32(self.generations.runs().len() as u32);
        for (first, generation) in self.generations.runs() {
            out.put_u16(*first);
            // neighbours differ by little
            put_varint(&mut out, zigzag(generation.wrapping_sub(before)));
            before = *generation;
        }
        out.put_u32(self.next_subscription);
        out.put_u32(self.subscriptions.len() as u32);
        for subscribed in self.subscriptions.values() {
            put_subscribed(&mut out, subscribed);
        }
        let exactly: Vec<_> = self.outbound.sent.iter().filter(|(_, sent)| sent.qos == Qos::ExactlyOnce).collect();
        out.put_u16(self.outbound.last);
        out.put_u32(exactly.len() as u32);
        for (id, sent) in exactly {
            out.put_u16(*id);
            out.put_u32(sent.subscription);
            out.put_u8(u8::from(sent.released));
            put_bytes(&mut out, &sent.position.0);
        }
        let Outbound { taken, settling, .. } = &self.outbound;
        out.put_u32((taken.len() + settling.len()) as u32);
        let settling = settling.iter().map(|one| (one.subscription, &one.position));
        for (subscription, position) in taken.iter().map(|(of, position)| (*of, position)).chain(settling) {
            out.put_u32(subscription);
            put_bytes(&mut out, &position.0);
        }
        let unheard = |(id, known): (&u16, &Inbound)| match &known.arrived {
            Arrived::Unheard(qos, Identity::Native(name)) => Some((*id, *qos, name.clone())),
            Arrived::Unheard(..) | Arrived::Offered(..) | Arrived::Received => None,
        };
        let unheard: Vec<_> = self.inbound.iter().filter(|_| !connected).filter_map(unheard).collect();
        put_list(&mut out, unheard.iter(), |out, (id, qos, name)| {
            out.put_u16(*id);
            out.put_u8(level(*qos));
            // nearly always the one that follows from the rest
            let is_usual = self.identity(*qos, *id) == Identity::Native(name.clone());
            put_bytes(out, if is_usual { &[] } else { name });
        });
        let received = |(id, known): (&u16, &Inbound)| (known.arrived == Arrived::Received).then_some(*id);
        let received: Vec<_> = self.inbound.iter().filter(|_| !connected).filter_map(received).collect();
        put_list(&mut out, received.iter(), |out, id| out.put_u16(*id));
        put_list(&mut out, self.over(), BytesMut::put_u32);
        out.put_u8(u8::from(connected));
        out.freeze()
    }

    /// Reads what [`Session::store`] wrote.
    pub(in crate::mqtt) fn restore(bytes: Bytes) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(bytes);
        let format = match reader.u8()? {
            format @ 1..=FORMAT => format,
            other => return Err(SnapshotError::Format(other)),
        };
        let mut session = Self { id: reader.uuid()?, ..Self::new() };
        session.generations = match format {
            1 | 2 => {
                let base = reader.u32()?;
                Generations::of_base(base, reader.list(|reader| Ok((reader.u16()?, reader.u32()?)))?)
            }
            _ => {
                let mut before = 0_u32;
                let runs = reader.list(|reader| {
                    let first = reader.u16()?;
                    before = before.wrapping_add(unzigzag(reader.varint()?));
                    Ok((first, before))
                })?;
                Generations::restored(runs).ok_or(SnapshotError::Damaged)?
            }
        };
        session.next_subscription = reader.u32()?;
        let subscriptions = reader.list(|reader| subscribed(reader, format))?;
        session.subscriptions =
            subscriptions.into_iter().map(|one| (one.wanted.filter.clone(), one)).collect::<BTreeMap<_, _>>();
        let numbers =
            session.subscriptions().flat_map(|one| one.numbers().map(|number| (number, one.wanted.filter.clone())));
        session.by_number = numbers.collect();
        let last = reader.u16()?;
        let sent: HashMap<_, _> = reader.list(sent)?.into_iter().collect();
        let released = sent.values().filter(|sent| sent.released);
        let released: Vec<_> = released.map(|sent| (sent.subscription, sent.position.clone())).collect();
        session.outbound = Outbound { sent, last, ..Outbound::default() };
        let taken = match format {
            1 => Vec::new(),
            _ => reader.list(|reader| Ok((reader.u32()?, Position(reader.bytes()?))))?,
        };
        let known: BTreeSet<_> = session.subscriptions().flat_map(Subscribed::numbers).collect();
        for (subscription, position) in released.into_iter().chain(taken) {
            if known.contains(&subscription) {
                session.outbound.has(subscription, position);
            }
        }
        let unheard = match format {
            1..=3 => Vec::new(),
            4 | 5 => reader.list(|reader| Ok((reader.u16()?, Qos::AtLeastOnce, reader.bytes()?)))?,
            _ => reader.list(|reader| Ok((reader.u16()?, reader.qos()?, reader.bytes()?)))?,
        };
        let received = match format {
            1..=6 => Vec::new(),
            _ => reader.list(Reader::u16)?,
        };
        session.over = match format {
            1..=7 => BTreeSet::new(),
            _ => reader.list(Reader::u32)?.into_iter().collect(),
        };
        let crashed = match format {
            1..=5 => true,
            _ => reader.u8()? != 0,
        };
        reader.finish()?;
        let unheard = unheard.into_iter().map(|(id, qos, name)| {
            let identity = if name.is_empty() { session.identity(qos, id) } else { Identity::Native(name) };
            (id, Arrived::Unheard(qos, identity))
        });
        let arrived = unheard.chain(received.into_iter().map(|id| (id, Arrived::Received)));
        session.inbound = arrived.map(|(id, arrived)| (id, Inbound { arrived, here: false })).collect();
        // one that was lowered to QoS 0, and whose position was there still
        let lowered: Vec<_> = session.over().filter(|number| session.by_number.contains_key(number)).collect();
        for number in lowered {
            session.renumber(number);
        }
        session.crashed_at = crashed.then(|| session.generations.clone());
        session.disconnected();
        Ok(session)
    }
}

fn put_subscribed(out: &mut BytesMut, subscribed: &Subscribed) {
    let Subscribed { number, wanted, subscription_id, shown } = subscribed;
    out.put_u32(*number);
    put_bytes(out, wanted.filter.as_bytes());
    let handling = match wanted.retain_handling {
        RetainHandling::Always => 0,
        RetainHandling::IfNew => 1,
        RetainHandling::Never => 2,
    };
    out.put_slice(&[level(wanted.qos), u8::from(wanted.no_local), u8::from(wanted.retain_as_published), handling]);
    // 0 is no subscription identifier
    out.put_u32(subscription_id.unwrap_or_default());
    put_list(out, shown.iter(), |out, (mapping, number)| {
        put_bytes(out, mapping.as_bytes());
        out.put_u32(*number);
    });
}

fn subscribed(reader: &mut Reader, format: u8) -> Result<Subscribed, SnapshotError> {
    let number = reader.u32()?;
    let filter = reader.text()?;
    let qos = reader.qos()?;
    let (no_local, retain_as_published) = (reader.u8()? != 0, reader.u8()? != 0);
    let retain_handling = match reader.u8()? {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(SnapshotError::Damaged),
    };
    let wanted = Wanted { filter, qos, no_local, retain_as_published, retain_handling };
    let subscription_id = Some(reader.u32()?).filter(|id| *id != 0);
    let shown = match format {
        1..=4 => Vec::new(),
        _ => reader.list(|reader| Ok((reader.text()?.to_string().into(), reader.u32()?)))?,
    };
    Ok(Subscribed { number, wanted, subscription_id, shown: shown.into_iter().collect() })
}

fn sent(reader: &mut Reader) -> Result<(u16, Sent), SnapshotError> {
    let (id, subscription, released) = (reader.u16()?, reader.u32()?, reader.u8()? != 0);
    let position = Position(reader.bytes()?);
    Ok((id, Sent { subscription, position, qos: Qos::ExactlyOnce, released, counted: false }))
}

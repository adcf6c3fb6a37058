//! What the broker is asked for: the addresses of mappings as filters, and what of them it has said yes to. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::BytesMut;
use envelope::Qos;
use tokio::time::Instant;

use crate::mqtt::{
    address::to_native,
    packet::{self, Reason, Version, Wish},
};

/// Subscriptions of one connection.
#[derive(Debug)]
pub(super) struct Filters {
    version: Version,
    qos: Qos,
    wanted: BTreeSet<String>,
    /// Asked for and not answered, by packet identifier.
    asked: HashMap<u16, Asked>,
    refused: BTreeMap<String, Reason>,
    /// When what was refused is asked for again.
    again: Option<Instant>,
    last_id: u16,
}

#[derive(Debug)]
enum Asked {
    For(Vec<String>),
    /// To be given nothing more of.
    Not(Vec<String>),
}

/// The most filters of one packet.
const CHUNK: usize = 100;
/// After it a filter is asked for again that was refused.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

// === impl Filters ===

impl Filters {
    pub(super) fn new(version: Version, qos: Qos) -> Self {
        let (asked, refused) = (HashMap::new(), BTreeMap::new());
        Self { version, qos, wanted: BTreeSet::new(), asked, refused, again: None, last_id: 0 }
    }

    /// Asks for these addresses, as far as the broker has not said yes to them, and for no others.
    pub(super) fn want(&mut self, addresses: &[String], has: &BTreeMap<String, Qos>, out: &mut BytesMut) {
        self.wanted = addresses.iter().map(|address| to_native(address).into_owned()).collect();
        self.refused.clear();
        self.again = None;
        let asked_for: BTreeSet<&String> =
            self.asked.values().flat_map(|asked| if let Asked::For(all) = asked { &all[..] } else { &[] }).collect();
        let lacks = |filter: &&String| has.get(*filter) != Some(&self.qos) && !asked_for.contains(filter);
        let new: Vec<String> = self.wanted.iter().filter(lacks).cloned().collect();
        let over: Vec<String> = has.keys().filter(|filter| !self.wanted.contains(*filter)).cloned().collect();
        self.ask(new, out);
        for chunk in over.chunks(CHUNK) {
            let filters: Vec<_> = chunk.iter().map(String::as_str).collect();
            let id = self.id();
            packet::unsubscribe(out, self.version, id, &filters);
            self.asked.insert(id, Asked::Not(chunk.to_vec()));
        }
    }

    fn ask(&mut self, filters: Vec<String>, out: &mut BytesMut) {
        for chunk in filters.chunks(CHUNK) {
            let wishes: Vec<_> = chunk.iter().map(|filter| Wish { filter, qos: self.qos }).collect();
            let id = self.id();
            packet::subscribe(out, self.version, id, &wishes);
            self.asked.insert(id, Asked::For(chunk.to_vec()));
        }
    }

    /// SUBACK came: whether what the broker has said yes to is another now.
    pub(super) fn subscribed(&mut self, id: u16, reasons: &[Reason], has: &mut BTreeMap<String, Qos>) -> bool {
        let Some(Asked::For(filters)) = self.asked.remove(&id) else { return false };
        let mut changed = false;
        for (at, filter) in filters.into_iter().enumerate() {
            match reasons.get(at) {
                Some(reason) if !reason.is_error() => {
                    has.insert(filter, self.qos);
                    changed = true;
                }
                reason => {
                    self.refused.insert(filter, reason.copied().unwrap_or(Reason::UNSPECIFIED));
                    self.again = Some(Instant::now() + AGAIN_AFTER);
                }
            }
        }
        changed
    }

    /// UNSUBACK came.
    pub(super) fn unsubscribed(&mut self, id: u16, has: &mut BTreeMap<String, Qos>) -> bool {
        let Some(Asked::Not(filters)) = self.asked.remove(&id) else { return false };
        has.retain(|filter, _| !filters.contains(filter));
        true
    }

    /// When there is something to ask for again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Asks again for what was refused.
    pub(super) fn retry(&mut self, out: &mut BytesMut) {
        self.again = None;
        let refused: Vec<_> = self.refused.keys().cloned().collect();
        self.ask(refused, out);
    }

    /// What of it does not work, in a line.
    pub(super) fn trouble(&self) -> Option<String> {
        let (filter, reason) = self.refused.first_key_value()?;
        let said = reason.word().map_or_else(|| format!("{reason:?}"), |word| format!("{word} ({reason:?})"));
        let more = self.refused.len() - 1;
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        Some(format!("the broker refuses the subscription to {filter:?}: {said}{more}"))
    }

    fn id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.asked.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::{Decoder, Next, Packet};

    fn asked(out: &mut BytesMut) -> Vec<String> {
        let mut decoder = Decoder::new(1 << 20);
        let mut first = BytesMut::from(&[0x10, 0x0C, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0][..]);
        decoder.next(&mut first).unwrap();
        let mut all = Vec::new();
        while let Ok(Next::Packet(packet)) = decoder.next(out) {
            match packet {
                Packet::Subscribe(wanted) => all.extend(wanted.filters.iter().map(|one| format!("+{}", one.filter))),
                Packet::Unsubscribe(over) => all.extend(over.filters.iter().map(|one| format!("-{one}"))),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    fn addresses(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn only_what_changed_is_asked_for_in_the_brokers_spelling() {
        let (mut filters, mut has, mut out) =
            (Filters::new(Version::V3, Qos::AtLeastOnce), BTreeMap::new(), BytesMut::new());
        filters.want(&addresses(&["%/a/+", "b"]), &has, &mut out);
        assert_eq!(asked(&mut out), ["+/a/+", "+b"]);
        filters.want(&addresses(&["%/a/+", "b"]), &has, &mut out);
        assert!(out.is_empty(), "it is asked for already");
        assert!(filters.subscribed(1, &[Reason(1), Reason(0)], &mut has));
        filters.want(&addresses(&["b", "c"]), &has, &mut out);
        assert_eq!(asked(&mut out), ["+c", "-/a/+"]);
        assert!(filters.unsubscribed(3, &mut has) && filters.trouble().is_none());
        assert_eq!(has.keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_the_broker_refuses_is_told_and_asked_for_again() {
        let (mut filters, mut has, mut out) =
            (Filters::new(Version::V5, Qos::AtLeastOnce), BTreeMap::new(), BytesMut::new());
        filters.want(&addresses(&["a", "b", "c"]), &has, &mut out);
        out.clear();
        assert!(filters.subscribed(1, &[Reason(1), Reason::NOT_AUTHORIZED], &mut has));
        let said = filters.trouble().unwrap();
        assert_eq!(said, "the broker refuses the subscription to \"b\": not authorized (0x87), and 1 more");
        assert!(filters.again().is_some() && !filters.subscribed(1, &[], &mut has));
        filters.retry(&mut out);
        assert!(!out.is_empty() && filters.again().is_none());
    }
}

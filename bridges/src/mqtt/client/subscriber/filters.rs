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
    client::held::Granted,
    packet::{self, Reason, Version, Wish, level},
};

/// Subscriptions of one connection.
#[derive(Debug)]
pub(super) struct Filters {
    version: Version,
    qos: Qos,
    wanted: BTreeSet<String>,
    /// Asked for, or to be ended, and not answered, by packet identifier.
    asked: HashMap<u16, Vec<String>>,
    /// All of these.
    open: BTreeSet<String>,
    refused: BTreeMap<String, Reason>,
    /// Granted less surely than they are wanted.
    lower: BTreeSet<String>,
    /// When what was refused is asked for again.
    again: Option<Instant>,
    last_id: u16,
}

/// The most filters of one packet.
const CHUNK: usize = 100;
/// After it a filter is asked for again that was refused.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

// === impl Filters ===

impl Filters {
    pub(super) fn new(version: Version, qos: Qos) -> Self {
        Self {
            version,
            qos,
            wanted: BTreeSet::new(),
            asked: HashMap::new(),
            open: BTreeSet::new(),
            refused: BTreeMap::new(),
            lower: BTreeSet::new(),
            again: None,
            last_id: 0,
        }
    }

    /// Asks for these addresses, as far as the broker has not said yes to them, and for no others. Whether `has` is another
    /// now, which is to be on disk before the broker is asked.
    pub(super) fn want(&mut self, addresses: &[String], has: &mut Granted, out: &mut BytesMut) -> bool {
        self.wanted = addresses.iter().map(|address| to_native(address).into_owned()).collect();
        self.refused.clear();
        self.lower.retain(|filter| self.wanted.contains(filter));
        self.again = None;
        self.reconcile(has, out)
    }

    /// Asks for what is wanted and not had, and ends what is had and not wanted; what has no answer yet, once it has one.
    fn reconcile(&mut self, has: &mut Granted, out: &mut BytesMut) -> bool {
        let is_had = |filter: &String| {
            has.get(filter).is_some_and(|qos| *qos == Some(self.qos) || (qos.is_some() && self.lower.contains(filter)))
        };
        let settled = |filter: &&String| !self.open.contains(*filter);
        let lacks = |filter: &&String| !is_had(filter) && !self.refused.contains_key(*filter);
        let new: Vec<String> = self.wanted.iter().filter(settled).filter(lacks).cloned().collect();
        let is_over = |filter: &&String| !self.wanted.contains(*filter);
        let over: Vec<String> = has.keys().filter(settled).filter(is_over).cloned().collect();
        let before = new.iter().chain(&over).filter(|filter| has.get(*filter) != Some(&None)).count();
        has.extend(new.iter().chain(&over).map(|filter| (filter.clone(), None)));
        self.ask(new, out);
        for chunk in over.chunks(CHUNK) {
            let filters: Vec<_> = chunk.iter().map(String::as_str).collect();
            let id = self.id();
            packet::unsubscribe(out, self.version, id, &filters);
            self.opened(id, chunk);
        }
        before > 0
    }

    fn ask(&mut self, filters: Vec<String>, out: &mut BytesMut) {
        for chunk in filters.chunks(CHUNK) {
            let wishes: Vec<_> = chunk.iter().map(|filter| Wish { filter, qos: self.qos }).collect();
            let id = self.id();
            packet::subscribe(out, self.version, id, &wishes);
            self.opened(id, chunk);
        }
    }

    fn opened(&mut self, id: u16, filters: &[String]) {
        self.open.extend(filters.iter().cloned());
        self.asked.insert(id, filters.to_vec());
    }

    fn answered(&mut self, id: u16) -> Vec<String> {
        let filters = self.asked.remove(&id).unwrap_or_default();
        self.open.retain(|filter| !filters.contains(filter));
        filters
    }

    /// SUBACK came: whether `has` is another now. What is wanted otherwise meanwhile is asked for.
    pub(super) fn subscribed(&mut self, id: u16, reasons: &[Reason], has: &mut Granted, out: &mut BytesMut) -> bool {
        let filters = self.answered(id);
        let changed = !filters.is_empty();
        for (at, filter) in filters.into_iter().enumerate() {
            self.lower.remove(&filter);
            let is_wanted = self.wanted.contains(&filter);
            match reasons.get(at) {
                Some(reason) if !reason.is_error() => {
                    let granted = granted(*reason).min(self.qos);
                    if granted < self.qos && is_wanted {
                        let (asked, granted) = (level(self.qos), level(granted));
                        tracing::warn!(%filter, asked, granted, "the broker grants a lower QoS than it is asked for");
                        self.lower.insert(filter.clone());
                    }
                    self.refused.remove(&filter);
                    has.insert(filter, Some(granted));
                }
                reason if is_wanted => {
                    self.refused.insert(filter, reason.copied().unwrap_or(Reason::UNSPECIFIED));
                    self.again = Some(Instant::now() + AGAIN_AFTER);
                }
                // it is ended, in case the broker has it all the same
                Some(_) | None => {}
            }
        }
        self.reconcile(has, out) || changed
    }

    /// UNSUBACK came: whether `has` is another now.
    pub(super) fn unsubscribed(&mut self, id: u16, has: &mut Granted, out: &mut BytesMut) -> bool {
        let filters = self.answered(id);
        has.retain(|filter, _| !filters.contains(filter));
        self.reconcile(has, out) || !filters.is_empty()
    }

    /// When there is something to ask for again.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Asks again for what was refused.
    pub(super) fn retry(&mut self, out: &mut BytesMut) {
        self.again = None;
        let refused = self.refused.keys().filter(|filter| !self.open.contains(*filter)).cloned().collect();
        self.ask(refused, out);
    }

    /// What of it does not work, in a line.
    pub(super) fn trouble(&self) -> Option<String> {
        let more = |all: usize| if all == 1 { String::new() } else { format!(", and {} more", all - 1) };
        if let Some((filter, reason)) = self.refused.first_key_value() {
            let more = more(self.refused.len());
            return Some(format!("the broker refuses the subscription to {filter:?}: {reason}{more}"));
        }
        let (filter, more) = (self.lower.first()?, more(self.lower.len()));
        let asked = level(self.qos);
        Some(format!("the broker grants the subscription to {filter:?} at a QoS lower than {asked}{more}"))
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

fn granted(reason: Reason) -> Qos {
    match reason.0 {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
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

    fn filters(version: Version) -> (Filters, Granted, BytesMut) {
        (Filters::new(version, Qos::AtLeastOnce), Granted::new(), BytesMut::new())
    }

    #[test]
    fn only_what_changed_is_asked_for_in_the_brokers_spelling() {
        let (mut filters, mut has, mut out) = filters(Version::V3);
        filters.want(&addresses(&["%/a/+", "b"]), &mut has, &mut out);
        assert_eq!(asked(&mut out), ["+/a/+", "+b"]);
        filters.want(&addresses(&["%/a/+", "b"]), &mut has, &mut out);
        assert!(out.is_empty(), "it is asked for already");
        assert!(filters.subscribed(1, &[Reason(1), Reason(1)], &mut has, &mut out));
        filters.want(&addresses(&["b", "c"]), &mut has, &mut out);
        assert_eq!(asked(&mut out), ["+c", "-/a/+"]);
        assert!(filters.unsubscribed(3, &mut has, &mut out) && filters.trouble().is_none());
        let had: Vec<_> = has.iter().map(|(filter, qos)| (&**filter, *qos)).collect();
        assert_eq!(had, [("b", Some(Qos::AtLeastOnce)), ("c", None)]);
    }

    #[test]
    fn what_is_wanted_again_before_it_has_ended_is_asked_for_once_it_has() {
        let (mut filters, mut has, mut out) = filters(Version::V3);
        filters.want(&addresses(&["a", "b"]), &mut has, &mut out);
        filters.subscribed(1, &[Reason(1), Reason(1)], &mut has, &mut out);
        filters.want(&addresses(&["b"]), &mut has, &mut out);
        assert_eq!(asked(&mut out), ["+a", "+b", "-a"]);
        assert_eq!(has["a"], None, "after a crash nobody knows");
        assert!(!filters.want(&addresses(&["a", "b"]), &mut has, &mut out) && out.is_empty());
        assert!(filters.unsubscribed(2, &mut has, &mut out));
        assert_eq!(asked(&mut out), ["+a"]);
        assert!(filters.subscribed(3, &[Reason(1)], &mut has, &mut out) && out.is_empty());
        assert_eq!(has["a"], Some(Qos::AtLeastOnce));
    }

    #[test]
    fn what_is_not_wanted_any_more_when_the_broker_says_yes_is_ended() {
        let (mut filters, mut has, mut out) = filters(Version::V3);
        assert!(filters.want(&addresses(&["a", "b"]), &mut has, &mut out));
        filters.want(&addresses(&["b"]), &mut has, &mut out);
        assert_eq!(asked(&mut out), ["+a", "+b"]);
        filters.subscribed(1, &[Reason(1), Reason(1)], &mut has, &mut out);
        assert_eq!(asked(&mut out), ["-a"]);
        assert!(filters.unsubscribed(2, &mut has, &mut out) && out.is_empty());
        assert_eq!(has.len(), 1);
    }

    #[test]
    fn what_is_refused_when_nobody_wants_it_any_more_is_no_trouble() {
        let (mut filters, mut has, mut out) = filters(Version::V3);
        filters.want(&addresses(&["a"]), &mut has, &mut out);
        filters.want(&[], &mut has, &mut out);
        filters.subscribed(1, &[Reason::UNSPECIFIED], &mut has, &mut out);
        assert_eq!((filters.trouble(), filters.again()), (None, None));
        assert_eq!(asked(&mut out), ["+a", "-a"]);
    }

    #[test]
    fn what_had_no_answer_before_a_crash_is_asked_for_or_ended_again() {
        let (mut filters, _, mut out) = filters(Version::V3);
        let mut has = Granted::from([("a".to_owned(), None), ("b".to_owned(), None)]);
        assert!(!filters.want(&addresses(&["b"]), &mut has, &mut out));
        assert_eq!(asked(&mut out), ["+b", "-a"]);
    }

    #[test]
    fn a_lower_qos_is_told_and_not_asked_for_again_over_the_same_connection() {
        let (mut filters, mut has, mut out) = filters(Version::V5);
        filters.want(&addresses(&["a"]), &mut has, &mut out);
        out.clear();
        assert!(filters.subscribed(1, &[Reason(0)], &mut has, &mut out) && out.is_empty());
        assert_eq!(filters.trouble().unwrap(), "the broker grants the subscription to \"a\" at a QoS lower than 1");
        filters.want(&addresses(&["a"]), &mut has, &mut out);
        assert!(out.is_empty() && filters.trouble().is_some());
        // over the next one it may grant more
        let mut next = Filters::new(Version::V5, Qos::AtLeastOnce);
        next.want(&addresses(&["a"]), &mut has, &mut out);
        assert!(next.subscribed(1, &[Reason(1)], &mut has, &mut out) && next.trouble().is_none());
    }

    #[test]
    fn what_the_broker_refuses_is_told_and_asked_for_again() {
        let (mut filters, mut has, mut out) = filters(Version::V5);
        filters.want(&addresses(&["a", "b", "c"]), &mut has, &mut out);
        out.clear();
        assert!(filters.subscribed(1, &[Reason(1), Reason::NOT_AUTHORIZED], &mut has, &mut out));
        let said = filters.trouble().unwrap();
        assert_eq!(said, "the broker refuses the subscription to \"b\": not authorized (0x87), and 1 more");
        assert!(filters.again().is_some() && !filters.subscribed(1, &[], &mut has, &mut out));
        filters.retry(&mut out);
        assert!(!out.is_empty() && filters.again().is_none());
    }
}

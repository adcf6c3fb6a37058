//! The last value of each topic: where it is, how a group changes that, and how it is read.
//!
//! The whole index is in memory, bounded by [`EmbeddedConfig::last_values`](crate::EmbeddedConfig) topics; on disk a row a
//! topic says the same, written in the batch of the group that stores the value. The values themselves are records of the
//! log.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use envelope::{Filter, RejectKind, Rejection, Timestamp, Topic};
use fjall::OwnedWriteBatch;

use crate::{
    codec::{DecodeError, Reader, put_option, put_u64},
    record::Stored,
    store::Store,
};

/// The most topics that are looked at in one go: others wait for the index meanwhile.
const MAX_LOOKED_AT: usize = 4_096;
/// The most values that a group deletes because they have expired.
const MAX_EXPIRED: usize = 256;

/// Where a last value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) sequence: u64,
    expires: Option<Timestamp>,
}

/// The last value of each topic that has one.
#[derive(Debug, Default)]
pub(crate) struct LastIndex {
    topics: BTreeMap<Topic, Last>,
    expiring: BTreeSet<(Timestamp, Topic)>,
}

/// What a group changes.
#[derive(Debug, Default)]
pub(crate) struct LastChanges {
    /// `None` deletes.
    topics: HashMap<Topic, Option<Last>>,
    /// How many more topics have one with it; fewer, if it is negative.
    more: isize,
}

/// Some last values, in the order of their topics.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) found: Vec<(Topic, u64)>,
    /// There may be more behind it.
    pub(crate) next: Option<Topic>,
}

// === impl Last ===

impl Last {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        put_u64(&mut out, self.sequence);
        put_option(&mut out, self.expires, |out, time| put_u64(out, time.as_micros()));
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let sequence = reader.count("sequence")?;
        let expires = reader.option("expirytime", |reader| reader.u64("expirytime"))?;
        Ok(Self { sequence, expires: expires.map(Timestamp::from_micros) })
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

// === impl LastIndex ===

impl LastIndex {
    /// Takes a row from disk.
    pub(crate) fn load(&mut self, topic: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let topic = std::str::from_utf8(topic).ok().and_then(|topic| Topic::new(topic).ok());
        self.set(topic.ok_or(DecodeError::Invalid("topic"))?, Some(Last::decode(value)?));
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Where they are, in the order of their topics.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.topics.values().map(|last| last.sequence)
    }

    fn set(&mut self, topic: Topic, last: Option<Last>) {
        let before = match last {
            Some(last) => self.topics.insert(topic.clone(), last),
            None => self.topics.remove(&topic),
        };
        if let Some(end) = before.and_then(|before| before.expires) {
            self.expiring.remove(&(end, topic.clone()));
        }
        self.expiring.extend(last.and_then(|last| last.expires).map(|end| (end, topic)));
    }

    /// At most `most` values that any of `filters` selects, behind `after`, of those at or below `until`. May have fewer
    /// though there are more: only so many topics are looked at.
    pub(crate) fn page(&self, filters: &[Filter], after: Option<&Topic>, until: u64, most: usize) -> Page {
        let now = Timestamp::now();
        let prefix = common_prefix(filters);
        let from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut page = Page::default();
        for (looked_at, (topic, last)) in self.topics.range::<str, _>((from, Bound::Unbounded)).enumerate() {
            if !topic.as_str().starts_with(prefix) {
                page.next = None;
                return page;
            }
            if looked_at == MAX_LOOKED_AT || page.found.len() >= most {
                return page;
            }
            page.next = Some(topic.clone());
            if last.sequence <= until && !last.has_expired(now) && filters.iter().any(|filter| filter.matches(topic)) {
                page.found.push((topic.clone(), last.sequence));
            }
        }
        page.next = None;
        page
    }
}

/// What every topic that one of them selects begins with.
fn common_prefix(filters: &[Filter]) -> &str {
    let mut prefixes = filters.iter().map(literal_prefix);
    let first = prefixes.next().unwrap_or_default();
    prefixes.fold(first, |common, other| {
        let same = common.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
        &common[..same.map_or(common.len().min(other.len()), |((at, _), _)| at)]
    })
}

/// What stands before the first wildcard, without the separator: `a/#` selects `a` too.
fn literal_prefix(filter: &Filter) -> &str {
    let text = filter.as_str();
    let end = text.find(['+', '#']).map_or(text.len(), |at| at.saturating_sub(1));
    &text[..end]
}

// === impl LastChanges ===

impl LastChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Why a message can't set the last values that it is to set, if it can't.
    pub(crate) fn refusal(&self, stored: &[&Stored], index: &LastIndex, max: usize) -> Option<Rejection> {
        let fresh = stored.iter().filter(|stored| has_data(stored) && self.is_fresh(&stored.envelope.subject, index));
        let fresh = fresh.count();
        (fresh > 0 && index.len().saturating_add_signed(self.more) + fresh > max).then(|| {
            let detail = format!("{max} topics have a last value, which is the limit: delete some of them");
            Rejection::new(RejectKind::Conflict, "backbone", detail)
        })
    }

    fn is_fresh(&self, topic: &Topic, index: &LastIndex) -> bool {
        match self.topics.get(topic) {
            Some(change) => change.is_none(),
            None => !index.topics.contains_key(topic),
        }
    }

    /// An envelope that is to be its topic's last value is stored at `sequence`.
    pub(crate) fn set(&mut self, stored: &Stored, sequence: u64, index: &LastIndex) {
        let topic = &stored.envelope.subject;
        let last = has_data(stored).then_some(Last { sequence, expires: stored.envelope.expirytime });
        self.more += isize::from(last.is_some()) - isize::from(!self.is_fresh(topic, index));
        self.topics.insert(topic.clone(), last);
    }

    /// Deletes what has expired, unless the group has set it anew.
    pub(crate) fn expire(&mut self, index: &LastIndex) {
        let now = Timestamp::now();
        for (_, topic) in index.expiring.iter().take_while(|(end, _)| *end <= now).take(MAX_EXPIRED) {
            self.topics.entry(topic.clone()).or_insert(None);
        }
    }

    /// Whether the record at `sequence` is the topic's last value, this group's changes included.
    pub(crate) fn is_at(&self, topic: &Topic, sequence: u64, index: &LastIndex) -> bool {
        !self.topics.contains_key(topic) && index.topics.get(topic).is_some_and(|last| last.sequence == sequence)
    }

    /// `first`: of the log; a value before it is a record that was kept for it.
    pub(crate) fn write(&self, batch: &mut OwnedWriteBatch, store: &Store, index: &LastIndex, first: u64) {
        for (topic, last) in &self.topics {
            if let Some(before) = index.topics.get(topic).filter(|before| before.sequence < first) {
                batch.remove(&store.kept, before.sequence.to_be_bytes());
            }
            match last {
                Some(last) => batch.insert(&store.last, topic.as_str(), last.encode()),
                None => batch.remove(&store.last, topic.as_str()),
            }
        }
    }

    /// Makes the changes visible, once they are on disk.
    pub(crate) fn apply(&mut self, index: &mut LastIndex) {
        for (topic, last) in self.topics.drain() {
            index.set(topic, last);
        }
    }
}

fn has_data(stored: &Stored) -> bool {
    !stored.envelope.data.as_slice().is_empty()
}

/// Those of a message's records that are to be last values.
pub(crate) fn retained<'a>(records: impl Iterator<Item = &'a Arc<Stored>>) -> Vec<&'a Stored> {
    records.map(|stored| &**stored).filter(|stored| stored.retained).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        Topic::new(text).unwrap()
    }

    fn filter(text: &str) -> Filter {
        Filter::new(text).unwrap()
    }

    fn index(topics: &[&str]) -> LastIndex {
        let mut index = LastIndex::default();
        for (sequence, text) in (1..).zip(topics) {
            index.set(topic(text), Some(Last { sequence, expires: None }));
        }
        index
    }

    fn found(index: &LastIndex, filters: &[&str], after: Option<&str>, most: usize) -> (Vec<u64>, Option<String>) {
        let filters: Vec<_> = filters.iter().map(|text| filter(text)).collect();
        let page = index.page(&filters, after.map(topic).as_ref(), u64::MAX, most);
        (page.found.iter().map(|(_, sequence)| *sequence).collect(), page.next.map(|next| next.to_string()))
    }

    #[test]
    fn a_filter_finds_its_topics_in_order_and_page_by_page() {
        let index = index(&["a", "a!", "a/b", "a/b/c", "ab", "b/b", "$mesh/x"]);
        assert_eq!(found(&index, &["a/#"], None, 9), (vec![1, 3, 4], None));
        assert_eq!(found(&index, &["a/b"], None, 9), (vec![3], None));
        assert_eq!(found(&index, &["+/b"], None, 9), (vec![3, 6], None));
        assert_eq!(found(&index, &["#"], None, 9), (vec![1, 2, 3, 4, 5, 6], None));
        assert_eq!(found(&index, &["a/b/c", "a/b"], None, 9), (vec![3, 4], None));
        assert_eq!(found(&index, &["#"], None, 2), (vec![1, 2], Some("a!".to_owned())));
        assert_eq!(found(&index, &["#"], Some("a!"), 9), (vec![3, 4, 5, 6], None));
        assert_eq!(found(&index, &["$mesh/#"], Some("zzz"), 9), (Vec::new(), None));
    }

    #[test]
    fn only_so_many_topics_are_looked_at_and_the_page_says_so() {
        let names: Vec<_> = (0..MAX_LOOKED_AT + 2).map(|n| format!("t/{n:05}")).collect();
        let index = index(&names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found(&index, &["t/+/x"], None, 9), (Vec::new(), Some(format!("t/{:05}", MAX_LOOKED_AT - 1))));
        assert_eq!(found(&index, &["t/+/x"], Some(&format!("t/{:05}", MAX_LOOKED_AT - 1)), 9), (Vec::new(), None));
    }

    #[test]
    fn the_common_prefix_ends_within_no_character() {
        assert_eq!(common_prefix(&[filter("räume/a/+"), filter("rühl")]), "r");
        assert_eq!(common_prefix(&[filter("a/b/#"), filter("a/bc")]), "a/b");
        assert_eq!(common_prefix(&[filter("#"), filter("a")]), "");
    }

    #[test]
    fn a_value_that_has_expired_is_neither_found_nor_kept() {
        let mut index = index(&["b"]);
        let old = Last { sequence: 9, expires: Some(Timestamp::from_micros(1)) };
        index.set(topic("a"), Some(old));
        assert_eq!(Last::decode(&old.encode()), Ok(old));
        assert_eq!(found(&index, &["#"], None, 9).0, [1]);
        let mut changes = LastChanges::default();
        changes.expire(&index);
        changes.apply(&mut index);
        assert_eq!((index.len(), index.expiring.len()), (1, 0));
    }
}

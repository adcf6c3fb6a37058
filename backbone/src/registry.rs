//! All subscriptions, as the writer knows them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use envelope::{Filter, FilterTrie, RejectKind, Rejection, Topic};

use crate::{
    Subscriber, SubscriptionQuota,
    owners::Owners,
    subscription::{Cursor, Feed},
};

/// The most subscriptions, durable and not.
const MAX_SUBSCRIPTIONS: usize = 65_536;
/// So many of them are for the gateway itself, such as for mappings that send.
const OWN: usize = 4_096;

/// Subscriptions by filter and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    subscriptions: HashMap<u32, Subscription>,
    names: HashMap<Arc<str>, u32>,
    trie: FilterTrie<u32>,
    /// By the principal whose inbox they select.
    inboxes: HashMap<Box<str>, Vec<u32>>,
    /// The first gap of each cursor that has one.
    gaps: BTreeSet<(u64, u32)>,
    owners: Owners,
    next: u32,
}

/// A subscription. One without a name has no cursor.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) feed: Arc<Feed>,
    filters: Vec<Filter>,
    pub(crate) cursor: Option<Cursor>,
    /// The principal that it counts with.
    owner: Option<Arc<str>>,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn get(&self, id: u32) -> Option<&Subscription> {
        self.subscriptions.get(&id)
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Subscription> {
        self.names.get(name).and_then(|id| self.subscriptions.get(id))
    }

    pub(crate) fn feeds(&self) -> impl Iterator<Item = &Arc<Feed>> {
        self.subscriptions.values().map(|one| &one.feed)
    }

    /// The durable ones.
    pub(crate) fn cursors(&self) -> impl Iterator<Item = (&Arc<Feed>, &Cursor)> {
        self.subscriptions.values().filter_map(|one| Some((&one.feed, one.cursor.as_ref()?)))
    }

    /// Those whose cursor has a gap before `first`.
    pub(crate) fn with_gaps_before(&self, first: u64) -> impl Iterator<Item = u32> {
        self.gaps.range(..(first, 0)).map(|(_, id)| *id)
    }

    /// A number for a new subscription, if there is room for it and its owner may have one more.
    pub(crate) fn reserve(
        &mut self,
        who: &Subscriber,
        durable: bool,
        quota: SubscriptionQuota,
    ) -> Result<u32, Rejection> {
        let most = match who.owner() {
            Some(owner) => {
                self.owners.check(owner, durable, quota)?;
                MAX_SUBSCRIPTIONS - OWN
            }
            None => MAX_SUBSCRIPTIONS,
        };
        if self.subscriptions.len() >= most {
            let detail = format!("there are {most} subscriptions, which is the limit");
            return Err(Rejection::new(RejectKind::Overloaded, "backbone", detail));
        }
        Ok(self.number())
    }

    /// A number for one that was there before, whatever the bounds are now.
    pub(crate) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(crate) fn insert(
        &mut self,
        feed: Arc<Feed>,
        filters: Vec<Filter>,
        cursor: Option<Cursor>,
        owner: Option<Arc<str>>,
    ) {
        if let Some(owner) = &owner {
            self.owners.add(owner, cursor.is_some());
        }
        for filter in &filters {
            self.trie.insert(filter, feed.id);
            open_inbox(&mut self.inboxes, filter, feed.id);
        }
        if let Some(name) = &feed.name {
            self.names.insert(name.clone(), feed.id);
        }
        self.gaps.extend(first_gap(feed.id, cursor.as_ref()));
        self.subscriptions.insert(feed.id, Subscription { feed, filters, cursor, owner });
    }

    /// Replaces a cursor, and its filters with it.
    pub(crate) fn update(&mut self, id: u32, cursor: Cursor) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.filters != cursor.filters {
            for filter in &subscription.filters {
                self.trie.remove(filter, &id);
                close_inbox(&mut self.inboxes, filter, id);
            }
            for filter in &cursor.filters {
                self.trie.insert(filter, id);
                open_inbox(&mut self.inboxes, filter, id);
            }
            subscription.filters.clone_from(&cursor.filters);
            subscription.feed.show_filters(&cursor);
        }
        subscription.feed.show(&cursor);
        if subscription.owner != cursor.owner {
            subscription.owner.iter().for_each(|owner| self.owners.remove(owner, true));
            cursor.owner.iter().for_each(|owner| self.owners.add(owner, true));
            subscription.owner.clone_from(&cursor.owner);
        }
        let (before, after) = (first_gap(id, subscription.cursor.as_ref()), first_gap(id, Some(&cursor)));
        if before != after {
            before.map(|before| self.gaps.remove(&before));
            self.gaps.extend(after);
        }
        subscription.cursor = Some(cursor);
    }

    /// Takes away one without a name, or whose name was never stored.
    pub(crate) fn remove(&mut self, id: u32) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        first_gap(id, subscription.cursor.as_ref()).map(|gap| self.gaps.remove(&gap));
        if let Some(owner) = &subscription.owner {
            self.owners.remove(owner, subscription.cursor.is_some());
        }
        if let Some(name) = &subscription.feed.name {
            self.names.remove(name);
        }
        for filter in &subscription.filters {
            self.trie.remove(filter, &id);
            close_inbox(&mut self.inboxes, filter, id);
        }
    }

    /// Whether anybody reads an inbox.
    pub(crate) fn has_inboxes(&self) -> bool {
        !self.inboxes.is_empty()
    }

    /// Each subscription that selects an envelope on `topic` for `recipients`, once.
    pub(crate) fn matching(&self, topic: &Topic, recipients: &[Arc<str>], found: &mut Vec<u32>) {
        found.clear();
        if self.subscriptions.is_empty() {
            return;
        }
        self.trie.matches(topic, |id| found.push(*id));
        if !self.inboxes.is_empty() {
            found.extend(recipients.iter().filter_map(|name| self.inboxes.get(&**name)).flatten());
        }
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
    }
}

fn open_inbox(inboxes: &mut HashMap<Box<str>, Vec<u32>>, filter: &Filter, id: u32) {
    if let Some(inbox) = filter.inbox() {
        inboxes.entry(inbox.into()).or_default().push(id);
    }
}

fn close_inbox(inboxes: &mut HashMap<Box<str>, Vec<u32>>, filter: &Filter, id: u32) {
    let Some(inbox) = filter.inbox() else { return };
    let Some(open) = inboxes.get_mut(inbox) else { return };
    open.retain(|own| *own != id);
    if open.is_empty() {
        inboxes.remove(inbox);
    }
}

fn first_gap(id: u32, cursor: Option<&Cursor>) -> Option<(u64, u32)> {
    cursor?.gaps.first().map(|gap| (*gap, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_together_leave_room_for_the_gateways_own() {
        let (mut registry, quota) = (Registry::default(), SubscriptionQuota { each: 1_000, durable: 1 });
        let take = |registry: &mut Registry, who: &Subscriber| {
            let id = registry.reserve(who, false, quota).map_err(|rejection| rejection.kind)?;
            let filter = Filter::new("a").unwrap();
            registry.insert(Arc::new(Feed::new(id, None, None)), vec![filter], None, who.owner().cloned());
            Ok(id)
        };
        let of = |n: usize| Subscriber::Principal(format!("p{}", n / 1_000).into());
        for n in 0..MAX_SUBSCRIPTIONS - OWN {
            assert!(take(&mut registry, &of(n)).is_ok(), "{n}");
        }
        assert_eq!(take(&mut registry, &of(1_000_000)), Err(RejectKind::Overloaded));
        let first = take(&mut registry, &Subscriber::Gateway);
        assert!(first.is_ok() && (1..OWN).all(|_| take(&mut registry, &Subscriber::Gateway).is_ok()));
        assert_eq!(take(&mut registry, &Subscriber::Gateway), Err(RejectKind::Overloaded));
        // as many go as are the gateway's own, and one more: there is room for a principal's again
        first.into_iter().chain(1..=OWN as u32).for_each(|id| registry.remove(id));
        assert!(take(&mut registry, &of(0)).is_ok());
    }
}

//! Finds all filters that select a topic, in time that depends on the topic and not on the number of filters.

use std::collections::HashMap;

use super::{Filter, Topic};

/// Values by filter. A value may stand under several filters, and a filter may have several values.
#[derive(Debug, Clone)]
pub struct FilterTrie<V> {
    root: Node<V>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<V> {
    children: HashMap<Box<str>, Node<V>>,
    any: Option<Box<Node<V>>>,
    /// Values of filters that end here.
    here: Vec<V>,
    /// Values of filters that end in `#` below here.
    below: Vec<V>,
}

// === impl FilterTrie ===

impl<V: PartialEq> FilterTrie<V> {
    /// Without any filter.
    pub fn new() -> Self {
        Self { root: Node::default(), len: 0 }
    }

    /// The number of (filter, value) pairs.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `value` under `filter`. `false` if it was there.
    pub fn insert(&mut self, filter: &Filter, value: V) -> bool {
        let mut node = &mut self.root;
        for segment in filter.segments() {
            node = match segment {
                "#" => return added(&mut node.below, value, &mut self.len),
                "+" => node.any.get_or_insert_default(),
                _ => node.children.entry(segment.into()).or_default(),
            };
        }
        added(&mut node.here, value, &mut self.len)
    }

    /// Takes `value` from under `filter`, and away what is empty then. `false` if it was not there.
    pub fn remove(&mut self, filter: &Filter, value: &V) -> bool {
        let segments: Vec<_> = filter.segments().collect();
        let removed = self.root.remove(&segments, value);
        self.len -= usize::from(removed);
        removed
    }

    /// Calls `found` with the value of each filter that selects `topic`: a value under two such filters comes twice.
    pub fn matches<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a V)) {
        self.root.matches(Some(topic.as_str()), !topic.is_reserved(), &mut found);
    }
}

impl<V: PartialEq> Default for FilterTrie<V> {
    fn default() -> Self {
        Self::new()
    }
}

fn added<V: PartialEq>(values: &mut Vec<V>, value: V, len: &mut usize) -> bool {
    if values.contains(&value) {
        return false;
    }
    values.push(value);
    *len += 1;
    true
}

// === impl Node ===

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { children: HashMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<V: PartialEq> Node<V> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    /// Recursion is bounded by the segments of a filter.
    fn remove(&mut self, segments: &[&str], value: &V) -> bool {
        let Some((first, rest)) = segments.split_first() else {
            return take(&mut self.here, value);
        };
        match *first {
            "#" => take(&mut self.below, value),
            "+" => {
                let removed = self.any.as_mut().is_some_and(|any| any.remove(rest, value));
                self.any.take_if(|any| any.is_empty());
                removed
            }
            name => {
                let Some(child) = self.children.get_mut(name) else {
                    return false;
                };
                let removed = child.remove(rest, value);
                if child.is_empty() {
                    self.children.remove(name);
                }
                removed
            }
        }
    }

    /// `segments` is what is left of the topic; recursion is bounded by their number. `wild`: whether a wildcard may
    /// stand for the first of them.
    fn matches<'a>(&'a self, segments: Option<&str>, wild: bool, found: &mut impl FnMut(&'a V)) {
        if wild {
            self.below.iter().for_each(&mut *found);
        }
        let Some(segments) = segments else {
            return self.here.iter().for_each(found);
        };
        let (first, rest) = match segments.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (segments, None),
        };
        if let Some(child) = self.children.get(first) {
            child.matches(rest, true, found);
        }
        if let Some(any) = self.any.as_ref().filter(|_| wild) {
            any.matches(rest, true, found);
        }
    }
}

fn take<V: PartialEq>(values: &mut Vec<V>, value: &V) -> bool {
    let at = values.iter().position(|v| v == value);
    at.map(|at| values.swap_remove(at)).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(trie: &FilterTrie<usize>, topic: &Topic) -> Vec<usize> {
        let mut values = Vec::new();
        trie.matches(topic, |v| values.push(*v));
        values.sort_unstable();
        values
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_each_filter_by_itself_selects(
            filters in prop::collection::vec("[$ab+](/[ab+]){0,3}(/#)?|#", 0..24),
            topics in prop::collection::vec("[$ab](/[ab]){0,4}", 1..8),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let filters: Vec<_> = filters.iter().map(|f| Filter::new(f.as_str()).unwrap()).collect();
            let mut trie = FilterTrie::new();
            for (n, filter) in filters.iter().enumerate() {
                prop_assert!(trie.insert(filter, n));
                prop_assert!(!trie.insert(filter, n));
            }
            let mut left: Vec<_> = (0..filters.len()).collect();
            for index in gone.iter().filter(|_| !filters.is_empty()) {
                let n = index.index(filters.len());
                prop_assert_eq!(trie.remove(&filters[n], &n), left.contains(&n));
                left.retain(|l| *l != n);
            }
            prop_assert_eq!(trie.len(), left.len());
            for topic in topics.iter().map(|t| Topic::new(t.as_str()).unwrap()) {
                let expected: Vec<_> = left.iter().copied().filter(|n| filters[*n].matches(&topic)).collect();
                prop_assert_eq!(found(&trie, &topic), expected);
            }
            for n in left {
                trie.remove(&filters[n], &n);
            }
            prop_assert!(trie.root.is_empty());
        }
    }
}

//! Topics and filters: every line is tried as both. What is taken keeps its bounds, and the trie finds exactly the
//! filters that select the topic.
#![no_main]

use envelope::{Filter, FilterTrie, Topic};
use libfuzzer_sys::fuzz_target;

const MAX_LINES: usize = 16;

fuzz_target!(|text: &str| {
    // each line meets each other: a few of them do
    let topics: Vec<_> = text.lines().take(MAX_LINES).filter_map(|line| Topic::new(line).ok()).collect();
    let filters: Vec<_> = text.lines().take(MAX_LINES).filter_map(|line| Filter::new(line).ok()).collect();
    let mut trie = FilterTrie::new();
    for (n, filter) in filters.iter().enumerate() {
        assert!(trie.insert(filter, n));
    }
    for topic in &topics {
        assert_eq!(Filter::new(topic.as_str()).map(|filter| filter.matches(topic)), Ok(true));
        assert!(topic.as_str().len() <= 1_024 && (1..=64).contains(&topic.segments().count()));
        assert!(topic.segments().all(|segment| !segment.is_empty() && !segment.contains(char::is_control)));
        let mut found = Vec::new();
        trie.matches(topic, |n| found.push(*n));
        found.sort_unstable();
        let expected: Vec<_> = (0..filters.len()).filter(|n| filters[*n].matches(topic)).collect();
        assert_eq!(found, expected, "{topic} {filters:?}");
    }
    for (n, filter) in filters.iter().enumerate() {
        assert!(trie.remove(filter, &n));
    }
    assert!(trie.is_empty());
});

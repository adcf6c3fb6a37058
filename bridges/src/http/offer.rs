//! Offers messages to the ingress stack and gives each exactly one outcome.
//!
//! Account and the store count what the stack decided; what never reached them, and what is given back to the peer,
//! is counted here.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use envelope::{
    Admission, Batch, Credentials, Disposition, Inbound, Lane, Principal, RejectKind, Rejection, Settled, Verdict,
    Verdicts,
};
use metrics::{Counter, counter, describe_counter, describe_gauge};
use tower::ServiceExt;

use super::{HttpConfig, draft::Draft};
use crate::SourceContext;

/// What every connection of the bridge shares.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) cx: SourceContext,
    pub(super) config: HttpConfig,
    lanes: AtomicU64,
    /// Requests refused because too many bytes were in flight.
    pub(super) full: Counter,
    /// Offers repeated after a Retry.
    pub(super) retries: Counter,
}

// === impl Offer ===

impl Offer {
    pub(super) fn new(cx: SourceContext, config: HttpConfig) -> Self {
        describe_counter!("openmesh_bridge_full_total", "requests refused because too many bytes were in flight");
        describe_counter!("openmesh_bridge_retries_total", "messages offered again after a refusal that may pass");
        describe_gauge!("openmesh_bridge_websockets", "open WebSockets");
        let full = counter!("openmesh_bridge_full_total", "bridge" => cx.bridge.to_string());
        let retries = counter!("openmesh_bridge_retries_total", "bridge" => cx.bridge.to_string());
        Self { cx, config, lanes: AtomicU64::new(0), full, retries }
    }

    /// A lane of its own: for a request, for a WebSocket.
    pub(super) fn lane(&self) -> Lane {
        Lane(self.lanes.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts decoded messages; once each.
    pub(super) fn received(&self, messages: u64) {
        self.cx.ledger.received(&self.cx.bridge, messages);
    }

    /// Counts a message that the peer has to keep.
    pub(super) fn returned(&self, kind: RejectKind) {
        self.cx.ledger.returned(&self.cx.bridge, kind);
    }

    /// Counts a refusal of a message that no layer of the stack has seen, and puts it on record.
    pub(super) fn outside(&self, rejection: &Rejection, principal: Option<&Arc<Principal>>, peer: Option<IpAddr>) {
        self.cx.audit.refused(rejection, principal, peer);
        match rejection.disposition() {
            Disposition::Final => self.cx.ledger.refused(&self.cx.bridge, None, rejection.kind),
            Disposition::Retry => self.returned(rejection.kind),
        }
    }

    /// One call of the stack: a verdict a message. A stack that has no verdict to give refuses the whole batch.
    pub(super) async fn call(&self, batch: Batch<Inbound>) -> Result<Verdicts<Admission>, Rejection> {
        let sent = batch.len();
        let verdicts = self.cx.ingress.clone().oneshot(batch).await?;
        if verdicts.len() == sent {
            return Ok(verdicts);
        }
        tracing::error!(bridge = %self.cx.bridge, sent, verdicts = verdicts.len(), "the stack lost count of a batch");
        Err(Rejection::new(RejectKind::Unavailable, "http", "the outcome is not known"))
    }
}

impl Offer {
    /// The admission once its ack point is reached, or is known not to be. Nothing of the stack is held meanwhile.
    pub(super) async fn reached(&self, mut admission: Admission) -> Admission {
        if let Admission::Stored(receipt) = &mut admission
            && let Settled::Later(ticket) = receipt.settled
        {
            receipt.reach(self.cx.promises.reached(ticket).await);
        }
        admission
    }
}

/// Offers one message once: whatever is not taken is given back to the peer with the answer.
pub(super) async fn once(
    offer: &Offer,
    peer: IpAddr,
    credentials: Credentials,
    draft: Draft,
) -> Result<Admission, Rejection> {
    let principal = match offer.cx.authenticator.verify(credentials, Some(peer)).await {
        Ok(principal) => principal,
        Err(rejection) => {
            offer.outside(&rejection, None, Some(peer));
            return Err(rejection);
        }
    };
    let sender = principal.clone();
    let inbound = draft.into_inbound(offer.cx.bridge.clone(), offer.lane(), principal, Some(peer));
    match offer.call(Batch::one(inbound)).await {
        Ok(mut verdicts) => match verdicts.pop() {
            Some(Verdict { answer: Ok(admission), .. }) => Ok(admission),
            Some(Verdict { answer: Err(rejection), .. }) => {
                if rejection.disposition() == Disposition::Retry {
                    offer.returned(rejection.kind);
                }
                Err(rejection)
            }
            None => Err(Rejection::new(RejectKind::Unavailable, "http", "the outcome is not known")),
        },
        Err(rejection) => {
            offer.outside(&rejection, Some(&sender), Some(peer));
            Err(rejection)
        }
    }
}

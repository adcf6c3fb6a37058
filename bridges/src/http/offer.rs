//! Offers messages to the ingress stack and gives each exactly one outcome.
//!
//! Account and the store count what the stack decided; what never reached them, and what is given back to the peer,
//! is counted here.

use std::{
    collections::HashSet,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use envelope::{
    Admission, Batch, Credentials, Disposition, Identity, Inbound, Lane, Parts, Principal, Reached, RejectKind,
    Rejection, Settled, Verdict, Verdicts,
};
use metrics::{Counter, counter, describe_counter, describe_gauge};
use tokio::sync::Semaphore;

use super::{HttpConfig, draft::Draft, kept::Kept, shown::Shown};
use crate::SourceContext;

/// What every connection of the bridge shares.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) cx: SourceContext,
    pub(super) config: HttpConfig,
    lanes: AtomicU64,
    /// Requests with an idempotency key that are not answered yet.
    running: Mutex<HashSet<Key>>,
    /// What such requests were answered.
    kept: Kept,
    /// Bodies that are encoded or decoded at once: no more than there are processors to do it.
    pub(super) coders: Semaphore,
    /// What subscribers get.
    pub(super) shown: Shown,
    /// Requests refused because too many bytes were in flight.
    pub(super) full: Counter,
    /// Offers repeated after a Retry.
    pub(super) retries: Counter,
}

/// What there is to tell of a message once its ack point is reached.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) admission: Admission,
    /// What its receipt tells is an envelope that answers.
    pub(super) is_answer: bool,
    /// What follows of that answer.
    pub(super) parts: Option<Parts>,
}

// === impl Offer ===

impl Offer {
    pub(super) fn new(cx: SourceContext, config: HttpConfig) -> Self {
        describe_counter!("openmesh_bridge_full_total", "requests refused because too many bytes were in flight");
        describe_counter!("openmesh_bridge_retries_total", "messages offered again after a refusal that may pass");
        describe_gauge!("openmesh_bridge_websockets", "open WebSockets");
        let full = counter!("openmesh_bridge_full_total", "bridge" => cx.bridge.to_string());
        let retries = counter!("openmesh_bridge_retries_total", "bridge" => cx.bridge.to_string());
        let coders = Semaphore::new(std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
        let (lanes, running, shown) = (AtomicU64::new(0), Mutex::default(), Shown::new());
        let kept = Kept::new(&cx.bridge, cx.keys.clone(), cx.remembers);
        Self { cx, config, lanes, running, kept, coders, shown, full, retries }
    }

    /// A lane of its own: for a request, for a WebSocket.
    pub(super) fn lane(&self) -> Lane {
        Lane(self.lanes.fetch_add(1, Ordering::Relaxed))
    }
}

impl Offer {
    /// The admission once its ack point is reached, or is known not to be. Nothing of the stack is held meanwhile.
    ///
    /// A message that is `keyed` hears what it was answered before; what it is answered now is kept before anybody hears it.
    pub(super) async fn reached(&self, mut admission: Admission, keyed: bool) -> Heard {
        let (mut is_answer, mut parts) = (false, None);
        if let Admission::Stored(receipt) = &mut admission
            && let Settled::Later(ticket) = receipt.settled
        {
            let before = if keyed && receipt.duplicate { self.kept.find(receipt.id).await } else { None };
            let reached = match before {
                Some(before) => before,
                None => {
                    let reached = self.cx.promises.reached(ticket).await;
                    if keyed {
                        self.kept.keep(receipt.id, &reached).await;
                    }
                    reached
                }
            };
            is_answer = matches!(reached, Reached::Answered(Some(_)) | Reached::Parts(Some(_), _));
            parts = receipt.reach(reached);
        }
        Heard { admission, is_answer, parts }
    }

    /// [`Self::reached`] of each. Their deadlines run at the same time, so all of them take no longer than one.
    pub(super) async fn all_reached(&self, verdicts: Verdicts<Admission>) -> Verdicts<Admission> {
        let mut all = Vec::with_capacity(verdicts.len());
        for Verdict { route, answer } in verdicts {
            let answer = match answer {
                // in a list of verdicts there is no place for what follows
                Ok(admission) => Ok(self.reached(admission, false).await.admission),
                Err(rejection) => Err(rejection),
            };
            all.push(Verdict { route, answer });
        }
        all
    }
}

/// Offers one message once: whatever is not taken is given back to the peer with the answer.
pub(super) async fn once(
    offer: &Offer,
    peer: IpAddr,
    credentials: Credentials,
    draft: Draft,
) -> Result<Admission, Rejection> {
    let principal = known(offer, peer, credentials, 1).await?;
    let _running = match &draft.identity {
        Identity::Keyed { name, .. } => match Running::begin(offer, &principal, name) {
            Some(running) => Some(running),
            None => {
                let detail = "the first request with this idempotency key is not answered yet";
                let rejection = Rejection::new(RejectKind::Conflict, "idempotency_key", detail);
                offer.cx.outside(&rejection, Some(&principal), Some(peer));
                return Err(rejection);
            }
        },
        Identity::Native(_) | Identity::Fresh(_) => None,
    };
    let inbound = draft.into_inbound(offer.cx.bridge.clone(), offer.lane(), principal.clone(), Some(peer));
    let verdicts = offered(offer, peer, &principal, Batch::one(inbound)).await?;
    let verdict = verdicts.into_iter().next();
    verdict.map_or_else(
        || Err(Rejection::new(RejectKind::Unavailable, "http", "the outcome is not known")),
        |verdict| verdict.answer,
    )
}

/// Offers messages once, in order: a verdict each.
pub(super) async fn all(
    offer: &Offer,
    peer: IpAddr,
    credentials: Credentials,
    drafts: Vec<Draft>,
) -> Result<Verdicts<Admission>, Rejection> {
    let principal = known(offer, peer, credentials, drafts.len()).await?;
    let (lane, bridge) = (offer.lane(), &offer.cx.bridge);
    let inbound = |draft: Draft| draft.into_inbound(bridge.clone(), lane, principal.clone(), Some(peer));
    match Batch::new(drafts.into_iter().map(inbound).collect()) {
        Some(batch) => offered(offer, peer, &principal, batch).await,
        None => Ok(Vec::new()),
    }
}

/// Who sends `messages`.
async fn known(
    offer: &Offer,
    peer: IpAddr,
    credentials: Credentials,
    messages: usize,
) -> Result<Arc<Principal>, Rejection> {
    let verified = offer.cx.authenticator.verify(credentials, Some(peer)).await;
    verified.inspect_err(|rejection| (0..messages).for_each(|_| offer.cx.outside(rejection, None, Some(peer))))
}

async fn offered(
    offer: &Offer,
    peer: IpAddr,
    principal: &Arc<Principal>,
    batch: Batch<Inbound>,
) -> Result<Verdicts<Admission>, Rejection> {
    let sent = batch.len();
    let called = offer.cx.call(batch).await;
    let verdicts = called
        .inspect_err(|rejection| (0..sent).for_each(|_| offer.cx.outside(rejection, Some(principal), Some(peer))))?;
    let refused = verdicts.iter().filter_map(|verdict| verdict.answer.as_ref().err());
    refused
        .filter(|rejection| rejection.disposition() == Disposition::Retry)
        .for_each(|rejection| offer.cx.returned(rejection.kind));
    Ok(verdicts)
}

/// A request with an idempotency key that is under way. Ends when it is dropped.
#[derive(Debug)]
struct Running<'o> {
    offer: &'o Offer,
    key: Key,
}

/// Who, and what they call it.
type Key = (Arc<str>, Bytes);

// === impl Running ===

impl<'o> Running<'o> {
    /// `None` if one with this key is under way. No more of them are than there are requests.
    fn begin(offer: &'o Offer, principal: &Principal, name: &Bytes) -> Option<Self> {
        let key = (principal.id.clone(), name.clone());
        let mut running = offer.running.lock().unwrap_or_else(PoisonError::into_inner);
        // made only if it is the first: its end takes the lock
        running.insert(key.clone()).then(|| Self { offer, key })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.offer.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

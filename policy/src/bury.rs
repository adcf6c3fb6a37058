//! Keeps what a mapping made nothing of, where its file says `unproven: dead-letter`, and what its sender may not send, where
//! it says `keep_denied: true`.
//!
//! Sits around MAPPING: only there a refusal has its route, and the message is still as it came. What
//! residency denied is never kept. What MAPPING refused has not met Access and Residency, so they are asked here; where they
//! would have denied it, or it can't be told, only the size and the hash of its payload are kept. The refusal is said once
//! the letter is on disk; it stays the same whether a quota lets the letter be kept or not.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use envelope::{
    Admission, DeadLetters, DeadMessage, Disposition, Identity, Inbound, RejectKind, Rejection, Route, Timestamp,
    Verdict, Verdicts,
};
use futures_util::future::{BoxFuture, join_all};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Epoch, Pass, conformance, residency};

/// Keeps dead letters; none where there is nobody to keep them.
#[derive(Clone)]
pub(crate) struct BuryLayer(pub(crate) Option<Arc<dyn DeadLetters>>);

/// What [`BuryLayer`] makes.
#[derive(Clone)]
pub(crate) struct Burying<S> {
    inner: S,
    letters: Option<Arc<dyn DeadLetters>>,
}

pin_project! {
    /// Keeps the letters when the verdicts are there, then gives them.
    pub(crate) struct Buried<F> {
        #[pin]
        inner: F,
        // Only where a mapping of the epoch keeps dead letters.
        kept: Option<Kept>,
        waits: Option<BoxFuture<'static, Verdicts<Admission>>>,
    }
}

/// A batch as it came.
struct Kept {
    letters: Arc<dyn DeadLetters>,
    epoch: Arc<Epoch>,
    messages: Vec<Inbound>,
}

// === impl BuryLayer ===

impl<S> Layer<S> for BuryLayer {
    type Service = Burying<S>;

    fn layer(&self, inner: S) -> Burying<S> {
        Burying { inner, letters: self.0.clone() }
    }
}

// === impl Burying ===

impl<S> fmt::Debug for Burying<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Burying").field("keeps", &self.letters.is_some()).finish_non_exhaustive()
    }
}

impl<S> Service<Pass<Inbound>> for Burying<S>
where
    S: Service<Pass<Inbound>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Buried<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Inbound>) -> Self::Future {
        let letters = self.letters.as_ref().filter(|_| pass.epoch.mapper.buries());
        let kept = letters.map(|letters| Kept {
            letters: letters.clone(),
            epoch: pass.epoch.clone(),
            // nothing is copied: the parts are shared
            messages: pass.batch.as_slice().to_vec(),
        });
        Buried { inner: self.inner.call(pass), kept, waits: None }
    }
}

// === impl Buried ===

impl<F> Future for Buried<F>
where
    F: Future<Output = Result<Verdicts<Admission>, Rejection>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(waits) = this.waits {
            return waits.as_mut().poll(cx).map(Ok);
        }
        let verdicts = ready!(this.inner.poll(cx))?;
        match this.kept.take() {
            Some(kept) if verdicts.iter().any(|verdict| kept.is_to_bury(verdict)) => {
                this.waits.insert(Box::pin(kept.bury(verdicts))).as_mut().poll(cx).map(Ok)
            }
            Some(_) | None => Poll::Ready(Ok(verdicts)),
        }
    }
}

// === impl Kept ===

impl Kept {
    fn is_to_bury(&self, verdict: &Verdict<Admission>) -> bool {
        let (Some(route), Err(rejection)) = (&verdict.route, &verdict.answer) else { return false };
        let Some(terms) = self.epoch.mapper.terms(route) else { return false };
        let is_kept = match rejection.kind {
            RejectKind::Malformed => terms.dead_letter_unproven,
            RejectKind::Denied => terms.keep_denied && rejection.decided_by != residency::DECIDED_BY,
            _ => false,
        };
        is_kept && rejection.disposition() == Disposition::Final
    }

    /// Whether its sender may send this here, as far as it can be told without its payload.
    fn may_be_kept(&self, message: &Inbound, route: &Route, rejection: &Rejection) -> bool {
        // it comes after Access and Residency
        if rejection.decided_by == conformance::DECIDED_BY {
            return true;
        }
        let Inbound { bridge, principal, .. } = message;
        let Some(mut head) = self.epoch.mapper.head(route, message) else { return false };
        let reply = self.epoch.mapper.terms(route).and_then(|terms| terms.reply.as_ref());
        if reply.is_some_and(|reply| reply.within().is_some()) {
            head.conversation.get_or_insert_default().replyto = Some("".into());
        }
        if residency::may_be_kept(&self.epoch, principal, &mut head, bridge).is_err() {
            return false;
        }
        // that it may not be sent is known, and it is to be kept all the same
        rejection.kind == RejectKind::Denied || self.epoch.policies.may_send_any(principal, &head, bridge)
    }

    async fn bury(self, verdicts: Verdicts<Admission>) -> Verdicts<Admission> {
        let mut buried = Vec::new();
        for (verdict, message) in verdicts.iter().zip(&self.messages) {
            if let (true, Some(route), Err(rejection)) = (self.is_to_bury(verdict), &verdict.route, &verdict.answer) {
                let may_be_kept = self.may_be_kept(message, route, rejection);
                buried.push(self.letters.bury(as_it_came(message, may_be_kept), route, rejection));
            }
        }
        for answer in join_all(buried).await {
            if let Err(error) = answer {
                tracing::error!(%error, "a dead letter could not be kept");
            }
        }
        verdicts
    }
}

fn as_it_came(inbound: &Inbound, may_be_kept: bool) -> DeadMessage {
    DeadMessage {
        at: Timestamp::from(inbound.received_at),
        bridge: inbound.bridge.clone(),
        address: inbound.address.clone(),
        principal: inbound.principal.id.clone(),
        identity: match &inbound.identity {
            Identity::Native(native) | Identity::Keyed { name: native, .. } => Some(native.clone()),
            Identity::Fresh(_) => None,
        },
        payload: inbound.payload.clone(),
        may_be_kept,
    }
}

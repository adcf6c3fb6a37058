//! Puts every refusal on record: one structured event a refused message, bounded under a flood.
//!
//! An event never carries payload, and not the rejection's detail either, which may quote it: it says who decided and
//! where. The cause of a Retry is this gateway's own trouble, so it is told.

mod flood;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use envelope::{Disposition, Rejection, Verdict, Verdicts};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use self::flood::{Flood, LeftOut};
use crate::{Pass, lift::each};

/// Records the refusals of one bridge.
#[derive(Debug, Clone)]
pub(crate) struct AuditLayer(Arc<Record>);

#[derive(Debug)]
struct Record {
    bridge: Arc<str>,
    flood: Mutex<Flood>,
    /// Something was left out and not told yet: then batches without a refusal look at the clock too.
    pending: AtomicBool,
}

/// What [`AuditLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Audit<S> {
    inner: S,
    record: Arc<Record>,
}

pin_project! {
    /// Records when the verdicts are there.
    #[derive(Debug)]
    pub(crate) struct Recorded<F> {
        #[pin]
        inner: F,
        sent: usize,
        record: Arc<Record>,
    }
}

// === impl AuditLayer ===

impl AuditLayer {
    /// Records for `bridge`.
    pub(crate) fn new(bridge: Arc<str>) -> Self {
        Self(Arc::new(Record { bridge, flood: Mutex::default(), pending: AtomicBool::new(false) }))
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit { inner, record: self.0.clone() }
    }
}

// === impl Record ===

impl Record {
    fn verdicts<T>(&self, verdicts: &Verdicts<T>) {
        let mut refused =
            verdicts.iter().filter_map(|v| v.answer.as_ref().err().map(|rejection| (v, rejection))).peekable();
        if refused.peek().is_none() && !self.pending.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        flood.elapsed(now).for_each(|left_out| self.left_out(left_out));
        for (verdict, rejection) in refused {
            if flood.admit(rejection.kind, now) {
                self.refusal(verdict, rejection);
            }
        }
        self.pending.store(flood.is_pending(), Ordering::Relaxed);
    }

    fn refusal<T>(&self, verdict: &Verdict<T>, rejection: &Rejection) {
        let retry = rejection.disposition() == Disposition::Retry;
        tracing::info!(
            target: "openmesh::audit",
            bridge = &*self.bridge,
            route = verdict.route.as_ref().map(|route| route.name()),
            kind = rejection.kind.as_str(),
            decided_by = rejection.decided_by,
            pointer = rejection.pointer.as_deref().map(tracing::field::debug),
            cause = rejection.cause.as_deref().filter(|_| retry).map(tracing::field::display),
            "message refused"
        );
    }

    fn left_out(&self, LeftOut { kind, messages }: LeftOut) {
        tracing::warn!(
            target: "openmesh::audit",
            bridge = &*self.bridge,
            kind = kind.as_str(),
            messages,
            "refusals left out of the audit"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut flood = std::mem::take(self.flood.get_mut().unwrap_or_else(PoisonError::into_inner));
        flood.drain().for_each(|left_out| self.left_out(left_out));
    }
}

// === impl Audit ===

impl<S, M, T> Service<Pass<M>> for Audit<S>
where
    S: Service<Pass<M>, Response = Verdicts<T>, Error = Rejection>,
{
    type Response = Verdicts<T>;
    type Error = Rejection;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<M>) -> Self::Future {
        let sent = pass.batch.len();
        Recorded { inner: self.inner.call(pass), sent, record: self.record.clone() }
    }
}

// === impl Recorded ===

impl<F, T> Future for Recorded<F>
where
    F: Future<Output = Result<Verdicts<T>, Rejection>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let verdicts = each(ready!(this.inner.poll(cx)), *this.sent);
        this.record.verdicts(&verdicts);
        Poll::Ready(Ok(verdicts))
    }
}

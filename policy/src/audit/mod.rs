//! Puts every refusal on record: one structured event a refused message, bounded under a flood.
//!
//! An event never carries payload, and not the rejection's detail either, which may quote it: it says who decided and
//! where. The cause of a Retry is this gateway's own trouble, so it is told.

mod flood;
mod record;

use std::{
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use envelope::{Disposition, Inbound, Outgoing, Principal, Rejection, Route, Verdicts};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use self::flood::{Flood, LeftOut};
pub use self::record::{AuditEvent, AuditRecord, AuditSink};
use crate::{Pass, lift::each};

/// The stage of what a bridge refuses by itself.
const BRIDGE: &str = "bridge";

/// What a bridge is refused, and what is refused to its peers: the log has it, and the sink. One a stage of a bridge.
pub struct Trail {
    bridge: Arc<str>,
    stage: &'static str,
    sink: Option<Arc<dyn AuditSink>>,
    flood: Mutex<Flood>,
    /// Something was left out and not told yet: then batches without a refusal look at the clock too.
    pending: AtomicBool,
}

/// Records the refusals of one stack.
#[derive(Debug, Clone)]
pub(crate) struct AuditLayer(Arc<Trail>);

/// Whom a message is of, for the record.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    principal: Option<Arc<Principal>>,
    peer: Option<IpAddr>,
}

/// Is somebody's, and may be put on record.
pub(crate) trait OnRecord {
    /// `None`: a refusal of it is logged only. A refused record of the trail would make another one, without an end.
    fn whose(&self) -> Option<Whose>;
}

/// Of each message of a batch; most often all are of one.
#[derive(Debug)]
enum Owners {
    All(Option<Whose>),
    Each(Vec<Option<Whose>>),
}

/// What [`AuditLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Audit<S> {
    inner: S,
    trail: Arc<Trail>,
}

pin_project! {
    /// Records when the verdicts are there.
    #[derive(Debug)]
    pub(crate) struct Recorded<F> {
        #[pin]
        inner: F,
        sent: usize,
        owners: Owners,
        trail: Arc<Trail>,
    }
}

// === impl AuditLayer ===

impl AuditLayer {
    /// Records on `trail`.
    pub(crate) fn new(trail: Arc<Trail>) -> Self {
        Self(trail)
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit { inner, trail: self.0.clone() }
    }
}

// === impl Whose ===

impl Whose {
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.principal, &other.principal) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same && self.peer == other.peer
    }
}

impl OnRecord for Inbound {
    fn whose(&self) -> Option<Whose> {
        Some(Whose { principal: Some(self.principal.clone()), peer: self.peer })
    }
}

impl OnRecord for Outgoing {
    fn whose(&self) -> Option<Whose> {
        let is_record = self.delivery.envelope.subject.is_reserved();
        (!is_record).then(|| Whose { principal: Some(self.to.clone()), peer: None })
    }
}

// === impl Owners ===

impl Owners {
    fn of<M: OnRecord>(messages: &[M]) -> Self {
        let first = messages.first().and_then(OnRecord::whose);
        let same = |other: &M| match (&first, other.whose()) {
            (Some(a), Some(b)) => a.is(&b),
            (None, None) => true,
            _ => false,
        };
        if messages.iter().skip(1).all(same) {
            return Self::All(first);
        }
        Self::Each(messages.iter().map(OnRecord::whose).collect())
    }

    fn get(&self, at: usize) -> Option<&Whose> {
        match self {
            Self::All(whose) => whose.as_ref(),
            Self::Each(all) => all.get(at).and_then(Option::as_ref),
        }
    }
}

// === impl Trail ===

impl Trail {
    /// Of the ingress of `bridge`, and of what the bridge refuses by itself.
    pub fn ingress(bridge: Arc<str>, sink: Option<Arc<dyn AuditSink>>) -> Self {
        Self::new(bridge, "ingress", sink)
    }

    /// Of the egress of `bridge`.
    pub fn egress(bridge: Arc<str>, sink: Option<Arc<dyn AuditSink>>) -> Self {
        Self::new(bridge, "egress", sink)
    }

    fn new(bridge: Arc<str>, stage: &'static str, sink: Option<Arc<dyn AuditSink>>) -> Self {
        Self { bridge, stage, sink, flood: Mutex::default(), pending: AtomicBool::new(false) }
    }

    /// The bridge that it is of.
    pub fn bridge(&self) -> &Arc<str> {
        &self.bridge
    }

    fn verdicts<T>(&self, verdicts: &Verdicts<T>, owners: &Owners) {
        let refused = verdicts.iter().enumerate().filter_map(|(at, verdict)| {
            verdict.answer.as_ref().err().map(|rejection| (at, verdict.route.as_ref(), rejection))
        });
        let mut refused = refused.peekable();
        if refused.peek().is_none() && !self.pending.load(Ordering::Relaxed) {
            return;
        }
        let now = Instant::now();
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        flood.elapsed(now).for_each(|left_out| self.left_out(left_out));
        for (at, route, rejection) in refused {
            if flood.admit(rejection.kind, now) {
                self.refusal(self.stage, route, rejection, owners.get(at));
            }
        }
        self.pending.store(flood.is_pending(), Ordering::Relaxed);
    }

    fn refusal(&self, stage: &'static str, route: Option<&Route>, rejection: &Rejection, whose: Option<&Whose>) {
        let retry = rejection.disposition() == Disposition::Retry;
        tracing::info!(
            target: "openmesh::audit",
            bridge = &*self.bridge,
            route = route.map(Route::name),
            kind = rejection.kind.as_str(),
            decided_by = rejection.decider(),
            pointer = rejection.pointer.as_deref().map(tracing::field::debug),
            cause = rejection.cause.as_deref().filter(|_| retry).map(tracing::field::display),
            "message refused"
        );
        let (Some(sink), Some(whose)) = (&self.sink, whose) else { return };
        sink.write(AuditRecord::now(AuditEvent::Refused {
            bridge: self.bridge.clone(),
            stage,
            route: route.map(|route| route.name().to_owned()),
            kind: rejection.kind,
            decided_by: rejection.decider().to_owned(),
            pointer: rejection.pointer.as_deref().map(str::to_owned),
            principal: whose.principal.clone(),
            peer: whose.peer,
        }));
    }

    fn left_out(&self, LeftOut { kind, messages }: LeftOut) {
        tracing::warn!(
            target: "openmesh::audit",
            bridge = &*self.bridge,
            kind = kind.as_str(),
            messages,
            "refusals left out of the audit"
        );
        if let Some(sink) = &self.sink {
            let (bridge, stage) = (self.bridge.clone(), self.stage);
            sink.write(AuditRecord::now(AuditEvent::LeftOut { bridge, stage, kind, messages }));
        }
    }
}

impl Trail {
    /// Puts a refusal on record that is not of a message: of a subscription, or of a last value.
    pub fn refused_to(&self, principal: &Arc<Principal>, rejection: &Rejection) {
        self.record(self.stage, rejection, Whose { principal: Some(principal.clone()), peer: None });
    }

    fn record(&self, stage: &'static str, rejection: &Rejection, whose: Whose) {
        let now = Instant::now();
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        flood.elapsed(now).for_each(|left_out| self.left_out(left_out));
        if flood.admit(rejection.kind, now) {
            self.refusal(stage, None, rejection, Some(&whose));
        }
        self.pending.store(flood.is_pending(), Ordering::Relaxed);
    }
}

impl envelope::Audit for Trail {
    fn refused(&self, rejection: &Rejection, principal: Option<&Arc<Principal>>, peer: Option<IpAddr>) {
        self.record(BRIDGE, rejection, Whose { principal: principal.cloned(), peer });
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail").field("bridge", &self.bridge).field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let mut flood = std::mem::take(self.flood.get_mut().unwrap_or_else(PoisonError::into_inner));
        flood.drain().for_each(|left_out| self.left_out(left_out));
    }
}

// === impl Audit ===

impl<S, M, T> Service<Pass<M>> for Audit<S>
where
    S: Service<Pass<M>, Response = Verdicts<T>, Error = Rejection>,
    M: OnRecord,
{
    type Response = Verdicts<T>;
    type Error = Rejection;
    type Future = Recorded<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<M>) -> Self::Future {
        let (sent, owners) = (pass.batch.len(), Owners::of(pass.batch.as_slice()));
        Recorded { inner: self.inner.call(pass), sent, owners, trail: self.trail.clone() }
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
        this.trail.verdicts(&verdicts, this.owners);
        Poll::Ready(Ok(verdicts))
    }
}

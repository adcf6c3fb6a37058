//! Outermost: takes the epoch, counts what the store never sees, and lets no error for a whole batch out.
//!
//! `accepted` and `duplicate` are counted by the store, in the batch that stores them; a message under Retry is still in
//! flight, and the source counts it if it gives it back.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use envelope::{Admission, Batch, Disposition, Inbound, Ledger, Rejection, Verdicts};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Current, Pass, lift::each};

/// Counts the verdicts of one bridge.
#[derive(Clone)]
pub(crate) struct AccountLayer(Arc<Shared>);

struct Shared {
    bridge: Arc<str>,
    current: Current,
    ledger: Arc<dyn Ledger>,
}

/// What [`AccountLayer`] makes.
#[derive(Debug)]
pub(crate) struct Account<S> {
    /// Never made ready, so it holds nothing; each batch has a clone of its own. Shared, because every request has a
    /// clone of the whole stack.
    template: Arc<S>,
    /// The clone for the next batch.
    inner: Option<S>,
    with: AccountLayer,
    /// Why the inner service can't be called, if it can't: said to each message of the next batch.
    broken: Option<Rejection>,
}

pin_project! {
    /// Counts when the verdicts are there.
    #[derive(Debug)]
    pub(crate) struct Counted<F> {
        #[pin]
        inner: Option<F>,
        broken: Option<Rejection>,
        sent: usize,
        with: AccountLayer,
    }
}

// === impl AccountLayer ===

impl AccountLayer {
    /// Counts for `bridge` in `ledger`, and decides by what is in `current` when a batch comes.
    pub(crate) fn new(bridge: Arc<str>, current: Current, ledger: Arc<dyn Ledger>) -> Self {
        Self(Arc::new(Shared { bridge, current, ledger }))
    }

    fn count(&self, verdicts: &Verdicts<Admission>) {
        let Shared { bridge, ledger, .. } = &*self.0;
        for verdict in verdicts {
            match (&verdict.answer, &verdict.route) {
                (Err(rejection), route) if rejection.disposition() == Disposition::Final => {
                    ledger.refused(bridge, route.as_ref(), rejection);
                }
                (Ok(Admission::Filtered), Some(route)) => ledger.filtered(bridge, route),
                (Ok(Admission::Filtered), None) => {
                    tracing::error!(%bridge, "a message was filtered without a route and is in no count");
                }
                (Ok(Admission::Stored(_)) | Err(_), _) => {}
            }
        }
    }
}

impl fmt::Debug for AccountLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountLayer").field("bridge", &self.0.bridge).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AccountLayer {
    type Service = Account<S>;

    fn layer(&self, inner: S) -> Account<S> {
        Account { template: Arc::new(inner), inner: None, with: self.clone(), broken: None }
    }
}

// === impl Account ===

impl<S> Clone for Account<S> {
    fn clone(&self) -> Self {
        Self { template: self.template.clone(), inner: None, with: self.with.clone(), broken: None }
    }
}

impl<S> Service<Batch<Inbound>> for Account<S>
where
    S: Service<Pass<Inbound>, Response = Verdicts<Admission>, Error = Rejection> + Clone,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        let inner = self.inner.get_or_insert_with(|| (*self.template).clone());
        self.broken = ready!(inner.poll_ready(cx)).err();
        Poll::Ready(Ok(()))
    }

    /// A service that was ready may hold a permit, or queue for one if it sheds, and keeps it where a layer answers by
    /// itself. So it is used up here.
    fn call(&mut self, batch: Batch<Inbound>) -> Self::Future {
        let sent = batch.len();
        let (inner, broken) = match (self.broken.take(), self.inner.take()) {
            (None, Some(mut ready)) => (Some(ready.call(Pass { epoch: self.with.0.current.load_full(), batch })), None),
            (broken, _) => (None, broken),
        };
        Counted { inner, broken, sent, with: self.with.clone() }
    }
}

// === impl Counted ===

impl<F: Future<Output = Result<Verdicts<Admission>, Rejection>>> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match (this.inner.as_pin_mut(), this.broken.take()) {
            (Some(inner), _) => ready!(inner.poll(cx)),
            (None, Some(broken)) => Err(broken),
            (None, None) => Ok(Vec::new()),
        };
        let verdicts = each(answer, *this.sent);
        this.with.count(&verdicts);
        Poll::Ready(Ok(verdicts))
    }
}

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
#[derive(Debug, Clone)]
pub(crate) struct Account<S> {
    inner: S,
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
                    ledger.refused(bridge, route.as_ref(), rejection.kind);
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
        Account { inner, with: self.clone(), broken: None }
    }
}

// === impl Account ===

impl<S> Service<Batch<Inbound>> for Account<S>
where
    S: Service<Pass<Inbound>, Response = Verdicts<Admission>, Error = Rejection> + Clone,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Counted<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.broken = ready!(self.inner.poll_ready(cx)).err();
        Poll::Ready(Ok(()))
    }

    /// A service that was ready may hold a permit, or queue for one if it sheds, and keeps it where a layer answers by
    /// itself. So it is used up here: what stays behind for the next batch is a fresh clone, which holds nothing.
    fn call(&mut self, batch: Batch<Inbound>) -> Self::Future {
        let fresh = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, fresh);
        let broken = self.broken.take();
        let sent = batch.len();
        let inner = match broken {
            Some(_) => None,
            None => Some(ready.call(Pass { epoch: self.with.0.current.load_full(), batch })),
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

//! Puts the mapping's own words beside a verdict: what `reply` says of an admission or a refusal.
//!
//! Sits around MAPPING, because only a verdict with a route has a mapping to ask. A verdict stays what it is: a reply that
//! can't be made is logged and counted, and the bridge answers in its own words.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use envelope::{Admission, Inbound, Rejection, Reply, Route, Timestamp, Verdict, Verdicts};
use metrics::{counter, describe_counter};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Epoch, Pass};

/// Makes replies by the epoch of the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplyLayer;

/// What [`ReplyLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Replying<S>(S);

pin_project! {
    /// Adds replies when the verdicts are there.
    #[derive(Debug)]
    pub(crate) struct Replied<F> {
        #[pin]
        inner: F,
        // Only where a mapping of it has a `reply`.
        epoch: Option<Arc<Epoch>>,
    }
}

const FAILED: &str = "openmesh_replies_failed_total";

// === impl ReplyLayer ===

impl<S> Layer<S> for ReplyLayer {
    type Service = Replying<S>;

    fn layer(&self, inner: S) -> Replying<S> {
        describe_counter!(FAILED, "replies of mapping files that could not be made");
        Replying(inner)
    }
}

// === impl Replying ===

impl<S> Service<Pass<Inbound>> for Replying<S>
where
    S: Service<Pass<Inbound>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Replied<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Inbound>) -> Self::Future {
        let epoch = pass.epoch.mapper.replies().then(|| pass.epoch.clone());
        Replied { inner: self.0.call(pass), epoch }
    }
}

// === impl Replied ===

impl<F> Future for Replied<F>
where
    F: Future<Output = Result<Verdicts<Admission>, Rejection>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.inner.poll(cx));
        if let (Some(epoch), Ok(verdicts)) = (this.epoch.take(), &mut answer) {
            let now = Timestamp::now();
            verdicts.iter_mut().for_each(|verdict| speak(&epoch, verdict, now));
        }
        Poll::Ready(answer)
    }
}

fn speak(epoch: &Epoch, verdict: &mut Verdict<Admission>, now: Timestamp) {
    let Some(route) = &verdict.route else { return };
    let Some(replies) = epoch.mapper.terms(route).and_then(|terms| terms.reply.as_deref()) else { return };
    match &mut verdict.answer {
        Ok(Admission::Stored(receipt)) => receipt.reply = made(replies.accepted(receipt, now), route),
        Ok(Admission::Filtered) => {}
        Err(rejection) => rejection.reply = made(replies.refused(rejection, now), route),
    }
}

fn made(reply: Result<Option<Reply>, Rejection>, route: &Route) -> Option<Box<Reply>> {
    match reply {
        Ok(reply) => reply.map(Box::new),
        Err(error) => {
            tracing::warn!(route = route.name(), %error, "the mapping's reply can't be made");
            counter!(FAILED, "route" => route.name().to_owned()).increment(1);
            None
        }
    }
}

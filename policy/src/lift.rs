//! Lifts a decision on one message to a service over batches.
//!
//! This file alone knows how verdicts find their places and how lanes stop: after a Retry every later message of the
//! lane waits behind it, whoever decided on it. A layer only decides.

use std::{
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
};

use envelope::{Batch, Disposition, InLane, Lane, RejectKind, Rejection, Route, Verdict, Verdicts};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{Epoch, Pass};

/// A decision on one message: it passes or is refused.
pub(crate) trait Rule<M> {
    /// Refuses what may not pass.
    fn check(&self, epoch: &Epoch, message: &M) -> Result<(), Rejection>;
}

/// A decision that may also answer yes by itself: a [`Rule`] that knows the answers of its stack.
pub(crate) trait Step<M, T> {
    /// `Continue`: it passes. `Break`: this is its answer.
    fn decide(&self, epoch: &Epoch, message: &M) -> ControlFlow<Result<T, Rejection>>;
}

/// Makes a layer of a [`Rule`] or a [`Step`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleLayer<R>(pub(crate) R);

/// What [`RuleLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Checked<S, R> {
    inner: S,
    rule: R,
}

/// Lanes in which a message waits for its retry.
#[derive(Debug, Default)]
pub(crate) struct Stopped(Vec<Lane>);

/// A message that was answered here and not sent on.
#[derive(Debug)]
pub(crate) struct Answered<T> {
    /// Its place in the batch.
    pub(crate) index: usize,
    /// Its lane.
    pub(crate) lane: Lane,
    /// What is said of it.
    pub(crate) verdict: Verdict<T>,
}

/// The routes of the messages that are sent on, in order.
#[derive(Debug)]
pub(crate) enum Routes {
    /// This layer does not know them.
    Unknown,
    /// Of the only message.
    One(Route),
    Many(Vec<Route>),
}

pin_project! {
    /// Puts what was answered here back between the verdicts from below, in one pass.
    #[derive(Debug)]
    pub(crate) struct Rejoin<F, T> {
        #[pin]
        inner: Option<F>,
        sent: usize,
        // Of the one message sent, where this layer knows it; of several it is below.
        route: Option<Route>,
        // Most often there is nothing to put back. A stack is a future within a future for each of its layers, and all of it
        // moves with each call.
        rest: Option<Box<Rest<T>>>,
    }
}

/// What is put back between the verdicts from below.
#[derive(Debug)]
struct Rest<T> {
    /// Of the messages sent; empty if this layer does not know them.
    routes: Vec<Route>,
    /// Of the messages sent; empty if none was answered here.
    lanes: Vec<Lane>,
    answered: Vec<Answered<T>>,
}

// === impl Step ===

impl<M, T, R: Rule<M>> Step<M, T> for R {
    fn decide(&self, epoch: &Epoch, message: &M) -> ControlFlow<Result<T, Rejection>> {
        match self.check(epoch, message) {
            Ok(()) => ControlFlow::Continue(()),
            Err(rejection) => ControlFlow::Break(Err(rejection)),
        }
    }
}

// === impl RuleLayer ===

impl<S, R: Clone> Layer<S> for RuleLayer<R> {
    type Service = Checked<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Checked { inner, rule: self.0.clone() }
    }
}

// === impl Checked ===

impl<S, R, M, T> Service<Pass<M>> for Checked<S, R>
where
    S: Service<Pass<M>, Response = Verdicts<T>, Error = Rejection>,
    R: Step<M, T>,
    M: InLane,
{
    type Response = Verdicts<T>;
    type Error = Rejection;
    type Future = Rejoin<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<M>) -> Self::Future {
        let Pass { epoch, batch } = pass;
        let mut messages = batch.into_vec();
        let mut stopped = Stopped::default();
        let mut answered = Vec::new();
        let mut place = 0..;
        messages.retain(|message| {
            let index = place.next().unwrap_or(usize::MAX);
            let lane = message.lane();
            let answer = match stopped.guard(lane) {
                Ok(()) => match self.rule.decide(&epoch, message) {
                    ControlFlow::Continue(()) => return true,
                    ControlFlow::Break(answer) => answer,
                },
                Err(behind) => Err(behind),
            };
            stopped.note(lane, &answer);
            answered.push(Answered { index, lane, verdict: Verdict { route: None, answer } });
            false
        });
        Rejoin::send(messages, Routes::Unknown, answered, |batch| self.inner.call(Pass { epoch, batch }))
    }
}

// === impl Stopped ===

impl Stopped {
    /// Refuses a message of a lane that waits.
    pub(crate) fn guard(&self, lane: Lane) -> Result<(), Rejection> {
        if self.0.contains(&lane) {
            return Err(Rejection::new(RejectKind::Behind, "lane", "an earlier message is retried first"));
        }
        Ok(())
    }

    /// Stops the lane if the answer is a Retry.
    pub(crate) fn note<T>(&mut self, lane: Lane, answer: &Result<T, Rejection>) {
        let retry = answer.as_ref().is_err_and(|rejection| rejection.disposition() == Disposition::Retry);
        if retry && !self.0.contains(&lane) {
            self.0.push(lane);
        }
    }
}

/// One verdict a message of what came from below: an error for the whole batch is one for each of its messages.
pub(crate) fn each<T>(answer: Result<Verdicts<T>, Rejection>, sent: usize) -> Verdicts<T> {
    let refused = match answer {
        Ok(verdicts) if verdicts.len() == sent => return verdicts,
        Ok(verdicts) => {
            let detail = format!("a layer gave {} verdicts for {sent} messages", verdicts.len());
            Rejection::new(RejectKind::Unavailable, "stack", detail)
        }
        Err(rejection) => rejection,
    };
    (0..sent).map(|_| Verdict::no(refused.clone())).collect()
}

// === impl Routes ===

impl Routes {
    /// One more is sent on.
    pub(crate) fn push(&mut self, route: Route) {
        *self = match std::mem::replace(self, Self::Unknown) {
            Self::Unknown => Self::One(route),
            Self::One(first) => Self::Many(vec![first, route]),
            Self::Many(mut routes) => {
                routes.push(route);
                Self::Many(routes)
            }
        };
    }
}

// === impl Rejoin ===

impl<F, T> Rejoin<F, T> {
    /// Sends `messages` on with `call`, if there is one. Of their routes, all are known or none.
    pub(crate) fn send<M: InLane>(
        messages: Vec<M>,
        routes: Routes,
        answered: Vec<Answered<T>>,
        call: impl FnOnce(Batch<M>) -> F,
    ) -> Self {
        let sent = messages.len();
        let (route, routes) = match routes {
            Routes::Unknown => (None, Vec::new()),
            Routes::One(route) => (Some(route), Vec::new()),
            Routes::Many(routes) => (None, routes),
        };
        let lanes = if answered.is_empty() { Vec::new() } else { messages.iter().map(InLane::lane).collect() };
        let is_plain = routes.is_empty() && answered.is_empty();
        let rest = (!is_plain).then(|| Box::new(Rest { routes, lanes, answered }));
        Self { inner: Batch::new(messages).map(call), sent, route, rest }
    }
}

impl<F, T> Future for Rejoin<F, T>
where
    F: Future<Output = Result<Verdicts<T>, Rejection>>,
{
    type Output = Result<Verdicts<T>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut verdicts = match this.inner.as_pin_mut() {
            Some(inner) => each(ready!(inner.poll(cx)), *this.sent),
            None => Vec::new(),
        };
        if let (Some(verdict), Some(route)) = (verdicts.first_mut(), this.route.take()) {
            verdict.route = Some(route);
        }
        let Some(rest) = this.rest.take() else { return Poll::Ready(Ok(verdicts)) };
        let Rest { routes, lanes, answered } = *rest;
        for (verdict, route) in verdicts.iter_mut().zip(routes) {
            verdict.route = Some(route);
        }
        if answered.is_empty() {
            return Poll::Ready(Ok(verdicts));
        }
        Poll::Ready(Ok(merge(verdicts.into_iter().zip(lanes), answered)))
    }
}

/// All verdicts in the order of the batch. An answer given here to a message whose lane stopped below does not hold: it
/// comes after the retry, or it would be said, and counted, twice.
fn merge<T>(mut below: impl ExactSizeIterator<Item = (Verdict<T>, Lane)>, answered: Vec<Answered<T>>) -> Verdicts<T> {
    let mut stopped = Stopped::default();
    let mut all = Vec::with_capacity(below.len() + answered.len());
    for Answered { index, lane, mut verdict } in answered {
        let missing = index.saturating_sub(all.len());
        all.extend(below.by_ref().take(missing).map(|(verdict, lane)| {
            stopped.note(lane, &verdict.answer);
            verdict
        }));
        if let Err(behind) = stopped.guard(lane) {
            verdict.answer = Err(behind);
        }
        all.push(verdict);
    }
    all.extend(below.map(|(verdict, _)| verdict));
    all
}

//! Under overload, refuses what matters least first: bulk, then telemetry, then events; commands never.
//!
//! Behind MAPPING, because the class of a message is known only there. How full the bridge is, is told by the batches
//! that wait for the store, against the most that may: what is refused here frees its permit at once, so that there is
//! one left for a command. A command meets a full bridge only if commands alone have filled it, and then its sender
//! hears so.
//!
//! Where a mapping says `shed: latest`, a message that is to be shed waits for a while, and the latest of a topic and key
//! stands for those before it: see [`latest`].

mod latest;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use envelope::{Admission, InLane, Mapped, Priority as PriorityClass, RejectKind, Rejection, Verdict, Verdicts};
use futures_util::future::{BoxFuture, Either};
use metrics::{Counter, counter, describe_counter};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use self::latest::Latest;
use crate::{
    Epoch, Pass,
    lift::{Answered, Rejoin, Routes, Stopped},
};

/// When it makes sense to offer again what was shed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How full the bridge may be, in percent, before messages of this class are shed; `None`: they never are.
const fn shed_from_percent(class: PriorityClass) -> Option<u64> {
    match class {
        PriorityClass::Command => None,
        PriorityClass::Event => Some(90),
        PriorityClass::Telemetry => Some(75),
        PriorityClass::Bulk => Some(50),
    }
}

/// Sheds for one bridge.
#[derive(Debug, Clone)]
pub(crate) struct ShedLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: AtomicU32,
    most: u32,
    latest: Latest,
    shed: [Counter; PriorityClass::ALL.len()],
}

/// What [`ShedLayer`] makes.
#[derive(Debug, Clone)]
pub(crate) struct Shed<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// One batch that waits for the store.
#[derive(Debug)]
struct Waiting(Arc<Shared>);

pin_project! {
    /// Counts as waiting until the verdicts are there.
    #[derive(Debug)]
    pub(crate) struct Counted<F> {
        #[pin]
        inner: F,
        waiting: Waiting,
    }
}

// === impl ShedLayer ===

impl ShedLayer {
    /// `most` batches of `bridge` may wait for the store.
    pub(crate) fn new(bridge: &str, most: u32) -> Self {
        describe_counter!("openmesh_shed_messages_total", "messages refused under overload, by their class");
        let shed = PriorityClass::ALL.map(
            |class| counter!("openmesh_shed_messages_total", "bridge" => bridge.to_owned(), "class" => class.word()),
        );
        Self(Arc::new(Shared { waiting: AtomicU32::new(0), most, latest: Latest::default(), shed }))
    }
}

impl<S> Layer<S> for ShedLayer {
    type Service = Shed<S>;

    fn layer(&self, inner: S) -> Shed<S> {
        Shed { inner, shared: self.0.clone() }
    }
}

// === impl Shared ===

impl Shared {
    /// Whether a message of this class is taken while so many batches wait.
    fn takes(&self, class: PriorityClass, waiting: u32) -> bool {
        let Some(percent) = shed_from_percent(class) else { return true };
        u64::from(waiting) * 100 < u64::from(self.most) * percent
    }

    /// A place among those that wait, if a message of this class is taken.
    fn take(self: &Arc<Self>, class: PriorityClass) -> Option<Waiting> {
        let one_more = |waiting| self.takes(class, waiting).then_some(waiting + 1);
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Waiting(self.clone()))
    }

    fn count(&self, class: PriorityClass) {
        self.shed[class as usize].increment(1);
    }

    fn refuse(&self, class: PriorityClass) -> Rejection {
        self.count(class);
        let detail = format!("too much waits for the store to take messages of class {} as well", class.word());
        Rejection::new(RejectKind::Overloaded, "shed", detail).after(RETRY_AFTER)
    }
}

// === impl Waiting ===

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.0.waiting.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        self.0.latest.wake_if(|class| self.0.takes(class, left));
    }
}

// === impl Shed ===

impl<S> Service<Pass<Mapped>> for Shed<S>
where
    S: Service<Pass<Mapped>, Response = Verdicts<Admission>, Error = Rejection> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future =
        Either<Counted<Rejoin<S::Future, Admission>>, BoxFuture<'static, Result<Verdicts<Admission>, Rejection>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Mapped>) -> Self::Future {
        let before = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self.shared.clone());
        let Pass { epoch, batch } = pass;
        // The common case asks no message for its class.
        if self.shared.takes(PriorityClass::Bulk, before) && self.shared.latest.is_empty() {
            let call = |batch| self.inner.call(Pass { epoch, batch });
            let inner = Rejoin::send(batch.into_vec(), Routes::Unknown, Vec::new(), call);
            return Either::Left(Counted { inner, waiting });
        }
        let messages = batch.into_vec();
        if let Some(parked) = latest::park(&self.shared, &epoch, &messages, before) {
            // the one that is ready goes with the batch
            let next = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, next);
            return Either::Right(Box::pin(parked.run(inner, epoch, messages)));
        }
        let inner = shed(&self.shared, &mut self.inner, &epoch, messages, before);
        Either::Left(Counted { inner, waiting })
    }
}

/// Sends on what is taken while so many wait.
fn shed<S: Service<Pass<Mapped>>>(
    shared: &Shared,
    inner: &mut S,
    epoch: &Arc<Epoch>,
    mut messages: Vec<Mapped>,
    before: u32,
) -> Rejoin<S::Future, Admission> {
    let mut answered = Vec::new();
    let mut stopped = Stopped::default();
    let mut place = 0..;
    messages.retain(|message| {
        let index = place.next().unwrap_or(usize::MAX);
        let lane = message.lane();
        let class = epoch.access.priority.of(message);
        let answer = match stopped.guard(lane) {
            Ok(()) if shared.takes(class, before) => return true,
            Ok(()) => Err(shared.refuse(class)),
            Err(behind) => Err(behind),
        };
        stopped.note(lane, &answer);
        answered.push(Answered { index, lane, verdict: Verdict { route: None, answer } });
        false
    });
    Rejoin::send(messages, Routes::Unknown, answered, |batch| inner.call(Pass { epoch: epoch.clone(), batch }))
}

// === impl Counted ===

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}

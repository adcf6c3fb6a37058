//! Under overload, refuses what matters least first: bulk, then telemetry, then events; commands never.
//!
//! Behind MAPPING, because the class of a message is known only there. How full the bridge is, is told by the batches
//! that wait for the store, against the most that may: what is refused here frees its permit at once, so that there is
//! one left for a command. A command meets a full bridge only if commands alone have filled it, and then its sender
//! hears so.
//!
//! Where a mapping says `shed: latest`, a message that is to be shed and that a later one of the same topic and key in
//! the same batch makes old is not offered again: it is filtered, and counted as shed.

use std::{
    collections::HashSet,
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
use metrics::{Counter, counter, describe_counter};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    Pass,
    lift::{Answered, Rejoin, Stopped},
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
        Self(Arc::new(Shared { waiting: AtomicU32::new(0), most, shed }))
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
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Shed ===

impl<S> Service<Pass<Mapped>> for Shed<S>
where
    S: Service<Pass<Mapped>, Response = Verdicts<Admission>, Error = Rejection>,
{
    type Response = Verdicts<Admission>;
    type Error = Rejection;
    type Future = Counted<Rejoin<S::Future, Admission>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, pass: Pass<Mapped>) -> Self::Future {
        let before = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self.shared.clone());
        let Pass { epoch, batch } = pass;
        let mut messages = batch.into_vec();
        let mut answered = Vec::new();
        // The common case asks no message for its class.
        if !self.shared.takes(PriorityClass::Bulk, before) {
            let old = superseded(&messages);
            let mut stopped = Stopped::default();
            let mut place = 0..;
            messages.retain(|message| {
                let index = place.next().unwrap_or(usize::MAX);
                let lane = message.lane();
                let class = epoch.access.priority.of(message);
                if old.get(index).is_some_and(|old| *old) && !self.shared.takes(class, before) {
                    self.shared.count(class);
                    let verdict = Verdict { route: Some(message.route.clone()), answer: Ok(Admission::Filtered) };
                    answered.push(Answered { index, lane, verdict });
                    return false;
                }
                let answer = match stopped.guard(lane) {
                    Ok(()) if self.shared.takes(class, before) => return true,
                    Ok(()) => Err(self.shared.refuse(class)),
                    Err(behind) => Err(behind),
                };
                stopped.note(lane, &answer);
                answered.push(Answered { index, lane, verdict: Verdict { route: None, answer } });
                false
            });
        }
        let inner = Rejoin::send(messages, Vec::new(), answered, |batch| self.inner.call(Pass { epoch, batch }));
        Counted { inner, waiting }
    }
}

/// Which of them a later one makes old, as far as their mappings say so; empty if none does.
fn superseded(messages: &[Mapped]) -> Vec<bool> {
    if !messages.iter().any(|message| message.terms.shed_latest) {
        return Vec::new();
    }
    let mut latest = HashSet::new();
    let mut old: Vec<_> = messages
        .iter()
        .rev()
        .map(|message| {
            // a group is stored whole or not at all, and no one message of it stands for it
            let [envelope] = message.group.as_slice() else { return false };
            let name = (message.route.name(), envelope.subject.as_str(), envelope.partitionkey.as_deref());
            message.terms.shed_latest && !latest.insert(name)
        })
        .collect();
    old.reverse();
    old
}

// === impl Counted ===

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().inner.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use envelope::Mapper as _;
    use futures_util::FutureExt;
    use tower::Service;

    use super::*;
    use crate::{
        Flow,
        tests::world::{Told, World, batch, epoch_of, inbound, now, words},
    };

    /// One of eight batches more waits with each of these.
    fn fill(world: &World, batches: usize) -> Vec<impl Future + use<>> {
        (0..batches).map(|_| now(&mut world.ingress.clone()).call(batch([(9, "pass")]))).collect()
    }

    /// Of which class everything is.
    fn world(class: &str) -> World {
        let world = World::closed(Flow::Push, 8);
        let policy = format!("anonymous: true\npriority: {{ {class}: [\"telemetry/#\"] }}\n");
        world.current.store(Arc::new(epoch_of(2, Told, &policy)));
        world
    }

    #[tokio::test]
    async fn the_less_it_matters_the_sooner_it_is_shed() {
        // from the half, from three quarters, from nine tenths, and only when there is no place at all
        for (class, places) in [("bulk", 4), ("telemetry", 6), ("event", 8), ("command", 8)] {
            let world = world(class);
            let mut waiting = Vec::new();
            let mut taken = 0;
            for _ in 0..10 {
                let mut answer = Box::pin(now(&mut world.ingress.clone()).call(batch([(1, "pass")])));
                match answer.as_mut().now_or_never() {
                    None => waiting.push(answer),
                    Some(verdicts) => {
                        assert_eq!(words(verdicts.unwrap()), ["overloaded"], "{class}");
                        continue;
                    }
                }
                taken += 1;
            }
            assert_eq!(taken, places, "{class}");
            world.open.add_permits(places);
            for answer in waiting {
                assert_eq!(words(answer.await.unwrap()), ["stored"]);
            }
        }
    }

    #[tokio::test]
    async fn while_telemetry_is_shed_a_command_is_taken() {
        let world = World::closed(Flow::Push, 8);
        let policy = "anonymous: true\npriority: { telemetry: [\"telemetry/#\"] }\n";
        world.current.store(Arc::new(epoch_of(2, Told, policy)));
        let mut waiting: Vec<_> = fill(&world, 6).into_iter().map(Box::pin).collect();
        for answer in &mut waiting {
            assert!(answer.as_mut().now_or_never().is_none());
        }
        let shed = now(&mut world.ingress.clone()).call(batch([(1, "pass")])).await.unwrap();
        let rejection = shed[0].answer.as_ref().unwrap_err();
        assert_eq!((rejection.kind, &*rejection.decided_by.to_string()), (RejectKind::Overloaded, "shed"));
        assert!(rejection.detail.contains("class telemetry") && rejection.retry_after.is_some());
        let policy = "anonymous: true\npriority: { command: [\"telemetry/#\"] }\n";
        world.current.store(Arc::new(epoch_of(3, Told, policy)));
        world.open.add_permits(7);
        assert_eq!(words(now(&mut world.ingress.clone()).call(batch([(1, "pass")])).await.unwrap()), ["stored"]);
    }

    #[tokio::test]
    async fn under_overload_the_latest_of_a_topic_and_key_stands_for_those_before_it_in_its_batch() {
        let world = world("telemetry");
        let offered = || batch([(1, "latest a"), (1, "latest b"), (1, "latest a"), (2, "latest b"), (3, "pass")]);
        world.open.add_permits(1);
        let taken = now(&mut world.ingress.clone()).call(offered()).await.unwrap();
        assert_eq!(words(taken), ["stored"; 5], "there is room for all of them");
        let _waiting = fill(&world, 6);
        let shed = now(&mut world.ingress.clone()).call(offered()).await.unwrap();
        assert_eq!(words(shed), ["filtered", "filtered", "overloaded", "overloaded", "overloaded"]);
    }

    #[tokio::test]
    async fn a_command_is_never_made_old_and_a_mapping_that_does_not_say_so_loses_nothing() {
        let world = world("command");
        let _waiting = fill(&world, 6);
        world.open.add_permits(8);
        let all = batch([(1, "latest a"), (1, "latest a"), (2, "pass"), (2, "pass")]);
        assert_eq!(words(now(&mut world.ingress.clone()).call(all).await.unwrap()), ["stored"; 4]);
    }

    #[test]
    fn what_its_mapping_says_of_a_message_counts_before_its_topic() {
        let world = world("bulk");
        let epoch = world.current.load();
        let envelope::MapResult::Mapped(mut message) = Told.map(inbound(1, "pass")) else { panic!("it maps") };
        assert_eq!(epoch.access.priority.of(&message), PriorityClass::Bulk);
        if let envelope::Group::One(envelope) = &mut message.group {
            envelope.priority = Some(PriorityClass::Command);
        }
        assert_eq!(epoch.access.priority.of(&message), PriorityClass::Command);
    }

    #[test]
    fn a_bridge_with_one_place_takes_everything_while_it_is_free() {
        let layer = ShedLayer::new("web", NonZeroU32::MIN.get());
        assert!(PriorityClass::ALL.iter().all(|class| layer.0.takes(*class, 0)));
    }
}

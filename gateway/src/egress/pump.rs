//! One mapping that sends: its durable subscription, through the egress stack to the sink of its bridge.
//!
//! A delivery is settled as delivered only when the peer took it. What it does not take is offered again, in its lane's
//! order; what can't be sent for good is a dead letter, what policy refuses is refused.

use std::{collections::HashSet, sync::Arc, time::Duration};

use backbone::Backbone;
use bridges::Sending;
use envelope::{
    Batch, Deliveries, Delivery, Disposition, EnvelopeId, Filter, Lane, Outgoing, Position, Principal, Rejection,
    Settlement, Start, Subscribe, Taken, Timestamp, Verdict, Verdicts,
};
use policy::{Current, Egress, Pass};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    lanes::Lanes,
    status::{Outcome, Status},
    through::{Beside, Queue, is_passed},
};

/// The most deliveries of a mapping that are unsettled at a time.
pub(super) const CREDIT: u32 = 1_024;
/// Between two attempts to open a subscription, or to settle, while the store is away; lengthened by up to a half.
const STORE_PAUSE: Duration = Duration::from_millis(200);
/// How often settling is tried once the gateway stops.
const LAST_SETTLES: u32 = 5;

/// What runs for one mapping.
pub(super) struct Pump {
    pub(super) filter: Filter,
    /// The name of its subscription.
    pub(super) durable: Arc<str>,
    pub(super) route: envelope::Route,
    pub(super) stack: Egress<Taken>,
    pub(super) sending: Sending,
    /// The bridge, as policy knows it.
    pub(super) principal: Arc<Principal>,
    pub(super) backbone: Arc<dyn Backbone>,
    pub(super) current: Current,
    pub(super) status: Arc<Status>,
    /// Hears what became of each envelope, once that is durable.
    pub(super) fates: Arc<dyn Fates>,
    /// What it is to send that is not stored.
    pub(super) queue: Arc<Queue>,
    /// The gateway ends: what nobody else has is sent first.
    pub(super) drain: CancellationToken,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// Hears what became of envelopes on their way out.
pub(crate) trait Fates: Send + Sync {
    /// One of the mappings that this envelope was for is done with it; whether a peer took it.
    fn settled(&self, id: EnvelopeId, taken: bool);

    /// The mappings that send from now on.
    fn takers(&self, takers: Vec<Taker>);
}

/// A mapping that sends, as who waits for its envelopes sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taker {
    /// The name of its subscription.
    pub(crate) durable: Arc<str>,
    /// What that selects.
    pub(crate) filter: Filter,
}

/// An open subscription and what is under way of it.
struct Session<'p> {
    pump: &'p Pump,
    deliveries: Box<dyn Deliveries>,
    lanes: Lanes,
    calls: usize,
    answers: mpsc::Sender<Answered>,
    /// To be settled, and whom that is told.
    settled: Vec<(Position, Settlement)>,
    fates: Vec<(EnvelopeId, bool)>,
}

/// What the stack said of one call.
struct Answered {
    deliveries: Vec<Delivery>,
    verdicts: Verdicts<Taken>,
}

// === impl Pump ===

impl Pump {
    /// Until it is told to stop; then what is under way is settled first.
    pub(super) async fn run(self) {
        while !self.stop.is_cancelled() {
            let ended = match self.backbone.subscribe(self.subscription()).await {
                Ok(deliveries) => {
                    self.status.opened();
                    self.session(Box::new(Beside::new(deliveries, self.queue.clone()))).await
                }
                Err(rejection) => Err(rejection),
            };
            let Err(rejection) = ended else { break };
            self.status.closed(&rejection);
            self.stop.run_until_cancelled(sleep(jittered(STORE_PAUSE))).await;
        }
    }

    fn subscription(&self) -> Subscribe {
        subscription(&self.durable, &self.filter, CREDIT)
    }

    async fn session(&self, deliveries: Box<dyn Deliveries>) -> Result<(), Rejection> {
        // one place a call, so that no answer waits for room
        let (answers, answered) = mpsc::channel(self.sending.max_calls.max(1));
        let (settled, fates) = (Vec::new(), Vec::new());
        let session = Session { pump: self, deliveries, lanes: Lanes::default(), calls: 0, answers, settled, fates };
        session.run(answered).await
    }

    /// What is left to be done before it ends.
    fn is_to_go_on(&self) -> bool {
        !self.stop.is_cancelled() || (self.drain.is_cancelled() && self.queue.is_owed())
    }

    /// One call of the stack, in a task that the drain waits for.
    fn call(&self, deliveries: Vec<Delivery>, answers: mpsc::Sender<Answered>) {
        let (stack, epoch, to) = (self.stack.clone(), self.current.load_full(), self.principal.clone());
        let outgoing = deliveries.iter().map(|delivery| Outgoing { to: to.clone(), delivery: delivery.clone() });
        let batch = Batch::new(outgoing.collect());
        self.tasks.spawn(async move {
            let answer = match batch {
                Some(batch) => stack.oneshot(Pass { epoch, batch }).await,
                None => Ok(Vec::new()),
            };
            let verdicts = match answer {
                Ok(verdicts) => verdicts,
                Err(rejection) => deliveries.iter().map(|_| Verdict::no(rejection.clone())).collect(),
            };
            // a session that has ended leaves what it had to the next one
            _ = answers.send(Answered { deliveries, verdicts }).await;
        });
    }
}

/// What can't be sent is kept as a dead letter if it is stored.
fn given_up(delivery: &Delivery, rejection: Rejection) -> Outcome {
    if is_passed(delivery) { Outcome::GivenUp(rejection) } else { Outcome::DeadLettered(rejection) }
}

/// The subscription of a mapping that sends.
pub(super) fn subscription(durable: &Arc<str>, filter: &Filter, credit: u32) -> Subscribe {
    Subscribe { filters: vec![filter.clone()], start: Start::New, durable: Some(durable.clone()), credit }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 + fastrand::f64() / 2.0)
}

// === impl Session ===

impl Session<'_> {
    async fn run(mut self, mut answered: mpsc::Receiver<Answered>) -> Result<(), Rejection> {
        let mut ended = Ok(());
        let most = self.pump.sending.max_calls.max(1);
        let mut done = Vec::with_capacity(most);
        loop {
            let open = ended.is_ok() && self.pump.is_to_go_on();
            if open {
                self.dispatch();
                // what had expired is in no call that would settle it with its answer
                if !self.settled.is_empty() {
                    ended = self.settle().await;
                    continue;
                }
            } else if self.calls == 0 {
                return ended;
            }
            self.pump.status.unsettled(self.lanes.waiting(), self.lanes.resting(), self.calls);
            let wake = self.lanes.next_wake();
            tokio::select! {
                biased;
                found = answered.recv_many(&mut done, most) => {
                    self.calls -= found;
                    done.drain(..).for_each(|answered| self.take(answered));
                    if let Err(rejection) = self.settle().await {
                        ended = ended.and(Err(rejection));
                    }
                }
                () = self.pump.stop.cancelled(), if open && !self.pump.stop.is_cancelled() => {}
                batch = self.deliveries.next(), if open => match batch {
                    Ok(batch) => self.queue(batch),
                    Err(rejection) => ended = Err(rejection),
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if open && wake.is_some() => {
                    self.lanes.wake(Instant::now());
                }
            }
        }
    }

    fn queue(&mut self, batch: Batch<Delivery>) {
        let epoch = self.pump.current.load();
        for mut delivery in batch.into_vec() {
            delivery.lane = epoch.sender.lane(&self.pump.route, &delivery);
            self.lanes.push(delivery);
        }
    }

    /// Calls the stack with what is ready, as far as calls are allowed.
    fn dispatch(&mut self) {
        let Sending { max_batch, max_calls, .. } = self.pump.sending;
        while self.calls < max_calls.max(1) {
            let taken = self.lanes.take(max_batch.max(1));
            if taken.is_empty() {
                return;
            }
            let now = Timestamp::now();
            let lanes: HashSet<Lane> = taken.iter().map(|delivery| delivery.lane).collect();
            let expired = |delivery: &Delivery| delivery.envelope.expirytime.is_some_and(|end| end <= now);
            let (old, call): (Vec<_>, Vec<_>) = taken.into_iter().partition(expired);
            // the store finds that it is over when it is about to hand it out, and counts it so
            let again = Settlement::Again { after: Duration::ZERO };
            old.iter().filter(|delivery| is_passed(delivery)).for_each(|_| self.pump.status.expired());
            self.settled.extend(old.into_iter().map(|delivery| (delivery.position, again.clone())));
            for lane in lanes.into_iter().filter(|lane| call.iter().all(|delivery| delivery.lane != *lane)) {
                self.lanes.done(lane);
            }
            if !call.is_empty() {
                self.calls += 1;
                self.pump.call(call, self.answers.clone());
            }
        }
    }

    /// Sorts what the stack said of a call into what is settled and what is to be sent again.
    fn take(&mut self, Answered { deliveries, verdicts }: Answered) {
        let now = Instant::now();
        let mut lanes: Vec<(Lane, Vec<Delivery>, Option<Rejection>)> = Vec::new();
        for (delivery, verdict) in deliveries.into_iter().zip(verdicts) {
            let lane = delivery.lane;
            if lanes.last().is_none_or(|(last, ..)| *last != lane) {
                lanes.push((lane, Vec::new(), None));
            }
            let Some((_, back, why)) = lanes.last_mut() else { continue };
            let first = back.is_empty();
            match self.outcome(&delivery, verdict, first, now) {
                Ok(outcome) => self.settle_as(&delivery, outcome),
                Err(rejection) => {
                    back.push(delivery);
                    why.get_or_insert(rejection);
                }
            }
        }
        for (lane, back, why) in lanes {
            match why {
                None => self.lanes.done(lane),
                Some(why) => {
                    self.pump.status.again(back.len(), &why);
                    self.lanes.again(lane, back, why.retry_after, now);
                }
            }
        }
    }

    /// What a verdict makes of a delivery; or why it is to be sent again. `first`: nothing before it in its lane is.
    fn outcome(
        &self,
        delivery: &Delivery,
        verdict: Verdict<Taken>,
        first: bool,
        now: Instant,
    ) -> Result<Outcome, Rejection> {
        let Verdict { route, answer } = verdict;
        let rejection = match answer {
            Ok(Taken::ByPeer) => return Ok(Outcome::Delivered),
            Ok(Taken::NotSent) => return Ok(Outcome::NotSent),
            Err(rejection) => rejection,
        };
        let by_policy = route.is_none();
        if rejection.disposition() == Disposition::Final {
            return Ok(if by_policy { Outcome::Refused(rejection) } else { given_up(delivery, rejection) });
        }
        let failing = self.lanes.failing_since(delivery.lane);
        let over = failing.zip(self.pump.sending.retry_for).is_some_and(|(since, most)| now - since >= most);
        if first && over && !by_policy { Ok(given_up(delivery, rejection)) } else { Err(rejection) }
    }

    fn settle_as(&mut self, delivery: &Delivery, outcome: Outcome) {
        self.pump.status.settled(&outcome);
        let (settlement, taken) = match outcome {
            Outcome::Delivered => (Settlement::Delivered, true),
            Outcome::NotSent => (Settlement::LeftOut, false),
            Outcome::Refused(rejection) => (Settlement::Refused(rejection.kind), false),
            Outcome::GivenUp(rejection) | Outcome::DeadLettered(rejection) => {
                (Settlement::DeadLettered(rejection.kind), false)
            }
        };
        self.settled.push((delivery.position.clone(), settlement));
        self.fates.push((delivery.envelope.id, taken));
    }

    /// Once it answers, what was settled is durable and told.
    async fn settle(&mut self) -> Result<(), Rejection> {
        let mut left = LAST_SETTLES;
        while !self.settled.is_empty() {
            match self.deliveries.settle(self.settled.clone()).await {
                Ok(()) => self.settled.clear(),
                Err(rejection) if rejection.disposition() == Disposition::Final => return Err(rejection),
                Err(rejection) => {
                    left -= u32::from(self.pump.stop.is_cancelled());
                    if left == 0 {
                        return Err(rejection);
                    }
                    sleep(jittered(STORE_PAUSE)).await;
                }
            }
        }
        self.fates.drain(..).for_each(|(id, taken)| self.pump.fates.settled(id, taken));
        Ok(())
    }
}

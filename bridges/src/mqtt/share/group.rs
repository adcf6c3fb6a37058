//! One shared subscription: a task between the mesh and those of its members that are connected.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use envelope::{
    Batch, Deliveries, Delivery, Disposition, Filter, Outlet, Position, Principal, RejectKind, Rejection, Settlement,
    Start, Subscribe, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dealer::{Dealer, Leaves, Left};
use crate::mqtt::{reject, source::Shared};

/// A shared subscription, whoever of its members is connected.
pub(in crate::mqtt) struct Group {
    /// Of its position in the store.
    pub(super) name: Arc<str>,
    filter: Filter,
    state: Mutex<State>,
    wake: Notify,
    /// While members are connected.
    running: tokio::sync::Mutex<Option<Running>>,
    /// That it is there is on disk.
    kept: AtomicBool,
    /// Held while what nobody is to get is written: what is on disk is never older than what was written before it.
    keeping: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    dealer: Dealer,
    hands: HashMap<u64, Arc<Hand>>,
    /// The task takes what is dealt.
    open: bool,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// How many outcomes are on disk, of all that were ever noted.
    stored: watch::Receiver<u64>,
}

/// What one member was dealt, bounded by its credit.
#[derive(Default)]
struct Hand {
    dealt: Mutex<(VecDeque<Delivery>, Option<Rejection>)>,
    wake: Notify,
}

/// A member's place, to be left.
pub(in crate::mqtt) struct Seat {
    group: Arc<Group>,
    member: u64,
    session: Uuid,
}

/// What a member gets, after egress policy for its principal.
struct Member {
    group: Arc<Group>,
    member: u64,
    hand: Arc<Hand>,
    outlet: Arc<dyn Outlet>,
    principal: Arc<Principal>,
    stored: watch::Receiver<u64>,
    /// Kept here, so that a dropped `next` loses nothing.
    passing: Option<Passing>,
}

/// Deliveries on their way through policy.
struct Passing {
    positions: Vec<Position>,
    verdicts: BoxFuture<'static, Result<Verdicts<Delivery>, Rejection>>,
}

/// What is unsettled at first; it grows with the members.
const CREDIT: u32 = 64;

// === impl Group ===

impl Group {
    pub(super) fn new(name: Arc<str>, filter: Filter) -> Self {
        let (wake, running) = (Notify::new(), tokio::sync::Mutex::default());
        Self {
            name,
            filter,
            state: Mutex::default(),
            wake,
            running,
            kept: AtomicBool::new(false),
            keeping: tokio::sync::Mutex::default(),
        }
    }

    /// Seats a member of a session. Refused if policy does not let its principal read the filter.
    pub(super) async fn join(
        self: &Arc<Self>,
        shared: &Shared,
        session: Uuid,
        principal: Arc<Principal>,
        credit: u32,
    ) -> Result<(Box<dyn Deliveries>, Seat), Rejection> {
        let outlet = shared.cx.outlet.clone();
        outlet.may_open(&principal, &self.filter)?;
        let mut running = self.running.lock().await;
        let hand = Arc::new(Hand::default());
        let (member, stored) = loop {
            if let Some(running) = &*running {
                let mut state = self.lock();
                if state.open {
                    let (member, back) = state.dealer.join(session, principal.id.clone(), credit as usize);
                    hand.push(back);
                    state.hands.insert(member, hand.clone());
                    break (member, running.stored.clone());
                }
            }
            if let Some(Running { task, .. }) = running.take() {
                ended(task).await;
            }
            *running = Some(self.open(shared, &principal).await?);
        };
        self.wake.notify_one();
        let seat = Seat { group: self.clone(), member, session };
        let member = Member { group: self.clone(), member, hand, outlet, principal, stored, passing: None };
        Ok((Box::new(member), seat))
    }

    async fn open(self: &Arc<Self>, shared: &Shared, begun_by: &Arc<Principal>) -> Result<Running, Rejection> {
        // before there is a position: after a crash nothing is left behind that nobody knows of
        if !self.kept.load(Ordering::Acquire) {
            let _keeping = self.keeping.lock().await;
            let lost = self.lock().dealer.lost();
            shared.keeper.keep_share(&self.name, &lost).await?;
            self.kept.store(true, Ordering::Release);
        }
        let durable = Some(self.name.clone());
        let what = Subscribe { filters: vec![self.filter.clone()], start: Start::New, durable, credit: CREDIT };
        let deliveries = shared.cx.outlet.open_shared(begun_by, what).await?;
        let stop = CancellationToken::new();
        let (told, stored) = {
            let mut state = self.lock();
            state.open = true;
            watch::channel(state.dealer.noted())
        };
        let task = shared.cx.tasks.spawn(self.clone().run(deliveries, stop.clone(), told));
        Ok(Running { stop, task, stored })
    }

    /// Deals until nobody is there any more.
    async fn run(
        self: Arc<Self>,
        mut deliveries: Box<dyn Deliveries>,
        stop: CancellationToken,
        stored: watch::Sender<u64>,
    ) {
        let mut granted = CREDIT as usize;
        let (ended, untold) = loop {
            let (settled, credit) = self.deal();
            if credit > granted {
                deliveries.grant(u32::try_from(credit - granted).unwrap_or(u32::MAX));
                granted = credit;
            }
            if !settled.is_empty() {
                let outcomes = settled.len() as u64;
                if let Err(why) = deliveries.settle(settled.clone()).await {
                    break (why, settled);
                }
                stored.send_modify(|stored| *stored += outcomes);
                continue;
            }
            // what the last one to leave has said is settled by now: it was said before the stop
            if stop.is_cancelled() {
                break (gone(), Vec::new());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                batch = deliveries.next() => match batch {
                    Ok(batch) => self.arrived(batch),
                    Err(why) => break (why, Vec::new()),
                },
            }
        };
        let mut state = self.lock();
        state.open = false;
        state.dealer.closed(untold);
        state.hands.drain().for_each(|(_, hand)| hand.end(ended.clone()));
    }

    /// Hands out what waits; what the store is to be told, and the credit that the members have.
    fn deal(&self) -> (Vec<(Position, Settlement)>, usize) {
        let mut state = self.lock();
        let dealt = state.dealer.deal();
        state.hand_out(dealt);
        (state.dealer.take_settled(), state.dealer.credit())
    }

    fn arrived(&self, batch: Batch<Delivery>) {
        let mut state = self.lock();
        let dealt = state.dealer.arrived(batch.into_vec());
        state.hand_out(dealt);
    }

    /// A session knows of these from before a restart.
    pub(super) fn claim(&self, session: Uuid, left: Left) {
        self.lock().dealer.claim(session, left);
    }

    /// So it was before a restart, and it is on disk.
    pub(super) fn claim_lost(&self, lost: Vec<Position>) {
        self.lock().dealer.claim_lost(lost);
    }

    /// A session has ended; its member has left. What nobody else is to get of what it may have is on disk afterwards, unless
    /// the store knows already.
    pub(super) async fn ended(&self, shared: &Shared, session: Uuid) {
        self.lock().dealer.ended(session);
        self.wake.notify_one();
        let _keeping = self.keeping.lock().await;
        let lost = self.lock().dealer.lost();
        if !lost.is_empty()
            && let Err(error) = shared.keeper.keep_share(&self.name, &lost).await
        {
            tracing::warn!(%error, name = %self.name, "what nobody is to get of a shared subscription can't be stored now");
        }
    }

    /// Ends it in the store, unless somebody has joined it meanwhile.
    pub(super) async fn end(&self, shared: &Shared, is_unused: impl Fn() -> bool) {
        let running = self.running.lock().await;
        if !is_unused() || running.is_some() {
            return;
        }
        self.kept.store(false, Ordering::Release);
        if let Err(error) = shared.cx.outlet.end(&self.name).await {
            tracing::warn!(%error, name = %self.name, "a shared subscription that is over can't be ended in the store now");
        } else if let Err(error) = shared.keeper.forget_share(&self.name).await {
            tracing::warn!(%error, name = %self.name, "a shared subscription that is over can't be forgotten now");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone() -> Rejection {
    Rejection::new(RejectKind::Unavailable, reject::DECIDED_BY, "the shared subscription is closed")
}

async fn ended(task: JoinHandle<()>) {
    if task.await.is_err() {
        tracing::error!("the task of a shared subscription failed");
    }
}

// === impl State ===

impl State {
    fn hand_out(&self, dealt: Vec<(u64, Vec<Delivery>)>) {
        for (member, deliveries) in dealt {
            if let Some(hand) = self.hands.get(&member) {
                hand.push(deliveries);
            }
        }
    }
}

// === impl Hand ===

impl Hand {
    fn push(&self, deliveries: Vec<Delivery>) {
        self.dealt.lock().unwrap_or_else(PoisonError::into_inner).0.extend(deliveries);
        self.wake.notify_one();
    }

    fn end(&self, why: Rejection) {
        self.dealt.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(why);
        self.wake.notify_one();
    }

    /// Cancel safe.
    async fn next(&self) -> Result<Batch<Delivery>, Rejection> {
        loop {
            {
                let mut dealt = self.dealt.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(why) = &dealt.1 {
                    return Err(why.clone());
                }
                if let Some(batch) = Batch::new(dealt.0.drain(..).collect()) {
                    return Ok(batch);
                }
            }
            self.wake.notified().await;
        }
    }
}

// === impl Seat ===

impl Seat {
    /// Gives the place up. What is settled by then is on disk afterwards.
    pub(in crate::mqtt) async fn leave(self, left: Left, how: Leaves) {
        let Self { group, member, session } = self;
        let mut running = group.running.lock().await;
        let empty = {
            let mut state = group.lock();
            state.hands.remove(&member);
            state.dealer.leave(member, session, left, how);
            state.dealer.members() == 0
        };
        match running.take() {
            Some(Running { stop, task, .. }) if empty => {
                stop.cancel();
                ended(task).await;
            }
            others => {
                *running = others;
                group.wake.notify_one();
            }
        }
    }
}

// === impl Member ===

impl Member {
    async fn pull(&mut self) -> Result<Batch<Delivery>, Rejection> {
        loop {
            let passing = match &mut self.passing {
                Some(passing) => passing,
                None => {
                    let batch = self.hand.next().await?;
                    let positions = batch.as_slice().iter().map(|delivery| delivery.position.clone()).collect();
                    let verdicts = self.outlet.pass(self.principal.clone(), self.group.filter.clone(), batch);
                    self.passing.insert(Passing { positions, verdicts })
                }
            };
            let verdicts = (&mut passing.verdicts).await;
            let positions = std::mem::take(&mut passing.positions);
            self.passing = None;
            if let Some(passed) = Batch::new(self.sort(positions, verdicts?)) {
                return Ok(passed);
            }
        }
    }

    /// What it gets; the rest goes back.
    fn sort(&self, positions: Vec<Position>, verdicts: Verdicts<Delivery>) -> Vec<Delivery> {
        let mut passed = Vec::with_capacity(positions.len());
        let mut state = self.group.lock();
        for (position, verdict) in positions.into_iter().zip(verdicts) {
            match verdict.answer {
                Ok(delivery) => passed.push(delivery),
                Err(no) if no.disposition() == Disposition::Final => {
                    state.dealer.refuse(self.member, &position, no.kind)
                }
                Err(no) => {
                    let after = no.retry_after.unwrap_or_default().max(reject::AGAIN_AFTER);
                    state.dealer.settle(self.member, vec![(position, Settlement::Again { after })]);
                }
            }
        }
        drop(state);
        self.group.wake.notify_one();
        passed
    }
}

impl Deliveries for Member {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        Box::pin(self.pull())
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        Box::pin(async move {
            let noted = {
                let mut state = self.group.lock();
                state.dealer.settle(self.member, settled);
                state.dealer.noted()
            };
            self.group.wake.notify_one();
            match self.stored.wait_for(|stored| *stored >= noted).await {
                Ok(_) => Ok(()),
                Err(_) => Err(gone()),
            }
        })
    }

    /// It takes what it said when it joined.
    fn grant(&mut self, _: u32) {}

    fn early(&mut self, _: bool) {}
}

//! The consumer's side of a subscription: at most `credit` deliveries are unsettled.
//!
//! Whatever is under way is kept in [`Pull`] and not in the future of `next`, which may be dropped at any await.
//! Nothing of a durable subscription is handed out above its durable mark, so that after a crash every repeat is marked.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering::SeqCst},
};

use envelope::{Batch, Deliveries, Delivery, Filter, Position, RejectKind, Rejection, Settlement, Timestamp};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use crate::{
    attach::{Attached, Attachment},
    fetch::{Found, Reading, Wanted},
    group::taken_over,
    queue::{Advance, Job, Passed, Queue, closed},
    record::Stored,
    shared::Shared,
    snapshot::Snapshot,
    subscription::{FeedState, MAX_CREDIT, Outcome},
};

/// The most deliveries of a batch.
const MAX_DELIVERIES: usize = 1_024;
/// How many are read from disk in one go even if there is credit for fewer.
const AHEAD: usize = 64;

/// An open subscription.
#[derive(Debug)]
pub(crate) struct Pull {
    shared: Arc<Shared>,
    queue: Queue,
    attachment: Attachment,
    wake: Arc<Notify>,
    filters: Vec<Filter>,
    credit: usize,
    /// Handed out by this consumer, unsettled.
    outstanding: HashSet<u64>,
    /// Everything up to it was looked at.
    read: u64,
    /// Something is gone of what was stored behind the position that it began with.
    has_gap: bool,
    /// Retention took what was to be read next.
    lapsed: bool,
    /// How far a durable subscription's backlog is counted.
    backlog: Option<u64>,
    /// To be handed out again once it is time.
    again: BinaryHeap<Reverse<(Instant, u64)>>,
    /// To be handed out again now.
    redeliver: VecDeque<u64>,
    /// Read and not handed out yet: repeats, and new ones at or below the mark. What can't be read has its turn as well.
    repeats: VecDeque<Found>,
    fresh: VecDeque<Found>,
    /// Read; may be handed out once `step` is answered.
    coming: Vec<Found>,
    step: Option<Step>,
    reading: Option<Reading>,
    /// The last values that it begins with.
    snapshot: Option<Snapshot>,
    /// What is not above it is one of them; 0 without them.
    last_values: u64,
    /// Outcomes that the writer has not been told of.
    outcomes: Vec<(u64, Outcome)>,
}

/// An advance that has to be durable before `coming` is handed out.
#[derive(Debug)]
enum Step {
    ToSend { passed: Option<Passed>, mark: u64 },
    Sent(oneshot::Receiver<Result<Option<u64>, Rejection>>),
}

// === impl Pull ===

impl Pull {
    pub(crate) fn new(shared: Arc<Shared>, queue: Queue, attached: Attached, credit: u32) -> Self {
        Self {
            shared,
            queue,
            attachment: attached.attachment,
            wake: attached.wake,
            filters: attached.filters,
            credit: (credit as usize).min(MAX_CREDIT),
            outstanding: HashSet::new(),
            read: attached.read,
            has_gap: attached.has_gap,
            lapsed: false,
            backlog: attached.backlog,
            again: BinaryHeap::new(),
            redeliver: attached.redeliver,
            repeats: VecDeque::new(),
            fresh: VecDeque::new(),
            coming: Vec::new(),
            step: None,
            reading: None,
            last_values: attached.snapshot.as_ref().map_or(0, Snapshot::until),
            snapshot: attached.snapshot,
            outcomes: Vec::new(),
        }
    }

    fn is_durable(&self) -> bool {
        self.attachment.feed.name.is_some()
    }

    fn room(&self) -> usize {
        self.credit.saturating_sub(self.outstanding.len())
    }

    /// What waits to be repeated holds no credit, so it is bounded by itself.
    fn takes_new(&self) -> bool {
        self.again.len() + self.redeliver.len() < self.credit.max(MAX_DELIVERIES)
    }

    async fn next_batch(&mut self) -> Result<Batch<Delivery>, Rejection> {
        loop {
            self.report_outcomes().await?;
            if self.lapsed {
                return Err(lapsed());
            }
            self.wake_repeats();
            if let Some(batch) = self.hand_out()? {
                return Ok(batch);
            }
            if self.outcomes.is_empty() && !self.progress().await? {
                self.wait().await;
            }
        }
    }

    /// Tells the writer what expired or can't be read. Nobody waits for that to be durable.
    async fn report_outcomes(&mut self) -> Result<(), Rejection> {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        let feed = self.attachment.feed.clone();
        self.queue.send(Job::Settle { feed, outcomes: self.outcomes.clone(), reply: None }).await?;
        self.outcomes.clear();
        Ok(())
    }

    fn wake_repeats(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, sequence))) = self.again.peek().copied()
            && at <= now
        {
            self.again.pop();
            self.redeliver.push_back(sequence);
        }
    }

    /// What is read and has credit: repeats first.
    fn hand_out(&mut self) -> Result<Option<Batch<Delivery>>, Rejection> {
        let (room, takes_new, durable) = (self.room().min(MAX_DELIVERIES), self.takes_new(), self.is_durable());
        let feed = self.attachment.feed.clone();
        let mut state = feed.lock();
        if state.generation != self.attachment.generation {
            return Err(taken_over());
        }
        if self.shared.closed.load(SeqCst) {
            return Err(closed());
        }
        self.redeliver.extend(state.revived.drain(..));
        if let Some(to) = state.early.rewound.take() {
            // what follows gets the sequences of what was lost
            (self.read, self.reading) = (self.read.min(to), None);
        }
        let now = Timestamp::now();
        let mut out = Vec::new();
        while out.len() < room {
            let (sequence, found, repeat) = match self.repeats.pop_front() {
                Some((sequence, stored)) => (sequence, stored, true),
                None => match self.fresh.pop_front_if(|_| takes_new) {
                    Some((sequence, stored)) => (sequence, stored, false),
                    None => break,
                },
            };
            if durable && !hold(&mut state, sequence, repeat) {
                continue;
            }
            if durable && !repeat && state.skips(sequence) {
                self.outcomes.push((sequence, Outcome::Over));
                continue;
            }
            let Some(stored) = found else {
                self.outcomes.extend(durable.then_some((sequence, Outcome::DeadLettered(RejectKind::Malformed))));
                continue;
            };
            // before it counts as another delivery, which it is not
            if stored.envelope.expirytime.is_some_and(|end| end <= now) {
                self.outcomes.extend(durable.then_some((sequence, Outcome::Expired)));
                continue;
            }
            if durable
                && repeat
                && let Some(times) = over(&mut state, sequence, self.shared.config.max_deliveries)
            {
                self.outcomes.push((sequence, Outcome::GivenUp(times)));
                continue;
            }
            self.outstanding.insert(sequence);
            let redelivered = repeat || (durable && sequence <= feed.doubtful.load(SeqCst));
            let delivery = delivery(self.shared.position(sequence), Arc::unwrap_or_clone(stored), redelivered);
            out.push(Delivery { is_last: sequence <= self.last_values, ..delivery });
        }
        Ok(Batch::new(out))
    }

    /// One step towards the next deliveries; `false` if there is nothing to do now.
    async fn progress(&mut self) -> Result<bool, Rejection> {
        if self.room() == 0 {
            return Ok(false);
        }
        if let Some(reading) = &mut self.reading {
            let done = reading.done().await;
            let tip = reading.tip();
            self.reading = None;
            let (wanted, found) = done?;
            self.take(wanted, found, tip);
            return Ok(true);
        }
        if self.step.is_some() {
            self.advance().await?;
            return Ok(true);
        }
        let Some(wanted) = self.wanted() else { return Ok(false) };
        match wanted.in_memory(&self.shared, self.room()) {
            Some(found) => {
                if found.is_empty() {
                    // A page of last values without one that is wanted: many may follow.
                    tokio::task::yield_now().await;
                }
                self.take(wanted, found, 0);
            }
            None => self.read(wanted).await,
        }
        Ok(true)
    }

    /// What to read next. It is asked for once: what is named here is on its way afterwards.
    fn wanted(&mut self) -> Option<Wanted> {
        let few = self.room().clamp(AHEAD, MAX_DELIVERIES);
        if !self.redeliver.is_empty() {
            return Some(Wanted::Again(self.redeliver.iter().take(few).copied().collect()));
        }
        if !self.fresh.is_empty() || !self.takes_new() {
            return None;
        }
        if let Some(snapshot) = &mut self.snapshot {
            match snapshot.wanted(&self.shared, &self.filters, few) {
                Some(sequences) => return Some(Wanted::Last(sequences)),
                None => self.snapshot = None,
            }
        }
        let mut state = self.attachment.feed.lock();
        if self.read < state.from {
            return Some(Wanted::After(state.skip_quiet(self.read)));
        }
        while state.ready.pop_front_if(|sequence| *sequence <= self.read).is_some() {}
        (!state.ready.is_empty()).then(|| Wanted::Listed(state.ready.iter().take(few).copied().collect()))
    }

    /// Begins to read from disk, once there is a store. Cancel safe: `wanted` changes nothing before `take`.
    async fn read(&mut self, wanted: Wanted) {
        let mut stores = self.shared.store.subscribe();
        let store = tokio::select! {
            store = stores.wait_for(Option::is_some) => store.ok().and_then(|store| store.clone()),
            () = self.wake.notified() => None,
        };
        if let Some(store) = store {
            self.reading = Some(wanted.read(store, self.shared.first.load(SeqCst), self.shared.tip.load(SeqCst)));
        }
    }

    /// Takes what was read; `tip`: up to which sequence it was looked for on disk.
    fn take(&mut self, wanted: Wanted, found: Vec<Found>, tip: u64) {
        match wanted {
            Wanted::Again(_) => {
                self.redeliver.drain(..found.len().min(self.redeliver.len()));
                self.repeats.extend(found);
            }
            Wanted::Listed(_) => {
                let mut state = self.attachment.feed.lock();
                if state.early.rewound.is_some() {
                    // what was found may be what is lost, and something else may have its sequence by now
                    return;
                }
                let listed = |(sequence, _): &Found| state.ready.pop_front_if(|first| first == sequence).is_some();
                // what is not listed any more was taken back, or is looked for in the log
                self.coming = found.into_iter().take_while(listed).collect();
                drop(state);
                let first = self.shared.first.load(SeqCst);
                let is_gone = |(sequence, found): &Found| found.is_none() && *sequence < first;
                self.lapsed |= !self.is_durable() && self.coming.iter().any(is_gone);
                self.read = self.read.max(self.coming.last().map_or(0, |(sequence, _)| *sequence));
                self.plan(None);
            }
            Wanted::Last(_) => {
                if let Some(snapshot) = &mut self.snapshot {
                    snapshot.pass(found.len());
                }
                self.fresh.extend(found);
            }
            Wanted::After(after) => self.take_chunk(after, found, tip),
        }
    }

    /// Whether what was stored right behind `after` is there no more. What a durable subscription misses so is counted.
    fn is_behind(&self, after: u64, found: &[Found]) -> bool {
        let next = found.first().map_or(u64::MAX, |(sequence, _)| *sequence);
        let first = self.shared.first.load(SeqCst);
        !self.is_durable() && next > after + 1 && first > after + 1
    }

    /// Of a part of the log, what matches. If there is nothing up to the tip, a repair gave that up, or retention took it.
    fn take_chunk(&mut self, after: u64, found: Vec<Found>, tip: u64) {
        let to = found.last().map_or(after.max(tip), |(sequence, _)| *sequence);
        self.read = to;
        self.lapsed = self.is_behind(after, &found);
        let counted = self.backlog;
        let filters = &self.filters;
        let selects = |stored: &Stored| filters.iter().any(|filter| filter.selects(&stored.envelope));
        let readable = found.into_iter().filter_map(|(sequence, stored)| Some((sequence, stored?)));
        self.coming = readable.filter(|(_, stored)| selects(stored)).map(|(at, stored)| (at, Some(stored))).collect();
        let passed = counted.filter(|from| *from < to).map(|from| {
            let above = self.coming.iter().map(|(sequence, _)| *sequence).filter(|sequence| *sequence > from);
            let matched = above.collect();
            Passed { from, to, matched }
        });
        self.plan(passed);
    }

    /// Hands `coming` on, at once or after a step.
    fn plan(&mut self, passed: Option<Passed>) {
        let mark = self.coming.last().map_or(0, |(sequence, _)| *sequence);
        let is_marked = mark <= self.attachment.feed.mark.load(SeqCst);
        if self.is_durable() && (passed.is_some() || !is_marked) {
            self.step = Some(Step::ToSend { passed, mark });
        } else {
            self.fresh.extend(self.coming.drain(..));
        }
    }

    async fn advance(&mut self) -> Result<(), Rejection> {
        if let Some(Step::ToSend { passed, mark }) = &self.step {
            let (passed, mark) = (passed.clone(), *mark);
            let (reply, answer) = oneshot::channel();
            let Attachment { feed, generation, .. } = &self.attachment;
            let advance = Advance { feed: feed.clone(), generation: *generation, passed, mark, reply };
            self.queue.send(Job::Advance(advance)).await?;
            self.step = Some(Step::Sent(answer));
        }
        if let Some(Step::Sent(answer)) = &mut self.step {
            let answer = answer.await;
            self.step = None;
            self.backlog = answer.map_err(|_| closed())??;
            self.fresh.extend(self.coming.drain(..));
        }
        Ok(())
    }

    async fn wait(&self) {
        match self.again.peek() {
            Some(Reverse((at, _))) if self.room() > 0 => tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(*at) => {}
            },
            Some(_) | None => self.wake.notified().await,
        }
    }

    async fn settle_all(&mut self, settled: Vec<(Position, Settlement)>) -> Result<(), Rejection> {
        self.report_outcomes().await?;
        let mut outcomes = Vec::with_capacity(settled.len());
        let mut later = Vec::new();
        let mut seen = BTreeSet::new();
        for (position, settlement) in settled {
            let Some(sequence) = self.shared.sequence(&position) else { continue };
            if !self.outstanding.contains(&sequence) || !seen.insert(sequence) {
                continue;
            }
            match settlement {
                Settlement::Delivered => outcomes.push((sequence, Outcome::Delivered)),
                Settlement::LeftOut => outcomes.push((sequence, Outcome::LeftOut)),
                Settlement::Refused(kind) => outcomes.push((sequence, Outcome::Refused(kind))),
                Settlement::DeadLettered(kind) => outcomes.push((sequence, Outcome::DeadLettered(kind))),
                Settlement::Again { after } => later.push((after, sequence)),
            }
        }
        let answer = match self.is_durable() && !outcomes.is_empty() {
            true => {
                let (reply, answer) = oneshot::channel();
                let feed = self.attachment.feed.clone();
                let outcomes = outcomes.clone();
                self.queue.send(Job::Settle { feed, outcomes, reply: Some(reply) }).await?;
                Some(answer)
            }
            false => None,
        };
        let settled_now: Vec<_> = outcomes.into_iter().map(|(sequence, _)| sequence).collect();
        for sequence in &settled_now {
            self.outstanding.remove(sequence);
        }
        let now = Instant::now();
        for (after, sequence) in later {
            self.outstanding.remove(&sequence);
            self.again.push(Reverse((now + after.min(MAX_DELAY), sequence)));
        }
        let Some(answer) = answer else { return Ok(()) };
        let answer = answer.await.map_err(|_| closed()).and_then(|answer| answer);
        if answer.is_err() {
            // They are still in hand, and may be settled again.
            self.outstanding.extend(settled_now);
        }
        answer
    }
}

fn lapsed() -> Rejection {
    let detail = "the subscription is so far behind that retention took what was to come next";
    Rejection::new(RejectKind::Conflict, "backbone", detail)
}

/// The longest delay of a redelivery.
const MAX_DELAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

impl Deliveries for Pull {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        Box::pin(self.next_batch())
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        Box::pin(self.settle_all(settled))
    }

    fn has_gap(&self) -> bool {
        self.has_gap
    }

    fn grant(&mut self, more: u32) {
        self.credit = self.credit.saturating_add(more as usize).min(MAX_CREDIT);
    }

    fn early(&mut self, early: bool) {
        if !self.is_durable() {
            self.attachment.feed.allow_early(early, &self.shared);
        }
    }
}

/// Notes that a sequence is handed out; `false` if it is a repeat that was settled meanwhile.
fn hold(state: &mut FeedState, sequence: u64, repeat: bool) -> bool {
    if repeat {
        return state.handed.contains(&sequence);
    }
    state.high = state.high.max(sequence);
    state.handed.insert(sequence);
    true
}

/// Counts another delivery; how many there were if it would be one too many.
fn over(state: &mut FeedState, sequence: u64, most: Option<u32>) -> Option<u32> {
    let most = most?;
    let attempts = state.attempts.entry(sequence).or_insert(1);
    *attempts = attempts.saturating_add(1);
    (*attempts > most).then_some(most)
}

/// An envelope on its way out.
pub(crate) fn delivery(position: Position, stored: Stored, redelivered: bool) -> Delivery {
    let Stored { envelope, retained } = stored;
    Delivery { position, redelivered, is_last: false, retained, lane: envelope.lane(), envelope }
}

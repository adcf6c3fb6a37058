//! One group: everything that the writer puts into one atomic batch with one sync.
//!
//! Jobs are staged in order, then committed, then applied to what is in memory. Nothing in memory changes before the
//! commit, so a group that fails leaves nothing behind. What is said of it is in `answers`, how a consumer's backlog is
//! counted in `backlog`.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::SeqCst},
    vec::IntoIter,
};

use envelope::{Admission, EnvelopeId, RejectKind, Rejection, Verdict};

use crate::{
    ages,
    answers::Reply,
    dead::DeadChanges,
    early::Shown,
    hash::ByHash,
    index::Indexed,
    keys::{KeyChanges, KeyJob},
    last::{LastChanges, retained},
    ledger::{Deltas, RouteRow, Row},
    orders::{Order, OrderReply},
    queue::{Job, Message, Prepared, Publish},
    record::{self, Chain, Stored},
    registry::Registry,
    retention::{Extent, Trim},
    shared::{Shared, read, write},
    state::State,
    store::{Remembered, Store},
    subscription::{Cursor, Feed, Outcome},
    times::Times,
};

/// Outcomes that nobody waits for, and whose they are.
pub(crate) type FoundOut = (Arc<Feed>, Vec<(u64, Outcome)>);

/// What a group will change.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The first sequence.
    pub(crate) first: u64,
    pub(crate) chain: Chain,
    pub(crate) records: Vec<Prepared>,
    /// Ids that were not known.
    pub(crate) fresh: Remembered,
    /// Ids of messages whose publisher has not been answered yet.
    asked: Vec<EnvelopeId>,
    /// The fingerprint of each of them.
    prints: Vec<u64>,
    /// By fingerprint; of two ids that share one, the first.
    in_group: ByHash<(EnvelopeId, u64)>,
    pub(crate) evicted: Vec<Arc<Remembered>>,
    /// What the mappings' counters gain.
    pub(crate) deltas: Deltas,
    /// The part of it that is messages whose publisher has not been answered yet.
    pub(crate) unanswered: Deltas,
    /// Messages whose publisher was answered when they were queued.
    pub(crate) answered: Vec<Arc<RouteRow>>,
    pub(crate) cursors: HashMap<u32, Cursor>,
    pub(crate) last: LastChanges,
    pub(crate) keys: KeyChanges,
    /// As of the group's last record.
    pub(crate) times: Option<Times>,
    /// How old the records are, where that is noted with it.
    pub(crate) aged: Option<ages::Row>,
    /// How long the gateway had run, where that is noted with it.
    pub(crate) clock: Option<u64>,
    pub(crate) dead: DeadChanges,
    pub(crate) indexed: Indexed,
    /// Subscriptions that end.
    pub(crate) dropped: Vec<u32>,
    /// What was settled and is to be delivered again.
    pub(crate) revived: Vec<(Arc<Feed>, u64)>,
    /// What goes from the log.
    pub(crate) trim: Trim,
    /// What the log has with it.
    pub(crate) extent: Option<Extent>,
    settled: Vec<(Arc<Feed>, u64)>,
    /// Outcomes that a consumer found out, and does not tell of again.
    pub(crate) found_out: Vec<FoundOut>,
    /// Which subscriptions select which sequence; 0 where its consumer has seen the envelope.
    pub(crate) matched: Vec<(u32, u64)>,
    /// Somebody waits until it is on disk, or is not shown something before.
    pub(crate) is_awaited: bool,
    /// What was shown before it is on disk.
    pub(crate) shown: Shown,
    /// Of the envelope that is being staged.
    pub(crate) found: Vec<u32>,
    /// Subscriptions whose backlog ended, at which sequence.
    pub(crate) caught_up: Vec<(Arc<Feed>, u64)>,
    /// The ledger's rows that changed.
    pub(crate) rows: Vec<Row>,
    /// Once a commit was tried.
    pub(crate) number: Option<u64>,
    /// Ids of [`State::doubted`] that were offered again.
    pub(crate) redeemed: Vec<EnvelopeId>,
    /// The subscription that it makes: known before the commit, and unmade if the commit never was.
    pub(crate) registered: Option<u32>,
    /// The first that subscribed while it was in doubt whether the group is on disk: what it brings is not matched for them.
    pub(crate) late_from: Option<u32>,
    /// A subscription that goes back, and to where: also where its commit failed and is found on disk.
    pub(crate) went_back: Option<(Arc<Feed>, u64)>,
    /// The store could not be read: nothing of the group is stored.
    pub(crate) broken: Option<fjall::Error>,
    pub(crate) replies: Vec<Reply>,
    /// Envelopes to be freed.
    pub(crate) gone: Vec<Arc<Stored>>,
}

// === impl Group ===

impl Group {
    pub(crate) fn new(first: u64, chain: Chain) -> Self {
        Self { first, chain, ..Self::default() }
    }

    /// Makes room at once for what is about to be staged.
    pub(crate) fn reserve(&mut self, envelopes: usize, jobs: usize) {
        self.records.reserve(envelopes);
        self.fresh.ids.reserve(envelopes);
        self.asked.reserve(envelopes);
        self.prints.reserve(envelopes);
        self.in_group.reserve(envelopes);
        self.replies.reserve(jobs);
    }

    /// The next free sequence.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Adds a job's changes.
    pub(crate) fn stage(&mut self, job: Job, state: &State, store: &Store, shared: &Shared) {
        match job {
            Job::Publish(publish) => self.publish(publish, state, store, shared),
            Job::Settle { feed, outcomes, reply } => {
                match reply {
                    Some(reply) => self.replies.push(Reply::Settle(reply)),
                    None => self.found_out.push((feed.clone(), outcomes.clone())),
                }
                self.settle(&feed, outcomes, state, store, shared);
            }
            Job::Advance(advance) => self.advance(advance, &state.registry, shared),
            Job::Keys(job) => self.write_keys(job, state, store, shared),
            Job::Order(order, reply) => self.take_order(order, reply, state, store, shared),
            Job::Begun => {}
            job @ (Job::Attach { .. } | Job::Close(_)) => job.fail(&unavailable("the writer mixed up its jobs")),
        }
    }

    fn write_keys(&mut self, job: KeyJob, state: &State, store: &Store, shared: &Shared) {
        match self.keys.stage(&job, &state.keys, store, shared.config.keys) {
            Ok(answer) => self.replies.push(Reply::Keys(job.reply, answer)),
            // Nothing of it is staged, and the rest of the group is as good as before.
            Err(error) => {
                let failed = unavailable("the store could not be read").because(error);
                self.replies.push(Reply::Keys(job.reply, Err(failed)));
            }
        }
    }

    fn take_order(&mut self, order: Order, reply: OrderReply, state: &State, store: &Store, shared: &Shared) {
        let answer = self.order(order, state, store, shared);
        // It is read before anything is staged.
        let answer = answer.unwrap_or_else(|error| Err(unavailable("the store could not be read").because(error)));
        self.replies.push(Reply::Order(reply, answer));
    }

    fn publish(&mut self, publish: Publish, state: &State, store: &Store, shared: &Shared) {
        let mut records = publish.records.into_iter();
        let mut verdicts = Vec::with_capacity(publish.messages.len());
        let asked = publish.reply.is_some();
        for message in publish.messages {
            let rest = records.len().saturating_sub(message.records);
            verdicts.push(self.message(&message, &mut records, asked, (state, store, shared)));
            let not_stored = records.len().saturating_sub(rest);
            records.by_ref().take(not_stored).for_each(drop);
        }
        self.replies.extend(publish.reply.map(|reply| Reply::Publish(reply, verdicts)));
    }

    /// Why a message's envelopes can't be last values, if they are to be.
    fn refusal_of_last(&self, message: &Message, records: &[Prepared], shared: &Shared) -> Option<Rejection> {
        if !message.retained {
            return None;
        }
        let own = retained(records.iter().take(message.records).map(|prepared| &prepared.stored));
        let refusal = self.last.refusal(&own, &read(&shared.last), shared.config.last_values)?;
        metrics::counter!("openmesh_backbone_last_values_over_total").increment(1);
        Some(refusal)
    }

    /// A message is stored whole or, if its id is known, not at all. Its records are the first of `records`.
    fn message(
        &mut self,
        message: &Message,
        records: &mut IntoIter<Prepared>,
        asked: bool,
        (state, store, shared): (&State, &Store, &Shared),
    ) -> Verdict<Admission> {
        if let Some(rejection) = &message.refused {
            return Verdict::no(rejection.clone());
        }
        if !asked {
            self.answered.push(message.row.clone());
        }
        let print = state.prints.print(message.id);
        let known = self.staged(message.id, print).or_else(|| self.known(message.id, print, state, store));
        if let Some(sequence) = known {
            // who was answered at once has heard yes already
            if asked && self.is_misused(message, sequence, store) {
                let detail = "the idempotency key was used for another message";
                return Verdict::no(Rejection::new(RejectKind::Malformed, "idempotency_key", detail));
            }
            let doubted = state.doubted.contains(&message.id) && !self.redeemed.contains(&message.id);
            self.count(&message.row, asked, doubted);
            if doubted {
                self.redeemed.push(message.id);
            }
            return message.stored(Some(shared.position(sequence)), !doubted);
        }
        let over = self.refusal_of_last(message, records.as_slice(), shared);
        // Whoever was answered can't be refused: its envelopes are stored, and are no last values.
        let is_last = message.retained && over.is_none();
        if let Some(rejection) = over.filter(|_| asked) {
            return Verdict::no(rejection);
        }
        let sequence = self.next();
        self.in_group.entry(print).or_insert((message.id, sequence));
        self.fresh.ids.push((sequence, message.id));
        self.prints.push(print);
        self.asked.extend(asked.then_some(message.id));
        self.count(&message.row, asked, true);
        for prepared in records.by_ref().take(message.records) {
            if is_last {
                self.last.set(&prepared.stored, self.next(), &read(&shared.last));
            }
            self.append(prepared, &message.row, state, shared.config.max_waiting);
        }
        message.stored(Some(shared.position(sequence)), false)
    }

    /// Whether the sender used the name of the message stored at `sequence` for something else.
    fn is_misused(&self, message: &Message, sequence: u64, store: &Store) -> bool {
        let Some(own) = message.print else { return false };
        let at = sequence.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let first = match at.and_then(|at| self.records.get(at)) {
            Some(prepared) => record::print(&prepared.record),
            None => store.print_at(sequence).unwrap_or_else(|error| {
                tracing::error!(sequence, %error, "a record can't be read, what its name was used for is not known");
                None
            }),
        };
        first.is_some_and(|first| first != own)
    }

    fn count(&mut self, row: &Arc<RouteRow>, asked: bool, accepted: bool) {
        for deltas in [Some(&mut self.deltas), asked.then_some(&mut self.unanswered)].into_iter().flatten() {
            let delta = deltas.entry(row);
            *if accepted { &mut delta.accepted } else { &mut delta.duplicate } += 1;
        }
    }

    /// Where the group stores the id.
    fn staged(&self, id: EnvelopeId, print: u64) -> Option<u64> {
        let (first, sequence) = self.in_group.get(&print)?;
        if *first == id {
            return Some(*sequence);
        }
        self.fresh.ids.iter().find(|(_, other)| *other == id).map(|(sequence, _)| *sequence)
    }

    /// Where the id is stored. A fingerprint's hit is confirmed on disk.
    fn known(&mut self, id: EnvelopeId, print: u64, state: &State, store: &Store) -> Option<u64> {
        for sequence in state.prints.candidates(print) {
            match store.is_at(id, sequence) {
                Ok(true) => return Some(sequence),
                Ok(false) => {}
                Err(error) => self.broken = Some(error),
            }
        }
        None
    }

    fn append(&mut self, mut prepared: Prepared, row: &Arc<RouteRow>, state: &State, max_waiting: u64) {
        let sequence = self.next();
        self.chain = record::link(&mut prepared.record, &self.chain);
        let mut found = std::mem::take(&mut self.found);
        let envelope = &prepared.stored.envelope;
        state.registry.matching(&envelope.subject, envelope.recipients(), &mut found);
        let mut claimed = false;
        for &id in &found {
            let Some(subscription) = state.registry.get(id) else { continue };
            if let Some(cursor) = &subscription.cursor {
                claimed = true;
                let cursor = self.cursors.entry(id).or_insert_with(|| cursor.clone());
                if cursor.backlog.is_none() {
                    cursor.counts.matched += 1;
                    let feed = subscription.feed.lock();
                    if feed.attached {
                        cursor.mark = sequence;
                    }
                    cursor.bound(feed.handed.len(), max_waiting);
                }
            }
            self.matched.push((id, sequence));
        }
        self.found = found;
        let delta = self.deltas.entry(row);
        *if claimed { &mut delta.claimed } else { &mut delta.unclaimed } += 1;
        self.records.push(prepared);
    }

    pub(crate) fn cursor(&mut self, feed: &Feed, registry: &Registry) -> Option<&mut Cursor> {
        let known = registry.get(feed.id)?.cursor.as_ref()?;
        Some(self.cursors.entry(feed.id).or_insert_with(|| known.clone()))
    }

    fn settle(
        &mut self,
        feed: &Arc<Feed>,
        outcomes: Vec<(u64, Outcome)>,
        state: &State,
        store: &Store,
        shared: &Shared,
    ) {
        let context = (state, store, shared);
        let Some(cursor) = self.cursor(feed, &state.registry) else { return };
        let feed_state = feed.lock();
        let (mut settled, mut dead) = (Vec::with_capacity(outcomes.len()), Vec::new());
        for (sequence, outcome) in outcomes {
            if cursor.is_open(sequence, &feed_state.handed) {
                cursor.settle(sequence, outcome, &feed_state.handed);
                let is_dead = matches!(outcome, Outcome::DeadLettered(_) | Outcome::GivenUp(_));
                dead.extend(is_dead.then_some((sequence, outcome)));
            }
            // One that is not open any more is in nobody's hands either. One above the top was handed out before its
            // consumer went back, and comes again.
            if sequence <= cursor.top {
                settled.push((feed.clone(), sequence));
            }
        }
        drop(feed_state);
        self.settled.extend(settled);
        for (sequence, outcome) in dead {
            self.bury_delivery(feed, sequence, outcome, context);
        }
    }

    /// A sequence is in nobody's hands any more.
    pub(crate) fn settled(&mut self, feed: Arc<Feed>, sequence: u64) {
        self.settled.push((feed, sequence));
    }

    /// Makes the group's changes visible, once they are on disk.
    pub(crate) fn apply(&mut self, state: &mut State, shared: &Shared) {
        let applying = crate::shared::locked(&shared.applying);
        let next = self.next();
        self.revive();
        for (id, cursor) in self.cursors.drain() {
            state.registry.update(id, cursor);
        }
        if let Some((feed, top)) = self.went_back.take() {
            feed.go_back(top);
        }
        std::mem::take(&mut self.deltas).apply();
        if !self.last.is_empty() {
            self.last.apply(&mut write(&shared.last));
        }
        self.keys.apply(&mut state.keys, shared);
        shared.tip.store(next - 1, SeqCst);
        drop(applying);
        state.next = next;
        self.apply_extent(state, shared);
        state.chain = self.chain;
        state.times = self.times.unwrap_or(state.times);
        if let Some(row) = self.aged {
            state.ages.note(row);
        }
        if let Some(clock) = self.clock {
            state.note(clock);
        }
        self.apply_index(&mut state.index);
        let fresh = self.fresh.ids.iter().zip(self.prints.drain(..));
        fresh.for_each(|((sequence, _), print)| state.prints.insert(print, *sequence));
        state.forget(&self.evicted);
        state.saved.extend(std::mem::take(&mut self.rows));
        self.redeemed.iter().for_each(|id| {
            state.doubted.remove(id);
        });
        let records = std::mem::take(&mut self.records).into_iter().skip(self.shown.records);
        let first = self.first + self.shown.records as u64;
        let gone = shared.tail.extend(first, state.extent.first, records.map(|one| (one.stored, one.size)));
        self.gone.extend(gone);
        self.feed(&state.registry);
        self.apply_orders(state, shared);
    }

    /// Tells the consumers.
    fn feed(&mut self, registry: &Registry) {
        for (feed, sequence) in self.settled.drain(..) {
            let mut state = feed.lock();
            state.handed.remove(&sequence);
            state.skipping.remove(&sequence);
            state.attempts.remove(&sequence);
            state.high = state.high.max(sequence);
        }
        for (feed, tip) in self.caught_up.drain(..) {
            feed.lock().restart(tip);
        }
        for (id, sequence) in self.matched.drain(..) {
            let Some(subscription) = registry.get(id) else { continue };
            let backlog = subscription.cursor.as_ref().is_some_and(|cursor| cursor.backlog.is_some());
            let mut feed = subscription.feed.lock();
            if backlog {
                feed.restart(sequence);
                feed.wake.notify_one();
            } else if sequence > feed.from && sequence > feed.early.upto {
                feed.push(sequence);
            }
        }
    }

    /// Ids of the group's messages whose publisher was not answered before it.
    pub(crate) fn asked(&self) -> impl Iterator<Item = EnvelopeId> {
        self.asked.iter().copied()
    }

    /// Whether there is nothing to store.
    pub(crate) fn is_empty(&self) -> bool {
        let settled = self.cursors.is_empty() && self.evicted.is_empty() && self.rows.is_empty();
        self.records.is_empty()
            && settled
            && self.last.is_empty()
            && self.keys.is_empty()
            && self.trim.is_empty()
            && self.dead.is_empty()
            && self.dropped.is_empty()
            && self.aged.is_none()
            && !self.indexes_older()
    }
}

/// Another consumer has the durable name.
pub(crate) fn taken_over() -> Rejection {
    Rejection::new(RejectKind::Conflict, "backbone", "another consumer took over the subscription")
}

pub(crate) fn unavailable(detail: &str) -> Rejection {
    Rejection::new(RejectKind::Unavailable, "backbone", detail)
}

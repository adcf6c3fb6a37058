//! What operators and policy ask of the writer now and then: dead letters kept, dropped and delivered again, subscriptions
//! dropped, and those that nobody consumes ended after a while.

use std::{sync::Arc, time::Duration};

use envelope::{RejectKind, Rejection, Timestamp};
use tokio::sync::oneshot;

use crate::{
    dead::{self, DeadContent, DeadLetter},
    group::Group,
    record,
    shared::{Shared, locked},
    state::State,
    store::Store,
    subscription::{Feed, Idle, Outcome},
};

/// Something that is asked for.
#[derive(Debug)]
pub(crate) enum Order {
    /// Keeps a letter.
    Bury(Box<DeadLetter>),
    /// Drops letters of these numbers.
    DropLetters(Vec<u64>),
    /// Has the subscription deliver the letter's envelope again.
    Replay(u64),
    /// Ends a durable subscription.
    DropSubscription(Arc<str>),
    /// Nothing: whoever asks hears once all that came before it is on disk.
    Await,
}

/// How many were done.
pub(crate) type OrderReply = oneshot::Sender<Result<usize, Rejection>>;

// === impl Group ===

impl Group {
    /// Adds what is asked for; the answer is how many were done. The outer error is the store's.
    pub(crate) fn order(
        &mut self,
        order: Order,
        state: &State,
        store: &Store,
        shared: &Shared,
    ) -> fjall::Result<Result<usize, Rejection>> {
        Ok(match order {
            Order::Bury(letter) => Ok(usize::from(self.dead.add(&letter, &state.dead, shared.config.dead_letters))),
            Order::DropLetters(ids) => Ok(self.dead.remove(&ids, &state.dead)),
            Order::Replay(id) => match dead::get(store, id)? {
                None => Ok(0),
                Some(letter) => self.replay(&letter, state, store)?.map(|()| 1),
            },
            Order::Await => Ok(0),
            Order::DropSubscription(name) => {
                let known = state.registry.named(&name).filter(|one| one.cursor.is_some());
                let known = known.map(|one| one.feed.id).filter(|id| !self.dropped.contains(id));
                self.dropped.extend(known);
                Ok(usize::from(known.is_some()))
            }
        })
    }

    /// Keeps what a subscription gave up. Of what was denied the data are kept nowhere but in the log.
    pub(crate) fn bury_delivery(
        &mut self,
        feed: &Feed,
        sequence: u64,
        outcome: Outcome,
        (state, store, shared): (&State, &Store, &Shared),
    ) {
        let (kind, detail) = match outcome {
            Outcome::DeadLettered(kind) => (kind, format!("its consumer gave it up: {kind}")),
            Outcome::GivenUp(times) => (RejectKind::Unavailable, format!("nobody took it in {times} deliveries")),
            Outcome::Delivered
            | Outcome::LeftOut
            | Outcome::Refused(_)
            | Outcome::Expired
            | Outcome::Lapsed
            | Outcome::Over => return,
        };
        let unknown = || Arc::from("");
        let (quota, subscription) = (shared.config.dead_letters, feed.name.clone().unwrap_or_else(unknown));
        if self.dead.is_full(&state.dead, quota) {
            return self.dead.lose(subscription);
        }
        let may_keep = !matches!(kind, RejectKind::Denied | RejectKind::Unauthenticated);
        let record = store.log.get(sequence.to_be_bytes()).unwrap_or_else(|error| {
            tracing::error!(sequence, %error, "the record of a dead letter can't be read");
            None
        });
        let record = record.map(bytes::Bytes::from).unwrap_or_default();
        let header = record::header_of(&record).ok();
        let letter = DeadLetter {
            id: 0,
            at: Timestamp::now(),
            kind,
            detail,
            bridge: header.as_ref().map_or_else(unknown, |header| header.bridge.clone()),
            mapping: header.as_ref().map_or_else(unknown, |header| header.mapping.clone()),
            principal: header.as_ref().map_or_else(unknown, |header| header.principal.clone()),
            content: DeadContent::Envelope {
                subscription,
                sequence,
                envelope: None,
                record: if may_keep { record } else { bytes::Bytes::new() },
            },
        };
        self.dead.add(&letter, &state.dead, quota);
    }

    /// What was settled as dead is pending again, and the letter goes.
    fn replay(&mut self, letter: &DeadLetter, state: &State, store: &Store) -> fjall::Result<Result<(), Rejection>> {
        let refuse = |detail: String| Ok(Err(Rejection::new(RejectKind::Conflict, "backbone", detail)));
        let DeadContent::Envelope { subscription, sequence, .. } = &letter.content else {
            return refuse(format!("dead letter {} is no envelope of a subscription: send it anew", letter.id));
        };
        let Some(feed) = state.registry.named(subscription).map(|one| one.feed.clone()) else {
            return refuse(format!("there is no subscription {subscription:?} any more"));
        };
        if store.get(*sequence)?.is_none() {
            return refuse(format!("the record of dead letter {} went by retention", letter.id));
        }
        let Some(cursor) = self.cursor(&feed, &state.registry) else {
            return refuse(format!("subscription {subscription:?} is not durable"));
        };
        if *sequence > cursor.top || cursor.gaps.contains(sequence) {
            return refuse(format!("subscription {subscription:?} has not settled it"));
        }
        cursor.gaps.insert(*sequence);
        let kind = letter.kind.as_str();
        // The letter of an earlier subscription of the name is in the counts of this one nowhere: it gets one more.
        let dead = if *sequence <= cursor.since { None } else { cursor.counts.dead_lettered.get(kind).copied() };
        match dead {
            None | Some(0) => cursor.counts.matched += 1,
            Some(1) => drop(cursor.counts.dead_lettered.remove(kind)),
            Some(count) => drop(cursor.counts.dead_lettered.insert(kind, count - 1)),
        }
        self.revived.push((feed, *sequence));
        self.dead.remove(&[letter.id], &state.dead);
        Ok(Ok(()))
    }

    /// Notes since when durable subscriptions are not consumed, and ends those for which that is too long. Only the time in
    /// which the gateway runs counts, and one that was consumed since the last look begins anew.
    pub(crate) fn park(&mut self, state: &State, shared: &Shared) {
        let now = Idle { clock: state.clock(), at: state.now() };
        for (feed, cursor) in state.registry.cursors() {
            let (attached, seen) = feed.lock().in_use();
            let idle = match cursor.idle {
                Some(_) if attached => None,
                Some(idle) if !seen => {
                    if Duration::from_secs(now.clock.saturating_sub(idle.clock)) > shared.config.park_for {
                        let since = idle.at;
                        tracing::warn!(name = feed.name.as_deref(), %since, "a durable subscription that nobody consumes ends");
                        metrics::counter!("openmesh_backbone_subscriptions_ended_total").increment(1);
                        self.dropped.push(feed.id);
                    }
                    continue;
                }
                None if attached => continue,
                Some(_) | None => Some(now),
            };
            self.cursors.entry(feed.id).or_insert_with(|| cursor.clone()).idle = idle;
        }
    }

    /// Makes it visible, once it is on disk.
    pub(crate) fn apply_orders(&mut self, state: &mut State, shared: &Shared) {
        self.dead.apply(&mut state.dead, &shared.dead_over);
        shared.dead_letters.store(state.dead.len() as u64, std::sync::atomic::Ordering::SeqCst);
        for id in self.dropped.drain(..) {
            let Some(feed) = state.registry.get(id).map(|one| one.feed.clone()) else { continue };
            feed.lock().displace();
            if let Some(name) = &feed.name {
                locked(&shared.feeds).remove(name);
            }
            state.registry.remove(id);
        }
    }

    /// What was settled is in hand again: before the counts say that it is not dead any more.
    pub(crate) fn revive(&mut self) {
        for (feed, sequence) in self.revived.drain(..) {
            let mut state = feed.lock();
            state.attempts.remove(&sequence);
            state.handed.insert(sequence);
            state.revived.push(sequence);
            state.wake.notify_one();
        }
    }
}

//! What operators and policy ask of the writer now and then: dead letters kept, dropped and delivered again, subscriptions
//! dropped, and those that nobody consumes ended after a while.

use std::sync::Arc;

use envelope::{RejectKind, Rejection, Timestamp};
use tokio::sync::oneshot;

use crate::{
    dead::{self, DeadContent, DeadLetter},
    group::Group,
    record,
    shared::{Shared, locked},
    state::State,
    store::Store,
    subscription::{Feed, Outcome},
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
            Order::Bury(letter) => Ok(usize::from(self.bury(&letter, state, shared))),
            Order::DropLetters(ids) => Ok(self.dead.remove(&ids, &state.dead)),
            Order::Replay(id) => match dead::get(store, id)? {
                None => Ok(0),
                Some(letter) => self.replay(&letter, state, store)?.map(|()| 1),
            },
            Order::DropSubscription(name) => {
                let known = state.registry.named(&name).filter(|one| one.cursor.is_some());
                let known = known.map(|one| one.feed.id).filter(|id| !self.dropped.contains(id));
                self.dropped.extend(known);
                Ok(usize::from(known.is_some()))
            }
        })
    }

    fn bury(&mut self, letter: &DeadLetter, state: &State, shared: &Shared) -> bool {
        let kept = self.dead.add(letter, &state.dead, shared.config.dead_letters);
        if !kept {
            state.dead.over(letter, &shared.dead_over);
        }
        kept
    }

    /// Keeps what a subscription gave up. Of what was denied the data are kept nowhere but in the log.
    pub(crate) fn bury_delivery(
        &mut self,
        feed: &Feed,
        sequence: u64,
        outcome: Outcome,
        (state, store, shared): (&State, &Store, &Shared),
    ) -> fjall::Result<()> {
        let (kind, detail) = match outcome {
            Outcome::DeadLettered(kind) => (kind, format!("its consumer gave it up: {kind}")),
            Outcome::GivenUp(times) => (RejectKind::Unavailable, format!("nobody took it in {times} deliveries")),
            Outcome::Delivered | Outcome::Refused(_) | Outcome::Expired | Outcome::Lapsed => return Ok(()),
        };
        let may_keep = !matches!(kind, RejectKind::Denied | RejectKind::Unauthenticated);
        let record = store.log.get(sequence.to_be_bytes())?.map(bytes::Bytes::from).unwrap_or_default();
        let header = record::decode(&record).ok().map(|(header, _)| header);
        let unknown = || Arc::from("");
        let letter = DeadLetter {
            id: 0,
            at: Timestamp::now(),
            kind,
            detail,
            bridge: header.as_ref().map_or_else(unknown, |header| header.bridge.clone()),
            mapping: header.as_ref().map_or_else(unknown, |header| header.mapping.clone()),
            principal: header.as_ref().map_or_else(unknown, |header| header.principal.clone()),
            content: DeadContent::Envelope {
                subscription: feed.name.clone().unwrap_or_else(unknown),
                sequence,
                envelope: None,
                record: if may_keep { record } else { bytes::Bytes::new() },
            },
        };
        self.bury(&letter, state, shared);
        Ok(())
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
        if let Some(count) = cursor.counts.dead_lettered.get_mut(letter.kind.as_str()) {
            *count -= 1;
            if *count == 0 {
                cursor.counts.dead_lettered.remove(letter.kind.as_str());
            }
        }
        self.revived.push((feed, *sequence));
        self.dead.remove(&[letter.id], &state.dead);
        Ok(Ok(()))
    }

    /// Notes since when durable subscriptions are not consumed, and ends those for which that is too long.
    pub(crate) fn park(&mut self, state: &State, shared: &Shared) {
        let now = state.now();
        for (feed, cursor) in state.registry.cursors() {
            let idle_since = match (feed.lock().attached, cursor.idle_since) {
                (true, Some(_)) => None,
                (false, None) => Some(now),
                (false, Some(since)) if since.plus(shared.config.park_for) < now => {
                    tracing::warn!(name = feed.name.as_deref(), %since, "a durable subscription that nobody consumes ends");
                    metrics::counter!("openmesh_backbone_subscriptions_ended_total").increment(1);
                    self.dropped.push(feed.id);
                    continue;
                }
                (true, None) | (false, Some(_)) => continue,
            };
            self.cursors.entry(feed.id).or_insert_with(|| cursor.clone()).idle_since = idle_since;
        }
    }

    /// Makes it visible, once it is on disk.
    pub(crate) fn apply_orders(&mut self, state: &mut State, shared: &Shared) {
        self.dead.apply(&mut state.dead);
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

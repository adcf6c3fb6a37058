//! A mesh to subscribe to: hands out what the test gives it, within the credit, and remembers what was settled.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use envelope::{
    Batch, Data, Deliveries, Delivery, Envelope, Filter, Identity, IdentityParts, Inbound, LastValues, Outbound,
    Outlet, Position, Principal, RejectKind, Rejection, Route, Settlement, Shown, Subscribe, Timestamp, Topic, Verdict,
    Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::timeout};

use super::HARD_TIMEOUT;

/// What a mapping makes of a delivery, for whoever subscribes to its address.
pub type Show = fn(&Delivery) -> Result<Option<Outbound>, Rejection>;

/// All that mappings show.
type Shows = Vec<(Shown, Show)>;

/// Every subscription gets all deliveries that its filters match.
#[derive(Debug, Default)]
pub struct FakeOutlet {
    log: Mutex<Vec<Delivery>>,
    /// Filters that no one may read.
    forbidden: Mutex<Option<&'static str>>,
    /// What mappings show.
    shown: watch::Sender<Shows>,
    /// What they show once a subscription to a filter is opened.
    soon: Mutex<Option<(&'static str, Shows)>>,
    /// A principal, and a topic that it gets nothing of where it shares a subscription.
    withheld: Mutex<Option<(&'static str, &'static str)>>,
    /// Whether last values are only of what says that it is one.
    only_retained: AtomicBool,
    /// Whether no position can be ended.
    keeps_all: AtomicBool,
    state: watch::Sender<State>,
}

/// What happened at the outlet.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// What was asked for.
    pub opened: Vec<(Arc<str>, Subscribe)>,
    /// What was settled, in order.
    pub settled: Vec<(Position, Settlement)>,
    /// Deliveries that went back unsettled when their subscription ended.
    pub gone_back: usize,
    /// Subscriptions that ended.
    pub ended: usize,
    /// Durable names that were ended.
    pub forgotten: Vec<Arc<str>>,
    /// What subscriptions asked for: to wait for the disk, or not to.
    pub early: Vec<bool>,
}

struct Subscribed {
    queue: VecDeque<Delivery>,
    unsettled: BTreeMap<Position, Delivery>,
    credit: u32,
    state: watch::Sender<State>,
}

/// A delivery at `position` on `topic`, with JSON data.
///
/// # Panics
/// If `topic` is none.
pub fn delivery(position: u64, topic: &'static str, data: Bytes) -> Delivery {
    let Ok(subject) = Topic::new(topic) else { panic!("{topic:?} is no topic") };
    let native = Bytes::copy_from_slice(&position.to_be_bytes());
    let parts = IdentityParts { domain: "test", bridge: "web", principal: "anonymous", route: "test" };
    let envelope = Envelope {
        datacontenttype: Some("application/json".into()),
        ..Envelope::plain(
            Identity::Native(native.clone()).envelope_id(parts),
            "mesh://test/web/anonymous".into(),
            "mesh/opaque@v1.0.0".into(),
            subject,
            Timestamp::from_micros(position),
            Data::Opaque(data),
        )
    };
    Delivery::new(Position(native), envelope)
}

// === impl FakeOutlet ===

impl FakeOutlet {
    /// What subscriptions opened from now on get.
    pub fn give(&self, deliveries: impl IntoIterator<Item = Delivery>) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).extend(deliveries);
    }

    /// Last values are only of deliveries that say that they are, from now on.
    pub fn only_retained(&self) {
        self.only_retained.store(true, Ordering::Relaxed);
    }

    /// Whether no position can be ended from now on, as by a store that is away.
    pub fn keep_all(&self, keeps: bool) {
        self.keeps_all.store(keeps, Ordering::Relaxed);
    }

    /// Refuses a filter.
    pub fn forbid(&self, filter: &'static str) {
        *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner) = Some(filter);
    }

    /// Withholds a topic from a principal that shares a subscription.
    pub fn withhold(&self, principal: &'static str, topic: &'static str) {
        *self.withheld.lock().unwrap_or_else(PoisonError::into_inner) = Some((principal, topic));
    }

    /// Mappings show this from now on, and nothing else.
    pub fn show(&self, shown: Shows) {
        self.shown.send_replace(shown);
    }

    /// Mappings show this, and nothing else, from when a subscription to `filter` is opened.
    pub fn show_once_open(&self, filter: &'static str, shown: Shows) {
        *self.soon.lock().unwrap_or_else(PoisonError::into_inner) = Some((filter, shown));
    }

    /// What happened so far.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// If it never is.
    pub async fn until(&self, so: impl FnMut(&State) -> bool) {
        let mut state = self.state.subscribe();
        let waited = timeout(HARD_TIMEOUT, state.wait_for(so)).await.is_ok();
        assert!(waited, "the outlet stays {:?}", self.state());
    }
}

impl Outlet for FakeOutlet {
    fn open(
        &self,
        principal: Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        let forbidden = *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = if what.filters.iter().any(|filter| Some(filter.as_str()) == forbidden) {
            Err(Rejection::new(RejectKind::Denied, "access", "the filter is not for you"))
        } else {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = |delivery: &&Delivery| what.filters.iter().any(|f| f.matches(&delivery.envelope.subject));
            let subscribed = Subscribed {
                queue: log.iter().filter(wanted).cloned().collect(),
                unsettled: BTreeMap::new(),
                credit: what.credit,
                state: self.state.clone(),
            };
            let mut soon = self.soon.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, shown)) = soon.take_if(|(when, _)| what.filters.iter().any(|f| f.as_str() == *when)) {
                self.show(shown);
            }
            self.state.send_modify(|state| state.opened.push((principal.id.clone(), what)));
            Ok(Box::new(subscribed) as Box<dyn Deliveries>)
        };
        Box::pin(std::future::ready(answer))
    }

    fn may_keep(&self, message: Inbound) -> bool {
        let forbidden = *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        Some(&*message.address) != forbidden
    }

    fn may_open(&self, _: &Arc<Principal>, filter: &Filter) -> Result<(), Rejection> {
        let forbidden = *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        if Some(filter.as_str()) == forbidden {
            return Err(Rejection::new(RejectKind::Denied, "access", "the filter is not for you"));
        }
        Ok(())
    }

    /// On record as opened by nobody.
    fn open_shared(
        &self,
        _: &Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        let nobody = Principal { id: "".into(), ..Principal::anonymous("test") };
        self.open(Arc::new(nobody), what)
    }

    fn pass(
        &self,
        principal: Arc<Principal>,
        _: Filter,
        deliveries: Batch<Delivery>,
    ) -> BoxFuture<'static, Result<Verdicts<Delivery>, Rejection>> {
        let withheld = *self.withheld.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = |delivery: Delivery| match withheld {
            Some((who, topic)) if *principal.id == *who && delivery.envelope.subject.as_str() == topic => {
                Verdict::no(Rejection::new(RejectKind::Denied, "access", "the message is not for you"))
            }
            _ => Verdict { route: None, answer: Ok(delivery) },
        };
        let verdicts = deliveries.into_vec().into_iter().map(answer).collect();
        Box::pin(std::future::ready(Ok(verdicts)))
    }

    /// Of what was given, the last of each topic; one without data deletes.
    fn last(
        &self,
        _: Arc<Principal>,
        filter: Filter,
        after: Option<Topic>,
        most: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>> {
        let forbidden = *self.forbidden.lock().unwrap_or_else(PoisonError::into_inner);
        if Some(filter.as_str()) == forbidden {
            let denied = Rejection::new(RejectKind::Denied, "access", "the filter is not for you");
            return Box::pin(std::future::ready(Err(denied)));
        }
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics: BTreeMap<Topic, Delivery> = BTreeMap::new();
        for delivery in log.iter().filter(|delivery| filter.matches(&delivery.envelope.subject)) {
            let topic = delivery.envelope.subject.clone();
            topics.insert(topic, Delivery { retained: true, ..delivery.clone() });
        }
        topics.retain(|topic, value| {
            !value.envelope.data.as_slice().is_empty() && after.as_ref().is_none_or(|after| topic > after)
        });
        if self.only_retained.load(Ordering::Relaxed) {
            let marked: BTreeSet<_> = log.iter().filter(|one| one.retained).map(|one| one.position.clone()).collect();
            topics.retain(|_, value| marked.contains(&value.position));
        }
        let next = topics.keys().nth(most.saturating_sub(1)).filter(|_| topics.len() > most).cloned();
        let values = topics.into_values().take(most).collect();
        Box::pin(std::future::ready(Ok(LastValues { values, next })))
    }

    fn last_values(&self) -> u64 {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|delivery| delivery.retained).count()
            as u64
    }

    fn shown(&self) -> Arc<[Shown]> {
        self.shown.borrow().iter().map(|(shown, _)| shown.clone()).collect()
    }

    fn show(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
        let shown = self.shown.borrow();
        match shown.iter().find(|(shown, _)| shown.route == *route) {
            Some((_, show)) => show(delivery),
            None => Ok(None),
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut shown = self.shown.subscribe();
        Box::pin(async move {
            // the sender lives as long as the test
            _ = shown.changed().await;
        })
    }

    fn end(&self, durable: &str) -> BoxFuture<'static, Result<bool, Rejection>> {
        if self.keeps_all.load(Ordering::Relaxed) {
            let away = Rejection::new(RejectKind::Unavailable, "store", "the store is away");
            return Box::pin(std::future::ready(Err(away)));
        }
        let state = self.state.clone();
        let name: Arc<str> = durable.into();
        Box::pin(async move {
            let known = state.borrow().opened.iter().any(|(_, what)| what.durable.as_ref() == Some(&name));
            state.send_modify(|state| state.forgotten.push(name));
            Ok(known)
        })
    }
}

// === impl Subscribed ===

impl Deliveries for Subscribed {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        // nothing is taken before it is polled: a future that is dropped loses nothing
        Box::pin(async {
            let room = (self.credit as usize).saturating_sub(self.unsettled.len());
            let batch: Vec<_> = self.queue.drain(..room.min(self.queue.len())).collect();
            self.unsettled.extend(batch.iter().map(|delivery| (delivery.position.clone(), delivery.clone())));
            match Batch::new(batch) {
                Some(batch) => Ok(batch),
                None => std::future::pending().await,
            }
        })
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        for (position, settlement) in &settled {
            if let (Some(delivery), Settlement::Again { .. }) = (self.unsettled.remove(position), settlement) {
                self.queue.push_front(Delivery { redelivered: true, ..delivery });
            }
        }
        self.state.send_modify(|state| state.settled.extend(settled));
        Box::pin(std::future::ready(Ok(())))
    }

    fn grant(&mut self, more: u32) {
        self.credit += more;
    }

    fn early(&mut self, early: bool) {
        self.state.send_modify(|state| state.early.push(early));
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            state.gone_back += self.unsettled.len();
            state.ended += 1;
        });
    }
}

//! The topics below `$SYS`: what the listener says of itself, as brokers do.
//!
//! Nothing of it is stored. Who subscribes gets the values there are, then those that have changed, at QoS 0. It is read as
//! everything else: policy decides on the filter and on each message, and a reserved topic is reached by a permit that names it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use envelope::{
    Batch, Data, Deliveries, Delivery, Envelope, Filter, Identity, IdentityParts, Inbound, Lane, LastValues, Outbound,
    Outlet, Position, Principal, Rejection, Route, Settlement, Shown, Subscribe, Timestamp, Topic, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::source::Shared;

/// What the listener says of itself.
#[derive(Debug)]
pub(super) struct Sys {
    began: Instant,
    /// Messages that clients have published.
    received: AtomicU64,
    /// Messages that were written to clients.
    sent: AtomicU64,
    /// Deliveries of QoS 0 that a client was too slow for.
    dropped: AtomicU64,
    /// Connected clients.
    clients: AtomicU64,
    values: watch::Sender<Arc<Values>>,
}

/// All values at one moment.
#[derive(Debug, Default)]
struct Values {
    number: u64,
    at: Option<Timestamp>,
    by_topic: BTreeMap<&'static str, String>,
}

/// A subscription to some of them; also the outlet that has their last values.
#[derive(Clone)]
pub(super) struct Reading {
    outlet: Arc<dyn Outlet>,
    principal: Arc<Principal>,
    filter: Filter,
    bridge: Arc<str>,
    values: watch::Receiver<Arc<Values>>,
    /// What was said of each topic.
    said: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

const VERSION: &str = concat!("openmesh ", env!("CARGO_PKG_VERSION"));

/// Whether a filter is about these topics only.
pub(super) fn is_sys(native: &str) -> bool {
    native == "$SYS" || native.starts_with("$SYS/")
}

// === impl Sys ===

impl Sys {
    pub(super) fn new() -> Self {
        let [received, sent, dropped, clients] = [(); 4].map(|()| AtomicU64::new(0));
        Self { began: Instant::now(), received, sent, dropped, clients, values: watch::Sender::default() }
    }

    pub(super) fn received(&self, messages: u64) {
        self.received.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, messages: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says what there is, for as long as somebody listens, until the drain.
    pub(super) async fn run(shared: Arc<Shared>) {
        let mut ticks = interval(shared.config.sys_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shared.cx.drain.run_until_cancelled(ticks.tick()).await.is_some() {
            if shared.sys.values.receiver_count() > 0 {
                shared.sys.look(&shared);
            }
        }
    }

    /// A subscription of a client.
    pub(super) fn open(shared: &Shared, principal: Arc<Principal>, filter: Filter) -> Result<Reading, Rejection> {
        shared.cx.outlet.may_open(&principal, &filter)?;
        shared.sys.look(shared);
        let values = shared.sys.values.subscribe();
        // what there is comes as last values: told are changes
        let said = Arc::new(Mutex::new(values.borrow().by_topic.clone()));
        let (outlet, bridge) = (shared.cx.outlet.clone(), shared.cx.bridge.clone());
        Ok(Reading { outlet, principal, filter, bridge, values, said })
    }

    fn look(&self, shared: &Shared) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed).to_string();
        let by_topic = BTreeMap::from([
            ("$SYS/broker/version", VERSION.to_owned()),
            ("$SYS/broker/uptime", format!("{} seconds", self.began.elapsed().as_secs())),
            ("$SYS/broker/clients/connected", count(&self.clients)),
            ("$SYS/broker/clients/total", shared.sessions.len().to_string()),
            ("$SYS/broker/messages/received", count(&self.received)),
            ("$SYS/broker/messages/sent", count(&self.sent)),
            ("$SYS/broker/messages/dropped", count(&self.dropped)),
            ("$SYS/broker/retained messages/count", shared.cx.outlet.last_values().to_string()),
        ]);
        self.values.send_modify(|values| {
            *values = Arc::new(Values { number: values.number + 1, at: Some(Timestamp::now()), by_topic });
        });
    }
}

// === impl Reading ===

impl Reading {
    /// What is new since this was asked; of all topics with `all`.
    fn changed(&self, values: &Values, all: bool) -> Vec<Delivery> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        for (topic, text) in &values.by_topic {
            let Ok(subject) = Topic::new(*topic) else { continue };
            if !self.filter.matches(&subject) || (!all && said.get(topic) == Some(text)) {
                continue;
            }
            said.insert(topic, text.clone());
            changed.push(self.delivery(values, subject, text));
        }
        changed
    }

    fn delivery(&self, values: &Values, subject: Topic, text: &str) -> Delivery {
        let domain = &*self.principal.domain;
        let parts = IdentityParts { domain, bridge: &self.bridge, principal: "$SYS", route: "$SYS" };
        let envelope = Envelope {
            datacontenttype: Some("text/plain; charset=utf-8".into()),
            ..Envelope::plain(
                Identity::fresh().envelope_id(parts),
                format!("mesh://{domain}/{}/$SYS", self.bridge).into(),
                "mesh/opaque@v1.0.0".into(),
                subject,
                values.at.unwrap_or_else(Timestamp::now),
                Data::Opaque(Bytes::copy_from_slice(text.as_bytes())),
            )
        };
        let position = Position(Bytes::copy_from_slice(&values.number.to_be_bytes()));
        Delivery { position, redelivered: false, is_last: false, retained: true, envelope, lane: Lane(0) }
    }

    /// What the principal may have of it.
    async fn passed(&self, deliveries: Vec<Delivery>) -> Result<Vec<Delivery>, Rejection> {
        let Some(batch) = Batch::new(deliveries) else { return Ok(Vec::new()) };
        let verdicts = self.outlet.pass(self.principal.clone(), self.filter.clone(), batch).await?;
        Ok(verdicts.into_iter().filter_map(|verdict| verdict.answer.ok()).collect())
    }
}

impl Deliveries for Reading {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        Box::pin(async move {
            loop {
                if self.values.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let values = self.values.borrow_and_update().clone();
                if let Some(batch) = Batch::new(self.passed(self.changed(&values, false)).await?) {
                    return Ok(batch);
                }
            }
        })
    }

    fn settle(&mut self, _: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn grant(&mut self, _: u32) {}

    fn early(&mut self, _: bool) {}
}

/// Its subscription asks it for last values only.
impl Outlet for Reading {
    fn open(
        &self,
        principal: Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        self.outlet.open(principal, what)
    }

    fn may_open(&self, principal: &Arc<Principal>, filter: &Filter) -> Result<(), Rejection> {
        self.outlet.may_open(principal, filter)
    }

    fn open_shared(
        &self,
        begun_by: &Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        self.outlet.open_shared(begun_by, what)
    }

    fn pass(
        &self,
        principal: Arc<Principal>,
        filter: Filter,
        deliveries: Batch<Delivery>,
    ) -> BoxFuture<'static, Result<Verdicts<Delivery>, Rejection>> {
        self.outlet.pass(principal, filter, deliveries)
    }

    fn last(
        &self,
        _: Arc<Principal>,
        _: Filter,
        _: Option<Topic>,
        _: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>> {
        let reading = self.clone();
        Box::pin(async move {
            let values = reading.values.borrow().clone();
            Ok(LastValues { values: reading.passed(reading.changed(&values, true)).await?, next: None })
        })
    }

    fn last_values(&self) -> u64 {
        self.outlet.last_values()
    }

    fn shown(&self) -> Arc<[Shown]> {
        self.outlet.shown()
    }

    fn show(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
        self.outlet.show(route, delivery)
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        self.outlet.changed()
    }

    fn may_keep(&self, message: Inbound) -> bool {
        self.outlet.may_keep(message)
    }

    fn end(&self, durable: &str) -> BoxFuture<'static, Result<bool, Rejection>> {
        self.outlet.end(durable)
    }
}

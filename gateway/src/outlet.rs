//! The outlet that bridges read the mesh through: a backbone subscription behind egress policy for its subscriber.

use std::{fmt, mem, sync::Arc, time::Duration};

use backbone::{Backbone, Page, Query, Subscriber};
use envelope::{
    Batch, Deliveries, Delivery, Disposition, Filter, Inbound, LastValues, Outbound, Outgoing, Outlet, Position,
    Principal, Rejection, Route, Settlement, Shown, Subscribe, Topic, Verdicts,
};
use futures_util::future::BoxFuture;
use policy::{Current, Egress, Meters, Pass, Trail};
use tokio::sync::watch;
use tower::ServiceExt;

/// One bridge's way out of the mesh.
#[derive(Clone)]
pub struct GatewayOutlet {
    backbone: Arc<dyn Backbone>,
    current: Current,
    stack: Egress<Delivery>,
    trail: Arc<Trail>,
}

/// A subscription whose deliveries have passed egress policy.
struct Screened {
    inner: Box<dyn Deliveries>,
    outlet: GatewayOutlet,
    principal: Arc<Principal>,
    filters: Vec<Filter>,
    /// Of epochs: with each the subscription is decided on again.
    changes: watch::Receiver<u64>,
    /// Pulled, and on its way through the stack. Kept here, so that a dropped `next` loses nothing.
    screening: Option<BoxFuture<'static, Result<Screening, Rejection>>>,
    /// Passed, and not handed over yet.
    passed: Vec<Delivery>,
    /// Refused, and not settled yet.
    refused: Vec<(Position, Settlement)>,
}

/// What the stack said of one batch.
struct Screening {
    positions: Vec<Position>,
    verdicts: Verdicts<Delivery>,
}

/// The least time until a delivery that policy could not let through now is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

// === impl GatewayOutlet ===

impl GatewayOutlet {
    /// Refusals go on `trail`, of the egress of the bridge; `meters` are the gateway's.
    pub fn new(backbone: Arc<dyn Backbone>, current: Current, trail: Arc<Trail>, meters: Arc<Meters>) -> Self {
        let stack = policy::egress(policy::hand_over(), trail.clone(), meters);
        Self { backbone, current, stack, trail }
    }

    /// Refuses who is not let in by the epoch that decides now, or may not read one of the filters; that is on record.
    fn may_open(&self, principal: &Arc<Principal>, filters: &[Filter]) -> Result<(), Rejection> {
        self.decide(principal, filters).inspect_err(|rejection| self.trail.refused_to(principal, rejection))
    }

    fn decide(&self, principal: &Arc<Principal>, filters: &[Filter]) -> Result<(), Rejection> {
        let epoch = self.current.load();
        epoch.still_lets_in(principal)?;
        filters.iter().try_for_each(|filter| {
            let decision = epoch.policies.may_open(principal, filter, self.trail.bridge());
            decision.into_result(principal, || format!("subscribe to {:?}", filter.as_str()))
        })
    }

    /// Puts a batch through the stack, by the epoch that decides now.
    fn screen(&self, to: &Arc<Principal>, batch: Batch<Delivery>) -> BoxFuture<'static, Result<Screening, Rejection>> {
        let (stack, epoch, to) = (self.stack.clone(), self.current.load_full(), to.clone());
        Box::pin(async move {
            // The subscription may be older than the epoch. It ends; what it has not settled stays for its next owner.
            epoch.still_lets_in(&to)?;
            let positions = batch.as_slice().iter().map(|delivery| delivery.position.clone()).collect();
            let outgoing = batch.into_vec().into_iter().map(|delivery| Outgoing { to: to.clone(), delivery }).collect();
            let verdicts = match Batch::new(outgoing) {
                Some(batch) => stack.oneshot(Pass { epoch, batch }).await?,
                None => Vec::new(),
            };
            Ok(Screening { positions, verdicts })
        })
    }
}

impl Outlet for GatewayOutlet {
    fn open(
        &self,
        principal: Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        let outlet = self.clone();
        Box::pin(async move {
            // before it is decided: a change meanwhile is not missed
            let changes = outlet.current.changes();
            outlet.may_open(&principal, &what.filters)?;
            let filters = what.filters.clone();
            let inner = outlet.backbone.subscribe_for(Subscriber::Principal(principal.id.clone()), what).await?;
            let (passed, refused) = (Vec::new(), Vec::new());
            let screened = Screened { inner, outlet, principal, filters, changes, screening: None, passed, refused };
            Ok(Box::new(screened) as Box<dyn Deliveries>)
        })
    }

    fn may_open(&self, principal: &Arc<Principal>, filter: &Filter) -> Result<(), Rejection> {
        Self::may_open(self, principal, std::slice::from_ref(filter))
    }

    fn open_shared(
        &self,
        begun_by: &Arc<Principal>,
        what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        self.backbone.subscribe_for(Subscriber::Several(begun_by.id.clone()), what)
    }

    fn pass(
        &self,
        principal: Arc<Principal>,
        filter: Filter,
        deliveries: Batch<Delivery>,
    ) -> BoxFuture<'static, Result<Verdicts<Delivery>, Rejection>> {
        if let Err(rejection) = Self::may_open(self, &principal, std::slice::from_ref(&filter)) {
            return Box::pin(std::future::ready(Err(rejection)));
        }
        let screened = self.screen(&principal, deliveries);
        Box::pin(async move { screened.await.map(|screening| screening.verdicts) })
    }

    fn last(
        &self,
        principal: Arc<Principal>,
        filter: Filter,
        after: Option<Topic>,
        most: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>> {
        let outlet = self.clone();
        Box::pin(async move {
            outlet.may_open(&principal, std::slice::from_ref(&filter))?;
            let page = outlet.backbone.last(filter, after, most).await?;
            outlet.readable(principal, page).await
        })
    }

    fn last_values(&self) -> u64 {
        self.backbone.last_values()
    }

    fn shown(&self) -> Arc<[Shown]> {
        self.current.load().sender.shown(self.trail.bridge())
    }

    fn show(&self, route: &Route, delivery: &Delivery) -> Result<Option<Outbound>, Rejection> {
        self.current.load().sender.map(route, delivery)
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut changes = self.current.changes();
        Box::pin(async move {
            // the epochs live as long as the gateway
            _ = changes.changed().await;
        })
    }

    fn may_keep(&self, message: Inbound) -> bool {
        policy::may_be_sent(&self.current.load(), message)
    }

    fn end(&self, durable: &str) -> BoxFuture<'static, Result<bool, Rejection>> {
        self.backbone.drop_subscription(durable)
    }
}

impl GatewayOutlet {
    /// A page of what is stored, of which the principal hears what it may read.
    pub(crate) async fn query(&self, principal: Arc<Principal>, query: Query) -> Result<Page, Rejection> {
        self.current.load().still_lets_in(&principal)?;
        let Page { mut matches, next } = self.backbone.query(query).await?;
        let deliveries = matches.iter().map(|found| found.delivery.clone()).collect();
        let Some(batch) = Batch::new(deliveries) else { return Ok(Page { matches, next }) };
        let mut passed = self.screen(&principal, batch).await?.passed()?.into_iter();
        matches.retain(|_| passed.next().is_some_and(|passed| passed.is_some()));
        Ok(Page { matches, next })
    }

    /// What the principal may read of a page. What can't be told now is an error of the page: it would look as if there
    /// were no such value.
    async fn readable(self, principal: Arc<Principal>, page: LastValues) -> Result<LastValues, Rejection> {
        let LastValues { values, next } = page;
        let Some(batch) = Batch::new(values) else { return Ok(LastValues { values: Vec::new(), next }) };
        let passed = self.screen(&principal, batch).await?.passed()?;
        Ok(LastValues { values: passed.into_iter().flatten().collect(), next })
    }
}

impl fmt::Debug for GatewayOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOutlet").finish_non_exhaustive()
    }
}

// === impl Screening ===

impl Screening {
    /// In order, `None` for what is withheld. What can't be told now is an error of all.
    fn passed(self) -> Result<Vec<Option<Delivery>>, Rejection> {
        let answers = self.verdicts.into_iter().map(|verdict| verdict.answer);
        let told = |answer: Result<Delivery, Rejection>| match answer {
            Ok(delivery) => Ok(Some(delivery)),
            Err(no) if no.disposition() == Disposition::Retry => Err(no),
            Err(_) => Ok(None),
        };
        answers.map(told).collect()
    }
}

// === impl Screened ===

impl Screened {
    async fn pull(&mut self) -> Result<Batch<Delivery>, Rejection> {
        loop {
            if !self.refused.is_empty() {
                // Settling twice is harmless, so the list is kept until the settlement is there.
                self.inner.settle(self.refused.clone()).await?;
                self.refused.clear();
            }
            if let Some(batch) = Batch::new(mem::take(&mut self.passed)) {
                return Ok(batch);
            }
            let screening = match &mut self.screening {
                Some(screening) => screening,
                None => {
                    let batch = tokio::select! {
                        biased;
                        Ok(()) = self.changes.changed() => {
                            self.outlet.may_open(&self.principal, &self.filters)?;
                            continue;
                        }
                        batch = self.inner.next() => batch?,
                    };
                    self.screening.insert(self.outlet.screen(&self.principal, batch))
                }
            };
            let screened = screening.await;
            self.screening = None;
            self.sort(screened?);
        }
    }

    fn sort(&mut self, screened: Screening) {
        for (verdict, position) in screened.verdicts.into_iter().zip(screened.positions) {
            match verdict.answer {
                Ok(delivery) => self.passed.push(delivery),
                Err(no) if no.disposition() == Disposition::Final => {
                    self.refused.push((position, Settlement::Refused(no.kind)));
                }
                Err(no) => {
                    let after = again_after(no.retry_after);
                    self.refused.push((position, Settlement::Again { after }));
                }
            }
        }
    }
}

/// Never at once, or a delivery that can't go out would keep a processor busy; never all at the same time.
fn again_after(asked: Option<Duration>) -> Duration {
    asked.unwrap_or_default().max(AGAIN_AFTER).mul_f64(1.0 + fastrand::f64() / 2.0)
}

impl Deliveries for Screened {
    fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
        Box::pin(self.pull())
    }

    fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
        self.inner.settle(settled)
    }

    fn has_gap(&self) -> bool {
        self.inner.has_gap()
    }

    fn grant(&mut self, more: u32) {
        self.inner.grant(more);
    }

    fn early(&mut self, early: bool) {
        self.inner.early(early);
    }
}

#[cfg(test)]
mod tests;

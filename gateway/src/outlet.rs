//! The outlet that bridges read the mesh through: a backbone subscription behind egress policy for its subscriber.

use std::{fmt, mem, sync::Arc, time::Duration};

use backbone::Backbone;
use envelope::{
    Batch, Deliveries, Delivery, Disposition, Filter, Outgoing, Outlet, Position, Principal, Rejection, Settlement,
    Subscribe, Verdicts,
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
    bridge: Arc<str>,
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
        let bridge = trail.bridge().clone();
        let stack = policy::egress(policy::hand_over(), trail, meters);
        Self { backbone, current, stack, bridge }
    }

    /// Refuses who is not let in by the epoch that decides now, or may not read one of the filters.
    fn may_open(&self, principal: &Arc<Principal>, filters: &[Filter]) -> Result<(), Rejection> {
        let epoch = self.current.load();
        epoch.still_lets_in(principal)?;
        filters.iter().try_for_each(|filter| {
            let decision = epoch.policies.may_open(principal, filter, &self.bridge);
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
            let inner = outlet.backbone.subscribe(what).await?;
            let (passed, refused) = (Vec::new(), Vec::new());
            let screened = Screened { inner, outlet, principal, filters, changes, screening: None, passed, refused };
            Ok(Box::new(screened) as Box<dyn Deliveries>)
        })
    }
}

impl fmt::Debug for GatewayOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOutlet").finish_non_exhaustive()
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

    fn grant(&mut self, more: u32) {
        self.inner.grant(more);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use backbone::{LedgerReport, Status};
    use bytes::Bytes;
    use envelope::{
        Admission, Admitted, Data, Envelope, EnvelopeId, Inbound, Lane, Ledger, MapResult, Mapper, RejectKind, Start,
        Timestamp, Topic,
    };
    use futures_util::FutureExt;
    use policy::{AccessConfig, Epoch, Policies, PolicyConfig, PolicySource};

    use super::*;

    type Settled = Arc<Mutex<Vec<(Position, Settlement)>>>;

    /// Hands out one batch, then nothing; settling takes two polls.
    struct Scripted {
        batch: Option<Batch<Delivery>>,
        settled: Settled,
    }

    impl Deliveries for Scripted {
        fn next(&mut self) -> BoxFuture<'_, Result<Batch<Delivery>, Rejection>> {
            match self.batch.take() {
                Some(batch) => Box::pin(async { Ok(batch) }),
                None => Box::pin(std::future::pending()),
            }
        }

        fn settle(&mut self, settled: Vec<(Position, Settlement)>) -> BoxFuture<'_, Result<(), Rejection>> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                self.settled.lock().unwrap().extend(settled);
                Ok(())
            })
        }

        fn grant(&mut self, _: u32) {}
    }

    /// Only its subscriptions are asked for.
    struct OneSubscription(Mutex<Option<Scripted>>);

    impl Backbone for OneSubscription {
        fn publish(&self, _: Batch<Admitted>) -> BoxFuture<'static, Result<Verdicts<Admission>, Rejection>> {
            unreachable!("nothing is published")
        }

        fn subscribe(&self, _: Subscribe) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
            let scripted = self.0.lock().unwrap().take().unwrap();
            Box::pin(async { Ok(Box::new(scripted) as Box<dyn Deliveries>) })
        }

        fn ledger(&self) -> Arc<dyn Ledger> {
            unreachable!("nothing is counted")
        }

        fn report(&self) -> LedgerReport {
            LedgerReport::default()
        }

        fn status(&self) -> Status {
            Status::Ready
        }

        fn close(&self) -> BoxFuture<'static, Result<(), Rejection>> {
            Box::pin(async { Ok(()) })
        }
    }

    struct Nothing;

    impl Mapper for Nothing {
        fn map(&self, _: Inbound) -> MapResult {
            MapResult::Refused(None, Rejection::new(RejectKind::Unmapped, "mapping", "nothing is mapped"))
        }
    }

    fn delivery(position: &'static str, kind: &str) -> Delivery {
        let envelope = Envelope {
            id: EnvelopeId::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
            source: "mesh://a/web/p".into(),
            kind: kind.into(),
            subject: Topic::new("t").unwrap(),
            time: Timestamp::now(),
            expirytime: None,
            datacontenttype: None,
            dataschema: None,
            data: Data::Opaque(Bytes::from_static(b"{}")),
            performative: None,
            partitionkey: None,
            residency: Vec::new(),
            classification: None,
            hops: Vec::new(),
            trace: None,
            conversation: None,
            origin: None,
        };
        let position = Position(Bytes::from_static(position.as_bytes()));
        Delivery { position, redelivered: false, envelope, lane: Lane(0) }
    }

    fn epoch(number: u64, policies: &str) -> Epoch {
        let policy = PolicyConfig { anonymous: true, ..PolicyConfig::default() };
        let source = PolicySource { path: "a.cedar", name: "a", text: policies };
        let (policies, found) = Policies::load(&[source], &AccessConfig::default());
        assert!(found.is_empty(), "{found:?}");
        Epoch::new(number, "a".into(), Arc::new(Nothing), Arc::default(), policy).with_policies(Arc::new(policies))
    }

    const ALL: &str = "permit(principal, action, resource);";

    /// A subscription to one delivery that passes and one whose schema nobody knows any more.
    async fn subscription() -> (Box<dyn Deliveries>, Settled) {
        let (opened, settled) = subscription_by(epoch(1, ALL).into_current()).await;
        (opened.unwrap(), settled)
    }

    async fn subscription_by(current: Current) -> (Result<Box<dyn Deliveries>, Rejection>, Settled) {
        let settled = Settled::default();
        let batch = Batch::new(vec![delivery("1", "gone@v1.0.0"), delivery("2", "mesh/opaque@v1.0.0")]);
        let scripted = Scripted { batch, settled: settled.clone() };
        let backbone = Arc::new(OneSubscription(Mutex::new(Some(scripted))));
        let trail = Arc::new(Trail::egress("web".into(), None));
        let outlet = GatewayOutlet::new(backbone, current, trail, Arc::default());
        let filters = vec![Filter::new("#").unwrap()];
        let what = Subscribe { filters, start: Start::Earliest, durable: None, credit: 8 };
        (outlet.open(Arc::new(Principal::anonymous("a")), what).await, settled)
    }

    #[tokio::test]
    async fn what_policy_refuses_is_settled_so_and_never_handed_over() {
        let (mut deliveries, settled) = subscription().await;
        let batch = deliveries.next().await.unwrap();
        assert_eq!(batch.as_slice().len(), 1);
        assert_eq!(&*batch.as_slice()[0].position.0, b"2");
        let refused = Settlement::Refused(RejectKind::Malformed);
        assert_eq!(*settled.lock().unwrap(), [(Position(Bytes::from_static(b"1")), refused)]);
    }

    #[tokio::test]
    async fn a_dropped_next_loses_nothing() {
        let (mut deliveries, settled) = subscription().await;
        assert!(deliveries.next().now_or_never().is_none(), "it waits for the settlement");
        assert!(settled.lock().unwrap().is_empty());
        assert_eq!(&*deliveries.next().await.unwrap().as_slice()[0].position.0, b"2");
        assert_eq!(settled.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_may_not_be_read_is_not_opened() {
        let current = epoch(1, "permit(principal, action, resource in Topic::\"b\");").into_current();
        let refused = subscription_by(current).await.0.err().unwrap();
        let detail = "no policy permits \"anonymous\" to subscribe to \"#\"";
        assert_eq!((refused.kind, refused.detail.as_str()), (RejectKind::Denied, detail));
    }

    #[tokio::test]
    async fn a_right_that_is_taken_ends_a_subscription_that_waits() {
        let current = epoch(1, ALL).into_current();
        let (opened, _) = subscription_by(current.clone()).await;
        let mut deliveries = opened.unwrap();
        deliveries.next().await.unwrap();
        assert!(deliveries.next().now_or_never().is_none(), "nothing is there");
        current.store(Arc::new(epoch(2, ALL)));
        assert!(deliveries.next().now_or_never().is_none(), "it may still");
        let forbid = "@id(\"not-now\") forbid(principal, action, resource);";
        current.store(Arc::new(epoch(3, &format!("{ALL} {forbid}"))));
        let ended = tokio::time::timeout(Duration::from_secs(10), deliveries.next()).await.expect("it ends");
        assert_eq!(ended.unwrap_err().decider(), "a#not-now");
    }
}

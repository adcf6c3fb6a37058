//! The outlet that bridges read the mesh through: a backbone subscription behind egress policy for its subscriber.

use std::{fmt, mem, sync::Arc};

use backbone::Backbone;
use envelope::{
    Batch, Deliveries, Delivery, Disposition, Outgoing, Outlet, Position, Principal, Rejection, Settlement, Subscribe,
    Verdicts,
};
use futures_util::future::BoxFuture;
use policy::{Current, Egress, Pass};
use tower::ServiceExt;

/// One bridge's way out of the mesh.
#[derive(Clone)]
pub struct GatewayOutlet {
    backbone: Arc<dyn Backbone>,
    current: Current,
    stack: Egress<Delivery>,
}

/// A subscription whose deliveries have passed egress policy.
struct Screened {
    inner: Box<dyn Deliveries>,
    outlet: GatewayOutlet,
    principal: Arc<Principal>,
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

// === impl GatewayOutlet ===

impl GatewayOutlet {
    /// `bridge` is the name that deliveries are audited under.
    pub fn new(backbone: Arc<dyn Backbone>, current: Current, bridge: Arc<str>) -> Self {
        Self { backbone, current, stack: policy::egress(policy::hand_over(), bridge) }
    }

    /// Puts a batch through the stack, by the epoch that decides now.
    fn screen(&self, to: &Arc<Principal>, batch: Batch<Delivery>) -> BoxFuture<'static, Result<Screening, Rejection>> {
        let (stack, epoch, to) = (self.stack.clone(), self.current.load_full(), to.clone());
        Box::pin(async move {
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
            // Access will decide on the filters here, and again on each delivery.
            let inner = outlet.backbone.subscribe(what).await?;
            let (passed, refused) = (Vec::new(), Vec::new());
            Ok(Box::new(Screened { inner, outlet, principal, screening: None, passed, refused }) as Box<dyn Deliveries>)
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
                    let batch = self.inner.next().await?;
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
                    let after = no.retry_after.unwrap_or_default();
                    self.refused.push((position, Settlement::Again { after }));
                }
            }
        }
    }
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

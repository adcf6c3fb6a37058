//! The egress stack: THE order of the layers that a delivery passes on its way to a peer.

use std::{
    future::{Future, ready},
    sync::Arc,
};

use envelope::{Delivery, Outgoing, Rejection, Route, Sink, Taken, Verdict, Verdicts};
use tower::{Service, ServiceBuilder, util::BoxCloneSyncService};

use crate::{
    Meters, Pass,
    access::MayRead,
    audit::{AuditLayer, Trail},
    conformance::Conformance,
    lift::RuleLayer,
    limits::ReceiveLimit,
    residency::EgressResidency,
    send::MapOut,
};

/// The egress stack. `T` is [`envelope::Taken`] where a sink ends it, [`Delivery`] where the outlet does.
pub type Egress<T> = BoxCloneSyncService<Pass<Outgoing>, Verdicts<T>, Rejection>;

/// The layers over `end`, for deliveries through the bridge of `trail`; the first one meets a delivery first. `meters` are the gateway's.
///
/// Deliveries are counted per subscription by the backbone, so nothing is counted here.
pub fn egress<S, T>(end: S, trail: Arc<Trail>, meters: Arc<Meters>) -> Egress<T>
where
    S: Service<Pass<Outgoing>, Response = Verdicts<T>, Error = Rejection> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    T: Send + 'static,
{
    let bridge = trail.bridge().clone();
    let stack = ServiceBuilder::new()
        // Outermost, so that whatever refuses below is on record.
        .layer(AuditLayer::new(trail))
        // Before all else, so that what may not leave is not even looked into.
        .layer(RuleLayer(EgressResidency { bridge: bridge.clone() }))
        // Whether this principal may read this envelope, however wide its filter is.
        .layer(RuleLayer(MayRead::new(bridge)))
        // What left the epoch's schemas since it was stored is not handed out.
        .layer(RuleLayer(Conformance))
        // Last, so that only what goes out costs the peer's budget.
        .layer(RuleLayer(ReceiveLimit(meters)))
        .service(end);
    BoxCloneSyncService::new(stack)
}

/// The stack of one mapping that sends: behind policy, for the principal of the bridge of `trail`, the mapping, and then
/// that bridge's `sink`. A verdict without a route is policy's.
pub fn sending(route: Route, sink: Sink, trail: Arc<Trail>, meters: Arc<Meters>) -> Egress<Taken> {
    egress(MapOut::new(route, sink), trail, meters)
}

/// Ends the outlet's stack: what policy let through goes to the peer's own queue, unsettled.
pub fn hand_over() -> impl Service<
    Pass<Outgoing>,
    Response = Verdicts<Delivery>,
    Error = Rejection,
    Future = impl Future<Output = Result<Verdicts<Delivery>, Rejection>> + Send,
> + Clone
+ Send
+ Sync {
    tower::service_fn(|pass: Pass<Outgoing>| {
        let outgoing = pass.batch.into_vec().into_iter();
        ready(Ok(outgoing.map(|outgoing| Verdict::yes(outgoing.delivery)).collect()))
    })
}

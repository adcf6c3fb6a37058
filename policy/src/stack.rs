//! The ingress stack: THE order of the layers that a message passes on its way to the store.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use envelope::{Admission, Admitted, Batch, DeadLetters, Flow, Ingress, Ledger, RejectKind, Rejection, Verdicts};
use tower::{
    BoxError, Service, ServiceBuilder,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    util::BoxCloneSyncService,
};

use crate::{
    Current, ReplyDesk,
    access::MaySend,
    account::AccountLayer,
    admit::AdmitLayer,
    audit::{AuditLayer, Trail},
    authenticate::Authenticated,
    bury::BuryLayer,
    conformance::Conformance,
    lift::RuleLayer,
    limits::{Meters, PeerLimit, PrincipalLimit, TopicLimit},
    loop_guard::LoopGuard,
    map::MapLayer,
    payload_limit::PayloadLimit,
    reply::ReplyLayer,
    residency::Residency,
    shed::ShedLayer,
    trace::TraceLayer,
};

/// When it makes sense to offer again what was shed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One bridge's ingress.
#[derive(Clone)]
pub struct IngressConfig {
    /// What happens when too much is in flight.
    pub flow: Flow,
    /// The largest payload of one message, in bytes; inclusive.
    pub max_payload_bytes: usize,
    /// The most batches in flight at a time.
    pub max_in_flight: NonZeroU32,
    /// What everybody has sent lately: the gateway's, shared by all its stacks.
    pub meters: Arc<Meters>,
    /// Where refusals are put on record; of the ingress of this bridge.
    pub trail: Arc<Trail>,
    /// Where answers are handed in; without one nobody waits for any.
    pub desk: Option<Arc<dyn ReplyDesk>>,
    /// Where messages are kept that a mapping could make nothing of, if its file asks for that.
    pub dead_letters: Option<Arc<dyn DeadLetters>>,
}

/// The layers over `store`, outermost first: the first one meets a message first. `explain.rs` asks them in this order.
///
/// Wait for the peer's bytes before waiting for the stack to be ready: a ready stack holds one of `max_in_flight` permits.
pub fn ingress<S>(store: S, config: &IngressConfig, current: Current, ledger: Arc<dyn Ledger>) -> Ingress
where
    S: Service<Batch<Admitted>, Response = Verdicts<Admission>, Error = Rejection> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let bridge = config.trail.bridge().clone();
    let outer = ServiceBuilder::new()
        // Around everything, so that each line of the log that is written on the way has the message's trace id.
        .layer(TraceLayer)
        // Outermost of those that decide: takes the one epoch of the batch, and sees every verdict that the source will see.
        .layer(AccountLayer::new(bridge, current, ledger))
        // Next to it, for the same reason: whatever is refused below is on record.
        .layer(AuditLayer::new(config.trail.clone()))
        // Before a permit is asked for and before anything is parsed: the cheapest refusal there is.
        .layer(RuleLayer(PayloadLimit::new(config.max_payload_bytes)));
    let inner = ServiceBuilder::new()
        // An address over its rate is refused before anything is asked of who it is.
        .layer(RuleLayer(PeerLimit(config.meters.clone())))
        // A connection may be older than the epoch: who was let in must be in this one too.
        .layer(RuleLayer(Authenticated))
        // A principal over its rate, or its domain, is refused before its messages are parsed.
        .layer(RuleLayer(PrincipalLimit(config.meters.clone())))
        // Around MAPPING, where a refusal has its route and the message is still as it came. The refusal is on record above,
        // and below a reply is still to be made: nothing waits for the letter but its sender.
        .layer(BuryLayer(config.dead_letters.clone()))
        // Around MAPPING, which knows the routes: what the sender is told in the words of its mapping.
        .layer(ReplyLayer)
        // Below here a message has envelopes, a topic and a route; what it can't map is refused.
        .layer(MapLayer { desk: config.desk.clone() })
        // A message that came back is dropped before it counts against anyone's limits.
        .layer(RuleLayer(LoopGuard))
        // Under overload what matters least is refused first, before it costs its topic anything. It holds up nobody
        // longer than the layers below do, so it counts the batches that wait for the store.
        .layer(ShedLayer::new(config.trail.bridge(), config.max_in_flight.get()))
        // Rates per topic; the topic is known only now.
        .layer(RuleLayer(TopicLimit(config.meters.clone())))
        // Whether the principal may send this to that topic.
        .layer(RuleLayer(MaySend))
        // Whether the data may be held here at all; after Access, so that it says nothing to strangers.
        .layer(RuleLayer(Residency))
        // The dearest check reads the data, so it comes when all others have passed. Conversations: here as well.
        .layer(RuleLayer(Conformance))
        // Innermost: seals what passed; the store takes nothing else.
        .layer(AdmitLayer)
        .service(store);
    // One permit a batch, held until its verdicts are there: bounds what is parsed and waits for the store.
    let limit = ConcurrencyLimitLayer::new(usize::try_from(config.max_in_flight.get()).unwrap_or(usize::MAX));
    match config.flow {
        // Over the limit, so that a full stack answers at once instead of queueing what the peer pushes.
        Flow::Push => {
            let shed = ServiceBuilder::new().map_err(rejection).layer(LoadShedLayer::new()).layer(limit);
            BoxCloneSyncService::new(outer.layer(shed.into_inner()).service(inner))
        }
        Flow::Pull => BoxCloneSyncService::new(outer.layer(limit).service(inner)),
    }
}

// === impl IngressConfig ===

impl fmt::Debug for IngressConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressConfig").field("trail", &self.trail).field("flow", &self.flow).finish_non_exhaustive()
    }
}

fn rejection(error: BoxError) -> Rejection {
    match error.downcast::<Rejection>() {
        Ok(rejection) => *rejection,
        Err(error) if error.is::<Overloaded>() => {
            Rejection::new(RejectKind::Overloaded, "shed", "too many batches in flight").after(RETRY_AFTER)
        }
        Err(error) => {
            Rejection { cause: Some(error.into()), ..Rejection::new(RejectKind::Unavailable, "stack", "failed") }
        }
    }
}

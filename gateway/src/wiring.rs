//! Which part is handed to which: the only place that sees policy, backbone, mappings and bridges together.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc, time::Duration};

use backbone::{Backbone, DedupWindow};
use bridges::{BridgeConfig, LinkContext, SourceContext, Standings, room::ByteRoom};
use envelope::{Admitted, Authenticator, Batch, Ingress, KeyValue, Sink};
use policy::{AuditSink, Current, IngressConfig, Meters, Trail};
use tokio::sync::watch;
use tower::service_fn;

use crate::{
    audit::AuditLog,
    config::{Limits, NamedBridge},
    drain::Stoppable,
    egress::{Around, EgressPumps, PassThrough, Way, principal_of},
    letters::Letters,
    notice::Notices,
    outlet::GatewayOutlet,
    store::Store,
    tickets::Tickets,
};

/// The seams of every bridge.
#[derive(Clone)]
pub(crate) struct Wiring {
    /// Where envelopes live.
    pub(crate) backbone: Arc<dyn Backbone>,
    /// What decides now.
    pub(crate) current: Current,
    authenticator: Arc<dyn Authenticator>,
    bytes: ByteRoom,
    max_in_flight: NonZeroU32,
    /// Where refusals by validation are told.
    notices: Option<Notices>,
    /// What everybody has sent lately, over all bridges and reloads.
    meters: Arc<Meters>,
    audit: AuditLog,
    /// Who waits for more than the store.
    tickets: Tickets,
    /// What is not stored.
    through: PassThrough,
    /// How the connections stand that bridges make.
    standings: Standings,
    /// For how long the store knows a message that comes again.
    remembers: Duration,
}

// === impl Wiring ===

impl Wiring {
    /// Around a backbone that is open; what is in `current` decides.
    pub(crate) fn new(
        limits: &Limits,
        current: Current,
        authenticator: Arc<dyn Authenticator>,
        backbone: Arc<dyn Backbone>,
        audit: AuditLog,
        tickets: Tickets,
    ) -> Self {
        Self {
            through: PassThrough::new(backbone.ledger()),
            backbone,
            authenticator,
            current,
            bytes: ByteRoom::new(limits.max_in_flight_bytes),
            max_in_flight: limits.max_in_flight,
            notices: None,
            meters: Arc::default(),
            audit,
            tickets,
            standings: Standings::default(),
            remembers: DedupWindow::default().age,
        }
    }

    /// Where bridges say how their own connections stand.
    pub(crate) fn reporting(self, standings: Standings) -> Self {
        Self { standings, ..self }
    }

    /// The store knows a message that comes again for so long.
    pub(crate) fn remembering(self, remembers: Duration) -> Self {
        Self { remembers, ..self }
    }

    /// Tells of what validation refuses, there.
    pub(crate) fn telling(self, notices: Option<Notices>) -> Self {
        Self { notices, ..self }
    }

    /// What the connection that bridge `name` sends over works with.
    pub(crate) fn link(&self, name: &Arc<str>, until: &Stoppable) -> LinkContext {
        LinkContext {
            bridge: name.clone(),
            principal: Arc::new(principal_of(name, &self.current.load().domain)),
            keys: self.keys(name),
            standings: self.standings.clone(),
            stop: until.stop.clone(),
        }
    }

    fn keys(&self, name: &str) -> Arc<dyn KeyValue> {
        self.backbone.keys(&format!("bridge/{name}"))
    }

    /// What the source of bridge `name` works with; `addresses` are those that its mappings take.
    pub(crate) fn source(
        &self,
        name: &Arc<str>,
        config: &dyn BridgeConfig,
        addresses: watch::Receiver<Arc<[String]>>,
        until: &Stoppable,
    ) -> SourceContext {
        let trail = Arc::new(Trail::ingress(name.clone(), self.sink()));
        SourceContext {
            bridge: name.clone(),
            ingress: self.ingress(name, trail.clone(), config),
            audit: trail,
            outlet: Arc::new(self.outlet(name)),
            keys: self.keys(name),
            remembers: self.remembers,
            principal: Arc::new(principal_of(name, &self.current.load().domain)),
            addresses,
            standings: self.standings.clone(),
            authenticator: self.authenticator.clone(),
            promises: Arc::new(self.tickets.clone()),
            ledger: self.backbone.ledger(),
            bytes: self.bytes.clone(),
            drain: until.stop.clone(),
            tasks: until.tasks.clone(),
        }
    }

    /// What bridge `name` reads the mesh through.
    pub(crate) fn outlet(&self, name: &Arc<str>) -> GatewayOutlet {
        let trail = Arc::new(Trail::egress(name.clone(), self.sink()));
        GatewayOutlet::new(self.backbone.clone(), self.current.clone(), trail, self.meters.clone())
    }

    /// The mappings that send, through the sinks of their bridges; `until` ends them.
    pub(crate) fn egress(
        &self,
        bridges: &[NamedBridge],
        mut sinks: HashMap<Arc<str>, Sink>,
        until: &Stoppable,
    ) -> EgressPumps {
        let way = |(name, config): &NamedBridge| {
            let (sink, sending) = (sinks.remove(name)?, config.sending()?);
            let trail = Arc::new(Trail::egress(name.clone(), self.sink()));
            Some((name.clone(), Way { sink, sending, trail }))
        };
        let ways = bridges.iter().filter_map(way).collect();
        let around = Around {
            backbone: self.backbone.clone(),
            current: self.current.clone(),
            meters: self.meters.clone(),
            fates: Arc::new(self.tickets.clone()),
            through: self.through.clone(),
        };
        EgressPumps::new(around, ways, until.clone())
    }

    fn sink(&self) -> Option<Arc<dyn AuditSink>> {
        Some(Arc::new(self.audit.clone()))
    }

    fn ingress(&self, name: &Arc<str>, trail: Arc<Trail>, config: &dyn BridgeConfig) -> Ingress {
        let ingress = IngressConfig {
            dead_letters: Some(Arc::new(Letters(self.backbone.clone()))),
            trail,
            flow: config.flow(),
            max_payload_bytes: config.max_payload_bytes(),
            max_in_flight: self.max_in_flight,
            meters: self.meters.clone(),
            desk: Some(Arc::new(self.tickets.clone())),
        };
        // The store is always ready: what bounds it is the permits above.
        let ends =
            Arc::new((self.tickets.clone(), Store { backbone: self.backbone.clone(), through: self.through.clone() }));
        let store = service_fn(move |batch: Batch<Admitted>| {
            let ends = ends.clone();
            async move { ends.0.publish(&ends.1, batch).await }
        });
        let stack = policy::ingress(store, &ingress, self.current.clone(), self.backbone.ledger());
        match &self.notices {
            Some(notices) => notices.watch(stack, name.clone()),
            None => stack,
        }
    }
}

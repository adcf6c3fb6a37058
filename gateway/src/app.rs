//! The gateway as a whole: starts everything in order, and ends it with the drain.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::Extension;
use backbone::{Backbone, Embedded, OpenError};
use bridges::{BridgeError, Link, Source, SourceContext, Standings, http::Listener};
use envelope::{Authenticator, Rejection, Sink};
use policy::Gate;
use tokio::{task::JoinError, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    addresses::Taken,
    admin::{self, Admin},
    audit::{self, AuditLog},
    broken,
    config::Loaded,
    drain::{self, Drained, Stoppable},
    egress, jwks,
    notice::{self, Notices},
    readiness::Readiness,
    reload::{Because, Reload, Reloaded, describe},
    telemetry,
    tickets::Tickets,
    wiring::Wiring,
};

/// Starts gateways.
#[derive(Debug)]
pub struct App;

/// A gateway that takes messages, or whose store is broken, so that only its admin API answers. End it with [`Running::drain`]; dropped, it stops without waiting for anything.
pub struct Running {
    addresses: Addresses,
    readiness: Readiness,
    reload: Reload,
    /// `None` where it can't be opened.
    backbone: Option<Arc<dyn Backbone>>,
    audit: AuditLog,
    bridges: Stoppable,
    sinks: Stoppable,
    /// Ends what senders wait for beyond the store.
    waits: CancellationToken,
    admin: Stoppable,
    drain_timeout: Duration,
}

/// Where a gateway listens, known only now where the config says port 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The admin API.
    pub admin: SocketAddr,
    /// Each bridge that listens, by name, in the order of the config.
    pub bridges: Vec<(Arc<str>, SocketAddr)>,
}

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The admin API's listener.
    #[error("admin: {}", with_cause(.0))]
    Admin(BridgeError),
    /// A bridge's source.
    #[error("bridge {name:?}: {}", with_cause(.cause))]
    Bridge {
        /// The bridge's name.
        name: Arc<str>,
        /// What its source says.
        cause: BridgeError,
    },
    /// The backbone.
    #[error(transparent)]
    Backbone(#[from] OpenError),
    /// Without random bytes no secret can be kept.
    #[error(transparent)]
    NoRandom(#[from] policy::NoRandom),
    /// The store could not make the subscription of a mapping that sends.
    #[error("the subscription of a mapping that sends: {0}")]
    Subscription(#[source] Rejection),
    /// The thread that opened the backbone panicked or was cancelled.
    #[error("the store was not opened: {0}")]
    Interrupted(#[from] JoinError),
}

/// A source that has bound and waits for its seams.
struct Bound {
    name: Arc<str>,
    source: Box<dyn Source>,
    at: usize,
}

/// The bridges, built.
#[derive(Default)]
struct Built {
    sources: Vec<Bound>,
    sinks: HashMap<Arc<str>, Sink>,
    links: Vec<(Arc<str>, Box<dyn Link>)>,
}

/// How long the admin API may take to answer its last requests.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

// === impl App ===

impl App {
    /// Binds every listener, opens the store, then lets the sources take messages. While the store opens, the admin API
    /// answers already; where that can't be opened for what is in it, it goes on to answer, and nothing else listens: to try
    /// again and again would help nobody.
    pub async fn start(loaded: Loaded) -> Result<Running, StartError> {
        let (bridges, sinks, admin) = (Stoppable::default(), Stoppable::default(), Stoppable::default());
        // Until the end of a start that succeeds: whatever has been started by then stops with an error.
        let unfinished = [&bridges, &sinks, &admin].map(|started| started.stop.clone().drop_guard());
        // before anything is built that counts: a counter that was made earlier would count for nobody
        let metrics = telemetry::metrics();
        let listener = Listener::bind(loaded.config.admin.clone()).await.map_err(StartError::Admin)?;
        let mut addresses = Addresses { admin: listener.local_addr(), bridges: Vec::new() };
        let built = bind(&loaded, &mut addresses).await?;
        let readiness = Readiness::default();
        let (audit, records) = audit::queue();
        let reload = Reload::new(&loaded, audit.clone());
        let opened = Arc::new(OnceLock::new());
        let (ready, reloads) = (readiness.clone(), reload.clone());
        let gate: Arc<dyn Authenticator> = Arc::new(Gate::new(reload.current())?);
        let on_loopback = !loaded.config.admin.is_exposed();
        let guard = admin::Guard::new(gate.clone(), reload.current(), on_loopback, Arc::new(audit.clone()));
        let standings = Standings::default();
        let (trail, backbones, reader) = (audit.clone(), opened.clone(), Arc::new(OnceLock::new()));
        let state = Admin {
            readiness: ready,
            metrics,
            reload: reloads,
            audit: trail,
            backbone: backbones,
            reader: reader.clone(),
            standings: standings.clone(),
        };
        serve_admin(listener, state, guard, &admin);

        let with = loaded.config.open_with();
        let store = tokio::task::spawn_blocking(|| Embedded::open(with)).await?;
        let domain = loaded.config.domain.clone();
        admin.tasks.spawn(audit::store(records, opened.clone(), reload.current(), domain, admin.stop.clone()));
        let drain_timeout = loaded.config.limits.drain_timeout;
        let waits = CancellationToken::new();
        let backbone: Arc<dyn Backbone> = match store {
            Ok(store) => Arc::new(store),
            Err(error) if error.is_broken() => {
                // who is not listened to keeps what it has, and goes elsewhere if it can
                drop(built);
                addresses.bridges.clear();
                readiness.broken(broken::told(&error));
                bridges.tasks.spawn(reload.clone().watch(bridges.stop.clone()));
                bridges.tasks.spawn(jwks::fetch(reload.current(), reload.fetched(), bridges.stop.clone()));
                drop(unfinished.map(DropGuard::disarm));
                let backbone = None;
                return Ok(Running {
                    addresses,
                    readiness,
                    reload,
                    backbone,
                    audit,
                    bridges,
                    sinks,
                    waits,
                    admin,
                    drain_timeout,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let backbone = opened.get_or_init(|| backbone).clone();
        admin.tasks.spawn(admin::watch(backbone.clone(), admin.stop.clone()));

        let notices = loaded.config.notices.clone().map(|config| {
            let (notices, queue) = Notices::with_room(config.queue);
            bridges.tasks.spawn(notice::run(config, queue, bridges.stop.clone()));
            notices
        });
        let tickets = Tickets::new(loaded.config.domain.clone(), bridges.stop.clone(), waits.clone())?;
        let wiring =
            Wiring::new(&loaded.config.limits, reload.current(), gate, backbone.clone(), audit.clone(), tickets)
                .telling(notices)
                .reporting(standings)
                .remembering(loaded.config.open_with().dedup_window.age);
        reader.get_or_init(|| wiring.outlet(&admin::ADMIN.into()));
        // Before anything is taken: a mapping that sends misses nothing of it.
        let egress = wiring.egress(&loaded.config.bridges, built.sinks, &sinks);
        egress.prepare(&loaded.mappings).await.map_err(StartError::Subscription)?;
        for (name, link) in built.links {
            sinks.tasks.spawn(link.run(wiring.link(&name, &sinks)));
        }
        reload.sends(egress.clone());
        sinks.tasks.spawn(egress.run(reload.clone(), sinks.stop.clone()));
        let mut taken = Taken::default();
        for Bound { name, source, at } in built.sources {
            let addresses = taken.of(&name, &loaded.mappings);
            let cx = wiring.source(&name, &*loaded.config.bridges[at].1, addresses, &bridges);
            bridges.tasks.spawn(run(source, cx, readiness.clone()));
        }
        bridges.tasks.spawn(taken.follow(reload.clone(), bridges.stop.clone()));
        bridges.tasks.spawn(reload.clone().watch(bridges.stop.clone()));
        bridges.tasks.spawn(jwks::fetch(reload.current(), reload.fetched(), bridges.stop.clone()));
        readiness.serving();
        addresses.log();
        drop(unfinished.map(DropGuard::disarm));
        let backbone = Some(backbone);
        Ok(Running { addresses, readiness, reload, backbone, audit, bridges, sinks, waits, admin, drain_timeout })
    }
}

async fn bind(loaded: &Loaded, addresses: &mut Addresses) -> Result<Built, StartError> {
    let mut built = Built::default();
    for (at, (name, config)) in loaded.config.bridges.iter().enumerate() {
        let bridge = config.build(name);
        built.links.extend(bridge.link.map(|link| (name.clone(), link)));
        built.sinks.extend(bridge.sink.map(|sink| (name.clone(), sink)));
        let Some(mut source) = bridge.source else { continue };
        let listening = source.bind().await.map_err(|cause| StartError::Bridge { name: name.clone(), cause })?;
        addresses.bridges.extend(listening.into_iter().map(|address| (name.clone(), address)));
        built.sources.push(Bound { name: name.clone(), source, at });
    }
    Ok(built)
}

fn serve_admin(listener: Listener, state: Admin, guard: admin::Guard, until: &Stoppable) {
    admin::describe();
    audit::describe();
    describe();
    egress::describe();
    until.tasks.spawn(telemetry::upkeep(state.metrics.clone(), until.stop.clone()));
    let router = admin::router(state, guard);
    let (stop, tasks) = (until.stop.clone(), until.tasks.clone());
    until.tasks.spawn(async move {
        listener.serve("admin", move |peer| router.clone().layer(Extension(peer)), stop, tasks).await
    });
}

/// A source that ends before it was told to is a failure that `/readyz` shows.
async fn run(source: Box<dyn Source>, cx: SourceContext, readiness: Readiness) {
    let (name, told) = (cx.bridge.clone(), cx.drain.clone());
    let ended = source.run(cx).await;
    let why = match ended {
        Err(error) => with_cause(&error),
        Ok(()) if told.is_cancelled() => return,
        Ok(()) => "it ended by itself".to_owned(),
    };
    tracing::error!(bridge = %name, %why, "a bridge stopped");
    readiness.failed(format!("bridge {name:?}: {why}"));
}

/// An error and what it came from, in a line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

// === impl Addresses ===

impl Addresses {
    fn log(&self) {
        for (bridge, address) in &self.bridges {
            tracing::info!(%bridge, %address, "listening");
        }
        tracing::info!(admin = %self.admin, "ready");
    }
}

// === impl Running ===

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether it takes messages.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Reads the configuration's files again and puts them in force if they hold. It does so by itself when they change.
    pub async fn reload(&self) -> Reloaded {
        self.reload.now(Because::Asked).await
    }

    /// Has it done soon, and waits for nothing.
    pub fn reload_soon(&self) {
        self.reload.soon();
    }

    /// Ends it: see [`crate::drain`]. The admin API goes last.
    pub async fn drain(self) -> Drained {
        // Asked for only when it is its turn: a closed backbone refuses what is still in flight.
        let close = async {
            self.audit.flush().await;
            match &self.backbone {
                Some(backbone) => backbone.close().await,
                None => Ok(()),
            }
        };
        let Self { readiness, bridges, sinks, waits, .. } = &self;
        let in_flight = || self.in_flight();
        let drained = drain::drain(readiness, bridges, sinks, waits, close, in_flight, self.drain_timeout).await;
        if !self.admin.end(Instant::now() + ADMIN_GRACE).await {
            tracing::debug!("an admin request was cut");
        }
        drained
    }

    /// What has no verdict yet, a line a bridge.
    fn in_flight(&self) -> Vec<String> {
        let report = self.backbone.as_ref().map(|backbone| backbone.report()).unwrap_or_default();
        let waiting = report.bridges.iter().filter(|(_, counts)| counts.in_flight > 0);
        waiting.map(|(bridge, counts)| format!("bridge {bridge:?}: {} messages", counts.in_flight)).collect()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.bridges.stop.cancel();
        self.sinks.stop.cancel();
        self.waits.cancel();
        self.admin.stop.cancel();
    }
}

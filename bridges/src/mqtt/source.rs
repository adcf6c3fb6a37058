//! The source: one listener, a task a connection.

use std::{
    fmt,
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use envelope::{Lane, Rejection};
use futures_util::future::{BoxFuture, join_all};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    MqttConfig,
    address::Border,
    connection,
    keeper::{Keeper, Kept},
    offers::Offers,
    session::{Session, Subscribed},
    sessions::Sessions,
    share::{Shares, is_shared},
    sys::Sys,
    unconnected::Unconnected,
    websocket::{WebSocketListener, Wire},
    will::Wills,
};
use crate::{
    BridgeError, Source, SourceContext,
    net::{self, Cuts, Slots, Stream},
    section::check_plain_text,
    tls::Tls,
};

/// Takes what MQTT clients publish, and serves those that subscribe.
#[derive(Debug)]
pub(super) struct MqttSource {
    config: MqttConfig,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    websocket: Option<WebSocketListener>,
}

/// What every connection of the bridge shares.
pub(super) struct Shared {
    /// What its lanes are offered through.
    pub(super) offers: Arc<Offers>,
    pub(super) config: MqttConfig,
    pub(super) sessions: Sessions,
    pub(super) keeper: Keeper,
    pub(super) shares: Shares,
    pub(super) sys: Sys,
    pub(super) wills: Wills,
    pub(super) border: Border,
    lanes: AtomicU64,
    /// What could not be ended in the store, and is to be.
    left_over: Mutex<Vec<LeftOver>>,
    /// Deliveries of QoS 0 that a client was too slow for.
    pub(super) dropped: Counter,
    pub(super) unconnected: Unconnected,
    /// Open connections.
    pub(super) open: Gauge,
}

/// What is over, and still on disk.
#[derive(Debug)]
pub(super) enum LeftOver {
    /// With positions in the store.
    Session(Box<Session>),
    /// Of a subscription that is over, by its name.
    Position(Arc<str>),
    /// One that is not to be published.
    Will(Uuid),
}

/// How often sessions are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

// === impl MqttSource ===

impl MqttSource {
    pub(super) fn new(config: MqttConfig) -> Self {
        Self { config, bound: None }
    }

    async fn bound(&mut self) -> Result<Bound, BridgeError> {
        match self.bound.take() {
            Some(bound) => Ok(bound),
            None => Bound::bind(&self.config).await,
        }
    }
}

impl Source for MqttSource {
    fn bind(&mut self) -> BoxFuture<'_, Result<Vec<SocketAddr>, BridgeError>> {
        Box::pin(async move {
            let bound = self.bound().await?;
            let addresses = bound.addresses();
            self.bound = Some(bound);
            Ok(addresses)
        })
    }

    fn run(mut self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<(), BridgeError>> {
        Box::pin(async move {
            let bound = self.bound().await?;
            let shared = Arc::new(Shared::new(cx, self.config));
            shared.restore().await;
            shared.cx.tasks.spawn(sweep(shared.clone()));
            shared.cx.tasks.spawn(Sys::run(shared.clone()));
            let (bound, websocket) = bound.split();
            let over_websocket = async {
                if let Some(listener) = websocket {
                    listener.serve(&shared).await;
                }
            };
            tokio::join!(bound.serve(&shared), over_websocket);
            Ok(())
        })
    }
}

// === impl Bound ===

impl Bound {
    async fn bind(config: &MqttConfig) -> Result<Self, BridgeError> {
        let address = config.listen;
        check_plain_text(address, config.tls.is_some() || config.plain_text)?;
        let load = |tls| Tls::load(tls, &[]).map_err(|error| BridgeError::Tls { address, source: Box::new(error) });
        let tls = config.tls.clone().map(load).transpose()?;
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| BridgeError::Bind { address, source })?;
        let websocket = match &config.websocket {
            Some(server) => Some(WebSocketListener::bind(server).await?),
            None => None,
        };
        Ok(Self { listener, address, tls, websocket })
    }

    /// Of MQTT over TCP, then of MQTT over WebSocket.
    fn addresses(&self) -> Vec<SocketAddr> {
        let over_websocket = self.websocket.as_ref().map(WebSocketListener::address);
        [self.address].into_iter().chain(over_websocket).collect()
    }

    fn split(mut self) -> (Self, Option<WebSocketListener>) {
        let websocket = self.websocket.take();
        (self, websocket)
    }

    /// Accepts until the drain.
    async fn serve(self, shared: &Arc<Shared>) {
        let (drain, tasks) = (&shared.cx.drain, &shared.cx.tasks);
        let (all, of_address) = (shared.config.max_connections, shared.config.max_connections_per_address);
        let slots = Slots::new(&shared.cx.bridge, all, of_address);
        let cuts = Arc::new(Cuts::new(&shared.cx.bridge, shared.config.write_timeout));
        if let Some(tls) = self.tls.clone() {
            tasks.spawn(tls.watch(shared.cx.bridge.to_string(), drain.clone()));
        }
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.cancelled() => return,
                accepted = net::accept(&self.listener, &slots, &cuts) => accepted,
            };
            let Some((socket, peer)) = accepted else { return };
            let (shared, tls) = (shared.clone(), self.tls.clone());
            tasks.spawn(async move {
                let within = shared.config.connect_timeout;
                // nothing is in flight yet: at the drain, a handshake is cut
                let shaken = shared.cx.drain.run_until_cancelled(Stream::open(socket, tls, within)).await;
                match shaken {
                    Some(Ok((stream, certificate))) => {
                        connection::run(shared, Wire::Stream(stream), peer.ip(), certificate).await;
                    }
                    Some(Err(error)) => {
                        shared.unconnected.unsecured(&error);
                        tracing::debug!(%error, %peer, "no TLS connection");
                    }
                    None => {}
                }
            });
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(cx: SourceContext, config: MqttConfig) -> Self {
        describe_counter!("openmesh_bridge_dropped_total", "deliveries of QoS 0 that a client was too slow for");
        describe_gauge!("openmesh_bridge_mqtt_connections", "open MQTT connections");
        describe_gauge!("openmesh_bridge_mqtt_sessions", "MQTT sessions, connected or not");
        let bridge = || cx.bridge.to_string();
        Self {
            dropped: counter!("openmesh_bridge_dropped_total", "bridge" => bridge()),
            open: gauge!("openmesh_bridge_mqtt_connections", "bridge" => bridge()),
            unconnected: Unconnected::new(&cx.bridge),
            keeper: Keeper::new(cx.keys.clone()),
            sessions: Sessions::new(config.session.max_sessions, config.session.max_per_principal),
            shares: Shares::default(),
            sys: Sys::new(),
            wills: Wills::default(),
            border: Border::new(config.prefix.as_deref()),
            lanes: AtomicU64::new(0),
            left_over: Mutex::default(),
            offers: Arc::new(Offers::new(cx)),
            config,
        }
    }

    /// Takes up the sessions that were kept; waits for a store that is away, until the drain.
    pub(super) async fn restore(self: &Arc<Self>) {
        let keeper = &self.keeper;
        let (kept, shares, wills) = loop {
            let kept =
                async { Ok::<_, Rejection>((keeper.all().await?, keeper.shares().await?, keeper.wills().await?)) };
            match kept.await {
                Ok(kept) => break kept,
                Err(error) => {
                    tracing::warn!(%error, bridge = %self.cx.bridge, "kept sessions can't be read now");
                    let wait = tokio::time::sleep(LOOK_EVERY);
                    if self.cx.drain.run_until_cancelled(wait).await.is_none() {
                        return;
                    }
                }
            }
        };
        let now = Instant::now();
        let restored = kept.len();
        let stay = kept.iter().map(|kept| (kept.session.id(), kept.left)).collect();
        for Kept { key, session, left } in kept {
            self.shares.restore(&self.cx.bridge, &session, |filter| self.border.filter(filter).ok());
            session.over().for_each(|number| self.leave_over(&session, number));
            if let Some(over) = self.sessions.restore(key, session, now + left) {
                self.end(over).await;
            }
        }
        self.wills.restore(self, wills, &stay);
        for (name, lost) in shares {
            if self.shares.restore_lost(&name, lost) {
                continue;
            }
            // of sessions that ended with the gateway
            let name = &*name;
            let ended = async {
                self.cx.outlet.end(name).await?;
                self.keeper.forget_share(name).await
            };
            if let Err(error) = ended.await {
                tracing::warn!(%error, %name, "a shared subscription that is over can't be ended in the store now");
            }
        }
        if restored > 0 {
            tracing::info!(sessions = restored, bridge = %self.cx.bridge, "sessions of MQTT clients are taken up");
        }
    }

    /// The name of a subscription's position in the store.
    pub(super) fn durable_name(&self, session: &Session, subscription: u32) -> Arc<str> {
        format!("mqtt:{}:{}:{subscription}", self.cx.bridge, session.id().simple()).into()
    }

    /// Ends the position of a subscription, with what is pending at it: its owner does not come back for it. Whether it did.
    pub(super) async fn end_subscription(&self, session: &Session, subscription: u32) -> bool {
        let name = self.durable_name(session, subscription);
        let ended = self.cx.outlet.end(&name).await;
        if let Err(error) = &ended {
            tracing::warn!(%error, %name, "a subscription that is over can't be ended in the store now");
        }
        ended.is_ok()
    }

    /// The position of a subscription that is over could not be ended: it is to be. Its number is never another one's.
    pub(super) fn leave_over(&self, session: &Session, subscription: u32) {
        self.left_over().push(LeftOver::Position(self.durable_name(session, subscription)));
    }

    fn left_over(&self) -> MutexGuard<'_, Vec<LeftOver>> {
        self.left_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a session that is over: the positions of its subscriptions, then what is kept of it. Tried again until all of it
    /// is done.
    pub(super) async fn end(&self, session: Session) {
        self.wills.ended(session.id());
        _ = self.end_left_over(LeftOver::Session(Box::new(session))).await;
    }

    /// Takes a will from disk that nobody is to hear, as surely.
    pub(super) async fn forget_will(&self, id: Uuid) {
        _ = self.end_left_over(LeftOver::Will(id)).await;
    }

    /// Ends what is over, or notes that it is to be; whether it did.
    async fn end_left_over(&self, over: LeftOver) -> bool {
        let forgotten = match &over {
            LeftOver::Session(session) => {
                let plain = session.subscriptions().filter(|known| !is_shared(&known.wanted.filter));
                // one of QoS 0 may have had a position when it was surer
                let numbers = plain.flat_map(Subscribed::numbers).chain(session.over());
                let ends = numbers.map(|number| self.end_subscription(session, number));
                let all_ended = join_all(ends).await.into_iter().all(|ended| ended);
                self.end_shares(session).await;
                // what is on disk is all that is known of the positions
                if all_ended { self.keeper.forget(session).await.map_err(Some) } else { Err(None) }
            }
            LeftOver::Position(name) => self.cx.outlet.end(name).await.map(drop).map_err(Some),
            LeftOver::Will(id) => self.keeper.forget_will(*id).await.map_err(Some),
        };
        let Err(why) = forgotten else { return true };
        if let Some(error) = why {
            tracing::warn!(%error, ?over, "what is over can't be forgotten now");
        }
        self.left_over().push(over);
        false
    }

    /// Tries again what could not be ended, up to the first that still can't: a store that is away is asked once.
    async fn end_all_left_over(&self) {
        let all = std::mem::take(&mut *self.left_over());
        let mut all = all.into_iter();
        for over in all.by_ref() {
            if !self.end_left_over(over).await {
                break;
            }
        }
        let mut left = self.left_over();
        // the one that can't be ended waits for its turn, so that it keeps nobody else
        let since = std::mem::take(&mut *left);
        left.extend(all.chain(since));
    }

    /// Takes a session that is over out of what it shares.
    pub(super) async fn end_shares(&self, session: &Session) {
        for known in session.subscriptions().filter(|known| is_shared(&known.wanted.filter)) {
            self.shares.left(self, &known.wanted.filter, session.id()).await;
        }
    }

    /// A lane of its own, for a connection.
    pub(super) fn lane(&self) -> Lane {
        Lane(self.lanes.fetch_add(1, Ordering::Relaxed))
    }
}

impl Deref for Shared {
    type Target = Offers;

    fn deref(&self) -> &Offers {
        &self.offers
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("bridge", &self.cx.bridge).finish_non_exhaustive()
    }
}

/// Ends sessions as they expire, until the drain.
async fn sweep(shared: Arc<Shared>) {
    let sessions = gauge!("openmesh_bridge_mqtt_sessions", "bridge" => shared.cx.bridge.to_string());
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared.cx.drain.run_until_cancelled(ticks.tick()).await.is_some() {
        for (key, session) in shared.sessions.expired(Instant::now()) {
            tracing::debug!(client = %key.client_id, session = %session.id(), "session expired");
            shared.end(session).await;
        }
        shared.end_all_left_over().await;
        sessions.set(shared.sessions.len() as f64);
    }
}

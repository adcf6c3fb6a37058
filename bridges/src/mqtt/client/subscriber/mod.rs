//! What mappings take from the broker: subscribed to by their addresses, and acknowledged once the gateway has taken it.
//!
//! A message that the gateway can't take now is kept and offered again while the broker waits for its answer, so a full
//! gateway is a broker that may send no more. What has no answer when the connection ends, the broker sends again; it is then
//! known as the same message by its packet identifier in the session.

mod connection;
mod filters;
mod turns;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envelope::Lane as LaneId;
use futures_util::future::BoxFuture;
use metrics::{Counter, counter, describe_counter};
use tokio::time::sleep;

use self::connection::{Connection, End};
use super::{
    MqttClientConfig, Server,
    dial::{As, Broker, Lost, dial},
    held::Held,
    names,
    server::Turns,
};
use crate::{BridgeError, Source, SourceContext, State, mqtt::offers::Offers, standing::Stand};

/// The half of the bridge that subscribes.
#[derive(Debug)]
pub(super) struct Subscriber {
    config: Arc<MqttClientConfig>,
}

/// The same, as it runs.
struct Running {
    offers: Arc<Offers>,
    config: Arc<MqttClientConfig>,
    client_id: Arc<str>,
    turns: Turns,
    stand: Stand,
    /// Of the broker that was connected last, by its number.
    held: Option<(usize, Held)>,
    echoes: Counter,
}

/// All of it is in order with each other.
const LANE: LaneId = LaneId(0);
/// Between two attempts to read what is kept, while the store is away.
const STORE_PAUSE: Duration = Duration::from_millis(500);

// === impl Subscriber ===

impl Subscriber {
    pub(super) fn new(config: MqttClientConfig) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl Source for Subscriber {
    /// It listens nowhere.
    fn bind(&mut self) -> BoxFuture<'_, Result<Vec<SocketAddr>, BridgeError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<(), BridgeError>> {
        Box::pin(async move {
            // found by the drain's tracker, which waits for what is in flight
            if let Some(client_id) = names::client_id(&self.config, &cx.keys, "in", &cx.drain).await {
                Running::new(self.config, cx, client_id).run().await;
            }
            Ok(())
        })
    }
}

// === impl Running ===

impl Running {
    fn new(config: Arc<MqttClientConfig>, cx: SourceContext, client_id: Arc<str>) -> Self {
        const ECHOES: &str = "openmesh_mqtt_client_echoes_total";
        describe_counter!(ECHOES, "messages of a remote broker that are the gateway's own, and were not taken in");
        Self {
            turns: Turns::new(config.servers.len(), config.max_backoff),
            stand: cx.standings.stand(cx.bridge.clone(), "in"),
            echoes: counter!(ECHOES, "bridge" => cx.bridge.to_string()),
            offers: Arc::new(Offers::new(cx)),
            config,
            client_id,
            held: None,
        }
    }

    fn server(&self) -> &Server {
        &self.config.servers[self.turns.at()]
    }

    /// Until the drain.
    async fn run(mut self) {
        let drain = self.offers.cx.drain.clone();
        let mut wait = Duration::ZERO;
        loop {
            // nobody is to be asked for what no mapping takes
            let mut addresses = self.offers.cx.addresses.clone();
            let something = async {
                _ = addresses.wait_for(|addresses| !addresses.is_empty()).await;
            };
            if drain.run_until_cancelled(async { tokio::join!(something, sleep(wait)) }).await.is_none() {
                return;
            }
            let whom = As { client_id: &self.client_id, clean: false, session_expiry: self.config.session_expiry };
            let dialling = dial(&self.config, self.server(), whom);
            wait = match drain.run_until_cancelled(Box::pin(dialling)).await {
                None => return,
                Some(Err(lost)) => {
                    self.say(&lost);
                    self.turns.next(lost.is_refused())
                }
                Some(Ok(broker)) => match self.serve(broker).await {
                    Some(wait) => wait,
                    None => return,
                },
            };
        }
    }

    /// One connection to its end; how long to wait before the next one, or `None` at the drain.
    async fn serve(&mut self, broker: Broker) -> Option<Duration> {
        let held = self.take_up(broker.welcome.session_present).await?;
        let at = self.turns.at();
        let shared = connection::Shared {
            offers: self.offers.clone(),
            config: self.config.clone(),
            server: self.server().clone(),
            stand: self.stand.clone(),
            echoes: self.echoes.clone(),
        };
        self.stand.is(&self.server().to_string(), State::Connected(None));
        let (held, end, lasted) = Connection::new(shared, broker, held).run().await;
        self.held = Some((at, held));
        match end {
            End::Draining => None,
            End::Lost(lost) => Some(self.turns.lost(lasted && !lost.is_refused())),
            End::GaveBack(why) => {
                let why = format!("the gateway did not take a message for too long: {why}");
                self.stand.is(&self.server().to_string(), State::Away(why));
                Some(self.turns.lost(false))
            }
            // it is stored, and found by its identity when it comes again
            End::Late => Some(self.turns.lost(true)),
            End::Store(error) => {
                self.stand.is(&self.server().to_string(), State::Away(format!("the store is away: {error}")));
                Some(self.turns.lost(false))
            }
        }
    }

    fn say(&self, lost: &Lost) {
        let state = if lost.is_refused() { State::Refused } else { State::Away };
        self.stand.is(&self.server().to_string(), state(lost.to_string()));
    }

    /// The session that the broker has, as it was when it was left; another one if the broker has none. It is on disk before
    /// anything comes of it. `None`: the drain.
    async fn take_up(&mut self, present: bool) -> Option<Held> {
        let (keys, server) = (self.offers.cx.keys.clone(), self.server().clone());
        let mut known = self.held.take().filter(|(at, _)| *at == self.turns.at()).map(|(_, held)| held);
        let taken = async {
            loop {
                let held = match known.take() {
                    _ if !present => Ok(None),
                    Some(held) => Ok(Some(held)),
                    None => Held::load(&keys, &server).await,
                };
                let kept = match held {
                    Ok(Some(held)) => return held,
                    Ok(None) => {
                        let held = Held::new();
                        held.keep(&keys, &server).await.map(|()| held)
                    }
                    Err(error) => Err(error),
                };
                match kept {
                    Ok(held) => return held,
                    Err(error) => tracing::warn!(%error, %server, "the session of a broker can't be kept now"),
                }
                sleep(STORE_PAUSE).await;
            }
        };
        self.offers.cx.drain.run_until_cancelled(taken).await
    }
}

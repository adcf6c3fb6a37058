//! What mappings send: to the broker, and settled by its PUBACK or PUBCOMP.
//!
//! The sink hands batches to one task that owns the connection. A broker that is away is told to callers at once, so that it
//! is seen at the mapping; what the broker may already have is kept until it is known what became of it.

use std::{sync::Arc, time::Duration};

use envelope::{Batch, Outbound, Qos, RejectKind, Rejection, Sink, Taken, Verdict};
use futures_util::future::BoxFuture;
use metrics::{Counter, counter, describe_counter};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    MqttClientConfig,
    dial::{As, Broker, Heard, Lost, dial},
    flights::{Ask, Flight, Flights, Next},
    names,
    server::Turns,
    verdict::DECIDED_BY,
};
use crate::{
    Link, LinkContext, State,
    mqtt::{
        address::{check_topic, to_native},
        headers::{HOPS, correlation, header, put_hops},
        packet::{self, Acked, Answer, Outgoing, Reason, Version},
    },
    standing::Stand,
};

/// The connection of one bridge to its broker, as long as it does not run.
pub(super) struct Publisher {
    config: Arc<MqttClientConfig>,
    asks: mpsc::Receiver<Ask>,
}

/// The same, as it runs.
struct Running {
    config: Arc<MqttClientConfig>,
    cx: LinkContext,
    asks: mpsc::Receiver<Ask>,
    flights: Flights,
    turns: Turns,
    stand: Stand,
    client_id: Arc<str>,
    /// The broker that knows what was sent before, by its number.
    known_to: Option<usize>,
    /// Why it is not to be had, since it is not.
    away: Option<Rejection>,
    /// How long to wait before it is asked again.
    wait: Duration,
    published: Counter,
    /// The user property that says which domains a message has passed.
    domain: Arc<str>,
}

/// Why a connection is over that was not lost.
enum End {
    Stopped,
    Lost(Lost),
}

/// A broker of MQTT 3.1.1 does not say how many messages it takes without an answer; Mosquitto closes the connection on one
/// more than these.
const V3_WINDOW: u16 = 20;
/// So many calls may wait for the task.
const ASKS: usize = 64;
/// So many messages may be without an outcome before the next call is looked at.
const MAX_FLIGHTS: usize = 4_096;
/// A broker that does not read gets nothing more while this much waits for it.
const MAX_OUT: usize = 262_144;

/// The sink of the bridge, and what runs for it.
pub(super) fn pair(_bridge: &str, config: MqttClientConfig) -> (Sink, Publisher) {
    let (ask, asks) = mpsc::channel(ASKS);
    let sink = Sink::new(tower::service_fn(move |batch: Batch<Outbound>| {
        let ask = ask.clone();
        async move {
            let count = batch.len();
            let (reply, answer) = oneshot::channel();
            let asked = ask.send(Ask { messages: batch.into_vec(), reply }).await.is_ok();
            let verdicts = if asked { answer.await.ok() } else { None };
            let ended = || Verdict::no(Rejection::new(RejectKind::Unavailable, DECIDED_BY, "the bridge has ended"));
            Ok(verdicts.unwrap_or_else(|| (0..count).map(|_| ended()).collect()))
        }
    }));
    (sink, Publisher { config: Arc::new(config), asks })
}

impl Link for Publisher {
    fn run(self: Box<Self>, cx: LinkContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { config, asks } = *self;
            let Some(client_id) = names::client_id(&config, &cx.keys, "out", &cx.stop).await else { return };
            Running::new(config, cx, asks, client_id).run().await;
        })
    }
}

// === impl Running ===

impl Running {
    fn new(config: Arc<MqttClientConfig>, cx: LinkContext, asks: mpsc::Receiver<Ask>, client_id: Arc<str>) -> Self {
        const PUBLISHED: &str = "openmesh_mqtt_client_published_total";
        describe_counter!(PUBLISHED, "messages written to a remote broker, each time that they are");
        Self {
            flights: Flights::new(config.retry_for),
            turns: Turns::new(config.servers.len(), config.max_backoff),
            stand: cx.standings.stand(cx.bridge.clone(), "out"),
            published: counter!(PUBLISHED, "bridge" => cx.bridge.to_string()),
            domain: cx.principal.domain.clone(),
            known_to: None,
            away: None,
            wait: Duration::ZERO,
            config,
            cx,
            asks,
            client_id,
        }
    }

    /// Until the gateway sends nothing more; what has no outcome by then is sent again after the next start.
    async fn run(mut self) {
        while let Some(mut broker) = self.connected().await {
            match self.serve(&mut broker).await {
                End::Stopped => return broker.leave().await,
                End::Lost(lost) => {
                    self.flights.lost(lost.is_closed());
                    self.wait = self.turns.lost(broker.has_lasted() && !lost.is_refused());
                    self.say(&lost);
                }
            }
        }
    }

    /// A connection that stands; `None`: the gateway stops.
    async fn connected(&mut self) -> Option<Broker> {
        loop {
            let at = self.turns.at();
            let (config, client_id) = (self.config.clone(), self.client_id.clone());
            let (clean, wait, stop) = (self.known_to != Some(at), self.wait, self.cx.stop.clone());
            let mut dialled = Box::pin(async move {
                sleep(wait).await;
                reach(&config, at, &client_id, clean).await
            });
            let dialled = loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return None,
                    dialled = &mut dialled => break dialled,
                    ask = self.asks.recv() => {
                        self.flights.accept(ask?, self.config.qos);
                        if let Some(why) = &self.away {
                            self.flights.give_up(why);
                        }
                    }
                }
            };
            match dialled {
                Ok(broker) => {
                    self.flights.connected(broker.welcome.session_present && !clean);
                    self.known_to = Some(at);
                    self.away = None;
                    self.stand.is(&self.config.servers[at].to_string(), State::Connected(None));
                    return Some(broker);
                }
                Err(lost) => {
                    self.say(&lost);
                    self.wait = self.turns.next(lost.is_refused());
                    let detail = format!("{}: {lost}", self.config.servers[at]);
                    let away = Rejection::new(RejectKind::Unavailable, DECIDED_BY, detail);
                    self.flights.give_up(&away);
                    self.away = Some(away);
                }
            }
        }
    }

    fn say(&self, lost: &Lost) {
        let state = if lost.is_refused() { State::Refused } else { State::Away };
        self.stand.is(&self.config.servers[self.turns.at()].to_string(), state(lost.to_string()));
    }

    async fn serve(&mut self, broker: &mut Broker) -> End {
        let stop = self.cx.stop.clone();
        loop {
            self.fill(broker);
            let stopping = stop.is_cancelled();
            if stopping && self.flights.is_idle() && self.asks.is_empty() {
                return End::Stopped;
            }
            let has_room = self.flights.len() < MAX_FLIGHTS;
            let turned = tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => Ok(()),
                turned = broker.turn(true) => turned,
                ask = self.asks.recv(), if has_room => match ask {
                    Some(ask) => {
                        self.flights.accept(ask, self.config.qos);
                        Ok(())
                    }
                    // nobody is left to send anything
                    None => return End::Stopped,
                },
            };
            if let Err(lost) = turned.and_then(|()| self.hear(broker)) {
                return End::Lost(lost);
            }
        }
    }

    /// What the broker said of what it was sent.
    fn hear(&mut self, broker: &mut Broker) -> Result<(), Lost> {
        while let Heard::Answer(answer) = broker.next()? {
            match answer {
                Answer::PubAck(answered) => self.flights.acked(&answered),
                Answer::PubRec(answered) => {
                    if self.flights.received(&answered) {
                        packet::ack(
                            &mut broker.link.out,
                            broker.version,
                            Acked::Release,
                            answered.id,
                            Reason::SUCCESS,
                            None,
                        );
                    }
                }
                Answer::PubComp(ack) => self.flights.completed(ack.id),
                // it subscribes to nothing; a broker that sends messages all the same is not heard
                Answer::Publish(_) | Answer::TooLarge { .. } | Answer::PubRel(_) => {}
                Answer::Welcome(_)
                | Answer::SubAck { .. }
                | Answer::UnsubAck { .. }
                | Answer::PingResp
                | Answer::Disconnect { .. } => {}
            }
        }
        Ok(())
    }

    /// Writes what may be sent.
    fn fill(&mut self, broker: &mut Broker) {
        let allowed = match broker.version {
            Version::V5 => broker.welcome.receive_maximum,
            Version::V3 => V3_WINDOW,
        };
        let window = usize::from(allowed.min(self.config.max_in_flight));
        while broker.link.out.len() < MAX_OUT {
            match self.flights.next(window) {
                None => return,
                Some(Next::Release(id)) => {
                    packet::ack(&mut broker.link.out, broker.version, Acked::Release, id, Reason::SUCCESS, None);
                }
                Some(Next::Publish(serial)) => {
                    let Some(flight) = self.flights.get(serial) else { continue };
                    match write(broker, flight, &self.domain) {
                        Ok(()) => {
                            self.published.increment(1);
                            if flight.qos == Qos::AtMostOnce {
                                self.flights.end(serial, Ok(Taken::ByPeer));
                            }
                        }
                        Err(no) => self.flights.end(serial, Err(no)),
                    }
                }
            }
        }
    }
}

/// Connects. With `clean` the broker has nothing left of an earlier process, and keeps what comes now.
async fn reach(config: &MqttClientConfig, at: usize, client_id: &str, clean: bool) -> Result<Broker, Lost> {
    let server = &config.servers[at];
    let whom = As { client_id, clean, session_expiry: config.session_expiry };
    let broker = dial(config, server, whom).await?;
    if !clean || broker.version == Version::V5 {
        return Ok(broker);
    }
    // in MQTT 3.1.1 a session that begins clean ends with its connection
    broker.leave().await;
    dial(config, server, As { clean: false, ..whom }).await
}

/// Appends the message; or says why this broker can't be sent it.
fn write(broker: &mut Broker, flight: &Flight, domain: &Arc<str>) -> Result<(), Rejection> {
    let Flight { message, qos, id, dup, .. } = flight;
    let no = |kind, detail: String| Err(Rejection::new(kind, DECIDED_BY, detail));
    if let Err(problem) = check_topic(&message.address) {
        return no(RejectKind::Malformed, format!("to.address: {problem}"));
    }
    let welcome = &broker.welcome;
    if *qos > welcome.maximum_qos {
        return no(RejectKind::Conflict, format!("the broker takes nothing above {:?}", welcome.maximum_qos));
    }
    if message.retain && !welcome.retains {
        return no(RejectKind::Conflict, "the broker retains nothing".to_owned());
    }
    let text = |name: &str| {
        let found = message.headers.iter().find(|(own, _)| own == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let said = message.headers.iter().find(|(own, _)| own == header::CORRELATION);
    let correlation = said.map(|(_, value)| correlation(value));
    let user = if broker.version == Version::V5 { properties(message, domain) } else { Vec::new() };
    let outgoing = Outgoing {
        dup: *dup,
        qos: *qos,
        retain: message.retain,
        topic: &to_native(&message.address),
        id: *id,
        alias: None,
        subscription_id: None,
        is_text: text(header::FORMAT) == Some("1") && std::str::from_utf8(&message.payload).is_ok(),
        message_expiry: text(header::EXPIRY).and_then(|seconds| seconds.parse().ok()),
        content_type: text(header::CONTENT_TYPE),
        response_topic: text(header::RESPONSE_TOPIC),
        correlation: correlation.as_deref(),
        user: &user,
        payload: &message.payload,
    };
    if packet::publish(&mut broker.link.out, broker.version, &outgoing, welcome.maximum_packet) {
        return Ok(());
    }
    let limit = welcome.maximum_packet.unwrap_or(u32::MAX);
    no(RejectKind::TooLarge, format!("the broker takes packets of at most {limit} bytes"))
}

/// The headers that are no properties of their own, the trace, and the domains passed, this one last.
fn properties(message: &Outbound, domain: &Arc<str>) -> Vec<u8> {
    const TRACE: [&str; 2] = ["traceparent", "tracestate"];
    let mut out = Vec::with_capacity(128);
    for (name, value) in message.headers.iter() {
        let own = header::ALL.contains(&name.as_str()) || *name == HOPS;
        let traced = message.trace.is_some() && TRACE.contains(&name.as_str());
        if let (false, false, Ok(value)) = (own, traced, std::str::from_utf8(value)) {
            packet::user_property(&mut out, name, value);
        }
    }
    if let Some(trace) = &message.trace {
        packet::user_property(&mut out, TRACE[0], &trace.traceparent());
        if let Some(state) = trace.tracestate() {
            packet::user_property(&mut out, TRACE[1], state);
        }
    }
    put_hops(&mut out, &message.hops, domain);
    out
}

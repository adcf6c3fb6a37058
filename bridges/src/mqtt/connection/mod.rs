//! One client: a task that owns its socket, from CONNECT to the end of its last message.
//!
//! In one loop: what the client sends, answers of the mesh to what it published, deliveries of its subscriptions, and the
//! end. The loop reads only while the lane takes more and what was written is being read, so a client that is too fast, or
//! does not read, waits by itself.

mod content;
mod deliver;
mod end;
mod handshake;
mod open;
mod publish;
mod shown;
mod silence;
mod subscribe;

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use envelope::{Filter, Lane as LaneId, Position, Principal, Qos, Rejection, Route};
use futures_util::future::BoxFuture;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{deliver::Values, end::End, handshake::Accepted, silence::Silence};
use super::{
    address::LastTopic,
    answers::Answers,
    lane::Lane,
    link::{self, Turn},
    outbox::Outbox,
    packet::{self, Acked, Broken, Decoder, Next, Packet, Reason, Version},
    reject,
    sessions::Held,
    share::Seat,
    source::Shared,
    subscription::Settling,
    websocket::Wire,
    will::Testament,
};
use crate::tls::ClientCertificate;

/// Bytes both ways, however they come.
type Link = link::Link<Wire>;

/// A client that is connected.
struct Connection {
    shared: Arc<Shared>,
    link: Link,
    decoder: Decoder,
    version: Version,
    principal: Arc<Principal>,
    peer: IpAddr,
    /// Of the TLS connection.
    certificate: Option<ClientCertificate>,
    held: Held,
    /// As the client's DISCONNECT may change it.
    expiry: Duration,
    /// The session is on disk: it is to outlive its connection, or has outlived the one before.
    was_kept: bool,
    will: Option<Testament>,
    /// The client wants to hear why.
    problem_information: bool,
    /// Of the client.
    receive_maximum: u16,
    maximum_packet: Option<u32>,
    lane: Lane,
    lane_id: LaneId,
    /// What is stored and waits for its ack point, and the answers behind it.
    answers: Answers,
    stop: CancellationToken,
    /// What the aliases of the client stand for, in the mesh's spelling.
    aliases: HashMap<u16, Arc<str>>,
    /// The last topic without an alias: most clients stay with one.
    last_topic: LastTopic,
    outbox: Arc<Outbox>,
    open: HashMap<u32, Open>,
    /// Of subscriptions that began with last values.
    values: HashMap<u32, Values>,
    /// Aliases that the client was told of, by topic.
    own_aliases: HashMap<Arc<str>, u16>,
    alias_maximum: u16,
    /// A subscription is with No Local.
    wants_own: bool,
    /// Messages that were taken into the lane and not counted yet.
    arrived: u64,
    /// Nobody hears answers any more: identifiers stay as they are, so that a repeat is known.
    unheard: bool,
    /// Packets were read that there was no room for yet. Until they are obeyed nothing more is read, not even the end.
    behind: bool,
    /// The connection broke, and what was read from it before is still to be obeyed.
    broken: bool,
    /// By then a large packet that is being read has to be there: its bytes are reserved meanwhile.
    due: Option<Instant>,
    /// Ready once there is room for a large packet, of which nothing more is read before.
    reserving: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
    /// Ready once other mappings are in force.
    changed: Option<BoxFuture<'static, ()>>,
    silence: Option<Silence>,
}

/// An open subscription, as the connection sees it.
struct Open {
    settling: Arc<Settling>,
    task: tokio::task::JoinHandle<()>,
    durable: bool,
    /// Where it is shared.
    seat: Option<Seat>,
    /// Where it is what a mapping shows.
    shown: Option<ShownAt>,
    /// Up to here the client has had it at QoS 0, before the subscription had a position.
    seen: Option<Position>,
}

/// What a mapping shows at addresses that a client has subscribed to.
struct ShownAt {
    route: Route,
    topic: Filter,
    addresses: Filter,
    /// How surely it is sent at most.
    qos: Option<Qos>,
}

/// A client that does not read gets no deliveries, and is not read from, while this much waits for it.
const MAX_OUT: usize = 131_072;
/// How long an ended connection may take to send what is written.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Runs a connection to its end.
pub(super) async fn run(shared: Arc<Shared>, wire: Wire, peer: IpAddr, certificate: Option<ClientCertificate>) {
    let mut link = Link::new(wire);
    let accepted = {
        let shaking = handshake::accept(&shared, &mut link, peer, certificate.as_ref());
        let drain = &shared.cx.drain;
        match drain.run_until_cancelled(Box::pin(shaking)).await {
            Some(Some(accepted)) => accepted,
            Some(None) | None => {
                // what is written to a client that is refused, it may read or not
                _ = tokio::time::timeout(CLOSE_WITHIN, link.close()).await;
                return;
            }
        }
    };
    shared.open.increment(1.0);
    shared.sys.connected();
    let mut connection = Connection::new(&shared, link, peer, accepted);
    connection.certificate = certificate;
    let end = Box::pin(connection.serve()).await;
    tracing::debug!(?end, %peer, "an MQTT connection ends");
    Box::pin(connection.finish(end)).await;
    shared.open.decrement(1.0);
    shared.sys.disconnected();
}

// === impl Connection ===

impl Connection {
    fn new(shared: &Arc<Shared>, link: Link, peer: IpAddr, accepted: Accepted) -> Self {
        let Accepted { decoder, connect, principal, held, will, expiry, keep_alive } = accepted;
        let stop = shared.cx.drain.child_token();
        let properties = connect.properties;
        Self {
            link,
            decoder,
            version: connect.version,
            principal,
            peer,
            certificate: None,
            was_kept: held.is_kept(expiry),
            held,
            expiry,
            will,
            problem_information: !properties.no_problem_information,
            receive_maximum: properties.receive_maximum.unwrap_or(u16::MAX),
            maximum_packet: properties.maximum_packet,
            lane: Lane::new(stop.clone()),
            lane_id: shared.lane(),
            answers: Answers::default(),
            stop,
            aliases: HashMap::new(),
            last_topic: LastTopic::default(),
            outbox: Arc::new(Outbox::new(&shared.config.session)),
            open: HashMap::new(),
            values: HashMap::new(),
            own_aliases: HashMap::new(),
            alias_maximum: properties.alias_maximum.min(handshake::ALIAS_MAXIMUM),
            wants_own: false,
            arrived: 0,
            unheard: false,
            behind: false,
            broken: false,
            due: None,
            reserving: None,
            changed: None,
            silence: keep_alive.map(Silence::new),
            shared: shared.clone(),
        }
    }

    /// Serves until the client leaves, breaks the protocol, or has to go.
    async fn serve(&mut self) -> End {
        if let Err(end) = self.resume().await {
            return end;
        }
        let mut not_let_in = self.not_let_in();
        loop {
            // what came with the packet before
            if let Err(end) = self.obey().await {
                return end;
            }
            if self.broken && !self.behind {
                return End::Gone;
            }
            if !self.broken
                && let Err(end) = self.deliver().await
            {
                return end;
            }
            self.lane.go(&self.shared.offers);
            if self.behind && self.has_room() {
                continue;
            }
            match self.step(&mut not_let_in).await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    /// Ends when the principal is let in no more, or the certificate of its connection.
    fn not_let_in(&self) -> BoxFuture<'static, Rejection> {
        let principal = self.shared.cx.authenticator.ended(self.principal.clone());
        match self.certificate.clone() {
            None => principal,
            Some(certificate) => Box::pin(async move {
                tokio::select! {
                    why = principal => why,
                    why = certificate.ended() => why,
                }
            }),
        }
    }

    async fn step(&mut self, not_let_in: &mut BoxFuture<'static, Rejection>) -> Result<(), End> {
        let backlog = self.link.out.len() >= MAX_OUT;
        let reads = !backlog && !self.lane.holds_up() && self.has_room() && self.reserving.is_none();
        if !reads && let Some(silence) = &mut self.silence {
            // it is we who do not listen
            silence.heard = Instant::now();
        }
        let (silence, expected) = (self.silence.as_mut().filter(|_| reads), self.lane.expected());
        tokio::select! {
            biased;
            () = self.shared.cx.drain.cancelled() => Err(End::Draining),
            () = self.held.taken_over.cancelled() => Err(End::TakenOver),
            why = &mut *not_let_in => {
                Err(End::Broke(Broken::new(Reason::NOT_AUTHORIZED, why.detail)))
            }
            done = self.lane.done() => self.heard(done).await,
            answers = self.answers.next() => self.reached(answers).await,
            turn = self.link.turn(reads, expected), if !self.broken => match turn {
                Ok(Turn::Read) => {
                    if let Some(silence) = &mut self.silence {
                        silence.heard = Instant::now();
                    }
                    Ok(())
                }
                Ok(Turn::Written) => Ok(()),
                Ok(Turn::Closed) => Err(End::Gone),
                // what it had sent before it has sent: perhaps its DISCONNECT, too
                Err(error) => {
                    tracing::debug!(%error, peer = %self.peer, "the connection broke");
                    self.broken = true;
                    Ok(())
                }
            },
            // with a backlog too: what is dropped meanwhile is counted
            () = self.outbox.filled() => Ok(()),
            () = ready(&mut self.changed) => self.follow().await,
            permit = ready(&mut self.reserving) => self.granted(permit),
            () = until(self.due) => {
                Err(End::Broke(Broken::new(Reason::QUOTA_EXCEEDED, "a packet took longer than it may")))
            }
            () = Silence::over(silence) => {
                Err(End::Broke(Broken::new(Reason::KEEP_ALIVE_TIMEOUT, "the client is silent for longer than its keep alive")))
            }
        }
    }

    /// Obeys the packets that were read, in order.
    async fn obey(&mut self) -> Result<(), End> {
        let (mut releases, mut receipts) = (Vec::new(), Vec::new());
        let obeyed = loop {
            self.behind = !self.has_room() && !self.link.input.is_empty();
            if !self.has_room() {
                break Ok(());
            }
            let packet = match self.decoder.next(&mut self.link.input) {
                Ok(Next::Packet(packet)) => packet,
                Ok(Next::Incomplete(expected)) => {
                    self.expect(expected);
                    break Ok(());
                }
                Err(broken) => break Err(End::Broke(broken)),
            };
            self.due = None;
            let obeyed = match packet {
                Packet::Publish(publish) => self.publish(publish),
                Packet::PubRel(ack) => {
                    releases.push(ack.id);
                    Ok(())
                }
                Packet::PubRec(ack) => {
                    receipts.push(ack);
                    Ok(())
                }
                other => self.control(other).await,
            };
            self.lane.read();
            if obeyed.is_err() {
                break obeyed;
            }
        };
        if self.arrived > 0 {
            self.shared.sys.received(self.arrived);
            self.shared.cx.received(std::mem::take(&mut self.arrived));
        }
        let answered = self.handshakes(&releases, &receipts).await;
        match obeyed {
            // who has left is not to be held to a store that fails: its will would be published
            Err(End::Left { .. }) => obeyed,
            _ => answered.and(obeyed),
        }
    }

    /// What of the handshakes of QoS 2 goes to disk once for all that was read together.
    async fn handshakes(&mut self, releases: &[u16], receipts: &[packet::Ack]) -> Result<(), End> {
        if self.held.session.take_begun_anew() {
            self.keep().await?;
        }
        if !releases.is_empty() {
            self.release(releases).await?;
        }
        if !receipts.is_empty() {
            self.received(receipts).await?;
        }
        Ok(())
    }

    /// Whether it takes more of what the client publishes.
    fn has_room(&self) -> bool {
        self.lane.has_room() && self.answers.has_room()
    }

    /// Before a large packet is read, there has to be room for it, over all connections. Everything else goes on meanwhile.
    fn expect(&mut self, expected: Option<usize>) {
        if self.reserving.is_none()
            && let Some(bytes) = self.lane.coming(expected)
        {
            let all = self.shared.cx.bytes.of(bytes as usize);
            self.reserving = Some(Box::pin(async move { all.acquire_many_owned(bytes).await.ok() }));
        }
    }

    /// There is room; or there never will be, because the gateway ends.
    fn granted(&mut self, permit: Option<OwnedSemaphorePermit>) -> Result<(), End> {
        self.reserving = None;
        self.due = Some(Instant::now() + self.shared.config.packet_timeout);
        self.lane.reserve(permit.ok_or(End::Draining)?);
        Ok(())
    }

    async fn control(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::PubAck(ack) => self.acked(ack),
            Packet::PubComp(ack) => {
                // of what was not released there is nothing to end
                _ = self.held.session.completed(ack.id);
                Ok(())
            }
            Packet::Subscribe(subscribe) => Box::pin(self.subscribe(subscribe)).await,
            Packet::Unsubscribe(unsubscribe) => Box::pin(self.unsubscribe(unsubscribe)).await,
            Packet::PingReq => {
                packet::pingresp(&mut self.link.out);
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.left(disconnect)),
            Packet::Auth(_) => {
                Err(End::Broke(Broken::new(Reason::PROTOCOL_ERROR, "AUTH without an authentication method in CONNECT")))
            }
            // `obey` keeps these, and the decoder lets no second CONNECT pass
            Packet::Connect(_) | Packet::Publish(_) | Packet::PubRel(_) | Packet::PubRec(_) => Ok(()),
        }
    }

    fn left(&mut self, disconnect: packet::Disconnect) -> End {
        if let Some(expiry) = disconnect.session_expiry {
            if self.expiry.is_zero() && expiry > 0 {
                let detail =
                    "a session that was to end with its connection can't outlive it (MQTT 5.0, section 3.14.2.2.2)";
                return End::Broke(Broken::new(Reason::PROTOCOL_ERROR, detail));
            }
            self.expiry = handshake::expiry(expiry, &self.shared.config);
        }
        End::Left { with_will: disconnect.reason != Reason::SUCCESS }
    }

    /// Says something that has no smaller form, but for its reason string.
    fn say(&mut self, detail: Option<&str>, write: impl Fn(&mut BytesMut, Version, Option<&str>)) -> Result<(), End> {
        let version = self.version;
        let said = packet::within(&mut self.link.out, self.maximum_packet, detail, |out, detail| {
            write(out, version, detail);
        });
        if said {
            return Ok(());
        }
        Err(End::Broke(Broken::new(Reason::PACKET_TOO_LARGE, "the answer is larger than the client takes")))
    }

    /// What the client is told of a refusal, if it wants to hear.
    fn detail(&self, rejection: &Rejection) -> Option<String> {
        (self.problem_information && self.version == Version::V5).then(|| reject::detail(rejection))
    }

    fn ack(&mut self, acked: Acked, id: u16, reason: Reason, detail: Option<&str>) {
        let version = self.version;
        // the smallest there is, so that there is nothing to do about one that is too large
        _ = packet::within(&mut self.link.out, self.maximum_packet, detail, |out, detail| {
            packet::ack(out, version, acked, id, reason, detail);
        });
    }
}

/// Waits for what may come; for ever for nothing.
async fn ready<T>(wait: &mut Option<BoxFuture<'static, T>>) -> T {
    match wait {
        Some(wait) => wait.await,
        None => std::future::pending().await,
    }
}

/// Waits for a point in time; for ever without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

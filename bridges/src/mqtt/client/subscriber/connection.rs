//! One connection that messages come in by, from the broker's welcome to the end of the last message.
//!
//! It reads only while the lane takes more; the broker has to wait for its answers, and at QoS 0 for its socket.

use std::{pin::pin, sync::Arc, time::SystemTime};

use bytes::Bytes;
use envelope::{Admission, Disposition, Headers, Identity, Inbound, Qos, RejectKind, Rejection, Verdict};
use metrics::Counter;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::{LANE, filters::Filters, turns::Turns};
use crate::{
    BridgeConfig, State,
    mqtt::{
        address::LastTopic,
        answers::{Answer, Answers, Of, in_time},
        client::{
            MqttClientConfig, Server,
            dial::{Broker, Heard, Lost},
            held::Held,
        },
        headers::{headers, hops, trace},
        lane::{Done, Lane, Waiting},
        offers::Offers,
        packet::{self, Acked, Publish, Reason, Version},
        reject,
        session::{Arrival, Arriving, OnRelease},
    },
    standing::{Stand, shown},
};

/// What outlives a connection.
pub(super) struct Shared {
    pub(super) offers: Arc<Offers>,
    pub(super) config: Arc<MqttClientConfig>,
    pub(super) server: Server,
    pub(super) stand: Stand,
    pub(super) echoes: Counter,
}

/// A connection that stands.
pub(super) struct Connection {
    shared: Shared,
    broker: Broker,
    held: Held,
    filters: Filters,
    lane: Lane,
    stop: CancellationToken,
    answers: Answers,
    /// Answers to what is not in the lane, behind what is.
    turns: Turns,
    /// Messages that were taken into the lane and not counted yet.
    arrived: u64,
    /// Nobody hears answers any more: identifiers stay as they are, so that a repeat is known.
    unheard: bool,
    /// Packets were read that there was no room for yet. Until they are obeyed nothing more is read, not even the end.
    behind: bool,
    last_topic: LastTopic,
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    Draining,
    Lost(Lost),
    /// A message was not taken for too long: the broker has it, and sends it again.
    GaveBack(RejectKind),
    /// A message is stored, but did not reach its ack point in time.
    Late,
    /// What has to be on disk can't be.
    Store(Rejection),
}

/// A broker that does not read is not read from while this much waits for it.
const MAX_OUT: usize = 131_072;

// === impl Connection ===

impl Connection {
    pub(super) fn new(shared: Shared, broker: Broker, held: Held) -> Self {
        let stop = CancellationToken::new();
        Self {
            filters: Filters::new(broker.version, shared.config.qos),
            lane: Lane::new(stop.clone()),
            shared,
            broker,
            held,
            stop,
            answers: Answers::default(),
            turns: Turns::default(),
            arrived: 0,
            unheard: false,
            behind: false,
            last_topic: LastTopic::default(),
        }
    }

    /// To its end: what is left of the session, why, and whether it stood for long enough.
    pub(super) async fn run(mut self) -> (Held, End, bool) {
        let end = match self.serve().await {
            Err(end) => end,
            Ok(never) => match never {},
        };
        if let End::Lost(lost) = &end {
            // what was read is settled first: that may take a while
            let state = if lost.is_refused() { State::Refused } else { State::Away };
            self.shared.stand.is(&self.shared.server.to_string(), state(lost.to_string()));
        }
        let lasted = self.broker.has_lasted();
        self.settle(&end).await;
        self.held.session.disconnected();
        let Self { held, broker, .. } = self;
        if !matches!(end, End::Lost(_)) {
            broker.leave().await;
        }
        (held, end, lasted)
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut addresses = self.shared.offers.cx.addresses.clone();
        let drain = self.shared.offers.cx.drain.clone();
        let wanted = addresses.borrow_and_update().clone();
        self.want(&wanted).await?;
        // what the broker sends again stands right behind its welcome, and may have been read with it
        self.obey().await?;
        let mut lost = None;
        loop {
            // what came before the end is obeyed before it: at QoS 0 it does not come again
            if !self.behind
                && let Some(lost) = lost.take()
            {
                return Err(End::Lost(lost));
            }
            self.lane.go(&self.shared.offers);
            if self.behind && self.has_room() {
                self.obey().await?;
                continue;
            }
            let reads =
                !self.behind && self.has_room() && !self.lane.holds_up() && self.broker.link.out.len() < MAX_OUT;
            let again = self.filters.again();
            tokio::select! {
                biased;
                () = drain.cancelled() => return Err(End::Draining),
                done = self.lane.done() => self.heard(done).await?,
                answers = self.answers.next() => self.reached(answers).await?,
                changed = addresses.changed() => {
                    if changed.is_err() {
                        // who tells of mappings is gone, and so is the gateway
                        return Err(End::Draining);
                    }
                    let wanted = addresses.borrow_and_update().clone();
                    self.want(&wanted).await?;
                }
                turned = self.broker.turn(reads), if lost.is_none() => lost = turned.err(),
                () = sleep_until(again.unwrap_or_else(tokio::time::Instant::now)), if again.is_some() => {
                    self.filters.retry(&mut self.broker.link.out);
                }
            }
            self.obey().await?;
        }
    }

    /// Asks the broker for these addresses, once it is on disk that it may have them.
    async fn want(&mut self, addresses: &[String]) -> Result<(), End> {
        let changed = self.filters.want(addresses, &mut self.held.filters, &mut self.broker.link.out);
        self.stands();
        if changed { self.keep().await } else { Ok(()) }
    }

    fn stands(&self) {
        self.shared.stand.is(&self.shared.server.to_string(), State::Connected(self.filters.trouble()));
    }

    /// Whether it takes more of what the broker sends.
    fn has_room(&self) -> bool {
        self.lane.has_room() && self.answers.has_room() && self.turns.has_room()
    }

    /// Obeys the packets that were read, in order.
    async fn obey(&mut self) -> Result<(), End> {
        let (mut releases, mut changed) = (Vec::new(), false);
        let obeyed = loop {
            self.behind = !self.has_room() && !self.broker.link.input.is_empty();
            if !self.has_room() {
                break Ok(());
            }
            let answer = match self.broker.next() {
                Ok(Heard::Answer(answer)) => answer,
                Ok(Heard::Nothing(expected)) => break self.expect(expected).await,
                Err(lost) => break Err(End::Lost(lost)),
            };
            let (filters, out) = (&mut self.held.filters, &mut self.broker.link.out);
            let obeyed = match answer {
                packet::Answer::Publish(publish) => self.publish(publish).await,
                packet::Answer::TooLarge { topic, qos, id, bytes } => {
                    self.too_large(&topic, Of { qos, id }, bytes).await
                }
                packet::Answer::PubRel(ack) => {
                    releases.push(ack.id);
                    Ok(())
                }
                packet::Answer::SubAck { id, reasons } => {
                    changed |= self.filters.subscribed(id, &reasons, filters, out);
                    self.stands();
                    Ok(())
                }
                packet::Answer::UnsubAck { id } => {
                    changed |= self.filters.unsubscribed(id, filters, out);
                    Ok(())
                }
                // it publishes nothing, and the rest is the connection's own
                packet::Answer::PubAck(_)
                | packet::Answer::PubRec(_)
                | packet::Answer::PubComp(_)
                | packet::Answer::Welcome(_)
                | packet::Answer::PingResp
                | packet::Answer::Disconnect { .. } => Ok(()),
            };
            self.lane.read();
            if obeyed.is_err() {
                break obeyed;
            }
        };
        if self.arrived > 0 {
            self.shared.offers.cx.received(std::mem::take(&mut self.arrived));
        }
        if self.held.session.take_begun_anew() || changed || !releases.is_empty() {
            self.release(&releases).await?;
        }
        obeyed
    }

    /// Before a large packet is read, there has to be room for it, over all bridges. Meanwhile the broker hears pings.
    async fn expect(&mut self, expected: Option<usize>) -> Result<(), End> {
        let Some(bytes) = self.lane.coming(expected) else { return Ok(()) };
        let cx = &self.shared.offers.cx;
        let mut reserved = pin!(cx.bytes.of(bytes as usize).acquire_many_owned(bytes));
        loop {
            tokio::select! {
                biased;
                () = cx.drain.cancelled() => return Err(End::Draining),
                permit = &mut reserved => {
                    self.lane.reserve(permit.map_err(|_| End::Draining)?);
                    return Ok(());
                }
                turned = self.broker.turn(false) => turned.map_err(End::Lost)?,
            }
        }
    }

    /// Takes a message into the lane, unless it is a repeat, or the gateway's own.
    async fn publish(&mut self, publish: Publish) -> Result<(), End> {
        let Some(identity) = self.arrives(publish.qos, publish.id, publish.dup)? else { return Ok(()) };
        let address = self.last_topic.spelled(&publish.topic);
        let own = self.shared.config.is_own(&address);
        let (headers, trace, hops) = match &publish.properties {
            Some(properties) => (headers(properties), trace(properties), hops(properties)),
            None => (Headers::default(), None, Vec::new()),
        };
        let inbound = Inbound {
            headers,
            trace,
            hops,
            retain: publish.retain,
            unacknowledged: publish.qos == Qos::AtMostOnce,
            ..self.inbound(address, identity, publish.payload)
        };
        let of = Of { qos: publish.qos, id: publish.id };
        if own {
            self.shared.echoes.increment(1);
            self.in_turn(of.yes()).await
        } else {
            self.arrived += 1;
            self.lane.push(Waiting { inbound, of, bytes: publish.bytes });
            self.turns.offered();
            Ok(())
        }
    }

    /// A message that was not read, because it is over the limit.
    async fn too_large(&mut self, topic: &str, of: Of, bytes: usize) -> Result<(), End> {
        if self.arrives(of.qos, of.id, true)?.is_none() {
            return Ok(());
        }
        let limit = self.shared.config.max_packet_bytes();
        let topic = shown(topic);
        let detail = format!("the message to {topic:?} has {bytes} bytes with its head, limit is {limit}");
        let refused = Rejection::new(RejectKind::TooLarge, reject::DECIDED_BY, detail);
        self.arrived += 1;
        let cx = &self.shared.offers.cx;
        // where a message comes from is not where the broker is
        cx.outside(&refused, Some(&cx.principal), None);
        self.in_turn(of.no(refused)).await
    }

    /// By which identity a message is to be offered, if it is.
    fn arrives(&mut self, qos: Qos, id: u16, dup: bool) -> Result<Option<Identity>, End> {
        // a broker that sends again over a new connection may count from there: what waits is bounded by the lane
        let arrival = self.held.session.arrives(Arriving { qos, id, dup }, None);
        match arrival.map_err(|broken| End::Lost(Lost::Broken(broken)))? {
            Arrival::Offer(identity) => Ok(Some(identity)),
            Arrival::Pending => Ok(None),
            Arrival::Received => {
                self.ack(Acked::Received, id, Reason::SUCCESS);
                Ok(None)
            }
        }
    }

    fn inbound(&self, address: Arc<str>, identity: Identity, payload: Bytes) -> Inbound {
        let cx = &self.shared.offers.cx;
        Inbound {
            bridge: cx.bridge.clone(),
            address,
            headers: Headers::default(),
            payload,
            lane: LANE,
            identity,
            principal: cx.principal.clone(),
            // where a message comes from is not where the broker is
            peer: None,
            trace: None,
            retain: false,
            unacknowledged: false,
            hops: Vec::new(),
            received_at: SystemTime::now(),
        }
    }

    /// Answers what has an outcome; the rest is offered again, in order, or left to the broker.
    async fn heard(&mut self, done: Done) -> Result<(), End> {
        let heard = match done {
            Done::Heard(heard) => heard,
            Done::Stopped(waiting) => {
                waiting.iter().for_each(|_| self.shared.offers.cx.returned(RejectKind::Overloaded));
                return Ok(());
            }
        };
        let (offered, mut again, mut first) = (heard.len(), Vec::new(), None);
        let promises = self.shared.offers.cx.promises.clone();
        let mut answers = Vec::new();
        for (waiting, Verdict { answer, .. }) in heard {
            let of = waiting.of;
            let is_settled = !matches!(&answer, Err(no) if no.disposition() != Disposition::Final);
            let answer = match answer {
                Ok(Admission::Stored(receipt)) => self.answers.stored(of, receipt.settled, &*promises),
                Ok(Admission::Filtered) => self.answers.push(of.yes()),
                Err(no) if no.disposition() == Disposition::Final => self.answers.push(of.no(no)),
                Err(no) => {
                    first.get_or_insert((no.kind, no.retry_after));
                    again.push(waiting);
                    None
                }
            };
            answers.extend(answer);
            if is_settled {
                self.turns.settled();
                answers.extend(self.due());
            }
        }
        let late = self.reached(answers).await;
        if again.len() < offered {
            self.lane.moved();
        }
        self.lane.again(again, first);
        late?;
        self.too_long()
    }

    /// What was not taken for too long, the broker keeps.
    fn too_long(&mut self) -> Result<(), End> {
        match self.lane.refused_for() {
            Some((refused_for, kind)) if refused_for > self.shared.config.retry_for => {
                self.lane.drain().iter().for_each(|_| self.shared.offers.cx.returned(kind));
                Err(End::GaveBack(kind))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Answers now, or behind what waits and what is in the lane.
    async fn in_turn(&mut self, answer: Answer) -> Result<(), End> {
        self.turns.push(answer);
        match self.due() {
            due if due.is_empty() => Ok(()),
            due => self.reached(due).await,
        }
    }

    /// Answers whose turn has come, and for which no ack point is waited.
    fn due(&mut self) -> Vec<Answer> {
        let mut due = Vec::new();
        while let Some(answer) = self.turns.due() {
            due.extend(self.answers.push(answer));
        }
        due
    }

    /// Answers these, in order, once it is on disk that what comes under their identifiers next are other messages.
    async fn reached(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        if self.unheard {
            return Ok(());
        }
        let (given, late) = in_time(&answers);
        let mut any = false;
        for answer in given {
            any |= self.held.session.frees(answer.of.id, answer.of.qos, self.goes_on(answer));
        }
        if any {
            self.keep().await?;
        }
        given.iter().for_each(|answer| self.answer(answer));
        if late { Err(End::Late) } else { Ok(()) }
    }

    /// Whether the handshake of QoS 2 goes on: in MQTT 3.1.1 it does so even if the message is refused.
    fn goes_on(&self, answer: &Answer) -> bool {
        answer.refused().is_none() || self.broker.version == Version::V3
    }

    /// PUBACK or PUBREC: yes, or why not. MQTT 3.1.1 has only the yes.
    fn answer(&mut self, answer: &Answer) {
        let Of { qos, id } = answer.of;
        let Some(acked) = answer.of.acked() else { return };
        let reason = answer.refused().map_or(Reason::SUCCESS, |refused| reject::reason(refused.kind));
        self.held.session.heard(id, qos, self.goes_on(answer));
        self.ack(acked, id, reason);
    }

    fn ack(&mut self, acked: Acked, id: u16, reason: Reason) {
        packet::ack(&mut self.broker.link.out, self.broker.version, acked, id, reason, None);
    }

    /// What changed is put on disk; then PUBCOMP, because the identifiers are free for good.
    async fn release(&mut self, ids: &[u16]) -> Result<(), End> {
        let known: Vec<_> = ids.iter().map(|id| (*id, self.held.session.released(*id))).collect();
        self.keep().await?;
        for (id, on) in known {
            let done = on == OnRelease::Done;
            self.ack(Acked::Complete, id, if done { Reason::SUCCESS } else { Reason::PACKET_ID_NOT_FOUND });
        }
        Ok(())
    }

    async fn keep(&mut self) -> Result<(), End> {
        self.held.keep(&self.shared.offers.cx.keys, &self.shared.server).await.map_err(End::Store)
    }

    /// Waits for the verdicts that are to come. What was read from a broker that is gone is offered for as long as from one
    /// that is there: at QoS 0 it does not come again.
    async fn settle(&mut self, end: &End) {
        let drain = self.shared.offers.cx.drain.clone();
        self.unheard = !matches!(end, End::Draining);
        loop {
            if drain.is_cancelled() {
                self.stop.cancel();
            } else {
                self.lane.go(&self.shared.offers);
            }
            if self.lane.is_idle() {
                break;
            }
            let done = tokio::select! {
                biased;
                done = self.lane.done() => done,
                () = drain.cancelled(), if !self.stop.is_cancelled() => continue,
            };
            let stopped = matches!(done, Done::Stopped(_));
            if self.heard(done).await.is_err() || stopped || self.stop.is_cancelled() {
                break;
            }
        }
        let kind = self.lane.refused_for().map_or(RejectKind::Overloaded, |(_, kind)| kind);
        self.lane.drain().iter().for_each(|_| self.shared.offers.cx.returned(kind));
    }
}

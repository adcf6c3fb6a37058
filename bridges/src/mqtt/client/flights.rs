//! What is on its way to a broker, without I/O: in which order it goes, by which packet identifier, and what became of it.
//!
//! A message keeps its identifier until the broker has ended the exchange, over every connection that resumes the session,
//! so that at QoS 2 a broker takes it once. The caller may be told meanwhile that the broker is away: the message flies on,
//! and when it is offered again it is found by its envelope and address.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use envelope::{Disposition, EnvelopeId, Outbound, Qos, RejectKind, Rejection, Taken, Verdict, Verdicts};
use tokio::{sync::oneshot, time::Instant};

use super::verdict::{DECIDED_BY, verdict};
use crate::mqtt::packet::Answered;

/// Messages that are to be sent in one call.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) messages: Vec<Outbound>,
    pub(super) reply: oneshot::Sender<Verdicts<Taken>>,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) message: Outbound,
    pub(super) qos: Qos,
    /// 0 as long as it has none.
    pub(super) id: u16,
    /// The broker may have had it before.
    pub(super) dup: bool,
    phase: Phase,
    /// Whose it is: call and place in it. `None`: its caller was told that the broker is away.
    of: Option<(u64, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Sent,
    /// QoS 2: the broker has it, and is told to end the exchange.
    Released,
}

/// What is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Publish(u64),
    Release(u16),
}

/// All that has no outcome.
#[derive(Debug)]
pub(super) struct Flights {
    /// In the order in which they came.
    flights: BTreeMap<u64, Flight>,
    by_id: HashMap<u16, u64>,
    /// To be sent over this connection, in order.
    queue: VecDeque<u64>,
    /// Sent over this connection, and without an answer.
    in_flight: usize,
    last_id: u16,
    next: u64,
    calls: HashMap<u64, Call>,
    /// Whose callers were told that the broker is away.
    left: HashMap<Key, u64>,
    /// Of these, the ones that have ended meanwhile.
    ended: Ended,
    /// Since when the broker says "not now".
    refused: HashMap<Key, Instant>,
    retry_for: Duration,
    /// Connections in a row that the broker closed once something was sent, and without an answer.
    fruitless: u32,
    answered: bool,
}

type Key = (EnvelopeId, Arc<str>);

/// Outcomes that wait for who asks for them, the newest so many.
#[derive(Debug, Default)]
struct Ended {
    outcomes: HashMap<Key, Result<Taken, Rejection>>,
    /// Oldest first; some may be gone.
    order: VecDeque<Key>,
}

#[derive(Debug)]
struct Call {
    verdicts: Vec<Option<Result<Taken, Rejection>>>,
    left: usize,
    reply: oneshot::Sender<Verdicts<Taken>>,
}

/// The most outcomes that wait for a caller who was told that the broker is away, and refusals that are remembered.
const MAX_KEPT: usize = 8_192;
/// The first of what is in flight is given up after so many connections in a row that a broker closed on it.
const MAX_FRUITLESS: u32 = 10;

// === impl Flights ===

impl Flights {
    /// `retry_for`: how long a message is sent again that the broker does not take for now.
    pub(super) fn new(retry_for: Duration) -> Self {
        Self {
            flights: BTreeMap::new(),
            by_id: HashMap::new(),
            queue: VecDeque::new(),
            in_flight: 0,
            last_id: 0,
            next: 0,
            calls: HashMap::new(),
            left: HashMap::new(),
            ended: Ended::default(),
            refused: HashMap::new(),
            retry_for,
            fruitless: 0,
            answered: false,
        }
    }

    /// Takes messages in, in order. One that is on its way already is not sent again. `usual`: where none says a QoS.
    pub(super) fn accept(&mut self, Ask { messages, reply }: Ask, usual: Qos) {
        let call = self.next;
        self.next += 1;
        let left = messages.len();
        self.calls.insert(call, Call { verdicts: messages.iter().map(|_| None).collect(), left, reply });
        for (at, message) in messages.into_iter().enumerate() {
            if !self.ended.outcomes.is_empty()
                && let Some(answer) = self.ended.outcomes.remove(&key(&message))
            {
                self.answer((call, at), answer);
                continue;
            }
            if !self.left.is_empty()
                && let Some(serial) = self.left.remove(&key(&message))
                && let Some(flight) = self.flights.get_mut(&serial)
            {
                flight.of = Some((call, at));
                continue;
            }
            let qos = message.qos.unwrap_or(usual);
            let flight = Flight { message, qos, id: 0, dup: false, phase: Phase::Waiting, of: Some((call, at)) };
            self.flights.insert(self.next, flight);
            self.queue.push_back(self.next);
            self.next += 1;
        }
    }

    /// How many have no outcome.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Nobody waits for an outcome.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    /// What is to be sent next, if the broker takes `window` messages without an answer.
    pub(super) fn next(&mut self, window: usize) -> Option<Next> {
        loop {
            let serial = *self.queue.front()?;
            let Some(flight) = self.flights.get(&serial) else {
                self.queue.pop_front();
                continue;
            };
            let counted = flight.qos != Qos::AtMostOnce;
            if counted && self.in_flight >= window {
                return None;
            }
            let (phase, mut id) = (flight.phase, flight.id);
            if counted && id == 0 {
                id = self.free()?;
                self.by_id.insert(id, serial);
            }
            self.queue.pop_front();
            self.in_flight += usize::from(counted);
            let flight = self.flights.get_mut(&serial)?;
            flight.id = id;
            if phase == Phase::Released {
                return Some(Next::Release(id));
            }
            flight.phase = Phase::Sent;
            return Some(Next::Publish(serial));
        }
    }

    pub(super) fn get(&self, serial: u64) -> Option<&Flight> {
        self.flights.get(&serial)
    }

    /// An outcome that is not the broker's: it was written at QoS 0, or can't be sent.
    pub(super) fn end(&mut self, serial: u64, answer: Result<Taken, Rejection>) {
        let Some(flight) = self.flights.remove(&serial) else { return };
        if flight.qos != Qos::AtMostOnce {
            self.by_id.remove(&flight.id);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        self.settle(flight, answer);
    }

    /// PUBACK came.
    pub(super) fn acked(&mut self, answered: &Answered) {
        let found = self.find(answered.id, |flight| flight.qos == Qos::AtLeastOnce && flight.phase == Phase::Sent);
        if let Some(serial) = found {
            self.answered = true;
            self.end(serial, verdict(answered));
        }
    }

    /// PUBREC came: whether PUBREL is to follow. Of what is not known, too: the broker waits for it.
    pub(super) fn received(&mut self, answered: &Answered) -> bool {
        let Some(serial) = self.find(answered.id, |flight| flight.qos == Qos::ExactlyOnce) else {
            return !answered.reason.is_error();
        };
        self.answered = true;
        if let Err(no) = verdict(answered) {
            self.end(serial, Err(no));
            return false;
        }
        if let Some(flight) = self.flights.get_mut(&serial) {
            flight.phase = Phase::Released;
        }
        true
    }

    /// PUBCOMP came.
    pub(super) fn completed(&mut self, id: u16) {
        if let Some(serial) = self.find(id, |flight| flight.phase == Phase::Released) {
            self.answered = true;
            self.end(serial, Ok(Taken::ByPeer));
        }
    }

    /// The connection is over; `closed`: by the broker, which may be because of what it was sent.
    pub(super) fn lost(&mut self, closed: bool) {
        let sent = self.flights.values().any(|flight| flight.phase != Phase::Waiting);
        self.fruitless = if sent && !self.answered { self.fruitless + u32::from(closed) } else { 0 };
        self.answered = false;
        self.in_flight = 0;
        if self.fruitless < MAX_FRUITLESS {
            return;
        }
        self.fruitless = 0;
        let first = self.flights.iter().find(|(_, flight)| flight.phase == Phase::Sent).map(|(serial, _)| *serial);
        if let Some(serial) = first {
            let detail = format!("the broker closed {MAX_FRUITLESS} connections in a row on it");
            self.end(serial, Err(Rejection::new(RejectKind::Conflict, DECIDED_BY, detail)));
        }
    }

    /// A connection stands. `resumed`: the broker knows what it was sent before; otherwise all of it is new to it.
    pub(super) fn connected(&mut self, resumed: bool) {
        self.queue.clear();
        self.in_flight = 0;
        for (serial, flight) in &mut self.flights {
            if !resumed {
                flight.phase = Phase::Waiting;
            }
            flight.dup = flight.phase == Phase::Sent;
            self.queue.push_back(*serial);
        }
        if !resumed {
            // identifiers belong to a session
            self.by_id.clear();
            self.flights.values_mut().for_each(|flight| flight.id = 0);
        }
    }

    /// The broker is away: every caller hears it. What the broker may have flies on, the rest is offered again.
    pub(super) fn give_up(&mut self, why: &Rejection) {
        let waiting = |flight: &Flight| flight.phase == Phase::Waiting && flight.id == 0;
        let of: Vec<_> = self.flights.values_mut().filter_map(|flight| flight.of.take()).collect();
        self.flights.retain(|_, flight| !waiting(flight));
        self.left = self.flights.iter().map(|(serial, flight)| (key(&flight.message), *serial)).collect();
        of.into_iter().for_each(|place| self.answer(place, Err(why.clone())));
    }

    fn find(&self, id: u16, which: impl FnOnce(&Flight) -> bool) -> Option<u64> {
        let serial = *self.by_id.get(&id)?;
        which(self.flights.get(&serial)?).then_some(serial)
    }

    fn free(&mut self) -> Option<u16> {
        if self.by_id.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.by_id.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
    }

    fn settle(&mut self, flight: Flight, answer: Result<Taken, Rejection>) {
        let key = key(&flight.message);
        let answer = self.bounded(&key, answer);
        let is_retry = answer.as_ref().is_err_and(|no| no.disposition() == Disposition::Retry);
        match flight.of {
            Some(place) => {
                if is_retry {
                    self.hold_back(&flight);
                }
                self.answer(place, answer);
            }
            None => {
                self.left.remove(&key);
                self.ended.add(key, answer);
            }
        }
    }

    /// What is behind a message that is to be offered again, in its lane, and was not sent yet, waits for it.
    fn hold_back(&mut self, first: &Flight) {
        let lane = first.message.lane;
        let behind: Vec<_> = self
            .flights
            .iter()
            .filter(|(_, other)| other.message.lane == lane && other.phase == Phase::Waiting && other.id == 0)
            .map(|(serial, _)| *serial)
            .collect();
        for serial in behind {
            if let Some(place) = self.flights.remove(&serial).and_then(|flight| flight.of) {
                let behind = Rejection::new(RejectKind::Behind, "lane", "an earlier message is retried first");
                self.answer(place, Err(behind));
            }
        }
    }

    /// A "not now" is final once it was said for long enough.
    fn bounded(&mut self, key: &Key, answer: Result<Taken, Rejection>) -> Result<Taken, Rejection> {
        let no = match answer {
            Err(no) if no.disposition() == Disposition::Retry => no,
            answer => {
                self.refused.remove(key);
                return answer;
            }
        };
        let now = Instant::now();
        if self.refused.len() >= MAX_KEPT {
            self.refused.clear();
        }
        let since = *self.refused.entry(key.clone()).or_insert(now);
        if now - since < self.retry_for {
            return Err(no);
        }
        self.refused.remove(key);
        let detail = format!("{}, for {:?}", no.detail, self.retry_for);
        Err(Rejection::new(RejectKind::Conflict, DECIDED_BY, detail))
    }

    fn answer(&mut self, (call, at): (u64, usize), answer: Result<Taken, Rejection>) {
        let Some(open) = self.calls.get_mut(&call) else { return };
        let Some(place) = open.verdicts.get_mut(at).filter(|place| place.is_none()) else { return };
        *place = Some(answer);
        open.left -= 1;
        if open.left > 0 {
            return;
        }
        if let Some(Call { verdicts, reply, .. }) = self.calls.remove(&call) {
            let verdicts = verdicts.into_iter().flatten().map(|answer| Verdict { route: None, answer });
            // a caller that is gone settles nothing
            _ = reply.send(verdicts.collect());
        }
    }
}

// === impl Ended ===

impl Ended {
    fn add(&mut self, key: Key, answer: Result<Taken, Rejection>) {
        if self.order.len() >= MAX_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.outcomes.insert(key, answer);
    }
}

fn key(message: &Outbound) -> Key {
    (message.id, message.address.clone())
}

#[cfg(test)]
mod tests;

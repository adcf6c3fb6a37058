//! What the client publishes: PUBLISH to the lane, verdicts to PUBACK and PUBREC, PUBREL to PUBCOMP.

use std::{sync::Arc, time::SystemTime};

use bytestring::ByteString;
use envelope::{Admission, Disposition, Headers, Inbound, Qos, RejectKind, Rejection, Settled, Verdict};

use super::{Connection, End};
use crate::mqtt::{
    address::to_mesh,
    headers::{headers, hops, trace},
    lane::{Done, Waiting},
    packet::{self, Acked, Broken, Publish, Reason, Version},
    reject,
    session::{Arrival, Arriving, OnRelease},
};

/// A message that the client is about to hear of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) qos: Qos,
    pub(super) id: u16,
    pub(super) refused: bool,
}

// === impl Connection ===

impl Connection {
    /// Takes a message into the lane, unless it is a repeat.
    pub(super) fn publish(&mut self, publish: Publish) -> Result<(), End> {
        if publish.qos > self.shared.config.max_qos {
            return Err(End::Broke(packet::over(self.shared.config.max_qos)));
        }
        let address = self.address(&publish).map_err(End::Broke)?;
        let receive_maximum = (self.version == Version::V5).then_some(self.shared.config.receive_maximum);
        let arriving = Arriving { qos: publish.qos, id: publish.id, dup: publish.dup };
        let arrival = self.held.session.arrives(arriving, receive_maximum).map_err(|broken| {
            self.refused_here(&broken);
            End::Broke(broken)
        })?;
        let identity = match arrival {
            Arrival::Offer(identity) => identity,
            Arrival::Pending => return Ok(()),
            Arrival::Received => {
                self.ack(Acked::Received, publish.id, Reason::SUCCESS, None);
                return Ok(());
            }
        };
        self.arrived += 1;
        let (headers, trace, hops) = match &publish.properties {
            Some(properties) => (headers(properties), trace(properties), hops(properties)),
            None => (Headers::default(), None, Vec::new()),
        };
        let inbound = Inbound {
            bridge: self.shared.cx.bridge.clone(),
            address,
            headers,
            payload: publish.payload,
            lane: self.lane_id,
            identity,
            principal: self.principal.clone(),
            peer: Some(self.peer),
            trace,
            retain: publish.retain,
            hops,
            received_at: SystemTime::now(),
        };
        self.lane.push(Waiting { inbound, qos: publish.qos, id: publish.id });
        Ok(())
    }

    fn refused_here(&self, broken: &Broken) {
        self.shared.cx.audit.refused(&reject::broken(broken), Some(&self.principal), Some(self.peer));
    }

    /// The topic in the mesh's spelling: as it is written, or what its alias stands for.
    fn address(&mut self, publish: &Publish) -> Result<Arc<str>, Broken> {
        let alias = publish.properties.as_ref().and_then(|properties| properties.alias);
        if let Some(alias) = alias.filter(|alias| *alias > super::handshake::ALIAS_MAXIMUM) {
            let detail = format!("topic alias {alias} is over {}", super::handshake::ALIAS_MAXIMUM);
            return Err(Broken::new(Reason::ALIAS_INVALID, detail));
        }
        let Some(alias) = alias else { return Ok(self.spelled(&publish.topic)) };
        if publish.topic.is_empty() {
            let known = self.aliases.get(&alias).cloned();
            return known.ok_or_else(|| Broken::new(Reason::PROTOCOL_ERROR, "a topic alias that stands for nothing"));
        }
        let address = self.spelled(&publish.topic);
        self.aliases.insert(alias, address.clone());
        Ok(address)
    }

    fn spelled(&mut self, topic: &ByteString) -> Arc<str> {
        match &self.last_topic {
            Some((last, address)) if last == topic => address.clone(),
            _ => {
                let address: Arc<str> = to_mesh(topic).into();
                // of its own, or the packet that it came in would stay
                self.last_topic = Some((ByteString::from(&**topic), address.clone()));
                address
            }
        }
    }

    /// Answers what has an outcome; the rest is offered again, in order, or given back with the connection.
    pub(super) async fn heard(&mut self, done: Done) -> Result<(), End> {
        let heard = match done {
            Done::Heard(heard) => heard,
            Done::Stopped(waiting) => {
                waiting.iter().for_each(|_| self.shared.cx.returned(RejectKind::Overloaded));
                return Ok(());
            }
        };
        let freed = self.free(self.due(&heard)).await;
        // what is to be offered again, or given back, is all the same
        self.unheard |= freed.is_err();
        let offered = heard.len();
        let (mut again, mut first) = (Vec::new(), None);
        for (waiting, Verdict { answer, .. }) in heard {
            match answer {
                Ok(Admission::Stored(receipt)) => {
                    if self.wants_own {
                        self.own.add(receipt.id);
                    }
                    self.stored(&waiting, receipt.settled);
                }
                Ok(Admission::Filtered) => self.in_turn(&waiting, None),
                Err(no) if no.disposition() == Disposition::Final => self.in_turn(&waiting, Some(no)),
                Err(no) => {
                    first.get_or_insert((no.kind, no.retry_after, no));
                    again.push(waiting);
                }
            }
        }
        if again.len() < offered {
            self.lane.moved();
        }
        let Some((kind, after, rejection)) = first else {
            self.lane.moved();
            return freed;
        };
        self.lane.again(again, Some((kind, after)));
        freed?;
        self.too_long(&rejection).await
    }

    /// The messages whose answers do not wait for others, and whether they are refused.
    fn due(&self, heard: &[(Waiting, Verdict<Admission>)]) -> Vec<Due> {
        let mut due = Vec::new();
        if !self.promised.is_empty() {
            return due;
        }
        for (waiting, verdict) in heard.iter().filter(|(waiting, _)| !waiting.is_unanswered()) {
            let refused = match &verdict.answer {
                Ok(Admission::Stored(receipt)) => match receipt.settled {
                    Settled::Now => false,
                    Settled::Never => true,
                    // everything behind it waits
                    Settled::Later(_) => break,
                },
                Ok(Admission::Filtered) => false,
                Err(no) if no.disposition() == Disposition::Final => true,
                Err(_) => continue,
            };
            due.push(Due { qos: waiting.qos, id: waiting.id, refused });
        }
        due
    }

    /// Frees the identifiers of messages that the client is about to hear of. They may be stored, so that what comes under
    /// the same identifier next is another message: that is on disk before the client hears.
    pub(super) async fn free(&mut self, due: Vec<Due>) -> Result<(), End> {
        if self.unheard {
            return Ok(());
        }
        let mut any = false;
        for Due { qos, id, refused } in due {
            any |= self.held.session.frees(id, qos, self.goes_on(refused));
        }
        if any { self.keep().await } else { Ok(()) }
    }

    /// Whether the handshake of QoS 2 goes on: in MQTT 3.1.1 it does so even if the message is refused.
    fn goes_on(&self, refused: bool) -> bool {
        !refused || self.version == Version::V3
    }

    /// Of what was not taken for too long, the sender hears.
    async fn too_long(&mut self, rejection: &Rejection) -> Result<(), End> {
        let Some((refused_for, kind)) = self.lane.refused_for() else { return Ok(()) };
        if refused_for > self.shared.config.retry_for {
            self.lane.drain().iter().for_each(|_| self.shared.cx.returned(kind));
            return Err(End::GaveBack);
        }
        if kind == RejectKind::RateLimited && self.version == Version::V5 && refused_for > self.shared.config.max_delay
        {
            let drained = self.lane.drain();
            drained.iter().for_each(|_| self.shared.cx.returned(kind));
            self.lane.moved();
            let due = |waiting: &Waiting| Due { qos: waiting.qos, id: waiting.id, refused: true };
            self.free(drained.iter().map(due).collect()).await?;
            drained.iter().for_each(|waiting| self.in_turn(waiting, Some(rejection.clone())));
        }
        Ok(())
    }

    /// PUBACK or PUBREC: yes, or why not. MQTT 3.1.1 has only the yes.
    pub(super) fn answer(&mut self, qos: Qos, id: u16, refused: Option<&Rejection>) {
        let acked = match qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => Acked::Publish,
            Qos::ExactlyOnce => Acked::Received,
        };
        if self.unheard {
            return;
        }
        self.held.session.heard(id, qos, self.goes_on(refused.is_some()));
        let reason = refused.map_or(Reason::SUCCESS, |rejection| reject::reason(rejection.kind));
        let detail = refused.and_then(|rejection| self.detail(rejection));
        self.ack(acked, id, reason, detail.as_deref());
    }

    /// PUBCOMP, once the identifiers are free for good.
    pub(super) async fn release(&mut self, ids: &[u16]) -> Result<(), End> {
        let released: Vec<_> = ids.iter().map(|id| (*id, self.held.session.released(*id))).collect();
        if released.iter().any(|(_, on)| *on != OnRelease::InUse) {
            self.keep().await?;
        }
        for (id, on) in released {
            let reason = match on {
                OnRelease::Done => Reason::SUCCESS,
                OnRelease::Unknown | OnRelease::InUse => Reason::PACKET_ID_NOT_FOUND,
            };
            self.ack(Acked::Complete, id, reason, None);
        }
        Ok(())
    }
}

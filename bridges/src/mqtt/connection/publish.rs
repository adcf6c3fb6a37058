//! What the client publishes: PUBLISH to the lane, verdicts to PUBACK and PUBREC, PUBREL to PUBCOMP.

use std::{sync::Arc, time::SystemTime};

use envelope::{Admission, Disposition, Headers, Inbound, Qos, RejectKind, Rejection, Verdict};

use super::{Connection, End};
use crate::mqtt::{
    answers::{Answer, Of, in_time},
    headers::{headers, hops, trace},
    lane::{Done, Waiting},
    packet::{self, Acked, Broken, Publish, Reason, Version},
    reject,
    session::{Arrival, Arriving, OnRelease},
};

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
            unacknowledged: publish.qos == Qos::AtMostOnce,
            hops,
            received_at: SystemTime::now(),
        };
        self.lane.push(Waiting { inbound, of: Of { qos: publish.qos, id: publish.id }, bytes: publish.bytes });
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
        let Some(alias) = alias else { return Ok(self.last_topic.spelled(&publish.topic)) };
        if publish.topic.is_empty() {
            let known = self.aliases.get(&alias).cloned();
            return known.ok_or_else(|| Broken::new(Reason::PROTOCOL_ERROR, "a topic alias that stands for nothing"));
        }
        let address = self.last_topic.spelled(&publish.topic);
        self.aliases.insert(alias, address.clone());
        Ok(address)
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
        let offered = heard.len();
        let (mut answers, mut again, mut first) = (Vec::new(), Vec::new(), None);
        let promises = self.shared.cx.promises.clone();
        for (waiting, Verdict { answer, .. }) in heard {
            let of = waiting.of;
            let answer = match answer {
                Ok(Admission::Stored(receipt)) => {
                    if self.wants_own {
                        self.held.session.own.add(receipt.id);
                    }
                    self.answers.stored(of, receipt.settled, &*promises)
                }
                Ok(Admission::Filtered) => self.answers.push(of.yes()),
                Err(no) if no.disposition() == Disposition::Final => self.answers.push(of.no(no)),
                Err(no) => {
                    first.get_or_insert((no.kind, no.retry_after, no));
                    again.push(waiting);
                    None
                }
            };
            answers.extend(answer);
        }
        // what is to be offered again, or given back, is all the same
        let heard = self.reached(answers).await;
        if again.len() < offered {
            self.lane.moved();
        }
        let Some((kind, after, rejection)) = first else {
            self.lane.moved();
            return heard;
        };
        self.lane.again(again, Some((kind, after)));
        heard?;
        self.too_long(&rejection).await
    }

    /// Answers these, in order. Their messages may be stored, so that what comes under the same identifiers next are other
    /// messages: that is on disk before the client hears.
    pub(super) async fn reached(&mut self, answers: Vec<Answer>) -> Result<(), End> {
        let (given, late) = in_time(&answers);
        if !self.unheard {
            let mut any = false;
            for answer in given {
                any |= self.held.session.frees(answer.of.id, answer.of.qos, self.goes_on(answer));
            }
            if any {
                self.keep().await.inspect_err(|_| self.unheard = true)?;
            }
            given.iter().for_each(|answer| self.answer(answer));
        }
        if late { Err(End::Late) } else { Ok(()) }
    }

    /// Whether the handshake of QoS 2 goes on: in MQTT 3.1.1 it does so even if the message is refused.
    fn goes_on(&self, answer: &Answer) -> bool {
        answer.refused().is_none() || self.version == Version::V3
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
            let refused = drained.iter().filter_map(|waiting| self.answers.push(waiting.of.no(rejection.clone())));
            let answers = refused.collect();
            self.reached(answers).await?;
        }
        Ok(())
    }

    /// PUBACK or PUBREC: yes, or why not. MQTT 3.1.1 has only the yes.
    fn answer(&mut self, answer: &Answer) {
        let Of { qos, id } = answer.of;
        let Some(acked) = answer.of.acked() else { return };
        self.held.session.heard(id, qos, self.goes_on(answer));
        let refused = answer.refused();
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

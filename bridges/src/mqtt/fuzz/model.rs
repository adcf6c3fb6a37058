//! A session beside a model of what it promises.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use envelope::{Identity, Position, Qos};

use super::Script;
use crate::mqtt::{
    packet::{RetainHandling, Wanted},
    session::{Arrival, Arriving, OnReceived, OnRelease, Session},
};

/// What is known of the session from outside.
struct Model {
    session: Session,
    /// As it is on disk.
    kept: Bytes,
    /// The messages whose identifiers are not free, by what the store knows them by.
    current: HashMap<u16, (Qos, Identity)>,
    /// Those that are over: nothing may have their names again.
    over: HashSet<Vec<u8>>,
    /// Deliveries that are in flight over this connection.
    sent: HashMap<u16, (u32, Position)>,
    /// What the client took at QoS 2: it is not to be sent again.
    taken: HashSet<(u32, Position)>,
}

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];

pub(super) fn run(mut script: Script<'_>) {
    let mut session = Session::new();
    for filter in ["a", "b/#"] {
        session.subscribe(wanted(filter), None);
    }
    let kept = session.store(true);
    let (current, over, sent, taken) = Default::default();
    let mut model = Model { session, kept, current, over, sent, taken };
    while let Some(what) = script.next() {
        model.step(what, &mut script);
        assert!(usize::from(model.session.in_flight()) >= model.sent.len(), "what is in flight is counted");
    }
}

fn wanted(filter: &'static str) -> Wanted {
    let retain_handling = RetainHandling::Never;
    Wanted {
        filter: filter.into(),
        qos: Qos::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling,
    }
}

// === impl Model ===

impl Model {
    fn step(&mut self, what: u8, script: &mut Script<'_>) {
        let (id, number) = (u16::from(script.byte() % 8) + 1, script.byte());
        match what % 10 {
            0 | 1 => self.arrives(Arriving { qos: QOS[usize::from(number % 3)], id, dup: what & 0x80 != 0 }),
            2 => self.heard(id, number & 1 == 0),
            3 => self.released(id),
            4 => self.disconnected(),
            5 => self.crash(),
            6 => self.send(u32::from(number & 1), number >> 1 & 15, QOS[1 + usize::from(number >> 5 & 1)]),
            7 => self.received(id, number & 3 == 0),
            8 => {
                if self.session.acked(id).is_some() || self.session.completed(id) {
                    self.sent.remove(&id);
                }
            }
            _ => {
                for id in self.session.releases() {
                    self.sent.insert(id, (0, Position(Bytes::new())));
                }
            }
        }
    }

    fn keep(&mut self) {
        self.kept = self.session.store(true);
    }

    fn arrives(&mut self, arriving: Arriving) {
        let Arriving { qos, id, .. } = arriving;
        let before = self.current.get(&id).cloned();
        match self.session.arrives(arriving, Some(6)) {
            Ok(Arrival::Offer(identity)) if qos != Qos::AtMostOnce => {
                let Identity::Native(name) = &identity else { panic!("{identity:?}") };
                assert!(!self.over.contains(&name[..]), "{id} is a message that was released: {identity:?}");
                if self.session.take_begun_anew() {
                    // the client has forgotten the one before
                    self.end(id);
                    self.keep();
                } else if let Some((was, before)) = before.filter(|(was, _)| *was == qos) {
                    assert_eq!(before, identity, "{id} is the same message until it is free, at {was:?}");
                }
                self.current.insert(id, (qos, identity));
            }
            Ok(Arrival::Offer(_) | Arrival::Pending | Arrival::Received) | Err(_) => {}
        }
    }

    fn end(&mut self, id: u16) {
        if let Some((_, Identity::Native(name))) = self.current.remove(&id) {
            self.over.insert(name.to_vec());
        }
    }

    /// PUBACK or PUBREC; an identifier that is free then is so on disk before.
    fn heard(&mut self, id: u16, taken: bool) {
        let Some(qos) = self.current.get(&id).map(|(qos, _)| *qos) else { return };
        if self.session.frees(id, qos, taken) {
            self.end(id);
            self.keep();
        }
        self.session.heard(id, qos, taken);
    }

    fn released(&mut self, id: u16) {
        if self.session.released(id) != OnRelease::InUse {
            self.end(id);
            self.keep();
        }
    }

    fn disconnected(&mut self) {
        self.session.disconnected();
        self.sent.clear();
        self.kept = self.session.store(false);
        if self.session.in_flight() > 0 {
            panic!("nothing is in flight without a connection");
        }
        // what is on disk is the same
        let again = Session::restore(self.kept.clone());
        assert_eq!(again.map(|session| session.store(false).len()).ok(), Some(self.kept.len()));
        self.keep();
    }

    fn crash(&mut self) {
        match Session::restore(self.kept.clone()) {
            Ok(session) => self.session = session,
            Err(error) => panic!("what was kept can't be read: {error}"),
        }
        self.sent.clear();
    }

    fn send(&mut self, subscription: u32, position: u8, qos: Qos) {
        let position = Position(Bytes::copy_from_slice(&[position]));
        let of = (subscription, position.clone());
        if self.session.has_taken(subscription, &position) || self.sent.values().any(|sent| *sent == of) {
            return;
        }
        assert!(!self.taken.contains(&of), "{of:?} is sent a second time");
        let Some((id, _)) = self.session.send(subscription, &position, qos) else { panic!("no identifier is left") };
        assert!(id > 0 && self.sent.insert(id, of).is_none(), "{id} is in flight already");
        if qos == Qos::ExactlyOnce {
            self.keep();
        }
    }

    fn received(&mut self, id: u16, refused: bool) {
        match self.session.received(id, refused) {
            OnReceived::Release(subscription, position) => {
                // the store is not told here: it may deliver it again for ever
                self.taken.insert((subscription, position));
                self.keep();
            }
            OnReceived::Refused(..) => {
                self.sent.remove(&id);
                self.keep();
            }
            OnReceived::Again | OnReceived::Unknown => {}
        }
    }
}

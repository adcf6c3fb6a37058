//! The messages that are waited for, and the tickets of who waits. In memory, bounded, and no I/O.
//!
//! What a message's fate is, is remembered until nobody can wait for it any more; where there is no room, what is decided
//! goes first: of a delivery the store knows the rest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use envelope::{EnvelopeId, Principal, Reply, Terms, Ticket};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::parts::{Reader, Writer};

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    next: u64,
    entries: HashMap<Uuid, Entry>,
    /// By their numbers. Nobody may ever ask for one.
    tickets: BTreeMap<u64, Held>,
    /// When entries are over, the first first.
    ends: BTreeSet<(Instant, Uuid)>,
    /// Those whose fate is known, and since when.
    decided: BTreeSet<(Instant, Uuid)>,
}

/// A message that is waited for. Envelopes of one message have one UUID.
pub(super) struct Entry {
    pub(super) fate: watch::Sender<Option<Fate>>,
    /// Envelopes that nobody has taken yet, and how many mappings may.
    pub(super) open: HashMap<EnvelopeId, usize>,
    /// It waits for an answer, and for nobody to take it.
    pub(super) terms: Option<Arc<Terms>>,
    /// The bridge and the principal that wait for an answer.
    pub(super) asker: Option<(Arc<str>, Arc<Principal>)>,
    pub(super) until: Instant,
    /// An answer comes in parts: where they go, until the last has come.
    pub(super) writer: Option<Writer>,
    /// Where they come from, until one of those who wait takes it.
    pub(super) reader: Option<Reader>,
    /// The envelope that ended its answer: who sends that again did not hear that it was taken.
    pub(super) last: Option<EnvelopeId>,
    decided: Option<Instant>,
}

/// A ticket that nobody has asked for yet.
pub(super) struct Held {
    pub(super) message: Uuid,
    pub(super) fate: watch::Receiver<Option<Fate>>,
    pub(super) until: Instant,
    /// It waits for an answer.
    pub(super) asks: bool,
}

/// What became of a message.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Taken,
    NotTaken,
    Answered(Option<Reply>),
    /// With the first of several parts.
    Began(Option<Reply>),
}

/// The most messages that are waited for.
pub(super) const MAX_WAITING: usize = 65_536;
/// How long an entry outlives those who wait for it.
pub(super) const GRACE: Duration = Duration::from_secs(1);

// === impl Entry ===

impl Entry {
    pub(super) fn new(open: HashMap<EnvelopeId, usize>, terms: Option<Arc<Terms>>, until: Instant) -> Self {
        Self {
            fate: watch::Sender::new(None),
            open,
            terms,
            asker: None,
            until,
            writer: None,
            reader: None,
            last: None,
            decided: None,
        }
    }

    /// Nothing is known of its fate.
    pub(super) fn is_open(&self) -> bool {
        self.decided.is_none() && self.writer.is_none()
    }

    /// Somebody reads the parts of its answer, or waits for them.
    pub(super) fn is_heard(&self) -> bool {
        self.reader.is_none() || self.fate.receiver_count() > 0
    }
}

// === impl Table ===

impl Table {
    pub(super) fn get(&self, message: Uuid) -> Option<&Entry> {
        self.entries.get(&message)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Enters a message that is not there; `false` if there is no room, because so many wait.
    pub(super) fn enter(&mut self, message: Uuid, entry: Entry) -> bool {
        if self.entries.len() >= MAX_WAITING {
            let Some((_, decided)) = self.decided.first().copied() else { return false };
            self.remove(decided);
        }
        self.ends.insert((entry.until + GRACE, message));
        self.entries.insert(message, entry);
        true
    }

    pub(super) fn remove(&mut self, message: Uuid) {
        let Some(entry) = self.entries.remove(&message) else { return };
        self.ends.remove(&(entry.until + GRACE, message));
        if let Some(at) = entry.decided {
            self.decided.remove(&(at, message));
        }
    }

    /// A ticket for a message. If that is not there any more, whoever asks with it hears that it is too late.
    pub(super) fn ticket(&mut self, message: Uuid, within: Duration) -> Ticket {
        self.next += 1;
        if let Some(entry) = self.entries.get(&message) {
            let asks = entry.terms.is_some();
            let held = Held { message, fate: entry.fate.subscribe(), until: Instant::now() + within, asks };
            self.tickets.insert(self.next, held);
        }
        if self.tickets.len() > MAX_WAITING {
            self.tickets.pop_first();
        }
        Ticket(self.next)
    }

    /// A ticket is asked for once.
    pub(super) fn redeem(&mut self, ticket: Ticket) -> Option<Held> {
        self.tickets.remove(&ticket.0)
    }

    /// One of the mappings that this envelope was for is done with it; whether a peer took it.
    pub(super) fn settled(&mut self, id: EnvelopeId, taken: bool) {
        let entry = self.entries.get_mut(&id.uuid());
        let Some(entry) = entry.filter(|entry| entry.terms.is_none() && entry.decided.is_none()) else { return };
        if taken {
            entry.open.remove(&id);
        } else if let Some(left) = entry.open.get_mut(&id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.decide(id.uuid(), Fate::NotTaken);
                return;
            }
        }
        if entry.open.is_empty() {
            self.decide(id.uuid(), Fate::Taken);
        }
    }

    /// The first fate of a message is its last; `false` if it has one, or is not waited for.
    pub(super) fn decide(&mut self, message: Uuid, fate: Fate) -> bool {
        let Some(entry) = self.entries.get_mut(&message).filter(|entry| entry.is_open()) else { return false };
        entry.fate.send_replace(Some(fate));
        self.done(message);
        true
    }

    /// Its answer has begun, and is not whole yet; `false` as above.
    pub(super) fn begin(&mut self, message: Uuid, first: Option<Reply>, (writer, reader): (Writer, Reader)) -> bool {
        let Some(entry) = self.entries.get_mut(&message).filter(|entry| entry.is_open()) else { return false };
        entry.writer = Some(writer);
        entry.reader = Some(reader);
        entry.fate.send_replace(Some(Fate::Began(first)));
        true
    }

    /// Nothing more is to come for a message: it makes room for another.
    pub(super) fn done(&mut self, message: Uuid) {
        let Some(entry) = self.entries.get_mut(&message).filter(|entry| entry.decided.is_none()) else { return };
        let now = Instant::now();
        entry.decided = Some(now);
        entry.writer = None;
        self.decided.insert((now, message));
    }

    /// Its answer ended with this envelope.
    pub(super) fn last(&mut self, message: Uuid, answer: EnvelopeId) {
        if let Some(entry) = self.entries.get_mut(&message) {
            entry.last = Some(answer);
        }
    }

    pub(super) fn get_mut(&mut self, message: Uuid) -> Option<&mut Entry> {
        self.entries.get_mut(&message)
    }

    /// Drops what nobody waits for any more.
    pub(super) fn end(&mut self, now: Instant) {
        while let Some((_, message)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.remove(message);
        }
    }

    /// Everything that it holds is held together.
    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        let decided = self.entries.values().filter(|entry| entry.decided.is_some()).count();
        self.ends.len() == self.entries.len() && self.decided.len() == decided
    }
}

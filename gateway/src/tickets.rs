//! Promises beyond the store: who waits for a message to be delivered, or for its answer.
//!
//! A message whose mapping says `ack: delivered`, `ack: consumer` or `reply: { within }` gets a ticket, which its source
//! awaits outside of the stack. The table is in memory and bounded: after a restart the store says what became of a
//! duplicate's original, and what it can't say is never told as a yes.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backbone::Backbone;
use envelope::{
    AckPoint, Admission, Admitted, Batch, Envelope, EnvelopeId, Filter, Mapped, Position, Promises, Reached, Receipt,
    RejectKind, Rejection, Reply, Settled, Terms, Ticket, Timestamp, Topic, Verdicts,
};
use futures_util::future::BoxFuture;
use policy::{NoRandom, ReplyDesk, ReplyTopics};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::egress::Fates;

#[cfg(test)]
mod tests;

/// The name of a mapping's subscription, and what it selects.
type Taker = (Arc<str>, Filter);

/// The messages that are waited for. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Tickets(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// The subscriptions of mappings that send, and what they select.
    takers: Mutex<Arc<[Taker]>>,
    /// What makes reply topics ones that nobody can guess.
    topics: ReplyTopics,
    domain: Arc<str>,
    /// Nobody waits for longer than the gateway runs.
    drain: CancellationToken,
}

#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<Uuid, Entry>,
    tickets: HashMap<Ticket, Held>,
    /// When entries are over, the first first.
    ends: BTreeSet<(Instant, Uuid)>,
}

/// A message that is waited for. Envelopes of one message have one UUID.
struct Entry {
    fate: watch::Sender<Option<Fate>>,
    /// Envelopes that nobody has taken yet, and how many mappings may.
    open: HashMap<EnvelopeId, usize>,
    /// It waits for an answer, and for nobody to take it.
    terms: Option<Arc<Terms>>,
    until: Instant,
}

/// A ticket that nobody has asked for yet.
struct Held {
    fate: watch::Receiver<Option<Fate>>,
    until: Instant,
}

/// What became of a message.
#[derive(Debug, Clone)]
enum Fate {
    Taken,
    NotTaken,
    Answered(Option<Reply>),
}

/// What one message of a batch is waited for.
struct Wait {
    message: Uuid,
    /// The entry was made for it, and is not an earlier one's.
    new: bool,
    /// Each subscription that is to take one of its envelopes.
    takers: Vec<(Arc<str>, EnvelopeId)>,
    within: Duration,
}

/// The most messages that are waited for.
const MAX_WAITING: usize = 65_536;
/// How long an entry outlives those who wait for it.
const GRACE: Duration = Duration::from_secs(1);

// === impl Tickets ===

impl Tickets {
    pub(crate) fn new(domain: Arc<str>, drain: CancellationToken) -> Result<Self, NoRandom> {
        let topics = ReplyTopics::new()?;
        let shared = Shared { table: Mutex::default(), takers: Mutex::new(Arc::new([])), topics, domain, drain };
        Ok(Self(Arc::new(shared)))
    }

    /// Stores a batch; what is waited for gets its ticket before anybody can have taken it.
    pub(crate) async fn publish(
        &self,
        backbone: &Arc<dyn Backbone>,
        batch: Batch<Admitted>,
    ) -> Result<Verdicts<Admission>, Rejection> {
        if !batch.as_slice().iter().any(|admitted| waits(admitted.mapped())) {
            return backbone.publish(batch).await;
        }
        let waits: Vec<_> = batch.as_slice().iter().map(|admitted| self.expect(admitted.mapped())).collect();
        let waits = match waits.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(waits) => waits,
            Err(full) => return Err(full),
        };
        let answer = backbone.publish(batch).await;
        let mut verdicts = match answer {
            Ok(verdicts) => verdicts,
            Err(rejection) => {
                waits.into_iter().flatten().for_each(|wait| self.forget(&wait));
                return Err(rejection);
            }
        };
        for (verdict, wait) in verdicts.iter_mut().zip(waits) {
            match (&mut verdict.answer, wait) {
                (Ok(Admission::Stored(receipt)), Some(wait)) => self.promise(backbone, receipt, &wait),
                (_, Some(wait)) => self.forget(&wait),
                (_, None) => {}
            }
        }
        Ok(verdicts)
    }

    /// Waits for a ticket's end.
    async fn wait(&self, ticket: Ticket) -> Reached {
        let Some(mut held) = self.table().tickets.remove(&ticket) else { return Reached::Late };
        let fate = tokio::select! {
            biased;
            fate = held.fate.wait_for(Option::is_some) => fate.ok().and_then(|fate| fate.clone()),
            () = sleep_until(held.until) => None,
            // what is stored is delivered after the next start, and its sender asks again
            () = self.0.drain.cancelled() => None,
        };
        match fate {
            Some(Fate::Taken) => Reached::Yes,
            Some(Fate::NotTaken) => Reached::Never,
            Some(Fate::Answered(reply)) => Reached::Answered(reply),
            None => Reached::Late,
        }
    }

    /// Enters a message into the table, if it is waited for.
    fn expect(&self, mapped: &Mapped) -> Result<Option<Wait>, Rejection> {
        let Some(first) = mapped.group.as_slice().first().filter(|_| waits(mapped)) else { return Ok(None) };
        let message = first.id.uuid();
        let reply_within = mapped.terms.reply.as_ref().and_then(|reply| reply.within());
        let within = reply_within.unwrap_or(mapped.terms.ack_within);
        let takers = match reply_within {
            Some(_) => Vec::new(),
            None => self.takers_of(mapped.group.as_slice()),
        };
        let until = Instant::now() + within;
        let mut table = self.table();
        table.end(Instant::now());
        if table.entries.contains_key(&message) {
            return Ok(Some(Wait { message, new: false, takers, within }));
        }
        if table.entries.len() >= MAX_WAITING {
            let detail = format!("{MAX_WAITING} messages are waited for, which is the limit");
            return Err(Rejection::new(RejectKind::Overloaded, "ack", detail).after(Duration::from_secs(1)));
        }
        let mut open: HashMap<_, _> = mapped.group.as_slice().iter().map(|envelope| (envelope.id, 0)).collect();
        for (_, id) in &takers {
            open.entry(*id).and_modify(|count| *count += 1);
        }
        let terms = reply_within.map(|_| mapped.terms.clone());
        let fate = watch::Sender::new(None);
        table.entries.insert(message, Entry { fate, open, terms, until });
        table.ends.insert((until + GRACE, message));
        Ok(Some(Wait { message, new: true, takers, within }))
    }

    /// Gives a message that is stored its ticket. A duplicate whose original is not waited for any more is asked of the
    /// store.
    fn promise(&self, backbone: &Arc<dyn Backbone>, receipt: &mut Receipt, wait: &Wait) {
        if let (true, true, Some(position)) = (receipt.duplicate, wait.new, &receipt.position) {
            self.look_back(backbone, position, wait);
        }
        let mut table = self.table();
        let Some(entry) = table.entries.get(&wait.message) else { return };
        let held = Held { fate: entry.fate.subscribe(), until: Instant::now() + wait.within };
        table.next += 1;
        let ticket = Ticket(table.next);
        table.tickets.insert(ticket, held);
        receipt.settled = Settled::Later(ticket);
    }

    /// What the store knows of a message that was stored before.
    fn look_back(&self, backbone: &Arc<dyn Backbone>, position: &Position, wait: &Wait) {
        if wait.takers.is_empty() {
            return;
        }
        let report = backbone.report();
        for (durable, id) in &wait.takers {
            if backbone.is_settled(durable, position) != Some(true) {
                continue;
            }
            // the store counts what was not delivered, and does not keep which it was
            let counts = report.subscriptions.get(&**durable);
            let all = counts.is_some_and(|counts| counts.dead_lettered.is_empty() && counts.refused.is_empty());
            self.settled(*id, all);
        }
    }

    fn forget(&self, wait: &Wait) {
        if wait.new {
            self.table().entries.remove(&wait.message);
        }
    }

    fn takers_of(&self, envelopes: &[Envelope]) -> Vec<(Arc<str>, EnvelopeId)> {
        let takers = self.0.takers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of = |envelope: &Envelope| {
            let (id, subject) = (envelope.id, envelope.subject.clone());
            let matching: Vec<_> = takers.iter().filter(|(_, filter)| filter.matches(&subject)).collect();
            matching.into_iter().map(move |(durable, _)| (durable.clone(), id)).collect::<Vec<_>>()
        };
        envelopes.iter().flat_map(of).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the sender hears yes later than the store.
fn waits(mapped: &Mapped) -> bool {
    let answer = mapped.terms.reply.as_ref().is_some_and(|reply| reply.within().is_some());
    answer || matches!(mapped.ack, AckPoint::Delivered | AckPoint::Consumer)
}

impl Fates for Tickets {
    fn settled(&self, id: EnvelopeId, taken: bool) {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(&id.uuid()).filter(|entry| entry.terms.is_none()) else { return };
        if taken {
            entry.open.remove(&id);
        } else if let Some(left) = entry.open.get_mut(&id) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                entry.fate.send_replace(Some(Fate::NotTaken));
                return;
            }
        }
        if entry.open.is_empty() {
            entry.fate.send_replace(Some(Fate::Taken));
        }
    }

    fn takers(&self, takers: Vec<Taker>) {
        *self.0.takers.lock().unwrap_or_else(PoisonError::into_inner) = takers.into();
    }
}

impl Promises for Tickets {
    fn reached(&self, ticket: Ticket) -> BoxFuture<'static, Reached> {
        let tickets = self.clone();
        Box::pin(async move { tickets.wait(ticket).await })
    }
}

impl ReplyDesk for Tickets {
    fn topic(&self, id: EnvelopeId) -> Option<Topic> {
        self.0.topics.topic(&self.0.domain, id)
    }

    fn answer(&self, to: &Topic, inreplyto: EnvelopeId, answer: &Envelope) -> Result<(), Rejection> {
        let refuse = |kind, detail: &str| Err(Rejection::new(kind, "reply", detail));
        if self.topic(inreplyto).is_none_or(|expected| expected != *to) {
            return refuse(RejectKind::Denied, "it does not answer the envelope of this reply topic");
        }
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(&inreplyto.uuid()).filter(|entry| entry.until > Instant::now()) else {
            return refuse(RejectKind::Conflict, "nobody waits for this answer any more");
        };
        let Some(terms) = entry.terms.clone() else {
            return refuse(RejectKind::Conflict, "nobody waits for an answer to this envelope");
        };
        if entry.fate.borrow().is_some() {
            return refuse(RejectKind::Conflict, "it was answered before: the first answer counts");
        }
        let reply = match &terms.reply {
            Some(replies) => replies.answered(answer, Timestamp::now())?,
            None => None,
        };
        entry.fate.send_replace(Some(Fate::Answered(reply)));
        Ok(())
    }
}

// === impl Table ===

impl Table {
    /// Drops what nobody waits for any more.
    fn end(&mut self, now: Instant) {
        while let Some((at, message)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.remove(&(at, message));
            self.entries.remove(&message);
        }
        if self.tickets.len() > MAX_WAITING {
            self.tickets.retain(|_, held| held.until > now);
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("waiting", &self.table().entries.len()).finish_non_exhaustive()
    }
}

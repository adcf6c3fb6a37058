//! Promises beyond the store: who waits for a message to be delivered, or for its answer.
//!
//! A message whose mapping says `ack: delivered`, `ack: consumer` or `reply: { within }` gets a ticket, which its source
//! awaits outside of the stack. The table is in memory and bounded: after a restart the store says what became of a
//! duplicate's original, and what it can't say is never told as a yes.

mod desk;
mod parts;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backbone::{Backbone, Standing};
use envelope::{
    AckPoint, Admission, Admitted, Batch, Envelope, EnvelopeId, Lane, Mapped, Position, Promises, Reached, Receipt,
    RejectKind, Rejection, Settled, Ticket, Topic, Verdict, Verdicts,
};
use futures_util::future::BoxFuture;
use policy::{NoRandom, ReplyTopics};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{
    parts::MAX_ALL_BYTES,
    table::{Entry, Fate, MAX_WAITING, Table},
};
use crate::{
    egress::{Fates, Taker},
    store::{Store, behind},
};

/// The messages that are waited for. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Tickets(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// The mappings that send.
    takers: Mutex<Arc<[Taker]>>,
    /// What makes reply topics ones that nobody can guess.
    topics: ReplyTopics,
    domain: Arc<str>,
    /// A permit a byte of parts that wait for who reads them.
    room: Arc<Semaphore>,
    /// The sources stop: no answer comes any more.
    drain: CancellationToken,
    /// The gateway ends: nobody waits longer.
    over: CancellationToken,
}

/// What one message of a batch is waited for.
struct Wait {
    message: Uuid,
    /// The entry was made for it, and is not an earlier one's.
    new: bool,
    /// It has one envelope, at the position of its receipt.
    is_one: bool,
    /// Each subscription that is to take one of its envelopes.
    dues: Vec<Due>,
    within: Duration,
}

/// An envelope that a mapping is to take.
struct Due {
    durable: Arc<str>,
    id: EnvelopeId,
    topic: Topic,
}

/// What a batch's messages are waited for, of those that the store is offered; and the others, by their place.
#[derive(Default)]
struct Offer {
    messages: Vec<Admitted>,
    waits: Vec<Option<Wait>>,
    refused: Vec<(usize, Rejection)>,
}

// === impl Tickets ===

impl Tickets {
    /// Once `drain` is cancelled no answer comes any more; once `over` is, nobody waits for anything.
    pub(crate) fn new(domain: Arc<str>, drain: CancellationToken, over: CancellationToken) -> Result<Self, NoRandom> {
        let topics = ReplyTopics::new()?;
        let room = Arc::new(Semaphore::new(MAX_ALL_BYTES as usize));
        let (table, takers) = (Mutex::default(), Mutex::new(Arc::new([]) as Arc<[_]>));
        let shared = Shared { table, takers, topics, domain, room, drain, over };
        Ok(Self(Arc::new(shared)))
    }

    /// Stores a batch, or hands it on; what is waited for gets its ticket before anybody can have taken it.
    pub(crate) async fn publish(
        &self,
        store: &Store,
        batch: Batch<Admitted>,
    ) -> Result<Verdicts<Admission>, Rejection> {
        if !batch.as_slice().iter().any(|admitted| waits(admitted.mapped())) {
            return store.publish(batch).await;
        }
        let Offer { messages, waits, refused } = self.offer(batch);
        let mut verdicts = match Batch::new(messages) {
            Some(batch) => match store.publish(batch).await {
                Ok(verdicts) => verdicts,
                Err(rejection) => {
                    waits.into_iter().flatten().for_each(|wait| self.forget(&wait));
                    return Err(rejection);
                }
            },
            None => Vec::new(),
        };
        for (verdict, wait) in verdicts.iter_mut().zip(waits) {
            match (&mut verdict.answer, wait) {
                (Ok(Admission::Stored(receipt)), Some(wait)) => {
                    // what is not stored has no position
                    if receipt.duplicate && receipt.position.is_none() {
                        let sent = wait.dues.iter().filter(|due| store.through.has_sent(due.id));
                        sent.for_each(|due| self.settled(due.id, true));
                    }
                    self.promise(&store.backbone, receipt, &wait);
                }
                (_, Some(wait)) => self.forget(&wait),
                (_, None) => {}
            }
        }
        Ok(merged(verdicts, refused))
    }

    /// Enters what is waited for. What finds no room is offered again by its source, and what is behind it in its lane.
    fn offer(&self, batch: Batch<Admitted>) -> Offer {
        let mut offer = Offer::default();
        let mut stopped: HashSet<Lane> = HashSet::new();
        for (index, admitted) in batch.into_vec().into_iter().enumerate() {
            let lane = admitted.mapped().lane;
            let entered = match stopped.contains(&lane) {
                true => Err(behind()),
                false => self.expect(admitted.mapped()),
            };
            match entered {
                Ok(wait) => {
                    offer.messages.push(admitted);
                    offer.waits.push(wait);
                }
                Err(rejection) => {
                    stopped.insert(lane);
                    offer.refused.push((index, rejection));
                }
            }
        }
        offer
    }

    /// Waits for a ticket's end.
    async fn wait(&self, ticket: Ticket) -> Reached {
        let Some(mut held) = self.table().redeem(ticket) else { return Reached::Late };
        // what is stored is delivered after the next start, and its sender asks again
        let over = if held.asks { &self.0.drain } else { &self.0.over };
        let fate = tokio::select! {
            biased;
            fate = held.fate.wait_for(Option::is_some) => fate.ok().and_then(|fate| fate.clone()),
            () = sleep_until(held.until) => None,
            () = over.cancelled() => None,
        };
        match fate {
            Some(Fate::Taken) => Reached::Yes,
            Some(Fate::NotTaken) => Reached::Never,
            Some(Fate::Answered(reply)) => Reached::Answered(reply),
            Some(Fate::Began(first)) => self.read(held.message, first),
            None => Reached::Late,
        }
    }

    /// Enters a message into the table, if it is waited for.
    fn expect(&self, mapped: &Mapped) -> Result<Option<Wait>, Rejection> {
        let Some(first) = mapped.group.as_slice().first().filter(|_| waits(mapped)) else { return Ok(None) };
        let message = first.id.uuid();
        let reply_within = mapped.terms.reply.as_ref().and_then(|reply| reply.within());
        let within = reply_within.unwrap_or(mapped.terms.ack_within);
        let envelopes = mapped.group.as_slice();
        let dues = match reply_within {
            Some(_) => Vec::new(),
            None => self.dues(envelopes),
        };
        let wait = |new, dues| Wait { message, new, is_one: envelopes.len() == 1, dues, within };
        let until = Instant::now() + within;
        let mut table = self.table();
        table.end(Instant::now());
        if table.get(message).is_some() {
            return Ok(Some(wait(false, dues)));
        }
        let mut open: HashMap<_, _> = envelopes.iter().map(|envelope| (envelope.id, 0)).collect();
        for Due { id, .. } in &dues {
            open.entry(*id).and_modify(|count| *count += 1);
        }
        let terms = reply_within.map(|_| mapped.terms.clone());
        let asker = reply_within.map(|_| (mapped.bridge.clone(), mapped.principal.clone()));
        let mut entry = Entry::new(open, terms, until);
        entry.asker = asker;
        if table.enter(message, entry) {
            return Ok(Some(wait(true, dues)));
        }
        let detail = format!("{MAX_WAITING} messages are waited for, which is the limit");
        Err(Rejection::new(RejectKind::Overloaded, "ack", detail).after(Duration::from_secs(1)))
    }

    /// Gives a message that is stored its ticket. A duplicate whose original is not waited for any more is asked of the
    /// store.
    fn promise(&self, backbone: &Arc<dyn Backbone>, receipt: &mut Receipt, wait: &Wait) {
        if let (true, true, Some(position)) = (receipt.duplicate, wait.new, &receipt.position) {
            self.look_back(backbone, position, wait);
        }
        receipt.settled = Settled::Later(self.table().ticket(wait.message, wait.within));
    }

    /// What the store knows of a message that was stored before. It is a yes only where no envelope was ever done with in
    /// another way than that a peer took it; what is done with in any other way is a no, for it comes to nobody any more.
    fn look_back(&self, backbone: &Arc<dyn Backbone>, position: &Position, wait: &Wait) {
        for Due { durable, id, topic } in &wait.dues {
            let taken = match backbone.standing(durable, topic, position) {
                Some(Standing::Pending) => continue,
                Some(Standing::Delivered) => wait.is_one,
                Some(Standing::Done | Standing::NotSelected) | None => false,
            };
            self.settled(*id, taken);
        }
    }

    fn forget(&self, wait: &Wait) {
        if wait.new {
            self.table().remove(wait.message);
        }
    }

    fn dues(&self, envelopes: &[Envelope]) -> Vec<Due> {
        let takers = self.0.takers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut dues = Vec::new();
        for Envelope { id, subject, .. } in envelopes {
            dues.extend(takers.iter().filter(|taker| taker.filter.matches(subject)).map(|taker| Due {
                durable: taker.durable.clone(),
                id: *id,
                topic: subject.clone(),
            }));
        }
        dues
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All verdicts of a batch, in its order.
fn merged(verdicts: Verdicts<Admission>, refused: Vec<(usize, Rejection)>) -> Verdicts<Admission> {
    if refused.is_empty() {
        return verdicts;
    }
    let mut all = Vec::with_capacity(verdicts.len() + refused.len());
    let mut stored = verdicts.into_iter();
    for (index, rejection) in refused {
        let before = index.saturating_sub(all.len());
        all.extend(stored.by_ref().take(before));
        all.push(Verdict::no(rejection));
    }
    all.extend(stored);
    all
}

/// Whether the sender hears yes later than the store.
fn waits(mapped: &Mapped) -> bool {
    let answer = mapped.terms.reply.as_ref().is_some_and(|reply| reply.within().is_some());
    answer || matches!(mapped.ack, AckPoint::Delivered | AckPoint::Consumer)
}

impl Fates for Tickets {
    fn settled(&self, id: EnvelopeId, taken: bool) {
        self.table().settled(id, taken);
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

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("waiting", &self.table().len()).finish_non_exhaustive()
    }
}

//! Finds stored envelopes by what they are: a page at a time, each page with bounded work.
//!
//! Of what is asked for, the rarest attribute that has an index leads; the rest is looked up in the records that it
//! names. See `index` for how records are found that have no rows.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use bytes::Bytes;
use envelope::{Delivery, Envelope, EnvelopeId, Filter, Position, RejectKind, Rejection, Timestamp};

use crate::{
    fetch,
    index::{self, Column, Known},
    position,
    pull::delivery,
    record::{self, Header, Stored},
    shared::Shared,
    store::Store,
    times,
};

/// What to look for: envelopes of which all that is said here holds, in the order of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this id.
    pub id: Option<EnvelopeId>,
    /// Of this conversation.
    pub conversation: Option<Arc<str>>,
    /// On topics that it selects.
    pub topic: Option<Filter>,
    /// That the principal of this id sent.
    pub sender: Option<Arc<str>>,
    /// Addressed to it.
    pub recipient: Option<Arc<str>>,
    /// From the first one that was admitted at this time or later.
    pub from: Option<Timestamp>,
    /// Up to the last one before the first that was admitted at this time or later.
    pub to: Option<Timestamp>,
    /// Behind this position: where the page before ended.
    pub after: Option<Position>,
    /// The most of them; never over 1,000.
    pub most: usize,
}

/// A stored envelope, and how it came here.
#[derive(Debug, Clone)]
pub struct Match {
    /// The envelope and where it is.
    pub delivery: Delivery,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// The id of the principal that sent it.
    pub sender: Arc<str>,
    /// The bridge it came through.
    pub bridge: Arc<str>,
    /// The mapping's name.
    pub mapping: Arc<str>,
}

/// A page of a [`Query`].
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// May be fewer than were asked for, or none, though there are more.
    pub matches: Vec<Match>,
    /// Where the next page begins; `None` if everything was looked at.
    pub next: Option<Position>,
}

/// The most matches of a page.
const MAX_MATCHES: usize = 1_000;
/// About the most bytes of their records.
const MAX_BYTES: usize = 1 << 20;
/// The most records that are read for a page, and about the most bytes of them.
const MAX_READ: usize = 8_192;
const MAX_READ_BYTES: usize = 16 << 20;
/// The most rows of the index that are read for a page: each speaks of a thousand records.
const MAX_ROWS: usize = 1_024;

/// A page that is being made.
struct Walk<'s> {
    store: &'s Store,
    query: &'s Query,
    most: usize,
    page: Page,
    bytes: usize,
    read: usize,
    read_bytes: usize,
    rows: usize,
}

/// A page of what `query` looks for.
pub(crate) async fn page(shared: Arc<Shared>, query: Query) -> Result<Page, Rejection> {
    let after = match &query.after {
        None => 0,
        Some(position) => shared.sequence(position).ok_or_else(no_position)?,
    };
    // Closed never: it ends with the store.
    let turn = shared.queries.acquire().await;
    let after = after.max(shared.first.load(SeqCst).saturating_sub(1));
    let tip = shared.tip.load(SeqCst);
    let page = fetch::blocking(&shared, move |store| Walk::new(store, &query).page(after, tip)).await;
    drop(turn);
    page
}

fn no_position() -> Rejection {
    Rejection::new(RejectKind::Conflict, "backbone", "the position is none of this store")
}

// === impl Query ===

impl Query {
    /// What leads to the records, if anything does.
    fn lead(&self) -> Option<(Column, u32)> {
        let exact = self.topic.as_ref().map(Filter::as_str).filter(|topic| !topic.contains(['+', '#']));
        let id = self.id.map(|id| (Column::Id, index::of_id(id)));
        let conversation = self.conversation.as_deref().map(|text| (Column::Conversation, index::of_text(text)));
        let topic = exact.map(|text| (Column::Topic, index::of_text(text)));
        let sender = self.sender.as_deref().map(|text| (Column::Sender, index::of_text(text)));
        id.or(conversation).or(topic).or(sender)
    }

    fn selects(&self, header: &Header, envelope: &Envelope) -> bool {
        let conversation = envelope.conversation.as_deref();
        let same = |asked: &Option<Arc<str>>, own: Option<&str>| asked.is_none() || asked.as_deref() == own;
        let recipients = conversation.map_or(&[][..], |conversation| &conversation.recipients);
        self.id.is_none_or(|id| id == envelope.id)
            && same(&self.conversation, conversation.and_then(|conversation| conversation.id.as_deref()))
            && self.topic.as_ref().is_none_or(|filter| filter.matches(&envelope.subject))
            && same(&self.sender, Some(&header.principal))
            && self.recipient.as_ref().is_none_or(|recipient| recipients.contains(recipient))
    }
}

// === impl Walk ===

impl<'s> Walk<'s> {
    fn new(store: &'s Store, query: &'s Query) -> Self {
        let most = query.most.clamp(1, MAX_MATCHES);
        Self { store, query, most, page: Page::default(), bytes: 0, read: 0, read_bytes: 0, rows: 0 }
    }

    /// Of what is behind `after`, up to `tip`.
    fn page(mut self, after: u64, tip: u64) -> fjall::Result<Page> {
        let before = |at: Option<Timestamp>| at.map(|at| times::before(self.store, at, tip)).transpose();
        let (from, last) = (before(self.query.from)?, before(self.query.to)?.unwrap_or(tip));
        let lead = self.query.lead();
        let mut at = after.max(from.unwrap_or(0));
        while at < last && !self.is_full() {
            let Some((column, print)) = lead else {
                at = self.all(at, last)?;
                continue;
            };
            self.rows += 1;
            at = match index::known(self.store, column, at + 1)? {
                Known::Row(row) => self.named(row.behind(at, print), last, row.end() - 1)?,
                Known::Unknown(next) => self.all(at, last.min(next - 1))?,
            };
        }
        self.page.next = (at < last).then(|| position::of(self.store.name, at));
        Ok(self.page)
    }

    fn is_full(&self) -> bool {
        self.page.matches.len() >= self.most
            || self.bytes >= MAX_BYTES
            || self.read >= MAX_READ
            || self.read_bytes >= MAX_READ_BYTES
            || self.rows >= MAX_ROWS
    }

    /// Looks at these records of a row; answers how far it came.
    fn named(&mut self, sequences: impl Iterator<Item = u64>, last: u64, end: u64) -> fjall::Result<u64> {
        for sequence in sequences.take_while(|sequence| *sequence <= last) {
            if let Some(record) = self.store.log.get(sequence.to_be_bytes())? {
                self.look_at(sequence, record.into());
            }
            if self.is_full() {
                return Ok(sequence);
            }
        }
        Ok(end.min(last))
    }

    /// Looks at all records behind `after` up to `last`; answers how far it came.
    fn all(&mut self, after: u64, last: u64) -> fjall::Result<u64> {
        for row in self.store.records(after + 1..=last) {
            let (at, value) = row?;
            self.look_at(at, value.into());
            if self.is_full() {
                return Ok(at);
            }
        }
        Ok(last)
    }

    fn look_at(&mut self, sequence: u64, record: Bytes) {
        self.read += 1;
        self.read_bytes += record.len();
        let (header, envelope) = match record::decode(&record) {
            Ok(found) => found,
            Err(error) => return fetch::unreadable(sequence, error),
        };
        if !self.query.selects(&header, &envelope) {
            return;
        }
        self.bytes += record.len();
        let stored = Stored { envelope, retained: header.retained };
        let Header { admitted_at, principal: sender, bridge, mapping, .. } = header;
        let delivery = delivery(position::of(self.store.name, sequence), stored, false);
        self.page.matches.push(Match { delivery, admitted_at, sender, bridge, mapping });
    }
}

//! Which records may have an id, a conversation, a topic or a sender, so that a query reads few of them.
//!
//! Records stand in blocks of about a thousand, and a block has a row for each attribute: a fingerprint of four bytes a
//! record. Rows that have ids as keys would land all over the keyspace and cost the writer half of its rate; these are
//! written in order, and only when a block is full. A fingerprint is a hint: whoever asks reads the record. What has no
//! row is read itself, so rows that are missing make a query slower and never wrong.

use envelope::EnvelopeId;
use fjall::OwnedWriteBatch;

use crate::{
    codec::{Reader, put_u64},
    group::Group,
    record,
    store::{Store, sequence},
};

/// So many records make a block, or a few more: a group is not split.
const BLOCK: u64 = 1_024;
/// About the most bytes of older records that are read for a block.
const MAX_OLDER_BYTES: usize = 4 << 20;
/// The most records without a row whose fingerprints are read at start. Only a gateway that wrote no rows leaves more.
const LATE: u64 = 16 * BLOCK;

/// What is found by its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    Conversation,
    Topic,
    Sender,
}

const COLUMNS: [Column; 4] = [Column::Id, Column::Conversation, Column::Topic, Column::Sender];

/// A record's fingerprints, in the order of the columns; 0 where it has no such attribute.
pub(crate) type Prints = [u32; COLUMNS.len()];

/// The writer's memory of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// The sequence of the first record of the open block.
    from: u64,
    /// Of the open block.
    open: Vec<Prints>,
    /// The first sequence that has a row, while there are records of an older gateway before it that have none.
    older: Option<u64>,
}

/// A row of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The sequence of its first record.
    pub(crate) first: u64,
    /// Its records.
    count: u64,
    /// Of each four bytes; empty if no record has the attribute.
    prints: Vec<u8>,
}

/// What the index knows of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is in this row.
    Row(Row),
    /// It is in none, and nor is anything before this sequence.
    Unknown(u64),
}

/// A block of older records that gets its rows.
#[derive(Debug)]
pub(crate) struct Older {
    first: u64,
    prints: Vec<Prints>,
    /// As [`Index::older`] is once they are written.
    then: Option<u64>,
}

/// What a group does to the index.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    /// The open block is written.
    is_full: bool,
    older: Option<Older>,
}

/// The fingerprint of a topic, a conversation or a sender: FNV-1a, which stays as it is.
pub(crate) fn of_text(text: &str) -> u32 {
    print(text.as_bytes().iter().copied())
}

/// The fingerprint of an id.
pub(crate) fn of_id(id: EnvelopeId) -> u32 {
    let item = id.item_number().map(u32::to_be_bytes).into_iter().flatten();
    print(id.uuid().as_bytes().iter().copied().chain(item))
}

fn print(bytes: impl Iterator<Item = u8>) -> u32 {
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // 0 stands for none.
    ((hash ^ hash >> 32) as u32).max(1)
}

/// The fingerprints of an envelope of this sender.
pub(crate) fn of(envelope: &envelope::Envelope, sender: &str) -> Prints {
    let conversation = envelope.conversation.as_ref().and_then(|conversation| conversation.id.as_deref());
    let conversation = conversation.map_or(0, of_text);
    [of_id(envelope.id), conversation, of_text(envelope.subject.as_str()), of_text(sender)]
}

fn key(column: Column, first: u64) -> [u8; 9] {
    let mut key = [column as u8; 9];
    if let Some(rest) = key.get_mut(1..) {
        rest.copy_from_slice(&first.to_be_bytes());
    }
    key
}

/// The fingerprints of the log's records from `from` to `to`; none of one that is not there.
fn of_log(store: &Store, from: u64, to: u64) -> fjall::Result<Vec<Prints>> {
    let mut prints = Vec::new();
    for row in store.records(from..=to) {
        let (at, value) = row?;
        prints.resize(place(at - from), Prints::default());
        prints.push(of_record(value.into()));
    }
    prints.resize(place((to + 1).saturating_sub(from)), Prints::default());
    Ok(prints)
}

fn of_record(record: bytes::Bytes) -> Prints {
    record::decode(&record).map(|(header, envelope)| of(&envelope, &header.principal)).unwrap_or_default()
}

/// The fingerprints of the log's records from `from`, or later if they are large, up to before `end`; and where they begin.
fn of_older(store: &Store, from: u64, end: u64) -> fjall::Result<(u64, Vec<Prints>)> {
    let (mut found, mut bytes, mut first) = (Vec::new(), 0, from);
    for row in store.records(from..end).rev() {
        let (at, value) = row?;
        bytes += value.len();
        found.push((at, of_record(value.into())));
        if bytes >= MAX_OLDER_BYTES {
            first = at;
            break;
        }
    }
    let mut prints = vec![Prints::default(); place(end - first)];
    for (at, own) in found {
        if let Some(print) = prints.get_mut(place(at - first)) {
            *print = own;
        }
    }
    Ok((first, prints))
}

/// Within a block.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn put(batch: &mut OwnedWriteBatch, store: &Store, first: u64, prints: impl Iterator<Item = Prints> + Clone) {
    let count = prints.clone().count() as u64;
    for (at, column) in COLUMNS.into_iter().enumerate() {
        let mut row = Vec::with_capacity(8 + place(count) * 4);
        put_u64(&mut row, count);
        let own = prints.clone().map(|prints| prints.get(at).copied().unwrap_or(0));
        if own.clone().any(|print| print != 0) {
            own.for_each(|print| row.extend_from_slice(&print.to_le_bytes()));
        }
        batch.insert(&store.index, key(column, first), row);
    }
}

/// Takes the rows away that speak only of records before `first`; there is none before `from`. Answers with the first
/// sequence of the oldest one that stays.
pub(crate) fn trim(batch: &mut OwnedWriteBatch, store: &Store, first: u64, from: u64) -> fjall::Result<u64> {
    let mut rows = store.index.range(key(Column::Id, from)..=key(Column::Id, u64::MAX));
    let Some(mut row) = rows.next().map(fjall::Guard::key).transpose()? else { return Ok(from) };
    for next in rows {
        let next = next.key()?;
        let [this, after] = [&row, &next].map(|key| key.get(1..).map_or(0, sequence));
        if after > first {
            break;
        }
        COLUMNS.into_iter().for_each(|column| batch.remove(&store.index, key(column, this)));
        row = next;
    }
    Ok(row.get(1..).map_or(from, sequence))
}

/// What a column knows of the record at `at`.
pub(crate) fn known(store: &Store, column: Column, at: u64) -> fjall::Result<Known> {
    if let Some(row) = store.index.range(key(column, 0)..=key(column, at)).next_back() {
        let (key, value) = row.into_inner()?;
        if let Some(row) = Row::decode(&key, &value).filter(|row| at - row.first < row.count) {
            return Ok(Known::Row(row));
        }
    }
    let next = store.index.range(key(column, at.saturating_add(1))..=key(column, u64::MAX)).next();
    let next = next.map(fjall::Guard::key).transpose()?;
    let next = next.and_then(|key| key.get(1..).map(sequence)).filter(|next| *next > at);
    Ok(Known::Unknown(next.unwrap_or(u64::MAX)))
}

// === impl Index ===

impl Index {
    /// As of the whole log, whose last sequence is `last`. Reads what the open block has of it.
    pub(crate) fn load(store: &Store, last: u64) -> fjall::Result<Self> {
        let mut rows = store.index.range(key(Column::Id, 0)..=key(Column::Id, u64::MAX));
        let (oldest, newest) = (rows.next(), store.index.range(..=key(Column::Id, u64::MAX)).next_back());
        let oldest = oldest.map(fjall::Guard::key).transpose()?.and_then(|key| key.get(1..).map(sequence));
        let newest = newest.map(fjall::Guard::into_inner).transpose()?;
        let newest = newest.and_then(|(key, value)| Row::decode(&key, &value));
        let begin =
            store.log.first_key_value().map(fjall::Guard::key).transpose()?.map_or(last + 1, |key| sequence(&key));
        let from = newest.map_or(begin, |row| row.end()).max(begin);
        let is_late = (last + 1).saturating_sub(from) > LATE;
        let from = if is_late { last + 1 } else { from };
        let open = if from <= last { of_log(store, from, last)? } else { Vec::new() };
        let reached = oldest.unwrap_or(from);
        Ok(Self { from, open, older: (begin < reached).then_some(reached) })
    }

    /// Whether there are older records that have no rows yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.older.is_some()
    }
}

// === impl Row ===

impl Row {
    /// `None` if it makes no sense.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (column, first) = key.split_first()?;
        if key.len() != 9 || usize::from(*column) >= COLUMNS.len() {
            return None;
        }
        let mut reader = Reader::new(value);
        let (first, count) = (sequence(first), reader.count("records").ok()?);
        let prints = reader.rest().to_vec();
        let whole = prints.is_empty() || Some(prints.len() as u64) == count.checked_mul(4);
        whole.then_some(Self { first, count, prints })
    }

    /// The sequence behind its last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.count
    }

    /// The sequences behind `after` that have this fingerprint.
    pub(crate) fn behind(&self, after: u64, print: u32) -> impl Iterator<Item = u64> {
        let skip = place(after.saturating_add(1).saturating_sub(self.first));
        let prints = self.prints.chunks_exact(4).zip(self.first..).skip(skip);
        prints.filter(move |(own, _)| *own == print.to_le_bytes()).map(|(_, sequence)| sequence)
    }
}

// === impl Group ===

impl Group {
    /// Writes the rows of a block that is full with this group, and of one of older records if there are any without.
    pub(crate) fn write_index(&mut self, index: &Index, batch: &mut OwnedWriteBatch, store: &Store) {
        let own = self.records.iter().map(|prepared| prepared.prints);
        self.indexed.is_full = (index.open.len() + own.len()) as u64 >= BLOCK;
        if self.indexed.is_full {
            put(batch, store, index.from, index.open.iter().copied().chain(own));
        }
        if let Some(Older { first, prints, .. }) = self.indexed.older.as_ref().filter(|older| !older.prints.is_empty())
        {
            put(batch, store, *first, prints.iter().copied());
        }
    }

    /// Chooses older records that get their rows with this group: those right before the first that have some. `begin` is the
    /// log's first sequence. Those that can't be read stay without: who asks for them finds that out by itself.
    pub(crate) fn index_older(&mut self, index: &Index, begin: u64, store: &Store) {
        let Some(reached) = index.older else { return };
        let from = begin.max(reached.saturating_sub(BLOCK)).min(reached);
        let (first, prints) = of_older(store, from, reached).unwrap_or_else(|error| {
            tracing::error!(from, to = reached - 1, %error, "older records can't be read, the index has no rows for them");
            metrics::counter!("openmesh_backbone_unreadable_total").increment(1);
            (from, Vec::new())
        });
        self.indexed.older = Some(Older { first, prints, then: (begin < first).then_some(first) });
    }

    /// Whether older records get their rows with it.
    pub(crate) fn indexes_older(&self) -> bool {
        self.indexed.older.is_some()
    }

    /// The first of them.
    pub(crate) fn first_indexed(&self) -> Option<u64> {
        self.indexed.older.as_ref().map(|older| older.first)
    }

    /// Once the group is on disk. Before its records are handed on.
    pub(crate) fn apply_index(&mut self, index: &mut Index) {
        let Indexed { is_full, older } = std::mem::take(&mut self.indexed);
        if is_full {
            index.open.clear();
            index.from = self.next();
        } else {
            index.open.extend(self.records.iter().map(|prepared| prepared.prints));
        }
        if let Some(older) = older {
            index.older = older.then;
        }
    }
}

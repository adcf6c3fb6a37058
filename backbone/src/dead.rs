//! Dead letters: what could not be delivered, or was refused by a mapping that says to keep it.
//!
//! A keyspace of its own, written in the group that settles the message. Bounded as a whole and for each sender, by bytes
//! and by rate: past that a letter is not kept, and counted.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use envelope::{Envelope, RejectKind, Timestamp};
use fjall::OwnedWriteBatch;

use crate::{
    DeadLetterQuota,
    codec::{DecodeError, Reader, put_bytes, put_str, put_u64},
    record,
    shared::locked,
    store::{Store, number, sequence},
};

/// The newest format of a letter that is read, and the one that is written.
const FORMAT: u8 = 1;
/// The quota of a rate is for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// How often it is logged that letters are not kept.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// The most senders whose rate is remembered.
const MAX_RATES: usize = 65_536;

/// A message that nobody got.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number; 0 until it is kept.
    pub id: u64,
    /// When it was given up.
    pub at: Timestamp,
    /// Why.
    pub kind: RejectKind,
    /// Why, for people.
    pub detail: String,
    /// The bridge that it came in through.
    pub bridge: Arc<str>,
    /// The mapping that took it.
    pub mapping: Arc<str>,
    /// Who sent it.
    pub principal: Arc<str>,
    /// What it is.
    pub content: DeadContent,
}

/// What a dead letter is.
#[derive(Debug, Clone, PartialEq)]
pub enum DeadContent {
    /// An envelope that a durable subscription could not deliver.
    Envelope {
        /// The subscription's name.
        subscription: Arc<str>,
        /// Where it is, or was, in the log.
        sequence: u64,
        /// The envelope; `None` if its record can't be read.
        envelope: Option<Box<Envelope>>,
        /// Its record, for as long as it is kept.
        record: Bytes,
    },
    /// A message as its protocol brought it.
    Inbound {
        /// The protocol's own address.
        address: Arc<str>,
        /// The protocol's name for it, if it has one.
        identity: Bytes,
        /// What was sent.
        payload: Bytes,
    },
    /// A message that may be kept nowhere.
    Withheld {
        /// The protocol's own address.
        address: Arc<str>,
        /// The protocol's name for it, if it has one.
        identity: Bytes,
        /// Bytes of the payload.
        size: u64,
        /// SHA-256 of the payload.
        hash: [u8; 32],
    },
}

/// The writer's memory of the letters.
#[derive(Debug, Default)]
pub(crate) struct DeadBook {
    next: u64,
    /// Whose each is, and its bytes.
    letters: BTreeMap<u64, (Arc<str>, u64)>,
    bytes: u64,
    /// Bytes of each sender.
    senders: HashMap<Arc<str>, u64>,
    /// Letters of each sender since then.
    rates: Mutex<HashMap<Arc<str>, (Instant, u32)>>,
}

/// Letters that are not kept: counted, and said once in a while.
#[derive(Debug, Default)]
pub(crate) struct Over {
    letters: AtomicU64,
    /// When it was logged.
    said: Mutex<Option<Instant>>,
}

/// What a group changes.
#[derive(Debug, Default)]
pub(crate) struct DeadChanges {
    added: Vec<(u64, Arc<str>, Vec<u8>)>,
    /// Bytes of what is added, and of that of each sender.
    bytes: u64,
    senders: HashMap<Arc<str>, u64>,
    removed: Vec<u64>,
    /// Letters that are not kept, and whose the last of them is.
    over: Option<(u64, Arc<str>)>,
}

// === impl DeadLetter ===

impl DeadLetter {
    /// Whom its quota is counted for: its mapping and its sender.
    pub(crate) fn sender(&self) -> Arc<str> {
        format!("{}\0{}", self.mapping, self.principal).into()
    }

    /// About what it takes, and never more than that.
    pub(crate) fn bytes(&self) -> usize {
        let content = match &self.content {
            DeadContent::Envelope { record, .. } => record.len(),
            DeadContent::Inbound { payload, .. } => payload.len(),
            DeadContent::Withheld { .. } => 0,
        };
        content + self.detail.len()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.bytes());
        out.push(FORMAT);
        put_u64(&mut out, self.at.as_micros());
        for text in [self.kind.as_str(), &self.detail, &self.bridge, &self.mapping, &self.principal] {
            put_str(&mut out, text);
        }
        match &self.content {
            DeadContent::Envelope { subscription, sequence, record, .. } => {
                out.push(0);
                put_str(&mut out, subscription);
                put_u64(&mut out, *sequence);
                out.extend_from_slice(record);
            }
            DeadContent::Inbound { address, identity, payload } => {
                out.push(1);
                put_str(&mut out, address);
                put_bytes(&mut out, identity);
                out.extend_from_slice(payload);
            }
            DeadContent::Withheld { address, identity, size, hash } => {
                out.push(2);
                put_str(&mut out, address);
                put_bytes(&mut out, identity);
                put_u64(&mut out, *size);
                out.extend_from_slice(hash);
            }
        }
        out
    }

    /// Reads what [`Self::encode`] writes.
    pub(crate) fn decode(id: u64, bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("format version")? {
            FORMAT => {}
            0 => return Err(DecodeError::Invalid("format version")),
            found => return Err(DecodeError::NewerFormat { found, supported: FORMAT }),
        }
        let at = Timestamp::from_micros(reader.u64("time")?);
        let kind = reader.str("kind")?;
        let kind = RejectKind::ALL.into_iter().find(|known| known.as_str() == kind);
        let kind = kind.ok_or(DecodeError::Invalid("kind"))?;
        let detail = reader.str("detail")?.to_owned();
        let (bridge, mapping) = (reader.text("bridge")?, reader.text("mapping")?);
        let principal = reader.text("principal")?;
        let content = content(&mut reader, bytes)?;
        Ok(Self { id, at, kind, detail, bridge, mapping, principal, content })
    }
}

fn content(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<DeadContent, DecodeError> {
    let name = |reader: &mut Reader<'_>| -> Result<_, DecodeError> {
        Ok((reader.text("address")?, Bytes::copy_from_slice(reader.bytes("identity")?)))
    };
    Ok(match reader.u8("content")? {
        0 => {
            let (subscription, sequence) = (reader.text("subscription")?, reader.count("sequence")?);
            let record = bytes.slice_ref(reader.rest());
            let envelope = record::decode(&record).ok().map(|(_, envelope)| Box::new(envelope));
            DeadContent::Envelope { subscription, sequence, envelope, record }
        }
        1 => {
            let (address, identity) = name(reader)?;
            DeadContent::Inbound { address, identity, payload: bytes.slice_ref(reader.rest()) }
        }
        2 => {
            let (address, identity) = name(reader)?;
            let (size, hash) = (reader.u64("size")?, reader.array("hash")?);
            DeadContent::Withheld { address, identity, size, hash }
        }
        _ => return Err(DecodeError::Invalid("content")),
    })
}

// === impl DeadBook ===

impl DeadBook {
    /// Reads the keyspace.
    pub(crate) fn load(store: &Store) -> fjall::Result<Self> {
        let mut book = Self { next: 1, ..Self::default() };
        for entry in store.dead.iter() {
            let (key, value) = entry.into_inner()?;
            let id = sequence(&key);
            // One that can't be read takes room, and can be dropped.
            let letter = DeadLetter::decode(id, &value.clone().into());
            let sender = letter.map_or_else(|_| Arc::from(""), |letter| letter.sender());
            book.add(id, sender, value.len() as u64);
        }
        book.next = book.next.max(store.word("dead")?);
        Ok(book)
    }

    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    fn add(&mut self, id: u64, sender: Arc<str>, bytes: u64) {
        self.next = self.next.max(id + 1);
        self.bytes += bytes;
        *self.senders.entry(sender.clone()).or_default() += bytes;
        self.letters.insert(id, (sender, bytes));
    }

    fn remove(&mut self, id: u64) {
        let Some((sender, bytes)) = self.letters.remove(&id) else { return };
        self.bytes -= bytes;
        if let Some(used) = self.senders.get_mut(&sender) {
            *used -= bytes;
            if *used == 0 {
                self.senders.remove(&sender);
            }
        }
    }

    /// Counts a letter against its sender's rate; `false` if it is over.
    fn is_within_rate(&self, sender: &Arc<str>, most: u32) -> bool {
        let (now, mut rates) = (Instant::now(), locked(&self.rates));
        if rates.len() >= MAX_RATES {
            rates.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        }
        if rates.len() >= MAX_RATES && !rates.contains_key(sender) {
            return false;
        }
        let (since, count) = rates.entry(sender.clone()).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= most
    }
}

// === impl Over ===

impl Over {
    /// Letters since the start.
    pub(crate) fn letters(&self) -> u64 {
        self.letters.load(SeqCst)
    }

    /// So many more; `whose` the last of them is.
    pub(crate) fn add(&self, letters: u64, whose: &str) {
        let over = self.letters.fetch_add(letters, SeqCst) + letters;
        let mut said = locked(&self.said);
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            *said = Some(Instant::now());
            let (mapping, principal) = whose.split_once('\0').unwrap_or((whose, ""));
            tracing::warn!(%mapping, %principal, over, "a dead letter is not kept, the quota is used up");
        }
    }
}

// === impl DeadChanges ===

impl DeadChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Whether there is no room for any letter, whosever it is.
    pub(crate) fn is_full(&self, book: &DeadBook, quota: DeadLetterQuota) -> bool {
        book.bytes + self.bytes >= quota.bytes || book.letters.len() + self.added.len() >= quota.most
    }

    fn fits(&self, sender: &Arc<str>, size: u64, book: &DeadBook, quota: DeadLetterQuota) -> bool {
        let of = |senders: &HashMap<Arc<str>, u64>| senders.get(sender).copied().unwrap_or_default();
        !self.is_full(book, quota)
            && book.bytes + self.bytes + size <= quota.bytes
            && of(&book.senders) + of(&self.senders) + size <= quota.sender_bytes
    }

    /// Keeps a letter; `false` if a quota is used up. One that is not kept costs no copy of it.
    pub(crate) fn add(&mut self, letter: &DeadLetter, book: &DeadBook, quota: DeadLetterQuota) -> bool {
        let sender = letter.sender();
        let may = self.fits(&sender, letter.bytes() as u64, book, quota)
            && book.is_within_rate(&sender, quota.sender_per_minute);
        let value = if may { letter.encode() } else { Vec::new() };
        let size = value.len() as u64;
        if !may || !self.fits(&sender, size, book, quota) {
            self.lose(sender);
            return false;
        }
        self.bytes += size;
        *self.senders.entry(sender.clone()).or_default() += size;
        let id = book.next + self.added.len() as u64;
        self.added.push((id, sender, value));
        true
    }

    /// One is not kept.
    pub(crate) fn lose(&mut self, whose: Arc<str>) {
        let before = self.over.take().map_or(0, |(letters, _)| letters);
        self.over = Some((before + 1, whose));
    }

    /// Drops letters; answers how many of them there are.
    pub(crate) fn remove(&mut self, ids: &[u64], book: &DeadBook) -> usize {
        let before = self.removed.len();
        for id in ids {
            if book.letters.contains_key(id) && !self.removed.contains(id) {
                self.removed.push(*id);
            }
        }
        self.removed.len() - before
    }

    pub(crate) fn write(&self, batch: &mut OwnedWriteBatch, store: &Store) {
        for (id, _, value) in &self.added {
            batch.insert(&store.dead, id.to_be_bytes(), value.as_slice());
        }
        for id in &self.removed {
            batch.remove(&store.dead, id.to_be_bytes());
        }
        if let Some((last, ..)) = self.added.last() {
            batch.insert(&store.meta, "dead", number(last + 1));
        }
    }

    pub(crate) fn apply(&mut self, book: &mut DeadBook, over: &Over) {
        if let Some((letters, whose)) = self.over.take() {
            over.add(letters, &whose);
        }
        self.bytes = 0;
        self.senders.clear();
        for (id, sender, value) in self.added.drain(..) {
            book.add(id, sender, value.len() as u64);
        }
        self.removed.drain(..).for_each(|id| book.remove(id));
    }
}

/// At most `most` letters behind `after`, and about a MiB of them. One that can't be read is passed over.
pub(crate) fn list(store: &Store, after: u64, most: usize) -> fjall::Result<Vec<DeadLetter>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for entry in store.dead.range(after.saturating_add(1).to_be_bytes()..) {
        let (key, value) = entry.into_inner()?;
        if found.len() >= most || bytes >= 1 << 20 {
            break;
        }
        bytes += value.len();
        match DeadLetter::decode(sequence(&key), &value.into()) {
            Ok(letter) => found.push(letter),
            Err(error) => tracing::error!(id = sequence(&key), %error, "a dead letter can't be read"),
        }
    }
    Ok(found)
}

/// The letter of this number.
pub(crate) fn get(store: &Store, id: u64) -> fjall::Result<Option<DeadLetter>> {
    let Some(value) = store.dead.get(id.to_be_bytes())? else { return Ok(None) };
    Ok(DeadLetter::decode(id, &value.into()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(content: DeadContent) -> DeadLetter {
        DeadLetter {
            id: 7,
            at: Timestamp::from_micros(1_700_000_000_000_000),
            kind: RejectKind::Malformed,
            detail: "no".to_owned(),
            bridge: "web".into(),
            mapping: "m".into(),
            principal: "p".into(),
            content,
        }
    }

    fn inbound(payload: &'static [u8]) -> DeadLetter {
        let payload = Bytes::from_static(payload);
        letter(DeadContent::Inbound { address: "POST /a".into(), identity: Bytes::from_static(b"k"), payload })
    }

    #[test]
    fn letters_read_back_and_cuts_and_newer_ones_are_refused() {
        let (address, identity) = (Arc::from("POST /a"), Bytes::from_static(b"k"));
        let withheld = letter(DeadContent::Withheld { address, identity, size: 9, hash: [3; 32] });
        for letter in [inbound(b"{}"), withheld.clone()] {
            assert_eq!(DeadLetter::decode(7, &letter.encode().into()), Ok(letter));
        }
        let bytes = withheld.encode();
        for len in 0..bytes.len() {
            assert!(DeadLetter::decode(7, &Bytes::copy_from_slice(&bytes[..len])).is_err(), "{len}");
        }
        let mut newer = bytes;
        newer[0] = 2;
        let error = DeadLetter::decode(7, &newer.into()).unwrap_err();
        assert_eq!(error.to_string(), "its format is 2, this gateway reads up to 1");
    }

    #[test]
    fn the_stored_letter_of_format_1_is_still_read_and_still_written() {
        let stored = include_bytes!("../fixtures/dead-1.bin");
        assert_eq!(DeadLetter::decode(7, &Bytes::from_static(stored)), Ok(inbound(b"{\"n\":1}")));
        assert_eq!(inbound(b"{\"n\":1}").encode(), stored);
    }

    #[test]
    fn quotas_hold_for_all_for_a_sender_and_for_a_minute() {
        let size = inbound(b"{}").encode().len() as u64;
        let wide = DeadLetterQuota { most: 9, bytes: 1_000, sender_bytes: 1_000, sender_per_minute: 9 };
        let kept = |quota| {
            let (mut book, mut changes) = (DeadBook { next: 1, ..DeadBook::default() }, DeadChanges::default());
            let other = DeadLetter { principal: "q".into(), ..inbound(b"{}") };
            let all = [inbound(b"{}"), inbound(b"{}"), other];
            let kept: Vec<_> = all.iter().map(|letter| changes.add(letter, &book, quota)).collect();
            let over = Over::default();
            changes.apply(&mut book, &over);
            assert_eq!(over.letters(), kept.iter().filter(|kept| !**kept).count() as u64);
            (kept, book)
        };
        assert_eq!(kept(wide).0, [true, true, true]);
        assert_eq!(kept(DeadLetterQuota { most: 1, ..wide }).0, [true, false, false]);
        assert_eq!(kept(DeadLetterQuota { bytes: 2 * size, ..wide }).0, [true, true, false]);
        assert_eq!(kept(DeadLetterQuota { sender_bytes: size, ..wide }).0, [true, false, true]);
        assert_eq!(kept(DeadLetterQuota { sender_per_minute: 1, ..wide }).0, [true, false, true]);
        let mut book = kept(wide).1;
        let mut changes = DeadChanges::default();
        assert_eq!(changes.remove(&[1, 1, 2, 99], &book), 2);
        changes.apply(&mut book, &Over::default());
        assert_eq!((book.len(), book.bytes, book.senders.len(), book.next), (1, size, 1, 4));
    }
}

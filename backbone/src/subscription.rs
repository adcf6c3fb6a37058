//! What a subscription is: its cursor, which is on disk if it is durable, and its feed, which is not.
//!
//! Only the writer changes a [`Cursor`], in the batch of the group that causes the change. The [`Feed`] is how the
//! writer tells the consumer what to read, and the consumer tells the writer what it has handed out.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use envelope::{Filter, RejectKind, Timestamp, Topic};
use tokio::sync::Notify;

use crate::{
    Standing,
    codec::{DecodeError, Reader, below, put_option, put_str, put_u64},
    early::Early,
    ledger::{by_kind, put_by_kind},
    report::SubscriptionCounts,
};

/// The most unsettled deliveries of a subscription.
pub(crate) const MAX_CREDIT: usize = 65_536;
/// The most sequences that wait in a feed; past it the consumer reads the log.
pub(crate) const MAX_FEED: usize = 1_024;

/// What became of an envelope of a durable subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// Nothing of it was to be sent.
    LeftOut,
    Refused(RejectKind),
    DeadLettered(RejectKind),
    Expired,
    /// Its record went by retention.
    Lapsed,
    /// It was given up as [`Cursor::skip`] says, and is counted already.
    Over,
    /// Nobody took it in so many deliveries.
    GivenUp(u32),
}

/// The durable part. Everything up to `top` is settled or does not match, but for `gaps`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) filters: Vec<Filter>,
    /// In a backlog: `matched` is counted up to here. `None`: it is counted at append.
    pub(crate) backlog: Option<u64>,
    /// The highest settled sequence.
    pub(crate) top: u64,
    /// Handed out and unsettled, all below `top`.
    pub(crate) gaps: BTreeSet<u64>,
    /// Nothing above it has been handed out.
    pub(crate) mark: u64,
    /// `pending` stays 0 here.
    pub(crate) counts: SubscriptionCounts,
    /// Since when nobody consumes it; noticed within a minute.
    pub(crate) idle: Option<Idle>,
    /// It selects what it selects only from behind this sequence on: what is up to it may be settled without having been
    /// handed out.
    pub(crate) since: u64,
    /// The principal that it counts with; `None` of the gateway's own, and of those that an older gateway made.
    pub(crate) owner: Option<Arc<str>>,
    /// So many of the oldest that are in nobody's hands are given up, because more waited than may, and were not come by yet.
    pub(crate) skip: u64,
}

/// Since when nobody consumes a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Idle {
    /// Seconds that the gateway had run: how long is told by them.
    pub(crate) clock: u64,
    /// What the system's clock said, for people.
    pub(crate) at: Timestamp,
}

/// The volatile part, shared by the writer and the consumer.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) id: u32,
    /// The durable name, if it has one.
    pub(crate) name: Option<Arc<str>>,
    /// The durable [`Cursor::mark`].
    pub(crate) mark: AtomicU64,
    /// The mark as it was read at start, or what was handed out before a consumer went back: what is above `high` and not
    /// above this may have been handed out.
    pub(crate) doubtful: AtomicU64,
    /// It was [`Early::allowed`] once.
    pub(crate) was_early: AtomicBool,
    state: Mutex<FeedState>,
}

#[derive(Debug, Default)]
pub(crate) struct FeedState {
    /// Raised when a consumer takes over.
    pub(crate) generation: u64,
    /// A consumer is there.
    pub(crate) attached: bool,
    /// One came since [`Cursor::idle`] changed.
    seen: bool,
    /// `ready` has every matching sequence above it; what is at or below has to be looked for in the log.
    pub(crate) from: u64,
    pub(crate) ready: VecDeque<u64>,
    /// Nothing of it was stored above the first and up to the second but what was in `ready` and its consumer took.
    quiet: (u64, u64),
    /// Handed out and unsettled; of a durable subscription only.
    pub(crate) handed: BTreeSet<u64>,
    /// The highest sequence that was handed out or settled.
    pub(crate) high: u64,
    /// Handed out more than once, how often; since the start.
    pub(crate) attempts: HashMap<u64, u32>,
    /// Were settled, and are to be handed out again.
    pub(crate) revived: Vec<u64>,
    /// The durable counters, for the report.
    pub(crate) counts: SubscriptionCounts,
    /// What it is handed before it is on disk.
    pub(crate) early: Early,
    /// [`Cursor::idle`].
    idle: Option<Idle>,
    /// [`Cursor::since`].
    since: u64,
    /// [`Cursor::filters`].
    filters: Vec<Filter>,
    /// [`Cursor::skip`].
    pub(crate) skip: u64,
    /// Of them, those whose outcome is on its way to the writer.
    pub(crate) skipping: BTreeSet<u64>,
    /// The consumer's.
    pub(crate) wake: Arc<Notify>,
}

// === impl Cursor ===

impl Cursor {
    /// Whether it was handed out and has no outcome yet. `handed` may still have what this group settled.
    pub(crate) fn is_open(&self, sequence: u64, handed: &BTreeSet<u64>) -> bool {
        if sequence > self.top { handed.contains(&sequence) } else { self.gaps.contains(&sequence) }
    }

    /// Counts an outcome and moves on. `handed` has every unsettled sequence, this one too.
    pub(crate) fn settle(&mut self, sequence: u64, outcome: Outcome, handed: &BTreeSet<u64>) {
        if sequence > self.top {
            self.gaps.extend(handed.range(self.top + 1..sequence));
            self.top = sequence;
        } else {
            self.gaps.remove(&sequence);
        }
        self.mark = self.mark.max(sequence);
        match outcome {
            Outcome::Delivered => self.counts.delivered += 1,
            Outcome::LeftOut => self.counts.left_out += 1,
            Outcome::Refused(kind) => *self.counts.refused.entry(kind.as_str()).or_default() += 1,
            Outcome::DeadLettered(kind) => *self.counts.dead_lettered.entry(kind.as_str()).or_default() += 1,
            Outcome::GivenUp(_) => {
                *self.counts.dead_lettered.entry(RejectKind::Unavailable.as_str()).or_default() += 1;
            }
            Outcome::Expired => self.counts.expired += 1,
            Outcome::Lapsed => self.counts.lapsed += 1,
            Outcome::Over => self.skip = self.skip.saturating_sub(1),
        }
    }

    /// One more waits: past `most` that are in nobody's hands, the oldest of them is given up. Only what a principal has is
    /// bounded so.
    pub(crate) fn bound(&mut self, handed: usize, most: u64) {
        let pending = self.counts.matched.saturating_sub(self.counts.settled());
        if self.owner.is_some() && pending.saturating_sub(handed as u64) > most {
            self.counts.over += 1;
            self.skip += 1;
        }
    }

    /// Takes other filters. What was handed out stays pending; all that was not is matched anew as the cursor passes.
    pub(crate) fn refilter(&mut self, filters: Vec<Filter>, handed: &BTreeSet<u64>, high: u64) {
        self.filters = filters;
        self.top = self.top.max(high);
        self.gaps = handed.clone();
        self.backlog = Some(self.top);
        self.since = self.top;
        self.skip = 0;
        self.counts.matched = self.counts.settled() + handed.len() as u64;
    }

    /// The consumer says that it has everything up to `to`. What is above it is matched anew as the cursor passes, and
    /// counts anew: settled or not. It never goes forward over what was not handed out.
    pub(crate) fn go_back(&mut self, to: u64, handed: &BTreeSet<u64>, high: u64) {
        let to = to.min(self.top.max(high));
        self.counts.delivered += handed.range(..=to).count() as u64;
        self.counts.matched = self.counts.settled();
        self.skip = 0;
        self.gaps.clear();
        self.top = to;
        self.backlog = Some(to);
        self.since = self.since.min(to);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        put_u64(&mut out, self.filters.len() as u64);
        self.filters.iter().for_each(|filter| put_str(&mut out, filter.as_str()));
        put_option(&mut out, self.backlog, put_u64);
        put_u64(&mut out, self.top);
        put_u64(&mut out, self.mark);
        put_u64(&mut out, self.gaps.len() as u64);
        let mut before = 0;
        for gap in &self.gaps {
            put_u64(&mut out, gap - before);
            before = *gap;
        }
        put_u64(&mut out, self.counts.matched);
        put_u64(&mut out, self.counts.delivered);
        put_u64(&mut out, self.counts.expired);
        put_by_kind(&mut out, &self.counts.refused);
        put_by_kind(&mut out, &self.counts.dead_lettered);
        put_u64(&mut out, self.counts.lapsed);
        put_option(&mut out, self.idle, |out, idle| put_u64(out, idle.at.as_micros()));
        put_u64(&mut out, self.since);
        put_option(&mut out, self.idle, |out, idle| put_u64(out, idle.clock));
        put_u64(&mut out, self.counts.left_out);
        put_option(&mut out, self.owner.as_deref(), put_str);
        put_u64(&mut out, self.counts.over);
        put_u64(&mut out, self.skip);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let filters = reader
            .list("filters", |reader| Filter::new(reader.str("filter")?).map_err(|_| DecodeError::Invalid("filter")))?;
        let backlog = reader.option("backlog", |reader| reader.count("backlog"))?;
        let (top, mark) = (reader.count("top")?, reader.count("mark")?);
        let mut before = 0_u64;
        let gaps = reader.list("gaps", |reader| {
            before = below(before + reader.count("gap")?, "gap")?;
            Ok(before)
        })?;
        let mut counts = SubscriptionCounts {
            matched: reader.count("matched")?,
            delivered: reader.count("delivered")?,
            expired: reader.count("expired")?,
            refused: by_kind(&mut reader)?,
            dead_lettered: by_kind(&mut reader)?,
            ..SubscriptionCounts::default()
        };
        let (mut idle_since, mut idle, mut since, mut owner, mut skip) = (None, None, top, None, 0);
        // A cursor of format 1 ends here.
        if !reader.rest().is_empty() {
            counts.lapsed = reader.count("lapsed")?;
            idle_since = reader.option("idle since", |reader| reader.u64("idle since"))?.map(Timestamp::from_micros);
        }
        // An older one ends here: of what it had settled by then nobody knows whether it was ever handed out.
        if !reader.rest().is_empty() {
            since = reader.count("since")?;
        }
        // An older one ends here, and has no clock: what is idle there is noticed anew.
        if !reader.rest().is_empty() {
            let clock = reader.option("idle clock", |reader| reader.count("idle clock"))?;
            idle = clock.zip(idle_since).map(|(clock, at)| Idle { clock, at });
        }
        // An older one ends here, and has counted as delivered what was left out.
        if !reader.rest().is_empty() {
            counts.left_out = reader.count("left out")?;
        }
        // An older one ends here, and does not know whose it is.
        if !reader.rest().is_empty() {
            owner = reader.option("owner", |reader| reader.str("owner"))?.map(Arc::from);
        }
        // An older one ends here, and anything may wait in it.
        if !reader.rest().is_empty() {
            counts.over = reader.count("over")?;
            skip = reader.count("skip")?;
        }
        Ok(Self { filters, backlog, top, gaps: gaps.into_iter().collect(), mark, counts, idle, since, owner, skip })
    }
}

// === impl Feed ===

impl Feed {
    pub(crate) fn new(id: u32, name: Option<Arc<str>>, cursor: Option<&Cursor>) -> Self {
        let mut state = FeedState::default();
        if let Some(cursor) = cursor {
            state.handed = cursor.gaps.clone();
            state.high = cursor.top;
            state.counts = cursor.counts.clone();
            state.idle = cursor.idle;
            state.since = cursor.since;
            state.filters.clone_from(&cursor.filters);
            state.skip = cursor.skip;
        }
        let mark = cursor.map_or(0, |cursor| cursor.mark);
        Self {
            id,
            name,
            mark: AtomicU64::new(mark),
            doubtful: AtomicU64::new(mark),
            was_early: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Held for a few instructions, never over I/O or an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is in hand any more, and what is above `top` is handed out again.
    pub(crate) fn go_back(&self, top: u64) {
        let mut state = self.lock();
        self.doubtful.fetch_max(state.high, SeqCst);
        state.high = top;
        state.handed.clear();
        state.attempts.clear();
    }

    /// The durable counters at this moment.
    pub(crate) fn report(&self) -> SubscriptionCounts {
        let state = self.lock();
        let mut counts = state.counts.clone();
        counts.attached = state.attached;
        counts.idle_since = state.idle.filter(|_| !state.attached).map(|idle| idle.at.to_string());
        counts.pending = counts.matched.cast_signed() - counts.settled().cast_signed();
        counts
    }

    /// Makes a cursor's new state visible, once it is on disk.
    pub(crate) fn show(&self, cursor: &Cursor) {
        self.mark.fetch_max(cursor.mark, SeqCst);
        let mut state = self.lock();
        state.counts = cursor.counts.clone();
        state.since = cursor.since;
        state.skip = cursor.skip;
        if state.idle != cursor.idle {
            (state.idle, state.seen) = (cursor.idle, false);
        }
    }

    /// Makes other filters visible, with the cursor that has them.
    pub(crate) fn show_filters(&self, cursor: &Cursor) {
        let mut state = self.lock();
        state.since = cursor.since;
        state.filters.clone_from(&cursor.filters);
    }
}

// === impl FeedState ===

impl FeedState {
    /// A matching envelope was stored; the newest comes last.
    pub(crate) fn push(&mut self, sequence: u64) {
        self.early.is_held_back = false;
        if !self.attached || self.ready.len() == MAX_FEED {
            let waits_from = self.ready.front().filter(|_| self.attached).copied();
            self.quiet = waits_from.map_or((0, 0), |first| (self.from, first - 1));
            self.ready.clear();
            self.from = sequence;
        } else {
            self.ready.push_back(sequence);
        }
        self.wake.notify_one();
    }

    /// From where the log is to be read by who has read so far: what is known to hold nothing is passed.
    pub(crate) fn skip_quiet(&self, read: u64) -> u64 {
        if read >= self.quiet.0 { read.max(self.quiet.1) } else { read }
    }

    /// What is known of an envelope that was stored on this topic.
    pub(crate) fn standing(&self, sequence: u64, topic: &Topic) -> Standing {
        if self.handed.contains(&sequence) {
            return Standing::Pending;
        }
        if sequence <= self.since || !self.filters.iter().any(|filter| filter.matches(topic)) {
            return Standing::NotSelected;
        }
        if sequence > self.high {
            return Standing::Pending;
        }
        match self.counts.settled() == self.counts.delivered {
            true => Standing::Delivered,
            false => Standing::Done,
        }
    }

    /// Whether this one, which nobody had in hand before, is one of those that are given up.
    pub(crate) fn skips(&mut self, sequence: u64) -> bool {
        (self.skipping.len() as u64) < self.skip && self.skipping.insert(sequence)
    }

    /// What is at or below `sequence` has to be looked for in the log.
    pub(crate) fn restart(&mut self, sequence: u64) {
        self.quiet = (0, 0);
        self.ready.clear();
        self.from = sequence;
    }

    /// The consumer that is there hands out nothing any more, and is woken to find out.
    pub(crate) fn displace(&mut self) {
        self.wake.notify_one();
        self.wake = Arc::new(Notify::new());
        self.generation += 1;
        self.attached = false;
    }

    /// Whether a consumer is there, and whether one was since [`Cursor::idle`] changed.
    pub(crate) fn in_use(&self) -> (bool, bool) {
        (self.attached, self.seen)
    }

    /// A consumer takes over.
    pub(crate) fn attach(&mut self, tip: u64) -> u64 {
        self.displace();
        (self.attached, self.seen) = (true, true);
        // They are in hand like everything that is not settled.
        self.revived.clear();
        self.skipping.clear();
        self.restart(tip);
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        Cursor { filters: vec![Filter::new("a/#").unwrap()], ..Cursor::default() }
    }

    #[test]
    fn a_cursor_reads_back() {
        let mut cursor = cursor();
        let handed = BTreeSet::from([3, 9, 300, 301]);
        cursor.settle(301, Outcome::Delivered, &handed);
        cursor.settle(9, Outcome::DeadLettered(RejectKind::Malformed), &handed);
        cursor.backlog = Some(17);
        cursor.since = 2;
        cursor.owner = Some("ada".into());
        (cursor.skip, cursor.counts.over) = (3, 5);
        cursor.idle = Some(Idle { clock: 9, at: Timestamp::from_micros(8) });
        assert_eq!(cursor.gaps, BTreeSet::from([3, 300]));
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
    }

    #[test]
    fn of_an_older_cursor_nothing_settled_counts_as_handed_out() {
        let cursor = Cursor { top: 7, since: 7, ..cursor() };
        let mut older = cursor.encode();
        assert_eq!(
            older.split_off(older.len() - 6),
            [7, 0, 0, 0, 0, 0],
            "since, no idle clock, none left out, no owner, none over"
        );
        assert_eq!(Cursor::decode(&older), Ok(cursor));
    }

    #[test]
    fn settling_in_order_leaves_no_gap() {
        let mut cursor = cursor();
        let mut handed: BTreeSet<_> = (1..100).collect();
        for sequence in 1..100 {
            cursor.settle(sequence, Outcome::Delivered, &handed);
            handed.remove(&sequence);
            assert!(cursor.gaps.is_empty() && cursor.top == sequence);
        }
    }

    #[test]
    fn other_filters_keep_the_position_and_what_is_in_hand() {
        let mut cursor = cursor();
        cursor.counts.matched = 10;
        let handed = BTreeSet::from([1, 2, 3]);
        cursor.settle(1, Outcome::Delivered, &handed);
        cursor.refilter(vec![Filter::new("b").unwrap()], &BTreeSet::from([2, 3]), 3);
        assert_eq!((cursor.counts.matched, cursor.top, cursor.backlog, cursor.since), (3, 3, Some(3), 3));
        assert_eq!(cursor.gaps, BTreeSet::from([2, 3]));
    }

    #[test]
    fn a_feed_that_is_full_sends_its_consumer_to_the_log() {
        let feed = Feed::new(0, None, None);
        let mut state = feed.lock();
        state.attach(10);
        (11..11 + MAX_FEED as u64).for_each(|sequence| state.push(sequence));
        assert_eq!((state.from, state.ready.len()), (10, MAX_FEED));
        state.push(5_000);
        assert_eq!((state.from, state.ready.len()), (5_000, 0));
        state.push(5_001);
        assert_eq!((state.from, state.ready.front()), (5_000, Some(&5_001)));
    }
}

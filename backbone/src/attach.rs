//! Opens subscriptions: on the writer's thread and between groups, so that "from now on" is exact.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use envelope::{Filter, Position, RejectKind, Rejection, Start, Subscribe};
use tokio::sync::{Notify, oneshot};

use crate::{
    Subscriber,
    group::{Group, unavailable},
    shared::{Shared, locked},
    snapshot::Snapshot,
    subscription::{Cursor, Feed},
    writer::{AWAY, Writer},
};

/// The most filters of a subscription.
const MAX_FILTERS: usize = 1_024;
/// The most bytes of a durable name.
const MAX_NAME: usize = 256;

/// What a consumer begins with.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    pub(crate) wake: Arc<Notify>,
    pub(crate) filters: Vec<Filter>,
    /// Was handed out before, and is not settled.
    pub(crate) redeliver: VecDeque<u64>,
    /// Everything up to it is settled, handed out or not wanted.
    pub(crate) read: u64,
    /// Something is gone of what was stored behind the position that was asked for.
    pub(crate) has_gap: bool,
    /// How far a backlog is counted.
    pub(crate) backlog: Option<u64>,
    /// The last values that it begins with.
    pub(crate) snapshot: Option<Snapshot>,
}

/// A consumer's hold on its feed, until it is dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    shared: Arc<Shared>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) generation: u64,
}

// === impl Attachment ===

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.feed.lock();
        if state.generation == self.generation {
            state.attached = false;
            state.ready.clear();
        }
        drop(state);
        if self.feed.name.is_none() {
            locked(&self.shared.dropped).push(self.feed.id);
        }
    }
}

// === impl Writer ===

impl Writer {
    /// Answers once a durable subscription is on disk.
    pub(crate) fn attach(
        &mut self,
        who: &Subscriber,
        what: Subscribe,
        reply: oneshot::Sender<Result<Attached, Rejection>>,
    ) {
        self.let_go();
        let attached = self.attached(who, what);
        if let Err(Ok(_)) = reply.send(attached) {
            tracing::debug!("whoever subscribed is gone");
        }
    }

    /// Frees the places of consumers that went away.
    pub(crate) fn let_go(&mut self) {
        for id in locked(&self.shared.dropped).drain(..) {
            self.state.registry.remove(id);
        }
    }

    fn attached(&mut self, who: &Subscriber, mut what: Subscribe) -> Result<Attached, Rejection> {
        check(&what)?;
        what.filters.sort_unstable();
        what.filters.dedup();
        let tip = self.state.next - 1;
        let first = self.state.extent.first;
        let has_gap = match &what.start {
            Start::After(position) | Start::Again(position) => self.after(position, tip)? + 1 < first,
            Start::New | Start::Earliest | Start::Last | Start::Time(_) => false,
        };
        let Some(name) = what.durable.take() else {
            // what is gone already was told of as a gap, or was not asked for
            let read = self.begin(&what.start, tip)?.max(first.saturating_sub(1));
            let id = self.state.registry.reserve(who, false, self.shared.config.subscriptions)?;
            if let Some(doubt) = &mut self.doubt {
                doubt.late_from.get_or_insert(id);
            }
            let feed = Arc::new(Feed::new(id, None, None));
            self.state.registry.insert(feed.clone(), what.filters.clone(), None, who.owner().cloned());
            let snapshot = (what.start == Start::Last).then(|| Snapshot::new(tip));
            return Ok(Attached { snapshot, has_gap, ..self.take(feed, what.filters, Some(read), None) });
        };
        if self.store.is_none() {
            return Err(unavailable(AWAY));
        }
        let known = self.state.registry.named(&name).map(|one| (one.feed.clone(), one.cursor.clone()));
        let (feed, backlog, goes_on) = match known {
            Some((feed, Some(cursor))) => {
                who.may_have(cursor.owner.as_ref())?;
                let backlog = self.resume(&feed, cursor, (who, &what), tip)?;
                (feed, backlog, true)
            }
            Some((_, None)) | None => {
                let (feed, backlog) = self.register(name, (who, &what), tip)?;
                (feed, backlog, false)
            }
        };
        // one that goes on where it was has not heard of `After`
        let has_gap = has_gap && (!goes_on || matches!(what.start, Start::Again(_)));
        // nor of what was given up since it was consumed last
        let has_gap = has_gap || feed.lock().skip > 0;
        Ok(Attached { has_gap, ..self.take(feed, what.filters, None, backlog) })
    }

    /// A new durable subscription.
    fn register(
        &mut self,
        name: Arc<str>,
        (who, what): (&Subscriber, &Subscribe),
        tip: u64,
    ) -> Result<(Arc<Feed>, Option<u64>), Rejection> {
        let top = self.begin(&what.start, tip)?;
        let backlog = (top < tip).then_some(top);
        let (filters, owner) = (what.filters.clone(), who.owner().cloned());
        let cursor = Cursor { filters, backlog, top, mark: top, since: top, owner, ..Cursor::default() };
        let id = self.state.registry.reserve(who, true, self.shared.config.subscriptions)?;
        let feed = Arc::new(Feed::new(id, Some(name.clone()), Some(&cursor)));
        self.state.registry.insert(feed.clone(), what.filters.clone(), Some(cursor.clone()), cursor.owner.clone());
        if let Err(rejection) = self.save(id, cursor.clone(), None) {
            match &mut self.doubt {
                Some(doubt) => doubt.registered = Some(id),
                None => self.state.registry.remove(id),
            }
            return Err(rejection);
        }
        locked(&self.shared.feeds).insert(name, feed.clone());
        Ok((feed, cursor.backlog))
    }

    /// A durable subscription that exists. Its consumer, if there is one, hands nothing out any more: what it has handed
    /// out must not change between here and [`Self::take`].
    fn resume(
        &mut self,
        feed: &Arc<Feed>,
        mut cursor: Cursor,
        (who, what): (&Subscriber, &Subscribe),
        tip: u64,
    ) -> Result<Option<u64>, Rejection> {
        let back = match &what.start {
            Start::Again(position) => Some(self.after(position, tip)?),
            Start::New | Start::Earliest | Start::After(_) | Start::Time(_) | Start::Last => None,
        };
        let mut state = feed.lock();
        state.displace();
        let is_known = cursor.owner.is_some() || who.owner().is_none();
        if cursor.filters == what.filters && back.is_none() && is_known {
            return Ok(cursor.backlog);
        }
        // one that an older gateway made is from now on of who consumes it
        cursor.owner = cursor.owner.or_else(|| who.owner().cloned());
        if cursor.filters != what.filters {
            cursor.refilter(what.filters.clone(), &state.handed, state.high);
        }
        if let Some(back) = back {
            cursor.go_back(back, &state.handed, state.high);
        }
        drop(state);
        cursor.backlog = cursor.backlog.filter(|counted| *counted < tip);
        let (backlog, top) = (cursor.backlog, cursor.top);
        self.save(feed.id, cursor, back.map(|_| (feed.clone(), top)))?;
        Ok(backlog)
    }

    /// `back`: the feed that goes back to a sequence with it.
    fn save(&mut self, id: u32, cursor: Cursor, back: Option<(Arc<Feed>, u64)>) -> Result<(), Rejection> {
        let store = self.store.clone().ok_or_else(|| unavailable(AWAY))?;
        let mut group = Group::new(self.state.next, self.state.chain);
        group.cursors.insert(id, cursor);
        group.went_back = back;
        let stored = self.finish(group, &store);
        stored.then_some(()).ok_or_else(|| unavailable("the subscription could not be stored"))
    }

    /// Hands the feed to a new consumer, which begins behind `read`: of a durable one, behind what was handed out.
    fn take(&self, feed: Arc<Feed>, filters: Vec<Filter>, read: Option<u64>, backlog: Option<u64>) -> Attached {
        let mut state = feed.lock();
        let generation = state.attach(self.shared.tip.load(SeqCst));
        let (wake, redeliver) = (state.wake.clone(), state.handed.iter().copied().collect());
        let read = read.unwrap_or(state.high);
        drop(state);
        let attachment = Attachment { shared: self.shared.clone(), feed, generation };
        Attached { attachment, wake, filters, redeliver, read, has_gap: false, backlog, snapshot: None }
    }

    /// The position behind which a new subscription begins.
    fn begin(&self, start: &Start, tip: u64) -> Result<u64, Rejection> {
        match start {
            Start::New | Start::Last => Ok(tip),
            Start::Earliest => Ok(0),
            Start::After(position) | Start::Again(position) => self.after(position, tip),
            // Looked up before it comes here: it takes reading.
            Start::Time(_) => Err(unavailable("the time was not looked up")),
        }
    }

    fn after(&self, position: &Position, tip: u64) -> Result<u64, Rejection> {
        let refusal = |detail| Rejection::new(RejectKind::Conflict, "backbone", detail);
        match self.shared.sequence(position) {
            Some(sequence) if sequence <= tip => Ok(sequence),
            Some(sequence) => {
                Err(refusal(format!("the position is number {sequence}, behind the end of this store, which is {tip}")))
            }
            None => Err(refusal("the position is not one of this store".to_owned())),
        }
    }
}

fn check(what: &Subscribe) -> Result<(), Rejection> {
    let refuse = |detail: String| Err(Rejection::new(RejectKind::Malformed, "backbone", detail));
    match what.filters.len() {
        0 => return refuse("a subscription has at least one filter".to_owned()),
        1..=MAX_FILTERS => {}
        over => return refuse(format!("a subscription has at most {MAX_FILTERS} filters, this has {over}")),
    }
    match what.durable.as_deref() {
        Some(_) if what.start == Start::Last => {
            refuse("a durable subscription can't begin with last values: ask for them apart".to_owned())
        }
        Some("") => refuse("a durable name is not empty".to_owned()),
        Some(name) if name.len() > MAX_NAME => {
            refuse(format!("a durable name has at most {MAX_NAME} bytes, this has {}", name.len()))
        }
        Some(_) | None => Ok(()),
    }
}

//! What waits for the writer: a queue that is bounded in jobs and in bytes.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use envelope::{
    Admission, Admitted, Batch, EnvelopeId, Fingerprint, RejectKind, Rejection, Subscribe, Timestamp, Verdicts,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    Subscriber,
    attach::Attached,
    index::Prints,
    keys::KeyJob,
    ledger::RouteRow,
    orders::{Order, OrderReply},
    record::Stored,
    subscription::{Feed, Outcome},
    writer::Writer,
};

/// The unit in which bytes take room in the queue.
const UNIT: usize = 8 << 10;
/// The most units in the queue: 32 MiB, or as many jobs.
const MAX_UNITS: usize = 4_096;
/// The most envelopes of a batch.
pub(crate) const MAX_BATCH: usize = 4_096;
/// The most bytes of a batch's records.
pub(crate) const MAX_BATCH_BYTES: usize = 8 << 20;

/// What a publisher hears once its batch is on disk, or is not.
pub(crate) type Answer = Result<Verdicts<Admission>, Rejection>;

/// Work for the writer.
#[derive(Debug)]
pub(crate) enum Job {
    Publish(Publish),
    Settle {
        feed: Arc<Feed>,
        outcomes: Vec<(u64, Outcome)>,
        reply: Option<oneshot::Sender<Result<(), Rejection>>>,
    },
    Advance(Advance),
    Keys(KeyJob),
    Order(Order, OrderReply),
    Attach {
        who: Subscriber,
        what: Subscribe,
        reply: oneshot::Sender<Result<Attached, Rejection>>,
    },
    /// A publisher has begun a group.
    Begun,
    Close(oneshot::Sender<Result<(), Rejection>>),
}

/// A batch, encoded.
#[derive(Debug, Default)]
pub(crate) struct Publish {
    pub(crate) messages: Vec<Message>,
    /// Of all messages, in order.
    pub(crate) records: Vec<Prepared>,
    /// Of all records.
    pub(crate) bytes: usize,
    /// `None` if the publisher was answered when this was queued: all its messages have `ack: received`.
    pub(crate) reply: Option<oneshot::Sender<Answer>>,
}

/// A message of a batch.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: EnvelopeId,
    pub(crate) row: Arc<RouteRow>,
    /// How many of the batch's records it has; none if it is refused.
    pub(crate) records: usize,
    pub(crate) refused: Option<Rejection>,
    /// Its envelopes are to be last values.
    pub(crate) retained: bool,
    /// What its sender used its name for, if another use of it is to be refused.
    pub(crate) print: Option<Fingerprint>,
}

/// An envelope and its record, whose hole for the hash is not filled yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) stored: Arc<Stored>,
    /// Empty once the storage engine has it.
    pub(crate) record: Vec<u8>,
    /// The record's bytes.
    pub(crate) size: usize,
    pub(crate) admitted_at: Timestamp,
    pub(crate) prints: Prints,
}

/// A consumer moves on: what it passed in a backlog, and how far it is about to hand out.
#[derive(Debug)]
pub(crate) struct Advance {
    pub(crate) feed: Arc<Feed>,
    pub(crate) generation: u64,
    pub(crate) passed: Option<Passed>,
    pub(crate) mark: u64,
    /// Hears how far the backlog is counted; `None` if there is no backlog any more.
    pub(crate) reply: oneshot::Sender<Result<Option<u64>, Rejection>>,
}

/// A part of a backlog: sequences above `from` up to `to`, of which `matched` match.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) matched: Vec<u64>,
}

/// A job and the room it takes, until it is done.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) job: Job,
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// Until it is staged.
    pub(crate) turn: Option<Turn>,
}

/// The place of a job that is not staged: while there is one, nobody stages ahead of it.
#[derive(Debug)]
pub(crate) struct Turn(Arc<AtomicUsize>);

/// The senders' end. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    room: Arc<Semaphore>,
    jobs: SyncSender<Queued>,
    /// Jobs that are not staged.
    turns: Arc<AtomicUsize>,
    /// The writer is about to hear that a group was begun.
    is_told: Arc<AtomicBool>,
    pub(crate) writer: Arc<Mutex<Writer>>,
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct Jobs {
    jobs: Receiver<Queued>,
    /// Was taken, and did not fit the group.
    held: Option<Queued>,
    is_told: Arc<AtomicBool>,
}

pub(crate) fn queue(writer: Arc<Mutex<Writer>>) -> (Queue, Jobs) {
    // Every job has a permit but `Close` and `Begun`, of which there is one at most: the channel has room for all.
    let (sender, jobs) = mpsc::sync_channel(MAX_UNITS + 2);
    let room = Arc::new(Semaphore::new(MAX_UNITS));
    let is_told = Arc::new(AtomicBool::new(false));
    let queue = Queue { room, jobs: sender, turns: Arc::default(), is_told: is_told.clone(), writer };
    (queue, Jobs { jobs, held: None, is_told })
}

/// The store was closed, or its writer is gone.
pub(crate) fn closed() -> Rejection {
    Rejection::new(RejectKind::Unavailable, "backbone", "the store is closed")
}

// === impl Passed ===

impl Passed {
    pub(crate) fn matched_above(&self, counted: u64) -> u64 {
        self.matched.iter().filter(|sequence| **sequence > counted).count() as u64
    }
}

// === impl Queue ===

impl Queue {
    /// Waits for room, which a job holds until it is done.
    pub(crate) async fn send(&self, job: Job) -> Result<(), Rejection> {
        let room = self.room(job.bytes()).await?;
        self.put(job, Some(room))
    }

    /// Waits for room for so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Rejection> {
        // More than there is would be waited for without end, and everybody behind it.
        let units = bytes.div_ceil(UNIT).clamp(1, MAX_UNITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(units).await.map_err(|_| closed())
    }

    /// Puts a job behind those that wait.
    pub(crate) fn put(&self, job: Job, room: Option<OwnedSemaphorePermit>) -> Result<(), Rejection> {
        // before it can be taken: whoever sees no turn finds everything staged that was put before
        self.turns.fetch_add(1, SeqCst);
        let turn = Some(Turn(self.turns.clone()));
        self.jobs.try_send(Queued { job, room, turn }).map_err(|_| closed())
    }

    /// Whether everything that was put is staged.
    pub(crate) fn is_staged(&self) -> bool {
        self.turns.load(SeqCst) == 0
    }

    /// Tells the writer that a group was begun.
    pub(crate) fn begun(&self) {
        if !self.is_told.swap(true, SeqCst) {
            // a writer that is gone has said so to whoever waits for the group
            self.jobs.try_send(Queued { job: Job::Begun, room: None, turn: None }).ok();
        }
    }

    /// Nothing is taken any more, and what waits for room is refused. `None` if it was closed before.
    pub(crate) fn close(&self) -> Option<oneshot::Receiver<Result<(), Rejection>>> {
        if self.room.is_closed() {
            return None;
        }
        self.room.close();
        let (reply, done) = oneshot::channel();
        // A writer that is gone drops the reply, and that says so.
        self.jobs.try_send(Queued { job: Job::Close(reply), room: None, turn: None }).ok();
        Some(done)
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

// === impl Jobs ===

impl Jobs {
    /// The next job; waits at most `timeout`.
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<Queued, RecvTimeoutError> {
        self.held.take().map_or_else(|| self.jobs.recv_timeout(timeout).inspect(|next| self.taken(next)), Ok)
    }

    /// The next job, if one waits.
    pub(crate) fn waiting(&mut self) -> Option<Queued> {
        self.jobs.try_recv().ok().inspect(|next| self.taken(next))
    }

    /// Before the writer looks at what was begun: of what is begun later it is told again.
    fn taken(&self, next: &Queued) {
        if matches!(next.job, Job::Begun) {
            self.is_told.store(false, SeqCst);
        }
    }

    /// Keeps a job for [`Self::next`].
    pub(crate) fn hold(&mut self, job: Queued) {
        self.held = Some(job);
    }
}

// === impl Job ===

impl Job {
    /// What it adds to a group.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.bytes,
            Self::Settle { outcomes, .. } => outcomes.len() * size_of::<(u64, Outcome)>(),
            Self::Keys(job) => job.bytes(),
            Self::Order(Order::Bury(letter), _) => letter.bytes(),
            Self::Advance(_) | Self::Order(..) | Self::Attach { .. } | Self::Begun | Self::Close(_) => 0,
        }
    }

    /// What it adds to a group.
    pub(crate) fn messages(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.records.len().max(1),
            Self::Keys(job) => job.writes.len(),
            Self::Settle { .. } | Self::Advance(_) | Self::Order(..) | Self::Attach { .. } | Self::Close(_) => 1,
            Self::Begun => 0,
        }
    }

    /// Whether it is messages.
    pub(crate) fn is_published(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Begun)
    }

    /// Answers that it was not done.
    pub(crate) fn fail(self, rejection: &Rejection) {
        let answered = match self {
            Self::Publish(publish) => publish.reply.map(|reply| reply.send(Err(rejection.clone())).is_ok()),
            Self::Settle { reply, .. } => reply.map(|reply| reply.send(Err(rejection.clone())).is_ok()),
            Self::Advance(advance) => Some(advance.reply.send(Err(rejection.clone())).is_ok()),
            Self::Order(_, reply) => Some(reply.send(Err(rejection.clone())).is_ok()),
            Self::Keys(job) => Some(job.reply.send(Err(rejection.clone())).is_ok()),
            Self::Attach { reply, .. } => Some(reply.send(Err(rejection.clone())).is_ok()),
            Self::Begun => None,
            Self::Close(reply) => Some(reply.send(Err(rejection.clone())).is_ok()),
        };
        if answered == Some(false) {
            tracing::trace!("whoever asked is gone");
        }
    }
}

/// The number of envelopes of a batch.
pub(crate) fn envelopes(batch: &Batch<Admitted>) -> usize {
    batch.as_slice().iter().map(|admitted| admitted.mapped().group.as_slice().len()).sum()
}

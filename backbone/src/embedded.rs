//! The backbone in a folder of this gateway.

use std::{
    fmt,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
};

use envelope::{
    Admission, Admitted, Batch, Deliveries, Filter, KeyValue, LastValues, Ledger, Position, Rejection, Start,
    Subscribe, Topic, Verdicts,
};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{
    Backbone, DeadLetter, EmbeddedConfig, LedgerReport, OpenError, Page, Query, Standing, Status, Subscriber, dead,
    fetch,
    keys::Bucket,
    ledger::Books,
    orders::Order,
    prepare::prepare,
    pull::Pull,
    query,
    queue::{Job, Queue, closed, queue},
    shared::{Shared, locked, read},
    state::State,
    store::Store,
    times,
    verify::{Verified, verify},
    writer::{self, Hooks, Writer},
};

/// A backbone in a folder of this gateway. Cheap to clone; all clones are one store.
///
/// Without [`Backbone::close`] the store ends as in a crash: what was answered is there, the last counters may not be.
#[derive(Clone)]
pub struct Embedded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Queue,
}

// === impl Embedded ===

impl Embedded {
    /// Opens the store, or makes it. Blocks while it reads what it needs: call it from a blocking thread.
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        Self::open_with(config, Hooks::default())
    }

    pub(crate) fn open_with(config: EmbeddedConfig, hooks: Hooks) -> Result<Self, OpenError> {
        let path = config.path.clone();
        let failed = |source: io::Error| OpenError::Storage { path: path.clone(), source: Box::new(source) };
        make(&path).map_err(failed)?;
        let store = Arc::new(Store::open(&config.path)?);
        let shared = Arc::new(Shared::new(config, Arc::new(Books::default())));
        let state = State::load(&store, &shared)?;
        shared.books.interrupt();
        shared.store.send_replace(Some(store.clone()));
        let writer = Arc::new(Mutex::new(Writer::new(shared.clone(), state, store, hooks)));
        let (queue, jobs) = queue(writer.clone());
        let run = move || writer::run(writer, jobs);
        std::thread::Builder::new().name("backbone".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { shared, queue })
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn order(&self, order: Order) -> impl Future<Output = Result<usize, Rejection>> + Send + 'static {
        let queue = self.queue.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            queue.send(Job::Order(order, reply)).await?;
            answer.await.map_err(|_| closed())?
        }
    }

    /// Reads the whole log and checks each record against the hash that the next one keeps of it.
    pub fn verify(&self) -> BoxFuture<'static, Result<Verified, Rejection>> {
        let store = self.shared.store.borrow().clone();
        Box::pin(async move {
            let store = store.ok_or_else(closed)?;
            let checked = tokio::task::spawn_blocking(move || verify(&store)).await;
            let verified = checked.map_err(|error| closed().because(error))?;
            verified.map_err(|error| closed().because(error))
        })
    }
}

impl Backbone for Embedded {
    fn publish(&self, batch: Batch<Admitted>) -> BoxFuture<'static, Result<Verdicts<Admission>, Rejection>> {
        let Self { shared, queue } = self.clone();
        Box::pin(async move {
            shared.ready()?;
            let (mut publish, at_once) = prepare(&shared.config.domain, &shared.books, batch)?;
            if let Some(verdicts) = at_once {
                queue.publish(publish, &shared).await?;
                return Ok(verdicts);
            }
            let (reply, answer) = oneshot::channel();
            publish.reply = Some(reply);
            queue.publish(publish, &shared).await?;
            answer.await.map_err(|_| closed())?
        })
    }

    fn subscribe_for(
        &self,
        who: Subscriber,
        mut what: Subscribe,
    ) -> BoxFuture<'static, Result<Box<dyn Deliveries>, Rejection>> {
        let Self { shared, queue } = self.clone();
        Box::pin(async move {
            if let Start::Time(at) = what.start {
                let tip = shared.tip.load(SeqCst);
                let before = fetch::blocking(&shared, move |store| times::before(store, at, tip)).await?;
                // what is gone before it was not asked for
                let before = before.max(shared.first.load(SeqCst).saturating_sub(1));
                what.start = Start::After(shared.position(before));
            }
            let credit = what.credit;
            let (reply, answer) = oneshot::channel();
            queue.send(Job::Attach { who, what, reply }).await?;
            let attached = answer.await.map_err(|_| closed())??;
            let pull: Box<dyn Deliveries> = Box::new(Pull::new(shared, queue, attached, credit));
            Ok(pull)
        })
    }

    fn last(
        &self,
        filter: Filter,
        after: Option<Topic>,
        most: usize,
    ) -> BoxFuture<'static, Result<LastValues, Rejection>> {
        let Self { shared, queue } = self.clone();
        Box::pin(async move {
            if shared.is_ahead() {
                // or somebody who has seen a newer envelope would be told an older value
                settled(&queue).await;
            }
            fetch::last_values(shared, filter, after, most).await
        })
    }

    fn query(&self, query: Query) -> BoxFuture<'static, Result<Page, Rejection>> {
        Box::pin(query::page(self.shared.clone(), query))
    }

    fn keys(&self, owner: &str) -> Arc<dyn KeyValue> {
        Arc::new(Bucket::new(self.shared.clone(), self.queue.clone(), owner))
    }

    fn last_values(&self) -> u64 {
        read(&self.shared.last).len() as u64
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        self.shared.books.clone()
    }

    fn standing(&self, durable: &str, topic: &Topic, position: &Position) -> Option<Standing> {
        let sequence = self.shared.sequence(position)?;
        let feeds = locked(&self.shared.feeds);
        Some(feeds.get(durable)?.lock().standing(sequence, topic))
    }

    fn dead_letters(&self, after: u64, most: usize) -> BoxFuture<'static, Result<Vec<DeadLetter>, Rejection>> {
        let shared = self.shared.clone();
        Box::pin(async move { fetch::blocking(&shared, move |store| dead::list(store, after, most)).await })
    }

    fn bury(&self, letter: DeadLetter) -> BoxFuture<'static, Result<bool, Rejection>> {
        let quota = self.shared.config.dead_letters;
        if letter.bytes() as u64 > quota.bytes.min(quota.sender_bytes) {
            self.shared.dead_over.add(1, &letter.sender());
            return Box::pin(async { Ok(false) });
        }
        let done = self.order(Order::Bury(Box::new(letter)));
        Box::pin(async move { Ok(done.await? > 0) })
    }

    fn drop_dead_letters(&self, ids: Vec<u64>) -> BoxFuture<'static, Result<usize, Rejection>> {
        Box::pin(self.order(Order::DropLetters(ids)))
    }

    fn replay_dead_letter(&self, id: u64) -> BoxFuture<'static, Result<bool, Rejection>> {
        let done = self.order(Order::Replay(id));
        Box::pin(async move { Ok(done.await? > 0) })
    }

    fn drop_subscription(&self, name: &str) -> BoxFuture<'static, Result<bool, Rejection>> {
        let done = self.order(Order::DropSubscription(name.into()));
        Box::pin(async move { Ok(done.await? > 0) })
    }

    fn report(&self) -> LedgerReport {
        self.shared.report()
    }

    fn status(&self) -> Status {
        self.shared.status()
    }

    fn close(&self) -> BoxFuture<'static, Result<(), Rejection>> {
        let done = self.queue.close();
        Box::pin(async move {
            match done {
                Some(done) => done.await.map_err(|_| closed())?,
                None => Ok(()),
            }
        })
    }
}

/// Waits for what the writer has at hand. Where that fails, what is known from before holds.
async fn settled(queue: &Queue) {
    let (reply, answer) = oneshot::channel();
    if queue.send(Job::Order(Order::Await, reply)).await.is_ok() && answer.await.is_err() {
        tracing::debug!("the store was closed while last values waited for it");
    }
}

/// Makes the folder. The folders above it know of it on disk, so that a power cut does not take away the store as a whole.
fn make(path: &Path) -> io::Result<()> {
    let made = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let made: Vec<_> = made.collect();
    std::fs::create_dir_all(path)?;
    for folder in made {
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
        File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.shared.config.path).finish_non_exhaustive()
    }
}

//! What a consumer sees before it is on disk, and what becomes of it when the disk fails.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicBool, Ordering::SeqCst},
    mpsc,
};

use super::*;
use crate::{shared::Shared, writer::Fault};

/// In which nothing comes.
const IDLE: Duration = Duration::from_millis(100);

/// Commits wait for a word each, once this is on, and go as it says.
struct Held {
    is_held: Arc<AtomicBool>,
    /// Where they do not wait, the next one that somebody was shown something of is lost.
    loses: Arc<AtomicBool>,
    words: mpsc::SyncSender<Fault>,
}

// === impl Held ===

impl Held {
    fn open(path: &Path) -> (Embedded, Self) {
        let (words, said) = mpsc::sync_channel(16);
        let (is_held, said) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(said)));
        let (flag, loses) = (is_held.clone(), Arc::new(AtomicBool::new(false)));
        let (lost, shown) = (loses.clone(), Arc::new(OnceLock::<Arc<Shared>>::new()));
        let shared = shown.clone();
        let hooks = move || {
            let (flag, said, lost, shared) = (flag.clone(), said.clone(), lost.clone(), shared.clone());
            let commit = move || match flag.load(SeqCst) {
                true => said.lock().unwrap().recv_timeout(PATIENCE).unwrap_or(Fault::None),
                false if shared.get().is_some_and(|shared| shared.is_ahead()) && lost.swap(false, SeqCst) => {
                    Fault::Lost
                }
                false => Fault::None,
            };
            Hooks { commit: Box::new(commit), ..Hooks::default() }
        };
        let store = open_with(config(path), hooks);
        _ = shown.set(store.shared.clone());
        (store, Self { is_held, loses, words })
    }

    fn hold(&self) {
        self.is_held.store(true, SeqCst);
    }

    fn let_go(&self) {
        self.is_held.store(false, SeqCst);
        self.words.try_send(Fault::None).ok();
    }
}

/// A subscriber that need not wait for the disk.
async fn early(store: &Embedded, filter: &str) -> Box<dyn Deliveries> {
    let mut consumer = store.subscribe(subscribe(filter, None, Start::New, 5_000)).await.unwrap();
    consumer.early(true);
    consumer
}

/// Publishes in a task: the answer waits for the disk.
fn publish(store: &Embedded, ids: std::ops::Range<u128>) -> tokio::task::JoinHandle<Result<(), Rejection>> {
    store.ledger().received("web", (ids.end - ids.start) as u64);
    let publishing = store.publish(Batch::new(ids.map(|id| message(id, "a")).collect()).unwrap());
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    tokio::spawn(async move { publishing.await.map(|_| ()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_promised_nothing_sees_an_envelope_before_it_is_on_disk_and_nobody_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut soon = early(&store, "a").await;
    let mut durable = consumer(&store, "s", 100).await;
    let mut late = store.subscribe(subscribe("#", None, Start::New, 100)).await.unwrap();
    held.hold();
    let answer = publish(&store, 1..4);
    assert_eq!(ids(&take(&mut soon, 3).await), [1, 2, 3]);
    assert!(!answer.is_finished(), "the receipt waits for the disk");
    assert_eq!(store.report().store.stored, 0);
    assert!(is_idle(&mut durable).await && is_idle(&mut late).await);
    held.let_go();
    answer.await.unwrap().unwrap();
    assert_eq!(ids(&take(&mut durable, 3).await), [1, 2, 3]);
    assert_eq!(ids(&take(&mut late, 3).await), [1, 2, 3]);
    assert!(is_idle(&mut soon).await, "nothing comes twice");
    put(&store, 4, "a").await;
    assert_eq!(ids(&take(&mut soon, 1).await), [4]);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_subscription_is_never_early() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut durable = consumer(&store, "s", 100).await;
    durable.early(true);
    held.hold();
    let answer = publish(&store, 1..2);
    assert!(is_idle(&mut durable).await);
    held.let_go();
    answer.await.unwrap().unwrap();
    assert_eq!(ids(&take(&mut durable, 1).await), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_early_no_more_waits_for_the_disk_and_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut consumer = early(&store, "a").await;
    put(&store, 1, "a").await;
    consumer.early(false);
    held.hold();
    let answer = publish(&store, 2..3);
    assert_eq!(ids(&take(&mut consumer, 1).await), [1]);
    assert!(is_idle(&mut consumer).await);
    held.let_go();
    answer.await.unwrap().unwrap();
    assert_eq!(ids(&take(&mut consumer, 1).await), [2]);
}

/// What was shown is lost, or got to disk all the same; offered again, it is not shown again.
async fn a_failed_commit(fault: Fault) {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let (mut reads, mut waits) = (early(&store, "a").await, early(&store, "a").await);
    put(&store, 1, "a").await;
    assert_eq!(ids(&take(&mut reads, 1).await), [1]);
    held.hold();
    let answer = publish(&store, 2..4);
    assert_eq!(ids(&take(&mut reads, 2).await), [2, 3], "shown before the commit fails");
    // the commit that waits for a word, or is about to, is the one that fails
    held.words.send(fault).unwrap();
    assert!(answer.await.unwrap().is_err());
    held.let_go();
    // others get the sequences of what was lost, and what was lost comes again behind them
    let started = std::time::Instant::now();
    for group in [9..10, 2..4, 10..11] {
        while publish(&store, group.clone()).await.unwrap().is_err() {
            assert!(started.elapsed() < PATIENCE);
        }
    }
    assert_eq!(ids(&take(&mut reads, 2).await), [9, 10], "nothing is missed, nothing comes twice");
    let expected: &[u128] = if fault == Fault::Lost { &[1, 9, 2, 3, 10] } else { &[1, 2, 3, 9, 10] };
    assert_eq!(ids(&take(&mut waits, 5).await), expected, "who had not read it gets it as it is stored");
    assert!(is_idle(&mut reads).await && is_idle(&mut waits).await);
    let mut all = consumer(&store, "s", 100).await;
    assert_eq!(ids(&take(&mut all, 5).await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_and_lost_is_not_shown_again_and_its_place_is_not_passed_over() {
    a_failed_commit(Fault::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_and_is_found_on_disk_is_not_shown_again() {
    a_failed_commit(Fault::Unsure).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_and_lost_twice_is_not_shown_again_either() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut reads = early(&store, "a").await;
    held.hold();
    let answer = publish(&store, 1..3);
    assert_eq!(ids(&take(&mut reads, 2).await), [1, 2]);
    held.words.send(Fault::Lost).unwrap();
    assert!(answer.await.unwrap().is_err());
    held.loses.store(true, SeqCst);
    held.let_go();
    let started = std::time::Instant::now();
    while held.loses.load(SeqCst) {
        assert!(publish(&store, 1..3).await.unwrap().is_err() && started.elapsed() < PATIENCE);
    }
    for group in [1..3, 9..10] {
        while publish(&store, group.clone()).await.unwrap().is_err() {
            assert!(started.elapsed() < PATIENCE);
        }
    }
    assert_eq!(ids(&take(&mut reads, 1).await), [9]);
    assert!(is_idle(&mut reads).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_last_values_is_told_none_older_than_what_it_has_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let value = |id| {
        let mapped = message(id, "a").into_parts().0;
        sealed(Mapped { retain: true, ..mapped }, 1)
    };
    store.publish(Batch::one(value(1))).await.unwrap();
    let mut consumer = early(&store, "a").await;
    held.hold();
    let publishing = store.publish(Batch::one(value(2)));
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let answer = tokio::spawn(publishing);
    assert_eq!(ids(&take(&mut consumer, 1).await), [2]);
    let mut last = store.last(Filter::new("a").unwrap(), None, 10);
    assert!(tokio::time::timeout(IDLE, &mut last).await.is_err(), "the value on disk is older");
    held.let_go();
    answer.await.unwrap().unwrap();
    let values = tokio::time::timeout(PATIENCE, last).await.unwrap().unwrap().values;
    assert_eq!(ids(&values), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_early_and_far_behind_gets_everything_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = early(&store, "a").await;
    for from in (0..5_000).step_by(500) {
        publish(&store, from..from + 500).await.unwrap().unwrap();
    }
    let mut taken = take(&mut consumer, 5_000).await;
    publish(&store, 5_000..5_100).await.unwrap().unwrap();
    settle(&mut consumer, &taken, Settlement::Delivered).await;
    taken.extend(take(&mut consumer, 100).await);
    assert_eq!(ids(&taken), (0..5_100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_early_behind_what_left_memory_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut consumer = early(&store, "a").await;
    put(&store, 1, "a").await;
    put(&store, 2, "a").await;
    // others take the memory, so that the first two are on disk alone
    for from in (10..5_010).step_by(1_000) {
        offer(&store, (from..from + 1_000).map(|id| message(id, "b")).collect()).await.unwrap();
    }
    held.hold();
    let answer = publish(&store, 3..4);
    while !store.shared().is_ahead() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ids(&take(&mut consumer, 3).await), [1, 2, 3]);
    held.let_go();
    answer.await.unwrap().unwrap();
    assert!(is_idle(&mut consumer).await);
}

/// A batch with over 4 MiB has no place in memory and is shown to nobody early.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_and_lost_is_not_shown_again_where_it_comes_in_a_group_that_has_no_place_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let (store, held) = Held::open(folder.path());
    let mut reads = early(&store, "a").await;
    held.hold();
    let answer = publish(&store, 1..3);
    assert_eq!(ids(&take(&mut reads, 2).await), [1, 2]);
    held.words.send(Fault::Lost).unwrap();
    assert!(answer.await.unwrap().is_err());
    held.let_go();
    let mut large = envelope(9, "a");
    large.data = Data::Opaque(vec![7; 5 << 20].into());
    let batch = || vec![message(1, "a"), admitted(Group::One(large.clone()), AckPoint::Durable), message(2, "a")];
    let started = std::time::Instant::now();
    while offer(&store, batch()).await.is_err() {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(ids(&take(&mut reads, 1).await), [9]);
    assert!(is_idle(&mut reads).await);
    put(&store, 10, "a").await;
    assert_eq!(ids(&take(&mut reads, 1).await), [10]);
}

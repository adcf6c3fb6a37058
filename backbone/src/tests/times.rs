//! Subscriptions that begin at a time.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::*;
use crate::queue::{Job, Publish};

async fn from(store: &Embedded, at: Timestamp, count: usize) -> Vec<u128> {
    let mut consumer = store.subscribe(subscribe("#", None, Start::Time(at), 10_000)).await.unwrap();
    ids(&take(&mut consumer, count).await)
}

/// A time that is after everything so far and before everything to come.
pub(super) async fn now() -> Timestamp {
    let at = SystemTime::now() + Duration::from_millis(2);
    while SystemTime::now() <= at {
        tokio::task::yield_now().await;
    }
    at.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_with_the_first_that_was_admitted_at_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut marks = vec![(Timestamp::from_micros(0), 0)];
    for from in (0..6_000).step_by(1_500) {
        offer(&store, (from..from + 1_500).map(|id| message(id, "a")).collect()).await.unwrap();
        marks.push((now().await, from + 1_500));
    }
    put(&store, 6_000, "a").await;
    for restarted in [false, true] {
        let store = if restarted { open(folder.path()) } else { store.clone() };
        for (at, first) in &marks {
            let expected: Vec<_> = (*first..6_001).collect();
            assert_eq!(from(&store, *at, expected.len()).await, expected, "from {first}");
        }
        let mut none = store.subscribe(subscribe("#", None, Start::Time(Timestamp::MAX), 9)).await.unwrap();
        assert!(is_idle(&mut none).await);
        if !restarted {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_one_begins_so_once_and_then_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, 1, "a").await;
    let at = now().await;
    put(&store, 2, "a").await;
    put(&store, 3, "a").await;
    let mut consumer = store.subscribe(subscribe("#", Some("s"), Start::Time(at), 9)).await.unwrap();
    let both = take(&mut consumer, 2).await;
    assert_eq!(ids(&both), [2, 3]);
    settle(&mut consumer, &both[..1], Settlement::Delivered).await;
    drop(consumer);
    let mut again =
        store.subscribe(subscribe("#", Some("s"), Start::Time(Timestamp::from_micros(0)), 9)).await.unwrap();
    assert_eq!(ids(&take(&mut again, 1).await), [3]);
    assert_balanced(&store);
}

#[test]
fn rows_that_are_missing_are_made_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(folder.path());
        offer(&store, (0..3_000).map(|id| message(id, "a")).collect()).await.unwrap();
        store.close().await.unwrap();
    });
    let store = crate::store::Store::open(folder.path()).unwrap();
    let rows = || store.times.iter().map(|row| row.into_inner().unwrap()).collect::<Vec<_>>();
    let written = rows().len();
    assert!(written > 0);
    for (key, _) in rows() {
        store.times.remove(key).unwrap();
    }
    let times = crate::times::Times::load(&store).unwrap();
    assert!(rows().len() >= written);
    assert_eq!(crate::times::Times::load(&store).unwrap(), times);
}

/// Stores messages that a clock which says `at` has admitted.
async fn admitted_at(store: &Embedded, at: Timestamp, ids: std::ops::Range<u128>) {
    let (reply, answer) = oneshot::channel();
    let mut publish = Publish { reply: Some(reply), ..Publish::default() };
    store.ledger().received("web", (ids.end - ids.start) as u64);
    for id in ids {
        let (mapped, epoch) = message(id, "a").into_parts();
        publish.add("plant-a", &store.shared.books, at, mapped, epoch);
    }
    store.queue.send(Job::Publish(publish)).await.unwrap();
    assert!(answer.await.unwrap().unwrap().iter().all(|verdict| verdict.answer.is_ok()));
}

/// Each time as many as take a row.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_over_a_restart_hides_nothing_from_who_begins_at_a_time() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let folder = tempfile::tempdir().unwrap();
    let set_back = Timestamp::now();
    let before = set_back.plus(2 * HOUR);
    let store = open(folder.path());
    admitted_at(&store, before, 0..1_100).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(folder.path());
    admitted_at(&store, set_back, 1_100..2_300).await;
    let expected: Vec<_> = (0..2_300).collect();
    assert_eq!(
        from(&store, set_back.plus(HOUR), 2_300).await,
        expected,
        "the first of all is the first of then or later"
    );
    let mut none = store.subscribe(subscribe("#", None, Start::Time(before.plus(HOUR)), 9)).await.unwrap();
    assert!(is_idle(&mut none).await);
}

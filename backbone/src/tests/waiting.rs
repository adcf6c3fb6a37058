//! How much waits for a durable subscription: past its quota the oldest are given up, counted, and told of as a gap.

use super::*;
use crate::{Retention, Subscriber};

const NONE: Retention = Retention { age: None, bytes: None, records: None };

fn bounded(path: &Path, max_waiting: u64, retention: Retention) -> Embedded {
    open_with(EmbeddedConfig { max_waiting, retention, ..config(path) }, Hooks::default)
}

async fn of_ada(store: &Embedded, credit: u32) -> Box<dyn Deliveries> {
    let what = subscribe("a", Some("s"), Start::New, credit);
    store.subscribe_for(Subscriber::Principal("ada".into()), what).await.unwrap()
}

/// Each with one that nobody wants beside it.
async fn offer_each(store: &Embedded, ids: std::ops::Range<u128>) {
    let messages = ids.flat_map(|id| [message(id, "a"), message(id + 10_000, "other")]).collect();
    offer(store, messages).await.unwrap();
}

fn counts(store: &Embedded) -> (u64, u64, u64, i64) {
    let counts = store.report().subscriptions["s"].clone();
    (counts.matched, counts.delivered, counts.over, counts.pending)
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_quota_the_oldest_are_given_up_and_the_rest_comes_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = bounded(folder.path(), 100, NONE);
    let mut ada = of_ada(&store, 10).await;
    assert!(!ada.has_gap());
    offer_each(&store, 1..4).await;
    let first = take(&mut ada, 3).await;
    settle(&mut ada, &first[2..3], Settlement::Delivered).await;
    drop(ada);
    offer_each(&store, 4..104).await;
    assert_eq!(counts(&store), (103, 1, 0, 102), "a hundred wait, two are in hand");
    offer_each(&store, 104..154).await;
    assert_eq!(counts(&store), (153, 1, 50, 102));
    assert_balanced(&store);
    drop(store);

    let store = bounded(folder.path(), 100, NONE);
    assert_eq!(counts(&store), (153, 1, 50, 102), "over a restart too");
    let mut ada = of_ada(&store, 1_000).await;
    assert!(ada.has_gap());
    let rest = take(&mut ada, 102).await;
    let expected: Vec<_> = [1, 2].into_iter().chain(54..154).collect();
    assert_eq!(ids(&rest), expected, "what was in hand is not given up");
    settle(&mut ada, &rest, Settlement::Delivered).await;
    offer_each(&store, 154..155).await;
    assert_eq!(ids(&take(&mut ada, 1).await), [154]);
    assert_eq!(counts(&store), (154, 103, 50, 1));
    drop(ada);
    assert!(!of_ada(&store, 10).await.has_gap(), "it was told of");
    assert_balanced(&store);
    assert!(store.verify().await.unwrap().wrong.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_there_and_slow_is_bounded_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = bounded(folder.path(), 10, NONE);
    let mut ada = of_ada(&store, 2).await;
    offer_each(&store, 1..3).await;
    let first = take(&mut ada, 2).await;
    for id in 3..33 {
        offer_each(&store, id..id + 1).await;
    }
    assert_eq!(counts(&store), (32, 0, 20, 12));
    settle(&mut ada, &first, Settlement::Delivered).await;
    for id in (23..33).step_by(2) {
        let deliveries = take(&mut ada, 2).await;
        assert_eq!(ids(&deliveries), [id, id + 1]);
        settle(&mut ada, &deliveries, Settlement::Delivered).await;
    }
    assert!(is_idle(&mut ada).await);
    assert_eq!(counts(&store), (32, 12, 20, 0));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_and_goes_by_retention_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let retention = Retention { records: Some(10), ..NONE };
    let store = bounded(folder.path(), 3, retention);
    drop(of_ada(&store, 10).await);
    for id in 1..101 {
        offer_each(&store, id..id + 1).await;
    }
    while store.report().store.first_sequence < 191 {
        tokio::task::yield_now().await;
    }
    let report = store.report().subscriptions["s"].clone();
    assert_eq!((report.matched, report.pending, report.over + report.lapsed), (100, 3, 97));
    assert!(report.over > 0);
    let mut ada = of_ada(&store, 10).await;
    assert_eq!(ids(&take(&mut ada, 3).await), [98, 99, 100]);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_own_subscriptions_are_not_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = bounded(folder.path(), 10, NONE);
    let what = || subscribe("a", Some("s"), Start::New, 1_000);
    drop(store.subscribe(what()).await.unwrap());
    offer_each(&store, 1..101).await;
    assert_eq!(counts(&store), (100, 0, 0, 100));
    let mut own = store.subscribe(what()).await.unwrap();
    assert_eq!(ids(&take(&mut own, 100).await), (1..101).collect::<Vec<_>>());
}

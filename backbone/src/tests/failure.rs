use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use envelope::{Disposition, RejectKind};

use super::*;
use crate::{Status, space::Space, writer::Fault};

/// Commits go wrong as the returned switch says, once.
fn faulty() -> (Arc<AtomicU8>, impl Fn() -> Hooks) {
    let switch = Arc::new(AtomicU8::new(0));
    let inner = switch.clone();
    let hooks = move || {
        let switch = inner.clone();
        let commit = move || match switch.swap(0, SeqCst) {
            1 => Fault::Lost,
            2 => Fault::Unsure,
            _ => Fault::None,
        };
        Hooks { commit: Box::new(commit), ..Hooks::default() }
    };
    (switch, hooks)
}

/// Offers until the store takes it, as a source does under Retry.
async fn offer_until_stored(store: &Embedded, id: u128) -> Receipt {
    let started = std::time::Instant::now();
    loop {
        match store.publish(Batch::one(message(id, "a"))).await {
            Ok(mut verdicts) => match verdicts.remove(0).answer.unwrap() {
                Admission::Stored(receipt) => return receipt,
                Admission::Filtered => panic!("the store filters nothing"),
            },
            Err(rejection) => assert_eq!(rejection.disposition(), Disposition::Retry),
        }
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
}

async fn a_failed_commit(kind: u8, stored: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (switch, hooks) = faulty();
    let store = open_with(config(folder.path()), hooks);
    let mut consumer = consumer(&store, "s", 100).await;
    put(&store, 1, "a").await;
    switch.store(kind, SeqCst);
    let rejection = offer(&store, vec![message(2, "a"), message(1, "a")]).await.unwrap_err();
    assert_eq!((rejection.kind, rejection.disposition()), (RejectKind::Unavailable, Disposition::Retry));
    // The source keeps both, and offers them again.
    assert!(!offer_until_stored(&store, 2).await.duplicate);
    assert!(offer_until_stored(&store, 1).await.duplicate);
    assert!(!put(&store, 3, "a").await.duplicate);
    assert_eq!(store.status(), Status::Ready);
    assert_eq!(ids(&take(&mut consumer, 3).await), [1, 2, 3], "stored at once: {stored}");
    let report = store.report();
    let web = &report.bridges["web"];
    assert_eq!((web.received, web.accepted, web.duplicate, web.in_flight), (4, 3, 1, 0));
    assert_eq!(report.subscriptions["s"].matched, 3);
    assert_balanced(&store);
    drop(consumer);
    drop(store);
    let store = open(folder.path());
    assert_balanced(&store);
    assert_eq!(store.report().store.stored, 3);
    assert!(store.verify().await.unwrap().wrong.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_commit_the_store_opens_anew_and_a_retry_is_stored() {
    a_failed_commit(1, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_got_to_disk_although_its_sync_failed_is_counted_once() {
    a_failed_commit(2, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acked_on_receipt_and_lost_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (switch, hooks) = faulty();
    let store = open_with(config(folder.path()), hooks);
    switch.store(1, SeqCst);
    let one = admitted(Group::One(envelope(1, "a")), AckPoint::Received);
    offer(&store, vec![one]).await.unwrap().remove(0).unwrap();
    offer_until_stored(&store, 2).await;
    let report = store.report();
    assert_eq!((report.store.lost, report.store.stored), (1, 1));
    assert_eq!(report.bridges["web"].rejected, [("unavailable", 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_failed_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (switch, hooks) = faulty();
    let store = open_with(config(folder.path()), hooks);
    let mut older = consumer(&store, "s", 100).await;
    put(&store, 1, "a").await;
    let deliveries = take(&mut older, 1).await;
    switch.store(1, SeqCst);
    let settled = vec![(deliveries[0].position.clone(), Settlement::Delivered)];
    assert_eq!(older.settle(settled).await.unwrap_err().kind, RejectKind::Unavailable);
    offer_until_stored(&store, 2).await;
    let mut newer = consumer(&store, "s", 100).await;
    let deliveries = take(&mut newer, 2).await;
    assert_eq!((ids(&deliveries), deliveries[0].redelivered), (vec![1, 2], true));
    settle(&mut newer, &deliveries, Settlement::Delivered).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (2, 2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_failed_can_be_repeated_by_the_same_consumer() {
    let folder = tempfile::tempdir().unwrap();
    let (switch, hooks) = faulty();
    let store = open_with(config(folder.path()), hooks);
    let mut consumer = consumer(&store, "s", 1).await;
    put(&store, 1, "a").await;
    let deliveries = take(&mut consumer, 1).await;
    for kind in [1, 2] {
        switch.store(kind, SeqCst);
        let settled = vec![(deliveries[0].position.clone(), Settlement::Delivered)];
        assert!(consumer.settle(settled).await.is_err());
        offer_until_stored(&store, 10 + u128::from(kind)).await;
    }
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [11]);
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (3, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_commit_failed_is_there_if_it_got_to_disk_and_only_then() {
    for kind in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (switch, hooks) = faulty();
        let store = open_with(config(folder.path()), hooks);
        switch.store(kind, SeqCst);
        let failed = store.subscribe(subscribe("#", Some("s"), Start::New, 10)).await;
        assert_eq!(failed.err().map(|rejection| rejection.kind), Some(RejectKind::Unavailable));
        store.ledger().received("web", 1);
        offer_until_stored(&store, 1).await;
        assert_eq!(store.report().subscriptions.contains_key("s"), kind == 2);
        drop(store);
        let store = open(folder.path());
        let mut consumer = store.subscribe(subscribe("#", Some("s"), Start::New, 10)).await.unwrap();
        put(&store, 2, "a").await;
        let deliveries = take(&mut consumer, usize::from(kind)).await;
        settle(&mut consumer, &deliveries, Settlement::Delivered).await;
        assert_eq!(store.report().subscriptions["s"].pending, 0);
        assert_balanced(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_went_back_in_a_commit_that_failed_has_done_so_if_it_got_to_disk_and_only_then() {
    for kind in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (switch, hooks) = faulty();
        let store = open_with(config(folder.path()), hooks);
        let mut first = consumer(&store, "s", 10).await;
        offer(&store, (1..=3).map(|id| message(id, "a")).collect()).await.unwrap();
        let deliveries = take(&mut first, 3).await;
        settle(&mut first, &deliveries, Settlement::Delivered).await;
        switch.store(kind, SeqCst);
        let back = Start::Again(deliveries[0].position.clone());
        let failed = store.subscribe(subscribe("#", Some("s"), back, 10)).await;
        assert_eq!(failed.err().map(|rejection| rejection.kind), Some(RejectKind::Unavailable));
        store.ledger().received("web", 1);
        offer_until_stored(&store, 4).await;
        let expected: &[u128] = if kind == 2 { &[2, 3, 4] } else { &[4] };
        let mut again = consumer(&store, "s", 10).await;
        let deliveries = take(&mut again, expected.len()).await;
        assert_eq!(ids(&deliveries), expected);
        settle(&mut again, &deliveries, Settlement::Delivered).await;
        assert_eq!(store.report().subscriptions["s"].pending, 0);
        assert_balanced(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_free_space_publishes_are_refused_reads_go_on_and_it_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(1_000_000_000));
    let hooks = || {
        let free = free.clone();
        let space = move |_: &Path| Ok(Space { total: 1_000_000_000, free: free.load(SeqCst) });
        Hooks { space: Box::new(space), ..Hooks::default() }
    };
    let store = open_with(EmbeddedConfig::new(folder.path(), "plant-a"), hooks);
    put(&store, 1, "a").await;
    free.store(255_000_000, SeqCst);
    let started = std::time::Instant::now();
    while store.status() == Status::Ready {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    let rejection = offer(&store, vec![message(2, "a")]).await.unwrap_err();
    assert_eq!(rejection.kind, RejectKind::Unavailable);
    assert_eq!(rejection.detail, "the store has 255 MB of free space, the limit is 256 MB");
    let mut consumer = consumer(&store, "s", 10).await;
    let deliveries = take(&mut consumer, 1).await;
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    free.store(256_000_000, SeqCst);
    assert!(!offer_until_stored(&store, 2).await.duplicate);
    assert_balanced(&store);
}

/// Something still reads, so that the folder can't be opened anew yet.
#[tokio::test(flavor = "multi_thread")]
async fn who_subscribes_while_a_group_is_in_doubt_gets_it_if_it_is_on_disk() {
    for kind in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (switch, hooks) = faulty();
        let store = open_with(config(folder.path()), hooks);
        let first = put(&store, 1, "a").await;
        let reads = store.shared().store.borrow().clone();
        switch.store(kind, SeqCst);
        assert!(offer(&store, vec![message(2, "a")]).await.is_err());
        let after = Start::After(first.position.unwrap());
        let mut consumer = store.subscribe(subscribe("a", None, after, 100)).await.unwrap();
        drop(reads);
        offer_until_stored(&store, 2).await;
        put(&store, 3, "a").await;
        assert_eq!(ids(&take(&mut consumer, 2).await), [2, 3], "{kind}");
        assert!(is_idle(&mut consumer).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_found_to_be_over_its_time_is_counted_though_the_commit_that_said_so_failed() {
    for kind in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (switch, hooks) = faulty();
        let store = open_with(config(folder.path()), hooks);
        let mut consumer = consumer(&store, "s", 100).await;
        let mut old = envelope(1, "a");
        old.expirytime = Some(Timestamp::from_micros(1));
        offer(&store, vec![admitted(Group::One(old), AckPoint::Durable)]).await.unwrap();
        switch.store(kind, SeqCst);
        assert!(is_idle(&mut consumer).await);
        assert_eq!(switch.load(SeqCst), 0, "a commit has failed");
        store.ledger().received("web", 1);
        offer_until_stored(&store, 2).await;
        let deliveries = take(&mut consumer, 1).await;
        settle(&mut consumer, &deliveries, Settlement::Delivered).await;
        let counts = &store.report().subscriptions["s"];
        assert_eq!((counts.expired, counts.delivered, counts.pending), (1, 1, 0), "{kind}");
        assert_balanced(&store);
    }
}

/// Something still reads, so that the folder can't be opened anew yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_finds_out_while_the_store_is_away_is_counted_once_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (switch, hooks) = faulty();
    let store = open_with(config(folder.path()), hooks);
    let mut consumer = consumer(&store, "s", 100).await;
    let mut old = envelope(1, "a");
    old.expirytime = Some(Timestamp::from_micros(1));
    offer(&store, vec![admitted(Group::One(old), AckPoint::Durable)]).await.unwrap();
    let reads = store.shared().store.borrow().clone();
    switch.store(1, SeqCst);
    assert!(offer(&store, vec![message(2, "a")]).await.is_err());
    assert!(is_idle(&mut consumer).await);
    // it waits behind what was found out
    let refused = store.subscribe(subscribe("#", Some("t"), Start::New, 10)).await;
    assert_eq!(refused.err().map(|rejection| rejection.kind), Some(RejectKind::Unavailable));
    drop(reads);
    offer_until_stored(&store, 2).await;
    let deliveries = take(&mut consumer, 1).await;
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.expired, counts.delivered, counts.pending), (1, 1, 0));
    assert_balanced(&store);
}

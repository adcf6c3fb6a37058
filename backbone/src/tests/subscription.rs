use envelope::RejectKind;

use super::*;
use crate::Standing;

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_come_in_order_within_the_credit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 3).await;
    offer(&store, (1..=10).map(|id| message(id, "a")).collect()).await.unwrap();
    let first = take(&mut consumer, 3).await;
    assert_eq!(ids(&first), [1, 2, 3]);
    assert!(is_idle(&mut consumer).await);
    settle(&mut consumer, &first[1..2], Settlement::Delivered).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [4]);
    consumer.grant(2);
    assert_eq!(ids(&take(&mut consumer, 2).await), [5, 6]);
    let report = store.report();
    assert_eq!((report.subscriptions["s"].matched, report.subscriptions["s"].delivered), (10, 1));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_resumes_where_it_was_settled_and_marks_repeats() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut first = consumer(&store, "s", 10).await;
    offer(&store, (1..=5).map(|id| message(id, "a")).collect()).await.unwrap();
    let deliveries = take(&mut first, 5).await;
    assert!(deliveries.iter().all(|delivery| !delivery.redelivered));
    settle(&mut first, &deliveries[0..1], Settlement::Delivered).await;
    settle(&mut first, &deliveries[3..4], Settlement::Delivered).await;
    drop(first);
    put(&store, 6, "a").await;
    drop(store);

    let store = open(folder.path());
    let mut again = consumer(&store, "s", 10).await;
    put(&store, 7, "a").await;
    let deliveries = take(&mut again, 5).await;
    assert_eq!(ids(&deliveries), [2, 3, 5, 6, 7]);
    assert_eq!(deliveries.iter().map(|d| d.redelivered).collect::<Vec<_>>(), [true, true, true, false, false]);
    settle(&mut again, &deliveries, Settlement::Delivered).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (7, 7, 0));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_done_with_what_was_settled_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut first = consumer(&store, "s", 2).await;
    offer(&store, (1..=3).map(|id| message(id, "a")).collect()).await.unwrap();
    let deliveries = take(&mut first, 2).await;
    settle(&mut first, &deliveries[1..2], Settlement::Delivered).await;
    let asked = [deliveries[0].position.clone(), deliveries[1].position.clone(), store.shared().position(3)];
    let topic = Topic::new("a").unwrap();
    let done = |store: &Embedded| asked.each_ref().map(|position| store.standing("s", &topic, position).unwrap());
    let known = [Standing::Pending, Standing::Delivered, Standing::Pending];
    assert_eq!(done(&store), known);
    assert_eq!(store.standing("other", &topic, &asked[0]), None);
    drop(first);
    drop(store);
    let store = open(folder.path());
    assert_eq!(done(&store), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_knows_nothing_of_what_was_stored_before_it_selected_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let [a, b] = ["a", "b"].map(|topic| Topic::new(topic).unwrap());
    let position = async |id, topic| put(&store, id, topic).await.position.unwrap();
    let early = position(1, "a").await;
    let mut consumer = store.subscribe(subscribe("a", Some("s"), Start::New, 10)).await.unwrap();
    assert_eq!(store.standing("s", &a, &early), Some(Standing::NotSelected));
    let (first, other) = (position(2, "a").await, position(3, "b").await);
    let deliveries = take(&mut consumer, 1).await;
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    let second = position(4, "a").await;
    let deliveries = take(&mut consumer, 1).await;
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    assert_eq!(store.standing("s", &a, &first), Some(Standing::Delivered));
    assert_eq!(store.standing("s", &b, &other), Some(Standing::NotSelected));
    drop(consumer);
    let mut consumer = store.subscribe(subscribe("+", Some("s"), Start::New, 10)).await.unwrap();
    for (topic, position) in [(&a, &first), (&b, &other), (&a, &second)] {
        assert_eq!(store.standing("s", topic, position), Some(Standing::NotSelected), "{topic:?}");
    }
    let third = position(5, "b").await;
    assert_eq!(store.standing("s", &b, &third), Some(Standing::Pending));
    let deliveries = take(&mut consumer, 1).await;
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    let restarted = |store: &Embedded| [&second, &third].map(|position| store.standing("s", &b, position).unwrap());
    assert_eq!(restarted(&store), [Standing::NotSelected, Standing::Delivered]);
    drop(consumer);
    drop(store);
    let store = open(folder.path());
    assert_eq!(restarted(&store), [Standing::NotSelected, Standing::Delivered]);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_something_was_not_delivered_no_other_is_said_to_be() {
    for how in [Settlement::Refused(RejectKind::Denied), Settlement::DeadLettered(RejectKind::Malformed)] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut consumer = consumer(&store, "s", 10).await;
        offer(&store, vec![message(1, "a"), message(2, "a")]).await.unwrap();
        let deliveries = take(&mut consumer, 2).await;
        settle(&mut consumer, &deliveries[..1], Settlement::Delivered).await;
        settle(&mut consumer, &deliveries[1..], how).await;
        let standing = store.standing("s", &Topic::new("a").unwrap(), &deliveries[0].position);
        assert_eq!(standing, Some(Standing::Done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_consumer_takes_over_and_the_older_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut older = consumer(&store, "s", 10).await;
    put(&store, 1, "a").await;
    assert_eq!(ids(&take(&mut older, 1).await), [1]);
    let waiting = async { older.next().await };
    let taking = async {
        let mut newer = consumer(&store, "s", 10).await;
        let deliveries = take(&mut newer, 1).await;
        (newer, deliveries)
    };
    let (heard, (mut newer, deliveries)) =
        tokio::time::timeout(PATIENCE, async { tokio::join!(waiting, taking) }).await.unwrap();
    assert_eq!(heard.unwrap_err().kind, RejectKind::Conflict);
    assert!(deliveries[0].redelivered);
    put(&store, 2, "a").await;
    assert!(!take(&mut newer, 1).await[0].redelivered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_new_earliest_or_after_a_position() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let second = offer(&store, vec![message(1, "a"), message(2, "a")]).await.unwrap().remove(1).unwrap();
    put(&store, 3, "a").await;
    let open_at = async |start| store.subscribe(subscribe("#", None, start, 10)).await.unwrap();
    let mut new = open_at(Start::New).await;
    let mut earliest = open_at(Start::Earliest).await;
    let mut after = open_at(Start::After(second.position.unwrap())).await;
    put(&store, 4, "a").await;
    assert_eq!(ids(&take(&mut new, 1).await), [4]);
    assert_eq!(ids(&take(&mut earliest, 4).await), [1, 2, 3, 4]);
    assert_eq!(ids(&take(&mut after, 2).await), [3, 4]);
    let other = crate::position::of(store.shared().position(1).0[0].into(), 1);
    for position in [store.shared().position(5), other, Position(Bytes::from_static(b"x"))] {
        let start = Start::After(position);
        let refused = store.subscribe(subscribe("#", None, start, 1)).await;
        assert_eq!(refused.err().map(|rejection| rejection.kind), Some(RejectKind::Conflict));
    }
    assert!(store.report().subscriptions.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_filters_give_an_envelope_once_and_only_what_they_select() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let filters = ["a/+", "a/b", "c/#"].map(|filter| Filter::new(filter).unwrap()).to_vec();
    let what = Subscribe { filters, start: Start::New, durable: Some("s".into()), credit: 10 };
    let mut consumer = store.subscribe(what).await.unwrap();
    for (id, topic) in [(1, "a/b"), (2, "b"), (3, "c"), (4, "a/b/c"), (5, "c/d/e")] {
        put(&store, id, topic).await;
    }
    assert_eq!(ids(&take(&mut consumer, 3).await), [1, 3, 5]);
    let route = &store.report().bridges["web"].routes["r"];
    assert_eq!((route.stored, route.claimed, route.unclaimed), (5, 3, 2));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn again_comes_after_its_delay_and_before_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 2).await;
    offer(&store, (1..=4).map(|id| message(id, "a")).collect()).await.unwrap();
    let first = take(&mut consumer, 2).await;
    settle(&mut consumer, &first[..1], Settlement::Again { after: Duration::ZERO }).await;
    settle(&mut consumer, &first[1..], Settlement::Again { after: Duration::from_millis(300) }).await;
    let started = std::time::Instant::now();
    let soon = take(&mut consumer, 2).await;
    assert_eq!(ids(&soon), [1, 3]);
    assert_eq!((soon[0].redelivered, soon[1].redelivered), (true, false));
    settle(&mut consumer, &soon[1..], Settlement::Delivered).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [4]);
    settle(&mut consumer, &soon[..1], Settlement::Delivered).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [2]);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_counted_and_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 10).await;
    let mut old = envelope(1, "a");
    old.expirytime = Some(Timestamp::from_micros(1));
    let mut young = envelope(2, "a");
    young.expirytime = Some(Timestamp::MAX);
    for one in [old, young] {
        offer(&store, vec![admitted(Group::One(one), AckPoint::Durable)]).await.unwrap();
    }
    let deliveries = take(&mut consumer, 1).await;
    assert_eq!(ids(&deliveries), [2]);
    settle(&mut consumer, &deliveries, Settlement::Refused(RejectKind::Denied)).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.expired, counts.pending), (2, 1, 0));
    assert_eq!(counts.refused, [("denied", 1)].into());
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_matched_as_the_cursor_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for from in [0, 2_000] {
        let messages = (from..from + 2_000).map(|id| message(id, if id % 2 == 0 { "even" } else { "odd" }));
        offer(&store, messages.collect()).await.unwrap();
    }
    drop(store);
    let store = open(folder.path());
    let mut consumer = store.subscribe(subscribe("even", Some("s"), Start::Earliest, 10)).await.unwrap();
    assert_eq!(store.report().subscriptions["s"].matched, 0);
    let first = take(&mut consumer, 10).await;
    assert_eq!(ids(&first)[9], 18);
    let passed = store.report().subscriptions["s"].matched;
    assert!((10..2_000).contains(&passed), "{passed}");
    put(&store, 9_000, "even").await;
    settle(&mut consumer, &first, Settlement::Delivered).await;
    consumer.grant(5_000);
    let rest = take(&mut consumer, 1_991).await;
    assert_eq!(ids(&rest)[1_990], 9_000);
    settle(&mut consumer, &rest, Settlement::Delivered).await;
    put(&store, 9_002, "even").await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [9_002]);
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (2_002, 2_001, 1));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_filters_keep_the_position() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let open_with = async |filter| store.subscribe(subscribe(filter, Some("s"), Start::New, 1)).await.unwrap();
    let mut consumer = open_with("a").await;
    for (id, topic) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        put(&store, id, topic).await;
    }
    let first = take(&mut consumer, 1).await;
    settle(&mut consumer, &first, Settlement::Delivered).await;
    drop(consumer);
    let mut consumer = open_with("b").await;
    let deliveries = take(&mut consumer, 1).await;
    assert_eq!(ids(&deliveries), [3]);
    settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    put(&store, 5, "a").await;
    put(&store, 6, "b").await;
    let deliveries = take(&mut consumer, 1).await;
    assert_eq!(ids(&deliveries), [6]);
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.delivered, counts.pending), (3, 2, 1));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "the tasks of this test end with it")]
async fn takeovers_and_other_filters_while_messages_are_handed_out_lose_and_repeat_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let publisher = store.clone();
    let publishing = tokio::spawn(async move {
        for from in (0..2_000).step_by(5) {
            offer(&publisher, (from..from + 5).map(|id| message(id, "a")).collect()).await.unwrap();
        }
    });
    let (mut first, mut taken) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    let mut older: Option<tokio::task::JoinHandle<Vec<Delivery>>> = None;
    for round in 0.. {
        let filter = ["#", "+"][round % 2];
        let mut newer = store.subscribe(subscribe(filter, Some("s"), Start::New, 7)).await.unwrap();
        if let Some(older) = older.take() {
            for delivery in older.await.unwrap() {
                let id = delivery.envelope.id;
                assert!(first.insert(id) || delivery.redelivered, "{id} comes again without its mark");
                taken.insert(delivery.position);
            }
        }
        if publishing.is_finished() && store.report().subscriptions["s"].pending == 0 {
            break;
        }
        older = Some(tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok(Ok(batch)) = tokio::time::timeout(PATIENCE, newer.next()).await {
                let deliveries = batch.into_vec();
                let settled = deliveries.iter().map(|one| (one.position.clone(), Settlement::Delivered)).collect();
                all.extend(deliveries);
                newer.settle(settled).await.unwrap();
            }
            all
        }));
        assert_balanced(&store);
        tokio::task::yield_now().await;
    }
    publishing.await.unwrap();
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.delivered, counts.pending), (taken.len() as u64, 0));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_at_a_time_is_bounded_in_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 1_000).await;
    for id in 0..20 {
        let mut large = envelope(id, "a");
        large.data = Data::Opaque(vec![0; 400_000].into());
        offer(&store, vec![admitted(Group::One(large), AckPoint::Durable)]).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let deliveries = next(&mut consumer).await;
        assert!(deliveries.len() <= 11, "{} of 400 kB in one batch", deliveries.len());
        seen.extend(ids(&deliveries));
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_of_next_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    offer(&store, (1..=500).map(|id| message(id, "a")).collect()).await.unwrap();
    drop(store);
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 1_000).await;
    let mut seen = Vec::new();
    while seen.len() < 500 {
        tokio::select! {
            biased;
            batch = consumer.next() => seen.extend(ids(&batch.unwrap().into_vec())),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen, (1..=500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_subscriptions_are_refused_with_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let long = "n".repeat(257);
    for (what, detail) in [
        (Subscribe { filters: Vec::new(), ..subscribe("#", None, Start::New, 1) }, "at least one filter"),
        (subscribe("#", Some(""), Start::New, 1), "not empty"),
        (subscribe("#", Some(&long), Start::New, 1), "at most 256 bytes, this has 257"),
    ] {
        let rejection = store.subscribe(what).await.err().unwrap();
        assert!(rejection.detail.contains(detail), "{rejection}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_one_that_goes_back_gets_again_what_was_settled_behind_it_and_the_ledger_balances() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    offer(&store, (1..=6).map(|id| message(id, "a")).collect()).await.unwrap();
    let mut first = consumer(&store, "s", 4).await;
    let all = take(&mut first, 4).await;
    settle(&mut first, &all[..3], Settlement::Delivered).await;
    drop(first);
    let back = |at: usize| subscribe("#", Some("s"), Start::Again(all[at].position.clone()), 10);
    let mut again = store.subscribe(back(0)).await.unwrap();
    let deliveries = take(&mut again, 5).await;
    assert_eq!(ids(&deliveries), [2, 3, 4, 5, 6]);
    assert_eq!(
        deliveries.iter().map(|delivery| delivery.redelivered).collect::<Vec<_>>(),
        [true, true, true, false, false]
    );
    assert_balanced(&store);
    settle(&mut again, &deliveries[..1], Settlement::Delivered).await;
    drop(again);
    // it has more than it has settled: that is settled, and nothing that it was not handed is left out
    let mut ahead = store.subscribe(back(3)).await.unwrap();
    assert_eq!(ids(&take(&mut ahead, 2).await), [5, 6]);
    drop(ahead);
    store.close().await.unwrap();
    let store = open(folder.path());
    let mut resumed = consumer(&store, "s", 10).await;
    let rest = take(&mut resumed, 2).await;
    assert_eq!(ids(&rest), [5, 6]);
    settle(&mut resumed, &rest, Settlement::Delivered).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.pending, counts.matched == counts.delivered), (0, true), "{counts:?}");
    assert_balanced(&store);
    let mut whole =
        store.subscribe(subscribe("#", Some("s"), Start::Again(store.shared().position(0)), 10)).await.unwrap();
    assert_eq!(take(&mut whole, 6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_displaced_consumer_settles_late_takes_nothing_from_who_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut first = consumer(&store, "s", 100).await;
    offer(&store, (1..=10).map(|id| message(id, "a")).collect()).await.unwrap();
    let taken = take(&mut first, 10).await;
    let back = Start::Again(taken[2].position.clone());
    let again = store.subscribe(subscribe("#", Some("s"), back, 100)).await.unwrap();
    settle(&mut first, &taken[8..], Settlement::Delivered).await;
    // it has taken nothing, and what comes next goes on where it is
    drop(again);
    let mut next = consumer(&store, "s", 100).await;
    let rest = take(&mut next, 7).await;
    assert_eq!(ids(&rest), (4..=10).collect::<Vec<_>>());
    settle(&mut next, &rest, Settlement::Delivered).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.delivered, counts.pending), (10, 0));
    assert_balanced(&store);
}

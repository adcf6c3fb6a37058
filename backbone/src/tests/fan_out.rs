use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn among_ten_thousand_subscriptions_only_those_that_match_are_touched() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumers = Vec::new();
    for n in 0..10_000 {
        consumers.push(store.subscribe(subscribe(&format!("t/{n}/+"), None, Start::New, 10)).await.unwrap());
    }
    let topic = Topic::new("t/77/x").unwrap();
    let feeds = store.shared().feeds.lock().unwrap().len();
    assert_eq!((feeds, topic.as_str()), (0, "t/77/x"));
    let publish = async |store: &Embedded, from: u128| {
        let started = std::time::Instant::now();
        for id in from..from + 50 {
            put(store, id, "t/77/x").await;
        }
        started.elapsed()
    };
    let many = publish(&store, 0).await;
    let deliveries = take(&mut consumers[77], 10).await;
    assert_eq!(ids(&deliveries), (0..10).collect::<Vec<_>>());
    consumers.clear();
    let few = publish(&store, 100).await;
    // Linear would be 10,000 times the matching; a sync is the same for both.
    assert!(many < few * 10 + Duration::from_millis(500), "{many:?} with 10,000 subscriptions, {few:?} without");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subscription_of_a_topic_gets_every_envelope() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumers = Vec::new();
    for n in 0..50 {
        let durable = format!("s{n}");
        let durable = (n % 2 == 0).then_some(durable.as_str());
        consumers.push(store.subscribe(subscribe("a", durable, Start::New, 5_000)).await.unwrap());
    }
    for from in (0..3_000).step_by(1_000) {
        offer(&store, (from..from + 1_000).map(|id| message(id, "a")).collect()).await.unwrap();
    }
    for consumer in &mut consumers {
        let deliveries = take(consumer, 3_000).await;
        assert_eq!(ids(&deliveries), (0..3_000).collect::<Vec<_>>());
        settle(consumer, &deliveries, Settlement::Delivered).await;
    }
    let report = store.report();
    assert_eq!(report.subscriptions.len(), 25);
    assert!(report.subscriptions.values().all(|counts| (counts.delivered, counts.pending) == (3_000, 0)));
    assert_balanced(&store);
}

//! Last values: who sets them, what they survive, and subscriptions that begin with them.

use envelope::{LastValues, RejectKind};

use super::*;

fn to_keep(id: u128, topic: &str) -> Admitted {
    retained(envelope(id, topic))
}

#[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
pub(super) fn retained(envelope: Envelope) -> Admitted {
    let (mapped, epoch) = admitted(Group::One(envelope), AckPoint::Durable).into_parts();
    Admitted::seal(Mapped { retain: true, ..mapped }, epoch)
}

fn deletes(id: u128, topic: &str) -> Admitted {
    retained(Envelope { data: Data::Opaque(Bytes::new()), ..envelope(id, topic) })
}

async fn last(store: &Embedded, filter: &str) -> Vec<u128> {
    let page = store.last(Filter::new(filter).unwrap(), None, 100).await.unwrap();
    assert_eq!(page.next, None);
    assert!(page.values.iter().all(|value| value.retained && !value.redelivered));
    ids(&page.values)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_asks_for_it_becomes_the_last_value_and_an_empty_one_deletes_it() {
    for crashes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        offer(&store, vec![to_keep(1, "a"), message(2, "a"), to_keep(3, "b"), to_keep(4, "c")]).await.unwrap();
        offer(&store, vec![to_keep(5, "b"), deletes(6, "c"), deletes(7, "never")]).await.unwrap();
        assert_eq!(last(&store, "#").await, [1, 5]);
        if !crashes {
            store.close().await.unwrap();
        }
        drop(store);
        let store = open(folder.path());
        assert_eq!(last(&store, "#").await, [1, 5], "crashes: {crashes}");
        assert_eq!(last(&store, "b").await, [5]);
        put(&store, 1, "a").await;
        assert_eq!((last(&store, "a").await, store.report().store.stored), (vec![1], 7));
        assert_balanced(&store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_deleted_makes_room_for_the_next_one_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(EmbeddedConfig { last_values: 1, ..config(folder.path()) }, Hooks::default);
    let all =
        vec![to_keep(1, "a"), deletes(2, "a"), deletes(3, "a"), to_keep(4, "b"), to_keep(5, "c"), to_keep(6, "b")];
    let refused: Vec<_> = offer(&store, all).await.unwrap().iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, false, false, true, false]);
    let refused = offer(&store, vec![deletes(7, "b"), to_keep(8, "c"), to_keep(9, "b")]).await.unwrap();
    assert_eq!(refused.iter().map(Result::is_err).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(last(&store, "#").await, [8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_message_that_is_stored_is_a_duplicate_though_no_topic_may_get_a_last_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(EmbeddedConfig { last_values: 1, ..config(folder.path()) }, Hooks::default);
    offer(&store, vec![to_keep(1, "a"), deletes(2, "a")]).await.unwrap();
    offer(&store, vec![to_keep(3, "b")]).await.unwrap();
    let again = offer(&store, vec![to_keep(1, "a"), to_keep(4, "c")]).await.unwrap();
    assert!(again[0].as_ref().unwrap().duplicate);
    assert_eq!(again[1].as_ref().unwrap_err().kind, RejectKind::Conflict);
    assert_eq!(last(&store, "#").await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_the_values_of_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5_u128 {
        let store = open(folder.path());
        if round > 0 {
            assert_eq!(last(&store, "t/#").await, (0..40).map(|n| (round - 1) * 100 + n).collect::<Vec<_>>());
        }
        offer(&store, (0..40).map(|n| to_keep(round * 100 + n, &format!("t/{n:02}"))).collect()).await.unwrap();
        drop(store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_an_older_message_does_not_become_the_last_value() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    offer(&store, vec![to_keep(1, "a"), to_keep(2, "a"), to_keep(1, "a")]).await.unwrap();
    offer(&store, vec![to_keep(1, "a")]).await.unwrap();
    assert_eq!(last(&store, "a").await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_not_handed_out_and_leaves_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(EmbeddedConfig { last_values: 1, ..config(folder.path()) }, Hooks::default);
    let old = Envelope { expirytime: Some(Timestamp::from_micros(1)), ..envelope(1, "a") };
    offer(&store, vec![retained(old)]).await.unwrap();
    assert_eq!(last(&store, "#").await, [0_u128; 0]);
    // The group after it has deleted it.
    put(&store, 2, "x").await;
    assert!(offer(&store, vec![to_keep(3, "b")]).await.unwrap()[0].is_ok());
    assert_eq!(last(&store, "#").await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_bound_a_new_topic_is_refused_and_known_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(EmbeddedConfig { last_values: 2, ..config(folder.path()) }, Hooks::default);
    let answers =
        offer(&store, vec![to_keep(1, "a"), to_keep(2, "b"), to_keep(3, "c"), to_keep(4, "a")]).await.unwrap();
    let refused = answers[2].as_ref().unwrap_err();
    assert_eq!((refused.kind, answers[3].is_ok()), (RejectKind::Conflict, true));
    assert_eq!(refused.detail, "2 topics have a last value, which is the limit: delete some of them");
    store.ledger().refused("web", Some(&Route::new("r", "1")), refused);
    offer(&store, vec![deletes(5, "b")]).await.unwrap();
    assert!(offer(&store, vec![to_keep(6, "c")]).await.unwrap()[0].is_ok());
    assert_eq!(last(&store, "#").await, [4, 6]);
    assert_eq!(store.report().store.stored, 5);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_together_in_memory_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let large = |id: u128| Envelope { data: Data::Opaque(vec![7; 300_000].into()), ..envelope(id, &format!("t/{id}")) };
    for id in 0..8 {
        offer(&store, vec![retained(large(id))]).await.unwrap();
    }
    drop(store);
    let store = open(folder.path());
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let LastValues { values, next } = store.last(Filter::new("t/+").unwrap(), after, 6).await.unwrap();
        assert!((1..=4).contains(&values.len()), "{} of 300 kB", values.len());
        seen.extend(ids(&values));
        after = match next {
            Some(next) => Some(next),
            None => break,
        };
    }
    assert_eq!(seen, (0..8).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_with_the_values_and_goes_on_without_gap_repeat_or_step_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let topics = 3_000;
    for from in (0..topics).step_by(1_000) {
        offer(&store, (from..from + 1_000).map(|n| to_keep(n, &format!("t/{n}"))).collect()).await.unwrap();
    }
    let publisher = store.clone();
    #[expect(clippy::disallowed_methods, reason = "the task ends with this test")]
    let publishing = tokio::spawn(async move {
        // Each topic is set again and again; the id says what the topic has to show next.
        for round in 1..4_u128 {
            for from in (0..topics).step_by(100) {
                let batch = (from..from + 100).map(|n| to_keep(round * 10_000 + n, &format!("t/{n}"))).collect();
                offer(&publisher, batch).await.unwrap();
            }
        }
    });
    let mut consumer = store.subscribe(subscribe("t/#", None, Start::Last, 256)).await.unwrap();
    let mut shown = std::collections::HashMap::new();
    while shown.len() < 3_000 || shown.values().any(|round| *round < 3) {
        let deliveries = next(&mut consumer).await;
        for delivery in &deliveries {
            let id = delivery.envelope.id.uuid().as_u128();
            let (round, topic) = (id / 10_000, id % 10_000);
            let before = shown.insert(topic, round);
            assert!(before.is_none_or(|before| round == before + 1), "topic {topic}: {round} after {before:?}");
        }
        settle(&mut consumer, &deliveries, Settlement::Delivered).await;
    }
    publishing.await.unwrap();
    assert!(is_idle(&mut consumer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_name_can_not_begin_with_last_values() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let refused = store.subscribe(subscribe("#", Some("s"), Start::Last, 1)).await.err().unwrap();
    assert_eq!(refused.kind, RejectKind::Malformed);
}

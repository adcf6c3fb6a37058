//! Dead letters, deliveries that nobody takes, and subscriptions that end.

use envelope::RejectKind;

use super::*;
use crate::{
    DeadContent, DeadLetter, DeadLetterQuota,
    shared::Shared,
    state::State,
    subscription::{Cursor, Idle},
};

async fn letters(store: &Embedded) -> Vec<DeadLetter> {
    store.dead_letters(0, 100).await.unwrap()
}

fn id_of(letter: &DeadLetter) -> Option<u128> {
    match &letter.content {
        DeadContent::Envelope { envelope, .. } => envelope.as_ref().map(|envelope| envelope.id.uuid().as_u128()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_gives_up_is_a_dead_letter_that_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 9).await;
    offer(&store, (1..=3).map(|id| message(id, "a")).collect()).await.unwrap();
    let all = take(&mut consumer, 3).await;
    settle(&mut consumer, &all[..1], Settlement::DeadLettered(RejectKind::Malformed)).await;
    settle(&mut consumer, &all[1..2], Settlement::DeadLettered(RejectKind::Denied)).await;
    settle(&mut consumer, &all[..1], Settlement::DeadLettered(RejectKind::Malformed)).await;
    drop((consumer, store));
    let store = open(folder.path());
    let letters = letters(&store).await;
    assert_eq!(
        letters.iter().map(|letter| (letter.id, letter.kind)).collect::<Vec<_>>(),
        [(1, RejectKind::Malformed), (2, RejectKind::Denied)]
    );
    assert_eq!(letters.iter().map(id_of).collect::<Vec<_>>(), [Some(1), None], "what was denied is not copied");
    assert_eq!((&*letters[0].bridge, &*letters[0].mapping, &*letters[0].principal), ("web", "r", "anonymous"));
    assert_eq!(store.report().store.dead_letters, 2);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_delivers_again_and_the_letter_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 9).await;
    offer(&store, (1..=2).map(|id| message(id, "a")).collect()).await.unwrap();
    let all = take(&mut consumer, 2).await;
    settle(&mut consumer, &all, Settlement::DeadLettered(RejectKind::Malformed)).await;
    assert!(store.replay_dead_letter(1).await.unwrap());
    assert!(!store.replay_dead_letter(1).await.unwrap(), "it is no letter any more");
    assert_balanced(&store);
    let again = take(&mut consumer, 1).await;
    assert_eq!((ids(&again), again[0].redelivered), (vec![1], true));
    settle(&mut consumer, &again, Settlement::Delivered).await;
    drop(consumer);
    // With nobody there it waits for the next consumer, over a restart too.
    assert!(store.replay_dead_letter(2).await.unwrap());
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.report().subscriptions["s"].pending, 1);
    let mut consumer = self::consumer(&store, "s", 9).await;
    let again = take(&mut consumer, 1).await;
    assert_eq!(ids(&again), [2]);
    settle(&mut consumer, &again, Settlement::DeadLettered(RejectKind::Malformed)).await;
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.delivered, counts.dead_lettered.clone(), counts.pending), (1, [("malformed", 1)].into(), 0));
    assert!(store.drop_subscription("s").await.unwrap());
    let refused = store.replay_dead_letter(3).await.unwrap_err();
    assert_eq!(refused.detail, "there is no subscription \"s\" any more");
    assert_eq!(letters(&store).await.len(), 1, "it stays");
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_dropped_by_number_and_numbers_are_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let letter = |n: u8| DeadLetter {
        id: 0,
        at: Timestamp::now(),
        kind: RejectKind::Malformed,
        detail: "no".to_owned(),
        bridge: "web".into(),
        mapping: "m".into(),
        principal: "p".into(),
        content: DeadContent::Inbound { address: "POST /a".into(), identity: Bytes::new(), payload: vec![n].into() },
    };
    for n in 1..=3 {
        assert!(store.bury(letter(n)).await.unwrap());
    }
    assert_eq!(store.drop_dead_letters(vec![2, 3, 99]).await.unwrap(), 2);
    let refused = store.replay_dead_letter(1).await.unwrap_err();
    assert!(refused.detail.contains("no envelope of a subscription"), "{refused}");
    drop(store);
    let quota = DeadLetterQuota { most: 2, ..DeadLetterQuota::default() };
    let store = open_with(EmbeddedConfig { dead_letters: quota, ..config(folder.path()) }, Hooks::default);
    assert!(store.bury(letter(4)).await.unwrap());
    assert!(!store.bury(letter(5)).await.unwrap());
    assert_eq!(letters(&store).await.iter().map(|letter| letter.id).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(store.dead_letters(1, 100).await.unwrap().len(), 1);
    let report = store.report().store;
    assert_eq!((report.dead_letters, report.dead_letters_over), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_so_many_deliveries_that_nobody_takes_it_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(EmbeddedConfig { max_deliveries: Some(3), ..config(folder.path()) }, Hooks::default);
    let mut consumer = consumer(&store, "s", 1).await;
    offer(&store, vec![message(1, "a"), message(2, "a")]).await.unwrap();
    for _ in 0..2 {
        let one = take(&mut consumer, 1).await;
        assert_eq!(ids(&one), [1]);
        settle(&mut consumer, &one, Settlement::Again { after: Duration::ZERO }).await;
    }
    // A consumer that goes away with it counts as well.
    assert_eq!(ids(&take(&mut consumer, 1).await), [1]);
    drop(consumer);
    let mut consumer = self::consumer(&store, "s", 1).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), [2]);
    // It is settled as soon as the consumer asks for more.
    assert!(is_idle(&mut consumer).await);
    let letters = letters(&store).await;
    assert_eq!(letters.iter().map(id_of).collect::<Vec<_>>(), [Some(1)]);
    assert_eq!(letters[0].detail, "nobody took it in 3 deliveries");
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.dead_lettered.clone(), counts.pending), ([("unavailable", 1)].into(), 1));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_dropped_is_gone_and_its_consumer_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut consumer = consumer(&store, "s", 9).await;
    put(&store, 1, "a").await;
    take(&mut consumer, 1).await;
    assert!(store.drop_subscription("s").await.unwrap());
    assert!(!store.drop_subscription("s").await.unwrap());
    assert!(tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().is_err());
    assert!(store.report().subscriptions.is_empty());
    put(&store, 2, "a").await;
    drop((consumer, store));
    let store = open(folder.path());
    assert!(store.report().subscriptions.is_empty());
    let mut consumer = self::consumer(&store, "s", 9).await;
    assert_eq!(ids(&take(&mut consumer, 2).await), [1, 2], "another one of its name begins anew");
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_consumes_ends_after_a_while_and_one_in_use_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let park_for = Duration::from_millis(200);
    let store = open_with(EmbeddedConfig { park_for, ..config(folder.path()) }, Hooks::default);
    let _in_use = consumer(&store, "in use", 9).await;
    drop(consumer(&store, "away", 9).await);
    let ended = async {
        while store.report().subscriptions.contains_key("away") {
            put(&store, uuid::Uuid::now_v7().as_u128(), "a").await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, ended).await.is_ok());
    let report = store.report();
    let in_use = &report.subscriptions["in use"];
    assert_eq!((in_use.attached, &in_use.idle_since), (true, &None));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_consumed_for_a_moment_now_and_then_does_not_end() {
    let folder = tempfile::tempdir().unwrap();
    let park_for = Duration::from_secs(1);
    let store = open_with(EmbeddedConfig { park_for, ..config(folder.path()) }, Hooks::default);
    drop(consumer(&store, "away", 9).await);
    let used = async {
        while store.report().subscriptions.contains_key("away") {
            drop(consumer(&store, "sleepy", 9).await);
            put(&store, uuid::Uuid::now_v7().as_u128(), "a").await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, used).await.is_ok());
    assert!(store.report().subscriptions.contains_key("sleepy"));
}

/// What the first look of a gateway ends, whose store has a subscription that was idle at 9 by this clock, and whose own
/// clock is at `clock`.
fn ended(at: Timestamp, clock: u64) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(folder.path()).unwrap();
    let cursor =
        Cursor { idle: Some(Idle { clock: 9, at }), filters: vec![Filter::new("#").unwrap()], ..Cursor::default() };
    store.subscriptions.insert("s", cursor.encode()).unwrap();
    store.meta.insert("clock", crate::store::number(clock)).unwrap();
    let shared = Shared::new(config(folder.path()), Arc::default());
    let state = State::load(&store, &shared).unwrap();
    let mut group = crate::group::Group::new(1, [0; 32]);
    group.park(&state, &shared);
    group.dropped.len()
}

#[test]
fn only_the_time_in_which_the_gateway_runs_counts_as_idle() {
    let park_for = EmbeddedConfig::PARK_FOR.as_secs();
    let now = Timestamp::now();
    for at in [Timestamp::from_micros(0), now, Timestamp::MAX] {
        assert_eq!(ended(at, 9 + park_for - 5), 0, "{at}");
        assert_eq!(ended(at, 9 + park_for + 1), 1, "{at}");
    }
}

fn inbound(payload: usize) -> DeadLetter {
    DeadLetter {
        id: 0,
        at: Timestamp::now(),
        kind: RejectKind::Malformed,
        detail: "no".to_owned(),
        bridge: "web".into(),
        mapping: "m".into(),
        principal: "p".into(),
        content: DeadContent::Inbound {
            address: "POST /a".into(),
            identity: Bytes::new(),
            payload: vec![0; payload].into(),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_larger_than_the_queue_is_done_and_what_is_over_its_quota_never_gets_there() {
    let folder = tempfile::tempdir().unwrap();
    let quota = DeadLetterQuota { sender_bytes: 64 << 20, ..DeadLetterQuota::default() };
    let store = open_with(EmbeddedConfig { dead_letters: quota, ..config(folder.path()) }, Hooks::default);
    assert!(tokio::time::timeout(PATIENCE, store.bury(inbound(33 << 20))).await.unwrap().unwrap());
    put(&store, 1, "a").await;
    assert!(!store.bury(inbound(64 << 20)).await.unwrap());
    assert_eq!(store.report().store.dead_letters_over, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_quota_what_is_given_up_is_counted_once_and_no_letter_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let quota = DeadLetterQuota { most: 1, ..DeadLetterQuota::default() };
    let store = open_with(EmbeddedConfig { dead_letters: quota, ..config(folder.path()) }, Hooks::default);
    let mut consumer = consumer(&store, "s", 9).await;
    offer(&store, (1..=3).map(|id| message(id, "a")).collect()).await.unwrap();
    let all = take(&mut consumer, 3).await;
    settle(&mut consumer, &all, Settlement::DeadLettered(RejectKind::Malformed)).await;
    let report = store.report();
    assert_eq!((report.store.dead_letters, report.store.dead_letters_over), (1, 2));
    assert_eq!(report.subscriptions["s"].dead_lettered, [("malformed", 3)].into());
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_an_earlier_subscription_of_the_name_is_delivered_again_and_the_ledger_balances() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut first = consumer(&store, "s", 9).await;
    put(&store, 1, "a").await;
    let one = take(&mut first, 1).await;
    settle(&mut first, &one, Settlement::DeadLettered(RejectKind::Malformed)).await;
    assert!(store.drop_subscription("s").await.unwrap());
    let mut second = store.subscribe(subscribe("#", Some("s"), Start::New, 9)).await.unwrap();
    assert!(store.replay_dead_letter(1).await.unwrap());
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.matched, counts.pending), (1, 1));
    let again = take(&mut second, 1).await;
    settle(&mut second, &again, Settlement::Delivered).await;
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.matched, counts.delivered, counts.pending), (1, 1, 0));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_an_earlier_subscription_of_the_name_is_not_taken_for_one_of_the_present() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for (id, name) in [(1, "s"), (2, "s")] {
        let mut consumer = store.subscribe(subscribe("#", Some(name), Start::New, 9)).await.unwrap();
        put(&store, id, "a").await;
        let one = take(&mut consumer, 1).await;
        settle(&mut consumer, &one, Settlement::DeadLettered(RejectKind::Malformed)).await;
        if id == 1 {
            assert!(store.drop_subscription("s").await.unwrap());
        }
    }
    assert!(store.replay_dead_letter(1).await.unwrap());
    let mut consumer = consumer(&store, "s", 9).await;
    let again = take(&mut consumer, 1).await;
    settle(&mut consumer, &again, Settlement::Delivered).await;
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.matched, counts.delivered, counts.dead_lettered), (2, 1, [("malformed", 1)].into()));
    assert_balanced(&store);
}

//! What goes by age, bytes and number, and what that leaves whole.

use super::*;
use crate::Retention;

const NONE: Retention = Retention { age: None, bytes: None, records: None };

fn keeping(path: &Path, retention: Retention) -> Embedded {
    open_with(EmbeddedConfig { retention, ..config(path) }, Hooks::default)
}

/// Waits until the log begins there.
async fn until_first(store: &Embedded, first: u64) {
    let trimmed = async {
        while store.report().store.first_sequence != first {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, trimmed).await;
    assert!(waited.is_ok(), "the log begins at {}, not at {first}", store.report().store.first_sequence);
}

async fn all(store: &Embedded, count: usize) -> Vec<u128> {
    let mut consumer = store.subscribe(subscribe("#", None, Start::Earliest, 10_000)).await.unwrap();
    ids(&take(&mut consumer, count).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn by_number_the_oldest_go_and_the_chain_of_the_rest_holds_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(100), ..NONE });
    for from in (0..5_000).step_by(500) {
        offer(&store, (from..from + 500).map(|id| message(id, "a")).collect()).await.unwrap();
    }
    until_first(&store, 4_901).await;
    assert_eq!(all(&store, 100).await, (4_900..5_000).collect::<Vec<_>>());
    let verified = store.verify().await.unwrap();
    assert_eq!((verified.records, verified.wrong.len()), (100, 0), "{:?}", verified.wrong);
    assert_balanced(&store);
    store.close().await.unwrap();
    let store = keeping(folder.path(), Retention { records: Some(100), ..NONE });
    let report = store.report().store;
    assert_eq!((report.first_sequence, report.last_sequence, report.stored), (4_901, 5_000, 5_000));
    assert!(store.verify().await.unwrap().wrong.is_empty());
    let again = put(&store, 17, "a").await;
    assert!(again.duplicate, "its record went, its id is remembered");
    assert_eq!(store.report().store.stored, 5_000);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_bytes_and_by_age_but_never_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { bytes: Some(1), ..NONE });
    offer(&store, (0..10).map(|id| message(id, "a")).collect()).await.unwrap();
    until_first(&store, 10).await;
    assert_eq!(all(&store, 1).await, [9]);
    drop(store);
    let store = keeping(folder.path(), Retention { age: Some(Duration::from_millis(50)), ..NONE });
    offer(&store, (10..20).map(|id| message(id, "a")).collect()).await.unwrap();
    until_first(&store, 20).await;
    let bytes = store.report().store.bytes;
    assert!((1..1_000).contains(&bytes), "{bytes}");
    assert_balanced(&store);
}

/// Stores a message as at a time when the system's clock said so.
async fn put_at(store: &Embedded, id: u128, said: &str) {
    let (mapped, epoch) = message(id, "a").into_parts();
    let (reply, answer) = tokio::sync::oneshot::channel();
    let mut publish = crate::queue::Publish { messages: Vec::new(), records: Vec::new(), bytes: 0, reply: Some(reply) };
    let said = Timestamp::parse(said).unwrap();
    store.ledger().received("web", 1);
    publish.add("plant-a", &store.shared().books, said, mapped, epoch);
    store.queue.send(crate::queue::Job::Publish(publish)).await.unwrap();
    assert!(answer.await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_wrong_takes_nothing_and_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let month = Retention { age: Some(Duration::from_secs(30 * 86_400)), ..NONE };
    let store = keeping(folder.path(), month);
    put_at(&store, 1, "1970-01-01T00:00:05Z").await;
    put_at(&store, 2, "2999-12-31T00:00:00Z").await;
    store.close().await.unwrap();
    let store = keeping(folder.path(), month);
    put(&store, 3, "a").await;
    put(&store, 4, "a").await;
    assert_eq!(store.report().store.first_sequence, 1, "what was stored a moment ago went by its age");
    store.close().await.unwrap();
    let store = keeping(folder.path(), Retention { age: Some(Duration::from_secs(1)), ..NONE });
    until_first(&store, 4).await;
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_durable_subscription_had_not_settled_has_lapsed_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), NONE);
    let mut reader = consumer(&store, "half", 50).await;
    drop(consumer(&store, "away", 50).await);
    offer(&store, (0..100).map(|id| message(id, "a")).collect()).await.unwrap();
    let first = take(&mut reader, 50).await;
    settle(&mut reader, &first[10..], Settlement::Delivered).await;
    drop(reader);
    drop(store.subscribe(subscribe("#", Some("backlog"), Start::Earliest, 50)).await.unwrap());
    store.close().await.unwrap();

    let store = keeping(folder.path(), Retention { records: Some(20), ..NONE });
    until_first(&store, 81).await;
    let report = store.report();
    let counts = |name: &str| {
        let counts = &report.subscriptions[name];
        (counts.matched, counts.delivered, counts.lapsed, counts.pending)
    };
    assert_eq!(counts("half"), (100, 40, 40, 20));
    assert_eq!(counts("away"), (100, 0, 80, 20));
    let backlog = counts("backlog");
    assert_eq!((backlog.2, backlog.1), (80, 0));
    assert_balanced(&store);
    for name in ["half", "away", "backlog"] {
        let mut consumer = consumer(&store, name, 50).await;
        let rest = take(&mut consumer, 20).await;
        assert_eq!(ids(&rest), (80..100).collect::<Vec<_>>(), "{name}");
        settle(&mut consumer, &rest, Settlement::Delivered).await;
        assert_eq!(store.report().subscriptions[name].pending, 0, "{name}");
    }
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_reads_while_the_log_goes_gets_the_rest_and_the_ledger_balances() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(200), ..NONE });
    drop(consumer(&store, "s", 8).await);
    let mut consumer = consumer(&store, "s", 8).await;
    let mut seen = 0;
    for from in (0..20_000_u128).step_by(500) {
        offer(&store, (from..from + 500).map(|id| message(id, "a")).collect()).await.unwrap();
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await {
            let batch = batch.unwrap().into_vec();
            seen += batch.len();
            settle(&mut consumer, &batch, Settlement::Delivered).await;
        }
        assert_balanced(&store);
    }
    until_first(&store, 19_801).await;
    loop {
        let batch = next(&mut consumer).await;
        settle(&mut consumer, &batch, Settlement::Delivered).await;
        seen += batch.len();
        if ids(&batch).contains(&19_999) {
            break;
        }
    }
    let counts = &store.report().subscriptions["s"];
    assert_eq!((counts.matched, counts.pending), (20_000, 0), "{counts:?}, {seen} seen");
    assert!(counts.delivered > 200 && counts.lapsed > 0, "{counts:?}");
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_to_a_position_that_retention_passed_hears_of_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(3), ..NONE });
    for id in 1..=10 {
        put(&store, id, "a").await;
    }
    until_first(&store, 8).await;
    let has_gap = async |durable, start| store.subscribe(subscribe("#", durable, start, 9)).await.unwrap().has_gap();
    let at = |sequence| store.shared().position(sequence);
    assert!(has_gap(None, Start::After(at(6))).await);
    assert!(!has_gap(None, Start::After(at(7))).await, "8 is there");
    assert!(!has_gap(None, Start::Earliest).await, "the oldest there is was asked for");
    assert!(!has_gap(None, Start::Time(Timestamp::from_micros(0))).await);
    assert!(has_gap(Some("new"), Start::After(at(1))).await);
    assert!(!has_gap(Some("new"), Start::After(at(1))).await, "it goes on where it was");
    assert!(has_gap(Some("new"), Start::Again(at(1))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_retention_overtakes_is_told_so_and_not_left_with_a_hole() {
    is_overtaken_by(6_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_which_retention_takes_what_is_listed_is_told_so_as_well() {
    is_overtaken_by(500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_told_of_what_retention_takes_before_it_reads_for_the_first_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(10), ..NONE });
    for id in 1..=5 {
        put(&store, id, "a").await;
    }
    let earliest = subscribe("#", None, Start::Earliest, 9);
    let mut slow = store.subscribe(earliest.clone()).await.unwrap();
    offer(&store, (6..=500).map(|id| message(id, "a")).collect()).await.unwrap();
    until_first(&store, 491).await;
    let told = tokio::time::timeout(PATIENCE, slow.next()).await.unwrap();
    assert!(told.unwrap_err().detail.contains("so far behind"));
    let mut anew = store.subscribe(earliest).await.unwrap();
    assert_eq!(ids(&take(&mut anew, 9).await), (491..500).collect::<Vec<_>>(), "the oldest there is was asked for");
}

/// By so many envelopes, of which 100 stay.
async fn is_overtaken_by(count: u128) {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(100), ..NONE });
    let mut slow = store.subscribe(subscribe("#", None, Start::New, 1)).await.unwrap();
    put(&store, 1, "a").await;
    let first = take(&mut slow, 1).await;
    for from in (2..count + 2).step_by(500) {
        offer(&store, (from..from + 500).map(|id| message(id, "a")).collect()).await.unwrap();
    }
    until_first(&store, count as u64 - 98).await;
    settle(&mut slow, &first, Settlement::Delivered).await;
    let told = async {
        loop {
            match slow.next().await {
                Ok(batch) => {
                    let all = batch.into_vec();
                    assert!(ids(&all).iter().all(|id| *id < count - 100), "a hole: {:?}", ids(&all));
                    settle(&mut slow, &all, Settlement::Delivered).await;
                }
                Err(rejection) => return rejection,
            }
        }
    };
    let rejection = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert!(rejection.detail.contains("so far behind"), "{rejection:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_had_everything_is_not_behind_for_what_others_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(2_000), ..NONE });
    let mut consumer = store.subscribe(subscribe("a", None, Start::New, 5_000)).await.unwrap();
    put(&store, 1, "a").await;
    let first = take(&mut consumer, 1).await;
    settle(&mut consumer, &first, Settlement::Delivered).await;
    for from in (2..4_002).step_by(1_000) {
        offer(&store, (from..from + 1_000).map(|id| message(id, "b")).collect()).await.unwrap();
    }
    until_first(&store, 2_002).await;
    // more than are listed for it
    offer(&store, (4_002..5_502).map(|id| message(id, "a")).collect()).await.unwrap();
    assert_eq!(ids(&take(&mut consumer, 1_500).await), (4_002..5_502).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "there is no policy in these tests")]
async fn a_last_value_outlives_its_record_and_goes_with_its_successor() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), Retention { records: Some(5), ..NONE });
    let keep = |id, topic| {
        let (mapped, epoch) = message(id, topic).into_parts();
        Admitted::seal(Mapped { retain: true, ..mapped }, epoch)
    };
    offer(&store, vec![keep(1, "a"), keep(2, "b")]).await.unwrap();
    for from in (10..1_010).step_by(100) {
        offer(&store, (from..from + 100).map(|id| message(id, "x")).collect()).await.unwrap();
    }
    until_first(&store, 998).await;
    drop(store);
    let store = keeping(folder.path(), Retention { records: Some(5), ..NONE });
    let last = async || ids(&store.last(envelope::Filter::new("#").unwrap(), None, 9).await.unwrap().values);
    assert_eq!(last().await, [1, 2]);
    let all = [envelope::Filter::new("#").unwrap()];
    let page = || crate::shared::read(&store.shared().last).page(&all, None, u64::MAX, 9);
    let before = std::cell::Cell::new(Some(page()));
    let mut consumer = store.subscribe(subscribe("+", None, Start::Last, 9)).await.unwrap();
    assert_eq!(ids(&take(&mut consumer, 2).await), [1, 2]);
    offer(&store, vec![keep(3, "a")]).await.unwrap();
    assert_eq!(last().await, [3, 2]);
    let values = crate::fetch::values(store.shared(), || before.take().unwrap_or_else(page)).await.unwrap();
    assert_eq!(ids(&values.values), [3, 2], "who had looked it up before gets the new one");
    let engine = store.shared().store.borrow().clone().unwrap();
    assert_eq!(engine.kept.iter().count(), 1, "the first one of \"a\" is gone");
}

#[test]
fn what_a_group_without_anything_to_store_finds_is_that_nothing_is_left_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(folder.path()).unwrap();
    let shared = crate::shared::Shared::new(config(folder.path()), Arc::default());
    let mut state = crate::state::State::load(&store, &shared).unwrap();
    state.trims = true;
    crate::group::Group::new(1, [0; 32]).apply(&mut state, &shared);
    assert!(!state.trims, "the writer would wake up all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_with_nothing_in_hand_is_not_written_anew_with_what_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = keeping(folder.path(), NONE);
    let mut reader = consumer(&store, "done", 1_000).await;
    offer(&store, (0..100).map(|id| message(id, "a")).collect()).await.unwrap();
    let all = take(&mut reader, 100).await;
    settle(&mut reader, &all, Settlement::Delivered).await;
    drop((reader, store));
    let path = folder.path();
    let engine = crate::store::Store::open(path).unwrap();
    let retention = Retention { records: Some(10), ..NONE };
    let shared = crate::shared::Shared::new(EmbeddedConfig { retention, ..config(path) }, Arc::default());
    let state = crate::state::State::load(&engine, &shared).unwrap();
    let mut group = crate::group::Group::new(state.next, state.chain);
    group.trim(&state, &engine, &shared);
    assert_eq!((group.trim.len(), group.cursors.len()), (90, 0));
}

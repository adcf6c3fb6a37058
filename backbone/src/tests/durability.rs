use envelope::{Fingerprint, RejectKind, Rejection};

use super::*;
use crate::DedupWindow;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let receipts: Vec<_> = offer(&store, (1..=100).map(|id| message(id, "a/b")).collect()).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.as_ref().is_ok_and(|r| !r.duplicate && r.position.is_some())));
    drop(store);

    let store = open(folder.path());
    assert_eq!(store.report().store.stored, 100);
    let mut all = store.subscribe(subscribe("#", None, Start::Earliest, 1_000)).await.unwrap();
    assert_eq!(ids(&take(&mut all, 100).await), (1..=100).collect::<Vec<_>>());
    assert_balanced(&store);
    assert!(store.verify().await.unwrap().wrong.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_gets_the_originals_receipt_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = put(&store, 7, "a").await;
    let again = put(&store, 7, "a").await;
    assert_eq!((again.duplicate, &again.position), (true, &first.position));
    store.close().await.unwrap();

    let store = open(folder.path());
    let again = put(&store, 7, "a").await;
    assert_eq!((again.duplicate, &again.position), (true, &first.position));
    let report = store.report();
    let web = &report.bridges["web"];
    assert_eq!((web.received, web.accepted, web.duplicate, report.store.stored), (3, 1, 2, 1));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_used_for_another_message_is_refused_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let keyed = |body: &[u8]| {
        let (mut mapped, epoch) = message(7, "a").into_parts();
        mapped.identity = Identity::Keyed { name: "k".into(), print: Fingerprint::of(&[body]) };
        sealed(mapped, epoch)
    };
    let store = open(folder.path());
    let in_one_batch = offer(&store, vec![keyed(b"1"), keyed(b"1"), keyed(b"2")]).await.unwrap();
    let [Ok(first), Ok(again), Err(other)] = &in_one_batch[..] else { panic!("{in_one_batch:?}") };
    assert_eq!((first.duplicate, again.duplicate, &again.position), (false, true, &first.position));
    assert_eq!((other.kind, other.decided_by), (RejectKind::Malformed, "idempotency_key"));
    store.ledger().refused("web", None, other);
    store.close().await.unwrap();

    let store = open(folder.path());
    let later = offer(&store, vec![keyed(b"2"), keyed(b"1"), message(7, "a")]).await.unwrap();
    let [Err(other), Ok(again), Ok(unnamed)] = &later[..] else { panic!("{later:?}") };
    assert_eq!((other.decided_by, again.duplicate, unnamed.duplicate), ("idempotency_key", true, true));
    store.ledger().refused("web", None, other);
    assert_eq!(store.report().store.stored, 1);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_in_the_same_batch_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let receipts = offer(&store, vec![message(1, "a"), message(2, "a"), message(1, "a")]).await.unwrap();
    let receipts: Vec<_> = receipts.into_iter().map(Result::unwrap).collect();
    assert_eq!(receipts.iter().map(|r| r.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(receipts[0].position, receipts[2].position);
    assert_eq!(store.report().store.stored, 2);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_stored_whole_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let group = || {
        let items = (0..3).map(|item| {
            let mut envelope = envelope(9, "a");
            envelope.id = envelope.id.item(item);
            envelope
        });
        admitted(Group::Many(items.collect()), AckPoint::Durable)
    };
    let first = offer(&store, vec![group()]).await.unwrap().remove(0).unwrap();
    let again = offer(&store, vec![group()]).await.unwrap().remove(0).unwrap();
    assert_eq!((first.duplicate, again.duplicate, &again.position), (false, true, &first.position));
    let report = store.report();
    assert_eq!((report.bridges["web"].accepted, report.store.stored), (1, 3));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_a_batch_is_inclusive() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let batch = |range: std::ops::Range<u128>| range.map(|id| message(id, "a")).collect::<Vec<_>>();
    assert!(offer(&store, batch(0..4_096)).await.is_ok());
    let error = offer(&store, batch(10_000..14_097)).await.unwrap_err();
    assert_eq!(error.to_string(), "too-large by backbone: the batch has 4097 envelopes, the limit is 4096");
    let large = |bytes| {
        let mut envelope = envelope(99_999, "a");
        envelope.data = Data::Opaque(vec![0; bytes].into());
        admitted(Group::One(envelope), AckPoint::Durable)
    };
    assert!(offer(&store, vec![large(8 << 20)]).await.is_err());
    assert!(offer(&store, vec![large((8 << 20) - 1_000)]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn received_is_answered_without_a_position_and_stored_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let one = admitted(Group::One(envelope(1, "a")), AckPoint::Received);
    let receipt = offer(&store, vec![one]).await.unwrap().remove(0).unwrap();
    assert_eq!(receipt.position, None);
    store.close().await.unwrap();
    let store = open(folder.path());
    let report = store.report();
    assert_eq!((report.bridges["web"].accepted, report.bridges["web"].interrupted), (1, 0));
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_point_beyond_the_store_is_stored_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let later = [AckPoint::Delivered, AckPoint::Consumer].into_iter().zip(1..);
    let messages = later.map(|(ack, id)| admitted(Group::One(envelope(id, "a")), ack)).collect();
    let receipts = offer(&store, messages).await.unwrap();
    assert!(receipts.iter().all(|receipt| receipt.as_ref().is_ok_and(|receipt| receipt.position.is_some())));
    assert_eq!(store.report().store.stored, 2);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_at_a_crash_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.ledger().received("web", 5);
    store.ledger().refused("web", None, &Rejection::new(RejectKind::Malformed, "a", "b"));
    store.ledger().refused("web", Some(&Route::new("r", "1")), &Rejection::new(RejectKind::Denied, "a", "b"));
    store.ledger().filtered("web", &Route::new("r", "1"));
    put(&store, 1, "a").await;
    assert_eq!(store.report().bridges["web"].in_flight, 2);
    assert_balanced(&store);
    drop(store);

    let store = open(folder.path());
    let web = &store.report().bridges["web"];
    assert_eq!((web.received, web.accepted, web.filtered, web.interrupted, web.in_flight), (6, 1, 1, 2, 0));
    assert_eq!(web.rejected, [("denied", 1), ("malformed", 1)].into());
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_get_to_disk_although_nothing_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let before = store.report().store.groups;
    store.ledger().received("web", 1);
    store.ledger().returned("web", envelope::RejectKind::Unavailable);
    let waited = std::time::Instant::now();
    while store.report().store.groups == before {
        assert!(waited.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.report().bridges["web"].returned, [("unavailable", 1)].into());
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_ids_are_forgotten_when_the_window_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let window = DedupWindow { entries: 10, ..DedupWindow::default() };
    let store = open_with(EmbeddedConfig { dedup_window: window, ..config(folder.path()) }, Hooks::default);
    for id in 1..=20 {
        put(&store, id, "a").await;
    }
    let report = store.report().store;
    assert_eq!((report.dedup_entries, report.dedup_evicted), (10, 10));
    assert!(put(&store, 11, "a").await.duplicate);
    assert!(!put(&store, 10, "a").await.duplicate);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.report().store.dedup_entries, 10);
    assert!(put(&store, 20, "a").await.duplicate);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_forgotten_as_fast_as_large_batches_bring_them() {
    let folder = tempfile::tempdir().unwrap();
    let window = DedupWindow { entries: 2_000, ..DedupWindow::default() };
    let store = open_with(EmbeddedConfig { dedup_window: window, ..config(folder.path()) }, Hooks::default);
    for from in (0..20_000).step_by(2_000) {
        offer(&store, (from..from + 2_000).map(|id| message(id, "a")).collect()).await.unwrap();
        assert_eq!(store.report().store.dedup_entries, 2_000);
    }
    assert!(put(&store, 19_999, "a").await.duplicate);
    assert!(put(&store, 18_000, "a").await.duplicate);
    assert!(!put(&store, 17_999, "a").await.duplicate);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folders_above_the_store_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b");
    let store = open(&path);
    put(&store, 1, "a").await;
    assert!(path.is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_has_one_owner_and_a_closed_store_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert!(matches!(Embedded::open(config(folder.path())), Err(OpenError::Locked { .. })));
    let mut consumer = consumer(&store, "s", 1).await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert!(offer(&store, vec![message(1, "a")]).await.is_err());
    assert_eq!(store.status(), crate::Status::Refusing("the store is closed".to_owned()));
    assert!(tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().is_err());
    drop(open(folder.path()));
}

#[test]
fn a_folder_of_a_newer_gateway_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(folder.path()).unwrap();
    store.meta.insert("format", crate::store::number(3)).unwrap();
    drop(store);
    let error = Embedded::open(config(folder.path())).unwrap_err();
    assert!(error.to_string().ends_with("its format is 3, this gateway reads up to 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_log_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in 1..=5 {
        put(&store, id, "a").await;
    }
    let engine = store.shared().store.borrow().clone().unwrap();
    let key = 3_u64.to_be_bytes();
    let mut record = engine.log.get(key).unwrap().unwrap().to_vec();
    *record.last_mut().unwrap() ^= 1;
    engine.log.insert(key, record).unwrap();
    let verified = store.verify().await.unwrap();
    assert_eq!(verified.records, 5);
    assert_eq!(verified.wrong.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [4]);
}

/// Until the writer's thread has let go of the folder.
fn wait_until_free(folder: &Path) {
    let started = std::time::Instant::now();
    while let Err(error) = crate::store::Store::open(folder) {
        assert!(matches!(error, OpenError::Locked { .. }) && started.elapsed() < PATIENCE, "{error}");
    }
}

/// The journal that is written to, and where its content ends.
fn journal(folder: &Path) -> (std::path::PathBuf, usize) {
    let mut folders = vec![folder.to_path_buf()];
    let mut journals = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|extension| extension == "jnl") => journals.push(entry),
                false => {}
            }
        }
    }
    journals.sort();
    let journal = journals.pop().unwrap();
    let content = std::fs::read(&journal).unwrap();
    let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    (journal, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_group_is_gone_whole_and_what_was_before_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let consumer = consumer(&store, "s", 10).await;
    put(&store, 1, "a").await;
    offer(&store, (2..=4).map(|id| message(id, "a")).collect()).await.unwrap();
    drop(consumer);
    offer(&store, (5..=7).map(|id| message(id, "a")).collect()).await.unwrap();
    drop(store);
    wait_until_free(folder.path());
    let (journal, end) = journal(folder.path());
    std::fs::OpenOptions::new().write(true).open(journal).unwrap().set_len(end as u64 - 20).unwrap();

    let store = open(folder.path());
    assert_eq!(store.report().store.stored, 4);
    assert_eq!(store.report().subscriptions["s"].matched, 4);
    assert_balanced(&store);
    assert!(store.verify().await.unwrap().wrong.is_empty());
    assert!(!put(&store, 5, "a").await.duplicate);
}

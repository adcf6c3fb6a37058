//! Keys: what is written is durable, what is expected is held to, and who watches misses nothing or hears so.

use envelope::{Expect, KeyChange, KeyValue, KeyWatch, KeyWrite, RejectKind};

use super::*;
use crate::KeyQuota;

async fn text(keys: &Arc<dyn KeyValue>, key: &str) -> Option<String> {
    let entry = keys.get(key).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn listed(keys: &Arc<dyn KeyValue>, prefix: &str) -> Vec<String> {
    let page = keys.list(prefix, None, 100).await.unwrap();
    page.entries.iter().map(|entry| entry.key.to_string()).collect()
}

async fn refused(keys: &Arc<dyn KeyValue>, write: KeyWrite) -> (RejectKind, String) {
    let rejection = keys.write(vec![write]).await.unwrap_err();
    (rejection.kind, rejection.detail)
}

async fn told(watch: &mut Box<dyn KeyWatch>) -> Vec<(String, u64, Option<String>)> {
    let changes = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    let value = |change: &KeyChange| change.value.as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap());
    changes.iter().map(|change| (change.key.to_string(), change.revision, value(change))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_crash_and_each_owner_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (one, other) = (store.keys("bridge/a"), store.keys("bridge/ab"));
    let first = one.write(vec![KeyWrite::put("s/1", "x"), KeyWrite::put("s/2", "y")]).await.unwrap();
    let second = other.write(vec![KeyWrite::put("s/1", "z")]).await.unwrap();
    one.write(vec![KeyWrite::delete("s/2"), KeyWrite::delete("never")]).await.unwrap();
    assert!(second > first);
    drop((one, other, store));
    let store = open(folder.path());
    let (one, other) = (store.keys("bridge/a"), store.keys("bridge/ab"));
    assert_eq!((text(&one, "s/1").await, text(&one, "s/2").await), (Some("x".to_owned()), None));
    assert_eq!((listed(&one, "").await, listed(&other, "s").await), (vec!["s/1".to_owned()], vec!["s/1".to_owned()]));
    let next = one.write(vec![KeyWrite::put("s/3", "w")]).await.unwrap();
    assert!(next > second + 1, "the revision of a delete is not given again: {next}");
    assert_eq!(one.get("s/1").await.unwrap().unwrap().revision, first);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_made_only_on_what_it_expects_and_calls_are_whole_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let first = keys.write(vec![KeyWrite::create("k", "1")]).await.unwrap();
    let (kind, detail) = refused(&keys, KeyWrite::create("k", "2")).await;
    assert_eq!((kind, detail), (RejectKind::Conflict, format!("\"k\" is there already, at revision {first}")));
    let second = keys.write(vec![KeyWrite::replace("k", first, "2")]).await.unwrap();
    assert_eq!(refused(&keys, KeyWrite::replace("k", first, "3")).await.0, RejectKind::Conflict);
    assert_eq!(refused(&keys, KeyWrite::replace("no", first, "3")).await.0, RejectKind::Conflict);
    let both = vec![KeyWrite::put("other", "x"), KeyWrite::delete("k").expecting(Expect::Revision(first))];
    assert!(keys.write(both).await.is_err());
    assert_eq!((text(&keys, "other").await, text(&keys, "k").await), (None, Some("2".to_owned())));
    keys.write(vec![KeyWrite::delete("k").expecting(Expect::Revision(second)), KeyWrite::create("k", "4")])
        .await
        .unwrap();
    assert_eq!(text(&keys, "k").await, Some("4".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writes_of_a_call_are_bounded_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let write = |n: usize| KeyWrite::put(format!("{n:04}"), vec![0; KeyWrite::MAX_VALUE]);
    let refused = keys.write((0..32).map(write).collect()).await.unwrap_err();
    assert_eq!(refused.kind, RejectKind::TooLarge);
    assert_eq!(refused.detail, "the writes of one call have 8388736 bytes, the limit is 8388608");
    keys.write((0..31).map(write).collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_compare_and_set_at_the_same_time_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let mut revision = keys.write(vec![KeyWrite::put("k", "0")]).await.unwrap();
    for _ in 0..20 {
        let tries = (0..16).map(|n| keys.write(vec![KeyWrite::replace("k", revision, n.to_string())]));
        let answers = futures_util::future::join_all(tries).await;
        let won: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        revision = won[0];
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_ends_by_itself_and_its_watcher_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let revision = keys.write(vec![KeyWrite::put("k", "1").expiring(Duration::from_millis(300))]).await.unwrap();
    keys.write(vec![KeyWrite::put("stays", "1").expiring(Duration::from_secs(3_600))]).await.unwrap();
    let mut watch = keys.watch("k", revision).unwrap();
    assert_eq!(told(&mut watch).await, [("k".to_owned(), revision + 2, None)]);
    assert_eq!(text(&keys, "k").await, None);
    assert_eq!(listed(&keys, "").await, ["stays"]);
    keys.write(vec![KeyWrite::create("k", "2").expiring(Duration::ZERO)]).await.unwrap();
    assert_eq!(text(&keys, "k").await, None);
    keys.write(vec![KeyWrite::create("k", "3")]).await.unwrap();
    assert_eq!(text(&keys, "k").await, Some("3".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_for_what_grows_and_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let quota = KeyQuota { keys: 2, bytes: 60 };
    let open = || open_with(EmbeddedConfig { keys: quota, ..config(folder.path()) }, Hooks::default);
    let store = open();
    let keys = store.keys("b");
    keys.write(vec![KeyWrite::put("1", "a"), KeyWrite::put("2", "b")]).await.unwrap();
    assert_eq!(
        refused(&keys, KeyWrite::put("3", "c")).await,
        (RejectKind::Overloaded, "\"b\" has 2 keys, which is its quota".to_owned())
    );
    drop((keys, store));
    let store = open();
    let keys = store.keys("b");
    assert_eq!(refused(&keys, KeyWrite::put("3", "c")).await.0, RejectKind::Overloaded);
    let (kind, detail) = refused(&keys, KeyWrite::put("1", vec![b'x'; 80])).await;
    assert!(kind == RejectKind::Overloaded && detail.ends_with("bytes, its quota is 60"), "{detail}");
    keys.write(vec![KeyWrite::delete("1"), KeyWrite::put("3", "c")]).await.unwrap();
    assert!(store.keys("other").write(vec![KeyWrite::put("1", "a")]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_takes_is_refused_with_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    for (write, says) in [
        (KeyWrite::put("", "x"), "a key has 1 to 512 bytes, this has 0"),
        (KeyWrite::put("k".repeat(513), "x"), "a key has 1 to 512 bytes, this has 513"),
        (KeyWrite::put("k", vec![0; (256 << 10) + 1]), "has 262145 bytes, the limit is 262144"),
    ] {
        let (kind, detail) = refused(&keys, write).await;
        assert!(kind == RejectKind::TooLarge && detail.contains(says), "{detail}");
    }
    assert!(keys.write(Vec::new()).await.is_err());
    keys.write(vec![KeyWrite::put("k".repeat(512), vec![0; 256 << 10])]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let writes = (0..250).map(|n| KeyWrite::put(format!("s/{n:03}"), "x")).collect();
    keys.write(writes).await.unwrap();
    keys.write(vec![KeyWrite::put("r", "x"), KeyWrite::put("t", "x")]).await.unwrap();
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = keys.list("s/", after.as_deref(), 100).await.unwrap();
        assert!(page.entries.len() <= 100);
        seen.extend(page.entries.iter().map(|entry| entry.key.to_string()));
        match page.next {
            Some(next) => after = Some(next.to_string()),
            None => break,
        }
    }
    assert_eq!(seen, (0..250).map(|n| format!("s/{n:03}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_everything_in_order_from_its_revision_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let first = keys.write(vec![KeyWrite::put("s/1", "a")]).await.unwrap();
    keys.write(vec![KeyWrite::put("s/1", "b"), KeyWrite::put("r", "x")]).await.unwrap();
    store.keys("other").write(vec![KeyWrite::put("s/1", "not mine")]).await.unwrap();
    let mut watch = keys.watch("s/", first).unwrap();
    assert_eq!(told(&mut watch).await, [("s/1".to_owned(), first + 1, Some("b".to_owned()))]);
    let page = keys.list("", None, 10).await.unwrap();
    assert_eq!((page.entries.len(), page.revision), (2, first + 2));
    keys.write(vec![KeyWrite::delete("s/1")]).await.unwrap();
    assert_eq!(told(&mut watch).await, [("s/1".to_owned(), first + 3, None)]);
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
    assert_eq!(keys.watch("", first + 9).err().unwrap().kind, RejectKind::Conflict);
    store.close().await.unwrap();
    assert!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_too_far_behind_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let keys = store.keys("b");
    let first = keys.write(vec![KeyWrite::put("k", "0")]).await.unwrap();
    let mut watch = keys.watch("", first).unwrap();
    for round in 0..9 {
        keys.write((0..1_000).map(|n| KeyWrite::put(format!("k{n}"), round.to_string())).collect()).await.unwrap();
    }
    let rejection = watch.next().await.unwrap_err();
    assert!(rejection.kind == RejectKind::Conflict && rejection.detail.contains("list the keys"), "{rejection}");
    let page = keys.list("", None, 1).await.unwrap();
    drop((keys, store));
    let store = open(folder.path());
    assert_eq!(store.keys("b").watch("", first).err().unwrap().kind, RejectKind::Conflict);
    assert!(store.keys("b").watch("", page.revision).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_failed_leaves_keys_as_they_were_or_whole() {
    for fault in [crate::writer::Fault::Lost, crate::writer::Fault::Unsure] {
        let folder = tempfile::tempdir().unwrap();
        let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let store = open_with(config(folder.path()), || {
            let armed = armed.clone();
            let commit = move || match armed.swap(false, std::sync::atomic::Ordering::SeqCst) {
                true => fault,
                false => crate::writer::Fault::None,
            };
            Hooks { commit: Box::new(commit), ..Hooks::default() }
        });
        let keys = store.keys("b");
        let first = keys.write(vec![KeyWrite::put("k", "1")]).await.unwrap();
        armed.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(keys.write(vec![KeyWrite::put("k", "2"), KeyWrite::put("l", "2")]).await.is_err());
        let again = loop {
            match keys.write(vec![KeyWrite::put("m", "3")]).await {
                Ok(revision) => break revision,
                Err(rejection) => assert_eq!(rejection.kind, RejectKind::Unavailable),
            }
        };
        let stored = fault == crate::writer::Fault::Unsure;
        assert_eq!((text(&keys, "l").await.is_some(), again), (stored, first + 1 + u64::from(stored)));
        let mut watch = keys.watch("", first).unwrap();
        assert_eq!(told(&mut watch).await.len(), if stored { 3 } else { 1 });
    }
}

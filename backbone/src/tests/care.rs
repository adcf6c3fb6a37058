use std::{fs, path::PathBuf};

use super::*;
use crate::{
    care::{CareError, Folder, import, repair},
    index,
    store::Store,
};

const MESSAGES: u128 = 2_000;

/// A store with a durable subscription that has settled the first ten messages, written into tables and closed.
async fn closed_store(folder: &Path) {
    let store = open(folder);
    let mut durable = consumer(&store, "agent", 10).await;
    for from in (1..=MESSAGES).step_by(100) {
        offer(&store, (from..from + 100).map(|id| message(id, "a/b")).collect()).await.unwrap();
    }
    let first = take(&mut durable, 10).await;
    settle(&mut durable, &first, Settlement::Delivered).await;
    drop(durable);
    store.close().await.unwrap();
    drop(store);
    reopened(folder).rewrite().unwrap();
}

/// The process before it may still be letting go of the folder.
fn reopened(folder: &Path) -> Store {
    let started = std::time::Instant::now();
    loop {
        match Store::open(folder) {
            Ok(store) => return store,
            Err(OpenError::Locked { .. }) if started.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn folder_of(path: &Path) -> Folder {
    drop(reopened(path));
    Folder::open(path).unwrap()
}

/// The largest file below `folder`: a table of the log.
fn largest(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                about if about.is_dir() => folders.push(entry.path()),
                about => files.push((about.len(), entry.path())),
            }
        }
    }
    files.into_iter().filter(|(_, path)| path.to_string_lossy().contains("tables")).max().unwrap().1
}

/// Flips bits in the middle of the log's largest table.
fn flip(folder: &Path) {
    flip_at(folder, 2);
}

/// Flips bits where one of so many parts of the log's largest table ends.
fn flip_at(folder: &Path, parts: usize) {
    let table = largest(folder);
    let mut bytes = fs::read(&table).unwrap();
    let place = bytes.len() / parts;
    bytes[place..place + 16].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(table, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_store_is_found_sound_and_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    let folder = folder_of(&path);
    let checked = folder.check().unwrap();
    assert_eq!((checked.wrong.as_slice(), checked.records), (&[][..], MESSAGES as u64));
    let about = folder.inspect().unwrap();
    assert_eq!(about.first.map(|(at, _)| at).zip(about.last.map(|(at, _)| at)), Some((1, MESSAGES as u64)));
    let agent = &about.ledger.subscriptions["agent"];
    assert_eq!((agent.matched, agent.delivered), (MESSAGES as u64, 10));
    assert!(about.file_bytes > 0 && about.record_bytes > 0);
}

#[test]
fn a_folder_without_a_store_gets_none() {
    let dir = tempfile::tempdir().unwrap();
    let error = Folder::open(&dir.path().join("nothing")).unwrap_err().to_string();
    assert!(error.ends_with("there is no store"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_are_found_and_mended_and_what_is_lost_is_told_and_never_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    flip(&path);
    let checked = folder_of(&path).check().unwrap();
    assert!(checked.wrong_count > 0 && checked.wrong_count < 200, "{checked:?}");
    assert!(checked.wrong[0].starts_with("record "), "{:?}", checked.wrong);

    let repaired = repair(&path).unwrap();
    let lost: u64 = repaired.gaps.iter().map(|(first, last)| last - first + 1).sum();
    assert_eq!((lost, repaired.records + lost), (checked.wrong_count, MESSAGES as u64), "{repaired:?}");
    assert_eq!(repaired.dead_lettered, lost);
    assert!(repaired.before.join("keyspaces").is_dir() && repaired.quarantine.is_file());

    let folder = folder_of(&path);
    let checked = folder.check().unwrap();
    assert_eq!((checked.wrong.as_slice(), checked.given_up), (&[][..], lost));
    drop(folder);

    let store = open(&path);
    assert!(store.verify().await.unwrap().wrong.is_empty());
    let gap = |id: u128| repaired.gaps.iter().any(|(first, last)| (*first..=*last).contains(&(id as u64)));
    let mut durable = consumer(&store, "agent", 4_000).await;
    let there: Vec<_> = (11..=MESSAGES).filter(|id| !gap(*id)).collect();
    let taken = take(&mut durable, there.len()).await;
    assert_eq!(ids(&taken), there);
    settle(&mut durable, &taken, Settlement::Delivered).await;
    // what was lost is known to be stored, and is not stored again under its old id
    let receipt = put(&store, MESSAGES + 1, "a/b").await;
    assert_eq!(receipt.position, Some(store.shared().position(MESSAGES as u64 + 1)));
    assert_eq!(take(&mut durable, 1).await.len(), 1);
    assert_balanced(&store);
    let counts = &store.report().subscriptions["agent"];
    assert_eq!(counts.dead_lettered.values().sum::<u64>(), lost, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_log_is_lost_without_its_sequences_being_given_out_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    let store = reopened(&path);
    for at in MESSAGES as u64 - 4..=MESSAGES as u64 {
        store.log.insert(at.to_be_bytes(), "no record").unwrap();
    }
    store.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(store);
    drop(reopened(&path));
    let repaired = repair(&path).unwrap();
    assert_eq!((repaired.quarantined, repaired.gaps.as_slice()), (5, &[(1_996, 2_000)][..]));
    let lines = fs::read_to_string(&repaired.quarantine).unwrap();
    assert_eq!(lines.lines().count(), 5);
    assert!(
        lines.contains(r#"{"keyspace":"log","key":"00000000000007cc","value":"6e6f207265636f7264","why":""#),
        "{lines}"
    );
    let store = open(&path);
    let mut early = consumer(&store, "early", 4_000).await;
    assert_eq!(take(&mut early, 1_995).await.len(), 1_995);
    assert!(is_asleep(&mut early).await, "it looks again and again for what is lost");
    assert_eq!(put(&store, 9_999, "a").await.position, Some(store.shared().position(2_001)));
    assert_eq!(ids(&take(&mut early, 1).await), [9_999]);
    assert!(store.verify().await.unwrap().wrong.is_empty());
    assert_balanced(&store);
}

/// Whether the consumer waits to be woken, and is not.
async fn is_asleep(consumer: &mut Box<dyn Deliveries>) -> bool {
    let mut polls = 0;
    let mut next = consumer.next();
    let waits = std::future::poll_fn(|context| {
        polls += 1;
        match polls < 200 {
            true => next.as_mut().poll(context).map(|batch| drop(batch.unwrap())),
            false => std::task::Poll::Ready(()),
        }
    });
    tokio::time::timeout(Duration::from_millis(500), waits).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_old_records_that_can_not_be_read_stops_retention_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    flip_at(&path, 4);
    let retention = crate::Retention { age: None, bytes: None, records: Some(100) };
    let keeping = || EmbeddedConfig { retention, ..config(&path) };
    let store = open_with(keeping(), Hooks::default);
    let first = || store.report().store.first_sequence;
    let mut id = MESSAGES;
    let stuck = async {
        while first() < 300 {
            id += 1;
            assert!(put(&store, id, "a/b").await.position.is_some());
        }
    };
    tokio::time::timeout(PATIENCE, stuck).await.unwrap();
    offer(&store, (10_000..13_000).map(|id| message(id, "a/b")).collect()).await.unwrap();
    let repeat = (1..=MESSAGES).map(|id| message(id, "a/b")).collect();
    assert!(offer(&store, repeat).await.unwrap().iter().all(|answer| answer.as_ref().unwrap().duplicate));
    assert!((300..700).contains(&first()), "{}", first());
    assert_eq!(store.status(), crate::Status::Ready);
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_records_that_can_not_be_read_get_no_rows_and_those_before_them_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = open(&path);
    for from in (1..=4_000).step_by(100) {
        offer(&store, (from..from + 100).map(|id| message(id, "a/b")).collect()).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let store = reopened(&path);
    let keys: Vec<_> = store.index.iter().map(|row| row.key().unwrap()).collect();
    // the last block keeps its rows
    let newest = keys.iter().map(|key| key[1..].to_vec()).max().unwrap();
    keys.into_iter().filter(|key| key[1..] != newest).for_each(|key| store.index.remove(key).unwrap());
    store.rewrite().unwrap();
    drop(store);
    drop(reopened(&path));
    flip_at(&path, 3);
    let store = open(&path);
    let engine = store.shared().store.borrow().clone().unwrap();
    let has_row = |at| matches!(index::known(&engine, index::Column::Id, at).unwrap(), index::Known::Row(_));
    let indexed = async {
        while !has_row(1) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, indexed).await.unwrap();
    let without: Vec<_> = (1..=3_300).filter(|at| !has_row(*at)).collect();
    assert!((1..=1_100).contains(&without.len()) && has_row(3_300), "{} have none", without.len());
    put(&store, 9_000, "a/b").await;
    assert_eq!(store.status(), crate::Status::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_number_does_not_count_what_a_repair_gave_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    let store = reopened(&path);
    for at in 501..=1_900_u64 {
        store.log.insert(at.to_be_bytes(), "no record").unwrap();
    }
    store.database.persist(fjall::PersistMode::SyncAll).unwrap();
    drop(store);
    drop(reopened(&path));
    assert_eq!(repair(&path).unwrap().records, 600);
    let retention = crate::Retention { age: None, bytes: None, records: Some(600) };
    let store = open_with(EmbeddedConfig { retention, ..config(&path) }, Hooks::default);
    put(&store, 9_999, "a").await;
    put(&store, 9_998, "a").await;
    let first = store.report().store.first_sequence;
    assert!((2..=3).contains(&first), "{first}");
    assert_balanced(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_imported_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    let mut lines = Vec::new();
    let exported = folder_of(&path).export(1, &mut lines).unwrap();
    assert_eq!((exported.records, exported.skipped), (MESSAGES as u64, 0));

    let other = open(&dir.path().join("other"));
    put(&other, 5, "a/b").await;
    for stored in [MESSAGES as u64 - 1, 0] {
        let imported = import(&other, &*lines).await.unwrap();
        assert_eq!((imported.stored, imported.stored + imported.duplicates), (stored, MESSAGES as u64));
    }
    assert_balanced(&other);
    assert_eq!(other.report().bridges["web"].routes["r"].stored, MESSAGES as u64);
    other.close().await.unwrap();
    drop(other);
    let mut again = Vec::new();
    folder_of(&dir.path().join("other")).export(2, &mut again).unwrap();
    // all but where it is: the same
    let plain = |line: &str| line.split_once(',').unwrap().1.to_owned();
    let text = String::from_utf8(again).unwrap();
    let before = String::from_utf8(lines).unwrap();
    let expected: Vec<_> = before.lines().enumerate().filter(|(at, _)| *at != 4).map(|(_, line)| plain(line)).collect();
    assert_eq!(text.lines().map(plain).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_no_export_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (line, says) in [
        ("{}", "\"envelope\" is missing"),
        ("[1", "line 2: "),
        (r#"{"envelope":{}}"#, "envelope: "),
        ("\u{0}", "line 2: "),
    ] {
        let error = import(&store, format!("\n{line}\n").as_bytes()).await.unwrap_err();
        assert!(matches!(error, CareError::Line { line: 2, .. }) && error.to_string().contains(says), "{error}");
    }
    assert_eq!(store.report().store.stored, 0);
}

/// The journal: where what is in no table yet is.
fn journal(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_off_and_the_store_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let store = open(&path);
    for id in 1..=200 {
        put(&store, id, "a").await;
    }
    drop(store);
    drop(reopened(&path));
    // The disk did not write the end of what it said it had.
    let (file, mut kept) = (journal(&path), 0);
    let written = fs::read(&file).unwrap();
    let end = written.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in [1, 40, 900] {
        fs::write(&file, &written[..end - cut]).unwrap();
        let checked = folder_of(&path).check().unwrap();
        assert_eq!(checked.wrong, [""; 0], "cut by {cut}");
        assert!(checked.records < 200 && checked.records > 190, "cut by {cut}: {}", checked.records);
        kept = checked.records;
    }
    let store = open(&path);
    assert_eq!(put(&store, 1_000, "a").await.position, Some(store.shared().position(kept + 1)));
    assert_balanced(&store);
    // What the disk lost is stored again when its sender tries again, and not taken for a duplicate.
    assert!(!put(&store, 200, "a").await.duplicate);
}

/// As nothing but a hand that writes rows makes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_far_behind_the_end_of_the_log_is_said_to_be_wrong_and_is_mended_in_little_time() {
    const FAR: u64 = 1 << 47;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    closed_store(&path).await;
    let store = reopened(&path);
    let cursor = store.subscriptions.get("agent").unwrap().unwrap();
    let cursor = crate::subscription::Cursor::decode(&cursor).unwrap();
    let cursor = crate::subscription::Cursor { top: FAR, ..cursor };
    store.subscriptions.insert("agent", cursor.encode()).unwrap();
    drop(store);
    let checked = folder_of(&path).check().unwrap();
    let after = u64::try_from(MESSAGES).unwrap();
    assert_eq!(checked.wrong_count, 1);
    assert_eq!(checked.wrong, [format!("records {} to {FAR}: it is missing", after + 1)]);
    assert_eq!(repair(&path).unwrap().gaps, [(after + 1, FAR)]);
    let checked = folder_of(&path).check().unwrap();
    assert_eq!((checked.records, checked.given_up), (after, FAR - after));
    // nobody has stored what is given up
    assert_eq!(checked.wrong, [format!("ledger: store: {FAR} records, but the routes stored {after}")]);
}

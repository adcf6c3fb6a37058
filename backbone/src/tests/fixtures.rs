//! Whole stores as gateways of each format left them: `fixtures/README.md` says how they were made.

use std::fs;

use super::*;
use crate::{
    DeadContent,
    care::Folder,
    store::{FORMAT, Store},
};

/// The files of a store, as `examples/store_fixture.rs` packs them.
fn unpacked(mut packed: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    while !packed.is_empty() {
        let end = packed.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&packed[..end]).unwrap();
        let [name, length, kept] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (length, kept): (u64, usize) = (length.parse().unwrap(), kept.parse().unwrap());
        packed = &packed[end + 1..];
        let path = folder.path().join(name);
        if name.ends_with('/') {
            fs::create_dir(path).unwrap();
            continue;
        }
        fs::write(&path, &packed[..kept]).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        packed = &packed[kept..];
    }
    folder
}

fn format_of(path: &Path) -> u64 {
    Store::open(path).unwrap().word("format").unwrap()
}

/// Everything in it is read as it should be, also behind a repair.
fn assert_sound(path: &Path, records: u64) {
    let checked = Folder::open(path).unwrap().check().unwrap();
    assert_eq!((checked.records, &checked.wrong[..]), (records, &[][..]));
    let repaired = crate::care::repair(path).unwrap();
    assert_eq!((repaired.records, repaired.quarantined, &repaired.gaps[..]), (records, 0, &[][..]));
    let checked = Folder::open(path).unwrap().check().unwrap();
    assert_eq!((checked.records, &checked.wrong[..]), (records, &[][..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_format_1_is_raised_and_everything_goes_on_where_it_was() {
    let folder = unpacked(include_bytes!("../../fixtures/store-1.bin"));
    let store = open(folder.path());
    let mut reader = consumer(&store, "s", 10).await;
    let pending = take(&mut reader, 3).await;
    assert_eq!(ids(&pending), [4, 5, 6]);
    let topics: Vec<_> = pending.iter().map(|delivery| delivery.envelope.subject.as_str()).collect();
    assert_eq!(topics, ["a", "a", "b/c"]);
    let web = &store.report().bridges["web"];
    assert_eq!((web.accepted, web.duplicate, web.rejected["malformed"], web.in_flight), (6, 1, 1, 0));
    assert!(put(&store, 2, "a").await.duplicate, "ids are remembered");
    assert!(!put(&store, 7, "a").await.duplicate);
    let found = store.query(crate::Query { most: 9, ..crate::Query::default() }).await.unwrap();
    assert_eq!(found.matches.len(), 7);
    assert_balanced(&store);
    settle(&mut reader, &pending, Settlement::Delivered).await;
    drop(reader);
    store.close().await.unwrap();
    drop(store);
    assert_eq!(format_of(folder.path()), u64::from(FORMAT));
    assert_sound(folder.path(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_of_format_2_is_opened_with_everything_in_it() {
    let folder = unpacked(include_bytes!("../../fixtures/store-2.bin"));
    assert_eq!(format_of(folder.path()), 2);
    let store = open(folder.path());
    let web = store.report().bridges["web"].clone();
    assert_eq!((web.accepted, web.duplicate, web.rejected["malformed"], web.in_flight), (6, 1, 1, 0));
    let what = Subscribe { start: Start::New, ..subscribe("a/#", Some("s"), Start::New, 10) };
    let mut reader = store.subscribe(what).await.unwrap();
    assert_eq!(ids(&take(&mut reader, 2).await), [4, 5]);
    let counts = store.report().subscriptions["s"].clone();
    assert_eq!((counts.matched, counts.delivered, counts.left_out, counts.pending), (5, 1, 1, 2));
    assert_eq!(counts.dead_lettered["unavailable"], 1);

    assert!(put(&store, 2, "a/1").await.duplicate, "ids are remembered");
    let last = store.last(Filter::new("#").unwrap(), None, 9).await.unwrap().values;
    assert_eq!(ids(&last), [6]);
    let keys = store.keys("bridge/web").list("", None, 9).await.unwrap().entries;
    let keys: Vec<_> = keys.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
    assert_eq!(keys, [("one", &b"1"[..]), ("two", &b"2"[..])]);
    let letters = store.dead_letters(0, 9).await.unwrap();
    let [first, second] = &letters[..] else { panic!("{letters:?}") };
    let DeadContent::Envelope { sequence: 3, envelope: Some(envelope), .. } = &first.content else {
        panic!("{first:?}")
    };
    assert_eq!((envelope.id.uuid().as_u128(), first.kind), (3, envelope::RejectKind::Unavailable));
    assert!(matches!(&second.content, DeadContent::Inbound { payload, .. } if *payload == b"{}"[..]), "{second:?}");
    let asked = crate::Query { conversation: Some("talk-1".into()), most: 9, ..crate::Query::default() };
    assert_eq!(store.query(asked).await.unwrap().matches.len(), 6);
    let from = Timestamp::from_micros(1);
    let since = crate::Query { from: Some(from), most: 9, ..crate::Query::default() };
    assert_eq!(store.query(since).await.unwrap().matches.len(), 6);
    assert_balanced(&store);
    drop(reader);
    store.close().await.unwrap();
    drop(store);
    assert_sound(folder.path(), 6);
}
